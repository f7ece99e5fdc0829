//! What happens to governed workspaces outside the gateway, where no contract is asked.
//!
//! The gateway cannot keep a person with an upstream account from clicking apply, from turning
//! auto-apply on or from pushing a state. It can see it, say so, and show it to whoever approves
//! there. It looks at each workspace that a contract in use names, now and then and whenever a
//! [`notification`] tells that something happened ([`look`]); what is new is kept for ever, and
//! [`settings`] are compared with those that a person has accepted.
//!
//! Two neighbours belong here because they read the same: how far an apply [`reach`]es beyond its
//! workspace, and whether a workspace's settings let runs be made at all ([`execution`]).

pub mod execution;
pub mod look;
pub mod notification;
pub mod reach;
pub mod settings;
mod words;

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use http::{Method, StatusCode};
use policy::{Contract, ReasonCode, Refusal};
use proof::{Json, Numbers, Timestamp};
use store::{JobFilter, JobPhase, Observation, Store, StoreError};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::app::App;
use crate::clawcontrols;
use crate::clawproxy::body::Room;
use crate::config::Config;
use crate::secret::{Secret, SecretError};
use crate::upstream::Duty;

pub use words::{Kind, in_words, says};

/// Most open jobs whose contracts count; the most that the store gives at once.
const MAX_OPEN_JOBS: u32 = 1000;

/// Workspaces that may wait for a look that somebody asked for.
const MAX_WAITING: usize = 512;

/// Bytes of notifications that may be held at a time.
const BODY_BYTES: usize = 1 << 20;

/// How a look came about.
const BY_POLLING: &str = "poll";
const BY_NOTIFICATION: &str = "notification";

/// The state of watching.
#[derive(Debug)]
pub struct Watching {
    /// Signs notifications; without it none is taken.
    key: Option<Secret>,
    bodies: Room,
    waiting: Mutex<BTreeSet<String>>,
    told: Notify,
    writes: Mutex<Writes>,
}

/// State versions that we are about to write ourselves.
#[derive(Debug, Default)]
struct Writes {
    begun: u64,
    running: u32,
}

/// A state version that we write; dropped when it is known which one it is.
#[derive(Debug)]
pub struct OwnWrite<'a>(&'a Watching);

impl Drop for OwnWrite<'_> {
    fn drop(&mut self) {
        self.0.writes().running -= 1;
    }
}

impl Watching {
    /// Fetches the key of the notifications, when the configuration names one.
    ///
    /// # Errors
    /// When it is not to be had.
    pub async fn connect(config: &Config) -> Result<Self, SecretError> {
        let key = match &config.watching.notification_key {
            Some(source) => Some(source.fetch().await?),
            None => None,
        };
        Ok(Self {
            key,
            bodies: Room::new(BODY_BYTES),
            waiting: Mutex::default(),
            told: Notify::new(),
            writes: Mutex::default(),
        })
    }

    /// Asks for a look at a workspace. Asking twice is asking once.
    pub fn look_soon(&self, workspace_id: &str) {
        let mut waiting = self.waiting.lock().expect("no panic while it is held");
        if waiting.len() < MAX_WAITING {
            waiting.insert(workspace_id.to_owned());
        }
        drop(waiting);
        self.told.notify_one();
    }

    /// Says that a state version is about to be written by us, until the answer is dropped.
    pub fn own_write(&self) -> OwnWrite<'_> {
        let mut writes = self.writes();
        writes.begun += 1;
        writes.running += 1;
        drop(writes);
        OwnWrite(self)
    }

    /// How many writes of ours have begun; `None` while one is running.
    fn writes_begun(&self) -> Option<u64> {
        let writes = self.writes();
        (writes.running == 0).then_some(writes.begun)
    }

    fn writes(&self) -> MutexGuard<'_, Writes> {
        self.writes.lock().expect("no panic while it is held")
    }

    fn take_waiting(&self) -> BTreeSet<String> {
        std::mem::take(&mut *self.waiting.lock().expect("no panic while it is held"))
    }
}

/// Keeps which state version a rollback of ours has made, so that no look takes it for somebody
/// else's.
///
/// # Errors
/// When the store cannot write.
pub async fn note_rollback(
    app: &App,
    workspace_id: &str,
    state_version: &str,
    operator: &str,
) -> Result<(), StoreError> {
    let mut detail = Json::object();
    detail.set("operator", operator);
    let own = Observation {
        at: app.now(),
        workspace_id: workspace_id.to_owned(),
        kind: Kind::RolledBack.as_str().to_owned(),
        subject: state_version.to_owned(),
        detail,
        source: "gateway".to_owned(),
        once: true,
    };
    app.store.observe(vec![own]).await.map(drop)
}

/// The contracts that agents work under now, or can: the version in force of each name, and those
/// of open jobs.
///
/// # Errors
/// When the store cannot be read.
pub async fn contracts_in_use(store: &dyn Store) -> Result<Vec<Contract>, StoreError> {
    let in_force = clawcontrols::contracts_in_force(store).await?;
    let mut hashes: BTreeSet<_> = in_force
        .into_iter()
        .map(|row| row.contract.policy_hash)
        .collect();
    let open = JobFilter {
        phase: Some(JobPhase::Open),
        before: None,
        limit: MAX_OPEN_JOBS,
        ..JobFilter::default()
    };
    let jobs = store.jobs(open).await?;
    hashes.extend(jobs.into_iter().map(|job| job.policy_hash));
    let mut contracts = Vec::new();
    for hash in hashes {
        let row = store.contract(&hash).await?;
        let contract = row.and_then(|row| Contract::from_json(row.contract.envelope.payload).ok());
        contracts.extend(contract);
    }
    Ok(contracts)
}

/// Ids of the governed workspaces: those that a contract in use names.
///
/// # Errors
/// When the store cannot be read.
pub async fn governed(store: &dyn Store) -> Result<BTreeSet<String>, StoreError> {
    let contracts = contracts_in_use(store).await?;
    let ids = contracts
        .iter()
        .flat_map(|contract| &contract.permissions.workspaces);
    Ok(ids.map(|id| id.as_str().to_owned()).collect())
}

/// Looks at governed workspaces until the gateway stops: one after the other, so that watching
/// never has more than one call at upstream. What a notification asked for goes first.
pub async fn watch(app: Arc<App>, mut stopping: watch::Receiver<bool>) {
    tokio::select! {
        _ = stopping.wait_for(|stop| *stop) => {}
        () = look_for_ever(&app) => {}
    }
}

async fn look_for_ever(app: &Arc<App>) {
    let interval = Duration::from_secs(app.config.watching.poll_seconds);
    let polls = !interval.is_zero();
    let mut round: VecDeque<String> = VecDeque::new();
    let mut next_round = Instant::now();
    loop {
        let told = app.watching.take_waiting();
        for id in told {
            // Only now is it certain that the look begins after what it was told of.
            try_look(app, &id, BY_NOTIFICATION).await;
        }
        if polls && round.is_empty() && Instant::now() >= next_round {
            next_round = Instant::now() + interval;
            // Of several gateways one looks by itself; each looks when it is told.
            if !app.leads() {
                continue;
            }
            match governed(&*app.store).await {
                Ok(ids) => round.extend(ids),
                Err(error) => tracing::warn!(%error, "the governed workspaces cannot be read"),
            }
        }
        if let Some(id) = round.pop_front() {
            try_look(app, &id, BY_POLLING).await;
            continue;
        }
        let told = app.watching.told.notified();
        if polls {
            let _ = tokio::time::timeout_at(next_round, told).await;
        } else {
            told.await;
        }
    }
}

async fn try_look(app: &Arc<App>, workspace_id: &str, source: &'static str) {
    match look::look(app, workspace_id, source).await {
        Ok(_) => {}
        Err(refusal) => {
            tracing::warn!(%refusal, workspace = workspace_id, "a workspace could not be looked at");
        }
    }
}

/// Reads a document of upstream's. `None` when the credential cannot see it.
async fn read(app: &App, duty: Duty, target: &str) -> Result<Option<Json>, Refusal> {
    let answer = app.upstream.call(duty, Method::GET, target, None).await;
    let answer = answer.map_err(|error| {
        tracing::warn!(%error, "upstream failed");
        error.refusal()
    })?;
    match answer.status {
        StatusCode::NOT_FOUND | StatusCode::FORBIDDEN => Ok(None),
        StatusCode::UNAUTHORIZED => Err(ReasonCode::UpstreamUnauthorized.into()),
        status if status.is_success() => proof::json::parse(&answer.body, Numbers::Any)
            .map(Some)
            .map_err(|_| ReasonCode::UpstreamGarbage.into()),
        status => Err(Refusal::new(
            ReasonCode::UpstreamUnavailable,
            format!("upstream answered {}", status.as_u16()),
        )),
    }
}

/// A time as upstream writes it.
fn time(text: &str) -> Option<Timestamp> {
    let time: jiff::Timestamp = text.parse().ok()?;
    Some(Timestamp::from_millis(time.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use proof::{Envelope, EnvelopeType, SigningKey};
    use store::ContractVersion;

    use super::*;

    #[tokio::test]
    async fn the_newest_version_that_stands_names_what_is_watched() {
        let store = store::open_sqlite_in_memory().unwrap();
        let author = SigningKey::from_seed(&[1; 32]);
        let at = Timestamp::from_millis;
        let mut hashes = Vec::new();
        for (n, workspace) in [(1, "ws-first"), (2, "ws-second"), (3, "ws-third")] {
            let text = policy::EXAMPLE_CONTRACT.replace("ws-staging-db", workspace);
            let contract = Contract::parse(text.as_bytes()).unwrap();
            let kind = EnvelopeType::WorkPolicyContract;
            let envelope = Envelope::sign(kind, contract.json(), &author, at(n));
            hashes.push(contract.hash());
            let version = ContractVersion {
                second_envelope: None,
                policy_hash: contract.hash(),
                name: contract.name.clone(),
                envelope: envelope.unwrap(),
                author_did: author.did(),
                published_at: at(n),
                published_by: "ada".into(),
            };
            store.publish(version).await.unwrap();
        }
        for (withdrawn, watched) in [
            (None, Some("ws-third")),
            (Some(2), Some("ws-second")),
            (Some(0), Some("ws-second")),
            (Some(1), None),
        ] {
            if let Some(n) = withdrawn {
                store.withdraw(&hashes[n], "ada", at(9)).await.unwrap();
            }
            let ids = governed(&*store).await.unwrap();
            let expected = watched.map(|id| BTreeSet::from([id, "ws-staging-app"]));
            let ids: BTreeSet<_> = ids.iter().map(String::as_str).collect();
            assert_eq!(ids, expected.unwrap_or_default(), "{withdrawn:?}");
        }
    }
}
