//! Signing in and out, and where somebody is signed in.

pub mod oidc;

use std::net::SocketAddr;
use std::sync::Arc;

use askama::Template;
use axum::extract::{ConnectInfo, Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use policy::ReasonCode;
use proof::Hash;
use serde::Deserialize;
use store::{OperatorAction, SessionProof, SessionRow};
use zeroize::Zeroizing;

use super::words::{self, Moment, Quoted};
use super::{Frame, Next, Place, failed, html, see, with_script};
use crate::app::App;
use crate::operator::audit::Action;
use crate::operator::cookie::SESSION;
use crate::operator::credential;
use crate::operator::extract::hash_from_hex;
use crate::operator::session::{self, Proven};
use crate::operator::{Form, Problem, Visit};
use crate::passkeys::{self, UnreadablePasskey};

/// Actions on the page of what operators did.
const ACTIONS: u32 = 200;

#[derive(Debug, Template)]
#[template(path = "people/sign_in.html")]
struct SignInPage {
    frame: Frame,
    next: String,
    /// Why the last attempt failed.
    wrong: Option<&'static str>,
    /// What follows from that.
    advice: String,
    /// For the browser's passkeys, as JSON text, where they work.
    passkey: Option<String>,
    /// The OpenID Connect provider, when there is one.
    provider: Option<oidc::Button>,
}

/// Where to go after signing in.
#[derive(Debug, Deserialize)]
pub struct Wish {
    next: Option<String>,
}

/// The first page: the plans that wait.
pub async fn index() -> Response {
    see("approvals/".to_owned())
}

/// Asks for a credential.
pub async fn sign_in_form(
    State(app): State<Arc<App>>,
    visit: Visit,
    Query(wish): Query<Wish>,
) -> Response {
    let next = Next::read(wish.next.as_deref().unwrap_or_default());
    if visit.session.is_some() {
        return see(next.path().to_owned());
    }
    sign_in_page(&app, &visit, &next, None)
}

fn sign_in_page(app: &App, visit: &Visit, next: &Next, problem: Option<&Problem>) -> Response {
    let status = problem.map_or(200, |problem| problem.code.status());
    let page = SignInPage {
        frame: Frame::new(app, visit, Place::Nowhere),
        next: next.path().to_owned(),
        wrong: problem.map(|problem| problem.code.title()),
        advice: problem.map_or_else(String::new, |problem| problem.detail.clone()),
        passkey: passkeys::sign_in_options(app)
            .ok()
            .map(|options| options.to_string()),
        provider: oidc::Button::of(app, next),
    };
    let status = StatusCode::from_u16(status).expect("the table holds statuses");
    with_script(html(status, &page))
}

/// What the form of the sign-in holds; a secret, so it has no `Debug`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    credential: String,
    #[serde(default)]
    next: String,
}

/// Makes a session of a good credential.
pub async fn sign_in(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    visit: Visit,
    Form(form): Form<SignIn>,
) -> Response {
    let credential = Zeroizing::new(form.credential);
    let proven = async || {
        let credential = credential.trim();
        Ok(Proven {
            operator: credential::identify(&*app.store, credential).await?,
            proof: SessionProof::Credential(Hash::of(credential.as_bytes())),
        })
    };
    let checked = checked(&app, peer, proven).await.map_err(Refused::advised);
    signed_in(&app, &visit, &Next::read(&form.next), checked)
}

/// What the script sends.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asserted {
    assertion: String,
    #[serde(default)]
    next: String,
}

/// Makes a session of a passkey's signature.
pub async fn sign_in_with_passkey(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    visit: Visit,
    Form(form): Form<Asserted>,
) -> Response {
    let proven = async || {
        let assertion = form.assertion.parse().map_err(|error: UnreadablePasskey| {
            Problem::new(ReasonCode::PasskeyMalformed, error.to_string())
        })?;
        let proven = passkeys::signed_in(&app, assertion).await;
        proven.map_err(Problem::from)
    };
    let checked = checked(&app, peer, proven).await.map_err(Refused::advised);
    signed_in(&app, &visit, &Next::read(&form.next), checked)
}

/// Why somebody does not get in.
struct Refused {
    problem: Problem,
    /// Seconds after which to try again, where that is known.
    retry_after: Option<i64>,
}

impl Refused {
    fn new(problem: Problem) -> Self {
        Self {
            problem,
            retry_after: None,
        }
    }

    /// Tells what to do, and nothing of what was wrong.
    fn advised(mut self) -> Self {
        if self.retry_after.is_none() {
            self.problem.detail = self.problem.code.advice().to_owned();
        }
        self
    }
}

/// Leads whoever got in to where that person wanted to go.
fn signed_in(
    app: &App,
    visit: &Visit,
    next: &Next,
    checked: Result<HeaderValue, Refused>,
) -> Response {
    match checked {
        Ok(cookie) => {
            let mut response = see(format!("{}{}", visit.root, next.path()));
            response.headers_mut().insert(header::SET_COOKIE, cookie);
            response
        }
        Err(refused) => not_signed_in(app, visit, next, &refused),
    }
}

fn not_signed_in(app: &App, visit: &Visit, next: &Next, refused: &Refused) -> Response {
    let mut response = sign_in_page(app, visit, next, Some(&refused.problem));
    if let Some(seconds) = refused.retry_after {
        let headers = response.headers_mut();
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// The cookie of a new session; or why there is none. Each attempt counts until it was good.
async fn checked(
    app: &App,
    peer: SocketAddr,
    identify: impl AsyncFnOnce() -> Result<Proven, Problem>,
) -> Result<HeaderValue, Refused> {
    let (now, address) = (app.now(), peer.ip());
    let counted = attempts(app).begin(address, now);
    if let Err(locked) = counted {
        if locked.just_now {
            let action = Action {
                operator: "nobody",
                name: "session.lock-out",
                subject: address.to_string(),
                detail: Vec::new(),
                at: now,
            };
            let noted = action.note(&*app.store).await;
            noted.map_err(|error| Refused::new(error.into()))?;
        }
        tracing::warn!(%address, "too many attempts to sign in");
        let seconds = u64::try_from(locked.retry_after).unwrap_or(0);
        let wait = words::count(seconds, "second", "seconds");
        let detail = format!("Try again in {wait}.");
        return Err(Refused {
            problem: Problem::new(ReasonCode::SignInLimited, detail),
            retry_after: Some(locked.retry_after),
        });
    }
    let proven = match identify().await {
        Ok(proven) => proven,
        Err(problem) => {
            tracing::warn!(%address, code = %problem.code, "an attempt to sign in failed");
            if problem.code == ReasonCode::OidcUnavailable {
                attempts(app).taken_back(address);
            }
            return Err(Refused::new(problem));
        }
    };
    attempts(app).succeeded(address);
    session::open(app, proven, now)
        .await
        .map_err(|error| Refused::new(error.into()))
}

fn attempts(app: &App) -> std::sync::MutexGuard<'_, crate::operator::attempts::Attempts> {
    app.sign_ins.lock().expect("no panic while it is held")
}

/// A form with nothing but its token.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// Ends the session.
pub async fn sign_out(
    State(app): State<Arc<App>>,
    visit: Visit,
    Form(Nothing {}): Form<Nothing>,
) -> Response {
    if let Some(session) = &visit.session {
        let ended = session::end(&app, &session.operator, &session.id_hash, app.now()).await;
        if let Err(error) = ended {
            return failed(Frame::new(&app, &visit, Place::Nowhere), &error);
        }
    }
    let mut response = see("sign-in".to_owned());
    let headers = response.headers_mut();
    headers.insert(header::SET_COOKIE, SESSION.forget(&app));
    // What the pages showed goes from the browser's memory, too.
    headers.insert("clear-site-data", HeaderValue::from_static("\"cache\""));
    response
}

#[derive(Debug, Template)]
#[template(path = "people/sessions.html")]
struct SessionsPage {
    frame: Frame,
    sessions: Vec<SessionView>,
    idle: String,
}

#[derive(Debug)]
struct SessionView {
    id: String,
    here: bool,
    with: String,
    opened_at: Moment,
    used_at: Moment,
    expires_at: Moment,
}

/// Where somebody is signed in.
pub async fn sessions(State(app): State<Arc<App>>, visit: Visit) -> Response {
    let frame = Frame::new(&app, &visit, Place::Nowhere);
    let name = visit
        .operator
        .as_ref()
        .map_or("", |operator| operator.name());
    let rows = match app.store.sessions_of(name).await {
        Ok(rows) => rows,
        Err(error) => return failed(frame, &error),
    };
    let here = visit.session.as_ref().map(|session| session.id_hash);
    let now = app.now();
    let view = |row: SessionRow| SessionView {
        id: row.id_hash.to_hex(),
        here: Some(row.id_hash) == here,
        with: match &row.proof {
            SessionProof::Credential(_) => "a credential".to_owned(),
            SessionProof::Passkey(_) => "a passkey".to_owned(),
            SessionProof::Account(account) => format!("an account at {}", account.issuer),
        },
        opened_at: row.opened_at.into(),
        used_at: row.used_at.into(),
        expires_at: row.expires_at.into(),
    };
    let living = rows.into_iter().filter(|row| row.expires_at > now);
    let page = SessionsPage {
        frame,
        sessions: living.map(view).collect(),
        idle: words::minutes(app.config.sessions.idle_seconds),
    };
    html(StatusCode::OK, &page)
}

/// Which session to end.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Which {
    session: String,
}

/// Ends one of the operator's own sessions.
pub async fn end_session(
    State(app): State<Arc<App>>,
    visit: Visit,
    Form(which): Form<Which>,
) -> Response {
    let frame = Frame::new(&app, &visit, Place::Nowhere);
    let (Some(operator), Ok(id_hash)) = (&visit.operator, hash_from_hex(&which.session)) else {
        return super::nothing_here(frame, "There is no such session.");
    };
    match session::end(&app, operator, &id_hash, app.now()).await {
        Ok(true) => see("../sessions".to_owned()),
        Ok(false) => super::nothing_here(frame, "There is no such session."),
        Err(error) => failed(frame, &error),
    }
}

#[derive(Debug, Template)]
#[template(path = "people/activity.html")]
struct ActivityPage {
    frame: Frame,
    actions: Vec<ActionView>,
    most: u32,
}

#[derive(Debug)]
struct ActionView {
    at: Moment,
    operator: String,
    action: String,
    subject: Quoted,
    detail: Vec<(String, Quoted)>,
    failed: bool,
}

/// What operators did, newest first.
pub async fn activity(State(app): State<Arc<App>>, visit: Visit) -> Response {
    let frame = Frame::new(&app, &visit, Place::Activity);
    let actions = match app.store.operator_actions(ACTIONS).await {
        Ok(actions) => actions,
        Err(error) => return failed(frame, &error),
    };
    let page = ActivityPage {
        frame,
        actions: actions.into_iter().map(action).collect(),
        most: ACTIONS,
    };
    html(StatusCode::OK, &page)
}

fn action(row: OperatorAction) -> ActionView {
    let members = row.detail.members().unwrap_or_default();
    let detail = members.iter().map(|(name, value)| {
        let text = value.as_str().map_or_else(
            || String::from_utf8_lossy(&value.to_jcs()).into_owned(),
            str::to_owned,
        );
        (name.clone(), Quoted::new(&text, "the operator"))
    });
    ActionView {
        at: row.at.into(),
        failed: row.detail.get("failed").is_some(),
        detail: detail.collect(),
        operator: row.operator,
        action: row.action,
        subject: Quoted::new(&row.subject, "the operator"),
    }
}
