//! Receipts in SQL; [`super::ends`] writes them.

use async_trait::async_trait;
use proof::Envelope;
use proof::record::JobId;

use super::Database;
use super::column::{self, Columns as _};
use super::connection::params;
use crate::{Receipts, ReceiptsOfJob, StoreError};

#[async_trait]
impl Receipts for Database {
    async fn receipt(
        &self,
        job_id: &JobId,
        receipt_id: &str,
    ) -> Result<Option<Envelope>, StoreError> {
        let (job_id, receipt_id) = (job_id.clone(), receipt_id.to_owned());
        self.read(move |connection| {
            column::one(
                connection,
                "SELECT envelope FROM receipts JOIN jobs USING (job)
                 WHERE job_id = ?1 AND receipt_id = ?2",
                params![job_id.as_str(), receipt_id],
                |row| row.envelope("envelope"),
            )
        })
        .await
    }

    async fn find_receipt(
        &self,
        receipt_id: &str,
    ) -> Result<Option<(JobId, Envelope)>, StoreError> {
        let receipt_id = receipt_id.to_owned();
        self.read(move |connection| {
            column::one(
                connection,
                // By way of the jobs, because the index of receipts begins with the job.
                "SELECT job_id, envelope FROM jobs CROSS JOIN receipts ON receipts.job = jobs.job
                 WHERE receipt_id = ?1 ORDER BY jobs.job DESC LIMIT 1",
                params![receipt_id],
                |row| Ok((row.parsed("job_id")?, row.envelope("envelope")?)),
            )
        })
        .await
    }

    async fn receipts(&self, job_id: &JobId) -> Result<ReceiptsOfJob, StoreError> {
        let job_id = job_id.clone();
        self.read(move |connection| {
            let rows = column::all(
                connection,
                "SELECT kind, envelope FROM receipts JOIN jobs USING (job)
                 WHERE job_id = ?1 ORDER BY outcome",
                [job_id.as_str()],
                |row| Ok((row.text("kind")?, row.envelope("envelope")?)),
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
