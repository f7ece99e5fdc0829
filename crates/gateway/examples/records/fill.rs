//! A store of many records, through its own methods: jobs of two dozen calls, each with its
//! receipt; most are closed and sealed, as jobs are.

use std::sync::Arc;

use futures_util::future::join_all;
use proof::record::{Body, JobId, JobOpen, Lane, ReceiptRef};
use proof::{Envelope, EnvelopeType, Hash, Timestamp};
use store::{BundleRow, GateState, RunRow, Store};

use crate::fixtures;

/// Calls of a job: an intent and an outcome with its receipt each. With its opening and its close
/// a job has two records more.
pub(crate) const CALLS: u64 = 24;

/// Calls that wait together, and jobs that are filled together.
const TOGETHER: u64 = 8;

/// The workspace of the example contract in which the stored runs are.
const WORKSPACE: &str = "ws-staging-app";

/// A store and what was put into it.
#[derive(Clone)]
pub(crate) struct Filled {
    pub(crate) store: Arc<dyn Store>,
    /// Jobs in it that are numbered.
    pub(crate) jobs: u64,
    /// The contract of all jobs.
    policy: Hash,
    /// The job that the measured agent works in; every filled job gives it one run.
    own: JobId,
    /// When the first numbered job was opened.
    begin: i64,
    /// One of so many jobs stays open.
    open_every: u64,
}

impl Filled {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        policy: Hash,
        own: JobId,
        now: Timestamp,
        open_every: u64,
    ) -> Self {
        Self {
            store,
            jobs: 0,
            policy,
            own,
            // Not before what the log has already: a receipt is found by the log's times.
            begin: now.millis(),
            open_every,
        }
    }

    fn time(&self, job: u64, ms: u64) -> Timestamp {
        Timestamp::from_millis(self.begin + 10 * job as i64 + ms as i64)
    }

    /// Opens the next job.
    pub(crate) async fn open(&mut self) -> u64 {
        let number = self.jobs;
        self.jobs += 1;
        self.open_numbered(number).await;
        number
    }

    async fn open_numbered(&self, number: u64) {
        let opening = JobOpen {
            policy_hash_b64u: self.policy,
            confinement: None,
            lease_seconds: None,
            ..fixtures::opening("v1")
        };
        let at = self.time(number, 0);
        let opened = self.store.open_job(job_id(number), at, opening).await;
        opened.unwrap();
    }

    /// The calls of a job, some of them at a time. One of eight teaches a run.
    pub(crate) async fn calls(&self, number: u64, receipts: &[(Envelope, ReceiptRef)]) {
        let job = job_id(number);
        let wave = usize::try_from(TOGETHER).unwrap();
        for (n, together) in receipts.chunks(wave).enumerate() {
            let now = self.time(number, 1 + n as u64);
            let intents: Vec<_> = together
                .iter()
                .map(|_| {
                    let mut intent = fixtures::bare_intent(Lane::Model);
                    intent.policy_hash_b64u = self.policy;
                    self.store.append(&job, now, Body::Intent(Box::new(intent)))
                })
                .collect();
            let mut outcomes = Vec::new();
            for (place, (intent, (envelope, named))) in
                intents.into_iter().zip(together).enumerate()
            {
                let mut outcome = fixtures::outcome(intent.await.unwrap().seq);
                outcome.receipt = Some(named.clone());
                let learned = match place {
                    0 => vec![fixtures::seen(
                        &run_of(number, n as u64),
                        WORKSPACE,
                        Some(&job),
                    )],
                    _ => Vec::new(),
                };
                let envelope = Some(envelope.clone());
                let pending = self
                    .store
                    .append_outcome(&job, now, outcome, envelope, learned);
                outcomes.push(pending);
            }
            for outcome in outcomes {
                outcome.await.unwrap();
            }
        }
    }

    /// A run of the measured agent's job that ended long ago.
    async fn own_run(&self, number: u64) {
        let (store, at) = (&self.store, self.time(number, 5));
        let id = own_run(number);
        let known = fixtures::seen(&id, WORKSPACE, Some(&self.own));
        store.learn(vec![known]).await.unwrap();
        let row = RunRow {
            workspace_id: WORKSPACE.into(),
            status: "planned_and_finished".into(),
            created_at: at,
            updated_at: at,
            ..fixtures::run(&self.own, &id)
        };
        store.insert_run(row).await.unwrap();
        let all = &GateState::ALL;
        let moved = store
            .transition(&id, all, GateState::Finished, at, Default::default())
            .await;
        moved.unwrap().expect("it moves");
    }

    async fn close(&self, number: u64) {
        let (job, at) = (job_id(number), self.time(number, 9));
        let closed = self.store.close_job(&job, "ada", "done", at).await;
        closed.unwrap();
        // The gateway that starts on it has nothing left to seal.
        let bundle = BundleRow {
            job_id: job,
            sha256: Hash::of(b"bundle"),
            bytes: 1,
            sealed_at: at,
            verdict: Some("valid".into()),
        };
        self.store.save_bundle(bundle, Vec::new()).await.unwrap();
    }

    /// Fills it until the log has so many records.
    pub(crate) async fn fill(&mut self, records: u64) {
        while self.store.log_size().await.unwrap() < records {
            let begin = self.jobs;
            self.jobs += TOGETHER;
            let this = &*self;
            join_all((begin..self.jobs).map(async |number| {
                this.open_numbered(number).await;
                this.calls(number, &receipts(this.begin, number)).await;
                this.own_run(number).await;
                if !number.is_multiple_of(this.open_every) {
                    this.close(number).await;
                }
            }))
            .await;
        }
    }

    /// Receipts for a job that is yet to come, signed by now.
    pub(crate) fn next_receipts(&self) -> Vec<(Envelope, ReceiptRef)> {
        receipts(self.begin, self.jobs)
    }

    pub(crate) fn receipt_id(&self, job: u64, call: u64) -> String {
        receipt_id(self.begin, job, call)
    }

    /// The n-th of the jobs that stay open.
    pub(crate) fn open_job(&self, n: u64) -> JobId {
        job_id(n * self.open_every)
    }
}

fn receipts(begin: i64, job: u64) -> Vec<(Envelope, ReceiptRef)> {
    (0..CALLS)
        .map(|n| fixtures::receipt(EnvelopeType::GatewayReceipt, &receipt_id(begin, job, n)))
        .collect()
}

fn receipt_id(begin: i64, job: u64, call: u64) -> String {
    let millis = format!("{:012x}", begin + 10 * job as i64 + 1);
    format!(
        "rcpt_{}-{}-7abc-8def-{call:012x}",
        &millis[..8],
        &millis[8..]
    )
}

/// Ids as they are: the time first, then what nobody can guess.
pub(crate) fn job_id(number: u64) -> JobId {
    let chance = Hash::of(&number.to_be_bytes()).to_hex();
    let id = format!("job_{number:012x}-{}", &chance[..19]);
    id.parse().unwrap()
}

/// A run's id is random, as upstream's are.
pub(crate) fn run_of(job: u64, n: u64) -> String {
    let chance = Hash::of(format!("run {job} {n}").as_bytes()).to_hex();
    format!("run-{}", &chance[..16])
}

/// The run of the measured agent's job that came with this job.
pub(crate) fn own_run(job: u64) -> String {
    let chance = Hash::of(format!("own {job}").as_bytes()).to_hex();
    format!("run-{}", &chance[..16])
}
