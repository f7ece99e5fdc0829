//! Signing with a key of the gateway's, wherever it is.

use policy::{ReasonCode, Refusal};
use proof::checkpoint::Checkpoint;
use proof::token::{Claims, TokenError};
use proof::{
    Did, Envelope, EnvelopeError, EnvelopeType, PublicKey, SigningKey, Timestamp, Unsigned,
};
use serde::Serialize;

use super::remote::Remote;

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
        }
    }
}

/// A key of the gateway's.
///
/// One that is in memory signs where it is called, without waiting for anything.
#[derive(Debug)]
pub enum Signer {
    /// In memory.
    Local(SigningKey),
    /// In a module or a service, which signs and does not give it out.
    Remote(Remote),
}

impl From<SigningKey> for Signer {
    fn from(key: SigningKey) -> Self {
        Self::Local(key)
    }
}

impl Signer {
    /// The name of the public half.
    pub fn did(&self) -> Did {
        match self {
            Self::Local(key) => key.did(),
            Self::Remote(remote) => remote.did().clone(),
        }
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        match self {
            Self::Local(key) => key.public(),
            Self::Remote(remote) => remote.did().key(),
        }
    }

    /// The key, when it is in memory.
    pub const fn local(&self) -> Option<&SigningKey> {
        match self {
            Self::Local(key) => Some(key),
            Self::Remote(_) => None,
        }
    }

    /// Whether it signs, as far as that is known without asking. One that failed the last time is
    /// asked for a signature over nothing of meaning, by one caller at a time; the others are told
    /// that it fails.
    ///
    /// # Errors
    /// [`SignError::Unavailable`], [`SignError::Wrong`].
    pub async fn ready(&self) -> Result<(), SignError> {
        match self {
            Self::Local(_) => Ok(()),
            Self::Remote(remote) => Box::pin(remote.ready()).await,
        }
    }

    /// Has it sign something of no meaning.
    ///
    /// # Errors
    /// Those of [`Self::ready`].
    pub async fn probe(&self) -> Result<(), SignError> {
        match self {
            Self::Local(_) => Ok(()),
            Self::Remote(remote) => remote.probe().await,
        }
    }

    /// Signs what is ready but for its signature.
    ///
    /// # Errors
    /// [`SignError::Unavailable`], [`SignError::Wrong`].
    pub async fn sign<T>(&self, unsigned: Unsigned<T>) -> Result<T, SignError> {
        match self {
            Self::Local(key) => {
                let signature = key.sign(unsigned.message());
                unsigned.attach(signature).map_err(|_| SignError::Wrong {
                    signer: "the key in memory".to_owned(),
                    did: key.did(),
                })
            }
            Self::Remote(remote) => Box::pin(remote.complete(unsigned)).await,
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
        match self {
            Self::Local(key) => Ok(Envelope::sign(envelope_type, payload, key, issued_at)?),
            Self::Remote(remote) => {
                let unsigned = Envelope::unsigned(envelope_type, payload, remote.did(), issued_at)?;
                Box::pin(remote.complete(unsigned)).await
            }
        }
    }

    /// Signs a checkpoint's note.
    ///
    /// # Errors
    /// [`SignError::Unavailable`], [`SignError::Wrong`].
    pub async fn checkpoint(&self, checkpoint: &Checkpoint) -> Result<String, SignError> {
        match self {
            Self::Local(key) => Ok(checkpoint.sign(key)),
            Self::Remote(remote) => {
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
        match self {
            Self::Local(key) => Ok(proof::token::sign(claims, key)?),
            Self::Remote(remote) => {
                let unsigned = proof::token::unsigned(claims, &remote.did().key())?;
                Box::pin(remote.complete(unsigned)).await
            }
        }
    }
}
