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

use super::client::OperatorApi;
use super::term::{self, BAD, BOLD, DIM, GOOD, OFF, WARN};
use super::{Failure, Remote};

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
            if self.jobs.insert(id.clone(), line.clone()).as_ref() != Some(&line) {
                lines.push(format!("{at} {line}"));
            }
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

/// The snapshot's own time.
fn now_of(snapshot: &Value) -> Timestamp {
    let at = snapshot["at"].as_str().and_then(|at| at.parse().ok());
    at.unwrap_or(Timestamp::from_millis(0))
}

/// The picture: lines no wider than the terminal.
fn picture(snapshot: &Value, now: Timestamp, columns: usize) -> Vec<String> {
    let jobs = term::items(snapshot);
    let open = jobs.iter().filter(|job| job["state"] == "open").count();
    let mut lines = vec![
        format!(
            "{BOLD}{}{OFF}  {}  {open} open {}",
            term::text(snapshot, "gateway_id"),
            clock(&now.to_string()),
            if open == 1 { "job" } else { "jobs" },
        ),
        String::new(),
    ];
    lines.extend(table(jobs, columns));
    section(&mut lines, "in flight", live(jobs, now));
    section(&mut lines, "refused last", refusals(jobs));
    lines.iter().map(|line| cut(line, columns)).collect()
}

fn section(lines: &mut Vec<String>, name: &str, of: Vec<String>) {
    if !of.is_empty() {
        lines.push(String::new());
        lines.push(format!("{BOLD}{name}{OFF}"));
        lines.extend(of);
    }
}

/// The jobs, one in a row. Where there is room each row has the job's id.
fn table(jobs: &[Value], columns: usize) -> Vec<String> {
    if jobs.is_empty() {
        return vec![format!("{DIM}no open jobs{OFF}")];
    }
    let wide = columns >= 130;
    let heading = ["JOB", "CALLS", "FLIGHT", "REFUSED", "TOKENS", "SPEND"];
    let rows: Vec<[String; 6]> = jobs
        .iter()
        .map(|job| {
            let calls = match job["budget"]["calls"]["of"].as_u64() {
                Some(most) => format!("{} of {most}", term::text(job, "calls")),
                None => term::text(job, "calls"),
            };
            let name = term::text(job, "name");
            let name = match wide {
                true => format!("{}  {name}", term::text(job, "job_id")),
                false => name,
            };
            [
                name,
                calls,
                term::text(job, "in_flight"),
                term::text(job, "refused"),
                tokens(job),
                spend(job),
            ]
        })
        .collect();
    let mut widths = heading.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(console::measure_text_width(cell));
        }
    }
    // The names give way to the numbers.
    let others: usize = widths[1..].iter().map(|width| width + 2).sum();
    widths[0] = widths[0].min(columns.saturating_sub(others).max(12));
    let line = |cells: &[String; 6], styles: [&dyn std::fmt::Display; 6]| {
        let mut line = String::new();
        for (number, (cell, width)) in cells.iter().zip(widths).enumerate() {
            let cell = cut(cell, width);
            let fill = " ".repeat(width.saturating_sub(console::measure_text_width(&cell)));
            let style = styles[number];
            let text = match number {
                0 => format!("{style}{cell}{OFF}{fill}"),
                _ => format!("  {fill}{style}{cell}{OFF}"),
            };
            line.push_str(&text);
        }
        line
    };
    let mut lines = vec![line(&heading.map(str::to_owned), [&DIM; 6])];
    for (row, job) in rows.iter().zip(jobs) {
        let plain: &dyn std::fmt::Display = &"";
        let some = |name: &str| job[name].as_u64().unwrap_or(0) > 0;
        let flight: &dyn std::fmt::Display = if some("in_flight") { &GOOD } else { &DIM };
        let refused: &dyn std::fmt::Display = if some("refused") { &WARN } else { &DIM };
        let of = |name: &str| -> &dyn std::fmt::Display {
            match is_nearly_spent(&job["budget"][name]) {
                true => &BAD,
                false => plain,
            }
        };
        let styles = [
            plain,
            of("calls"),
            flight,
            refused,
            of("tokens"),
            of("cost_usd"),
        ];
        lines.push(line(row, styles));
    }
    lines
}

/// Whether nine tenths of a budget are used or reserved.
fn is_nearly_spent(budget: &Value) -> bool {
    let number = |name: &str| match &budget[name] {
        Value::String(text) => text.parse().unwrap_or(0.0),
        other => other.as_f64().unwrap_or(0.0),
    };
    !budget["of"].is_null() && number("used") + number("reserved") >= 0.9 * number("of")
}

/// Tokens that were used; where there is a budget, what counts there.
fn tokens(job: &Value) -> String {
    let budget = &job["budget"]["tokens"];
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    match budget["of"].as_u64() {
        Some(most) => {
            let used = number(&budget["used"]) + number(&budget["reserved"]);
            format!("{} of {}", short(used), short(most))
        }
        None => {
            let sum = number(&job["tokens_input"]) + number(&job["tokens_output"]);
            let about = if job["tokens_derived"] == true {
                "~"
            } else {
                ""
            };
            format!("{about}{}", short(sum))
        }
    }
}

/// Money that was used and reserved, where there is a budget of it.
fn spend(job: &Value) -> String {
    let budget = &job["budget"]["cost_usd"];
    if budget["of"].is_null() {
        return "-".to_owned();
    }
    let (used, of) = (term::text(budget, "used"), term::text(budget, "of"));
    match budget["reserved"].as_str() {
        Some(reserved) if reserved.trim_matches(['0', '.']) != "" => {
            format!("{used} (+{}) of {of} USD", term::plain(reserved))
        }
        _ => format!("{used} of {of} USD"),
    }
}

/// A number in at most six characters.
fn short(number: u64) -> String {
    match number {
        0..10_000 => number.to_string(),
        10_000..1_000_000 => format!("{}.{}k", number / 1000, number % 1000 / 100),
        1_000_000..1_000_000_000 => {
            format!("{}.{}M", number / 1_000_000, number % 1_000_000 / 100_000)
        }
        _ => format!("{}G", number / 1_000_000_000),
    }
}

/// Calls in flight, the oldest first.
fn live(jobs: &[Value], now: Timestamp) -> Vec<String> {
    let mut calls: Vec<(String, String)> = Vec::new();
    for job in jobs {
        for call in job["live"].as_array().into_iter().flatten() {
            let at = term::text(call, "at");
            let since = at.parse::<Timestamp>().unwrap_or(now).millis();
            let seconds = (now.millis() - since).max(0) / 1000;
            let age = format!("{:3}:{:02}", seconds / 60, seconds % 60);
            let line = format!(
                "  {age}  {:<24} {:<22} {DIM}{}{OFF}",
                term::text(call, "operation"),
                term::text(call, "about"),
                term::text(job, "name"),
            );
            calls.push((at, line));
        }
    }
    calls.sort();
    calls.into_iter().map(|(_, line)| line).take(20).collect()
}

/// The last refusals, newest first.
fn refusals(jobs: &[Value]) -> Vec<String> {
    let mut all: Vec<(String, String)> = Vec::new();
    for job in jobs {
        for refusal in job["refusals"].as_array().into_iter().flatten() {
            let at = term::text(refusal, "at");
            let line = format!(
                "  {}  {WARN}{:<28}{OFF} {} {DIM}{}{OFF}",
                clock(&at),
                term::text(refusal, "code"),
                term::text(refusal, "asked"),
                term::text(refusal, "why"),
            );
            all.push((at, line));
        }
    }
    all.sort();
    all.into_iter()
        .rev()
        .map(|(_, line)| line)
        .take(10)
        .collect()
}

/// The time of day of a timestamp, in UTC.
fn clock(at: &str) -> String {
    at.get(11..19)
        .map_or_else(|| at.to_owned(), |time| format!("{time}Z"))
}

fn cut(line: &str, columns: usize) -> String {
    console::truncate_str(line, columns, "…").into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn snapshot() -> Value {
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
    fn pictures_fit_the_terminal_and_cannot_be_painted_over() {
        let snapshot = snapshot();
        for columns in [20, 80, 140] {
            let lines = picture(&snapshot, now_of(&snapshot), columns);
            for line in &lines {
                let text = anstream::adapter::strip_str(line).to_string();
                assert!(console::measure_text_width(&text) <= columns, "{text}");
                assert!(!text.contains('\u{1b}'), "{text}");
            }
            let all = lines.join("\n");
            let all = anstream::adapter::strip_str(&all).to_string();
            assert_eq!(all.contains("job_1"), columns == 140, "{all}");
            if columns > 20 {
                for part in [
                    "15.0k of 50.0k",
                    "4.9 (+0.05) of 5 USD",
                    "1:09  chat-completions",
                    "14:05:01Z  MODEL_NOT_ALLOWED",
                    "0 of 5",
                ] {
                    assert!(all.contains(part), "{part}: {all}");
                }
            }
        }
        let spent = |reserved: &str| {
            spend(&json!({"budget": {"cost_usd": {"used": "1", "reserved": reserved, "of": "2"}}}))
        };
        assert_eq!([spent("0"), spent("0.00")], ["1 of 2 USD", "1 of 2 USD"]);
        let none = json!({"jobs": []});
        let text = picture(&none, now_of(&none), 80).join("\n");
        assert!(text.contains("no open jobs"));
    }

    #[test]
    fn lines_tell_what_is_new_and_nothing_twice() {
        let mut told = Told::default();
        let mut snapshot = snapshot();
        let first = told.news(&snapshot);
        assert_eq!(first.len(), 4, "{first:?}");
        assert!(first[1].contains("ROUTE_UNKNOWN") && first[2].contains("MODEL_NOT_ALLOWED"));
        assert_eq!(told.news(&snapshot), Vec::<String>::new());
        snapshot["jobs"][1]["calls"] = json!(1);
        let line = told.news(&snapshot);
        let expected =
            "2026-11-22T14:05:09.000Z job_2 open calls 1 in flight 0 refused 0 tokens 3 spend -";
        assert_eq!(line, [expected]);
    }

    #[test]
    fn budgets_are_red_when_they_are_nearly_spent() {
        for (budget, nearly) in [
            (json!({"used": 89, "reserved": 0, "of": 100}), false),
            (json!({"used": 80, "reserved": 10, "of": 100}), true),
            (json!({"used": "4.9", "reserved": "0", "of": "5"}), true),
            (json!({"used": "1", "reserved": "0", "of": "5"}), false),
            (json!({"used": 1, "of": null}), false),
        ] {
            assert_eq!(is_nearly_spent(&budget), nearly, "{budget}");
        }
        for (number, text) in [
            (0, "0"),
            (9999, "9999"),
            (10_000, "10.0k"),
            (999_999, "999.9k"),
            (1_250_000, "1.2M"),
            (u64::MAX, "18446744073G"),
        ] {
            assert_eq!(short(number), text);
        }
    }
}
