//! What a text may do to a session.

use std::ops::Range;

/// What keeps a client on its backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Feature {
    /// An advisory lock of the session.
    AdvisoryLock,
    /// A temporary table, view or sequence.
    TempTable,
    /// A cursor WITH HOLD.
    HoldCursor,
    /// LISTEN on the backend itself.
    Listen,
    /// A library that was loaded.
    Load,
}

/// A set of [`Feature`]s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features(u8);

impl Features {
    /// None.
    pub const EMPTY: Features = Features(0);
    /// All.
    pub const ALL: Features = Features(0b1_1111);
    const EACH: [Feature; 5] =
        [Feature::AdvisoryLock, Feature::TempTable, Feature::HoldCursor, Feature::Listen, Feature::Load];

    /// Adds one.
    pub fn insert(&mut self, feature: Feature) {
        self.0 |= 1 << feature as u8;
    }

    /// Whether it is there.
    #[must_use]
    pub fn contains(self, feature: Feature) -> bool {
        self.0 & 1 << feature as u8 != 0
    }

    /// Those of both.
    #[must_use]
    pub fn union(self, other: Features) -> Features {
        Features(self.0 | other.0)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Feature> {
        Features::EACH.into_iter().filter(move |feature| self.contains(*feature))
    }
}

impl FromIterator<Feature> for Features {
    fn from_iter<I: IntoIterator<Item = Feature>>(features: I) -> Features {
        let mut set = Features::EMPTY;
        features.into_iter().for_each(|feature| set.insert(feature));
        set
    }
}

/// The first argument of `set_config`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arg {
    /// A literal: the setting's name, in lower case.
    Name(Box<str>),
    /// `$n`.
    Parameter(u16),
    /// Anything else.
    Opaque,
}

/// An identifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// As PostgreSQL takes it: in lower case unless quoted, cut at 63 bytes.
    pub text: Box<[u8]>,
    /// Where it stands in the text, quotes included.
    pub range: Range<usize>,
}

/// One thing that a text may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// The session's value of a setting may change; its name in lower case.
    Set(Box<str>),
    /// A setting may go back to its default.
    Reset(Box<str>),
    /// RESET ALL.
    ResetAll,
    /// `set_config`, unless it is sure to be for the transaction only.
    SetConfig(Arg),
    /// PREPARE.
    Prepare {
        /// Name of the statement.
        name: Name,
        /// The parameter types with their parentheses; empty where there are none.
        types: Range<usize>,
        /// The statement to be prepared.
        statement: Range<usize>,
    },
    /// EXECUTE, by itself or in EXPLAIN or CREATE TABLE AS.
    Execute(Name),
    /// DEALLOCATE of one statement.
    Deallocate(Name),
    /// DEALLOCATE ALL.
    DeallocateAll,
    /// DISCARD ALL.
    DiscardAll,
    /// LISTEN; the channel.
    Listen(Box<[u8]>),
    /// UNLISTEN of one channel.
    Unlisten(Box<[u8]>),
    /// UNLISTEN *.
    UnlistenAll,
    /// It may leave this behind.
    Uses(Feature),
    /// It may end this.
    Ends(Feature),
    /// The text does not tell what it does: DO, CALL, or more than is kept track of.
    Opaque,
}

/// What the first statement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// There is none.
    Empty,
    /// It ends a transaction block: COMMIT, END, ROLLBACK (also TO), ABORT, PREPARE TRANSACTION.
    TransactionEnd,
    /// SELECT, INSERT, UPDATE, DELETE, MERGE, VALUES, TABLE, WITH, or a parenthesis.
    Plain,
    /// Anything else.
    Other,
}

/// What a text may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// What the first statement is.
    pub first: First,
    /// How many statements there are.
    pub statements: u32,
    /// How many of them PostgreSQL answers with the tag SET or RESET.
    pub sets: u32,
    /// What they may do, in order.
    pub acts: Vec<Act>,
}
