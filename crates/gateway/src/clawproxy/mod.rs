//! What agents reach: one listener, one function.
//!
//! `enforce` is the life of a call. Each step takes what the step before it made, so none can
//! be left out: without a [`authenticate::Caller`] there is nothing to resolve, without a
//! decision there is no [`record::Permit`], and without a permit nothing is forwarded.
//!
//! To add a lane: a variant of [`Surface`], how it resolves (what is asked, from which facts is
//! it decided) and how it forwards.

pub mod authenticate;
pub mod body;
pub mod egress;
mod hygiene;
pub(crate) mod job_view;
mod mcp;
pub mod model;
pub mod objects;
pub mod record;
mod respond;
pub mod terraform;
pub mod weight;

use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::Full;
use hyper::body::Incoming;
use policy::{ReasonCode, Refusal, decide};
use proof::record::{CausedBy, Lane};
use proof::{Hash, Json};

use crate::app::App;
use crate::metrics::{CallClass, waits};
use crate::server::{Body, BoxError};
use crate::telemetry::{self, Link, Span};
use crate::upstream::on_behalf_of;
use authenticate::{Caller, authenticate};
use record::Principal;
use store::kill_point;

/// Answers one request on the agent listener.
///
/// A client that leaves must not leave a run half made, so everything but a model call is
/// carried to its end in a task of its own. A model call is cancelled with its client, and its
/// lane records that.
pub async fn serve(app: Arc<App>, request: Request<Incoming>, peer: SocketAddr) -> Response<Body> {
    let surface = Surface::of(request.method(), request.uri());
    // A length beside chunks is gone before we see it. Nothing may follow on such a connection,
    // because somebody before us may have read the length (RFC 9112, 6.1).
    let chunked = request.headers().contains_key(header::TRANSFER_ENCODING);
    let mut response = answered(app, request, peer, surface).await;
    if chunked {
        response
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

async fn answered(
    app: Arc<App>,
    request: Request<Incoming>,
    peer: SocketAddr,
    surface: Surface,
) -> Response<Body> {
    let answer = answer(app, request, peer);
    if surface.lane() == Lane::Model {
        return answer.await;
    }
    let carried = tokio::spawn(answer).await;
    carried.unwrap_or_else(|_| respond::refusal(surface, &ReasonCode::Internal.into()))
}

/// A call that a tool makes on its agent's behalf: the same life once more. (A box of its own, since
/// a call within a call would be a type without end.)
fn again(
    app: Arc<App>,
    request: Request<Full<Bytes>>,
    peer: SocketAddr,
) -> BoxFuture<'static, Response<Body>> {
    Box::pin(answer(app, request, peer))
}

async fn answer<B>(app: Arc<App>, request: Request<B>, peer: SocketAddr) -> Response<Body>
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let (parts, body) = request.into_parts();
    let mut asked = Asked::of(&parts, peer.ip());
    let (began, at) = (Instant::now(), SystemTime::now());
    let (enforced, waited) = {
        let call = enforce(&app, &parts, body, peer, &mut asked);
        let mut call = pin!(waits::measured(call));
        (call.as_mut().await, waits::waited(call))
    };
    let code = match &enforced {
        Ok(_) => ReasonCode::Allowed,
        Err(refusal) => refusal.code,
    };
    if let Some(telemetry) = &app.telemetry {
        telemetry.call(asked.span(&parts, code, at, began.elapsed(), waited));
    }
    app.metrics.decided(asked.class, code);
    match enforced {
        Ok(response) => {
            if !asked.class.is_ours() {
                app.metrics.answered(asked.class, began.elapsed(), waited);
            }
            response
        }
        Err(refusal) => {
            record::refusal(&app, &asked, &refusal).await;
            respond::refusal(asked.surface, &refusal)
        }
    }
}

/// The life of a call.
async fn enforce<B>(
    app: &Arc<App>,
    parts: &Parts,
    body: B,
    peer: SocketAddr,
    asked: &mut Asked,
) -> Result<Response<Body>, Refusal>
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let caller = identify(app, parts, peer.ip(), asked).await?; //       who
    kill_point!("call.authenticated");
    hygiene::check(parts, asked.surface)?;
    if asked.surface == Surface::Mcp {
        // Each call that a tool makes comes through here once more.
        return mcp::answer(app, &caller, parts, body, peer).await;
    }
    let job = &caller.token.job.id;
    let target = on_behalf_of(job, resolve(app, &caller, parts, body, asked)).await?; // what
    // The body may have come in slowly: who was let in before a revocation is not let through
    // after it.
    let still = authenticate::check_now(app, &caller.token);
    let Some(target) = target else {
        still?;
        return job_view::answer(app, &caller, parts).await;
    };
    kill_point!("call.resolved");
    asked.class = target.class();
    still.inspect_err(|_| asked.learn_input(&target))?;
    let decision = decide(&caller.contract().compiled, target.input()); // may it?
    kill_point!("call.decided");
    let principal = Principal::from(&caller);
    let mut planned = target.planned(hygiene::trace_id(&parts.headers));
    // A client's request has no extensions; what a tool asks for has.
    planned.caused_by = parts.extensions.get::<CausedBy>().cloned();
    let permit = record::intent(app, principal, planned, decision).await; // durable before any effect
    let permit = permit.inspect_err(|_| asked.learn_input(&target))?;
    kill_point!("call.permitted");
    if app.telemetry.is_some() {
        asked.receipt_id = Some(permit.receipt_id().to_owned());
    }
    let answer = match target {
        Target::Terraform(call) => {
            on_behalf_of(job, terraform::forward(app, &caller, permit, *call)).await
        }
        Target::Model(call) => model::forward(app, &caller, permit, *call).await,
        Target::Egress(call) => egress::forward(app, &caller, permit, *call).await,
    };
    kill_point!("call.answered");
    Ok(answer)
}

/// Which client library will read the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surface {
    /// Terraform Cloud's API and its discovery document.
    Terraform,
    /// A capability address: the Terraform CLI reads it without a token.
    Object,
    /// OpenAI's API.
    Openai,
    /// Anthropic's API.
    Anthropic,
    /// Tools, by the Model Context Protocol.
    Mcp,
    /// The agent's view of its own job.
    Job,
    /// Somewhere else, by proxy: `CONNECT`, or a whole address.
    Egress,
    /// None of these: refused.
    Unknown,
}

impl Surface {
    fn of(method: &Method, uri: &Uri) -> Self {
        let path = uri.path();
        // Whatever names another place, or only means to, is for the proxy, and nothing else is.
        if method == Method::CONNECT || uri.scheme().is_some() || uri.authority().is_some() {
            Self::Egress
        } else if path.starts_with("/api/") || path.starts_with("/.well-known/") {
            Self::Terraform
        } else if path.starts_with(objects::PREFIX) {
            Self::Object
        } else if path.starts_with("/openai/") {
            Self::Openai
        } else if path.starts_with("/anthropic/") {
            Self::Anthropic
        } else if path == mcp::PATH {
            Self::Mcp
        } else if path == "/v1/job" || path.starts_with("/v1/job/") {
            Self::Job
        } else {
            Self::Unknown
        }
    }

    /// The lane of its records.
    pub fn lane(self) -> Lane {
        match self {
            Self::Openai | Self::Anthropic => Lane::Model,
            Self::Egress => Lane::Egress,
            _ => Lane::Terraform,
        }
    }

    /// What is known of the kind of a call by where it goes.
    fn class(self) -> CallClass {
        match self {
            Self::Openai | Self::Anthropic => CallClass::UnclearModel,
            Self::Egress => CallClass::Egress,
            Self::Mcp => CallClass::Tools,
            Self::Job => CallClass::Job,
            Self::Terraform | Self::Object | Self::Unknown => CallClass::Unclear,
        }
    }
}

/// What is known about a request so far: enough to record its refusal at any step.
#[derive(Debug)]
pub struct Asked {
    /// Who will read the answer.
    pub surface: Surface,
    /// The lane of its records.
    pub lane: Lane,
    /// The operation's name as soon as it is known, else method and surface.
    pub name: String,
    /// What kind of call it is, as far as that is known.
    pub class: CallClass,
    /// Hash of method and target as received.
    pub target_hash: Hash,
    /// The run that it concerns.
    pub run_id: Option<String>,
    /// What the decision was made from, of a call that it refuses.
    pub input: Option<Json>,
    /// Whose token it is, as soon as that is known.
    pub caller: Option<Caller>,
    /// Id of the receipt that it will get, where somebody traces calls.
    pub receipt_id: Option<String>,
    /// Where the request came from, whoever the token belongs to.
    pub peer: IpAddr,
}

impl Asked {
    fn of(parts: &Parts, peer: IpAddr) -> Self {
        let target = parts
            .uri
            .path_and_query()
            .map_or("", |target| target.as_str());
        let surface = Surface::of(&parts.method, &parts.uri);
        let method = parts.method.as_str();
        let whole;
        let target = match surface {
            Surface::Egress => {
                whole = parts.uri.to_string();
                whole.as_str()
            }
            _ => target,
        };
        Self {
            surface,
            lane: surface.lane(),
            class: surface.class(),
            name: format!(
                "{} {}",
                method.get(..12).unwrap_or(method),
                name_of(surface)
            ),
            target_hash: Hash::of_parts([method.as_bytes(), b" ".as_slice(), target.as_bytes()]),
            run_id: None,
            input: None,
            caller: None,
            receipt_id: None,
            peer: peer.to_canonical(),
        }
    }
}

impl Asked {
    /// What is told of the call to those who trace.
    fn span(
        &self,
        parts: &Parts,
        code: ReasonCode,
        began: SystemTime,
        took: Duration,
        waited: Duration,
    ) -> Span {
        let (trace_id, span_id) = Span::ids();
        let job = self.caller.as_ref().map(|caller| &caller.token.job.id);
        Span {
            trace_id,
            span_id,
            link: Link::of(&parts.headers),
            class: self.class,
            operation: self.name.clone(),
            decision: telemetry::Decision::of(code),
            code,
            job_id: job.map(ToString::to_string),
            receipt_id: self.receipt_id.clone(),
            began,
            took,
            waited,
        }
    }

    fn learn_input(&mut self, target: &Target) {
        self.input = Json::from_value(target.input()).ok();
    }
}

fn name_of(surface: Surface) -> &'static str {
    match surface {
        Surface::Terraform => "terraform",
        Surface::Object => "object",
        Surface::Openai => "openai",
        Surface::Anthropic => "anthropic",
        Surface::Mcp => "mcp",
        Surface::Job => "job",
        Surface::Egress => "egress",
        Surface::Unknown => "unknown",
    }
}

/// A call with everything that its decision needs.
#[derive(Debug)]
enum Target {
    Terraform(Box<terraform::TerraformCall>),
    Model(Box<model::ModelCall>),
    Egress(Box<egress::EgressCall>),
}

impl Target {
    fn input(&self) -> &policy::DecisionInput<'static> {
        match self {
            Self::Terraform(call) => &call.input,
            Self::Model(call) => &call.input,
            Self::Egress(call) => &call.input,
        }
    }

    fn class(&self) -> CallClass {
        match self {
            Self::Terraform(call) if call.mutates => CallClass::Change,
            Self::Terraform(_) => CallClass::Read,
            Self::Model(call) => call.target.surface.into(),
            Self::Egress(_) => CallClass::Egress,
        }
    }

    fn planned(&self, trace_id: Option<String>) -> record::Planned<'_> {
        match self {
            Self::Terraform(call) => call.planned(trace_id),
            Self::Model(call) => call.planned(trace_id),
            Self::Egress(call) => call.planned(trace_id),
        }
    }
}

/// By token, or by capability address, which stands for the token it was given out to.
async fn identify(
    app: &App,
    parts: &Parts,
    peer: IpAddr,
    asked: &mut Asked,
) -> Result<Caller, Refusal> {
    if asked.surface != Surface::Object {
        return authenticate(app, &parts.headers, peer, asked).await;
    }
    let capability = app.capabilities.find(parts.uri.path(), app.now())?;
    let caller = Caller {
        token: capability.token,
    };
    asked.caller = Some(caller.clone());
    authenticate::check_now(app, &caller.token)?;
    authenticate::bind(app, &caller.token, peer).await?;
    authenticate::check_accompanying(app, &parts.headers, &caller.token)?;
    Ok(caller)
}

/// What is asked; `None` is the agent's view of its own job, which asks nothing of anybody.
async fn resolve<B>(
    app: &App,
    caller: &Caller,
    parts: &Parts,
    body: B,
    asked: &mut Asked,
) -> Result<Option<Target>, Refusal>
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let target = match asked.surface {
        Surface::Terraform => Target::Terraform(Box::new(
            terraform::resolve(app, caller, parts, body, asked).await?,
        )),
        Surface::Object => Target::Terraform(Box::new(
            terraform::resolve_object(app, caller, parts, body, asked).await?,
        )),
        Surface::Openai | Surface::Anthropic => Target::Model(Box::new(
            model::resolve(app, &caller.token, parts, body, asked).await?,
        )),
        Surface::Egress => Target::Egress(Box::new(
            egress::resolve(app, caller, parts, body, asked).await?,
        )),
        Surface::Job => return Ok(None),
        Surface::Mcp | Surface::Unknown => return Err(ReasonCode::RouteUnknown.into()),
    };
    Ok(Some(target))
}
