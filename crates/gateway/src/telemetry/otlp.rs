//! Spans and metrics as OTLP has them, version 1 of its protocol: field numbers are those of
//! `opentelemetry/proto/{common,resource,trace,metrics}/v1`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::protobuf::Message;
use super::span::{Decision, Span};
use crate::metrics::counts::Distribution;
use crate::metrics::families::Kind;
use crate::metrics::snapshot::{Snapshot, Value};

/// A span that serves somebody's request.
const SERVER: u64 = 2;

/// A status that is an error.
const ERROR: u64 = 2;

/// Sums from the start on, rather than since the last export.
const CUMULATIVE: u64 = 2;

/// Says whose spans and metrics these are.
pub(super) fn resource(gateway_id: &str) -> Message {
    let attributes = [
        attribute("service.name", "clawgate"),
        attribute("service.version", env!("CARGO_PKG_VERSION")),
        attribute("service.instance.id", gateway_id),
    ];
    Message::default().messages(1, attributes)
}

fn scope() -> Message {
    let version = env!("CARGO_PKG_VERSION");
    Message::default().text(1, "clawgate").text(2, version)
}

/// `ExportTraceServiceRequest`.
pub(super) fn traces(resource: &Message, spans: &[Span]) -> Vec<u8> {
    let scoped = Message::default()
        .message(1, &scope())
        .messages(2, spans.iter().map(span));
    exported(resource, &scoped)
}

/// `ExportMetricsServiceRequest`.
pub(super) fn metrics(resource: &Message, seen: &Snapshot, since: u64, now: u64) -> Vec<u8> {
    let scoped = Message::default().message(1, &scope());
    let metrics = seen.families.iter().map(|family| {
        let of = family.family;
        let points = family.lines.iter().map(|line| {
            let labels = of.labels.iter().zip(&line.labels);
            let attributes = labels.map(|(name, value)| attribute(name, value));
            match &line.value {
                Value::Number(value) => Message::default()
                    .messages(7, attributes)
                    .fixed64(2, since)
                    .fixed64(3, now)
                    .double(4, *value),
                Value::Distribution(seen) => histogram(seen)
                    .messages(9, attributes)
                    .fixed64(2, since)
                    .fixed64(3, now),
            }
        });
        let points = Message::default().messages(1, points);
        let metric = Message::default().text(1, of.name).text(2, of.help);
        match of.kind {
            Kind::Gauge => metric.message(5, &points),
            Kind::Counter => metric.message(7, &points.varint(2, CUMULATIVE).varint(3, 1)),
            Kind::Histogram => metric.message(9, &points.varint(2, CUMULATIVE)),
        }
    });
    exported(resource, &scoped.messages(2, metrics))
}

/// Both kinds of requests are built alike.
fn exported(resource: &Message, scoped: &Message) -> Vec<u8> {
    let of_resource = Message::default().message(1, resource).message(2, scoped);
    Message::default().message(1, &of_resource).into_bytes()
}

fn attribute(key: &str, value: &str) -> Message {
    pair(key, Message::default().text(1, value))
}

fn pair(key: &str, value: Message) -> Message {
    Message::default().text(1, key).message(2, &value)
}

fn span(span: &Span) -> Message {
    let (decision, error) = match span.decision {
        Decision::Allowed => ("allowed", false),
        Decision::Refused => ("refused", false),
        Decision::Failed => ("failed", true),
    };
    let mut attributes = vec![
        attribute("clawgate.lane", span.class.lane()),
        attribute("clawgate.class", span.class.as_str()),
        attribute("clawgate.operation", &span.operation),
        attribute("clawgate.decision", decision),
        attribute("clawgate.code", span.code.as_str()),
    ];
    let waited = Message::default().double(4, span.waited.as_secs_f64());
    attributes.push(pair("clawgate.upstream_seconds", waited));
    for (key, value) in [
        ("clawgate.job_id", &span.job_id),
        ("clawgate.receipt_id", &span.receipt_id),
    ] {
        attributes.extend(value.as_ref().map(|value| attribute(key, value)));
    }
    let message = Message::default()
        .bytes(1, &span.trace_id)
        .bytes(2, &span.span_id)
        .text(5, &format!("{} {}", span.class.lane(), span.operation))
        .varint(6, SERVER)
        .fixed64(7, nanos(span.began))
        .fixed64(8, nanos(span.began + span.took))
        .messages(9, attributes);
    let message = match &span.link {
        Some(link) => {
            let link = Message::default()
                .bytes(1, &link.trace_id)
                .bytes(2, &link.span_id);
            message.message(13, &link)
        }
        None => message,
    };
    match error {
        true => message.message(15, &Message::default().varint(3, ERROR)),
        false => message,
    }
}

/// A point of a histogram, without its time and its attributes.
fn histogram(seen: &Distribution) -> Message {
    let mut below = 0;
    // Counts of the buckets, each without the ones below it.
    let counts = seen.up_to.iter().map(|(_, up_to)| {
        let own = up_to.saturating_sub(below);
        below = *up_to;
        own
    });
    let counts: Vec<u64> = counts.collect();
    let ends = seen.up_to.iter().map(|(end, _)| *end);
    let ends = ends.filter(|end| end.is_finite()).map(f64::to_bits);
    Message::default()
        .fixed64(4, below)
        .double(5, seen.sum)
        .packed(6, counts)
        .packed(7, ends)
}

/// Nanoseconds since 1970.
pub(super) fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
