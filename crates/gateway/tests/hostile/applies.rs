//! An apply that nobody, or not everybody, has approved.

use std::collections::BTreeSet;

use proof::approval::{Decision, Judgement, SignedStatement, Subject};
use proof::record::ApprovalVia;
use proof::{Envelope, EnvelopeType};
use serde_json::{Value, json};
use store::GateState;

use crate::flow::{Planned, configuration, path_of, run_on};
use crate::rig::{ELSEWHERE, Reply, Rig};

/// Two people must agree.
fn two_approvals() -> String {
    policy::EXAMPLE_CONTRACT.replace(
        "\"approvers\": [\"infra-lead@example.com\"]",
        "\"approvers\": [\"infra-lead@example.com\", \"owner@example.com\"], \"min_approvals\": 2",
    )
}

impl Rig {
    /// A run that the agent wants applied and that waits for approval.
    async fn waiting(&self, token: &str) -> (Planned, Subject) {
        let planned = self.planned(token).await;
        let path = format!("/api/v2/runs/{}/actions/apply", planned.run);
        let call = self
            .nobody("POST", &path)
            .bearer(token)
            .json_api(&json!({}));
        assert_eq!(call.send().await.status, 202);
        let mut commits = self.app().store.commits();
        loop {
            let run = self.app().store.run(&planned.run).await.unwrap().unwrap();
            match run.gate {
                GateState::AwaitingApproval => return (planned, run.subject.unwrap()),
                GateState::Planned | GateState::Inspecting => commits.changed().await.unwrap(),
                other => panic!("{other:?}: {:?}", run.gate_reason),
            }
        }
    }

    fn statement(&self, subject: &Subject, approver: usize) -> Envelope {
        let person = &self.sandbox.approvers[approver];
        let now = self.app().now();
        let statement = subject.clone().judge(Judgement {
            decision: Decision::Approve,
            approver: person.email.clone(),
            approver_did: person.key.did().into(),
            issued_at: now,
            expires_at: now.plus_seconds(300),
            nonce: clawgate::keys::random_text(),
            reason: None,
        });
        let kind = EnvelopeType::ApprovalStatement;
        Envelope::sign(kind, &statement, &person.key, now).unwrap()
    }

    async fn approve(&self, run: &str, envelope: &Envelope) -> Reply {
        let path = format!("/v1/approvals/{run}");
        self.operator("POST", &path)
            .json(&json!({ "envelope": envelope }))
            .send()
            .await
    }

    async fn elevated(&self, run: &str, envelope: &Envelope) -> Reply {
        let body = json!({ "run_id": run, "envelope": envelope });
        self.operator("POST", "/v1/tokens/elevated")
            .json(&body)
            .send()
            .await
    }

    /// What has been sent to upstream's apply action.
    fn applies(&self) -> Vec<String> {
        let requests = self.sandbox.cloud.requests();
        let applies = requests
            .iter()
            .filter(|request| request.path.ends_with("/actions/apply"));
        applies.map(|request| request.path.clone()).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asking_is_not_approving() {
    let rig = Rig::start().await;
    let (planned, _) = rig.waiting(&rig.sandbox.cst).await;
    let path = format!("/api/v2/runs/{}/actions/apply", planned.run);
    let second = rig.token(&rig.sandbox.job_id).await;
    let bodies = [
        json!({}),
        json!({"comment": "approved by infra-lead@example.com"}),
        json!({"comment": "APPROVED\u{202e}"}),
    ];
    let calls = (0..24).map(|n| {
        let token = if n % 2 == 0 {
            &rig.sandbox.cst
        } else {
            &second
        };
        rig.nobody("POST", &path)
            .bearer(token)
            .json_api(&bodies[n % 3])
    });
    let answers =
        futures_util::future::join_all(calls.map(|call| async move { call.send().await.status }));
    let statuses: BTreeSet<u16> = answers.await.into_iter().collect();
    assert_eq!(statuses, [202].into());
    // An agent's word in the operator's place.
    let envelope = json!({"decision": "approve"});
    for path in [
        format!("/v1/approvals/{}", planned.run),
        "/v1/tokens/elevated".to_owned(),
    ] {
        let call = rig.visitor("POST", &path).bearer(&rig.sandbox.cst);
        let reply = call.json(&json!({ "envelope": envelope })).send().await;
        assert_eq!(reply.refusal(), (401, "TOKEN_WRONG_LISTENER".to_owned()));
        let own = rig
            .agent("POST", &path)
            .json(&json!({ "envelope": envelope }))
            .send()
            .await;
        assert_eq!(own.refusal(), (403, "ROUTE_UNKNOWN".to_owned()));
    }
    let run = rig.app().store.run(&planned.run).await.unwrap().unwrap();
    assert_eq!(run.gate, GateState::AwaitingApproval);
    assert_eq!(rig.applies(), Vec::<String>::new());
}

/// A statement is worth what it says: this plan of this run, by this person, once.
#[tokio::test]
async fn a_statement_is_good_for_its_own_run_only() {
    let rig = Rig::under(&two_approvals()).await;
    let (first, subject) = rig.waiting(&rig.sandbox.cst).await;
    let other_job = rig.job().await;
    let other_token = rig.token(&other_job).await;
    let second = rig.begun(&other_token).await;
    let mut other_subject = subject.clone();
    other_subject.run_id.clone_from(&second.run);
    other_subject.plan_id.clone_from(&second.plan);
    other_subject.job_id = other_job;
    let good = rig.statement(&subject, 0);
    let bent = |change: &dyn Fn(&mut Subject)| {
        let mut subject = subject.clone();
        change(&mut subject);
        rig.statement(&subject, 0)
    };
    let mut renamed = good.clone();
    renamed.signer_did = rig.sandbox.approvers[1].key.did();
    let refused = [
        ("another run's", rig.statement(&other_subject, 0)),
        (
            "another plan",
            bent(&|s| s.plan_sha256_b64u = proof::Hash::of(b"x")),
        ),
        (
            "another plan's id",
            bent(&|s| s.plan_id = "plan-0000000000000001".into()),
        ),
        (
            "another workspace",
            bent(&|s| s.workspace_id = "ws-staging-db".into()),
        ),
        (
            "another organization",
            bent(&|s| s.organization = "globex".into()),
        ),
        (
            "another configuration",
            bent(&|s| s.configuration_sha256_b64u = proof::Hash::of(b"x")),
        ),
        (
            "another job",
            bent(&|s| s.job_id = other_subject.job_id.clone()),
        ),
        ("fewer changes", bent(&|s| s.changes.delete += 1)),
        (
            "another contract",
            bent(&|s| s.policy_hash_b64u = proof::Hash::of(b"x")),
        ),
        ("another signer's name", renamed),
    ];
    for (what, envelope) in &refused {
        let reply = rig.approve(&first.run, envelope).await;
        assert!(
            (400..500).contains(&reply.status),
            "{what}: {}",
            reply.whole
        );
        let reply = rig.elevated(&first.run, envelope).await;
        assert!(
            (400..500).contains(&reply.status),
            "{what}, elevated: {}",
            reply.whole
        );
    }
    // One person, twice: still one.
    let counted = rig.approve(&first.run, &good).await.ok();
    assert_eq!(counted["approvals"].as_array().unwrap().len(), 1);
    let again = rig.statement(&subject, 0);
    assert_eq!(
        rig.approve(&first.run, &again).await.refusal().1,
        "APPROVAL_ALREADY_GIVEN"
    );
    assert_eq!(rig.approve(&second.run, &good).await.status / 100, 4);
    let run = rig.app().store.run(&first.run).await.unwrap().unwrap();
    assert_eq!(run.gate, GateState::AwaitingApproval);
    assert_eq!(rig.applies(), Vec::<String>::new());
    // The other person's yes is what was missing, and it is worth one apply.
    rig.approve(&first.run, &rig.statement(&subject, 1))
        .await
        .ok();
    rig.sandbox
        .cloud
        .wait_until_ended(&first.run)
        .await
        .unwrap();
    assert_eq!(
        rig.applies(),
        [format!("/api/v2/runs/{}/actions/apply", first.run)]
    );
}

/// An elevated token is one person's yes, for one run, for one holder, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_elevated_token_counts_once() {
    let rig = Rig::under(&two_approvals()).await;
    let (planned, subject) = rig.waiting(&rig.sandbox.cst).await;
    let other = rig.begun(&rig.sandbox.cst).await;
    let issued = rig
        .elevated(&planned.run, &rig.statement(&subject, 0))
        .await
        .ok();
    let token = issued["token"].as_str().unwrap().to_owned();
    let apply = |run: &str| format!("/api/v2/runs/{run}/actions/apply");
    let use_on = |run: &str| {
        rig.nobody("POST", &apply(run))
            .bearer(&token)
            .json_api(&json!({}))
    };
    for path in [
        format!("/api/v2/runs/{}", planned.run),
        "/api/v2/workspaces/ws-staging-app".to_owned(),
        "/api/v2/workspaces/ws-staging-app/runs".to_owned(),
    ] {
        let reply = rig.nobody("GET", &path).bearer(&token).send().await;
        assert_eq!(reply.refusal(), (403, "TOKEN_SCOPE".to_owned()), "{path}");
    }
    let elsewhere = use_on(&planned.run).from(ELSEWHERE).send().await;
    assert_eq!(elsewhere.refusal(), (401, "TOKEN_REPLAYED".to_owned()));
    assert_eq!(
        use_on(&other.run).send().await.refusal(),
        (403, "TOKEN_SCOPE".to_owned())
    );
    let calls = (0..8).map(|_| use_on(&planned.run));
    let answers = calls.map(|call| async move { call.send().await.refusal() });
    let mut answers = futures_util::future::join_all(answers).await;
    answers.sort();
    assert_eq!(answers[0], (202, String::new()), "{answers:?}");
    let spent = (401, "TOKEN_SPENT".to_owned());
    assert!(
        answers[1..].iter().all(|answer| *answer == spent),
        "{answers:?}"
    );
    let run = rig.app().store.run(&planned.run).await.unwrap().unwrap();
    assert_eq!(
        run.gate,
        GateState::AwaitingApproval,
        "one of two approvals"
    );
    let statements = rig.app().store.statements(&planned.run).await.unwrap();
    assert_eq!(statements.len(), 1);
    assert_eq!(rig.applies(), Vec::<String>::new());
}

/// Under a contract without applies nothing that could be applied is even made.
#[tokio::test]
async fn b04_a_plan_only_contract_makes_plans_only() {
    let text = policy::EXAMPLE_CONTRACT.replace("\"allowed\": true", "\"allowed\": false");
    let rig = Rig::under(&text).await;
    let own = &rig.sandbox.cst;
    let open = "/api/v2/workspaces/ws-staging-app/configuration-versions";
    let opened = rig
        .agent("POST", open)
        .json_api(&configuration())
        .send()
        .await
        .ok();
    let id = opened["data"]["id"].as_str().unwrap();
    let upload = path_of(opened["data"]["attributes"]["upload-url"].as_str().unwrap());
    rig.upload(&upload, crate::flow::good_archive()).await.ok();
    let mut body = run_on("ws-staging-app", Some(id));
    body["data"]["attributes"] = json!({"auto-apply": true, "plan-only": false, "save-plan": true});
    let run = rig.start_run(own, &body).await.ok();
    let run = run["data"]["id"].as_str().unwrap();
    let apply = format!("/api/v2/runs/{run}/actions/apply");
    let refused = rig
        .agent("POST", &apply)
        .json_api(&json!({}))
        .send()
        .await
        .refusal();
    assert_eq!(refused.0, 403, "{refused:?}");
    let sent = |path: &str| {
        let requests = rig.sandbox.cloud.requests();
        let request = requests
            .into_iter()
            .find(|r| r.method == "POST" && r.path == path);
        match request.unwrap().body {
            Some(sim::LoggedBody::Json(body)) => body["data"]["attributes"].clone(),
            other => panic!("{other:?}"),
        }
    };
    let configuration = sent(open);
    assert_eq!(configuration["speculative"], Value::Bool(true));
    assert_eq!(configuration["auto-queue-runs"], Value::Bool(false));
    let run = sent("/api/v2/runs");
    for (name, value) in [
        ("auto-apply", false),
        ("plan-only", true),
        ("save-plan", false),
    ] {
        assert_eq!(run[name], Value::Bool(value), "{name}");
    }
    assert_eq!(rig.applies(), Vec::<String>::new());
}

/// The opener's approval is refused at the door; and one that got into the store all the same, by
/// whatever way, is not counted when it matters.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_openers_own_approval_is_not_counted_before_the_apply() {
    let rig = Rig::start().await;
    let person = rig.sandbox.approvers[0].email.clone();
    let job = rig.job_by(&person, rig.sandbox.policy_hash).await;
    let token = rig.token(&job).await;
    let (planned, subject) = rig.waiting(&token).await;
    let envelope = rig.statement(&subject, 0);
    let reply = rig.approve(&planned.run, &envelope).await;
    assert_eq!(reply.refusal(), (403, "APPROVAL_OWN_JOB".to_owned()));
    let store = &rig.app().store;
    let statement = store::NewStatement {
        statement: envelope.payload.to_typed().unwrap(),
        envelope: SignedStatement::try_from(envelope).unwrap(),
        via: ApprovalVia::Key,
        sign_count: None,
        at: rig.app().now(),
        min_approvals: 1,
    };
    let kept = store.record_statement(statement).await.unwrap();
    assert!(matches!(kept, store::StatementOutcome::Counted { .. }));
    rig.app().gate.wake(&planned.run);
    let mut commits = store.commits();
    let run = loop {
        let run = store.run(&planned.run).await.unwrap().unwrap();
        if run.gate.is_final() {
            break run;
        }
        commits.changed().await.unwrap();
    };
    assert_eq!(run.gate, GateState::Superseded);
    assert!(run.gate_reason.unwrap().starts_with("APPROVAL_OWN_JOB"));
    assert_eq!(rig.applies(), Vec::<String>::new());
}
