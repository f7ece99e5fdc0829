//! The page behind an invitation. The link is the credential: it opens this page and nothing else,
//! and is used up by the enrolment.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use policy::{ReasonCode, Refusal};
use serde::Deserialize;

use super::super::extract::{FormOrJson, Id};
use crate::app::App;
use crate::operator::Problem;
use crate::pages::{self, Frame, Place};
use crate::passkeys::{self, OpenInvitation, Registration};

#[derive(Template)]
#[template(path = "passkeys/enrol.html")]
struct Page {
    frame: Frame,
    title: &'static str,
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
        frame: frame(app),
        title: "Make a passkey",
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
        frame: frame(app),
        title,
        wrong: None,
        form: None,
        what,
    };
    html(status, &page)
}

fn frame(app: &App) -> Frame {
    Frame::bare(&app.config.gateway_id, "../../", Place::Nowhere, app.now())
}

fn html(status: StatusCode, page: &Page) -> Response {
    let mut response = pages::with_script(pages::html(status, page));
    // The link is in the address.
    let policy = HeaderValue::from_static("no-referrer");
    let headers = response.headers_mut();
    headers.insert(header::REFERRER_POLICY, policy);
    response
}
