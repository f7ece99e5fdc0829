//! How far an apply reaches beyond its workspace: where it starts runs, and who reads its state.
//!
//! The approver is shown it, and what would apply there without anybody's leave is refused: an
//! agent that may change one workspace must not change another by way of a run trigger.

use std::collections::{BTreeMap, VecDeque};

use policy::{ReasonCode, Refusal};
use proof::Json;

use super::{read, settings};
use crate::app::App;
use crate::live::LiveContract;
use crate::upstream::Duty;

/// Most workspaces behind one, however many steps away; more are too many to judge.
const MAX_DOWNSTREAM: usize = 50;

/// A workspace in which an apply starts a run, at once or by way of others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Downstream {
    /// Its id.
    pub workspace_id: String,
    /// Its name, for now.
    pub name: String,
    /// The workspace whose apply starts the run, where that is not the one that was asked about.
    pub by_way_of: Option<String>,
    /// Whether that run applies by itself; `None` when its settings cannot be read.
    pub auto_applies: Option<bool>,
    /// Whether the contract names it.
    pub in_contract: bool,
}

/// What an apply reaches.
#[derive(Debug, Clone, PartialEq)]
pub struct Reach {
    /// Where it starts runs, by their ids.
    pub downstream: Vec<Downstream>,
    /// The whole organization may read the state.
    pub read_by_organization: bool,
    /// The whole project may read the state.
    pub read_by_project: bool,
    /// Ids of workspaces that may read the state, and how many more; null when the list cannot be
    /// read.
    pub readers: Json,
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
    let downstream = downstream(app, contract, workspace_id).await?;
    let path = format!("/api/v2/workspaces/{workspace_id}");
    let workspace = read(app, Duty::Reader, &path).await?;
    let workspace = workspace.ok_or(ReasonCode::UpstreamNotFound)?;
    let is_on = |name: &str| {
        let value = workspace.at(&["data", "attributes", name]);
        value.and_then(Json::as_bool) == Some(true)
    };
    let readers = settings::consumers(app, &path).await?;
    Ok(Reach {
        downstream,
        read_by_organization: is_on("global-remote-state"),
        read_by_project: is_on("project-remote-state"),
        readers: readers.unwrap_or(Json::Null),
        auto_apply: is_on("auto-apply"),
    })
}

/// Follows run triggers from a workspace through all that apply by themselves. What is outside the
/// contract is not gone through: where it applies by itself, it is refused as it is.
async fn downstream(
    app: &App,
    contract: &LiveContract,
    start: &str,
) -> Result<Vec<Downstream>, Refusal> {
    let mut found: BTreeMap<String, Downstream> = BTreeMap::new();
    // Nearest first and in the order of their ids, so that the same triggers give the same words.
    let mut waiting = VecDeque::from([start.to_owned()]);
    while let Some(source) = waiting.pop_front() {
        for (id, trigger) in triggers(app, &source).await? {
            if id == start || found.contains_key(&id) {
                continue;
            }
            if found.len() >= MAX_DOWNSTREAM {
                let detail = format!("an apply leads to more than {MAX_DOWNSTREAM} workspaces");
                return Err(Refusal::new(ReasonCode::DownstreamUnknown, detail));
            }
            let mut other = behind(app, contract, &trigger, &id).await?;
            other.by_way_of = (source != start).then(|| source.clone());
            if other.in_contract && other.auto_applies != Some(false) {
                waiting.push_back(id.clone());
            }
            found.insert(id, other);
        }
    }
    Ok(found.into_values().collect())
}

/// The run triggers of a workspace, by the ids of the workspaces in which they start runs.
async fn triggers(app: &App, source: &str) -> Result<BTreeMap<String, Json>, Refusal> {
    let target = format!(
        "/api/v2/workspaces/{source}/run-triggers\
         ?filter%5Brun-trigger%5D%5Btype%5D=outbound&page%5Bsize%5D=100"
    );
    let unknown = |what: &str| {
        let detail = format!("the run triggers of {source} {what}");
        Refusal::new(ReasonCode::DownstreamUnknown, detail)
    };
    let list = read(app, Duty::Reader, &target).await?;
    let list = list.ok_or_else(|| unknown("cannot be read"))?;
    let data = list.get("data").and_then(Json::as_array);
    let data = data.ok_or(ReasonCode::UpstreamGarbage)?;
    // Fewer than a page holds, so that none is missed.
    if data.len() > MAX_DOWNSTREAM {
        return Err(unknown("are more than can be judged"));
    }
    let id = |trigger: &Json| {
        let id = trigger.at(&["relationships", "workspace", "data", "id"]);
        id.and_then(Json::as_str).map(str::to_owned)
    };
    data.iter()
        .map(|trigger| {
            let id = id(trigger).ok_or(ReasonCode::UpstreamGarbage)?;
            Ok((id, trigger.clone()))
        })
        .collect()
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
        by_way_of: None,
        auto_applies,
        in_contract: contract.compiled.has_workspace(id),
    })
}

impl Reach {
    /// Why nothing may be applied that reaches so far. A workspace under the same contract may
    /// apply by itself: its author knows it, and the approver is told.
    pub fn refusals(&self) -> Vec<Refusal> {
        let outside = self.downstream.iter().filter(|other| !other.in_contract);
        outside
            .filter_map(|other| {
                let by_way_of = other.by_way_of.as_ref();
                let way = by_way_of.map_or_else(String::new, |id| format!(" by way of {id}"));
                let Downstream {
                    workspace_id, name, ..
                } = other;
                let there = format!("an apply here starts a run in {workspace_id} ({name}){way}");
                match other.auto_applies {
                    Some(false) => None,
                    Some(true) => Some(Refusal::new(
                        ReasonCode::DownstreamAutoApplies,
                        format!(
                            "{there}, which the contract does not name and which applies by itself"
                        ),
                    )),
                    None => Some(Refusal::new(
                        ReasonCode::DownstreamUnknown,
                        format!("{there}, whose settings the reader's credential cannot see"),
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
            if let Some(by_way_of) = &other.by_way_of {
                json.set("by_way_of", by_way_of.as_str());
            }
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
        state.set("workspaces", self.readers.clone());
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
                by_way_of: None,
                auto_applies,
                in_contract,
            }],
            read_by_organization: false,
            read_by_project: false,
            readers: Json::Array(Vec::new()),
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
