//! Runs a list of test files and says where this profile and the reference verifier differ.
//!
//! The list is the one that the family's data comes with: for each file its kind, the verdict
//! and reason code that the reference gave, and what it gave them with.

use std::collections::BTreeMap;

use proof::json::{self, Numbers};
use proof::{Did, Json, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Options, ProofTier, Report, TrustTier, Verdict, verify};
use crate::report::shown;

/// Largest list that is read, in bytes.
pub const MAX_MANIFEST_BYTES: usize = 4 * 1024 * 1024;

/// Most files of a list.
pub const MAX_VECTORS: usize = 10_000;

/// The kinds of file that this profile judges.
const JUDGED: [&str; 3] = ["proof_bundle", "export_bundle", "log_inclusion_proof"];

/// Why a list could not be run.
#[derive(Debug, thiserror::Error)]
pub enum ConformanceError {
    /// Not a list of test files.
    #[error("not a list of test files: {0}")]
    Malformed(#[source] json::JsonError),
    /// More than [`MAX_VECTORS`].
    #[error("more than {MAX_VECTORS} test files")]
    TooMany,
    /// A path that leads out of the list's folder.
    #[error("`{0}` leads out of the list's folder")]
    Outside(String),
    /// A file that could not be read.
    #[error("{0}")]
    Unreadable(String),
    /// An allow-list that is none.
    #[error("`{path}`: {source}")]
    Config {
        /// The file's path.
        path: String,
        /// What is wrong with it.
        source: crate::trust::TrustError,
    },
}

/// One file of the list. What else the list says about it is for people.
#[derive(Debug, Deserialize)]
struct Vector {
    path: String,
    kind: String,
    expected: Expected,
    reason_code: String,
    trust_tier: Option<TrustTier>,
    proof_tier: Option<ProofTier>,
    config: Option<String>,
    urm: Option<String>,
    verify_at: Option<Timestamp>,
}

/// What the reference said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expected {
    /// It passed.
    Pass,
    /// It did not.
    Fail,
}

/// A file about which the two differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disagreement {
    /// The file's path in the list.
    pub path: String,
    /// The reference's verdict.
    pub expected: Expected,
    /// The reference's reason code.
    pub expected_code: String,
    /// What this profile says.
    pub found: Report,
}

/// How a run went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// So many files got the reference's verdict, reason code and tiers.
    pub agree: usize,
    /// Those that did not.
    pub disagree: Vec<Disagreement>,
    /// So many were not judged, by kind.
    pub unsupported: BTreeMap<String, usize>,
}

/// Runs the list. `read` gives the content of a file by its path in the list's folder; `default`
/// is what files are judged with that name no configuration of their own.
///
/// # Errors
/// [`ConformanceError`] when the list or one of the files that it names cannot be read. What is in
/// a test file never is an error.
pub fn run(
    manifest: &[u8],
    default: &Options,
    read: impl Fn(&str) -> Result<Vec<u8>, String>,
) -> Result<Summary, ConformanceError> {
    let read = |path: &str| {
        let inside = !path.is_empty()
            && !path.contains(['\\', '\0'])
            && path.split('/').all(|part| !["", ".", ".."].contains(&part));
        if !inside {
            return Err(ConformanceError::Outside(shown(path)));
        }
        read(path).map_err(ConformanceError::Unreadable)
    };
    let vectors: Vec<Vector> = json::from_slice(manifest).map_err(ConformanceError::Malformed)?;
    if vectors.len() > MAX_VECTORS {
        return Err(ConformanceError::TooMany);
    }
    let mut summary = Summary::default();
    for vector in vectors {
        if !JUDGED.contains(&vector.kind.as_str()) {
            *summary.unsupported.entry(vector.kind).or_default() += 1;
            continue;
        }
        let mut options = match &vector.config {
            Some(path) => {
                let bytes = read(path)?;
                Options::from_trust(&bytes).map_err(|source| ConformanceError::Config {
                    path: shown(path),
                    source,
                })?
            }
            None => default.clone(),
        };
        options.at = vector.verify_at.or(options.at);
        if let Some(path) = &vector.urm {
            options.urm = Some(read(path)?);
        }
        let file = read(&vector.path)?;
        own_options(&file, &mut options);
        let found = verify(&file, &options);
        if found.verdict == Verdict::Unsupported {
            *summary.unsupported.entry(vector.kind).or_default() += 1;
        } else if vector.agrees(&found) {
            summary.agree += 1;
        } else {
            summary.disagree.push(Disagreement {
                path: vector.path,
                expected: vector.expected,
                expected_code: vector.reason_code,
                found,
            });
        }
    }
    Ok(summary)
}

impl Vector {
    fn agrees(&self, found: &Report) -> bool {
        let verdict = match self.expected {
            Expected::Pass => Verdict::Pass,
            Expected::Fail => Verdict::Fail,
        };
        // The reference names tiers for files that fail late, too; here only a pass has them.
        let tier = |same: bool, named: bool| verdict == Verdict::Fail || !named || same;
        let kind = serde_json::to_value(found.kind);
        found.verdict == verdict
            && found.reason_code == self.reason_code
            && kind.is_ok_and(|kind| kind == self.kind.as_str())
            && tier(
                found.trust_tier == self.trust_tier,
                self.trust_tier.is_some(),
            )
            && tier(
                found.proof_tier == self.proof_tier,
                self.proof_tier.is_some(),
            )
    }
}

/// Some test files hold the options that they were judged with.
fn own_options(file: &[u8], options: &mut Options) {
    let Ok(json) = json::parse(file, Numbers::Any) else {
        return;
    };
    let (Some(own), true) = (json.get("options"), json.get("envelope").is_some()) else {
        return;
    };
    let text = |name: &str| own.get(name).and_then(Json::as_str).map(str::to_owned);
    if let Some(signers) = own.get("allowlistedReceiptSignerDids") {
        let signers = signers.as_array().unwrap_or_default().iter();
        let signers = signers.filter_map(|did| did.as_str()?.parse::<Did>().ok());
        options.receipt_signers = signers.collect();
        options.root = None;
    }
    options.policy_profile = text("causal_policy_profile").or(options.policy_profile.take());
    options.connectivity = text("causal_connectivity_mode").or(options.connectivity.take());
    options.coverage = text("coverage_enforcement_phase").or(options.coverage.take());
}
