//! What the audience sees: one step at a time, with colour and a spinner on a terminal, plain
//! lines otherwise.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressStyle};

use super::report::{Report, Step};

const HEAD: Style = AnsiColor::Cyan.on_default().bold();
const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();
const WAIT: Style = AnsiColor::Yellow.on_default().bold();
const DIM: Style = Style::new().dimmed();

/// Prints the story and keeps its report.
pub(super) struct Stage {
    spinner: Option<ProgressBar>,
    started: usize,
    pub(super) report: Report,
}

impl Stage {
    pub(super) fn new(engine: String) -> Self {
        let spinner = std::io::stdout().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            bar.set_style(ProgressStyle::with_template("  {spinner} {msg}").expect("a template"));
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self {
            spinner,
            started: 0,
            report: Report::new(engine),
        }
    }

    /// Begins a step.
    pub(super) fn step(&mut self, title: &str) {
        self.started += 1;
        self.line(&format!("\n{HEAD}{:>2}  {title}{HEAD:#}", self.started));
    }

    /// Says what is being waited for; shown on a terminal only.
    pub(super) fn waiting(&self, what: &str) {
        if let Some(spinner) = &self.spinner {
            spinner.set_message(what.to_owned());
        }
    }

    /// A line of the story.
    pub(super) fn say(&self, text: &str) {
        self.line(&format!("    {text}"));
    }

    /// Output of another program, set back.
    pub(super) fn quote(&self, text: &str) {
        for line in text.lines() {
            self.line(&format!("    {DIM}| {line}{DIM:#}"));
        }
    }

    /// Something that a person has to look at.
    pub(super) fn notice(&self, text: &str) {
        self.line(&format!("    {WAIT}{text}{WAIT:#}"));
    }

    /// Ends a step, with what came of it.
    pub(super) fn done(&mut self, name: &str, ok: bool, detail: impl Into<String>) {
        let detail = detail.into();
        let (style, word) = if ok { (GOOD, "ok") } else { (BAD, "FAILED") };
        self.line(&format!("    {style}{word}{style:#}  {detail}"));
        self.waiting("");
        self.report.steps.push(Step {
            name: name.to_owned(),
            ok,
            detail,
        });
    }

    /// A refused attempt.
    pub(super) fn refused(&self, attempt: &str, code: &str, ok: bool) {
        let style = if ok { GOOD } else { BAD };
        let word = if ok { "refused" } else { "NOT REFUSED" };
        self.line(&format!(
            "    {style}{word:<8}{style:#}  {attempt:<46} {code}"
        ));
    }

    /// The last lines.
    pub(super) fn close(&mut self, text: &str) {
        self.waiting("");
        if let Some(spinner) = self.spinner.take() {
            spinner.finish_and_clear();
        }
        self.line(text);
    }

    fn line(&self, text: &str) {
        let print = || {
            let mut out = anstream::stdout();
            // A closed pipe ends the telling, not the story.
            let _ = writeln!(out, "{text}");
        };
        match &self.spinner {
            Some(spinner) => spinner.suspend(print),
            None => print(),
        }
    }
}
