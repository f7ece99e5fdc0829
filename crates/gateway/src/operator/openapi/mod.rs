//! The operator API as an OpenAPI 3.1 document, made from the routes and their handlers' types.
//!
//! Paths, methods and roles come from [`routes`]; parameters, bodies and answers from
//! what the handlers take and answer (`handlers.rs`); a name and a sentence from a list
//! (`operations.rs`). `docs/openapi.json` is this document; a test compares the two.

mod handlers;
mod operations;

use axum::Json;
use schemars::generate::{Contract, SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};

use super::credential::{Access, Role};
use super::extract::Id;
use super::problem::Details;
use super::{Route, routes};
use crate::clawproxy::job_view;
use operations::{OPERATIONS, OWN, Words};

use handlers::{Answered, Reading, Taken, present, without_null_default};
pub(super) use handlers::{Describe, Described, MediaTypes, Written};

/// Where schemas stand in the document.
const SCHEMAS: &str = "/components/schemas";

const ABOUT: &str = "\
What operators, approvers and auditors ask of a gateway, and their programs. The operator listener \
answers it; scoped tokens are refused there. `/v1/job` is answered by the agents' listener, to a \
job's own token.\n\n\
Every answer that is not the expected one is a problem (RFC 9457) with a stable `code`; \
docs/reason-codes.md says what each means and what to do. Members may be added to answers within a \
version; requests with unknown members are refused.";

/// What the agents' listener answers, in the order of [`OWN`].
const OWN_ANSWERS: &[Describe] = &[
    Json::<job_view::OwnJob>::answered,
    Json::<job_view::OwnRuns>::answered,
    |reading| {
        Id::<String>::taken(reading);
        Json::<job_view::OwnReceipt>::answered(reading);
    },
];

/// The document.
///
/// # Panics
/// When it contradicts itself, which a test would have seen.
pub fn document() -> Value {
    let mut schemas = Schemas::new();
    let mut paths = Map::new();
    let routes = routes();
    for words in OPERATIONS {
        let route = routes.iter().find(|route| name(route) == words.route);
        let Some((route, describe)) = route.and_then(|route| Some((route, route.describe?))) else {
            panic!("{} is described and not routed", words.route);
        };
        let operation = operation(
            &mut schemas,
            words,
            route.path,
            describe,
            security(route.access),
        );
        add(&mut paths, words, operation);
    }
    for ((words, path), describe) in OWN.iter().zip(job_view::PATHS).zip(OWN_ANSWERS) {
        let security = json!([{ "scoped_token": [] }]);
        let mut operation = operation(&mut schemas, words, path, *describe, security);
        operation["servers"] = json!([{
            "url": "http://127.0.0.1:8787",
            "description": "the agents' listener",
        }]);
        add(&mut paths, words, operation);
    }
    let problem = schemas.answered.subschema_for::<Details<'static>>();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Clawgate operator API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "http://127.0.0.1:8788", "description": "the operator listener" }],
        "paths": paths,
        "components": {
            "schemas": schemas.all(),
            "responses": { "Problem": {
                "description": "It was not done; `code` says why",
                "content": { "application/problem+json": { "schema": problem } },
            } },
            "securitySchemes": {
                "operator": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An operator's credential (`clawop_…`). The roles that an \
                                    operation names are those of which one is needed; an \
                                    administrator has all. A browser's session opens none of this.",
                },
                "scoped_token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A job's scoped token, on the agents' listener.",
                },
            },
        },
    })
}

/// The schemas of what is sent and of what is answered: of the same type they may differ, so that
/// there are two makers.
struct Schemas {
    sent: SchemaGenerator,
    answered: SchemaGenerator,
}

impl Schemas {
    fn new() -> Self {
        let maker = |contract| {
            let mut settings = SchemaSettings::draft2020_12();
            settings.definitions_path = SCHEMAS.into();
            settings.contract = contract;
            settings.into_generator()
        };
        Self {
            sent: maker(Contract::Deserialize),
            answered: maker(Contract::Serialize),
        }
    }

    /// All of them, each under one name.
    fn all(mut self) -> Map<String, Value> {
        let mut all = self.answered.take_definitions(true);
        all.values_mut().for_each(say_what_is_left_out);
        for (name, mut schema) in self.sent.take_definitions(true) {
            let members = schema.get_mut("properties").and_then(Value::as_object_mut);
            for (_, member) in members.into_iter().flatten() {
                without_null_default(member);
            }
            if let Some(other) = all.insert(name.clone(), schema.clone()) {
                assert_eq!(other, schema, "two schemas have the name {name}");
            }
        }
        all
    }
}

/// What an answer may lack is left out of it, and is never `null`.
fn say_what_is_left_out(schema: &mut Value) {
    let required = schema.get("required").cloned().unwrap_or_default();
    let required = required.as_array().map_or(&[][..], Vec::as_slice);
    let members = schema.get_mut("properties").and_then(Value::as_object_mut);
    for (name, member) in members.into_iter().flatten() {
        if !required.iter().any(|one| one == name) {
            *member = present(member.take());
        }
    }
}

fn operation(
    schemas: &mut Schemas,
    words: &Words,
    path: &str,
    describe: Describe,
    security: Value,
) -> Value {
    let variable = path
        .split_once('{')
        .and_then(|(_, rest)| rest.split_once('}'));
    let mut reading = Reading {
        sent: &mut schemas.sent,
        answered: &mut schemas.answered,
        variable: variable.map(|(name, _)| name),
        parameters: Vec::new(),
        body: None,
        content: Map::new(),
    };
    describe(&mut reading);
    let Reading {
        parameters,
        body,
        content,
        ..
    } = reading;
    let mut done = json!({ "description": "It was done" });
    if !content.is_empty() {
        done["content"] = content.into();
    }
    let problem = json!({ "$ref": "#/components/responses/Problem" });
    let mut operation = json!({
        "operationId": words.id,
        "summary": words.says,
        "tags": [tag(path)],
        "security": security,
        "responses": { "200": done, "4XX": problem, "5XX": problem },
    });
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if let Some(body) = body {
        operation["requestBody"] = body;
    }
    operation
}

/// What an operation asks of its caller. Roles of a scheme that is not OAuth's may stand there since
/// OpenAPI 3.1.
fn security(access: Access) -> Value {
    match access {
        Access::Public | Access::Signed | Access::Link => json!([]),
        Access::Operator => json!([{ "operator": [] }]),
        Access::Needs(role) => {
            let roles: &[Role] = if role == Role::Admin {
                &[role]
            } else {
                &[role, Role::Admin]
            };
            json!([{ "operator": roles }])
        }
    }
}

fn add(paths: &mut Map<String, Value>, words: &Words, operation: Value) {
    let (method, path) = words.route.split_once(' ').expect("a method and a path");
    let place = paths.entry(path).or_insert_with(|| json!({}));
    place[method.to_ascii_lowercase()] = operation;
}

/// The subject: the first part of the path below `/v1`.
fn tag(path: &str) -> &str {
    let below = path
        .strip_prefix("/v1/")
        .and_then(|rest| rest.split('/').next());
    below.unwrap_or("gateway")
}

fn name(route: &Route) -> String {
    format!("{} {}", route.method, route.path)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_for_programs_is_described_and_nothing_else() {
        let routes = routes();
        let described = routes.iter().filter(|route| route.describe.is_some());
        let described: BTreeSet<String> = described.map(name).collect();
        let listed: BTreeSet<String> = OPERATIONS.iter().map(|words| words.route.into()).collect();
        assert_eq!(described, listed, "operations.rs is not what is routed");
        for route in &routes {
            let for_browsers = route.access == Access::Link || route.path == "/passkey.js";
            let of_others = route.path.starts_with("/tlog/") || route.path == "/metrics";
            let undescribed = for_browsers || of_others;
            assert_eq!(route.describe.is_none(), undescribed, "{}", name(route));
        }
        assert_eq!(OWN.len(), OWN_ANSWERS.len());
        let own: Vec<&str> = OWN.iter().map(|words| words.route).collect();
        assert_eq!(own, job_view::PATHS.map(|path| format!("GET {path}")));
    }

    #[test]
    fn names_are_used_once_and_lead_somewhere() {
        let ids: BTreeSet<&str> = OPERATIONS.iter().chain(OWN).map(|words| words.id).collect();
        assert_eq!(ids.len(), OPERATIONS.len() + OWN.len());
        let document = document();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        for name in schemas.keys() {
            // The generator numbers types of the same name; people should name them.
            assert!(
                !name.ends_with(|last: char| last.is_ascii_digit())
                    || name == "Sha256"
                    || name == "HexSha256",
                "{name}"
            );
        }
        for (name, schema) in schemas {
            let said = schema.as_object().is_some_and(|schema| !schema.is_empty());
            assert!(said, "{name} says nothing");
        }
        let text = document.to_string();
        let nothing = text.contains("{\"schema\":true}");
        assert!(!nothing, "a handler answers with any JSON: give it a type");
        for name in text.split("\"#/components/schemas/").skip(1) {
            let name = name.split('"').next().unwrap();
            assert!(schemas.contains_key(name), "{name}");
        }
    }

    #[test]
    fn roles_are_those_of_the_routes() {
        let document = document();
        let roles = |path: &str, method: &str| &document["paths"][path][method]["security"];
        let needs = |roles: &[&str]| json!([{ "operator": roles }]);
        assert_eq!(*roles("/v1/jobs", "post"), needs(&["issuer", "admin"]));
        assert_eq!(*roles("/v1/jobs", "get"), needs(&[]));
        assert_eq!(*roles("/v1/publications", "post"), needs(&["admin"]));
        assert_eq!(*roles("/healthz", "get"), json!([]));
    }
}
