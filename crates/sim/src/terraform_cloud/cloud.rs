//! What all handlers of the stand-in share.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::http::HeaderValue;
use jiff::Timestamp;
use tokio::sync::{Semaphore, watch};
use tokio::task::AbortHandle;

use super::archivist::Signer;
use super::config::{Credential, PriceTable, Rights, TerraformCloudConfig};
use super::guard::RequestLimit;
use super::state_version::StateVersion;
use super::world::{Lock, Variable, Workspace, World};
use crate::engine::{Engine, Providers};
use crate::faults::Faults;
use crate::ids;
use crate::request_log::RequestLog;

/// How many plans and applies may run at the same time.
const WORKERS: usize = 2;

/// The stand-in behind its listeners.
#[derive(Debug)]
pub(crate) struct Cloud {
    /// Address of the API.
    pub(crate) url: String,
    pub(crate) organization: String,
    pub(crate) engine: Engine,
    pub(crate) providers: Providers,
    pub(crate) prices: Option<PriceTable>,
    pub(crate) downgrade_auto_apply: bool,
    pub(crate) app_name: HeaderValue,
    pub(crate) honour_auto_apply: bool,
    pub(crate) limit: Option<RequestLimit>,
    pub(crate) signer: Signer,
    pub(crate) log: RequestLog,
    pub(crate) faults: Faults,
    pub(crate) workers: Semaphore,
    pub(crate) started_at: Timestamp,
    credentials: Mutex<Vec<Arc<Credential>>>,
    world: Mutex<World>,
    changes: watch::Sender<u64>,
    tasks: Mutex<Vec<AbortHandle>>,
}

impl Cloud {
    pub(crate) fn new(config: TerraformCloudConfig, url: String, signer: Signer) -> Self {
        let mut world = World::default();
        let now = Timestamp::now();
        for seed in config.workspaces {
            let workspace = Workspace {
                id: seed.id.clone(),
                name: seed.name,
                settings: seed.settings,
                created_at: now,
                updated_at: now,
                lock: Lock::Free,
                current_state: None,
                current_run: None,
                latest_configuration: None,
                queue: std::collections::VecDeque::new(),
                variables: seed
                    .variables
                    .into_iter()
                    .map(|seed| Variable {
                        id: ids::id("var"),
                        key: seed.key,
                        value: seed.value,
                        description: None,
                        environment: seed.environment,
                        hcl: false,
                        sensitive: seed.sensitive,
                    })
                    .collect(),
                tags: Vec::new(),
                consumers: Default::default(),
                tasks: Vec::new(),
                policy: None,
                secret: seed.secret,
            };
            world.workspaces.insert(seed.id.clone(), workspace);
            if let Some(state) = seed.state {
                // A seed that is no state leaves the workspace without one.
                if let Some(state) = StateVersion::new(&mut world, &seed.id, "seed", state) {
                    world.add_state(state);
                }
            }
        }
        Self {
            url,
            organization: config.organization,
            engine: config.engine,
            providers: config.providers,
            prices: config.prices,
            downgrade_auto_apply: config.downgrade_auto_apply,
            app_name: HeaderValue::from_str(&config.app_name)
                .unwrap_or(HeaderValue::from_static("HCP Terraform")),
            honour_auto_apply: config.honour_auto_apply,
            limit: config.requests_per_second.map(RequestLimit::new),
            signer,
            log: RequestLog::new(),
            faults: Faults::default(),
            workers: Semaphore::new(WORKERS),
            started_at: now,
            credentials: Mutex::new(config.credentials.into_iter().map(Arc::new).collect()),
            world: Mutex::new(world),
            changes: watch::Sender::new(0),
            tasks: Mutex::default(),
        }
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world
            .lock()
            .expect("no thread panics while it holds the world")
    }

    /// Tells those who wait that a run has moved.
    pub(crate) fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Gives a receiver that sees every later change.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Starts work that ends with the stand-in.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let handle = tokio::spawn(work).abort_handle();
        let mut tasks = self
            .tasks
            .lock()
            .expect("no thread panics while it holds the tasks");
        tasks.retain(|task| !task.is_finished());
        tasks.push(handle.clone());
        handle
    }

    /// Stops all work; engines that run are killed.
    pub(crate) fn stop_work(&self) {
        self.workers.close();
        self.faults.clear();
        let tasks = self
            .tasks
            .lock()
            .expect("no thread panics while it holds the tasks");
        tasks.iter().for_each(AbortHandle::abort);
    }

    pub(crate) fn credential_with_token(&self, token: &str) -> Option<Arc<Credential>> {
        self.credentials()
            .iter()
            .find(|credential| credential.token == token)
            .cloned()
    }

    /// What the bearer of a stage's token may do: read what its stage is about, nothing else. The
    /// answer to the stage asks for the token itself.
    pub(crate) fn stage_credential(&self, token: &str, path: &str) -> Option<Arc<Credential>> {
        let world = self.world();
        let token = world.stage_tokens.get(token)?;
        let run = world.runs.get(&token.run_id)?;
        let configuration = format!(
            "/api/v2/configuration-versions/{}/download",
            run.configuration_id
        );
        let plan = format!("/api/v2/plans/{}/json-output", run.plan.id);
        let rights = Rights {
            plan: path == configuration,
            read_plan_json: path == plan,
            ..Rights::NONE
        };
        token.serves(Timestamp::now()).then(|| {
            Arc::new(Credential {
                name: "stage".to_owned(),
                token: String::new(),
                rights,
            })
        })
    }

    /// Adds a credential that was minted over the API; false when there are too many.
    pub(crate) fn add_credential(&self, credential: Credential) -> bool {
        const MOST_CREDENTIALS: usize = 1_000;
        let mut credentials = self.credentials();
        let room = credentials.len() < MOST_CREDENTIALS;
        if room {
            credentials.push(Arc::new(credential));
        }
        room
    }

    fn credentials(&self) -> MutexGuard<'_, Vec<Arc<Credential>>> {
        self.credentials
            .lock()
            .expect("no thread panics while it holds the credentials")
    }
}
