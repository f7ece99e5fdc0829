//! Jobs in SQL.

use std::cmp::Reverse;

use async_trait::async_trait;
use proof::record::{Body, Ended, JobClose, JobId, JobOpen, Outcome};
use proof::{Hash, Timestamp};

use super::column::{self, Columns as _, bytes};
use super::connection::{Connection, Dialect, Row, Value, params};
use super::{Database, contracts, ends, log};
use crate::{
    Appended, Closing, Conflict, JobClosing, JobCounters, JobFilter, JobOutcome, JobPhase, JobRow,
    JobState, Jobs, StoreError,
};

/// Jobs in one page of a list.
const PAGE: u32 = 1000;

/// Code in the outcome of an intent that its job's closing cut off.
const JOB_CLOSED: &str = "JOB_CLOSED";

#[async_trait]
impl Jobs for Database {
    async fn open_job(
        &self,
        job_id: JobId,
        at: Timestamp,
        open: JobOpen,
    ) -> Result<Appended, StoreError> {
        self.write(move |connection| open_job(connection, &job_id, at, open.clone()))
            .await
    }

    async fn job(&self, job_id: &JobId) -> Result<Option<JobRow>, StoreError> {
        let job_id = job_id.clone();
        self.read(move |connection| by_id(connection, &job_id))
            .await
    }

    async fn jobs(&self, filter: JobFilter) -> Result<Vec<JobRow>, StoreError> {
        self.read(move |connection| list(connection, &filter)).await
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
        self.write(move |connection| close_job(connection, &job_id, by.clone(), reason.clone(), at))
            .await
    }
}

/// Jobs of a list. A contract's name stands for its versions, each with an index of its own, so
/// each gives its newest jobs, and the newest of those are the list.
fn list(connection: &Connection, filter: &JobFilter) -> Result<Vec<JobRow>, StoreError> {
    let versions = match &filter.contract {
        None => vec![None],
        Some(name) => column::all(
            connection,
            "SELECT policy_hash FROM contracts WHERE name = ?1",
            [name],
            |row| row.hash("policy_hash").map(Some),
        )?,
    };
    let mut jobs: Vec<(i64, JobRow)> = Vec::new();
    for version in &versions {
        let (sql, values) = listing(connection.dialect(), filter, version.as_ref());
        jobs.extend(column::all(connection, &sql, values.as_slice(), |row| {
            Ok((row.int("job")?, job_row(row)?))
        })?);
    }
    if versions.len() > 1 {
        jobs.sort_by_key(|(job, _)| Reverse(*job));
        jobs.truncate(filter.limit.min(PAGE) as usize);
    }
    Ok(jobs.into_iter().map(|(_, job)| job).collect())
}

/// The query of a list. Only conditions that are asked for stand in it. The first of them leads:
/// it has an index in the order of the list. The engine knows nothing of how many jobs fulfil
/// which, so the others are kept from leading (`+`), and what fewer jobs fulfil comes first here.
///
/// PostgreSQL knows how many jobs fulfil which, takes its own way, and has no words for this.
fn listing<'f>(
    dialect: Dialect,
    filter: &'f JobFilter,
    version: Option<&'f Hash>,
) -> (String, Vec<Value<'f>>) {
    let told = dialect == Dialect::Sqlite;
    let by_opening = if told { "INDEXED BY jobs_opened" } else { "" };
    let mut values: Vec<Value<'f>> = Vec::new();
    let mut conditions: Vec<String> = Vec::new();
    let mut with = |condition: &str, given: Option<Value<'f>>| {
        let mut condition = condition.to_owned();
        if let Some(value) = given {
            values.push(value);
            condition = condition.replace('?', &format!("?{}", values.len()));
        }
        let leads = conditions.is_empty() || !told;
        conditions.push(condition.replace('+', if leads { "" } else { "+" }));
    };
    let text = |text: &'f str| Some(Value::Text(text));
    let phase = |phase: JobPhase| text(phase_name(phase));
    if let Some(agent) = &filter.agent {
        with("+agent_did = ?", text(agent.as_str()));
    }
    if filter.phase == Some(JobPhase::Open) {
        with("+phase = ?", phase(JobPhase::Open));
    }
    // A workspace leads by its runs.
    let by_runs = match &filter.workspace {
        None => false,
        Some(workspace) => {
            let leads = told && filter.agent.is_none() && filter.phase != Some(JobPhase::Open);
            let condition = match leads {
                true => "workspace_id = ?",
                false => {
                    "EXISTS (SELECT 1 FROM runs WHERE workspace_id = ? AND runs.job = jobs.job)"
                }
            };
            with(condition, text(workspace));
            leads
        }
    };
    match filter.outcome {
        Some(JobOutcome::Applied) => with("+applies > 0", None),
        Some(JobOutcome::Denied) => with("+denials > 0", None),
        Some(JobOutcome::Refused) => with("+refusals > 0", None),
        None => {}
    }
    if let Some(version) = version {
        with("+policy_hash = ?", Some(Value::Blob(bytes(version))));
    }
    if let Some(other) = filter.phase.filter(|phase| *phase != JobPhase::Open) {
        with("+phase = ?", phase(other));
    }
    let key = if by_runs { "runs.job" } else { "jobs.job" };
    // The list's order is that of opening, but for clocks that were set back: a time range is a
    // part of it, of which not all need be within the range.
    if let Some(since) = filter.since {
        let begin = format!(
            "jobs.opened_at >= ? AND {key} >=
             (SELECT min(job) FROM jobs {by_opening} WHERE opened_at >= ?)"
        );
        with(&begin, Some(Value::Integer(since.millis())));
    }
    if let Some(until) = filter.until {
        let end = format!(
            "jobs.opened_at < ? AND {key} <=
             (SELECT max(job) FROM jobs {by_opening} WHERE opened_at < ?)"
        );
        with(&end, Some(Value::Integer(until.millis())));
    }
    if let Some(before) = &filter.before {
        let earlier = format!("{key} < (SELECT job FROM jobs WHERE job_id = ?)");
        with(&earlier, text(before.as_str()));
    }
    if conditions.is_empty() {
        conditions.push("TRUE".to_owned());
    }
    let (tables, group) = match by_runs {
        true => ("runs CROSS JOIN jobs USING (job)", "GROUP BY runs.job"),
        false => ("jobs", ""),
    };
    let sql = format!(
        "SELECT jobs.* FROM {tables} WHERE {} {group} ORDER BY {key} DESC LIMIT {}",
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
    let confinement = column::json_opt(&open.confinement)?;
    column::change(
        connection,
        "INSERT INTO jobs (job, job_id, agent_did, name, policy_hash, gateway_did, opened_by,
                           opened_by_email, opened_at, last_at, confinement, lease_seconds)
         VALUES ((SELECT coalesce(max(job), 0) + 1 FROM jobs), ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8,
                 ?9, ?10)",
        params![
            job_id.as_str(),
            open.agent_did.as_str(),
            open.name,
            bytes(&open.policy_hash_b64u),
            open.gateway_did.as_str(),
            open.opened_by,
            open.opened_by_email,
            at.millis(),
            confinement,
            open.lease_seconds.map(i64::from),
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
    // Not before a token's issue, by the clock of whichever gateway.
    let issued = column::one(
        connection,
        "SELECT max(issued_at) AS last FROM tokens WHERE job = ?1",
        [key(connection, job_id)?],
        |row| row.time_opt("last"),
    )?;
    let at = issued.flatten().map_or(at, |issued| at.max(issued));
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
    connection.announce()?;
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
        egress: None,
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
        |row| row.int("job"),
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
        confinement: row.json_opt("confinement")?,
        lease_seconds: row
            .int_opt("lease_seconds")?
            .map(|seconds| u32::try_from(seconds).map_err(|_| column::damaged("lease_seconds")))
            .transpose()?,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::plans::{assert_plan, leads};

    /// Every field alone and in pairs, on any page.
    #[test]
    fn every_list_of_jobs_is_led_by_an_index() {
        let version = Hash::of(b"contract");
        type Narrow = fn(&mut JobFilter);
        // What leads, in the order of the query, and the condition.
        let fields: [(&str, bool, Narrow); 9] = [
            ("jobs_of_agent", false, |f| {
                f.agent = Some(proof::SigningKey::from_seed(&[1; 32]).did());
            }),
            ("jobs_by_phase", false, |f| f.phase = Some(JobPhase::Open)),
            ("runs_of_workspace", false, |f| {
                f.workspace = Some("ws-1".into())
            }),
            ("jobs_applied", false, |f| {
                f.outcome = Some(JobOutcome::Applied)
            }),
            ("jobs_denied", false, |f| {
                f.outcome = Some(JobOutcome::Denied)
            }),
            ("jobs_refused", false, |f| {
                f.outcome = Some(JobOutcome::Refused)
            }),
            ("jobs_of_contract", true, |_| {}),
            ("jobs_by_phase", false, |f| f.phase = Some(JobPhase::Sealed)),
            ("INTEGER PRIMARY KEY", false, |f| {
                f.since = Some(Timestamp::from_millis(7));
                f.until = Some(Timestamp::from_millis(9));
            }),
        ];
        for (place, (leader, of_contract, narrow)) in fields.iter().enumerate() {
            for (_, with_contract, second) in &fields[place..] {
                for before in [None, Some("job_1".parse().unwrap())] {
                    let mut filter = JobFilter {
                        before,
                        ..JobFilter::default()
                    };
                    // The one that leads stands where two fill the same field.
                    second(&mut filter);
                    narrow(&mut filter);
                    let version = (*of_contract || *with_contract).then_some(&version);
                    let (sql, values) = listing(Dialect::Sqlite, &filter, version);
                    assert_plan(&sql, &values, &[]);
                    let first = leads(&sql, &values);
                    assert!(first.contains(leader), "{sql}\n{first}");
                }
            }
        }
        let filter = JobFilter::default();
        let (sql, values) = listing(Dialect::Sqlite, &filter, None);
        assert_plan(&sql, &values, &["jobs"]);
    }
}
