//! What plans and applies: a real engine from the PATH, or a recording of one.

mod folder;
mod log;
mod process;
mod recording;
mod redaction;

use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use serde_json::Value;

use crate::ids;
pub(crate) use folder::PrivateFolder;
pub(crate) use log::Log;
pub(crate) use recording::seeded_state;

/// Which engine plans and applies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Engine {
    /// A real binary, run in a private folder.
    Real {
        /// Where the binary is.
        binary: PathBuf,
        /// `terraform` or `tofu`.
        name: &'static str,
        /// Version without a leading `v`.
        version: String,
    },
    /// Plans recorded from a real engine; they fit the example configuration only.
    Recorded,
}

/// Where a real engine may take providers from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Providers {
    /// Only the provider that is built into the engine: nothing is downloaded.
    #[default]
    BuiltIn,
    /// A folder in the layout of `terraform providers mirror`.
    Mirror(PathBuf),
    /// The public registry.
    Registry,
}

/// Everything that a plan needs.
#[derive(Debug, Clone, Default)]
pub(crate) struct PlanOrder {
    /// The uploaded archive, a gzipped tar.
    pub(crate) configuration: Bytes,
    /// State before the plan.
    pub(crate) state: Option<Bytes>,
    /// Log lines as JSON, as the vendor does with structured run output.
    pub(crate) structured: bool,
    /// Folder within the configuration to work in.
    pub(crate) working_directory: Option<String>,
    pub(crate) destroy: bool,
    pub(crate) refresh: bool,
    pub(crate) refresh_only: bool,
    pub(crate) targets: Vec<String>,
    pub(crate) replacements: Vec<String>,
    /// Variables of the workspace as a tfvars.json object.
    pub(crate) variables: serde_json::Map<String, Value>,
    /// Variables whose values are expressions: of the workspace first, then of the run.
    pub(crate) expressions: Vec<(String, String)>,
    /// Environment variables of the workspace.
    pub(crate) environment: Vec<(String, String)>,
    /// Secret that stands in a recording for the one of this workspace.
    pub(crate) secret: Option<String>,
}

/// A plan that succeeded.
#[derive(Debug)]
pub(crate) struct Planned {
    /// The full plan as JSON, with secrets.
    pub(crate) json: Bytes,
    /// What the structured renderer needs, without secrets.
    pub(crate) redacted: Bytes,
    pub(crate) has_changes: bool,
    pub(crate) counts: Counts,
    /// What the apply goes on with.
    pub(crate) saved: SavedPlan,
}

/// How many resources a plan touches, as the vendor counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) additions: u64,
    pub(crate) changes: u64,
    pub(crate) destructions: u64,
    pub(crate) imports: u64,
}

/// A plan that can be applied.
#[derive(Debug)]
pub(crate) enum SavedPlan {
    Real {
        folder: PrivateFolder,
        environment: Vec<(String, String)>,
    },
    Recorded(recording::Play),
}

/// How an apply ended.
#[derive(Debug)]
pub(crate) struct Applied {
    pub(crate) succeeded: bool,
    /// State after the apply, also after a failed one.
    pub(crate) state: Option<Bytes>,
}

/// Why the engine could not do its work. The user reads it in the run's log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    #[error("the engine reported an error")]
    Failed,
    #[error("cannot prepare the folder")]
    Folder(#[source] std::io::Error),
    #[error("cannot unpack the configuration: {0}")]
    Unpack(#[source] std::io::Error),
    #[error("cannot run the engine")]
    Start(#[source] std::io::Error),
    #[error("the engine took longer than {0} seconds")]
    TookTooLong(u64),
    #[error("the engine wrote more than {0} bytes")]
    WroteTooMuch(usize),
    #[error("cannot read the engine's output")]
    Unreadable(#[source] serde_json::Error),
    #[error("{0}")]
    NotRecorded(&'static str),
}

impl Engine {
    /// Looks for `terraform`, then for `tofu` on the PATH; without either takes the recording.
    pub fn detect() -> Self {
        ["terraform", "tofu"]
            .into_iter()
            .find_map(Self::on_path)
            .unwrap_or(Self::Recorded)
    }

    fn on_path(name: &'static str) -> Option<Self> {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).find_map(|folder| Self::at(folder.join(name), name))
    }

    fn at(binary: PathBuf, name: &'static str) -> Option<Self> {
        if !binary.is_file() {
            return None;
        }
        let output = Command::new(&binary)
            .args(["version", "-json"])
            .env("CHECKPOINT_DISABLE", "1")
            .env("TF_CLI_CONFIG_FILE", null_device())
            .output()
            .ok()?;
        let answer: Value = serde_json::from_slice(&output.stdout).ok()?;
        let version = answer.get("terraform_version")?.as_str()?.to_owned();
        Some(Self::Real {
            binary,
            name,
            version,
        })
    }

    /// Says in a few words which engine this is.
    pub fn describe(&self) -> String {
        match self {
            Self::Real { name, version, .. } => format!("{name} {version}"),
            Self::Recorded => {
                format!(
                    "plans recorded from terraform {}",
                    recording::TERRAFORM_VERSION
                )
            }
        }
    }

    /// The version that the vendor would show for a workspace.
    pub(crate) fn version(&self) -> &str {
        match self {
            Self::Real { version, .. } => version,
            Self::Recorded => recording::TERRAFORM_VERSION,
        }
    }

    /// Plans; the log grows while it does and says what went wrong if something does.
    pub(crate) async fn plan(
        &self,
        order: PlanOrder,
        providers: &Providers,
        log: &Log,
    ) -> Result<Planned, EngineError> {
        let planned = match self {
            Self::Real {
                binary,
                name,
                version,
            } => {
                log.push(opening(name, version).as_bytes());
                process::plan(binary, order, providers, log).await
            }
            Self::Recorded => recording::plan(&order, log),
        };
        planned.inspect_err(|error| explain(error, log))
    }

    /// Applies a plan; the log grows while it does.
    pub(crate) async fn apply(
        &self,
        saved: &SavedPlan,
        structured: bool,
        log: &Log,
    ) -> Result<Applied, EngineError> {
        let applied = match (self, saved) {
            (
                Self::Real {
                    binary,
                    name,
                    version,
                },
                SavedPlan::Real {
                    folder,
                    environment,
                },
            ) => {
                log.push(opening(name, version).as_bytes());
                process::apply(binary, folder, environment, structured, log).await
            }
            (_, SavedPlan::Recorded(play)) => Ok(play.apply(structured, log)),
            (Self::Recorded, SavedPlan::Real { .. }) => Err(EngineError::NotRecorded(
                "the plan was not made by this engine",
            )),
        };
        applied.inspect_err(|error| explain(error, log))
    }
}

/// The path that reads as an empty file.
pub(crate) fn null_device() -> &'static Path {
    Path::new(if cfg!(windows) { "NUL" } else { "/dev/null" })
}

/// The lines with which the vendor's logs begin.
fn opening(name: &str, version: &str) -> String {
    let title = if name == "tofu" {
        "OpenTofu"
    } else {
        "Terraform"
    };
    let system = if cfg!(target_os = "macos") {
        "darwin"
    } else {
        std::env::consts::OS
    };
    let processor = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("{title} v{version}\non {system}_{processor}\nInitializing plugins and modules...\n")
}

fn explain(error: &EngineError, log: &Log) {
    use std::error::Error as _;
    if matches!(error, EngineError::Failed) {
        // The engine has said it itself.
        return;
    }
    let cause = error
        .source()
        .map(|cause| format!(": {cause}"))
        .unwrap_or_default();
    log.push(format!("\nError: {error}{cause}\n").as_bytes());
}

/// Counts what a plan changes.
pub(crate) fn count(plan: &Value) -> Counts {
    let mut counts = Counts::default();
    for change in plan["resource_changes"].as_array().into_iter().flatten() {
        let actions: Vec<&str> = change["change"]["actions"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        counts.additions += u64::from(actions.contains(&"create"));
        counts.changes += u64::from(actions.contains(&"update"));
        counts.destructions += u64::from(actions.contains(&"delete"));
        counts.imports += u64::from(change["change"]["importing"].is_object());
    }
    counts
}

/// Makes a lineage for a new state.
pub(crate) fn lineage() -> String {
    let hex: String = ids::bytes::<16>()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ]
    .join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replacement_counts_on_both_sides() {
        let plan = serde_json::json!({"resource_changes": [
            {"change": {"actions": ["no-op"]}},
            {"change": {"actions": ["delete", "create"]}},
            {"change": {"actions": ["update"], "importing": {"id": "x"}}},
        ]});
        let expected = Counts {
            additions: 1,
            changes: 1,
            destructions: 1,
            imports: 1,
        };
        assert_eq!(count(&plan), expected);
    }
}
