//! The egress lane: connections to hosts that the contract lists, and to nothing else.
//!
//! `resolve` says where to, and looks the name up, once; `forward` connects to one of the
//! addresses that were decided about, so that no second answer of DNS counts. Whatever is sent is
//! held back until it is known to be TLS for the host that was asked for, where TLS is meant.
//!
//! | module | what it does |
//! |---|---|
//! | `target` | where a request wants to go |
//! | `places` | looks names up; knows what is reached in another way |
//! | `open` | bounds how many connections are open, and ends them |
//! | `meter` | counts and hashes what passes |
//! | `tunnel` | `CONNECT`: bytes in both directions |
//! | `plain` | one HTTP request, rebuilt, and its answer |

mod meter;
mod open;
mod places;
mod plain;
mod target;
mod tunnel;

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use policy::decide::{DecisionInput, EgressInput};
use policy::egress::{Destination, EgressOperation};
use policy::{ReasonCode, Refusal, decide};
use proof::Hash;
use proof::record::{Ended, Lane};
use tokio::net::TcpStream;

use super::authenticate::Caller;
use super::record::{Permit, Planned};
use super::{Asked, Surface, respond};
use crate::app::App;
use crate::server::{Body, BoxError, whole};
use meter::Meter;
use open::Place;

pub use open::Egress;
pub use places::{Resolve, SystemResolver, reserved_hosts};

/// A connection that is understood: everything that decision, records and forwarding need.
pub(super) struct EgressCall {
    /// What the contract decides from.
    pub(super) input: DecisionInput<'static>,
    operation: EgressOperation,
    destination: Destination,
    /// The addresses that the decision is about.
    addresses: Vec<IpAddr>,
    request_hash: Hash,
    work: Work,
    place: Place,
}

enum Work {
    /// The client's connection, once it is ours.
    Tunnel(OnUpgrade),
    Request(Box<plain::Outgoing>),
}

impl EgressCall {
    /// What its intent says.
    pub(super) fn planned(&self, trace_id: Option<String>) -> Planned<'_> {
        Planned {
            lane: Lane::Egress,
            operation: self.operation.name(),
            run_id: None,
            input: &self.input,
            request_hash: self.request_hash,
            // What goes out cannot be taken back.
            mutates: true,
            trace_id,
            caused_by: None,
        }
    }
}

impl fmt::Debug for EgressCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EgressCall")
            .field("operation", &self.operation)
            .field("destination", &self.destination)
            .finish_non_exhaustive()
    }
}

/// Reads where a request wants to go, and looks the name up when nothing is against that.
///
/// # Errors
/// `EGRESS_TARGET` or `HEADER_NOT_ALLOWED` for what cannot be read, `EGRESS_BUSY`.
pub(super) async fn resolve<B>(
    app: &App,
    caller: &Caller,
    parts: &Parts,
    body: B,
    asked: &mut Asked,
) -> Result<EgressCall, Refusal>
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let (operation, destination) = target::read(parts)?;
    operation.name().clone_into(&mut asked.name);
    let place = app.egress.enter(&caller.token.job.id)?;
    let work = match operation {
        EgressOperation::Connect => {
            let upgrade = parts.extensions.get::<OnUpgrade>().cloned();
            Work::Tunnel(upgrade.ok_or(ReasonCode::EgressTarget)?)
        }
        EgressOperation::Request => {
            let outgoing = plain::Outgoing::new(parts, body, &destination, caller)?;
            Work::Request(Box::new(outgoing))
        }
    };
    let mut input = EgressInput {
        operation,
        scope: Cow::Owned(caller.token.scopes.clone()),
        host: Cow::Owned(destination.host.to_string()),
        port: destination.port,
        reserved: app.egress.reserved_by_name(&destination),
        addresses: None,
        excepted: Cow::Borrowed(&[]),
    };
    let mut addresses = Vec::new();
    let decided = decide(
        &caller.contract().compiled,
        &DecisionInput::Egress(input.clone()),
    );
    if decided.code == ReasonCode::EgressUnresolved {
        // Nothing is against it but that nobody has looked.
        let found = app.egress.look_up(&destination).await;
        input.reserved = input.reserved.or(found.reserved);
        input.excepted = Cow::Owned(found.excepted);
        input.addresses = Some(Cow::Owned(found.addresses.clone()));
        addresses = found.addresses;
    }
    Ok(EgressCall {
        input: DecisionInput::Egress(input),
        operation,
        destination,
        addresses,
        request_hash: asked.target_hash,
        work,
        place,
    })
}

/// Connects, and passes on what there is until one side or a rule ends it. The end is recorded
/// however it comes.
pub(super) async fn forward(
    app: &Arc<App>,
    caller: &Caller,
    permit: Permit,
    call: EgressCall,
) -> Response<Body> {
    let mut underway = Underway {
        app: Arc::clone(app),
        token: Arc::clone(&caller.token),
        permit,
        meter: Arc::new(Meter::start()),
        address: None,
        _place: call.place,
    };
    let patience = Duration::from_secs(app.config.egress.connect_timeout_seconds);
    let connecting = connect(
        &call.addresses,
        call.destination.port,
        &mut underway.address,
    );
    let connected = tokio::select! {
        connected = tokio::time::timeout(patience, connecting) => match connected {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => {
                tracing::info!(%error, "no connection through the egress proxy");
                Err((Ended::UpstreamReset, ReasonCode::UpstreamUnavailable))
            }
            Err(_) => Err((Ended::UpstreamReset, ReasonCode::UpstreamTimeout)),
        },
        reason = caller.token.until_ended() => Err((Ended::CutByPolicy, reason)),
    };
    let stream = match connected {
        Ok(stream) => stream,
        Err((ended, code)) => return underway.refused(ended, code).await,
    };
    match call.work {
        Work::Tunnel(upgrade) => tunnel::open(underway, call.destination, stream, upgrade),
        Work::Request(outgoing) => plain::exchange(underway, *outgoing, stream).await,
    }
}

/// Connects to the first address that answers. None but these is ever connected to.
async fn connect(
    addresses: &[IpAddr],
    port: u16,
    reached: &mut Option<IpAddr>,
) -> std::io::Result<TcpStream> {
    let mut failed = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
    for ip in addresses {
        match TcpStream::connect(SocketAddr::new(*ip, port)).await {
            Ok(stream) => {
                let _ = stream.set_nodelay(true);
                *reached = Some(*ip);
                return Ok(stream);
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// A connection whose intent is durable and whose end is not recorded yet.
struct Underway {
    app: Arc<App>,
    token: Arc<crate::live::LiveToken>,
    permit: Permit,
    meter: Arc<Meter>,
    address: Option<IpAddr>,
    /// Counted until the end is recorded.
    _place: Place,
}

/// What the client and the other side said, as far as HTTP was spoken.
#[derive(Debug, Clone, Copy, Default)]
struct Statuses {
    client: Option<u16>,
    upstream: Option<u16>,
}

impl Underway {
    /// Resolves when nothing may pass any more: the token was revoked, the job closed, the contract
    /// withdrawn; nothing moved for too long; the gateway stops.
    async fn until_cut(&self) -> ReasonCode {
        let settings = &self.app.config.egress;
        let idle = Duration::from_secs(settings.idle_timeout_seconds);
        let most = Duration::from_secs(settings.max_seconds);
        tokio::select! {
            reason = self.token.until_ended() => reason,
            () = self.meter.until_idle(idle) => ReasonCode::EgressTime,
            () = tokio::time::sleep(most) => ReasonCode::EgressTime,
            () = self.app.egress.until_stopped() => ReasonCode::ShuttingDown,
        }
    }

    /// Records the end. `false` when that failed.
    async fn end(self, ended: Ended, code: Option<ReasonCode>, statuses: Statuses) -> bool {
        let Self {
            app,
            permit,
            meter,
            address,
            ..
        } = self;
        let mut facts = meter.facts(address);
        facts.ended = ended;
        facts.code = code;
        facts.status = statuses.client;
        facts.upstream_status = statuses.upstream;
        let job = permit.job_id().clone();
        if let Some(code) = code {
            tracing::info!(%code, %job, ?ended, "a connection through the egress proxy ended");
        }
        let recorded = permit.finish(&app, facts, None).await;
        if let Err(error) = &recorded {
            tracing::error!(%error, %job, "the end of a connection was not recorded");
        }
        recorded.is_ok()
    }

    /// Records an end before anything was passed on, and answers.
    async fn refused(self, ended: Ended, code: ReasonCode) -> Response<Body> {
        let statuses = Statuses {
            client: Some(code.status()),
            upstream: None,
        };
        let receipt = self.permit.receipt_id().to_owned();
        let refusal = match self.end(ended, Some(code), statuses).await {
            true => code.into(),
            false => Refusal::from(ReasonCode::StoreUnavailable),
        };
        let mut response = respond::refusal(Surface::Egress, &refusal);
        name_receipt(&mut response, &receipt);
        response
    }
}

fn name_receipt(response: &mut Response<Body>, receipt: &str) {
    if let Ok(value) = receipt.parse() {
        response.headers_mut().insert("x-clawgate-receipt", value);
    }
}

/// An answer without a body.
fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(whole(Bytes::new()));
    *response.status_mut() = status;
    response
}
