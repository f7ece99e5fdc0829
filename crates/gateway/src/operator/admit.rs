//! Who is let in: to the API by a credential in the request's head, to pages by a session, too.
//!
//! A page's form is let in only when three things hold: a session, the session's own token in
//! the form, and a browser that says that the form stood on a page of ours.

use std::collections::HashSet;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, Uri, header};
use policy::ReasonCode;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::credential::{self, Access, Operator};
use super::extract;
use super::problem::Problem;
use super::session::{self, Session};
use super::{TRUST_PULSE, origin};
use crate::app::App;
use crate::pages;

/// The field of each form that holds the session's token.
pub const FORM_TOKEN: &str = "form-token";

/// Whoever opens a page, and where that page stands.
#[derive(Debug, Clone)]
pub struct Visit {
    /// The session, when there is one.
    pub session: Option<Session>,
    /// Who; nobody on a page that is open to all.
    pub operator: Option<Operator>,
    /// From the page to the listener's root: `../../` or `./`.
    pub root: String,
}

/// The guard of the page has put it there.
impl<S: Sync> FromRequestParts<S> for Visit {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let visit = parts.extensions.get().cloned();
        visit.ok_or_else(|| ReasonCode::OperatorCredentialMissing.into())
    }
}

/// A form that the guard has let through.
#[derive(Debug)]
pub struct Form<T>(pub T);

/// They may hold a credential: no `Debug`.
#[derive(Clone)]
struct Fields(Map<String, Value>);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Form<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Fields(fields) = parts
            .extensions
            .get::<Fields>()
            .cloned()
            .ok_or(ReasonCode::FormForeign)?;
        serde_json::from_value(Value::Object(fields))
            .map(Self)
            .map_err(|error| extract::shape(&error.to_string()))
    }
}

/// Lets a call through to a route of the API, or not.
pub(super) async fn to_api(
    State((app, access)): State<(Arc<App>, Access)>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    if !matches!(access, Access::Public | Access::Signed | Access::Link) {
        let operator = credential::authenticate(&*app.store, request.headers()).await?;
        check_role(&operator, access, request.uri().path())?;
        request.extensions_mut().insert(operator);
    }
    Ok(next.run(request).await)
}

/// Lets somebody through to a page, or leads to the sign-in.
pub(super) async fn to_page(
    State((app, access)): State<(Arc<App>, Access)>,
    request: Request,
    next: Next,
) -> Response {
    let seen = Seen::of(request.method(), request.uri(), request.headers());
    match let_in(&app, access, request).await {
        Ok(request) => {
            let mut response = next.run(request).await;
            // What a handler could not read, it refuses as the API does.
            match response.extensions_mut().remove::<Problem>() {
                Some(problem) => seen.answer(&app, problem),
                None => response,
            }
        }
        Err(problem) => seen.answer(&app, problem),
    }
}

async fn let_in(app: &App, access: Access, request: Request) -> Result<Request, Problem> {
    let (mut parts, body) = request.into_parts();
    let reads = matches!(parts.method, Method::GET | Method::HEAD);
    if !reads && !origin::is_ours(&parts.headers, &parts.uri, &app.operator_url) {
        return Err(ReasonCode::FormForeign.into());
    }
    let session = session::find(app, &parts.headers, app.now()).await?;
    let by_header = reads && parts.headers.contains_key(header::AUTHORIZATION);
    let operator = match &session {
        // What a program sends counts for reading; nothing that a browser sends by itself does.
        _ if by_header => Some(credential::authenticate(&*app.store, &parts.headers).await?),
        Some(session) => Some(session.operator.clone()),
        None => None,
    };
    match &operator {
        Some(operator) => check_role(operator, access, parts.uri.path())?,
        None if access == Access::Public || reads && is_open(app, &parts) => {}
        None => return Err(ReasonCode::OperatorCredentialMissing.into()),
    }
    let body = if reads {
        body
    } else {
        let fields = form(&parts.headers, body).await?;
        let token = fields.token;
        let owned = |session: &Session| token.as_ref().is_some_and(|token| session.owns(token));
        if access != Access::Public && !session.as_ref().is_some_and(owned) {
            return Err(ReasonCode::FormForeign.into());
        }
        parts.extensions.insert(Fields(fields.others));
        Body::empty()
    };
    if let Some(operator) = &operator {
        parts.extensions.insert(operator.clone());
    }
    let root = root(parts.uri.path());
    parts.extensions.insert(Visit {
        session,
        operator,
        root,
    });
    Ok(Request::from_parts(parts, body))
}

fn check_role(operator: &Operator, access: Access, path: &str) -> Result<(), Problem> {
    if operator.may(access) {
        return Ok(());
    }
    tracing::warn!(operator = operator.name, path, "an operator lacks the role");
    Err(ReasonCode::OperatorForbidden.into())
}

/// Whether the reviewers' pages are open: the configuration says so, and only this machine can
/// reach the listener.
fn is_open(app: &App, parts: &Parts) -> bool {
    let loopback = app.config.operator_listener.address.ip().is_loopback();
    app.config.trust_pulse.open
        && loopback
        && parts.uri.path().starts_with(TRUST_PULSE)
        && origin::names_this_machine(&parts.headers, &parts.uri)
}

#[derive(Default)]
struct Sent {
    token: Option<String>,
    others: Map<String, Value>,
}

/// The fields of a form, which is all that pages send.
async fn form(headers: &HeaderMap, body: Body) -> Result<Sent, Problem> {
    let bytes = extract::form(headers, body).await?;
    let mut sent = Sent::default();
    let mut names = HashSet::new();
    for (name, value) in extract::pairs::<Vec<(String, String)>>(&bytes)? {
        if !names.insert(name.clone()) {
            return Err(Problem::new(
                ReasonCode::BodyWrongType,
                "a field came twice",
            ));
        }
        if name == FORM_TOKEN {
            sent.token = Some(value);
        } else {
            sent.others.insert(name, Value::String(value));
        }
    }
    Ok(sent)
}

/// From a page to the listener's root. Links on pages are relative, so that a proxy may mount
/// the listener anywhere.
fn root(path: &str) -> String {
    match path.matches('/').count() {
        0 | 1 => "./".to_owned(),
        slashes => "../".repeat(slashes - 1),
    }
}

/// Answers somebody who asks for what is not there, as that somebody understands it.
pub(super) fn turned_away(app: &App, uri: &Uri, headers: &HeaderMap, problem: Problem) -> Response {
    Seen::of(&Method::GET, uri, headers).answer(app, problem)
}

/// What decides how somebody is turned away.
struct Seen {
    page: bool,
    reads: bool,
    led: bool,
    root: String,
    uri: Uri,
    cookie: bool,
}

impl Seen {
    fn of(method: &Method, uri: &Uri, headers: &HeaderMap) -> Self {
        let accepts = headers.get_all(header::ACCEPT).iter();
        let mut accepts = accepts.filter_map(|value| value.to_str().ok());
        Self {
            page: accepts.any(|value| value.contains("text/html")),
            reads: matches!(*method, Method::GET | Method::HEAD),
            led: origin::led_from_elsewhere(headers),
            root: root(uri.path()),
            uri: uri.clone(),
            cookie: headers.contains_key(header::COOKIE),
        }
    }

    fn answer(&self, app: &App, problem: Problem) -> Response {
        if !self.page {
            return problem.into_response();
        }
        let asks = problem.code == ReasonCode::OperatorCredentialMissing;
        if !asks || !self.reads {
            let posted = (!self.reads).then(|| self.uri.path());
            let way_on = posted.and_then(|path| pages::WayOn::of(&self.root, path, asks));
            return pages::refused(pages::stranger(app, &self.root), &problem, way_on);
        }
        if self.led && !self.cookie {
            // The browser keeps a strict cookie to itself when another site led it here. Once our
            // own page leads it on, it shows whether it has one.
            return pages::lead_on(app, &self.root);
        }
        let next = pages::Next::of(&self.uri);
        let to = format!("{}sign-in{}", self.root, next.query());
        let headers = [
            (header::LOCATION, to),
            (header::CACHE_CONTROL, "no-store".into()),
        ];
        (StatusCode::SEE_OTHER, headers).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_lead_back_to_the_root() {
        for (path, leads) in [
            ("/", "./"),
            ("/sign-in", "./"),
            ("/approvals/", "../"),
            ("/approvals/run-1", "../"),
            ("/trust-pulse/jobs/job_1", "../../"),
            ("/approvals/run-1/deny", "../../"),
        ] {
            assert_eq!(root(path), leads, "{path}");
        }
    }
}
