//! The page of one answer to Terraform Cloud: what was asked, looked at and found, and what to do
//! next. The answer in Terraform Cloud points here.

use askama::Template;
use store::{Store, StoreError, TaskCallRow, TaskStage};

use super::words::{Moment, Quoted};
use crate::pages::Frame;
use crate::run_tasks::verdict::Verdict;

/// One answer.
#[derive(Debug, Template)]
#[template(path = "trust_pulse/task.html")]
pub struct TaskPage {
    /// What stands around it.
    pub frame: Frame,
    /// Upstream's id of the answer.
    pub id: String,
    /// The question, in words.
    pub question: &'static str,
    /// Upstream's name of the stage.
    pub stage: &'static str,
    /// What the stage looks at.
    pub looks_at: &'static str,
    /// `passed`, `failed`, or `looking`.
    pub state: &'static str,
    /// The answer in one sentence.
    pub summary: Quoted,
    /// Organization and workspace.
    pub place: String,
    /// The workspace.
    pub workspace_id: String,
    /// The run.
    pub run_id: String,
    /// It can only plan.
    pub speculative: bool,
    /// A no ends the run.
    pub mandatory: bool,
    /// When the question came.
    pub asked_at: Moment,
    /// When it was answered.
    pub judged_at: Option<Moment>,
    /// When upstream took the answer.
    pub reported_at: Option<Moment>,
    /// What stands against it.
    pub findings: Vec<Found>,
    /// What was looked at.
    pub checked: Vec<(String, Quoted)>,
    /// Names and hashes of the contracts that were asked.
    pub contracts: Vec<(String, String)>,
    /// The job that it belongs to.
    pub job_id: Option<String>,
}

/// Something that stands against it.
#[derive(Debug)]
pub struct Found {
    /// The stable code.
    pub code: &'static str,
    /// What it says.
    pub title: &'static str,
    /// Where and how.
    pub detail: Quoted,
    /// What to do next.
    pub advice: &'static str,
}

/// The page of an answer; `None` when there is none of that id.
pub(super) async fn read(
    store: &dyn Store,
    frame: Frame,
    id: &str,
) -> Result<Option<TaskPage>, StoreError> {
    let Some(row) = store.task_call(id).await? else {
        return Ok(None);
    };
    let document = row.judgement.as_ref().map(|judgement| &judgement.document);
    let verdict: Option<Verdict> = document
        .map(|document| document.to_typed())
        .transpose()
        .map_err(|_| StoreError::Corrupt(format!("the verdict of `{id}` cannot be read")))?;
    Ok(Some(page(row, verdict, frame)))
}

fn page(row: TaskCallRow, verdict: Option<Verdict>, frame: Frame) -> TaskPage {
    let call = row.call;
    let (question, looks_at) = words(call.stage);
    let state = match &verdict {
        None => "looking",
        Some(verdict) if verdict.passed => "passed",
        Some(_) => "failed",
    };
    let whose = "the gateway, with names from the configuration";
    let quoted = |text: &str| Quoted::new(text, whose);
    let summary = match &verdict {
        Some(verdict) => quoted(&verdict.summary),
        None => quoted(
            "There is no verdict yet. If none follows, the gateway was stopped meanwhile, and \
             Terraform Cloud ends the run.",
        ),
    };
    let mut page = TaskPage {
        frame,
        id: call.task_result_id,
        question,
        stage: call.stage.as_str(),
        looks_at,
        state,
        summary,
        place: format!("{}/{}", call.organization, call.workspace_name),
        workspace_id: call.workspace_id,
        run_id: call.run_id,
        speculative: call.speculative,
        mandatory: call.enforcement == "mandatory",
        asked_at: call.received_at.into(),
        judged_at: row.judgement.map(|judgement| judgement.at.into()),
        reported_at: row.reported_at.map(Moment::from),
        findings: Vec::new(),
        checked: Vec::new(),
        contracts: Vec::new(),
        job_id: None,
    };
    if let Some(verdict) = verdict {
        let found = |finding: &crate::run_tasks::verdict::Finding| Found {
            code: finding.code.as_str(),
            title: finding.code.title(),
            detail: quoted(&finding.detail),
            advice: finding.code.advice(),
        };
        page.findings = verdict.findings.iter().map(found).collect();
        let checked = verdict.checked.into_iter();
        page.checked = checked
            .map(|checked| (checked.what, quoted(&checked.was)))
            .collect();
        let asked = verdict.contracts.into_iter();
        page.contracts = asked
            .map(|asked| (asked.name, asked.policy_hash_b64u.to_string()))
            .collect();
        page.job_id = verdict.job_id.map(|id| id.to_string());
    }
    page
}

const fn words(stage: TaskStage) -> (&'static str, &'static str) {
    match stage {
        TaskStage::PrePlan => (
            "May this configuration be planned?",
            "A plan runs what is in the configuration. Files that a job uploaded through the \
             gateway must still be the same; all others are inspected by every contract that \
             names the workspace.",
        ),
        TaskStage::PostPlan => (
            "May this plan be put to somebody?",
            "The plan's resources, actions, counts, providers and modules, by the contract. What \
             it costs is looked at when the gateway is asked to apply it.",
        ),
        TaskStage::PreApply => (
            "May this plan be applied?",
            "Only the gateway applies, and only the plan that was approved: run, workspace and \
             plan are read once more and compared with what the approvers signed.",
        ),
        TaskStage::PostApply => (
            "Was this apply ours?",
            "Whether what was applied is what the gateway asked for. Nothing can be stopped here.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use policy::ReasonCode;
    use proof::Timestamp;
    use store::{TaskCall, TaskJudgement};

    use super::*;
    use crate::pages::Place;

    #[tokio::test]
    async fn the_page_says_what_was_found_and_what_to_do() {
        let store = store::open_sqlite_in_memory().unwrap();
        let at = Timestamp::from_seconds(1_795_334_400);
        let frame = Frame::bare("gateway.example", "../../", Place::Jobs, at);
        let call = TaskCall {
            task_result_id: "taskrs-1".into(),
            stage: TaskStage::PreApply,
            organization: "acme".into(),
            workspace_id: "ws-1".into(),
            workspace_name: "staging".into(),
            run_id: "run-1".into(),
            speculative: false,
            enforcement: "mandatory".into(),
            received_at: at,
        };
        store.begin_task_call(call).await.unwrap();
        let page = async || {
            let page = read(&*store, frame.clone(), "taskrs-1").await;
            page.unwrap().unwrap().render().unwrap()
        };
        assert!(page().await.contains("There is no verdict yet"));
        let verdict: Verdict = serde_json::from_value(serde_json::json!({
            "passed": false,
            "summary": "This apply was not approved here: <b>confirmed</b> outside",
            "checked": [{"what": "plan digest", "was": "abc"}],
            "findings": [{
                "code": "RUN_TASK_NOT_APPROVED",
                "detail": "confirmed outside\u{202e}<script>",
            }],
            "contracts": [],
        }))
        .unwrap();
        let judgement = TaskJudgement {
            passed: false,
            document: proof::Json::from_value(&verdict).unwrap(),
            at,
        };
        store.judge_task_call("taskrs-1", judgement).await.unwrap();
        let page = page().await;
        for says in [
            "May this plan be applied?",
            "failed",
            "acme/staging",
            "run-1",
            "RUN_TASK_NOT_APPROVED",
            ReasonCode::RunTaskNotApproved.advice(),
            "plan digest",
            "has not taken this answer",
        ] {
            assert!(page.contains(says), "{says}");
        }
        for never in ["<script>", "<b>confirmed", "\u{202e}"] {
            assert!(!page.contains(never), "{never}");
        }
        assert!(
            read(&*store, frame.clone(), "taskrs-2")
                .await
                .unwrap()
                .is_none()
        );
    }
}
