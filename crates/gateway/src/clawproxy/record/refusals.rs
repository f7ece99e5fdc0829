//! Refusals: what of them goes into a job's evidence.

use policy::reason::Origin;
use policy::{ReasonCode, Refusal};
use proof::record::{Body, Caller as RecordedCaller, JobId};
use store::kill_point;

use super::super::{Asked, weight};
use super::note_time;
use crate::app::App;

/// Most refusals of one token for its own sake that are recorded: whoever holds a stolen or a
/// revoked token must not be able to fill the job's evidence. All are logged, and uses by
/// others than the holder are counted.
const MAX_TOKEN_REFUSALS: u64 = 100;

/// Records a refusal in the caller's job, when the caller is known and the job is open. An
/// unknown caller's refusal goes to the log file only: nobody may grow a job's evidence without
/// a token of that job.
pub async fn refusal(app: &App, asked: &Asked, refusal: &Refusal) {
    let Some(caller) = &asked.caller else {
        tracing::info!(code = %refusal.code, asked = asked.name, "refused an unknown caller");
        return;
    };
    if refusal.code.origin() == Origin::Upstream {
        // Not a policy answer; the call itself left an intent and an outcome.
        return;
    }
    if [ReasonCode::ModelRateLimited, ReasonCode::EgressBusy].contains(&refusal.code) {
        // Nothing was decided, and whoever asks too often must not fill the job's evidence.
        tracing::info!(job = %caller.token.job.id, asked = asked.name, "asked too often");
        return;
    }
    if refusal.code == ReasonCode::JobFull {
        // The record of the last call that was taken is the last one: whoever goes on asking must
        // not be able to make the evidence larger than it can be sealed and verified.
        tracing::warn!(job = %caller.token.job.id, asked = asked.name, "refused: the job is full");
        return;
    }
    if refusal.code.origin() == Origin::Token && caller.token.count_refused() >= MAX_TOKEN_REFUSALS
    {
        tracing::info!(code = %refusal.code, job = %caller.token.job.id, "refused again");
        return;
    }
    let refused = proof::record::Refusal {
        // Who really called: a thief's attempt must not look like the owner's.
        caller: RecordedCaller {
            holder: asked.peer.to_string(),
            ..caller.recorded()
        },
        lane: asked.lane,
        asked: asked.name.clone(),
        target_hash_b64u: asked.target_hash,
        code: refusal.code.as_str().to_owned(),
        reasons: vec![refusal.detail.chars().take(500).collect()],
        run_id: asked.run_id.clone(),
        input: asked.input.clone(),
        policy_hash_b64u: caller.contract().hash,
    };
    let job_id = &caller.token.job.id;
    let body = counted(app, job_id, refused);
    tracing::info!(code = %refusal.code, asked = asked.name, job = %job_id, "refused");
    let appended = app.store.append(job_id, app.now(), body).await;
    kill_point!("call.refused");
    app.recording.note(&appended);
    note_time(app, job_id, &appended);
    if let Err(error) = appended {
        // Still refused: what cannot be recorded is not done.
        tracing::warn!(%error, job = %job_id, "a refusal could not be recorded");
    }
}

/// A refusal on its way to the records of a job, counted in the job's evidence.
pub fn counted(app: &App, job_id: &JobId, refusal: proof::record::Refusal) -> Body {
    if let Some(job) = app.live.job(job_id) {
        job.count(1, weight::of_refusal(&refusal));
    }
    Body::Refusal(Box::new(refusal))
}
