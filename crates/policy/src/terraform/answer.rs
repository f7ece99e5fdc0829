//! What an agent may see of upstream's answers.
//!
//! An allow-list, because new attributes that carry secrets or signed addresses appear over time:
//! types, attributes and relationships that `shape` does not name are dropped. Signed
//! addresses never pass; a callback may put addresses of our own in their place. What the answer
//! says about ids and their workspaces is handed to the id index.

mod held_back;
mod page;
mod shape;

use std::collections::BTreeSet;

use proof::json::{Json, JsonError, Numbers, parse};

use self::page::pagination;
pub use self::page::{page, page_range};
use self::shape::{Attribute, Shape, Switch, expected, shape};
use super::mask::{Known, mask_json};
use super::operation::{ObjectKind, Operation};
use crate::decide::CompiledContract;

/// What a signed address is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UrlPurpose {
    /// `PUT` of a configuration.
    ConfigurationUpload,
    /// `GET` of a plan's log.
    PlanLog,
    /// `GET` of an apply's log.
    ApplyLog,
    /// `GET` of a state, only where the contract allows state_read.
    StateDownload,
}

/// A signed address in an answer, on its way to being replaced.
#[derive(Clone, Copy)]
pub struct SignedUrl<'a> {
    /// What it is for.
    pub purpose: UrlPurpose,
    /// The plan, apply, configuration version or state version that it belongs to.
    pub object_id: &'a str,
    /// The address. A secret: whoever has it needs no other credential.
    pub url: &'a str,
}

/// Gives the address of our own, or `None` to leave the attribute out.
pub type UrlRewriter<'a> = dyn FnMut(SignedUrl<'_>) -> Option<String> + 'a;

/// Something that an answer says about an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Learned {
    /// What it is.
    pub kind: ObjectKind,
    /// Its id.
    pub id: String,
    /// The workspace that it belongs to, when the answer says so.
    pub workspace: Option<String>,
    /// The run that it belongs to, when the answer says so.
    pub run: Option<String>,
}

/// An answer for the agent.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The reduced document.
    pub body: Json,
    /// What it taught about ids, objects outside the contract excepted.
    pub learned: Vec<Learned>,
}

/// Why an answer is not given.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// Not strict JSON.
    #[error("upstream's answer is not JSON that can be read")]
    Json(#[source] JsonError),
    /// Not the document that the route answers.
    #[error("upstream's answer is not a {expected} document")]
    Unexpected {
        /// The JSON:API type, or another name of the document.
        expected: &'static str,
    },
    /// The object belongs to a workspace outside the contract.
    #[error("upstream's answer is about a workspace outside the contract")]
    OutsideContract,
}

/// Reads an answer's bytes and reduces them. See [`rewrite_answer`].
///
/// # Errors
/// As [`rewrite_answer`], and for bytes that are not JSON.
pub fn rewrite_bytes(
    operation: Operation,
    answer: &[u8],
    contract: &CompiledContract,
    urls: &mut UrlRewriter<'_>,
) -> Result<Answer, AnswerError> {
    let answer = parse(answer, Numbers::Any).map_err(AnswerError::Json)?;
    rewrite_answer(operation, &answer, contract, urls)
}

/// Reduces a successful answer to what the contract's agent may see.
///
/// # Errors
/// When the document is not what the route answers, or is about a workspace outside the
/// contract. Elements of lists that are outside the contract are left out silently.
pub fn rewrite_answer(
    operation: Operation,
    answer: &Json,
    contract: &CompiledContract,
    urls: &mut UrlRewriter<'_>,
) -> Result<Answer, AnswerError> {
    if operation == Operation::PlanJsonRedacted {
        return Ok(Answer {
            body: redacted_plan(answer)?,
            learned: Vec::new(),
        });
    }
    let (kind, is_list) = expected(operation).ok_or(AnswerError::Unexpected {
        expected: "forwarded",
    })?;
    let unexpected = AnswerError::Unexpected { expected: kind };
    let mut rewriter = Rewriter {
        contract,
        urls,
        learned: Vec::new(),
        referred: BTreeSet::new(),
    };
    let mut complete = true;
    let data = match answer.get("data") {
        Some(Json::Array(elements)) if is_list => {
            let kept = elements
                .iter()
                .filter_map(|element| rewriter.resource(element, kind));
            let kept: Vec<Json> = kept.collect();
            complete = kept.len() == elements.len();
            Json::Array(kept)
        }
        Some(data @ Json::Object(_)) if !is_list => {
            if !type_is(data, kind) {
                return Err(unexpected);
            }
            rewriter
                .resource(data, kind)
                .ok_or(AnswerError::OutsideContract)?
        }
        _ => return Err(unexpected),
    };
    let mut body = Json::object();
    body.set("data", data);
    let included = rewriter.included(answer.get("included"));
    if !included.is_empty() {
        body.set("included", Json::Array(included));
    }
    if let Some(pagination) = pagination(answer, complete) {
        let mut meta = Json::object();
        meta.set("pagination", pagination);
        body.set("meta", meta);
    }
    Ok(Answer {
        body,
        learned: rewriter.learned,
    })
}

struct Rewriter<'a, 'u> {
    contract: &'a CompiledContract,
    urls: &'a mut UrlRewriter<'u>,
    learned: Vec<Learned>,
    /// Type and id of what the kept relationships refer to: only that may be included.
    referred: BTreeSet<(String, String)>,
}

impl Rewriter<'_, '_> {
    /// Reduces one resource; `None` when it is of another type or outside the contract.
    fn resource(&mut self, resource: &Json, kind: &'static str) -> Option<Json> {
        if !type_is(resource, kind) {
            return None;
        }
        let shape = shape(kind)?;
        let id = resource.get("id")?.as_str().filter(|id| is_plain(id))?;
        let workspace = match kind {
            "workspaces" => Some(id),
            _ => related_id(resource, "workspace", "workspaces"),
        };
        if workspace.is_some_and(|workspace| !self.contract.has_workspace(workspace)) {
            return None;
        }
        // A run that does not say where it belongs could belong anywhere.
        if kind == "runs" && workspace.is_none() {
            return None;
        }
        self.learn(resource, shape, id, workspace);
        let mut kept = Json::object();
        kept.set("id", id);
        kept.set("type", kind);
        kept.set("attributes", self.attributes(resource, shape, id));
        let relationships = self.relationships(resource, shape);
        if relationships
            .members()
            .is_some_and(|members| !members.is_empty())
        {
            kept.set("relationships", relationships);
        }
        if let Some(path) = resource.at(&["links", "self"]).and_then(Json::as_str)
            && path.starts_with("/api/v2/")
            && path.split('/').skip(1).all(is_plain)
        {
            let mut links = Json::object();
            links.set("self", path);
            kept.set("links", links);
        }
        Some(kept)
    }

    fn attributes(&mut self, resource: &Json, shape: &Shape, id: &str) -> Json {
        let mut kept = Json::object();
        let written = resource
            .get("attributes")
            .and_then(Json::members)
            .unwrap_or_default();
        for (name, value) in written {
            let Some((_, rule)) = shape.attributes.iter().find(|(known, _)| known == name) else {
                continue;
            };
            if let Some(value) = self.attribute(*rule, resource, value, id) {
                kept.set(name, value);
            }
        }
        kept
    }

    fn attribute(
        &mut self,
        rule: Attribute,
        resource: &Json,
        value: &Json,
        id: &str,
    ) -> Option<Json> {
        match rule {
            Attribute::Scalar => is_scalar(value).then(|| value.clone()),
            Attribute::Texts => {
                let all = value
                    .as_array()?
                    .iter()
                    .all(|element| element.as_str().is_some());
                all.then(|| value.clone())
            }
            Attribute::Any => Some(value.clone()),
            Attribute::Times => {
                let times = value
                    .members()?
                    .iter()
                    .filter(|(name, time)| is_plain(name) && time.as_str().is_some_and(is_time));
                Some(Json::Object(times.cloned().collect()))
            }
            Attribute::Presence => Some(match value {
                Json::Null => Json::Null,
                _ => Json::object(),
            }),
            Attribute::Switches(switches) => {
                let mut kept = Json::object();
                for (name, switch) in switches {
                    let value = match switch {
                        Switch::Kept => value.get(name).and_then(Json::as_bool).unwrap_or(false),
                        Switch::Off => false,
                        Switch::Plan => self.contract.contract().allows_plan(),
                        Switch::Apply => self.contract.contract().allows_apply(),
                        Switch::Destroy => {
                            let contract = self.contract.contract();
                            contract.allows_apply() && contract.permissions.run.destroy
                        }
                    };
                    kept.set(name, value);
                }
                Some(kept)
            }
            Attribute::PolicyResult => {
                let counts = value.members()?.iter().filter(|(name, value)| {
                    shape::POLICY_COUNTS.contains(&name.as_str()) && is_scalar(value)
                });
                Some(Json::Object(counts.cloned().collect()))
            }
            Attribute::OutputValue => {
                // Fail closed: shown only when upstream says that it is not sensitive.
                let open = resource.at(&["attributes", "sensitive"]) == Some(&Json::Bool(false));
                Some(if open { value.clone() } else { Json::Null })
            }
            Attribute::Url(purpose) => {
                let state = purpose == UrlPurpose::StateDownload;
                if state && !self.contract.contract().permissions.state_read {
                    return None;
                }
                let url = value.as_str().filter(|url| !url.is_empty())?;
                (self.urls)(SignedUrl {
                    purpose,
                    object_id: id,
                    url,
                })
                .map(Json::from)
            }
        }
    }

    fn relationships(&mut self, resource: &Json, shape: &Shape) -> Json {
        let mut kept = Json::object();
        for name in shape.relationships {
            let Some(data) = resource.at(&["relationships", name, "data"]) else {
                continue;
            };
            let data = match data {
                Json::Null => Json::Null,
                Json::Object(_) => match self.reference(data) {
                    Some(reference) => reference,
                    None => continue,
                },
                Json::Array(elements) => {
                    Json::Array(elements.iter().filter_map(|e| self.reference(e)).collect())
                }
                _ => continue,
            };
            let mut relation = Json::object();
            relation.set("data", data);
            kept.set(name, relation);
        }
        kept
    }

    fn reference(&mut self, data: &Json) -> Option<Json> {
        let id = data.get("id")?.as_str().filter(|id| is_plain(id))?;
        let kind = data.get("type")?.as_str().filter(|kind| is_plain(kind))?;
        self.referred.insert((kind.to_owned(), id.to_owned()));
        let mut kept = Json::object();
        kept.set("id", id);
        kept.set("type", kind);
        Some(kept)
    }

    /// Included resources that something kept refers to, of types that may be included.
    fn included(&mut self, included: Option<&Json>) -> Vec<Json> {
        let referred = std::mem::take(&mut self.referred);
        let mut kept = Vec::new();
        for resource in included.and_then(Json::as_array).unwrap_or_default() {
            let text = |name| resource.get(name).and_then(Json::as_str);
            let (Some(kind), Some(id)) = (text("type"), text("id")) else {
                continue;
            };
            let Some(kind) = shape::INCLUDABLE.iter().find(|known| **known == kind) else {
                continue;
            };
            if referred.contains(&((*kind).to_owned(), id.to_owned())) {
                kept.extend(self.resource(resource, kind));
            }
        }
        kept
    }

    fn learn(&mut self, resource: &Json, shape: &Shape, id: &str, workspace: Option<&str>) {
        let run = match shape.kind {
            Some(ObjectKind::Run) => Some(id),
            _ => related_id(resource, "run", "runs"),
        };
        let mut learn = |kind, id: &str| {
            self.learned.push(Learned {
                kind,
                id: id.to_owned(),
                workspace: workspace.map(str::to_owned),
                run: run.map(str::to_owned),
            });
        };
        if let Some(kind) = shape.kind {
            learn(kind, id);
        }
        for (name, kind) in shape.teaches {
            match resource.at(&["relationships", name, "data"]) {
                Some(data @ Json::Object(_)) => {
                    if let Some(id) = plain_id(data) {
                        learn(*kind, id);
                    }
                }
                Some(Json::Array(elements)) => {
                    let ids = elements.iter().filter_map(plain_id);
                    ids.for_each(|id| learn(*kind, id));
                }
                _ => {}
            }
        }
    }
}

fn type_is(resource: &Json, kind: &str) -> bool {
    resource.get("type").and_then(Json::as_str) == Some(kind)
}

/// The id behind a relationship, if it is of that type and can be one.
fn related_id<'a>(resource: &'a Json, name: &str, kind: &str) -> Option<&'a str> {
    let data = resource.at(&["relationships", name, "data"])?;
    type_is(data, kind).then_some(())?;
    data.get("id")?.as_str().filter(|id| is_plain(id))
}

fn plain_id(data: &Json) -> Option<&str> {
    data.get("id")?.as_str().filter(|id| is_plain(id))
}

/// An id, a type or a path segment: nothing in it can be syntax.
fn is_plain(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// A time as upstream writes it; what else stands among times is not for the agent.
fn is_time(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_digit() || b"-:.+TZ".contains(&byte);
    (10..=40).contains(&text.len()) && text.bytes().all(plain)
}

fn is_scalar(value: &Json) -> bool {
    !matches!(value, Json::Array(_) | Json::Object(_))
}

/// Masks what shows of secrets in the structured plan, in everything but its schemas; answers how
/// many bytes. Where more is marked than is known, no value of it stays.
pub fn mask_redacted_plan(plan: &mut Answer, known: &Known) -> usize {
    if known.is_overfull() {
        let written = |json: &Json| json.to_jcs().len();
        let before = written(&plan.body);
        plan.body = held_back::held_back(&plan.body);
        return before.saturating_sub(written(&plan.body));
    }
    let Json::Object(members) = &mut plan.body else {
        return 0;
    };
    let values = members
        .iter_mut()
        .filter(|(name, _)| name != "provider_schemas");
    values.map(|(_, value)| mask_json(value, known)).sum()
}

/// The structured plan that the CLI renders, which upstream has redacted: its known members.
fn redacted_plan(answer: &Json) -> Result<Json, AnswerError> {
    const KNOWN: &[&str] = &[
        "plan_format_version",
        "provider_format_version",
        "output_changes",
        "resource_changes",
        "resource_drift",
        "relevant_attributes",
        "provider_schemas",
        "deferred_changes",
        "action_invocations",
    ];
    let unexpected = AnswerError::Unexpected {
        expected: "structured plan",
    };
    let Some(members) = answer.members() else {
        return Err(unexpected);
    };
    if answer
        .get("plan_format_version")
        .and_then(Json::as_str)
        .is_none()
    {
        return Err(unexpected);
    }
    let kept = members
        .iter()
        .filter(|(name, _)| KNOWN.contains(&name.as_str()));
    Ok(Json::Object(kept.cloned().collect()))
}

#[cfg(test)]
mod tests;
