//! What a request body says that it is: plain JSON, or it is not read.

use http::{HeaderMap, header};
use policy::{ReasonCode, Refusal};

/// Refuses bodies that are not plain JSON text by their headers.
///
/// # Errors
/// `BODY_CONTENT_TYPE`.
pub(super) fn check_content_type(headers: &HeaderMap) -> Result<(), Refusal> {
    let refuse = |detail: &'static str| Err(Refusal::new(ReasonCode::BodyContentType, detail));
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(only), None) = (types.next(), types.next()) else {
        return refuse("send `Content-Type: application/json`, once");
    };
    let essence = only
        .to_str()
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default();
    if !essence.trim().eq_ignore_ascii_case("application/json") {
        return refuse("the content type must be application/json");
    }
    let encodings = headers.get_all(header::CONTENT_ENCODING);
    if encodings
        .iter()
        .any(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"))
    {
        return refuse("compressed bodies cannot be judged: send them as they are");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_json_is_read() {
        let check = |fields: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, value.parse().unwrap());
            }
            check_content_type(&headers).is_ok()
        };
        assert!(check(&[("content-type", "application/json")]));
        assert!(check(&[(
            "content-type",
            "Application/JSON; charset=utf-8"
        )]));
        assert!(check(&[
            ("content-type", "application/json"),
            ("content-encoding", "identity")
        ]));
        for refused in [
            &[][..],
            &[("content-type", "text/plain")],
            &[("content-type", "multipart/form-data; boundary=x")],
            &[("content-type", "application/jsonp")],
            &[
                ("content-type", "application/json"),
                ("content-type", "application/json"),
            ],
            &[
                ("content-type", "application/json"),
                ("content-encoding", "gzip"),
            ],
            &[
                ("content-type", "application/json"),
                ("content-encoding", "identity, br"),
            ],
        ] {
            assert!(!check(refused), "{refused:?}");
        }
    }
}
