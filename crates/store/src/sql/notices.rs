//! What people were told, in SQL.

use async_trait::async_trait;
use proof::Timestamp;

use super::column::{self, Columns as _};
use super::connection::{Connection, Row, params};
use super::{Database, runs};
use crate::{
    Conflict, DueNotice, GateState, News, NewsQuery, NoticeRow, NoticeState, Notices, StoreError,
    Told,
};

/// Most notices in one answer.
const PAGE: u32 = 100;

/// What is told of a run, whoever is told: not a question that has lapsed, nor that a plan was
/// thrown away without a reason or by its own agent, which could do so without end.
fn worth_telling(gates: &[GateState]) -> String {
    let names: Vec<String> = gates
        .iter()
        .map(|gate| format!("'{}'", gate.as_str()))
        .collect();
    // None of no states: an empty list is no SQL.
    let names = if names.is_empty() {
        "NULL".to_owned()
    } else {
        names.join(", ")
    };
    format!(
        "runs.gate IN ({names})
         AND (runs.gate <> 'awaiting_approval' OR runs.approval_expires_at > ?2)
         AND (runs.gate <> 'discarded' OR runs.gate_reason NOT LIKE '% by the agent')"
    )
}

#[async_trait]
impl Notices for Database {
    async fn news(&self, query: NewsQuery) -> Result<News, StoreError> {
        self.read(move |connection| news(connection, &query)).await
    }

    async fn told(
        &self,
        channel: &str,
        run_id: &str,
        gate: GateState,
        at: Timestamp,
        told: Told,
    ) -> Result<(), StoreError> {
        let (channel, run_id) = (channel.to_owned(), run_id.to_owned());
        self.write(move |connection| keep(connection, &channel, &run_id, gate, at, told.clone()))
            .await
    }

    async fn notices(&self, channel: &str, limit: u32) -> Result<Vec<NoticeRow>, StoreError> {
        let channel = channel.to_owned();
        self.read(move |connection| {
            column::all(
                connection,
                "SELECT notices.*, runs.run_id, runs.gate = notices.gate AS stands
                 FROM notices JOIN runs ON runs.id = notices.run
                 WHERE channel = ?1 ORDER BY last_at DESC, runs.id DESC LIMIT ?2",
                params![channel, limit.min(PAGE)],
                row,
            )
        })
        .await
    }

    async fn given_up(&self, channel: &str, since: Timestamp) -> Result<u64, StoreError> {
        let channel = channel.to_owned();
        self.read(move |connection| {
            let count = column::one(
                connection,
                "SELECT count(*) AS count FROM notices
                 WHERE channel = ?1 AND last_at >= ?2 AND gave_up_at IS NOT NULL",
                params![channel, since.millis()],
                |row| row.uint("count"),
            )?;
            Ok(count.unwrap_or(0))
        })
        .await
    }
}

fn news(connection: &Connection, query: &NewsQuery) -> Result<News, StoreError> {
    let worth_telling = worth_telling(&query.gates);
    let limit = query.limit.min(PAGE);
    let now = query.now.millis();
    // What was tried before has half of the places, or what is new could keep it waiting for ever.
    let again = column::all(
        connection,
        &format!(
            "SELECT runs.*, job_id, attempts, first_at
             FROM notices JOIN runs ON runs.id = run AND runs.gate = notices.gate
                          JOIN jobs USING (job)
             WHERE channel = ?1 AND next_at <= ?2 AND {worth_telling}
             ORDER BY runs.gate <> 'awaiting_approval', next_at, runs.id LIMIT ?3"
        ),
        params![query.channel, now, limit.div_ceil(2)],
        due_notice,
    )?;
    let room = u64::from(limit).saturating_sub(again.len() as u64);
    let mut due = column::all(
        connection,
        &format!(
            "SELECT runs.*, job_id, 0 AS attempts, NULL AS first_at
             FROM runs JOIN jobs USING (job)
             WHERE apply_wished = 1 AND updated_at >= ?3 AND {worth_telling}
               AND NOT EXISTS (SELECT 1 FROM notices WHERE channel = ?1 AND run = runs.id
                               AND notices.gate = runs.gate)
             ORDER BY runs.gate <> 'awaiting_approval', updated_at, runs.id LIMIT ?4"
        ),
        params![
            query.channel,
            now,
            query.since.millis(),
            column::integer(room)?
        ],
        due_notice,
    )?;
    due.extend(again);
    let next_at = column::one(
        connection,
        &format!(
            "SELECT min(next_at) AS next_at
             FROM notices JOIN runs ON runs.id = run AND runs.gate = notices.gate
             WHERE channel = ?1 AND next_at > ?2 AND {worth_telling}"
        ),
        params![query.channel, now],
        |row| row.time_opt("next_at"),
    )?;
    Ok(News {
        due,
        next_at: next_at.flatten(),
    })
}

fn due_notice(row: &Row<'_>) -> Result<DueNotice, StoreError> {
    Ok(DueNotice {
        run: runs::run_row(row)?,
        attempts: attempts(row)?,
        first_at: row.time_opt("first_at")?,
    })
}

fn attempts(row: &Row<'_>) -> Result<u32, StoreError> {
    u32::try_from(row.uint("attempts")?).map_err(|_| column::damaged("attempts"))
}

fn keep(
    connection: &Connection,
    channel: &str,
    run_id: &str,
    gate: GateState,
    at: Timestamp,
    told: Told,
) -> Result<(), StoreError> {
    let run = column::one(
        connection,
        "SELECT id FROM runs WHERE run_id = ?1",
        [run_id],
        |row| row.uint("id"),
    )?;
    let run = run.ok_or_else(|| Conflict::NoSuchRun(run_id.to_owned()))?;
    let (next_at, sent_at, gave_up_at, error) = match told {
        Told::Sent => (None, Some(at), None, None),
        Told::Failed { error, next_at } => (Some(next_at), None, None, Some(error)),
        Told::GaveUp { error } => (None, None, Some(at), Some(error)),
    };
    column::change(
        connection,
        "INSERT INTO notices (channel, run, gate, attempts, first_at, last_at, next_at, sent_at,
                              gave_up_at, error)
         VALUES (?1, ?2, ?3, 1, ?4, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (channel, run, gate) DO UPDATE SET
             attempts = notices.attempts + 1, last_at = excluded.last_at, next_at = excluded.next_at,
             sent_at = excluded.sent_at, gave_up_at = excluded.gave_up_at, error = excluded.error
         WHERE notices.next_at IS NOT NULL",
        params![
            channel,
            column::integer(run)?,
            gate.as_str(),
            at.millis(),
            column::millis_opt(&next_at),
            column::millis_opt(&sent_at),
            column::millis_opt(&gave_up_at),
            error,
        ],
    )?;
    Ok(())
}

fn row(row: &Row<'_>) -> Result<NoticeRow, StoreError> {
    let state = match (row.time_opt("sent_at")?, row.time_opt("next_at")?) {
        (Some(_), _) => NoticeState::Sent,
        (None, None) => NoticeState::GaveUp,
        (None, Some(_)) if !row.flag("stands")? => NoticeState::Overtaken,
        (None, Some(next_at)) => NoticeState::Waiting { next_at },
    };
    Ok(NoticeRow {
        channel: row.text("channel")?,
        run_id: row.text("run_id")?,
        gate: GateState::from_name(&row.text("gate")?).ok_or_else(|| column::damaged("gate"))?,
        attempts: attempts(row)?,
        first_at: row.time("first_at")?,
        last_at: row.time("last_at")?,
        state,
        error: row.text_opt("error")?,
    })
}
