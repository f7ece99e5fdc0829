//! What the gateway knows about contracts, jobs and tokens without asking the store.
//!
//! A token is verified once and then found by its hash; what can change (revoked, closed,
//! withdrawn) is set here by the operator's action before its answer goes out, so that the next
//! call sees it, and open streams watch it. What another gateway on the same store did is set here
//! when that is told of ([`crate::replicas`]).

use std::collections::{HashMap, HashSet};
use std::hash::Hash as MapKey;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock};

use policy::{CompiledContract, Contract, ReasonCode};
use proof::record::JobId;
use proof::token::Claims;
use proof::{Did, Hash, Timestamp};
use tokio::sync::watch;

use crate::clawproxy::weight;
use crate::config::Limits;

/// Most tokens that are kept; the oldest knowledge is dropped and read again when needed.
const MAX_TOKENS: usize = 50_000;

/// Most runs of one job that are remembered as named; all are forgotten then.
const MAX_NAMED: usize = 1000;

/// A contract, ready to decide.
#[derive(Debug)]
pub struct LiveContract {
    /// Its hash.
    pub hash: Hash,
    /// The document.
    pub contract: Contract,
    /// Its decision table.
    pub compiled: CompiledContract,
    /// Set once when it is withdrawn: no new tokens, no more calls; streams watch it.
    withdrawn: watch::Sender<bool>,
}

impl LiveContract {
    /// A contract that is ready to decide.
    pub fn new(contract: Contract, withdrawn: bool) -> Self {
        Self {
            hash: contract.hash(),
            compiled: CompiledContract::compile(&contract),
            contract,
            withdrawn: watch::Sender::new(withdrawn),
        }
    }

    /// Whether no more calls are made under it.
    pub fn is_withdrawn(&self) -> bool {
        *self.withdrawn.borrow()
    }

    /// Nothing is done under it any more: the next call is refused, open streams are cut.
    pub fn withdraw(&self) {
        self.withdrawn.send_replace(true);
    }
}

/// A job that was open when it was looked up.
#[derive(Debug)]
pub struct LiveJob {
    /// Its id.
    pub id: JobId,
    /// Its own key's name.
    pub agent_did: Did,
    /// What it is for.
    pub name: String,
    /// The contract that holds.
    pub contract: Arc<LiveContract>,
    /// Held while a run is being made, so that a repeated request waits for the first.
    pub creating_run: tokio::sync::Mutex<()>,
    /// Runs that the agent has called by their ids.
    named_runs: Mutex<HashSet<String>>,
    /// How many records it has, at least.
    records: AtomicU64,
    /// What they take in its bundle, in bytes, with what calls under way may add at most.
    bytes: AtomicU64,
    /// The time of its latest record, in milliseconds, as far as it is known here.
    latest: AtomicI64,
    /// Set once when it ends; streams watch it.
    ended: watch::Sender<Option<ReasonCode>>,
}

/// A verified token.
#[derive(Debug)]
pub struct LiveToken {
    /// SHA-256 of its text.
    pub hash: Hash,
    /// The same in hexadecimal, as records have it.
    pub hash_hex: String,
    /// What it grants.
    pub claims: Claims,
    /// Its scopes as texts, as decisions and records have them.
    pub scopes: Vec<String>,
    /// Its job.
    pub job: Arc<LiveJob>,
    /// The key that signed it; not known of those from before key sets.
    pub signed_by: Option<Did>,
    /// Whom it was bound to at first use.
    pub holder: OnceLock<String>,
    /// How often it was refused for its own sake: revoked, expired, in the wrong hands.
    refused: AtomicU64,
    /// Set once when it is revoked.
    ended: watch::Sender<Option<ReasonCode>>,
}

impl LiveJob {
    /// A job that is open.
    pub fn open(id: JobId, agent_did: Did, name: String, contract: Arc<LiveContract>) -> Self {
        let ended = watch::Sender::new(None);
        Self {
            id,
            agent_did,
            name,
            contract,
            creating_run: tokio::sync::Mutex::new(()),
            named_runs: Mutex::default(),
            records: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            latest: AtomicI64::new(i64::MIN),
            ended,
        }
    }

    /// Whether it has as many records as a job may have, or as many bytes of evidence: records of
    /// calls count when the calls begin.
    pub fn is_full(&self, limits: &Limits) -> bool {
        self.records.load(Ordering::Relaxed) >= limits.records_per_job
            || self.bytes.load(Ordering::Relaxed) >= limits.evidence_bytes_per_job
    }

    /// Counts records that are about to be written, and the bytes of all of them.
    pub fn count(&self, records: u64, bytes: u64) {
        let bytes = bytes.saturating_add(records.saturating_mul(weight::BESIDES));
        self.records.fetch_add(records, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A record of it bears this time.
    pub fn wrote_at(&self, at: Timestamp) {
        self.latest.fetch_max(at.millis(), Ordering::Relaxed);
    }

    /// The time that a record of it would bear now: a job's time does not run backwards, also when
    /// the clock has jumped ahead and come back.
    pub fn time(&self, now: Timestamp) -> Timestamp {
        let latest = self.latest.load(Ordering::Relaxed);
        Timestamp::from_millis(now.millis().max(latest))
    }

    /// Whether it is known here to have so many records.
    pub fn knows_of(&self, records: u64) -> bool {
        self.records.load(Ordering::Relaxed) >= records
    }

    /// It has so many records and bytes by now, by whichever gateway.
    pub fn has_at_least(&self, records: u64, bytes: u64) {
        self.records.fetch_max(records, Ordering::Relaxed);
        let bytes = bytes.saturating_add(records.saturating_mul(weight::BESIDES));
        self.bytes.fetch_max(bytes, Ordering::Relaxed);
    }

    /// Counts a call that begins: its intent, and the largest outcome that it can have.
    pub fn begin_call(self: Arc<Self>, intent: u64, most_of_outcome: u64) -> Underway {
        self.count(2, intent + most_of_outcome);
        Underway {
            job: self,
            outcome: most_of_outcome,
        }
    }

    /// Remembers that the agent called a run by its id: it got the answer that told it.
    pub fn name_run(&self, run_id: &str) {
        let mut named = self.named_runs.lock().expect("no panic while it is held");
        if named.len() >= MAX_NAMED && !named.contains(run_id) {
            named.clear();
        }
        named.insert(run_id.to_owned());
    }

    /// Whether the agent is known to know of a run. Forgotten with a restart, which is the safe
    /// side: a repeated request is then taken for the same.
    pub fn has_named(&self, run_id: &str) -> bool {
        let named = self.named_runs.lock().expect("no panic while it is held");
        named.contains(run_id)
    }

    /// Why the job takes no more calls, if so.
    pub fn ended(&self) -> Option<ReasonCode> {
        *self.ended.borrow()
    }
}

impl LiveToken {
    /// A verified token that is not revoked.
    pub fn new(
        hash: Hash,
        claims: Claims,
        job: Arc<LiveJob>,
        signed_by: Option<Did>,
        holder: Option<String>,
    ) -> Self {
        let slot = OnceLock::new();
        if let Some(holder) = holder {
            let _ = slot.set(holder);
        }
        let scopes = claims.scope.iter().cloned().map(String::from).collect();
        let ended = watch::Sender::new(None);
        Self {
            hash,
            hash_hex: hash.to_hex(),
            claims,
            scopes,
            job,
            signed_by,
            holder: slot,
            refused: AtomicU64::new(0),
            ended,
        }
    }

    /// Counts a refusal for the token's own sake and tells how many there have been before.
    pub fn count_refused(&self) -> u64 {
        self.refused.fetch_add(1, Ordering::Relaxed)
    }

    /// Why the token is not good any more, apart from its expiry.
    pub fn ended(&self) -> Option<ReasonCode> {
        let withdrawn = self.job.contract.is_withdrawn();
        self.ended
            .borrow()
            .or_else(|| self.job.ended())
            .or(withdrawn.then_some(ReasonCode::ContractWithdrawn))
    }

    /// Resolves when the token is revoked, its job ends or its contract is withdrawn: a stream is
    /// then cut.
    pub async fn until_ended(&self) -> ReasonCode {
        let mut token = self.ended.subscribe();
        let mut job = self.job.ended.subscribe();
        let mut contract = self.job.contract.withdrawn.subscribe();
        // The senders live as long as `self`, so no wait can fail.
        let reason = tokio::select! {
            reason = token.wait_for(Option::is_some) => reason.map(|reason| *reason),
            reason = job.wait_for(Option::is_some) => reason.map(|reason| *reason),
            gone = contract.wait_for(|gone| *gone) => {
                gone.map(|_| Some(ReasonCode::ContractWithdrawn))
            }
        };
        reason.ok().flatten().unwrap_or(ReasonCode::TokenRevoked)
    }
}

/// A call under way, counted with the largest outcome that it can have until it has ended.
#[derive(Debug)]
pub struct Underway {
    job: Arc<LiveJob>,
    outcome: u64,
}

impl Underway {
    /// The call has ended, with an outcome of so many bytes.
    pub fn end(self, outcome: u64) {
        self.job.bytes.fetch_add(outcome, Ordering::Relaxed);
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.job.bytes.fetch_sub(self.outcome, Ordering::Relaxed);
    }
}

/// The three maps.
#[derive(Debug, Default)]
pub struct Live {
    tokens: RwLock<HashMap<Hash, Arc<LiveToken>>>,
    jobs: RwLock<HashMap<JobId, Arc<LiveJob>>>,
    /// Jobs that are being closed: the store still calls them open for a moment.
    closing: RwLock<HashSet<JobId>>,
    contracts: RwLock<HashMap<Hash, Arc<LiveContract>>>,
}

impl Live {
    /// A token that was verified before.
    pub fn token(&self, hash: &Hash) -> Option<Arc<LiveToken>> {
        find(&self.tokens, hash)
    }

    /// A job that was looked up before.
    pub fn job(&self, id: &JobId) -> Option<Arc<LiveJob>> {
        find(&self.jobs, id)
    }

    /// A contract that was looked up before.
    pub fn contract(&self, hash: &Hash) -> Option<Arc<LiveContract>> {
        find(&self.contracts, hash)
    }

    /// Keeps a verified token. The first one kept for a hash stays: its holder is bound to it.
    pub fn keep_token(&self, token: LiveToken) -> Arc<LiveToken> {
        let mut tokens = self.tokens.write().expect("no panic while it is held");
        if tokens.len() >= MAX_TOKENS {
            tokens.retain(|_, token| Arc::strong_count(token) > 1);
        }
        Arc::clone(tokens.entry(token.hash).or_insert_with(|| Arc::new(token)))
    }

    /// Keeps an open job; the first one kept stays. One that is being closed is not kept, and
    /// has ended.
    pub fn keep_job(&self, job: LiveJob) -> Arc<LiveJob> {
        let closing = self.closing.read().expect("no panic while it is held");
        if closing.contains(&job.id) {
            job.ended.send_replace(Some(ReasonCode::TokenJobClosed));
            return Arc::new(job);
        }
        let mut jobs = self.jobs.write().expect("no panic while it is held");
        Arc::clone(jobs.entry(job.id.clone()).or_insert_with(|| Arc::new(job)))
    }

    /// Keeps a contract; the first one kept stays.
    pub fn keep_contract(&self, contract: LiveContract) -> Arc<LiveContract> {
        let mut contracts = self.contracts.write().expect("no panic while it is held");
        Arc::clone(
            contracts
                .entry(contract.hash)
                .or_insert_with(|| Arc::new(contract)),
        )
    }

    /// A token was revoked: the next call is refused, open streams are cut.
    pub fn revoke_token(&self, hash: &Hash) {
        if let Some(token) = self.token(hash) {
            token.ended.send_replace(Some(ReasonCode::TokenRevoked));
        }
    }

    /// A key was revoked: whatever it has signed, or may have, is refused and cut at once.
    pub fn revoke_signed_by(&self, key: &Did) {
        let tokens = self.tokens.read().expect("no panic while it is held");
        let signed = |token: &&Arc<LiveToken>| token.signed_by.as_ref().is_none_or(|by| by == key);
        for token in tokens.values().filter(signed) {
            token.ended.send_replace(Some(ReasonCode::TokenRevoked));
        }
    }

    /// A job stays open after all: it was about to be closed.
    pub fn reopen_job(&self, id: &JobId) {
        self.closing
            .write()
            .expect("no panic while it is held")
            .remove(id);
    }

    /// A job ends: its tokens are refused from now on, open streams are cut. Until
    /// [`Self::forget_job`] or [`Self::reopen_job`] it cannot be looked up again, although the
    /// store may still call it open.
    pub fn end_job(&self, id: &JobId) {
        self.closing
            .write()
            .expect("no panic while it is held")
            .insert(id.clone());
        if let Some(job) = self.job(id) {
            job.ended.send_replace(Some(ReasonCode::TokenJobClosed));
        }
        self.jobs
            .write()
            .expect("no panic while it is held")
            .remove(id);
        let mut tokens = self.tokens.write().expect("no panic while it is held");
        tokens.retain(|_, token| token.job.id != *id);
    }

    /// The store knows by now that a job is closed; nothing needs to be kept about it.
    pub fn forget_job(&self, id: &JobId) {
        self.closing
            .write()
            .expect("no panic while it is held")
            .remove(id);
    }

    /// Every job that was looked up and has not ended.
    pub fn jobs(&self) -> Vec<Arc<LiveJob>> {
        let jobs = self.jobs.read().expect("no panic while it is held");
        jobs.values().map(Arc::clone).collect()
    }

    /// The store could not be asked for long: what is known may have ended. Open streams are cut,
    /// and the next call asks the store about everything.
    pub fn forget_all(&self) {
        let gone = Some(ReasonCode::StoreUnavailable);
        let mut tokens = self.tokens.write().expect("no panic while it is held");
        for (_, token) in tokens.drain() {
            token.ended.send_if_modified(|ended| {
                let stands = ended.is_none();
                *ended = ended.or(gone);
                stands
            });
        }
        drop(tokens);
        let mut jobs = self.jobs.write().expect("no panic while it is held");
        for (_, job) in jobs.drain() {
            job.ended.send_if_modified(|ended| {
                let stands = ended.is_none();
                *ended = ended.or(gone);
                stands
            });
        }
        drop(jobs);
        self.contracts
            .write()
            .expect("no panic while it is held")
            .clear();
    }

    /// A contract was withdrawn: its tokens are refused from now on.
    pub fn withdraw_contract(&self, hash: &Hash) {
        if let Some(contract) = self.contract(hash) {
            contract.withdraw();
        }
    }
}

fn find<K: Eq + MapKey, V>(map: &RwLock<HashMap<K, Arc<V>>>, key: &K) -> Option<Arc<V>> {
    map.read()
        .expect("no panic while it is held")
        .get(key)
        .map(Arc::clone)
}
