//! The client of the operator API: the one place where commands speak to a gateway.

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use clap::Args;
use http::{HeaderMap, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use serde_json::Value;

use super::{Failure, term};
use crate::secret::Secret;
use crate::upstream::{HttpClient, cause, http_client_with};

/// Where the gateway's operator listener is unless somebody says otherwise.
const DEFAULT_OPERATOR: &str = "http://127.0.0.1:8788";

/// Where `clawgate init --save` leaves the first credential.
const DEFAULT_CREDENTIAL_FILE: &str = "data/operator.credential";

/// Largest answer that is read; bundles of long jobs are the largest.
const MAX_ANSWER_BYTES: usize = 512 << 20;

/// How long an answer may take: sealing a long job is the slowest.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Longest silence of an answer that goes on; a gateway says something every 15 seconds.
const SILENCE: Duration = Duration::from_secs(50);

/// Longest line of such an answer.
const MAX_LINE_BYTES: usize = 8 << 20;

/// Which gateway, and as whom.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Gateway")]
pub struct Remote {
    /// Address of the operator listener [env: CLAWGATE_OPERATOR] [default: http://127.0.0.1:8788]
    #[arg(long, value_name = "URL")]
    pub operator: Option<String>,
    /// File with the operator credential [env: CLAWGATE_CREDENTIAL holds the credential itself]
    /// [default: data/operator.credential]
    #[arg(long, value_name = "FILE")]
    pub credential_file: Option<PathBuf>,
    /// Certificate authority of the gateway, PEM, besides those of the system
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Send the credential over plain HTTP to another machine
    #[arg(long)]
    pub allow_plaintext: bool,
    /// Print the gateway's answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// A gateway, as operators reach it.
pub struct OperatorApi {
    http: HttpClient,
    base: String,
    credential: Secret,
}

impl Remote {
    /// Finds the gateway's address and the credential; nothing is sent yet.
    ///
    /// # Errors
    /// When there is no credential, or when it would travel in the clear.
    pub fn connect(&self) -> Result<OperatorApi, Failure> {
        let base = self
            .operator
            .clone()
            .or_else(|| from_environment("CLAWGATE_OPERATOR"))
            .unwrap_or_else(|| DEFAULT_OPERATOR.to_owned());
        let base = base.trim_end_matches('/').to_owned();
        check_address("operator", &base, self.allow_plaintext)?;
        let credential = self.credential()?;
        let http = http_client_with(self.ca_file.as_deref()).map_err(|error| {
            Failure::new(format!("cannot set up TLS: {error:#}"))
                .next("check the file named by --ca-file")
        })?;
        Ok(OperatorApi {
            http,
            base,
            credential,
        })
    }

    /// Files that hold an operator credential, whether they are there or not.
    pub(super) fn credential_files(&self) -> Vec<PathBuf> {
        let named = self.credential_file.clone();
        named
            .into_iter()
            .chain([DEFAULT_CREDENTIAL_FILE.into()])
            .collect()
    }

    fn credential(&self) -> Result<Secret, Failure> {
        let from_environment = from_environment("CLAWGATE_CREDENTIAL");
        let text = match (&self.credential_file, from_environment) {
            (Some(file), _) => read_credential(file)?,
            (None, Some(text)) => text,
            (None, None) if Path::new(DEFAULT_CREDENTIAL_FILE).exists() => {
                read_credential(Path::new(DEFAULT_CREDENTIAL_FILE))?
            }
            (None, None) => {
                return Err(Failure::usage("no operator credential").next(
                    "give --credential-file FILE or set CLAWGATE_CREDENTIAL; `clawgate init` \
                     printed the first one, `clawgate operator add` makes more",
                ));
            }
        };
        let text = text.trim().to_owned();
        let plain = text.bytes().all(|byte| (0x21..=0x7e).contains(&byte));
        if text.is_empty() || !plain {
            return Err(Failure::usage(
                "the operator credential is empty or not plain text",
            ));
        }
        Ok(Secret::new(text))
    }
}

/// A variable that is set to nothing counts as not set.
fn from_environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

fn read_credential(file: &Path) -> Result<String, Failure> {
    let unreadable = |error: std::io::Error| {
        Failure::new(format!(
            "cannot read the credential file `{}`: {error}",
            file.display()
        ))
    };
    let mode = std::fs::metadata(file)
        .map_err(unreadable)?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        return Err(Failure::new(format!(
            "the credential file `{}` is readable by others",
            file.display()
        ))
        .next(format!(
            "chmod 600 {}, and consider a new credential",
            file.display()
        )));
    }
    std::fs::read_to_string(file).map_err(unreadable)
}

/// A credential, or a token, goes out only over TLS or to this very machine.
///
/// # Errors
/// When it would travel in the clear, or the address is none. `whose` says which address it is.
pub(super) fn check_address(whose: &str, base: &str, allow_plaintext: bool) -> Result<(), Failure> {
    let shown = term::plain(base);
    let wrong = |why: &str| Failure::usage(format!("the {whose} address `{shown}` {why}"));
    let uri: Uri = base.parse().map_err(|_| wrong("is not an address"))?;
    let host = uri.host().ok_or_else(|| wrong("names no host"))?;
    let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
    let local = host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback());
    match uri.scheme_str() {
        Some("https") => Ok(()),
        Some("http") if local || allow_plaintext => Ok(()),
        Some("http") => Err(wrong("would carry the credential in the clear")
            .next("use https://, or --allow-plaintext when something else protects the way")),
        _ => Err(wrong("must begin with https:// or http://")),
    }
}

impl OperatorApi {
    /// Reads something.
    ///
    /// # Errors
    /// When the gateway cannot be reached, or says no.
    pub async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.json(Method::GET, path, None).await
    }

    /// Does something.
    ///
    /// # Errors
    /// See [`Self::get`].
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.json(Method::POST, path, Some(body)).await
    }

    /// Reads something byte for byte.
    ///
    /// # Errors
    /// See [`Self::get`].
    pub async fn download(&self, path: &str) -> Result<Bytes, Failure> {
        let (status, body) = self.send(Method::GET, path, None).await?;
        if status.is_success() {
            Ok(body)
        } else {
            Err(problem(status, &body))
        }
    }

    async fn json(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let (status, bytes) = self.send(method, path, body).await?;
        if !status.is_success() {
            return Err(problem(status, &bytes));
        }
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes).map_err(|_| {
            Failure::new(format!(
                "`{}` answered something that is not JSON",
                self.base
            ))
            .next("is this the operator listener of a Clawgate of this version?")
        })
    }

    /// Opens an answer that goes on, to be read line by line.
    ///
    /// # Errors
    /// See [`Self::get`].
    pub(super) async fn lines(&self, path: &str) -> Result<Lines, Failure> {
        let asked = self.http.request(self.request(Method::GET, path, None)?);
        let response = tokio::time::timeout(SILENCE, asked)
            .await
            .map_err(|_| self.silent(SILENCE))?
            .map_err(|error| self.unreachable(&error))?;
        let (parts, body) = response.into_parts();
        if !parts.status.is_success() {
            let body = Limited::new(body, MAX_LINE_BYTES).collect().await;
            let body = body.map(http_body_util::Collected::to_bytes);
            return Err(problem(parts.status, &body.unwrap_or_default()));
        }
        Ok(Lines {
            headers: parts.headers,
            body,
            read: BytesMut::new(),
        })
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let mut bearer =
            http::HeaderValue::try_from(format!("Bearer {}", self.credential.expose()))
                .expect("plain ASCII, checked when it was read");
        bearer.set_sensitive(true);
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(header::AUTHORIZATION, bearer)
            .header(header::ACCEPT, "application/json")
            .header(
                header::USER_AGENT,
                concat!("clawgate-cli/", env!("CARGO_PKG_VERSION")),
            );
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = body
            .map(|body| Bytes::from(body.to_string()))
            .unwrap_or_default();
        request
            .body(Full::new(body))
            .map_err(|error| Failure::usage(format!("`{path}` is not an address: {error}")))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let request = self.request(method, path, body)?;
        let exchange = async {
            let response = self
                .http
                .request(request)
                .await
                .map_err(|error| self.unreachable(&error))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES)
                .collect()
                .await
                .map_err(|error| Failure::new(format!("the answer broke off: {error}")))?
                .to_bytes();
            Ok((status, body))
        };
        tokio::time::timeout(TIMEOUT, exchange)
            .await
            .map_err(|_| self.silent(TIMEOUT))?
    }

    fn silent(&self, after: Duration) -> Failure {
        Failure::new(format!(
            "`{}` gave no answer in {} s",
            self.base,
            after.as_secs()
        ))
    }

    fn unreachable(&self, error: &dyn std::error::Error) -> Failure {
        Failure::new(format!("no gateway at {}: {}", self.base, cause(error)))
            .next("start it with `clawgate serve`, or name its address with --operator URL")
    }
}

/// An answer that goes on.
pub(super) struct Lines {
    /// Its head.
    pub(super) headers: HeaderMap,
    body: Incoming,
    read: BytesMut,
}

impl Lines {
    /// The next line without its end; `None` after the last. What was read of a line stays when
    /// this is given up before it is ready.
    ///
    /// # Errors
    /// When the connection breaks, or when there is silence for longer than a gateway keeps it.
    pub(super) async fn next(&mut self) -> Result<Option<String>, Failure> {
        loop {
            if let Some(line) = self.ready()? {
                return Ok(Some(line));
            }
            if self.read.len() > MAX_LINE_BYTES {
                let message = "the gateway sends a line that does not end";
                return Err(Failure::new(message).lasting());
            }
            let frame = tokio::time::timeout(SILENCE, self.body.frame()).await;
            let frame =
                frame.map_err(|_| Failure::new(format!("silence for {} s", SILENCE.as_secs())))?;
            match frame {
                None if self.read.is_empty() => return Ok(None),
                None => return Err(Failure::new("the answer ended within a line")),
                Some(Err(error)) => {
                    let message = format!("the answer broke off: {}", cause(&error));
                    return Err(Failure::new(message));
                }
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.read.extend_from_slice(data);
                    }
                }
            }
        }
    }

    /// The next line, when it has come already.
    ///
    /// # Errors
    /// When it is no text.
    pub(super) fn ready(&mut self) -> Result<Option<String>, Failure> {
        let Some(end) = memchr::memchr(b'\n', &self.read) else {
            return Ok(None);
        };
        let mut line = self.read.split_to(end + 1);
        line.truncate(end);
        if line.last() == Some(&b'\r') {
            line.truncate(end - 1);
        }
        String::from_utf8(line.into())
            .map(Some)
            .map_err(|_| Failure::new("the gateway sends something that is no text").lasting())
    }
}

/// A refusal as problem details (RFC 9457), with our members `code` and `advice`.
fn problem(status: StatusCode, body: &[u8]) -> Failure {
    let problem: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let member = |name: &str| problem[name].as_str().map(term::plain);
    let title = member("title");
    let message = match (title, member("detail")) {
        (Some(title), Some(detail)) if title != detail => format!("{title}: {detail}"),
        (Some(text), _) | (None, Some(text)) => text,
        (None, None) => format!("the gateway answered {status}"),
    };
    // Where several things were looked at, each one that was wrong.
    let errors = problem["errors"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|error| {
            format!(
                "\n  {}: {}",
                term::text(error, "path"),
                term::text(error, "message")
            )
        });
    let message = message + &errors.collect::<String>();
    let failure = match member("code") {
        Some(code) => Failure::refused(&code, message),
        None => Failure::new(message),
    };
    match member("advice") {
        Some(advice) => failure.next(advice),
        None => failure,
    }
}

/// One segment of a path: what could leave its place in the path is not sent.
///
/// # Errors
/// A usage failure.
pub(super) fn segment<'a>(text: &'a str, what: &str) -> Result<&'a str, Failure> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if text.is_empty() || text.len() > 200 || !text.bytes().all(plain) {
        return Err(Failure::usage(format!(
            "`{}` is not {what}",
            term::plain(text)
        )));
    }
    Ok(text)
}

/// A run's or a workspace's id on the command line.
///
/// # Errors
/// What clap shows.
pub(super) fn id(text: &str) -> Result<String, String> {
    segment(text, "an id")
        .map(str::to_owned)
        .map_err(|failure| failure.to_string())
}

/// A job's id on the command line.
///
/// # Errors
/// What clap shows.
pub(super) fn job_id(text: &str) -> Result<proof::record::JobId, String> {
    text.parse()
        .map_err(|error: proof::record::JobIdError| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_credential_does_not_travel_in_the_clear() {
        for (address, plaintext, good) in [
            ("http://127.0.0.1:8788", false, true),
            ("http://[::1]:8788", false, true),
            ("http://localhost:8788", false, true),
            ("https://gateway.example", false, true),
            ("http://gateway.example", true, true),
            ("http://gateway.example", false, false),
            ("http://10.0.0.1:8788", false, false),
            ("http://127.0.0.1.example", false, false),
            ("ftp://127.0.0.1", true, false),
            ("127.0.0.1:8788", true, false),
            ("", true, false),
        ] {
            let checked = check_address("operator", address, plaintext);
            assert_eq!(checked.is_ok(), good, "{address}");
        }
    }

    #[test]
    fn problems_keep_code_and_advice_and_lose_escapes() {
        let body = br#"{"title":"Token is revoked","detail":"a\u001b[2Jb","code":"TOKEN_REVOKED"}"#;
        let failure = problem(StatusCode::UNAUTHORIZED, body);
        assert_eq!(failure.code(), Some("TOKEN_REVOKED"));
        let text = failure.to_string();
        assert!(
            text.contains("Token is revoked") && text.contains("\\u{1b}"),
            "{text}"
        );
        assert!(
            text.contains(policy::ReasonCode::TokenRevoked.advice()),
            "{text}"
        );
        let body = br#"{"title":"t","errors":[{"path":"permissions","message":"wrong"}]}"#;
        let failure = problem(StatusCode::UNPROCESSABLE_ENTITY, body);
        assert!(failure.to_string().contains("permissions: wrong"));
        let failure = problem(StatusCode::BAD_GATEWAY, b"<html>");
        assert!(failure.to_string().contains("502"));
    }

    #[test]
    fn a_credential_that_others_can_read_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("credential");
        crate::keys::write_private(&file, b"clawop_x").unwrap();
        assert_eq!(read_credential(&file).unwrap().trim(), "clawop_x");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(
            read_credential(&file)
                .unwrap_err()
                .to_string()
                .contains("chmod 600")
        );
    }

    #[test]
    fn what_could_leave_its_place_in_a_path_is_not_sent() {
        assert!(segment("run-CZcmD7eagjhyX0vN", "a run").is_ok());
        for bad in ["", "..", "a/b", "a?b", "a%2fb", "a b", "ä"] {
            assert!(segment(bad, "a run").is_err(), "{bad}");
        }
    }
}
