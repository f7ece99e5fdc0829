//! Counts and hashes what passes, in both directions.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use proof::hash::Hasher;
use proof::record;
use tokio::time::Instant;

use super::super::record::Facts;

/// What has passed until now.
pub(super) struct Meter {
    started: Instant,
    flows: Mutex<Flows>,
}

struct Flows {
    up: Hasher,
    down: Hasher,
    first_down: Option<Duration>,
    moved: Instant,
}

impl Meter {
    pub(super) fn start() -> Self {
        let started = Instant::now();
        let flows = Flows {
            up: Hasher::new(),
            down: Hasher::new(),
            first_down: None,
            moved: started,
        };
        Self {
            started,
            flows: Mutex::new(flows),
        }
    }

    /// These bytes went to the other side.
    pub(super) fn up(&self, bytes: &[u8]) {
        let mut flows = self.flows();
        flows.up.update(bytes);
        flows.moved = Instant::now();
    }

    /// These bytes went to the client.
    pub(super) fn down(&self, bytes: &[u8]) {
        let mut flows = self.flows();
        flows.down.update(bytes);
        flows.moved = Instant::now();
        let since = self.started.elapsed();
        flows.first_down.get_or_insert(since);
    }

    /// Resolves when nothing has moved for so long.
    pub(super) async fn until_idle(&self, patience: Duration) {
        loop {
            let moved = self.flows().moved;
            tokio::time::sleep_until(moved + patience).await;
            if self.flows().moved == moved {
                return;
            }
        }
    }

    /// For the outcome. How it ended is the caller's to say.
    pub(super) fn facts(&self, address: Option<IpAddr>) -> Facts {
        let flows = self.flows();
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let mut facts = Facts::answered(0, b"");
        facts.status = None;
        facts.response_hash = flows.down.finish();
        facts.response_bytes = flows.down.length();
        facts.first_byte_ms = flows.first_down.map(milliseconds);
        facts.egress = Some(Box::new(record::Egress {
            address,
            sent_bytes: flows.up.length(),
            sent_hash_b64u: flows.up.finish(),
        }));
        facts
    }

    fn flows(&self) -> MutexGuard<'_, Flows> {
        self.flows.lock().expect("no panic while it is held")
    }
}
