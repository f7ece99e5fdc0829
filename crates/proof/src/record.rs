//! Records: what happened in a job, one document each, in an order without gaps.
//!
//! A record holds hashes, ids and counts, never content. Its canonical form is a leaf of the
//! log. Records that mean an event also extend the job's event chain, which the public formats
//! need: see [`crate::event`].
//!
//! To add a kind: a variant of [`Body`] with its own versioned name, its place in
//! [`Record::event_type`], and a check in the verifier.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::hash::Hash;
use crate::jcs;
use crate::json::Json;
use crate::keys::Did;
use crate::merkle;
use crate::time::Timestamp;

mod confinement;
mod read;

pub use self::confinement::{Barrier, Confinement};
pub use crate::event::{Event, EventChain, MAX_CHAIN};

/// Name of a job: `job_` and a UUID.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct JobId(String);

/// A text that is not the name of a job.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a job id (job_ and up to 64 letters, digits or dashes)")]
pub struct JobIdError(String);

impl JobId {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for JobId {
    type Err = JobIdError;

    fn from_str(text: &str) -> Result<Self, JobIdError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        match text.strip_prefix("job_") {
            Some(rest) if (1..=64).contains(&rest.len()) && rest.bytes().all(plain) => {
                Ok(Self(text.to_owned()))
            }
            _ => Err(JobIdError(text.chars().take(100).collect())),
        }
    }
}

impl TryFrom<String> for JobId {
    type Error = JobIdError;

    fn try_from(text: String) -> Result<Self, JobIdError> {
        text.parse()
    }
}

impl From<JobId> for String {
    fn from(id: JobId) -> Self {
        id.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One record of a job, with its place in the job.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The job.
    pub job_id: JobId,
    /// Place in the job: 1, 2, 3 … without gaps.
    pub seq: u64,
    /// When it was written, by the gateway's clock.
    pub at: Timestamp,
    /// What happened.
    pub body: Body,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", deny_unknown_fields)]
pub enum Body {
    /// The job begins.
    #[serde(rename = "clawgate.job-open/1")]
    JobOpen(JobOpen),
    /// A call was decided and is about to be made.
    #[serde(rename = "clawgate.intent/1")]
    Intent(Box<Intent>),
    /// How such a call ended.
    #[serde(rename = "clawgate.outcome/1")]
    Outcome(Box<Outcome>),
    /// A call was refused; nothing went upstream.
    #[serde(rename = "clawgate.refusal/1")]
    Refusal(Box<Refusal>),
    /// A person decided about a plan.
    #[serde(rename = "clawgate.approval/1")]
    Approval(ApprovalRecord),
    /// A token was revoked.
    #[serde(rename = "clawgate.revocation/1")]
    Revocation(Revocation),
    /// The job ends; nothing follows.
    #[serde(rename = "clawgate.job-close/1")]
    JobClose(JobClose),
}

/// The beginning of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobOpen {
    /// The job's own key.
    pub agent_did: Did,
    /// What the job is for, in the opener's words.
    pub name: String,
    /// The operator who opened it.
    pub opened_by: String,
    /// The e-mail address of the person behind that operator, where the gateway knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opened_by_email: Option<String>,
    /// The contract that holds for the whole job.
    pub policy_hash_b64u: Hash,
    /// The gateway's key for receipts.
    pub gateway_did: Did,
    /// How the agent is confined, as the opener says; the gateway cannot see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confinement: Option<Confinement>,
    /// How long the job stays open when whoever opened it says nothing, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_seconds: Option<u32>,
}

/// Who made a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Caller {
    /// SHA-256 of the token, in hexadecimal; `gateway` for the gateway's own calls.
    pub token_hash: String,
    /// The agent on whose behalf.
    pub agent_did: Did,
    /// Whom the token is bound to: a network address, or a key thumbprint. In a refusal: who
    /// called, which may be somebody else.
    pub holder: String,
}

/// Which part of the gateway a call went through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lane {
    /// An agent's Terraform call.
    Terraform,
    /// An agent's model call.
    Model,
    /// A call that the gateway makes itself: an apply, a discard, a rollback.
    Gateway,
    /// An agent's connection to somewhere else.
    Egress,
}

/// A decided call, before any effect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intent {
    /// Who.
    pub caller: Caller,
    /// Through which lane.
    pub lane: Lane,
    /// What, by its stable name, for example `create-run`.
    pub operation: String,
    /// The run that it concerns, when one is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// Everything that the decision was made from, so that it can be made again.
    pub input: Json,
    /// The decision with its reasons.
    pub decision: Json,
    /// The contract that decided.
    pub policy_hash_b64u: Hash,
    /// Hash of the request body as it goes upstream.
    pub request_hash_b64u: Hash,
    /// W3C trace id that the client sent; untrusted, for grouping only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// The model call that asked for this one, as far as that can be told; only of calls that a
    /// tool of ours made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caused_by: Option<CausedBy>,
}

/// The model call that a call of a tool comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CausedBy {
    /// The model call's receipt, earlier in the same job.
    pub receipt_id: String,
    /// By what the two belong together.
    #[serde(rename = "match")]
    pub by: Match,
    /// The tool as that call's outcome names it; with [`Match::Arguments`] only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<ToolCall>,
}

/// By what a tool's call and a model's answer belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Match {
    /// The answer asked for this tool with these very arguments.
    Arguments,
    /// The answer came before, and none came after it. No more than that.
    Sequence,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// The whole answer came and went.
    Complete,
    /// The client left before the end.
    ClientGone,
    /// Upstream broke off, or could not be reached.
    UpstreamReset,
    /// The gateway cut it: token revoked, job closed, budget spent.
    CutByPolicy,
    /// Nobody can say for sure: the gateway stopped in between, or could not sign the receipt.
    Unknown,
}

/// Tokens that a model call used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// Tokens of the request.
    pub tokens_input: u64,
    /// Tokens of the answer.
    pub tokens_output: u64,
    /// Counted by us, because the provider did not say.
    pub derived: bool,
}

/// Most tool calls of one answer that an outcome names.
pub const MAX_TOOL_CALLS: usize = 64;

/// Longest name of a tool in an outcome, in bytes; a longer one is cut.
pub const MAX_TOOL_NAME: usize = 128;

/// A tool that a model asked for in its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolCall {
    /// The tool's name.
    pub name: String,
    /// Hash of the canonical form of the arguments; absent when they were cut or are not JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments_sha256_b64u: Option<Hash>,
}

/// What went out through the egress proxy. What came back is counted as the response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Egress {
    /// The address that was connected to; absent when there was no connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Bytes that were sent there: of a tunnel all, of a plain request those of its body.
    pub sent_bytes: u64,
    /// Their hash.
    pub sent_hash_b64u: Hash,
}

/// The receipt that was given for a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptRef {
    /// Its id.
    pub receipt_id: String,
    /// Hash of its payload.
    pub payload_hash_b64u: Hash,
}

/// The end of a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// The intent that it answers.
    pub intent_seq: u64,
    /// HTTP status that the caller saw, when one was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// HTTP status of upstream, when one came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_status: Option<u16>,
    /// Hash of upstream's body bytes, as far as they came.
    pub response_hash_b64u: Hash,
    /// Their number.
    pub response_bytes: u64,
    /// From sending to the last byte, in milliseconds.
    pub latency_ms: u64,
    /// From sending to the first body byte, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_byte_ms: Option<u64>,
    /// Tokens, for a model call that got that far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// The first tools that the model asked for, in the order of its answer; at most
    /// [`MAX_TOOL_CALLS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// The object that the call made or concerned: a run, a configuration version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_id: Option<String>,
    /// What was sent elsewhere; of calls of the egress lane whose end is known, and of no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Egress>,
    /// How it ended.
    pub ended: Ended,
    /// Why it was refused after the intent, by reason code: an upload that inspection stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The receipt; absent only where the outcome is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<ReceiptRef>,
}

/// A call that was not made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// Who asked.
    pub caller: Caller,
    /// Through which lane.
    pub lane: Lane,
    /// What was asked: an operation's name, or method and route class when it is no operation.
    pub asked: String,
    /// Hash of method and target as they were received.
    pub target_hash_b64u: Hash,
    /// The stable reason code.
    pub code: String,
    /// The reasons in words.
    pub reasons: Vec<String>,
    /// The run that it concerns, when one is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// What the decision was made from, when the contract decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Json>,
    /// The contract that holds for the job.
    pub policy_hash_b64u: Hash,
}

/// A person's decision about a plan, as it was taken into the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalRecord {
    /// The run.
    pub run_id: String,
    /// `approve` or `deny`.
    pub decision: crate::approval::Decision,
    /// The approver's e-mail address.
    pub approver: String,
    /// The approver's key.
    pub approver_did: crate::passkey::ApproverDid,
    /// Hash of the signed statement.
    pub statement_hash_b64u: Hash,
    /// Digest of the plan that was judged.
    pub plan_sha256_b64u: Hash,
    /// How it was given.
    pub via: ApprovalVia,
}

/// How an approval reached the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ApprovalVia {
    /// A statement signed by the approver's key.
    Key,
    /// The same, carried by an elevated token that was then used.
    Token,
    /// A statement signed by the approver's passkey.
    Passkey,
}

/// The end of a token's life before its time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revocation {
    /// SHA-256 of the token, in hexadecimal.
    pub token_hash: String,
    /// The operator who revoked it.
    pub revoked_by: String,
    /// Why, in the operator's words.
    pub reason: String,
}

/// The end of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobClose {
    /// The operator who closed it, or `gateway` when it ran out.
    pub closed_by: String,
    /// Why.
    pub reason: String,
    /// How many records the job has, this one included.
    pub count: u64,
    /// The contract that held.
    pub policy_hash_b64u: Hash,
}

impl Record {
    /// The canonical form: what is hashed, stored and shown.
    pub fn to_jcs(&self) -> Vec<u8> {
        self.written().unwrap_or_else(|| self.to_json().to_jcs())
    }

    /// The canonical form, if it can be written straight away. It holds no fractions then.
    pub fn written(&self) -> Option<Vec<u8>> {
        #[derive(Serialize)]
        struct Written<'a> {
            #[serde(flatten)]
            body: &'a Body,
            job_id: &'a JobId,
            seq: u64,
            at: Timestamp,
        }
        jcs::direct(&Written {
            body: &self.body,
            job_id: &self.job_id,
            seq: self.seq,
            at: self.at,
        })
    }

    /// The record as JSON.
    pub fn to_json(&self) -> Json {
        let mut json = Json::from_value(&self.body).expect("records hold strings and integers");
        json.set("job_id", self.job_id.as_str());
        json.set(
            "seq",
            i64::try_from(self.seq).expect("fewer than 2^63 records"),
        );
        json.set("at", self.at.to_string());
        json
    }

    /// The record's hash as a leaf of the log.
    pub fn leaf_hash(&self) -> Hash {
        merkle::leaf_hash(&self.to_jcs())
    }

    /// The kind of event that the record is in the public event chain, if it is one.
    pub fn event_type(&self) -> Option<&'static str> {
        match &self.body {
            Body::JobOpen(_) => Some("run_start"),
            Body::Intent(intent) => Some(match intent.lane {
                Lane::Model => "llm_call",
                Lane::Terraform | Lane::Gateway | Lane::Egress => "tool_call",
            }),
            Body::Approval(_) => Some("human_approval"),
            Body::JobClose(_) => Some("run_end"),
            Body::Outcome(_) | Body::Refusal(_) | Body::Revocation(_) => None,
        }
    }
}

impl Serialize for Record {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Json::deserialize(deserializer)?;
        Self::from_json(&json).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::SigningKey;

    fn record(seq: u64, body: Body) -> Record {
        Record {
            job_id: "job_1".parse().unwrap(),
            seq,
            at: Timestamp::from_millis(5),
            body,
        }
    }

    fn close() -> Body {
        Body::JobClose(JobClose {
            closed_by: "ops".into(),
            reason: "done".into(),
            count: 3,
            policy_hash_b64u: Hash::of(b"p"),
        })
    }

    #[test]
    fn records_come_back_as_they_were() {
        let did = SigningKey::from_seed(&[1; 32]).did();
        let refusal = Body::Refusal(Box::new(Refusal {
            caller: Caller {
                token_hash: "ab".into(),
                agent_did: did,
                holder: "127.0.0.1".into(),
            },
            lane: Lane::Terraform,
            asked: "create-run".into(),
            target_hash_b64u: Hash::of(b"t"),
            code: "WORKSPACE_NOT_ALLOWED".into(),
            reasons: vec!["no".into()],
            run_id: None,
            input: Some(Json::object()),
            policy_hash_b64u: Hash::of(b"p"),
        }));
        for body in [close(), refusal] {
            let record = record(7, body);
            let text = record.to_jcs();
            assert_eq!(record.written().as_ref(), Some(&text));
            assert_eq!(record.to_json().to_jcs(), text, "both ways write the same");
            let back: Record = crate::json::from_slice(&text).unwrap();
            assert_eq!(back, record);
            let back = Record::from_canonical(std::str::from_utf8(&text).unwrap()).unwrap();
            assert_eq!(back, record);
            assert_eq!(back.to_jcs(), text);
        }
    }

    #[test]
    fn unknown_members_are_refused() {
        let good = record(1, close()).to_json();
        assert!(Record::from_json(&good).is_ok());
        for (name, value) in [
            ("more", Json::Null),
            ("record", "clawgate.job-close/2".into()),
        ] {
            let mut bad = good.clone();
            bad.set(name, value);
            assert!(Record::from_json(&bad).is_err(), "{name}");
            let text = String::from_utf8(bad.to_jcs()).unwrap();
            assert!(Record::from_canonical(&text).is_err(), "{name}");
        }
        for name in ["job_id", "seq", "at", "count", "record"] {
            let mut bad = good.clone();
            bad.remove(name);
            assert!(Record::from_json(&bad).is_err(), "without {name}");
            let text = String::from_utf8(bad.to_jcs()).unwrap();
            assert!(Record::from_canonical(&text).is_err(), "without {name}");
        }
    }

    #[test]
    fn job_ids_are_plain() {
        assert!("job_0198-abc".parse::<JobId>().is_ok());
        for bad in ["", "job_", "run_1", "job_a/b", "job_a b", "job_%2f"] {
            assert!(bad.parse::<JobId>().is_err(), "{bad}");
        }
    }
}
