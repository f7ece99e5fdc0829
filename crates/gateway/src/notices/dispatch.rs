//! One task for each channel: looks what there is to tell, and tells it.

use std::sync::Arc;
use std::time::Duration;

use proof::{Json, Timestamp};
use store::{DueNotice, NewsQuery, OperatorAction, StoreError, Told};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::channel::{Channel, NoticeId};
use super::message::Message;
use crate::app::App;
use crate::keys::random_bytes;

/// Runs that have not changed for so long are no news, and a notice that did not get through for
/// so long is given up, in seconds.
const DAY: i64 = 86_400;

/// The first and the longest pause between two attempts, in seconds.
const FIRST_PAUSE: i64 = 5;
const LONGEST_PAUSE: i64 = 3600;

/// The shortest time between two looks: a busy gateway commits all the time.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// The longest: another process may have written.
const LONGEST_REST: Duration = Duration::from_secs(60);

/// Notices in one look.
const AT_ONCE: u32 = 20;

/// Tells a channel what there is to tell until the gateway stops; what is on its way then gets
/// to its end.
pub(super) async fn tell(
    app: Arc<App>,
    channel: Arc<Channel>,
    mut stopping: watch::Receiver<bool>,
) {
    let mut commits = app.store.commits();
    loop {
        let looked = Instant::now();
        // Whatever is committed from here on is looked at in the next round.
        commits.mark_unchanged();
        let rest = match round(&app, &channel, &stopping).await {
            Ok(next_at) => until(next_at, app.now()),
            Err(error) => {
                tracing::warn!(%error, channel = channel.name, "what is to be told cannot be read");
                LONGEST_REST
            }
        };
        let pause = async {
            let _ = timeout(rest, commits.changed()).await;
            sleep_until(looked + BETWEEN_LOOKS).await;
        };
        tokio::select! {
            biased;
            _ = stopping.wait_for(|stop| *stop) => return,
            () = pause => {}
        }
    }
}

/// Tells what is due now, and says when the next thing is.
async fn round(
    app: &App,
    channel: &Channel,
    stopping: &watch::Receiver<bool>,
) -> Result<Option<Timestamp>, StoreError> {
    let now = app.now();
    let query = NewsQuery {
        channel: channel.name.clone(),
        gates: channel.gates.clone(),
        since: now.plus_seconds(-DAY),
        now,
        limit: AT_ONCE,
    };
    let news = app.store.news(query).await?;
    // There may be more of it.
    let full = u32::try_from(news.due.len()).is_ok_and(|due| due >= AT_ONCE);
    let next_at = if full { Some(now) } else { news.next_at };
    for due in news.due {
        if *stopping.borrow() {
            break;
        }
        tell_one(app, channel, due).await?;
    }
    Ok(next_at)
}

/// A crash after the other side took it, and before that is written down, sends it again: under
/// the same id, by which it can be told.
async fn tell_one(app: &App, channel: &Channel, due: DueNotice) -> Result<(), StoreError> {
    let (run_id, gate) = (&due.run.run_id, due.run.gate);
    let sent = match Message::of_run(app, &due.run).await {
        Ok(message) => {
            let gateway = &app.config.gateway_id;
            let id = NoticeId::of_run(gateway, &channel.name, run_id, gate);
            let http = &app.notices.http;
            channel.send(http, &message, &id, app.now()).await
        }
        // One run that cannot be read must not keep the others from being told.
        Err(error) => {
            tracing::error!(%error, run = run_id, "what is to be told cannot be put into words");
            Err("it cannot be put into words; the log says why".to_owned())
        }
    };
    let now = app.now();
    let told = match sent {
        Ok(_) => {
            tracing::info!(
                channel = channel.name,
                run = run_id,
                state = gate.as_str(),
                "told"
            );
            Told::Sent
        }
        Err(error) => {
            let random = u32::from_le_bytes(random_bytes());
            after_failure(due.attempts, due.first_at, now, random, error)
        }
    };
    match &told {
        Told::Sent => {}
        Told::Failed { error, next_at } => tracing::warn!(
            channel = channel.name, run = run_id, state = gate.as_str(), error, %next_at,
            "people could not be told; it is tried again"
        ),
        Told::GaveUp { error } => {
            tracing::error!(
                channel = channel.name,
                run = run_id,
                state = gate.as_str(),
                error,
                "people could not be told for a day; it is not tried again"
            );
            let mut detail = Json::object();
            detail.set("channel", channel.name.as_str());
            detail.set("state", gate.as_str());
            detail.set("error", error.as_str());
            let action = OperatorAction {
                at: now,
                operator: "gateway".to_owned(),
                action: "notice.give-up".to_owned(),
                subject: run_id.clone(),
                detail,
            };
            app.store.note_operator_action(action).await?;
        }
    }
    app.store.told(&channel.name, run_id, gate, now, told).await
}

/// What follows from an attempt that failed, the `attempts` before it and when the first one was.
/// The pauses double; a random part keeps what failed together from coming back together.
fn after_failure(
    attempts: u32,
    first_at: Option<Timestamp>,
    now: Timestamp,
    random: u32,
    error: String,
) -> Told {
    let end = first_at.unwrap_or(now).plus_seconds(DAY);
    if now >= end {
        return Told::GaveUp { error };
    }
    let pause = FIRST_PAUSE << attempts.min(20);
    let pause = pause + pause * i64::from(random) / i64::from(u32::MAX) / 2;
    let next_at = now.plus_seconds(pause.min(LONGEST_PAUSE));
    Told::Failed {
        error,
        next_at: next_at.min(end),
    }
}

/// How long there is nothing to do, unless something is committed.
fn until(next_at: Option<Timestamp>, now: Timestamp) -> Duration {
    let Some(next_at) = next_at else {
        return LONGEST_REST;
    };
    let millis = u64::try_from(next_at.millis() - now.millis()).unwrap_or(0);
    Duration::from_millis(millis).min(LONGEST_REST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(1_795_334_400 + seconds)
    }

    #[test]
    fn pauses_double_up_to_an_hour_and_end_after_a_day() {
        for (attempts, since_first, random, next) in [
            (0, None, 0, Some(5)),
            (0, None, u32::MAX, Some(7)),
            (1, Some(5), 0, Some(10)),
            (1, Some(5), u32::MAX, Some(15)),
            (5, Some(400), 0, Some(160)),
            (9, Some(3000), 0, Some(2560)),
            (9, Some(3000), u32::MAX, Some(3600)),
            (10, Some(5000), 0, Some(3600)),
            (u32::MAX, Some(50_000), u32::MAX, Some(3600)),
            // The last attempt is not later than a day after the first.
            (40, Some(DAY - 60), 0, Some(60)),
            (40, Some(DAY), 0, None),
            (40, Some(DAY + 5), 0, None),
        ] {
            let first_at = since_first.map(|seconds| at(-seconds));
            let told = after_failure(attempts, first_at, at(0), random, "no".to_owned());
            let error = "no".to_owned();
            let expected = match next {
                Some(seconds) => Told::Failed {
                    error,
                    next_at: at(seconds),
                },
                None => Told::GaveUp { error },
            };
            assert_eq!(told, expected, "{attempts} {since_first:?} {random}");
        }
    }

    #[test]
    fn a_rest_has_a_bound() {
        assert_eq!(until(None, at(0)), LONGEST_REST);
        assert_eq!(until(Some(at(7)), at(0)), Duration::from_secs(7));
        assert_eq!(until(Some(at(-7)), at(0)), Duration::ZERO);
        assert_eq!(until(Some(at(DAY)), at(0)), LONGEST_REST);
    }
}
