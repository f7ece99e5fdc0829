//! Rules that hold for plans and for uploads alike.

use crate::contract::{Contract, ProviderSource};
use crate::glob::Glob;

/// Types that reach into Terraform Cloud itself or into other people's state: no wildcard covers
/// them, a contract must name each one.
pub(crate) fn must_be_named(kind: &str) -> bool {
    kind.starts_with("tfe_") || kind.starts_with("hcp_") || kind == "terraform_remote_state"
}

/// The same as patterns; a test compares the two.
pub(crate) const MUST_BE_NAMED: &[&str] = &["tfe_*", "hcp_*", "terraform_remote_state"];

fn lists(globs: &[Glob], kind: &str) -> bool {
    if must_be_named(kind) {
        globs
            .iter()
            .any(|glob| glob.is_literal() && glob.as_str() == kind)
    } else {
        globs.iter().any(|glob| glob.matches(kind))
    }
}

/// Whether objects of a type may change.
pub(crate) fn resource_type(contract: &Contract, kind: &str) -> bool {
    let resources = &contract.permissions.resources;
    if resources.deny_types.iter().any(|glob| glob.matches(kind)) {
        return false;
    }
    match &resources.allow_types {
        Some(globs) => lists(globs, kind),
        None => !must_be_named(kind),
    }
}

/// Whether a data source of a type may be read.
pub(crate) fn data_source(contract: &Contract, kind: &str) -> bool {
    let configuration = contract.permissions.configuration.as_ref();
    if reads_state(kind) {
        // Whoever names workspaces names the two data sources that read them.
        let workspaces = configuration.is_some_and(|c| !c.remote_state_workspaces.is_empty());
        let types = configuration.and_then(|c| c.data_sources.as_ref());
        return workspaces && types.is_none_or(|globs| lists(globs, kind));
    }
    let reaches_out = reaches_out(kind) || must_be_named(kind);
    match configuration.and_then(|c| c.data_sources.as_ref()) {
        Some(globs) if reaches_out => globs
            .iter()
            .any(|glob| glob.is_literal() && glob.as_str() == kind),
        Some(globs) => lists(globs, kind),
        None => !reaches_out,
    }
}

/// During a plan these carry what they are given to any address, run any program or read any file
/// of the worker: no wildcard covers them.
fn reaches_out(kind: &str) -> bool {
    matches!(
        kind,
        "external" | "http" | "tls_certificate" | "template_file"
    ) || kind.starts_with("dns_")
        || kind.starts_with("local_")
}

/// The same as patterns; a test compares the two.
pub(crate) const REACHES_OUT: &[&str] = &[
    "external",
    "http",
    "tls_certificate",
    "template_file",
    "dns_*",
    "local_*",
];

/// Whether a data source reads another workspace's outputs, with the run's own token.
pub(crate) fn reads_state(kind: &str) -> bool {
    matches!(kind, "terraform_remote_state" | "tfe_outputs")
}

/// Whether the contract names this very provider.
pub(crate) fn names_provider(contract: &Contract, source: &ProviderSource) -> bool {
    let configuration = contract.permissions.configuration.as_ref();
    configuration
        .and_then(|c| c.providers.as_ref())
        .is_some_and(|listed| listed.contains(source))
}

/// Whether a provider may be used.
pub(crate) fn provider(contract: &Contract, source: &ProviderSource) -> bool {
    if source.is_builtin() {
        return true;
    }
    match contract
        .permissions
        .configuration
        .as_ref()
        .and_then(|c| c.providers.as_ref())
    {
        Some(listed) => listed.contains(source),
        None => source.is_public(),
    }
}

/// Choices of a vendor's own endpoints, and lists of hosts that need no proxy.
const HARMLESS: &[&str] = &[
    "no_proxy",
    "use_dualstack_endpoint",
    "use_fips_endpoint",
    "ec2_metadata_service_endpoint_mode",
    "s3_us_east_1_regional_endpoint",
    "sts_regional_endpoints",
];

/// Why an argument of a provider is refused, by its name. `named`: the contract names this very
/// provider, and so says that its address is known.
pub(crate) fn provider_argument(name: &str, named: bool) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    if HARMLESS.contains(&name.as_str()) {
        return None;
    }
    let has = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
    if name == "exec" || has(&["credential_process", "executable"]) {
        return Some("may not run programs for credentials");
    }
    let files = [
        "config_path",
        "config_file",
        "credentials_file",
        "kubeconfig",
    ];
    if has(&files) {
        return Some("may not name files with credentials: they can name programs and addresses");
    }
    let elsewhere = [
        "endpoint",
        "proxy",
        "metadata_host",
        "metadata_url",
        "universe_domain",
        "custom_ca_bundle",
    ];
    if has(&elsewhere) {
        return Some("may not send it elsewhere");
    }
    let last = name.rsplit('_').next().unwrap_or_default();
    let is_address = matches!(
        last,
        "address"
            | "addresses"
            | "addr"
            | "host"
            | "hosts"
            | "hostname"
            | "server"
            | "servers"
            | "site"
            | "uri"
            | "uris"
            | "url"
            | "urls"
    );
    (is_address && !named)
        .then_some("needs the provider's name in permissions.configuration.providers")
}

/// Whether an argument is a map of labels, whose names mean nothing to a provider.
pub(crate) fn is_label_map(name: &str) -> bool {
    matches!(name, "tags" | "labels" | "default_labels")
}

/// Whether a module may be called. Modules inside the upload are judged as part of it.
pub(crate) fn module(contract: &Contract, source: &str, version: Option<&str>) -> bool {
    if is_local(source) {
        return true;
    }
    let registry = registry_module(source);
    // What is not pinned may be something else tomorrow.
    let pinned = !registry.is_registry() || version.is_some_and(is_exact_version);
    match contract
        .permissions
        .configuration
        .as_ref()
        .and_then(|c| c.modules.as_ref())
    {
        Some(listed) => pinned && listed.iter().any(|allowed| allowed == source),
        None => pinned && registry == RegistryModule::Public,
    }
}

/// Whether provisioners may run.
pub(crate) fn provisioners(contract: &Contract) -> bool {
    contract
        .permissions
        .configuration
        .as_ref()
        .is_some_and(|c| c.provisioners)
}

pub(crate) fn is_local(source: &str) -> bool {
    source.starts_with("./") || source.starts_with("../")
}

#[derive(PartialEq, Eq)]
enum RegistryModule {
    Public,
    OtherHost,
    No,
}

impl RegistryModule {
    fn is_registry(&self) -> bool {
        *self != Self::No
    }
}

/// `namespace/name/provider`, with a host before it for another registry.
fn registry_module(source: &str) -> RegistryModule {
    let label = |part: &str| {
        (1..=64).contains(&part.len())
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let address = source
        .split_once("//")
        .map_or(source, |(address, _)| address);
    let parts: Vec<&str> = address.split('/').collect();
    match parts[..] {
        [a, b, c] if label(a) && label(b) && label(c) => RegistryModule::Public,
        ["registry.terraform.io", a, b, c] if label(a) && label(b) && label(c) => {
            RegistryModule::Public
        }
        // github.com/… and bitbucket.org/… are fetched by git, and have no version argument.
        ["github.com" | "bitbucket.org" | "gitlab.com", ..] => RegistryModule::No,
        [host, a, b, c] if host.contains('.') && label(a) && label(b) && label(c) => {
            RegistryModule::OtherHost
        }
        _ => RegistryModule::No,
    }
}

/// `1.2.3` or `= 1.2.3`, a prerelease or build suffix included.
fn is_exact_version(constraint: &str) -> bool {
    let version = constraint
        .trim()
        .strip_prefix('=')
        .unwrap_or(constraint.trim())
        .trim();
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let numbers: Vec<&str> = core.split('.').collect();
    numbers.len() == 3
        && numbers
            .iter()
            .all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
        && version
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b".-+".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::EXAMPLE_CONTRACT;

    fn contract(permissions: &str) -> Contract {
        let text = EXAMPLE_CONTRACT.replace(
            "\"state_read\": false",
            &format!("\"state_read\": false{permissions}"),
        );
        Contract::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn the_patterns_say_what_the_functions_say() {
        let any = |patterns: &[&str], kind: &str| {
            let mut globs = patterns.iter().map(|text| Glob::new(text).unwrap());
            globs.any(|glob| glob.matches(kind))
        };
        for kind in [
            "tfe_",
            "tfe_team",
            "tfe",
            "xtfe_a",
            "hcp_x",
            "hcp",
            "terraform_remote_state",
            "terraform_remote_state_x",
            "terraform_data",
            "external",
            "external_x",
            "http",
            "http_x",
            "tls_certificate",
            "tls_x",
            "template_file",
            "template_x",
            "dns_",
            "dns_a",
            "dns",
            "local_file",
            "local",
            "aws_ami",
        ] {
            assert_eq!(any(MUST_BE_NAMED, kind), must_be_named(kind), "{kind}");
            assert_eq!(any(REACHES_OUT, kind), reaches_out(kind), "{kind}");
        }
    }

    #[test]
    fn dangerous_types_need_their_name() {
        let default = contract("");
        let wide = contract(r#","resources":{"allow_types":["*"],"deny_types":["aws_iam_*"]}"#);
        let named = contract(r#","resources":{"allow_types":["tfe_workspace","aws_*"]}"#);
        for (kind, by_default, by_wide, by_named) in [
            ("aws_instance", true, true, true),
            ("aws_iam_user", true, false, true),
            ("terraform_data", true, true, false),
            ("tfe_workspace", false, false, true),
            ("tfe_team_token", false, false, false),
            ("hcp_vault_cluster", false, false, false),
            ("terraform_remote_state", false, false, false),
        ] {
            assert_eq!(resource_type(&default, kind), by_default, "{kind}");
            assert_eq!(resource_type(&wide, kind), by_wide, "{kind}");
            assert_eq!(resource_type(&named, kind), by_named, "{kind}");
        }
    }

    #[test]
    fn data_sources_that_reach_out_need_their_name() {
        let wide = contract(r#","configuration":{"data_sources":["*"]}"#);
        let named = contract(r#","configuration":{"data_sources":["http","aws_*"]}"#);
        for (kind, by_default, by_wide, by_named) in [
            ("aws_ami", true, true, true),
            ("http", false, false, true),
            ("external", false, false, false),
            ("terraform_remote_state", false, false, false),
            ("tfe_outputs", false, false, false),
            ("local_file", false, false, false),
            ("local_command", false, false, false),
            ("dns_a_record_set", false, false, false),
            ("template_file", false, false, false),
            ("tls_certificate", false, false, false),
            ("archive_file", true, true, false),
        ] {
            assert_eq!(data_source(&contract(""), kind), by_default, "{kind}");
            assert_eq!(data_source(&wide, kind), by_wide, "{kind}");
            assert_eq!(data_source(&named, kind), by_named, "{kind}");
        }
    }

    #[test]
    fn modules_are_local_or_pinned() {
        let listed = contract(
            r#","configuration":{"modules":["acme/vpc/aws","git::https://x.y/m.git?ref=0a1b"]}"#,
        );
        for (source, version, by_default, by_list) in [
            ("./mod", None, true, true),
            ("acme/vpc/aws", Some("1.2.3"), true, true),
            ("acme/vpc/aws", Some("= 1.2.3"), true, true),
            ("acme/vpc/aws", Some("~> 1.2"), false, false),
            ("acme/vpc/aws", Some(">= 1.2.3"), false, false),
            ("acme/vpc/aws", None, false, false),
            ("other/vpc/aws", Some("1.2.3"), true, false),
            ("app.terraform.io/acme/vpc/aws", Some("1.2.3"), false, false),
            ("github.com/acme/vpc", None, false, false),
            ("git::https://x.y/m.git?ref=0a1b", None, false, true),
            ("https://x.y/m.zip", None, false, false),
            ("s3::https://x.y/m", None, false, false),
        ] {
            assert_eq!(
                module(&contract(""), source, version),
                by_default,
                "{source} {version:?}"
            );
            assert_eq!(
                module(&listed, source, version),
                by_list,
                "{source} {version:?}"
            );
        }
    }

    #[test]
    fn providers_come_from_the_public_registry() {
        let listed = contract(r#","configuration":{"providers":["hashicorp/aws"]}"#);
        for (source, by_default, by_list) in [
            ("registry.terraform.io/hashicorp/aws", true, true),
            ("hashicorp/AWS", true, true),
            ("hashicorp/random", true, false),
            ("terraform.io/builtin/terraform", true, true),
            ("evil.example/hashicorp/aws", false, false),
        ] {
            let source = ProviderSource::new(source).unwrap();
            assert_eq!(provider(&contract(""), &source), by_default, "{source:?}");
            assert_eq!(provider(&listed, &source), by_list, "{source:?}");
        }
        assert!(ProviderSource::new("../aws").is_none() && ProviderSource::new("").is_none());
    }
}
