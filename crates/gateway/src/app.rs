//! Everything that a running gateway shares.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use proof::Timestamp;
use store::Store;
use tokio::sync::{Notify, Semaphore};

use crate::activity::Activity;
use crate::approvals::Gate;
use crate::bundles::Pending;
use crate::clawproxy::body::Room;
use crate::clawproxy::egress::Egress;
use crate::clawproxy::model::Providers;
use crate::clawproxy::objects::Capabilities;
use crate::clawproxy::record::Recording;
use crate::clawproxy::terraform::sensitive::Sensitive;
use crate::clawproxy::terraform::workspaces::Workspaces;
use crate::config::Config;
use crate::keys::KeyRing;
use crate::leases::Leases;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::notices::Notices;
use crate::oidc::Oidc;
use crate::operator::Places;
use crate::operator::attempts::Attempts;
use crate::operator::streaming::Streams;
use crate::passkeys::challenge::SignInChallenges;
use crate::prompts::Prompts;
use crate::run_tasks::RunTasks;
use crate::telemetry::Telemetry;
use crate::tlog::Publication;
use crate::tlog::stamps::Stamper;
use crate::tlog::witnesses::Witnesses;
use crate::upstream::Upstream;
use crate::vault::conversations::Conversations;
use crate::vault::{Held, Vault};
use crate::watching::Watching;

/// The running gateway. Cheap to share: everything in it is behind an `Arc` of the whole.
pub struct App {
    /// What the operator decided.
    pub config: Config,
    /// The gateway's own keys.
    pub keys: KeyRing,
    /// The durable truth.
    pub store: Arc<dyn Store>,
    /// Whether the store takes records at present.
    pub recording: Recording,
    /// What calls leave behind, for those who measure.
    pub metrics: Metrics,
    /// Where spans go, when the operator wants that.
    pub telemetry: Option<Telemetry>,
    /// When the process began to serve.
    pub started: Timestamp,
    /// What is known without asking the store.
    pub live: Live,
    /// Terraform Cloud, with its three credentials.
    pub upstream: Upstream,
    /// Model providers, with their keys.
    pub models: Providers,
    /// Addresses that we gave out in place of upstream's signed ones.
    pub capabilities: Capabilities,
    /// Connections to hosts that contracts list.
    pub egress: Egress,
    /// The memory that the JSON bodies of Terraform calls share.
    pub bodies: Room,
    /// The memory that uploads share.
    pub uploads: Room,
    /// Bounds how many uploads are unpacked at a time.
    pub upload_slots: Arc<Semaphore>,
    /// What jobs are doing, for those who watch.
    pub activity: Activity,
    /// Keeps what was uploaded, when the operator wants that.
    pub vault: Option<Arc<Vault>>,
    /// Keeps what is said to models and by them, when the operator wants that.
    pub conversations: Option<Arc<Conversations>>,
    /// What vaults keep because a job is held.
    pub held: Held,
    /// What agents asked models before their runs, where contracts let approvers see it.
    pub prompts: Arc<Prompts>,
    /// What upstream says about the contracts' workspaces.
    pub workspaces: Workspaces,
    /// What plans mark as sensitive.
    pub sensitive: Arc<Sensitive>,
    /// Closes jobs whose openers are gone.
    pub leases: Leases,
    /// Waits for plans, asks people, applies.
    pub gate: Gate,
    /// Sees what happens to governed workspaces outside the gateway.
    pub watching: Watching,
    /// Tells people of plans that wait.
    pub notices: Notices,
    /// Answers Terraform Cloud's run tasks, when they are configured.
    pub run_tasks: Option<RunTasks>,
    /// Answers of the operator listener that go on.
    pub streams: Streams,
    /// Attempts to sign in that failed.
    pub sign_ins: Mutex<Attempts>,
    /// Sign-in with OpenID Connect, when it is configured.
    pub oidc: Option<Oidc>,
    /// Places for answers to those who follow links to published jobs.
    pub published: Places,
    /// Cosign checkpoints of the log, when there are any.
    pub witnesses: Option<Witnesses>,
    /// Stamps checkpoints of the log, when somebody does.
    pub stamper: Option<Stamper>,
    /// Bundles that wait for others.
    pub pending: Pending,
    /// How publishing the log stands.
    pub publication: Publication,
    /// Challenges of sign-ins by passkey.
    pub sign_in_challenges: SignInChallenges,
    /// How agents write our address, without a slash at the end.
    pub agent_url: String,
    /// How people write it.
    pub operator_url: String,
    /// Set when the gateway stops: readiness answers no, running calls finish.
    pub draining: AtomicBool,
    /// Told right after that: who merely waits answers now.
    pub stopping: Notify,
}

impl App {
    /// The time, by the machine's clock.
    pub fn now(&self) -> Timestamp {
        now()
    }
}

/// The time, by the machine's clock.
pub fn now() -> Timestamp {
    let elapsed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let millis = i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millis(millis.saturating_add(store::points::clock_jump_ms()))
}
