//! A Terraform Cloud on two loopback ports: the API, and the object store with signed URLs.

mod archivist;
mod cloud;
mod config;
mod configurations;
mod guard;
mod jsonapi;
mod lifecycle;
mod notifications;
mod operator;
mod organizations;
mod policies;
mod routes;
mod runs;
mod signed;
mod stages;
mod state_version;
mod states;
mod tasks;
mod triggers;
mod variables;
mod views;
mod workspaces;
mod world;

use std::io;
use std::sync::Arc;

use serde_json::Value;

use crate::faults::{Fault, FaultId};
use crate::listener::{Bound, Listener};
use crate::request_log::Request;
use archivist::Signer;
use cloud::Cloud;
pub use config::{
    Credential, ExecutionMode, PriceTable, Rights, Settings, TerraformCloudConfig, VariableSeed,
    VcsRepo, WorkspaceSeed,
};
pub(crate) use guard::bearer;
use policies::Policy;
pub use policies::PolicyOutcome;
pub use world::RunStatus;

/// Says that an id or a name belongs to nothing in the stand-in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no `{0}` in the stand-in")]
pub struct UnknownObject(pub String);

/// A Terraform Cloud that runs until it is shut down or dropped.
#[derive(Debug)]
pub struct TerraformCloud {
    cloud: Arc<Cloud>,
    api: Listener,
    archivist: Listener,
    work: StopWork,
    tokens: Vec<(String, String)>,
}

impl TerraformCloud {
    /// Starts on loopback ports.
    ///
    /// # Errors
    /// When a port cannot be bound.
    pub async fn start(config: TerraformCloudConfig) -> io::Result<Self> {
        let api = Bound::new(config.port).await?;
        let archivist = Bound::new(0).await?;
        let signer = Signer::new(format!("http://{}", archivist.address));
        let tokens = config
            .credentials
            .iter()
            .map(|c| (c.name.clone(), c.token.clone()))
            .collect();
        let url = format!("http://{}", api.address);
        let cloud = Arc::new(Cloud::new(config, url, signer));
        Ok(Self {
            api: api.serve(routes::router(Arc::clone(&cloud))),
            archivist: archivist.serve(archivist::router(Arc::clone(&cloud))),
            work: StopWork(Arc::clone(&cloud)),
            cloud,
            tokens,
        })
    }

    /// Address of the API, such as `http://127.0.0.1:4000`.
    pub fn url(&self) -> String {
        self.api.url()
    }

    /// Address of the object store to which signed URLs lead.
    pub fn archivist_url(&self) -> String {
        self.archivist.url()
    }

    /// The token of a credential.
    ///
    /// # Panics
    /// When the configuration had no credential of that name.
    pub fn token(&self, name: &str) -> &str {
        let found = self.tokens.iter().find(|(other, _)| other == name);
        &found.expect("the credential is in the configuration").1
    }

    /// The organization's name.
    pub fn organization(&self) -> &str {
        &self.cloud.organization
    }

    /// Names and ids of the workspaces.
    pub fn workspaces(&self) -> Vec<(String, String)> {
        let world = self.cloud.world();
        world
            .workspaces
            .values()
            .map(|w| (w.name.clone(), w.id.clone()))
            .collect()
    }

    /// The secrets that stand in the workspaces' states: what must not leak.
    pub fn secrets(&self) -> Vec<String> {
        self.cloud
            .world()
            .workspaces
            .values()
            .filter_map(|w| w.secret.clone())
            .collect()
    }

    /// What plans and applies, in a few words.
    pub fn engine(&self) -> String {
        self.cloud.engine.describe()
    }

    /// Everything that reached the API and the object store, in order.
    pub fn requests(&self) -> Vec<Request> {
        self.cloud.log.requests()
    }

    /// Waits for a request that fits, among those logged and those to come.
    pub async fn wait_for_request(&self, fits: impl Fn(&Request) -> bool) -> Request {
        self.cloud.log.wait_for(fits).await
    }

    /// Makes coming requests misbehave; `None` when too many faults are set already.
    pub fn set_fault(&self, fault: Fault) -> Option<FaultId> {
        self.cloud.faults.set(fault)
    }

    /// Lets go what a fault holds; false when there is no such fault.
    pub fn release(&self, id: &FaultId) -> bool {
        self.cloud.faults.release(id)
    }

    /// Removes every fault and lets go what they hold.
    pub fn clear_faults(&self) {
        self.cloud.faults.clear();
    }

    /// Changes the settings of a workspace.
    ///
    /// # Errors
    /// When there is no such workspace.
    pub fn change_settings(
        &self,
        workspace_id: &str,
        change: impl FnOnce(&mut Settings),
    ) -> Result<(), UnknownObject> {
        let mut world = self.cloud.world();
        let workspace = world.workspaces.get_mut(workspace_id);
        let workspace = workspace.ok_or_else(|| UnknownObject(workspace_id.to_owned()))?;
        change(&mut workspace.settings);
        Ok(())
    }

    /// The runs, oldest first, with where each is.
    pub fn runs(&self) -> Vec<(String, RunStatus)> {
        let world = self.cloud.world();
        let runs = world.runs_newest_first(None);
        runs.into_iter()
            .rev()
            .map(|run| (run.id.clone(), run.status))
            .collect()
    }

    /// Where a run is.
    ///
    /// # Errors
    /// When there is no such run.
    pub fn run_status(&self, run_id: &str) -> Result<RunStatus, UnknownObject> {
        let world = self.cloud.world();
        let run = world
            .runs
            .get(run_id)
            .ok_or_else(|| UnknownObject(run_id.to_owned()))?;
        Ok(run.status)
    }

    /// Waits until a run can be confirmed, or has ended; answers where it is then.
    ///
    /// # Errors
    /// When there is no such run.
    pub async fn wait_until_confirmable(&self, run_id: &str) -> Result<RunStatus, UnknownObject> {
        self.wait(|cloud| {
            let world = cloud.world();
            let run = world
                .runs
                .get(run_id)
                .ok_or_else(|| UnknownObject(run_id.to_owned()))?;
            Ok((run.is_confirmable() || run.status.is_final()).then_some(run.status))
        })
        .await
    }

    /// Waits until a run has ended; answers how.
    ///
    /// # Errors
    /// When there is no such run.
    pub async fn wait_until_ended(&self, run_id: &str) -> Result<RunStatus, UnknownObject> {
        self.wait(|cloud| {
            let world = cloud.world();
            let run = world
                .runs
                .get(run_id)
                .ok_or_else(|| UnknownObject(run_id.to_owned()))?;
            Ok(run.status.is_final().then_some(run.status))
        })
        .await
    }

    async fn wait<T>(
        &self,
        look: impl Fn(&Cloud) -> Result<Option<T>, UnknownObject>,
    ) -> Result<T, UnknownObject> {
        let mut changes = self.cloud.watch();
        loop {
            changes.borrow_and_update();
            if let Some(found) = look(&self.cloud)? {
                return Ok(found);
            }
            // The sender lives as long as `self`.
            let _ = changes.changed().await;
        }
    }

    /// The current state of a workspace, parsed; `None` when it has none.
    pub fn state(&self, workspace_id: &str) -> Option<Value> {
        let world = self.cloud.world();
        serde_json::from_slice(&world.current_state(workspace_id)?.content).ok()
    }

    /// What run tasks were told, token included, oldest first.
    pub fn task_calls(&self) -> Vec<Value> {
        self.cloud.world().task_calls.clone()
    }

    /// Puts another full plan in the place of a run's, as nobody should be able to.
    ///
    /// # Errors
    /// When there is no such run.
    pub fn replace_plan(&self, run_id: &str, json: Value) -> Result<(), UnknownObject> {
        let mut world = self.cloud.world();
        let run = world.runs.get_mut(run_id);
        let run = run.ok_or_else(|| UnknownObject(run_id.to_owned()))?;
        run.plan_json = Some(json.to_string().into());
        Ok(())
    }

    /// Puts another redacted plan in the place of a run's: one that was redacted badly.
    ///
    /// # Errors
    /// When there is no such run.
    pub fn replace_redacted_plan(&self, run_id: &str, json: Value) -> Result<(), UnknownObject> {
        let mut world = self.cloud.world();
        let run = world.runs.get_mut(run_id);
        let run = run.ok_or_else(|| UnknownObject(run_id.to_owned()))?;
        run.redacted_json = Some(json.to_string().into());
        Ok(())
    }

    /// The full plan of a run, parsed; `None` when there is none.
    pub fn plan(&self, run_id: &str) -> Option<Value> {
        let world = self.cloud.world();
        serde_json::from_slice(world.runs.get(run_id)?.plan_json.as_ref()?).ok()
    }

    /// The comments on a run, oldest first.
    pub fn comments(&self, run_id: &str) -> Vec<String> {
        let world = self.cloud.world();
        let comments = world.runs.get(run_id).map(|run| run.comments.as_slice());
        comments
            .unwrap_or_default()
            .iter()
            .map(|comment| comment.body.clone())
            .collect()
    }

    /// The log of a run's plan and of its apply, without framing.
    ///
    /// # Errors
    /// When there is no such run.
    pub fn logs(&self, run_id: &str) -> Result<(String, String), UnknownObject> {
        let world = self.cloud.world();
        let run = world
            .runs
            .get(run_id)
            .ok_or_else(|| UnknownObject(run_id.to_owned()))?;
        Ok((run.plan.log.text(), run.apply.log.text()))
    }

    /// Adds a policy check to a run, as if it had just been made; answers its id.
    ///
    /// # Errors
    /// When there is no such run.
    pub fn check_policy(
        &self,
        run_id: &str,
        outcome: PolicyOutcome,
        output: &str,
    ) -> Result<String, UnknownObject> {
        policies::add(&mut self.cloud.world(), run_id, outcome, output)
            .ok_or_else(|| UnknownObject(run_id.to_owned()))
    }

    /// Gives a workspace a policy: every plan from now on is checked by it, and comes to this.
    ///
    /// # Errors
    /// When there is no such workspace.
    pub fn set_policy(
        &self,
        workspace_id: &str,
        outcome: PolicyOutcome,
        output: &str,
    ) -> Result<(), UnknownObject> {
        let mut world = self.cloud.world();
        let workspace = world.workspaces.get_mut(workspace_id);
        let workspace = workspace.ok_or_else(|| UnknownObject(workspace_id.to_owned()))?;
        workspace.policy = Some(Policy {
            outcome,
            output: output.to_owned(),
        });
        Ok(())
    }

    /// Puts another text in the place of a plan's log: what a configuration made it print.
    ///
    /// # Errors
    /// When there is no such run.
    pub fn rewrite_plan_log(&self, run_id: &str, text: &str) -> Result<(), UnknownObject> {
        let world = self.cloud.world();
        let run = world
            .runs
            .get(run_id)
            .ok_or_else(|| UnknownObject(run_id.to_owned()))?;
        run.plan.log.rewrite(text.as_bytes());
        Ok(())
    }

    /// Stops all work and frees both ports; held requests are let go.
    pub async fn shutdown(self) {
        let Self {
            api,
            archivist,
            work,
            ..
        } = self;
        drop(work);
        api.shutdown().await;
        archivist.shutdown().await;
    }
}

/// Stops the work of a stand-in that goes away.
#[derive(Debug)]
struct StopWork(Arc<Cloud>);

impl Drop for StopWork {
    fn drop(&mut self) {
        self.0.stop_work();
    }
}
