//! Notices over the operator API: the channels, what became of the last notices, and tests.

use std::str::FromStr;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use policy::ReasonCode;
use proof::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use store::{NoticeRow, NoticeState};

use super::audit::{Action, audited};
use super::credential::Operator;
use super::extract::Id;
use super::problem::Problem;
use crate::app::App;
use crate::notices;
use crate::shapes;

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
pub(super) async fn list(State(app): State<Arc<App>>) -> Result<Json<Channels>, Problem> {
    let mut channels = Vec::new();
    for channel in app.notices.channels() {
        let latest = app.store.notices(&channel.name, LATEST).await?;
        channels.push(ChannelView {
            name: channel.name.clone(),
            kind: channel.kind,
            place: channel.place.clone(),
            events: channel.gates.iter().map(|gate| gate.as_str()).collect(),
            notices: latest.into_iter().map(NoticeView::from).collect(),
        });
    }
    Ok(Json(Channels { channels }))
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "NoticeChannels")]
pub(super) struct Channels {
    channels: Vec<ChannelView>,
}

/// A way to tell people.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "NoticeChannel")]
struct ChannelView {
    name: String,
    kind: &'static str,
    /// Where it leads, without what is secret.
    place: String,
    /// What is told there.
    #[schemars(with = "Vec<shapes::GateState>")]
    events: Vec<&'static str>,
    /// The latest.
    notices: Vec<NoticeView>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Notice")]
struct NoticeView {
    run_id: String,
    #[schemars(with = "shapes::GateState")]
    event: &'static str,
    state: &'static str,
    attempts: u32,
    #[schemars(with = "shapes::Timestamp")]
    first_at: Timestamp,
    #[schemars(with = "shapes::Timestamp")]
    last_at: Timestamp,
    /// When it is tried again.
    #[schemars(with = "Option<shapes::Timestamp>")]
    next_at: Option<Timestamp>,
    /// Why the last attempt failed.
    error: Option<String>,
}

impl From<NoticeRow> for NoticeView {
    fn from(row: NoticeRow) -> Self {
        Self {
            run_id: row.run_id,
            event: row.gate.as_str(),
            state: row.state.as_str(),
            attempts: row.attempts,
            first_at: row.first_at,
            last_at: row.last_at,
            next_at: match row.state {
                NoticeState::Waiting { next_at } => Some(next_at),
                _ => None,
            },
            error: row.error,
        }
    }
}

/// What came of a test.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct NoticeTest {
    channel: String,
    /// The other side took it.
    taken: bool,
    /// What it said, or why it did not take it.
    said: String,
}

/// Sends a message that says that it is a test.
pub(super) async fn test(
    State(app): State<Arc<App>>,
    Id(Name(name)): Id<Name>,
    operator: Operator,
) -> Result<Json<NoticeTest>, Problem> {
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
    Ok(Json(NoticeTest {
        channel: name,
        taken,
        said,
    }))
}
