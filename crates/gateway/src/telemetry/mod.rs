//! Traces and metrics for an OpenTelemetry collector, by OTLP over HTTP.
//!
//! Nothing of it is in a call's way: a span is put into a bounded queue or dropped and counted, and
//! one task sends what has gathered. What a collector does not take is dropped and counted, too:
//! this is telemetry and no evidence.

mod otlp;
mod protobuf;
pub mod span;

use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use crate::app::App;
use crate::config::Config;
use crate::metrics::counts::Counter;
use crate::metrics::gather::gather;
use crate::secret::SecretError;
use crate::upstream::{HttpClient, cause};
use protobuf::Message;
pub use span::{Decision, Link, Span};

/// Spans that wait at most: some seconds of a busy gateway, about two MiB.
const QUEUE: usize = 4096;

/// Spans that are sent together at most.
const BATCH: usize = 512;

/// How long spans gather.
const GATHERING: Duration = Duration::from_secs(2);

/// Between two exports of metrics.
const INTERVAL: Duration = Duration::from_secs(30);

/// How long a collector may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a gateway that stops waits for it.
const LAST_PATIENCE: Duration = Duration::from_secs(5);

/// Most that is read of a collector's answer.
const MAX_ANSWER: usize = 64 << 10;

/// Where spans go.
#[derive(Debug)]
pub struct Telemetry {
    queue: mpsc::Sender<Told>,
    dropped: Arc<Counter>,
}

#[derive(Debug)]
enum Told {
    Call(Box<Span>),
    /// Everything until here is to be sent now.
    Flush(oneshot::Sender<()>),
}

/// Sends what is told.
pub struct Exporter {
    queue: mpsc::Receiver<Told>,
    dropped: Arc<Counter>,
    client: HttpClient,
    base: String,
    authorization: Option<HeaderValue>,
    resource: Message,
    /// The last export failed: that is said once.
    failing: bool,
}

/// Both ends, when a collector is configured.
///
/// # Errors
/// When its credential is not to be had.
pub async fn connect(
    config: &Config,
    client: HttpClient,
) -> Result<Option<(Telemetry, Exporter)>, SecretError> {
    let Some(settings) = &config.telemetry else {
        return Ok(None);
    };
    let authorization = match &settings.token {
        Some(source) => {
            let secret = source.fetch().await?;
            let mut value = HeaderValue::try_from(format!("Bearer {}", secret.expose()))
                .expect("a secret is plain ASCII, checked when fetched");
            value.set_sensitive(true);
            Some(value)
        }
        None => None,
    };
    let (sender, queue) = mpsc::channel(QUEUE);
    let dropped = Arc::new(Counter::default());
    let telemetry = Telemetry {
        queue: sender,
        dropped: Arc::clone(&dropped),
    };
    let exporter = Exporter {
        queue,
        dropped,
        client,
        base: settings.otlp.clone(),
        authorization,
        resource: otlp::resource(&config.gateway_id),
        failing: false,
    };
    Ok(Some((telemetry, exporter)))
}

impl Telemetry {
    /// A call was answered.
    pub fn call(&self, span: Span) {
        if self.queue.try_send(Told::Call(Box::new(span))).is_err() {
            self.dropped.count();
        }
    }

    /// Spans that no collector has got.
    pub fn dropped(&self) -> u64 {
        self.dropped.value()
    }

    /// Resolves when everything that was told before, and the metrics as they are, was sent or
    /// dropped: when the gateway stops.
    pub async fn flush(&self) {
        let (done, sent) = oneshot::channel();
        let told = async {
            if self.queue.send(Told::Flush(done)).await.is_ok() {
                // Without an answer the exporter has ended, with everything that it had.
                let _ = sent.await;
            }
        };
        let _ = timeout(LAST_PATIENCE, told).await;
    }
}

impl Exporter {
    /// Sends until the gateway is gone.
    pub async fn run(mut self, app: Weak<App>) {
        let mut spans = Vec::with_capacity(BATCH);
        let mut metrics_due = Instant::now() + INTERVAL;
        let mut spans_due = None;
        loop {
            let due = spans_due.unwrap_or(metrics_due).min(metrics_due);
            let told = tokio::select! {
                told = self.queue.recv() => told,
                () = tokio::time::sleep_until(due) => {
                    let now = Instant::now();
                    if spans_due.is_some_and(|due| due <= now) {
                        self.send_spans(&mut spans).await;
                        spans_due = None;
                    }
                    if metrics_due <= now {
                        self.send_metrics(&app).await;
                        metrics_due = Instant::now() + INTERVAL;
                    }
                    continue;
                }
            };
            match told {
                None => return,
                Some(Told::Call(span)) => {
                    spans.push(*span);
                    spans_due.get_or_insert_with(|| Instant::now() + GATHERING);
                    if spans.len() == BATCH {
                        self.send_spans(&mut spans).await;
                        spans_due = None;
                    }
                }
                Some(Told::Flush(done)) => {
                    self.send_spans(&mut spans).await;
                    spans_due = None;
                    self.send_metrics(&app).await;
                    let _ = done.send(());
                }
            }
        }
    }

    async fn send_spans(&mut self, spans: &mut Vec<Span>) {
        if spans.is_empty() {
            return;
        }
        let body = otlp::traces(&self.resource, spans);
        if !self.send("/v1/traces", body).await {
            self.dropped.add(spans.len() as u64);
        }
        spans.clear();
    }

    async fn send_metrics(&mut self, app: &Weak<App>) {
        let Some(app) = app.upgrade() else { return };
        let seen = gather(&app).await;
        let since = u64::try_from(app.started.millis()).unwrap_or(0) * 1_000_000;
        drop(app);
        let now = otlp::nanos(SystemTime::now());
        let body = otlp::metrics(&self.resource, &seen, since, now);
        self.send("/v1/metrics", body).await;
    }

    /// Whether the collector took it.
    async fn send(&mut self, path: &str, body: Vec<u8>) -> bool {
        let sent = timeout(PATIENCE, self.post(path, body)).await;
        let sent = sent.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        if let Err(why) = &sent
            && !self.failing
        {
            tracing::warn!(
                why,
                "the collector does not take telemetry, which is dropped"
            );
        }
        self.failing = sent.is_err();
        sent.is_ok()
    }

    async fn post(&self, path: &str, body: Vec<u8>) -> Result<(), String> {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(format!("{}{path}", self.base))
            .header(header::CONTENT_TYPE, "application/x-protobuf");
        if let Some(value) = &self.authorization {
            request = request.header(header::AUTHORIZATION, value);
        }
        let request = request
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| error.to_string())?;
        let answer = self.client.request(request).await;
        let answer = answer.map_err(|error| cause(&error))?;
        let status = answer.status();
        // Read, so that the connection can be used again.
        let _ = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        match status.is_success() {
            true => Ok(()),
            false => Err(format!("it answers {status}")),
        }
    }
}
