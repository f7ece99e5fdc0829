//! What an agent asked models just before it made a run, as text: kept for approvers, where the
//! contract allows it.
//!
//! Of the last requests of each job the end is held in memory. When the job makes a run, what is
//! held then goes into a file of the run, in clear text, readable by the gateway's user only; no
//! record, receipt or bundle ever has it. The file goes when so many days as the contract says
//! have passed since the run ended; that of a run that never ends, 30 days later than if it had
//! ended at once; none while its job is held. The folder is looked at at each start and each hour,
//! and a page shows nothing whose time is over. What a crash left half written goes at the next
//! start.

mod excerpt;

use std::collections::{HashMap, VecDeque};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use policy::terraform::ids::RunId;
use policy::terraform::mask::Known;
use proof::record::JobId;
use proof::{Hash, Timestamp};
use serde::{Deserialize, Serialize};
use store::{RunRow, Store, StoreError};
use tokio::sync::watch;

use crate::app::App;
use crate::clawproxy::terraform::sensitive;
use crate::vault::{self, Unsettled};

/// Requests of a job that are held, and jobs of which some are; all are let go then.
const MOST: usize = 3;
const MOST_JOBS: usize = 256;

/// Files that there may be; a run beyond has none.
const MOST_FILES: usize = 10_000;

/// Largest request that is looked into, and largest one that is while its call waits.
const LARGEST: usize = 4 << 20;
const AT_ONCE: usize = 256 << 10;

/// A run that does not end keeps its file so much longer than one that ends at once.
const LONGEST_RUN_DAYS: u32 = 30;

/// How often the folder is looked at.
const SWEEP: Duration = Duration::from_secs(3600);

/// What is held and kept.
#[derive(Debug)]
pub struct Prompts {
    folder: PathBuf,
    held: Mutex<HashMap<JobId, VecDeque<Held>>>,
}

/// The end of a request, as it was sent; prints without it.
#[derive(Clone)]
struct Held {
    request: Hash,
    text: String,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Held({} bytes)", self.text.len())
    }
}

/// What is kept for a run.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    run_id: String,
    at: Timestamp,
    /// Days after the run's end.
    days: u32,
    prompts: Vec<Prompt>,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kept({}, {})", self.run_id, self.prompts.len())
    }
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Prompt {
    /// The request's hash, as its record has it.
    request_hash_b64u: Hash,
    text: String,
}

impl Kept {
    /// The end of the request with this hash.
    pub fn text(&self, request: &str) -> Option<&str> {
        let mut prompts = self.prompts.iter();
        let found = prompts.find(|prompt| prompt.request_hash_b64u.to_string() == request);
        found.map(|prompt| prompt.text.as_str())
    }

    /// Without the secrets that are known now.
    fn masked(mut self, known: &Known) -> Self {
        for prompt in &mut self.prompts {
            let text = std::mem::take(&mut prompt.text);
            prompt.text = excerpt::masked(text, known);
        }
        self
    }

    fn is_over(&self, run: Option<&RunRow>, now: Timestamp) -> bool {
        let after = |at: Timestamp, days: u32| at.plus_seconds(i64::from(days) * 86_400);
        let Some(run) = run else { return true };
        let ended = run.gate.is_final() && now >= after(run.updated_at, self.days);
        ended || now >= after(self.at, self.days + LONGEST_RUN_DAYS)
    }
}

/// What is kept for a run, to be shown. When it was kept nobody knew what the plan would mark as
/// secret, so the plan is read first, and nothing is shown without.
pub async fn shown(app: &App, run: &RunRow) -> Option<Kept> {
    let kept = app.prompts.of_run(run, app.now()).await?;
    let (workspace, plan) = (run.workspace_id.as_str(), run.plan_id.as_deref()?);
    let read = sensitive::collect(app, workspace, plan).await;
    read.inspect_err(|refusal| tracing::warn!(%refusal, plan, "prompts are not shown"))
        .ok()?;
    Some(kept.masked(&app.sensitive.of(workspace, Some(plan))))
}

impl Prompts {
    /// Opens the folder.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(data_dir: &Path) -> io::Result<Self> {
        let folder = data_dir.join("prompts");
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.recursive(true).create(&folder)?;
        Ok(Self {
            folder,
            held: Mutex::default(),
        })
    }

    /// Holds the end of a request that is about to be sent.
    pub fn hold(self: &Arc<Self>, job: &JobId, request: Hash, body: &Bytes) {
        if body.is_empty() || body.len() > LARGEST {
            return;
        }
        let (this, job, body) = (Arc::clone(self), job.clone(), body.clone());
        let at_once = body.len() <= AT_ONCE;
        let hold = move || {
            if let Some(text) = excerpt::of(&body) {
                this.hold_text(job, Held { request, text });
            }
        };
        if at_once {
            hold();
        } else {
            tokio::task::spawn_blocking(hold);
        }
    }

    fn hold_text(&self, job: JobId, held: Held) {
        let mut jobs = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if jobs.len() >= MOST_JOBS && !jobs.contains_key(&job) {
            jobs.clear();
        }
        let own = jobs.entry(job).or_default();
        own.retain(|other| other.request != held.request);
        own.push_back(held);
        if own.len() > MOST {
            own.pop_front();
        }
    }

    /// Keeps what is held of a job for a run that it has made. Blocks.
    ///
    /// # Errors
    /// When the file cannot be written, or there are too many.
    pub fn keep(
        &self,
        run: &RunId,
        job: &JobId,
        days: u32,
        known: &Known,
        now: Timestamp,
    ) -> io::Result<()> {
        let held = {
            let jobs = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            jobs.get(job).cloned().unwrap_or_default()
        };
        if held.is_empty() || days == 0 {
            return Ok(());
        }
        if std::fs::read_dir(&self.folder)?.count() >= MOST_FILES {
            return Err(io::Error::other("there are too many files of prompts"));
        }
        let prompt = |held: Held| Prompt {
            request_hash_b64u: held.request,
            text: excerpt::masked(held.text, known),
        };
        let kept = Kept {
            run_id: run.to_string(),
            at: now,
            days,
            prompts: held.into_iter().map(prompt).collect(),
        };
        let part = self.folder.join(format!("{run}.part"));
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options
            .open(&part)?
            .write_all(&serde_json::to_vec(&kept)?)?;
        std::fs::rename(part, self.file(run))
    }

    fn file(&self, run: &RunId) -> PathBuf {
        self.folder.join(format!("{run}.json"))
    }

    /// What is kept for a run, while its time lasts.
    pub async fn of_run(&self, run: &RunRow, now: Timestamp) -> Option<Kept> {
        let id: RunId = run.run_id.parse().ok()?;
        let text = tokio::fs::read(self.file(&id)).await.ok()?;
        let kept: Kept = serde_json::from_slice(&text).ok()?;
        (kept.run_id == run.run_id && !kept.is_over(Some(run), now)).then_some(kept)
    }

    /// Removes what has had its time, and what is no whole file of ours. Answers how many went.
    ///
    /// # Errors
    /// When the folder or the store cannot be read, or a file does not go; the others went.
    pub async fn forget(
        &self,
        store: &dyn Store,
        held: &vault::Held,
        now: Timestamp,
    ) -> Result<usize, ForgetError> {
        let mut entries = tokio::fs::read_dir(&self.folder).await?;
        let (mut gone, mut failed) = (0, None);
        while let Some(entry) = entries.next_entry().await? {
            match forget_file(&entry.path(), store, held, now).await {
                Ok(went) => gone += usize::from(went),
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(gone), Err)
    }
}

/// Removes a file whose time is over, and whose job nobody holds; whether it went.
async fn forget_file(
    path: &Path,
    store: &dyn Store,
    held: &vault::Held,
    now: Timestamp,
) -> Result<bool, ForgetError> {
    let text = tokio::fs::read(path).await.unwrap_or_default();
    let kept = serde_json::from_slice::<Kept>(&text).ok();
    let kept = kept.filter(|_| path.extension().is_some_and(|end| end == "json"));
    let run = match &kept {
        Some(kept) => store.run(&kept.run_id).await?,
        None => None,
    };
    if kept.is_some_and(|kept| !kept.is_over(run.as_ref(), now)) {
        return Ok(false);
    }
    let removing = async {
        if let Some(run) = &run
            && !store
                .holds(Some(&run.job_id), true, None, 1)
                .await?
                .is_empty()
        {
            return Ok(false);
        }
        tokio::fs::remove_file(path).await?;
        Ok(true)
    };
    held.in_turn(removing).await?
}

/// Why something may be there for longer than it should.
#[derive(Debug, thiserror::Error)]
pub enum ForgetError {
    /// The folder.
    #[error("the folder of prompts cannot be used")]
    Folder(#[from] io::Error),
    /// The store.
    #[error("the store does not say how the runs stand")]
    Store(#[from] StoreError),
    /// Others are removing something.
    #[error("nothing can be removed now")]
    Turn(#[from] Unsettled),
}

/// Removes what has had its time, now and each hour, until the gateway stops.
pub async fn forget_in_time(app: Arc<App>, mut stopping: watch::Receiver<bool>) {
    loop {
        match app.prompts.forget(&*app.store, &app.held, app.now()).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "prompts were removed in time"),
            Err(error) => tracing::error!(%error, "prompts are kept for longer than they should"),
        }
        tokio::select! {
            () = tokio::time::sleep(SWEEP) => {}
            _ = stopping.changed() => return,
        }
    }
}

#[cfg(test)]
mod tests;
