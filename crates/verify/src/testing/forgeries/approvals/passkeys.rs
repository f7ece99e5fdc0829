//! Lies about approvals by passkey.

use crate::Code;
use crate::testing::{APPROVER, Step, Story, site, start};
use proof::approval::{ApproverSignature, Statement};
use proof::passkey::UnverifiedAssertion;
use proof::passkey::testing::{PRESENT, SoftAuthenticator};
use proof::record::{ApprovalVia, Body};

use super::super::{Forgery, foreign, forgery, keys};
use super::is_approval;

/// The approver's passkey signs in place of the key file.
pub(in super::super) fn approved(story: &mut Story, edit: impl Fn(&mut SoftAuthenticator)) {
    approved_about(story, |_| (), edit);
}

fn approved_about(
    story: &mut Story,
    statement_edit: impl Fn(&mut Statement),
    edit: impl Fn(&mut SoftAuthenticator),
) {
    let place = story.position(is_approval);
    let mut statement: Statement = story.approvals.remove(0).payload.to_typed().unwrap();
    let mut passkey = story.keys.passkey.clone();
    edit(&mut passkey);
    statement.approver_did = passkey.did();
    statement_edit(&mut statement);
    story.steps[place].body = story.approve_by_passkey(&statement, &mut passkey);
}

/// Changes what the authenticator made, after the fact.
fn assertion(signature: &mut ApproverSignature) -> &mut UnverifiedAssertion {
    match signature {
        ApproverSignature::Passkey(assertion) => assertion,
        ApproverSignature::Key(_) => panic!("signed by a passkey"),
    }
}

pub(in super::super) fn all() -> Vec<Forgery> {
    vec![
        forgery("a passkey of somebody else", Code::ApproverUnknown)
            .story(|s| approved(s, |p| *p = foreign().passkey)),
        forgery("the passkey of another approver", Code::ApproverUnknown)
            .story(|s| approved(s, |_| ()))
            .trust(|trust| trust.passkeys[0].email = "intern@example.com".into()),
        forgery("a passkey's key as a key file", Code::ApproverUnknown)
            .story(|s| approved(s, |_| ()))
            .trust(|trust| trust.passkeys.clear()),
        forgery(
            "signed by another passkey than it says",
            Code::SignatureInvalid,
        )
        .story(|s| {
            let place = s.position(is_approval);
            let mut statement: Statement = s.approvals.remove(0).payload.to_typed().unwrap();
            statement.approver_did = s.keys.passkey.did();
            let mut passkey = foreign().passkey;
            s.steps[place].body = s.approve_by_passkey(&statement, &mut passkey);
        }),
        forgery("a passkey that was not enrolled yet", Code::KeyNotValidThen)
            .story(|s| approved(s, |_| ()))
            .trust(|trust| trust.passkeys[0].not_before = start().plus_seconds(3600)),
        forgery("a passkey that had been removed", Code::KeyNotValidThen)
            .story(|s| approved(s, |_| ()))
            .trust(|trust| trust.passkeys[0].revoked_at = Some(start())),
        forgery("signed on another site", Code::PasskeyWrongSite).story(|s| {
            approved(s, |p| {
                p.origin = "https://gateway.example.evil.example".into()
            });
        }),
        forgery("signed for another relying party", Code::PasskeyWrongSite)
            .story(|s| approved(s, |p| p.rp_id = "example".into())),
        forgery("signed in a frame", Code::PasskeyWrongSite)
            .story(|s| approved(s, |p| p.more = ",\"crossOrigin\":true".into())),
        forgery(
            "signed by whoever held the device",
            Code::PasskeyNotVerified,
        )
        .story(|s| approved(s, |p| p.flags = PRESENT)),
        forgery("not as authenticators write", Code::PasskeyMalformed)
            .story(|s| approved(s, |p| p.flags |= 0x20)),
        forgery(
            "a statement altered after it was signed",
            Code::PasskeyWrongChallenge,
        )
        .story(|s| approved(s, |_| ()))
        .evidence(|e| {
            let signed = &mut e.approvals[0];
            signed.payload.set("run_id", "run-other");
            signed.payload_hash_b64u = proof::Hash::of(&signed.payload.to_jcs());
        }),
        forgery("a statement altered, its hash left", Code::SignatureInvalid)
            .story(|s| approved(s, |_| ()))
            .evidence(|e| e.approvals[0].payload.set("run_id", "run-other")),
        forgery("the person verified afterwards", Code::SignatureInvalid)
            .story(|s| approved(s, |p| p.flags = PRESENT))
            .evidence(|e| assertion(&mut e.approvals[0].signature).authenticator_data[32] |= 4),
        forgery("the origin corrected afterwards", Code::SignatureInvalid)
            .story(|s| approved(s, |p| p.origin = "https://gatevay.example".into()))
            .evidence(|e| {
                let signed = assertion(&mut e.approvals[0].signature);
                let text = String::from_utf8(signed.client_data_json.clone()).unwrap();
                signed.client_data_json = text.replace("gatevay", "gateway").into_bytes();
            }),
        forgery(
            "an enrolment in place of a signature",
            Code::PasskeyMalformed,
        )
        .story(|s| approved(s, |_| ()))
        .evidence(|e| {
            let signed = &mut e.approvals[0];
            let challenge = signed.payload_hash_b64u;
            let passkey = keys().passkey;
            let client = passkey.client_data("webauthn.create", challenge.as_bytes());
            let made = passkey.sign_bytes(passkey.data(5, 0), client);
            signed.signature = ApproverSignature::Passkey(made);
        }),
        forgery(
            "a passkey's approval called a key file's",
            Code::ApprovalMismatch,
        )
        .story(|s| {
            approved(s, |_| ());
            let place = s.position(is_approval);
            if let Body::Approval(record) = &mut s.steps[place].body {
                record.via = ApprovalVia::Key;
            }
        }),
        forgery(
            "a key file's approval called a passkey's",
            Code::ApprovalMismatch,
        )
        .story(|s| {
            let place = s.position(is_approval);
            if let Body::Approval(record) = &mut s.steps[place].body {
                record.via = ApprovalVia::Passkey;
            }
        }),
        forgery("a copy of the passkey", Code::PasskeyCounter).story(|s| {
            approved(s, |p| p.sign_count = 7);
            signed_again(s, 7);
        }),
        forgery(
            "one approver with key file and passkey",
            Code::ApplyNotApproved,
        )
        .story(|s| {
            let two = serde_json::json!([APPROVER, "second@example.com"]);
            s.contract["permissions"]["apply"]["approvers"] = two;
            s.contract["permissions"]["apply"]["min_approvals"] = 2.into();
            let hash = s.policy_hash();
            let key = s.keys.approver.clone();
            let place = s.position(is_approval);
            let mut statement: Statement = s.approvals.remove(0).payload.to_typed().unwrap();
            statement.policy_hash_b64u = hash;
            s.steps[place].body = s.approve(&statement, &key);
            signed_again(s, 0);
        }),
        forgery(
            "an origin that the trust root does not name",
            Code::PasskeyWrongSite,
        )
        .story(|s| approved(s, |_| ()))
        .trust(|trust| trust.passkeys[0].site.origins.clear()),
        forgery("for another run, by passkey", Code::ApprovalMismatch).story(|s| {
            approved_about(s, |statement| statement.run_id = "run-other".into(), |_| ());
        }),
    ]
}

/// The approver's passkey signs once more, after what is there.
fn signed_again(story: &mut Story, sign_count: u32) {
    let place = story.position(is_approval);
    let mut statement: Statement = story.approvals[0].payload.to_typed().unwrap();
    "nonce-2".clone_into(&mut statement.nonce);
    let mut passkey = story.keys.passkey.clone();
    passkey.sign_count = sign_count;
    statement.approver_did = passkey.did();
    let body = story.approve_by_passkey(&statement, &mut passkey);
    story.steps.insert(place + 1, Step { after_ms: 1, body });
}

/// Approvals by passkey in which nothing is wrong, by authenticators of every kind.
pub(in super::super) fn honest() -> Vec<Forgery> {
    let counted = |name, sign_count| {
        forgery(name, Code::Ok)
            .valid()
            .story(move |s| approved(s, |passkey| passkey.sign_count = sign_count))
    };
    let other = SoftAuthenticator::ed25519(7, &site());
    let (key, did) = (other.clone(), other.did());
    vec![
        counted("a passkey without a counter", 0),
        counted("a passkey with a counter", 7),
        forgery("a passkey with an Ed25519 key", Code::Ok)
            .valid()
            .story(move |s| approved(s, |passkey| *passkey = key.clone()))
            .trust(move |trust| trust.passkeys[0].did = did.clone()),
    ]
}
