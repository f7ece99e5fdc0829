//! What a command finds in its environment: addresses of ours, and nobody else's credentials.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;

use tokio::process::Command;

/// Variables that hold, or lead to, credentials for Terraform Cloud, for model providers, for
/// clouds, and for us. A command under a contract has no use for them.
const CREDENTIALS: &[&str] = &[
    // Terraform Cloud, by the CLI, the vendor's libraries, and older names.
    "ATLAS_TOKEN",
    "HCP_CLIENT_ID",
    "HCP_CLIENT_SECRET",
    "TERRAFORM_CONFIG",
    "TFC_TOKEN",
    "TFE_ADDRESS",
    "TFE_HOSTNAME",
    "TFE_TOKEN",
    "TF_API_TOKEN",
    "TF_CLI_CONFIG_FILE",
    // Model providers.
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "ANTHROPIC_BASE_URL",
    "AZURE_OPENAI_AD_TOKEN",
    "AZURE_OPENAI_API_KEY",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "COHERE_API_KEY",
    "DEEPSEEK_API_KEY",
    "GEMINI_API_KEY",
    "GOOGLE_API_KEY",
    "GROQ_API_KEY",
    "HF_TOKEN",
    "MISTRAL_API_KEY",
    "OPENAI_ADMIN_KEY",
    "OPENAI_API_BASE",
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
    "OPENROUTER_API_KEY",
    "TOGETHER_API_KEY",
    "XAI_API_KEY",
    // Clouds, which Terraform Cloud reaches for itself.
    "ARM_ACCESS_KEY",
    "ARM_CLIENT_CERTIFICATE",
    "ARM_CLIENT_CERTIFICATE_PASSWORD",
    "ARM_CLIENT_SECRET",
    "ARM_OIDC_TOKEN",
    "AWS_ACCESS_KEY_ID",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AZURE_CLIENT_SECRET",
    "CLOUDFLARE_API_TOKEN",
    "DIGITALOCEAN_TOKEN",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_CREDENTIALS",
    "GOOGLE_OAUTH_ACCESS_TOKEN",
    "VAULT_TOKEN",
    // Ours: an operator may do what the agent may not.
    "CLAWGATE_CREDENTIAL",
    "CLAWGATE_OPERATOR",
];

/// Beginnings of such names.
const CREDENTIAL_PREFIXES: &[&str] = &["TF_TOKEN_", "TFC_WORKLOAD_IDENTITY_TOKEN"];

/// Whether a variable is taken away.
fn is_credential(name: &str) -> bool {
    // Windows spells them as it likes, and so do people.
    let name = name.to_ascii_uppercase();
    CREDENTIALS.contains(&name.as_str())
        || CREDENTIAL_PREFIXES
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

/// How a gateway is reached, as the command is told.
pub(super) struct Way<'a> {
    /// Address of the relay.
    pub(super) url: &'a str,
    /// The token's text.
    pub(super) token: &'a str,
    /// As configurations call Terraform Cloud, or the gateway in its place.
    pub(super) hosts: &'a [String],
    /// Settings of the Terraform command line that lead to the gateway.
    pub(super) cli_config: &'a std::path::Path,
    /// The job.
    pub(super) job: &'a str,
    /// Whether the contract lists hosts for the egress proxy.
    pub(super) egress: bool,
}

/// The environment of a command.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Surroundings {
    set: BTreeMap<String, OsString>,
    /// Names of the variables that were there and that the command does not see.
    pub(super) removed: BTreeSet<String>,
}

impl Surroundings {
    /// Made from the names of the variables that are there, but for those that shall stay.
    pub(super) fn new(
        way: &Way<'_>,
        names: impl Iterator<Item = OsString>,
        keep: &[String],
    ) -> Self {
        let mut set = settings(way);
        // Through a proxy the token would leave this machine, in the clear.
        for name in ["NO_PROXY", "no_proxy"] {
            let before = std::env::var(name).unwrap_or_default();
            let separator = if before.is_empty() { "" } else { "," };
            set.insert(
                name.to_owned(),
                format!("{before}{separator}127.0.0.1").into(),
            );
        }
        if way.egress {
            let at = way.url.trim_start_matches("http://");
            let proxy = format!("http://clawgate:{}@{at}", way.token);
            for name in ["HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"] {
                set.insert(name.to_owned(), proxy.clone().into());
            }
        }
        let removed = names
            .filter_map(|name| name.into_string().ok())
            .filter(|name| is_credential(name) && !keep.contains(name))
            .collect();
        Self { set, removed }
    }

    /// Puts it on a command.
    pub(super) fn apply(&self, command: &mut Command) {
        for name in &self.removed {
            command.env_remove(name);
        }
        command.envs(&self.set);
    }

    /// All of it.
    pub(super) fn whole(&self) -> impl Iterator<Item = (OsString, OsString)> {
        let there = std::env::vars_os().filter(|(name, _)| {
            name.to_str()
                .is_none_or(|name| !self.removed.contains(name) && !self.set.contains_key(name))
        });
        let set = self.set.iter();
        there.chain(set.map(|(name, value)| (name.into(), value.clone())))
    }
}

fn settings(way: &Way<'_>) -> BTreeMap<String, OsString> {
    let Way { url, token, .. } = way;
    let text = [
        ("ANTHROPIC_API_KEY", (*token).to_owned()),
        ("ANTHROPIC_BASE_URL", format!("{url}/anthropic")),
        ("CLAWGATE_JOB", way.job.to_owned()),
        ("CLAWGATE_MCP", format!("{url}/mcp")),
        ("CLAWGATE_URL", (*url).to_owned()),
        ("CST", (*token).to_owned()),
        ("OPENAI_API_KEY", (*token).to_owned()),
        ("OPENAI_BASE_URL", format!("{url}/openai/v1")),
        ("TFE_ADDRESS", (*url).to_owned()),
        ("TFE_TOKEN", (*token).to_owned()),
    ];
    let mut set: BTreeMap<String, OsString> = text
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    for host in way.hosts {
        // How the CLI wants a host's name in a variable's: dots as underscores, dashes doubled.
        let host = host.replace('-', "__").replace('.', "_");
        set.insert(format!("TF_TOKEN_{host}"), token.into());
    }
    set.insert("TF_CLI_CONFIG_FILE".to_owned(), way.cli_config.into());
    set
}

/// Settings of the Terraform command line under which hosts' names lead to the gateway.
pub(super) fn cli_config(hosts: &[String], url: &str) -> String {
    let services = ["tfe.v2", "tfe.v2.1", "tfe.v2.2", "state.v2"];
    let services: String = services
        .iter()
        .map(|service| format!("    \"{service}\" = \"{url}/api/v2/\"\n"))
        .collect();
    let hosts: String = hosts
        .iter()
        .map(|host| format!("\nhost \"{host}\" {{\n  services = {{\n{services}  }}\n}}\n"))
        .collect();
    format!("disable_checkpoint = true\n{hosts}")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn hosts() -> Vec<String> {
        ["app.terraform.io", "gate.my-corp.example"]
            .map(str::to_owned)
            .to_vec()
    }

    fn way(hosts: &[String]) -> Way<'_> {
        Way {
            url: "http://127.0.0.1:9",
            token: "cst-text",
            hosts,
            cli_config: Path::new("/tmp/x/terraform.rc"),
            job: "job_1",
            egress: false,
        }
    }

    #[test]
    fn credentials_go_and_everything_else_stays() {
        let there = [
            "PATH",
            "HOME",
            "TFE_TOKEN",
            "tf_token_app_terraform_io",
            "TF_TOKEN_registry_example",
            "OPENAI_API_KEY",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_REGION",
            "CLAWGATE_CREDENTIAL",
            "GITHUB_TOKEN",
            "TF_VAR_size",
            "VAULT_TOKEN",
        ];
        let keep = ["VAULT_TOKEN".to_owned()];
        let found = Surroundings::new(&way(&hosts()), there.into_iter().map(OsString::from), &keep);
        let removed: Vec<&str> = found.removed.iter().map(String::as_str).collect();
        assert_eq!(
            removed,
            [
                "AWS_SECRET_ACCESS_KEY",
                "CLAWGATE_CREDENTIAL",
                "OPENAI_API_KEY",
                "TFE_TOKEN",
                "TF_TOKEN_registry_example",
                "tf_token_app_terraform_io",
            ]
        );
        assert_eq!(found.set["TFE_TOKEN"], "cst-text");
        assert_eq!(found.set["TF_TOKEN_gate_my__corp_example"], "cst-text");
        assert_eq!(found.set["OPENAI_BASE_URL"], "http://127.0.0.1:9/openai/v1");
        assert!(!found.set.contains_key("HTTPS_PROXY"));
    }

    #[test]
    fn the_proxy_is_named_where_the_contract_lists_hosts() {
        let hosts = hosts();
        let way = Way {
            egress: true,
            ..way(&hosts)
        };
        let found = Surroundings::new(&way, std::iter::empty(), &[]);
        for name in ["HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"] {
            assert_eq!(found.set[name], "http://clawgate:cst-text@127.0.0.1:9");
        }
        let direct = found.set["NO_PROXY"].to_str().unwrap();
        assert!(direct.ends_with("127.0.0.1"), "{direct}");
    }

    #[test]
    fn each_service_of_the_host_leads_to_the_gateway() {
        let text = cli_config(&hosts(), "http://127.0.0.1:9");
        for host in hosts() {
            assert!(text.contains(&format!("host \"{host}\" {{")), "{text}");
        }
        assert_eq!(text.matches("\"http://127.0.0.1:9/api/v2/\"").count(), 8);
    }
}
