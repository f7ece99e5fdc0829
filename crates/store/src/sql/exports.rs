//! Everything in the order of writing, in SQL.

use async_trait::async_trait;
use proof::Timestamp;
use proof::record::{Body, Record};

use super::column::{self, Columns as _};
use super::connection::{Connection, Value, params};
use super::{Database, log, merkle, operators, retention};
use crate::{Exports, LogEntry, LogRange, Logged, LoggedRecord, NumberedAction, StoreError};

/// Entries in one answer.
const PAGE: u32 = 1000;

#[async_trait]
impl Exports for Database {
    async fn entries(&self, from: u64, count: u32) -> Result<Vec<LogEntry>, StoreError> {
        self.read(move |connection| entries(connection, from, count.min(PAGE)))
            .await
    }

    async fn logged(&self, range: LogRange) -> Result<Vec<Logged>, StoreError> {
        self.read(move |connection| logged(connection, &range))
            .await
    }

    async fn log_place(&self, since: Timestamp) -> Result<u64, StoreError> {
        self.read(move |connection| place(connection, since)).await
    }

    async fn actions_after(
        &self,
        number: u64,
        limit: u32,
    ) -> Result<Vec<NumberedAction>, StoreError> {
        self.read(move |connection| {
            column::all(
                connection,
                "SELECT * FROM operator_actions WHERE id > ?1 ORDER BY id LIMIT ?2",
                params![column::integer(number)?, limit.min(PAGE)],
                |row| {
                    Ok(NumberedAction {
                        number: row.uint("id")?,
                        action: operators::action_row(row)?,
                    })
                },
            )
        })
        .await
    }

    async fn last_action(&self) -> Result<u64, StoreError> {
        self.read(|connection| {
            let last = column::one(
                connection,
                "SELECT coalesce(max(id), 0) AS last FROM operator_actions",
                [],
                |row| row.uint("last"),
            )?;
            Ok(last.unwrap_or_default())
        })
        .await
    }
}

/// Records and key sets of a range, which have tables of their own.
fn entries(connection: &Connection, from: u64, count: u32) -> Result<Vec<LogEntry>, StoreError> {
    let range = [
        Value::Integer(column::integer(from)?),
        Value::Integer(column::integer(from.saturating_add(count.into()))?),
    ];
    let mut entries = column::all(
        connection,
        "SELECT leaf_index, hash, job_id, seq, records.kind, record
         FROM records JOIN leaves USING (leaf_index) JOIN jobs USING (job)
         WHERE leaf_index >= ?1 AND leaf_index < ?2 ORDER BY leaf_index",
        range.as_slice(),
        |row| {
            let entry = row.blob("record")?;
            let (entry, pruned) = match log::is_pruned(&entry) {
                true => (Vec::new(), Some(retention::place(row)?)),
                false => (entry, None),
            };
            Ok(LogEntry {
                leaf_index: row.uint("leaf_index")?,
                leaf_hash: row.hash("hash")?,
                entry,
                pruned,
            })
        },
    )?;
    entries.extend(column::all(
        connection,
        "SELECT leaf_index, hash, entry FROM key_sets JOIN leaves USING (leaf_index)
         WHERE leaf_index >= ?1 AND leaf_index < ?2 ORDER BY leaf_index",
        range.as_slice(),
        |row| {
            Ok(LogEntry {
                leaf_index: row.uint("leaf_index")?,
                leaf_hash: row.hash("hash")?,
                entry: row.blob("entry")?,
                pruned: None,
            })
        },
    )?);
    entries.sort_unstable_by_key(|entry| entry.leaf_index);
    Ok(entries)
}

/// The query of a page. A job's records are found by its own index, in which their order is that
/// of the log.
pub(crate) fn listing(range: &LogRange) -> Result<(String, Vec<Value<'_>>), StoreError> {
    let mut values = vec![Value::Integer(column::integer(range.from)?)];
    let (of_job, order) = match &range.job {
        None => ("", "leaf_index"),
        Some(job) => {
            values.push(Value::Text(job.as_str()));
            (
                "AND records.job = (SELECT job FROM jobs WHERE job_id = ?2)",
                "seq",
            )
        }
    };
    let sql = format!(
        "SELECT leaf_index, hash, job_id, seq, records.kind, record, jobs.name AS job_name, agent_did, jobs.policy_hash,
             contracts.name AS contract, version
         FROM records CROSS JOIN leaves USING (leaf_index) CROSS JOIN jobs USING (job)
             CROSS JOIN contracts USING (policy_hash)
         WHERE leaf_index >= ?1 {of_job} ORDER BY {order} LIMIT {}",
        range.limit.min(PAGE)
    );
    Ok((sql, values))
}

fn logged(connection: &Connection, range: &LogRange) -> Result<Vec<Logged>, StoreError> {
    let (sql, values) = listing(range)?;
    let mut records = column::all(connection, &sql, values.as_slice(), |row| {
        let log::Content::Record(record) = log::content(row)? else {
            return retention::place(row).map(Logged::Pruned);
        };
        Ok(Logged::Record(Box::new(LoggedRecord {
            leaf_index: row.uint("leaf_index")?,
            leaf_hash: row.hash("hash")?,
            record: *record,
            job_name: row.text("job_name")?,
            agent_did: row.parsed("agent_did")?,
            policy_hash: row.hash("policy_hash")?,
            contract: (row.text("contract")?, row.uint("version")?),
            intent: None,
            place: None,
        })))
    })?;
    for logged in &mut records {
        let Logged::Record(logged) = logged else {
            continue;
        };
        if let Body::Outcome(outcome) = &logged.record.body {
            let intent = record_of(connection, &logged.record, outcome.intent_seq)?;
            let Some(Body::Intent(intent)) = intent.map(|record| record.body) else {
                return Err(column::damaged("record"));
            };
            logged.intent = Some(intent);
        }
        if let Some(run_id) = run_id(logged) {
            logged.place = column::one(
                connection,
                "SELECT organization, workspace_id FROM runs WHERE run_id = ?1",
                [run_id],
                |row| Ok((row.text("organization")?, row.text("workspace_id")?)),
            )?;
        }
    }
    Ok(records)
}

/// The run that a record names, itself or by its intent.
fn run_id(logged: &LoggedRecord) -> Option<&str> {
    match &logged.record.body {
        Body::Intent(intent) => intent.run_id.as_deref(),
        Body::Outcome(_) => logged.intent.as_ref()?.run_id.as_deref(),
        Body::Refusal(refusal) => refusal.run_id.as_deref(),
        Body::Approval(approval) => Some(&approval.run_id),
        Body::JobOpen(_) | Body::Revocation(_) | Body::JobClose(_) => None,
    }
}

fn record_of(
    connection: &Connection,
    beside: &Record,
    seq: u64,
) -> Result<Option<Record>, StoreError> {
    column::one(
        connection,
        "SELECT record FROM records
         WHERE job = (SELECT job FROM jobs WHERE job_id = ?1) AND seq = ?2",
        params![beside.job_id.as_str(), column::integer(seq)?],
        log::record,
    )
}

/// The latest time of any entry up to a place; `None` where it is not kept.
fn latest(connection: &Connection, leaf_index: u64) -> Result<Option<Timestamp>, StoreError> {
    for table in ["records", "key_sets"] {
        let sql = format!("SELECT latest FROM {table} WHERE leaf_index = ?1");
        let row = column::one(connection, &sql, [column::integer(leaf_index)?], |row| {
            row.time_opt("latest")
        })?;
        if let Some(latest) = row {
            return Ok(latest);
        }
    }
    Ok(None)
}

/// The same for the entries before a place, whether it is kept or not.
pub(super) fn latest_before(
    connection: &Connection,
    leaf_index: u64,
) -> Result<Option<Timestamp>, StoreError> {
    let Some(last) = leaf_index.checked_sub(1) else {
        return Ok(None);
    };
    if let Some(latest) = latest(connection, last)? {
        return Ok(Some(latest));
    }
    // Once, when records from before this was kept are the last ones.
    let of_jobs = column::one(
        connection,
        "SELECT max(last_at) AS latest FROM jobs",
        [],
        |row| row.time_opt("latest"),
    )?;
    Ok(of_jobs.flatten())
}

/// A place before which every record is older; see [`Exports::log_place`].
pub(super) fn place(connection: &Connection, since: Timestamp) -> Result<u64, StoreError> {
    let (mut low, mut high) = (0, merkle::size(connection)?);
    // INVARIANT: before `low` all is older; `high` is the end, or a record up to which not all is.
    while low < high {
        let middle = low + (high - low) / 2;
        match latest(connection, middle)? {
            Some(latest) if latest >= since => high = middle,
            _ => low = middle + 1,
        }
    }
    match low.checked_sub(1) {
        // Whether those that have no time noted are older is not known.
        Some(before) if latest(connection, before)?.is_none() => Ok(0),
        _ => Ok(low),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::plans::assert_no_scan;

    #[test]
    fn no_page_reads_what_it_does_not_show() {
        for job in [None, Some("job_1".parse().unwrap())] {
            let range = LogRange {
                from: 5,
                job,
                limit: 10,
            };
            let (sql, values) = listing(&range).unwrap();
            assert_no_scan(&sql, &values);
        }
    }
}
