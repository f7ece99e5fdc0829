//! Keys of model calls in SQL.

use async_trait::async_trait;
use proof::record::JobId;
use proof::{Hash, Timestamp};

use super::column::{self, Columns as _};
use super::connection::{Connection, params};
use super::{Database, jobs};
use crate::{KeyClaim, ModelKeys, StoreError};

#[async_trait]
impl ModelKeys for Database {
    async fn claim_model_key(
        &self,
        job_id: &JobId,
        key: Hash,
        request: Hash,
        at: Timestamp,
    ) -> Result<KeyClaim, StoreError> {
        let job_id = job_id.clone();
        self.write(move |connection| claim(connection, &job_id, &key, &request, at))
            .await
    }

    async fn finish_model_key(
        &self,
        job_id: &JobId,
        key: Hash,
        receipt_id: &str,
    ) -> Result<(), StoreError> {
        let (job_id, receipt_id) = (job_id.clone(), receipt_id.to_owned());
        self.write(move |connection| {
            let job = jobs::key(connection, &job_id)?;
            column::change(
                connection,
                "UPDATE model_keys SET receipt_id = ?3, lost = 0 WHERE job = ?1 AND key = ?2",
                params![job, column::bytes(&key), receipt_id],
            )?;
            Ok(())
        })
        .await
    }

    async fn release_model_key(&self, job_id: &JobId, key: Hash) -> Result<(), StoreError> {
        let job_id = job_id.clone();
        self.write(move |connection| {
            let job = jobs::key(connection, &job_id)?;
            column::change(
                connection,
                "DELETE FROM model_keys WHERE job = ?1 AND key = ?2 AND receipt_id IS NULL",
                params![job, column::bytes(&key)],
            )?;
            Ok(())
        })
        .await
    }
}

fn claim(
    connection: &Connection,
    job_id: &JobId,
    key: &Hash,
    request: &Hash,
    at: Timestamp,
) -> Result<KeyClaim, StoreError> {
    jobs::require_open(connection, job_id)?;
    let job = jobs::key(connection, job_id)?;
    let known = column::one(
        connection,
        "SELECT request, lost, receipt_id FROM model_keys WHERE job = ?1 AND key = ?2",
        params![job, column::bytes(key)],
        |row| {
            Ok((
                row.hash("request")?,
                row.uint("lost")? == 1,
                row.text_opt("receipt_id")?,
            ))
        },
    )?;
    match known {
        Some((other, _, _)) if other != *request => Ok(KeyClaim::Other),
        Some((_, _, Some(receipt_id))) => Ok(KeyClaim::Done { receipt_id }),
        Some((_, true, None)) => Ok(KeyClaim::Lost),
        Some((_, false, None)) => Ok(KeyClaim::InFlight),
        None => {
            column::change(
                connection,
                "INSERT INTO model_keys (job, key, request, at) VALUES (?1, ?2, ?3, ?4)",
                params![job, column::bytes(key), column::bytes(request), at.millis()],
            )?;
            Ok(KeyClaim::New)
        }
    }
}

/// Marks what a crash left open: those calls may have reached the provider.
pub(super) fn lose_leftovers(connection: &Connection) -> Result<(), StoreError> {
    connection.batch("UPDATE model_keys SET lost = 1 WHERE receipt_id IS NULL;")
}
