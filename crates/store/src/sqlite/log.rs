//! Records in SQLite, and the one function that appends them.

use async_trait::async_trait;
use proof::approval::Decision;
use proof::record::{Body, EventChain, JobId, Lane, Outcome, Record};
use proof::{Envelope, EnvelopeType, Hash, Json, Numbers, Timestamp, json};
use rusqlite::{Connection, Row, params};

use super::column::{self, Columns as _};
use super::{Sqlite, merkle, objects};
use crate::{
    Appended, CheckpointRow, Conflict, Log, ObjectRow, OpenIntent, Pending, StoreError,
    StoredRecord,
};

/// Records in one page.
const PAGE: u32 = 1000;

/// Open intents in one answer.
const OPEN_INTENTS: u32 = 10_000;

#[async_trait]
impl Log for Sqlite {
    fn append(&self, job_id: &JobId, at: Timestamp, body: Body) -> Pending {
        if !matches!(body, Body::Intent(_) | Body::Refusal(_)) {
            return Pending::refused(Conflict::OwnOperation.into());
        }
        let job_id = job_id.clone();
        self.queue(move |connection| append(connection, &job_id, at, body))
    }

    fn append_outcome(
        &self,
        job_id: &JobId,
        at: Timestamp,
        outcome: Outcome,
        receipt: Option<Envelope>,
        learned: Vec<ObjectRow>,
    ) -> Pending {
        let job_id = job_id.clone();
        self.queue(move |connection| {
            append_outcome(connection, &job_id, at, outcome, receipt, &learned)
        })
    }

    async fn records(
        &self,
        job_id: &JobId,
        after: u64,
        limit: u32,
    ) -> Result<Vec<StoredRecord>, StoreError> {
        let job_id = job_id.clone();
        self.read(move |connection| {
            column::all(
                connection,
                "SELECT leaf_index, record FROM records JOIN jobs USING (job)
                 WHERE job_id = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
                params![job_id.as_str(), column::integer(after)?, limit.min(PAGE)],
                |row| {
                    Ok(StoredRecord {
                        leaf_index: row.uint("leaf_index")?,
                        record: record(row)?,
                    })
                },
            )
        })
        .await
    }

    async fn record_bytes(&self, job_id: &JobId) -> Result<u64, StoreError> {
        let job_id = job_id.clone();
        self.read(move |connection| {
            let bytes = column::one(
                connection,
                "SELECT coalesce(sum(length(record)), 0) AS bytes
                 FROM records JOIN jobs USING (job) WHERE job_id = ?1",
                [job_id.as_str()],
                |row| row.uint("bytes"),
            )?;
            Ok(bytes.unwrap_or_default())
        })
        .await
    }

    async fn open_intents(&self) -> Result<Vec<OpenIntent>, StoreError> {
        self.read(|connection| {
            column::all(
                connection,
                "SELECT record FROM open_intents JOIN records USING (leaf_index)
                 ORDER BY leaf_index LIMIT ?1",
                [OPEN_INTENTS],
                |row| {
                    let record = record(row)?;
                    match record.body {
                        Body::Intent(intent) => Ok(OpenIntent {
                            job_id: record.job_id,
                            seq: record.seq,
                            at: record.at,
                            intent: *intent,
                        }),
                        _ => Err(column::damaged("record")),
                    }
                },
            )
        })
        .await
    }

    async fn log_size(&self) -> Result<u64, StoreError> {
        self.read(merkle::size).await
    }

    async fn log_root(&self, size: u64) -> Result<Option<Hash>, StoreError> {
        self.read(move |connection| merkle::root(connection, size))
            .await
    }

    async fn inclusion(&self, leaf_index: u64, size: u64) -> Result<Option<Vec<Hash>>, StoreError> {
        let paths = self.inclusions(vec![leaf_index], size).await?;
        Ok(paths.and_then(|mut paths| paths.pop()))
    }

    async fn inclusions(
        &self,
        leaf_indexes: Vec<u64>,
        size: u64,
    ) -> Result<Option<Vec<Vec<Hash>>>, StoreError> {
        self.read(move |connection| merkle::inclusions(connection, &leaf_indexes, size))
            .await
    }

    async fn save_checkpoint(&self, note: &str, size: u64) -> Result<(), StoreError> {
        let note = note.to_owned();
        self.write(move |connection| {
            let leaves = merkle::size(connection)?;
            if size > leaves {
                return Err(Conflict::CheckpointBeyondLog(leaves).into());
            }
            column::change(
                connection,
                "INSERT INTO checkpoints (size, note) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
                params![column::integer(size)?, note],
            )?;
            Ok(())
        })
        .await
    }

    async fn latest_checkpoint(&self) -> Result<Option<CheckpointRow>, StoreError> {
        self.read(|connection| {
            column::one(
                connection,
                "SELECT size, note FROM checkpoints ORDER BY size DESC LIMIT 1",
                [],
                |row| {
                    Ok(CheckpointRow {
                        size: row.uint("size")?,
                        note: row.text("note")?,
                    })
                },
            )
        })
        .await
    }
}

impl Sqlite {
    /// Puts an append into the queue before it returns.
    fn queue(
        &self,
        work: impl FnOnce(&Connection) -> Result<Appended, StoreError> + Send + 'static,
    ) -> Pending {
        match self.writer.submit(work) {
            Ok(answer) => Pending::queued(answer),
            Err(error) => Pending::refused(error),
        }
    }
}

/// The end of a job's records, from which the next one follows.
struct End {
    job: i64,
    open: bool,
    seq: u64,
    at: Timestamp,
    chain: EventChain,
}

impl End {
    fn of(connection: &Connection, job_id: &JobId) -> Result<Self, StoreError> {
        column::one(
            connection,
            "SELECT job, phase = 'open' AS open, last_seq, last_at, chain_count, chain_last
             FROM jobs WHERE job_id = ?1",
            [job_id.as_str()],
            |row| {
                Ok(Self {
                    job: row.get("job")?,
                    open: row.flag("open")?,
                    seq: row.uint("last_seq")?,
                    at: row.time("last_at")?,
                    chain: EventChain {
                        count: row.uint("chain_count")?,
                        last: row.hash_opt("chain_last")?,
                    },
                })
            },
        )?
        .ok_or_else(|| Conflict::NoSuchJob(job_id.clone()).into())
    }
}

/// Appends one record to its job and to the log. Everything that counts records goes through
/// here, in the writer's transaction: a record without its leaf, or a leaf without its record,
/// cannot be.
pub(super) fn append(
    connection: &Connection,
    job_id: &JobId,
    at: Timestamp,
    body: Body,
) -> Result<Appended, StoreError> {
    let mut end = End::of(connection, job_id)?;
    if !end.open {
        return Err(Conflict::JobClosed(job_id.clone()).into());
    }
    let record = Record {
        job_id: job_id.clone(),
        seq: end.seq + 1,
        at: at.max(end.at),
        body,
    };
    let json = record.to_json();
    if has_double(&json) {
        return Err(Conflict::Unrecordable.into());
    }
    let canonical = json.to_jcs();
    let event = end.chain.extend_written(&record, &canonical);
    let leaf_hash = proof::merkle::leaf_hash(&canonical);
    let leaf_index = merkle::size(connection)?;
    column::change(
        connection,
        "INSERT INTO records (leaf_index, job, seq, kind, record) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![
            column::integer(leaf_index)?,
            end.job,
            column::integer(record.seq)?,
            kind(&record.body),
            canonical,
        ],
    )?;
    merkle::add_leaf(connection, leaf_index, &leaf_hash)?;
    let counts = Counts::of(&record.body);
    column::change(
        connection,
        "UPDATE jobs SET last_seq = ?2, last_at = ?3, chain_count = ?4, chain_last = ?5,
             calls = calls + ?6, model_calls = model_calls + ?7, refusals = refusals + ?8,
             approvals = approvals + ?9, denials = denials + ?10,
             open_intents = open_intents + ?11
         WHERE job = ?1",
        params![
            end.job,
            column::integer(record.seq)?,
            record.at.millis(),
            column::integer(end.chain.count)?,
            column::bytes_opt(&end.chain.last),
            counts.calls,
            counts.model_calls,
            counts.refusals,
            counts.approvals,
            counts.denials,
            counts.open_intents,
        ],
    )?;
    if counts.open_intents > 0 {
        column::change(
            connection,
            "INSERT INTO open_intents (leaf_index, job, seq) VALUES (?1, ?2, ?3)",
            params![
                column::integer(leaf_index)?,
                end.job,
                column::integer(record.seq)?
            ],
        )?;
    }
    Ok(Appended {
        seq: record.seq,
        at: record.at,
        leaf_index,
        leaf_hash,
        event,
        not_learned: Vec::new(),
    })
}

/// Appends an outcome, with all that belongs to it.
pub(super) fn append_outcome(
    connection: &Connection,
    job_id: &JobId,
    at: Timestamp,
    outcome: Outcome,
    receipt: Option<Envelope>,
    learned: &[ObjectRow],
) -> Result<Appended, StoreError> {
    let end = End::of(connection, job_id)?;
    if !end.open {
        return Err(Conflict::JobClosed(job_id.clone()).into());
    }
    let intent_seq = outcome.intent_seq;
    close_intent(connection, end.job, intent_seq)?;
    let kind = check_receipt(&outcome, receipt.as_ref())?;
    let mut appended = append(connection, job_id, at, Body::Outcome(Box::new(outcome)))?;
    if let (Some((kind, receipt_id)), Some(envelope)) = (kind, receipt) {
        keep_receipt(
            connection,
            end.job,
            appended.seq,
            kind,
            &receipt_id,
            &envelope,
        )?;
    }
    for object in learned {
        match objects::learn(connection, object) {
            Ok(()) => {}
            Err(StoreError::Conflict(Conflict::ObjectElsewhere { .. })) => {
                appended.not_learned.push(object.clone());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(appended)
}

/// Takes the intent out of the open ones; each has one outcome.
fn close_intent(connection: &Connection, job: i64, seq: u64) -> Result<(), StoreError> {
    // A number that no record can have is no intent, and no damage either.
    let place = i64::try_from(seq).map_err(|_| Conflict::NoSuchIntent(seq))?;
    let closed = column::change(
        connection,
        "DELETE FROM open_intents WHERE job = ?1 AND seq = ?2",
        params![job, place],
    )?;
    if closed == 1 {
        return Ok(());
    }
    let kind = column::one(
        connection,
        "SELECT kind FROM records WHERE job = ?1 AND seq = ?2",
        params![job, place],
        |row| row.text("kind"),
    )?;
    Err(match kind.as_deref() {
        Some("intent") => Conflict::IntentAnswered(seq),
        _ => Conflict::NoSuchIntent(seq),
    }
    .into())
}

/// Kind and id of the receipt, when the outcome names exactly this one.
fn check_receipt(
    outcome: &Outcome,
    receipt: Option<&Envelope>,
) -> Result<Option<(&'static str, String)>, StoreError> {
    match (&outcome.receipt, receipt) {
        (None, None) => Ok(None),
        (Some(named), Some(envelope)) => {
            let kind = match envelope.envelope_type {
                EnvelopeType::GatewayReceipt => "gateway",
                EnvelopeType::ToolReceipt => "tool",
                _ => return Err(Conflict::ReceiptMismatch.into()),
            };
            let id = envelope.payload.get("receipt_id").and_then(Json::as_str);
            if id == Some(named.receipt_id.as_str())
                && envelope.payload_hash_b64u == named.payload_hash_b64u
            {
                Ok(Some((kind, named.receipt_id.clone())))
            } else {
                Err(Conflict::ReceiptMismatch.into())
            }
        }
        _ => Err(Conflict::ReceiptMismatch.into()),
    }
}

fn keep_receipt(
    connection: &Connection,
    job: i64,
    seq: u64,
    kind: &str,
    receipt_id: &str,
    envelope: &Envelope,
) -> Result<(), StoreError> {
    let kept = column::change(
        connection,
        "INSERT INTO receipts (job, seq, receipt_id, kind, envelope) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (job, receipt_id) DO NOTHING",
        params![
            job,
            column::integer(seq)?,
            receipt_id,
            kind,
            column::envelope(envelope)?
        ],
    )?;
    if kept == 1 {
        Ok(())
    } else {
        Err(Conflict::ReceiptMismatch.into())
    }
}

/// Places in the job of the intents that have no outcome.
pub(super) fn open_intents_of(
    connection: &Connection,
    job_id: &JobId,
) -> Result<Vec<u64>, StoreError> {
    column::all(
        connection,
        "SELECT seq FROM open_intents JOIN jobs USING (job) WHERE job_id = ?1 ORDER BY seq",
        [job_id.as_str()],
        |row| row.uint("seq"),
    )
}

fn record(row: &Row<'_>) -> Result<Record, StoreError> {
    json::parse(&row.blob("record")?, Numbers::Integers)
        .and_then(|json| Record::from_json(&json))
        .map_err(|_| column::damaged("record"))
}

fn kind(body: &Body) -> &'static str {
    match body {
        Body::JobOpen(_) => "job-open",
        Body::Intent(_) => "intent",
        Body::Outcome(_) => "outcome",
        Body::Refusal(_) => "refusal",
        Body::Approval(_) => "approval",
        Body::Revocation(_) => "revocation",
        Body::JobClose(_) => "job-close",
    }
}

/// What a record adds to its job's counters.
#[derive(Default)]
struct Counts {
    calls: i64,
    model_calls: i64,
    refusals: i64,
    approvals: i64,
    denials: i64,
    open_intents: i64,
}

impl Counts {
    fn of(body: &Body) -> Self {
        let mut counts = Self::default();
        match body {
            Body::Intent(intent) => {
                counts.calls = i64::from(intent.lane != Lane::Gateway);
                counts.model_calls = i64::from(intent.lane == Lane::Model);
                counts.open_intents = 1;
            }
            Body::Outcome(_) => counts.open_intents = -1,
            Body::Refusal(_) => counts.refusals = 1,
            Body::Approval(approval) => match approval.decision {
                Decision::Approve => counts.approvals = 1,
                Decision::Deny => counts.denials = 1,
            },
            Body::JobOpen(_) | Body::Revocation(_) | Body::JobClose(_) => {}
        }
        counts
    }
}

fn has_double(json: &Json) -> bool {
    match json {
        Json::Double(_) => true,
        Json::Array(elements) => elements.iter().any(has_double),
        Json::Object(members) => members.iter().any(|(_, value)| has_double(value)),
        _ => false,
    }
}
