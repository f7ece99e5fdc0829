//! A job as a gateway would record it, for tests, benchmarks and published vectors.
//!
//! Everything is fixed: keys come from seeds, times from a start, ids from counters. A
//! [`Story`] is edited as a forger would, then told ([`Story::evidence`]), edited again, and
//! sealed ([`seal`]).

#![expect(
    clippy::missing_panics_doc,
    reason = "a fixture that cannot be made is a mistake in the test"
)]

use proof::approval::{
    ApproverSignature, Changes, Decision, Judgement, SignedStatement, Statement, Subject, to_sign,
};
use proof::bundle::{Bundle, Evidence, Inclusion, Job, LogProof, Run, SealError, Sealers, Token};
use proof::checkpoint::Checkpoint;
use proof::passkey::Site;
use proof::passkey::testing::SoftAuthenticator;
use proof::receipt::{Binding, GatewayReceipt, ResultStatus, ToolReceipt, salted, tool_prefix};
use proof::record::{
    ApprovalRecord, ApprovalVia, Body, Caller, Egress, Ended, EventChain, Intent, JobClose,
    JobOpen, Lane, Outcome, ReceiptRef, Record, Refusal, Usage,
};
use proof::token::{Claims, Scope};
use proof::trust::{Approver, Author, GatewayKey, Log, Passkey, Role, TRUST_ROOT, TrustRoot};
use proof::{Envelope, EnvelopeType, Hash, Json, SigningKey, Timestamp, merkle};

/// The approver whom the contract names.
pub const APPROVER: &str = "infra-lead@example.com";

/// Name of the log.
pub const ORIGIN: &str = "gateway.example/log";

/// Name of the gateway.
pub const GATEWAY: &str = "did:web:gateway.example";

const RUN: &str = "run-Qm5zT8xKb2VfYw3e";
const WORKSPACE: &str = "ws-staging-app";

/// Every key that plays a part.
#[derive(Debug, Clone)]
pub struct Keys {
    /// Signs contracts.
    pub author: SigningKey,
    /// Signs approvals.
    pub approver: SigningKey,
    /// The same approver's passkey.
    pub passkey: SoftAuthenticator,
    /// Signs receipts.
    pub receipt: SigningKey,
    /// Signs the end of jobs.
    pub close: SigningKey,
    /// Signs checkpoints.
    pub log: SigningKey,
    /// Signs tokens.
    pub token: SigningKey,
    /// The keys of jobs are derived from it.
    pub jobs: SigningKey,
    /// Signs key sets.
    pub root: SigningKey,
    /// The job's own.
    pub job: SigningKey,
}

impl Keys {
    /// The keys that one seed makes; another seed makes an attacker's.
    pub fn from_seed(seed: u8) -> Self {
        let root = SigningKey::from_seed(&[seed; 32]);
        Self {
            author: root.derive("author"),
            approver: root.derive("approver"),
            passkey: SoftAuthenticator::new(seed, &site()),
            receipt: root.derive("receipt"),
            close: root.derive("close"),
            log: root.derive("log"),
            token: root.derive("token"),
            jobs: root.derive("jobs"),
            root: root.derive("keyset"),
            job: root.derive("job"),
        }
    }

    /// The trust root that names these keys.
    pub fn trust_root(&self) -> TrustRoot {
        let key = |key: &SigningKey, role| GatewayKey {
            did: key.did(),
            role,
            not_before: start().plus_seconds(-86_400),
            not_after: Some(start().plus_seconds(86_400)),
            revoked_at: None,
            revoked_from_leaf: None,
        };
        TrustRoot {
            trust_root: TRUST_ROOT.to_owned(),
            gateway: vec![
                key(&self.receipt, Role::Receipt),
                key(&self.close, Role::Close),
                key(&self.log, Role::Checkpoint),
            ],
            key_sets: Vec::new(),
            authors: vec![Author {
                did: self.author.did(),
                name: "Platform team".to_owned(),
            }],
            approvers: vec![Approver {
                email: APPROVER.to_owned(),
                did: self.approver.did(),
            }],
            passkeys: vec![Passkey {
                email: APPROVER.to_owned(),
                did: self.passkey.did(),
                site: site(),
                not_before: start().plus_seconds(-86_400),
                revoked_at: None,
            }],
            log: Log {
                origin: ORIGIN.to_owned(),
                key: self.log.did(),
            },
            witnesses: None,
            tsa: vec![],
        }
    }
}

/// Where passkeys are used.
pub fn site() -> Site {
    Site {
        rp_id: "gateway.example".to_owned(),
        origins: vec!["https://gateway.example".to_owned()],
    }
}

/// When the story begins.
pub fn start() -> Timestamp {
    "2026-11-22T08:00:00.000Z".parse().expect("a time")
}

/// One record to be, and the receipt that goes with it.
#[derive(Debug, Clone)]
pub struct Step {
    /// Milliseconds after the record before.
    pub after_ms: i64,
    /// What it says; an outcome's `intent_seq` is filled in when the story is told, as the
    /// number of the latest intent, and so is its receipt.
    pub body: Body,
}

/// A job, before it is told.
#[derive(Debug, Clone)]
pub struct Story {
    /// Who signs.
    pub keys: Keys,
    /// The contract.
    pub contract: serde_json::Value,
    /// The tokens; pin and scope hash are filled in when the story is told.
    pub tokens: Vec<Token>,
    /// The runs.
    pub runs: Vec<Run>,
    /// The signed statements.
    pub approvals: Vec<SignedStatement>,
    /// What happens.
    pub steps: Vec<Step>,
}

impl Story {
    /// Hash of the contract.
    pub fn policy_hash(&self) -> Hash {
        Hash::of(&Json::from(self.contract.clone()).to_jcs())
    }

    /// The job.
    pub fn job(&self) -> Job {
        let length: i64 = self.steps.iter().map(|step| step.after_ms).sum();
        Job {
            job_id: "job_019ab0c0-0000-7000-8000-000000000001"
                .parse()
                .expect("a job id"),
            agent_did: self.keys.job.did(),
            name: "Raise the instance size of staging".to_owned(),
            opened_at: Timestamp::from_millis(start().millis() + self.steps[0].after_ms),
            closed_at: Timestamp::from_millis(start().millis() + length),
        }
    }

    /// Numbers the records, draws the event chain, signs the receipts.
    pub fn evidence(&self) -> Evidence {
        let policy_hash = self.policy_hash();
        let job = self.job();
        let mut told = Telling {
            story: self,
            job: &job,
            policy_hash,
            chain: EventChain::default(),
            latest: None,
            records: Vec::new(),
            gateway_receipts: Vec::new(),
            tool_receipts: Vec::new(),
        };
        let mut at = start().millis();
        for step in &self.steps {
            at += step.after_ms;
            told.tell(step.body.clone(), Timestamp::from_millis(at));
        }
        Evidence {
            wpc: Envelope::sign(
                EnvelopeType::WorkPolicyContract,
                &self.contract,
                &self.keys.author,
                start().plus_seconds(-3600),
            )
            .expect("a contract can be signed"),
            policy_hash,
            tokens: self.tokens.iter().map(|t| self.pinned(t)).collect(),
            runs: self.runs.clone(),
            approvals: self.approvals.clone(),
            log: log_for(&told.records, &self.keys),
            gateway_receipts: told.gateway_receipts,
            tool_receipts: told.tool_receipts,
            records: told.records,
            job,
        }
    }

    fn pinned(&self, token: &Token) -> Token {
        let mut token = token.clone();
        token.claims.policy_hash_b64u = self.policy_hash();
        token.claims.token_scope_hash_b64u = token.claims.scope_hash();
        token
    }

    /// What an approver would sign about the first run.
    pub fn statement(&self, decision: Decision, nonce: &str, issued_at: Timestamp) -> Statement {
        let run = &self.runs[0];
        let subject = Subject {
            organization: "acme".to_owned(),
            workspace_id: run.workspace_id.clone(),
            run_id: run.run_id.clone(),
            configuration_version_id: run.configuration_version_id.clone().expect("known"),
            configuration_sha256_b64u: run.configuration_sha256_b64u.expect("known"),
            plan_id: run.plan_id.clone().expect("known"),
            plan_sha256_b64u: run.plan_sha256_b64u.expect("known"),
            policy_hash_b64u: self.policy_hash(),
            job_id: "job_019ab0c0-0000-7000-8000-000000000001"
                .parse()
                .expect("a job id"),
            changes: run.changes.expect("known"),
            cost: None,
        };
        subject.judge(Judgement {
            decision,
            approver: APPROVER.to_owned(),
            approver_did: self.keys.approver.did().into(),
            issued_at,
            expires_at: issued_at.plus_seconds(1800),
            nonce: nonce.to_owned(),
            reason: (decision == Decision::Deny).then(|| "not today".to_owned()),
        })
    }

    /// Signs a statement and adds it; the body of its record comes back.
    pub fn approve(&mut self, statement: &Statement, key: &SigningKey) -> Body {
        let envelope = Envelope::sign(
            EnvelopeType::ApprovalStatement,
            statement,
            key,
            statement.issued_at,
        )
        .expect("a statement can be signed");
        self.record(statement, envelope.try_into().expect("a statement"))
    }

    /// The same by a passkey, whose approver the statement must name.
    pub fn approve_by_passkey(
        &mut self,
        statement: &Statement,
        passkey: &mut SoftAuthenticator,
    ) -> Body {
        let (_, challenge) = to_sign(statement).expect("a statement can be signed");
        let assertion = passkey.sign(challenge.as_bytes());
        let signed = SignedStatement::by_passkey(statement, assertion);
        self.record(statement, signed.expect("a statement can be signed"))
    }

    fn record(&mut self, statement: &Statement, envelope: SignedStatement) -> Body {
        let via = match envelope.signature {
            ApproverSignature::Key(_) => ApprovalVia::Key,
            ApproverSignature::Passkey(_) => ApprovalVia::Passkey,
        };
        let body = Body::Approval(ApprovalRecord {
            run_id: statement.run_id.clone(),
            decision: statement.decision,
            approver: statement.approver.clone(),
            approver_did: statement.approver_did.clone(),
            statement_hash_b64u: envelope.payload_hash_b64u,
            plan_sha256_b64u: statement.plan_sha256_b64u,
            via,
        });
        self.approvals.push(envelope);
        body
    }

    /// Where the first step is that satisfies a condition.
    pub fn position(&self, wanted: impl Fn(&Body) -> bool) -> usize {
        self.steps
            .iter()
            .position(|step| wanted(&step.body))
            .expect("the story has such a step")
    }

    /// Where the last intent of an operation is.
    pub fn intent(&self, operation: &str) -> usize {
        self.steps
            .iter()
            .rposition(|step| matches!(&step.body, Body::Intent(i) if i.operation == operation))
            .expect("the story has such a call")
    }

    /// Corrects what follows from the number of steps: the count in the last record.
    #[must_use]
    pub fn recounted(mut self) -> Self {
        let steps = self.steps.len() as u64;
        if let Some(Body::JobClose(close)) = self.steps.last_mut().map(|step| &mut step.body) {
            close.count = steps;
        }
        self
    }
}

/// The state of a story while it is told.
struct Telling<'a> {
    story: &'a Story,
    job: &'a Job,
    policy_hash: Hash,
    chain: EventChain,
    latest: Option<(u64, Intent, Hash)>,
    records: Vec<Record>,
    gateway_receipts: Vec<Envelope>,
    tool_receipts: Vec<Envelope>,
}

impl Telling<'_> {
    fn tell(&mut self, body: Body, at: Timestamp) {
        let seq = self.records.len() as u64 + 1;
        let body = match body {
            Body::Outcome(outcome) if outcome.intent_seq == 0 => self.outcome(*outcome, at),
            Body::JobOpen(open) => Body::JobOpen(JobOpen {
                policy_hash_b64u: self.policy_hash,
                ..open
            }),
            Body::JobClose(close) => Body::JobClose(JobClose {
                policy_hash_b64u: self.policy_hash,
                ..close
            }),
            Body::Intent(intent) => Body::Intent(Box::new(Intent {
                policy_hash_b64u: self.policy_hash,
                ..*intent
            })),
            Body::Refusal(refusal) => Body::Refusal(Box::new(Refusal {
                policy_hash_b64u: self.policy_hash,
                ..*refusal
            })),
            other => other,
        };
        let record = Record {
            job_id: self.job.job_id.clone(),
            seq,
            at,
            body,
        };
        let event = self.chain.extend(&record);
        if let (Body::Intent(intent), Some(event)) = (&record.body, event) {
            self.latest = Some((seq, (**intent).clone(), event.event_hash_b64u));
        }
        self.records.push(record);
    }

    /// Fills in the intent and the receipt.
    fn outcome(&mut self, mut outcome: Outcome, at: Timestamp) -> Body {
        let (intent_seq, intent, event) = self.latest.clone().expect("an intent comes before");
        outcome.intent_seq = intent_seq;
        if outcome.ended == Ended::Unknown {
            return Body::Outcome(Box::new(outcome));
        }
        let scope = self
            .story
            .tokens
            .iter()
            .find(|token| token.token_hash == intent.caller.token_hash)
            .map(|token| self.story.pinned(token).claims.token_scope_hash_b64u);
        let binding = Binding {
            run_id: self.job.job_id.to_string(),
            event_hash_b64u: event,
            nonce: format!("{}:{intent_seq}", self.job.job_id),
            policy_hash: self.policy_hash,
            token_scope_hash_b64u: scope,
        };
        let receipt_id = format!("rcpt_00000000-0000-7000-8000-{intent_seq:012}");
        let key = &self.story.keys.receipt;
        let envelope = if intent.lane == Lane::Model {
            let receipt = GatewayReceipt {
                receipt_version: "1".to_owned(),
                receipt_id: receipt_id.clone(),
                gateway_id: GATEWAY.to_owned(),
                provider: "openai".to_owned(),
                model: "gpt-5.2".to_owned(),
                request_hash_b64u: intent.request_hash_b64u,
                response_hash_b64u: outcome.response_hash_b64u,
                tokens_input: outcome.usage.map_or(0, |usage| usage.tokens_input),
                tokens_output: outcome.usage.map_or(0, |usage| usage.tokens_output),
                latency_ms: outcome.latency_ms,
                timestamp: at,
                binding,
                metadata: serde_json::json!({"clawgate": {
                    "ended": "complete", "issuer": key.did(), "tokens_derived": false,
                }})
                .into(),
            };
            let envelope = Envelope::sign(EnvelopeType::GatewayReceipt, &receipt, key, at);
            self.gateway_receipts.push(envelope.expect("a receipt"));
            self.gateway_receipts.last()
        } else {
            let salt = |what: &str| Hash::of(format!("{what} {intent_seq}").as_bytes());
            let receipt = ToolReceipt {
                receipt_version: "2".to_owned(),
                receipt_id: receipt_id.clone(),
                tool_name: format!("{}{}", tool_prefix(intent.lane), intent.operation),
                tool_version: "clawgate/1".to_owned(),
                args_hash_b64u: salted(&salt("args"), &intent.request_hash_b64u),
                result_hash_b64u: salted(&salt("result"), &outcome.response_hash_b64u),
                hash_algorithm: "SHA-256".to_owned(),
                agent_did: self.job.agent_did.clone(),
                timestamp: at,
                latency_ms: outcome.latency_ms,
                result_status: match (&outcome.ended, &outcome.code) {
                    (Ended::Complete, None) => ResultStatus::Success,
                    _ => ResultStatus::Error,
                },
                args_salt_b64u: salt("args"),
                result_salt_b64u: salt("result"),
                binding,
            };
            let envelope = Envelope::sign(EnvelopeType::ToolReceipt, &receipt, key, at);
            self.tool_receipts.push(envelope.expect("a receipt"));
            self.tool_receipts.last()
        };
        outcome.receipt = envelope.map(|envelope| ReceiptRef {
            receipt_id,
            payload_hash_b64u: envelope.payload_hash_b64u,
        });
        Body::Outcome(Box::new(outcome))
    }
}

/// Every complete subtree of a tree in memory, level by level.
struct Levels(Vec<Vec<Hash>>);

impl Levels {
    fn over(leaves: Vec<Hash>) -> Self {
        let mut levels = vec![leaves];
        while let Some(below) = levels.last().filter(|below| below.len() > 1) {
            let pairs = below.chunks_exact(2);
            let above = pairs.map(|pair| merkle::node_hash(&pair[0], &pair[1]));
            levels.push(above.collect());
        }
        Self(levels)
    }
}

impl merkle::Nodes for Levels {
    type Error = std::convert::Infallible;

    fn node(&self, level: u32, index: u64) -> Result<Hash, Self::Error> {
        let index = usize::try_from(index).expect("in memory");
        Ok(self.0[level as usize][index])
    }
}

/// The leaves of the log that [`log_for`] makes.
pub fn leaves_for(records: &[Record]) -> Vec<Hash> {
    let other = |seq: u64| merkle::leaf_hash(format!("other {seq}").as_bytes());
    let pairs = records.iter();
    pairs
        .flat_map(|record| [other(record.seq), record.leaf_hash()])
        .collect()
}

/// A log in which the records stand between the leaves of other jobs, with its checkpoint.
pub fn log_for(records: &[Record], keys: &Keys) -> LogProof {
    log_over(records, leaves_for(records), &keys.log).0
}

/// The log of these leaves, of which every second one is a record's, with its checkpoint.
fn log_over(records: &[Record], leaves: Vec<Hash>, key: &SigningKey) -> (LogProof, Levels) {
    let size = leaves.len() as u64;
    let levels = Levels::over(leaves);
    let checkpoint = Checkpoint {
        origin: ORIGIN.to_owned(),
        size,
        root: merkle::root(&levels, size).expect("in memory"),
    };
    let proofs = records
        .iter()
        .enumerate()
        .map(|(n, record)| {
            let index = 2 * n as u64 + 1;
            Inclusion {
                seq: record.seq,
                index,
                path: path(&levels, index),
            }
        })
        .collect();
    let log = LogProof {
        checkpoint: checkpoint.sign(key),
        timestamp: None,
        proofs,
        key_sets: Vec::new(),
    };
    (log, levels)
}

fn path(levels: &Levels, index: u64) -> Vec<Hash> {
    let size = levels.0[0].len() as u64;
    merkle::inclusion_path(levels, index, size).expect("in memory")
}

/// Seals the evidence with the keys that should.
pub fn seal(evidence: Evidence, keys: &Keys) -> Bundle {
    let at = evidence.job.closed_at.plus_seconds(1);
    proof::bundle::seal::<SealError>(
        evidence,
        &Sealers {
            job: &keys.job,
            close: keys.close.did(),
            sign_close: &|close| {
                let kind = EnvelopeType::JobClose;
                Ok(Envelope::sign(kind, close, &keys.close, at)?)
            },
            receipt_did: keys.receipt.did(),
            at,
        },
    )
    .expect("the story can be sealed")
}

/// The bytes of a file.
pub fn bytes(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("JSON")
}

pub mod forgeries;
mod key_sets;
mod story;

pub use key_sets::{KeySets, rooted};
