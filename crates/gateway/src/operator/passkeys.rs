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
//! | to sign somebody in | `passkeys::sign_in_options(&app)` | `passkeys::signed_in(&app, assertion)`: the `Operator`, whose name is the e-mail address and whose one role is approver |
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
