//! Observations and baselines in SQL.

use async_trait::async_trait;
use proof::{Json, Timestamp};

use super::Database;
use super::column::{self, Columns as _};
use super::connection::{Connection, Row, params};
use crate::observations::FIRST_LOOK;
use crate::{
    Baseline, Look, Observation, ObservationFilter, ObservationRow, Observations, StoreError,
};

/// Rows in one answer.
const PAGE: u32 = 1000;

#[async_trait]
impl Observations for Database {
    async fn observe(
        &self,
        observations: Vec<Observation>,
    ) -> Result<Vec<ObservationRow>, StoreError> {
        self.write(move |connection| add(connection, observations.clone()))
            .await
    }

    async fn observed(
        &self,
        workspace_id: &str,
        kind: &str,
        subject: &str,
    ) -> Result<bool, StoreError> {
        let (workspace_id, kind, subject) =
            (workspace_id.to_owned(), kind.to_owned(), subject.to_owned());
        self.read(move |connection| {
            let found = column::one(
                connection,
                "SELECT id FROM observations
                 WHERE workspace_id = ?1 AND kind = ?2 AND subject = ?3 AND once = 1",
                params![workspace_id, kind, subject],
                |row| row.uint("id"),
            )?;
            Ok(found.is_some())
        })
        .await
    }

    async fn observations(
        &self,
        filter: ObservationFilter,
    ) -> Result<Vec<ObservationRow>, StoreError> {
        self.read(move |connection| {
            let before = filter.before.map(column::integer).transpose()?;
            column::all(
                connection,
                "SELECT * FROM observations
                 WHERE (CAST(?1 AS TEXT) IS NULL OR workspace_id = ?1)
                   AND (CAST(?2 AS BIGINT) IS NULL OR at >= ?2)
                   AND (CAST(?3 AS BIGINT) IS NULL OR id < ?3)
                 ORDER BY id DESC LIMIT ?4",
                params![
                    filter.workspace_id,
                    column::millis_opt(&filter.since),
                    before,
                    filter.limit.min(PAGE),
                ],
                observation_row,
            )
        })
        .await
    }

    async fn note_look(&self, look: Look) -> Result<Option<Vec<ObservationRow>>, StoreError> {
        self.write(move |connection| {
            let known = baseline(connection, &look.workspace_id)?;
            if known.as_ref().map(|known| &known.seen) != look.before.as_ref() {
                return Ok(None);
            }
            let seen = column::json(&look.seen)?;
            let at = look.at.millis();
            column::change(
                connection,
                "INSERT INTO baselines
                     (workspace_id, since, accepted, accepted_at, accepted_by, seen, seen_at)
                 VALUES (?1, ?2, ?3, ?2, ?4, ?3, ?2)
                 ON CONFLICT (workspace_id) DO UPDATE SET seen = ?3, seen_at = ?2",
                params![look.workspace_id, at, seen, FIRST_LOOK],
            )?;
            add(connection, look.observations.clone()).map(Some)
        })
        .await
    }

    async fn baseline(&self, workspace_id: &str) -> Result<Option<Baseline>, StoreError> {
        let workspace_id = workspace_id.to_owned();
        self.read(move |connection| baseline(connection, &workspace_id))
            .await
    }

    async fn baselines(&self) -> Result<Vec<Baseline>, StoreError> {
        self.read(|connection| {
            column::all(
                connection,
                "SELECT * FROM baselines ORDER BY workspace_id LIMIT ?1",
                [PAGE],
                baseline_row,
            )
        })
        .await
    }

    async fn accept_settings(
        &self,
        workspace_id: &str,
        seen: &Json,
        by: &str,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let (workspace_id, seen, by) = (workspace_id.to_owned(), seen.clone(), by.to_owned());
        self.write(move |connection| {
            let known = baseline(connection, &workspace_id)?;
            // The order of members says nothing.
            if known.is_none_or(|known| known.seen.to_jcs() != seen.to_jcs()) {
                return Ok(false);
            }
            let changed = column::change(
                connection,
                "UPDATE baselines SET accepted = seen, accepted_at = ?2, accepted_by = ?3
                 WHERE workspace_id = ?1",
                params![workspace_id, at.millis(), by],
            )?;
            Ok(changed == 1)
        })
        .await
    }
}

fn add(
    connection: &Connection,
    observations: Vec<Observation>,
) -> Result<Vec<ObservationRow>, StoreError> {
    let mut added = Vec::new();
    for observation in observations {
        let id = column::one(
            connection,
            "INSERT INTO observations (id, at, workspace_id, kind, subject, detail, source, once)
             VALUES ((SELECT coalesce(max(id), 0) + 1 FROM observations), ?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING RETURNING id",
            params![
                observation.at.millis(),
                observation.workspace_id,
                observation.kind,
                observation.subject,
                column::json(&observation.detail)?,
                observation.source,
                observation.once,
            ],
            |row| row.uint("id"),
        )?;
        if let Some(id) = id {
            added.push(ObservationRow { id, observation });
        }
    }
    Ok(added)
}

fn baseline(connection: &Connection, workspace_id: &str) -> Result<Option<Baseline>, StoreError> {
    column::one(
        connection,
        "SELECT * FROM baselines WHERE workspace_id = ?1",
        [workspace_id],
        baseline_row,
    )
}

fn observation_row(row: &Row<'_>) -> Result<ObservationRow, StoreError> {
    Ok(ObservationRow {
        id: row.uint("id")?,
        observation: Observation {
            at: row.time("at")?,
            workspace_id: row.text("workspace_id")?,
            kind: row.text("kind")?,
            subject: row.text("subject")?,
            detail: row.json("detail")?,
            source: row.text("source")?,
            once: row.flag("once")?,
        },
    })
}

fn baseline_row(row: &Row<'_>) -> Result<Baseline, StoreError> {
    Ok(Baseline {
        workspace_id: row.text("workspace_id")?,
        since: row.time("since")?,
        accepted: row.json("accepted")?,
        accepted_at: row.time("accepted_at")?,
        accepted_by: row.text("accepted_by")?,
        seen: row.json("seen")?,
        seen_at: row.time("seen_at")?,
    })
}
