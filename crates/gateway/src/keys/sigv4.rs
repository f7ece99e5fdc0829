//! Signature Version 4 of AWS, as far as a POST to the root of a service needs it.
//!
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/create-signed-request.html>. The tests compare
//! with AWS's own suite of vectors.

use hmac::{Hmac, KeyInit as _, Mac as _};
use proof::{Hash, Timestamp};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::secret::Secret;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Who asks.
#[derive(Debug, Clone)]
pub(super) struct Credentials {
    pub(super) id: String,
    pub(super) secret: Secret,
    /// Of credentials for a while.
    pub(super) session: Option<Secret>,
}

/// For what and when a signature is good.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope<'a> {
    pub(super) region: &'a str,
    pub(super) service: &'a str,
    /// `20150830T123600Z`.
    pub(super) at: &'a str,
}

impl Scope<'_> {
    fn date(&self) -> &str {
        &self.at[..8]
    }

    fn text(&self) -> String {
        let (date, region, service) = (self.date(), self.region, self.service);
        format!("{date}/{region}/{service}/aws4_request")
    }
}

/// A time as requests carry it.
pub(super) fn time(at: Timestamp) -> String {
    // 2015-08-30T12:36:00.000Z without its marks and parts of a second.
    let text = at.to_string();
    let digits = text[..19].replace(['-', ':'], "");
    format!("{digits}Z")
}

/// The header `Authorization` of a POST to `/` with this body. The headers are all that are signed:
/// names in small letters, in order, `host` and `x-amz-date` among them.
pub(super) fn authorization(
    credentials: &Credentials,
    scope: Scope<'_>,
    headers: &[(&str, &str)],
    body: &[u8],
) -> String {
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let mut request = Zeroizing::new("POST\n/\n\n".to_owned());
    for (name, value) in headers {
        request.push_str(&format!("{name}:{}\n", value.trim()));
    }
    request.push_str(&format!("\n{names}\n{}", Hash::of(body).to_hex()));
    let hash = Hash::of(request.as_bytes()).to_hex();
    let to_sign = format!("{ALGORITHM}\n{}\n{}\n{hash}", scope.at, scope.text());

    let secret = Zeroizing::new(format!("AWS4{}", credentials.secret.expose()));
    let mut key = mac(secret.as_bytes(), scope.date());
    for part in [scope.region, scope.service, "aws4_request"] {
        key = mac(&*key, part);
    }
    let signature = Hash::from_bytes(*mac(&*key, &to_sign)).to_hex();
    format!(
        "{ALGORITHM} Credential={}/{}, SignedHeaders={names}, Signature={signature}",
        credentials.id,
        scope.text()
    )
}

fn mac(key: &[u8], text: &str) -> Zeroizing<[u8; 32]> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    mac.update(text.as_bytes());
    Zeroizing::new(mac.finalize().into_bytes().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published suite's requests that are a POST to `/`.
    #[test]
    fn signatures_are_those_of_the_published_suite() {
        const SESSION: &str = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==";
        const AT: &str = "20150830T123600Z";
        let credentials = Credentials {
            id: "AKIDEXAMPLE".into(),
            secret: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into()),
            session: None,
        };
        let scope = Scope {
            region: "us-east-1",
            service: "service",
            at: AT,
        };
        let host = ("host", "example.amazonaws.com");
        let date = ("x-amz-date", AT);
        for (headers, body, names, signature) in [
            (
                &[host, date][..],
                "",
                "host;x-amz-date",
                "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ),
            (
                &[host, ("my-header1", "value1"), date],
                "",
                "host;my-header1;x-amz-date",
                "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c",
            ),
            (
                &[host, date, ("x-amz-security-token", SESSION)],
                "",
                "host;x-amz-date;x-amz-security-token",
                "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead",
            ),
            (
                &[
                    ("content-type", "application/x-www-form-urlencoded"),
                    host,
                    date,
                ],
                "Param1=value1",
                "content-type;host;x-amz-date",
                "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
            ),
        ] {
            assert_eq!(
                authorization(&credentials, scope, headers, body.as_bytes()),
                format!(
                    "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/\
                     aws4_request, SignedHeaders={names}, Signature={signature}"
                )
            );
        }
        assert_eq!(time(Timestamp::from_seconds(1_440_938_160)), AT);
    }
}
