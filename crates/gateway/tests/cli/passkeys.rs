//! A run that is approved by passkey, applied, and proven offline.

use clawgate::passkeys::{self, Registration};
use clawverify::{Code, Options, Verdict, verify};
use policy::contract::Email;
use proof::hash::{decode_b64u, encode_b64u};
use proof::passkey::testing::SoftAuthenticator;
use serde_json::{Value, json};
use store::GateState;

use crate::client::Answer;
use crate::world::{Setup, World};

const ORIGIN: &str = "https://approvals.example.com";
const FIRST: &str = "infra-lead@example.com";
const SECOND: &str = "second@example.com";

fn setup() -> Setup {
    let mut setup = Setup::new()
        .contract("/permissions/apply/approvers", json!([FIRST, SECOND]))
        .contract("/permissions/apply/min_approvals", json!(2));
    let before = setup.config;
    setup.config = Box::new(move |config| {
        before(config);
        config.operator_listener.public_url = Some(ORIGIN.to_owned());
    });
    setup
}

impl World {
    /// Somebody's new passkey.
    async fn passkey(&self, email: &str, seed: u8) -> SoftAuthenticator {
        let (app, email) = (self.app(), Email::new(email).unwrap());
        let passkey = SoftAuthenticator::new(seed, &passkeys::site(app).unwrap());
        let invited = passkeys::invite(app, "olga", &email, 60).await.unwrap();
        let secret = invited.link.rsplit('/').next().unwrap();
        let open = passkeys::open_invitation(app, secret).await.unwrap();
        let challenge = decode_b64u(open.options["challenge"].as_str().unwrap()).unwrap();
        let made = Registration(passkey.register(&challenge));
        let enrolled = passkeys::enrol(app, secret, "laptop", &made).await;
        assert_eq!(enrolled.unwrap(), email.as_str());
        passkey
    }

    async fn yes_by_passkey(
        &self,
        run: &str,
        email: &str,
        passkey: &mut SoftAuthenticator,
    ) -> Answer {
        let operator = self.operator();
        let question = json!({ "approver": email, "decision": "approve" });
        let path = format!("/v1/approvals/{run}/question");
        let question = operator.post(&path, &question).await.ok();
        let challenge = question["options"]["challenge"].as_str().unwrap();
        let signed = passkey.sign(&decode_b64u(challenge).unwrap());
        let assertion = json!({
            "credential_id": encode_b64u(&passkey.credential_id),
            "authenticator_data": encode_b64u(&signed.authenticator_data),
            "client_data_json": encode_b64u(&signed.client_data_json),
            "signature": encode_b64u(&signed.signature),
        });
        let body = json!({ "statement": question["statement"], "assertion": assertion });
        let path = format!("/v1/approvals/{run}/passkey");
        operator.post(&path, &body).await
    }
}

#[tokio::test]
async fn approvals_by_passkey_are_applied_and_proven() {
    let world = setup().start().await;
    let mut first = world.passkey(FIRST, 1).await;
    let mut second = world.passkey(SECOND, 2).await;
    second.sign_count = 41;
    let run = world.agent().held_run().await;
    let given = world.yes_by_passkey(&run, FIRST, &mut first).await.ok();
    assert_eq!(given["missing"], 1);
    assert!(world.asked("POST", "/actions/apply").is_empty());
    world.yes_by_passkey(&run, SECOND, &mut second).await.ok();
    world.run_at(&run, GateState::Applied).await;
    // Whoever leaves later has approved all the same.
    let remove = json!({ "email": FIRST });
    world
        .operator()
        .post("/v1/approvers/remove", &remove)
        .await
        .ok();
    let bundle = world.valid_evidence().await;
    assert_eq!(bundle.approvals.len(), 2);
    assert!(bundle.approvals.iter().all(|signed| signed.is_by_passkey()));

    let trust = world.operator().get("/v1/trust").await.ok();
    let bundle = serde_json::to_value(&bundle).unwrap();
    let judged = |bundle: &Value, trust: &Value| {
        let bytes = |value: &Value| serde_json::to_vec(value).unwrap();
        verify(&bytes(bundle), &bytes(trust), &Options::default())
    };
    assert_eq!(judged(&bundle, &trust).verdict, Verdict::Valid);
    // Whatever an auditor is given instead of it is noticed.
    let signed = |member: &str| {
        let text = bundle["approvals"][0][member].as_str().unwrap();
        decode_b64u(text).unwrap()
    };
    let mut client = String::from_utf8(signed("client_data_json_b64u")).unwrap();
    client = client.replace("approvals.example.com", "approvals.example.org");
    let mut flags = signed("authenticator_data_b64u");
    flags[32] ^= 8;
    let mut signature = signed("signature_b64u");
    let last = signature.len() - 1;
    signature[last] ^= 1;
    for (member, value) in [
        ("client_data_json_b64u", encode_b64u(client.as_bytes())),
        ("authenticator_data_b64u", encode_b64u(&flags)),
        ("signature_b64u", encode_b64u(&signature)),
        ("signer_did", second.did().to_string()),
        (
            "payload_hash_b64u",
            bundle["approvals"][1]["payload_hash_b64u"]
                .as_str()
                .unwrap()
                .into(),
        ),
        ("issued_at", "2026-01-01T00:00:00.000Z".into()),
    ] {
        let mut tampered = bundle.clone();
        tampered["approvals"][0][member] = value.into();
        assert_eq!(
            judged(&tampered, &trust).verdict,
            Verdict::Invalid,
            "{member}"
        );
    }
    // The trust root decides, not the bundle.
    let named = |code: Code, edit: &dyn Fn(&mut Value)| {
        let mut trust = trust.clone();
        edit(&mut trust["passkeys"]);
        let report = judged(&bundle, &trust);
        assert_eq!(report.verdict, Verdict::Invalid);
        let found: Vec<Code> = report.checks.iter().map(|check| check.code).collect();
        assert!(found.contains(&code), "{code}: {found:?}");
    };
    named(Code::ApproverUnknown, &|passkeys| *passkeys = json!([]));
    named(Code::PasskeyWrongSite, &|passkeys| {
        passkeys[0]["site"]["origins"] = json!(["https://approvals.example.org"]);
    });
    named(Code::PasskeyWrongSite, &|passkeys| {
        passkeys[0]["site"]["rp_id"] = json!("example.com");
    });
    named(Code::ApproverUnknown, &|passkeys| {
        passkeys[0]["email"] = json!(SECOND)
    });
    named(Code::KeyNotValidThen, &|passkeys| {
        passkeys[0]["revoked_at"] = passkeys[0]["not_before"].clone();
    });
}

#[tokio::test]
async fn a_passkey_and_a_key_file_are_two_people_when_they_are() {
    let world = setup().start().await;
    let mut second = world.passkey(SECOND, 2).await;
    let run = world.agent().held_run().await;
    world.approve(&run).await;
    world.yes_by_passkey(&run, SECOND, &mut second).await.ok();
    world.run_at(&run, GateState::Applied).await;
    let bundle = world.valid_evidence().await;
    let by_passkey = bundle
        .approvals
        .iter()
        .filter(|signed| signed.is_by_passkey());
    assert_eq!((by_passkey.count(), bundle.approvals.len()), (1, 2));
}
