//! Work on many items with all processors.

use std::sync::atomic::{AtomicUsize, Ordering};

/// So many small items are taken at a time; fewer are not worth a thread.
const STEP: usize = 16;

/// Maps many small `items` in order, in as many threads as there are processors.
pub(crate) fn map<T: Sync, R: Send>(items: &[T], work: impl Fn(usize, &T) -> R + Sync) -> Vec<R> {
    spread(items, STEP, work)
}

/// The same for a few large items, each of which is worth a thread.
pub(crate) fn map_large<T: Sync, R: Send>(
    items: &[T],
    work: impl Fn(usize, &T) -> R + Sync,
) -> Vec<R> {
    spread(items, 1, work)
}

/// Every thread, this one too, takes the next items as soon as it is done with the last: a
/// processor that is busy with something else does not hold up the rest.
fn spread<T: Sync, R: Send>(
    items: &[T],
    step: usize,
    work: impl Fn(usize, &T) -> R + Sync,
) -> Vec<R> {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = processors.min(items.len().div_ceil(step)).max(1);
    let next = AtomicUsize::new(0);
    let run = || {
        let mut done = Vec::new();
        loop {
            let start = next.fetch_add(step, Ordering::Relaxed);
            let Some(rest) = items.get(start..).filter(|rest| !rest.is_empty()) else {
                return done;
            };
            let part = rest.iter().take(step).enumerate();
            let results = part.map(|(n, item)| work(start + n, item)).collect();
            done.push((start, results));
        }
    };
    let mut done: Vec<(usize, Vec<R>)> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(run)).collect();
        let mut done = run();
        for thread in others {
            match thread.join() {
                Ok(results) => done.extend(results),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        done
    });
    done.sort_unstable_by_key(|(start, _)| *start);
    done.into_iter().flat_map(|(_, results)| results).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn results_keep_their_order() {
        for count in [0, 1, 31, 32, 33, 64, 1000, 1001] {
            let items: Vec<usize> = (0..count).collect();
            let mapped = super::map(&items, |index, item| {
                assert_eq!(index, *item);
                item * 2
            });
            assert_eq!(mapped, items.iter().map(|n| n * 2).collect::<Vec<_>>());
            assert_eq!(super::map_large(&items, |_, item| item * 2), mapped);
        }
    }
}
