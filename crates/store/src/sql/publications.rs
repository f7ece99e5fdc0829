//! Links by which outsiders read one sealed job, in SQL.

use async_trait::async_trait;
use proof::{Hash, Timestamp};

use super::column::{self, Columns as _, bytes};
use super::connection::{Connection, Row, params};
use super::{Database, jobs};
use crate::publications::MAX_PUBLICATIONS;
use crate::{Conflict, JobState, Part, Publication, Publications, StoreError};

#[async_trait]
impl Publications for Database {
    async fn publish_job(&self, publication: Publication) -> Result<bool, StoreError> {
        self.write(move |connection| publish(connection, &publication))
            .await
    }

    async fn published(
        &self,
        link_hash: &Hash,
        at: Timestamp,
    ) -> Result<Option<Publication>, StoreError> {
        let link_hash = *link_hash;
        self.read(move |connection| {
            column::one(
                connection,
                "SELECT publications.*, job_id FROM publications JOIN jobs USING (job)
                 WHERE link_hash = ?1 AND withdrawn_at IS NULL AND expires_at > ?2",
                params![bytes(&link_hash), at.millis()],
                publication_row,
            )
        })
        .await
    }

    async fn publications(&self, limit: u32) -> Result<Vec<Publication>, StoreError> {
        self.read(move |connection| {
            column::all(
                connection,
                "SELECT publications.*, job_id FROM publications JOIN jobs USING (job)
                 ORDER BY publication DESC LIMIT ?1",
                [limit],
                publication_row,
            )
        })
        .await
    }

    async fn withdraw_publication(
        &self,
        id: &str,
        by: &str,
        at: Timestamp,
    ) -> Result<Option<bool>, StoreError> {
        let (id, by) = (id.to_owned(), by.to_owned());
        self.write(move |connection| {
            let withdrawn = column::change(
                connection,
                "UPDATE publications SET withdrawn_by = ?2, withdrawn_at = ?3
                 WHERE id = ?1 AND withdrawn_at IS NULL",
                params![id, by, at.millis()],
            )?;
            let known = column::one(
                connection,
                "SELECT 1 AS known FROM publications WHERE id = ?1",
                [id.clone()],
                |row| row.uint("known"),
            )?;
            Ok(known.map(|_| withdrawn > 0))
        })
        .await
    }
}

fn publish(connection: &Connection, publication: &Publication) -> Result<bool, StoreError> {
    match jobs::require(connection, &publication.job_id)?.state {
        JobState::Sealed { .. } => {}
        JobState::Open | JobState::Closed(_) => {
            return Err(Conflict::JobOpen(publication.job_id.clone()).into());
        }
    }
    let job = jobs::key(connection, &publication.job_id)?;
    let pruned = column::one(
        connection,
        "SELECT 1 AS one FROM prunings WHERE job = ?1 AND part = ?2",
        params![job, Part::Bundle.as_str()],
        |row| row.int("one"),
    )?;
    if pruned.is_some() {
        return Err(Conflict::ContentPruned(publication.job_id.clone()).into());
    }
    let good = column::one(
        connection,
        "SELECT count(*) AS good FROM publications
         WHERE job = ?1 AND withdrawn_at IS NULL AND expires_at > ?2",
        params![job, publication.published_at.millis()],
        |row| row.uint("good"),
    )?;
    if good.unwrap_or_default() >= u64::from(MAX_PUBLICATIONS) {
        return Ok(false);
    }
    column::change(
        connection,
        "INSERT INTO publications (publication, id, link_hash, job, published_by, published_at, expires_at)
         VALUES ((SELECT coalesce(max(publication), 0) + 1 FROM publications), ?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            publication.id,
            bytes(&publication.link_hash),
            job,
            publication.published_by,
            publication.published_at.millis(),
            publication.expires_at.millis(),
        ],
    )?;
    Ok(true)
}

fn publication_row(row: &Row<'_>) -> Result<Publication, StoreError> {
    let at = row.time_opt("withdrawn_at")?;
    let by = row.text_opt("withdrawn_by")?;
    Ok(Publication {
        id: row.text("id")?,
        link_hash: row.hash("link_hash")?,
        job_id: row.parsed("job_id")?,
        published_by: row.text("published_by")?,
        published_at: row.time("published_at")?,
        expires_at: row.time("expires_at")?,
        withdrawn: at.zip(by),
    })
}
