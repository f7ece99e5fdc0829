//! What counts: atomics, one instruction each.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Counts up from the start of the process.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn count(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    /// How many.
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Upper ends of the buckets, in microseconds: from a fraction of what a commit takes to what the
/// slowest upstream takes.
const BOUNDS: [u64; 16] = [
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    10_000_000,
    30_000_000,
    120_000_000,
];

/// How often something took how long.
#[derive(Debug, Default)]
pub struct Histogram {
    /// By bucket, each without the ones below it; the last is what took longer than all bounds.
    buckets: [Counter; BOUNDS.len() + 1],
    microseconds: Counter,
}

/// A histogram at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Distribution {
    /// Upper end in seconds, and how many were not above it. The last end is infinite, so its
    /// number is that of all.
    pub up_to: Vec<(f64, u64)>,
    /// Sum of all, in seconds.
    pub sum: f64,
}

impl Histogram {
    /// It took so long once more.
    pub fn observe(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|bound| *bound < took);
        self.buckets[bucket].count();
        self.microseconds.add(took);
    }

    /// As it stands. What is observed meanwhile may be in the sum and not in a bucket yet.
    pub fn distribution(&self) -> Distribution {
        let ends = BOUNDS.iter().map(|bound| *bound as f64 / 1e6);
        let mut below = 0;
        let up_to = ends
            .chain([f64::INFINITY])
            .zip(&self.buckets)
            .map(|(end, bucket)| {
                below += bucket.value();
                (end, below)
            });
        Distribution {
            up_to: up_to.collect(),
            sum: self.microseconds.value() as f64 / 1e6,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let histogram = Histogram::default();
        for micros in [0, 250, 251, 120_000_000, 120_000_001] {
            histogram.observe(Duration::from_micros(micros));
        }
        let seen = histogram.distribution();
        let at = |end: f64| seen.up_to.iter().find(|(own, _)| *own == end).unwrap().1;
        assert_eq!(at(0.000_25), 2);
        assert_eq!(at(0.000_5), 3);
        assert_eq!(at(30.0), 3);
        assert_eq!(at(120.0), 4);
        assert_eq!(at(f64::INFINITY), 5);
        assert!((seen.sum - 240.000_502).abs() < 1e-9, "{}", seen.sum);
    }

    #[test]
    fn counting_allocates_nothing() {
        let (histogram, counter) = (Histogram::default(), Counter::default());
        let allocated = allocation_counter::measure(|| {
            histogram.observe(Duration::from_millis(3));
            counter.add(7);
        });
        assert_eq!(allocated.count_total, 0);
    }
}
