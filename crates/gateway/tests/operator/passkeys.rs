//! Passkeys over the wire: enrolment by a link, approvals and denials, sign-in, and everything that
//! is refused.

use clawgate::operator::credential::Role;
use clawgate::passkeys::{self, Assertion};
use http::header;
use proof::Hash;
use proof::hash::{decode_b64u, encode_b64u};
use proof::passkey::testing::{PRESENT, SoftAuthenticator};
use proof::passkey::{Site, UnverifiedAssertion};
use serde_json::{Value, json};
use store::{GateState, Invitation};

use crate::approvals::{run_at, waiting_run};
use crate::world::{APPROVER, Answer, Caller, World};

const ORIGIN: &str = "https://approvals.example.com";
const SECOND: &str = "second@example.com";

fn site() -> Site {
    passkeys::site_of(ORIGIN).unwrap()
}

fn passkey(seed: u8) -> SoftAuthenticator {
    SoftAuthenticator::new(seed, &site())
}

/// The path of a new link for somebody.
async fn link(admin: &Caller<'_>, email: &str) -> String {
    let body = json!({ "email": email });
    let invited = admin.post("/v1/approvers/invite", &body).await.ok();
    let link = invited["link"].as_str().unwrap();
    let path = link
        .strip_prefix(ORIGIN)
        .expect("a link to the public address");
    path.to_owned()
}

/// What the script of the enrolment page gives the authenticator.
fn options(page: &Answer) -> Value {
    let text = String::from_utf8(page.bytes.to_vec()).unwrap();
    let (_, rest) = text.split_once("data-passkey-options=\"").expect("a form");
    let (options, _) = rest.split_once('"').unwrap();
    let options = options.replace("&#34;", "\"").replace("&amp;", "&");
    serde_json::from_str(&options).unwrap()
}

/// The challenge in some options.
fn challenge(options: &Value) -> Vec<u8> {
    decode_b64u(options["challenge"].as_str().unwrap()).unwrap()
}

/// What the script puts into the enrolment's form.
fn made(passkey: &SoftAuthenticator, challenge: &[u8]) -> Value {
    let made = passkey.register(challenge);
    json!({
        "authenticator_data": encode_b64u(&made.authenticator_data),
        "client_data_json": encode_b64u(&made.client_data_json),
    })
}

/// What the script puts into a form that wants a signature.
fn signed(passkey: &SoftAuthenticator, signed: &UnverifiedAssertion) -> Value {
    json!({
        "credential_id": encode_b64u(&passkey.credential_id),
        "authenticator_data": encode_b64u(&signed.authenticator_data),
        "client_data_json": encode_b64u(&signed.client_data_json),
        "signature": encode_b64u(&signed.signature),
    })
}

async fn open(world: &World, path: &str) -> Answer {
    world.call(world.request("GET", path), Vec::new()).await
}

/// Sends the form of an enrolment page, as a browser does.
async fn send(world: &World, path: &str, name: &str, registration: &Value) -> Answer {
    let encoded: String = registration
        .to_string()
        .bytes()
        .map(|byte| format!("%{byte:02X}"))
        .collect();
    let form = format!("name={name}&registration={encoded}");
    let request = world.request("POST", path);
    let request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    world.call(request, form.into_bytes()).await
}

/// Enrols a passkey for somebody.
async fn enrolled(admin: &Caller<'_>, email: &str, passkey: &SoftAuthenticator) {
    let path = link(admin, email).await;
    let options = options(&open(admin.world, &path).await);
    let registration = made(passkey, &challenge(&options));
    let done = send(admin.world, &path, "laptop", &registration).await;
    assert_eq!(done.status, 200, "{:?}", done.bytes);
}

/// The question about a run.
async fn asked(admin: &Caller<'_>, run: &str, question: Value) -> Answer {
    admin
        .post(&format!("/v1/approvals/{run}/question"), &question)
        .await
}

/// The first approver's yes or no to a run, signed.
async fn yes_or_no(
    admin: &Caller<'_>,
    run: &str,
    question: Value,
    passkey: &mut SoftAuthenticator,
) -> Answer {
    let question = asked(admin, run, question).await.ok();
    let assertion = passkey.sign(&challenge(&question["options"]));
    let statement = &question["statement"];
    hand_in(admin, run, statement, &signed(passkey, &assertion)).await
}

async fn hand_in(admin: &Caller<'_>, run: &str, statement: &Value, assertion: &Value) -> Answer {
    let body = json!({ "statement": statement, "assertion": assertion });
    admin
        .post(&format!("/v1/approvals/{run}/passkey"), &body)
        .await
}

fn approve() -> Value {
    json!({ "approver": APPROVER, "decision": "approve" })
}

/// The latest action with that name.
async fn noted(world: &World, name: &str) -> store::OperatorAction {
    let actions = world.gateway.app.store.operator_actions(50).await.unwrap();
    let found = actions.into_iter().find(|action| action.action == name);
    found.expect("it was noted")
}

#[tokio::test]
async fn a_link_enrols_one_passkey_once() {
    let world = World::at(ORIGIN).await;
    let admin = world.admin().await;
    let path = link(&admin, APPROVER).await;
    let page = open(&world, &path).await;
    assert_eq!(page.status, 200);
    let policy = page.headers[header::CONTENT_SECURITY_POLICY]
        .to_str()
        .unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self'"));
    assert!(!policy.contains("unsafe"));
    assert_eq!(page.headers[header::REFERRER_POLICY], "no-referrer");
    assert_eq!(page.headers[header::CACHE_CONTROL], "no-store");
    let offered = options(&page);
    assert_eq!(offered["rp"]["id"], "approvals.example.com");
    assert_eq!(offered["user"]["name"], APPROVER);
    assert_eq!(
        options(&open(&world, &path).await),
        offered,
        "looking uses nothing up"
    );
    let challenge = challenge(&offered);

    let secret = path.rsplit('/').next().unwrap();
    let listed = admin.get("/v1/approvers").await.ok();
    assert_eq!(listed["invitations"][0]["email"], APPROVER);
    assert!(
        !listed.to_string().contains(secret),
        "the link is shown once"
    );

    type Edit = fn(&mut SoftAuthenticator);
    let table: [(&str, Edit, u16); 5] = [
        (
            "another origin",
            |p| p.origin = "https://evil.example".into(),
            403,
        ),
        (
            "another relying party",
            |p| p.rp_id = "example.com".into(),
            403,
        ),
        ("nobody verified", |p| p.flags = PRESENT, 403),
        (
            "in a frame",
            |p| p.more = ",\"crossOrigin\":true".into(),
            403,
        ),
        ("flags that mean nothing", |p| p.flags |= 0x20, 422),
    ];
    for (what, edit, status) in table {
        let mut bad = passkey(1);
        edit(&mut bad);
        let refused = send(&world, &path, "laptop", &made(&bad, &challenge)).await;
        assert_eq!(refused.status, status, "{what}");
        assert_eq!(
            options(&refused),
            offered,
            "{what}: the form is there again"
        );
    }
    for registration in [
        made(&passkey(1), b"another challenge"),
        json!({}),
        json!({ "authenticator_data": "!", "client_data_json": "!" }),
    ] {
        let refused = send(&world, &path, "laptop", &registration).await;
        assert!(
            [409, 422].contains(&refused.status.as_u16()),
            "{registration}"
        );
    }
    let long = "x".repeat(65);
    let refused = send(&world, &path, &long, &made(&passkey(1), &challenge)).await;
    assert_eq!(refused.status, 422, "a long name");

    let hostile = "%3Cscript%3E";
    let done = send(&world, &path, hostile, &made(&passkey(1), &challenge)).await;
    assert_eq!(done.status, 200);
    assert_eq!(noted(&world, "passkey.enrol").await.operator, APPROVER);
    let listed = admin.get("/v1/approvers").await.ok();
    assert_eq!(listed["passkeys"][0]["name"], "<script>");
    assert_eq!(listed["passkeys"][0]["did"], passkey(1).did().as_str());
    assert_eq!(listed["invitations"], json!([]));

    // The link is used up, for its owner and for everybody else.
    assert_eq!(open(&world, &path).await.status, 404);
    let again = send(&world, &path, "", &made(&passkey(2), &challenge)).await;
    assert_eq!(again.status, 404);
    let unknown = format!("/passkeys/enrol/{}", clawgate::keys::random_text());
    assert_eq!(open(&world, &unknown).await.status, 404);
    // A passkey belongs to one person.
    let path = link(&admin, SECOND).await;
    let offered = options(&open(&world, &path).await);
    let same = made(&passkey(1), &self::challenge(&offered));
    assert_eq!(send(&world, &path, "", &same).await.status, 409);
}

#[tokio::test]
async fn links_end_in_time_and_with_the_next_one() {
    let world = World::at(ORIGIN).await;
    let admin = world.admin().await;
    let app = &world.gateway.app;
    let secret = clawgate::keys::random_text();
    let invitation = Invitation {
        link_hash: Hash::of(secret.as_bytes()),
        email: APPROVER.into(),
        invited_by: "olga".into(),
        invited_at: app.now().plus_seconds(-100),
        expires_at: app.now(),
    };
    app.store.invite(invitation).await.unwrap();
    let expired = format!("/passkeys/enrol/{secret}");
    assert_eq!(open(&world, &expired).await.status, 404);

    let first = link(&admin, APPROVER).await;
    let offered = options(&open(&world, &first).await);
    let second = link(&admin, APPROVER).await;
    let registration = made(&passkey(1), &challenge(&offered));
    assert_eq!(send(&world, &first, "", &registration).await.status, 404);
    // The challenge belongs to its link.
    assert_eq!(send(&world, &second, "", &registration).await.status, 409);

    let body = json!({ "email": APPROVER });
    let removed = admin.post("/v1/approvers/remove", &body).await.ok();
    assert_eq!(removed["invitation"], true);
    assert_eq!(open(&world, &second).await.status, 404);

    for (what, body, code) in [
        ("no address", json!({ "email": "ada" }), "BODY_WRONG_TYPE"),
        (
            "markup",
            json!({ "email": "<b>@example.com" }),
            "BODY_WRONG_TYPE",
        ),
        (
            "SQL",
            json!({ "email": "a'--@example.com" }),
            "BODY_WRONG_TYPE",
        ),
        (
            "too long",
            json!({ "email": APPROVER, "expires_in_seconds": 8 * 86_400 }),
            "BODY_WRONG_TYPE",
        ),
        (
            "too short",
            json!({ "email": APPROVER, "expires_in_seconds": 1 }),
            "BODY_WRONG_TYPE",
        ),
        (
            "more",
            json!({ "email": APPROVER, "role": "admin" }),
            "BODY_UNKNOWN_MEMBER",
        ),
    ] {
        let refused = admin.post("/v1/approvers/invite", &body).await;
        assert_eq!(refused.code(), code, "{what}");
    }
    let nobody = json!({ "email": "nobody@example.com" });
    let refused = admin.post("/v1/approvers/remove", &nobody).await;
    assert_eq!(refused.code(), "PASSKEY_UNKNOWN");
}

#[tokio::test]
async fn without_an_address_for_passkeys_there_are_none() {
    let world = World::new().await;
    let admin = world.admin().await;
    let invite = json!({ "email": APPROVER });
    let refused = admin.post("/v1/approvers/invite", &invite).await;
    assert_eq!(refused.code(), "PASSKEYS_UNAVAILABLE");
    assert!(
        refused.json()["detail"]
            .as_str()
            .unwrap()
            .contains("127.0.0.1")
    );
    let job = admin.job().await;
    waiting_run(&world, &job, "run-1").await;
    let refused = asked(&admin, "run-1", approve()).await;
    assert_eq!(refused.code(), "PASSKEYS_UNAVAILABLE");
    let unknown = open(&world, "/passkeys/enrol/x").await;
    assert_eq!(unknown.status, 409);
    assert!(passkeys::sign_in_options(&world.gateway.app).is_err());
}

#[tokio::test]
async fn a_passkey_approves_exactly_what_it_signed() {
    let world = World::at(ORIGIN).await;
    let admin = world.admin().await;
    let job = admin.job().await;
    let subject = waiting_run(&world, &job, "run-1").await;
    waiting_run(&world, &job, "run-2").await;
    let mut one = passkey(1);
    one.sign_count = 5;
    let nobody = asked(&admin, "run-1", approve()).await;
    assert_eq!(nobody.code(), "PASSKEY_UNKNOWN", "not enrolled yet");
    enrolled(&admin, APPROVER, &one).await;

    let question = asked(&admin, "run-1", approve()).await.ok();
    let statement = &question["statement"];
    assert_eq!(
        statement["plan_sha256_b64u"],
        json!(subject.plan_sha256_b64u)
    );
    assert_eq!(statement["approver_did"], one.did().as_str());
    assert_eq!(
        question["options"]["challenge"],
        question["statement_hash_b64u"]
    );
    assert_eq!(
        question["options"]["allowCredentials"][0]["id"],
        encode_b64u(&one.credential_id)
    );
    let challenge = challenge(&question["options"]);

    // The authenticator or the browser is not what it should be.
    type Edit = fn(&mut SoftAuthenticator);
    let table: [(&str, Edit, &str); 7] = [
        (
            "another origin",
            |p| p.origin = "https://evil.example".into(),
            "PASSKEY_WRONG_SITE",
        ),
        (
            "another relying party",
            |p| p.rp_id = "example.com".into(),
            "PASSKEY_WRONG_SITE",
        ),
        (
            "in a frame",
            |p| p.more = ",\"topOrigin\":\"x\"".into(),
            "PASSKEY_WRONG_SITE",
        ),
        (
            "nobody verified",
            |p| p.flags = PRESENT,
            "PASSKEY_NOT_VERIFIED",
        ),
        (
            "flags that mean nothing",
            |p| p.flags |= 2,
            "PASSKEY_MALFORMED",
        ),
        ("a foreign key", |p| *p = passkey(9), "PASSKEY_SIGNATURE"),
        ("a copy behind", |p| p.sign_count = 2, "PASSKEY_COUNTER"),
    ];
    for (what, edit, code) in table {
        let mut bad = one.clone();
        edit(&mut bad);
        let assertion = signed(&bad, &bad.clone().sign(&challenge));
        let refused = hand_in(&admin, "run-1", statement, &assertion).await;
        assert_eq!(refused.code(), code, "{what}");
    }
    let failed = noted(&world, "approval.submit").await;
    let failed = failed
        .detail
        .get("failed")
        .unwrap()
        .as_str()
        .unwrap()
        .to_owned();
    assert!(failed.starts_with("PASSKEY_COUNTER"), "recorded: {failed}");

    // The statement is not the one that was shown.
    let good = one.sign(&challenge);
    let assertion = signed(&one, &good);
    for (member, value, code) in [
        ("run_id", json!("run-2"), "PASSKEY_WRONG_CHALLENGE"),
        ("decision", json!("deny"), "PASSKEY_WRONG_CHALLENGE"),
        (
            "expires_at",
            json!("2099-01-01T00:00:00.000Z"),
            "PASSKEY_WRONG_CHALLENGE",
        ),
        ("reason", json!("because"), "PASSKEY_WRONG_CHALLENGE"),
        ("approver", json!(SECOND), "PASSKEY_WRONG_CHALLENGE"),
        ("approver_did", json!(passkey(9).did()), "PASSKEY_UNKNOWN"),
        (
            "approver_did",
            json!(world.approver.did()),
            "PASSKEY_UNKNOWN",
        ),
        ("more", json!("x"), "APPROVAL_MALFORMED"),
    ] {
        let mut altered = statement.clone();
        altered[member] = value;
        let refused = hand_in(&admin, "run-1", &altered, &assertion).await;
        assert_eq!(refused.code(), code, "{member}");
    }
    let other = hand_in(&admin, "run-2", statement, &assertion).await;
    assert_eq!(other.code(), "APPROVAL_MALFORMED", "for another run");
    let unknown = hand_in(&admin, "run-9", statement, &assertion).await;
    assert_eq!(unknown.code(), "APPROVAL_UNKNOWN");
    let mut enrolment = assertion.clone();
    let client = one.client_data("webauthn.create", &challenge);
    enrolment["client_data_json"] = json!(encode_b64u(&client));
    let refused = hand_in(&admin, "run-1", statement, &enrolment).await;
    assert_eq!(refused.code(), "PASSKEY_SIGNATURE");
    let run = world.gateway.app.store.run("run-1").await.unwrap().unwrap();
    assert_eq!(
        run.gate,
        GateState::AwaitingApproval,
        "none of it moved the gate"
    );

    let approved = hand_in(&admin, "run-1", statement, &assertion).await.ok();
    assert_eq!(approved["complete"], true);
    assert_eq!(approved["approvals"][0]["via"], "passkey");
    assert_eq!(approved["approvals"][0]["approver"], APPROVER);
    let replayed = hand_in(&admin, "run-1", statement, &assertion).await;
    assert_eq!(replayed.code(), "APPROVAL_ALREADY_GIVEN");
    let late = asked(&admin, "run-1", approve()).await;
    assert_eq!(late.code(), "APPROVAL_CLOSED");
}

#[tokio::test]
async fn a_denial_has_a_reason_that_is_signed() {
    let world = World::at(ORIGIN).await;
    let admin = world.admin().await;
    let job = admin.job().await;
    waiting_run(&world, &job, "run-1").await;
    run_at(&world, &job, "run-2", GateState::Planned).await;
    let mut one = passkey(1);
    enrolled(&admin, APPROVER, &one).await;
    let deny =
        |reason: Value| json!({ "approver": APPROVER, "decision": "deny", "reason": reason });
    for (what, run, question, code) in [
        (
            "no reason",
            "run-1",
            deny(Value::Null),
            "APPROVAL_MALFORMED",
        ),
        (
            "a blank reason",
            "run-1",
            deny(json!("  ")),
            "APPROVAL_MALFORMED",
        ),
        (
            "two lines",
            "run-1",
            deny(json!("a\nb")),
            "APPROVAL_MALFORMED",
        ),
        (
            "too long",
            "run-1",
            deny(json!("x".repeat(1001))),
            "APPROVAL_MALFORMED",
        ),
        ("not asked", "run-2", deny(json!("no")), "APPROVAL_CLOSED"),
        ("no run", "run-9", approve(), "APPROVAL_UNKNOWN"),
        (
            "no approver of the contract",
            "run-1",
            json!({ "approver": SECOND, "decision": "approve" }),
            "APPROVAL_NOT_AN_APPROVER",
        ),
        (
            "no passkey of theirs",
            "run-1",
            json!({ "approver": APPROVER, "decision": "approve", "passkey": "pk-0" }),
            "PASSKEY_UNKNOWN",
        ),
    ] {
        let refused = asked(&admin, run, question).await;
        assert_eq!(refused.code(), code, "{what}");
    }
    let reason = "drops <b>the</b> database";
    let denied = yes_or_no(&admin, "run-1", deny(json!(reason)), &mut one)
        .await
        .ok();
    assert_eq!(denied["state"], "denied");
    assert_eq!(denied["reason"], reason, "what the agent reads");
}

#[tokio::test]
async fn two_approvals_are_by_two_people() {
    let world = World::at(ORIGIN).await;
    let admin = world.admin().await;
    let rules = r#""approvers": ["infra-lead@example.com", "second@example.com"],
        "min_approvals": 2"#;
    let contract = world.contract(r#""approvers": ["infra-lead@example.com"]"#, rules);
    let body = json!({ "envelope": contract });
    let made = admin.post("/v1/contracts", &body).await.ok();
    let hash = made["policy_hash_b64u"].clone();
    let job = json!({ "name": "a job", "policy_hash_b64u": hash });
    let job = admin.post("/v1/jobs", &job).await.ok();
    let job = job["job_id"].as_str().unwrap();
    waiting_run(&world, job, "run-1").await;
    let (mut one, mut other, mut second) = (passkey(1), passkey(2), passkey(3));
    enrolled(&admin, APPROVER, &one).await;
    enrolled(&admin, APPROVER, &other).await;
    enrolled(&admin, SECOND, &second).await;
    let listed = admin.get("/v1/approvers").await.ok();
    let ids: Vec<&Value> = listed["passkeys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| &p["passkey"])
        .collect();
    let by = |email: &str, id: &Value| json!({ "approver": email, "decision": "approve", "passkey": id });

    let first = yes_or_no(&admin, "run-1", by(APPROVER, ids[0]), &mut one)
        .await
        .ok();
    assert_eq!((&first["given"], &first["missing"]), (&json!(1), &json!(1)));
    let same = yes_or_no(&admin, "run-1", by(APPROVER, ids[1]), &mut other).await;
    assert_eq!(
        same.code(),
        "APPROVAL_ALREADY_GIVEN",
        "one person's other passkey"
    );
    // Nor under the other's name with one's own passkey.
    let question = asked(&admin, "run-1", by(SECOND, ids[2])).await.ok();
    let mut forged = question["statement"].clone();
    forged["approver_did"] = json!(other.did());
    let typed: proof::approval::Statement = serde_json::from_value(forged.clone()).unwrap();
    let (_, challenge) = proof::approval::to_sign(&typed).unwrap();
    let assertion = signed(&other, &other.clone().sign(challenge.as_bytes()));
    let refused = hand_in(&admin, "run-1", &forged, &assertion).await;
    assert_eq!(refused.code(), "APPROVAL_NOT_AN_APPROVER");

    let done = yes_or_no(&admin, "run-1", by(SECOND, ids[2]), &mut second)
        .await
        .ok();
    assert_eq!(done["complete"], true);
}

#[tokio::test]
async fn a_removed_passkey_signs_nothing_more() {
    let world = World::at(ORIGIN).await;
    let admin = world.admin().await;
    let job = admin.job().await;
    waiting_run(&world, &job, "run-1").await;
    let (one, other) = (passkey(1), passkey(2));
    enrolled(&admin, APPROVER, &one).await;
    let question = asked(&admin, "run-1", approve()).await.ok();
    let assertion = one.clone().sign(&challenge(&question["options"]));
    enrolled(&admin, APPROVER, &other).await;
    let id = &question["passkey"];
    let one_of_them = json!({ "email": APPROVER, "passkey": id });
    let removed = admin.post("/v1/approvers/remove", &one_of_them).await.ok();
    assert_eq!(
        (&removed["passkeys"], &removed["invitation"]),
        (&json!(1), &json!(false))
    );
    let statement = &question["statement"];
    let late = hand_in(&admin, "run-1", statement, &signed(&one, &assertion)).await;
    assert_eq!(
        late.code(),
        "PASSKEY_UNKNOWN",
        "signed before, handed in after"
    );
    assert_eq!(
        sign_in(&world, &mut one.clone()).await,
        Err("PASSKEY_UNKNOWN".into())
    );
    let again = admin.post("/v1/approvers/remove", &one_of_them).await;
    assert_eq!(again.code(), "PASSKEY_UNKNOWN");

    let question = asked(&admin, "run-1", approve()).await.ok();
    assert_eq!(question["statement"]["approver_did"], other.did().as_str());
    // What was signed before stays verifiable: the trust root says until when it counted.
    let trust = admin.get("/v1/trust").await.ok();
    let of = |passkey: &SoftAuthenticator| {
        let passkeys = trust["passkeys"].as_array().unwrap().iter();
        let did = passkey.did();
        passkeys
            .cloned()
            .find(|entry| entry["did"] == did.as_str())
            .unwrap()
    };
    assert!(of(&one)["revoked_at"].is_string() && of(&other)["revoked_at"].is_null());
    assert_eq!(of(&one)["site"], json!(site()));
}

/// Signs in, as the page and its script do; what comes back is who, or the code.
async fn sign_in(world: &World, passkey: &mut SoftAuthenticator) -> Result<String, String> {
    let options = passkeys::sign_in_options(&world.gateway.app).unwrap();
    let assertion = passkey.sign(&challenge(&options));
    enter(world, &signed(passkey, &assertion)).await
}

async fn enter(world: &World, assertion: &Value) -> Result<String, String> {
    let assertion: Assertion = assertion.to_string().parse().unwrap();
    match passkeys::signed_in(&world.gateway.app, assertion).await {
        Ok(operator) => {
            assert_eq!(operator.roles, [Role::Approver]);
            Ok(operator.name)
        }
        Err(refusal) => Err(refusal.code.to_string()),
    }
}

#[tokio::test]
async fn a_passkey_signs_its_owner_in() {
    let world = World::at(ORIGIN).await;
    let admin = world.admin().await;
    let mut one = passkey(1);
    one.sign_count = 5;
    let code = |code: &str| Err::<String, _>(code.to_owned());
    assert_eq!(
        sign_in(&world, &mut one.clone()).await,
        code("PASSKEY_UNKNOWN")
    );
    enrolled(&admin, APPROVER, &one).await;
    assert_eq!(sign_in(&world, &mut one).await, Ok(APPROVER.into()));

    let options = passkeys::sign_in_options(&world.gateway.app).unwrap();
    assert_eq!(
        options["allowCredentials"],
        json!([]),
        "nobody learns who is enrolled"
    );
    let assertion = one.sign(&challenge(&options));
    let assertion = signed(&one, &assertion);
    assert_eq!(enter(&world, &assertion).await, Ok(APPROVER.into()));
    assert_eq!(
        enter(&world, &assertion).await,
        code("PASSKEY_WRONG_CHALLENGE"),
        "a replay"
    );

    let foreign = signed(&one, &one.clone().sign(b"a challenge of somebody's"));
    assert_eq!(
        enter(&world, &foreign).await,
        code("PASSKEY_WRONG_CHALLENGE")
    );
    let mut phished = one.clone();
    phished.origin = "https://evil.example".into();
    assert_eq!(
        sign_in(&world, &mut phished).await,
        code("PASSKEY_WRONG_SITE")
    );
    let mut stranger = passkey(9);
    stranger.credential_id.clone_from(&one.credential_id);
    assert_eq!(
        sign_in(&world, &mut stranger).await,
        code("PASSKEY_SIGNATURE")
    );
    let mut copy = one.clone();
    copy.sign_count = 2;
    assert_eq!(sign_in(&world, &mut copy).await, code("PASSKEY_COUNTER"));
    assert_eq!(noted(&world, "passkey.counter").await.operator, APPROVER);
    // An approval's signature is no sign-in, and the other way round.
    let job = admin.job().await;
    waiting_run(&world, &job, "run-1").await;
    let question = asked(&admin, "run-1", approve()).await.ok();
    let approval = one.sign(&challenge(&question["options"]));
    let approval = signed(&one, &approval);
    assert_eq!(
        enter(&world, &approval).await,
        code("PASSKEY_WRONG_CHALLENGE")
    );
    let options = passkeys::sign_in_options(&world.gateway.app).unwrap();
    let entry = one.sign(&challenge(&options));
    let refused = hand_in(
        &admin,
        "run-1",
        &question["statement"],
        &signed(&one, &entry),
    )
    .await;
    assert_eq!(refused.code(), "PASSKEY_WRONG_CHALLENGE");
}

#[tokio::test]
async fn the_script_is_ours_and_asks_nobody() {
    let world = World::at(ORIGIN).await;
    let script = open(&world, "/passkey.js").await;
    assert_eq!(script.status, 200);
    assert_eq!(
        script.headers[header::CONTENT_TYPE],
        "text/javascript; charset=utf-8"
    );
    assert_eq!(script.headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    let text = String::from_utf8(script.bytes.to_vec()).unwrap();
    for word in ["fetch(", "XMLHttpRequest", "innerHTML", "eval(", "import"] {
        assert!(!text.contains(word), "{word}");
    }
}
