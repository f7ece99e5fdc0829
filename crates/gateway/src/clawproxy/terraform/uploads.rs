//! Configuration uploads: opened by a call of the API, received at a capability address,
//! inspected, repacked, and only then passed on.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Response};
use policy::configuration::{self, InspectedUpload, Limits, ReadableStates, UploadRefusal};
use policy::{Contract, ReasonCode, Refusal};
use proof::Hash;
use store::ConfigurationRow;
use tokio::sync::OwnedSemaphorePermit;

use super::super::authenticate::{Caller, unavailable};
use super::super::objects::Purpose;
use super::super::record::Facts;
use super::{Asks, Done, TerraformCall, Work, change, facts_of, rewritten, workspaces};
use crate::app::App;
use crate::server::whole;
use crate::upstream::Duty;

/// Most findings that a refusal tells; the first one decides its code.
const MAX_TOLD: usize = 5;

/// Opens a configuration version and remembers whose it is.
pub(super) async fn open(app: &App, caller: &Caller, call: TerraformCall) -> Done {
    let Work::Api {
        call: api,
        target,
        asks: Asks::Configuration { speculative },
    } = &call.work
    else {
        return Done::refused(ReasonCode::Internal.into(), Facts::answered(500, b""));
    };
    let answer = match change(app, caller, Duty::Planner, target, call.body.clone()).await {
        Ok(answer) => answer,
        Err(done) => return done,
    };
    let done = rewritten(app, caller, api, &call, &answer).await;
    let Some(id) = done
        .facts
        .object_id
        .clone()
        .filter(|_| done.response.is_ok())
    else {
        return done;
    };
    let row = ConfigurationRow {
        cv_id: id,
        job_id: caller.token.job.id.clone(),
        workspace_id: call.workspace().to_owned(),
        sha256: None,
        uploaded: false,
        speculative: *speculative,
    };
    match app.store.save_configuration(row).await {
        Ok(()) => done,
        Err(error) => Done::refused(unavailable(error), done.facts),
    }
}

/// Receives an upload. The address is spent first, so that of two uploads only one is looked at;
/// what goes up is our own archive of the files that were inspected.
pub(super) async fn receive(app: &Arc<App>, caller: &Caller, call: TerraformCall) -> Done {
    let Work::Upload {
        path,
        capability,
        archive,
        by_cli,
    } = call.work
    else {
        return Done::refused(ReasonCode::Internal.into(), Facts::answered(500, b""));
    };
    let Purpose::Upload {
        configuration_version,
    } = &capability.purpose
    else {
        return Done::refused(ReasonCode::Internal.into(), Facts::answered(500, b""));
    };
    let facts = || {
        let mut facts = Facts::answered(200, b"");
        facts.object_id = Some(configuration_version.clone());
        facts
    };
    if let Err(refusal) = app.capabilities.spend(&path) {
        return Done::refused(refusal, facts());
    }
    let _only = match app.capabilities.receive(configuration_version) {
        Ok(receiving) => receiving,
        Err(refusal) => return Done::refused(refusal, facts()),
    };
    let inspected = match slot(app).await {
        Ok(slot) => inspect(app, slot, caller, archive, configuration::inspect_upload).await,
        Err(refusal) => Err(refusal),
    };
    let (repacked, sha256) = match inspected {
        Ok(upload) => (Bytes::from(upload.repacked_tar_gz), upload.sha256),
        Err(refusal) if by_cli => return refused_later(app, configuration_version, refusal),
        Err(refusal) => return Done::refused(refusal, facts()),
    };
    let known = match app.store.configuration(configuration_version).await {
        Ok(Some(known)) => known,
        Ok(None) => return Done::refused(ReasonCode::ObjectUnknown.into(), facts()),
        Err(error) => return Done::refused(unavailable(error), facts()),
    };
    if let Err(refusal) = fits(caller, &known, &sha256) {
        return Done::refused(refusal, facts());
    }
    // What the operator wants kept is kept before anything of it can leave.
    if let Err(refusal) = keep(app, &repacked, &sha256).await {
        if by_cli {
            return refused_later(app, configuration_version, refusal);
        }
        // With room in the vault the same files may come again.
        let facts = facts();
        app.capabilities.restore(&path, *capability);
        return Done::refused(refusal, facts);
    }
    // Inspecting and keeping take a while, and this is the last moment before something happens.
    if let Some(reason) = caller.token.ended() {
        return Done::refused(reason.into(), facts());
    }
    // The digest is durable before the configuration can be planned.
    let row = |uploaded| ConfigurationRow {
        sha256: Some(sha256),
        uploaded,
        ..known.clone()
    };
    if let Err(error) = app.store.save_configuration(row(false)).await {
        return Done::refused(unavailable(error), facts());
    }
    let limit = 1 << 20;
    let sent = app
        .upstream
        .object(Method::PUT, &capability.upstream, Some(repacked), limit)
        .await;
    let answer = match sent {
        Ok(answer) => answer,
        Err(error) => {
            // Nothing arrived, or nobody knows: the client may try again with the same files.
            app.capabilities.restore(&path, *capability);
            return Done::broken(&error);
        }
    };
    let mut facts = facts_of(&answer);
    facts.object_id = Some(configuration_version.clone());
    if let Err(refusal) = super::check_status(&answer) {
        app.capabilities.restore(&path, *capability);
        return Done::refused(refusal, facts);
    }
    if let Err(error) = app.store.save_configuration(row(true)).await {
        return Done::refused(unavailable(error), facts);
    }
    Done::answered(Response::new(whole("")), facts)
}

/// Refuses an upload of the CLI, which shows the status of a refused upload and nothing else:
/// it is told when it looks whether the configuration version is ready, which it does next and
/// whose errors it shows. Nothing went up, so nothing can be planned meanwhile.
fn refused_later(app: &App, configuration_version: &str, refusal: Refusal) -> Done {
    let mut facts = Facts::answered(200, b"");
    facts.object_id = Some(configuration_version.to_owned());
    facts.code = Some(refusal.code);
    app.capabilities.refuse(configuration_version, refusal);
    Done::answered(Response::new(whole("")), facts)
}

/// Reads a configuration version, or says why its upload was refused.
pub(super) async fn read(app: &App, caller: &Caller, call: TerraformCall) -> Done {
    let refused = match &call.work {
        Work::Api { call: api, .. } => api
            .object()
            .and_then(|object| app.capabilities.refused(object.id)),
        _ => None,
    };
    match refused {
        Some(refusal) => Done::refused(refusal, Facts::answered(422, b"")),
        None => super::read(app, caller, call).await,
    }
}

/// Whether these files may become the content of a configuration version: it is the job's own,
/// nothing is there yet, and what may have been sent before was the same.
fn fits(caller: &Caller, known: &ConfigurationRow, sha256: &Hash) -> Result<(), Refusal> {
    if known.job_id != caller.token.job.id {
        return Err(ReasonCode::ObjectNotOwned.into());
    }
    if known.uploaded || known.sha256.is_some_and(|earlier| earlier != *sha256) {
        return Err(ReasonCode::CapabilityUsed.into());
    }
    Ok(())
}

/// Keeps what is about to go up, when the operator wants that: the very bytes, under the digest
/// that approvals and evidence name. What cannot be kept does not go up.
async fn keep(app: &App, repacked: &Bytes, sha256: &Hash) -> Result<(), Refusal> {
    let Some(vault) = app.vault.clone() else {
        return Ok(());
    };
    let (content, expected) = (repacked.clone(), *sha256);
    let sealed = tokio::task::spawn_blocking(move || vault.seal(&*content)).await;
    match sealed {
        Ok(Ok(kept)) if kept.digest == expected => Ok(()),
        Ok(Ok(kept)) => {
            tracing::error!(%expected, found = %kept.digest, "an upload changed while it was kept");
            Err(ReasonCode::Internal.into())
        }
        Ok(Err(error)) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::error!(%error, cause, "an upload cannot be kept");
            Err(ReasonCode::VaultUnavailable.into())
        }
        Err(_) => Err(ReasonCode::Internal.into()),
    }
}

/// A place among the archives that are unpacked at a time.
pub(super) async fn slot(app: &App) -> Result<OwnedSemaphorePermit, Refusal> {
    let slot = Arc::clone(&app.upload_slots).acquire_owned().await;
    slot.map_err(|_| ReasonCode::ShuttingDown.into())
}

/// How an archive is unpacked: as one that we pack anew, or as one that is planned as it is.
pub(super) type Unpack = fn(&[u8], &Limits) -> Result<InspectedUpload, UploadRefusal>;

/// Unpacks, judges and repacks, away from the threads that serve connections.
pub(super) async fn inspect(
    app: &App,
    _slot: OwnedSemaphorePermit,
    caller: &Caller,
    archive: Bytes,
    unpack: Unpack,
) -> Result<InspectedUpload, Refusal> {
    let readable = readable_states(app, &caller.contract().contract).await?;
    let job = Arc::clone(&caller.token.job);
    let inspected = tokio::task::spawn_blocking(move || {
        let upload = unpack(&archive, &Limits::default())
            .map_err(|refused| Refusal::new(refused.code, told(&refused)))?;
        let findings =
            configuration::judge_configuration(&job.contract.contract, &upload, &readable);
        let Some(first) = findings.first() else {
            return Ok(upload);
        };
        let told: Vec<String> = findings.iter().take(MAX_TOLD).map(told).collect();
        Err(Refusal::new(first.code, told.join("; ")))
    });
    inspected.await.map_err(|_| ReasonCode::Internal)?
}

/// The names that the workspaces have now whose state the contract lets configurations read.
pub(crate) async fn readable_states(
    app: &App,
    contract: &Contract,
) -> Result<ReadableStates, Refusal> {
    let configuration = contract.permissions.configuration.as_ref();
    let mut found = Vec::new();
    for id in configuration.map_or(&[][..], |c| &c.remote_state_workspaces) {
        if let Some(workspace) = workspaces::workspace(app, id.as_str()).await? {
            let names = (workspace.organization.clone(), workspace.name.clone());
            found.push((id.clone(), names.0, names.1));
        }
    }
    let base: Option<http::Uri> = app.upstream.base().parse().ok();
    let host = base.as_ref().and_then(http::Uri::authority);
    let host = host.map_or("", |host| host.as_str());
    Ok(ReadableStates::new(contract, host, found))
}

/// A finding in one line: place, rule, and the source line for whoever must correct it.
fn told(finding: &UploadRefusal) -> String {
    match &finding.source_line {
        Some(line) => format!("{finding}: {}", line.trim()),
        None => finding.to_string(),
    }
}
