//! Configuration uploads: opened by a call of the API, received at a capability address,
//! inspected, repacked, and only then passed on.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Response};
mod configuration { #![allow(missing_docs)] use policy::*; pub struct Limits; impl Default for Limits{fn default()->Self{Limits}} #[derive(Debug)] pub struct UploadRefusal{pub code:ReasonCode} impl std::fmt::Display for UploadRefusal{fn fmt(&self,_:&mut std::fmt::Formatter<'_>)->std::fmt::Result{Ok(())}} pub struct U{pub repacked_tar_gz:Vec<u8>,pub sha256:proof::Hash} pub fn inspect_upload(_:&[u8],_:&Limits)->Result<U,UploadRefusal>{todo!()} pub fn judge_configuration(_:&Contract,_:&U)->Result<(),UploadRefusal>{todo!()} }
use configuration::Limits;
use policy::{ReasonCode, Refusal};
use proof::Hash;
use store::ConfigurationRow;

use super::super::authenticate::{Caller, unavailable};
use super::super::objects::Purpose;
use super::super::record::Facts;
use super::{Asks, Done, TerraformCall, Work, facts_of, rewritten};
use crate::app::App;
use crate::server::whole;
use crate::upstream::Duty;

/// Opens a configuration version and remembers whose it is.
pub(super) async fn open(app: &App, caller: &Caller, call: TerraformCall) -> Done {
    let Work::Api { call: api, target, asks: Asks::Configuration { speculative } } = &call.work
    else {
        return Done::refused(ReasonCode::Internal.into(), Facts::answered(500, b""));
    };
    let body = Some(call.body.clone());
    let answer = match app.upstream.call(Duty::Planner, Method::POST, target, body).await {
        Ok(answer) => answer,
        Err(error) => return Done::broken(&error),
    };
    let done = rewritten(app, caller, api, &call, &answer);
    let Some(id) = done.facts.object_id.clone().filter(|_| done.response.is_ok()) else {
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
    let Work::Upload { path, capability, archive } = call.work else {
        return Done::refused(ReasonCode::Internal.into(), Facts::answered(500, b""));
    };
    let Purpose::Upload { configuration_version } = &capability.purpose else {
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
    let (repacked, sha256) = match inspect(caller, archive).await {
        Ok(inspected) => inspected,
        Err(refusal) => return Done::refused(refusal, facts()),
    };
    let known = match app.store.configuration(configuration_version).await {
        Ok(Some(known)) => known,
        Ok(None) => return Done::refused(ReasonCode::ObjectUnknown.into(), facts()),
        Err(error) => return Done::refused(unavailable(error), facts()),
    };
    // The digest is durable before the configuration can be planned.
    let row = |uploaded| ConfigurationRow { sha256: Some(sha256), uploaded, ..known.clone() };
    if let Err(error) = app.store.save_configuration(row(false)).await {
        return Done::refused(unavailable(error), facts());
    }
    let limit = 1 << 20;
    let sent = app.upstream.object(Method::PUT, &capability.upstream, Some(repacked), limit).await;
    let answer = match sent {
        Ok(answer) => answer,
        Err(error) => return Done::broken(&error),
    };
    let mut facts = facts_of(&answer);
    facts.object_id = Some(configuration_version.clone());
    if let Err(refusal) = super::check_status(&answer) {
        return Done::refused(refusal, facts);
    }
    if let Err(error) = app.store.save_configuration(row(true)).await {
        return Done::refused(unavailable(error), facts);
    }
    Done::answered(Response::new(whole("")), facts)
}

/// Unpacks, judges and repacks, away from the threads that serve connections.
async fn inspect(caller: &Caller, archive: Bytes) -> Result<(Bytes, Hash), Refusal> {
    let job = Arc::clone(&caller.token.job);
    let inspected = tokio::task::spawn_blocking(move || {
        let upload = configuration::inspect_upload(&archive, &Limits::default())?;
        configuration::judge_configuration(&job.contract.contract, &upload)?;
        Ok((Bytes::from(upload.repacked_tar_gz), upload.sha256))
    })
    .await
    .map_err(|_| ReasonCode::Internal)?;
    inspected.map_err(|refused: configuration::UploadRefusal| {
        Refusal::new(refused.code, refused.to_string())
    })
}
