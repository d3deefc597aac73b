//! What the requests of a turn may have done to the session, noted before they are sent; when the turn is over, the
//! backend is asked what they did (`inspect.rs`).

use crate::pool::Permit;
use crate::sql::{Act, Arg, Feature, Features, Script};

/// Most names of settings that are noted; with more, everything is suspected.
const MOST_NAMES: usize = 256;

/// What ends with its transaction however it is set, and `seed`, which cannot be read.
const TRANSACTIONS: [&str; 4] = ["seed", "transaction_deferrable", "transaction_isolation", "transaction_read_only"];

/// Notes of one turn.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Settings whose values may have changed.
    pub(super) settings: Vec<Box<str>>,
    /// Those of them that a RESET was about.
    pub(super) reset: Vec<Box<str>>,
    /// RESET ALL.
    pub(super) reset_all: bool,
    /// Those that were set behind the last RESET that was about them.
    pub(super) set_last: Vec<Box<str>>,
    /// What may be there now.
    pub(super) uses: Features,
    /// What may be gone now.
    pub(super) ends: Features,
    /// Something ran whose text does not tell what it does.
    pub(super) opaque: bool,
    /// Something is there that lasts until the client leaves.
    pub(super) lasting: Option<&'static str>,
    /// Channels of LISTEN.
    pub(super) listens: Vec<Box<[u8]>>,
    /// How many of them the listening backend was asked for.
    pub(super) asked: usize,
    /// Channels of UNLISTEN; `None` is all.
    pub(super) unlistens: Vec<Option<Box<[u8]>>>,
    /// PostgreSQL answered DISCARD ALL.
    pub(super) discarded: bool,
    /// Answers SET and RESET that the noted requests account for.
    pub(super) expected: u32,
    /// PostgreSQL answered RESET or UNLISTEN in a transaction that is not over.
    unsettled: bool,
    /// Such a transaction was undone, or a part of it.
    pub(super) undone: bool,
    /// There was a SET or RESET of any kind.
    sets: bool,
    /// The right to pin the backend.
    pub(super) permit: Option<Permit>,
}

impl Watch {
    /// Notes what a script may do. `parameter` answers the text of a parameter that names a setting.
    pub(super) fn note(&mut self, script: &Script, parameter: impl Fn(u16) -> Option<Box<str>>) {
        self.expected = self.expected.saturating_add(script.sets);
        self.sets |= script.sets > 0;
        for act in &script.acts {
            match act {
                Act::Set(name) => self.set(name),
                Act::Reset(name) => {
                    self.touch(name);
                    self.set_last.retain(|set| set != name);
                    if !self.reset.contains(name) {
                        self.reset.push(name.clone());
                    }
                }
                Act::ResetAll => {
                    self.reset_all = true;
                    self.set_last.clear();
                }
                Act::SetConfig(Arg::Name(name)) => self.set(name),
                Act::SetConfig(Arg::Parameter(number)) => match parameter(*number) {
                    Some(name) => self.set(&name),
                    None => self.lasting = Some("settings"),
                },
                Act::SetConfig(Arg::Opaque) => self.lasting = Some("settings"),
                Act::Listen(channel) => self.listens.push(channel.clone()),
                Act::Unlisten(channel) => self.unlistens.push(Some(channel.clone())),
                Act::UnlistenAll => self.unlistens.push(None),
                Act::Uses(feature) => self.uses.insert(*feature),
                Act::Ends(feature) => self.ends.insert(*feature),
                Act::Opaque => self.opaque = true,
                // The book of names is kept where they are rewritten, and what was discarded is known by its answer.
                Act::Prepare { .. } | Act::Execute(_) | Act::Deallocate(_) | Act::DeallocateAll | Act::DiscardAll => {}
            }
        }
    }

    fn set(&mut self, name: &str) {
        self.touch(name);
        if self.set_last.len() < MOST_NAMES && !self.set_last.iter().any(|known| **known == *name) {
            self.set_last.push(name.into());
        }
    }

    /// Whether a RESET was about this setting, and no SET behind it.
    pub(super) fn resets(&self, name: &str) -> bool {
        let is = |known: &str| known.eq_ignore_ascii_case(name);
        (self.reset_all || self.reset.iter().any(|known| is(known))) && !self.set_last.iter().any(|known| is(known))
    }

    fn touch(&mut self, name: &str) {
        if TRANSACTIONS.contains(&name) {
            return;
        }
        if self.settings.len() >= MOST_NAMES {
            self.opaque = true;
        } else if !self.settings.iter().any(|known| **known == *name) {
            self.settings.push(name.into());
        }
    }

    /// Whether settings that PostgreSQL reports may change by what was noted.
    pub(super) fn explains_reports(&self) -> bool {
        self.sets || self.reset_all || self.discarded || !self.settings.is_empty() || self.lasting.is_some()
    }

    /// PostgreSQL answered SET or RESET; what no noted request accounts for is suspect.
    pub(super) fn setting_answered(&mut self) {
        match self.expected.checked_sub(1) {
            Some(left) => self.expected = left,
            None => self.opaque = true,
        }
    }

    /// PostgreSQL answered what its transaction may still undo.
    pub(super) fn answered(&mut self) {
        self.unsettled = true;
    }

    /// Something was undone: the transaction has failed, or was rolled back, if only to a savepoint.
    pub(super) fn undo(&mut self) {
        self.undone |= self.unsettled;
    }

    /// A transaction is over.
    pub(super) fn settled(&mut self) {
        self.unsettled = false;
    }

    /// What would keep the client on its backend.
    pub(super) fn pins(&self) -> Option<&'static str> {
        let mut uses = self.uses.iter().map(feature_name);
        uses.next().or(self.lasting)
    }
}

/// A feature's name in the configuration.
pub(super) fn feature_name(feature: Feature) -> &'static str {
    match feature {
        Feature::AdvisoryLock => "advisory_locks",
        Feature::TempTable => "temp_tables",
        Feature::HoldCursor => "cursors",
        Feature::Listen => "listen",
        Feature::Load => "load",
    }
}
