//! Notices over the operator API: the channels, what became of the last notices, and tests.

use std::str::FromStr;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use policy::ReasonCode;
use serde_json::{Value, json};
use store::{NoticeRow, NoticeState};

use super::audit::{Action, audited};
use super::credential::Operator;
use super::extract::Id;
use super::problem::Problem;
use crate::app::App;
use crate::notices;

/// Notices that are shown of each channel.
const LATEST: u32 = 10;

/// A channel's name in a path.
#[derive(Debug)]
pub(super) struct Name(String);

impl FromStr for Name {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Ok(Self(text.to_owned()))
    }
}

/// Every channel with its latest notices.
pub(super) async fn list(State(app): State<Arc<App>>) -> Result<Json<Value>, Problem> {
    let mut channels = Vec::new();
    for channel in app.notices.channels() {
        let latest = app.store.notices(&channel.name, LATEST).await?;
        let events: Vec<&str> = channel.gates.iter().map(|gate| gate.as_str()).collect();
        channels.push(json!({
            "name": channel.name,
            "kind": channel.kind,
            "place": channel.place,
            "events": events,
            "notices": latest.iter().map(view).collect::<Vec<_>>(),
        }));
    }
    Ok(Json(json!({ "channels": channels })))
}

fn view(row: &NoticeRow) -> Value {
    json!({
        "run_id": row.run_id,
        "event": row.gate.as_str(),
        "state": row.state.as_str(),
        "attempts": row.attempts,
        "first_at": row.first_at,
        "last_at": row.last_at,
        "next_at": match row.state {
            NoticeState::Waiting { next_at } => Some(next_at),
            _ => None,
        },
        "error": row.error,
    })
}

/// Sends a message that says that it is a test.
pub(super) async fn test(
    State(app): State<Arc<App>>,
    Id(Name(name)): Id<Name>,
    operator: Operator,
) -> Result<Json<Value>, Problem> {
    let channel = app.notices.channel(&name);
    let channel = channel.ok_or(ReasonCode::NoticeChannelUnknown)?;
    let action = Action {
        operator: operator.name(),
        name: "notice.test",
        subject: name.clone(),
        detail: Vec::new(),
        at: app.now(),
    };
    let sent = audited(&*app.store, action, async {
        Ok::<_, Problem>(notices::test(&app, channel).await)
    })
    .await?;
    let (taken, said) = match sent {
        Ok(said) => (true, said),
        Err(why) => (false, why),
    };
    Ok(Json(
        json!({ "channel": name, "taken": taken, "said": said }),
    ))
}
