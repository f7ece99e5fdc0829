//! `clawgate job top`: what jobs are doing, as it happens. The gateway says when something has
//! changed; nothing is asked over and over.

use std::collections::HashMap;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use proof::Timestamp;
use proof::record::JobId;
use serde_json::Value;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use self::picture::{cut, now_of, picture, spend, tokens};
use super::client::OperatorApi;
use super::term::{self, BAD, DIM, OFF};
use super::{Failure, Remote};

mod picture;

/// Shortest time between two looks: changes may come by the hundred in a second.
const PACE: Duration = Duration::from_millis(250);

/// How often the picture is drawn although nothing has changed: calls in flight get older.
const TICK: Duration = Duration::from_secs(1);

/// How long to wait before a gateway that cannot be reached is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// Width of the picture where there is no terminal to ask.
const WIDTH: usize = 120;

/// Enters the other screen and hides the cursor; leaves it all as it was.
const ENTER: &str = "\u{1b}[?1049h\u{1b}[?25l";
const LEAVE: &str = "\u{1b}[?25h\u{1b}[?1049l";

/// Shows what jobs are doing.
pub(super) async fn run(job: Option<&JobId>, once: bool, remote: &Remote) -> Result<(), Failure> {
    let api = remote.connect()?;
    if once {
        let snapshot = look(&api, job, None).await?;
        return print_all(&once_lines(&snapshot, remote.json));
    }
    let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    if remote.json || dumb || !std::io::stdout().is_terminal() {
        return follow(&api, job, remote.json).await;
    }
    // Dropped before a failure is printed, which then stands on the screen that stays.
    Screen::enter()?.watch(&api, job).await
}

/// One snapshot; with the revision of the last one, when there is another or after a while.
async fn look(
    api: &OperatorApi,
    job: Option<&JobId>,
    after: Option<u64>,
) -> Result<Value, Failure> {
    let mut query = Vec::new();
    query.extend(job.map(|job| format!("job={job}")));
    query.extend(after.map(|after| format!("after={after}")));
    api.get(&format!("/v1/top?{}", query.join("&"))).await
}

fn once_lines(snapshot: &Value, json: bool) -> Vec<String> {
    match json {
        true => vec![snapshot.to_string()],
        false => picture(snapshot, now_of(snapshot), width().unwrap_or(WIDTH)),
    }
}

/// Lines for a program or a log, until the job has ended.
async fn follow(api: &OperatorApi, job: Option<&JobId>, json: bool) -> Result<(), Failure> {
    let mut told = Told::default();
    let mut after = None;
    loop {
        let asked = Instant::now();
        let snapshot = tokio::select! {
            snapshot = look(api, job, after) => snapshot?,
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        let lines = match json {
            // A wait that ended without a change is nothing to tell.
            true if snapshot["revision"].as_u64() == after => Vec::new(),
            true => vec![snapshot.to_string()],
            false => told.news(&snapshot),
        };
        if print_all(&lines).is_err() {
            // Whoever read this has gone.
            return Ok(());
        }
        let ended = |shown: &Value| shown["state"] != "open";
        if job.is_some() && term::items(&snapshot).iter().all(ended) {
            return Ok(());
        }
        after = snapshot["revision"].as_u64();
        tokio::time::sleep_until(asked + PACE).await;
    }
}

fn print_all(lines: &[String]) -> Result<(), Failure> {
    let mut out = anstream::stdout().lock();
    let mut written = Ok(());
    for line in lines {
        written = written.and_then(|()| writeln!(out, "{line}"));
    }
    written
        .and_then(|()| out.flush())
        .map_err(|error| Failure::new(format!("cannot write to standard output: {error}")))
}

/// What was told already.
#[derive(Debug, Default)]
struct Told {
    jobs: HashMap<String, String>,
    /// Time of the last refusal that was told, by job.
    refusals: HashMap<String, String>,
}

impl Told {
    fn news(&mut self, snapshot: &Value) -> Vec<String> {
        let at = term::text(snapshot, "at");
        let mut lines = Vec::new();
        for job in term::items(snapshot) {
            let id = term::text(job, "job_id");
            let line = format!(
                "{id} {} calls {} in flight {} refused {} tokens {} spend {}",
                term::text(job, "state"),
                term::text(job, "calls"),
                term::text(job, "in_flight"),
                term::text(job, "refused"),
                tokens(job),
                spend(job),
            );
            let last = self.refusals.entry(id.clone()).or_default();
            // They come newest first.
            let refusals = job["refusals"].as_array().into_iter().flatten().rev();
            for refusal in refusals {
                let when = term::text(refusal, "at");
                if when > *last {
                    let (code, why) = (term::text(refusal, "code"), term::text(refusal, "why"));
                    lines.push(format!("{when} {id} refused {code}: {why}"));
                    *last = when;
                }
            }
            // Last, so that a job's last line says how it ended.
            if self.jobs.insert(id, line.clone()).as_ref() != Some(&line) {
                lines.push(format!("{at} {line}"));
            }
        }
        lines
    }
}

/// The terminal, given back as it was.
struct Screen {
    resized: Signal,
    ended: Signal,
}

impl Screen {
    fn enter() -> Result<Self, Failure> {
        let no_signals =
            |error| Failure::new(format!("cannot listen to the terminal's signals: {error}"));
        let screen = Self {
            resized: signal(SignalKind::window_change()).map_err(no_signals)?,
            ended: signal(SignalKind::terminate()).map_err(no_signals)?,
        };
        let mut out = std::io::stdout().lock();
        out.write_all(ENTER.as_bytes())
            .and_then(|()| out.flush())
            .map_err(|error| Failure::new(format!("cannot write to the terminal: {error}")))?;
        Ok(screen)
    }

    /// Draws until Ctrl-C or the end of the terminal.
    async fn watch(mut self, api: &OperatorApi, job: Option<&JobId>) -> Result<(), Failure> {
        let mut tick = tokio::time::interval(TICK);
        let mut shown: Option<(Value, Instant)> = None;
        let mut trouble = None;
        let mut next_look = Instant::now();
        loop {
            let after = shown
                .as_ref()
                .and_then(|(last, _)| last["revision"].as_u64());
            let looking = async move {
                tokio::time::sleep_until(next_look).await;
                look(api, job, after).await
            };
            let mut looking = std::pin::pin!(looking);
            // Everything else draws what is known and goes on waiting for the same answer.
            let answer = loop {
                if let Some((snapshot, since)) = &shown {
                    draw(snapshot, since.elapsed(), trouble.as_deref())?;
                }
                tokio::select! {
                    answer = &mut looking => break answer,
                    _ = tick.tick() => {}
                    _ = self.resized.recv() => {}
                    _ = self.ended.recv() => return Ok(()),
                    _ = tokio::signal::ctrl_c() => return Ok(()),
                }
            };
            match answer {
                Ok(snapshot) => {
                    shown = Some((snapshot, Instant::now()));
                    trouble = None;
                    next_look = Instant::now() + PACE;
                }
                // It answered, and said no; or there never was one.
                Err(failure) if failure.code().is_some() || shown.is_none() => return Err(failure),
                Err(failure) => {
                    trouble = Some(failure.to_string());
                    next_look = Instant::now() + RETRY;
                }
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(LEAVE.as_bytes()).and_then(|()| out.flush());
    }
}

/// Draws one picture over the last one.
fn draw(snapshot: &Value, since: Duration, trouble: Option<&str>) -> Result<(), Failure> {
    let (rows, columns) = size().unwrap_or((24, 80));
    let elapsed = i64::try_from(since.as_millis()).unwrap_or(0);
    let now = Timestamp::from_millis(now_of(snapshot).millis().saturating_add(elapsed));
    let mut lines = picture(snapshot, now, columns);
    if let Some(trouble) = trouble {
        let trouble = term::plain(trouble.lines().next().unwrap_or_default());
        lines.insert(1, cut(&format!("{BAD}{trouble}{OFF}"), columns));
    }
    if lines.len() > rows {
        lines.truncate(rows.saturating_sub(1));
        lines.push(format!("{DIM}…{OFF}"));
    }
    let styled = anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never;
    let mut frame = "\u{1b}[H".to_owned();
    for (number, line) in lines.iter().enumerate() {
        if number > 0 {
            frame.push_str("\r\n");
        }
        match styled {
            true => frame.push_str(line),
            false => frame.push_str(&anstream::adapter::strip_str(line).to_string()),
        }
        frame.push_str("\u{1b}[K");
    }
    frame.push_str("\u{1b}[J");
    let mut out = std::io::stdout().lock();
    out.write_all(frame.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| Failure::new(format!("cannot write to the terminal: {error}")))
}

/// Rows and columns of the terminal.
fn size() -> Option<(usize, usize)> {
    let (rows, columns) = console::Term::stdout().size_checked()?;
    (rows > 0 && columns > 0).then_some((rows.into(), columns.into()))
}

fn width() -> Option<usize> {
    size().map(|(_, columns)| columns)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Two jobs, one of them with everything.
    pub(super) fn snapshot() -> Value {
        json!({"revision": 7, "at": "2026-11-22T14:05:09.000Z", "gateway_id": "gateway.example",
            "jobs": [{"job_id": "job_1", "name": "resize the staging database \u{1b}[2J", "state": "open",
                "calls": 12, "in_flight": 1, "refused": 2, "tokens_input": 9000, "tokens_output": 4000,
                "tokens_derived": true,
                "budget": {"calls": {"used": 10, "of": null},
                    "tokens": {"used": 13_000, "reserved": 2000, "of": 50_000},
                    "cost_usd": {"used": "4.9", "reserved": "0.05", "of": "5"}},
                "live": [{"seq": 9, "at": "2026-11-22T14:04:00.000Z", "lane": "model",
                    "operation": "chat-completions", "about": "gpt-5"}],
                "refusals": [{"at": "2026-11-22T14:05:01.000Z", "code": "MODEL_NOT_ALLOWED",
                    "asked": "chat-completions", "why": "model `gpt-9` is outside the contract"},
                    {"at": "2026-11-22T14:05:00.000Z", "code": "ROUTE_UNKNOWN", "asked": "GET", "why": ""}]},
                {"job_id": "job_2", "name": "nightly", "state": "open", "calls": 0, "in_flight": 0,
                "refused": 0, "tokens_input": 1, "tokens_output": 2, "tokens_derived": false,
                "budget": {"calls": {"of": 5}, "tokens": {"of": null}, "cost_usd": {"of": null}},
                "live": [], "refusals": []}]})
    }

    #[test]
    fn lines_tell_what_is_new_and_nothing_twice() {
        let mut told = Told::default();
        let mut snapshot = snapshot();
        let first = told.news(&snapshot);
        assert_eq!(first.len(), 4, "{first:?}");
        assert!(first[0].contains("ROUTE_UNKNOWN") && first[1].contains("MODEL_NOT_ALLOWED"));
        assert_eq!(told.news(&snapshot), Vec::<String>::new());
        snapshot["jobs"][1]["calls"] = json!(1);
        let line = told.news(&snapshot);
        let expected =
            "2026-11-22T14:05:09.000Z job_2 open calls 1 in flight 0 refused 0 tokens 3 spend -";
        assert_eq!(line, [expected]);
    }
}
