//! Sealed bundles in the formats of others, signed by the gateway's close key.
//!
//! What is signed here says that the bundle was verified, so it is, each time and whole: against
//! the trust root that auditors get, by the code that they run.

use clap::ValueEnum;
use clawverify::{Check, Options, Status, Verdict};
use proof::bundle::Bundle;
use proof::export::{ExportError as Unexportable, Exporter, Verification};
use proof::trust::TrustRoot;
use proof::{Hash, Json, Timestamp};

use super::log_origin;
use crate::config::Config;
use crate::keys::{SignError, Signer};

/// A format of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// An export bundle of the clawsig family
    Clawsig,
    /// An in-toto attestation in a DSSE envelope
    InToto,
}

/// What is exported.
#[derive(Debug)]
pub struct Export {
    /// In which format.
    pub format: Format,
    /// Which part of a job with more than 1000 events, counted from 1; a clawsig export holds one.
    pub part: Option<usize>,
    /// Now.
    pub at: Timestamp,
}

/// Why a bundle is not exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// It does not verify.
    #[error("the bundle is not valid: {0}")]
    Invalid(String),
    /// The trust root is another gateway's.
    #[error("the trust root is not this gateway's: it names the log `{0}`")]
    Foreign(String),
    /// A job of several parts, and none was named; or there is no such part.
    #[error("{0}")]
    Part(String),
    /// It cannot be written in that format.
    #[error(transparent)]
    Unexportable(Unexportable),
    /// The close key does not sign.
    #[error(transparent)]
    Sign(#[from] SignError),
}

impl Export {
    /// Verifies the bundle, and signs it in another format with the gateway's close key.
    ///
    /// # Errors
    /// See [`ExportError`].
    ///
    /// # Panics
    /// When verifying does, which it does for no file.
    pub async fn of(
        self,
        file: Vec<u8>,
        trust: TrustRoot,
        config: &Config,
        close: &Signer,
    ) -> Result<Json, ExportError> {
        let key = close.did();
        if trust.log.origin != log_origin(config) {
            return Err(ExportError::Foreign(trust.log.origin));
        }
        // Megabytes are hashed and parsed: not on a thread that serves calls.
        let read = tokio::task::spawn_blocking(move || read(&file, &trust));
        let (bundle, sha256, verification) = read.await.expect("verifying does not panic")?;
        let exporter = Exporter {
            key: &key,
            at: self.at,
            file: sha256,
        };
        let unsigned = match self.format {
            Format::Clawsig => bundle.to_clawsig(self.part_of(&bundle)?, &exporter),
            Format::InToto => match self.part {
                None => bundle.to_in_toto(&verification, &exporter),
                Some(_) => {
                    let detail = "an in-toto attestation has no parts";
                    return Err(ExportError::Part(detail.to_owned()));
                }
            },
        };
        Ok(close.sign(unsigned?).await?)
    }

    fn part_of(&self, bundle: &Bundle) -> Result<usize, ExportError> {
        match (self.part, bundle.parts()) {
            (Some(part), _) => Ok(part),
            (None, 1) => Ok(1),
            (None, parts) => Err(ExportError::Part(format!(
                "the job has {parts} parts, and a clawsig export holds one: name it, counted from 1"
            ))),
        }
    }
}

impl From<Unexportable> for ExportError {
    fn from(error: Unexportable) -> Self {
        match error {
            Unexportable::NoSuchPart { .. } => Self::Part(error.to_string()),
            other => Self::Unexportable(other),
        }
    }
}

/// The bundle, once it is verified, with its file's hash and what the verifier says.
fn read(file: &[u8], trust: &TrustRoot) -> Result<(Bundle, Hash, Verification), ExportError> {
    let root = Json::from_value(trust).expect("a trust root holds strings and integers");
    let report = clawverify::verify(file, &root.to_jcs(), &Options::default());
    let skipped = |check: &Check| check.status == Status::Skipped;
    let verdict = match report.verdict {
        Verdict::Valid => "valid",
        // Something could not be shown; but nothing was left unseen.
        Verdict::NotProven if !report.checks.iter().any(skipped) => "not-proven",
        Verdict::NotProven | Verdict::Invalid => {
            let open = || report.checks.iter().find(|c| c.status != Status::Pass);
            let failure = report.first_failure().or_else(open);
            let what = failure.map(|check| format!("{} at {}", check.code, check.place));
            return Err(ExportError::Invalid(what.unwrap_or_default()));
        }
    };
    let open = report.checks.iter();
    let open = open.filter(|check| check.status == Status::NotProven);
    let mut codes: Vec<String> = open.map(|check| check.code.to_string()).collect();
    codes.sort_unstable();
    codes.dedup();
    let verification = Verification {
        verifier: format!("clawverify {}", env!("CARGO_PKG_VERSION")),
        verdict: verdict.to_owned(),
        codes,
    };
    let bundle = proof::json::from_slice(file);
    let bundle = bundle.map_err(|error| ExportError::Unexportable(error.into()))?;
    Ok((bundle, Hash::of(file), verification))
}
