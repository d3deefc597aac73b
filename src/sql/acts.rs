//! What a text may do to the session, as values.

use std::ops::Range;

use super::Feature;

/// How many acts are kept of one text. What is beyond is one [`Act::Opaque`].
const MOST_ACTS: usize = 10_000;
/// `NAMEDATALEN` - 1: PostgreSQL cuts identifiers to so many bytes.
const NAME_BYTES: usize = 63;
/// The longest name of a setting that is told, bytes; it may have any number of parts.
pub(super) const SETTING_BYTES: usize = 256;

/// Something that a text may do to the session, in the order of the text. Where a statement has to be read to its end
/// (PREPARE, CREATE TEMP), the act stands behind those inside of the statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// The session's value of a setting may change. In lower case.
    Set(Box<str>),
    /// A setting may go back to its default. In lower case.
    Reset(Box<str>),
    /// RESET ALL
    ResetAll,
    /// A call of `set_config` that is not certain to be local to the transaction.
    SetConfig(Arg),
    /// PREPARE name (types) AS statement. The acts of the statement are told as well, once, with the PREPARE.
    Prepare {
        /// The prepared statement's name.
        name: Name,
        /// The bytes between the parentheses of the types, empty where there are none.
        types: Range<usize>,
        /// The bytes of the statement, from its first token to its last.
        statement: Range<usize>,
    },
    /// EXECUTE name, also inside of EXPLAIN and of CREATE TABLE AS.
    Execute(Name),
    /// DEALLOCATE name
    Deallocate(Name),
    /// DEALLOCATE ALL
    DeallocateAll,
    /// DISCARD ALL
    DiscardAll,
    /// LISTEN channel
    Listen(Box<[u8]>),
    /// UNLISTEN channel
    Unlisten(Box<[u8]>),
    /// UNLISTEN *
    UnlistenAll,
    /// The client may have to stay on its backend.
    Uses(Feature),
    /// What kept it there may be over.
    Ends(Feature),
    /// Anything may happen: DO, CALL, functions that run a text, and what could not be read.
    Opaque,
}

/// The first argument of `set_config`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arg {
    /// A literal: the setting's name, in lower case.
    Name(Box<str>),
    /// The parameter of this number.
    Parameter(u16),
    /// Something else.
    Opaque,
}

/// An identifier in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// As PostgreSQL understands it: in lower case unless quoted, quotes undone, cut to 63 bytes.
    pub text: Box<[u8]>,
    /// Its bytes in the text, quotes included.
    pub range: Range<usize>,
}

/// The acts of a text so far.
#[derive(Debug, Default)]
pub(super) struct Acts(Vec<Act>);

impl Acts {
    pub(super) fn push(&mut self, act: Act) {
        if self.0.len() < MOST_ACTS {
            self.0.push(act);
        } else if self.0.len() == MOST_ACTS {
            self.0.push(Act::Opaque);
        }
    }

    pub(super) fn opaque(&mut self) {
        if self.0.last() != Some(&Act::Opaque) {
            self.push(Act::Opaque);
        }
    }

    pub(super) fn take(&mut self) -> Vec<Act> {
        std::mem::take(&mut self.0)
    }
}

/// An identifier cut as PostgreSQL cuts it, for UTF-8: never inside of a character.
pub(super) fn cut(identifier: &[u8]) -> &[u8] {
    if identifier.len() <= NAME_BYTES {
        return identifier;
    }
    let continues = |at: &usize| identifier.get(*at).is_some_and(|byte| byte & 0xc0 == 0x80);
    let end = (0..=NAME_BYTES).rev().find(|at| !continues(at)).filter(|at| *at > 0).unwrap_or(NAME_BYTES);
    identifier.get(..end).unwrap_or(identifier)
}

/// The name of a setting as PostgreSQL finds it (`find_option` in `guc.c`): any case, and two old names.
pub(super) fn setting_name(name: &[u8]) -> Option<Box<str>> {
    let name = std::str::from_utf8(name).ok()?.to_ascii_lowercase();
    Some(match name.as_str() {
        "sort_mem" => "work_mem".into(),
        "vacuum_mem" => "maintenance_work_mem".into(),
        _ => name.into_boxed_str(),
    })
}
