//! Calls of run tasks.

use std::sync::Arc;

use proof::Json;
use store::{Conflict, Store, TaskCall, TaskJudgement, TaskStage};

use crate::assert_conflict;
use crate::fixtures::*;

fn call(id: &str, stage: TaskStage) -> TaskCall {
    TaskCall {
        task_result_id: id.into(),
        stage,
        organization: "acme".into(),
        workspace_id: "ws-1".into(),
        workspace_name: "staging".into(),
        run_id: "run-1".into(),
        speculative: false,
        enforcement: "mandatory".into(),
        received_at: at(1),
    }
}

fn judgement(passed: bool) -> TaskJudgement {
    let mut document = Json::object();
    document.set("passed", passed);
    TaskJudgement {
        passed,
        document,
        at: at(2),
    }
}

pub(crate) async fn a_task_call_is_kept_once(store: Arc<dyn Store>) {
    let first = call("taskrs-1", TaskStage::PrePlan);
    let kept = store.begin_task_call(first.clone()).await.unwrap();
    assert_eq!((&kept.call, kept.judgement.is_none()), (&first, true));
    let mut again = first.clone();
    again.received_at = at(9);
    assert_eq!(store.begin_task_call(again).await.unwrap(), kept);
    for change in [
        |call: &mut TaskCall| call.run_id = "run-2".into(),
        |call: &mut TaskCall| call.workspace_id = "ws-2".into(),
        |call: &mut TaskCall| call.stage = TaskStage::PreApply,
    ] {
        let mut other = first.clone();
        change(&mut other);
        assert_conflict!(
            store.begin_task_call(other).await,
            Conflict::TaskCallDiffers(_)
        );
    }
    assert_eq!(store.task_call("taskrs-1").await.unwrap(), Some(kept));
    assert_eq!(store.task_call("taskrs-2").await.unwrap(), None);
}

pub(crate) async fn what_upstream_was_told_about_a_call_stays(store: Arc<dyn Store>) {
    let id = "taskrs-1";
    assert!(!store.judge_task_call(id, judgement(true)).await.unwrap());
    store
        .begin_task_call(call(id, TaskStage::PreApply))
        .await
        .unwrap();
    assert!(!store.report_task_call(id, at(3)).await.unwrap(), "unsaid");
    assert!(store.judge_task_call(id, judgement(true)).await.unwrap());
    // It never got there; it is looked at again.
    assert!(store.judge_task_call(id, judgement(false)).await.unwrap());
    assert!(store.report_task_call(id, at(3)).await.unwrap());
    assert!(!store.report_task_call(id, at(4)).await.unwrap());
    assert!(!store.judge_task_call(id, judgement(true)).await.unwrap());
    let row = store.task_call(id).await.unwrap().unwrap();
    assert_eq!(row.judgement, Some(judgement(false)));
    assert_eq!(row.reported_at, Some(at(3)));
}

pub(crate) async fn the_calls_of_a_run_are_listed_in_order(store: Arc<dyn Store>) {
    for (id, stage, ms) in [
        ("taskrs-a", TaskStage::PreApply, 3),
        ("taskrs-b", TaskStage::PrePlan, 1),
        ("taskrs-c", TaskStage::PostPlan, 2),
    ] {
        let mut call = call(id, stage);
        call.received_at = at(ms);
        store.begin_task_call(call).await.unwrap();
    }
    let mut other = call("taskrs-d", TaskStage::PrePlan);
    other.run_id = "run-2".into();
    store.begin_task_call(other).await.unwrap();
    let rows = store.task_calls("run-1").await.unwrap();
    let ids: Vec<&str> = rows
        .iter()
        .map(|row| row.call.task_result_id.as_str())
        .collect();
    assert_eq!(ids, ["taskrs-b", "taskrs-c", "taskrs-a"]);
    assert_eq!(store.task_calls("run-9").await.unwrap(), []);
}
