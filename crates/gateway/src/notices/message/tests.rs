//! What is told of each state, and what hostile names can do to each channel.

use proof::approval::{Judgement, Subject};
use proof::record::ApprovalVia;
use proof::{Envelope, EnvelopeType, Hash, Json, SigningKey};
use store::{JobCounters, JobState};

use super::*;
use crate::config::EmailChannel;
use crate::notices::channel::NoticeId;
use crate::notices::email::Mail;
use crate::notices::{slack, webhook};

const SECRET: &str = "hunter2-a-value-of-an-attribute";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(1_795_334_400 + seconds)
}

fn job(name: &str) -> JobRow {
    JobRow {
        job_id: "job_1".parse().unwrap(),
        agent_did: SigningKey::from_seed(&[2; 32]).did(),
        name: name.into(),
        policy_hash: Hash::of(b"contract"),
        gateway_did: SigningKey::from_seed(&[3; 32]).did(),
        opened_by: "ada".into(),
        opened_by_email: None,
        confinement: None,
        lease_seconds: None,
        opened_at: at(0),
        state: JobState::Open,
        last_at: at(1),
        counters: JobCounters::default(),
    }
}

fn run(gate: GateState, workspace: &str) -> RunRow {
    let job_id: proof::record::JobId = "job_1".parse().unwrap();
    let changes = Changes {
        create: 2,
        delete: 1,
        ..Changes::default()
    };
    let mut summary = Json::object();
    summary.set("message", SECRET);
    summary.set("resources", SECRET);
    RunRow {
        run_id: "run-1".into(),
        job_id: job_id.clone(),
        organization: "acme".into(),
        workspace_id: workspace.into(),
        configuration_version_id: None,
        configuration_sha256: None,
        plan_id: None,
        apply_id: None,
        apply_wished: true,
        gate,
        plan_sha256: None,
        plan_raw_sha256: None,
        changes: Some(changes),
        subject: Some(Subject {
            organization: "acme".into(),
            workspace_id: workspace.into(),
            run_id: "run-1".into(),
            configuration_version_id: "cv-1".into(),
            configuration_sha256_b64u: Hash::of(b"configuration"),
            plan_id: "plan-1".into(),
            plan_sha256_b64u: Hash::of(b"plan"),
            policy_hash_b64u: Hash::of(b"contract"),
            job_id,
            changes,
            cost: Some("12.50".into()),
        }),
        summary: Some(summary),
        status: "planned".into(),
        state_version_before: None,
        state_version_after: None,
        gate_reason: None,
        approval_expires_at: Some(at(3600)),
        created_at: at(1),
        updated_at: at(2),
    }
}

fn statement(run: &RunRow, decision: Decision, reason: &str, counted: bool) -> StatementRow {
    let key = SigningKey::from_seed(&[7; 32]);
    let subject = run.subject.clone().unwrap();
    let statement = subject.judge(Judgement {
        decision,
        approver: "lead@example.com".into(),
        approver_did: key.did().into(),
        issued_at: at(3),
        expires_at: at(60),
        nonce: "n".into(),
        reason: Some(reason.into()),
    });
    let kind = EnvelopeType::ApprovalStatement;
    let envelope = Envelope::sign(kind, &statement, &key, at(3)).unwrap();
    StatementRow {
        run_id: run.run_id.clone(),
        job_id: run.job_id.clone(),
        envelope: envelope.try_into().unwrap(),
        approver: "lead@example.com".into(),
        decision,
        via: ApprovalVia::Key,
        at: at(3),
        seq: 2,
        counted,
    }
}

fn message(run: &RunRow, job: &JobRow, statements: &[StatementRow]) -> Message {
    let terms = Terms {
        contract: "staging".into(),
        approvers: vec!["lead@example.com".into(), "second@example.com".into()],
        needed: 2,
    };
    let known = Known {
        run,
        job,
        terms: &terms,
        statements,
        gateway: "gateway.example",
        operator_url: "https://clawgate.example.com",
    };
    known.message()
}

fn fact<'m>(message: &'m Message, name: &str) -> Option<&'m str> {
    let mut facts = message.facts.iter();
    facts.find(|(own, _)| *own == name).map(|(_, v)| v.as_str())
}

#[test]
fn each_state_says_what_happened_and_by_whom() {
    use GateState::{Applied, AwaitingApproval, Denied, Discarded, Errored, Expired, Superseded};
    let gate_reason = |text: &str| Some(text.to_owned());
    for (gate, reason, says) in [
        (AwaitingApproval, None, "Approval wanted"),
        (Denied, None, "Denied by lead@example.com"),
        (
            Expired,
            gate_reason("nobody approved in time"),
            "Nobody decided in time",
        ),
        (
            Superseded,
            gate_reason("APPROVAL_RUN_CHANGED: x"),
            "Overtaken by a change",
        ),
        (
            Discarded,
            gate_reason("discarded by ada: not now"),
            "Discarded by ada",
        ),
        (
            Discarded,
            gate_reason("discard by the agent"),
            "Discarded by the agent",
        ),
        (Applied, None, "Applied, approved by lead@example.com"),
        (
            Errored,
            gate_reason("upstream refused the apply with 403"),
            "The apply failed",
        ),
    ] {
        let mut run = run(gate, "ws-staging");
        run.gate_reason = reason;
        let statements = [
            statement(&run, Decision::Deny, "replaces the database", true),
            statement(&run, Decision::Approve, "fine", true),
        ];
        let message = message(&run, &job("grow the database"), &statements);
        assert_eq!(message.headline, says, "{gate:?}");
        assert_eq!(message.event, gate.as_str());
        assert_eq!(message.verdict, "Destroys 1, creates 2");
        assert!(message.destructive);
        assert_eq!(message.link, "https://clawgate.example.com/approvals/run-1");
        let waits = gate == AwaitingApproval;
        assert_eq!(fact(&message, "Approvals").is_some(), waits);
        assert_eq!(message.data["expires_at"].is_null(), !waits);
        let reason = fact(&message, "Reason given");
        assert_eq!(reason, (gate == Denied).then_some("replaces the database"));
    }
    let waiting = run(GateState::AwaitingApproval, "ws-staging");
    let late = [statement(&waiting, Decision::Approve, "fine", false)];
    let told = message(&waiting, &job("a job"), &late);
    assert_eq!(
        fact(&told, "Approvals"),
        Some("0 of 2, from lead@example.com, second@example.com")
    );
    assert_eq!(fact(&told, "Until"), Some("22 Nov 2026 09:00:00 UTC"));
    assert_eq!(fact(&told, "Workspace"), Some("acme / ws-staging"));
    assert_eq!(fact(&told, "Job"), Some("a job (job_1)"));
}

#[test]
fn broken_rules_are_told_by_code_and_not_by_what_they_quote() {
    let mut run = run(GateState::Discarded, "ws-staging");
    run.changes = None;
    run.subject = None;
    let known = ReasonCode::ALL
        .iter()
        .find(|code| code.as_str().starts_with("PLAN_"));
    let known = known.unwrap().as_str();
    run.gate_reason = Some(format!("{known}: `{SECRET}`; {known}: NOT_A_CODE"));
    let message = message(&run, &job("a job"), &[]);
    assert_eq!(
        message.headline,
        "Discarded: the contract does not allow it"
    );
    assert_eq!(fact(&message, "Why"), Some(known));
    assert_eq!(message.data["codes"], json!([known]));
    assert_eq!(message.verdict, "");
    assert!(!format!("{message:?}").contains(SECRET));
}

#[tokio::test]
async fn hostile_names_stay_names_in_every_channel() {
    let hostile =
        "x\r\nBcc: all@example.com\r\n\r\n<!channel> <https://evil|ok> & \u{202e}lrtl\u{7}";
    let workspace = "ws\r\nSubject: y <b>";
    let run = run(GateState::Denied, workspace);
    let denial = [statement(&run, Decision::Deny, hostile, true)];
    let message = message(&run, &job(hostile), &denial);
    let id = NoticeId::of_run("gateway.example", "ops", "run-1", run.gate);

    let slack: Value = serde_json::from_slice(&slack::render(&message)).unwrap();
    for text in texts(&slack) {
        let own = format!("<{}|Look and decide>", message.link);
        let text = text.replace(&own, "");
        assert!(!text.contains('<') && !text.contains('>'), "{text}");
        // Lines are ours: name and value of a fact, headline and verdict.
        assert!(text.lines().count() <= 2, "{text}");
        assert!(
            !text.chars().any(|c| c == '\u{202e}' || c == '\u{7}'),
            "{text}"
        );
    }

    let mail = Mail::connect(
        &EmailChannel {
            server: "smtp://127.0.0.1:25".into(),
            from: "Clawgate <clawgate@example.com>".into(),
            to: vec!["ops@example.com".into()],
            user: None,
            password: None,
            events: None,
        },
        None,
        None,
    )
    .unwrap();
    let mail = mail.write(&message, &id).unwrap().formatted();
    let mail = String::from_utf8(mail).unwrap();
    let (head, _) = mail.split_once("\r\n\r\n").unwrap();
    let names: Vec<&str> = head
        .split("\r\n")
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| line.split_once(':').map(|(name, _)| name))
        .collect();
    assert_eq!(
        names.iter().filter(|name| **name == "Subject").count(),
        1,
        "{head}"
    );
    assert!(!names.contains(&"Bcc"), "{head}");
    assert!(head.contains("In-Reply-To: <msg_"), "{head}");

    let key = webhook::Key::read(&crate::secret::Secret::new(webhook::new_key())).unwrap();
    let (_, body) = webhook::render(&message, &id.own, at(9), &key);
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["type"], "run.denied");
    for text in texts(&body) {
        assert!(!text.chars().any(crate::cli::term::is_hostile), "{text:?}");
    }
    for rendered in [slack.to_string(), mail, body.to_string()] {
        assert!(!rendered.contains(SECRET), "{rendered}");
    }
}

/// Every text in a document.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(list) => list.iter().flat_map(texts).collect(),
        Value::Object(members) => members.values().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn a_notice_has_one_id_and_a_run_one_thread() {
    let id = |channel: &str, run: &str, gate| NoticeId::of_run("gateway", channel, run, gate);
    let asked = id("ops", "run-1", GateState::AwaitingApproval);
    let denied = id("ops", "run-1", GateState::Denied);
    assert_eq!(asked, id("ops", "run-1", GateState::AwaitingApproval));
    assert_eq!(asked.thread, None);
    assert_eq!(denied.thread.as_ref(), Some(&asked.own));
    let mut all = vec![
        asked.own,
        denied.own,
        id("slack", "run-1", GateState::Denied).own,
        id("ops", "run-2", GateState::Denied).own,
        NoticeId::random().own,
    ];
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 5);
}
