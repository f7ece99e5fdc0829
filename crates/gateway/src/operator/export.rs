//! Evidence for a SIEM: all records, or all that operators did, in the order of writing.

use std::sync::Arc;

use axum::extract::State;
use http::{HeaderName, HeaderValue, header};
use policy::ReasonCode;
use proof::Timestamp;
use proof::record::JobId;
use schemars::JsonSchema;
use serde::Deserialize;
use store::{LogRange, Logged};

use super::credential::Role;
use super::extract::Params;
use super::openapi::{MediaTypes, Written};
use super::problem::Problem;
use super::streaming::{self, Broken, Standing, Stream, Woken};
use crate::app::App;
use crate::export::{self, Format, Of, Origin};
use crate::shapes;

/// Whose log the numbers belong to.
pub const GATEWAY: HeaderName = HeaderName::from_static("clawgate-gateway");

/// An empty line, which is no line of any format, ends a silence.
const NOTHING: &str = "\n";

/// Rows that are in memory at a time.
const PAGE: u32 = 200;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// `records` or `actions`.
    #[serde(default)]
    of: Option<String>,
    /// `csv`, `ocsf` or `jsonl`.
    #[serde(default, rename = "as")]
    format: Option<String>,
    /// The number of the last line that the reader has.
    #[serde(default)]
    after: Option<u64>,
    /// From this time on.
    #[serde(default)]
    #[schemars(with = "Option<shapes::Timestamp>")]
    since: Option<Timestamp>,
    /// Before this time.
    #[serde(default)]
    #[schemars(with = "Option<shapes::Timestamp>")]
    until: Option<Timestamp>,
    /// Records of this job only.
    #[serde(default)]
    #[schemars(with = "Option<shapes::JobId>")]
    job: Option<JobId>,
    /// Go on with what is written from now on.
    #[serde(default)]
    follow: bool,
}

/// What is to be told.
struct Wanted {
    of: Of,
    format: Format,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    job: Option<JobId>,
    /// The first number that has not been told.
    next: u64,
    /// Where to end: what is written while an answer that does not follow is on its way belongs
    /// to the next one. `None` to follow.
    end: Option<u64>,
}

/// Lines in one of the formats.
#[derive(Debug)]
pub(super) struct Lines;

impl MediaTypes for Lines {
    const ALL: &'static [&'static str] = &["text/csv", "application/x-ndjson"];
}

/// Lines, from a number or a time on.
pub(super) async fn export(
    State(app): State<Arc<App>>,
    standing: Standing,
    Params(asked): Params<Asked>,
) -> Result<Written<Lines>, Problem> {
    let wanted = wanted(&app, asked).await?;
    let media_type = HeaderValue::from_static(wanted.format.media_type());
    let gateway =
        HeaderValue::try_from(&app.config.gateway_id).map_err(|_| ReasonCode::Internal)?;
    let role = Some(Role::Auditor);
    let body = streaming::begin(app, standing, role, |stream| tell(stream, wanted))?;
    let headers = [(header::CONTENT_TYPE, media_type), (GATEWAY, gateway)];
    Ok(Written::new((headers, body)))
}

async fn wanted(app: &App, asked: Asked) -> Result<Wanted, Problem> {
    let wrong = |name: &str, error: export::UnknownWord| {
        Problem::new(ReasonCode::QueryValue, format!("`{name}` is {error}"))
    };
    let of = asked.of.as_deref().unwrap_or("records").parse();
    let of = of.map_err(|error| wrong("of", error))?;
    let format = asked.format.as_deref().unwrap_or("jsonl").parse();
    let format = format.map_err(|error| wrong("as", error))?;
    if let Some(job) = &asked.job {
        if of == Of::Actions {
            let detail = "`job` is for records: what operators did is not kept by job";
            return Err(Problem::new(ReasonCode::QueryValue, detail));
        }
        app.store.job(job).await?.ok_or(ReasonCode::JobUnknown)?;
    }
    // Records are numbered from 0, actions from 1: the number after the last one that is there.
    let end = match of {
        Of::Records => app.store.log_size().await?,
        Of::Actions => app.store.last_action().await? + 1,
    };
    let next = asked.after.map_or(0, |after| after.saturating_add(1));
    if next > end {
        let detail = format!(
            "`after` is beyond the last number, {}: it belongs to another gateway, or the store \
             was restored from an older backup",
            end.saturating_sub(1)
        );
        return Err(Problem::new(ReasonCode::QueryValue, detail));
    }
    let earliest = match (of, asked.since) {
        (Of::Records, Some(since)) => app.store.log_place(since).await?,
        _ => 0,
    };
    Ok(Wanted {
        of,
        format,
        since: asked.since,
        until: asked.until,
        job: asked.job,
        next: next.max(earliest),
        end: (!asked.follow).then_some(end),
    })
}

async fn tell(mut stream: Stream, mut wanted: Wanted) -> Result<(), Broken> {
    let header = wanted.format.header(wanted.of);
    if !header.is_empty() {
        stream.say(header).await?;
    }
    loop {
        stream.look().await?;
        let (lines, full) = page(&stream.app, &mut wanted).await?;
        if !lines.is_empty() {
            stream.say(lines).await?;
        } else if stream.is_silent() {
            // Much was read of which nothing is asked for.
            stream.say(NOTHING).await?;
        }
        if wanted.end.is_some_and(|end| !full || wanted.next >= end) {
            return Ok(());
        }
        if full {
            continue;
        }
        match stream.wait().await? {
            Woken::Commit => {}
            Woken::Silence => stream.say(NOTHING).await?,
            Woken::Stopping => return Ok(()),
        }
    }
}

/// The next lines, and whether more are there already.
async fn page(app: &App, wanted: &mut Wanted) -> Result<(String, bool), Broken> {
    let origin = Origin {
        gateway_id: &app.config.gateway_id,
    };
    let format = wanted.format;
    let mut lines = String::new();
    let count = match wanted.of {
        Of::Records => {
            let range = LogRange {
                from: wanted.next,
                job: wanted.job.clone(),
                limit: PAGE,
            };
            let rows = app.store.logged(range).await?;
            for row in &rows {
                wanted.next = row.leaf_index() + 1;
                if wanted.covers(row.leaf_index(), row.at()) {
                    lines.push_str(&match row {
                        Logged::Record(row) => export::record_line(format, row, origin),
                        Logged::Pruned(row) => export::pruned_line(format, row, origin),
                    });
                }
            }
            rows.len()
        }
        Of::Actions => {
            let after = wanted.next.saturating_sub(1);
            let rows = app.store.actions_after(after, PAGE).await?;
            for row in &rows {
                wanted.next = row.number + 1;
                if wanted.covers(row.number, row.action.at) {
                    lines.push_str(&export::action_line(format, row, origin));
                }
            }
            rows.len()
        }
    };
    Ok((lines, count == PAGE as usize))
}

impl Wanted {
    fn covers(&self, number: u64, at: Timestamp) -> bool {
        self.end.is_none_or(|end| number < end)
            && self.since.is_none_or(|since| at >= since)
            && self.until.is_none_or(|until| at < until)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proof::Json;
    use store::OperatorAction;

    use super::*;
    use crate::operator::streaming::tests::{gateway, silent_for};

    #[tokio::test]
    async fn a_scan_that_finds_nothing_is_not_silent() {
        let folder = tempfile::tempdir().unwrap();
        let sandbox = gateway(folder.path()).await;
        let app = &sandbox.gateway.app;
        for number in 0..PAGE {
            let action = OperatorAction {
                at: app.now(),
                operator: "olga".into(),
                action: "job.open".into(),
                subject: number.to_string(),
                detail: Json::object(),
            };
            app.store.note_operator_action(action).await.unwrap();
        }
        let asked = async || {
            let asked =
                serde_json::from_str(r#"{"of": "actions", "until": "2001-01-01T00:00:00.000Z"}"#);
            wanted(app, asked.unwrap()).await.unwrap()
        };
        for (silence, expected) in [(0, None), (60, Some(NOTHING.into()))] {
            let (stream, mut said) = silent_for(&sandbox, Duration::from_secs(silence));
            tell(stream, asked().await).await.unwrap();
            assert_eq!((said(), said()), (expected, None));
        }
        sandbox.gateway.stop().await;
    }
}
