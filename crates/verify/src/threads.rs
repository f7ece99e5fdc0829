//! Work on many items with all processors.

/// Fewest items for which a thread is worth its start.
const WORTH_A_THREAD: usize = 32;

/// Maps many small `items` in order, in as many threads as there are processors.
pub(crate) fn map<T: Sync, R: Send>(items: &[T], work: impl Fn(usize, &T) -> R + Sync) -> Vec<R> {
    spread(items, items.len() / WORTH_A_THREAD, work)
}

/// The same for a few large items, each of which is worth a thread.
pub(crate) fn map_large<T: Sync, R: Send>(
    items: &[T],
    work: impl Fn(usize, &T) -> R + Sync,
) -> Vec<R> {
    spread(items, items.len(), work)
}

fn spread<T: Sync, R: Send>(
    items: &[T],
    most_threads: usize,
    work: impl Fn(usize, &T) -> R + Sync,
) -> Vec<R> {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = processors.min(most_threads).max(1);
    let chunk = items.len().div_ceil(threads).max(1);
    let run = |n: usize, part: &[T]| -> Vec<R> {
        part.iter()
            .enumerate()
            .map(|(i, item)| work(n * chunk + i, item))
            .collect()
    };
    if threads == 1 {
        return run(0, items);
    }
    std::thread::scope(|scope| {
        let run = &run;
        let running: Vec<_> = items
            .chunks(chunk)
            .enumerate()
            .map(|(n, part)| scope.spawn(move || run(n, part)))
            .collect();
        running
            .into_iter()
            .flat_map(|thread| match thread.join() {
                Ok(results) => results,
                Err(panic) => std::panic::resume_unwind(panic),
            })
            .collect()
    })
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
