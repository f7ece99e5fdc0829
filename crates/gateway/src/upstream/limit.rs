//! How fast upstream is asked, and whose turn it is.
//!
//! Upstream counts requests by user, so each credential has a [`Limiter`]. Who has to wait stands
//! in a queue of its own: the gateway's own calls in one, the calls of each job in one each. Our
//! own go first, three times out of four while agents wait; the jobs take turns. So an agent that
//! asks without end delays itself, other agents by one call for each of theirs, and the gate by a
//! quarter.
//!
//! Whose call it is, is not an argument but part of the task that makes it ([`on_behalf_of`]):
//! whoever adds a call to the agents' path cannot forget to say so.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use proof::record::JobId;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Calls of one job that may wait for one credential; more are shed at once.
const MAX_WAITING_OF_JOB: usize = 64;

/// Jobs whose calls may wait for one credential.
const MAX_WAITING_JOBS: usize = 256;

/// Calls of our own that may wait: one for each run that the gate can watch, and some.
const MAX_WAITING_OWN: usize = 8192;

/// How long an agent's call waits for its turn; its client gives up not much later.
pub(super) const AGENTS_PATIENCE: Duration = Duration::from_secs(10);

/// How long a call of our own waits for its turn.
const OWN_PATIENCE: Duration = Duration::from_secs(60);

/// How many calls of our own go in a row while agents wait.
const OWN_IN_A_ROW: u32 = 3;

/// The longest pause that upstream can ask for.
pub(super) const MAX_PAUSE: Duration = Duration::from_secs(10);

tokio::task_local! {
    static JOB: JobId;
}

/// Makes every upstream call of `work` a call of that job.
pub async fn on_behalf_of<F: Future>(job: &JobId, work: F) -> F::Output {
    JOB.scope(job.clone(), work).await
}

/// The job for which the running task asks; `None` for the gateway itself.
fn asking_job() -> Option<JobId> {
    JOB.try_with(Clone::clone).ok()
}

/// A rate with a burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    /// Between two calls, once the burst is used up.
    interval: Duration,
    /// How many may go at once after a while without any.
    burst: u32,
}

impl Pace {
    /// At most `limit` calls in any stretch of `time`: two thirds steadily, one third at once. A
    /// tenth is left out, since calls do not arrive as evenly as they leave.
    pub(super) fn of(limit: u32, time: Duration) -> Self {
        let limit = (limit - limit / 10).max(1);
        let burst = (limit / 3).max(1);
        Self {
            interval: time / (limit - burst).max(1),
            burst,
        }
    }

    fn tolerance(self) -> Duration {
        self.interval * (self.burst - 1)
    }
}

/// A call that did not get its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shed;

/// Gives out turns at a pace. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Limiter {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    pace: Pace,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When the next call would be due if all went at the steady pace.
    due: Instant,
    own: VecDeque<oneshot::Sender<()>>,
    /// The job whose turn it is stands first.
    jobs: VecDeque<(JobId, VecDeque<oneshot::Sender<()>>)>,
    own_in_a_row: u32,
    /// A task is giving out turns.
    dispatching: bool,
}

impl Limiter {
    pub(super) fn new(pace: Pace) -> Self {
        let state = State {
            due: Instant::now(),
            own: VecDeque::new(),
            jobs: VecDeque::new(),
            own_in_a_row: 0,
            dispatching: false,
        };
        let state = Mutex::new(state);
        Self {
            inner: Arc::new(Inner { pace, state }),
        }
    }

    /// Waits for a turn.
    ///
    /// # Errors
    /// [`Shed`] when too many wait already, or the turn does not come in time.
    pub(super) async fn turn(&self) -> Result<(), Shed> {
        let job = asking_job();
        let patience = match job {
            Some(_) => AGENTS_PATIENCE,
            None => OWN_PATIENCE,
        };
        let turn = {
            let mut state = self.inner.lock();
            let now = Instant::now();
            if !state.dispatching && state.due <= now + self.inner.pace.tolerance() {
                state.take(now, self.inner.pace);
                return Ok(());
            }
            let turn = state.enqueue(job)?;
            if !state.dispatching {
                state.dispatching = true;
                tokio::spawn(dispatch(Arc::clone(&self.inner)));
            }
            turn
        };
        match tokio::time::timeout(patience, turn).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Shed),
        }
    }

    /// Nobody's turn comes before that: upstream has asked for it. At most [`MAX_PAUSE`].
    pub(super) fn pause(&self, time: Duration) {
        let pace = self.inner.pace;
        let until = Instant::now() + time.min(MAX_PAUSE) + pace.tolerance();
        let mut state = self.inner.lock();
        state.due = state.due.max(until);
    }

    /// Whether a turn would come at once.
    pub(super) fn is_free(&self) -> bool {
        let state = self.inner.lock();
        !state.dispatching && state.due <= Instant::now() + self.inner.pace.tolerance()
    }
}

/// Gives out turns until nobody waits.
async fn dispatch(inner: Arc<Inner>) {
    loop {
        let next = {
            let mut state = inner.lock();
            loop {
                let now = Instant::now();
                let allowed = state.due.checked_sub(inner.pace.tolerance());
                let allowed = allowed.unwrap_or(now);
                if allowed > now {
                    break allowed;
                }
                let Some(waiting) = state.next() else {
                    state.dispatching = false;
                    return;
                };
                // Who has left meanwhile uses up no turn.
                if waiting.send(()).is_ok() {
                    state.take(now, inner.pace);
                }
            }
        };
        tokio::time::sleep_until(next).await;
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while it is held")
    }
}

impl State {
    fn take(&mut self, now: Instant, pace: Pace) {
        self.due = self.due.max(now) + pace.interval;
    }

    fn enqueue(&mut self, job: Option<JobId>) -> Result<oneshot::Receiver<()>, Shed> {
        let (sender, receiver) = oneshot::channel();
        let (queue, most) = match job {
            None => (&mut self.own, MAX_WAITING_OWN),
            Some(job) => {
                let known = self.jobs.iter().position(|(other, _)| *other == job);
                let place = match known {
                    Some(place) => place,
                    None if self.jobs.len() >= MAX_WAITING_JOBS => return Err(Shed),
                    None => {
                        self.jobs.push_back((job, VecDeque::new()));
                        self.jobs.len() - 1
                    }
                };
                (&mut self.jobs[place].1, MAX_WAITING_OF_JOB)
            }
        };
        if queue.len() >= most {
            queue.retain(|waiting| !waiting.is_closed());
        }
        if queue.len() >= most {
            return Err(Shed);
        }
        queue.push_back(sender);
        Ok(receiver)
    }

    /// Whose turn it is.
    fn next(&mut self) -> Option<oneshot::Sender<()>> {
        let agents_turn = self.own_in_a_row >= OWN_IN_A_ROW && !self.jobs.is_empty();
        if !agents_turn && let Some(own) = self.own.pop_front() {
            self.own_in_a_row = self.own_in_a_row.saturating_add(1);
            return Some(own);
        }
        self.own_in_a_row = 0;
        let (job, mut waiting) = self.jobs.pop_front()?;
        let first = waiting.pop_front();
        if !waiting.is_empty() {
            self.jobs.push_back((job, waiting));
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(name: &str) -> JobId {
        format!("job_{name}").parse().unwrap()
    }

    fn limiter(per_second: u32) -> Limiter {
        Limiter::new(Pace::of(per_second, Duration::from_secs(1)))
    }

    /// Asks for a turn in a task of its own; who gets it says so in `order`.
    fn ask(
        limiter: &Limiter,
        job: Option<JobId>,
        name: &'static str,
        order: &Arc<Mutex<Vec<(&'static str, Instant)>>>,
    ) -> tokio::task::JoinHandle<Result<(), Shed>> {
        let (limiter, order) = (limiter.clone(), Arc::clone(order));
        let turn = async move {
            let got = limiter.turn().await;
            if got.is_ok() {
                order.lock().unwrap().push((name, Instant::now()));
            }
            got
        };
        tokio::spawn(async move {
            match job {
                Some(job) => on_behalf_of(&job, turn).await,
                None => turn.await,
            }
        })
    }

    #[tokio::test(start_paused = true)]
    async fn no_second_has_more_calls_than_the_limit() {
        for limit in [1, 2, 3, 5, 30, 100] {
            let limiter = limiter(limit);
            let order = Arc::default();
            let asked: Vec<_> = (0..60)
                .map(|_| ask(&limiter, None, "own", &order))
                .collect();
            for turn in asked {
                let _ = turn.await.unwrap();
            }
            let order = order.lock().unwrap();
            for (place, (_, at)) in order.iter().enumerate() {
                let within = order[place..]
                    .iter()
                    .take_while(|(_, other)| *other - *at < Duration::from_secs(1))
                    .count();
                let most = limit.max(2) as usize;
                assert!(within <= most, "{within} in a second, limit {limit}");
            }
            assert!(order.len() >= 60.min(limit as usize * 30), "{limit}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_noisy_job_delays_itself_and_not_the_gate() {
        let limiter = limiter(3);
        let order = Arc::default();
        let mut asked: Vec<_> = (0..20)
            .map(|_| ask(&limiter, Some(job("noisy")), "noisy", &order))
            .collect();
        tokio::task::yield_now().await;
        asked.push(ask(&limiter, Some(job("quiet")), "quiet", &order));
        asked.push(ask(&limiter, None, "gate", &order));
        for turn in asked {
            let _ = turn.await.unwrap();
        }
        let order = order.lock().unwrap();
        let place = |name| order.iter().position(|(other, _)| *other == name).unwrap();
        assert!(place("gate") <= 2, "{order:?}");
        assert!(place("quiet") <= 4, "{order:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn agents_get_every_fourth_turn_whatever_the_gate_asks() {
        let limiter = limiter(30);
        let order = Arc::default();
        let mut asked: Vec<_> = (0..60)
            .map(|_| ask(&limiter, None, "gate", &order))
            .collect();
        tokio::task::yield_now().await;
        asked.extend((0..5).map(|_| ask(&limiter, Some(job("a")), "agent", &order)));
        for turn in asked {
            turn.await.unwrap().unwrap();
        }
        let order = order.lock().unwrap();
        let agents = order[10..34].iter().filter(|(name, _)| *name == "agent");
        assert!(agents.count() >= 4, "{order:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_served_is_shed() {
        let limiter = limiter(1);
        limiter.turn().await.unwrap();
        let order = Arc::default();
        let asked: Vec<_> = (0..=MAX_WAITING_OF_JOB)
            .map(|_| ask(&limiter, Some(job("a")), "a", &order))
            .collect();
        let mut shed = 0;
        let begun = Instant::now();
        for turn in asked {
            shed += usize::from(turn.await.unwrap() == Err(Shed));
        }
        // One found no place; most of the others waited in vain, and no longer than promised.
        assert!(shed >= MAX_WAITING_OF_JOB - 11, "{shed}");
        assert!(begun.elapsed() <= AGENTS_PATIENCE + Duration::from_secs(1));
        // Those who left use up no turn: the next one comes at once.
        tokio::time::advance(Duration::from_secs(2)).await;
        let begun = Instant::now();
        limiter.turn().await.unwrap();
        assert!(begun.elapsed() <= Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_holds_for_everybody_and_ends() {
        let limiter = limiter(30);
        limiter.pause(Duration::from_secs(4));
        assert!(!limiter.is_free());
        let begun = Instant::now();
        limiter.turn().await.unwrap();
        assert!(begun.elapsed() >= Duration::from_secs(4));
        // Nobody can stop us for hours.
        limiter.pause(Duration::from_secs(36_000));
        let begun = Instant::now();
        limiter.turn().await.unwrap();
        assert!(begun.elapsed() <= MAX_PAUSE + Duration::from_secs(1));
    }
}
