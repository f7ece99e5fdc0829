//! Receipts in SQL; [`super::ends`] writes them.
//!
//! A receipt is found by its id without an index of ids, which would cost every call a page: an id
//! begins with the time at which its call began, the log is searched by halves for that time, and
//! the outcome stands shortly after it.

use async_trait::async_trait;
use proof::record::JobId;
use proof::{Envelope, Timestamp};

use super::column::{self, Columns as _};
use super::connection::{Connection, Dialect, Row, params};
use super::{Database, exports};
use crate::{Conflict, ReceiptKind, Receipts, ReceiptsOfJob, StoreError};

/// Receipts in one answer.
const PAGE: u32 = 1000;

/// How much later than its beginning a call may end: longer than any stream is held.
const LONGEST_CALL_SECONDS: i64 = 2 * 3600;

#[async_trait]
impl Receipts for Database {
    async fn receipt(
        &self,
        job_id: &JobId,
        receipt_id: &str,
    ) -> Result<Option<Envelope>, StoreError> {
        let (job_id, receipt_id) = (job_id.clone(), receipt_id.to_owned());
        self.read(move |connection| {
            let found = column::one(
                connection,
                "SELECT job_id, envelope FROM receipts JOIN jobs USING (job)
                 WHERE job_id = ?1 AND receipt_id = ?2",
                params![job_id.as_str(), receipt_id],
                of_job,
            )?;
            Ok(found.map(|(_, envelope)| envelope))
        })
        .await
    }

    async fn find_receipt(
        &self,
        receipt_id: &str,
    ) -> Result<Option<(JobId, Envelope)>, StoreError> {
        let receipt_id = receipt_id.to_owned();
        self.read(move |connection| {
            let Some(outcome) = outcome_of(connection, &receipt_id)? else {
                return Ok(None);
            };
            column::one(
                connection,
                "SELECT job_id, envelope FROM receipts JOIN jobs USING (job) WHERE outcome = ?1",
                [outcome],
                of_job,
            )
        })
        .await
    }

    async fn outcome_of_receipt(&self, receipt_id: &str) -> Result<Option<u64>, StoreError> {
        let receipt_id = receipt_id.to_owned();
        self.read(move |connection| {
            let outcome = outcome_of(connection, &receipt_id)?;
            Ok(outcome.map(i64::unsigned_abs))
        })
        .await
    }

    async fn receipts_after(
        &self,
        job_id: &JobId,
        kind: ReceiptKind,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Vec<(u64, Envelope)>, StoreError> {
        let job_id = job_id.clone();
        let kind = match kind {
            ReceiptKind::Gateway => "gateway",
            ReceiptKind::Tool => "tool",
        };
        let after = after.map_or(Ok(-1), column::integer)?;
        self.read(move |connection| {
            // By way of the job's records, whose order is that of the log: receipts have no index
            // in which a job's stand in it.
            column::all(
                connection,
                "SELECT outcome, job_id, envelope
                 FROM jobs CROSS JOIN records ON records.job = jobs.job
                     CROSS JOIN receipts ON receipts.outcome = records.leaf_index
                 WHERE job_id = ?1 AND receipts.kind = ?2
                   AND seq > coalesce((SELECT seq FROM records AS at
                       WHERE at.leaf_index = ?3 AND at.job = jobs.job), 0)
                 ORDER BY seq LIMIT ?4",
                params![job_id.as_str(), kind, after, limit.min(PAGE)],
                |row| Ok((row.uint("outcome")?, of_job(row)?.1)),
            )
        })
        .await
    }

    async fn receipts_of(&self, outcomes: Vec<u64>) -> Result<Vec<Envelope>, StoreError> {
        self.read(move |connection| {
            let mut receipts = Vec::with_capacity(outcomes.len());
            for outcome in &outcomes {
                let found = column::one(
                    connection,
                    "SELECT job_id, envelope FROM receipts JOIN jobs USING (job)
                     WHERE outcome = ?1",
                    [column::integer(*outcome)?],
                    of_job,
                )?;
                receipts.extend(found.map(|(_, envelope)| envelope));
            }
            Ok(receipts)
        })
        .await
    }

    async fn receipts(&self, job_id: &JobId) -> Result<ReceiptsOfJob, StoreError> {
        let job_id = job_id.clone();
        self.read(move |connection| {
            let rows = column::all(
                connection,
                "SELECT job_id, kind, envelope FROM receipts JOIN jobs USING (job)
                 WHERE job_id = ?1 ORDER BY outcome",
                [job_id.as_str()],
                |row| Ok((row.text("kind")?, of_job(row)?.1)),
            )?;
            let mut receipts = ReceiptsOfJob::default();
            for (kind, envelope) in rows {
                match kind.as_str() {
                    "gateway" => receipts.gateway.push(envelope),
                    "tool" => receipts.tool.push(envelope),
                    _ => return Err(column::damaged("kind")),
                }
            }
            Ok(receipts)
        })
        .await
    }
}

/// A receipt with its job, unless its content went.
fn of_job(row: &Row<'_>) -> Result<(JobId, Envelope), StoreError> {
    let job_id: JobId = row.parsed("job_id")?;
    if row.blob("envelope")?.is_empty() {
        return Err(Conflict::ContentPruned(job_id).into());
    }
    Ok((job_id, row.envelope("envelope")?))
}

/// Place in the log of the outcome that names a receipt.
fn outcome_of(connection: &Connection, receipt_id: &str) -> Result<Option<i64>, StoreError> {
    let outcome = |row: &Row<'_>| row.int("outcome");
    if connection.dialect() == Dialect::Postgres {
        let sql = "SELECT outcome FROM receipts WHERE receipt_id = ?1";
        return column::one(connection, sql, [receipt_id], outcome);
    }
    if let Some(began) = time_of(receipt_id) {
        let first = exports::place(connection, began)?;
        let within = |end: u64| {
            let (first, end) = (column::integer(first)?, column::integer(end)?);
            column::one(
                connection,
                SOON_AFTER,
                params![receipt_id, first, end],
                outcome,
            )
        };
        // Most calls are short: where the longest would end is not looked for at first.
        if let Some(found) = within(first.saturating_add(NEAR))? {
            return Ok(Some(found));
        }
        let last = exports::place(connection, began.plus_seconds(LONGEST_CALL_SECONDS))?;
        if let Some(found) = within(last.saturating_add(1))? {
            return Ok(Some(found));
        }
    }
    // Of before ids had their time, or while the clock was set.
    column::one(
        connection,
        "SELECT outcome FROM jobs CROSS JOIN receipts ON receipts.job = jobs.job
         WHERE receipt_id = ?1 ORDER BY jobs.job DESC LIMIT 1",
        [receipt_id],
        outcome,
    )
}

/// Records after a receipt's time among which its outcome is looked for first.
const NEAR: u64 = 256;

/// The query for a receipt near its time.
const SOON_AFTER: &str = "SELECT outcome FROM receipts
     WHERE outcome >= ?2 AND outcome < ?3 AND receipt_id = ?1 ORDER BY outcome LIMIT 1";

/// The time in an id: the first 48 bits of its UUID of version 7.
fn time_of(receipt_id: &str) -> Option<Timestamp> {
    let uuid = receipt_id.strip_prefix("rcpt_")?;
    let (first, rest) = uuid.split_once('-')?;
    let (second, rest) = rest.split_once('-')?;
    let shaped = first.len() == 8 && second.len() == 4 && rest.starts_with('7');
    let millis = i64::from_str_radix(&format!("{first}{second}"), 16).ok()?;
    shaped.then(|| Timestamp::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::connection::Value;
    use crate::sqlite::plans::assert_no_scan;

    #[test]
    fn a_receipt_is_looked_for_from_its_time_on() {
        let at = time_of("rcpt_019aa9f2-1c00-7abc-8def-0123456789ab").unwrap();
        assert_eq!(at.millis(), 0x019a_a9f2_1c00);
        for other in [
            "rcpt_1",
            "rcpt_019aa9f2-1c00-4abc-8def-0123456789ab",
            "rcpt_019aa9f-21c00-7abc-8def-0123456789ab",
            "019aa9f2-1c00-7abc-8def-0123456789ab",
        ] {
            assert_eq!(time_of(other), None, "{other}");
        }
        let values = [Value::Text("rcpt_1"), Value::Integer(3), Value::Integer(9)];
        assert_no_scan(SOON_AFTER, &values);
    }
}
