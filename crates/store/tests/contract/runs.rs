//! Runs and configuration versions.

use std::sync::Arc;

use proof::approval::Changes;
use proof::record::Lane;
use proof::{Json, Numbers};
use store::{ConfigurationRow, Conflict, GateState, RunUpdate, Store};

use crate::assert_conflict;
use crate::fixtures::*;

/// An update that names every member.
fn everything(job: &proof::record::JobId) -> RunUpdate {
    RunUpdate {
        configuration_version_id: Some("cv-1".into()),
        configuration_sha256: Some(hash("configuration")),
        plan_id: Some("plan-1".into()),
        apply_id: Some("apply-1".into()),
        apply_wished: Some(true),
        plan_sha256: Some(hash("plan")),
        plan_raw_sha256: Some(hash("raw")),
        changes: Some(Changes {
            delete: 2,
            ..Changes::default()
        }),
        subject: Some(subject(job, "run-1", "plan")),
        summary: Some(proof::json::parse(br#"{"b":[1.5,null],"a":"x"}"#, Numbers::Any).unwrap()),
        status: Some("planned".into()),
        state_version_before: Some("sv-1".into()),
        state_version_after: Some("sv-2".into()),
        gate_reason: Some("because".into()),
        approval_expires_at: Some(at(99)),
    }
}

pub(crate) async fn a_run_is_kept_as_it_was_given(store: Arc<dyn Store>) {
    let job = open_job(&store, 1).await;
    assert_eq!(store.run("run-1").await.unwrap(), None);
    let first = run(&job, "run-1");
    store.insert_run(first.clone()).await.unwrap();
    assert_eq!(store.run("run-1").await.unwrap(), Some(first.clone()));
    let mut second = run(&job, "run-2");
    second.summary = Some(Json::object());
    second.gate = GateState::Finished;
    store.insert_run(second.clone()).await.unwrap();
    assert_eq!(store.runs(&job).await.unwrap(), [first.clone(), second]);
    assert_conflict!(store.insert_run(first).await, Conflict::RunExists(_));
    assert_conflict!(
        store.insert_run(run(&job_id(9), "run-3")).await,
        Conflict::NoSuchJob(_)
    );
    assert_eq!(store.runs(&job_id(9)).await.unwrap(), []);
}

pub(crate) async fn an_update_changes_what_it_names_only(store: Arc<dyn Store>) {
    let job = open_job(&store, 1).await;
    store.insert_run(run(&job, "run-1")).await.unwrap();
    let update = |update| store.update_run("run-1", at(5), update);
    let full = update(everything(&job)).await.unwrap().unwrap();
    assert_eq!(full.gate, GateState::Planned);
    assert_eq!(full.updated_at, at(5));
    assert_eq!((full.apply_wished, full.status.as_str()), (true, "planned"));
    assert_eq!(full.summary, everything(&job).summary);
    assert_eq!(full.subject, everything(&job).subject);
    assert_eq!(full.changes.unwrap().delete, 2);
    assert_eq!(store.run("run-1").await.unwrap(), Some(full.clone()));
    // Nothing named, nothing changed.
    assert_eq!(
        update(RunUpdate::default()).await.unwrap(),
        Some(full.clone())
    );
    let status = RunUpdate {
        status: Some("applied".into()),
        ..RunUpdate::default()
    };
    let mut expected = full;
    expected.status = "applied".into();
    assert_eq!(update(status).await.unwrap(), Some(expected));
    let unknown = store.update_run("run-9", at(5), everything(&job)).await;
    assert_eq!(unknown.unwrap(), None);
}

pub(crate) async fn a_final_gate_is_not_left(store: Arc<dyn Store>) {
    let job = open_job(&store, 1).await;
    for (n, state) in GateState::ALL.into_iter().enumerate() {
        let id = format!("run-{n}");
        let mut row = run(&job, &id);
        row.gate = state;
        store.insert_run(row).await.unwrap();
        let reason = |why: &str| RunUpdate {
            gate_reason: Some(why.to_owned()),
            ..RunUpdate::default()
        };
        let told = store.update_run(&id, at(8), reason("later")).await;
        let told = told.unwrap().unwrap().gate_reason;
        assert_eq!(told.is_none(), state.is_final(), "{state:?}");
        let go = |from: &'static [GateState]| {
            store.transition(&id, from, GateState::Errored, at(9), RunUpdate::default())
        };
        assert_eq!(go(&[]).await.unwrap(), None, "{state:?}");
        let moved = go(&GateState::ALL).await.unwrap();
        assert_eq!(moved.is_none(), state.is_final(), "{state:?}");
        if let Some(moved) = moved {
            assert_eq!(moved.gate, GateState::Errored);
            assert_eq!(moved.updated_at, at(9));
        }
    }
    store.insert_run(run(&job, "run-a")).await.unwrap();
    let wrong = [GateState::Approved, GateState::Rechecking];
    let none = store
        .transition(
            "run-a",
            &wrong,
            GateState::Applying,
            at(9),
            everything(&job),
        )
        .await;
    assert_eq!(none.unwrap(), None);
    let untouched = store.run("run-a").await.unwrap();
    assert_eq!(untouched, Some(run(&job, "run-a")));
    let from = [GateState::Planned];
    let unknown = store
        .transition(
            "run-z",
            &from,
            GateState::Errored,
            at(9),
            RunUpdate::default(),
        )
        .await;
    assert_eq!(unknown.unwrap(), None);
}

pub(crate) async fn active_runs_are_those_whose_gate_is_open(store: Arc<dyn Store>) {
    let job = open_job(&store, 1).await;
    for (n, state) in GateState::ALL.into_iter().enumerate() {
        let mut row = run(&job, &format!("run-{n}"));
        row.gate = state;
        row.updated_at = at(100 - n as i64);
        store.insert_run(row).await.unwrap();
    }
    let states = async || -> Vec<GateState> {
        let runs = store.active_runs().await.unwrap();
        runs.iter().map(|run| run.gate).collect()
    };
    let open: Vec<GateState> = GateState::ALL
        .into_iter()
        .filter(|s| !s.is_final())
        .collect();
    assert_eq!(states().await, open);
    let from = [GateState::Planned];
    store
        .transition(
            "run-0",
            &from,
            GateState::Superseded,
            at(9),
            RunUpdate::default(),
        )
        .await
        .unwrap();
    assert_eq!(states().await, open[1..]);
    // The same in brief, and those of them that wait.
    let mut longer = run(&job, "run-99");
    longer.gate = GateState::AwaitingApproval;
    longer.subject = Some(subject(&job, "run-99", "plan"));
    longer.approval_expires_at = Some(at(70));
    store.insert_run(longer.clone()).await.unwrap();
    let briefs = store.active_briefs().await.unwrap();
    let active = store.active_runs().await.unwrap();
    let names = |run: &store::RunBrief| (run.run_id.clone(), run.gate);
    let briefly: Vec<_> = briefs.iter().map(names).collect();
    let named: Vec<_> = active
        .iter()
        .map(|run| (run.run_id.clone(), run.gate))
        .collect();
    assert_eq!(briefly, named);
    let waiting = store.waiting().await.unwrap();
    let [first, second] = &waiting[..] else {
        panic!("two wait: {waiting:?}");
    };
    assert_eq!(second.gate, GateState::AwaitingApproval);
    let ids = store.waiting_ids().await.unwrap();
    assert_eq!(ids, [first.run_id.clone(), second.run_id.clone()]);
    assert_eq!(first, briefs.last().unwrap());
    let expected = store::RunBrief {
        run_id: "run-99".into(),
        job_id: job.clone(),
        job_name: opening("v1").name,
        policy_hash: hash("v1"),
        organization: longer.organization,
        workspace_id: longer.workspace_id,
        apply_wished: false,
        gate: GateState::AwaitingApproval,
        changes: None,
        subject: longer.subject,
        approval_expires_at: Some(at(70)),
        updated_at: at(1),
    };
    assert_eq!(*first, expected);
}

pub(crate) async fn a_repeated_request_finds_its_run(store: Arc<dyn Store>) {
    let (job, other) = (open_job(&store, 1).await, open_job(&store, 2).await);
    let request = hash("request");
    let remember = |run, ms| store.remember_run_request(&job, &request, run, at(ms));
    remember("run-1", 10).await.unwrap();
    let find = async |job, request, ms| {
        let found = store.run_for_request(job, &hash(request), at(ms)).await;
        found.unwrap()
    };
    assert_eq!(find(&job, "request", 10).await.as_deref(), Some("run-1"));
    assert_eq!(find(&job, "request", 11).await, None, "too old");
    assert_eq!(find(&job, "another", 0).await, None);
    assert_eq!(find(&other, "request", 0).await, None);
    remember("run-2", 20).await.unwrap();
    remember("run-0", 15).await.unwrap();
    assert_eq!(find(&job, "request", 0).await.as_deref(), Some("run-2"));
    // A run is kept with its request or not at all.
    let made = run(&job, "run-3");
    let keep = |request| store.insert_requested_run(made.clone(), request);
    let (asked, again) = (hash("made"), hash("again"));
    keep(&asked).await.unwrap();
    assert_eq!(store.run("run-3").await.unwrap().as_ref(), Some(&made));
    assert_eq!(find(&job, "made", 0).await.as_deref(), Some("run-3"));
    assert_conflict!(keep(&again).await, Conflict::RunExists(_));
    assert_eq!(find(&job, "again", 0).await, None);
}

pub(crate) async fn a_configuration_keeps_owner_workspace_and_digest(store: Arc<dyn Store>) {
    let (job, other) = (open_job(&store, 1).await, open_job(&store, 2).await);
    let new = ConfigurationRow {
        cv_id: "cv-1".into(),
        job_id: job.clone(),
        workspace_id: "ws-1".into(),
        sha256: None,
        uploaded: false,
        speculative: true,
    };
    store.save_configuration(new.clone()).await.unwrap();
    let uploaded = ConfigurationRow {
        sha256: Some(hash("upload")),
        uploaded: true,
        ..new.clone()
    };
    store.save_configuration(uploaded.clone()).await.unwrap();
    // Knowing less undoes nothing.
    store.save_configuration(new.clone()).await.unwrap();
    let kept = store.configuration("cv-1").await.unwrap();
    assert_eq!(kept, Some(uploaded.clone()));
    for wrong in [
        ConfigurationRow {
            job_id: other,
            ..new.clone()
        },
        ConfigurationRow {
            workspace_id: "ws-2".into(),
            ..new.clone()
        },
        ConfigurationRow {
            speculative: false,
            ..new.clone()
        },
        ConfigurationRow {
            sha256: Some(hash("another")),
            ..new
        },
    ] {
        assert_conflict!(
            store.save_configuration(wrong).await,
            Conflict::ConfigurationDiffers(_)
        );
    }
    assert_eq!(store.configuration("cv-1").await.unwrap(), Some(uploaded));
    assert_eq!(store.configuration("cv-2").await.unwrap(), None);
}

pub(crate) async fn an_apply_begins_with_its_intent_or_not_at_all(store: Arc<dyn Store>) {
    let job = open_job(&store, 1).await;
    let begin = |run_id: &'static str| {
        let update = RunUpdate {
            state_version_before: Some("sv-1".into()),
            ..RunUpdate::default()
        };
        store.begin_apply(run_id, at(9), update, bare_intent(Lane::Gateway))
    };
    for (n, state) in GateState::ALL.into_iter().enumerate() {
        let mut row = run(&job, &format!("run-{n}"));
        row.gate = state;
        store.insert_run(row.clone()).await.unwrap();
        let id: &'static str = Box::leak(row.run_id.clone().into_boxed_str());
        let begun = begin(id).await.unwrap();
        let now = store.run(id).await.unwrap().unwrap();
        if state == GateState::Rechecking {
            assert_eq!(begun.unwrap().seq, 2, "after the opening");
            assert_eq!(now.gate, GateState::Applying);
            assert_eq!(now.state_version_before.as_deref(), Some("sv-1"));
        } else {
            assert_eq!((begun, now), (None, row), "{state:?}");
        }
    }
    assert_eq!(begin("run-z").await.unwrap(), None);
    assert_eq!(store.open_intents().await.unwrap().len(), 1);
    // Of a closed job nothing can be recorded, so nothing moves.
    let mut row = run(&job, "run-a");
    row.gate = GateState::Rechecking;
    store.insert_run(row.clone()).await.unwrap();
    store.close_job(&job, "ada", "done", at(8)).await.unwrap();
    assert_conflict!(begin("run-a").await, Conflict::JobClosed(_));
    assert_eq!(store.run("run-a").await.unwrap(), Some(row));
}

pub(crate) async fn what_was_approved_does_not_change(store: Arc<dyn Store>) {
    let job = open_job(&store, 1).await;
    let replanned = |n: u32| RunUpdate {
        subject: Some(subject(&job, "run-1", &format!("plan {n}"))),
        ..RunUpdate::default()
    };
    awaiting(&store, &job, "run-1").await;
    let asked = store
        .update_run("run-1", at(3), replanned(1))
        .await
        .unwrap();
    assert!(asked.is_some(), "the question may still change");
    let mut state = GateState::AwaitingApproval;
    for next in [
        GateState::Approved,
        GateState::Rechecking,
        GateState::Applying,
        GateState::Applied,
    ] {
        let from = [state];
        let go = |update| store.transition("run-1", &from, next, at(4), update);
        assert_conflict!(go(replanned(2)).await, Conflict::SubjectApproved(_));
        assert_eq!(store.run("run-1").await.unwrap().unwrap().gate, state);
        assert!(
            go(replanned(1)).await.unwrap().is_some(),
            "the same is fine"
        );
        assert_conflict!(
            store.update_run("run-1", at(5), replanned(2)).await,
            Conflict::SubjectApproved(_)
        );
        state = next;
    }
    let applies = store.job(&job).await.unwrap().unwrap().counters.applies;
    assert_eq!(applies, 1);
    // A run that turns out to be another one ends as superseded, and may say what it is.
    awaiting(&store, &job, "run-2").await;
    let from = [GateState::AwaitingApproval];
    let other = RunUpdate {
        subject: Some(subject(&job, "run-2", "another plan")),
        ..RunUpdate::default()
    };
    let ended = store
        .transition("run-2", &from, GateState::Superseded, at(6), other)
        .await;
    assert!(ended.unwrap().is_some());
}

pub(crate) async fn the_objects_of_a_plan_are_read_in_pieces(store: Arc<dyn Store>) {
    let job = open_job(&store, 1).await;
    store.insert_run(run(&job, "run-1")).await.unwrap();
    store.insert_run(run(&job, "run-2")).await.unwrap();
    let objects = |from: usize, to: usize| -> Vec<Json> {
        (from..to)
            .map(|n| Json::from(format!("object {n}")))
            .collect()
    };
    let piece = async |from, limit| store.plan_objects("run-1", from, limit).await.unwrap();
    assert!(piece(0, 10).await.is_empty());
    store
        .keep_plan_objects("run-1", objects(0, 2500))
        .await
        .unwrap();
    assert_eq!(piece(0, 3).await, objects(0, 3));
    assert_eq!(piece(2498, 10).await, objects(2498, 2500));
    assert_eq!(piece(0, 9999).await.len(), 1000, "never more than that");
    assert!(piece(2500, 10).await.is_empty());
    assert_eq!(store.plan_objects("run-2", 0, 9).await.unwrap(), []);
    // Inspected once more.
    store
        .keep_plan_objects("run-1", objects(7, 9))
        .await
        .unwrap();
    assert_eq!(piece(0, 10).await, objects(7, 9));
    assert_conflict!(
        store.keep_plan_objects("run-9", objects(0, 1)).await,
        Conflict::NoSuchRun(_)
    );
}
