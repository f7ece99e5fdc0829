//! Jobs in SQLite.

use async_trait::async_trait;
use proof::record::{Body, Ended, JobClose, JobId, JobOpen, Outcome};
use proof::{Hash, Timestamp};
use rusqlite::types::Value;
use rusqlite::{Connection, Row, params};

use super::column::{self, Columns as _, bytes};
use super::{Sqlite, contracts, ends, log};
use crate::{
    Appended, Closing, Conflict, JobClosing, JobCounters, JobFilter, JobOutcome, JobPhase, JobRow,
    JobState, Jobs, StoreError,
};

/// Jobs in one page of a list.
const PAGE: u32 = 1000;

/// Code in the outcome of an intent that its job's closing cut off.
const JOB_CLOSED: &str = "JOB_CLOSED";

#[async_trait]
impl Jobs for Sqlite {
    async fn open_job(
        &self,
        job_id: JobId,
        at: Timestamp,
        open: JobOpen,
    ) -> Result<Appended, StoreError> {
        self.write(move |connection| open_job(connection, &job_id, at, open))
            .await
    }

    async fn job(&self, job_id: &JobId) -> Result<Option<JobRow>, StoreError> {
        let job_id = job_id.clone();
        self.read(move |connection| by_id(connection, &job_id))
            .await
    }

    async fn jobs(&self, filter: JobFilter) -> Result<Vec<JobRow>, StoreError> {
        self.read(move |connection| {
            let (sql, values) = listing(&filter);
            let values = rusqlite::params_from_iter(values);
            column::all(connection, &sql, values, job_row)
        })
        .await
    }

    async fn close_job(
        &self,
        job_id: &JobId,
        closed_by: &str,
        reason: &str,
        at: Timestamp,
    ) -> Result<JobClosing, StoreError> {
        let job_id = job_id.clone();
        let (by, reason) = (closed_by.to_owned(), reason.to_owned());
        self.write(move |connection| close_job(connection, &job_id, by, reason, at))
            .await
    }
}

/// The query of a list. Only conditions that are asked for stand in it, so that each can have its
/// index: a condition that may be absent has none.
fn listing(filter: &JobFilter) -> (String, Vec<Value>) {
    let mut conditions = vec!["1".to_owned()];
    let mut values = Vec::new();
    let mut with = |condition: &str, value: Value| {
        values.push(value);
        conditions.push(condition.replace('?', &format!("?{}", values.len())));
    };
    if let Some(phase) = filter.phase {
        with("phase = ?", phase_name(phase).to_owned().into());
    }
    if let Some(agent) = &filter.agent {
        with("agent_did = ?", agent.as_str().to_owned().into());
    }
    if let Some(name) = &filter.contract {
        let of_name = "policy_hash IN (SELECT policy_hash FROM contracts WHERE name = ?)";
        with(of_name, name.clone().into());
    }
    if let Some(workspace) = &filter.workspace {
        let of_workspace = "job IN (SELECT job FROM runs WHERE workspace_id = ?)";
        with(of_workspace, workspace.clone().into());
    }
    if let Some(since) = filter.since {
        with("opened_at >= ?", since.millis().into());
    }
    if let Some(until) = filter.until {
        with("opened_at < ?", until.millis().into());
    }
    if let Some(before) = &filter.before {
        let earlier = "job < (SELECT job FROM jobs WHERE job_id = ?)";
        with(earlier, before.as_str().to_owned().into());
    }
    if let Some(outcome) = filter.outcome {
        // Word for word as in the partial indexes.
        let condition = match outcome {
            JobOutcome::Applied => "applies > 0",
            JobOutcome::Denied => "denials > 0",
            JobOutcome::Refused => "refusals > 0",
        };
        conditions.push(condition.to_owned());
    }
    let sql = format!(
        "SELECT * FROM jobs WHERE {} ORDER BY job DESC LIMIT {}",
        conditions.join(" AND "),
        filter.limit.min(PAGE)
    );
    (sql, values)
}

fn open_job(
    connection: &Connection,
    job_id: &JobId,
    at: Timestamp,
    open: JobOpen,
) -> Result<Appended, StoreError> {
    if by_id(connection, job_id)?.is_some() {
        return Err(Conflict::JobExists(job_id.clone()).into());
    }
    contracts::check_in_force(connection, &open.policy_hash_b64u)?;
    column::change(
        connection,
        "INSERT INTO jobs (job_id, agent_did, name, policy_hash, gateway_did, opened_by,
                           opened_by_email, opened_at, last_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8)",
        params![
            job_id.as_str(),
            open.agent_did.as_str(),
            open.name,
            bytes(&open.policy_hash_b64u),
            open.gateway_did.as_str(),
            open.opened_by,
            open.opened_by_email,
            at.millis(),
        ],
    )?;
    log::append(connection, job_id, at, Body::JobOpen(open))
}

fn close_job(
    connection: &Connection,
    job_id: &JobId,
    by: String,
    reason: String,
    at: Timestamp,
) -> Result<JobClosing, StoreError> {
    let job = require(connection, job_id)?;
    if let Some(closing) = job.state.closing() {
        return Ok(JobClosing::Before(closing.clone()));
    }
    let cut = ends::open_intents_of(connection, job_id)?;
    for intent_seq in &cut {
        log::append_outcome(connection, job_id, at, cut_off(*intent_seq), None, &[])?;
    }
    let close = JobClose {
        closed_by: by.clone(),
        reason: reason.clone(),
        count: job.counters.records + cut.len() as u64 + 1,
        policy_hash_b64u: job.policy_hash,
    };
    let appended = log::append(connection, job_id, at, Body::JobClose(close))?;
    column::change(
        connection,
        "UPDATE jobs SET phase = 'closed', closed_at = ?2, closed_by = ?3, close_reason = ?4
         WHERE job_id = ?1",
        params![job_id.as_str(), appended.at.millis(), by, reason],
    )?;
    Ok(JobClosing::Now {
        appended: Box::new(appended),
        cut,
    })
}

/// The outcome of a call of which nobody will be able to say how it ended.
fn cut_off(intent_seq: u64) -> Outcome {
    Outcome {
        intent_seq,
        tool_calls: Vec::new(),
        status: None,
        upstream_status: None,
        response_hash_b64u: Hash::of(b""),
        response_bytes: 0,
        latency_ms: 0,
        first_byte_ms: None,
        usage: None,
        object_id: None,
        ended: Ended::Unknown,
        code: Some(JOB_CLOSED.to_owned()),
        receipt: None,
    }
}

pub(super) fn by_id(connection: &Connection, job_id: &JobId) -> Result<Option<JobRow>, StoreError> {
    column::one(
        connection,
        "SELECT * FROM jobs WHERE job_id = ?1",
        [job_id.as_str()],
        job_row,
    )
}

/// The job, which must exist.
pub(super) fn require(connection: &Connection, job_id: &JobId) -> Result<JobRow, StoreError> {
    by_id(connection, job_id)?.ok_or_else(|| Conflict::NoSuchJob(job_id.clone()).into())
}

/// The job, which must exist and be open.
pub(super) fn require_open(connection: &Connection, job_id: &JobId) -> Result<JobRow, StoreError> {
    let job = require(connection, job_id)?;
    if job.state.is_open() {
        Ok(job)
    } else {
        Err(Conflict::JobClosed(job_id.clone()).into())
    }
}

/// The short key of a job, which must exist.
pub(super) fn key(connection: &Connection, job_id: &JobId) -> Result<i64, StoreError> {
    column::one(
        connection,
        "SELECT job FROM jobs WHERE job_id = ?1",
        [job_id.as_str()],
        |row| Ok(row.get("job")?),
    )?
    .ok_or_else(|| Conflict::NoSuchJob(job_id.clone()).into())
}

fn phase_name(phase: JobPhase) -> &'static str {
    match phase {
        JobPhase::Open => "open",
        JobPhase::Closed => "closed",
        JobPhase::Sealed => "sealed",
    }
}

fn job_row(row: &Row<'_>) -> Result<JobRow, StoreError> {
    let closing = || {
        Ok::<_, StoreError>(Closing {
            at: row.time("closed_at")?,
            by: row.text("closed_by")?,
            reason: row.text("close_reason")?,
        })
    };
    let state = match row.text("phase")?.as_str() {
        "open" => JobState::Open,
        "closed" => JobState::Closed(closing()?),
        "sealed" => JobState::Sealed {
            closing: closing()?,
            bundle: row.hash("bundle")?,
        },
        _ => return Err(column::damaged("phase")),
    };
    Ok(JobRow {
        job_id: row.parsed("job_id")?,
        agent_did: row.parsed("agent_did")?,
        name: row.text("name")?,
        policy_hash: row.hash("policy_hash")?,
        gateway_did: row.parsed("gateway_did")?,
        opened_by: row.text("opened_by")?,
        opened_by_email: row.text_opt("opened_by_email")?,
        opened_at: row.time("opened_at")?,
        state,
        last_at: row.time("last_at")?,
        counters: JobCounters {
            records: row.uint("last_seq")?,
            calls: row.uint("calls")?,
            model_calls: row.uint("model_calls")?,
            refusals: row.uint("refusals")?,
            approvals: row.uint("approvals")?,
            denials: row.uint("denials")?,
            applies: row.uint("applies")?,
            open_intents: row.uint("open_intents")?,
        },
    })
}
