//! Verifies a proof bundle offline.
//!
//! [`verify`] takes the bytes of a bundle and of a trust root and says valid, invalid or not
//! proven, with one line for each check. It has no clock, no network and no state: the same
//! bytes give the same report everywhere. It believes the trust root and nothing else; what
//! stands in the bundle is a claim until a signature by a key of the trust root covers it.
//!
//! Reading order: [`verify`] below is the list of checks; each lives in a file of `checks`;
//! [`code`] says what their codes mean; [`report`] how they add up.
//!
//! To add a check: a name in [`report::Name`], a function in `checks`, a line in [`verify`]. A
//! name that has no line never passes.

#![forbid(unsafe_code)]

mod checks;
pub mod clawsig;
pub mod code;
mod document;
pub mod replay;
pub mod report;
#[cfg(feature = "testing")]
pub mod testing;
mod threads;
pub mod trust;

use std::io::{self, Cursor, Read, Seek};

use proof::Timestamp;
use proof::trust::TrustRoot;

use checks::receipts::Facts;
use checks::{
    approvals, consistency, contract, decisions, key_sets, log, public_half, receipts, records,
    runs, tokens,
};
use document::Document;
use report::{Checks, Findings, Name};

pub use checks::consistency::MAX_PROOF_BYTES;
pub use code::Code;
pub use document::{MAX_BUNDLE_BYTES, MAX_ENTRIES};
pub use report::{Check, Report, Status, Verdict};

/// What a caller may ask for.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Judge keys as of this moment, besides the moments at which they signed; nothing in the
    /// bundle may be younger.
    pub at: Option<Timestamp>,
    /// A checkpoint that the caller has kept, or a bundle with one: the log must not have been
    /// rewritten between it and the bundle.
    pub since: Option<Since>,
}

/// What the bundle's checkpoint is compared with.
#[derive(Debug, Clone)]
pub struct Since {
    /// A signed note, or a bundle that holds one; earlier or later than the bundle's.
    pub kept: Vec<u8>,
    /// The proof between the two (`clawgate.consistency/1`).
    pub proof: Option<Vec<u8>>,
}

/// Verifies a bundle against a trust root.
pub fn verify(bundle: &[u8], trust: &[u8], options: &Options) -> Report {
    verify_file(Cursor::new(bundle), trust, options).expect("memory can be read")
}

/// The same for a bundle in a file. Of one in canonical form, as a gateway writes it, a piece is
/// held at a time, beside what is found in it; another one is read whole.
///
/// # Errors
/// When the file cannot be read.
pub fn verify_file(
    bundle: impl Read + Seek,
    trust: &[u8],
    options: &Options,
) -> io::Result<Report> {
    let mut checks = Checks::default();
    if options.since.is_some() {
        checks.ask_for(Name::Consistency);
    }
    let root = checks.run(Name::TrustRoot, |f| read_trust(trust, f));
    let mut document = Ok(None);
    checks.run(Name::File, |f| {
        document = Document::read(bundle, f);
        matches!(document, Ok(Some(_))).then_some(())
    });
    // Either may be missing; whatever is not run below counts as not proven.
    if let (Some(root), Some(document)) = (root, document?) {
        judge(&mut checks, &root, &document, options);
        document.release();
    }
    Ok(checks.finish())
}

fn read_trust(trust: &[u8], findings: &mut Findings) -> Option<TrustRoot> {
    match trust::read(trust) {
        Ok(root) => {
            let (keys, authors) = (root.gateway.len(), root.authors.len());
            let approvers = root.approvers.len() + root.passkeys.len();
            findings.note(format!(
                "{keys} gateway keys, {authors} authors, {approvers} approvers"
            ));
            Some(root)
        }
        Err(error) => {
            findings.not_proven(Code::TrustRootUnreadable, "", error.to_string());
            None
        }
    }
}

fn judge(checks: &mut Checks, root: &TrustRoot, document: &Document, options: &Options) {
    let keys = checks.run(Name::KeySets, |f| key_sets::check(document, root, f));
    let believed = trust::Believed {
        root,
        at: options.at,
        keys: keys.as_ref().filter(|keys| !keys.sets().is_empty()),
    };

    // What builds on nothing but the file comes first, so that one failure hides few others.
    let contract = checks.run(Name::Contract, |f| contract::check(document, &believed, f));
    let contract = contract.as_ref();
    checks.run(Name::Job, |f| {
        contract::check_job(document, contract?, &believed, f)
    });
    checks.run(Name::Sequence, |f| records::check_sequence(document, f));
    let calls = checks.run(Name::Calls, |f| records::check_calls(document, f));
    let tokens = checks.run(Name::Tokens, |f| {
        tokens::check(document, contract?, &believed, f)
    });
    let checkpoint = checks.run(Name::Checkpoint, |f| {
        log::check_checkpoint(document, contract, &believed, f)
    });
    checks.run(Name::Inclusion, |f| {
        log::check_inclusion(document, checkpoint.as_ref()?, f)
    });
    let close = checks.run(Name::Close, |f| {
        log::check_close(document, contract?, &believed, f)
    });
    checks.run(Name::Evidence, |f| {
        log::check_evidence(document, close.as_ref()?, f)
    });
    let public = checks.run(Name::PublicHalf, |f| {
        public_half::check(document, contract?, close.as_ref()?, &believed, f)
    });

    let facts = match (contract, &calls, &tokens) {
        (Some(contract), Some(calls), Some(tokens)) => Some(Facts {
            document,
            contract,
            calls,
            tokens,
            believed,
        }),
        _ => None,
    };
    let model = checks.run(Name::ModelReceipts, |f| {
        receipts::check_model(facts?, public.as_ref()?, f)
    });
    let terraform = checks.run(Name::TerraformReceipts, |f| {
        receipts::check_terraform(facts?, f)
    });
    checks.run(Name::ReceiptReferences, |f| {
        let mut all = model?;
        all.extend(terraform?);
        receipts::check_references(document, &all, f)
    });

    let judged = checks.run(Name::Approvals, |f| {
        approvals::check(document, contract?, tokens.as_ref()?, &believed, f)
    });
    checks.run(Name::Applies, |f| {
        approvals::check_applies(document, contract?, calls.as_ref()?, judged.as_ref()?, f)
    });
    checks.run(Name::Runs, |f| runs::check(document, contract?, f));
    checks.run(Name::Decisions, |f| {
        decisions::check(document, contract?, tokens.as_ref()?, f)
    });
    if let Some(since) = &options.since {
        checks.run(Name::Consistency, |f| {
            consistency::check(checkpoint.as_ref()?, since, &believed, f)
        });
    }
}
