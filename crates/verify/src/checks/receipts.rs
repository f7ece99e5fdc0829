//! Receipts: signed by the gateway's receipt key, bound to one call, and saying what the
//! records say.

use std::collections::HashMap;

use policy::DecisionInput;
use proof::receipt::{Binding, GatewayReceipt, ResultStatus, ToolReceipt, salted, tool_prefix};
use proof::record::{Ended, Intent, Lane, Outcome, Record};
use proof::trust::Role;
use proof::{Hash, Json, Timestamp};

use crate::checks::contract::Contract;
use crate::checks::public_half::PublicReceipts;
use crate::checks::records::Calls;
use crate::checks::tokens::Tokens;
use crate::code::Code;
use crate::document::{Document, Receipt};
use crate::report::Findings;
use crate::threads;
use crate::trust::Believed;

/// Largest values of the public receipt format; receipts of larger ones carry these.
const MAX_LATENCY_MS: u64 = 3_600_000;
const MAX_TOKENS: u64 = 10_000_000;

/// What a receipt calls the model of a call that names none: the list of models.
const NO_MODEL: &str = "none";

/// What receipts are compared with.
#[derive(Clone, Copy)]
pub(crate) struct Facts<'a> {
    pub(crate) document: &'a Document,
    pub(crate) contract: &'a Contract,
    pub(crate) calls: &'a Calls,
    pub(crate) tokens: &'a Tokens<'a>,
    pub(crate) believed: Believed<'a>,
}

/// A verified receipt, by what an outcome names it with.
#[derive(Debug)]
pub(crate) struct Verified {
    place: String,
    receipt_id: String,
    payload_hash: Hash,
    outcome_seq: u64,
}

type Finding = (Code, &'static str, String);

/// Receipts of model calls, which the public half carries.
pub(crate) fn check_model(
    facts: Facts<'_>,
    receipts: &PublicReceipts<'_>,
    findings: &mut Findings,
) -> Option<Vec<Verified>> {
    let verified = threads::map(&receipts.0, |_, (_, receipt)| facts.model_receipt(receipt));
    let places = receipts.0.iter().map(|(place, _)| place.clone());
    collect(places, verified, findings)
}

/// Receipts of Terraform calls, and of connections through the egress proxy.
pub(crate) fn check_terraform(facts: Facts<'_>, findings: &mut Findings) -> Option<Vec<Verified>> {
    let receipts = &facts.document.tool_receipts;
    let verified = threads::map(receipts, |_, receipt| facts.tool_receipt(receipt));
    let places = (0..).map(|n| format!("/terraform/receipts/{n}"));
    collect(places, verified, findings)
}

fn collect(
    places: impl Iterator<Item = String>,
    results: Vec<Result<Verified, Finding>>,
    findings: &mut Findings,
) -> Option<Vec<Verified>> {
    let mut verified = Vec::with_capacity(results.len());
    for (place, result) in places.zip(results) {
        match result {
            Ok(receipt) => verified.push(Verified { place, ..receipt }),
            Err((code, member, detail)) => findings.fail(code, format!("{place}{member}"), detail),
        }
    }
    if findings.any_failure() {
        return None;
    }
    findings.note(format!("{} receipts", verified.len()));
    Some(verified)
}

/// The call that a receipt is about.
struct Call<'a> {
    intent: (&'a Record, &'a Intent),
    outcome: (&'a Record, &'a Outcome),
}

impl<'a> Facts<'a> {
    fn model_receipt(&self, envelope: &Receipt<GatewayReceipt>) -> Result<Verified, Finding> {
        let (receipt, payload_hash) = accepted(envelope)?;
        self.signer(envelope, &receipt.binding, receipt.timestamp)?;
        let call = self.call(&receipt.binding, receipt.timestamp)?;
        let (intent, outcome) = (call.intent.1, call.outcome.1);
        // Of the first that is listed: the same file gives the same report each time.
        let tokens = &self.document.bundle.tokens;
        let audience = tokens.first().map(|token| token.claims.aud.as_str());
        let well_formed = receipt.receipt_version == "1"
            && receipt.receipt_id.starts_with("rcpt_")
            && audience.is_none_or(|audience| audience == receipt.gateway_id)
            && intent.lane == Lane::Model
            && !receipt.provider.is_empty()
            && !receipt.model.is_empty();
        ensure(well_formed, Code::ReceiptMalformed, "/payload", || {
            "not the receipt of a model call by this gateway".to_owned()
        })?;
        let clawgate = receipt.metadata.get("clawgate");
        let issuer = clawgate
            .and_then(|c| c.get("issuer"))
            .and_then(Json::as_str);
        ensure(
            issuer == Some(envelope.signer.as_str()),
            Code::EnvelopeMismatch,
            "/payload/metadata/clawgate/issuer",
            || "not the signer".to_owned(),
        )?;
        let usage = outcome.usage;
        let asked = match intent.input.to_typed() {
            Ok(DecisionInput::Model(asked)) => Some(asked),
            _ => None,
        };
        let asked = asked.as_ref();
        let same = [
            (
                "/payload/provider",
                asked.is_some_and(|asked| {
                    *asked.provider == receipt.provider
                        || asked.fallbacks.contains(&receipt.provider)
                }),
            ),
            (
                "/payload/model",
                asked.is_some_and(|asked| {
                    asked.model.as_deref().unwrap_or(NO_MODEL) == receipt.model
                }),
            ),
            (
                "/payload/request_hash_b64u",
                receipt.request_hash_b64u == intent.request_hash_b64u,
            ),
            (
                "/payload/response_hash_b64u",
                receipt.response_hash_b64u == outcome.response_hash_b64u,
            ),
            (
                "/payload/tokens_input",
                receipt.tokens_input == usage.map_or(0, |u| u.tokens_input).min(MAX_TOKENS),
            ),
            (
                "/payload/tokens_output",
                receipt.tokens_output == usage.map_or(0, |u| u.tokens_output).min(MAX_TOKENS),
            ),
            (
                "/payload/latency_ms",
                receipt.latency_ms == outcome.latency_ms.min(MAX_LATENCY_MS),
            ),
        ];
        agree(&same)?;
        Ok(verified(&receipt.receipt_id, payload_hash, &call))
    }

    fn tool_receipt(&self, envelope: &Receipt<ToolReceipt>) -> Result<Verified, Finding> {
        let (receipt, payload_hash) = accepted(envelope)?;
        self.signer(envelope, &receipt.binding, receipt.timestamp)?;
        let call = self.call(&receipt.binding, receipt.timestamp)?;
        let (intent, outcome) = (call.intent.1, call.outcome.1);
        let well_formed = receipt.receipt_version == "2"
            && receipt.receipt_id.starts_with("rcpt_")
            && receipt.tool_version == "clawgate/1"
            && receipt.hash_algorithm == "SHA-256"
            && intent.lane != Lane::Model;
        ensure(well_formed, Code::ReceiptMalformed, "/payload", || {
            "not the receipt of a call of a tool".to_owned()
        })?;
        let args = salted(&receipt.args_salt_b64u, &intent.request_hash_b64u);
        let result = salted(&receipt.result_salt_b64u, &outcome.response_hash_b64u);
        let same = [
            ("/payload/args_hash_b64u", receipt.args_hash_b64u == args),
            (
                "/payload/result_hash_b64u",
                receipt.result_hash_b64u == result,
            ),
            (
                "/payload/latency_ms",
                receipt.latency_ms == outcome.latency_ms.min(MAX_LATENCY_MS),
            ),
            (
                "/payload/agent_did",
                receipt.agent_did == self.document.bundle.job.agent_did,
            ),
            (
                "/payload/tool_name",
                receipt.tool_name.strip_prefix(tool_prefix(intent.lane)) == Some(&intent.operation),
            ),
            (
                "/payload/result_status",
                may_be(receipt.result_status, outcome),
            ),
        ];
        agree(&same)?;
        Ok(verified(&receipt.receipt_id, payload_hash, &call))
    }

    /// A receipt is named by its outcome with its hash, so it took effect where the outcome stands.
    fn signer<T>(
        &self,
        envelope: &Receipt<T>,
        binding: &Binding,
        signed_at: Timestamp,
    ) -> Result<(), Finding> {
        let outcome = self
            .intent_seq(binding)
            .and_then(|seq| self.calls.get(&seq));
        let signed = match outcome {
            Some(outcome) => self.document.moment_of(*outcome, signed_at),
            None => self.document.sealed(signed_at),
        };
        self.believed
            .gateway_key(&envelope.signer, Role::Receipt, signed)
            .map_err(|(code, detail)| (code, "/signer_did", detail))?;
        ensure(
            envelope.issued_at == signed_at,
            Code::EnvelopeMismatch,
            "/issued_at",
            || "not the time of the signed payload".to_owned(),
        )
    }

    /// The number of the intent that a binding names.
    fn intent_seq(&self, binding: &Binding) -> Option<u64> {
        let job = self.document.bundle.job.job_id.as_str();
        let digits = binding.nonce.strip_prefix(job)?.strip_prefix(':')?;
        let plain = !digits.starts_with('0') && !digits.starts_with('+');
        digits.parse().ok().filter(|_| plain)
    }

    /// The call that a binding names, when everything about the binding is right.
    fn call(&self, binding: &Binding, at: Timestamp) -> Result<Call<'a>, Finding> {
        let wrong = |member, detail: &str| (Code::ReceiptBinding, member, detail.to_owned());
        let job = self.document.bundle.job.job_id.as_str();
        if binding.run_id != job {
            return Err((
                Code::JobMismatch,
                "/payload/binding/run_id",
                "a receipt of another job".to_owned(),
            ));
        }
        let seq = self
            .intent_seq(binding)
            .ok_or_else(|| wrong("/payload/binding/nonce", "not the number of an intent"))?;
        let intent = self
            .document
            .intent(seq)
            .ok_or_else(|| wrong("/payload/binding/nonce", "not the number of an intent"))?;
        let event = self.document.event(seq).map(|event| event.event_hash_b64u);
        if event != Some(binding.event_hash_b64u) {
            return Err(wrong(
                "/payload/binding/event_hash_b64u",
                "not the event of the intent",
            ));
        }
        if binding.policy_hash != self.contract.hash {
            return Err((
                Code::PolicyHashMismatch,
                "/payload/binding/policy_hash",
                "not the contract of the bundle".to_owned(),
            ));
        }
        let token = self.tokens.get(intent.1.caller.token_hash.as_str());
        if binding.token_scope_hash_b64u != token.map(|t| t.claims.token_scope_hash_b64u) {
            return Err(wrong(
                "/payload/binding/token_scope_hash_b64u",
                "not the scope of the caller's token",
            ));
        }
        let outcome_seq = self
            .calls
            .get(&seq)
            .ok_or_else(|| wrong("/payload/binding/nonce", "a call without an outcome"))?;
        let outcome = self
            .document
            .record(*outcome_seq)
            .and_then(|record| match &record.body {
                proof::record::Body::Outcome(outcome) => Some((record, &**outcome)),
                _ => None,
            })
            .ok_or_else(|| wrong("/payload/binding/nonce", "a call without an outcome"))?;
        if !(intent.0.at <= at && at <= outcome.0.at) {
            return Err((
                Code::TimeBackwards,
                "/payload/timestamp",
                "not between the intent and the outcome".to_owned(),
            ));
        }
        Ok(Call { intent, outcome })
    }
}

/// Whether a receipt may say this about how a call went. An answer of 404 or of the 3xx kind may
/// be called either; what is clear is not to be turned round.
fn may_be(status: ResultStatus, outcome: &Outcome) -> bool {
    let statuses = [outcome.status, outcome.upstream_status];
    let mut statuses = statuses.into_iter().flatten();
    let whole = outcome.ended == Ended::Complete && outcome.code.is_none();
    match status {
        ResultStatus::Success => whole && statuses.all(|s| s < 400 || s == 404),
        ResultStatus::Error => !(whole && statuses.all(|s| (200..300).contains(&s))),
    }
}

/// What a receipt says, when its envelope was in order.
fn accepted<T>(envelope: &Receipt<T>) -> Result<(&T, Hash), Finding> {
    match &envelope.content {
        Ok((receipt, hash)) => Ok((receipt, *hash)),
        Err(error) => Err((error.code, "", error.detail.clone())),
    }
}

fn verified(receipt_id: &str, payload_hash: Hash, call: &Call<'_>) -> Verified {
    Verified {
        place: String::new(),
        receipt_id: receipt_id.to_owned(),
        payload_hash,
        outcome_seq: call.outcome.0.seq,
    }
}

fn ensure(
    holds: bool,
    code: Code,
    member: &'static str,
    detail: impl FnOnce() -> String,
) -> Result<(), Finding> {
    if holds {
        Ok(())
    } else {
        Err((code, member, detail()))
    }
}

fn agree(members: &[(&'static str, bool)]) -> Result<(), Finding> {
    match members.iter().find(|(_, same)| !same) {
        Some((member, _)) => Err((
            Code::ReceiptContent,
            member,
            "not what the records say about the call".to_owned(),
        )),
        None => Ok(()),
    }
}

/// Each outcome names a receipt that is there; each receipt is named by its own outcome, once.
pub(crate) fn check_references(
    document: &Document,
    receipts: &[Verified],
    findings: &mut Findings,
) -> Option<()> {
    let mut unnamed: HashMap<&str, &Verified> = HashMap::new();
    for receipt in receipts {
        if unnamed.insert(&receipt.receipt_id, receipt).is_some() {
            findings.fail(
                Code::ReceiptStray,
                &receipt.place,
                "a second one of this id",
            );
        }
    }
    for (place, record, outcome) in document.outcomes() {
        let Some(named) = &outcome.receipt else {
            if outcome.ended != Ended::Unknown {
                findings.fail(Code::ReceiptMissing, place, "an outcome without a receipt");
            }
            continue;
        };
        let place = format!("{place}/receipt");
        match unnamed.remove(named.receipt_id.as_str()) {
            None => findings.fail(
                Code::ReceiptMissing,
                place,
                format!("{} is not in the bundle, or named twice", named.receipt_id),
            ),
            Some(receipt) => findings.require(
                receipt.payload_hash == named.payload_hash_b64u
                    && receipt.outcome_seq == record.seq,
                Code::ReceiptContent,
                &place,
                "not the receipt of this call",
            ),
        }
    }
    let mut stray: Vec<&Verified> = unnamed.into_values().collect();
    stray.sort_by(|a, b| a.place.cmp(&b.place));
    for receipt in stray {
        let detail = format!("no outcome names {}", receipt.receipt_id);
        findings.fail(Code::ReceiptStray, &receipt.place, detail);
    }
    findings.note(format!("{} receipts", receipts.len()));
    Some(())
}
