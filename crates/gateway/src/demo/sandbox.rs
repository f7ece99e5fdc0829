//! A whole installation on loopback: simulators, gateway, contract, job and token.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use policy::Contract;
use proof::record::JobId;
use proof::{Envelope, EnvelopeType, Hash, SigningKey};
use serde_json::json;
use sim::{
    Credential, Engine, ModelProvider, ModelProviderConfig, Rights, TerraformCloud,
    TerraformCloudConfig,
};

use crate::app::{App, now};
use crate::clawscope::{Issuer, TokenRequest};
use crate::config::{
    Approver, Author, Config, Dialect, KeyPlaces, Limits, Listener,
    ModelProvider as ConfiguredProvider, Policy, RunTasks, Sessions,
    TerraformCloud as ConfiguredCloud, TrustPulse, Watching,
};
use crate::jobs::{ContractChoice, Opener};
use crate::keys::{self, Keys, random_key, random_text};
use crate::run_tasks::attachment::{Administrator, Mode, Wanted};
use crate::secret::{Secret, SecretSource};
use crate::start::{Running, start};
use crate::{bundles, clawcontrols, clawscope, jobs};

/// Name of the operator whom the sandbox acts as.
pub const OPERATOR: &str = "sandbox";

/// The person behind it, who is none of the approvers.
const OPERATOR_EMAIL: &str = "operator@example.com";

/// Name of the simulator's credential that the gateway does not have.
const OUTSIDE: &str = "owner";

/// Longest token of the sandbox, in seconds: the runbook's thirty minutes.
const TOKEN_SECONDS: u32 = 1800;

/// A running installation.
pub struct Sandbox {
    /// The simulated Terraform Cloud.
    pub cloud: TerraformCloud,
    /// The simulated model provider.
    pub provider: ModelProvider,
    /// The gateway.
    pub gateway: Running,
    /// Where everything is kept.
    pub folder: PathBuf,
    /// The approvers with their keys, in the contract's order.
    pub approvers: Vec<Person>,
    /// The contract, byte for byte.
    pub contract: Vec<u8>,
    /// Its hash.
    pub policy_hash: Hash,
    /// The open job.
    pub job_id: JobId,
    /// The agent's token.
    pub cst: String,
    /// The operator's credential.
    pub operator_token: String,
}

/// Somebody with a key.
pub struct Person {
    /// The e-mail address.
    pub email: String,
    /// The private key.
    pub key: SigningKey,
    /// The file that holds it.
    pub key_file: PathBuf,
}

impl Sandbox {
    /// Sets everything up in `folder`, under the runbook's contract or another one.
    ///
    /// # Errors
    /// When the contract may not be published, or something cannot be started.
    pub async fn start(
        folder: &Path,
        contract: Option<&Path>,
        engine: Engine,
    ) -> anyhow::Result<Self> {
        let contract = contract_text(contract)?;
        Self::start_on(folder, contract, TerraformCloudConfig::acme(engine), |_| {}).await
    }

    /// The same with the contract's text, another Terraform Cloud and changes to the gateway's
    /// configuration, which is otherwise complete: what an integration test needs.
    ///
    /// # Errors
    /// As [`Sandbox::start`].
    pub async fn start_on(
        folder: &Path,
        contract: Vec<u8>,
        cloud: TerraformCloudConfig,
        change: impl FnOnce(&mut Config),
    ) -> anyhow::Result<Self> {
        keys::make_private_folder(folder)?;
        let folder = folder.canonicalize()?;
        let parsed = Contract::parse(&contract)
            .map_err(|errors| anyhow::anyhow!("the contract is not valid:\n{errors}"))?;
        // A token that nobody gave to the gateway: for looking at the simulator from outside, and
        // for showing what a stolen one could do.
        let outside = Credential::random(OUTSIDE, Rights::OWNER);
        let cloud = TerraformCloud::start(cloud.with_credential(outside)).await?;
        let models = ModelProviderConfig {
            any_model: true,
            ..ModelProviderConfig::default()
        };
        let provider = ModelProvider::start(models).await?;
        let author = person(&folder, "author", "platform-team")?;
        let approvers = parsed
            .permissions
            .apply
            .approvers
            .iter()
            .enumerate()
            .map(|(n, email)| match n {
                0 => person(&folder, "approver", email.as_str()),
                n => person(&folder, &format!("approver-{}", n + 1), email.as_str()),
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        let mut config = configuration(&folder, &cloud, &provider, &author, &approvers)?;
        change(&mut config);
        if let Some(RunTasks {
            hmac_key: SecretSource::File(file),
            ..
        }) = &config.run_tasks
        {
            write_private(file, random_text().as_bytes())?;
        }
        fs::write(
            folder.join("clawgate.toml"),
            toml::to_string_pretty(&config)?,
        )?;
        Keys::create(&config.keys_dir())?;
        let gateway = start(config).await?;
        install_run_tasks(&folder, &gateway, &cloud, &parsed).await?;
        let operator_token = add_operator(&gateway.app, &folder).await?;
        let policy_hash = publish(&gateway.app, &contract, &author.key).await?;
        let issuer = Issuer::of(&gateway.app);
        let choice = ContractChoice::Hash(policy_hash);
        let opener = Opener {
            operator: OPERATOR,
            email: Some(OPERATOR_EMAIL),
        };
        let job = jobs::open(
            issuer,
            opener,
            "resize staging",
            choice,
            Default::default(),
            now(),
        )
        .await?;
        let cst = mint(&gateway.app, &job.job_id, &parsed).await?;
        Ok(Self {
            cloud,
            provider,
            gateway,
            folder,
            approvers,
            contract,
            policy_hash,
            job_id: job.job_id,
            cst,
            operator_token,
        })
    }

    /// Writes the files by which anybody can try their own client, `connection.json` last.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write_connection(&self) -> anyhow::Result<PathBuf> {
        let file = |name: &str| self.folder.join(name);
        fs::write(file("wpc.json"), &self.contract)?;
        let app = &self.gateway.app;
        // Nobody has enrolled a passkey yet.
        let trust = bundles::trust_root(&app.config, &app.keys.now(), &[]);
        fs::write(file("trust.json"), serde_json::to_vec_pretty(&trust)?)?;
        let agent = &self.gateway.agent_url;
        fs::write(file("terraform.rc"), sim::example_cli_config(agent))?;
        let folder = file("configuration");
        fs::create_dir_all(&folder)?;
        // With the change that the demo's model proposes, so that there is something to plan.
        let change = sim::example_change();
        for (name, text) in sim::example_configuration() {
            fs::write(folder.join(name), text.replace(change.from, change.to))?;
        }
        let approver =
            |person: &Person| json!({"email": person.email, "key_file": person.key_file});
        let workspaces: serde_json::Map<_, _> = self
            .cloud
            .workspaces()
            .into_iter()
            .map(|(name, id)| (name, id.into()))
            .collect();
        let connection = json!({
            "agent": { "url": agent, "cst": self.cst, "job_id": self.job_id },
            "operator": { "url": self.gateway.operator_url, "token": self.operator_token },
            "terraform_cloud": {
                "url": self.cloud.url(),
                "token": self.cloud.token(OUTSIDE),
                "organization": self.cloud.organization(),
                "workspaces": workspaces,
                "engine": self.cloud.engine(),
            },
            "models": {
                "openai": format!("{agent}/openai/v1"),
                "anthropic": format!("{agent}/anthropic"),
                "url": self.provider.url(),
            },
            "approver": self.approvers.first().map(approver),
            "approvers": self.approvers.iter().map(approver).collect::<Vec<_>>(),
            "contract": { "file": file("wpc.json"), "policy_hash_b64u": self.policy_hash },
            "trust_root_file": file("trust.json"),
            "terraform_cli_config": file("terraform.rc"),
            "configuration": folder,
        });
        let path = file("connection.json");
        write_private(&path, &serde_json::to_vec_pretty(&connection)?)?;
        Ok(path)
    }
}

/// Has Terraform Cloud ask the gateway, when it is set up for that, in every workspace of the
/// contract that is there.
async fn install_run_tasks(
    folder: &Path,
    gateway: &Running,
    cloud: &TerraformCloud,
    contract: &Contract,
) -> anyhow::Result<()> {
    let config = &gateway.app.config;
    let Some(settings) = &config.run_tasks else {
        return Ok(());
    };
    let there = cloud.workspaces();
    let named = contract.permissions.workspaces.iter();
    let workspaces: Vec<_> = named
        .filter(|id| there.iter().any(|(_, known)| known == id.as_str()))
        .cloned()
        .collect();
    let administrator = Administrator {
        upstream: &gateway.app.upstream,
        credential: &Secret::new(cloud.token(OUTSIDE).to_owned()),
    };
    let wanted = Wanted::at(config, &gateway.operator_url);
    let key = settings.hmac_key.fetch().await?;
    administrator
        .install(&wanted, &key, &workspaces, true, Mode::Act)
        .await?;
    // The port was not known before; `clawgate tasks` and doctor want to know it.
    let mut config = config.clone();
    if let Some(settings) = &mut config.run_tasks {
        settings.public_url = Some(gateway.operator_url.clone());
    }
    fs::write(
        folder.join("clawgate.toml"),
        toml::to_string_pretty(&config)?,
    )?;
    Ok(())
}

/// Has Terraform Cloud ask this gateway: a change for [`Sandbox::start_on`], which makes the key.
pub fn with_run_tasks(config: &mut Config) {
    config.run_tasks = Some(RunTasks {
        hmac_key: SecretSource::File(config.data_dir.join("run-task.key")),
        public_url: None,
    });
}

/// The text of a contract's file; the runbook's without one.
///
/// # Errors
/// When the file cannot be read.
pub fn contract_text(file: Option<&Path>) -> anyhow::Result<Vec<u8>> {
    match file {
        Some(path) => {
            fs::read(path).with_context(|| format!("cannot read the contract `{}`", path.display()))
        }
        None => Ok(policy::EXAMPLE_CONTRACT.as_bytes().to_vec()),
    }
}

/// Makes a key file, or uses the one of an earlier start.
fn person(folder: &Path, name: &str, email: &str) -> anyhow::Result<Person> {
    let key_file = folder.join(format!("{name}.key"));
    if !key_file.exists() {
        keys::write_key(&key_file, &random_key())?;
    }
    let key = keys::read_key(&key_file)?;
    Ok(Person {
        email: email.to_owned(),
        key,
        key_file,
    })
}

fn configuration(
    folder: &Path,
    cloud: &TerraformCloud,
    provider: &ModelProvider,
    author: &Person,
    approvers: &[Person],
) -> anyhow::Result<Config> {
    let secrets = folder.join("secrets");
    keys::make_private_folder(&secrets)?;
    let secret = |name: &str, text: &str| -> anyhow::Result<SecretSource> {
        let path = secrets.join(name);
        write_private(&path, text.as_bytes())?;
        Ok(SecretSource::File(path))
    };
    let listener = || Listener {
        address: ([127, 0, 0, 1], 0).into(),
        public_url: None,
        tls: None,
        allow_plaintext: false,
    };
    let host = |url: String| url.trim_start_matches("http://").to_owned();
    let model = |dialect| -> anyhow::Result<ConfiguredProvider> {
        let url = format!("{}/v1", provider.url());
        let key = secret("model", provider.key())?;
        Ok(ConfiguredProvider::new(dialect, url, Some(key)))
    };
    let config = Config {
        gateway_id: "clawgate.sandbox".to_owned(),
        data_dir: folder.join("data"),
        store: Default::default(),
        agent_listener: listener(),
        operator_listener: listener(),
        terraform_cloud: ConfiguredCloud {
            url: cloud.url(),
            object_hosts: vec![host(cloud.archivist_url())],
            ca_file: None,
            planner: secret("planner", cloud.token("planner"))?,
            executor: secret("executor", cloud.token("executor"))?,
            reader: secret("reader", cloud.token("reader"))?,
        },
        run_tasks: None,
        log: Default::default(),
        retention: Default::default(),
        models: [
            ("openai".to_owned(), model(Dialect::Openai)?),
            ("anthropic".to_owned(), model(Dialect::Anthropic)?),
        ]
        .into(),
        authors: vec![Author {
            name: author.email.clone(),
            did: author.key.did(),
        }],
        approvers: approvers
            .iter()
            .map(|person| Approver {
                email: person.email.clone(),
                did: person.key.did(),
            })
            .collect(),
        oidc: None,
        vault: None,
        policy: Policy::default(),
        egress: Default::default(),
        watching: Watching {
            poll_seconds: 0,
            notification_key: Some(secret("notifications", &keys::random_text())?),
        },
        notices: Default::default(),
        metrics: Default::default(),
        keys: KeyPlaces::default(),
        telemetry: None,
        trust_pulse: TrustPulse { open: true },
        sessions: Sessions::default(),
        limits: Limits {
            drain_seconds: 5,
            // The stand-in has no limit unless it is given one.
            upstream_requests_per_second: 1000,
            ..Limits::default()
        },
    };
    keys::make_private_folder(&config.data_dir)?;
    Ok(config)
}

/// Replaces a file that only its owner may read.
fn write_private(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    if path.exists() {
        fs::remove_file(path)?;
    }
    Ok(keys::write_private(path, content)?)
}

async fn add_operator(app: &App, folder: &Path) -> anyhow::Result<String> {
    let token = format!("clawop_{}", random_text());
    // An earlier start in the same folder had a credential of its own.
    app.store.remove_operator(OPERATOR).await?;
    let operator = store::OperatorRow {
        name: OPERATOR.to_owned(),
        email: Some(OPERATOR_EMAIL.to_owned()),
        token_hash: Hash::of(token.as_bytes()),
        roles: vec!["admin".to_owned()],
        created_at: now(),
    };
    app.store.add_operator(operator).await?;
    write_private(&folder.join("operator.credential"), token.as_bytes())?;
    Ok(token)
}

async fn publish(app: &App, contract: &[u8], author: &SigningKey) -> anyhow::Result<Hash> {
    let payload: serde_json::Value = serde_json::from_slice(contract)?;
    let envelope = Envelope::sign(EnvelopeType::WorkPolicyContract, &payload, author, now())?;
    match clawcontrols::publish(&*app.store, &app.config, OPERATOR, envelope, now()).await {
        Ok(publication) => Ok(publication.policy_hash),
        Err(clawcontrols::PublishError::Blocked(issues)) => {
            let list: Vec<String> = issues
                .iter()
                .map(|issue| format!("- {}: {}", issue.path, issue.message))
                .collect();
            bail!("the contract may not be published:\n{}", list.join("\n"))
        }
        Err(error) => Err(error.into()),
    }
}

/// Mints a token as long as the contract and the sandbox allow.
///
/// # Errors
/// When the job is closed.
pub async fn mint(app: &Arc<App>, job: &JobId, contract: &Contract) -> anyhow::Result<String> {
    let ttl_seconds = Some(contract.max_ttl_seconds.min(TOKEN_SECONDS));
    let request = TokenRequest {
        ttl_seconds,
        ..TokenRequest::default()
    };
    let issued = clawscope::issue(Issuer::of(app), OPERATOR, job, request, now()).await?;
    Ok(issued.text.to_string())
}
