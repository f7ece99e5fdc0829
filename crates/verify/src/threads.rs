//! Work on many items with all processors.

use std::collections::VecDeque;
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;

/// So many small items are taken at a time; fewer are not worth a thread.
const STEP: usize = 16;

/// Large items that may wait for a thread.
const WAITING: usize = 32;

/// Asked once: the answer takes several files of the system to read.
static PROCESSORS: LazyLock<usize> =
    LazyLock::new(|| thread::available_parallelism().map_or(1, NonZero::get));

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
    let threads = items.len().div_ceil(step);
    let next = AtomicUsize::new(0);
    let done = on_all(threads, || {
        let mut done = Vec::new();
        loop {
            let start = next.fetch_add(step, Ordering::Relaxed);
            let Some(rest) = items.get(start..).filter(|rest| !rest.is_empty()) else {
                return done;
            };
            let part = rest.iter().take(step).enumerate();
            let results: Vec<R> = part.map(|(n, item)| work(start + n, item)).collect();
            done.push((start, results));
        }
    });
    in_order(done).flatten().collect()
}

/// Works on large items while `find` is still handing them in, and gives the results in that order;
/// none when `find` gives up. Of the items [`WAITING`] wait at the most: when there are more, whoever
/// finds them works on them as well.
pub(crate) fn map_found<T: Send, R: Send>(
    find: impl FnOnce(&mut dyn FnMut(T)) -> Option<()>,
    work: impl Fn(T) -> R + Sync,
) -> Option<Vec<R>> {
    let found = Found::default();
    let run = |mut done: Vec<(usize, R)>| {
        while let Some((n, item)) = found.next() {
            done.push((n, work(item)));
        }
        done
    };
    thread::scope(|scope| {
        let others: Vec<_> = (1..*PROCESSORS)
            .map(|_| scope.spawn(|| run(Vec::new())))
            .collect();
        // Also when it panics: the others must not wait for more.
        let end = End(&found);
        let mut own = Vec::new();
        let whole = find(&mut |item| {
            if let Some((n, item)) = found.push(item) {
                own.push((n, work(item)));
            }
        });
        if whole.is_none() {
            found.locked().waiting.clear();
        }
        drop(end);
        let mut done = vec![run(own)];
        for thread in others {
            done.push(joined(thread));
        }
        whole.map(|()| in_order(done).collect())
    })
}

/// Items on their way from the thread that finds them.
struct Found<T> {
    items: Mutex<Items<T>>,
    changed: Condvar,
}

struct Items<T> {
    /// With their places.
    waiting: VecDeque<(usize, T)>,
    count: usize,
    ended: bool,
}

impl<T> Default for Found<T> {
    fn default() -> Self {
        let items = Items {
            waiting: VecDeque::new(),
            count: 0,
            ended: false,
        };
        Self {
            items: Mutex::new(items),
            changed: Condvar::new(),
        }
    }
}

impl<T> Found<T> {
    fn locked(&self) -> MutexGuard<'_, Items<T>> {
        // Nothing is left half done under it.
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands one in. When too many wait, gives the one that has waited longest, with its place.
    fn push(&self, item: T) -> Option<(usize, T)> {
        let mut items = self.locked();
        let place = items.count;
        items.count += 1;
        items.waiting.push_back((place, item));
        if items.waiting.len() > WAITING {
            return items.waiting.pop_front();
        }
        drop(items);
        self.changed.notify_one();
        None
    }

    /// The next one with its place, when there is one; none after the last.
    fn next(&self) -> Option<(usize, T)> {
        let mut items = self.locked();
        loop {
            if let Some(item) = items.waiting.pop_front() {
                return Some(item);
            }
            if items.ended {
                return None;
            }
            let woken = self.changed.wait(items);
            items = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Says when it is dropped that nothing more will be found.
struct End<'a, T>(&'a Found<T>);

impl<T> Drop for End<'_, T> {
    fn drop(&mut self) {
        self.0.locked().ended = true;
        self.0.changed.notify_all();
    }
}

/// Does two things at the same time, where there are processors for it.
pub(crate) fn both(one: impl FnOnce() + Send, other: impl FnOnce()) {
    if *PROCESSORS == 1 {
        one();
        return other();
    }
    thread::scope(|scope| {
        let one = scope.spawn(one);
        other();
        joined(one);
    });
}

/// Runs the same in several threads, one of them this one, but in no more than there are
/// processors.
fn on_all<R: Send>(threads: usize, run: impl Fn() -> R + Sync) -> Vec<R> {
    let others = threads.min(*PROCESSORS).saturating_sub(1);
    thread::scope(|scope| {
        let others: Vec<_> = (0..others).map(|_| scope.spawn(&run)).collect();
        let mut done = vec![run()];
        done.extend(others.into_iter().map(joined));
        done
    })
}

fn joined<R>(thread: thread::ScopedJoinHandle<'_, R>) -> R {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// What threads did, by its place.
fn in_order<R>(done: Vec<Vec<(usize, R)>>) -> impl Iterator<Item = R> {
    let mut done: Vec<(usize, R)> = done.into_iter().flatten().collect();
    done.sort_unstable_by_key(|(place, _)| *place);
    done.into_iter().map(|(_, result)| result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_keep_their_order() {
        for count in [0, 1, 31, 32, 33, 64, 1000, 1001] {
            let items: Vec<usize> = (0..count).collect();
            let mapped = map(&items, |index, item| {
                assert_eq!(index, *item);
                item * 2
            });
            assert_eq!(mapped, items.iter().map(|n| n * 2).collect::<Vec<_>>());
            assert_eq!(map_large(&items, |_, item| item * 2), mapped);
            let found = map_found(
                |found| {
                    items.iter().for_each(|item| found(*item));
                    Some(())
                },
                |item| item * 2,
            );
            assert_eq!(found, Some(mapped));
        }
    }

    #[test]
    fn nothing_comes_of_a_search_that_gives_up() {
        let given_up = map_found(
            |found| {
                (0..100).for_each(found);
                None
            },
            |item| item,
        );
        assert_eq!(given_up, None);
    }

    #[test]
    fn a_panic_while_searching_leaves_nobody_waiting() {
        let searched =
            std::panic::catch_unwind(|| map_found(|_| panic!("while searching"), |()| ()));
        assert!(searched.is_err());
    }

    /// However slow the work is: whoever finds more than can wait takes part in it.
    #[test]
    fn few_items_wait() {
        let (found, worked) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let mut most = 0;
        let done = map_found(
            |push| {
                for n in 0..1000 {
                    found.fetch_add(1, Ordering::SeqCst);
                    push(n);
                    let waiting = found.load(Ordering::SeqCst) - worked.load(Ordering::SeqCst);
                    most = most.max(waiting);
                }
                Some(())
            },
            |n| {
                std::hint::black_box((0..n).sum::<u64>());
                worked.fetch_add(1, Ordering::SeqCst);
            },
        );
        assert_eq!(done.map(|done| done.len()), Some(1000));
        assert!(most <= WAITING + *PROCESSORS, "{most}");
    }

    #[test]
    fn both_are_done() {
        let (mut one, mut other) = (0, 0);
        both(|| one += 1, || other += 1);
        assert_eq!((one, other), (1, 1));
    }
}
