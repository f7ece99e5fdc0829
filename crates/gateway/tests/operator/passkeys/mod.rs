//! Passkeys over the wire: enrolment by a link, approvals and denials, sign-in, and everything that
//! is refused.

mod enrolment;
mod entering;
mod signing;

use clawgate::operator::credential::Role;
use clawgate::passkeys::{self, Assertion};
use http::header;
use proof::hash::{decode_b64u, encode_b64u};
use proof::passkey::testing::SoftAuthenticator;
use proof::passkey::{Site, UnverifiedAssertion};
use serde_json::{Value, json};

use crate::world::{APPROVER, Answer, Caller, World};

pub(crate) const ORIGIN: &str = "https://approvals.example.com";
pub(crate) const SECOND: &str = "second@example.com";

pub(crate) fn site() -> Site {
    passkeys::site_of(ORIGIN).unwrap()
}

pub(crate) fn passkey(seed: u8) -> SoftAuthenticator {
    SoftAuthenticator::new(seed, &site())
}

/// The path of a new link for somebody.
pub(crate) async fn link(admin: &Caller<'_>, email: &str) -> String {
    let body = json!({ "email": email });
    let invited = admin.post("/v1/approvers/invite", &body).await.ok();
    let link = invited["link"].as_str().unwrap();
    let path = link
        .strip_prefix(ORIGIN)
        .expect("a link to the public address");
    path.to_owned()
}

/// What the script of the enrolment page gives the authenticator.
pub(crate) fn options(page: &Answer) -> Value {
    let text = String::from_utf8(page.bytes.to_vec()).unwrap();
    let (_, rest) = text.split_once("data-passkey-options=\"").expect("a form");
    let (options, _) = rest.split_once('"').unwrap();
    let options = options.replace("&#34;", "\"").replace("&amp;", "&");
    serde_json::from_str(&options).unwrap()
}

/// The challenge in some options.
pub(crate) fn challenge(options: &Value) -> Vec<u8> {
    decode_b64u(options["challenge"].as_str().unwrap()).unwrap()
}

/// What the script puts into the enrolment's form.
pub(crate) fn made(passkey: &SoftAuthenticator, challenge: &[u8]) -> Value {
    let made = passkey.register(challenge);
    json!({
        "authenticator_data": encode_b64u(&made.authenticator_data),
        "client_data_json": encode_b64u(&made.client_data_json),
    })
}

/// What the script puts into a form that wants a signature.
pub(crate) fn signed(passkey: &SoftAuthenticator, signed: &UnverifiedAssertion) -> Value {
    json!({
        "credential_id": encode_b64u(&passkey.credential_id),
        "authenticator_data": encode_b64u(&signed.authenticator_data),
        "client_data_json": encode_b64u(&signed.client_data_json),
        "signature": encode_b64u(&signed.signature),
    })
}

pub(crate) async fn open(world: &World, path: &str) -> Answer {
    world.call(world.request("GET", path), Vec::new()).await
}

/// Sends the form of an enrolment page, as a browser does.
pub(crate) async fn send(world: &World, path: &str, name: &str, registration: &Value) -> Answer {
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
pub(crate) async fn enrolled(admin: &Caller<'_>, email: &str, passkey: &SoftAuthenticator) {
    let path = link(admin, email).await;
    let options = options(&open(admin.world, &path).await);
    let registration = made(passkey, &challenge(&options));
    let done = send(admin.world, &path, "laptop", &registration).await;
    assert_eq!(done.status, 200, "{:?}", done.bytes);
}

/// The question about a run.
pub(crate) async fn asked(admin: &Caller<'_>, run: &str, question: Value) -> Answer {
    admin
        .post(&format!("/v1/approvals/{run}/question"), &question)
        .await
}

/// The first approver's yes or no to a run, signed.
pub(crate) async fn yes_or_no(
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

pub(crate) async fn hand_in(
    admin: &Caller<'_>,
    run: &str,
    statement: &Value,
    assertion: &Value,
) -> Answer {
    let body = json!({ "statement": statement, "assertion": assertion });
    admin
        .post(&format!("/v1/approvals/{run}/passkey"), &body)
        .await
}

pub(crate) fn approve() -> Value {
    json!({ "approver": APPROVER, "decision": "approve" })
}

/// The latest action with that name.
pub(crate) async fn noted(world: &World, name: &str) -> store::OperatorAction {
    let actions = world.gateway.app.store.operator_actions(50).await.unwrap();
    let found = actions.into_iter().find(|action| action.action == name);
    found.expect("it was noted")
}

/// Signs in, as the page and its script do; what comes back is who, or the code.
pub(crate) async fn sign_in(
    world: &World,
    passkey: &mut SoftAuthenticator,
) -> Result<String, String> {
    let options = passkeys::sign_in_options(&world.gateway.app).unwrap();
    let assertion = passkey.sign(&challenge(&options));
    enter(world, &signed(passkey, &assertion)).await
}

pub(crate) async fn enter(world: &World, assertion: &Value) -> Result<String, String> {
    let assertion: Assertion = assertion.to_string().parse().unwrap();
    match passkeys::signed_in(&world.gateway.app, assertion).await {
        Ok(proven) => {
            assert_eq!(proven.operator.roles, [Role::Approver]);
            Ok(proven.operator.name)
        }
        Err(refusal) => Err(refusal.code.to_string()),
    }
}
