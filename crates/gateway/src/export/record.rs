//! A record as a flat line.

use policy::ReasonCode;
use policy::reason::Origin;
use proof::Json;
use proof::approval::Decision;
use proof::record::{Body, Caller, Ended, Intent, Lane, Outcome};
use serde_json::{Value, json};
use store::{LoggedRecord, PrunedRecord};

use super::Line;
use crate::activity::destination;

/// The names of a line's values. Their order stays; new ones come at the end.
pub const COLUMNS: [&str; 49] = [
    "log_index",
    "record_id",
    "time",
    "kind",
    "decision",
    "reason_code",
    "reasons",
    "action",
    "lane",
    "job_id",
    "job_name",
    "agent_did",
    "contract",
    "contract_version",
    "contract_sha256_b64u",
    "person",
    "person_did",
    "via",
    "source",
    "token_sha256_hex",
    "organization",
    "workspace_id",
    "run_id",
    "object_id",
    "provider",
    "model",
    "intent_id",
    "status",
    "upstream_status",
    "ended",
    "duration_ms",
    "tokens_input",
    "tokens_output",
    "response_bytes",
    "receipt_id",
    "receipt_sha256_b64u",
    "request_sha256_b64u",
    "response_sha256_b64u",
    "target_sha256_b64u",
    "statement_sha256_b64u",
    "plan_sha256_b64u",
    "trace_id",
    "records",
    "gateway_did",
    "leaf_sha256_b64u",
    "destination",
    "address",
    "sent_bytes",
    "sent_sha256_b64u",
];

/// What the action of a line says whose record's content was removed after its retention.
pub const PRUNED: &str = "removed-after-retention";

/// The values that stay of a record whose content was removed.
pub fn pruned(row: &PrunedRecord) -> Line {
    let mut values = Values(vec![Value::Null; COLUMNS.len()]);
    values.set("log_index", row.leaf_index);
    values.set("record_id", format!("{}/{}", row.job_id, row.seq));
    values.set("time", row.at.to_string());
    values.set("job_id", row.job_id.as_str());
    values.set("kind", row.kind.as_str());
    values.set("action", PRUNED);
    values.set("leaf_sha256_b64u", row.leaf_hash.to_string());
    Line {
        columns: &COLUMNS,
        values: values.0,
    }
}

/// A record's values.
pub fn line(row: &LoggedRecord) -> Line {
    let record = &row.record;
    let mut values = Values(vec![Value::Null; COLUMNS.len()]);
    values.set("log_index", row.leaf_index);
    values.set("record_id", format!("{}/{}", record.job_id, record.seq));
    values.set("time", record.at.to_string());
    values.set("job_id", record.job_id.as_str());
    values.set("job_name", row.job_name.as_str());
    values.set("agent_did", row.agent_did.as_str());
    values.set("contract", row.contract.0.as_str());
    values.set("contract_version", row.contract.1);
    values.set("contract_sha256_b64u", row.policy_hash.to_string());
    values.set("leaf_sha256_b64u", row.leaf_hash.to_string());
    if let Some((organization, workspace)) = &row.place {
        values.set("organization", organization.as_str());
        values.set("workspace_id", workspace.as_str());
    }
    let kind = match &record.body {
        Body::JobOpen(open) => {
            values.set("action", "open-job");
            values.set("person", open.opened_by.as_str());
            values.set("gateway_did", open.gateway_did.as_str());
            "job-open"
        }
        Body::Intent(intent) => {
            values.intent(intent);
            "intent"
        }
        Body::Outcome(outcome) => {
            if let Some(intent) = &row.intent {
                values.intent(intent);
            }
            let intent = format!("{}/{}", record.job_id, outcome.intent_seq);
            values.set("intent_id", intent);
            values.set("status", outcome.status);
            values.set("upstream_status", outcome.upstream_status);
            values.set("ended", ended(outcome.ended));
            values.set("duration_ms", outcome.latency_ms);
            values.set("response_bytes", outcome.response_bytes);
            if let Some(egress) = &outcome.egress {
                values.set("address", egress.address.map(|address| address.to_string()));
                values.set("sent_bytes", egress.sent_bytes);
                values.set("sent_sha256_b64u", egress.sent_hash_b64u.to_string());
            }
            values.set(
                "response_sha256_b64u",
                outcome.response_hash_b64u.to_string(),
            );
            if let Some(code) = &outcome.code {
                values.set("reason_code", code.as_str());
            }
            if is_refused(outcome) {
                values.set("decision", "deny");
            }
            if let Some(usage) = &outcome.usage {
                values.set("tokens_input", usage.tokens_input);
                values.set("tokens_output", usage.tokens_output);
            }
            if let Some(object) = &outcome.object_id {
                values.set("object_id", object.as_str());
                if object.starts_with("run-") {
                    values.set("run_id", object.as_str());
                }
            }
            if let Some(receipt) = &outcome.receipt {
                values.set("receipt_id", receipt.receipt_id.as_str());
                values.set("receipt_sha256_b64u", receipt.payload_hash_b64u.to_string());
            }
            "outcome"
        }
        Body::Refusal(refusal) => {
            values.caller(&refusal.caller);
            values.set("action", refusal.asked.as_str());
            values.set("lane", lane(refusal.lane));
            values.set("decision", "deny");
            values.set("reason_code", refusal.code.as_str());
            values.set("reasons", refusal.reasons.join("; "));
            values.set("run_id", refusal.run_id.as_deref());
            values.set("target_sha256_b64u", refusal.target_hash_b64u.to_string());
            if let Some(input) = &refusal.input {
                values.input(input);
            }
            "refusal"
        }
        Body::Approval(approval) => {
            values.set("action", "judge-plan");
            values.set(
                "decision",
                match approval.decision {
                    Decision::Approve => "approve",
                    Decision::Deny => "deny",
                },
            );
            values.set("person", approval.approver.as_str());
            values.set("person_did", approval.approver_did.as_str());
            values.set("via", json!(approval.via));
            values.set("run_id", approval.run_id.as_str());
            values.set(
                "statement_sha256_b64u",
                approval.statement_hash_b64u.to_string(),
            );
            values.set("plan_sha256_b64u", approval.plan_sha256_b64u.to_string());
            "approval"
        }
        Body::Revocation(revocation) => {
            values.set("action", "revoke-token");
            values.set("person", revocation.revoked_by.as_str());
            values.set("token_sha256_hex", revocation.token_hash.as_str());
            values.set("reasons", revocation.reason.as_str());
            "revocation"
        }
        Body::JobClose(close) => {
            values.set("action", "close-job");
            values.set("person", close.closed_by.as_str());
            values.set("reasons", close.reason.as_str());
            values.set("records", close.count);
            "job-close"
        }
    };
    values.set("kind", kind);
    Line {
        columns: &COLUMNS,
        values: values.0,
    }
}

/// Whether a call that was let through came to its end because the gateway says no. Codes of
/// upstream's failures and of our own are none of these: what the call was to do may have
/// happened.
pub(super) fn is_refused(outcome: &Outcome) -> bool {
    let code = outcome.code.as_deref().map(str::parse::<ReasonCode>);
    let origin = code.and_then(Result::ok).map(ReasonCode::origin);
    outcome.ended != Ended::Unknown && matches!(origin, Some(Origin::Token | Origin::Policy))
}

/// Values in the order of [`COLUMNS`].
struct Values(Vec<Value>);

impl Values {
    fn set(&mut self, name: &str, value: impl Into<Value>) {
        let place = COLUMNS.iter().position(|column| *column == name);
        self.0[place.expect("one of the columns")] = value.into();
    }

    fn intent(&mut self, intent: &Intent) {
        self.caller(&intent.caller);
        self.set("action", intent.operation.as_str());
        self.set("lane", lane(intent.lane));
        self.set("request_sha256_b64u", intent.request_hash_b64u.to_string());
        self.set("trace_id", intent.trace_id.as_deref());
        self.input(&intent.input);
        self.set("destination", destination(intent));
        if let Some(run_id) = &intent.run_id {
            self.set("run_id", run_id.as_str());
        }
        if intent.lane == Lane::Gateway {
            // An operator's wish names its operator; an apply follows from approvals.
            self.set("person", member(&intent.input, "operator"));
            self.set("reasons", member(&intent.input, "reason"));
        }
        self.set("decision", member(&intent.decision, "decision"));
        self.set("reason_code", member(&intent.decision, "code"));
    }

    fn caller(&mut self, caller: &Caller) {
        self.set("token_sha256_hex", caller.token_hash.as_str());
        self.set("source", caller.holder.as_str());
    }

    /// What a decision was made from names where.
    fn input(&mut self, input: &Json) {
        for name in ["organization", "workspace_id", "provider", "model"] {
            let value = member(input, name);
            if !value.is_null() {
                self.set(name, value);
            }
        }
    }
}

fn member(json: &Json, name: &str) -> Value {
    json.get(name).and_then(Json::as_str).into()
}

const fn lane(lane: Lane) -> &'static str {
    match lane {
        Lane::Terraform => "terraform",
        Lane::Model => "model",
        Lane::Gateway => "gateway",
        Lane::Egress => "egress",
    }
}

fn ended(ended: Ended) -> Value {
    json!(ended)
}
