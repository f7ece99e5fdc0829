//! What is looked at in each stage. A call is only a hint: what counts is read from upstream, by
//! ids, and from the store.

use std::sync::Arc;

use bytes::Bytes;
use policy::configuration::{self, InspectedUpload, Limits};
use policy::plan;
use policy::{ReasonCode, Refusal};
use proof::Json;
use store::{ConfigurationRow, GateState, TaskStage};

use super::call::Call;
use super::governing::{self, Governing};
use super::verdict::Verdict;
use crate::app::App;
use crate::approvals;
use crate::clawproxy::authenticate::unavailable;
use crate::clawproxy::terraform::runs::related;
use crate::clawproxy::terraform::uploads::readable_states;

/// Looks at a run.
///
/// # Errors
/// What [`Verdict`] cannot say for itself: the one reason for a no, or why nobody could look.
pub(super) async fn judge(app: &Arc<App>, call: &Call) -> Result<Verdict, Refusal> {
    let run = run(app, call).await?;
    match call.stage {
        TaskStage::PrePlan => pre_plan(app, call, &run).await,
        TaskStage::PostPlan => post_plan(app, call, &run).await,
        TaskStage::PreApply => pre_apply(app, call).await,
        TaskStage::PostApply => post_apply(app, call).await,
    }
}

/// The run that a call is about, which must be what the call says.
async fn run(app: &App, call: &Call) -> Result<Json, Refusal> {
    let differs = |what| Refusal::new(ReasonCode::RunTaskRunDiffers, what);
    let json = approvals::read_run(app, call.run.as_str()).await?;
    if related(&json, "workspace").as_deref() != Some(call.workspace.as_str()) {
        return Err(differs("it is a run of another workspace"));
    }
    let configuration = related(&json, "configuration-version");
    let said = call.configuration_version.as_ref().map(|id| id.as_str());
    if said.is_some() && configuration.as_deref() != said {
        return Err(differs("it has another configuration version"));
    }
    Ok(json)
}

/// Whose rules count for a run: those of the job that made it, else of the job that uploaded what
/// it plans, else of every contract that names the workspace.
async fn governing(
    app: &App,
    call: &Call,
    configuration: Option<&ConfigurationRow>,
) -> Result<Vec<Governing>, Refusal> {
    let run = app
        .store
        .run(call.run.as_str())
        .await
        .map_err(unavailable)?;
    let job = run
        .map(|run| run.job_id)
        .or_else(|| configuration.map(|row| row.job_id.clone()));
    match job {
        Some(job) => Ok(vec![governing::of_job(app, &job).await?]),
        None => governing::of_workspace(app, &call.workspace).await,
    }
}

/// The configuration version of a run, and what is known of it when a job made it.
async fn configuration_of(
    app: &App,
    run: &Json,
) -> Result<(String, Option<ConfigurationRow>), Refusal> {
    let id = related(run, "configuration-version");
    let id = id.ok_or(ReasonCode::ConfigurationUnavailable)?;
    let known = app.store.configuration(&id).await.map_err(unavailable)?;
    Ok((id, known))
}

/// Before anything of the configuration runs. What a job uploaded was inspected then, and must
/// still be the same files; everything else is inspected now.
async fn pre_plan(app: &Arc<App>, call: &Call, run: &Json) -> Result<Verdict, Refusal> {
    let (id, known) = configuration_of(app, run).await?;
    let governing = governing(app, call, known.as_ref()).await?;
    let mut verdict = Verdict::passing("The configuration keeps to the contract.");
    governing
        .iter()
        .for_each(|governing| verdict.ask(governing));
    verdict.check("configuration version", &id);
    let archive = download(app, call, &id).await?;
    let (upload, findings) = match &known {
        Some(known) => (unpack(app, archive).await?, same_files(call, known)),
        None => inspect(app, archive, &governing).await?,
    };
    verdict.check("files", upload.files.len().to_string());
    verdict.check("digest", upload.sha256.to_string());
    for refusal in findings {
        verdict.find(refusal.code, refusal.detail);
    }
    if let Some(known) = known.filter(|_| verdict.passed) {
        if known.sha256 == Some(upload.sha256) {
            verdict.summary = "The configuration is the one that the gateway inspected when the \
                               job uploaded it."
                .to_owned();
        } else {
            let detail = format!("its digest is {}", upload.sha256);
            verdict.find(ReasonCode::ConfigurationChanged, detail);
        }
    }
    Ok(verdict)
}

/// What is wrong with a job's configuration before its files are compared.
fn same_files(call: &Call, known: &ConfigurationRow) -> Vec<Refusal> {
    if known.workspace_id != call.workspace.as_str() {
        return vec![ReasonCode::ConfigurationVersionForeign.into()];
    }
    if known.sha256.is_none() {
        let detail = "it was opened through the gateway and filled by somebody else";
        let code = ReasonCode::ConfigurationVersionNotInspected;
        return vec![Refusal::new(code, detail)];
    }
    Vec::new()
}

/// Fetches the archive with the stage's own token, from where upstream keeps it.
async fn download(app: &App, call: &Call, id: &str) -> Result<Bytes, Refusal> {
    if !call.downloadable {
        let detail = "Terraform Cloud does not offer it for download";
        return Err(Refusal::new(ReasonCode::ConfigurationUnavailable, detail));
    }
    let target = format!("/api/v2/configuration-versions/{id}/download");
    let limit = app.config.limits.upload_bytes;
    let answer = app
        .upstream
        .fetch_document_as(&call.token, &target, limit)
        .await
        .map_err(|error| error.refusal())?;
    if answer.status.is_success() {
        return Ok(answer.body);
    }
    let detail = format!("upstream answered {}", answer.status.as_u16());
    let code = match answer.status.is_server_error() {
        true => ReasonCode::UpstreamUnavailable,
        false => ReasonCode::ConfigurationUnavailable,
    };
    Err(Refusal::new(code, detail))
}

async fn unpack(app: &App, archive: Bytes) -> Result<InspectedUpload, Refusal> {
    inspect(app, archive, &[]).await.map(|(upload, _)| upload)
}

/// Unpacks an archive and judges it by every contract, away from the threads that serve
/// connections.
async fn inspect(
    app: &App,
    archive: Bytes,
    governing: &[Governing],
) -> Result<(InspectedUpload, Vec<Refusal>), Refusal> {
    let slot = Arc::clone(&app.upload_slots).acquire_owned().await;
    let _slot = slot.map_err(|_| ReasonCode::ShuttingDown)?;
    let mut contracts = Vec::new();
    for governing in governing {
        let readable = readable_states(app, &governing.contract.contract).await?;
        contracts.push((Arc::clone(&governing.contract), readable));
    }
    let inspected = tokio::task::spawn_blocking(move || {
        // What is planned are upstream's bytes, not our archive of them.
        let upload = configuration::inspect_in_place(&archive, &Limits::default())
            .map_err(|refused| Refusal::new(refused.code, refused.to_string()))?;
        let findings = contracts
            .iter()
            .flat_map(|(contract, readable)| {
                configuration::judge_configuration(&contract.contract, &upload, readable)
            })
            // Without the source line: nobody asked us to keep what stands there.
            .map(|found| Refusal::new(found.code, found.to_string()))
            .collect();
        Ok((upload, findings))
    });
    inspected.await.map_err(|_| ReasonCode::Internal)?
}

/// Before anybody can confirm it: the plan as the gate judges it, without its price, which
/// upstream works out later.
async fn post_plan(app: &Arc<App>, call: &Call, run: &Json) -> Result<Verdict, Refusal> {
    let (_, known) = configuration_of(app, run).await?;
    let governing = governing(app, call, known.as_ref()).await?;
    let mut verdict = Verdict::passing("The plan keeps to the contract.");
    governing
        .iter()
        .for_each(|governing| verdict.ask(governing));
    let seen = match approvals::read_plan(app, call.run.as_str()).await {
        Ok(seen) => seen,
        Err(refusal) if refusal.code == ReasonCode::PlanNotApplyable => {
            verdict.summary = "The plan changes nothing.".to_owned();
            return Ok(verdict);
        }
        Err(refusal) => return Err(refusal),
    };
    let changes = seen.facts.changes;
    verdict.check("plan", &seen.plan_id);
    verdict.check("plan digest", seen.facts.plan_sha256_b64u.to_string());
    verdict.check(
        "changes",
        format!(
            "{} to create, {} to update, {} to delete, {} to replace, {} to forget, {} to import",
            changes.create,
            changes.update,
            changes.delete,
            changes.replace,
            changes.forget,
            changes.import
        ),
    );
    for governing in &governing {
        for violation in plan::judge_unpriced(&governing.contract.contract, &seen.facts) {
            verdict.find(violation.code, violation.message);
        }
    }
    Ok(verdict)
}

/// The last moment before something changes: only the gateway's own apply of an approved plan.
async fn pre_apply(app: &Arc<App>, call: &Call) -> Result<Verdict, Refusal> {
    let subject = approvals::confirmed(app, call.run.as_str()).await?;
    let governing = governing::of_job(app, &subject.job_id).await?;
    let mut verdict = Verdict::passing("The gateway applies this plan, which was approved.");
    verdict.ask(&governing);
    verdict.check("plan", &subject.plan_id);
    verdict.check("plan digest", subject.plan_sha256_b64u.to_string());
    verdict.check("configuration version", &subject.configuration_version_id);
    let statements = app.store.statements(call.run.as_str()).await;
    let approvers = statements
        .map_err(unavailable)?
        .into_iter()
        .filter(|statement| statement.counted)
        .map(|statement| statement.approver)
        .collect::<Vec<_>>();
    let approvers = match approvers.is_empty() {
        true => "nobody: the contract lets the agent apply without a person".to_owned(),
        false => approvers.join(", "),
    };
    verdict.check("approved by", approvers);
    Ok(verdict)
}

/// It has happened. An apply that is not the gateway's got past everything else, and is said so.
async fn post_apply(app: &Arc<App>, call: &Call) -> Result<Verdict, Refusal> {
    let run = app
        .store
        .run(call.run.as_str())
        .await
        .map_err(unavailable)?;
    let ours = run.filter(|run| matches!(run.gate, GateState::Applying | GateState::Applied));
    let Some(run) = ours else {
        tracing::error!(
            run = %call.run,
            workspace = %call.workspace,
            "an apply went past the gateway"
        );
        let detail = "it was applied all the same: see that the run task is mandatory in the \
                      pre_apply stage";
        let refusal = Refusal::new(ReasonCode::RunTaskNotApproved, detail);
        return Ok(Verdict::refused(&refusal));
    };
    app.gate.wake(&run.run_id);
    let mut verdict = Verdict::passing("The gateway applied this run.");
    verdict.job_id = Some(run.job_id);
    if let Some(digest) = run.plan_sha256 {
        verdict.check("plan digest", digest.to_string());
    }
    Ok(verdict)
}
