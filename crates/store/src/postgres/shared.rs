//! What a gateway knows of the others on the same database.
//!
//! A thread with a connection of its own looks every [`EVERY`] whether any writer has committed
//! since, and only then at what has come to an end. A server that can says so sooner, by
//! `NOTIFY`; nothing depends on that.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use proof::Hash;
use tokio::sync::watch;
use tokio_postgres::Row;

use super::PostgresPlace;
use super::link::{Link, LinkError};
use super::session::speaks_notify;
use crate::{Follower, Happened, StoreError};

/// How often it is looked when nobody says anything: a fifth of the second that is promised.
const EVERY: Duration = Duration::from_millis(200);

/// What was seen counts so long: whoever decides by it decides by what was so a second ago, or
/// does not decide.
const FRESH: Duration = Duration::from_secs(1);

/// After so long without a look this gateway is cut off, whatever the look under way waits for.
/// Each has [`GIVE_UP`] at least, so it is sooner than the others count it as gone.
const CUT_OFF: Duration = Duration::from_secs(4);
const GIVE_UP: Duration = Duration::from_secs(2);

/// The channel of `NOTIFY`; what is said there is only that somebody should look.
pub(super) const CHANNEL: &str = "clawgate";

/// Shared by the writer, the looking thread and whoever asks.
pub(crate) struct Shared {
    leads: watch::Sender<bool>,
    /// When the last look that succeeded began.
    looked: watch::Sender<Instant>,
    follower: Mutex<Option<Follower>>,
}

impl Shared {
    pub(super) fn new() -> Self {
        Self {
            leads: watch::Sender::new(false),
            looked: watch::Sender::new(Instant::now()),
            follower: Mutex::default(),
        }
    }

    pub(super) fn set_leads(&self, leads: bool) {
        let changed = self
            .leads
            .send_if_modified(|now| std::mem::replace(now, leads) != leads);
        if changed && leads {
            tracing::info!("this gateway leads");
        } else if changed {
            tracing::warn!("this gateway does not lead any more");
        }
    }

    pub(crate) fn leads(&self) -> watch::Receiver<bool> {
        self.leads.subscribe()
    }

    pub(crate) fn is_current(&self) -> bool {
        self.silence() < FRESH
    }

    /// Waits for the next look, when the last one is too old; not for long.
    pub(crate) async fn become_current(&self) -> bool {
        let mut looked = self.looked.subscribe();
        let fresh = looked.wait_for(|looked| looked.elapsed() < FRESH);
        matches!(tokio::time::timeout(GIVE_UP, fresh).await, Ok(Ok(_)))
    }

    pub(crate) fn follow(&self, follower: Follower) {
        *lock(&self.follower) = Some(follower);
    }

    fn silence(&self) -> Duration {
        self.looked.borrow().elapsed()
    }

    /// Until when a look may take that begins now. One that begins late has some time yet: it is
    /// the process that stood still, perhaps, and not the database.
    fn cut_off_at(&self) -> Instant {
        let at = *self.looked.borrow() + CUT_OFF;
        at.max(Instant::now() + GIVE_UP)
    }

    fn tell(&self, news: Happened) {
        if let Some(follower) = &*lock(&self.follower) {
            follower(news);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The looking thread; it ends with this.
pub(crate) struct Looking {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Looking {
    /// Looks once, so that what was before is known, and goes on looking.
    pub(super) fn start(
        place: &PostgresPlace,
        shared: Arc<Shared>,
        commits: watch::Sender<u64>,
    ) -> Result<Self, StoreError> {
        let ended = Arc::new(AtomicBool::new(false));
        let (first, looked) = std::sync::mpsc::sync_channel(1);
        let (place, stop) = (place.clone(), Arc::clone(&ended));
        let thread = std::thread::Builder::new()
            .name("store-look".to_owned())
            .spawn(move || {
                let mut look = Look::new(place);
                let result = look.again(&shared, look.longest());
                let failed = result.is_err();
                let _ = first.send(result.map(drop));
                if !failed {
                    run(&mut look, &shared, &commits, &stop);
                }
            })
            .map_err(StoreError::unavailable)?;
        looked
            .recv()
            .map_err(StoreError::unavailable)?
            .map_err(StoreError::unavailable)?;
        Ok(Self {
            ended,
            thread: Some(thread),
        })
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        // Whoever is told may be the last that had the store, and does not wait for itself.
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

fn run(look: &mut Look, shared: &Shared, commits: &watch::Sender<u64>, ended: &AtomicBool) {
    let mut cut_off = false;
    while !ended.load(Ordering::Acquire) {
        look.wait();
        let until = match cut_off {
            true => look.longest(),
            false => shared.cut_off_at(),
        };
        match look.again(shared, until) {
            Ok(changed) => {
                if cut_off {
                    tracing::warn!("the database answers again");
                }
                cut_off = false;
                if changed {
                    commits.send_modify(|number| *number += 1);
                }
            }
            Err(error) => {
                if !cut_off && shared.silence() >= CUT_OFF {
                    cut_off = true;
                    tracing::error!(%error, "cut off from the database");
                    shared.set_leads(false);
                    shared.tell(Happened::CutOff);
                }
            }
        }
    }
}

struct Look {
    place: PostgresPlace,
    link: Option<Link>,
    listens: bool,
    is_first: bool,
    seen: Seen,
}

/// How far the store was seen and told of. It is replaced as a whole, when a look has succeeded:
/// what a look that failed has read was told to nobody, and is read again.
#[derive(Clone)]
struct Seen {
    writers: Vec<Writer>,
    revocation: i64,
    closing: i64,
    key_set: i64,
    withdrawn: HashSet<Hash>,
}

impl Look {
    fn new(place: PostgresPlace) -> Self {
        Self {
            place,
            link: None,
            listens: false,
            is_first: true,
            seen: Seen {
                writers: Vec::new(),
                revocation: 0,
                closing: -1,
                key_set: 0,
                withdrawn: HashSet::new(),
            },
        }
    }

    /// Until somebody says something, or it is time.
    fn wait(&mut self) {
        match &mut self.link {
            Some(link) if self.listens => {
                if link.notification(EVERY).is_err() {
                    self.link = None;
                    std::thread::sleep(EVERY);
                }
            }
            _ => std::thread::sleep(EVERY),
        }
    }

    /// Until when a look may take that nobody waits for: each host is tried, and then asked.
    fn longest(&self) -> Instant {
        Instant::now() + self.place.longest(GIVE_UP)
    }

    /// Looks, tells what is new, and says whether anybody has written. A connection that fails is
    /// not used again.
    fn again(&mut self, shared: &Shared, until: Instant) -> Result<bool, LinkError> {
        let mut link = match self.link.take() {
            Some(link) if !link.is_closed() => link,
            _ => self.connect(until)?,
        };
        link.wait_until(Some(until));
        let began = Instant::now();
        let changed = self.look(&mut link, shared)?;
        self.link = Some(link);
        shared.looked.send_replace(began);
        Ok(changed)
    }

    fn look(&mut self, seeing: &mut Link, shared: &Shared) -> Result<bool, LinkError> {
        if writers(seeing)? == self.seen.writers {
            return Ok(false);
        }
        let mut seen = self.seen.clone();
        seeing.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
        seen.writers = writers(seeing)?;
        let mut news = Vec::new();
        if self.is_first {
            let row = seeing.query_one(
                "SELECT (SELECT coalesce(max(id), 0) FROM revocations),
                     (SELECT coalesce(max(leaf_index), -1) FROM records WHERE kind = 'job-close')",
                &[],
            )?;
            (seen.revocation, seen.closing) = (row.try_get(0)?, row.try_get(1)?);
        } else {
            let revoked = "SELECT id, token_hash FROM revocations WHERE id > $1 ORDER BY id";
            for row in seeing.query(revoked, &[&seen.revocation])? {
                seen.revocation = row.try_get(0)?;
                news.extend(hash(row.try_get(1)?).map(Happened::Revoked));
            }
            let closed = "SELECT leaf_index, job_id FROM records JOIN jobs USING (job)
                WHERE kind = 'job-close' AND leaf_index > $1 ORDER BY leaf_index";
            for row in seeing.query(closed, &[&seen.closing])? {
                seen.closing = row.try_get(0)?;
                let job: String = row.try_get(1)?;
                news.extend(job.parse().ok().map(Happened::Closed));
            }
        }
        let last = "SELECT coalesce(max(number), 0) FROM key_sets";
        let last: i64 = seeing.query_one(last, &[])?.try_get(0)?;
        if seen.key_set < last {
            seen.key_set = last;
            news.extend(u64::try_from(last).map(Happened::KeySet));
        }
        let withdrawn = "SELECT policy_hash FROM contracts WHERE withdrawn_at IS NOT NULL";
        for row in seeing.query(withdrawn, &[])? {
            if let Some(hash) = hash(row.try_get(0)?)
                && seen.withdrawn.insert(hash)
                && !self.is_first
            {
                news.push(Happened::Withdrawn(hash));
            }
        }
        seeing.batch_execute("COMMIT")?;
        let is_there = |gone: &Writer| {
            let mut there = seen.writers.iter();
            there.any(|there| there.number == gone.number)
        };
        let mut gateways = self.seen.writers.iter().filter(|writer| writer.is_gateway);
        if gateways.any(|writer| !is_there(writer)) {
            news.push(Happened::GatewayGone);
        }
        for one in news {
            shared.tell(one);
        }
        (self.seen, self.is_first) = (seen, false);
        Ok(true)
    }

    fn connect(&mut self, until: Instant) -> Result<Link, LinkError> {
        let mut config = self.place.config.clone();
        config.connect_timeout(GIVE_UP).tcp_user_timeout(GIVE_UP);
        let mut link = Link::connect(&self.place, &config, Some(until))?;
        link.batch_execute(&format!(
            "SET statement_timeout = {}; SET client_min_messages = warning",
            GIVE_UP.as_millis()
        ))?;
        self.listens = speaks_notify(&mut link)?;
        if self.listens {
            link.batch_execute(&format!("LISTEN {CHANNEL}"))?;
        }
        Ok(link)
    }
}

/// A writer with the number of its last transaction.
#[derive(Clone, PartialEq)]
struct Writer {
    number: i64,
    batch: i64,
    is_gateway: bool,
}

fn writers(link: &mut Link) -> Result<Vec<Writer>, LinkError> {
    let rows = link.query(
        "SELECT number, batch, gateway = 1 FROM writers ORDER BY number",
        &[],
    )?;
    let writer = |row: &Row| {
        Ok(Writer {
            number: row.try_get(0)?,
            batch: row.try_get(1)?,
            is_gateway: row.try_get(2)?,
        })
    };
    rows.iter().map(writer).collect()
}

fn hash(bytes: &[u8]) -> Option<Hash> {
    Some(Hash::from_bytes(bytes.try_into().ok()?))
}
