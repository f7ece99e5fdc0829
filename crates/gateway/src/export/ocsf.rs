//! Events of the Open Cybersecurity Schema Framework: each line is one of the class API Activity
//! (6003, <https://schema.ocsf.io/1.8.0/classes/api_activity>) with the profile Security Control,
//! and AI Operation or Trace where there is something to say.

use std::net::IpAddr;

use policy::terraform::{Effect, Operation};
use proof::Timestamp;
use proof::record::{Body, Ended};
use serde_json::{Map, Value, json};
use store::LoggedRecord;

use super::{Line, Origin, record};

/// The schema's version.
pub const VERSION: &str = "1.8.0";

const CATEGORY: u64 = 6;
const CLASS: u64 = 6003;

const CREATE: (u64, &str) = (1, "Create");
const READ: (u64, &str) = (2, "Read");
const UPDATE: (u64, &str) = (3, "Update");
const DELETE: (u64, &str) = (4, "Delete");

/// Our columns that have no place in the schema.
const UNMAPPED: [&str; 16] = [
    "lane",
    "object_id",
    "intent_id",
    "upstream_status",
    "ended",
    "via",
    "receipt_id",
    "receipt_sha256_b64u",
    "request_sha256_b64u",
    "response_sha256_b64u",
    "statement_sha256_b64u",
    "plan_sha256_b64u",
    "destination",
    "address",
    "sent_bytes",
    "sent_sha256_b64u",
];

/// What came of it, in the schema's numbers.
struct Verdict {
    severity: (u64, &'static str),
    status: (u64, &'static str),
    action: (u64, &'static str),
    disposition: (u64, &'static str),
}

const INFORMATIONAL: (u64, &str) = (1, "Informational");
const LOW: (u64, &str) = (2, "Low");
const MEDIUM: (u64, &str) = (3, "Medium");
const UNKNOWN: (u64, &str) = (0, "Unknown");
const SUCCESS: (u64, &str) = (1, "Success");
const FAILURE: (u64, &str) = (2, "Failure");
const ALLOWED: (u64, &str) = (1, "Allowed");
const DENIED: (u64, &str) = (2, "Denied");
const OBSERVED: (u64, &str) = (3, "Observed");
const BLOCKED: (u64, &str) = (2, "Blocked");
const APPROVED: (u64, &str) = (8, "Approved");
const LOGGED: (u64, &str) = (17, "Logged");
const ACCESS_REVOKED: (u64, &str) = (24, "Access Revoked");
const REJECTED: (u64, &str) = (25, "Rejected");
const ERROR: (u64, &str) = (27, "Error");

/// A record as an event.
pub fn record_event(line: &Line, row: &LoggedRecord, origin: Origin<'_>) -> Value {
    let mut profiles = vec!["security_control"];
    let mut event = base(line, row.record.at, &verdict(row));
    let person = line.text("person");
    event.set("actor", actor(person, line));
    event.set("src_endpoint", source(line.text("source"), origin));
    event.set("resources", resources(line));
    event.set("policy", policy(line));
    event.set("duration", line.get("duration_ms").clone());
    if let Some(decision) = line.text("decision") {
        let authorization = json!({ "decision": decision, "policy": policy(line) });
        event.set("authorizations", json!([authorization]));
    }
    if let Some(model) = line.text("model") {
        profiles.push("ai_operation");
        let provider = line.text("provider").unwrap_or("unknown");
        event.set(
            "ai_model",
            json!({ "name": model, "ai_provider": provider }),
        );
        let mut context = Members::default();
        context.set("service", json!({ "name": provider }));
        context.set("prompt_tokens", line.get("tokens_input").clone());
        context.set("completion_tokens", line.get("tokens_output").clone());
        event.set("message_context", context.into());
    }
    if let Some(trace) = line.text("trace_id") {
        profiles.push("trace");
        event.set("trace", json!({ "uid": trace }));
    }
    event.set("api", api(line));
    let mut unmapped = Members::default();
    for name in UNMAPPED {
        unmapped.set(name, line.get(name).clone());
    }
    event.set("unmapped", unmapped.into());
    let mut metadata = metadata(line, &profiles, origin);
    identify(&mut metadata, line);
    event.set("metadata", metadata.into());
    event.into()
}

/// What stays of a record whose content was removed, as an event.
pub fn pruned_event(line: &Line, at: Timestamp, origin: Origin<'_>) -> Value {
    let verdict = Verdict {
        severity: INFORMATIONAL,
        status: SUCCESS,
        action: OBSERVED,
        disposition: LOGGED,
    };
    let mut event = base(line, at, &verdict);
    event.set("actor", actor(None, line));
    event.set("src_endpoint", source(None, origin));
    event.set("api", api(line));
    let mut metadata = metadata(line, &["security_control"], origin);
    identify(&mut metadata, line);
    event.set("metadata", metadata.into());
    event.into()
}

/// Says which record of the log it is.
fn identify(metadata: &mut Members, line: &Line) {
    metadata.set("uid", line.get("leaf_sha256_b64u").clone());
    metadata.set("original_event_uid", line.get("record_id").clone());
    metadata.set("sequence", line.get("log_index").clone());
    metadata.set("event_code", line.get("kind").clone());
    metadata.set("correlation_uid", line.get("job_id").clone());
    metadata.set("log_name", "records".into());
}

/// An operator's action as an event.
pub fn action_event(line: &Line, at: Timestamp, origin: Origin<'_>) -> Value {
    let failed = line.text("outcome") == Some("failed");
    let verdict = Verdict {
        severity: if failed { LOW } else { INFORMATIONAL },
        status: if failed { FAILURE } else { SUCCESS },
        action: OBSERVED,
        disposition: if failed { ERROR } else { LOGGED },
    };
    let mut event = base(line, at, &verdict);
    event.set("actor", actor(line.text("person"), line));
    event.set("src_endpoint", source(None, origin));
    event.set("api", api(line));
    if let Some(subject) = line.text("subject").filter(|subject| !subject.is_empty()) {
        let resource = json!({ "uid": subject, "role_id": 1, "role": "Target" });
        event.set("resources", json!([resource]));
    }
    let mut unmapped = Members::default();
    unmapped.set("detail", line.get("detail").clone());
    event.set("unmapped", unmapped.into());
    let mut metadata = metadata(line, &["security_control"], origin);
    let number = line.get("action_index");
    metadata.set(
        "uid",
        format!("{}/actions/{number}", origin.gateway_id).into(),
    );
    metadata.set("sequence", number.clone());
    metadata.set("event_code", line.get("action").clone());
    metadata.set("log_name", "actions".into());
    event.set("metadata", metadata.into());
    event.into()
}

/// What every event has.
fn base(line: &Line, at: Timestamp, verdict: &Verdict) -> Members {
    let action = line.text("action").unwrap_or("unknown");
    let (activity, name) = activity(action);
    let mut event = Members::default();
    let mut pair = |id: &'static str, name: &'static str, (number, word): (u64, &str)| {
        event.set(id, number.into());
        event.set(name, word.into());
    };
    pair(
        "category_uid",
        "category_name",
        (CATEGORY, "Application Activity"),
    );
    pair("class_uid", "class_name", (CLASS, "API Activity"));
    pair("activity_id", "activity_name", (activity, name));
    pair("severity_id", "severity", verdict.severity);
    pair("status_id", "status", verdict.status);
    pair("action_id", "action", verdict.action);
    pair("disposition_id", "disposition", verdict.disposition);
    event.set("type_uid", (CLASS * 100 + activity).into());
    event.set("type_name", format!("API Activity: {name}").into());
    event.set("time", at.millis().into());
    let code = line.get("reason_code");
    let status = line.get("status");
    let code = match (code.as_str(), status.as_u64()) {
        (Some(code), _) if code != "ALLOWED" => Some(code.to_owned()),
        (_, Some(status)) => Some(status.to_string()),
        _ => None,
    };
    event.set("status_code", code.into());
    event.set("status_detail", line.get("reasons").clone());
    let agent = line
        .text("agent_did")
        .filter(|_| line.text("lane") != Some("gateway"));
    let who = line.text("person").or(agent).unwrap_or("the gateway");
    let message = format!("{action} by {who}");
    event.set("message", message.into());
    event
}

/// What the operation does to its object. Calls to models are none of these, and keep their name.
fn activity(action: &str) -> (u64, &str) {
    let reads = |operation: Operation| operation.effect() == Effect::Read;
    if action.parse().is_ok_and(reads) || action.starts_with("read-") {
        return READ;
    }
    let mut words = action.split(['-', '.', ' ']);
    let found = words.find_map(|word| match word {
        "create" | "open" | "issue" | "publish" | "invite" | "enrol" => Some(CREATE),
        "GET" | "HEAD" | "list" | "show" => Some(READ),
        "apply" | "judge" | "submit" | "deny" | "accept" | "close" | "upload" | "discard"
        | "cancel" | "rollback" | "comment" | "POST" | "PUT" | "PATCH" => Some(UPDATE),
        "revoke" | "withdraw" | "remove" | "end" | "DELETE" => Some(DELETE),
        _ => None,
    });
    found.unwrap_or((99, action))
}

fn verdict(row: &LoggedRecord) -> Verdict {
    let done = Verdict {
        severity: INFORMATIONAL,
        status: SUCCESS,
        action: OBSERVED,
        disposition: LOGGED,
    };
    match &row.record.body {
        Body::JobOpen(_) | Body::JobClose(_) => done,
        Body::Intent(_) => Verdict {
            status: UNKNOWN,
            action: ALLOWED,
            disposition: ALLOWED,
            ..done
        },
        Body::Outcome(outcome) if record::is_refused(outcome) => Verdict {
            severity: MEDIUM,
            status: FAILURE,
            action: DENIED,
            disposition: BLOCKED,
        },
        Body::Outcome(outcome) => {
            let answered = outcome.status.is_some_and(|status| status < 400);
            let good = answered && outcome.ended == Ended::Complete && outcome.code.is_none();
            // What was sent may have been done although no answer came.
            let unknown = outcome.ended == Ended::Unknown
                || outcome.ended == Ended::UpstreamReset && outcome.upstream_status.is_none();
            Verdict {
                severity: if good { INFORMATIONAL } else { LOW },
                status: match good {
                    true => SUCCESS,
                    false if unknown => UNKNOWN,
                    false => FAILURE,
                },
                action: ALLOWED,
                disposition: if good { ALLOWED } else { ERROR },
            }
        }
        Body::Refusal(_) => Verdict {
            severity: MEDIUM,
            status: FAILURE,
            action: DENIED,
            disposition: BLOCKED,
        },
        Body::Approval(approval) => match approval.decision {
            proof::approval::Decision::Approve => Verdict {
                action: ALLOWED,
                disposition: APPROVED,
                ..done
            },
            proof::approval::Decision::Deny => Verdict {
                severity: LOW,
                action: DENIED,
                disposition: REJECTED,
                ..done
            },
        },
        Body::Revocation(_) => Verdict {
            severity: LOW,
            action: DENIED,
            disposition: ACCESS_REVOKED,
            ..done
        },
    }
}

/// A person, or the agent with its token.
fn actor(person: Option<&str>, line: &Line) -> Value {
    let mut user = Members::default();
    match (person, line.text("agent_did")) {
        (Some(person), _) => {
            user.set("name", person.into());
            user.set("uid", line.get("person_did").clone());
            user.set("type_id", 1.into());
            user.set("type", "User".into());
        }
        (None, agent) => {
            user.set("name", line.get("job_name").clone());
            user.set("uid", agent.into());
            user.set("type_id", 99.into());
            user.set("type", "Agent".into());
        }
    }
    let mut actor = Members::default();
    actor.set("user", user.into());
    if line.get("job_id").is_string() {
        let mut session = Members::default();
        session.set("uid", line.get("job_id").clone());
        session.set("credential_uid", line.get("token_sha256_hex").clone());
        actor.set("session", session.into());
    }
    actor.into()
}

/// From where it came; what the gateway did or took itself came from the gateway.
fn source(holder: Option<&str>, origin: Origin<'_>) -> Value {
    match holder {
        Some(holder) if holder.parse::<IpAddr>().is_ok() => json!({ "ip": holder }),
        Some(holder) if holder != "gateway" && !holder.is_empty() => json!({ "uid": holder }),
        _ => json!({ "svc_name": "clawgate", "uid": origin.gateway_id }),
    }
}

fn api(line: &Line) -> Value {
    let mut api = Members::default();
    api.set("operation", line.text("action").unwrap_or("unknown").into());
    let service = match line.text("lane") {
        Some("model") => line.text("provider").unwrap_or("model provider"),
        Some("egress") => line.text("destination").unwrap_or("another host"),
        Some(_) => "Terraform Cloud",
        None => "Clawgate",
    };
    api.set("service", json!({ "name": service }));
    let request = line.text("intent_id").or(line.text("record_id"));
    if let Some(request) = request {
        api.set("request", json!({ "uid": request }));
    }
    let mut response = Members::default();
    response.set("code", line.get("status").clone());
    if let Some(code) = line.text("reason_code").filter(|code| *code != "ALLOWED") {
        response.set("error", code.into());
        response.set("error_message", line.get("reasons").clone());
    }
    if !response.0.is_empty() {
        api.set("response", response.into());
    }
    api.into()
}

fn resources(line: &Line) -> Value {
    let kinds = [("workspace_id", "workspace"), ("run_id", "run")];
    let list = kinds.iter().filter_map(|(column, kind)| {
        let mut resource = Members::default();
        resource.set("uid", line.text(column)?.into());
        resource.set("type", (*kind).into());
        resource.set("namespace", line.get("organization").clone());
        resource.set("role_id", 1.into());
        resource.set("role", "Target".into());
        Some(Value::from(resource))
    });
    match list.collect::<Vec<_>>() {
        list if list.is_empty() => Value::Null,
        list => list.into(),
    }
}

fn policy(line: &Line) -> Value {
    json!({
        "uid": line.get("contract_sha256_b64u"),
        "name": line.get("contract"),
        "version": line.get("contract_version").to_string(),
        "type": "Work Policy Contract",
        "is_applied": true,
    })
}

fn metadata(line: &Line, profiles: &[&str], origin: Origin<'_>) -> Members {
    let mut metadata = Members::default();
    metadata.set("version", VERSION.into());
    metadata.set("profiles", json!(profiles));
    metadata.set("tenant_uid", origin.gateway_id.into());
    metadata.set("original_time", line.get("time").clone());
    let product = json!({
        "name": "Clawgate", "vendor_name": "Clawgate", "version": env!("CARGO_PKG_VERSION"),
    });
    metadata.set("product", product);
    metadata
}

/// Members of an object; what is null is left out, because the schema has no nulls.
#[derive(Default)]
struct Members(Map<String, Value>);

impl Members {
    fn set(&mut self, name: &str, value: Value) {
        if !value.is_null() {
            self.0.insert(name.to_owned(), value);
        }
    }
}

impl From<Members> for Value {
    fn from(members: Members) -> Self {
        Self::Object(members.0)
    }
}
