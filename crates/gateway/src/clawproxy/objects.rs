//! Capability addresses: what the agent gets in place of upstream's signed ones.
//!
//! One purpose, one job, one holder, an expiry, and a single use for uploads. They live in
//! memory only: upstream's signed addresses are credentials, and credentials are never stored.
//! After a restart a client reads the plan or apply again and gets a new one.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex};

use policy::{ReasonCode, Refusal};
use proof::{Hash, Timestamp};

use crate::keys::random_text;
use crate::live::LiveToken;

/// Where capability addresses stand on the agent listener.
pub const PREFIX: &str = "/v1/job/objects/";

/// Most addresses at a time; the ones that end first make room.
const MAX_CAPABILITIES: usize = 20_000;

/// Most refused uploads that are remembered: a client asks within a second.
const MAX_REFUSED: usize = 1000;

/// Most addresses that one token may have at a time: far more than a client follows.
const MAX_PER_TOKEN: usize = 500;

/// Lifetime in seconds: as long as a token may live. Revocation is checked at each use anyway.
const LIFETIME_SECONDS: i64 = 3600;

/// What an address is good for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Uploading one configuration, once.
    Upload {
        /// The configuration version.
        configuration_version: String,
    },
    /// Reading the log of a plan.
    PlanLog {
        /// The plan.
        plan: String,
    },
    /// Reading the log of an apply.
    ApplyLog {
        /// The apply.
        apply: String,
        /// Its run.
        run: String,
    },
}

/// What stands behind an address.
#[derive(Clone)]
pub struct Capability {
    /// What it is good for.
    pub purpose: Purpose,
    /// The token through which it was given out: expiry, revocation and holder are its.
    pub token: Arc<LiveToken>,
    /// Upstream's signed address; a credential.
    pub upstream: String,
    /// The object's workspace.
    pub workspace: String,
    expires_at: Timestamp,
}

impl fmt::Debug for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not upstream's address: whoever reads the log would hold a credential.
        f.debug_struct("Capability")
            .field("purpose", &self.purpose)
            .finish_non_exhaustive()
    }
}

/// The addresses that are good now.
#[derive(Default)]
pub struct Capabilities {
    table: Mutex<Table>,
    /// Configuration versions whose upload is being received.
    receiving: Mutex<HashSet<String>>,
    /// Why uploads were refused lately, by configuration version, the latest last.
    refused: Mutex<VecDeque<(String, Refusal)>>,
}

/// The only upload of a configuration version at this moment; dropped when it is over.
pub struct Receiving<'a> {
    capabilities: &'a Capabilities,
    configuration_version: String,
}

impl Drop for Receiving<'_> {
    fn drop(&mut self) {
        let mut receiving = self
            .capabilities
            .receiving
            .lock()
            .expect("no panic while it is held");
        receiving.remove(&self.configuration_version);
    }
}

#[derive(Default)]
struct Table {
    by_name: HashMap<String, Capability>,
    /// The name that an object has for a token, so that polling does not fill the table.
    names: HashMap<(Hash, Purpose), String>,
    /// The names that a token has been given, oldest first.
    given: HashMap<Hash, VecDeque<String>>,
}

impl Table {
    fn remove(&mut self, name: &str) -> Option<Capability> {
        let capability = self.by_name.remove(name)?;
        let token = capability.token.hash;
        self.names.remove(&(token, capability.purpose.clone()));
        if let Some(given) = self.given.get_mut(&token) {
            given.retain(|own| own != name);
            if given.is_empty() {
                self.given.remove(&token);
            }
        }
        Some(capability)
    }

    fn insert(&mut self, name: String, capability: Capability) {
        let token = capability.token.hash;
        self.names
            .insert((token, capability.purpose.clone()), name.clone());
        self.given.entry(token).or_default().push_back(name.clone());
        self.by_name.insert(name, capability);
    }

    /// A token that has as many as it may have loses its oldest: nobody else's.
    fn make_room_for(&mut self, token: &Hash) {
        let full = self
            .given
            .get(token)
            .filter(|given| given.len() >= MAX_PER_TOKEN);
        if let Some(oldest) = full.and_then(|given| given.front().cloned()) {
            self.remove(&oldest);
        }
    }

    /// Makes room for one more: what has ended goes first, then what ends next.
    fn make_room(&mut self, now: Timestamp) {
        if self.by_name.len() < MAX_CAPABILITIES {
            return;
        }
        let ended = self
            .by_name
            .iter()
            .filter(|(_, known)| known.expires_at <= now);
        let mut leaving: Vec<String> = ended.map(|(name, _)| name.clone()).collect();
        if leaving.is_empty() {
            let next = self
                .by_name
                .iter()
                .min_by_key(|(_, known)| known.expires_at);
            leaving.extend(next.map(|(name, _)| name.clone()));
        }
        for name in leaving {
            self.remove(&name);
        }
    }
}

impl Capabilities {
    /// Gives an address for an object and returns its path. The same object keeps its address
    /// for the same token; what stands behind it is upstream's latest.
    pub fn give(
        &self,
        purpose: Purpose,
        token: &Arc<LiveToken>,
        upstream: &str,
        workspace: &str,
        now: Timestamp,
    ) -> String {
        let mut table = self.table.lock().expect("no panic while it is held");
        let table = &mut *table;
        if let Some(name) = table.names.get(&(token.hash, purpose.clone()))
            && let Some(known) = table.by_name.get_mut(name)
            && known.expires_at > now
        {
            known.upstream = upstream.to_owned();
            // The one of before may have been forgotten while the store was away.
            known.token = Arc::clone(token);
            return format!("{PREFIX}{name}");
        }
        table.make_room_for(&token.hash);
        table.make_room(now);
        let name = random_text();
        let capability = Capability {
            purpose,
            token: Arc::clone(token),
            upstream: upstream.to_owned(),
            workspace: workspace.to_owned(),
            expires_at: now.plus_seconds(LIFETIME_SECONDS),
        };
        table.insert(name.clone(), capability);
        format!("{PREFIX}{name}")
    }

    /// Leaves the addresses of a token to the one that takes its place.
    pub fn hand_over(&self, earlier: &Hash, later: &Arc<LiveToken>) {
        let mut table = self.table.lock().expect("no panic while it is held");
        let names = table.given.get(earlier).cloned().unwrap_or_default();
        for name in names {
            if let Some(mut capability) = table.remove(&name) {
                capability.token = Arc::clone(later);
                table.insert(name, capability);
            }
        }
    }

    /// Looks an address up.
    ///
    /// # Errors
    /// `CAPABILITY_UNKNOWN` for one that never was or is spent, `CAPABILITY_EXPIRED`.
    pub fn find(&self, path: &str, now: Timestamp) -> Result<Capability, Refusal> {
        let name = path
            .strip_prefix(PREFIX)
            .ok_or(ReasonCode::CapabilityUnknown)?;
        let table = self.table.lock().expect("no panic while it is held");
        let known = table
            .by_name
            .get(name)
            .ok_or(ReasonCode::CapabilityUnknown)?;
        if known.expires_at <= now {
            return Err(ReasonCode::CapabilityExpired.into());
        }
        Ok(known.clone())
    }

    /// Uses an address up.
    ///
    /// # Errors
    /// `CAPABILITY_USED` when somebody else just did.
    pub fn spend(&self, path: &str) -> Result<(), Refusal> {
        let name = path
            .strip_prefix(PREFIX)
            .ok_or(ReasonCode::CapabilityUnknown)?;
        let mut table = self.table.lock().expect("no panic while it is held");
        table
            .remove(name)
            .map(drop)
            .ok_or_else(|| ReasonCode::CapabilityUsed.into())
    }

    /// Begins an upload of a configuration version. Each token of a job has an address of its
    /// own for it; what is recorded must be what upstream got, so only one goes on.
    ///
    /// # Errors
    /// `CAPABILITY_USED` while another one is going on.
    pub fn receive(&self, configuration_version: &str) -> Result<Receiving<'_>, Refusal> {
        let mut receiving = self.receiving.lock().expect("no panic while it is held");
        if !receiving.insert(configuration_version.to_owned()) {
            return Err(ReasonCode::CapabilityUsed.into());
        }
        let configuration_version = configuration_version.to_owned();
        Ok(Receiving {
            capabilities: self,
            configuration_version,
        })
    }

    /// Remembers why an upload was refused, for a client that can be told only later. After a
    /// restart it learns that the configuration was not inspected, and not why.
    pub fn refuse(&self, configuration_version: &str, refusal: Refusal) {
        let mut refused = self.refused.lock().expect("no panic while it is held");
        if refused.len() >= MAX_REFUSED {
            refused.pop_front();
        }
        refused.push_back((configuration_version.to_owned(), refusal));
    }

    /// Why the upload of a configuration version was refused, if it was.
    pub fn refused(&self, configuration_version: &str) -> Option<Refusal> {
        let refused = self.refused.lock().expect("no panic while it is held");
        let of_this = |entry: &&(String, Refusal)| entry.0 == configuration_version;
        refused
            .iter()
            .rev()
            .find(of_this)
            .map(|(_, refusal)| refusal.clone())
    }

    /// Makes a spent address good again: its upload never reached upstream.
    pub fn restore(&self, path: &str, capability: Capability) {
        let Some(name) = path.strip_prefix(PREFIX) else {
            return;
        };
        let mut table = self.table.lock().expect("no panic while it is held");
        // Meanwhile the object may have got another address; this one is good again all the same.
        table.insert(name.to_owned(), capability);
    }
}
