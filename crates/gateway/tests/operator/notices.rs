//! People are told: once for each state, whatever fails on the way, and never a secret.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clawgate::config::Config;
use hmac::{Hmac, KeyInit as _, Mac as _};
use proof::approval::{Decision, Subject};
use serde_json::{Value, json};
use sha2::Sha256;
use store::{GateState, NoticeRow, NoticeState, Store, Told};

use crate::approvals::{judge, waiting_run};
use crate::receiver::{Call, MailServer, NEVER, PATIENCE, Receiver};
use crate::world::{APPROVER, Caller, World};

const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo=";

const PASSWORD: &str = "the-mail-servers-password";

fn webhook(name: &str, receiver: &Receiver) -> String {
    let url = &receiver.url;
    format!(
        "notices.{name} = {{ kind = \"webhook\", url = \"{url}\", \
         key = {{ command = [\"echo\", \"{KEY}\"] }} }}\n"
    )
}

fn slack(name: &str, receiver: &Receiver) -> String {
    let url = &receiver.url;
    format!(
        "notices.{name} = {{ kind = \"slack\", url = {{ command = [\"echo\", \"{url}\"] }} }}\n"
    )
}

async fn world(channels: String) -> World {
    World::with(channels.leak()).await
}

/// A call as it has to be: signed over id, time and body, by the key that both sides have.
#[track_caller]
fn verified(call: &Call) -> Value {
    let key = STANDARD.decode(KEY.trim_start_matches("whsec_")).unwrap();
    let (id, at) = (call.header("webhook-id"), call.header("webhook-timestamp"));
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    mac.update(format!("{id}.{at}.").as_bytes());
    mac.update(&call.body);
    let expected = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    assert_eq!(call.header("webhook-signature"), expected);
    assert!(at.parse::<i64>().is_ok());
    assert_eq!(call.header("content-type"), "application/json");
    call.json()
}

/// Waits until a channel's latest notice is as it should be.
async fn noticed(world: &World, channel: &str, good: impl Fn(&NoticeRow) -> bool) -> NoticeRow {
    let store = &world.gateway.app.store;
    let mut commits = store.commits();
    let wait = async {
        loop {
            commits.mark_unchanged();
            let rows = store.notices(channel, 1).await.unwrap();
            if let Some(row) = rows.into_iter().find(|row| good(row)) {
                return row;
            }
            commits.changed().await.unwrap();
        }
    };
    let noticed = tokio::time::timeout(PATIENCE, wait).await;
    noticed.expect("the notice is written down")
}

/// Time passes until a notice that failed is due again.
async fn hurry(store: &dyn Store, row: &NoticeRow) {
    let now = clawgate::app::now();
    let again = Told::Failed {
        error: row.error.clone().unwrap(),
        next_at: now,
    };
    store
        .told(&row.channel, &row.run_id, row.gate, now, again)
        .await
        .unwrap();
}

async fn deny(world: &World, admin: &Caller<'_>, subject: &Subject) {
    let denial = judge(world, subject, Decision::Deny, &world.approver);
    let path = format!("/v1/approvals/{}", subject.run_id);
    admin.post(&path, &json!({ "envelope": denial })).await.ok();
}

/// Whatever went out holds nothing that opens anything.
fn no_secret(world: &World, admin: &Caller<'_>, sent: &str) {
    let mut secrets = world.cloud.secrets();
    for duty in ["planner", "executor", "reader"] {
        secrets.push(world.cloud.token(duty).to_owned());
    }
    secrets.extend([
        admin.credential.clone(),
        PASSWORD.to_owned(),
        KEY[6..].to_owned(),
    ]);
    secrets.push("xoxb-receivers-secret".to_owned());
    for secret in secrets {
        assert!(!sent.contains(&secret), "{secret}: {sent}");
    }
}

#[tokio::test]
async fn a_notice_gets_through_in_the_end_also_after_a_restart() {
    let mut receiver = Receiver::new(&[500, 302]).await;
    let mut world = world(webhook("ops", &receiver)).await;
    let job = world.admin().await.job().await;
    let subject = waiting_run(&world, &job, "run-1").await;
    let first = receiver.next().await;
    let body = verified(&first);
    assert_eq!(body["type"], "run.awaiting_approval");
    let data = &body["data"];
    assert_eq!(data["verdict"], "Creates 1, destroys nothing");
    assert_eq!(data["workspace_id"], "ws-staging-app");
    assert_eq!(data["approvers"], json!([APPROVER]));
    assert_eq!(data["job_name"], "a job");
    let url = format!("{}/approvals/run-1", world.gateway.operator_url);
    assert_eq!(data["url"], json!(url));

    let failed = noticed(&world, "ops", |row| row.attempts == 1).await;
    assert!(
        failed.error.as_deref().unwrap().contains("500"),
        "{failed:?}"
    );
    let NoticeState::Waiting { next_at } = failed.state else {
        panic!("{failed:?}")
    };
    assert!(next_at > failed.last_at);
    hurry(&*world.gateway.app.store, &failed).await;
    let second = receiver.next().await;
    verified(&second);
    let failed = noticed(&world, "ops", |row| row.attempts == 3).await;
    assert!(
        failed.error.as_deref().unwrap().contains("redirects"),
        "{failed:?}"
    );

    world = world
        .restarted(async |config: &Config| {
            let store = store::open_sqlite(&config.store_file()).unwrap();
            hurry(&*store, &failed).await;
        })
        .await;
    let third = receiver.next().await;
    verified(&third);
    noticed(&world, "ops", |row| row.state == NoticeState::Sent).await;
    let id = first.header("webhook-id");
    for again in [&second, &third] {
        assert_eq!(again.header("webhook-id"), id, "the same notice");
    }

    let admin = world.admin().await;
    deny(&world, &admin, &subject).await;
    let end = receiver.next().await;
    let body = verified(&end);
    assert_eq!(body["type"], "run.denied");
    assert_eq!(body["data"]["denied_by"], json!([APPROVER]));
    assert_eq!(body["data"]["reason"], "looked at it");
    assert_ne!(end.header("webhook-id"), id);
    noticed(&world, "ops", |row| row.gate == GateState::Denied).await;
    for call in [&first, &second, &third, &end] {
        no_secret(&world, &admin, &String::from_utf8_lossy(&call.body));
    }
    world.gateway.stop().await;
    assert!(receiver.is_empty(), "one notice for each state");
}

#[tokio::test]
async fn nobody_is_asked_what_is_decided_already() {
    let mut receiver = Receiver::new(&[500]).await;
    let world = world(webhook("ops", &receiver)).await;
    let admin = world.admin().await;
    let job = admin.job().await;
    let subject = waiting_run(&world, &job, "run-1").await;
    receiver.next().await;
    let asked = noticed(&world, "ops", |row| row.attempts == 1).await;
    deny(&world, &admin, &subject).await;
    let end = verified(&receiver.next().await);
    assert_eq!(end["type"], "run.denied");
    noticed(&world, "ops", |row| row.gate == GateState::Denied).await;
    hurry(&*world.gateway.app.store, &asked).await;
    // Another run shows that the channel has looked again since.
    waiting_run(&world, &job, "run-2").await;
    let next = verified(&receiver.next().await);
    assert_eq!(next["data"]["run_id"], "run-2");
    noticed(&world, "ops", |row| row.run_id == "run-2").await;
    let list = admin.get("/v1/notices").await.ok();
    let states: Vec<&str> = list["channels"][0]["notices"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|notice| notice["state"].as_str())
        .collect();
    assert_eq!(states, ["sent", "overtaken", "sent"]);
    world.gateway.stop().await;
    assert!(receiver.is_empty());
}

#[tokio::test]
async fn a_channel_that_hangs_holds_up_no_other_and_no_stop() {
    let mut hangs = Receiver::new(&[NEVER]).await;
    let mut receiver = Receiver::new(&[]).await;
    let channels = webhook("ops", &hangs) + &slack("chat", &receiver);
    let world = world(channels).await;
    let admin = world.admin().await;
    let hash = admin.publish().await;
    let name = "<!channel> & *more* \u{202e}";
    let opened = json!({ "name": name, "policy_hash_b64u": hash });
    let opened = admin.post("/v1/jobs", &opened).await.ok();
    let job = opened["job_id"].as_str().unwrap();
    hangs_first(&world, job, &mut hangs).await;
    let call = receiver.next().await;
    let body = call.json();
    assert_eq!(call.headers.get("webhook-signature"), None);
    let blocks = body["blocks"].as_array().unwrap();
    assert_eq!(
        blocks[0]["text"]["text"],
        "*Approval wanted*\nCreates 1, destroys nothing"
    );
    let fields = blocks[1]["fields"].as_array().unwrap();
    assert!(fields.iter().all(|field| field["type"] == "plain_text"));
    let job_field = fields.iter().find_map(|field| {
        let text = field["text"].as_str()?;
        text.strip_prefix("Job\n")
    });
    let escaped = format!("&lt;!channel&gt; &amp; *more* \u{fffd} ({job})");
    assert_eq!(job_field, Some(escaped.as_str()));
    let link = format!("{}/approvals/run-1", world.gateway.operator_url);
    assert_eq!(
        blocks[2]["text"]["text"],
        json!(format!("<{link}|Look and decide>"))
    );
    assert!(body["text"].as_str().unwrap().contains("Approval wanted"));
    no_secret(&world, &admin, &body.to_string());
    noticed(&world, "chat", |row| row.state == NoticeState::Sent).await;
    let stuck = world.gateway.app.store.notices("ops", 1).await.unwrap();
    assert_eq!(stuck, [], "still on its way");
    world.gateway.stop().await;
}

async fn hangs_first(world: &World, job: &str, hangs: &mut Receiver) {
    waiting_run(world, job, "run-1").await;
    hangs.next().await;
}

#[tokio::test]
async fn channels_are_tried_and_say_what_was_answered() {
    let mut good = Receiver::new(&[]).await;
    let mut bad = Receiver::new(&[404]).await;
    let channels = slack("good", &good) + &webhook("bad", &bad);
    let world = world(channels).await;
    let admin = world.admin().await;
    let list = admin.get("/v1/notices").await.ok();
    let text = list.to_string();
    assert_eq!(list["channels"][0]["name"], "bad");
    assert_eq!(list["channels"][1]["events"].as_array().unwrap().len(), 7);
    no_secret(&world, &admin, &text);
    let try_it = async |name: &str| {
        admin
            .post(&format!("/v1/notices/{name}/test"), &json!({}))
            .await
    };
    let taken = try_it("good").await.ok();
    assert_eq!(taken["taken"], true);
    assert_eq!(taken["said"], "200 OK: as you like");
    let refused = try_it("bad").await.ok();
    assert_eq!(refused["taken"], false);
    assert_eq!(refused["said"], "it answered 404 Not Found: as you like");
    assert_eq!(try_it("none").await.code(), "NOTICE_CHANNEL_UNKNOWN");
    let body = good.next().await.json();
    assert!(
        body["text"]
            .as_str()
            .unwrap()
            .contains("A test of the notice channel good")
    );
    assert_eq!(verified(&bad.next().await)["type"], "test");
    let actions = world.gateway.app.store.operator_actions(10).await.unwrap();
    let tests = actions
        .iter()
        .filter(|action| action.action == "notice.test");
    assert_eq!(tests.count(), 2);
}

#[tokio::test]
async fn a_run_is_one_thread_of_mail() {
    let Some(mut server) = MailServer::start(&["clawgate", PASSWORD]).await else {
        return;
    };
    let channel = format!(
        "notices.mail = {{ kind = \"email\", server = \"smtp://{}\", \
         from = \"Clawgate <clawgate@example.com>\", \
         to = [\"ops@example.com\", \"Lead <lead@example.com>\"], user = \"clawgate\", \
         password = {{ command = [\"echo\", \"{PASSWORD}\"] }} }}\n",
        server.address
    );
    let world = world(channel).await;
    let admin = world.admin().await;
    let job = admin.job().await;
    let subject = waiting_run(&world, &job, "run-1").await;
    let asked = server.next().await;
    assert_eq!(asked["to"], json!(["ops@example.com", "lead@example.com"]));
    assert_eq!(asked["content_type"], "text/plain");
    let subject_line = "Creates 1, destroys nothing in acme / ws-staging-app (run-1)";
    assert_eq!(asked["headers"]["subject"], subject_line);
    assert_eq!(asked["headers"]["auto-submitted"], "auto-generated");
    let text = asked["text"].as_str().unwrap();
    assert_eq!(text.lines().next(), Some("Approval wanted"), "{text}");
    let link = format!("{}/approvals/run-1", world.gateway.operator_url);
    assert!(text.contains(&link), "{text}");
    deny(&world, &admin, &subject).await;
    let denied = server.next().await;
    assert_eq!(
        denied["headers"]["subject"],
        json!(format!("Re: {subject_line}"))
    );
    let first = &asked["headers"]["message-id"];
    assert_eq!(&denied["headers"]["in-reply-to"], first);
    assert_eq!(&denied["headers"]["references"], first);
    assert_ne!(&denied["headers"]["message-id"], first);
    for mail in [&asked, &denied] {
        no_secret(&world, &admin, mail["raw"].as_str().unwrap());
    }
    let tried = admin.post("/v1/notices/mail/test", &json!({})).await.ok();
    assert_eq!(tried["taken"], true, "{tried}");
    assert_eq!(tried["said"], "250 kept");
    assert_eq!(
        server.next().await["headers"]["subject"],
        "A test of the notice channel mail: nothing waits"
    );
    world.gateway.stop().await;
}

#[tokio::test]
async fn a_mail_server_is_believed_only_with_a_certificate_and_told_the_right_password() {
    let folder = tempfile::tempdir().unwrap();
    let names = vec!["127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let certificate = write("certificate.pem", &made.cert.pem());
    let key = write("key.pem", &made.signing_key.serialize_pem());
    let arguments = ["clawgate", PASSWORD, &certificate, &key];
    let Some(mut server) = MailServer::start(&arguments).await else {
        return;
    };
    let channel = |name: &str, password: &str| {
        format!(
            "notices.{name} = {{ kind = \"email\", server = \"smtps://{}\", \
             from = \"clawgate@example.com\", to = [\"ops@example.com\"], user = \"clawgate\", \
             password = {{ command = [\"echo\", \"{password}\"] }} }}\n",
            server.address
        )
    };
    let channels = channel("mail", PASSWORD) + &channel("wrong", "not-the-password");
    let trusting = World::believing(channels.clone().leak(), certificate.leak()).await;
    let admin = trusting.admin().await;
    let try_it = async |admin: &Caller<'_>, name: &str| {
        admin
            .post(&format!("/v1/notices/{name}/test"), &json!({}))
            .await
            .ok()
    };
    let taken = try_it(&admin, "mail").await;
    assert_eq!(taken["taken"], true, "{taken}");
    server.next().await;
    let refused = try_it(&admin, "wrong").await;
    assert_eq!(refused["taken"], false);
    let said = refused["said"].as_str().unwrap();
    assert!(
        said.contains("the server said no") && !said.contains("not-the-password"),
        "{said}"
    );
    let doubting = world(channels).await;
    let refused = try_it(&doubting.admin().await, "mail").await;
    assert_eq!(refused["taken"], false);
    let said = refused["said"].as_str().unwrap();
    assert!(said.contains("certificate"), "{said}");
}
