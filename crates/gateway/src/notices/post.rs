//! Notices over HTTP.

use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::{BodyExt as _, Full};
use zeroize::Zeroizing;

use crate::config::safe_url;
use crate::upstream::{HttpClient, cause};

/// Most of an answer that is read.
const MAX_ANSWER_BYTES: usize = 1024;

/// Where notices are posted to. The address may be a secret.
pub(super) struct Target {
    uri: Uri,
    path: Zeroizing<String>,
}

impl Target {
    /// Reads an address.
    ///
    /// # Errors
    /// What is wrong with it; never the address.
    pub(super) fn new(url: &str) -> Result<Self, &'static str> {
        let uri = safe_url(url)?;
        let path = uri.path_and_query().map_or("", |path| path.as_str());
        let path = Zeroizing::new(path.to_owned());
        Ok(Self { uri, path })
    }

    /// Where it leads, without what may be secret.
    pub(super) fn place(&self) -> String {
        let authority = self.uri.authority();
        authority.map_or_else(String::new, ToString::to_string)
    }

    /// Host and port.
    pub(super) fn socket(&self) -> (&str, u16) {
        let host = self.uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let plain = self.uri.scheme_str() == Some("http");
        let port = self.uri.port_u16().unwrap_or(if plain { 80 } else { 443 });
        (host, port)
    }

    /// What must not be said on.
    pub(super) fn secrets(&self) -> Vec<&str> {
        vec![&self.path, self.path.rsplit('/').next().unwrap_or_default()]
    }
}

/// Posts a JSON document. Only 2xx is a yes; redirects are not followed.
///
/// # Errors
/// Why it was not taken.
pub(super) async fn send(
    http: &HttpClient,
    target: &Target,
    headers: &[(&'static str, String)],
    body: Vec<u8>,
) -> Result<String, String> {
    let mut request = Request::post(target.uri.clone())
        .header(header::CONTENT_TYPE, "application/json")
        .header(
            header::USER_AGENT,
            concat!("clawgate/", env!("CARGO_PKG_VERSION")),
        );
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let request = request.body(Full::new(Bytes::from(body)));
    let request = request.map_err(|error| format!("the request cannot be made: {error}"))?;
    let response = http.request(request).await;
    let response = response.map_err(|error| format!("it cannot be reached: {}", cause(&error)))?;
    let status = response.status();
    let mut body = response.into_body();
    let mut text = Vec::new();
    while text.len() < MAX_ANSWER_BYTES {
        // What the answer says besides its status is of interest to people only.
        let Some(Ok(frame)) = body.frame().await else {
            break;
        };
        if let Ok(data) = frame.into_data() {
            let room = MAX_ANSWER_BYTES - text.len();
            text.extend_from_slice(&data[..data.len().min(room)]);
        }
    }
    let text = String::from_utf8_lossy(&text);
    let said = match text.trim() {
        "" => status.to_string(),
        text => format!("{status}: {text}"),
    };
    match status {
        status if status.is_success() => Ok(said),
        status if status.is_redirection() => Err(format!(
            "it answered {status}, and redirects are not followed"
        )),
        _ => Err(format!("it answered {said}")),
    }
}
