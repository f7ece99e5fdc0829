//! The operator listener: what people reach. Every route stands on this page.
//!
//! To add a route: one line in [`routes`] with what it asks of its caller, and its handler in the
//! module of its subject. There is no way to add one that asks nothing by forgetting to say so.

mod approvals;
pub mod audit;
mod contracts;
pub mod credential;
mod evidence;
mod extract;
mod health;
mod jobs;
mod notices;
mod passkeys;
mod problem;
mod rollback;
mod run_tasks;
#[cfg(test)]
pub(crate) mod testing;
mod tokens;
mod top;
mod watching;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::middleware::{Next, from_fn_with_state, map_response};
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, on};
use http::{HeaderValue, header};
use policy::ReasonCode;

use crate::app::App;
use crate::trust_pulse;
use credential::{Access, Role};

pub use problem::{Finding, Problem};

/// Where the reviewers' pages stand.
const TRUST_PULSE: &str = "/trust-pulse";

/// One route: method, path, who may, and what is done.
pub struct Route {
    /// `GET` or `POST`.
    pub method: &'static str,
    /// As axum writes paths.
    pub path: &'static str,
    /// Who may.
    pub access: Access,
    handler: MethodRouter<Arc<App>>,
}

/// Every route of the operator API.
pub fn routes() -> Vec<Route> {
    use Access::{Link, Needs, Operator, Public, Signed};
    use Role::{Admin, Approver, Author, Issuer};
    vec![
        get("/healthz", Public, health::alive),
        get("/readyz", Public, health::ready),
        get("/.well-known/jwks.json", Public, tokens::jwks),
        post("/v1/contracts", Needs(Author), contracts::publish),
        get("/v1/contracts", Operator, contracts::list),
        get("/v1/contracts/diff", Operator, contracts::diff),
        get("/v1/contracts/{hash}", Operator, contracts::show),
        get(
            "/v1/contracts/by-name/{name}",
            Operator,
            contracts::versions,
        ),
        post(
            "/v1/contracts/{hash}/withdraw",
            Needs(Author),
            contracts::withdraw,
        ),
        post("/v1/jobs", Needs(Issuer), jobs::open),
        get("/v1/jobs", Operator, jobs::list),
        get("/v1/top", Operator, top::show),
        get("/v1/jobs/{id}", Operator, jobs::show),
        get("/v1/jobs/{id}/records", Operator, jobs::records),
        get("/v1/jobs/{id}/runs", Operator, jobs::runs),
        get("/v1/jobs/{id}/tokens", Operator, jobs::tokens),
        post("/v1/jobs/{id}/close", Needs(Issuer), jobs::close),
        get("/v1/jobs/{id}/bundle", Operator, evidence::bundle),
        post("/v1/tokens", Needs(Issuer), tokens::issue),
        post(
            "/v1/tokens/elevated",
            Needs(Approver),
            tokens::issue_elevated,
        ),
        post("/v1/tokens/introspect", Needs(Issuer), tokens::introspect),
        post("/v1/tokens/revoke", Needs(Issuer), tokens::revoke),
        get("/v1/approvals", Operator, approvals::list),
        get("/v1/approvals/{run_id}", Operator, approvals::show),
        post("/v1/approvals/{run_id}", Needs(Approver), approvals::submit),
        post(
            "/v1/approvals/{run_id}/question",
            Needs(Approver),
            passkeys::question,
        ),
        post(
            "/v1/approvals/{run_id}/passkey",
            Needs(Approver),
            passkeys::answer,
        ),
        get("/v1/approvers", Operator, passkeys::list),
        post("/v1/approvers/invite", Needs(Admin), passkeys::invite),
        post("/v1/approvers/remove", Needs(Admin), passkeys::remove),
        get("/passkeys/enrol/{link}", Link, passkeys::enrolment_page),
        post("/passkeys/enrol/{link}", Link, passkeys::enrol),
        get("/passkey.js", Public, passkeys::script),
        post("/v1/rollback/run/{run_id}", Needs(Issuer), rollback::run),
        post("/v1/rollback/job/{id}", Needs(Issuer), rollback::job),
        post("/v1/rollback/state", Needs(Issuer), rollback::state),
        post(crate::run_tasks::PATH, Signed, run_tasks::receive),
        post(
            crate::watching::notification::PATH,
            Signed,
            watching::notify,
        ),
        get("/v1/observations", Operator, watching::observations),
        get("/v1/watch", Operator, watching::workspaces),
        get("/v1/watch/{id}", Operator, watching::workspace),
        post("/v1/watch/{id}/accept", Needs(Author), watching::accept),
        get("/v1/notices", Operator, notices::list),
        post("/v1/notices/{name}/test", Needs(Admin), notices::test),
        get("/v1/receipts/{id}", Operator, evidence::receipt),
        get("/v1/trust", Operator, evidence::trust),
        get("/v1/log/checkpoint", Operator, evidence::checkpoint),
    ]
}

fn get<H, T>(path: &'static str, access: Access, handler: H) -> Route
where
    H: Handler<T, Arc<App>>,
    T: 'static,
{
    Route {
        method: "GET",
        path,
        access,
        handler: on(MethodFilter::GET, handler),
    }
}

fn post<H, T>(path: &'static str, access: Access, handler: H) -> Route
where
    H: Handler<T, Arc<App>>,
    T: 'static,
{
    Route {
        method: "POST",
        path,
        access,
        handler: on(MethodFilter::POST, handler),
    }
}

/// The operator listener's router. Scoped tokens are refused on every route that asks for a
/// credential; what is not listed does not exist.
pub fn router(app: Arc<App>) -> Router {
    let mut router = Router::new();
    for route in routes() {
        let guard = from_fn_with_state((Arc::clone(&app), route.access), admit);
        router = router.route(route.path, route.handler.route_layer(guard));
    }
    let pages = trust_pulse::router()
        .layer(from_fn_with_state(Arc::clone(&app), admit_to_pages))
        .with_state(Arc::clone(&app));
    router
        .nest_service(TRUST_PULSE, pages)
        .fallback(unknown_route)
        .method_not_allowed_fallback(unknown_method)
        .layer(map_response(harden))
        .with_state(app)
}

/// Lets a request through to a route, or not.
async fn admit(
    State((app, access)): State<(Arc<App>, Access)>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    if !matches!(access, Access::Public | Access::Signed | Access::Link) {
        let operator = credential::authenticate(&*app.store, request.headers()).await?;
        if !operator.may(access) {
            let path = request.uri().path();
            tracing::warn!(operator = operator.name, path, "an operator lacks the role");
            return Err(ReasonCode::OperatorForbidden.into());
        }
        request.extensions_mut().insert(operator);
    }
    Ok(next.run(request).await)
}

/// The same for the reviewers' pages: any operator; or everybody, when the configuration opens
/// them and only this machine can reach the listener.
async fn admit_to_pages(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let loopback = app.config.operator_listener.address.ip().is_loopback();
    let open = app.config.trust_pulse.open && loopback && names_this_machine(&request);
    if !open {
        let operator = credential::authenticate_page(&*app.store, request.headers()).await?;
        if !operator.may(Access::Operator) {
            return Err(Problem::from(ReasonCode::OperatorForbidden));
        }
        request.extensions_mut().insert(operator);
    }
    Ok(next.run(request).await)
}

/// Whether the `Host` header is a loopback address: a foreign page in the same browser can make
/// its own name point here, and must not read open pages that way.
fn names_this_machine(request: &Request) -> bool {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return false;
    };
    let host = host.to_str().ok();
    let host = host.and_then(|host| host.parse::<http::uri::Authority>().ok());
    // A whole address in the request line counts more than the header does.
    host.as_ref().is_some_and(is_loopback) && request.uri().authority().is_none_or(is_loopback)
}

fn is_loopback(authority: &http::uri::Authority) -> bool {
    let host = authority.host().trim_matches(['[', ']']);
    let address = host.parse::<std::net::IpAddr>();
    let named = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    named && !authority.as_str().contains('@')
}

async fn unknown_route() -> Problem {
    ReasonCode::PageUnknown.into()
}

async fn unknown_method() -> Problem {
    ReasonCode::MethodNotAllowed.into()
}

/// Answers hold evidence and, once, a token: nothing between us and the operator keeps them.
async fn harden(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    let sniff = HeaderValue::from_static("nosniff");
    headers
        .entry(header::X_CONTENT_TYPE_OPTIONS)
        .or_insert(sniff);
    response
}
