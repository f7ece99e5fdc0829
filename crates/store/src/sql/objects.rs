//! The id index in SQL.

use async_trait::async_trait;

use super::column::{self, Columns as _};
use super::connection::{Connection, Row, params};
use super::{Database, jobs};
use crate::{Conflict, ObjectRow, Objects, StoreError};

#[async_trait]
impl Objects for Database {
    async fn learn(&self, objects: Vec<ObjectRow>) -> Result<(), StoreError> {
        self.write(move |connection| {
            objects
                .iter()
                .try_for_each(|object| learn(connection, object))
        })
        .await
    }

    async fn object(&self, kind: &str, id: &str) -> Result<Option<ObjectRow>, StoreError> {
        let (kind, id) = (kind.to_owned(), id.to_owned());
        self.read(move |connection| find(connection, &kind, &id))
            .await
    }
}

/// Learns one object; writes nothing when it refuses.
pub(super) fn learn(connection: &Connection, object: &ObjectRow) -> Result<(), StoreError> {
    if let Some(known) = find(connection, &object.kind, &object.id)? {
        let other_owner = match (&known.job_id, &object.job_id) {
            (Some(known), Some(new)) => known != new,
            _ => false,
        };
        if known.workspace_id != object.workspace_id || other_owner {
            return Err(Conflict::ObjectElsewhere {
                kind: object.kind.clone(),
                id: object.id.clone(),
            }
            .into());
        }
    }
    let job = match &object.job_id {
        None => None,
        Some(job_id) => Some(jobs::key(connection, job_id)?),
    };
    column::change(
        connection,
        "INSERT INTO objects (kind, id, workspace_id, organization, job, run_id, parent)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (kind, id) DO UPDATE SET
             organization = coalesce(objects.organization, excluded.organization),
             job = coalesce(objects.job, excluded.job),
             run_id = coalesce(objects.run_id, excluded.run_id),
             parent = coalesce(objects.parent, excluded.parent)
         -- Most answers teach nothing new: then no page is written.
         WHERE (objects.organization IS NULL AND excluded.organization IS NOT NULL)
            OR (objects.job IS NULL AND excluded.job IS NOT NULL)
            OR (objects.run_id IS NULL AND excluded.run_id IS NOT NULL)
            OR (objects.parent IS NULL AND excluded.parent IS NOT NULL)",
        params![
            object.kind,
            object.id,
            object.workspace_id,
            object.organization,
            job,
            object.run_id,
            object.parent,
        ],
    )?;
    Ok(())
}

fn find(connection: &Connection, kind: &str, id: &str) -> Result<Option<ObjectRow>, StoreError> {
    column::one(
        connection,
        "SELECT objects.*, job_id FROM objects LEFT JOIN jobs USING (job)
         WHERE kind = ?1 AND id = ?2",
        params![kind, id],
        object_row,
    )
}

fn object_row(row: &Row<'_>) -> Result<ObjectRow, StoreError> {
    let job_id = row.text_opt("job_id")?.map(|id| id.parse()).transpose();
    Ok(ObjectRow {
        kind: row.text("kind")?,
        id: row.text("id")?,
        workspace_id: row.text("workspace_id")?,
        organization: row.text_opt("organization")?,
        job_id: job_id.map_err(|_| column::damaged("job_id"))?,
        run_id: row.text_opt("run_id")?,
        parent: row.text_opt("parent")?,
    })
}
