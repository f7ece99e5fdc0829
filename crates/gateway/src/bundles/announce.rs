//! Tells Terraform Cloud which bundle belongs to a run: a comment with its digest, so that whoever
//! looks at the run or at the state that it made finds the evidence.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde_json::json;
use store::{BundleRow, GateState, RunRow};

use crate::app::App;
use crate::operator::audit::{Action, audited};
use crate::upstream::Duty;

/// How long a comment may take: it is a courtesy, and closing a job waits for it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Comments on every applied run of a job that was just sealed. A comment that fails is logged
/// and nothing else: the bundle is found by job and by state version all the same.
pub async fn announce(app: &App, bundle: &BundleRow) {
    let runs = match app.store.runs(&bundle.job_id).await {
        Ok(runs) => runs,
        Err(error) => {
            tracing::warn!(%error, job = %bundle.job_id, "the job's runs cannot be read");
            return;
        }
    };
    for run in runs.iter().filter(|run| run.gate == GateState::Applied) {
        let comment = tokio::time::timeout(PATIENCE, comment(app, bundle, run)).await;
        let failed = match comment {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
        };
        tracing::warn!(
            run = run.run_id,
            failed,
            "the run has no comment with its bundle"
        );
    }
}

async fn comment(app: &App, bundle: &BundleRow, run: &RunRow) -> anyhow::Result<()> {
    let digest = bundle.sha256.to_hex();
    let text = format!(
        "Clawgate: this run belongs to {}. SHA-256 of its proof bundle: {digest}",
        bundle.job_id
    );
    let body = json!({ "data": { "type": "comments", "attributes": { "body": text } } });
    let body = Bytes::from(body.to_string());
    let target = format!("/api/v2/runs/{}/comments", run.run_id);
    // The job is closed, so no record of it can say this; the list of actions does.
    let action = Action {
        operator: "gateway",
        name: "run.comment",
        subject: run.run_id.clone(),
        detail: vec![("bundle_sha256", digest)],
        at: app.now(),
    };
    audited(&*app.store, action, async {
        let upstream = &app.upstream;
        let answer = upstream
            .call(Duty::Executor, Method::POST, &target, Some(body))
            .await?;
        anyhow::ensure!(
            answer.status.is_success(),
            "upstream answered {}",
            answer.status
        );
        Ok(())
    })
    .await
}
