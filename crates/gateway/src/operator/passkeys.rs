//! Passkeys over the operator listener: the invitation's page, the questions that a passkey
//! answers, the list of who has which.
//!
//! # For pages
//!
//! A page works with passkeys through functions of [`crate::passkeys`], one form and one script.
//! The page renders the form with the options in it; the script asks the authenticator and sends
//! the form as any form is sent. So a page needs no JSON of ours, no `connect-src`, and keeps its
//! own session and CSRF field; without JavaScript the button stays disabled and says nothing
//! false.
//!
//! | the page wants | it renders | on `POST` it calls |
//! |---|---|---|
//! | to sign somebody in | `passkeys::sign_in_options(&app)` | `passkeys::signed_in(&app, assertion)`: the operator, whose name is the e-mail address and whose one role is approver |
//! | an approval or a denial | `passkeys::question(&app, run_id, asked)`: the statement and the options | `passkeys::answer(&app, run_id, operator, statement, assertion)` |
//! | whether there is a passkey | `passkeys::of(&app, email)` | |
//! | whether passkeys work here | `passkeys::site(&app)` | |
//!
//! `question` covers decision and reason: both are under the signature. An approval without a
//! reason can be asked for when the page is rendered. A denial, whose reason is typed first, takes
//! a page in between: the reason is sent by an ordinary form, and the page that answers shows what
//! is about to be signed, with `question`'s options in its form. Nothing is kept in between; the
//! statement comes back in the form, and whoever alters it fails at the signature. All functions
//! may refuse ([`policy::Refusal`]) and change nothing then; `answer` writes the audit record
//! itself, the session's maker writes that of the sign-in.
//!
//! ```html
//! <form method="post" action="…" data-passkey="get" data-passkey-options="{…}">
//!   <input type="hidden" name="…csrf…" value="…">
//!   <input type="hidden" name="statement" value="{…}">        (approvals only, `Question::statement` as it is)
//!   <input type="hidden" name="assertion" data-passkey-result>
//!   <button type="submit" disabled>Approve with a passkey</button>
//!   <p role="status" data-passkey-status></p>
//! </form>
//! <script src="/passkey.js" defer></script>
//! ```
//!
//! - `data-passkey`: `get` (sign in, approve) or `create` (enrol).
//! - `data-passkey-options`: the options as JSON text, escaped as any attribute is.
//! - `[data-passkey-result]`: the field that the script fills; its text is read by
//!   `passkeys::Assertion::from_str`, strictly and within bounds.
//! - `button[type=submit]`: enabled by the script where the browser has passkeys.
//! - `[data-passkey-status]`: the script writes there what went wrong, as text.
//!
//! The page's policy needs `script-src 'self'` and `form-action 'self'` for this. The script makes
//! no requests, has no inline part and touches nothing but such forms.

mod enrolment;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use http::header;
use policy::ReasonCode;
use policy::contract::Email;
use policy::terraform::ids::RunId;
use proof::approval::Decision;
use proof::passkey::Site;
use proof::{ApproverDid, Did, Hash, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::PasskeyRow;

use super::approvals::{ApprovalDetails, submitted};
use super::audit::{Action, audited};
use super::credential::Operator;
use super::extract::{Id, Strict};
use super::problem::Problem;
use crate::app::App;
use crate::passkeys::{self, Asked, Assertion, DEFAULT_INVITATION_SECONDS};
use crate::shapes;

pub(super) use enrolment::{enrol, page as enrolment_page};

/// The script of the pages that use passkeys.
const SCRIPT: &str = include_str!("../../templates/passkeys/passkey.js");

/// `passkey.js`.
pub(super) async fn script() -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, "text/javascript; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, SCRIPT)
}

/// Who may approve, and with what.
pub(super) async fn list(State(app): State<Arc<App>>) -> Result<Json<Approvers>, Problem> {
    let keys = app.config.approvers.iter();
    let keys = keys.map(|approver| ApproverKey {
        email: approver.email.clone(),
        did: approver.did.clone(),
    });
    let invitations = app.store.invitations(app.now()).await?.into_iter();
    let invitations = invitations.map(|invitation| InvitationView {
        email: invitation.email,
        invited_by: invitation.invited_by,
        invited_at: invitation.invited_at,
        expires_at: invitation.expires_at,
    });
    let passkeys = app.store.passkeys().await?;
    Ok(Json(Approvers {
        keys: keys.collect(),
        passkeys: passkeys.iter().map(PasskeyView::from).collect(),
        invitations: invitations.collect(),
    }))
}

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Approvers {
    /// By key files, as the configuration has them.
    keys: Vec<ApproverKey>,
    passkeys: Vec<PasskeyView>,
    /// Links that were not used yet.
    invitations: Vec<InvitationView>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct ApproverKey {
    email: String,
    #[schemars(with = "shapes::Did")]
    did: Did,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Invitation")]
struct InvitationView {
    email: String,
    invited_by: String,
    #[schemars(with = "shapes::Timestamp")]
    invited_at: Timestamp,
    #[schemars(with = "shapes::Timestamp")]
    expires_at: Timestamp,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Passkey")]
struct PasskeyView {
    /// A short name for it.
    passkey: String,
    email: String,
    name: String,
    #[schemars(with = "shapes::Did")]
    did: ApproverDid,
    /// Where it may be used.
    #[schemars(with = "shapes::Document")]
    site: Site,
    #[schemars(with = "shapes::Timestamp")]
    enrolled_at: Timestamp,
    #[schemars(with = "Option<shapes::Timestamp>")]
    last_used_at: Option<Timestamp>,
    #[schemars(with = "Option<shapes::Timestamp>")]
    removed_at: Option<Timestamp>,
}

impl From<&PasskeyRow> for PasskeyView {
    fn from(row: &PasskeyRow) -> Self {
        Self {
            passkey: passkeys::short_id(row),
            email: row.email.clone(),
            name: row.passkey.name.clone(),
            did: row.passkey.did.clone(),
            site: row.site(),
            enrolled_at: row.enrolled_at,
            last_used_at: row.last_used_at,
            removed_at: row.removed_at,
        }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "InviteApprover")]
pub(super) struct Invite {
    email: String,
    /// How long the link is good.
    #[serde(default)]
    expires_in_seconds: Option<u32>,
}

/// Makes a one-time link for a person; it is shown in the answer and nowhere else.
pub(super) async fn invite(
    State(app): State<Arc<App>>,
    operator: Operator,
    Strict(asked): Strict<Invite>,
) -> Result<Json<Invited>, Problem> {
    let email = address(&asked.email)?;
    let seconds = asked
        .expires_in_seconds
        .unwrap_or(DEFAULT_INVITATION_SECONDS);
    let action = Action {
        operator: operator.name(),
        name: "approver.invite",
        subject: asked.email.clone(),
        detail: vec![("expires_in_seconds", seconds.to_string())],
        at: app.now(),
    };
    let invited = audited(&*app.store, action, async {
        let invited = passkeys::invite(&app, operator.name(), &email, seconds).await;
        invited.map_err(Problem::from)
    })
    .await?;
    Ok(Json(Invited {
        email: asked.email,
        link: invited.link.to_string(),
        expires_at: invited.expires_at,
    }))
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "InvitedApprover")]
pub(super) struct Invited {
    email: String,
    /// The address to open: here and nowhere else.
    link: String,
    #[schemars(with = "shapes::Timestamp")]
    expires_at: Timestamp,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RemovePasskeys")]
pub(super) struct Remove {
    email: String,
    /// One of them by its short name; all unless it is said.
    #[serde(default)]
    passkey: Option<String>,
}

/// Takes a person's passkeys away, or one of them.
pub(super) async fn remove(
    State(app): State<Arc<App>>,
    operator: Operator,
    Strict(asked): Strict<Remove>,
) -> Result<Json<Removed>, Problem> {
    address(&asked.email)?;
    let passkey = asked.passkey.as_deref();
    let action = Action {
        operator: operator.name(),
        name: "approver.remove",
        subject: asked.email.clone(),
        detail: vec![(
            "passkey",
            passkey.unwrap_or("all").chars().take(40).collect(),
        )],
        at: app.now(),
    };
    let removed = audited(&*app.store, action, async {
        // The sessions that a passkey opened end with it.
        let removed = passkeys::remove(&app, operator.name(), &asked.email, passkey).await;
        removed.map_err(Problem::from)
    })
    .await?;
    Ok(Json(Removed {
        email: asked.email,
        passkeys: removed.passkeys,
        invitation: removed.invitation,
    }))
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RemovedPasskeys")]
pub(super) struct Removed {
    email: String,
    /// How many were removed.
    passkeys: u32,
    /// Whether a link that had not been used ended with them.
    invitation: bool,
}

fn address(text: &str) -> Result<Email, Problem> {
    Email::new(text).ok_or_else(|| {
        let detail = "`email` is not an e-mail address as contracts name approvers";
        Problem::new(ReasonCode::BodyWrongType, detail)
    })
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "AskPasskey")]
pub(super) struct Question {
    /// The approver's address.
    approver: String,
    #[schemars(with = "shapes::Decision")]
    decision: Decision,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    passkey: Option<String>,
}

/// The statement that a person's passkey would sign about a run, and the options for signing it.
pub(super) async fn question(
    State(app): State<Arc<App>>,
    Id(run_id): Id<RunId>,
    Strict(asked): Strict<Question>,
) -> Result<Json<Asking>, Problem> {
    let asked = Asked {
        approver: &asked.approver,
        decision: asked.decision,
        reason: asked.reason.as_deref(),
        passkey: asked.passkey.as_deref(),
    };
    let question = passkeys::question(&app, run_id.as_str(), asked).await?;
    Ok(Json(Asking {
        statement: question.statement,
        statement_hash_b64u: question.hash,
        passkey: question.passkey,
        options: question.options,
    }))
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "PasskeyQuestion")]
pub(super) struct Asking {
    /// The statement, to be handed back as it is.
    #[schemars(with = "shapes::Document")]
    statement: proof::Json,
    /// Its hash, which the passkey signs.
    #[schemars(with = "shapes::Sha256")]
    statement_hash_b64u: Hash,
    /// The short name of the passkey that is asked.
    passkey: String,
    /// For the browser (Web Authentication).
    #[schemars(with = "shapes::Document")]
    options: Value,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "PasskeyAnswer")]
pub(super) struct Answer {
    #[schemars(with = "shapes::Document")]
    statement: proof::Json,
    /// What the browser answered (Web Authentication).
    #[schemars(with = "shapes::Document")]
    assertion: Assertion,
}

/// Takes the statement with a passkey's signature. The signature counts, not who hands it in.
pub(super) async fn answer(
    State(app): State<Arc<App>>,
    Id(run_id): Id<RunId>,
    operator: Operator,
    Strict(given): Strict<Answer>,
) -> Result<Json<ApprovalDetails>, Problem> {
    let run_id = run_id.as_str();
    if app.store.run(run_id).await?.is_none() {
        return Err(ReasonCode::ApprovalUnknown.into());
    }
    let done = passkeys::answer(&app, run_id, &operator, &given.statement, given.assertion).await?;
    submitted(&app, run_id, done).await
}
