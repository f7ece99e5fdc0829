//! Signing with a key of the gateway's, wherever it is.

use std::sync::Arc;

use policy::{ReasonCode, Refusal};
use proof::checkpoint::Checkpoint;
use proof::token::{Claims, TokenError};
use proof::trust::Role;
use proof::{
    Did, Envelope, EnvelopeError, EnvelopeType, PublicKey, SigningKey, Timestamp, Unsigned,
};
use serde::Serialize;

use super::remote::Remote;
use crate::app::now;

/// Why something was not signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// It cannot be: two readers could hash it differently.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// Claims that cannot be written.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The signer does not answer, or not in time.
    #[error("{signer} does not sign: {reason}")]
    Unavailable {
        /// Which one.
        signer: String,
        /// What is wrong, and what to do about it.
        reason: String,
    },
    /// What the signer answered is not by the key that the configuration names.
    #[error(
        "{signer} gave a signature that is not by {did}: the key was replaced there, or somebody \
         answers in its place"
    )]
    Wrong {
        /// Which one.
        signer: String,
        /// The key.
        did: Did,
    },
    /// What it signs does not count any more.
    #[error(transparent)]
    Replaced(#[from] Replaced),
}

/// Another key has taken a key's place, and this gateway does not have it: a key set was taken by
/// another gateway on the same database, or is about keys elsewhere. What the old one signs counts
/// for a while perhaps, and then not any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the {role} key {found} was replaced by {by}, which is not here: bring its file ({role}.key of \
     the gateway where the keys were changed), or name it in the configuration and restart"
)]
pub struct Replaced {
    /// What the key is for.
    pub role: Role,
    /// The key that is here.
    pub found: Did,
    /// The key that should be.
    pub by: Did,
    /// Until when the key that is here counts; `None` when it does not.
    pub until: Option<Timestamp>,
}

impl Replaced {
    /// Whether what the key signs at this time counts all the same.
    ///
    /// # Errors
    /// Itself, when it does not.
    pub fn check(&self, at: Timestamp) -> Result<(), Self> {
        match self.until {
            Some(end) if at <= end => Ok(()),
            _ => Err(self.clone()),
        }
    }

    /// The reason, for whoever asked for something that it would have to sign.
    pub fn refusal(&self) -> Refusal {
        let role = self.role;
        let detail = format!(
            "the {role} key was replaced, and this gateway does not have the new one: ask another \
             gateway, and have an operator bring the key here"
        );
        Refusal::new(ReasonCode::SignerUnavailable, detail)
    }
}

impl SignError {
    /// The reason, for whoever asked for what was to be signed. Where the key is, and what is
    /// wrong there, is for the gateway's log only.
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::Envelope(_) | Self::Token(_) => {
                tracing::error!(error = %self, "what the gateway made cannot be signed");
                ReasonCode::Internal.into()
            }
            Self::Unavailable { .. } | Self::Wrong { .. } => {
                tracing::error!(error = %self, "the gateway cannot sign");
                ReasonCode::SignerUnavailable.into()
            }
            Self::Replaced(replaced) => {
                tracing::error!(error = %self, "the gateway cannot sign");
                replaced.refusal()
            }
        }
    }
}

/// Where a key is.
#[derive(Debug)]
enum Key {
    /// In memory.
    Local(SigningKey),
    /// In a module or a service, which signs and does not give it out.
    Remote(Remote),
}

/// A key of the gateway's. One whose place another key has taken signs as long as that counts.
///
/// One that is in memory signs where it is called, without waiting for anything.
#[derive(Debug, Clone)]
pub struct Signer {
    key: Arc<Key>,
    replaced: Option<Replaced>,
}

impl From<SigningKey> for Signer {
    fn from(key: SigningKey) -> Self {
        Self {
            key: Arc::new(Key::Local(key)),
            replaced: None,
        }
    }
}

impl From<Remote> for Signer {
    fn from(remote: Remote) -> Self {
        Self {
            key: Arc::new(Key::Remote(remote)),
            replaced: None,
        }
    }
}

impl Signer {
    /// The same key, whose place another one has taken.
    pub(super) fn replaced(&self, replaced: Replaced) -> Self {
        Self {
            key: Arc::clone(&self.key),
            replaced: Some(replaced),
        }
    }

    /// Nothing is signed that would not count.
    fn check(&self, at: Timestamp) -> Result<(), Replaced> {
        self.replaced
            .as_ref()
            .map_or(Ok(()), |replaced| replaced.check(at))
    }

    /// The name of the public half.
    pub fn did(&self) -> Did {
        match &*self.key {
            Key::Local(key) => key.did(),
            Key::Remote(remote) => remote.did().clone(),
        }
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        match &*self.key {
            Key::Local(key) => key.public(),
            Key::Remote(remote) => remote.did().key(),
        }
    }

    /// The key, when it is in memory.
    pub fn local(&self) -> Option<&SigningKey> {
        match &*self.key {
            Key::Local(key) => Some(key),
            Key::Remote(_) => None,
        }
    }

    /// Whether it signs, as far as that is known without asking. One that failed the last time is
    /// asked for a signature over nothing of meaning, by one caller at a time; the others are told
    /// that it fails.
    ///
    /// # Errors
    /// [`SignError::Unavailable`], [`SignError::Wrong`], [`SignError::Replaced`].
    pub async fn ready(&self) -> Result<(), SignError> {
        self.check(now())?;
        match &*self.key {
            Key::Local(_) => Ok(()),
            Key::Remote(remote) => Box::pin(remote.ready()).await,
        }
    }

    /// Has it sign something of no meaning.
    ///
    /// # Errors
    /// [`SignError::Unavailable`], [`SignError::Wrong`].
    pub async fn probe(&self) -> Result<(), SignError> {
        match &*self.key {
            Key::Local(_) => Ok(()),
            Key::Remote(remote) => remote.probe().await,
        }
    }

    /// Signs what is ready but for its signature.
    ///
    /// # Errors
    /// [`SignError::Unavailable`], [`SignError::Wrong`], [`SignError::Replaced`].
    pub async fn sign<T>(&self, unsigned: Unsigned<T>) -> Result<T, SignError> {
        self.check(now())?;
        match &*self.key {
            Key::Local(key) => {
                let signature = key.sign(unsigned.message());
                unsigned.attach(signature).map_err(|_| SignError::Wrong {
                    signer: "the key in memory".to_owned(),
                    did: key.did(),
                })
            }
            Key::Remote(remote) => Box::pin(remote.complete(unsigned)).await,
        }
    }

    /// Signs an envelope.
    ///
    /// # Errors
    /// See [`SignError`].
    pub async fn envelope(
        &self,
        envelope_type: EnvelopeType,
        payload: &(impl Serialize + Sync),
        issued_at: Timestamp,
    ) -> Result<Envelope, SignError> {
        self.check(issued_at.max(now()))?;
        match &*self.key {
            Key::Local(key) => Ok(Envelope::sign(envelope_type, payload, key, issued_at)?),
            Key::Remote(remote) => {
                let unsigned = Envelope::unsigned(envelope_type, payload, remote.did(), issued_at)?;
                Box::pin(remote.complete(unsigned)).await
            }
        }
    }

    /// Signs a checkpoint's note.
    ///
    /// # Errors
    /// [`SignError::Unavailable`], [`SignError::Wrong`], [`SignError::Replaced`].
    pub async fn checkpoint(&self, checkpoint: &Checkpoint) -> Result<String, SignError> {
        self.check(now())?;
        match &*self.key {
            Key::Local(key) => Ok(checkpoint.sign(key)),
            Key::Remote(remote) => {
                let unsigned = checkpoint.unsigned(&remote.did().key());
                Box::pin(remote.complete(unsigned)).await
            }
        }
    }

    /// Signs a token.
    ///
    /// # Errors
    /// See [`SignError`].
    pub async fn token(&self, claims: Claims) -> Result<String, SignError> {
        self.check(now())?;
        match &*self.key {
            Key::Local(key) => Ok(proof::token::sign(claims, key)?),
            Key::Remote(remote) => {
                let unsigned = proof::token::unsigned(claims, &remote.did().key())?;
                Box::pin(remote.complete(unsigned)).await
            }
        }
    }
}
