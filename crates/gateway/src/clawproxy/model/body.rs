//! Reading a request body: whole, within bounds, in plain JSON.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use policy::{ReasonCode, Refusal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a client may take to send its body. Our own choice.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// Bytes for one permit of the room that all bodies share.
pub(super) const ROOM_UNIT: usize = 1024;

/// A body in memory, and its share of the room for bodies, which it gives back when dropped.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) bytes: Bytes,
    pub(super) room: Option<OwnedSemaphorePermit>,
}

impl Held {
    /// No body.
    pub(super) const fn empty() -> Self {
        Self {
            bytes: Bytes::new(),
            room: None,
        }
    }
}

/// Reads a body of at most `limit` bytes, while `room` lasts.
///
/// # Errors
/// `BODY_TOO_LARGE`, `OVERLOADED` when other bodies take all the room, `BODY_NOT_JSON` when the
/// client breaks off or dawdles.
pub(super) async fn read<B>(body: B, limit: usize, room: &Arc<Semaphore>) -> Result<Held, Refusal>
where
    B: hyper::body::Body<Data = Bytes>,
{
    let announced = body.size_hint().lower();
    if announced > limit as u64 {
        return Err(too_large(limit));
    }
    let mut body = std::pin::pin!(body);
    let mut pieces: Vec<Bytes> = Vec::new();
    let mut length = 0;
    let mut held: Option<OwnedSemaphorePermit> = None;
    let reading = async {
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| {
                Refusal::new(
                    ReasonCode::BodyNotJson,
                    "the connection broke within the body",
                )
            })?;
            let Ok(piece) = frame.into_data() else {
                continue;
            };
            length += piece.len();
            if length > limit {
                return Err(too_large(limit));
            }
            let have = held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
            let more = u32::try_from(length.div_ceil(ROOM_UNIT) - have)
                .map_err(|_| Refusal::from(ReasonCode::BodyTooLarge))?;
            if more > 0 {
                let permit = Arc::clone(room)
                    .try_acquire_many_owned(more)
                    .map_err(|_| Refusal::from(ReasonCode::Overloaded))?;
                match &mut held {
                    Some(held) => held.merge(permit),
                    None => held = Some(permit),
                }
            }
            pieces.push(piece);
        }
        Ok(())
    };
    tokio::time::timeout(BODY_TIMEOUT, reading)
        .await
        .map_err(|_| Refusal::new(ReasonCode::BodyNotJson, "the body did not arrive in time"))??;
    let bytes = match pieces.len() {
        1 => pieces.swap_remove(0),
        _ => pieces.concat().into(),
    };
    Ok(Held { bytes, room: held })
}

fn too_large(limit: usize) -> Refusal {
    Refusal::new(
        ReasonCode::BodyTooLarge,
        format!("the body may have {limit} bytes"),
    )
}

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
    use http_body_util::Full;

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

    #[tokio::test]
    async fn bodies_share_a_bounded_room() {
        let room = Arc::new(Semaphore::new(3));
        let body = |length: usize| Full::new(Bytes::from(vec![b'x'; length]));
        assert_eq!(
            read(body(11), 10, &room).await.unwrap_err().code,
            ReasonCode::BodyTooLarge
        );
        assert_eq!(read(body(0), 10, &room).await.unwrap().bytes.len(), 0);
        let first = read(body(2000), 4000, &room).await.unwrap();
        assert_eq!(
            read(body(2000), 4000, &room).await.unwrap_err().code,
            ReasonCode::Overloaded
        );
        drop(first);
        assert_eq!(
            read(body(2000), 4000, &room).await.unwrap().bytes.len(),
            2000
        );
        assert_eq!(room.available_permits(), 3);
    }
}
