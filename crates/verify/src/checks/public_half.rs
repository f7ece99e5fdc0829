//! The public half: the job's own signature over the event chain and the receipts of model calls.

use std::collections::HashMap;

use proof::Hash;
use proof::bundle::Close;
use proof::receipt::GatewayReceipt;
use proof::record::MAX_CHAIN;
use proof::trust::Role;

use crate::checks::contract::Contract;
use crate::code::Code;
use crate::document::{Document, Receipt};
use crate::report::Findings;
use crate::trust::Believed;

/// The receipts of model calls, as the verified public halves carry them, with their places.
#[derive(Debug)]
pub(crate) struct PublicReceipts<'a>(pub(crate) Vec<(String, &'a Receipt<GatewayReceipt>)>);

/// Compares each half with what the records make.
pub(crate) fn check<'a>(
    document: &'a Document,
    contract: &Contract,
    close: &Close,
    believed: &Believed<'_>,
    findings: &mut Findings,
) -> Option<PublicReceipts<'a>> {
    let chain = usize::try_from(MAX_CHAIN).expect("a small number");
    let expected: Vec<_> = document.events.chunks(chain).collect();
    if document.halves.len() != expected.len() {
        let detail = format!(
            "{} halves where {} are needed",
            document.halves.len(),
            expected.len()
        );
        findings.fail(Code::PublicHalfMismatch, "/proof_bundle", detail);
        return None;
    }
    let half_of_event: HashMap<Hash, usize> = expected
        .iter()
        .enumerate()
        .flat_map(|(n, events)| events.iter().map(move |event| (event.event_hash_b64u, n)))
        .collect();
    let job = &document.bundle.job;
    let mut receipts = Vec::new();
    for (n, (place, envelope)) in document.public_halves().enumerate() {
        let (half, carried) = match &envelope.content {
            Ok(read) => read,
            Err(error) => {
                findings.fail(error.code, place, &error.detail);
                return None;
            }
        };
        findings.require(
            envelope.signer == job.agent_did
                && half.agent_did == job.agent_did
                && envelope.issued_at == close.issued_at,
            Code::EnvelopeMismatch,
            &place,
            "not signed by the job's own key when the job was closed",
        );
        findings.require(
            half.bundle_version == "1"
                && half.bundle_id == format!("bundle_{}_{}", job.job_id, n + 1),
            Code::PublicHalfMismatch,
            format_args!("{place}/payload/bundle_id"),
            "not the version or name of this half",
        );
        let tie = &half.metadata.clawgate;
        let tie_place = format!("{place}/payload/metadata/clawgate");
        findings.require(
            tie.policy_hash_b64u == contract.hash,
            Code::PolicyHashMismatch,
            &tie_place,
            "tied to another contract",
        );
        findings.require(
            tie.evidence_hash_b64u == document.evidence_hash,
            Code::EvidenceMismatch,
            &tie_place,
            "tied to other evidence",
        );
        believed.require_key(
            &tie.gateway_did,
            Role::Receipt,
            document.sealed(close.issued_at),
            &tie_place,
            findings,
        );
        let differs = half
            .event_chain
            .iter()
            .zip(expected[n])
            .position(|(found, made)| found != made);
        let differs = differs.or_else(|| {
            let shorter = half.event_chain.len().min(expected[n].len());
            (half.event_chain.len() != expected[n].len()).then_some(shorter)
        });
        if let Some(index) = differs {
            findings.fail(
                Code::PublicHalfMismatch,
                format!("{place}/payload/event_chain/{index}"),
                "not the event that the records make",
            );
        }
        for (index, receipt) in carried.iter().enumerate() {
            let place = format!("{place}/payload/receipts/{index}");
            let belongs = receipt.event.and_then(|hash| half_of_event.get(&hash)) == Some(&n);
            findings.require(
                belongs,
                Code::ReceiptBinding,
                &place,
                "names an event that is not in this half",
            );
            receipts.push((place, receipt));
        }
    }
    findings.note(format!("{} events", document.events.len()));
    Some(PublicReceipts(receipts))
}
