//! Randomness that can be repeated: its seed is printed, and `PGPOOL_TEST_SEED` sets it.

use std::{
    env,
    hash::{BuildHasher, RandomState},
};

/// SplitMix64.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// A generator whose seed is printed.
    pub(crate) fn announced() -> Self {
        let seed = match env::var("PGPOOL_TEST_SEED") {
            Ok(text) => text.parse().expect("a number in PGPOOL_TEST_SEED"),
            Err(_) => RandomState::new().hash_one(0),
        };
        eprintln!("PGPOOL_TEST_SEED={seed}");
        Self(seed)
    }

    /// From the seed in the environment, else from this one.
    pub(crate) fn seeded(seed: u64) -> Self {
        if env::var("PGPOOL_TEST_SEED").is_ok() {
            return Self::announced();
        }
        eprintln!("PGPOOL_TEST_SEED={seed}");
        Self(seed)
    }

    /// A generator of its own for the part `number` of a test.
    pub(crate) fn part(&self, number: u64) -> Self {
        let mut part = Self(self.0 ^ number.wrapping_mul(0xd6e8_feb8_6659_fd93));
        part.next();
        part
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of them.
    pub(crate) fn pick<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len())]
    }

    /// True once in so many times.
    pub(crate) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// A number from 0 up to but without `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound.max(1)).expect("a bound")).expect("a number below it")
    }
}
