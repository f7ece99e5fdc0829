//! The client for Terraform Cloud: our own requests, built from typed parts.
//!
//! Redirects are never followed by the client library; the few that upstream uses (plan JSON)
//! are followed here, to allowed hosts only, and another host never sees the bearer.
//!
//! Each credential keeps to upstream's limits (`limit`); reads are asked again when upstream is
//! overloaded (`retry`), writes never; lists that every client polls are kept for a moment
//! (`lists`).

mod connection;
mod documents;
mod limit;
mod lists;
mod retry;

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use policy::{ReasonCode, Refusal};

use crate::config::Config;
use crate::metrics::Requests;
use crate::metrics::counts::Counter;
use crate::metrics::waits::Waiting;
use crate::secret::{Secret, SecretError};

use limit::{Limiter, Pace};
use lists::Lists;
use retry::Attempts;

#[cfg(test)]
pub(crate) use connection::connector;
pub use connection::{
    Connector, HttpClient, PlainConnector, authorities, cause, connector_with, http_client,
    http_client_with, plain_connector, tls_client,
};
pub use limit::on_behalf_of;

/// Largest JSON answer that is read whole; the vendor's largest pages are far smaller.
pub const MAX_ANSWER_BYTES: usize = 16 << 20;

/// Lists of runs that upstream gives out in a minute.
const LISTS_PER_MINUTE: u32 = 30;

/// Most redirects that are followed for one document.
const MAX_REDIRECTS: u32 = 3;

/// Media type of the vendor's API.
const JSON_API: HeaderValue = HeaderValue::from_static("application/vnd.api+json");

/// Which of the three credentials a call uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// Agents' calls.
    Planner,
    /// Applies, discards, rolls back.
    Executor,
    /// Reads plans and settings.
    Reader,
}

/// Terraform Cloud as the gateway reaches it.
pub struct Upstream {
    client: HttpClient,
    base: String,
    object_hosts: Vec<String>,
    planner: Access,
    executor: Access,
    reader: Access,
    lists: Lists,
    read_attempts: u32,
    timeout: Duration,
    requests: Requests,
    shed: Counter,
}

/// A credential and how fast it may be used.
struct Access {
    secret: Secret,
    /// All calls.
    calls: Limiter,
    /// Lists of runs, which have a limit of their own besides.
    lists: Limiter,
}

impl Access {
    /// One token in two duties has one limit.
    fn new(secret: Secret, others: &[&Self], per_second: u32) -> Self {
        let same = others
            .iter()
            .find(|other| other.secret.matches(secret.expose()));
        match same {
            Some(other) => Self {
                secret,
                calls: other.calls.clone(),
                lists: other.lists.clone(),
            },
            None => Self {
                secret,
                calls: Limiter::new(Pace::of(per_second, Duration::from_secs(1))),
                lists: Limiter::new(Pace::of(LISTS_PER_MINUTE, Duration::from_secs(60))),
            },
        }
    }
}

/// Whose credential a document is read with.
#[derive(Clone, Copy)]
enum By<'a> {
    Duty(Duty),
    Secret(&'a Secret),
}

/// Where a redirect leads.
enum Place {
    /// Path and query of the API itself.
    Api(String),
    /// A whole address, which no credential is sent to.
    Object(String),
}

/// An answer that was read whole.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, as it came.
    pub body: Bytes,
}

/// Upstream's limit allows one call now, with one credential. Who waited for it looks once more
/// whether the call may still be made, and then uses it in [`Upstream::write`].
#[derive(Debug)]
#[must_use]
pub struct Turn(Duty);

/// Why there is no answer. None of these is a policy answer.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// No connection, or none that held.
    #[error("upstream cannot be reached: {0}")]
    Unreachable(String),
    /// Nothing within the time.
    #[error("upstream did not answer within {0} s")]
    Slow(u64),
    /// It broke off, or sent more than we read.
    #[error("upstream's answer broke off or is too large: {0}")]
    Broken(String),
    /// A signed address on a host that is not allowed.
    #[error("upstream pointed to `{0}`, which is not among the allowed object hosts")]
    ForeignHost(String),
    /// Too many calls wait for the credential already; upstream was not asked.
    #[error("too many calls wait for upstream's limit of requests")]
    Busy,
}

impl UpstreamError {
    /// What an agent is told: nothing of where upstream is. The error's own text is for the log.
    pub fn refusal(&self) -> Refusal {
        let detail = match self {
            Self::Unreachable(_) => "upstream cannot be reached",
            Self::Slow(_) => "upstream did not answer in time",
            Self::Broken(_) => "upstream's answer broke off or is too large",
            Self::ForeignHost(_) => "upstream pointed to a place that is not allowed",
            Self::Busy => "too many calls wait for upstream's limit of requests",
        };
        Refusal::new(self.code(), detail)
    }

    /// The reason code for the caller.
    pub fn code(&self) -> ReasonCode {
        match self {
            Self::Unreachable(_) => ReasonCode::UpstreamUnavailable,
            Self::Slow(_) => ReasonCode::UpstreamTimeout,
            Self::Broken(_) | Self::ForeignHost(_) => ReasonCode::UpstreamGarbage,
            Self::Busy => ReasonCode::UpstreamRateLimited,
        }
    }
}

impl Upstream {
    /// Fetches the three credentials.
    ///
    /// # Errors
    /// When one is not to be had.
    pub async fn connect(config: &Config, client: HttpClient) -> Result<Self, SecretError> {
        let upstream = &config.terraform_cloud;
        let pace = config.limits.upstream_requests_per_second;
        let planner = Access::new(upstream.planner.fetch().await?, &[], pace);
        let executor = Access::new(upstream.executor.fetch().await?, &[&planner], pace);
        let others = [&planner, &executor];
        let reader = Access::new(upstream.reader.fetch().await?, &others, pace);
        Ok(Self {
            client,
            base: upstream.url.clone(),
            object_hosts: upstream.object_hosts.clone(),
            planner,
            executor,
            reader,
            lists: Lists::default(),
            read_attempts: config.limits.upstream_read_attempts,
            timeout: Duration::from_secs(config.limits.upstream_timeout_seconds),
            requests: Requests::default(),
            shed: Counter::default(),
        })
    }

    /// All requests, by how they were answered.
    pub fn requests(&self) -> &Requests {
        &self.requests
    }

    /// Calls that were given up because too many waited for upstream's limits.
    pub fn shed(&self) -> &Counter {
        &self.shed
    }

    /// The base address.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Whether a text is one of the upstream credentials: an agent that shows one is refused.
    pub fn is_credential(&self, text: &str) -> bool {
        [&self.planner, &self.executor, &self.reader]
            .iter()
            .any(|access| access.secret.matches(text))
    }

    fn access(&self, duty: Duty) -> &Access {
        match duty {
            Duty::Planner => &self.planner,
            Duty::Executor => &self.executor,
            Duty::Reader => &self.reader,
        }
    }

    /// Calls the API. `target` is path and query, rebuilt from checked parts.
    ///
    /// A read that meets a limit or an outage is asked again within bounds; anything else is
    /// asked once. Lists of runs that are read for agents may be some seconds old.
    ///
    /// # Errors
    /// See [`UpstreamError`]; every HTTP status is an answer, not an error.
    pub async fn call(
        &self,
        duty: Duty,
        method: Method,
        target: &str,
        body: Option<Bytes>,
    ) -> Result<Answer, UpstreamError> {
        if method != Method::GET {
            let turn = self.turn(duty).await?;
            return self.write(turn, method, target, body).await;
        }
        let _waiting = Waiting::begin();
        let read = || self.read(duty, target);
        if !(duty == Duty::Planner && lists::is_list(target)) {
            return read().await;
        }
        let used_up = lists::is_limited(target) && !self.access(duty).lists.is_free();
        let list = self.lists.list(target);
        self.lists.through(&list, used_up, read()).await
    }

    /// A read, asked again while upstream is overloaded.
    async fn read(&self, duty: Duty, target: &str) -> Result<Answer, UpstreamError> {
        let mut attempts = Attempts::begin(self.read_attempts);
        loop {
            if lists::is_limited(target) {
                let turn = self.access(duty).lists.turn().await;
                turn.map_err(|limit::Shed| self.is_busy())?;
            }
            let _turn = self.turn(duty).await?;
            let secret = &self.access(duty).secret;
            let answer = self.exchange(secret, Method::GET, target, None).await?;
            let Some(pause) = attempts.next(&answer) else {
                return Ok(answer);
            };
            if answer.status == StatusCode::TOO_MANY_REQUESTS {
                // The limit is the credential's: nobody else asks meanwhile either.
                self.access(duty).calls.pause(pause);
            } else {
                tokio::time::sleep(pause).await;
            }
        }
    }

    /// Waits until upstream's limit allows another call.
    ///
    /// # Errors
    /// [`UpstreamError::Busy`] when too many wait already, or the turn does not come in time.
    pub async fn turn(&self, duty: Duty) -> Result<Turn, UpstreamError> {
        let _waiting = Waiting::begin();
        match self.access(duty).calls.turn().await {
            Ok(()) => Ok(Turn(duty)),
            Err(limit::Shed) => Err(self.is_busy()),
        }
    }

    fn is_busy(&self) -> UpstreamError {
        self.shed.count();
        UpstreamError::Busy
    }

    /// Changes something, in a turn that was waited for; asked once.
    ///
    /// # Errors
    /// See [`UpstreamError`]; every HTTP status is an answer, not an error.
    pub async fn write(
        &self,
        turn: Turn,
        method: Method,
        target: &str,
        body: Option<Bytes>,
    ) -> Result<Answer, UpstreamError> {
        let _written = self.lists.written();
        let secret = &self.access(turn.0).secret;
        self.exchange(secret, method, target, body).await
    }

    /// Calls the API with a credential that is not the gateway's own: what a run task was given
    /// for its answer, or what an operator has for one command. Its limit is its user's, so it is
    /// not waited for.
    ///
    /// # Errors
    /// See [`UpstreamError`].
    pub async fn call_as(
        &self,
        secret: &Secret,
        method: Method,
        target: &str,
        body: Option<Bytes>,
    ) -> Result<Answer, UpstreamError> {
        let _written = (method != Method::GET).then(|| self.lists.written());
        self.exchange(secret, method, target, body).await
    }

    async fn exchange(
        &self,
        secret: &Secret,
        method: Method,
        target: &str,
        body: Option<Bytes>,
    ) -> Result<Answer, UpstreamError> {
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", secret.expose()))
            .expect("a secret is plain ASCII, checked when fetched");
        bearer.set_sensitive(true);
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{target}", self.base))
            .header(header::AUTHORIZATION, bearer)
            .header(header::ACCEPT, JSON_API)
            .header(
                header::USER_AGENT,
                concat!("clawgate/", env!("CARGO_PKG_VERSION")),
            );
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, JSON_API);
        }
        let request = request
            .body(Full::new(body.unwrap_or_default()))
            .map_err(|error| UpstreamError::Unreachable(error.to_string()))?;
        self.send(request, MAX_ANSWER_BYTES).await
    }

    /// Reads a document of the API that upstream may keep elsewhere, such as plan JSON. Follows
    /// few redirects, to allowed hosts; only the API itself is shown the bearer.
    ///
    /// # Errors
    /// See [`UpstreamError`].
    pub async fn fetch_document(
        &self,
        duty: Duty,
        target: &str,
        limit: usize,
    ) -> Result<Answer, UpstreamError> {
        self.follow(By::Duty(duty), target, limit).await
    }

    /// The same with a credential that is not the gateway's own.
    ///
    /// # Errors
    /// See [`UpstreamError`].
    pub async fn fetch_document_as(
        &self,
        secret: &Secret,
        target: &str,
        limit: usize,
    ) -> Result<Answer, UpstreamError> {
        self.follow(By::Secret(secret), target, limit).await
    }

    async fn follow(
        &self,
        by: By<'_>,
        target: &str,
        limit: usize,
    ) -> Result<Answer, UpstreamError> {
        let mut answer = self.read_by(by, target).await?;
        let mut within = true;
        for _ in 0..MAX_REDIRECTS {
            if !answer.status.is_redirection() {
                return Ok(answer);
            }
            answer = match self.moved(&answer.headers, &mut within)? {
                Place::Api(target) => self.read_by(by, &target).await?,
                Place::Object(address) => self.object(Method::GET, &address, None, limit).await?,
            };
        }
        if answer.status.is_redirection() {
            return Err(UpstreamError::Broken("it redirects without end".into()));
        }
        Ok(answer)
    }

    /// Where a redirect leads. The API may send us on within itself; nobody else may send us back
    /// to it with our bearer, which `within` remembers.
    fn moved(&self, headers: &HeaderMap, within: &mut bool) -> Result<Place, UpstreamError> {
        let location = headers
            .get(header::LOCATION)
            .and_then(|value| value.to_str().ok())
            .ok_or_else(|| UpstreamError::Broken("a redirect without a place".into()))?;
        let target = self.within_api(location).filter(|_| *within);
        *within = target.is_some();
        Ok(target.map_or_else(|| Place::Object(location.to_owned()), Place::Api))
    }

    async fn read_by(&self, by: By<'_>, target: &str) -> Result<Answer, UpstreamError> {
        match by {
            By::Duty(duty) => self.call(duty, Method::GET, target, None).await,
            By::Secret(secret) => self.call_as(secret, Method::GET, target, None).await,
        }
    }

    /// The path and query of an address within the API itself.
    fn within_api(&self, location: &str) -> Option<String> {
        let target = location.strip_prefix(&self.base).unwrap_or(location);
        let plain = target
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'\\');
        let api = target.starts_with("/api/v2/") && !target.contains("..");
        (api && plain).then(|| target.to_owned())
    }

    /// Reads or writes a signed object. The address came from upstream; its host must be
    /// upstream's own or an allowed one. No credential is sent.
    ///
    /// # Errors
    /// See [`UpstreamError`].
    pub async fn object(
        &self,
        method: Method,
        address: &str,
        body: Option<Bytes>,
        limit: usize,
    ) -> Result<Answer, UpstreamError> {
        let uri = self.check_object_address(address)?;
        let mut attempts = Attempts::begin(self.read_attempts);
        loop {
            let mut request = Request::builder().method(method.clone()).uri(uri.clone());
            if body.is_some() {
                request = request.header(header::CONTENT_TYPE, "application/octet-stream");
            }
            let request = request
                .body(Full::new(body.clone().unwrap_or_default()))
                .map_err(|error| UpstreamError::Unreachable(error.to_string()))?;
            let answer = self.send(request, limit).await?;
            match attempts.next(&answer).filter(|_| method == Method::GET) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Ok(answer),
            }
        }
    }

    /// Whether a signed address may be used: an allowed host, and https unless the API itself
    /// is plain (which [`Config::check`] allows on loopback only).
    ///
    /// # Errors
    /// [`UpstreamError::ForeignHost`].
    pub fn check_object_address(&self, address: &str) -> Result<Uri, UpstreamError> {
        let foreign = || {
            // Only the host, and not what stands before it: the rest is a credential.
            let parsed: Option<Uri> = address.parse().ok();
            let host = parsed
                .as_ref()
                .and_then(Uri::host)
                .unwrap_or("an unreadable address");
            UpstreamError::ForeignHost(host.chars().take(120).collect())
        };
        let uri: Uri = address.parse().map_err(|_| foreign())?;
        let base: Uri = self.base.parse().map_err(|_| foreign())?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(foreign());
        };
        let allowed = Some(authority) == base.authority()
            || self
                .object_hosts
                .iter()
                .any(|host| host == authority.as_str());
        let secure = scheme == "https" || (scheme == "http" && base.scheme_str() == Some("http"));
        let plain = !authority.as_str().contains('@');
        if allowed && secure && plain {
            Ok(uri)
        } else {
            Err(foreign())
        }
    }

    /// The path and query of an address of the API, when it is one: below the base address, to
    /// the letter.
    pub fn target_of<'a>(&self, address: &'a str) -> Option<&'a str> {
        let target = address.strip_prefix(self.base.as_str())?;
        target.starts_with('/').then_some(target)
    }

    async fn send(
        &self,
        request: Request<Full<Bytes>>,
        limit: usize,
    ) -> Result<Answer, UpstreamError> {
        let exchange = async {
            let response = self
                .client
                .request(request)
                .await
                .map_err(|error| UpstreamError::Unreachable(cause(&error)))?;
            read(response, limit).await
        };
        let _waiting = Waiting::begin();
        let exchanged = tokio::time::timeout(self.timeout, exchange).await;
        match &exchanged {
            Ok(Ok(answer)) => self.requests.answered(answer.status),
            Ok(Err(_)) => self.requests.unreachable(),
            Err(_) => self.requests.timed_out(),
        }
        exchanged.map_err(|_| UpstreamError::Slow(self.timeout.as_secs()))?
    }
}

async fn read(response: http::Response<Incoming>, limit: usize) -> Result<Answer, UpstreamError> {
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, limit)
        .collect()
        .await
        .map_err(|error| UpstreamError::Broken(error.to_string()))?
        .to_bytes();
    Ok(Answer {
        status: parts.status,
        headers: parts.headers,
        body,
    })
}

#[cfg(test)]
mod tests;
