//! `clawgate evidence export`: lines for a SIEM, and where to go on.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use proof::Timestamp;
use proof::record::JobId;
use tokio::time::Instant;

use super::state::State;
use crate::cli::again::Again;
use crate::cli::client::{Lines, job_id};
use crate::cli::{Failure, Remote};
use crate::export::{Format, Of};
use crate::operator::export::GATEWAY;

/// How long lines may be written before the state says so.
const STATE_EVERY: Duration = Duration::from_secs(1);

/// How often an export that is not to go on for ever is tried again without getting further.
const TRIES: u32 = 5;

/// What to export, and where to.
#[derive(Debug, Args)]
pub(in crate::cli) struct Export {
    /// How lines are written: csv, ocsf or jsonl
    #[arg(long = "as", value_name = "FORMAT", default_value = "jsonl", value_parser = format)]
    format: Format,
    /// What is exported: records, or the actions of operators
    #[arg(long, value_name = "WHAT", default_value = "records", value_parser = of)]
    of: Of,
    /// Only from this time on: a day (UTC) or an RFC 3339 time
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Timestamp>,
    /// Only before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<Timestamp>,
    /// Go on after the line with this number
    #[arg(long, value_name = "NUMBER", conflicts_with = "state")]
    after: Option<u64>,
    /// Go on where the last export with this file ended, and keep there where this one ends
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Do not end: write what is recorded from now on as well, until Ctrl-C
    #[arg(long)]
    follow: bool,
    /// Only records of this job
    #[arg(long, value_parser = job_id)]
    job: Option<JobId>,
    /// Append to this file instead of writing to standard output
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Leave out the header of a CSV
    #[arg(long)]
    no_header: bool,
    #[command(flatten)]
    remote: Remote,
}

fn format(text: &str) -> Result<Format, String> {
    text.parse()
        .map_err(|error: crate::export::UnknownWord| error.to_string())
}

fn of(text: &str) -> Result<Of, String> {
    text.parse()
        .map_err(|error: crate::export::UnknownWord| error.to_string())
}

/// A day, or a time with its offset.
pub(in crate::cli) fn time(text: &str) -> Result<Timestamp, String> {
    let day = text.len() == 10;
    let whole = match day {
        true => format!("{text}T00:00:00Z"),
        false => text.to_owned(),
    };
    let read: Result<jiff::Timestamp, _> = whole.parse();
    read.map(|time| Timestamp::from_millis(time.as_millisecond()))
        .map_err(|_| "not a day like 2026-11-22 or a time like 2026-11-22T08:00:00Z".to_owned())
}

/// Why writing ended.
enum End {
    /// All that was asked for is written.
    Done,
    /// The gateway has ended it, and there may be more.
    Gateway,
    /// Whoever read our output has gone.
    NobodyReads,
}

impl Export {
    pub(in crate::cli) async fn run(self) -> Result<(), Failure> {
        if self.of == Of::Actions && self.job.is_some() {
            return Err(Failure::usage(
                "--job is for records: what operators did is not kept by job",
            ));
        }
        let api = self.remote.connect()?;
        let state = match &self.state {
            Some(file) => Some(State::open(file, self.of, self.job.as_ref())?),
            None => None,
        };
        let last = state.as_ref().map_or(self.after, State::last);
        let mut writing = Writing {
            out: self.open(last)?,
            format: self.format,
            header: !self.no_header,
            last,
            state,
            gateway_id: String::new(),
            unsaved: None,
        };
        let mut again = Again::default();
        let mut in_vain = 0;
        let mut stop = std::pin::pin!(crate::server::stop_signal());
        loop {
            let before = writing.last;
            let attempt = async {
                let mut lines = api.lines(&self.path(writing.last)).await?;
                again.reached();
                writing.all(&mut lines, &mut again, self.follow).await
            };
            let ended = tokio::select! {
                ended = attempt => ended,
                _ = &mut stop => return writing.save(),
            };
            // Whatever happened, what was written is written.
            let saved = writing.save();
            let failure = match ended {
                Ok(End::NobodyReads) => return Ok(()),
                Ok(End::Done) => return saved,
                Ok(End::Gateway) => Failure::new("the gateway stops"),
                Err(failure) => failure,
            };
            saved?;
            in_vain = if writing.last == before {
                in_vain + 1
            } else {
                0
            };
            if !self.follow && in_vain >= TRIES {
                return Err(failure);
            }
            let pause = again.pause(failure)?;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = &mut stop => return Ok(()),
            }
        }
    }

    /// The place where lines go; a file that goes on may end within a line of ours.
    fn open(&self, last: Option<u64>) -> Result<Out, Failure> {
        let ours = |tail: &[u8]| last.is_some() && self.format.may_begin(self.of, tail);
        Out::open(self.out.as_deref(), ours)
    }

    fn path(&self, last: Option<u64>) -> String {
        let mut path = format!(
            "/v1/export?of={}&as={}",
            self.of.as_str(),
            self.format.as_str()
        );
        let mut with = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                path.push_str(&format!("&{name}={value}"));
            }
        };
        with("after", last.map(|last| last.to_string()));
        with("since", self.since.map(|time| time.to_string()));
        with("until", self.until.map(|time| time.to_string()));
        with("job", self.job.as_ref().map(ToString::to_string));
        with("follow", self.follow.then(|| "true".to_owned()));
        path
    }
}

/// Lines on their way to their place.
struct Writing {
    out: Out,
    format: Format,
    /// Whether the header is still to be written.
    header: bool,
    /// The number of the last line that was written.
    last: Option<u64>,
    state: Option<State>,
    gateway_id: String,
    /// Since when lines were written that the state does not have.
    unsaved: Option<Instant>,
}

impl Writing {
    async fn all(
        &mut self,
        lines: &mut Lines,
        again: &mut Again,
        follow: bool,
    ) -> Result<End, Failure> {
        let gateway_id = lines
            .headers
            .get(GATEWAY)
            .and_then(|value| value.to_str().ok());
        let gateway_id = gateway_id.ok_or_else(|| {
            Failure::new("the answer does not say whose it is")
                .next("is this the operator listener of a Clawgate of this version?")
                .lasting()
        })?;
        if let Some(state) = &self.state {
            state.check(gateway_id)?;
        }
        self.gateway_id = gateway_id.to_owned();
        self.out.cut()?;
        if self.format == Format::Csv {
            let header = lines.next().await?.unwrap_or_default();
            if std::mem::take(&mut self.header) && self.out.wants_header && !self.put(&header)? {
                return Ok(End::NobodyReads);
            }
        }
        loop {
            let next = match lines.ready()? {
                Some(line) => Some(line),
                None => {
                    // Nothing more has come: what is there is handed on before the wait.
                    if !self.out.flush()? {
                        return Ok(End::NobodyReads);
                    }
                    match self.wait(lines).await? {
                        Waited::Next(next) => next,
                        Waited::ToSave => {
                            self.save()?;
                            continue;
                        }
                    }
                }
            };
            let Some(line) = next else {
                return Ok(if follow { End::Gateway } else { End::Done });
            };
            // Also an empty one: the gateway reads or waits, and says so.
            again.well();
            if line.is_empty() {
                continue;
            }
            let number = self.format.number_of(&line);
            let number = number.ok_or_else(|| {
                Failure::new("the gateway sends a line without its number").lasting()
            })?;
            if !self.put(&line)? {
                return Ok(End::NobodyReads);
            }
            self.last = Some(number);
            let since = *self.unsaved.get_or_insert_with(Instant::now);
            if since.elapsed() >= STATE_EVERY {
                self.save()?;
            }
        }
    }

    async fn wait(&self, lines: &mut Lines) -> Result<Waited, Failure> {
        let due = async {
            match self.unsaved.filter(|_| self.state.is_some()) {
                Some(since) => tokio::time::sleep_until(since + STATE_EVERY).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            next = lines.next() => next.map(Waited::Next),
            () = due => Ok(Waited::ToSave),
        }
    }

    fn put(&mut self, line: &str) -> Result<bool, Failure> {
        let end = match self.format {
            Format::Csv => "\r\n",
            Format::Ocsf | Format::Jsonl => "\n",
        };
        self.out.write(format!("{line}{end}").as_bytes())
    }

    /// Makes what was written last, and then says so.
    fn save(&mut self) -> Result<(), Failure> {
        if !self.out.flush()? {
            return Ok(());
        }
        if let (Some(state), Some(last)) = (&mut self.state, self.last)
            && self.unsaved.is_some()
        {
            self.out.sync()?;
            state.keep(&self.gateway_id, last)?;
        }
        self.unsaved = None;
        Ok(())
    }
}

/// What a wait ended with.
enum Waited {
    Next(Option<String>),
    /// The state is to be written.
    ToSave,
}

/// Standard output, or a file that grows.
struct Out {
    to: io::BufWriter<Box<dyn Write>>,
    /// The file once more, to make it last.
    file: Option<File>,
    name: String,
    /// Nothing stands there yet.
    wants_header: bool,
    /// How long the file is, and its whole lines, when it ends within a line.
    unfinished: Option<(u64, u64)>,
}

impl Out {
    /// Opens it and changes nothing. A file may end within a line when that is one of `ours`.
    fn open(path: Option<&Path>, ours: impl Fn(&[u8]) -> bool) -> Result<Self, Failure> {
        let Some(path) = path else {
            return Ok(Self {
                to: io::BufWriter::new(Box::new(io::stdout())),
                file: None,
                name: "standard output".to_owned(),
                wants_header: true,
                unfinished: None,
            });
        };
        let name = format!("`{}`", path.display());
        let unusable = |error: io::Error| Failure::new(format!("cannot write to {name}: {error}"));
        let file = OpenOptions::new()
            .append(true)
            .read(true)
            .create(true)
            .open(path);
        let mut file = file.map_err(unusable)?;
        let length = file.metadata().map_err(unusable)?.len();
        let tail = unfinished(&mut file, length).map_err(unusable)?;
        let whole = length - tail.len() as u64;
        if !tail.is_empty() && !ours(&tail) {
            return Err(Failure::new(format!("{name} ends within a line"))
                .next("name another file, or complete or remove its last line"));
        }
        let again = file.try_clone().map_err(unusable)?;
        Ok(Self {
            to: io::BufWriter::new(Box::new(again)),
            file: Some(file),
            name,
            wants_header: whole == 0,
            unfinished: (whole < length).then_some((length, whole)),
        })
    }

    /// Cuts off a line that a crash left without its end. Called when lines are about to come:
    /// an export that is refused leaves its file as it was.
    fn cut(&mut self) -> Result<(), Failure> {
        let (Some((length, whole)), Some(file)) = (self.unfinished.take(), &self.file) else {
            return Ok(());
        };
        let unusable = |error: io::Error| {
            Failure::new(format!("cannot write to {}: {error}", self.name)).lasting()
        };
        if file.metadata().map_err(unusable)?.len() != length {
            let message = format!("something else writes to {}", self.name);
            return Err(Failure::new(message).next("name another file").lasting());
        }
        file.set_len(whole).map_err(unusable)
    }

    /// `false` when whoever read it has gone.
    fn write(&mut self, bytes: &[u8]) -> Result<bool, Failure> {
        let written = self.to.write_all(bytes);
        self.there(written)
    }

    fn flush(&mut self) -> Result<bool, Failure> {
        let flushed = self.to.flush();
        self.there(flushed)
    }

    fn there(&self, result: io::Result<()>) -> Result<bool, Failure> {
        match result {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => {
                let message = format!("cannot write to {}: {error}", self.name);
                Err(Failure::new(message).lasting())
            }
        }
    }

    fn sync(&self) -> Result<(), Failure> {
        let synced = self.file.as_ref().map_or(Ok(()), File::sync_data);
        synced.map_err(|error| {
            Failure::new(format!("cannot write to {}: {error}", self.name)).lasting()
        })
    }
}

/// What stands after a file's last line end; of much, the end of it.
fn unfinished(file: &mut File, length: u64) -> io::Result<Vec<u8>> {
    /// Longer than any line.
    const MOST: u64 = 16 << 20;
    let from = length.saturating_sub(MOST);
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    file.take(MOST).read_to_end(&mut tail)?;
    let whole = memchr::memrchr(b'\n', &tail).map_or(0, |end| end + 1);
    Ok(tail.split_off(whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_days_or_whole() {
        for (text, read) in [
            ("2026-11-22", "2026-11-22T00:00:00.000Z"),
            ("2026-11-22T08:00:00Z", "2026-11-22T08:00:00.000Z"),
            ("2026-11-22T08:00:00.5+01:00", "2026-11-22T07:00:00.500Z"),
        ] {
            assert_eq!(time(text).unwrap().to_string(), read, "{text}");
        }
        for bad in [
            "",
            "yesterday",
            "2026-13-01",
            "2026-11-22T08:00",
            "1795334400",
        ] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_unfinished_line_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        for (before, after) in [
            ("", ""),
            ("half", ""),
            ("one\n", "one\n"),
            ("one\r\ntwo\r\nthr", "one\r\ntwo\r\n"),
        ] {
            std::fs::write(&path, before).unwrap();
            let first = Out::open(Some(&path), |_| false);
            assert_eq!(first.is_ok(), before == after, "{before}");
            let ours = |tail: &[u8]| before.as_bytes().ends_with(tail);
            let mut out = Out::open(Some(&path), ours).unwrap();
            assert_eq!(out.wants_header, after.is_empty(), "{before}");
            // Until lines come, nothing is done to it.
            assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
            out.cut().unwrap();
            out.cut().unwrap();
            assert!(out.write(b"next\n").unwrap() && out.flush().unwrap());
            let text = std::fs::read_to_string(&path).unwrap();
            assert_eq!(text, format!("{after}next\n"));
        }
        // Another one has gone on with it meanwhile.
        std::fs::write(&path, "one\nhalf").unwrap();
        let mut out = Out::open(Some(&path), |_| true).unwrap();
        std::fs::write(&path, "one\nhalf of it\n").unwrap();
        assert!(out.cut().unwrap_err().is_lasting());
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "one\nhalf of it\n");
    }
}
