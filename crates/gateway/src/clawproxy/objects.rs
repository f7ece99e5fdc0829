//! Capability addresses: what the agent gets in place of upstream's signed ones.
//!
//! One purpose, one job, one holder, an expiry, and a single use for uploads. They live in
//! memory only: upstream's signed addresses are credentials, and credentials are never stored.
//! After a restart a client reads the plan or apply again and gets a new one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use policy::{ReasonCode, Refusal};
use proof::Timestamp;

use crate::keys::random_text;
use crate::live::LiveToken;

/// Where capability addresses stand on the agent listener.
pub const PREFIX: &str = "/v1/job/objects/";

/// Most addresses at a time; the ones that end first make room.
const MAX_CAPABILITIES: usize = 20_000;

/// Lifetime in seconds: as long as a token may live. Revocation is checked at each use anyway.
const LIFETIME_SECONDS: i64 = 3600;

/// What an address is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
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

/// The addresses that are good now.
#[derive(Default)]
pub struct Capabilities {
    by_name: Mutex<HashMap<String, Capability>>,
}

impl Capabilities {
    /// Makes an address and returns its path. The same object for the same token keeps its
    /// address while upstream's stays the same, so that polling does not fill the table.
    pub fn give(
        &self,
        purpose: Purpose,
        token: &Arc<LiveToken>,
        upstream: &str,
        workspace: &str,
        now: Timestamp,
    ) -> String {
        let mut by_name = self.by_name.lock().expect("no panic while it is held");
        let known = by_name.iter_mut().find(|(_, known)| {
            known.purpose == purpose && known.token.hash == token.hash && known.expires_at > now
        });
        if let Some((name, known)) = known {
            known.upstream = upstream.to_owned();
            return format!("{PREFIX}{name}");
        }
        if by_name.len() >= MAX_CAPABILITIES {
            by_name.retain(|_, known| known.expires_at > now);
        }
        if by_name.len() >= MAX_CAPABILITIES {
            let first = by_name.iter().min_by_key(|(_, known)| known.expires_at);
            if let Some(name) = first.map(|(name, _)| name.clone()) {
                by_name.remove(&name);
            }
        }
        let name = random_text();
        let capability = Capability {
            purpose,
            token: Arc::clone(token),
            upstream: upstream.to_owned(),
            workspace: workspace.to_owned(),
            expires_at: now.plus_seconds(LIFETIME_SECONDS),
        };
        by_name.insert(name.clone(), capability);
        format!("{PREFIX}{name}")
    }

    /// Looks an address up.
    ///
    /// # Errors
    /// `OBJECT_UNKNOWN` for one that never was, is spent or has ended.
    pub fn find(&self, path: &str, now: Timestamp) -> Result<Capability, Refusal> {
        let name = path.strip_prefix(PREFIX).ok_or(ReasonCode::ObjectUnknown)?;
        let by_name = self.by_name.lock().expect("no panic while it is held");
        let found = by_name.get(name).filter(|known| known.expires_at > now);
        Ok(found.ok_or(ReasonCode::ObjectUnknown)?.clone())
    }

    /// Uses an address up.
    ///
    /// # Errors
    /// `OBJECT_UNKNOWN` when somebody else just did.
    pub fn spend(&self, path: &str) -> Result<(), Refusal> {
        let name = path.strip_prefix(PREFIX).ok_or(ReasonCode::ObjectUnknown)?;
        let mut by_name = self.by_name.lock().expect("no panic while it is held");
        by_name.remove(name).map(drop).ok_or_else(|| ReasonCode::ObjectUnknown.into())
    }
}
