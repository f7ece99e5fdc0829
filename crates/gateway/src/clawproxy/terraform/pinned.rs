//! A run that names no configuration version.
//!
//! Upstream would plan the workspace's latest, whoever uploaded it. So the latest is read with
//! the reader's credential, judged by the caller's contract like an upload, and named in the
//! run: what is planned is what was inspected, even when somebody uploads another one meanwhile.

use bytes::Bytes;
use http::StatusCode;
use policy::configuration::inspect_in_place;
use policy::decide::ConfigurationFact;
use policy::terraform::ids::ConfigurationVersionId;
use policy::terraform::rewrite::RunRequest;
use policy::{ReasonCode, Refusal};
use proof::Hash;

use super::super::authenticate::{Caller, unavailable};
use super::{uploads, workspaces};
use crate::app::App;
use crate::upstream::Duty;

/// What is known about the configuration that a new run plans.
#[derive(Debug)]
pub(super) struct Configuration {
    /// For the decision.
    pub(super) fact: ConfigurationFact,
    /// Digest of its files, when they were inspected.
    pub(super) sha256: Option<Hash>,
}

impl From<ConfigurationFact> for Configuration {
    fn from(fact: ConfigurationFact) -> Self {
        Self { fact, sha256: None }
    }
}

/// Finds out about a new run's configuration; names one in a request that names none.
///
/// # Errors
/// The finding, when the workspace's latest configuration breaks a rule; `UPSTREAM_…` when it
/// cannot be read; `STORE_UNAVAILABLE`.
pub(super) async fn configuration(
    app: &App,
    caller: &Caller,
    request: &mut RunRequest,
    workspace: &str,
) -> Result<Configuration, Refusal> {
    let Some(id) = &request.configuration_version else {
        // For a foreign workspace nothing is read; the decision refuses it.
        if !caller.contract().compiled.has_workspace(workspace) {
            return Ok(ConfigurationFact::Absent.into());
        }
        return pin(app, caller, request, workspace).await;
    };
    let row = app.store.configuration(id.as_str()).await;
    Ok(match row.map_err(unavailable)? {
        None => ConfigurationFact::Unknown.into(),
        Some(row) if row.job_id != caller.token.job.id => ConfigurationFact::NotOwned.into(),
        Some(row) if row.workspace_id != workspace => ConfigurationFact::OtherWorkspace.into(),
        Some(row) if !row.uploaded => ConfigurationFact::NotInspected.into(),
        Some(row) => match row.sha256 {
            None => ConfigurationFact::NotInspected.into(),
            sha256 => Configuration {
                fact: ConfigurationFact::Inspected,
                sha256,
            },
        },
    })
}

async fn pin(
    app: &App,
    caller: &Caller,
    request: &mut RunRequest,
    workspace: &str,
) -> Result<Configuration, Refusal> {
    let latest = workspaces::read(app, workspace).await?;
    let latest = latest.and_then(|workspace| workspace.configuration_version.clone());
    let Some(latest) = latest else {
        return Ok(ConfigurationFact::Absent.into());
    };
    let id = ConfigurationVersionId::new(&latest).map_err(|_| ReasonCode::UpstreamGarbage)?;
    let row = app
        .store
        .configuration(&latest)
        .await
        .map_err(unavailable)?;
    let known = row.filter(|row| {
        row.job_id == caller.token.job.id && row.workspace_id == workspace && row.uploaded
    });
    // Somebody else's, or one that was judged by another contract: read and judged now.
    let sha256 = match known.and_then(|row| row.sha256) {
        Some(sha256) => sha256,
        None => judged(app, caller, &id).await?,
    };
    request.pin(id);
    Ok(Configuration {
        fact: ConfigurationFact::Pinned,
        sha256: Some(sha256),
    })
}

/// Reads a configuration version as upstream has it and judges it; answers the digest of its
/// files, which is the one that they would have had as an upload.
async fn judged(app: &App, caller: &Caller, id: &ConfigurationVersionId) -> Result<Hash, Refusal> {
    let slot = uploads::slot(app).await?;
    let archive = download(app, id).await?;
    let about = |refusal: Refusal| {
        let detail = format!(
            "the workspace's latest configuration, {id}: {}",
            refusal.detail
        );
        Refusal::new(refusal.code, detail)
    };
    // What is planned are upstream's bytes, not our archive of them.
    let inspected = uploads::inspect(app, slot, caller, archive, inspect_in_place);
    Ok(inspected.await.map_err(about)?.sha256)
}

async fn download(app: &App, id: &ConfigurationVersionId) -> Result<Bytes, Refusal> {
    let target = format!("/api/v2/configuration-versions/{id}/download");
    let limit = app.config.limits.upload_bytes;
    let answer = app
        .upstream
        .fetch_document(Duty::Reader, &target, limit)
        .await
        .map_err(|error| error.refusal())?;
    match answer.status {
        StatusCode::OK => Ok(answer.body),
        status => {
            let detail = format!(
                "the workspace's latest configuration, {id}, cannot be read (upstream answered \
                 {}); upload it through the gateway",
                status.as_u16()
            );
            Err(Refusal::new(
                ReasonCode::ConfigurationVersionNotInspected,
                detail,
            ))
        }
    }
}
