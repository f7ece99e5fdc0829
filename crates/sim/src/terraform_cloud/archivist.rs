//! The object store: signed URLs on a listener of their own, which ask for no token.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query as QueryParameters, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::{SignedDuration, Timestamp};
use sha2::Sha256;

use super::cloud::Cloud;
use super::{configurations, guard, states};
use crate::ids;

/// The largest piece of a log in one answer.
const LARGEST_LOG_PIECE: usize = 1 << 20;
/// How long plan JSON can be fetched, as the vendor documents it.
const PLAN_JSON_LIFE: SignedDuration = SignedDuration::from_mins(1);
/// How long everything else can be fetched.
const OBJECT_LIFE: SignedDuration = SignedDuration::from_hours(24);

/// What a signed URL stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Object {
    ConfigurationUpload,
    ConfigurationDownload,
    PlanLog,
    ApplyLog,
    PlanJson,
    RedactedPlanJson,
    State,
    JsonState,
    StateUpload,
    JsonStateUpload,
}

impl Object {
    const ALL: [(Self, &str); 10] = [
        (Self::ConfigurationUpload, "cvu"),
        (Self::ConfigurationDownload, "cvd"),
        (Self::PlanLog, "pll"),
        (Self::ApplyLog, "apl"),
        (Self::PlanJson, "plj"),
        (Self::RedactedPlanJson, "plr"),
        (Self::State, "sta"),
        (Self::JsonState, "stj"),
        (Self::StateUpload, "stu"),
        (Self::JsonStateUpload, "sju"),
    ];

    fn tag(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(object, _)| *object == self)
            .map_or("", |(_, tag)| tag)
    }

    fn with_tag(tag: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(_, other)| *other == tag)
            .map(|(object, _)| *object)
    }

    fn is_upload(self) -> bool {
        matches!(
            self,
            Self::ConfigurationUpload | Self::StateUpload | Self::JsonStateUpload
        )
    }
}

/// Makes and checks the capability in a signed URL.
pub(crate) struct Signer {
    base_url: String,
    key: [u8; 32],
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer")
            .field("base_url", &self.base_url)
            .finish_non_exhaustive()
    }
}

impl Signer {
    pub(crate) fn new(base_url: String) -> Self {
        Self {
            base_url,
            key: ids::bytes(),
        }
    }

    /// Makes a URL for an object. The capability stands in the path, because clients replace the
    /// query of a log's URL.
    pub(crate) fn url(&self, object: Object, id: &str) -> String {
        format!(
            "{}/v1/object/{}",
            self.base_url,
            self.capability(object, id, Timestamp::now())
        )
    }

    fn capability(&self, object: Object, id: &str, now: Timestamp) -> String {
        let life = match object {
            Object::PlanJson | Object::RedactedPlanJson => PLAN_JSON_LIFE,
            _ => OBJECT_LIFE,
        };
        let expires = now.as_second() + life.as_secs();
        let claim = format!("{}:{id}:{expires}", object.tag());
        let tag = self.mac(&claim).finalize().into_bytes();
        format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(claim),
            URL_SAFE_NO_PAD.encode(tag)
        )
    }

    fn open(&self, capability: &str, now: Timestamp) -> Option<(Object, String)> {
        let (claim, tag) = capability.split_once('.')?;
        let claim = String::from_utf8(URL_SAFE_NO_PAD.decode(claim).ok()?).ok()?;
        self.mac(&claim)
            .verify_slice(&URL_SAFE_NO_PAD.decode(tag).ok()?)
            .ok()?;
        let mut parts = claim.split(':');
        let (tag, id, expires) = (parts.next()?, parts.next()?, parts.next()?);
        let expires: i64 = expires.parse().ok()?;
        (now.as_second() < expires).then_some((Object::with_tag(tag)?, id.to_owned()))
    }

    fn mac(&self, claim: &str) -> Hmac<Sha256> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.key).expect("an HMAC key may have any length");
        mac.update(claim.as_bytes());
        mac
    }
}

pub(crate) fn router(cloud: Arc<Cloud>) -> Router {
    let guarded = axum::middleware::from_fn_with_state(Arc::clone(&cloud), guard::archivist);
    Router::new()
        .route("/v1/object/{capability}", any(serve))
        .layer(guarded)
        .with_state(cloud)
}

/// Which part of a log is wanted.
#[derive(Debug, serde::Deserialize)]
struct LogPiece {
    offset: Option<usize>,
    limit: Option<usize>,
}

async fn serve(
    State(cloud): State<Arc<Cloud>>,
    Path(capability): Path<String>,
    QueryParameters(piece): QueryParameters<LogPiece>,
    method: Method,
    body: Bytes,
) -> Response {
    let Some((object, id)) = cloud.signer.open(&capability, Timestamp::now()) else {
        return StatusCode::FORBIDDEN.into_response();
    };
    let expected = if object.is_upload() {
        Method::PUT
    } else {
        Method::GET
    };
    if method != expected {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    if object.is_upload() {
        let stored = match object {
            Object::ConfigurationUpload => configurations::store(&cloud, &id, body),
            Object::StateUpload => states::store(&cloud, &id, body),
            _ => states::store_json(&cloud, &id),
        };
        return if stored {
            StatusCode::OK
        } else {
            StatusCode::CONFLICT
        }
        .into_response();
    }
    fetch(&cloud, object, &id, &piece).map_or_else(
        || StatusCode::NOT_FOUND.into_response(),
        |(kind, bytes)| {
            let mut response = Response::new(Body::from(bytes));
            response
                .headers_mut()
                .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
            response
        },
    )
}

fn fetch(
    cloud: &Cloud,
    object: Object,
    id: &str,
    piece: &LogPiece,
) -> Option<(&'static str, Bytes)> {
    const JSON: &str = "application/json";
    const BINARY: &str = "application/octet-stream";
    const TEXT: &str = "text/plain";
    let limit = piece
        .limit
        .unwrap_or(LARGEST_LOG_PIECE)
        .min(LARGEST_LOG_PIECE);
    let offset = piece.offset.unwrap_or(0);
    let world = cloud.world();
    Some(match object {
        Object::PlanLog => (
            TEXT,
            world
                .run_with_plan(id)?
                .plan
                .log
                .slice(offset, limit)
                .into(),
        ),
        Object::ApplyLog => (
            TEXT,
            world
                .run_with_apply(id)?
                .apply
                .log
                .slice(offset, limit)
                .into(),
        ),
        Object::PlanJson => (JSON, world.run_with_plan(id)?.plan_json.clone()?),
        Object::RedactedPlanJson => (JSON, world.run_with_plan(id)?.redacted_json.clone()?),
        Object::ConfigurationDownload => (BINARY, world.configurations.get(id)?.archive.clone()?),
        Object::State | Object::JsonState => {
            let state = world.state_versions.get(id)?;
            (
                JSON,
                (!state.content.is_empty()).then(|| state.content.clone())?,
            )
        }
        Object::ConfigurationUpload | Object::StateUpload | Object::JsonStateUpload => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capability_opens_until_it_expires_or_is_touched() {
        let signer = Signer::new("http://127.0.0.1:1".to_owned());
        let now = Timestamp::UNIX_EPOCH;
        let capability = signer.capability(Object::PlanJson, "plan-1", now);
        let opened = Some((Object::PlanJson, "plan-1".to_owned()));
        assert_eq!(signer.open(&capability, now), opened);
        assert_eq!(
            signer.open(&capability, now + SignedDuration::from_secs(59)),
            opened
        );
        assert_eq!(signer.open(&capability, now + PLAN_JSON_LIFE), None);
        for index in 0..capability.len() {
            let mut touched = capability.clone().into_bytes();
            touched[index] = if touched[index] == b'A' { b'B' } else { b'A' };
            let touched = String::from_utf8(touched).unwrap();
            assert_eq!(signer.open(&touched, now), None, "{touched}");
        }
        for bad in ["", ".", "a", "a.b"] {
            assert_eq!(signer.open(bad, now), None);
        }
    }

    #[test]
    fn capabilities_of_another_signer_do_not_open() {
        let capability =
            Signer::new(String::new()).capability(Object::State, "sv-1", Timestamp::UNIX_EPOCH);
        assert_eq!(
            Signer::new(String::new()).open(&capability, Timestamp::UNIX_EPOCH),
            None
        );
    }
}
