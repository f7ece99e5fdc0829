//! The log over the operator listener: what it has, proofs, and the files that it would be as
//! static files (C2SP tlog-tiles below `/tlog/`).

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Uri, header};
use policy::ReasonCode;
use proof::consistency::ConsistencyProof;
use proof::merkle::{leaf_hash, verify_inclusion};
use proof::record::JobId;
use proof::tiles::Tile;
use proof::{Hash, Numbers, Timestamp, json};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::extract::Params;
use super::problem::Problem;
use crate::app::App;
use crate::bundles::{self, Sealing, SignedCheckpoint};
use crate::shapes;
use crate::tlog::{self, Standing, TlogError};

/// Kind and version of an answer of [`inclusion`].
pub const INCLUSION: &str = "clawgate.inclusion/1";

/// Records that [`show`] lists.
const LAST: u32 = 10;

/// Routes that need no credential when the configuration publishes the log's hashes.
pub(super) const HASHES: [&str; 2] = ["/tlog/checkpoint", "/tlog/tile/{level}/{*place}"];

/// The log as it is now: a signed note.
pub(super) async fn checkpoint(State(app): State<Arc<App>>) -> Result<String, Problem> {
    Ok(signed(&app).await?.note)
}

async fn signed(app: &App) -> Result<SignedCheckpoint, Problem> {
    Ok(bundles::sign_checkpoint(Sealing::of(app)).await?)
}

/// Size, checkpoint, the last records and how publishing stands.
pub(super) async fn show(State(app): State<Arc<App>>) -> Result<Json<LogView>, Problem> {
    let checkpoint = signed(&app).await?;
    let root = app.store.log_root(checkpoint.size).await?;
    let from = checkpoint.size.saturating_sub(LAST.into());
    let last = app.store.entries(from, LAST).await?;
    let last = last.into_iter().map(shown).collect::<Result<_, _>>()?;
    let standing = app.publication.standing();
    let (published, detail) = match &standing {
        Standing::Published(size) => (Some(*size), None),
        Standing::Failing(why) | Standing::Forked(why) => (None, Some(why)),
        Standing::Off | Standing::Starting => (None, None),
    };
    Ok(Json(LogView {
        origin: bundles::log_origin(&app.config),
        size: checkpoint.size,
        root_sha256_b64u: root,
        checkpoint: checkpoint.note,
        last,
        tiles: Tiles {
            state: standing.as_str(),
            size: published,
            detail: detail.cloned(),
        },
    }))
}

/// An entry of the log: a record, or a key set, which belongs to no job.
fn shown(stored: store::LogEntry) -> Result<LogEntry, Problem> {
    if let Some(pruned) = stored.pruned {
        return Ok(LogEntry {
            index: stored.leaf_index,
            leaf_sha256_b64u: stored.leaf_hash,
            job_id: Some(pruned.job_id),
            seq: pruned.seq,
            at: pruned.at,
            record: Some(pruned.kind),
        });
    }
    let damaged = || Problem::internal(&TlogError::Damaged(stored.leaf_index));
    let entry = json::parse(&stored.entry, Numbers::Integers).map_err(|_| damaged())?;
    let text = |path: &[&str]| entry.at(path).and_then(proof::Json::as_str);
    let set = ["key_set", "payload"];
    let parsed = text(&["at"]).or_else(|| text(&[set[0], set[1], "issued_at"]));
    let number = entry
        .at(&["seq"])
        .or_else(|| entry.at(&[set[0], set[1], "number"]));
    Ok(LogEntry {
        index: stored.leaf_index,
        leaf_sha256_b64u: stored.leaf_hash,
        job_id: text(&["job_id"]).and_then(|id| id.parse().ok()),
        seq: number.and_then(|n| n.to_typed().ok()).ok_or_else(damaged)?,
        at: parsed.and_then(|at| at.parse().ok()).ok_or_else(damaged)?,
        record: text(&["record"])
            .or_else(|| text(&[set[0], set[1], "key_set"]))
            .map(str::to_owned),
    })
}

/// The log as it is now.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Log")]
pub(super) struct LogView {
    origin: String,
    /// Records.
    size: u64,
    #[schemars(with = "Option<shapes::Sha256>")]
    root_sha256_b64u: Option<Hash>,
    /// A signed note.
    checkpoint: String,
    /// The last records.
    last: Vec<LogEntry>,
    tiles: Tiles,
}

#[derive(Debug, Serialize, JsonSchema)]
struct LogEntry {
    index: u64,
    #[schemars(with = "shapes::Sha256")]
    leaf_sha256_b64u: Hash,
    /// Absent for a key set, which belongs to no job.
    #[schemars(with = "Option<shapes::JobId>")]
    job_id: Option<JobId>,
    /// Its number in its job; of a key set its number.
    seq: u64,
    #[schemars(with = "shapes::Timestamp")]
    at: Timestamp,
    /// Its kind.
    record: Option<String>,
}

/// How publishing the log as static files stands.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "LogTiles")]
struct Tiles {
    state: &'static str,
    /// Records that are published.
    size: Option<u64>,
    /// Why not.
    detail: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Sizes {
    /// The records of the smaller log.
    from: u64,
    /// Those of the larger one; all there are unless it is said.
    #[serde(default)]
    to: Option<u64>,
}

/// The proof that the log of `to` records (or the whole of it) begins with its first `from`.
pub(super) async fn consistency(
    State(app): State<Arc<App>>,
    Params(Sizes { from, to }): Params<Sizes>,
) -> Result<Json<Consistency>, Problem> {
    let to = match to {
        Some(to) => to,
        None => signed(&app).await?.size,
    };
    let path = app.store.consistency(from, to).await?;
    let path = path.ok_or_else(|| {
        Problem::new(
            ReasonCode::LogPlaceUnknown,
            format!("the log has no {from} records within {to}"),
        )
    })?;
    let origin = bundles::log_origin(&app.config);
    let proof = ConsistencyProof::new(&origin, from, to, path);
    Ok(Json(Consistency(proof)))
}

/// A consistency proof; see docs/formats.md.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(rename = "ConsistencyProof")]
pub(super) struct Consistency(#[schemars(with = "shapes::Document")] ConsistencyProof);

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    /// Its place in the log.
    #[serde(default)]
    index: Option<u64>,
    /// Its job, with `seq`.
    #[serde(default)]
    #[schemars(with = "Option<shapes::JobId>")]
    job: Option<JobId>,
    #[serde(default)]
    seq: Option<u64>,
    /// The receipt that it names.
    #[serde(default)]
    receipt: Option<String>,
}

/// The proof that one record is in the log, under its newest checkpoint. The record is named by
/// its index, by its job and number, or by the receipt that it names.
pub(super) async fn inclusion(
    State(app): State<Arc<App>>,
    Params(which): Params<Which>,
) -> Result<Json<Inclusion>, Problem> {
    let found = match (which.index, which.job, which.seq, which.receipt) {
        (Some(index), None, None, None) => Some(index),
        (None, Some(job), Some(seq), None) => by_number(&app, &job, seq).await?,
        (None, None, None, Some(receipt)) => by_receipt(&app, &receipt).await?,
        _ => {
            let detail = "name the record by index, by job and seq, or by receipt";
            return Err(Problem::new(ReasonCode::QueryValue, detail));
        }
    };
    let leaf_index = found.ok_or(ReasonCode::LogPlaceUnknown)?;
    let (leaf_hash, record) = at(&app, leaf_index).await?;
    let checkpoint = signed(&app).await?;
    let path = app.store.inclusion(leaf_index, checkpoint.size).await?;
    let root = app.store.log_root(checkpoint.size).await?;
    let proven = path.zip(root).filter(|(path, root)| {
        verify_inclusion(&leaf_hash, leaf_index, checkpoint.size, path, root)
    });
    let (path, _) = proven.ok_or_else(|| Problem::internal(&TlogError::Damaged(leaf_index)))?;
    Ok(Json(Inclusion {
        inclusion: INCLUSION,
        checkpoint: checkpoint.note,
        index: leaf_index,
        leaf_sha256_b64u: leaf_hash,
        path,
        record,
    }))
}

/// A record or a key set, and the proof that it is in the log; see docs/formats.md.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "InclusionProof")]
pub(super) struct Inclusion {
    inclusion: &'static str,
    /// A signed note.
    checkpoint: String,
    index: u64,
    #[schemars(with = "shapes::Sha256")]
    leaf_sha256_b64u: Hash,
    #[schemars(with = "Vec<shapes::Sha256>")]
    path: Vec<Hash>,
    /// Absent when its content was removed after its retention; its hash is proven all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<shapes::Document>")]
    record: Option<proof::Json>,
}

/// The leaf at a place in the log, and what it was made of, unless that was removed after its
/// retention.
async fn at(app: &App, from: u64) -> Result<(Hash, Option<proof::Json>), Problem> {
    let found = app.store.entries(from, 1).await?.pop();
    let found = found.ok_or(ReasonCode::LogPlaceUnknown)?;
    if found.pruned.is_some() {
        return Ok((found.leaf_hash, None));
    }
    let read = json::parse(&found.entry, Numbers::Integers).ok();
    let read = read.filter(|_| leaf_hash(&found.entry) == found.leaf_hash);
    let read = read.ok_or_else(|| Problem::internal(&TlogError::Damaged(from)))?;
    Ok((found.leaf_hash, Some(read)))
}

/// Place in the log of a job's record.
async fn by_number(app: &App, job: &JobId, seq: u64) -> Result<Option<u64>, Problem> {
    let Some(before) = seq.checked_sub(1) else {
        return Ok(None);
    };
    let mut page = app.store.record_places(job, before, 1).await?;
    let found = page.pop().filter(|place| place.seq == seq);
    Ok(found.map(|place| place.leaf_index))
}

/// Place in the log of the outcome that names a receipt.
async fn by_receipt(app: &App, id: &str) -> Result<Option<u64>, Problem> {
    let outcome = app.store.outcome_of_receipt(id).await?;
    Ok(Some(outcome.ok_or(ReasonCode::ReceiptUnknown)?))
}

/// A file of the log: hashes, or entries. Its route says who may have it.
pub(super) async fn tile(State(app): State<Arc<App>>, uri: Uri) -> Result<Response, Problem> {
    let path = uri.path().strip_prefix("/tlog/");
    let tile = path.and_then(Tile::parse);
    let bytes = match tile {
        Some(tile) => tlog::tile_bytes(&*app.store, tile).await?,
        None => None,
    };
    let bytes = bytes.ok_or(ReasonCode::LogPlaceUnknown)?;
    let kind = HeaderValue::from_static("application/octet-stream");
    Ok(([(header::CONTENT_TYPE, kind)], bytes).into_response())
}

impl From<TlogError> for Problem {
    fn from(error: TlogError) -> Self {
        match error {
            TlogError::Store(error) => error.into(),
            TlogError::Pruned(_) => Self::new(ReasonCode::ContentPruned, error.to_string()),
            other => Self::internal(&other),
        }
    }
}
