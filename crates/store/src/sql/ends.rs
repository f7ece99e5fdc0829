//! The ends of the jobs' sequences and of the log, and the one place that appends to them.
//!
//! Records that wait together are appended together: the end of a job is read once, moved on in
//! memory by each of them, and written once. Nothing is kept beyond the writer's savepoint, so
//! another process may write in between and a rollback has nothing to undo here.

use proof::approval::Decision;
use proof::record::{Body, EventChain, Intent, JobId, Lane, Outcome, Record};
use proof::tiles::MAX_ENTRY_BYTES;
use proof::token::Claims;
use proof::{Envelope, EnvelopeType, Hash, Json, Timestamp};

use super::column::{self, Columns as _};
use super::connection::{Connection, Row, params};
use super::{exports, merkle};
use crate::{Appended, Conflict, StoreError};

/// A record that is to be appended.
pub(super) struct NewRecord {
    /// When it was handed in; the record itself is never earlier than the one before.
    at: Timestamp,
    /// Its place is that of the last [`Ends::check`].
    record: Record,
    /// Of an outcome.
    receipt: Option<Envelope>,
}

impl NewRecord {
    /// Anything but an outcome.
    pub(super) fn plain(job_id: JobId, at: Timestamp, body: Body) -> Self {
        let seq = 0;
        Self {
            at,
            record: Record {
                job_id,
                seq,
                at,
                body,
            },
            receipt: None,
        }
    }

    /// An outcome with its receipt.
    pub(super) fn outcome(
        job_id: JobId,
        at: Timestamp,
        outcome: Outcome,
        receipt: Option<Envelope>,
    ) -> Self {
        Self {
            receipt,
            ..Self::plain(job_id, at, Body::Outcome(Box::new(outcome)))
        }
    }
}

/// A record that nothing speaks against, in its place. [`Ends::check`] is its only maker.
pub(super) struct Checked<'r> {
    /// Index of its job among the ends.
    end: usize,
    record: &'r Record,
    canonical: Vec<u8>,
    receipt: Option<(&'static str, &'r str, &'r Envelope)>,
}

/// The end of a job's records, from which the next one follows.
struct End {
    job_id: JobId,
    job: i64,
    open: bool,
    seq: u64,
    at: Timestamp,
    chain: EventChain,
    /// Intents without an outcome, ascending.
    open_seqs: Vec<u64>,
    counts: Counts,
}

/// What a token's life says about a call that it begins.
#[derive(Clone, Copy)]
struct Life {
    issued_at: Timestamp,
    expires_at: Timestamp,
    revoked: bool,
}

/// The ends that a group of records moves on; [`Ends::finish`] writes them back.
pub(super) struct Ends<'c> {
    connection: &'c Connection,
    /// Leaves of the log.
    size: u64,
    /// The latest time of any of them.
    latest: Option<Timestamp>,
    jobs: Vec<End>,
    /// Those that have begun something in this group; none of a token that was never issued.
    tokens: Vec<(String, Option<Life>)>,
}

impl<'c> Ends<'c> {
    /// Reads the log's end; those of jobs are read when they are needed.
    pub(super) fn read(connection: &'c Connection) -> Result<Self, StoreError> {
        connection.check_sequencer()?;
        let size = merkle::size(connection)?;
        Ok(Self {
            connection,
            size,
            latest: exports::latest_before(connection, size)?,
            jobs: Vec::new(),
            tokens: Vec::new(),
        })
    }

    /// Finds out whether a record may be appended now. Nothing is written, so one that is refused
    /// takes no other of its group with it.
    pub(super) fn check<'r>(&mut self, new: &'r mut NewRecord) -> Result<Checked<'r>, StoreError> {
        let index = self.end_of(&new.record.job_id)?;
        let life = match &new.record.body {
            Body::Intent(intent) => self.life_of(intent)?,
            _ => None,
        };
        let end = &self.jobs[index];
        if !end.open {
            return Err(Conflict::JobClosed(new.record.job_id.clone()).into());
        }
        new.record.seq = end.seq + 1;
        new.record.at = new.at.max(end.at);
        if let Some(life) = life {
            // Here is decided what counts for all gateways, whose clocks differ and of which one
            // may not know yet what another has revoked: a call before the token's issue or after
            // its end would condemn the whole job's evidence.
            new.record.at = new.record.at.max(life.issued_at);
            if life.revoked {
                return Err(Conflict::TokenRevoked.into());
            }
            if life.expires_at <= new.record.at {
                return Err(Conflict::TokenExpired.into());
            }
        }
        let record = &new.record;
        let mut receipt = None;
        if let Body::Outcome(outcome) = &record.body {
            self.check_open(end, outcome.intent_seq)?;
            receipt = check_receipt(outcome, new.receipt.as_ref())?;
        }
        let canonical = match record.written() {
            Some(canonical) => canonical,
            None => {
                let json = record.to_json();
                if has_double(&json) {
                    return Err(Conflict::Unrecordable.into());
                }
                json.to_jcs()
            }
        };
        // It is an entry of the log's static files, which have two bytes for its length.
        if canonical.len() > MAX_ENTRY_BYTES {
            return Err(Conflict::Unrecordable.into());
        }
        if let Some((_, id, _)) = receipt {
            self.check_new_receipt(end, id)?;
        }
        Ok(Checked {
            end: index,
            record,
            canonical,
            receipt,
        })
    }

    /// Appends a record to its job and to the log. Everything that counts records goes through
    /// here: a record without its leaf, or a leaf without its record, cannot be. After an error
    /// nothing of the group may be kept.
    pub(super) fn write(&mut self, checked: Checked<'_>) -> Result<Appended, StoreError> {
        let Checked {
            end,
            record,
            canonical,
            receipt,
        } = checked;
        let end = &mut self.jobs[end];
        let leaf_index = self.size;
        let leaf_hash = proof::merkle::leaf_hash(&canonical);
        let event = end.chain.extend_written(record, &canonical);
        let place = column::integer(leaf_index)?;
        let latest = self
            .latest
            .map_or(record.at, |latest| latest.max(record.at));
        column::change(
            self.connection,
            "INSERT INTO records (leaf_index, job, seq, kind, record, latest)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                place,
                end.job,
                column::integer(record.seq)?,
                kind(&record.body),
                canonical,
                latest.millis(),
            ],
        )?;
        merkle::add_leaf(self.connection, leaf_index, &leaf_hash)?;
        if let Some((kind, id, envelope)) = receipt {
            let envelope = column::envelope(envelope)?;
            column::change(
                self.connection,
                "INSERT INTO receipts (outcome, job, receipt_id, kind, envelope)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
                params![place, end.job, id, kind, envelope],
            )?;
        }
        self.size += 1;
        self.latest = Some(latest);
        end.seq = record.seq;
        end.at = record.at;
        end.counts.add(&record.body);
        match &record.body {
            Body::Intent(_) => end.open_seqs.push(record.seq),
            Body::Outcome(outcome) => {
                if let Ok(at) = end.open_seqs.binary_search(&outcome.intent_seq) {
                    end.open_seqs.remove(at);
                }
            }
            _ => {}
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

    /// Writes back what has moved.
    pub(super) fn finish(self) -> Result<(), StoreError> {
        for end in self.jobs.iter().filter(|end| end.counts.records > 0) {
            let counts = &end.counts;
            column::change(
                self.connection,
                "UPDATE jobs SET last_seq = ?2, last_at = ?3, chain_count = ?4, chain_last = ?5,
                     calls = calls + ?6, model_calls = model_calls + ?7,
                     refusals = refusals + ?8, approvals = approvals + ?9,
                     denials = denials + ?10, open_intents = ?11, open_seqs = ?12
                 WHERE job = ?1",
                params![
                    end.job,
                    column::integer(end.seq)?,
                    end.at.millis(),
                    column::integer(end.chain.count)?,
                    column::bytes_opt(&end.chain.last),
                    counts.calls,
                    counts.model_calls,
                    counts.refusals,
                    counts.approvals,
                    counts.denials,
                    column::integer(end.open_seqs.len() as u64)?,
                    end.open_seqs
                        .iter()
                        .flat_map(|seq| seq.to_be_bytes())
                        .collect::<Vec<u8>>(),
                ],
            )?;
        }
        Ok(())
    }

    /// Index of a job's end, which is read when it is not known yet.
    fn end_of(&mut self, job_id: &JobId) -> Result<usize, StoreError> {
        // A batch has few jobs, and most often one.
        if let Some(known) = self.jobs.iter().rposition(|end| end.job_id == *job_id) {
            return Ok(known);
        }
        let end = column::one(
            self.connection,
            "SELECT job, phase = 'open' AS open, last_seq, last_at, chain_count, chain_last,
                 open_seqs
             FROM jobs WHERE job_id = ?1",
            [job_id.as_str()],
            |row| {
                Ok(End {
                    job_id: job_id.clone(),
                    job: row.int("job")?,
                    open: row.flag("open")?,
                    seq: row.uint("last_seq")?,
                    at: row.time("last_at")?,
                    chain: EventChain {
                        count: row.uint("chain_count")?,
                        last: row.hash_opt("chain_last")?,
                    },
                    open_seqs: open_seqs(row)?,
                    counts: Counts::default(),
                })
            },
        )?;
        self.jobs
            .push(end.ok_or_else(|| Conflict::NoSuchJob(job_id.clone()))?);
        Ok(self.jobs.len() - 1)
    }

    /// The life of the token by which a call is made; the gateway's own are made by none.
    fn life_of(&mut self, intent: &Intent) -> Result<Option<Life>, StoreError> {
        if intent.lane == Lane::Gateway {
            return Ok(None);
        }
        let named = &intent.caller.token_hash;
        if let Some((_, life)) = self.tokens.iter().find(|(known, _)| known == named) {
            return Ok(*life);
        }
        let life = match hash_from_hex(named) {
            None => None,
            Some(hash) => column::one(
                self.connection,
                "SELECT issued_at, claims, revoked_at FROM tokens WHERE token_hash = ?1",
                [column::bytes(&hash)],
                |row| {
                    let claims: Claims = row.json("claims")?;
                    Ok(Life {
                        issued_at: row.time("issued_at")?,
                        expires_at: claims.expires_at(),
                        revoked: row.time_opt("revoked_at")?.is_some(),
                    })
                },
            )?,
        };
        self.tokens.push((named.clone(), life));
        Ok(life)
    }

    /// Whether the intent waits for its outcome; each has one.
    fn check_open(&self, end: &End, seq: u64) -> Result<(), StoreError> {
        if end.open_seqs.binary_search(&seq).is_ok() {
            return Ok(());
        }
        // A number that no record can have is no intent, and no damage either.
        let place = i64::try_from(seq).map_err(|_| Conflict::NoSuchIntent(seq))?;
        let kind = column::one(
            self.connection,
            "SELECT kind FROM records WHERE job = ?1 AND seq = ?2",
            params![end.job, place],
            |row| row.text("kind"),
        )?;
        Err(match kind.as_deref() {
            Some("intent") => Conflict::IntentAnswered(seq),
            _ => Conflict::NoSuchIntent(seq),
        }
        .into())
    }

    fn check_new_receipt(&self, end: &End, receipt_id: &str) -> Result<(), StoreError> {
        let known = column::one(
            self.connection,
            "SELECT 1 FROM receipts WHERE job = ?1 AND receipt_id = ?2",
            params![end.job, receipt_id],
            |_| Ok(()),
        )?;
        match known {
            None => Ok(()),
            Some(()) => Err(Conflict::ReceiptMismatch.into()),
        }
    }
}

/// Places in the job of the intents that have no outcome.
pub(super) fn open_intents_of(
    connection: &Connection,
    job_id: &JobId,
) -> Result<Vec<u64>, StoreError> {
    let open = column::one(
        connection,
        "SELECT open_seqs FROM jobs WHERE job_id = ?1",
        [job_id.as_str()],
        open_seqs,
    )?;
    Ok(open.unwrap_or_default())
}

/// The same from a row of `jobs`.
pub(super) fn open_seqs(row: &Row<'_>) -> Result<Vec<u64>, StoreError> {
    let blob = row.blob("open_seqs")?;
    let (seqs, rest) = blob.as_chunks::<8>();
    let seqs: Vec<u64> = seqs.iter().map(|seq| u64::from_be_bytes(*seq)).collect();
    // Ascending, because they are searched.
    if rest.is_empty() && seqs.is_sorted_by(|a, b| a < b) {
        Ok(seqs)
    } else {
        Err(column::damaged("open_seqs"))
    }
}

/// The receipt with its kind and id, when the outcome names exactly this one.
fn check_receipt<'r>(
    outcome: &'r Outcome,
    receipt: Option<&'r Envelope>,
) -> Result<Option<(&'static str, &'r str, &'r Envelope)>, StoreError> {
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
                Ok(Some((kind, &named.receipt_id, envelope)))
            } else {
                Err(Conflict::ReceiptMismatch.into())
            }
        }
        _ => Err(Conflict::ReceiptMismatch.into()),
    }
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

/// What a group of records adds to its job's counters.
#[derive(Default)]
struct Counts {
    records: i64,
    calls: i64,
    model_calls: i64,
    refusals: i64,
    approvals: i64,
    denials: i64,
}

impl Counts {
    fn add(&mut self, body: &Body) {
        self.records += 1;
        match body {
            Body::Intent(intent) => {
                self.calls += i64::from(intent.lane != Lane::Gateway);
                self.model_calls += i64::from(intent.lane == Lane::Model);
            }
            Body::Refusal(_) => self.refusals += 1,
            Body::Approval(approval) => match approval.decision {
                Decision::Approve => self.approvals += 1,
                Decision::Deny => self.denials += 1,
            },
            Body::Outcome(_) | Body::JobOpen(_) | Body::Revocation(_) | Body::JobClose(_) => {}
        }
    }
}

/// What records write of a token.
fn hash_from_hex(text: &str) -> Option<Hash> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let bytes: Option<Vec<u8>> = pairs
        .iter()
        .map(|[high, low]| u8::try_from(digit(*high)? * 16 + digit(*low)?).ok())
        .collect();
    let bytes = <[u8; 32]>::try_from(bytes?).ok()?;
    rest.is_empty().then(|| Hash::from_bytes(bytes))
}

fn has_double(json: &Json) -> bool {
    match json {
        Json::Double(_) => true,
        Json::Array(elements) => elements.iter().any(has_double),
        Json::Object(members) => members.iter().any(|(_, value)| has_double(value)),
        _ => false,
    }
}
