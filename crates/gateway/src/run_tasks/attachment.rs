//! The run task as it stands in Terraform Cloud: made in an organization, attached to workspaces.
//!
//! What is there is read first, and only what differs is changed, so that the same call twice
//! changes nothing the second time.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::Method;
use policy::terraform::ids::WorkspaceId;
use serde::Serialize;
use serde_json::{Value, json};
use store::TaskStage;

use crate::config::Config;
use crate::secret::Secret;
use crate::upstream::{Upstream, UpstreamError};

/// Most pages of a list that are read, of 100 entries each.
const MAX_PAGES: u32 = 10;

/// What goes wrong between us and Terraform Cloud.
#[derive(Debug, thiserror::Error)]
pub enum AttachmentError {
    /// No answer.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// The credential may not, or there is no such thing: the vendor does not tell which.
    #[error("{what} is not there for this credential")]
    NotThere {
        /// What was asked for.
        what: String,
    },
    /// The vendor's reason, in its words.
    #[error("Terraform Cloud refused to {what}: {why}")]
    Refused {
        /// What was asked for.
        what: String,
        /// The status, and the first error's detail.
        why: String,
    },
    /// An answer that is not understood.
    #[error("Terraform Cloud's answer to `{0}` is not understood")]
    Garbage(String),
}

/// What the run task is to be.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its name in each organization.
    pub name: String,
    /// Where Terraform Cloud calls.
    pub url: String,
}

impl Wanted {
    /// The run task of a gateway; `None` when nobody can tell how Terraform Cloud reaches it.
    pub fn of(config: &Config) -> Option<Self> {
        let listener = &config.operator_listener;
        let own = || {
            let scheme = match listener.tls {
                Some(_) => "https",
                None => "http",
            };
            (listener.address.port() != 0).then(|| format!("{scheme}://{}", listener.address))
        };
        let run_tasks = config.run_tasks.as_ref();
        let base = run_tasks
            .and_then(|settings| settings.public_url.clone())
            .or_else(|| listener.public_url.clone())
            .or_else(own)?;
        Some(Self::at(config, &base))
    }

    /// The same with the address under which Terraform Cloud reaches the operator listener.
    pub fn at(config: &Config, base: &str) -> Self {
        let plain = |c: char| {
            if c.is_ascii_alphanumeric() || c == '-' || c == '_' {
                c
            } else {
                '-'
            }
        };
        let name = config.gateway_id.chars().take(60).map(plain);
        Self {
            name: format!("clawgate-{}", name.collect::<String>()),
            url: format!("{}{}", base.trim_end_matches('/'), super::PATH),
        }
    }
}

/// A run task of an organization.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Task {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Where it calls.
    pub url: String,
    /// Whether it calls at all.
    pub enabled: bool,
}

/// A run task on a workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Attachment {
    /// Its id.
    pub id: String,
    /// The task.
    pub task_id: String,
    /// Whether a no ends the run.
    pub mandatory: bool,
    /// At which stages it is asked, by the vendor's names.
    pub stages: Vec<String>,
}

impl Attachment {
    /// Stages at which nothing is asked, or nothing follows from a no.
    pub fn gaps(&self) -> Vec<&'static str> {
        let asked = |stage: &TaskStage| {
            self.mandatory && self.stages.iter().any(|name| name == stage.as_str())
        };
        let stages = TaskStage::ALL.iter().filter(|stage| !asked(stage));
        stages.map(|stage| stage.as_str()).collect()
    }
}

/// How a workspace is asked about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// The workspace.
    pub workspace_id: WorkspaceId,
    /// Its name.
    pub workspace: String,
    /// Its organization.
    pub organization: String,
    /// Our run task there.
    pub task: Option<Task>,
    /// And on this workspace.
    pub attachment: Option<Attachment>,
}

/// One thing that was done, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What: `create-task`, `update-task`, `attach`, `update-attachment`, `detach`,
    /// `delete-task`, or `keep`.
    pub step: &'static str,
    /// The organization or the workspace.
    pub subject: String,
}

impl Step {
    fn new(step: &'static str, subject: impl Into<String>) -> Self {
        Self {
            step,
            subject: subject.into(),
        }
    }

    /// Whether it changes anything.
    pub fn changes(&self) -> bool {
        self.step != "keep"
    }
}

/// Whether steps are taken or only told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// They are taken.
    Act,
    /// They are told.
    DryRun,
}

/// Terraform Cloud, as somebody who may manage run tasks.
#[derive(Clone, Copy)]
pub struct Administrator<'a> {
    /// Where.
    pub upstream: &'a Upstream,
    /// As whom.
    pub credential: &'a Secret,
}

impl Administrator<'_> {
    /// How each workspace stands.
    ///
    /// # Errors
    /// See [`AttachmentError`].
    pub async fn look(
        &self,
        wanted: &Wanted,
        workspaces: &[WorkspaceId],
    ) -> Result<Vec<Standing>, AttachmentError> {
        let mut tasks: BTreeMap<String, Option<Task>> = BTreeMap::new();
        let mut standings = Vec::new();
        for id in workspaces {
            let (workspace, organization) = self.workspace(id).await?;
            let task = match tasks.get(&organization) {
                Some(known) => known.clone(),
                None => {
                    let task = self.task(wanted, &organization).await?;
                    tasks.insert(organization.clone(), task.clone());
                    task
                }
            };
            let attachment = match &task {
                None => None,
                Some(task) => {
                    let attached = self.attachments(id).await?;
                    attached.into_iter().find(|one| one.task_id == task.id)
                }
            };
            standings.push(Standing {
                workspace_id: id.clone(),
                workspace,
                organization,
                task,
                attachment,
            });
        }
        Ok(standings)
    }

    /// Makes the run task where it is missing, and has every workspace ask it, mandatory, at every
    /// stage. `renew_key` gives the key to tasks that are there already: it cannot be read back.
    ///
    /// # Errors
    /// See [`AttachmentError`]; steps before the failing one are taken.
    pub async fn install(
        &self,
        wanted: &Wanted,
        key: &Secret,
        workspaces: &[WorkspaceId],
        renew_key: bool,
        mode: Mode,
    ) -> Result<Vec<Step>, AttachmentError> {
        let standings = self.look(wanted, workspaces).await?;
        let mut steps = Vec::new();
        let mut ids: BTreeMap<String, Option<String>> = BTreeMap::new();
        for standing in standings {
            let organization = standing.organization.clone();
            if !ids.contains_key(&organization) {
                let (step, id) = self
                    .settle_task(wanted, key, &standing, renew_key, mode)
                    .await?;
                steps.push(step);
                ids.insert(organization.clone(), id);
            }
            let task = ids.get(&organization).cloned().flatten();
            steps.push(self.settle_attachment(&standing, task, mode).await?);
        }
        Ok(steps)
    }

    /// Takes the run task off workspaces, and with `delete` out of their organizations.
    ///
    /// # Errors
    /// See [`AttachmentError`]; steps before the failing one are taken.
    pub async fn remove(
        &self,
        wanted: &Wanted,
        workspaces: &[WorkspaceId],
        delete: bool,
        mode: Mode,
    ) -> Result<Vec<Step>, AttachmentError> {
        let mut steps = Vec::new();
        let mut tasks = BTreeMap::new();
        for standing in self.look(wanted, workspaces).await? {
            let subject = standing.workspace_id.as_str();
            match &standing.attachment {
                None => steps.push(Step::new("keep", subject)),
                Some(attachment) => {
                    let target = format!("/api/v2/workspaces/{subject}/tasks/{}", attachment.id);
                    if mode == Mode::Act {
                        self.ask(Method::DELETE, &target, None, "detach the run task")
                            .await?;
                    }
                    steps.push(Step::new("detach", subject));
                }
            }
            if let Some(task) = standing.task {
                tasks.insert(standing.organization, task.id);
            }
        }
        for (organization, id) in tasks.into_iter().filter(|_| delete) {
            if mode == Mode::Act {
                let target = format!("/api/v2/tasks/{id}");
                self.ask(Method::DELETE, &target, None, "delete the run task")
                    .await?;
            }
            steps.push(Step::new("delete-task", organization));
        }
        Ok(steps)
    }

    async fn settle_task(
        &self,
        wanted: &Wanted,
        key: &Secret,
        standing: &Standing,
        renew_key: bool,
        mode: Mode,
    ) -> Result<(Step, Option<String>), AttachmentError> {
        let organization = &standing.organization;
        let body = json!({"data": {"type": "tasks", "attributes": {
            "name": wanted.name,
            "url": wanted.url,
            "description": "Clawgate: plans and applies only under contract and approval",
            "category": "task",
            "enabled": true,
            "hmac-key": key.expose(),
        }}});
        let (step, method, target) = match &standing.task {
            Some(task) if task.url == wanted.url && task.enabled && !renew_key => {
                return Ok((Step::new("keep", organization), Some(task.id.clone())));
            }
            Some(task) => {
                let target = format!("/api/v2/tasks/{}", task.id);
                ("update-task", Method::PATCH, target)
            }
            None => {
                let target = format!("/api/v2/organizations/{organization}/tasks");
                ("create-task", Method::POST, target)
            }
        };
        if mode == Mode::DryRun {
            let known = standing.task.as_ref().map(|task| task.id.clone());
            return Ok((Step::new(step, organization), known));
        }
        let what = "keep the run task";
        let answer = self.ask(method, &target, Some(body), what).await?;
        let id = text(&answer["data"]["id"]).ok_or_else(|| garbage(&target))?;
        Ok((Step::new(step, organization), Some(id)))
    }

    async fn settle_attachment(
        &self,
        standing: &Standing,
        task: Option<String>,
        mode: Mode,
    ) -> Result<Step, AttachmentError> {
        let workspace = standing.workspace_id.as_str();
        let attributes = json!({
            "enforcement-level": "mandatory",
            "stages": TaskStage::ALL.map(TaskStage::as_str),
        });
        let mut body = json!({"data": {"type": "workspace-tasks", "attributes": attributes}});
        let (step, method, target) = match &standing.attachment {
            Some(attachment) if attachment.gaps().is_empty() => {
                return Ok(Step::new("keep", workspace));
            }
            Some(attachment) => {
                let target = format!("/api/v2/workspaces/{workspace}/tasks/{}", attachment.id);
                ("update-attachment", Method::PATCH, target)
            }
            None => {
                body["data"]["relationships"] =
                    json!({"task": {"data": {"type": "tasks", "id": task}}});
                let target = format!("/api/v2/workspaces/{workspace}/tasks");
                ("attach", Method::POST, target)
            }
        };
        if mode == Mode::Act {
            let what = "attach the run task";
            self.ask(method, &target, Some(body), what).await?;
        }
        Ok(Step::new(step, workspace))
    }

    /// Name and organization of a workspace.
    async fn workspace(&self, id: &WorkspaceId) -> Result<(String, String), AttachmentError> {
        let target = format!("/api/v2/workspaces/{id}");
        let what = format!("the workspace {id}");
        let answer = self.ask(Method::GET, &target, None, &what).await?;
        let data = &answer["data"];
        let name = text(&data["attributes"]["name"]);
        let organization =
            text(&data["relationships"]["organization"]["data"]["id"]).filter(|name| {
                name.bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            });
        name.zip(organization).ok_or_else(|| garbage(&target))
    }

    /// Our run task in an organization: the one that calls us, else the one with our name.
    async fn task(
        &self,
        wanted: &Wanted,
        organization: &str,
    ) -> Result<Option<Task>, AttachmentError> {
        let target = format!("/api/v2/organizations/{organization}/tasks");
        let tasks: Vec<Task> = self.list(&target).await?.iter().filter_map(task).collect();
        let calls_us = tasks.iter().find(|task| task.url == wanted.url);
        let named = || tasks.iter().find(|task| task.name == wanted.name);
        Ok(calls_us.or_else(named).cloned())
    }

    async fn attachments(&self, id: &WorkspaceId) -> Result<Vec<Attachment>, AttachmentError> {
        let list = self.list(&format!("/api/v2/workspaces/{id}/tasks")).await?;
        Ok(list.iter().filter_map(attachment).collect())
    }

    async fn list(&self, target: &str) -> Result<Vec<Value>, AttachmentError> {
        let mut entries = Vec::new();
        for page in 1..=MAX_PAGES {
            let paged = format!("{target}?page%5Bnumber%5D={page}&page%5Bsize%5D=100");
            let what = format!("the list `{target}`");
            let mut answer = self.ask(Method::GET, &paged, None, &what).await?;
            match answer["data"].take() {
                Value::Array(list) => entries.extend(list),
                _ => return Err(garbage(target)),
            }
            if answer["meta"]["pagination"]["next-page"].is_null() {
                break;
            }
        }
        Ok(entries)
    }

    async fn ask(
        &self,
        method: Method,
        target: &str,
        body: Option<Value>,
        what: &str,
    ) -> Result<Value, AttachmentError> {
        let body = body.map(|body| Bytes::from(body.to_string()));
        let answer = self
            .upstream
            .call_as(self.credential, method, target, body)
            .await?;
        let parsed: Option<Value> = serde_json::from_slice(&answer.body).ok();
        match answer.status.as_u16() {
            204 => Ok(Value::Null),
            200..=299 => parsed.ok_or_else(|| garbage(target)),
            401 | 403 | 404 => Err(AttachmentError::NotThere {
                what: what.to_owned(),
            }),
            status => {
                let detail = parsed
                    .as_ref()
                    .and_then(|json| json.pointer("/errors/0/detail")?.as_str())
                    .unwrap_or("it gives no reason");
                Err(AttachmentError::Refused {
                    what: what.to_owned(),
                    why: format!("{status}, {}", detail.chars().take(300).collect::<String>()),
                })
            }
        }
    }
}

fn garbage(target: &str) -> AttachmentError {
    AttachmentError::Garbage(target.to_owned())
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// Reads a run task. Ids go into paths, so only such as have their form are taken.
pub fn task(resource: &Value) -> Option<Task> {
    let attributes = &resource["attributes"];
    Some(Task {
        id: text(&resource["id"]).filter(|id| is_id(id))?,
        name: text(&attributes["name"])?,
        url: text(&attributes["url"])?,
        enabled: attributes["enabled"].as_bool().unwrap_or(false),
    })
}

/// Reads what is attached to a workspace.
pub fn attachment(resource: &Value) -> Option<Attachment> {
    let attributes = &resource["attributes"];
    let names = |value: &Value| -> Vec<String> {
        let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
        list.iter().filter_map(text).collect()
    };
    let mut stages = names(&attributes["stages"]);
    if stages.is_empty() {
        stages.extend(text(&attributes["stage"]));
    }
    let task = &resource["relationships"]["task"]["data"]["id"];
    Some(Attachment {
        id: text(&resource["id"]).filter(|id| is_id(id))?,
        task_id: text(task).filter(|id| is_id(id))?,
        mandatory: attributes["enforcement-level"] == "mandatory",
        stages,
    })
}

fn is_id(id: &str) -> bool {
    (1..=80).contains(&id.len())
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attachment_has_gaps_until_it_is_mandatory_everywhere() {
        let resource = |level: &str, stages: Value| {
            json!({
                "id": "wstask-1",
                "attributes": {"enforcement-level": level, "stages": stages, "stage": "post_plan"},
                "relationships": {"task": {"data": {"id": "task-1"}}},
            })
        };
        let all = json!(["pre_plan", "post_plan", "pre_apply", "post_apply"]);
        let gaps = |resource: Value| attachment(&resource).unwrap().gaps();
        assert_eq!(gaps(resource("mandatory", all.clone())), [""; 0]);
        assert_eq!(gaps(resource("advisory", all)).len(), 4);
        assert_eq!(
            gaps(resource("mandatory", json!(["pre_plan", "pre_apply"]))),
            ["post_plan", "post_apply"]
        );
        assert_eq!(gaps(resource("mandatory", json!([]))).len(), 3);
        let mut hostile = resource("mandatory", json!([]));
        hostile["id"] = json!("../../runs");
        assert_eq!(attachment(&hostile), None);
    }
}
