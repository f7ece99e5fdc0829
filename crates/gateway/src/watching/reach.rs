//! How far an apply reaches beyond its workspace: where it starts runs, and who reads its state.
//!
//! The approver is shown it, and what would apply there without anybody's leave is refused: an
//! agent that may change one workspace must not change another by way of a run trigger.

use policy::{ReasonCode, Refusal};
use proof::Json;

use super::read;
use crate::app::App;
use crate::live::LiveContract;
use crate::upstream::Duty;

/// Most workspaces behind one; more are too many to judge.
const MAX_DOWNSTREAM: usize = 50;

/// Most workspaces that are named as readers of the state; the rest is counted.
const MAX_READERS: usize = 100;

/// A workspace in which an apply starts a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Downstream {
    /// Its id.
    pub workspace_id: String,
    /// Its name, for now.
    pub name: String,
    /// Whether that run applies by itself; `None` when its settings cannot be read.
    pub auto_applies: Option<bool>,
    /// Whether the contract names it.
    pub in_contract: bool,
}

/// What an apply reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// Where it starts runs.
    pub downstream: Vec<Downstream>,
    /// The whole organization may read the state.
    pub read_by_organization: bool,
    /// The whole project may read the state.
    pub read_by_project: bool,
    /// Workspaces that may read the state; `None` when the list cannot be read.
    pub readers: Option<Vec<String>>,
    /// Runs of the workspace that do not come through the gateway apply by themselves.
    pub auto_apply: bool,
}

/// Reads what an apply in a workspace reaches.
///
/// # Errors
/// `DOWNSTREAM_UNKNOWN` when that cannot be seen, or an `UPSTREAM_…` code.
pub async fn of_workspace(
    app: &App,
    contract: &LiveContract,
    workspace_id: &str,
) -> Result<Reach, Refusal> {
    let path = format!("/api/v2/workspaces/{workspace_id}");
    let target = format!(
        "{path}/run-triggers?filter%5Brun-trigger%5D%5Btype%5D=outbound&page%5Bsize%5D=100"
    );
    let unknown = |what: &'static str| Refusal::new(ReasonCode::DownstreamUnknown, what);
    let triggers = read(app, Duty::Reader, &target).await?;
    let triggers = triggers.ok_or_else(|| unknown("its run triggers cannot be read"))?;
    let triggers = triggers
        .get("data")
        .and_then(Json::as_array)
        .ok_or(ReasonCode::UpstreamGarbage)?;
    if triggers.len() > MAX_DOWNSTREAM {
        return Err(unknown("it has more run triggers than can be judged"));
    }
    let mut downstream = Vec::new();
    for trigger in triggers {
        let id = trigger.at(&["relationships", "workspace", "data", "id"]);
        let id = id.and_then(Json::as_str);
        let id = id.ok_or(ReasonCode::UpstreamGarbage)?;
        downstream.push(behind(app, contract, trigger, id).await?);
    }
    downstream.sort_by(|a, b| a.workspace_id.cmp(&b.workspace_id));
    let workspace = read(app, Duty::Reader, &path).await?;
    let workspace = workspace.ok_or(ReasonCode::UpstreamNotFound)?;
    let is_on = |name: &str| {
        let value = workspace.at(&["data", "attributes", name]);
        value.and_then(Json::as_bool) == Some(true)
    };
    let target = format!("{path}/relationships/remote-state-consumers?page%5Bsize%5D=100");
    let readers = read(app, Duty::Reader, &target).await?;
    Ok(Reach {
        downstream,
        read_by_organization: is_on("global-remote-state"),
        read_by_project: is_on("project-remote-state"),
        readers: readers.as_ref().map(ids),
        auto_apply: is_on("auto-apply"),
    })
}

async fn behind(
    app: &App,
    contract: &LiveContract,
    trigger: &Json,
    id: &str,
) -> Result<Downstream, Refusal> {
    let checked: policy::terraform::ids::WorkspaceId =
        id.parse().map_err(|_| ReasonCode::UpstreamGarbage)?;
    let settings = read(app, Duty::Reader, &format!("/api/v2/workspaces/{checked}")).await?;
    let auto_applies = settings.as_ref().map(|settings| {
        let flag = |name: &str| {
            let value = settings.at(&["data", "attributes", name]);
            value.and_then(Json::as_bool)
        };
        // Upstreams without a setting for triggered runs go by the one for all.
        flag("auto-apply-run-trigger")
            .or_else(|| flag("auto-apply"))
            .unwrap_or(true)
    });
    let name = trigger
        .at(&["attributes", "workspace-name"])
        .and_then(Json::as_str);
    Ok(Downstream {
        workspace_id: id.to_owned(),
        name: name.unwrap_or_default().chars().take(90).collect(),
        auto_applies,
        in_contract: contract.compiled.has_workspace(id),
    })
}

fn ids(list: &Json) -> Vec<String> {
    let data = list
        .get("data")
        .and_then(Json::as_array)
        .unwrap_or_default();
    let ids = data.iter().filter_map(|entry| entry.get("id"));
    let ids = ids.filter_map(Json::as_str).take(MAX_READERS);
    let mut ids: Vec<String> = ids.map(str::to_owned).collect();
    ids.sort_unstable();
    ids
}

impl Reach {
    /// Why nothing may be applied that reaches so far. A workspace under the same contract may
    /// apply by itself: its author knows it, and the approver is told.
    pub fn refusals(&self) -> Vec<Refusal> {
        let outside = self.downstream.iter().filter(|other| !other.in_contract);
        outside
            .filter_map(|other| {
                let Downstream {
                    workspace_id, name, ..
                } = other;
                match other.auto_applies {
                    Some(false) => None,
                    Some(true) => Some(Refusal::new(
                        ReasonCode::DownstreamAutoApplies,
                        format!(
                            "an apply here starts a run in {workspace_id} ({name}), which the \
                             contract does not name and which applies by itself"
                        ),
                    )),
                    None => Some(Refusal::new(
                        ReasonCode::DownstreamUnknown,
                        format!(
                            "an apply here starts a run in {workspace_id} ({name}), whose \
                             settings the reader's credential cannot see"
                        ),
                    )),
                }
            })
            .collect()
    }

    /// As the approver's summary has it, and as it is compared before the apply.
    pub fn to_json(&self) -> Json {
        let downstream = self.downstream.iter().map(|other| {
            let mut json = Json::object();
            json.set("workspace_id", other.workspace_id.as_str());
            json.set("name", other.name.as_str());
            json.set(
                "auto_applies",
                other.auto_applies.map_or(Json::Null, Json::from),
            );
            json.set("in_contract", other.in_contract);
            json
        });
        let mut state = Json::object();
        state.set("organization", self.read_by_organization);
        state.set("project", self.read_by_project);
        let readers = self.readers.as_ref().map(|readers| {
            let readers = readers.iter().map(|id| Json::from(id.as_str()));
            Json::Array(readers.collect())
        });
        state.set("workspaces", readers.unwrap_or(Json::Null));
        let mut json = Json::object();
        json.set("downstream", Json::Array(downstream.collect()));
        json.set("state_read_by", state);
        json.set("auto_apply", self.auto_apply);
        json
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(auto_applies: Option<bool>, in_contract: bool) -> Reach {
        Reach {
            downstream: vec![Downstream {
                workspace_id: "ws-2".into(),
                name: "network".into(),
                auto_applies,
                in_contract,
            }],
            read_by_organization: false,
            read_by_project: false,
            readers: Some(Vec::new()),
            auto_apply: false,
        }
    }

    #[test]
    fn what_applies_by_itself_outside_the_contract_is_refused() {
        use ReasonCode::{DownstreamAutoApplies, DownstreamUnknown};
        for (auto_applies, in_contract, code) in [
            (Some(false), false, None),
            (Some(false), true, None),
            (Some(true), true, None),
            (None, true, None),
            (Some(true), false, Some(DownstreamAutoApplies)),
            (None, false, Some(DownstreamUnknown)),
        ] {
            let refusals = reach(auto_applies, in_contract).refusals();
            let codes: Vec<_> = refusals.iter().map(|refusal| refusal.code).collect();
            assert_eq!(
                codes,
                Vec::from_iter(code),
                "{auto_applies:?} {in_contract}"
            );
        }
    }
}
