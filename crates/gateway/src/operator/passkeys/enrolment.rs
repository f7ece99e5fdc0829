//! The page behind an invitation. The link is the credential: it opens this page and nothing else,
//! and is used up by the enrolment.

use std::sync::{Arc, LazyLock};

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, StatusCode, header};
use policy::{ReasonCode, Refusal};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::super::extract::{FormOrJson, Id};
use crate::app::App;
use crate::operator::Problem;
use crate::passkeys::{self, OpenInvitation, Registration};

/// The style sheet, part of the page.
const STYLE: &str = include_str!("../../../templates/passkeys/style.css");

/// The page's own style and script, and forms to ourselves; nothing else.
static CONTENT_SECURITY_POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; script-src 'self'; form-action 'self'; \
         base-uri 'none'; frame-ancestors 'none'"
    );
    HeaderValue::try_from(policy).expect("base64 is plain ASCII")
});

#[derive(Template)]
#[template(path = "passkeys/enrol.html")]
struct Page<'a> {
    style: &'static str,
    title: &'static str,
    gateway: &'a str,
    wrong: Option<String>,
    form: Option<FormView>,
    what: String,
}

struct FormView {
    email: String,
    invited_by: String,
    expires_at: String,
    options: String,
}

impl From<OpenInvitation> for FormView {
    fn from(open: OpenInvitation) -> Self {
        Self {
            email: open.email,
            invited_by: open.invited_by,
            expires_at: open.expires_at.to_string(),
            options: open.options.to_string(),
        }
    }
}

/// The page of a good link; of any other, why it is worth nothing.
pub(in super::super) async fn page(State(app): State<Arc<App>>, Id(link): Id<String>) -> Response {
    match passkeys::open_invitation(&app, &link).await {
        Ok(open) => form(&app, open, None),
        Err(refusal) => refused(&app, &refusal),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct Made {
    #[serde(default)]
    name: String,
    registration: String,
}

/// Takes the passkey that was made on the page.
pub(in super::super) async fn enrol(
    State(app): State<Arc<App>>,
    Id(link): Id<String>,
    FormOrJson(made): FormOrJson<Made>,
) -> Response {
    let enrolled = match made.registration.parse::<Registration>() {
        Ok(registration) => passkeys::enrol(&app, &link, &made.name, &registration).await,
        Err(error) => Err(Problem::new(
            ReasonCode::PasskeyMalformed,
            error.to_string(),
        )),
    };
    match enrolled {
        Ok(email) => {
            let what = format!(
                "The passkey is enrolled for {email}. You can close this page; plans that wait for \
                 you can be approved with it from now on."
            );
            answer(&app, StatusCode::OK, "Your passkey is enrolled", what)
        }
        Err(problem) => match passkeys::open_invitation(&app, &link).await {
            // The link is still good: once more.
            Ok(open) => form(&app, open, Some(&problem)),
            Err(gone) => refused(&app, &gone),
        },
    }
}

fn form(app: &App, open: OpenInvitation, wrong: Option<&Problem>) -> Response {
    let page = Page {
        style: STYLE,
        title: "Make a passkey",
        gateway: &app.config.gateway_id,
        wrong: wrong.map(|problem| format!("{}: {}", problem.code.title(), problem.detail)),
        form: Some(open.into()),
        what: String::new(),
    };
    let status = wrong.map_or(StatusCode::OK, |problem| status_of(problem.code));
    html(status, &page)
}

fn refused(app: &App, refusal: &Refusal) -> Response {
    let (title, advice) = (refusal.code.title(), refusal.code.advice());
    let what = if refusal.detail == title {
        advice.to_owned()
    } else {
        format!("{}. {advice}", refusal.detail)
    };
    answer(app, status_of(refusal.code), title, what)
}

fn status_of(code: ReasonCode) -> StatusCode {
    StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn answer(app: &App, status: StatusCode, title: &'static str, what: String) -> Response {
    let page = Page {
        style: STYLE,
        title,
        gateway: &app.config.gateway_id,
        wrong: None,
        form: None,
        what,
    };
    html(status, &page)
}

fn html(status: StatusCode, page: &Page<'_>) -> Response {
    let text = match page.render() {
        Ok(text) => text,
        Err(error) => {
            tracing::error!(%error, "a page cannot be rendered");
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
    };
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/html; charset=utf-8"),
        ),
        (
            header::CONTENT_SECURITY_POLICY,
            CONTENT_SECURITY_POLICY.clone(),
        ),
        // The link is in the address.
        (
            header::REFERRER_POLICY,
            HeaderValue::from_static("no-referrer"),
        ),
    ];
    (status, headers, text).into_response()
}
