//! What Terraform Cloud tells of its own accord.
//!
//! A notification is a hint and no more: it is signed, but it may be old, repeated or about
//! something that has long changed. It makes the gateway look; what is kept is what upstream
//! itself answers then. So a replay does nothing.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::FromRequest;
use http::Request;
use policy::terraform::ids::WorkspaceId;
use policy::{ReasonCode, Refusal};
use proof::{Json, Numbers};

use crate::app::App;
use crate::clawproxy::body::{self, Bounds};
use crate::operator::Problem;
use crate::signature::{BadSignature, Signature};

/// Path of the endpoint on the operator listener.
pub const PATH: &str = "/v1/notifications";

/// Where the signature stands.
const SIGNATURE: &str = "x-tfe-notification-signature";

/// Largest notification, in bytes; the vendor's have about one thousand.
const MAX_BYTES: usize = 64 * 1024;

/// How long one may take to come in.
const PATIENCE: Duration = Duration::from_secs(15);

/// What a notification is about. [`FromRequest`] is its only maker, after it has checked the
/// signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notification {
    /// Upstream only tries the address.
    Verification,
    /// Something happened in a workspace.
    About(WorkspaceId),
}

impl FromRequest<Arc<App>> for Notification {
    type Rejection = Problem;

    async fn from_request(request: Request<Body>, app: &Arc<App>) -> Result<Self, Problem> {
        let key = app.watching.key.as_ref();
        let key = key.ok_or(ReasonCode::PageUnknown)?;
        let (parts, body) = request.into_parts();
        let refused =
            |bad: BadSignature| Refusal::new(ReasonCode::NotificationSignature, bad.to_string());
        let signature = Signature::of(&parts.headers, SIGNATURE).map_err(refused)?;
        let bounds = Bounds {
            bytes: MAX_BYTES,
            patience: PATIENCE,
            room: &app.watching.bodies,
            too_large: ReasonCode::BodyTooLarge,
        };
        let held = body::read(body, bounds).await?;
        signature.verify(key, &held.bytes).map_err(refused)?;
        Ok(parse(&held.bytes)?)
    }
}

/// Reads a notification about a run (version 1) or about a workspace's health (version 2).
fn parse(body: &[u8]) -> Result<Notification, Refusal> {
    let json = proof::json::parse(body, Numbers::Any)
        .map_err(|error| Refusal::new(ReasonCode::BodyNotJson, error.to_string()))?;
    let known = match json.get("payload_version") {
        Some(Json::Integer(version)) => *version == 1,
        Some(Json::String(version)) => version == "2",
        _ => false,
    };
    if !known {
        let detail = "its payload_version is not known";
        return Err(Refusal::new(ReasonCode::BodyWrongType, detail));
    }
    let workspace = match json.get("workspace_id") {
        Some(Json::String(id)) => Some(id),
        // Version 2 has it with the particulars.
        _ => match json.at(&["details", "workspace_id"]) {
            Some(Json::String(id)) => Some(id),
            _ => None,
        },
    };
    match workspace {
        Some(id) => {
            let id = id.parse().map_err(|_| ReasonCode::IdMalformed)?;
            Ok(Notification::About(id))
        }
        None if is_verification(&json) => Ok(Notification::Verification),
        None => Err(ReasonCode::BodyMissingMember.into()),
    }
}

fn is_verification(json: &Json) -> bool {
    let told = json.get("notifications").and_then(Json::as_array);
    told.unwrap_or_default().iter().any(|notification| {
        notification.get("trigger").and_then(Json::as_str) == Some("verification")
    })
}

/// Takes a notification: the workspace is looked at as soon as possible.
///
/// # Errors
/// `WORKSPACE_NOT_ALLOWED` for one that no contract in use names, `STORE_UNAVAILABLE`.
pub async fn receive(app: &App, notification: Notification) -> Result<(), Refusal> {
    let Notification::About(workspace) = notification else {
        return Ok(());
    };
    let governed = super::governed(&*app.store)
        .await
        .map_err(crate::clawproxy::authenticate::unavailable)?;
    if !governed.contains(workspace.as_str()) {
        return Err(ReasonCode::WorkspaceNotAllowed.into());
    }
    app.watching.look_soon(workspace.as_str());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notifications_have_one_reading() {
        let about = |id: &str| Ok(Notification::About(id.parse().unwrap()));
        use ReasonCode as R;
        for (body, read) in [
            (
                r#"{"payload_version":1,"workspace_id":"ws-abc","notifications":[]}"#,
                about("ws-abc"),
            ),
            (
                r#"{"payload_version":"2","workspace_id":"ws-abc","notifications":[]}"#,
                about("ws-abc"),
            ),
            (
                r#"{"payload_version":1,"workspace_id":null,
                    "notifications":[{"trigger":"verification"}]}"#,
                Ok(Notification::Verification),
            ),
            ("", Err(R::BodyNotJson)),
            ("[]", Err(R::BodyWrongType)),
            ("{}", Err(R::BodyWrongType)),
            (
                r#"{"payload_version":3,"workspace_id":"ws-abc"}"#,
                Err(R::BodyWrongType),
            ),
            (
                r#"{"payload_version":1,"payload_version":1}"#,
                Err(R::BodyNotJson),
            ),
            (r#"{"payload_version":1}"#, Err(R::BodyMissingMember)),
            (
                r#"{"payload_version":1,"workspace_id":"ws-../../admin"}"#,
                Err(R::IdMalformed),
            ),
            (
                r#"{"payload_version":1,"workspace_id":"run-1"}"#,
                Err(R::IdMalformed),
            ),
            (
                r#"{"payload_version":1,"workspace_id":null,
                    "notifications":[{"trigger":"run:created"}]}"#,
                Err(R::BodyMissingMember),
            ),
        ] {
            let found = parse(body.as_bytes()).map_err(|refusal| refusal.code);
            assert_eq!(found, read, "{body}");
        }
    }
}
