//! The signature of a call: HMAC-SHA512 over the body, by the key that Terraform Cloud was given
//! with the run task.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::FromRequest;
use bytes::Bytes;
use http::Request;
use policy::{ReasonCode, Refusal};
use tokio::sync::OwnedSemaphorePermit;

use crate::app::App;
use crate::clawproxy::body::{self, Bounds};
use crate::operator::Problem;
use crate::signature::{BadSignature, Signature};

/// Largest call, in bytes. The vendor's have a few thousand; the run's message is part of them.
pub(super) const MAX_CALL_BYTES: usize = 256 * 1024;

/// How long a call may take to come in.
const PATIENCE: Duration = Duration::from_secs(15);

/// Where the signature stands.
const SIGNATURE: &str = "x-tfc-task-signature";

/// A body that somebody signed who has the run task's key. [`FromRequest`] is its only maker.
#[derive(Debug)]
pub struct Signed {
    body: Bytes,
    _share: Option<OwnedSemaphorePermit>,
}

impl Signed {
    /// What was signed.
    pub(super) fn body(&self) -> &[u8] {
        &self.body
    }
}

impl FromRequest<Arc<App>> for Signed {
    type Rejection = Problem;

    async fn from_request(request: Request<Body>, app: &Arc<App>) -> Result<Self, Problem> {
        let tasks = app.run_tasks.as_ref();
        let tasks = tasks.ok_or(ReasonCode::RunTaskDisabled)?;
        let (parts, body) = request.into_parts();
        let signature = Signature::of(&parts.headers, SIGNATURE).map_err(refused)?;
        let bounds = Bounds {
            bytes: MAX_CALL_BYTES,
            patience: PATIENCE,
            room: &tasks.bodies,
            too_large: ReasonCode::BodyTooLarge,
        };
        let held = body::read(body, bounds).await?;
        signature.verify(&tasks.key, &held.bytes).map_err(refused)?;
        Ok(Self {
            body: held.bytes,
            _share: held.share,
        })
    }
}

fn refused(bad: BadSignature) -> Refusal {
    Refusal::new(ReasonCode::RunTaskSignature, bad.to_string())
}
