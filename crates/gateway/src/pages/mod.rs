//! What all pages share: the frame around them, how they are answered, the style, the words.
//!
//! Server-rendered; works without scripts but for passkeys and the check of bundles. A page is read from the store into
//! plain data, and rendered from that. Nothing is loaded from elsewhere, and no text of somebody
//! else is anything but text: [`words::Quoted`].

pub mod approvals;
pub mod assets;
pub mod people;
pub mod words;

use askama::Template;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http::Uri;
use policy::terraform::ids::RunId;
use proof::Timestamp;
use store::StoreError;

use crate::app::App;
use crate::operator::{Problem, Visit};
use words::Moment;

/// No script runs and nothing is loaded but our own style and pictures. A page with passkeys, or
/// one that checks a bundle, also runs our own script: see [`with_script`].
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; \
     form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// What a page with our script may do besides.
const SCRIPTED: &str = "; script-src 'self'";

/// Headers of every page.
const HEADERS: [(HeaderName, &str); 7] = [
    (header::CONTENT_TYPE, "text/html; charset=utf-8"),
    // `no-referrer` would make browsers send `Origin: null` with our own forms.
    (header::REFERRER_POLICY, "same-origin"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::CACHE_CONTROL, "no-store"),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
];

/// Which of the places in the navigation a page belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// None of them.
    Nowhere,
    /// Plans that wait.
    Approvals,
    /// Trust Pulse's jobs.
    Jobs,
    /// Contracts.
    Contracts,
    /// What was seen outside the gateway.
    Outside,
    /// What operators did.
    Activity,
}

/// What stands around a page.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Name of the gateway.
    pub gateway_id: String,
    /// When the page was made.
    pub made_at: Moment,
    /// From the page to the listener's root.
    pub root: String,
    /// Who is signed in.
    pub who: Option<Who>,
    place: Place,
}

/// Somebody who is signed in.
#[derive(Debug, Clone)]
pub struct Who {
    /// The operator's name.
    pub name: String,
    /// The operator's roles, in words.
    pub roles: String,
    /// Goes into each form.
    pub form_token: String,
}

impl Frame {
    /// The frame of a page that somebody opens.
    pub fn new(app: &App, visit: &Visit, place: Place) -> Self {
        let who = visit.session.as_ref().map(|session| {
            let roles = session.operator.roles.iter();
            let roles: Vec<&str> = roles.map(|role| role.as_str()).collect();
            Who {
                name: session.operator.name.clone(),
                roles: roles.join(", "),
                form_token: session.form_token.clone(),
            }
        });
        Self {
            who,
            ..Self::bare(&app.config.gateway_id, &visit.root, place, app.now())
        }
    }

    /// The frame of a page that nobody is signed in to.
    pub fn bare(gateway_id: &str, root: &str, place: Place, now: Timestamp) -> Self {
        Self {
            gateway_id: gateway_id.to_owned(),
            made_at: now.into(),
            root: root.to_owned(),
            who: None,
            place,
        }
    }

    /// Whether the page belongs to this place of the navigation.
    pub fn is_at(&self, place: &str) -> bool {
        let own = match self.place {
            Place::Nowhere => "",
            Place::Approvals => "approvals",
            Place::Jobs => "jobs",
            Place::Contracts => "contracts",
            Place::Outside => "outside",
            Place::Activity => "activity",
        };
        own == place
    }

    /// Name of the style sheet's file.
    pub fn style(&self) -> &'static str {
        &assets::STYLE.name
    }

    /// Name of the icon's file.
    pub fn icon(&self) -> &'static str {
        &assets::ICON.name
    }

    /// Name of the file with the script that checks bundles.
    pub fn check_script(&self) -> &'static str {
        &assets::CHECK.name
    }
}

/// Where somebody wanted to go before signing in: a page of ours, as it follows the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Next(Option<String>);

/// Longest address that is remembered.
const MAX_NEXT: usize = 400;

impl Next {
    /// The page of a request.
    pub fn of(uri: &Uri) -> Self {
        let path = uri.path_and_query().map_or("", |whole| whole.as_str());
        Self::read(path.trim_start_matches('/'))
    }

    /// Reads what came back with a form. Anything that could lead to somebody else's page leads
    /// to the first page.
    pub fn read(text: &str) -> Self {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/_.-?=&%,+@:".contains(&byte);
        let first = text.split(['/', '?']).next().unwrap_or_default();
        let known = ["approvals", "trust-pulse", "sessions", "activity"].contains(&first);
        let good = known
            && text.len() <= MAX_NEXT
            && text.bytes().all(plain)
            && !text.contains("//")
            && !text.contains("..");
        Self(good.then(|| text.to_owned()))
    }

    /// The address, relative to the root.
    pub fn path(&self) -> &str {
        self.0.as_deref().unwrap_or("approvals/")
    }

    /// The query that carries it to the sign-in.
    pub fn query(&self) -> String {
        let Some(path) = &self.0 else {
            return String::new();
        };
        let escaped = path.replace('%', "%25").replace('&', "%26");
        format!("?next={}", escaped.replace('+', "%2B"))
    }
}

/// Answers with a page.
pub fn html(status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(text) => answer(status, text),
        Err(error) => {
            tracing::error!(%error, "a page cannot be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Answers with a page that is rendered already.
pub fn answer(status: StatusCode, text: impl IntoResponse) -> Response {
    let mut response = (status, text).into_response();
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let policy = HeaderValue::from_static(CONTENT_SECURITY_POLICY);
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}

/// Lets a page run our own script.
pub fn with_script(mut response: Response) -> Response {
    let policy = format!("{CONTENT_SECURITY_POLICY}{SCRIPTED}");
    let policy = HeaderValue::try_from(policy).expect("plain ASCII");
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}

/// Lets a page run our own script and fetch from us.
pub fn with_fetching_script(mut response: Response) -> Response {
    let policy = format!("{CONTENT_SECURITY_POLICY}{SCRIPTED}; connect-src 'self'");
    let policy = HeaderValue::try_from(policy).expect("plain ASCII");
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}

/// A page that only says something.
#[derive(Debug, Template)]
#[template(path = "notice.html")]
struct NoticePage {
    frame: Frame,
    title: String,
    what: String,
    advice: String,
    code: String,
    way_on: Option<WayOn>,
}

/// Where somebody goes on from who was refused.
#[derive(Debug, PartialEq, Eq)]
pub struct WayOn {
    href: String,
    words: &'static str,
}

impl WayOn {
    /// Back to a plan, from a form of its page.
    pub fn to_plan(root: &str, run_id: &RunId) -> Self {
        Self {
            href: format!("{root}approvals/{run_id}"),
            words: "Back to the plan",
        }
    }

    /// From what was posted to this path: to the page that held the form, which is one of a
    /// plan, and by way of the sign-in for somebody who is not signed in any more.
    pub fn of(root: &str, path: &str, asks: bool) -> Option<Self> {
        let (run_id, _) = path.strip_prefix("/approvals/")?.split_once('/')?;
        let run_id: RunId = run_id.parse().ok()?;
        if !asks {
            return Some(Self::to_plan(root, &run_id));
        }
        let next = Next::read(&format!("approvals/{run_id}")).query();
        Some(Self {
            href: format!("{root}sign-in{next}"),
            words: "Sign in, and look at the plan again",
        })
    }
}

/// A page that leads to itself.
#[derive(Debug, Template)]
#[template(path = "lead_on.html")]
struct LeadOnPage {
    frame: Frame,
    /// Relative; empty for the same page.
    to: String,
}

/// What somebody is told who is turned away, or whose request fails.
pub fn refused(frame: Frame, problem: &Problem, way_on: Option<WayOn>) -> Response {
    let status = StatusCode::from_u16(problem.code.status()).expect("the table holds statuses");
    let page = NoticePage {
        frame,
        title: problem.code.title().to_owned(),
        what: if problem.detail == problem.code.title() {
            String::new()
        } else {
            problem.detail.clone()
        },
        advice: problem.code.advice().to_owned(),
        code: problem.code.to_string(),
        way_on,
    };
    html(status, &page)
}

/// What somebody is told who asks for what is not there.
pub fn nothing_here(frame: Frame, what: &str) -> Response {
    notice(StatusCode::NOT_FOUND, frame, "Nothing here", what)
}

/// The same for something that is there and cannot be shown.
pub fn broken(frame: Frame, what: &str) -> Response {
    let status = StatusCode::INTERNAL_SERVER_ERROR;
    notice(status, frame, "This cannot be shown", what)
}

/// The same for something whose content was removed after its retention.
pub fn pruned(frame: Frame, what: &str) -> Response {
    let what = format!("Its place and its hash in the log stay: {what}.");
    notice(
        StatusCode::GONE,
        frame,
        "Removed after its retention",
        &what,
    )
}

/// The store did not answer.
pub fn failed(frame: Frame, error: &StoreError) -> Response {
    tracing::error!(%error, "a page cannot be made");
    let what = "The gateway's store does not answer. Try again in a moment.";
    let status = StatusCode::SERVICE_UNAVAILABLE;
    notice(status, frame, "This cannot be shown now", what)
}

fn notice(status: StatusCode, frame: Frame, title: &str, what: &str) -> Response {
    let page = NoticePage {
        frame,
        title: title.to_owned(),
        what: what.to_owned(),
        advice: String::new(),
        code: String::new(),
        way_on: None,
    };
    html(status, &page)
}

/// The frame of a page for who is not known.
pub fn stranger(app: &App, root: &str) -> Frame {
    Frame::bare(&app.config.gateway_id, root, Place::Nowhere, app.now())
}

/// Leads a browser that came from another site on to a page, from here: to the same one once more
/// when no other is given.
pub fn lead_on(app: &App, root: &str, to: &str) -> Response {
    let page = LeadOnPage {
        to: to.to_owned(),
        frame: stranger(app, root),
    };
    html(StatusCode::OK, &page)
}

/// Sends a browser to a page of ours, after a form.
pub fn see(to: String) -> Response {
    (StatusCode::SEE_OTHER, [(header::LOCATION, to)]).into_response()
}

/// A list's address without its slash.
pub async fn slash(uri: Uri) -> Response {
    let last = uri.path().rsplit('/').next().unwrap_or_default();
    see(format!("{last}/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_was_refused_is_led_on() {
        let href = |path: &str, asks| WayOn::of("../../", path, asks).map(|way| way.href);
        assert_eq!(
            href("/approvals/run-1/deny", false).as_deref(),
            Some("../../approvals/run-1")
        );
        assert_eq!(
            href("/approvals/run-1/signed", true).as_deref(),
            Some("../../sign-in?next=approvals/run-1")
        );
        for path in [
            "/approvals/run-1",
            "/approvals/%22%3E/deny",
            "/sessions/end",
        ] {
            assert_eq!(href(path, false), None, "{path}");
        }
    }

    #[test]
    fn signing_in_leads_to_our_own_pages_only() {
        for good in [
            "approvals/run-1",
            "trust-pulse/jobs/job_1",
            "trust-pulse/?state=open&before=job_1",
            "sessions",
        ] {
            assert_eq!(Next::read(good).path(), good);
            let of = Next::of(&format!("/{good}").parse().unwrap());
            assert_eq!(of.path(), good);
        }
        for bad in [
            "",
            "//evil.example",
            "/approvals/",
            "https://evil.example/approvals",
            "approvals//evil.example",
            "approvals/../../x",
            "approvals\\evil",
            "javascript:alert(1)",
            "sign-out",
            "v1/jobs",
            "approvals/\r\nx",
            &format!("approvals/{}", "a".repeat(MAX_NEXT)),
        ] {
            assert_eq!(Next::read(bad).path(), "approvals/", "{bad}");
        }
        let next = Next::read("trust-pulse/?a=b&c=d");
        assert_eq!(next.query(), "?next=trust-pulse/?a=b%26c=d");
    }
}
