//! Evidence over the operator API: sealed bundles, receipts, the trust root.

use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use futures_util::{StreamExt as _, stream};
use http::{HeaderValue, header};
use policy::ReasonCode;
use proof::record::JobId;
use proof::trust::TrustRoot;
use proof::{Envelope, Hash};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use store::{JobState, Part};
use tokio::io::{AsyncReadExt, AsyncSeekExt, SeekFrom};

use super::extract::{Id, Params};
use super::openapi::{MediaTypes, Written};
use super::problem::Problem;
use crate::app::App;
use crate::bundles::export::{Export, ExportError, Format};
use crate::bundles::{self, BundleError, Sealing};
use crate::shapes;

/// How much of a bundle is in memory at a time while it is served.
const CHUNK_BYTES: usize = 64 * 1024;

/// A bundle; see docs/formats.md.
#[derive(Debug)]
pub(super) struct BundleFile;

impl MediaTypes for BundleFile {
    const ALL: &'static [&'static str] = &["application/json"];
}

/// The sealed file, byte for byte; before it what witnesses and authorities have said since.
pub(super) async fn bundle(
    State(app): State<Arc<App>>,
    Id(job_id): Id<JobId>,
) -> Result<Written<BundleFile>, Problem> {
    let Some(row) = app.store.bundle(&job_id).await? else {
        let job = app.store.job(&job_id).await?;
        let closed = job.is_some_and(|job| matches!(job.state, JobState::Closed(_)));
        return Err(match closed {
            true => ReasonCode::BundlePending.into(),
            false => ReasonCode::BundleUnknown.into(),
        });
    };
    if let Some(gone) = bundles::pruned(&*app.store, &job_id, Part::Bundle).await? {
        let sha256 = row.sha256.to_hex();
        let detail = format!("{gone}; its SHA-256 was {sha256}");
        return Err(Problem::new(ReasonCode::ContentPruned, detail));
    }
    let mut file = bundles::open(&app.config, &row).await?;
    let front = bundles::added(Sealing::of(&app), &row).await;
    let (length, version) = match &front {
        None => (row.bytes, row.sha256.to_string()),
        Some(front) => (
            row.bytes - 1 + front.bytes().len() as u64,
            format!("{}.{}", row.sha256, Hash::of(front.bytes())),
        ),
    };
    if front.is_some() {
        // What was added stands in the place of the first byte.
        let sought = file.seek(SeekFrom::Start(1)).await;
        sought.map_err(|error| Problem::internal(&error))?;
    }
    let name = format!("attachment; filename=\"{job_id}.json\"");
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        ),
        (header::CONTENT_LENGTH, HeaderValue::from(length)),
        (
            header::CONTENT_DISPOSITION,
            HeaderValue::try_from(name).expect("a job id is plain"),
        ),
        (
            header::ETAG,
            HeaderValue::try_from(format!("\"{version}\"")).expect("base64url"),
        ),
    ];
    let front = front.map(|front| Ok(Bytes::copy_from_slice(front.bytes())));
    let rest = stream::try_unfold(file, |mut file| async move {
        let mut chunk = vec![0; CHUNK_BYTES];
        let read = file.read(&mut chunk).await?;
        chunk.truncate(read);
        Ok::<_, std::io::Error>((read > 0).then(|| (Bytes::from(chunk), file)))
    });
    let chunks = stream::iter(front).chain(rest);
    Ok(Written::new((headers, Body::from_stream(chunks))))
}

/// How a bundle is exported.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Exported {
    /// In which format.
    #[serde(rename = "as")]
    format: As,
    /// Which part of a job with more than 1000 events, for `clawsig`.
    #[serde(default)]
    #[schemars(range(min = 1))]
    part: Option<usize>,
}

/// A format of others.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "ExportFormat")]
enum As {
    Clawsig,
    InToto,
}

impl From<As> for Format {
    fn from(format: As) -> Self {
        match format {
            As::Clawsig => Self::Clawsig,
            As::InToto => Self::InToto,
        }
    }
}

/// A bundle in another format; see docs/formats.md.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(rename = "ExportedBundle")]
pub(super) struct ExportFile(#[schemars(with = "shapes::Document")] proof::Json);

/// The sealed bundle, verified and then signed in another format.
pub(super) async fn export(
    State(app): State<Arc<App>>,
    Id(job_id): Id<JobId>,
    Params(Exported { format, part }): Params<Exported>,
) -> Result<Json<ExportFile>, Problem> {
    let sealed = app.store.bundle(&job_id).await?;
    let sealed = sealed.ok_or(ReasonCode::BundleUnknown)?;
    if sealed.bytes > clawverify::MAX_BUNDLE_BYTES as u64 {
        let detail = "it is larger than a verifier reads";
        return Err(Problem::new(ReasonCode::BundleInvalid, detail));
    }
    let file = bundles::read(&app.config, &sealed).await?;
    let passkeys = app.store.passkeys().await?;
    let keys = app.keys.now();
    let trust = bundles::trust_root(&app.config, &keys, &passkeys);
    let at = app.now();
    let format = format.into();
    let export = Export { format, part, at };
    let exported = export
        .of(file, trust, &app.config, &keys.close)
        .await
        .map_err(|error| match error {
            ExportError::Invalid(_) => Problem::new(ReasonCode::BundleInvalid, error.to_string()),
            ExportError::Part(detail) => Problem::new(ReasonCode::QueryValue, detail),
            ExportError::Sign(error) => error.refusal().into(),
            other => Problem::internal(&other),
        })?;
    Ok(Json(ExportFile(exported)))
}

/// One receipt, of whatever job.
pub(super) async fn receipt(
    State(app): State<Arc<App>>,
    Id(receipt_id): Id<String>,
) -> Result<Json<Receipt>, Problem> {
    let found = app.store.find_receipt(&receipt_id).await?;
    let (job_id, envelope) = found.ok_or(ReasonCode::ReceiptUnknown)?;
    Ok(Json(Receipt {
        job_id,
        receipt: envelope,
    }))
}

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Receipt {
    #[schemars(with = "shapes::JobId")]
    job_id: JobId,
    #[schemars(with = "shapes::Envelope")]
    receipt: Envelope,
}

/// The trust root; see docs/formats.md.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(rename = "TrustRoot")]
pub(super) struct Root(#[schemars(with = "shapes::Document")] TrustRoot);

/// What a verifier is given besides the bundle.
pub(super) async fn trust(State(app): State<Arc<App>>) -> Result<Json<Root>, Problem> {
    let passkeys = app.store.passkeys().await?;
    let root = bundles::trust_root(&app.config, &app.keys.now(), &passkeys);
    Ok(Json(Root(root)))
}

impl From<BundleError> for Problem {
    fn from(error: BundleError) -> Self {
        match error {
            BundleError::Store(error) => error.into(),
            BundleError::NotClosed(_) => ReasonCode::BundleUnknown.into(),
            BundleError::Signer(error) => error.refusal().into(),
            BundleError::Altered(_) => Self::new(ReasonCode::BundleInvalid, error.to_string()),
            other => Self::internal(&other),
        }
    }
}
