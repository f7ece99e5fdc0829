//! How many model calls a job and an agent may make in a minute, and at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use policy::{ReasonCode, Refusal};
use proof::record::JobId;

use crate::config::{CallLimits, Limits};
use crate::live::LiveToken;

const MINUTE: Duration = Duration::from_secs(60);

/// Most jobs and agents that are counted at a time.
const MAX_COUNTED: usize = 100_000;

/// What a client is told to wait for when others of its own calls must end first: nobody knows
/// how long they take.
const SHORT_WAIT: Duration = Duration::from_secs(1);

/// Counts calls, where the operator has limits.
#[derive(Debug, Default)]
pub(super) struct Pace {
    job: CallLimits,
    holder: CallLimits,
    counted: Mutex<HashMap<Who, Count>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Who {
    Job(JobId),
    /// Whoever uses tokens from one address.
    Holder(String),
}

#[derive(Debug, Clone, Copy)]
struct Count {
    open: u32,
    /// When the calls so far would have come to an end, had they come evenly.
    paid_until: Instant,
}

/// A call that is counted as open until this is dropped.
#[derive(Debug)]
pub(super) struct Pass {
    pace: Arc<Pace>,
    who: Vec<Who>,
}

impl Pace {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            job: limits.model_calls_per_job,
            holder: limits.model_calls_per_holder,
            counted: Mutex::default(),
        }
    }

    /// Counts one more call of a token; `None` where nothing limits.
    ///
    /// # Errors
    /// `MODEL_RATE_LIMITED` with the time after which the call may be repeated; it counts nowhere
    /// then.
    pub(super) fn enter(
        self: &Arc<Self>,
        token: &LiveToken,
        now: Instant,
    ) -> Result<Option<Pass>, Refusal> {
        let mut asked = Vec::new();
        if self.job.limits() {
            asked.push((Who::Job(token.job.id.clone()), self.job, "this job"));
        }
        if self.holder.limits()
            && let Some(holder) = token.holder.get()
        {
            asked.push((Who::Holder(holder.clone()), self.holder, "this agent"));
        }
        if asked.is_empty() {
            return Ok(None);
        }
        let mut counted = self.counted.lock().expect("no panic while it is held");
        if counted.len() >= MAX_COUNTED {
            counted.retain(|_, count| count.open > 0 || count.paid_until > now);
            if counted.len() >= MAX_COUNTED {
                return Err(ReasonCode::Overloaded.into());
            }
        }
        let mut after = Vec::with_capacity(asked.len());
        for (who, limits, name) in asked {
            let count = counted.get(&who).copied().unwrap_or(Count {
                open: 0,
                paid_until: now,
            });
            let next = count
                .next(limits, now)
                .map_err(|wait| limited(name, wait))?;
            after.push((who, next));
        }
        let who = after.iter().map(|(who, _)| who.clone()).collect();
        counted.extend(after);
        let pace = Arc::clone(self);
        Ok(Some(Pass { pace, who }))
    }
}

impl Count {
    /// With one more call, or how long to wait.
    fn next(self, limits: CallLimits, now: Instant) -> Result<Self, Duration> {
        let mut next = Self {
            open: self.open.saturating_add(1),
            paid_until: self.paid_until.max(now),
        };
        if limits.at_once.is_some_and(|most| next.open > most) {
            return Err(SHORT_WAIT);
        }
        if let Some(most) = limits.per_minute {
            // None at all is not "nothing limits": the next call fits after a minute, and never.
            let each = MINUTE.checked_div(most).ok_or(MINUTE)?;
            let ahead = (next.paid_until - now) + each;
            if ahead > MINUTE {
                return Err(ahead - MINUTE);
            }
            next.paid_until += each;
        }
        Ok(next)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut counted = self.pace.counted.lock().expect("no panic while it is held");
        for who in &self.who {
            if let Some(count) = counted.get_mut(who) {
                count.open = count.open.saturating_sub(1);
            }
        }
    }
}

fn limited(whose: &str, wait: Duration) -> Refusal {
    let whole = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    let seconds = u32::try_from(whole).unwrap_or(u32::MAX).max(1);
    Refusal::new(
        ReasonCode::ModelRateLimited,
        format!("{whose} makes more model calls than the operator allows"),
    )
    .retry_after(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(per_minute: Option<u32>, at_once: Option<u32>) -> CallLimits {
        CallLimits {
            per_minute,
            at_once,
        }
    }

    fn fresh(now: Instant) -> Count {
        Count {
            open: 0,
            paid_until: now,
        }
    }

    #[test]
    fn a_minutes_calls_may_come_at_once_and_then_evenly() {
        let start = Instant::now();
        let limits = limits(Some(6), None);
        let mut count = fresh(start);
        for _ in 0..6 {
            count = count.next(limits, start).unwrap();
        }
        let seconds = Duration::from_secs;
        assert_eq!(count.next(limits, start).unwrap_err(), seconds(10));
        assert_eq!(
            count.next(limits, start + seconds(9)).unwrap_err(),
            seconds(1)
        );
        count = count.next(limits, start + seconds(10)).unwrap();
        assert_eq!(
            count.next(limits, start + seconds(10)).unwrap_err(),
            seconds(10)
        );
        // After a rest as many as at the beginning, and no more.
        let later = start + seconds(1000);
        for _ in 0..6 {
            count = count.next(limits, later).unwrap();
        }
        assert!(count.next(limits, later).is_err());
    }

    #[test]
    fn open_calls_are_bounded_and_nothing_can_be_allowed() {
        let now = Instant::now();
        let one = limits(None, Some(1));
        let count = fresh(now).next(one, now).unwrap();
        assert_eq!(count.next(one, now).unwrap_err(), SHORT_WAIT);
        assert!(fresh(now).next(limits(None, Some(0)), now).is_err());
        assert!(fresh(now).next(limits(Some(0), None), now).is_err());
        assert!(fresh(now).next(limits(None, None), now).is_ok());
    }
}
