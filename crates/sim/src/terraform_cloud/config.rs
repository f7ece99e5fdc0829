//! What a stand-in for Terraform Cloud starts with.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::engine::{Engine, Providers, lineage, seeded_state};
use crate::ids;

/// What a stand-in for Terraform Cloud starts with.
#[derive(Debug, Clone)]
pub struct TerraformCloudConfig {
    /// The only organization.
    pub organization: String,
    /// Its workspaces.
    pub workspaces: Vec<WorkspaceSeed>,
    /// Who may call.
    pub credentials: Vec<Credential>,
    /// What plans and applies.
    pub engine: Engine,
    /// Where a real engine may take providers from.
    pub providers: Providers,
    /// Whether `auto-apply` of a credential that may not apply becomes false. The vendor does so
    /// for a team that may only plan; here the default is to honour it, so that a gateway that
    /// forgets to rewrite it is caught.
    pub downgrade_auto_apply: bool,
    /// What the answers say they come from: `HCP Terraform`, or `Terraform Enterprise`.
    pub app_name: String,
    /// Whether a run's own `auto-apply` counts. The vendor's does; here it can be left out of
    /// account, so that a gateway that relies on it is caught.
    pub honour_auto_apply: bool,
    /// Requests in a second that each credential may make; `None` for no limit.
    pub requests_per_second: Option<u32>,
    /// Prices for cost estimates; without them a run has no cost estimate.
    pub prices: Option<PriceTable>,
    /// Port of the API on the loopback address; 0 takes a free one.
    pub port: u16,
}

/// Monthly prices by resource type, in millionths of a US dollar.
pub type PriceTable = BTreeMap<String, u64>;

/// A workspace to start with.
#[derive(Debug, Clone)]
pub struct WorkspaceSeed {
    /// Id with its `ws-` prefix.
    pub id: String,
    /// Name within the organization.
    pub name: String,
    /// Settings.
    pub settings: Settings,
    /// State to start with: the content of a state file.
    pub state: Option<Bytes>,
    /// Variables of the workspace.
    pub variables: Vec<VariableSeed>,
    /// The secret that stands in the state and must not leak: what a test looks for.
    pub secret: Option<String>,
}

/// A variable of a workspace.
#[derive(Clone)]
pub struct VariableSeed {
    /// Name.
    pub key: String,
    /// Value.
    pub value: String,
    /// Whether the API hides the value.
    pub sensitive: bool,
    /// `true` for an environment variable, `false` for a Terraform variable.
    pub environment: bool,
}

impl fmt::Debug for VariableSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VariableSeed")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// The settings of a workspace that matter to a gateway, named as in the vendor's API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Settings {
    /// Whether runs apply without confirmation.
    pub auto_apply: bool,
    /// Whether runs that another workspace triggers apply without confirmation.
    pub auto_apply_run_trigger: bool,
    /// `remote`, `local` or `agent`.
    pub execution_mode: ExecutionMode,
    /// Whether logs are JSON lines and the CLI renders the plan itself.
    pub structured_run_output_enabled: bool,
    /// Whether every workspace of the organization may read the state.
    pub global_remote_state: bool,
    /// Whether every workspace of the project may read the state.
    pub project_remote_state: bool,
    /// When everything in the workspace is destroyed by itself.
    pub auto_destroy_at: Option<String>,
    /// After how long without activity everything is destroyed, such as `14d`.
    pub auto_destroy_activity_duration: Option<String>,
    /// The repository whose commits start runs.
    pub vcs_repo: Option<VcsRepo>,
    /// The pool of agents that executes runs.
    pub agent_pool: Option<String>,
    /// The SSH key with which modules are fetched.
    pub ssh_key: Option<String>,
    /// Whether destroy plans are admitted.
    pub allow_destroy_plan: bool,
    /// Whether pull requests start speculative plans.
    pub speculative_enabled: bool,
    /// Whether the first run starts by itself.
    pub queue_all_runs: bool,
    /// Whether drift is looked for.
    pub assessments_enabled: bool,
    /// Whether only changes in the working directory start runs.
    pub file_triggers_enabled: bool,
    /// Version of the engine; `None` for that of the stand-in's engine.
    pub terraform_version: Option<String>,
    /// Folder within the configuration to work in.
    pub working_directory: Option<String>,
    /// Description.
    pub description: Option<String>,
}

/// A connected repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct VcsRepo {
    /// Owner and name.
    pub identifier: String,
    /// Its branch; the default one when empty.
    #[serde(default)]
    pub branch: String,
}

/// Where the runs of a workspace are executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExecutionMode {
    /// By the vendor.
    Remote,
    /// By the CLI; the vendor keeps only the state.
    Local,
    /// By an agent of the organization.
    Agent,
}

impl Default for Settings {
    /// The vendor's defaults for a new workspace.
    fn default() -> Self {
        Self {
            auto_apply: false,
            auto_apply_run_trigger: false,
            execution_mode: ExecutionMode::Remote,
            structured_run_output_enabled: true,
            global_remote_state: false,
            project_remote_state: false,
            auto_destroy_at: None,
            auto_destroy_activity_duration: None,
            vcs_repo: None,
            agent_pool: None,
            ssh_key: None,
            allow_destroy_plan: true,
            speculative_enabled: true,
            queue_all_runs: false,
            assessments_enabled: false,
            file_triggers_enabled: true,
            terraform_version: None,
            working_directory: None,
            description: None,
        }
    }
}

/// A token and what it may do.
#[derive(Clone)]
pub struct Credential {
    /// Name under which the request log knows it.
    pub name: String,
    /// The bearer token.
    pub token: String,
    /// What it may do.
    pub rights: Rights,
}

impl Credential {
    /// Makes a credential with a random token.
    pub fn random(name: &str, rights: Rights) -> Self {
        let token = format!("{}.atlasv1.{}", ids::letters(14), ids::letters(67));
        Self {
            name: name.to_owned(),
            token,
            rights,
        }
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Credential");
        debug
            .field("name", &self.name)
            .field("rights", &self.rights)
            .finish_non_exhaustive()
    }
}

/// What a credential may do, in every workspace. Everybody may read workspaces and runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rights {
    /// Upload configurations, create runs, discard and cancel.
    pub plan: bool,
    /// Confirm runs, lock and unlock, write and roll back state.
    pub apply: bool,
    /// Read full plan JSON.
    pub read_plan_json: bool,
    /// Read state versions and outputs.
    pub read_state: bool,
    /// Write variables.
    pub write_variables: bool,
    /// Create workspaces, change settings, mint tokens.
    pub administer: bool,
}

impl Rights {
    /// A planner: plans and reads state, as the vendor's plan permission does.
    pub const PLANNER: Self = Self {
        plan: true,
        read_state: true,
        ..Self::NONE
    };
    /// An executor: confirms runs and rolls back.
    pub const EXECUTOR: Self = Self {
        apply: true,
        read_state: true,
        ..Self::NONE
    };
    /// A reader: full plan JSON and settings.
    pub const READER: Self = Self {
        read_plan_json: true,
        ..Self::NONE
    };
    /// Everything.
    pub const OWNER: Self = Self {
        plan: true,
        apply: true,
        read_plan_json: true,
        read_state: true,
        write_variables: true,
        administer: true,
    };
    /// Nothing but reading workspaces and runs.
    pub const NONE: Self = Self {
        plan: false,
        apply: false,
        read_plan_json: false,
        read_state: false,
        write_variables: false,
        administer: false,
    };
}

impl TerraformCloudConfig {
    /// The organization `acme` with the workspaces `staging-app`, `staging-db` and
    /// `production-app`, each with a state that holds a secret of its own, and the credentials
    /// `planner`, `executor` and `reader` with random tokens.
    pub fn acme(engine: Engine) -> Self {
        let workspaces = vec![
            staging_app(),
            other_workspace("staging-db"),
            other_workspace("production-app"),
        ];
        let credentials = vec![
            Credential::random("planner", Rights::PLANNER),
            Credential::random("executor", Rights::EXECUTOR),
            Credential::random("reader", Rights::READER),
        ];
        Self {
            organization: "acme".to_owned(),
            workspaces,
            credentials,
            engine,
            providers: Providers::default(),
            downgrade_auto_apply: false,
            app_name: "HCP Terraform".to_owned(),
            honour_auto_apply: true,
            requests_per_second: None,
            prices: None,
            port: 0,
        }
    }

    /// Adds a credential.
    #[must_use]
    pub fn with_credential(mut self, credential: Credential) -> Self {
        self.credentials.push(credential);
        self
    }

    /// Changes the settings of a workspace, which must be there.
    #[must_use]
    pub fn with_settings(mut self, workspace_id: &str, change: impl FnOnce(&mut Settings)) -> Self {
        let seed = self
            .workspaces
            .iter_mut()
            .find(|seed| seed.id == workspace_id);
        change(
            &mut seed
                .expect("the workspace is in the configuration")
                .settings,
        );
        self
    }
}

/// The workspace of the example configuration, after its first apply.
fn staging_app() -> WorkspaceSeed {
    let secret = ids::letters(24);
    WorkspaceSeed {
        id: "ws-staging-app".to_owned(),
        name: "staging-app".to_owned(),
        settings: Settings::default(),
        state: Some(seeded_state(&secret)),
        variables: vec![VariableSeed {
            key: "database_password".to_owned(),
            value: secret.clone(),
            sensitive: true,
            environment: false,
        }],
        secret: Some(secret),
    }
}

/// A workspace whose state has one plain and one secret output.
fn other_workspace(name: &str) -> WorkspaceSeed {
    let secret = ids::letters(24);
    let state = json!({
        "version": 4,
        "terraform_version": "1.0.0",
        "serial": 1,
        "lineage": lineage(),
        "outputs": {
            "address": {"value": format!("https://{name}.acme.example"), "type": "string"},
            "admin_password": {"value": secret, "type": "string", "sensitive": true},
        },
        "resources": [],
        "check_results": null,
    });
    WorkspaceSeed {
        id: format!("ws-{name}"),
        name: name.to_owned(),
        settings: Settings::default(),
        state: Some(Bytes::from(state.to_string())),
        variables: Vec::new(),
        secret: Some(secret),
    }
}
