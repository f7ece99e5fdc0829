//! Runs and configuration versions in SQL.

use async_trait::async_trait;
use proof::record::{Body, Intent, JobId};
use proof::{Hash, Json, Timestamp};

use super::column::{self, Columns as _, bytes, bytes_opt};
use super::connection::{Connection, Row, params};
use super::{Database, jobs, log};
use crate::{
    Appended, ConfigurationRow, Conflict, GateState, RunBrief, RunRow, RunUpdate, Runs, StoreError,
    points,
};

/// Objects in one piece of a plan.
const PAGE: u32 = 1000;

#[async_trait]
impl Runs for Database {
    async fn insert_run(&self, run: RunRow) -> Result<(), StoreError> {
        self.write(move |connection| insert(connection, run.clone()))
            .await
    }

    async fn insert_requested_run(
        &self,
        run: RunRow,
        request_hash: &Hash,
    ) -> Result<(), StoreError> {
        let hash = *request_hash;
        self.write(move |connection| {
            let (job_id, run_id, at) = (run.job_id.clone(), run.run_id.clone(), run.created_at);
            insert(connection, run.clone())?;
            remember(connection, &job_id, &hash, &run_id, at)
        })
        .await
    }

    async fn run(&self, run_id: &str) -> Result<Option<RunRow>, StoreError> {
        let run_id = run_id.to_owned();
        self.read(move |connection| by_id(connection, &run_id))
            .await
    }

    async fn runs(&self, job_id: &JobId) -> Result<Vec<RunRow>, StoreError> {
        let job_id = job_id.clone();
        self.read(move |connection| {
            column::all(
                connection,
                "SELECT runs.*, job_id FROM runs JOIN jobs USING (job)
                 WHERE job_id = ?1 ORDER BY runs.id",
                [job_id.as_str()],
                run_row,
            )
        })
        .await
    }

    async fn active_runs(&self) -> Result<Vec<RunRow>, StoreError> {
        self.read(|connection| {
            column::all(
                connection,
                "SELECT runs.*, job_id FROM runs JOIN jobs USING (job)
                 WHERE active = 1 ORDER BY runs.id",
                [],
                run_row,
            )
        })
        .await
    }

    async fn active_briefs(&self) -> Result<Vec<RunBrief>, StoreError> {
        self.read(|connection| column::all(connection, &active_briefs(), [], brief))
            .await
    }

    async fn update_run(
        &self,
        run_id: &str,
        at: Timestamp,
        update: RunUpdate,
    ) -> Result<Option<RunRow>, StoreError> {
        let run_id = run_id.to_owned();
        self.write(move |connection| match by_id(connection, &run_id)? {
            None => Ok(None),
            Some(run) => {
                let gate = run.gate;
                change(connection, run, gate, at, update.clone()).map(Some)
            }
        })
        .await
    }

    async fn transition(
        &self,
        run_id: &str,
        from: &[GateState],
        to: GateState,
        at: Timestamp,
        update: RunUpdate,
    ) -> Result<Option<RunRow>, StoreError> {
        let (run_id, from) = (run_id.to_owned(), from.to_vec());
        let moved = self.write(move |connection| match by_id(connection, &run_id)? {
            Some(run) if from.contains(&run.gate) && !run.gate.is_final() => {
                let from = run.gate;
                let run = move_gate(connection, run, to, at, update.clone())?;
                Ok(Some((from, run)))
            }
            _ => Ok(None),
        });
        Ok(moved.await?.map(|(from, run)| {
            points::arrow(from, to, true);
            run
        }))
    }

    async fn begin_apply(
        &self,
        run_id: &str,
        at: Timestamp,
        update: RunUpdate,
        intent: Intent,
    ) -> Result<Option<Appended>, StoreError> {
        let run_id = run_id.to_owned();
        let begun = self.write(move |connection| match by_id(connection, &run_id)? {
            Some(run) if run.gate == GateState::Rechecking => {
                let job_id = run.job_id.clone();
                move_gate(connection, run, GateState::Applying, at, update.clone())?;
                let body = Body::Intent(Box::new(intent.clone()));
                log::append(connection, &job_id, at, body).map(Some)
            }
            _ => Ok(None),
        });
        let begun = begun.await?;
        if begun.is_some() {
            points::arrow(GateState::Rechecking, GateState::Applying, true);
        }
        Ok(begun)
    }

    async fn keep_plan_objects(&self, run_id: &str, objects: Vec<Json>) -> Result<(), StoreError> {
        let run_id = run_id.to_owned();
        self.write(move |connection| {
            if by_id(connection, &run_id)?.is_none() {
                return Err(Conflict::NoSuchRun(run_id.clone()).into());
            }
            column::change(
                connection,
                "DELETE FROM plan_objects WHERE run_id = ?1",
                [&run_id],
            )?;
            for (place, object) in objects.iter().enumerate() {
                column::change(
                    connection,
                    "INSERT INTO plan_objects (run_id, place, object) VALUES (?1, ?2, ?3)",
                    params![
                        run_id,
                        column::integer(place as u64)?,
                        column::json(object)?
                    ],
                )?;
            }
            Ok(())
        })
        .await
    }

    async fn plan_objects(
        &self,
        run_id: &str,
        from: u64,
        limit: u32,
    ) -> Result<Vec<Json>, StoreError> {
        let run_id = run_id.to_owned();
        self.read(move |connection| {
            column::all(
                connection,
                "SELECT object FROM plan_objects WHERE run_id = ?1 AND place >= ?2
                 ORDER BY place LIMIT ?3",
                params![run_id, column::integer(from)?, limit.min(PAGE)],
                |row| row.json("object"),
            )
        })
        .await
    }

    async fn run_for_request(
        &self,
        job_id: &JobId,
        request_hash: &Hash,
        not_before: Timestamp,
    ) -> Result<Option<String>, StoreError> {
        let (job_id, hash) = (job_id.clone(), *request_hash);
        self.read(move |connection| {
            column::one(
                connection,
                "SELECT run_id FROM run_requests JOIN jobs USING (job)
                 WHERE job_id = ?1 AND request_hash = ?2 AND at >= ?3",
                params![job_id.as_str(), bytes(&hash), not_before.millis()],
                |row| row.text("run_id"),
            )
        })
        .await
    }

    async fn remember_run_request(
        &self,
        job_id: &JobId,
        request_hash: &Hash,
        run_id: &str,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let (job_id, hash, run_id) = (job_id.clone(), *request_hash, run_id.to_owned());
        self.write(move |connection| remember(connection, &job_id, &hash, &run_id, at))
            .await
    }

    async fn configuration(&self, cv_id: &str) -> Result<Option<ConfigurationRow>, StoreError> {
        let cv_id = cv_id.to_owned();
        self.read(move |connection| configuration(connection, &cv_id))
            .await
    }

    async fn save_configuration(&self, configuration: ConfigurationRow) -> Result<(), StoreError> {
        self.write(move |connection| save_configuration(connection, configuration.clone()))
            .await
    }
}

/// Moves the gate of a run as it was just read, in the same transaction.
pub(super) fn move_gate(
    connection: &Connection,
    run: RunRow,
    to: GateState,
    at: Timestamp,
    update: RunUpdate,
) -> Result<RunRow, StoreError> {
    if to == GateState::Applied {
        column::change(
            connection,
            "UPDATE jobs SET applies = applies + 1 WHERE job_id = ?1",
            [run.job_id.as_str()],
        )?;
    }
    let from = run.gate;
    let moved = change(connection, run, to, at, update)?;
    points::arrow(from, to, false);
    Ok(moved)
}

fn insert(connection: &Connection, run: RunRow) -> Result<(), StoreError> {
    if by_id(connection, &run.run_id)?.is_some() {
        return Err(Conflict::RunExists(run.run_id).into());
    }
    save(connection, &run)
}

fn remember(
    connection: &Connection,
    job_id: &JobId,
    request_hash: &Hash,
    run_id: &str,
    at: Timestamp,
) -> Result<(), StoreError> {
    column::change(
        connection,
        "INSERT INTO run_requests (job, request_hash, run_id, at) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (job, request_hash) DO UPDATE
             SET run_id = excluded.run_id, at = excluded.at
             WHERE excluded.at >= run_requests.at",
        params![
            jobs::key(connection, job_id)?,
            bytes(request_hash),
            run_id,
            at.millis()
        ],
    )?;
    Ok(())
}

fn change(
    connection: &Connection,
    mut run: RunRow,
    gate: GateState,
    at: Timestamp,
    update: RunUpdate,
) -> Result<RunRow, StoreError> {
    if asked_or_later(run.gate)
        && approved_or_later(gate)
        && update.subject.is_some()
        && update.subject != run.subject
    {
        return Err(Conflict::SubjectApproved(run.run_id).into());
    }
    let was_final = run.gate.is_final();
    run.gate = gate;
    // Named one by one, so that a new member cannot be forgotten here.
    let RunUpdate {
        configuration_version_id,
        configuration_sha256,
        plan_id,
        apply_id,
        apply_wished,
        plan_sha256,
        plan_raw_sha256,
        changes,
        subject,
        summary,
        status,
        state_version_before,
        state_version_after,
        gate_reason,
        approval_expires_at,
    } = update;
    run.configuration_version_id = configuration_version_id.or(run.configuration_version_id);
    run.configuration_sha256 = configuration_sha256.or(run.configuration_sha256);
    run.plan_id = plan_id.or(run.plan_id);
    run.apply_id = apply_id.or(run.apply_id);
    run.apply_wished = apply_wished.unwrap_or(run.apply_wished);
    run.plan_sha256 = plan_sha256.or(run.plan_sha256);
    run.plan_raw_sha256 = plan_raw_sha256.or(run.plan_raw_sha256);
    run.changes = changes.or(run.changes);
    run.subject = subject.or(run.subject);
    run.summary = summary.or(run.summary);
    run.status = status.unwrap_or(run.status);
    run.state_version_before = state_version_before.or(run.state_version_before);
    run.state_version_after = state_version_after.or(run.state_version_after);
    run.gate_reason = match was_final {
        true => run.gate_reason,
        false => gate_reason.or(run.gate_reason),
    };
    run.approval_expires_at = approval_expires_at.or(run.approval_expires_at);
    run.updated_at = at.max(run.updated_at);
    save(connection, &run)?;
    Ok(run)
}

/// From here on approvers have judged, or may be judging, what the run is.
fn asked_or_later(gate: GateState) -> bool {
    gate == GateState::AwaitingApproval || approved_or_later(gate)
}

/// From here on what the run is was approved.
fn approved_or_later(gate: GateState) -> bool {
    matches!(
        gate,
        GateState::Approved | GateState::Rechecking | GateState::Applying | GateState::Applied
    )
}

/// Writes the whole row; its owner and its birth never change.
fn save(connection: &Connection, run: &RunRow) -> Result<(), StoreError> {
    column::change(
        connection,
        "INSERT INTO runs (id, run_id, job, organization, workspace_id, configuration_version_id,
             configuration_sha256, plan_id, apply_id, apply_wished, gate, active, plan_sha256,
             plan_raw_sha256, changes, subject, summary, status, state_version_before,
             state_version_after, gate_reason, approval_expires_at, created_at, updated_at)
         VALUES ((SELECT coalesce(max(id), 0) + 1 FROM runs), ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9,
             ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23)
         ON CONFLICT (run_id) DO UPDATE SET
             configuration_version_id = ?5, configuration_sha256 = ?6, plan_id = ?7,
             apply_id = ?8, apply_wished = ?9, gate = ?10, active = ?11, plan_sha256 = ?12,
             plan_raw_sha256 = ?13, changes = ?14, subject = ?15, summary = ?16, status = ?17,
             state_version_before = ?18, state_version_after = ?19, gate_reason = ?20,
             approval_expires_at = ?21, updated_at = ?23",
        params![
            run.run_id,
            jobs::key(connection, &run.job_id)?,
            run.organization,
            run.workspace_id,
            run.configuration_version_id,
            bytes_opt(&run.configuration_sha256),
            run.plan_id,
            run.apply_id,
            run.apply_wished,
            run.gate.as_str(),
            !run.gate.is_final(),
            bytes_opt(&run.plan_sha256),
            bytes_opt(&run.plan_raw_sha256),
            column::json_opt(&run.changes)?,
            column::json_opt(&run.subject)?,
            column::json_opt(&run.summary)?,
            run.status,
            run.state_version_before,
            run.state_version_after,
            run.gate_reason,
            column::millis_opt(&run.approval_expires_at),
            run.created_at.millis(),
            run.updated_at.millis(),
        ],
    )?;
    Ok(())
}

pub(super) fn by_id(connection: &Connection, run_id: &str) -> Result<Option<RunRow>, StoreError> {
    column::one(
        connection,
        "SELECT runs.*, job_id FROM runs JOIN jobs USING (job) WHERE run_id = ?1",
        [run_id],
        run_row,
    )
}

/// Runs and their jobs in brief. What stands in a row behind the summary costs reading all of
/// that, so the two times of it are in the indexes, too.
pub(super) const BRIEF: &str = "run_id, job_id, jobs.name AS job_name, jobs.policy_hash,
     organization, workspace_id, apply_wished, gate, changes, subject, approval_expires_at,
     updated_at FROM runs CROSS JOIN jobs USING (job)";

fn active_briefs() -> String {
    format!("SELECT {BRIEF} WHERE active = 1 ORDER BY runs.id")
}

pub(super) fn brief(row: &Row<'_>) -> Result<RunBrief, StoreError> {
    Ok(RunBrief {
        run_id: row.text("run_id")?,
        job_id: row.parsed("job_id")?,
        job_name: row.text("job_name")?,
        policy_hash: row.hash("policy_hash")?,
        organization: row.text("organization")?,
        workspace_id: row.text("workspace_id")?,
        apply_wished: row.flag("apply_wished")?,
        gate: gate(row)?,
        changes: row.json_opt("changes")?,
        subject: row.json_opt("subject")?,
        approval_expires_at: row.time_opt("approval_expires_at")?,
        updated_at: row.time("updated_at")?,
    })
}

fn gate(row: &Row<'_>) -> Result<GateState, StoreError> {
    GateState::from_name(&row.text("gate")?).ok_or_else(|| column::damaged("gate"))
}

pub(super) fn run_row(row: &Row<'_>) -> Result<RunRow, StoreError> {
    Ok(RunRow {
        run_id: row.text("run_id")?,
        job_id: row.parsed("job_id")?,
        organization: row.text("organization")?,
        workspace_id: row.text("workspace_id")?,
        configuration_version_id: row.text_opt("configuration_version_id")?,
        configuration_sha256: row.hash_opt("configuration_sha256")?,
        plan_id: row.text_opt("plan_id")?,
        apply_id: row.text_opt("apply_id")?,
        apply_wished: row.flag("apply_wished")?,
        gate: gate(row)?,
        plan_sha256: row.hash_opt("plan_sha256")?,
        plan_raw_sha256: row.hash_opt("plan_raw_sha256")?,
        changes: row.json_opt("changes")?,
        subject: row.json_opt("subject")?,
        summary: row.json_opt("summary")?,
        status: row.text("status")?,
        state_version_before: row.text_opt("state_version_before")?,
        state_version_after: row.text_opt("state_version_after")?,
        gate_reason: row.text_opt("gate_reason")?,
        approval_expires_at: row.time_opt("approval_expires_at")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}

fn save_configuration(connection: &Connection, new: ConfigurationRow) -> Result<(), StoreError> {
    let known = configuration(connection, &new.cv_id)?;
    if let Some(known) = &known {
        let digest_differs = match (&known.sha256, &new.sha256) {
            (Some(known), Some(new)) => known != new,
            _ => false,
        };
        if known.job_id != new.job_id
            || known.workspace_id != new.workspace_id
            || known.speculative != new.speculative
            || digest_differs
        {
            return Err(Conflict::ConfigurationDiffers(new.cv_id).into());
        }
    }
    column::change(
        connection,
        "INSERT INTO configurations (cv_id, job, workspace_id, sha256, uploaded, speculative)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (cv_id) DO UPDATE SET
             sha256 = coalesce(configurations.sha256, excluded.sha256),
             uploaded = configurations.uploaded | excluded.uploaded",
        params![
            new.cv_id,
            jobs::key(connection, &new.job_id)?,
            new.workspace_id,
            bytes_opt(&new.sha256),
            new.uploaded,
            new.speculative,
        ],
    )?;
    Ok(())
}

fn configuration(
    connection: &Connection,
    cv_id: &str,
) -> Result<Option<ConfigurationRow>, StoreError> {
    column::one(
        connection,
        "SELECT configurations.*, job_id FROM configurations JOIN jobs USING (job)
         WHERE cv_id = ?1",
        [cv_id],
        |row| {
            Ok(ConfigurationRow {
                cv_id: row.text("cv_id")?,
                job_id: row.parsed("job_id")?,
                workspace_id: row.text("workspace_id")?,
                sha256: row.hash_opt("sha256")?,
                uploaded: row.flag("uploaded")?,
                speculative: row.flag("speculative")?,
            })
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::plans::assert_plan;

    #[test]
    fn active_runs_are_found_by_their_index() {
        assert_plan(&active_briefs(), &[], &[]);
    }
}
