//! Calls that upstream need not be asked about.

use http::{HeaderValue, Response, StatusCode, header};
use proof::Json;
use serde_json::json;

use super::super::authenticate::Caller;
use super::super::record::Facts;
use super::super::respond::JSON_API;
use super::Done;
use crate::server::{Body, whole};

/// Service discovery: our own addresses, relative so that they fit any name we are called by.
/// `login.v1` is left out, so that no client asks a person for a real token.
pub(super) fn discovery() -> Done {
    let services = json!({
        "state.v2": "/api/v2/",
        "tfe.v2": "/api/v2/",
        "tfe.v2.1": "/api/v2/",
        "tfe.v2.2": "/api/v2/",
    });
    json_answer(HeaderValue::from_static("application/json"), &services)
}

/// The headers by which the CLI learns what it talks to. The version is the vendor's present
/// one; the rate limit is what the vendor grants a user, which the CLI then keeps to.
pub(super) fn ping() -> Done {
    let mut response = no_content();
    let headers = response.headers_mut();
    headers.insert("tfp-api-version", HeaderValue::from_static("2.6"));
    headers.insert("tfp-appname", HeaderValue::from_static("HCP Terraform"));
    headers.insert("x-ratelimit-limit", HeaderValue::from_static("30"));
    Done::answered(response, Facts::answered(204, b""))
}

/// The agent's id as a user of Terraform Cloud.
const USER: &str = "user-clawgate";

/// Who the agent is: its job, not the account behind the gateway.
pub(super) fn account(caller: &Caller) -> Done {
    let job = &caller.token.job;
    let body = json!({"data": {
        "id": USER,
        "type": "users",
        "attributes": {
            "username": job.id,
            "is-service-account": true,
            "auth-method": "clawgate",
            "v2-only": true,
        },
    }});
    json_answer(JSON_API, &body)
}

/// Says of a run of the job's own that the agent made it. Upstream names the account behind the
/// gateway, which is nobody's business and was taken out.
pub(super) fn made_by_the_agent(run: &mut Json) {
    let mut user = Json::object();
    user.set("id", USER);
    user.set("type", "users");
    let mut by = Json::object();
    by.set("data", user);
    if let Some(relationships) = run.at_mut(&["data", "relationships"]) {
        relationships.set("created-by", by);
    }
}

/// Says of a run whose apply the gate holds that it can be cancelled, as upstream says of one
/// that is about to be applied: only then does a client that gives up ask for it.
pub(super) fn cancelable_as_it_is_held(answer: &mut Json) {
    if let Some(actions) = answer.at_mut(&["data", "attributes", "actions"])
        && actions.get("is-discardable") == Some(&Json::Bool(true))
    {
        actions.set("is-cancelable", true);
    }
}

/// An answer without a body.
pub(super) fn no_content() -> Response<Body> {
    let mut response = Response::new(whole(""));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

fn json_answer(media: HeaderValue, body: &serde_json::Value) -> Done {
    let text = body.to_string();
    let facts = Facts::answered(200, text.as_bytes());
    let mut response = Response::new(whole(text));
    response.headers_mut().insert(header::CONTENT_TYPE, media);
    Done::answered(response, facts)
}
