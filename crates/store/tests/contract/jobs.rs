//! Jobs.

use std::sync::Arc;

use proof::EnvelopeType;
use proof::approval::Decision;
use proof::record::{Body, Ended, JobId, Lane};
use store::{
    Conflict, GateState, JobClosing, JobFilter, JobOutcome, JobPhase, JobState, RunUpdate, Store,
};

use crate::assert_conflict;
use crate::fixtures::*;

pub(crate) async fn a_job_opens_once_and_under_a_contract_in_force(store: Arc<dyn Store>) {
    assert_conflict!(
        store.open_job(job_id(1), at(0), opening("v1")).await,
        Conflict::NoSuchContract
    );
    store.publish(contract("staging", "v1")).await.unwrap();
    let appended = store
        .open_job(job_id(1), at(0), opening("v1"))
        .await
        .unwrap();
    assert_eq!((appended.seq, appended.leaf_index), (1, 0));
    assert_eq!(appended.event.unwrap().event_type, "run_start");
    assert_conflict!(
        store.open_job(job_id(1), at(1), opening("v1")).await,
        Conflict::JobExists(_)
    );
    let job = store.job(&job_id(1)).await.unwrap().unwrap();
    assert_eq!(job.state, JobState::Open);
    assert_eq!((job.opened_at, job.last_at), (at(0), at(0)));
    assert_eq!(
        (job.opened_by.as_str(), job.policy_hash),
        ("ada", hash("v1"))
    );
    assert_eq!(job.gateway_did, key(3).did());
    let records = records(&store, &job_id(1)).await;
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].1.body, Body::JobOpen(opening("v1")));
    assert_eq!(job.opened_by_email, opening("v1").opened_by_email);
    assert_eq!(job.confinement, opening("v1").confinement);
    assert_eq!(job.lease_seconds, Some(60));
    assert_eq!(store.job(&job_id(2)).await.unwrap(), None);
}

pub(crate) async fn closing_counts_its_own_record_and_ends_the_job(store: Arc<dyn Store>) {
    let job = open_job(&store, 1).await;
    append(&store, &job, refusal()).await.unwrap();
    let closing = store.close_job(&job, "ada", "done", at(20)).await.unwrap();
    let JobClosing::Now { appended, cut } = closing else {
        panic!("it was open");
    };
    assert_eq!((appended.seq, cut), (3, Vec::new()));
    let all = records(&store, &job).await;
    let Body::JobClose(close) = &all.last().unwrap().1.body else {
        panic!("the closing record is the last");
    };
    assert_eq!(close.count, all.len() as u64);
    assert_eq!(close.policy_hash_b64u, hash("v1"));

    let again = store.close_job(&job, "eve", "mine", at(30)).await.unwrap();
    let JobClosing::Before(closing) = again else {
        panic!("it was closed");
    };
    assert_eq!((closing.by.as_str(), closing.at), ("ada", at(20)));
    for body in [intent(Lane::Model), refusal()] {
        assert_conflict!(append(&store, &job, body).await, Conflict::JobClosed(_));
    }
    assert_conflict!(store.issue(token(&job, 1)).await, Conflict::JobClosed(_));
    assert_eq!(records(&store, &job).await.len(), 3);
    assert_conflict!(
        store.close_job(&job_id(9), "ada", "done", at(20)).await,
        Conflict::NoSuchJob(_)
    );
}

pub(crate) async fn closing_cuts_off_what_is_in_flight(store: Arc<dyn Store>) {
    let job = open_job(&store, 1).await;
    let mut seqs = Vec::new();
    for _ in 0..3 {
        let intent = append(&store, &job, intent(Lane::Terraform)).await;
        seqs.push(intent.unwrap().seq);
    }
    let answered = store.append_outcome(&job, at(11), outcome(seqs[1]), None, Vec::new());
    answered.await.unwrap();
    let counters = store.job(&job).await.unwrap().unwrap().counters;
    assert_eq!(counters.open_intents, 2);
    let closing = store.close_job(&job, "ada", "stop", at(20)).await.unwrap();
    let JobClosing::Now { cut, .. } = closing else {
        panic!("it was open");
    };
    assert_eq!(cut, [seqs[0], seqs[2]]);
    let all = records(&store, &job).await;
    for seq in cut {
        let ended = all.iter().find_map(|(_, record)| match &record.body {
            Body::Outcome(outcome) if outcome.intent_seq == seq => Some(outcome),
            _ => None,
        });
        let ended = ended.expect("no intent stays unanswered");
        assert_eq!(ended.ended, Ended::Unknown);
        assert_eq!(ended.code.as_deref(), Some("JOB_CLOSED"));
    }
    let Body::JobClose(close) = &all.last().unwrap().1.body else {
        panic!("the closing record is the last");
    };
    assert_eq!(close.count, all.len() as u64);
    assert_eq!(store.open_intents().await.unwrap(), []);
    let late = store.append_outcome(&job, at(21), outcome(seqs[0]), None, Vec::new());
    assert_conflict!(late.await, Conflict::JobClosed(_));
}

pub(crate) async fn jobs_are_listed_newest_first_in_pages(store: Arc<dyn Store>) {
    for n in 1..=5 {
        open_job(&store, n).await;
    }
    for n in [2, 4] {
        store
            .close_job(&job_id(n), "ada", "done", at(9))
            .await
            .unwrap();
    }
    let list = async |phase, before: Option<u32>, limit| -> Vec<String> {
        let filter = JobFilter {
            phase,
            before: before.map(job_id),
            limit,
            ..JobFilter::default()
        };
        let jobs = store.jobs(filter).await.unwrap();
        jobs.iter().map(|job| job.job_id.to_string()).collect()
    };
    assert_eq!(list(None, None, 2).await, ["job_5", "job_4"]);
    assert_eq!(list(None, Some(4), 2).await, ["job_3", "job_2"]);
    assert_eq!(list(None, Some(2), 9).await, ["job_1"]);
    assert!(list(None, Some(99), 9).await.is_empty());
    let (open, closed) = (Some(JobPhase::Open), Some(JobPhase::Closed));
    assert_eq!(list(open, None, 9).await, ["job_5", "job_3", "job_1"]);
    assert_eq!(list(open, Some(5), 1).await, ["job_3"]);
    assert_eq!(list(closed, None, 9).await, ["job_4", "job_2"]);
    assert!(list(Some(JobPhase::Sealed), None, 9).await.is_empty());
    assert_eq!(store.jobs(JobFilter::default()).await.unwrap().len(), 5);
}

pub(crate) async fn jobs_are_found_by_what_is_known_of_them(store: Arc<dyn Store>) {
    let first = open_job(&store, 1).await;
    store.publish(contract("production", "p1")).await.unwrap();
    let mut opened = opening("p1");
    opened.agent_did = key(9).did();
    store.open_job(job_id(2), at(500), opened).await.unwrap();
    let third = open_job(&store, 3).await;
    append(&store, &third, refusal()).await.unwrap();
    store.insert_run(run(&first, "run-1")).await.unwrap();
    let workspace = run(&first, "run-1").workspace_id;
    let found = async |filter: JobFilter| -> Vec<String> {
        let jobs = store.jobs(filter).await.unwrap();
        jobs.iter().map(|job| job.job_id.to_string()).collect()
    };
    let any = JobFilter::default;
    let name = first_contract(&store, &first).await;
    for (filter, jobs) in [
        (
            JobFilter {
                contract: Some(name),
                ..any()
            },
            &["job_3", "job_1"][..],
        ),
        (
            JobFilter {
                contract: Some("production".into()),
                ..any()
            },
            &["job_2"],
        ),
        (
            JobFilter {
                contract: Some("none".into()),
                ..any()
            },
            &[],
        ),
        (
            JobFilter {
                agent: Some(key(9).did()),
                ..any()
            },
            &["job_2"],
        ),
        (
            JobFilter {
                workspace: Some(workspace.clone()),
                ..any()
            },
            &["job_1"],
        ),
        (
            JobFilter {
                outcome: Some(JobOutcome::Refused),
                ..any()
            },
            &["job_3"],
        ),
        (
            JobFilter {
                outcome: Some(JobOutcome::Applied),
                ..any()
            },
            &[],
        ),
        (
            JobFilter {
                since: Some(at(500)),
                ..any()
            },
            &["job_2"],
        ),
        (
            JobFilter {
                until: Some(at(500)),
                ..any()
            },
            &["job_3", "job_1"],
        ),
        (
            JobFilter {
                workspace: Some(workspace),
                outcome: Some(JobOutcome::Refused),
                ..any()
            },
            &[],
        ),
        (
            JobFilter {
                phase: Some(JobPhase::Open),
                until: Some(at(501)),
                before: Some(job_id(3)),
                limit: 1,
                ..any()
            },
            &["job_2"],
        ),
    ] {
        assert_eq!(found(filter.clone()).await, jobs, "{filter:?}");
    }
}

async fn first_contract(store: &Arc<dyn Store>, job: &JobId) -> String {
    let job = store.job(job).await.unwrap().unwrap();
    let row = store.contract(&job.policy_hash).await.unwrap().unwrap();
    row.contract.name
}

pub(crate) async fn counters_follow_the_records(store: Arc<dyn Store>) {
    let job = open_job(&store, 1).await;
    awaiting(&store, &job, "run-1").await;
    let terraform = append(&store, &job, intent(Lane::Terraform)).await.unwrap();
    append(&store, &job, intent(Lane::Model)).await.unwrap();
    append(&store, &job, intent(Lane::Gateway)).await.unwrap();
    append(&store, &job, refusal()).await.unwrap();
    let (envelope, named) = receipt(EnvelopeType::ToolReceipt, "rcpt_1");
    let mut answered = outcome(terraform.seq);
    answered.receipt = Some(named);
    store
        .append_outcome(&job, at(12), answered, Some(envelope), Vec::new())
        .await
        .unwrap();
    let statement = says(1, Decision::Approve, subject(&job, "run-1", "plan"), "n1");
    store.record_statement(statement).await.unwrap();
    for (from, to) in [
        (GateState::Approved, GateState::Applying),
        (GateState::Applying, GateState::Applied),
        (GateState::Applying, GateState::Applied),
    ] {
        store
            .transition("run-1", &[from], to, at(40), RunUpdate::default())
            .await
            .unwrap();
    }
    let counters = store.job(&job).await.unwrap().unwrap().counters;
    assert_eq!(counters.records, 7);
    assert_eq!((counters.calls, counters.model_calls), (2, 1));
    assert_eq!((counters.refusals, counters.approvals), (1, 1));
    assert_eq!((counters.denials, counters.applies), (0, 1));
    assert_eq!(counters.open_intents, 2);
}
