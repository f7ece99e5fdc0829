//! The operator listener: what people reach. Every route stands on this page.
//!
//! To add a route: one line in [`routes`], or in [`pages()`], with what it asks of its caller, and its
//! handler in the module of its subject. There is no way to add one that asks nothing by forgetting to say so.
//! A route for programs has a line in `openapi/operations.rs`, too.

mod admit;
mod approvals;
pub mod attempts;
pub mod audit;
mod connection;
mod contracts;
pub mod cookie;
pub mod credential;
mod evidence;
pub mod export;
pub(crate) mod extract;
mod health;
mod holds;
mod jobs;
mod keys;
mod log;
mod notices;
pub mod openapi;
mod origin;
mod passkeys;
mod problem;
pub(crate) mod published;
mod rollback;
mod run_tasks;
pub mod session;
pub mod streaming;
#[cfg(test)]
pub(crate) mod testing;
mod tokens;
mod top;
mod waiting;
mod watching;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::handler::Handler;
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, on};
use http::{HeaderMap, HeaderValue, Uri, header};
use policy::ReasonCode;

use crate::app::App;
use crate::metrics;
use crate::oidc;
use crate::pages::{self, assets, people};
use crate::trust_pulse;
use credential::{Access, Role};
use openapi::{Describe, Described};

pub(crate) use admit::Form;
pub use admit::{FORM_TOKEN, Visit};
pub(crate) use origin::is_a_click_of_ours;
pub use problem::{Finding, Problem};
pub use published::Places;

/// Where the reviewers' pages stand.
const TRUST_PULSE: &str = "/trust-pulse/";

/// Where the metrics stand.
const METRICS: &str = "/metrics";

/// One route: method, path, who may, and what is done.
pub struct Route {
    /// `GET` or `POST`.
    pub method: &'static str,
    /// As axum writes paths.
    pub path: &'static str,
    /// Who may.
    pub access: Access,
    handler: MethodRouter<Arc<App>>,
    /// What programs are told of it; nothing of what is for browsers.
    describe: Option<Describe>,
}

/// Every route of the operator API.
pub fn routes() -> Vec<Route> {
    use Access::{Link, Needs, Operator, Public, Signed};
    use Role::{Admin, Approver, Auditor, Author, Issuer, Monitor};
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
        get("/v1/connection", Operator, connection::show),
        get("/v1/jobs/{id}", Operator, jobs::show),
        get("/v1/jobs/{id}/records", Operator, jobs::records),
        get("/v1/jobs/{id}/runs", Operator, jobs::runs),
        get("/v1/jobs/{id}/tokens", Operator, jobs::tokens),
        post("/v1/jobs/{id}/lease", Needs(Issuer), jobs::renew),
        post("/v1/jobs/{id}/close", Needs(Issuer), jobs::close),
        get("/v1/jobs/{id}/bundle", Operator, evidence::bundle),
        get("/v1/jobs/{id}/bundle/export", Operator, evidence::export),
        get("/v1/holds", Operator, holds::list),
        post("/v1/jobs/{id}/holds", Needs(Auditor), holds::place),
        post("/v1/jobs/{id}/holds/lift", Needs(Auditor), holds::lift),
        post("/v1/tokens", Needs(Issuer), tokens::issue),
        post(
            "/v1/tokens/elevated",
            Needs(Approver),
            tokens::issue_elevated,
        ),
        post("/v1/tokens/introspect", Needs(Issuer), tokens::introspect),
        post("/v1/tokens/revoke", Needs(Issuer), tokens::revoke),
        get("/v1/approvals", Operator, approvals::list),
        get("/v1/approvals/watch", Operator, waiting::watch),
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
        page::get("/passkeys/enrol/{link}", Link, passkeys::enrolment_page),
        page::post("/passkeys/enrol/{link}", Link, passkeys::enrol),
        page::get("/passkey.js", Public, passkeys::script),
        post("/v1/publications", Needs(Admin), published::publish),
        get("/v1/publications", Operator, published::list),
        post(
            "/v1/publications/withdraw",
            Needs(Admin),
            published::withdraw,
        ),
        page::get("/published/{link}/", Link, published::page),
        page::get("/published/{link}/bundle.json", Link, published::bundle),
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
        get("/v1/keys", Operator, keys::list),
        post("/v1/keys/prepare", Needs(Admin), keys::prepare),
        post("/v1/keys", Needs(Admin), keys::submit),
        get("/v1/log", Operator, log::show),
        get("/v1/log/checkpoint", Operator, log::checkpoint),
        get("/v1/log/consistency", Operator, log::consistency),
        get("/v1/log/inclusion", Operator, log::inclusion),
        file("/tlog/checkpoint", Operator, log::checkpoint),
        file("/tlog/tile/{level}/{*place}", Operator, log::tile),
        file("/tlog/tile/entries/{*place}", Needs(Auditor), log::tile),
        get("/v1/export", Needs(Auditor), export::export),
        file(METRICS, Needs(Monitor), metrics::gather::show),
    ]
}

/// Every page. Programs may read them with a credential; browsers do with a session. What is
/// posted asks for a session and its form's token, except to sign in.
pub fn pages() -> Vec<Route> {
    use Access::{Needs, Operator, Public};
    use Role::Approver;
    use page::{get, post};
    use pages::approvals;
    vec![
        get("/", Public, people::index),
        get("/sign-in", Public, people::sign_in_form),
        post("/sign-in", Public, people::sign_in),
        post("/sign-in/passkey", Public, people::sign_in_with_passkey),
        get("/sign-in/oidc", Public, people::oidc::begin),
        get(oidc::CALLBACK, Public, people::oidc::finish),
        post("/sign-out", Operator, people::sign_out),
        get("/sessions", Operator, people::sessions),
        post("/sessions/end", Operator, people::end_session),
        get("/activity", Operator, people::activity),
        get("/approvals", Public, pages::slash),
        get("/approvals/", Operator, approvals::inbox),
        get("/approvals/{run_id}", Operator, approvals::plan),
        post("/approvals/{run_id}/deny", Needs(Approver), approvals::deny),
        post(
            "/approvals/{run_id}/deny-signed",
            Needs(Approver),
            approvals::deny_signed,
        ),
        post(
            "/approvals/{run_id}/signed",
            Needs(Approver),
            approvals::signed,
        ),
        get("/trust-pulse", Public, pages::slash),
        get("/trust-pulse/", Operator, trust_pulse::list),
        get("/trust-pulse/outside", Operator, trust_pulse::outside),
        get("/trust-pulse/check", Operator, trust_pulse::check::show),
        get("/trust-pulse/jobs/{job_id}", Operator, trust_pulse::job),
        get(
            "/trust-pulse/jobs/{job_id}/bundle.json",
            Operator,
            trust_pulse::bundle,
        ),
        get(
            "/trust-pulse/jobs/{job_id}/receipts/{receipt_id}",
            Operator,
            trust_pulse::receipt::show,
        ),
        get(
            "/trust-pulse/runs/{run_id}",
            Operator,
            trust_pulse::run::show,
        ),
        get(
            "/trust-pulse/agents/{did}",
            Operator,
            trust_pulse::agent::show,
        ),
        get(
            "/trust-pulse/contracts/",
            Operator,
            trust_pulse::contract::list,
        ),
        get(
            "/trust-pulse/contracts/{hash}",
            Operator,
            trust_pulse::contract::show,
        ),
        get(
            "/trust-pulse/tasks/{task_result_id}",
            Operator,
            trust_pulse::task_page,
        ),
    ]
}

/// What others have defined, files and lines of theirs: our document has nothing to say of it.
fn file<H, T>(path: &'static str, access: Access, handler: H) -> Route
where
    H: Handler<T, Arc<App>>,
    T: 'static,
{
    page::get(path, access, handler)
}

fn get<H, T>(path: &'static str, access: Access, handler: H) -> Route
where
    H: Handler<T, Arc<App>> + Described<T>,
    T: 'static,
{
    Route {
        describe: Some(<H as Described<T>>::describe),
        ..page::get(path, access, handler)
    }
}

fn post<H, T>(path: &'static str, access: Access, handler: H) -> Route
where
    H: Handler<T, Arc<App>> + Described<T>,
    T: 'static,
{
    Route {
        describe: Some(<H as Described<T>>::describe),
        ..page::post(path, access, handler)
    }
}

/// Routes for browsers: programs are told nothing of them.
mod page {
    use super::*;

    pub(super) fn get<H, T>(path: &'static str, access: Access, handler: H) -> Route
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        Route {
            method: "GET",
            path,
            access,
            handler: on(MethodFilter::GET, handler),
            describe: None,
        }
    }

    pub(super) fn post<H, T>(path: &'static str, access: Access, handler: H) -> Route
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        Route {
            method: "POST",
            path,
            access,
            handler: on(MethodFilter::POST, handler),
            describe: None,
        }
    }
}

/// The operator listener's router. Scoped tokens are refused on every route that asks for a
/// credential; what is not listed does not exist.
pub fn router(app: Arc<App>) -> Router {
    let mut router = Router::new();
    for route in routes() {
        let hashes = app.config.log.public && log::HASHES.contains(&route.path);
        let metrics = app.config.metrics.open && route.path == METRICS;
        let access = if hashes || metrics {
            Access::Public
        } else {
            route.access
        };
        let guard = from_fn_with_state((Arc::clone(&app), access), admit::to_api);
        router = router.route(route.path, route.handler.route_layer(guard));
    }
    for page in pages() {
        let guard = from_fn_with_state((Arc::clone(&app), page.access), admit::to_page);
        router = router.route(page.path, page.handler.route_layer(guard));
    }
    router
        .route("/assets/{name}", on(MethodFilter::GET, assets::asset))
        .fallback(unknown_route)
        .method_not_allowed_fallback(unknown_method)
        .layer(map_response(harden))
        .with_state(app)
}

async fn unknown_route(State(app): State<Arc<App>>, uri: Uri, headers: HeaderMap) -> Response {
    admit::turned_away(&app, &uri, &headers, ReasonCode::PageUnknown.into())
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
