//! Several gateways on one store.

use async_trait::async_trait;
use proof::Hash;
use proof::record::JobId;
use tokio::sync::watch;

use crate::{OpenIntent, StoreError};

/// What happened in the store by whichever gateway, as far as others know it by heart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happened {
    /// A token was revoked.
    Revoked(Hash),
    /// A job was closed.
    Closed(JobId),
    /// A contract was withdrawn.
    Withdrawn(Hash),
    /// The log has key sets up to this number.
    KeySet(u64),
    /// A gateway is not there any more, and may have left calls behind.
    GatewayGone,
    /// For seconds nobody could look: whatever is known by heart may have ended.
    CutOff,
}

/// Is told of what happens by a thread of the store; it must not wait.
pub type Follower = Box<dyn Fn(Happened) + Send + Sync>;

/// An open job with a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeasedJob {
    /// The job.
    pub job_id: JobId,
    /// The length of its lease.
    pub seconds: u32,
    /// How often its opener has renewed it.
    pub renewals: u64,
}

/// Gateways that share a store. A file has one gateway: it leads, knows everything at once, and
/// nobody else leaves anything behind.
#[async_trait]
pub trait Replicas {
    /// Whether other gateways may use the store at the same time.
    fn is_shared(&self) -> bool;

    /// Whether what is known by heart is at most a second older than the store. Whoever lets
    /// something happen because nothing is known against it asks this first.
    fn is_current(&self) -> bool;

    /// The same; when it is not, waits for the next look, up to two seconds.
    async fn become_current(&self) -> bool;

    /// Whether this gateway leads: does what one of them must do and all could. A gateway that
    /// lost the lead may not know for a moment, so that what is done under it must also be safe
    /// when it is done twice.
    fn leads(&self) -> watch::Receiver<bool>;

    /// Tells of everything from now on, after it was committed. That it [is
    /// current](Self::is_current) means that everything committed a second ago was told.
    fn follow(&self, follower: Follower);

    /// Says that this gateway signs with no key from before the key set of this number. It stands
    /// behind all that the gateway has handed to the store until now.
    async fn took_up(&self, key_set: u64) -> Result<(), StoreError>;

    /// Whether every gateway that is there has [taken up](Self::took_up) the key set of this
    /// number, or a later one.
    async fn all_took_up(&self, key_set: u64) -> Result<bool, StoreError>;

    /// Intents without an outcome of gateways that are gone: nobody else will end them.
    async fn left_behind(&self) -> Result<Vec<OpenIntent>, StoreError>;

    /// Takes a task that one gateway at a time does. False while another gateway, which is
    /// there, has it; the same gateway may take it again.
    async fn claim(&self, name: &str) -> Result<bool, StoreError>;

    /// Gives a task back.
    async fn release(&self, name: &str) -> Result<(), StoreError>;

    /// Counts one more renewal of a job's lease, for whichever gateway leads.
    async fn renew_lease(&self, job_id: &JobId) -> Result<(), StoreError>;

    /// Every open job with a lease; nothing where the gateway is alone and knows itself.
    async fn leased_jobs(&self) -> Result<Vec<LeasedJob>, StoreError>;
}
