//! Signing in with OpenID Connect: to the provider and back.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Query, State};
use axum::http::{HeaderMap, Uri, header};
use axum::response::Response;
use policy::ReasonCode;
use proof::Timestamp;
use store::StoreError;

use super::{Refused, Wish, checked, not_signed_in, sign_in_page};
use crate::app::App;
use crate::oidc::{Answer, Failed, Oidc};
use crate::operator::audit::Action;
use crate::operator::cookie::SIGN_IN;
use crate::operator::{Problem, Visit, is_a_click_of_ours};
use crate::pages::{Next, lead_on, see};

/// The way to the provider, on the page of the sign-in.
#[derive(Debug)]
pub struct Button {
    /// How people know the provider.
    pub name: String,
    /// Where it begins: the address that the provider sends people back to, since a cookie
    /// belongs to one host.
    pub address: String,
}

impl Button {
    /// The button, when there is a provider.
    pub fn of(app: &App, next: &Next) -> Option<Self> {
        let settings = app.config.oidc.as_ref()?;
        Some(Self {
            name: settings.name().to_owned(),
            address: format!("{}/sign-in/oidc{}", app.operator_url, next.query()),
        })
    }
}

/// Sends a browser to the provider.
pub async fn begin(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    visit: Visit,
    Query(wish): Query<Wish>,
) -> Response {
    let next = Next::read(wish.next.as_deref().unwrap_or_default());
    // A sign-in begins with a click on our own page, not with somebody else's link.
    if !is_a_click_of_ours(&headers) {
        return see(format!("{}sign-in{}", visit.root, next.query()));
    }
    let oidc = match provider(&app) {
        Ok(oidc) => oidc,
        Err(refusal) => return sign_in_page(&app, &visit, &next, Some(&refusal)),
    };
    match oidc.begin(&next, app.now()).await {
        Ok((address, cookie)) => {
            let mut response = see(address);
            let cookie = SIGN_IN.set(&app, &cookie);
            response.headers_mut().insert(header::SET_COOKIE, cookie);
            response
        }
        Err(refusal) => sign_in_page(&app, &visit, &next, Some(&advised(refusal.into()))),
    }
}

/// Takes a browser back from the provider.
pub async fn finish(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    visit: Visit,
    uri: Uri,
) -> Response {
    let now = app.now();
    let answer = Answer::read(uri.query().unwrap_or_default());
    let cookie = SIGN_IN.sent(&app, &headers);
    let begun = provider(&app).and_then(|oidc| {
        let cookie = cookie.as_ref().map(|text| text.as_str());
        let pending = oidc.begun(&answer, cookie, now)?;
        Ok((oidc, pending))
    });
    let (oidc, pending) = match begun {
        Ok(begun) => begun,
        // Any site can lead a browser here: that is nobody's attempt, and ends no sign-in.
        Err(problem) => {
            let refused = Refused::new(advised(problem));
            return not_signed_in(&app, &visit, &Next::read(""), &refused);
        }
    };
    let next = pending.next.clone();
    let proven = async || match oidc.finish(answer, pending, now).await {
        Ok(proven) => Ok(proven),
        Err(failed) => {
            match failed.was_there {
                true => note(&app, &failed, peer, now).await?,
                false => tracing::warn!(refusal = %failed.refusal, %peer, "no sign-in"),
            }
            Err(advised(failed.refusal.into()))
        }
    };
    let checked = checked(&app, peer, proven).await;
    let mut response = match &checked {
        // The browser keeps a strict cookie to itself until a page of ours leads it on.
        Ok(_) => lead_on(&app, &visit.root, &format!("{}{}", visit.root, next.path())),
        Err(refused) => not_signed_in(&app, &visit, &next, refused),
    };
    let cookies = response.headers_mut();
    cookies.append(header::SET_COOKIE, SIGN_IN.forget(&app));
    if let Ok(session) = checked {
        cookies.append(header::SET_COOKIE, session);
    }
    response
}

fn provider(app: &App) -> Result<&Oidc, Problem> {
    app.oidc
        .as_ref()
        .ok_or_else(|| ReasonCode::PageUnknown.into())
}

/// What was wrong, and what to do about it.
fn advised(mut problem: Problem) -> Problem {
    let advice = problem.code.advice();
    if problem.detail == problem.code.title() {
        advice.clone_into(&mut problem.detail);
    } else {
        let mut detail = problem.detail;
        if let Some(first) = detail.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        let end = if detail.ends_with('.') { "" } else { "." };
        problem.detail = format!("{detail}{end} {advice}");
    }
    problem
}

/// Notes an attempt that failed, with everything that is known of who made it.
async fn note(
    app: &App,
    failed: &Failed,
    peer: SocketAddr,
    at: Timestamp,
) -> Result<(), StoreError> {
    let mut detail = vec![
        ("method", "oidc".to_owned()),
        ("code", failed.refusal.code.to_string()),
        ("failed", failed.refusal.detail.chars().take(400).collect()),
    ];
    if let Some(account) = &failed.account {
        detail.push(("issuer", account.issuer.clone()));
        detail.push(("subject", account.subject.clone()));
    }
    if let Some(email) = &failed.email {
        detail.push(("email", email.clone()));
    }
    let action = Action {
        // An address that the provider does not vouch for names nobody.
        operator: "nobody",
        name: "session.refuse",
        subject: peer.ip().to_string(),
        detail,
        at,
    };
    action.note(&*app.store).await
}
