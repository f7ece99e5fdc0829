//! The strict reading of a contract.

use proof::Hash;
use proof::json::{Json, Numbers, parse};

use super::error::{ContractError, ContractErrorKind, ContractErrors};
use super::reader::{Errors, Reader};
use super::{
    Action, Apply, Audit, Configuration, Contract, Cost, Email, MaxChanges, Models,
    OnMissingApproval, Operations, Permissions, ProviderSource, Resources, Run, Unpriced, models,
};
use crate::decimal::Decimal;
use crate::egress::HostPattern;
use crate::glob::Glob;
use crate::reason::quoted;
use crate::terraform::ids::{OrganizationName, WorkspaceId};

/// Largest contract that is read, in bytes.
const MAX_CONTRACT: usize = 256 * 1024;
/// Largest count that a contract can name.
pub(super) const MAX_COUNT: i64 = 1_000_000_000_000;

impl Contract {
    /// Reads a contract.
    ///
    /// # Errors
    /// Every error of the document: text that is not strict JSON (duplicate members included),
    /// unknown, missing and mistyped members, values that are not accepted, and members that
    /// contradict each other.
    pub fn parse(bytes: &[u8]) -> Result<Self, ContractErrors> {
        let whole = |reason: String| {
            let kind = ContractErrorKind::Json(reason);
            ContractErrors(vec![ContractError {
                path: String::new(),
                kind,
            }])
        };
        if bytes.len() > MAX_CONTRACT {
            return Err(whole(format!("larger than {MAX_CONTRACT} bytes")));
        }
        let json = parse(bytes, Numbers::Integers).map_err(|error| whole(error.to_string()))?;
        Self::from_json(json)
    }

    /// Reads a contract that is already strict JSON, such as the payload of an envelope.
    ///
    /// # Errors
    /// As [`Contract::parse`].
    pub fn from_json(json: Json) -> Result<Self, ContractErrors> {
        let errors = Errors::default();
        let read = document(&json, &errors);
        match (read, errors.into_inner()) {
            (Some(parts), errors) if errors.is_empty() => {
                let hash = Hash::of(&json.to_jcs());
                Ok(Self {
                    json,
                    hash,
                    name: parts.name,
                    description: parts.description,
                    permissions: parts.permissions,
                    models: parts.models,
                    egress_allow_hosts: parts.egress_allow_hosts,
                    max_ttl_seconds: parts.max_ttl_seconds,
                    audit: parts.audit,
                })
            }
            (_, errors) => Err(ContractErrors(errors)),
        }
    }
}

struct Parts {
    name: String,
    description: Option<String>,
    permissions: Permissions,
    models: Option<Models>,
    egress_allow_hosts: Vec<HostPattern>,
    max_ttl_seconds: u32,
    audit: Audit,
}

/// `None` only together with errors.
fn document(json: &Json, errors: &Errors) -> Option<Parts> {
    let root = Reader::root(
        json,
        &[
            "wpc_version",
            "name",
            "description",
            "tool",
            "connection",
            "permissions",
            "models",
            "egress",
            "cst_constraints",
            "audit",
        ],
        errors,
    );
    for name in ["wpc_version", "name", "tool", "connection", "permissions"] {
        root.require(name);
    }
    root.choice("wpc_version", &[("1.0", ())]);
    root.choice("tool", &[("terraform-cloud", ())]);
    root.choice("connection", &[("official-api", ())]);
    let name = root.text("name", contract_name);
    let description = root.text("description", description);
    let permissions = permissions(&root);
    let models = root.has("models").then(|| models::read(&root));
    let egress = root.object("egress", &["allow_hosts"]);
    let egress_allow_hosts = egress.list("allow_hosts", host).unwrap_or_default();
    let max_ttl_seconds = cst_constraints(&root);
    let audit = Audit::read(&root);
    Some(Parts {
        name: name?,
        description,
        permissions: permissions?,
        models,
        egress_allow_hosts,
        max_ttl_seconds,
        audit,
    })
}

fn host(text: &str) -> Result<HostPattern, String> {
    HostPattern::new(text).map_err(|error| format!("{}: {error}", quoted(text)))
}

fn contract_name(text: &str) -> Result<String, String> {
    let first = text
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let rest = text
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if first && rest && text.len() <= 63 {
        Ok(text.to_owned())
    } else {
        Err("must be 1 to 63 of a-z 0-9 and -, not starting with -".to_owned())
    }
}

fn description(text: &str) -> Result<String, String> {
    if text.chars().count() > 1024 {
        Err("must be at most 1024 characters".to_owned())
    } else if text.chars().any(|c| c.is_control() && c != '\n') {
        Err("must not hold control characters".to_owned())
    } else {
        Ok(text.to_owned())
    }
}

fn permissions(root: &Reader<'_>) -> Option<Permissions> {
    let reader = root.object(
        "permissions",
        &[
            "organization",
            "workspaces",
            "operations",
            "apply",
            "state_read",
            "outputs_read",
            "run",
            "resources",
            "configuration",
            "cost",
        ],
    );
    reader.require("workspaces");
    reader.require("operations");
    let workspaces = reader.list("workspaces", workspace);
    if workspaces.as_ref().is_some_and(Vec::is_empty)
        && reader.array("workspaces").is_some_and(<[Json]>::is_empty)
    {
        reader.bad("workspaces", "must name at least one workspace");
    }
    let apply = apply(&reader);
    let operations = operations(&reader, &apply);
    reader.is_present().then_some(())?;
    Some(Permissions {
        organization: reader.text("organization", |text| {
            OrganizationName::new(text).map_err(|e| e.to_string())
        }),
        workspaces: workspaces?,
        operations: operations?,
        apply,
        state_read: reader.boolean("state_read", false),
        outputs_read: reader.boolean("outputs_read", false),
        run: run(&reader),
        resources: resources(&reader),
        configuration: reader.has("configuration").then(|| configuration(&reader)),
        cost: reader.has("cost").then(|| cost(&reader)),
    })
}

fn workspace(text: &str) -> Result<WorkspaceId, String> {
    if text.contains(['*', '?', '[', '{']) {
        let text = quoted(text);
        return Err(format!(
            "{text} is a pattern; name each workspace by its id (`ws-…`)"
        ));
    }
    WorkspaceId::new(text).map_err(|_| {
        let text = quoted(text);
        format!("{text} is not a workspace id (`ws-…`); names are not accepted, they can be reused")
    })
}

fn operations(reader: &Reader<'_>, apply: &Apply) -> Option<Operations> {
    let listed = reader.list("operations", |text| match text {
        "plan" | "apply" => Ok(text == "apply"),
        other => Err(format!(
            "{} is not accepted; must be \"plan\" or \"apply\"",
            quoted(other)
        )),
    })?;
    let operations = Operations {
        plan: listed.contains(&false),
        apply: listed.contains(&true),
    };
    if operations.apply && !apply.allowed {
        reader.contradiction(
            "operations",
            "lists \"apply\" while permissions.apply.allowed is not true",
        );
    }
    if operations.apply && !operations.plan {
        reader.contradiction(
            "operations",
            "lists \"apply\" without \"plan\"; only a plan can be applied",
        );
    }
    Some(operations)
}

fn apply(permissions: &Reader<'_>) -> Apply {
    let reader = permissions.object(
        "apply",
        &[
            "allowed",
            "requires_approval",
            "approvers",
            "opener_may_approve",
            "min_approvals",
            "approval_ttl_seconds",
            "on_missing_approval",
        ],
    );
    let default = Apply::default();
    let apply = Apply {
        allowed: reader.boolean("allowed", default.allowed),
        requires_approval: reader.boolean("requires_approval", default.requires_approval),
        approvers: reader.list("approvers", email).unwrap_or_default(),
        opener_may_approve: reader.boolean("opener_may_approve", default.opener_may_approve),
        min_approvals: small(
            reader.integer("min_approvals", 1..=5),
            default.min_approvals,
        ),
        approval_ttl_seconds: small(
            reader.integer("approval_ttl_seconds", 60..=86_400),
            default.approval_ttl_seconds,
        ),
        on_missing_approval: reader
            .choice(
                "on_missing_approval",
                &[
                    ("hold", OnMissingApproval::Hold),
                    ("reject", OnMissingApproval::Reject),
                ],
            )
            .unwrap_or(default.on_missing_approval),
    };
    if apply.allowed && apply.requires_approval {
        if !reader.has("approvers") {
            reader.contradiction("approvers", "required when apply is allowed with approval");
        } else if apply.approvers.len() < apply.min_approvals as usize {
            reader.contradiction(
                "approvers",
                "has fewer addresses than min_approvals asks for",
            );
        }
    }
    apply
}

fn email(text: &str) -> Result<Email, String> {
    Email::new(text).ok_or_else(|| format!("{} is not an e-mail address", quoted(text)))
}

/// `read` is bounded by its reader to what fits.
fn small(read: Option<i64>, default: u32) -> u32 {
    read.and_then(|value| u32::try_from(value).ok())
        .unwrap_or(default)
}

pub(super) fn glob(text: &str) -> Result<Glob, String> {
    Glob::new(text).map_err(|error| format!("{}: {error}", quoted(text)))
}

fn run(permissions: &Reader<'_>) -> Run {
    let reader = permissions.object(
        "run",
        &["destroy", "refresh_only", "targets", "replace", "variables"],
    );
    Run {
        destroy: reader.boolean("destroy", false),
        refresh_only: reader.boolean("refresh_only", false),
        targets: reader.boolean("targets", false),
        replace: reader.boolean("replace", false),
        variables: reader.list("variables", variable_name).unwrap_or_default(),
    }
}

fn variable_name(text: &str) -> Result<String, String> {
    let first = text
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    let rest = text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if first && rest && text.len() <= 128 {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "{} is not the name of an input variable",
            quoted(text)
        ))
    }
}

fn resources(permissions: &Reader<'_>) -> Resources {
    let reader = permissions.object(
        "resources",
        &["allow_types", "deny_types", "deny_actions", "max_changes"],
    );
    let max = reader.object("max_changes", &["create", "update", "delete"]);
    let limit = |name| {
        max.integer(name, 0..=1_000_000)
            .and_then(|value| u32::try_from(value).ok())
    };
    Resources {
        allow_types: reader.list("allow_types", glob),
        deny_types: reader.list("deny_types", glob).unwrap_or_default(),
        deny_actions: reader.list("deny_actions", action).unwrap_or_default(),
        max_changes: MaxChanges {
            create: limit("create"),
            update: limit("update"),
            delete: limit("delete"),
        },
    }
}

fn action(text: &str) -> Result<Action, String> {
    Action::ALL
        .iter()
        .copied()
        .find(|action| action.as_str() == text)
        .ok_or_else(|| {
            let names: Vec<_> = Action::ALL.iter().map(|action| action.as_str()).collect();
            format!("{} is not one of {}", quoted(text), names.join(", "))
        })
}

fn configuration(permissions: &Reader<'_>) -> Configuration {
    let reader = permissions.object(
        "configuration",
        &[
            "providers",
            "modules",
            "data_sources",
            "provisioners",
            "remote_state_workspaces",
        ],
    );
    Configuration {
        providers: reader.list("providers", |text| {
            ProviderSource::new(text)
                .ok_or_else(|| format!("{} is not a provider source", quoted(text)))
        }),
        modules: reader.list("modules", module_source),
        data_sources: reader.list("data_sources", glob),
        provisioners: reader.boolean("provisioners", false),
        remote_state_workspaces: reader
            .list("remote_state_workspaces", workspace)
            .unwrap_or_default(),
    }
}

fn module_source(text: &str) -> Result<String, String> {
    let good = (1..=256).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_graphic())
        && !text.contains(['*', '$', '%']);
    if good {
        Ok(text.to_owned())
    } else {
        Err(format!("{} is not an exact module source", quoted(text)))
    }
}

fn cost(permissions: &Reader<'_>) -> Cost {
    let reader = permissions.object(
        "cost",
        &["max_monthly_delta_usd", "max_monthly_total_usd", "unpriced"],
    );
    Cost {
        max_monthly_delta_usd: reader.text("max_monthly_delta_usd", amount),
        max_monthly_total_usd: reader.text("max_monthly_total_usd", amount),
        unpriced: reader
            .choice(
                "unpriced",
                &[("refuse", Unpriced::Refuse), ("approve", Unpriced::Approve)],
            )
            .unwrap_or(Unpriced::Refuse),
    }
}

pub(super) fn amount(text: &str) -> Result<Decimal, String> {
    match text.parse::<Decimal>() {
        Ok(amount) if !amount.is_negative() => Ok(amount),
        _ => Err(format!(
            "{} is not a decimal amount like \"12.50\"",
            quoted(text)
        )),
    }
}

fn cst_constraints(root: &Reader<'_>) -> u32 {
    let reader = root.object(
        "cst_constraints",
        &["max_ttl_seconds", "policy_hash_pin", "job_scoped"],
    );
    for (name, why) in [
        ("policy_hash_pin", "every token is pinned to its contract"),
        ("job_scoped", "every token belongs to one job"),
    ] {
        if !reader.boolean(name, true) {
            reader.bad(name, format!("false is refused: {why}"));
        }
    }
    small(reader.integer("max_ttl_seconds", 60..=3600), 900)
}
