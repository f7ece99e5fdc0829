//! Builds a gateway from its configuration, takes up what the last one left, and serves.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use store::{Seat, Store, StoreError, kill_point};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::app::{App, now};
use crate::approvals::Gate;
use crate::bundles::file;
use crate::clawproxy;
use crate::clawproxy::body::Room;
use crate::clawproxy::egress::{Egress, Resolve, SystemResolver};
use crate::clawproxy::model::Providers;
use crate::config::{Config, Tiles};
use crate::keys::{self, Keys};
use crate::notices::{self, Notices};
use crate::oidc::Oidc;
use crate::prompts::{self, Prompts};
use crate::run_tasks::RunTasks;
use crate::server::{Body, Bound};
use crate::storage::{self, Place};
use crate::tlog::stamps::Stamper;
use crate::tlog::witnesses::Witnesses;
use crate::tlog::{self, Publication, TlogError};
use crate::upstream::{Upstream, http_client};
use crate::vault::conversations::Conversations;
use crate::vault::{Bounds, Held, Vault, VaultError};
use crate::watching::{self, Watching};
use crate::{bundles, leases, operator, replicas, telemetry};

/// Bytes of JSON bodies of Terraform calls that may be held at a time; each is far smaller.
const BODY_BYTES: usize = 64 << 20;

/// Uploads that are unpacked at a time: each may take eight times the limit of a packed one.
const UPLOADS_AT_A_TIME: usize = 4;

/// Uploads of the largest size that may be held at a time, smaller ones in proportion. Whoever
/// sends slowly holds what has come, and keeps nobody else from sending.
const LARGEST_UPLOADS: usize = 8;

/// A gateway that serves.
pub struct Running {
    /// What it shares.
    pub app: Arc<App>,
    /// How agents write its address.
    pub agent_url: String,
    /// How people write it.
    pub operator_url: String,
    /// Where the operator listener listens.
    pub operator_address: SocketAddr,
    stop: watch::Sender<bool>,
    listeners: Vec<JoinHandle<()>>,
    tellers: Vec<JoinHandle<()>>,
}

/// Starts a gateway; it serves when this returns.
///
/// The order matters: the ports are taken first, so that a second gateway on the same machine
/// fails before it touches the store; calls that a crash interrupted are settled before the
/// first new one is taken.
///
/// # Errors
/// When the configuration, a key, a credential, the store or a port cannot be used.
pub async fn start(config: Config) -> anyhow::Result<Running> {
    let place = Place::of(&config).await?;
    let name = place.name();
    // It may wait for a gateway that is just ending, which may be one in this process.
    let opening = async {
        let opened = tokio::task::spawn_blocking(move || place.open(Seat::Gateway));
        opened.await.expect("opening a store does not panic")
    };
    start_at(config, &name, opening, Arc::new(SystemResolver)).await
}

/// As [`start`], with a store in the data folder that is opened in another way, and names that are
/// looked up in another way.
///
/// # Errors
/// Those of [`start`].
pub async fn start_with(
    config: Config,
    open_store: impl FnOnce(&Path) -> Result<Arc<dyn Store>, StoreError>,
    resolver: Arc<dyn Resolve>,
) -> anyhow::Result<Running> {
    let file = config.store_file();
    let place = file.display().to_string();
    start_at(config, &place, async { open_store(&file) }, resolver).await
}

async fn start_at(
    mut config: Config,
    place: &str,
    opening: impl Future<Output = Result<Arc<dyn Store>, StoreError>>,
    resolver: Arc<dyn Resolve>,
) -> anyhow::Result<Running> {
    config.check()?;
    if let Some(timestamps) = &mut config.log.timestamps {
        timestamps.read()?;
    }
    let agents = Bound::bind(&config.agent_listener).await?;
    let people = Bound::bind(&config.operator_listener).await?;
    let client = http_client(&config)?;
    let keys = Keys::open(&config, &client)
        .await
        .context("cannot use the gateway's keys; `clawgate init` makes those that are files")?;
    let opened = opening.await;
    let store = opened.with_context(|| format!("cannot open the store `{place}`"))?;
    kill_point!("start.opened");
    let keys = keys::open(keys, &*store, &config.keys_dir(), now())
        .await
        .context("cannot take up the gateway's keys")?;
    let held = Held::of(&store);
    let vault = open_vault(&config, &held)?;
    let conversations = Conversations::open(&config, &held)?;
    let prompts = Prompts::open(&config.data_dir).context("cannot open the folder of prompts")?;
    let upstream = Upstream::connect(&config, client.clone())
        .await
        .context("cannot fetch a Terraform Cloud credential")?;
    let models = Providers::connect(&config, client.clone())
        .await
        .context("cannot fetch a model provider's key")?;
    let run_tasks = RunTasks::connect(&config)
        .await
        .context("cannot fetch run_tasks.hmac_key")?;
    let watching = Watching::connect(&config)
        .await
        .context("cannot fetch watching.notification_key")?;
    let notices = Notices::connect(&config, client.clone()).await?;
    let telemetry = telemetry::connect(&config, client.clone())
        .await
        .context("cannot fetch telemetry.token")?;
    let (telemetry, exporter) = telemetry.unzip();
    let witnesses = Witnesses::of(&config, client.clone());
    let stamper = Stamper::of(&config, client.clone());
    let place = tlog::Place::of(&config, &client)
        .await
        .context("cannot fetch the credentials of log.tiles")?;
    let place = Arc::new(place);
    let (agent_url, operator_url) = (agents.url.clone(), people.url.clone());
    let oidc = Oidc::connect(&config, client, &operator_url)
        .await
        .context("cannot fetch oidc.client_secret")?;
    let operator_address = people.address()?;
    let egress = Egress::new(
        &config,
        vec![agents.address()?, operator_address],
        [&agent_url, &operator_url],
        resolver,
    );
    let app = Arc::new(App {
        keys,
        store,
        recording: Default::default(),
        metrics: Default::default(),
        telemetry,
        started: now(),
        live: Default::default(),
        upstream,
        models,
        capabilities: Default::default(),
        egress,
        bodies: Room::new(BODY_BYTES),
        uploads: Room::new(LARGEST_UPLOADS * config.limits.upload_bytes),
        upload_slots: Arc::new(Semaphore::new(UPLOADS_AT_A_TIME)),
        activity: Default::default(),
        vault,
        conversations,
        held,
        prompts: Arc::new(prompts),
        workspaces: Default::default(),
        sensitive: Default::default(),
        leases: Default::default(),
        gate: Gate::default(),
        watching,
        notices,
        run_tasks,
        streams: Default::default(),
        sign_ins: Default::default(),
        oidc,
        published: Default::default(),
        witnesses,
        stamper,
        pending: Default::default(),
        publication: Publication::of(&config),
        sign_in_challenges: Default::default(),
        agent_url: agent_url.clone(),
        operator_url: operator_url.clone(),
        draining: AtomicBool::new(false),
        stopping: Default::default(),
        config,
    });
    if let Some(published) = place.as_ref() {
        go_on_from(&app, published).await?;
    }
    let left = replicas::follow(&app);
    settle(&app).await?;
    if let Some(exporter) = exporter {
        tokio::spawn(exporter.run(Arc::downgrade(&app)));
    }
    let (stop, stopping) = watch::channel(false);
    let tellers = notices::start(&app, &stopping);
    let listeners = vec![
        serve_agents(agents, &app, &stopping),
        serve_people(people, &app, &stopping),
        tokio::spawn(prompts::forget_in_time(Arc::clone(&app), stopping.clone())),
        tokio::spawn(replicas::while_leading(
            Arc::clone(&app),
            stopping.clone(),
            move |app, stopping| tlog::publish(app, Arc::clone(&place), stopping),
        )),
        tokio::spawn(replicas::while_leading(
            Arc::clone(&app),
            stopping.clone(),
            move |app, stopping| replicas::lead(app, Arc::clone(&left), stopping),
        )),
        tokio::spawn(keys::follow(Arc::clone(&app), stopping.clone())),
        tokio::spawn(bundles::complete(Arc::clone(&app), stopping.clone())),
        tokio::spawn(replicas::weigh(Arc::clone(&app), stopping.clone())),
        tokio::spawn(watching::watch(Arc::clone(&app), stopping)),
        tokio::spawn(sweep(Arc::clone(&app))),
    ];
    Ok(Running {
        app,
        agent_url,
        operator_url,
        operator_address,
        stop,
        listeners,
        tellers,
    })
}

/// Refuses a store that is older than what was published of its log: a gateway that goes on from it
/// would write a second version of the log.
async fn go_on_from(app: &App, published: &tlog::Place) -> anyhow::Result<()> {
    match tlog::compare(&*app.store, &app.config, &app.keys.now(), published).await {
        Err(TlogError::Forked(why)) => anyhow::bail!(
            "the store and the published log (log.tiles) are not of one log: {why}. Was an old \
             backup restored? Bring back the newer store; if it is lost, what it had recorded \
             since is lost, and the log goes on under another `gateway_id` and in another place"
        ),
        // A place that cannot be read is tried again while the gateway runs.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Where inspected uploads are kept, when they are.
fn open_vault(config: &Config, held: &Held) -> Result<Option<Arc<Vault>>, VaultError> {
    let Some(kept) = config.vault.as_ref().filter(|vault| vault.uploads) else {
        return Ok(None);
    };
    let folder = config.vault_dir();
    let vault = Vault::open(&kept.recipients, &folder, Bounds::of_uploads(kept))?.with_holds(held);
    vault.sweep()?;
    Ok(Some(Arc::new(vault)))
}

/// Settles what a crash interrupted. A call whose end nobody saw ends as `unknown`; runs are
/// read again and go on from where they stand; closed jobs that were not sealed are sealed. Where
/// other gateways may be at work, the one that leads does so ([`replicas::lead`]).
async fn settle(app: &Arc<App>) -> anyhow::Result<()> {
    if app.store.is_shared() {
        return Ok(());
    }
    loop {
        let open = app.store.open_intents().await?;
        if open.is_empty() {
            break;
        }
        for intent in open {
            replicas::end_unknown(app, intent).await?;
            kill_point!("start.ended");
        }
    }
    kill_point!("start.settled");
    bundles::resume(app).await?;
    kill_point!("start.sealed");
    app.gate.resume(app).await?;
    leases::resume(app).await?;
    kill_point!("start.resumed");
    Ok(())
}

/// Removes what killed processes left half-written, in the folders of bundles, of the published log
/// and of the data. Nobody waits for it.
async fn sweep(app: Arc<App>) {
    let swept = tokio::task::spawn_blocking(move || {
        let config = &app.config;
        let mut swept = file::sweep(&config.bundles_dir())?;
        if let Some(Tiles::Folder(folder)) = &config.log.tiles {
            swept += file::sweep(folder)?;
        }
        std::io::Result::Ok(swept + storage::sweep_backups(&config.data_dir)?)
    });
    match swept.await {
        Ok(Ok(0)) => {}
        Ok(Ok(files)) => tracing::info!(files, "removed what a crash had left half-written"),
        Ok(Err(error)) => tracing::warn!(%error, "what a crash left half-written is still there"),
        Err(error) => tracing::error!(%error, "the search for half-written files ended"),
    }
}

fn serve_agents(bound: Bound, app: &Arc<App>, stopping: &watch::Receiver<bool>) -> JoinHandle<()> {
    let (app, stopping) = (Arc::clone(app), stopping.clone());
    tokio::spawn(async move {
        let limits = app.config.limits.clone();
        let handler = move |request, peer| clawproxy::serve(Arc::clone(&app), request, peer);
        bound.serve(&limits, stopping, handler).await;
    })
}

fn serve_people(bound: Bound, app: &Arc<App>, stopping: &watch::Receiver<bool>) -> JoinHandle<()> {
    use hyper::service::Service;
    let (app, stopping) = (Arc::clone(app), stopping.clone());
    tokio::spawn(async move {
        let limits = app.config.limits.clone();
        let router = operator::router(app);
        let service = hyper_util::service::TowerToHyperService::new(router);
        let handler = move |mut request: http::Request<hyper::body::Incoming>, peer| {
            request
                .extensions_mut()
                .insert(axum::extract::ConnectInfo::<std::net::SocketAddr>(peer));
            let answer = service.call(request);
            async move {
                let response = answer.await.unwrap_or_else(|never| match never {});
                response.map(|body| {
                    use http_body_util::BodyExt;
                    Body::new(body.map_err(Into::into))
                })
            }
        };
        bound.serve(&limits, stopping, handler).await;
    })
}

impl Running {
    /// Stops taking calls, lets running ones finish, and returns.
    pub async fn stop(self) {
        self.app.draining.store(true, Ordering::Release);
        self.app.stopping.notify_waiters();
        self.stop.send_replace(true);
        for listener in self.listeners {
            if listener.await.is_err() {
                tracing::error!("a listener ended by a panic");
            }
        }
        // Calls whose clients have left still have their ends to record.
        let drain = std::time::Duration::from_secs(self.app.config.limits.drain_seconds);
        let run_tasks = async {
            if let Some(run_tasks) = &self.app.run_tasks {
                run_tasks.stop(drain).await;
            }
        };
        let (calls, (), (), (), ()) = tokio::join!(
            tokio::time::timeout(drain, self.app.models.idle()),
            self.app.egress.stop(drain),
            self.app.gate.stop(drain),
            run_tasks,
            notices::stop(self.tellers, drain),
        );
        if calls.is_err() {
            tracing::warn!("model calls were still running; they end as unknown");
        }
        if let Some(conversations) = &self.app.conversations {
            conversations.stop(drain).await;
        }
        if let Some(telemetry) = &self.app.telemetry {
            telemetry.flush().await;
        }
    }
}
