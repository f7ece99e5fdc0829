//! A key that does not leave its module or its service.
//!
//! Each signature is asked for within a time and by a bounded number of callers, and is verified
//! before it is used: a signer that errs or lies puts nothing into the evidence.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use proof::keys::Signature;
use proof::{Did, Unsigned};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::timeout;

use super::random::random_text;
use super::signer::SignError;

/// What a signer is asked to sign when only its health is wanted. No document that we sign begins
/// like this.
const PROBE: &str = "clawgate signer probe, means nothing: ";

/// Where a key is that we cannot have.
pub trait Place: Send + Sync {
    /// Its name in messages, without anything secret.
    fn name(&self) -> String;

    /// Has the message signed, or says what is wrong and what to do about it. What comes back is
    /// not verified yet.
    fn sign<'a>(&'a self, message: &'a [u8]) -> BoxFuture<'a, Result<Signature, String>>;
}

/// A key in a place that signs with it.
pub struct Remote {
    place: Box<dyn Place>,
    did: Did,
    patience: Duration,
    /// Signatures that are asked for at a time.
    slots: Semaphore,
    /// The last one was not to be had.
    failing: AtomicBool,
    /// Held by whoever looks whether it works again.
    looking: Mutex<()>,
}

impl Remote {
    /// The key of this name there. Nothing is asked yet.
    pub fn new(place: impl Place + 'static, did: Did, patience: Duration, at_once: usize) -> Self {
        Self {
            place: Box::new(place),
            did,
            patience,
            slots: Semaphore::new(at_once),
            failing: AtomicBool::new(false),
            looking: Mutex::default(),
        }
    }

    /// The name of the public half, by the configuration.
    pub const fn did(&self) -> &Did {
        &self.did
    }

    /// Has a document signed.
    pub(super) async fn complete<T>(&self, unsigned: Unsigned<T>) -> Result<T, SignError> {
        let signed = match self.signature(unsigned.message()).await {
            Ok(signature) => unsigned.attach(signature).map_err(|_| SignError::Wrong {
                signer: self.place.name(),
                did: self.did.clone(),
            }),
            Err(error) => Err(error),
        };
        self.failing.store(signed.is_err(), Ordering::Relaxed);
        signed
    }

    async fn signature(&self, message: &[u8]) -> Result<Signature, SignError> {
        let asked = async {
            let _slot = self.slots.acquire().await.map_err(|e| e.to_string())?;
            self.place.sign(message).await
        };
        let answer = timeout(self.patience, asked).await;
        let seconds = self.patience.as_secs_f32();
        answer
            .unwrap_or_else(|_| Err(format!("no answer within {seconds} s")))
            .map_err(|reason| SignError::Unavailable {
                signer: self.place.name(),
                reason,
            })
    }

    pub(super) async fn ready(&self) -> Result<(), SignError> {
        if !self.failing.load(Ordering::Relaxed) {
            return Ok(());
        }
        match self.looking.try_lock() {
            Ok(_looking) => self.probe().await,
            Err(_) => Err(SignError::Unavailable {
                signer: self.place.name(),
                reason: "it failed a moment ago, and is being asked again".to_owned(),
            }),
        }
    }

    pub(super) async fn probe(&self) -> Result<(), SignError> {
        let message = format!("{PROBE}{}", random_text()).into_bytes();
        let signed = match self.signature(&message).await {
            Ok(signature) if self.did.key().verify(&message, &signature) => Ok(()),
            Ok(_) => Err(SignError::Wrong {
                signer: self.place.name(),
                did: self.did.clone(),
            }),
            Err(error) => Err(error),
        };
        self.failing.store(signed.is_err(), Ordering::Relaxed);
        signed
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Remote({} at {})", self.did, self.place.name())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};

    use proof::checkpoint::Checkpoint;
    use proof::{Envelope, EnvelopeType, Hash, SigningKey, Timestamp};

    use super::super::Signer;
    use super::*;

    /// What a signer of the tests does when it is asked.
    #[derive(Debug, Clone)]
    pub enum Does {
        SignsWith(SigningKey),
        SignsOther(SigningKey),
        Fails,
        Hangs,
    }

    /// Does one after the other, and the last of them from then on.
    #[derive(Debug, Clone)]
    pub struct Elsewhere(Arc<Mutex<VecDeque<Does>>>);

    impl Elsewhere {
        pub fn doing(all: impl IntoIterator<Item = Does>) -> Self {
            Self(Arc::new(Mutex::new(all.into_iter().collect())))
        }
    }

    impl Place for Elsewhere {
        fn name(&self) -> String {
            "the signer of the test".to_owned()
        }

        fn sign<'a>(&'a self, message: &'a [u8]) -> BoxFuture<'a, Result<Signature, String>> {
            let mut all = self.0.lock().unwrap();
            let does = match all.len() {
                1 => all[0].clone(),
                _ => all.pop_front().unwrap(),
            };
            Box::pin(async move {
                match does {
                    Does::SignsWith(key) => Ok(key.sign(message)),
                    Does::SignsOther(key) => Ok(key.sign(b"something else")),
                    Does::Fails => Err("403: permission denied".to_owned()),
                    Does::Hangs => std::future::pending().await,
                }
            })
        }
    }

    fn key() -> SigningKey {
        SigningKey::from_seed(&[1; 32])
    }

    fn signer(all: impl IntoIterator<Item = Does>) -> Signer {
        let patience = Duration::from_secs(5);
        Signer::from(Remote::new(Elsewhere::doing(all), key().did(), patience, 4))
    }

    async fn sign(signer: &Signer) -> Result<Envelope, SignError> {
        let payload = serde_json::json!({ "a": 1 });
        let at = Timestamp::from_millis(1);
        signer.envelope(EnvelopeType::JobClose, &payload, at).await
    }

    #[tokio::test]
    async fn what_is_signed_elsewhere_is_what_would_be_signed_here() {
        let (there, here) = (signer([Does::SignsWith(key())]), Signer::from(key()));
        assert_eq!((there.did(), there.public()), (here.did(), here.public()));
        assert_eq!(sign(&there).await.unwrap(), sign(&here).await.unwrap());
        let checkpoint = Checkpoint {
            origin: "gateway.example/log".into(),
            size: 1,
            root: Hash::of(b"r"),
        };
        assert_eq!(
            there.checkpoint(&checkpoint).await.unwrap(),
            here.checkpoint(&checkpoint).await.unwrap()
        );
        there.probe().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_signed_but_by_the_key_and_in_time() {
        let other = SigningKey::from_seed(&[2; 32]);
        for (does, says) in [
            (Does::Fails, "403"),
            (Does::Hangs, "within 5 s"),
            (Does::SignsWith(other), "the key was replaced there"),
            (Does::SignsOther(key()), "the key was replaced there"),
        ] {
            let signer = signer([does.clone()]);
            let error = sign(&signer).await.unwrap_err();
            assert!(error.to_string().contains(says), "{does:?}: {error}");
            let error = signer.probe().await.unwrap_err();
            assert!(error.to_string().contains(says), "{does:?}: {error}");
            assert_eq!(error.refusal().code, policy::ReasonCode::SignerUnavailable);
            assert_eq!(
                error.refusal().detail,
                policy::ReasonCode::SignerUnavailable.title()
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_signer_that_failed_is_asked_by_one_at_a_time_until_it_works() {
        let good = Does::SignsWith(key());
        let signer = signer([good.clone(), Does::Fails, Does::Fails, Does::Hangs, good]);
        signer.ready().await.unwrap();
        sign(&signer).await.unwrap();
        signer.ready().await.unwrap();
        sign(&signer).await.unwrap_err();
        signer.ready().await.unwrap_err();
        // One looks, and waits; the other is told at once.
        let (looks, told) = tokio::join!(signer.ready(), async {
            let began = tokio::time::Instant::now();
            let told = signer.ready().await.unwrap_err();
            (told.to_string(), began.elapsed())
        });
        assert!(looks.unwrap_err().to_string().contains("no answer"));
        assert!(told.0.contains("a moment ago"), "{}", told.0);
        assert_eq!(told.1, Duration::ZERO);
        signer.ready().await.unwrap();
        sign(&signer).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_for_a_place_wait_no_longer_than_for_an_answer() {
        let place = Elsewhere::doing([Does::Hangs]);
        let patience = Duration::from_secs(5);
        let signer = Signer::from(Remote::new(place, key().did(), patience, 1));
        let began = tokio::time::Instant::now();
        let (one, two) = tokio::join!(sign(&signer), sign(&signer));
        assert!(one.is_err() && two.is_err());
        assert_eq!(began.elapsed(), patience);
    }
}
