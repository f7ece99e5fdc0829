//! One look at a workspace: what happened there that did not come through the gateway.

use std::sync::Arc;

use policy::{ReasonCode, Refusal};
use proof::{Json, Timestamp};
use store::{GateState, Look, Observation, ObservationRow, RunRow};

use super::{Kind, read, settings};
use crate::app::App;
use crate::clawproxy::authenticate::unavailable;
use crate::upstream::Duty;

/// Runs that a look reads, the newest ones.
const RUNS: u32 = 20;

/// How long a run may be unknown to us while the answer that names it is on its way, beyond the
/// longest that an answer may take, in seconds.
const GRACE_SECONDS: i64 = 60;

/// Upstream statuses of a run that somebody has confirmed.
const CONFIRMED: [&str; 8] = [
    "confirmed",
    "pre_apply_running",
    "pre_apply_completed",
    "queuing_apply",
    "apply_queued",
    "applying",
    "post_apply_running",
    "applied",
];

/// Looks at a workspace, keeps what is new, and gives it back. The first look makes the baseline.
///
/// # Errors
/// `UPSTREAM_NOT_FOUND` when the reader's credential cannot see the workspace, another
/// `UPSTREAM_…` code, or `STORE_UNAVAILABLE`.
pub async fn look(
    app: &Arc<App>,
    workspace_id: &str,
    source: &'static str,
) -> Result<Vec<ObservationRow>, Refusal> {
    let store = &app.store;
    let baseline = store.baseline(workspace_id).await.map_err(unavailable)?;
    let writes = app.watching.writes_begun();
    let seen = settings::of_workspace(app, workspace_id).await?;
    let seen = seen.ok_or(ReasonCode::UpstreamNotFound)?;
    let at = app.now();
    let new = |kind: Kind, subject: &str, detail: Json| Observation {
        at,
        workspace_id: workspace_id.to_owned(),
        kind: kind.as_str().to_owned(),
        subject: subject.to_owned(),
        detail,
        source: source.to_owned(),
        once: kind.happens_once(),
    };
    let mut observations = Vec::new();
    if let Some(baseline) = &baseline {
        for change in settings::changes(&baseline.seen, &seen) {
            let name = change.name.clone();
            observations.push(new(Kind::SettingChanged, &name, change.to_json()));
        }
        for (kind, run_id, detail) in runs(app, workspace_id, baseline.since).await? {
            observations.push(new(kind, &run_id, detail));
        }
        let state = state(app, workspace_id, baseline.since).await?;
        // What we write ourselves while we look is not told apart; the next look does that.
        if writes.is_some() && writes == app.watching.writes_begun() {
            let state = state.map(|(id, detail)| new(Kind::StateChanged, &id, detail));
            observations.extend(state);
        }
    }
    let look = Look {
        workspace_id: workspace_id.to_owned(),
        at,
        seen,
        before: baseline.map(|baseline| baseline.seen),
        observations,
    };
    let kept = store.note_look(look).await.map_err(unavailable)?;
    // Somebody else has looked in the same moment, and has seen the same.
    let kept = kept.unwrap_or_default();
    for row in &kept {
        tracing::warn!(
            workspace = workspace_id,
            kind = row.observation.kind,
            subject = row.observation.subject,
            "seen outside the gateway"
        );
    }
    Ok(kept)
}

type Found = (Kind, String, Json);

/// Runs that no job made, and applies that the gateway did not ask for, since the first look.
async fn runs(app: &App, workspace_id: &str, since: Timestamp) -> Result<Vec<Found>, Refusal> {
    let target = format!("/api/v2/workspaces/{workspace_id}/runs?page%5Bsize%5D={RUNS}");
    let list = read(app, Duty::Reader, &target).await?;
    let list = list.ok_or(ReasonCode::UpstreamNotFound)?;
    let list = list
        .get("data")
        .and_then(Json::as_array)
        .ok_or(ReasonCode::UpstreamGarbage)?;
    let mut found = Vec::new();
    for run in list {
        let Some(seen) = SeenRun::read(run) else {
            return Err(ReasonCode::UpstreamGarbage.into());
        };
        // Read after upstream's answer: whatever upstream had from us then stands here by now.
        let known = app.store.run(&seen.id).await.map_err(unavailable)?;
        let ours = match &seen.configuration {
            Some(id) => app.store.configuration(id).await.map_err(unavailable)?,
            None => None,
        };
        let patience = i64::try_from(app.config.limits.upstream_timeout_seconds).unwrap_or(0);
        let grace = app.now().plus_seconds(-patience - GRACE_SECONDS);
        let known = match (&known, ours.is_some()) {
            (Some(run), _) => Known::Ours(run),
            (None, true) if seen.created_at.is_some_and(|at| at > grace) => Known::OnItsWay,
            (None, _) => Known::Foreign,
        };
        found.extend(seen.judge(&known, since));
    }
    Ok(found)
}

/// What is known here of a run.
enum Known<'r> {
    /// A job made it.
    Ours(&'r RunRow),
    /// A job asked for it, and the answer is not here yet.
    OnItsWay,
    /// Nothing.
    Foreign,
}

/// A run as upstream lists it.
struct SeenRun {
    id: String,
    status: String,
    configuration: Option<String>,
    created_at: Option<Timestamp>,
    applied_at: Option<Timestamp>,
    detail: Json,
}

impl SeenRun {
    fn read(run: &Json) -> Option<Self> {
        let text = |path: &[&str]| run.at(path).and_then(Json::as_str).map(str::to_owned);
        let time = |path: &[&str]| text(path).as_deref().and_then(super::time);
        let id = text(&["id"])?;
        let status = text(&["attributes", "status"])?;
        let mut detail = Json::object();
        detail.set("status", status.as_str());
        for (name, path) in [
            ("source", &["attributes", "source"][..]),
            ("created_at", &["attributes", "created-at"]),
            ("created_by", &["relationships", "created-by", "data", "id"]),
            (
                "confirmed_by",
                &["relationships", "confirmed-by", "data", "id"],
            ),
        ] {
            if let Some(text) = text(path) {
                detail.set(name, text.chars().take(100).collect::<String>());
            }
        }
        for name in ["plan-only", "auto-apply", "is-destroy"] {
            if let Some(flag) = run.at(&["attributes", name]).and_then(Json::as_bool) {
                detail.set(&name.replace('-', "_"), flag);
            }
        }
        Some(Self {
            configuration: text(&["relationships", "configuration-version", "data", "id"]),
            created_at: time(&["attributes", "created-at"]),
            applied_at: time(&["attributes", "status-timestamps", "applied-at"]),
            id,
            status,
            detail,
        })
    }

    /// What is to be kept about it. What happened before the first look is not, and what has no
    /// readable time is: better once too often.
    fn judge(&self, known: &Known<'_>, since: Timestamp) -> Vec<Found> {
        let mut found = Vec::new();
        let mut keep = |kind: Kind, mut detail: Json| {
            if let Known::Ours(run) = known {
                detail.set("job_id", run.job_id.as_str());
                detail.set("gate", run.gate.as_str());
            }
            found.push((kind, self.id.clone(), detail));
        };
        let confirmed = CONFIRMED.contains(&self.status.as_str());
        let (created, applied) = match known {
            Known::OnItsWay => (false, false),
            Known::Foreign => (true, confirmed),
            // An apply of ours that failed is `errored` upstream, which is none of these.
            Known::Ours(run) => (false, confirmed && !is_applied_by_us(run.gate)),
        };
        if created && self.created_at.is_none_or(|at| at >= since) {
            keep(Kind::RunCreated, self.detail.clone());
        }
        let confirmed_at = self.applied_at.or(self.created_at);
        // A run that is being applied right now has no such time yet.
        let recent = self.status != "applied" || confirmed_at.is_none_or(|at| at >= since);
        if applied && recent {
            keep(Kind::RunApplied, self.detail.clone());
        }
        found
    }
}

/// Whether the gate asked for the apply. It moves to `applying` before it asks.
fn is_applied_by_us(gate: GateState) -> bool {
    matches!(gate, GateState::Applying | GateState::Applied)
}

/// Whether a run's state version is ours: of an apply that the gate asked for, which may have
/// failed half way. An apply that upstream refused us ends at `errored` too, but then it is not
/// the run's own status.
fn made_our_state(run: &RunRow) -> bool {
    is_applied_by_us(run.gate) || (run.gate == GateState::Errored && run.status == "errored")
}

/// The current state version, when neither an apply of ours nor a rollback of ours made it.
///
/// Who may apply may read it; a reader of plans and settings need not.
async fn state(
    app: &App,
    workspace_id: &str,
    since: Timestamp,
) -> Result<Option<(String, Json)>, Refusal> {
    let target = format!("/api/v2/workspaces/{workspace_id}/current-state-version");
    let Some(state) = read(app, Duty::Executor, &target).await? else {
        return Ok(None);
    };
    let text = |path: &[&str]| state.at(path).and_then(Json::as_str).map(str::to_owned);
    let id = text(&["data", "id"]).ok_or(ReasonCode::UpstreamGarbage)?;
    let created_at = text(&["data", "attributes", "created-at"]);
    if created_at
        .as_deref()
        .and_then(super::time)
        .is_some_and(|at| at < since)
    {
        return Ok(None);
    }
    let run_id = text(&["data", "relationships", "run", "data", "id"]);
    if let Some(run_id) = &run_id {
        let run = app.store.run(run_id).await.map_err(unavailable)?;
        if run.is_some_and(|run| made_our_state(&run)) {
            return Ok(None);
        }
    }
    let rolled_back = Kind::RolledBack.as_str();
    let ours = app.store.observed(workspace_id, rolled_back, &id).await;
    if ours.map_err(unavailable)? {
        return Ok(None);
    }
    let mut detail = Json::object();
    if let Some(created_at) = created_at {
        detail.set("created_at", created_at);
    }
    if let Some(serial) = state.at(&["data", "attributes", "serial"]) {
        detail.set("serial", serial.clone());
    }
    detail.set("run_id", run_id.map_or(Json::Null, Json::from));
    Ok(Some((id, detail)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(1_795_334_400 + seconds)
    }

    fn run(status: &str, created: i64, applied: Option<i64>) -> SeenRun {
        let run = json!({
            "id": "run-1",
            "attributes": {
                "status": status, "source": "tfe-ui", "plan-only": false,
                "created-at": at(created).to_string(),
                "status-timestamps": {"applied-at": applied.map(|ms| at(ms).to_string())},
                "message": "of no interest",
            },
            "relationships": {"created-by": {"data": {"id": "user-1", "type": "users"}}},
        });
        SeenRun::read(&Json::from(run)).unwrap()
    }

    fn kinds(found: &[Found]) -> Vec<Kind> {
        found.iter().map(|(kind, ..)| *kind).collect()
    }

    #[test]
    fn foreign_runs_count_from_the_first_look_on() {
        use Kind::{RunApplied, RunCreated};
        let since = at(0);
        for (status, created, applied, expected) in [
            ("planned", 1, None, vec![RunCreated]),
            ("planned", -1, None, vec![]),
            ("applied", 1, Some(2), vec![RunCreated, RunApplied]),
            ("applied", -9, Some(-5), vec![]),
            ("applied", -9, Some(5), vec![RunApplied]),
            ("applying", -9, None, vec![RunApplied]),
            ("confirmed", 1, None, vec![RunCreated, RunApplied]),
            ("planned_and_finished", 1, None, vec![RunCreated]),
            ("discarded", 1, None, vec![RunCreated]),
        ] {
            let found = run(status, created, applied).judge(&Known::Foreign, since);
            assert_eq!(kinds(&found), expected, "{status} {created}");
        }
    }

    #[test]
    fn a_run_whose_answer_is_on_its_way_is_not_foreign_yet() {
        let found = run("applying", 1, None).judge(&Known::OnItsWay, at(0));
        assert_eq!(kinds(&found), []);
    }

    #[test]
    fn what_is_kept_names_no_text_of_peoples() {
        let found = run("planned", 1, None).judge(&Known::Foreign, at(0));
        let text = String::from_utf8(found[0].2.to_jcs()).unwrap();
        assert!(text.contains("tfe-ui") && text.contains("user-1"), "{text}");
        assert!(!text.contains("interest"), "{text}");
    }

    #[test]
    fn only_an_apply_that_the_gate_asked_for_is_ours() {
        let ours: Vec<_> = GateState::ALL
            .into_iter()
            .filter(|gate| is_applied_by_us(*gate))
            .collect();
        assert_eq!(ours, [GateState::Applying, GateState::Applied]);
    }
}
