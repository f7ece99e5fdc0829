//! Calls that the vendor makes to others, signed with a key that both know.

use std::time::Duration;

use axum::http::{Request, StatusCode, header};
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use sha2::Sha512;

/// How long the other side may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Posts a JSON body with its signature in the header `name`; the signature is empty without a
/// key. `None` when nobody answers in time.
pub(super) async fn post(
    url: &str,
    name: &'static str,
    key: Option<&str>,
    body: Bytes,
) -> Option<StatusCode> {
    let signature = key.map(|key| sign(key, &body)).unwrap_or_default();
    let request = Request::post(url)
        .header(header::CONTENT_TYPE, "application/json")
        .header(
            header::USER_AGENT,
            "TFC/1.0 (+https://app.terraform.io; TFC)",
        )
        .header(name, signature)
        .body(Full::new(body))
        .ok()?;
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let answer = tokio::time::timeout(PATIENCE, client.request(request)).await;
    Some(answer.ok()?.ok()?.status())
}

/// HMAC-SHA512 in hexadecimal digits.
fn sign(key: &str, body: &[u8]) -> String {
    let mut mac =
        Hmac::<Sha512>::new_from_slice(key.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(body);
    let mut text = String::new();
    for byte in mac.finalize().into_bytes() {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}
