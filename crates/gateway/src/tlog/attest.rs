//! A checkpoint with what others say of it.

use policy::contract::Audit;
use proof::Timestamp;
use proof::timestamp::Token;

use super::witnesses;
use crate::bundles::{BundleError, Sealing, SignedCheckpoint};

/// A checkpoint, cosigned and stamped as far as that could be had in time.
#[derive(Debug, Clone)]
pub struct Attested {
    /// The checkpoint.
    pub checkpoint: SignedCheckpoint,
    /// A timestamp of it.
    pub timestamp: Option<Token>,
}

impl Attested {
    /// Signs a checkpoint over the log as it is, and asks the witnesses and the authority.
    ///
    /// # Errors
    /// When the store does not answer, or the checkpoint cannot be signed.
    pub async fn now(parts: Sealing<'_>, audit: &Audit) -> Result<Self, BundleError> {
        let checkpoint = witnesses::cosigned(parts, audit.witnesses.as_ref()).await?;
        let timestamp = match parts.stamper {
            Some(stamper) => stamper.stamp(&checkpoint.note).await,
            None => None,
        };
        Ok(Self {
            checkpoint,
            timestamp,
        })
    }

    /// Without a timestamp that verifiers would not take for the end of a job.
    pub fn of_end(
        mut self,
        parts: Sealing<'_>,
        closed_at: Timestamp,
        sealed_at: Option<Timestamp>,
    ) -> Self {
        let note = &self.checkpoint.note;
        let fits = |token: &Token| {
            let stamper = parts.stamper;
            stamper.is_some_and(|stamper| stamper.fits(token, note, closed_at, sealed_at))
        };
        self.timestamp = self.timestamp.filter(fits);
        self
    }

    /// What a contract asks for and is not there yet, for people.
    pub fn lacks(&self, parts: Sealing<'_>, audit: &Audit) -> Option<String> {
        let seen_by = self.seen_by(parts);
        if audit.is_satisfied(seen_by.iter().copied(), self.timestamp.is_some()) {
            return None;
        }
        let mut lacks = Vec::new();
        if let Some(asked) = &audit.witnesses {
            let counted = seen_by.iter().filter(|name| asked.counts(name)).count();
            let required = asked.required;
            if counted < required as usize {
                lacks.push(format!("{counted} of {required} witnesses have answered"));
            }
        }
        if audit.timestamps && self.timestamp.is_none() {
            let why = "the timestamping authority has not answered, or not as of the job's end";
            lacks.push(why.to_owned());
        }
        Some(lacks.join("; "))
    }

    /// Whether everybody who is asked has spoken.
    pub fn is_complete(&self, parts: Sealing<'_>) -> bool {
        let all = parts.config.log.witnesses.len();
        self.seen_by(parts).len() == all && (self.timestamp.is_some() || parts.stamper.is_none())
    }

    fn seen_by<'a>(&self, parts: Sealing<'a>) -> Vec<&'a str> {
        witnesses::seen_by(parts.config, &[&self.checkpoint.note])
    }
}
