//! What keeps a client on its backend, and sets of it.

/// What keeps a client on its backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Feature {
    /// A session-level advisory lock.
    AdvisoryLock,
    /// A temporary table, view, sequence, function: anything in `pg_temp` that outlives the transaction.
    TempTable,
    /// A cursor WITH HOLD.
    HoldCursor,
    /// LISTEN.
    Listen,
    /// A library that LOAD has put into the backend.
    Load,
}

impl Feature {
    /// All of them.
    pub const EACH: [Self; 5] = [Self::AdvisoryLock, Self::TempTable, Self::HoldCursor, Self::Listen, Self::Load];

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of [`Feature`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Features(u8);

impl Features {
    /// None of them.
    pub const EMPTY: Self = Self(0);
    /// All of them.
    pub const ALL: Self = Self((1 << Feature::EACH.len()) - 1);

    /// Puts one into the set.
    pub const fn insert(&mut self, feature: Feature) {
        self.0 |= feature.bit();
    }

    /// What is in one of the two sets.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This set without one feature.
    #[must_use]
    pub const fn without(self, feature: Feature) -> Self {
        Self(self.0 & !feature.bit())
    }

    /// Whether the set has it.
    #[must_use]
    pub const fn contains(self, feature: Feature) -> bool {
        self.0 & feature.bit() != 0
    }

    /// Whether nothing is in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// What is in it, in the order of [`Feature::EACH`].
    pub fn iter(self) -> impl Iterator<Item = Feature> {
        Feature::EACH.into_iter().filter(move |feature| self.contains(*feature))
    }
}

impl FromIterator<Feature> for Features {
    fn from_iter<I: IntoIterator<Item = Feature>>(features: I) -> Self {
        let mut set = Self::EMPTY;
        features.into_iter().for_each(|feature| set.insert(feature));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_was_put_into_it() {
        let mut set = Features::default();
        assert!(set.is_empty());
        set.insert(Feature::Listen);
        set.insert(Feature::AdvisoryLock);
        assert_eq!(set.iter().collect::<Vec<_>>(), [Feature::AdvisoryLock, Feature::Listen]);
        assert_eq!(set.without(Feature::Listen), Features::from_iter([Feature::AdvisoryLock]));
        assert_eq!(Features::EACH_IN_ALL, Features::ALL);
        assert_eq!(set.union(Features::ALL), Features::ALL);
        assert!(!set.contains(Feature::Load));
    }

    impl Features {
        const EACH_IN_ALL: Self = {
            let mut set = Self::EMPTY;
            set.insert(Feature::AdvisoryLock);
            set.insert(Feature::TempTable);
            set.insert(Feature::HoldCursor);
            set.insert(Feature::Listen);
            set.insert(Feature::Load);
            set
        };
    }
}
