//! The configuration file: one TOML document, read strictly.
//!
//! A misspelt key is an error. Secrets are never in the file: each is named by where it comes
//! from (a file, an environment variable or a command).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use proof::Did;
use serde::{Deserialize, Serialize};

use crate::secret::SecretSource;

mod egress;
mod keys;
mod log;
mod models;
mod notices;
mod oidc;
mod retention;
mod telemetry;
mod tiles;
mod vault;

pub use egress::Egress;
pub(crate) use keys::NO_MODULES;
pub use keys::{AwsKmsKey, FileKind, FilePlace, KeyPlace, KeyPlaces, Pkcs11Key, VaultKey};
pub use log::{Log, Timestamps, Witness};
pub use models::{Dialect, KeyHeader, MODEL_IN_URL, ModelProvider, Price};
pub use notices::{
    EmailChannel, NoticeChannel, NoticeEvent, SlackChannel, SmtpServer, SmtpTls, WebhookChannel,
    mailbox, safe_url,
};
pub use oidc::{Oidc, endpoint};
pub use retention::Retention;
pub use telemetry::Telemetry;
pub use tiles::{Bucket, Tiles, Writer};
pub use vault::{Conversations, Vault};

/// Everything that the operator decides.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of this gateway: the audience of its tokens and the origin of its log.
    pub gateway_id: String,
    /// Folder of the store, the keys and the sealed bundles. Relative to the file's folder.
    pub data_dir: PathBuf,
    /// Where the store is, when it is not in that folder.
    #[serde(default)]
    pub store: Storage,
    /// Where the gateway's own keys are, when they are not plain files in that folder.
    #[serde(default)]
    pub keys: KeyPlaces,
    /// Where agents connect.
    pub agent_listener: Listener,
    /// Where people connect.
    pub operator_listener: Listener,
    /// The one Terraform Cloud or Terraform Enterprise that this gateway serves.
    pub terraform_cloud: TerraformCloud,
    /// Answers to Terraform Cloud's run tasks; without it nobody may ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_tasks: Option<RunTasks>,
    /// Model providers by name.
    #[serde(default)]
    pub models: BTreeMap<String, ModelProvider>,
    /// Who may publish contracts.
    #[serde(default)]
    pub authors: Vec<Author>,
    /// Who may approve applies.
    #[serde(default)]
    pub approvers: Vec<Approver>,
    /// Rules above all contracts.
    #[serde(default)]
    pub policy: Policy,
    /// Connections to hosts that contracts list.
    #[serde(default)]
    pub egress: Egress,
    /// What is looked at beside the calls.
    #[serde(default)]
    pub watching: Watching,
    /// Where people are told of plans that wait, by name.
    #[serde(default)]
    pub notices: BTreeMap<String, NoticeChannel>,
    /// The gateway's metrics.
    #[serde(default)]
    pub metrics: Metrics,
    /// Traces and metrics for an OpenTelemetry collector; without it none are sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub telemetry: Option<Telemetry>,
    /// The reviewers' pages.
    #[serde(default)]
    pub trust_pulse: TrustPulse,
    /// People who are signed in with a browser.
    #[serde(default)]
    pub sessions: Sessions,
    /// Sign-in with OpenID Connect; without it nobody signs in that way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oidc: Option<Oidc>,
    /// Keeps content, sealed to the auditors' keys; without it none is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault: Option<Vault>,
    /// The log beyond the gateway.
    #[serde(default)]
    pub log: Log,
    /// How long content stays.
    #[serde(default)]
    pub retention: Retention,
    /// Bounds on everything that waits or grows.
    #[serde(default)]
    pub limits: Limits,
}

/// A store that is not a file in the data folder.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Storage {
    /// Address of a PostgreSQL database, such as `postgres://user:password@host:5432/name`: a
    /// secret, since it holds a password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<SecretSource>,
    /// Certificates, PEM, that the database's is verified with besides the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Obeys `sslmode=disable` in the address beyond loopback.
    pub allow_plaintext: bool,
}

/// What happens to governed workspaces outside the gateway.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Watching {
    /// Seconds between two looks at each governed workspace; 0 never looks of its own accord.
    pub poll_seconds: u64,
    /// Signs Terraform Cloud's notifications, which are taken at `/v1/notifications` of the
    /// operator listener; without it none is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notification_key: Option<SecretSource>,
}

impl Default for Watching {
    fn default() -> Self {
        Self {
            poll_seconds: 300,
            notification_key: None,
        }
    }
}

/// The gateway's metrics, `GET /metrics` on the operator listener.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// Lets everybody read them who reaches the operator listener, without a credential.
    #[serde(default)]
    pub open: bool,
}

/// The reviewers' pages.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustPulse {
    /// Serves the pages without a credential, to this machine only: for the demo.
    #[serde(default)]
    pub open: bool,
}

/// How long people stay signed in.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sessions {
    /// Seconds without a page after which somebody has to sign in again.
    pub idle_seconds: u32,
    /// Seconds after which everybody has to.
    pub max_seconds: u32,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            idle_seconds: 30 * 60,
            max_seconds: 12 * 60 * 60,
        }
    }
}

/// One listening address.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Address and port; port 0 takes a free one.
    pub address: SocketAddr,
    /// How clients write the address, when it differs: behind a name or another port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_url: Option<String>,
    /// Certificate chain and private key, both PEM; without them the listener speaks plain HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Allows plain HTTP on an address that is not loopback.
    #[serde(default)]
    pub allow_plaintext: bool,
}

/// PEM files of a listener.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Certificate chain.
    pub certificate_file: PathBuf,
    /// Private key.
    pub key_file: PathBuf,
}

/// Upstream, and one credential for each duty.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TerraformCloud {
    /// Base address, for example `https://app.terraform.io`.
    pub url: String,
    /// Hosts (`host` or `host:port`) that signed object addresses may point to, besides the
    /// host of `url`.
    #[serde(default)]
    pub object_hosts: Vec<String>,
    /// More certificate authorities to believe, PEM; for a private Terraform Enterprise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Makes the agents' calls.
    pub planner: SecretSource,
    /// Applies, discards and rolls back; used by the gateway only.
    pub executor: SecretSource,
    /// Reads full plan JSON and workspace settings.
    pub reader: SecretSource,
}

/// Terraform Cloud asks the gateway whether a run may go on.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunTasks {
    /// Signs the calls; Terraform Cloud is given the same.
    pub hmac_key: SecretSource,
    /// How Terraform Cloud writes the operator listener's address, when that differs from its
    /// `public_url`: a proxy that lets nothing else through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_url: Option<String>,
}

/// Somebody who may publish contracts.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Author {
    /// For people.
    pub name: String,
    /// The key.
    pub did: Did,
}

/// Somebody who may approve applies.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approver {
    /// As contracts name the person.
    pub email: String,
    /// The key.
    pub did: Did,
}

/// Rules above all contracts.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Lets contracts with `requires_approval: false` be published.
    #[serde(default)]
    pub allow_autonomous_apply: bool,
    /// Asks for a second author's signature where a contract allows more than the version in
    /// force.
    #[serde(default)]
    pub wider_needs_second_author: bool,
}

/// Bounds. The defaults suit one machine with a few dozen agents.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections per listener at a time.
    pub connections: usize,
    /// Connections per client address at a time.
    pub connections_per_holder: usize,
    /// Seconds in which a request's head must be complete.
    pub header_timeout_seconds: u64,
    /// Seconds in which a request's body must be complete.
    pub body_timeout_seconds: u64,
    /// Seconds that an upstream answer may take to begin.
    pub upstream_timeout_seconds: u64,
    /// Requests in a second that Terraform Cloud allows the user of each credential. A private
    /// Terraform Enterprise may allow more.
    pub upstream_requests_per_second: u32,
    /// How often a read is asked when Terraform Cloud limits the rate or fails; 1 asks once.
    pub upstream_read_attempts: u32,
    /// Largest model request, in bytes.
    pub model_body_bytes: usize,
    /// Largest configuration upload, in bytes.
    pub upload_bytes: usize,
    /// Records of one job's calls and refusals. A job that has reached it takes no more calls: its
    /// evidence must stay small enough to be sealed and verified.
    pub records_per_job: u64,
    /// What the evidence of one job's calls and refusals may take in its bundle, in bytes; the same
    /// for the same reason. Verifiers read bundles of [`proof::bundle::MAX_BYTES`].
    pub evidence_bytes_per_job: u64,
    /// Runs of one job that have not ended; the gate follows each of them.
    pub runs_per_job: u32,
    /// Model calls of one job.
    pub model_calls_per_job: CallLimits,
    /// Model calls from one agent's address, whatever the job.
    pub model_calls_per_holder: CallLimits,
    /// Seconds that running calls get to finish when the gateway stops.
    pub drain_seconds: u64,
}

/// How many calls may come; what is absent does not limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CallLimits {
    /// In a minute, also all of them at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_minute: Option<u32>,
    /// Open at the same time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_once: Option<u32>,
}

impl CallLimits {
    /// Whether there is a limit at all.
    pub fn limits(self) -> bool {
        self.per_minute.is_some() || self.at_once.is_some()
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            connections_per_holder: 512,
            header_timeout_seconds: 15,
            body_timeout_seconds: 60,
            upstream_timeout_seconds: 120,
            upstream_requests_per_second: 30,
            upstream_read_attempts: 4,
            model_body_bytes: 32 << 20,
            upload_bytes: 32 << 20,
            records_per_job: 50_000,
            // Far below what verifiers read, because reading takes several times as much memory.
            evidence_bytes_per_job: 124 << 20,
            runs_per_job: 20,
            model_calls_per_job: CallLimits::default(),
            model_calls_per_holder: CallLimits::default(),
            drain_seconds: 20,
        }
    }
}

/// Why a configuration is not used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration `{path}`; `clawgate init` writes one")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Not TOML, an unknown key, a missing one, or a value of the wrong kind.
    #[error("the configuration `{path}` is not valid:\n{message}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Line, column and reason.
        message: String,
    },
    /// A value that cannot be right.
    #[error("the configuration is not valid: {0}")]
    Value(String),
}

impl Config {
    /// Reads a file; relative paths in it are relative to its folder.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        let mut config: Self = toml::from_str(&text).map_err(|error| ConfigError::Parse {
            path: path.to_owned(),
            message: error.to_string(),
        })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        config.data_dir = folder.join(&config.data_dir);
        for listener in [&mut config.agent_listener, &mut config.operator_listener] {
            if let Some(tls) = &mut listener.tls {
                tls.certificate_file = folder.join(&tls.certificate_file);
                tls.key_file = folder.join(&tls.key_file);
            }
        }
        let upstream = &mut config.terraform_cloud;
        for source in [
            &mut upstream.planner,
            &mut upstream.executor,
            &mut upstream.reader,
        ] {
            source.resolve_against(folder);
        }
        if let Some(file) = &mut upstream.ca_file {
            *file = folder.join(&file);
        }
        config.keys.resolve_against(folder);
        if let Some(url) = &mut config.store.url {
            url.resolve_against(folder);
        }
        if let Some(file) = &mut config.store.ca_file {
            *file = folder.join(&file);
        }
        if let Some(run_tasks) = &mut config.run_tasks {
            run_tasks.hmac_key.resolve_against(folder);
        }
        if let Some(key) = &mut config.watching.notification_key {
            key.resolve_against(folder);
        }
        if let Some(oidc) = &mut config.oidc
            && let Some(secret) = &mut oidc.client_secret
        {
            secret.resolve_against(folder);
        }
        if let Some(telemetry) = &mut config.telemetry
            && let Some(secret) = &mut telemetry.token
        {
            secret.resolve_against(folder);
        }
        for channel in config.notices.values_mut() {
            channel.resolve_against(folder);
        }
        for provider in config.models.values_mut() {
            if let Some(key) = &mut provider.key {
                key.resolve_against(folder);
            }
        }
        if let Some(kept) = config
            .vault
            .as_mut()
            .and_then(|vault| vault.folder.as_mut())
        {
            *kept = folder.join(&kept);
        }
        if let Some(tiles) = &mut config.log.tiles {
            tiles.resolve_against(folder);
        }
        if let Some(timestamps) = &mut config.log.timestamps {
            timestamps.ca_file = folder.join(&timestamps.ca_file);
            timestamps.read()?;
        }
        config.check()?;
        Ok(config)
    }

    /// Refuses what cannot be right, plain HTTP beyond loopback first of all.
    ///
    /// # Errors
    /// [`ConfigError::Value`].
    pub fn check(&self) -> Result<(), ConfigError> {
        let refuse = |message: String| Err(ConfigError::Value(message));
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_/".contains(&byte);
        if self.gateway_id.is_empty() || !self.gateway_id.bytes().all(plain) {
            return refuse(format!(
                "gateway_id `{}` must be letters, digits, `.`, `-`, `_` or `/`",
                self.gateway_id
            ));
        }
        for (name, listener) in [
            ("agent_listener", &self.agent_listener),
            ("operator_listener", &self.operator_listener),
        ] {
            let loopback = listener.address.ip().is_loopback();
            if listener.tls.is_none() && !loopback && !listener.allow_plaintext {
                return refuse(format!(
                    "{name} would speak plain HTTP on {}, where tokens could be read on the way: \
                     set {name}.tls, or {name}.allow_plaintext = true when something in front of \
                     it does TLS",
                    listener.address
                ));
            }
        }
        let task_url = self.run_tasks.as_ref();
        let task_url = task_url.and_then(|settings| settings.public_url.clone());
        let task_url = task_url.map(|url| ("run_tasks.public_url", url));
        let upstream_url = ("terraform_cloud.url", self.terraform_cloud.url.clone());
        let urls = std::iter::once(upstream_url).chain(task_url).chain(
            self.models
                .values()
                .map(|provider| ("models.*.url", provider.plain_url())),
        );
        for (name, url) in urls {
            let parsed: http::Uri = url
                .parse()
                .map_err(|_| ConfigError::Value(format!("{name} `{url}` is not an address")))?;
            let local = is_local(parsed.host().unwrap_or_default());
            match parsed.scheme_str() {
                Some("https") => {}
                Some("http") if local => {}
                _ => return refuse(format!("{name} `{url}` must begin with https://")),
            }
            if url.ends_with('/') {
                return refuse(format!("{name} `{url}` must not end in a slash"));
            }
        }
        let poll = self.watching.poll_seconds;
        if poll != 0 && !(10..=86_400).contains(&poll) {
            return refuse("watching.poll_seconds must be 0 or 10 to 86400".to_owned());
        }
        let sessions = &self.sessions;
        if !(60..=sessions.max_seconds).contains(&sessions.idle_seconds)
            || sessions.max_seconds > 30 * 86_400
        {
            return refuse(
                "sessions.idle_seconds must be at least 60 and at most sessions.max_seconds, which \
                 must be at most 30 days"
                    .to_owned(),
            );
        }
        let limits = &self.limits;
        if limits.upstream_requests_per_second == 0 {
            return refuse("limits.upstream_requests_per_second must be at least 1".to_owned());
        }
        if !(1..=10).contains(&limits.upstream_read_attempts) {
            return refuse("limits.upstream_read_attempts must be 1 to 10".to_owned());
        }
        if let Some(name) = self.models.keys().find(|name| !name.bytes().all(plain)) {
            return refuse(format!("the model provider's name `{name}` must be plain"));
        }
        for (name, provider) in &self.models {
            provider.check(name, &self.models)?;
        }
        notices::check(&self.notices)?;
        self.egress.check()?;
        self.log.check()?;
        self.keys.check()?;
        self.retention.check()?;
        if let Some(oidc) = &self.oidc {
            oidc.check()?;
        }
        if let Some(telemetry) = &self.telemetry {
            telemetry.check()?;
        }
        self.vault.as_ref().map_or(Ok(()), Vault::check)
    }

    /// The store's file.
    pub fn store_file(&self) -> PathBuf {
        self.data_dir.join("clawgate.db")
    }

    /// The folder of the key files.
    pub fn keys_dir(&self) -> PathBuf {
        self.data_dir.join("keys")
    }

    /// The folder of what is sealed for auditors.
    pub fn vault_dir(&self) -> PathBuf {
        let given = self.vault.as_ref().and_then(|vault| vault.folder.clone());
        given.unwrap_or_else(|| self.data_dir.join("vault"))
    }

    /// The folder of the sealed bundles.
    pub fn bundles_dir(&self) -> PathBuf {
        self.data_dir.join("bundles")
    }
}

/// Whether a host is this very machine.
pub fn is_local(host: &str) -> bool {
    let ip = host.trim_matches(['[', ']']).parse();
    host == "localhost" || ip.is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests;
