//! Request bodies: read whole, within a size, a time and a share of the memory for all of them.
//!
//! Whoever holds a token may send bodies on many connections at once, slowly or never to the
//! end. Without these bounds the memory is theirs.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use policy::{ReasonCode, Refusal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes for one permit of the room that bodies share.
const ROOM_UNIT: usize = 1024;

/// The memory that bodies share.
#[derive(Debug, Clone)]
pub struct Room(Arc<Semaphore>);

impl Room {
    /// Room for so many bytes at a time.
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(
            bytes.div_ceil(ROOM_UNIT).min(Semaphore::MAX_PERMITS),
        )))
    }

    /// Bytes that are free, in whole units.
    pub fn free(&self) -> usize {
        self.0.available_permits() * ROOM_UNIT
    }

    /// Lets a share grow to so many bytes.
    fn take(&self, bytes: usize, share: &mut Option<OwnedSemaphorePermit>) -> Result<(), Refusal> {
        let have = share.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = bytes.div_ceil(ROOM_UNIT).saturating_sub(have);
        let more = u32::try_from(more).map_err(|_| Refusal::from(ReasonCode::BodyTooLarge))?;
        if more == 0 {
            return Ok(());
        }
        let permit = Arc::clone(&self.0)
            .try_acquire_many_owned(more)
            .map_err(|_| Refusal::from(ReasonCode::Overloaded))?;
        match share {
            Some(share) => share.merge(permit),
            None => *share = Some(permit),
        }
        Ok(())
    }
}

/// What a body may be.
#[derive(Debug, Clone, Copy)]
pub struct Bounds<'a> {
    /// Most bytes.
    pub bytes: usize,
    /// How long it may take to come in.
    pub patience: Duration,
    /// Where it is held.
    pub room: &'a Room,
    /// The refusal of one that is larger.
    pub too_large: ReasonCode,
}

/// A body in memory, and its share of the room, which it gives back when dropped.
#[derive(Debug, Default)]
pub struct Held {
    /// The body.
    pub bytes: Bytes,
    /// Its share.
    pub share: Option<OwnedSemaphorePermit>,
}

/// Reads a body.
///
/// # Errors
/// `BODY_TOO_LARGE` or its like, `OVERLOADED` when other bodies take all the room,
/// `BODY_NOT_JSON` when the client breaks off or dawdles.
pub async fn read<B>(body: B, bounds: Bounds<'_>) -> Result<Held, Refusal>
where
    B: hyper::body::Body<Data = Bytes>,
{
    let limit = bounds.bytes;
    let too_large = || Refusal::new(bounds.too_large, format!("the body may have {limit} bytes"));
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let mut body = std::pin::pin!(body);
    let mut bytes: Vec<u8> = Vec::new();
    let mut share: Option<OwnedSemaphorePermit> = None;
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
            let length = bytes.len() + piece.len();
            if length > limit {
                return Err(too_large());
            }
            if length > bytes.capacity() {
                let capacity = length.max(2 * bytes.capacity()).min(limit);
                bounds.room.take(capacity, &mut share)?;
                bytes.reserve_exact(capacity - bytes.len());
            }
            // Copied: however small, a piece keeps all of the buffer that it was read into.
            bytes.extend_from_slice(&piece);
        }
        Ok(())
    };
    tokio::time::timeout(bounds.patience, reading)
        .await
        .map_err(|_| Refusal::new(ReasonCode::BodyNotJson, "the body did not arrive in time"))??;
    Ok(Held {
        bytes: bytes.into(),
        share,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http_body_util::{Full, StreamBody};
    use hyper::body::Frame;

    use super::*;

    /// The buffer that one byte of a body was read into; counted while something keeps it.
    struct Buffer(Arc<AtomicUsize>);

    impl AsRef<[u8]> for Buffer {
        fn as_ref(&self) -> &[u8] {
            b"x"
        }
    }

    impl Drop for Buffer {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn a_body_in_tiny_pieces_takes_the_memory_that_it_is_charged_for() {
        let (room, kept) = (Room::new(64 * ROOM_UNIT), Arc::new(AtomicUsize::new(0)));
        let most = Arc::new(AtomicUsize::new(0));
        let pieces = (0..5000).map(|_| {
            let now = kept.fetch_add(1, Ordering::Relaxed) + 1;
            most.fetch_max(now, Ordering::Relaxed);
            let buffer = Buffer(Arc::clone(&kept));
            Ok::<_, std::io::Error>(Frame::data(Bytes::from_owner(buffer)))
        });
        let bounds = Bounds {
            bytes: 9000,
            patience: Duration::from_secs(60),
            room: &room,
            too_large: ReasonCode::BodyTooLarge,
        };
        let body = StreamBody::new(futures_util::stream::iter(pieces));
        let held = read(body, bounds).await.unwrap();
        assert_eq!(held.bytes, vec![b'x'; 5000]);
        assert_eq!(most.load(Ordering::Relaxed), 1);
        let taken = 64 * ROOM_UNIT - room.free();
        assert!((5000..=9 * ROOM_UNIT).contains(&taken), "{taken}");
        drop(held);
        assert_eq!(room.free(), 64 * ROOM_UNIT);
    }

    #[tokio::test]
    async fn bodies_are_bounded_alone_and_together() {
        let room = Room::new(3 * ROOM_UNIT);
        let read = |length: usize, most: usize| {
            let bounds = Bounds {
                bytes: most,
                patience: Duration::from_secs(60),
                room: &room,
                too_large: ReasonCode::UploadTooLarge,
            };
            read(Full::new(Bytes::from(vec![b' '; length])), bounds)
        };
        assert_eq!(
            read(11, 10).await.unwrap_err().code,
            ReasonCode::UploadTooLarge
        );
        assert_eq!(read(0, 10).await.unwrap().bytes.len(), 0);
        let first = read(2000, 4000).await.unwrap();
        assert_eq!(
            read(2000, 4000).await.unwrap_err().code,
            ReasonCode::Overloaded
        );
        drop(first);
        assert_eq!(read(2000, 4000).await.unwrap().bytes.len(), 2000);
    }
}
