//! What was changed by requests that are not answered yet, by the batch that each stands in.
//!
//! What ends with a Sync or a Query is a batch; batches are answered in order. Each operation takes constant time,
//! however much a client sends ahead: entries that have been answered are dropped now and then.

use std::borrow::Borrow;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use ahash::RandomState;

/// How many entries there may be before answered ones are looked for.
const FEW: usize = 64;

/// Where a client is in its batches: the number of the one that is being sent (from 1), and of the last that was
/// answered to its end.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    pub(super) now: u64,
    pub(super) answered: u64,
}

/// See the module's description.
#[derive(Debug)]
pub(super) struct Unanswered<K> {
    by_key: HashMap<K, u64, RandomState>,
    /// The batches that anything was noted for, in order.
    batches: VecDeque<u64>,
    prune_at: usize,
}

impl<K> Default for Unanswered<K> {
    fn default() -> Self {
        Unanswered { by_key: HashMap::default(), batches: VecDeque::new(), prune_at: FEW }
    }
}

impl<K: Hash + Eq> Unanswered<K> {
    /// Notes a change by the batch that is being sent, whatever was noted of the same before.
    pub(super) fn note(&mut self, key: K, at: Progress) {
        if self.by_key.len() >= self.prune_at {
            self.by_key.retain(|_, batch| *batch > at.answered);
            self.prune_at = FEW.max(self.by_key.len() * 2);
        }
        while self.batches.front().is_some_and(|batch| *batch <= at.answered) {
            self.batches.pop_front();
        }
        if self.batches.back() != Some(&at.now) {
            self.batches.push_back(at.now);
        }
        self.by_key.insert(key, at.now);
    }

    /// Everything is answered.
    #[inline]
    pub(super) fn clear(&mut self) {
        if !self.batches.is_empty() {
            self.by_key.clear();
            self.by_key.shrink_to(FEW);
            self.batches.clear();
            self.prune_at = FEW;
        }
    }

    /// The batch of the last change of this, if it is not answered.
    #[inline]
    pub(super) fn batch_of<Q: Hash + Eq + ?Sized>(&self, key: &Q, at: Progress) -> Option<u64>
    where
        K: Borrow<Q>,
    {
        if self.batches.is_empty() {
            return None;
        }
        self.by_key.get(key).copied().filter(|batch| *batch > at.answered)
    }

    /// Whether it was changed by a batch before the one that is being sent, which is not answered.
    #[inline]
    pub(super) fn is_changed_before<Q: Hash + Eq + ?Sized>(&self, key: &Q, at: Progress) -> bool
    where
        K: Borrow<Q>,
    {
        self.batch_of(key, at).is_some_and(|batch| batch < at.now)
    }

    /// Whether that is so of anything.
    #[inline]
    pub(super) fn any_before(&self, at: Progress) -> bool {
        self.batches.iter().find(|batch| **batch > at.answered).is_some_and(|batch| *batch < at.now)
    }

    /// What was last changed by this batch.
    pub(super) fn of_batch(&self, batch: u64) -> impl Iterator<Item = &K> {
        self.by_key.iter().filter(move |(_, changed)| **changed == batch).map(|(key, _)| key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(now: u64, answered: u64) -> Progress {
        Progress { now, answered }
    }

    #[test]
    fn a_change_is_uncertain_from_the_next_batch_until_its_own_is_answered() {
        let mut changes = Unanswered::default();
        changes.note("a", at(1, 0));
        assert!(!changes.is_changed_before("a", at(1, 0)) && !changes.any_before(at(1, 0)));
        assert!(changes.is_changed_before("a", at(2, 0)) && changes.any_before(at(2, 0)));
        assert!(!changes.is_changed_before("b", at(2, 0)));
        assert!(!changes.is_changed_before("a", at(3, 1)) && !changes.any_before(at(3, 1)));
        // Noted again, what came before does not matter to it.
        changes.note("a", at(2, 0));
        assert!(!changes.is_changed_before("a", at(2, 0)) && changes.is_changed_before("a", at(3, 0)));
        assert_eq!((changes.batch_of("a", at(3, 0)), changes.batch_of("a", at(3, 2))), (Some(2), None));
        assert_eq!(changes.of_batch(2).collect::<Vec<_>>(), [&"a"]);
        changes.clear();
        assert!(!changes.any_before(at(9, 0)));
    }

    #[test]
    fn what_is_answered_is_dropped_in_time() {
        let mut changes = Unanswered::default();
        for number in 1..100_000_u64 {
            changes.note(number, at(number, number - 1));
        }
        assert!(changes.by_key.len() <= FEW + 1 && changes.batches.len() <= 2);
        // A hundred thousand that are not answered are kept, and cost no more each.
        for number in 100_000..200_000_u64 {
            changes.note(number, at(number, 100_000));
        }
        assert!(changes.is_changed_before(&150_000, at(200_000, 100_000)));
        changes.clear();
        assert!(changes.by_key.capacity() < 1000);
    }
}
