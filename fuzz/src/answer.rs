//! Upstream's answers.

use policy::CompiledContract;
use policy::terraform::Operation;
use policy::terraform::answer::{Answer, rewrite_answer, rewrite_bytes};
use proof::Json;
use proof::json::{Numbers, parse};

use crate::{LENIENT, RUNBOOK, choice};

/// Stands where upstream has a secret.
const MARKER: &str = "https://archivist.example/secret-5d41402abc4b";
/// What we put in the place of a signed address.
const OURS: &str = "https://gateway.example/objects/1";

/// Attributes with which somebody could read or write what the contract does not allow.
const SECRET: &[&str] = &[
    "upload-url",
    "log-read-url",
    "hosted-state-download-url",
    "hosted-json-state-download-url",
    "hosted-state-upload-url",
    "hosted-json-state-upload-url",
    "encrypted-state-download-url",
    "sanitized-state-download-url",
    "variables",
    "hmac-key",
    "token",
    "password",
    "email",
    "vcs-repo",
    "created-by",
];

/// No secret passes, nothing is learnt about other workspaces, and the result is a fixed point.
pub fn answer(data: &[u8]) {
    let (chosen, data) = choice(data);
    let operation = Operation::ALL[usize::from(chosen) % Operation::ALL.len()];
    let contract = if chosen >= 128 { &*LENIENT } else { &*RUNBOOK };
    let contract = CompiledContract::compile(contract);
    let Ok(mut json) = parse(data, Numbers::Any) else {
        assert!(rewrite_bytes(operation, data, &contract, &mut |_| None).is_err());
        return;
    };
    plant(&mut json);
    let rewrite = |json: &Json| -> Option<Answer> {
        rewrite_answer(operation, json, &contract, &mut |_| Some(OURS.to_owned())).ok()
    };
    let Some(answer) = rewrite(&json) else {
        return;
    };
    if operation != Operation::PlanJsonRedacted {
        let text = String::from_utf8(answer.body.to_jcs()).expect("JCS is UTF-8");
        assert!(!text.contains(MARKER), "{operation}: {text}");
    }
    for learned in &answer.learned {
        let workspace = learned.workspace.as_deref();
        assert!(
            workspace.is_none_or(|id| contract.has_workspace(id)),
            "{learned:?}"
        );
    }
    let again = rewrite(&answer.body).expect("what passed once passes again");
    assert_eq!(again.body, answer.body, "{operation}");
}

/// Puts the marker at the known secrets of every resource, and into sensitive outputs.
fn plant(answer: &mut Json) {
    let Json::Object(members) = answer else {
        return;
    };
    for (name, value) in members {
        match (name.as_str(), value) {
            ("data", resource @ Json::Object(_)) => plant_in(resource),
            ("data" | "included", Json::Array(resources)) => {
                resources.iter_mut().for_each(plant_in)
            }
            _ => {}
        }
    }
}

fn plant_in(resource: &mut Json) {
    let open = resource.at(&["attributes", "sensitive"]) == Some(&Json::Bool(false));
    let Json::Object(members) = resource else {
        return;
    };
    // Members that no resource of ours has.
    members.retain(|(name, _)| name != "secrets");
    members.push(("secrets".to_owned(), Json::from(MARKER)));
    for (name, value) in members {
        let ("attributes", Json::Object(attributes)) = (name.as_str(), value) else {
            continue;
        };
        attributes.retain(|(name, _)| !SECRET.contains(&name.as_str()));
        attributes.extend(
            SECRET
                .iter()
                .map(|name| ((*name).to_owned(), Json::from(MARKER))),
        );
        for (name, value) in attributes {
            if name == "value" && !open {
                *value = Json::from(MARKER);
            }
        }
    }
}
