//! `X-Idempotency-Key`: a call that is repeated with the same key is not made a second time.
//!
//! The key is taken durably before anything is sent, and given back when nothing was sent.

use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use policy::{ReasonCode, Refusal};
use proof::record::JobId;
use proof::{Hash, Timestamp};
use store::{Conflict, KeyClaim, Store, StoreError};

use super::ModelCall;
use crate::clawproxy::authenticate::unavailable;

const KEY: HeaderName = HeaderName::from_static("x-idempotency-key");

/// Longest key, in bytes.
const MAX_KEY: usize = 255;

/// A key that belongs to one call. Dropped before the call has been sent, it is free again.
pub(super) struct Claimed {
    store: Arc<dyn Store>,
    job: JobId,
    key: Hash,
    open: bool,
}

/// The hash of the key that a request names.
///
/// # Errors
/// `HEADER_NOT_ALLOWED` for several of them, and for a text that is no key.
pub(super) fn key(headers: &HeaderMap) -> Result<Option<Hash>, Refusal> {
    let mut keys = headers.get_all(KEY).iter();
    match (keys.next(), keys.next()) {
        (None, _) => Ok(None),
        (Some(key), None)
            if (1..=MAX_KEY).contains(&key.len())
                && key.as_bytes().iter().all(u8::is_ascii_graphic) =>
        {
            Ok(Some(Hash::of(key.as_bytes())))
        }
        _ => Err(Refusal::new(
            ReasonCode::HeaderNotAllowed,
            "send one X-Idempotency-Key of 1 to 255 visible characters without spaces",
        )),
    }
}

/// Takes the key for a call that names one. Dropped before it resolves, which is how a client
/// leaves, it gives the key back as soon as it has it.
///
/// # Errors
/// `MODEL_CALL_REPEATED` when somebody has it, `STORE_UNAVAILABLE` when that is not known.
pub(super) async fn claim(
    store: &Arc<dyn Store>,
    now: Timestamp,
    call: &mut ModelCall,
) -> Result<(), Refusal> {
    let Some(key) = call.key else {
        return Ok(());
    };
    let job = call.token.job.id.clone();
    let operation = call.target.operation.as_bytes();
    let body = call.request_hash;
    let request = Hash::of_parts([operation, b" ".as_slice(), body.as_bytes()]);
    let store = Arc::clone(store);
    // In a task of its own: what is in the store's queue happens, and somebody must learn of it.
    let claiming = tokio::spawn(async move {
        match store.claim_model_key(&job, key, request, now).await {
            Ok(KeyClaim::New) => Ok(Claimed {
                store,
                job,
                key,
                open: true,
            }),
            other => Err(other),
        }
    });
    let claim = match claiming.await.map_err(|_| ReasonCode::Internal)? {
        Ok(claimed) => {
            call.claimed = Some(claimed);
            return Ok(());
        }
        Err(claim) => claim,
    };
    let detail = match claim {
        Ok(KeyClaim::New) => return Err(ReasonCode::Internal.into()),
        Ok(KeyClaim::InFlight) => "the same call is being made".to_owned(),
        Ok(KeyClaim::Done { receipt_id }) => {
            format!("the same call was made; its receipt is {receipt_id}")
        }
        Ok(KeyClaim::Lost) => {
            "the gateway stopped while the same call was being made; nobody knows how it ended"
                .to_owned()
        }
        Ok(KeyClaim::Other) => "the key belongs to another request".to_owned(),
        Err(StoreError::Conflict(Conflict::JobClosed(_))) => {
            return Err(ReasonCode::TokenJobClosed.into());
        }
        Err(StoreError::Busy) => return Err(ReasonCode::Overloaded.into()),
        Err(error) => return Err(unavailable(error)),
    };
    Err(Refusal::new(ReasonCode::ModelCallRepeated, detail))
}

impl Claimed {
    /// The call was made: whoever repeats it is told of its receipt.
    pub(super) async fn finish(mut self, receipt_id: &str) {
        self.open = false;
        let done = self
            .store
            .finish_model_key(&self.job, self.key, receipt_id)
            .await;
        if let Err(error) = done {
            // It stays taken, so the call is not made again.
            tracing::warn!(%error, job = %self.job, "an idempotency key was not finished");
        }
    }

    /// The call was made, but is not on record: the key stays taken.
    pub(super) fn keep(mut self) {
        self.open = false;
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        if self.open
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (store, job, key) = (Arc::clone(&self.store), self.job.clone(), self.key);
            runtime.spawn(async move {
                if let Err(error) = store.release_model_key(&job, key).await {
                    tracing::warn!(%error, %job, "an idempotency key was not given back");
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_plain_key_is_taken() {
        let long = "k".repeat(MAX_KEY);
        let longer = "k".repeat(MAX_KEY + 1);
        for (sent, taken) in [
            (&[][..], Ok(None)),
            (&["a"], Ok(Some(Hash::of(b"a")))),
            (&[long.as_str()], Ok(Some(Hash::of(long.as_bytes())))),
            (&["a", "a"], Err(ReasonCode::HeaderNotAllowed)),
            (&[""], Err(ReasonCode::HeaderNotAllowed)),
            (&["a b"], Err(ReasonCode::HeaderNotAllowed)),
            (&["caf\u{e9}"], Err(ReasonCode::HeaderNotAllowed)),
            (&[longer.as_str()], Err(ReasonCode::HeaderNotAllowed)),
        ] {
            let mut headers = HeaderMap::new();
            for text in sent {
                headers.append(KEY, http::HeaderValue::from_bytes(text.as_bytes()).unwrap());
            }
            assert_eq!(
                key(&headers).map_err(|refused| refused.code),
                taken,
                "{sent:?}"
            );
        }
    }
}
