//! A request as it stands on the wire, read from left to right by the text of the formats: the
//! request line, the route, the ids, the query, the body. A fault of form ends the reading where
//! it stands; what is well-formed is judged with everything assumed in the caller's favour.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use serde_json::Value;

use crate::at;
use crate::body::{action_request, run_request, upload_request};
use crate::evaluator::{self, Expected};
use crate::generator::TerraformFacts;

pub type Faults = BTreeSet<&'static str>;

/// The routes that are forwarded: method, template, operation, and the kinds of its placeholders.
const FORWARDED: &[(&str, &str, &str)] = &[
    ("GET", "/.well-known/terraform.json", "discovery"),
    ("GET", "/api/v2/ping", "ping"),
    ("GET", "/api/v2/account/details", "account-details"),
    (
        "GET",
        "/api/v2/organizations/{organization}/entitlement-set",
        "entitlement-set",
    ),
    (
        "GET",
        "/api/v2/organizations/{organization}/capacity",
        "capacity",
    ),
    (
        "GET",
        "/api/v2/organizations/{organization}/runs/queue",
        "runs-queue",
    ),
    (
        "GET",
        "/api/v2/organizations/{organization}/workspaces",
        "list-workspaces",
    ),
    (
        "GET",
        "/api/v2/organizations/{organization}/workspaces/{workspace-name}",
        "workspace-by-name",
    ),
    ("GET", "/api/v2/workspaces/{workspace}", "workspace-by-id"),
    (
        "GET",
        "/api/v2/workspaces/{workspace}/tag-bindings",
        "workspace-tag-bindings",
    ),
    (
        "GET",
        "/api/v2/workspaces/{workspace}/runs",
        "workspace-runs",
    ),
    (
        "GET",
        "/api/v2/workspaces/{workspace}/current-state-version",
        "current-state-version",
    ),
    (
        "GET",
        "/api/v2/workspaces/{workspace}/current-state-version-outputs",
        "current-state-version-outputs",
    ),
    (
        "GET",
        "/api/v2/state-version-outputs/{output}",
        "state-version-output",
    ),
    (
        "POST",
        "/api/v2/workspaces/{workspace}/configuration-versions",
        "create-configuration-version",
    ),
    (
        "GET",
        "/api/v2/configuration-versions/{configuration-version}",
        "read-configuration-version",
    ),
    ("POST", "/api/v2/runs", "create-run"),
    ("GET", "/api/v2/runs/{run}", "read-run"),
    ("GET", "/api/v2/runs/{run}/run-events", "run-events"),
    ("GET", "/api/v2/runs/{run}/task-stages", "run-task-stages"),
    (
        "GET",
        "/api/v2/runs/{run}/policy-checks",
        "run-policy-checks",
    ),
    ("GET", "/api/v2/task-stages/{task-stage}", "read-task-stage"),
    (
        "GET",
        "/api/v2/policy-checks/{policy-check}",
        "read-policy-check",
    ),
    (
        "GET",
        "/api/v2/policy-checks/{policy-check}/output",
        "policy-check-output",
    ),
    ("GET", "/api/v2/runs/{run}/comments", "run-comments"),
    ("GET", "/api/v2/plans/{plan}", "read-plan"),
    (
        "GET",
        "/api/v2/plans/{plan}/json-output-redacted",
        "plan-json-redacted",
    ),
    ("GET", "/api/v2/applies/{apply}", "read-apply"),
    (
        "GET",
        "/api/v2/cost-estimates/{cost-estimate}",
        "read-cost-estimate",
    ),
    ("POST", "/api/v2/runs/{run}/actions/apply", "apply-run"),
    ("POST", "/api/v2/runs/{run}/actions/discard", "discard-run"),
    ("POST", "/api/v2/runs/{run}/actions/cancel", "cancel-run"),
];

/// What agents are told about routes that are not forwarded, by class.
fn closed(class: &str) -> &'static str {
    match class {
        "account" => "ACCOUNT_DENIED",
        "access-admin" | "agent-admin" | "audit-read" | "billing" | "key-admin"
        | "notification-admin" | "org-admin" | "policy-admin" | "project-admin"
        | "provider-set-admin" | "site-admin" | "vcs-admin" => "ADMIN_DENIED",
        "apply" => "APPLY_NOT_ALLOWED",
        "assessment" | "create-query-run" | "create-run" | "module-tests" => "RUN_START_DENIED",
        "comment" => "COMMENT_DENIED",
        "data-destruction" => "DATA_DESTRUCTION_DENIED",
        "force-cancel" | "force-execute" | "force-unlock" => "FORCE_ACTION_DENIED",
        "legacy" | "unknown" => "ROUTE_UNKNOWN",
        "lock-unlock" => "LOCK_DENIED",
        "policy-override" => "POLICY_OVERRIDE_DENIED",
        "read-config" => "CONFIGURATION_READ_DENIED",
        "read-outputs" => "OUTPUTS_READ_DENIED",
        "read-plan-json" => "PLAN_JSON_DENIED",
        "read-state" => "STATE_READ_DENIED",
        "read-variables" | "variables-write" => "VARIABLES_DENIED",
        "registry-read" | "registry-write" => "REGISTRY_DENIED",
        "run-task-admin" | "run-task-result" => "RUN_TASK_DENIED",
        "run-trigger-admin" | "workspace-admin" | "workspace-create" | "workspace-delete" => {
            "WORKSPACE_ADMIN_DENIED"
        }
        "signed-object-read" | "signed-object-write" => "SIGNED_URL_DENIED",
        "stack-apply" | "stack-read" | "stack-write" => "STACKS_DENIED",
        "state-sharing" => "STATE_SHARING_DENIED",
        "state-write" => "STATE_WRITE_DENIED",
        "token-mint" => "TOKEN_MINT_DENIED",
        "config-upload" | "discard-cancel" | "discovery" | "explorer" | "read-cost"
        | "read-metadata" | "read-metadata-org" | "read-plan" | "read-policy" => {
            "ROUTE_NOT_ALLOWED"
        }
        other => panic!("class {other} is new: say here what agents are told"),
    }
}

pub struct Route {
    pub method: &'static str,
    pub template: &'static str,
    segments: Vec<&'static str>,
    class: &'static str,
}

/// The published table; only its first three columns are believed.
pub static ROUTES: LazyLock<Vec<Route>> = LazyLock::new(|| {
    include_str!("../../src/terraform/routes.tsv")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let columns: Vec<&str> = line.split('\t').collect();
            Route {
                method: columns[0],
                template: columns[1],
                segments: columns[1].split('/').skip(1).collect(),
                class: columns[2],
            }
        })
        .collect()
});

/// Every route that fits, the most specific one: fixed before placeholder before rest, from left
/// to right.
fn find(method: &str, segments: &[&str]) -> Option<&'static Route> {
    let rank = |template: &str| match template {
        "{rest}" => 2,
        name if name.starts_with('{') => 1,
        _ => 0,
    };
    ROUTES
        .iter()
        .filter(|route| route.method == "*" || route.method == method)
        .filter(|route| {
            let rest = route.segments.last() == Some(&"{rest}");
            let length = if rest {
                segments.len() >= route.segments.len()
            } else {
                segments.len() == route.segments.len()
            };
            length
                && route
                    .segments
                    .iter()
                    .zip(segments)
                    .all(|(template, segment)| template.starts_with('{') || template == segment)
        })
        .min_by_key(|route| route.segments.iter().map(|s| rank(s)).collect::<Vec<_>>())
}

pub fn expected(contract: &Value, method: &str, target: &str, body: &[u8]) -> Expected {
    match read(contract, method, target, body) {
        Ok(facts) => evaluator::terraform(contract, &facts),
        Err(Fault::Closed(code)) => Expected::refused(code),
        Err(Fault::Form(faults)) => Expected::Unreadable(faults),
    }
}

pub enum Fault {
    Closed(&'static str),
    Form(Faults),
}

pub fn fault(code: &'static str) -> Fault {
    Fault::Form(Faults::from([code]))
}

pub fn none(faults: Faults) -> Result<(), Fault> {
    if faults.is_empty() {
        Ok(())
    } else {
        Err(Fault::Form(faults))
    }
}

fn read(
    contract: &Value,
    method: &str,
    target: &str,
    body: &[u8],
) -> Result<TerraformFacts, Fault> {
    if !["GET", "POST", "PATCH", "PUT", "DELETE"].contains(&method) {
        return Err(fault("METHOD_NOT_ALLOWED"));
    }
    if target.len() > 2048 {
        return Err(fault("PATH_TOO_LONG"));
    }
    let (path, query) = match target.find('?') {
        Some(at) => (&target[..at], Some(&target[at + 1..])),
        None => (target, None),
    };
    none(path_faults(path))?;
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let route = match find(method, &segments) {
        Some(route) => route,
        None => {
            let lower: Vec<String> = segments.iter().map(|s| s.to_lowercase()).collect();
            let lower: Vec<&str> = lower.iter().map(String::as_str).collect();
            if lower != segments && find(method, &lower).is_some() {
                return Err(fault("PATH_UPPER_CASE"));
            }
            let stem = segments
                .last()
                .and_then(|last| last.rfind('.').map(|at| &last[..at]));
            let mut shorter = segments.clone();
            if let (Some(stem), Some(last)) = (stem, shorter.last_mut()) {
                *last = stem;
                if find(method, &shorter).is_some() {
                    return Err(fault("PATH_FORMAT_SUFFIX"));
                }
            }
            return Err(Fault::Closed("ROUTE_UNKNOWN"));
        }
    };
    let forwarded = FORWARDED
        .iter()
        .find(|(of, template, _)| *of == method && *template == route.template);
    let Some((_, _, operation)) = forwarded else {
        let last = segments.last().copied().unwrap_or("");
        if [".json", ".xml", ".html", ".jsonapi"]
            .iter()
            .any(|suffix| last.ends_with(suffix))
        {
            return Err(fault("PATH_FORMAT_SUFFIX"));
        }
        return Err(Fault::Closed(closed(route.class)));
    };
    let mut named = Vec::new();
    for (template, segment) in route.segments.iter().zip(&segments) {
        if let Some(kind) = template.strip_prefix('{') {
            let kind = kind.trim_end_matches('}');
            if !is_id(kind, segment) {
                return Err(fault("ID_MALFORMED"));
            }
            named.push((kind, (*segment).to_owned()));
        }
    }
    if let Some(query) = query {
        none(query_faults(operation, query))?;
    }
    facts(contract, operation, &named, body)
}

fn path_faults(path: &str) -> Faults {
    let mut faults = Faults::new();
    if !path.starts_with('/') {
        faults.insert("PATH_ABSOLUTE_FORM");
        return faults;
    }
    for c in path.chars() {
        match c {
            '%' => faults.insert("PATH_PERCENT_ENCODED"),
            ';' => faults.insert("PATH_PARAMETERS"),
            '#' => faults.insert("PATH_FRAGMENT"),
            c if c.is_ascii_alphanumeric() || "/-_.~".contains(c) => continue,
            _ => faults.insert("PATH_MALFORMED"),
        };
    }
    if path
        .split('/')
        .any(|segment| segment == "." || segment == "..")
    {
        faults.insert("PATH_DOT_SEGMENT");
    }
    if path.contains("//") {
        faults.insert("PATH_EMPTY_SEGMENT");
    }
    if path.len() > 1 && path.ends_with('/') {
        faults.insert("PATH_TRAILING_SLASH");
    }
    faults
}

pub fn is_id(kind: &str, text: &str) -> bool {
    let prefix = match kind {
        "organization" | "workspace-name" => {
            return !text.is_empty()
                && text.len() <= 90
                && text
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        }
        "workspace" => "ws-",
        "run" => "run-",
        "plan" => "plan-",
        "apply" => "apply-",
        "configuration-version" => "cv-",
        "cost-estimate" => "ce-",
        "output" => "wsout-",
        "policy-check" => "polchk-",
        "task-stage" => "ts-",
        other => panic!("{other} is new: say here what its ids look like"),
    };
    text.strip_prefix(prefix).is_some_and(|tail| {
        !tail.is_empty()
            && tail.len() <= 64
            && tail.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    })
}

fn query_faults(operation: &str, query: &str) -> Faults {
    let include: &[&str] = match operation {
        "read-run" | "workspace-runs" => &[
            "apply",
            "configuration_version",
            "cost_estimate",
            "plan",
            "task_stages",
            "workspace",
        ],
        "run-events" => &["actor", "comment"],
        "read-task-stage" => &["task_results", "policy_evaluations"],
        "list-workspaces" | "workspace-by-name" | "workspace-by-id" => {
            &["current_run", "organization", "project", "readme"]
        }
        _ => &[],
    };
    let pages = matches!(
        operation,
        "workspace-runs"
            | "runs-queue"
            | "list-workspaces"
            | "run-events"
            | "run-task-stages"
            | "run-policy-checks"
            | "run-comments"
            | "current-state-version-outputs"
            | "workspace-tag-bindings"
    );
    let mut faults = Faults::new();
    let mut seen = BTreeSet::new();
    for pair in query.split('&') {
        let decoded = pair
            .split_once('=')
            .and_then(|(key, value)| Some((decoded(key)?, decoded(value)?)));
        let Some((key, value)) = decoded else {
            faults.insert("QUERY_MALFORMED");
            continue;
        };
        let page = |max: u64| {
            let number: Option<u64> = value.parse().ok();
            number.is_some_and(|number| (1..=max).contains(&number) && value == number.to_string())
        };
        let good = match key.as_str() {
            "include" if !include.is_empty() => {
                let names: Vec<&str> = value.split(',').collect();
                let distinct: BTreeSet<_> = names.iter().collect();
                distinct.len() == names.len() && names.iter().all(|name| include.contains(name))
            }
            "page[number]" if pages => page(100_000),
            "page[size]" if pages => page(100),
            "search[name]" | "search[tags]" if operation == "list-workspaces" => true,
            _ => {
                faults.insert("QUERY_UNKNOWN_KEY");
                continue;
            }
        };
        if !good {
            faults.insert("QUERY_VALUE");
        }
        if !seen.insert(key) {
            faults.insert("QUERY_REPEATED_KEY");
        }
    }
    faults
}

/// Decoded once; `None` for what is not plain then.
fn decoded(text: &str) -> Option<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let (c, length) = match c {
            '%' => {
                let digits = rest.get(1..3)?;
                if !digits.chars().all(|c| c.is_ascii_hexdigit()) {
                    return None;
                }
                (char::from(u8::from_str_radix(digits, 16).ok()?), 3)
            }
            c => (c, c.len_utf8()),
        };
        if !(c.is_ascii_alphanumeric() || "[]_-,.".contains(c)) {
            return None;
        }
        out.push(c);
        rest = &rest[length..];
    }
    Some(out)
}

/// What is known and what is assumed of a call that reads well.
fn facts(
    contract: &Value,
    operation: &'static str,
    named: &[(&str, String)],
    body: &[u8],
) -> Result<TerraformFacts, Fault> {
    let id = |wanted: &str| {
        named
            .iter()
            .find(|(kind, _)| *kind == wanted)
            .map(|(_, id)| id.clone())
    };
    let organization_named = at(contract, "permissions.organization")
        .and_then(Value::as_str)
        .map(str::to_owned);
    let own = at(contract, "permissions.workspaces")
        .and_then(|list| list.get(0)?.as_str())
        .map(str::to_owned);
    let mut facts = TerraformFacts {
        operation,
        scope: vec!["tfc:plan".to_owned()],
        organization: id("organization"),
        organization_known: organization_named.is_none(),
        workspace: id("workspace").or_else(|| own.clone()),
        run_id: id("run"),
        owned: true,
        run: None,
        approved: false,
    };
    // The token has every scope that its contract has.
    facts.scope.retain(|_| {
        at(contract, "permissions.operations")
            .and_then(Value::as_array)
            .is_some_and(|list| list.iter().any(|element| element == "plan"))
    });
    if at(contract, "permissions.apply.allowed") == Some(&Value::Bool(true)) {
        facts.scope.push("tfc:apply".to_owned());
    }
    match operation {
        "create-run" => {
            let (workspace, run) = run_request(body)?;
            facts.workspace = Some(workspace);
            facts.run = Some(run);
        }
        "create-configuration-version" => upload_request(body)?,
        "apply-run" | "discard-run" | "cancel-run" => action_request(body)?,
        _ if body.is_empty() => {}
        _ => return Err(fault("BODY_UNEXPECTED")),
    }
    if facts.organization.is_none() {
        facts.organization = organization_named;
    }
    Ok(facts)
}
