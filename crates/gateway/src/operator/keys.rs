//! The gateway's keys over the operator API: which there are, the next one of a role, and the key
//! set that puts it into use. What may be said of keys is signed by their root, which operators
//! have: no route makes a key set.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use policy::ReasonCode;
use proof::keyset::{Key, SignedKeySet};
use proof::trust::Role;
use proof::{Did, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::credential::Operator;
use super::extract::{Params, Strict};
use super::problem::Problem;
use crate::app::App;
use crate::keys::change::{ChangeError, change};
use crate::keys::{self, KeysError};
use crate::operator::audit::{Action, audited};
use crate::shapes;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// Tell the place in the log at which this moment is.
    #[serde(default)]
    #[schemars(with = "Option<shapes::Timestamp>")]
    since: Option<Timestamp>,
}

/// Every key, and the key sets of the log.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Params(asked): Params<Asked>,
) -> Result<Json<KeysView>, Problem> {
    let place = match asked.since {
        None => None,
        Some(since) => Some(app.store.log_place(since).await?),
    };
    let key_sets = app.store.key_sets().await?;
    let keys = app.keys.now();
    Ok(Json(KeysView {
        now: app.now(),
        size: app.store.log_size().await?,
        place,
        keys: keys.history.keys().map(KeyView::of).collect(),
        key_sets: key_sets
            .into_iter()
            .map(|set| Logged {
                leaf: set.leaf_index,
                entry: set.entry,
            })
            .collect(),
    }))
}

/// The gateway's keys.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "GatewayKeys")]
pub(super) struct KeysView {
    /// The gateway's time, which the next key set bears.
    #[schemars(with = "shapes::Timestamp")]
    now: Timestamp,
    /// Entries of the log.
    size: u64,
    /// A place in the log before which all is older than the moment that was asked about.
    place: Option<u64>,
    /// Every key that there is or was.
    keys: Vec<KeyView>,
    /// Every key set, in order.
    key_sets: Vec<Logged>,
}

/// A key of the gateway's.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "GatewayKey")]
struct KeyView {
    #[schemars(with = "shapes::Did")]
    did: Did,
    /// `receipt`, `token`, `checkpoint`, `close`, `jobs` or `keyset`.
    role: &'static str,
    /// `current`, `replaced` (it counts until `not_after`), `ended` or `revoked`.
    state: &'static str,
    #[schemars(with = "shapes::Timestamp")]
    not_before: Timestamp,
    #[schemars(with = "Option<shapes::Timestamp>")]
    not_after: Option<Timestamp>,
    #[schemars(with = "Option<shapes::Timestamp>")]
    revoked_at: Option<Timestamp>,
    /// The first place in the log at which it does not count, when it was stolen before.
    revoked_from_leaf: Option<u64>,
    /// Why it was revoked.
    reason: Option<String>,
}

impl KeyView {
    fn of(key: &Key) -> Self {
        let state = match (key.is_current(), key.counts_on(), &key.revoked) {
            (true, ..) => "current",
            (_, true, _) => "replaced",
            (_, _, Some(_)) => "revoked",
            (_, _, None) => "ended",
        };
        let revoked = key.revoked.as_ref();
        Self {
            did: key.did.clone(),
            role: key.role.as_str(),
            state,
            not_before: key.not_before,
            not_after: key.not_after,
            revoked_at: revoked.map(|revoked| revoked.at),
            revoked_from_leaf: revoked.and_then(|revoked| revoked.from_leaf),
            reason: revoked.map(|revoked| revoked.reason.clone()),
        }
    }
}

/// A key set in the log.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "LoggedKeySet")]
struct Logged {
    /// Its place in the log.
    leaf: u64,
    /// The key set as it is signed; see docs/formats.md.
    #[schemars(with = "shapes::Document")]
    entry: SignedKeySet,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "PrepareKey")]
pub(super) struct Prepare {
    /// `receipt`, `token`, `checkpoint`, `close` or `jobs`.
    #[schemars(with = "String")]
    role: Role,
}

/// Makes the next key of a role, or finds the one that was made before and waits.
pub(super) async fn prepare(
    State(app): State<Arc<App>>,
    operator: Operator,
    Strict(body): Strict<Prepare>,
) -> Result<Json<Prepared>, Problem> {
    if body.role == Role::Keyset {
        let detail = "the root of the keys is made and kept by its operators";
        return Err(Problem::new(ReasonCode::KeySetRefused, detail));
    }
    let action = Action {
        operator: operator.name(),
        name: "keys.prepare",
        subject: body.role.to_string(),
        detail: Vec::new(),
        at: app.now(),
    };
    let preparing = async {
        let keys = app.keys.now();
        Ok::<_, ChangeError>(keys::prepare(&keys, &app.config.keys_dir(), body.role)?)
    };
    let did = audited(&*app.store, action, preparing).await?;
    Ok(Json(Prepared {
        role: body.role.as_str(),
        did,
    }))
}

/// A key that waits to be put into use by a key set.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "PreparedKey")]
pub(super) struct Prepared {
    role: &'static str,
    #[schemars(with = "shapes::Did")]
    did: Did,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ChangeKeys")]
pub(super) struct Change {
    /// The key set that follows, as it is signed; see docs/formats.md.
    #[schemars(with = "shapes::Document")]
    entry: SignedKeySet,
}

/// Takes the key set that follows: it becomes a leaf of the log, and its keys are used from then
/// on.
pub(super) async fn submit(
    State(app): State<Arc<App>>,
    operator: Operator,
    Strict(body): Strict<Change>,
) -> Result<Json<Changed>, Problem> {
    let name = operator.name().to_owned();
    // Goes on when whoever asked is gone: the log and the files belong together.
    let changing = tokio::spawn(async move { change(&app, &name, body.entry).await });
    let changed = changing
        .await
        .map_err(|error| Problem::internal(&error))??;
    Ok(Json(Changed {
        number: changed.number,
        leaf: changed.leaf,
        tokens_revoked: changed.tokens_revoked,
        followed_by_all: changed.followed_by_all,
    }))
}

/// What became of a key set.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ChangedKeys")]
pub(super) struct Changed {
    /// Its number.
    number: u64,
    /// Its place in the log.
    leaf: u64,
    /// Tokens that were revoked with the key that had signed them.
    tokens_revoked: u64,
    /// Whether every gateway on the store uses its keys by now.
    followed_by_all: bool,
}

impl From<ChangeError> for Problem {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Refused(refusal) => refusal.into(),
            ChangeError::Store(error) | ChangeError::Keys(KeysError::Store(error)) => error.into(),
            ChangeError::Keys(error @ KeysError::Elsewhere(_)) => {
                Self::new(ReasonCode::KeySetRefused, error.to_string())
            }
            ChangeError::Keys(error) => Self::internal(&error),
        }
    }
}
