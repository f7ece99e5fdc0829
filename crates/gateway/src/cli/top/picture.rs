//! The picture: a table of jobs, the calls in flight, the last refusals.

use proof::Timestamp;
use serde_json::Value;

use crate::cli::term::{self, BAD, BOLD, DIM, GOOD, OFF, WARN};

/// The snapshot's own time.
pub(super) fn now_of(snapshot: &Value) -> Timestamp {
    let at = snapshot["at"].as_str().and_then(|at| at.parse().ok());
    at.unwrap_or(Timestamp::from_millis(0))
}

/// The picture: lines no wider than the terminal.
pub(super) fn picture(snapshot: &Value, now: Timestamp, columns: usize) -> Vec<String> {
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
pub(super) fn tokens(job: &Value) -> String {
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
pub(super) fn spend(job: &Value) -> String {
    let budget = &job["budget"]["cost_usd"];
    if budget["of"].is_null() {
        return "-".to_owned();
    }
    let (used, of) = (term::text(budget, "used"), term::text(budget, "of"));
    match budget["reserved"].as_str() {
        Some(reserved) if !reserved.trim_matches(['0', '.']).is_empty() => {
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

pub(super) fn cut(line: &str, columns: usize) -> String {
    console::truncate_str(line, columns, "…").into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::snapshot;
    use super::*;

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
