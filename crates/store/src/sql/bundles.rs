//! Sealed bundles in SQL.

use async_trait::async_trait;
use proof::record::JobId;

use super::column::{self, Columns as _, bytes};
use super::connection::{Connection, Row, params};
use super::{Database, jobs};
use crate::{BundleRow, Bundles, Conflict, JobState, StoreError};

#[async_trait]
impl Bundles for Database {
    async fn save_bundle(
        &self,
        bundle: BundleRow,
        state_versions: Vec<String>,
    ) -> Result<(), StoreError> {
        self.write(move |connection| save(connection, &bundle, &state_versions))
            .await
    }

    async fn bundle(&self, job_id: &JobId) -> Result<Option<BundleRow>, StoreError> {
        let job_id = job_id.clone();
        self.read(move |connection| {
            column::one(
                connection,
                "SELECT bundles.*, job_id FROM bundles JOIN jobs USING (job) WHERE job_id = ?1",
                [job_id.as_str()],
                bundle_row,
            )
        })
        .await
    }

    async fn bundle_by_state_version(
        &self,
        state_version_id: &str,
    ) -> Result<Option<BundleRow>, StoreError> {
        let state_version_id = state_version_id.to_owned();
        self.read(move |connection| {
            column::one(
                connection,
                "SELECT bundles.*, job_id
                 FROM bundle_states JOIN bundles USING (job) JOIN jobs USING (job)
                 WHERE state_version_id = ?1",
                [state_version_id],
                bundle_row,
            )
        })
        .await
    }
}

fn save(
    connection: &Connection,
    bundle: &BundleRow,
    state_versions: &[String],
) -> Result<(), StoreError> {
    match jobs::require(connection, &bundle.job_id)?.state {
        JobState::Open => return Err(Conflict::JobOpen(bundle.job_id.clone()).into()),
        JobState::Closed(_) => {}
        JobState::Sealed { bundle: sealed, .. } if sealed == bundle.sha256 => return Ok(()),
        JobState::Sealed { .. } => return Err(Conflict::JobSealed(bundle.job_id.clone()).into()),
    }
    let job = jobs::key(connection, &bundle.job_id)?;
    column::change(
        connection,
        "INSERT INTO bundles (job, sha256, bytes, sealed_at, verdict) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![
            job,
            bytes(&bundle.sha256),
            column::integer(bundle.bytes)?,
            bundle.sealed_at.millis(),
            bundle.verdict,
        ],
    )?;
    for state_version in state_versions {
        // A state version is made by one apply; whoever named it first keeps it.
        column::change(
            connection,
            "INSERT INTO bundle_states (state_version_id, job) VALUES (?1, ?2)
             ON CONFLICT DO NOTHING",
            params![state_version, job],
        )?;
    }
    column::change(
        connection,
        "UPDATE jobs SET phase = 'sealed', bundle = ?2 WHERE job = ?1",
        params![job, bytes(&bundle.sha256)],
    )?;
    Ok(())
}

fn bundle_row(row: &Row<'_>) -> Result<BundleRow, StoreError> {
    Ok(BundleRow {
        job_id: row.parsed("job_id")?,
        sha256: row.hash("sha256")?,
        bytes: row.uint("bytes")?,
        sealed_at: row.time("sealed_at")?,
        verdict: row.text_opt("verdict")?,
    })
}
