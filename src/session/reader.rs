//! How PostgreSQL reads a client's texts at present: what the tokenizer has to know, and what else makes two equal texts
//! two statements.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::backend::{Settings, State};
use crate::sql::{self, Characters, Dialect, Script};

/// Settings by which PostgreSQL reads the literals of a text when it prepares it.
const READ_BY: [&str; 11] = [
    "client_encoding",
    "standard_conforming_strings",
    "DateStyle",
    "IntervalStyle",
    "TimeZone",
    "array_nulls",
    "backslash_quote",
    "lc_monetary",
    "quote_all_identifiers",
    "transform_null_equals",
    "xmloption",
];

/// See the module's description.
#[derive(Debug, Default)]
pub(super) struct Reader {
    of: Option<(Settings, Settings)>,
    dialect: Dialect,
    setting: u64,
}

impl Reader {
    /// Looks at the client's settings, if they have changed.
    #[inline]
    pub(super) fn follow(&mut self, state: &State) {
        let same =
            self.of.as_ref().is_some_and(|(reported, extra)| *reported == state.reported && *extra == state.extra);
        if !same {
            self.read_settings(state);
        }
    }

    fn read_settings(&mut self, state: &State) {
        let value = |name| state.reported.value(name).or_else(|| state.extra.value(name));
        let encoding = value("client_encoding").unwrap_or_default();
        self.dialect = Dialect {
            standard_strings: value("standard_conforming_strings") != Some(b"off"),
            characters: Characters::of_encoding(std::str::from_utf8(encoding).unwrap_or_default()),
        };
        let mut hasher = DefaultHasher::new();
        for name in READ_BY {
            value(name).hash(&mut hasher);
        }
        self.setting = hasher.finish();
        self.of = Some((state.reported.clone(), state.extra.clone()));
    }

    /// What a text may do to the session.
    #[inline]
    pub(super) fn read(&self, text: &[u8]) -> Script {
        sql::read(text, self.dialect)
    }

    /// How a text that is too long to be held is read.
    pub(super) fn reading(&self) -> sql::Reading {
        sql::Reading::new(self.dialect)
    }

    /// The `setting` of a statement's key. `changing`: settings may have changed in this turn, so that the statement is
    /// for this client alone.
    pub(super) fn setting(&self, text: &[u8], changing: bool, client: u64) -> u64 {
        if memchr::memchr2(b'\'', b'$', text).is_none() && text.is_ascii() {
            0
        } else if changing {
            !client
        } else {
            self.setting
        }
    }
}
