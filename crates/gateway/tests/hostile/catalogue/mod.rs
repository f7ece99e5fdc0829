//! The catalogue of known ways around a gateway before Terraform Cloud, one test for each, named
//! after its row. The page `docs/threat-model.md` says which test proves which row; what other
//! tests of this crate prove already is only named there.

mod apply;
mod routes;
mod runs;
mod secrets;
mod workspaces;

use serde_json::Value;
use sim::Request;

use crate::rig::{Call, Reply, Rig};

/// A contract with other permissions than the example's.
fn permitting(member: &str) -> String {
    policy::EXAMPLE_CONTRACT.replace(
        "\"state_read\": false",
        &format!("\"state_read\": false, {member}"),
    )
}

/// Requests for new runs that reached upstream.
fn made(rig: &Rig) -> Vec<Request> {
    posted(rig, "/api/v2/runs")
}

/// What was posted upstream to a path that ends so.
fn posted(rig: &Rig, ending: &str) -> Vec<Request> {
    let requests = rig.sandbox.cloud.requests().into_iter();
    requests
        .filter(|r| r.method == "POST" && r.path.ends_with(ending))
        .collect()
}

/// The resource of the last request that was posted to a path that ends so.
fn sent(rig: &Rig, ending: &str) -> Value {
    let request = posted(rig, ending).pop().expect("something was posted");
    serde_json::to_value(&request.body).unwrap()["data"].clone()
}

#[track_caller]
fn id(reply: &Reply) -> String {
    reply.ok()["data"]["id"].as_str().unwrap().to_owned()
}

/// Makes calls that must each be refused with its code, and of which nothing goes up.
async fn refused(rig: &Rig, calls: Vec<(Call, &str)>) {
    let seen = rig.seen();
    let mut failures = Vec::new();
    for (call, expected) in calls {
        let reply = call.send().await;
        if reply.refusal().1 != expected {
            let line = lossy_line(&call);
            failures.push(format!("{line}: not {expected}: {}", reply.whole));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
    rig.assert_silent(&seen, "a refused call");
}

fn lossy_line(call: &Call) -> String {
    let bytes = call.bytes();
    let line = bytes.split(|byte| *byte == b'\r').next();
    crate::rig::lossy(line.unwrap_or_default())
}
