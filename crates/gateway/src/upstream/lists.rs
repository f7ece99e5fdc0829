//! Lists of runs, which upstream gives out thirty times a minute only, and which every waiting
//! client polls.
//!
//! What agents poll is answered from what was read lately. What the gateway itself wants to know
//! never is: it asks whether a run exists, and an old answer would be wrong.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::limit::AGENTS_PATIENCE;
use super::{Answer, UpstreamError};

/// How long a list is as good as new.
const FRESH: Duration = Duration::from_secs(3);

/// How long it may be given out while upstream's limit does not allow another reading.
const STALE: Duration = Duration::from_secs(30);

/// Most lists that are kept; each is bounded as every answer is.
const MAX_LISTS: usize = 256;

/// Largest list that is kept, in bytes: a page of a hundred runs is far smaller.
const MAX_LIST_BYTES: usize = 2 << 20;

/// What was read lately.
#[derive(Debug, Default)]
pub(super) struct Lists {
    known: Mutex<HashMap<String, Arc<List>>>,
    /// Counts our own writes: an answer that one overtook is not kept.
    writes: AtomicU64,
}

/// A write of ours; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Written<'a>(&'a Lists);

impl Drop for Written<'_> {
    fn drop(&mut self) {
        self.0.writes.fetch_add(1, Ordering::AcqRel);
    }
}

/// One list. Whoever reads it anew holds the lock, so that clients that ask for it at the same
/// time wait for one reading and share it.
#[derive(Debug, Default)]
pub(super) struct List {
    read: tokio::sync::Mutex<Option<Read>>,
}

#[derive(Debug)]
struct Read {
    answer: Answer,
    at: Instant,
    writes: u64,
}

/// Whether a path is a list of runs that upstream limits, or the queue, which is polled alike.
pub(super) fn is_list(target: &str) -> bool {
    let path = target.split('?').next().unwrap_or(target);
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    matches!(
        parts[..],
        ["api", "v2", "workspaces" | "organizations", _, "runs"]
            | ["api", "v2", "organizations", _, "runs", "queue"]
    )
}

/// Whether upstream's limit of thirty a minute holds for it.
pub(super) fn is_limited(target: &str) -> bool {
    is_list(target)
        && !target
            .split('?')
            .next()
            .unwrap_or(target)
            .ends_with("/queue")
}

impl Lists {
    /// The list at a target; it may be empty yet.
    pub(super) fn list(&self, target: &str) -> Arc<List> {
        let mut known = self.known.lock().expect("no panic while it is held");
        if !known.contains_key(target) {
            let now = Instant::now();
            known.retain(|_, list| {
                // Who reads it has it, or holds its lock.
                Arc::strong_count(list) > 1
                    || list.read.try_lock().is_ok_and(|kept| {
                        kept.as_ref()
                            .is_some_and(|read| now.duration_since(read.at) < STALE)
                    })
            });
        }
        if known.len() >= MAX_LISTS && !known.contains_key(target) {
            known.retain(|_, list| Arc::strong_count(list) > 1);
        }
        if known.len() >= MAX_LISTS && !known.contains_key(target) {
            return Arc::default();
        }
        Arc::clone(known.entry(target.to_owned()).or_default())
    }

    /// Something is being written through us: what was read before its end is not believed any
    /// more. That holds also when there is no answer, since it may have happened.
    pub(super) fn written(&self) -> Written<'_> {
        Written(self)
    }

    /// Gives the list out, reading it anew by `read` when that is due. `may_wait` says that no
    /// reading is possible now, so that an older one will do.
    ///
    /// # Errors
    /// Those of `read`, and [`UpstreamError::Busy`] when somebody else's reading takes too long.
    pub(super) async fn through(
        &self,
        list: &List,
        may_wait: bool,
        read: impl Future<Output = Result<Answer, UpstreamError>>,
    ) -> Result<Answer, UpstreamError> {
        let kept = tokio::time::timeout(AGENTS_PATIENCE, list.read.lock()).await;
        let mut kept = kept.map_err(|_| UpstreamError::Busy)?;
        let now = Instant::now();
        let writes = self.writes.load(Ordering::Acquire);
        let good_for = if may_wait { STALE } else { FRESH };
        if let Some(known) = &*kept
            && known.writes == writes
            && now.duration_since(known.at) < good_for
        {
            return Ok(known.answer.clone());
        }
        let answer = read.await?;
        let keep = answer.status.is_success() && answer.body.len() <= MAX_LIST_BYTES;
        *kept = keep.then(|| Read {
            answer: answer.clone(),
            // From before it was asked for, so that it is never believed to be newer than it is.
            at: now,
            writes,
        });
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use bytes::Bytes;
    use http::{HeaderMap, StatusCode};

    use super::*;

    #[test]
    fn lists_of_runs_are_recognised_and_nothing_else() {
        for (target, list, limited) in [
            ("/api/v2/workspaces/ws-1/runs", true, true),
            ("/api/v2/workspaces/ws-1/runs?page%5Bsize%5D=20", true, true),
            ("/api/v2/organizations/acme/runs", true, true),
            ("/api/v2/organizations/acme/runs/queue", true, false),
            ("/api/v2/runs/run-1", false, false),
            ("/api/v2/runs", false, false),
            ("/api/v2/workspaces/ws-1", false, false),
            ("/api/v2/workspaces/ws-1/runs/more", false, false),
            ("/api/v2/projects/prj-1/runs", false, false),
        ] {
            assert_eq!(is_list(target), list, "{target}");
            assert_eq!(is_limited(target), limited, "{target}");
        }
    }

    fn answer(status: StatusCode, text: &'static str) -> Answer {
        Answer {
            status,
            headers: HeaderMap::new(),
            body: Bytes::from_static(text.as_bytes()),
        }
    }

    struct Rig {
        lists: Lists,
        reads: AtomicUsize,
    }

    impl Rig {
        fn new() -> Self {
            Self {
                lists: Lists::default(),
                reads: AtomicUsize::new(0),
            }
        }

        async fn read(&self, may_wait: bool, status: StatusCode) -> usize {
            let list = self.lists.list("/api/v2/workspaces/ws-1/runs");
            let read = async {
                self.reads.fetch_add(1, Ordering::AcqRel);
                Ok(answer(status, "runs"))
            };
            let given = self.lists.through(&list, may_wait, read).await.unwrap();
            assert_eq!(given.body, "runs");
            self.reads.load(Ordering::Acquire)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_is_read_again_when_it_is_old_or_we_have_written() {
        let rig = Rig::new();
        assert_eq!(rig.read(false, StatusCode::OK).await, 1);
        assert_eq!(rig.read(false, StatusCode::OK).await, 1);
        drop(rig.lists.written());
        assert_eq!(rig.read(false, StatusCode::OK).await, 2);
        tokio::time::advance(FRESH).await;
        assert_eq!(rig.read(false, StatusCode::OK).await, 3);
        // While the limit leaves no other choice, an older one will do, but not for ever, and
        // never one from before a write of ours.
        tokio::time::advance(STALE - Duration::from_secs(1)).await;
        assert_eq!(rig.read(true, StatusCode::OK).await, 3);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(rig.read(true, StatusCode::OK).await, 4);
        drop(rig.lists.written());
        assert_eq!(rig.read(true, StatusCode::OK).await, 5);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_not_kept() {
        let rig = Rig::new();
        let unavailable = StatusCode::SERVICE_UNAVAILABLE;
        assert_eq!(rig.read(false, unavailable).await, 1);
        assert_eq!(rig.read(false, StatusCode::OK).await, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_a_write_overtook_is_not_kept() {
        let rig = Rig::new();
        let list = rig.lists.list("/api/v2/workspaces/ws-1/runs");
        let read = async {
            drop(rig.lists.written());
            Ok(answer(StatusCode::OK, "runs"))
        };
        rig.lists.through(&list, false, read).await.unwrap();
        assert_eq!(rig.read(false, StatusCode::OK).await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_reading_that_hangs_is_told() {
        let rig = Rig::new();
        let list = rig.lists.list("/api/v2/workspaces/ws-1/runs");
        let hanging = rig.lists.through(&list, false, std::future::pending());
        let waiting = async {
            let begun = Instant::now();
            let read = async { Ok(answer(StatusCode::OK, "runs")) };
            let given = rig.lists.through(&list, false, read).await;
            (given, begun.elapsed())
        };
        tokio::select! {
            biased;
            _ = hanging => unreachable!("it hangs"),
            (given, waited) = waiting => {
                assert!(matches!(given, Err(UpstreamError::Busy)), "{given:?}");
                assert!(waited < AGENTS_PATIENCE * 2);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_nobody_reads_any_more_is_let_go() {
        let rig = Rig::new();
        rig.read(false, StatusCode::OK).await;
        tokio::time::advance(STALE).await;
        rig.lists.list("another");
        assert_eq!(rig.lists.known.lock().unwrap().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_number_of_lists_is_bounded() {
        let lists = Lists::default();
        let held: Vec<_> = (0..MAX_LISTS)
            .map(|number| lists.list(&number.to_string()))
            .collect();
        lists.list("one more");
        assert_eq!(lists.known.lock().unwrap().len(), MAX_LISTS);
        drop(held);
        lists.list("one more");
        assert_eq!(lists.known.lock().unwrap().len(), 1);
    }
}
