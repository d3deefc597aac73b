//! Times in buckets with fixed bounds.
//!
//! To record one is a table look-up, a comparison and one addition; sums are the counters' to keep.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Upper bounds of the buckets in microseconds, each included; above the last there is one more. Neighbours are at least
/// twice as far, so that between two powers of two there is one at most: [`bucket`] depends on it.
pub const BOUNDS: [u64; 17] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 60_000_000,
];

/// How many buckets there are.
pub const BUCKETS: usize = BOUNDS.len() + 1;

/// How many bounds are below `2^(k - 1)`, for times of `k` binary digits, and the bound that comes next.
const FIRST: [(u8, u64); 65] = {
    let mut first = [(0, u64::MAX); 65];
    let mut digits = 0;
    while digits < 65 {
        let lowest = if digits == 0 { 0 } else { 1u64 << (digits - 1) };
        let mut below = 0;
        #[allow(clippy::indexing_slicing, reason = "checked when it is compiled")]
        while below < BOUNDS.len() && BOUNDS[below] < lowest {
            below += 1;
        }
        #[allow(clippy::indexing_slicing, clippy::cast_possible_truncation, reason = "checked when it is compiled")]
        {
            first[digits] = (below as u8, if below < BOUNDS.len() { BOUNDS[below] } else { u64::MAX });
        }
        digits += 1;
    }
    first
};

/// The bucket of a time.
#[inline]
fn bucket(micros: u64) -> usize {
    let digits = u64::BITS - micros.leading_zeros();
    let (below, next) = FIRST.get(digits as usize).copied().unwrap_or_default();
    usize::from(below) + usize::from(micros > next)
}

/// How many times fell into each bucket.
#[derive(Debug, Default)]
pub struct Histogram([AtomicU64; BUCKETS]);

impl Histogram {
    /// Counts a time, in microseconds.
    #[inline]
    pub fn record(&self, micros: u64) {
        if let Some(count) = self.0.get(bucket(micros)) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// The present counts.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts(std::array::from_fn(|at| self.0.get(at).map_or(0, |count| count.load(Relaxed))))
    }
}

/// The counts of a [`Histogram`] at one moment, each bucket by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts(pub [u64; BUCKETS]);

impl Counts {
    /// Bucket by bucket sum.
    #[must_use]
    pub fn plus(mut self, other: &Counts) -> Counts {
        self.0.iter_mut().zip(other.0).for_each(|(one, other)| *one = one.wrapping_add(other));
        self
    }

    /// How many times were counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().fold(0, |sum, count| sum.wrapping_add(*count))
    }
}

/// The times of one pool. Sums of the first three are in its [`Counters`](super::Counters).
#[derive(Debug, Default)]
pub struct Times {
    /// From the first request to ReadyForQuery.
    pub query: Histogram,
    /// From idle to idle.
    pub transaction: Histogram,
    /// For a backend, by those who had to wait at all.
    pub wait: Histogram,
    /// To open a backend, its login included.
    pub connect: Histogram,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bounds_are_far_enough_from_each_other() {
        assert!(BOUNDS.is_sorted());
        let octaves: std::collections::HashSet<u32> = BOUNDS.iter().map(|bound| bound.ilog2()).collect();
        assert_eq!(octaves.len(), BOUNDS.len());
    }

    #[test]
    fn a_bound_belongs_to_its_own_bucket() {
        for (at, bound) in BOUNDS.into_iter().enumerate() {
            assert_eq!((bucket(bound - 1), bucket(bound), bucket(bound + 1)), (at, at, at + 1), "{bound}");
        }
        assert_eq!((bucket(0), bucket(u64::MAX)), (0, BUCKETS - 1));
    }

    proptest! {
        #[test]
        fn a_time_is_in_the_first_bucket_whose_bound_it_does_not_pass(micros: u64, shift in 0u32..64) {
            let micros = micros >> shift;
            prop_assert_eq!(bucket(micros), BOUNDS.iter().filter(|bound| **bound < micros).count());
        }
    }

    #[test]
    fn what_was_recorded_is_counted() {
        let (one, other) = (Histogram::default(), Histogram::default());
        [0, 100, 101, 70_000_000].iter().for_each(|micros| one.record(*micros));
        other.record(101);
        let sum = one.counts().plus(&other.counts());
        assert_eq!((sum.0[0], sum.0[1], sum.0[BUCKETS - 1], sum.total()), (2, 2, 1, 5));
    }
}
