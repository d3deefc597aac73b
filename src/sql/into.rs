//! INTO TEMP, wherever it stands: SELECT INTO.

use super::Act;
use super::Feature;
use super::acts::Acts;
use super::keyword::Keyword;
use super::token::Token;

/// How much of it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Into {
    Nothing,
    /// INTO, and maybe LOCAL or GLOBAL.
    Word(Of),
    /// INTO TEMP, which may be the name of a table.
    Temp(Of),
    /// INTO `pg_temp`
    Schema,
}

/// Whose INTO it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// Of a statement that begins with INSERT INTO or MERGE INTO.
    Insert,
    Other,
}

impl Into {
    /// What there is behind this token.
    pub(super) fn token(self, token: &Token<'_>, of: Of, acts: &mut Acts) -> Self {
        let keyword = token.keyword();
        match (self, keyword) {
            (Self::Word(of), Keyword::Local | Keyword::Global) => return Self::Word(of),
            (Self::Word(of), Keyword::Temp) => return Self::Temp(of),
            (Self::Word(_), Keyword::PgTemp) => return Self::Schema,
            (Self::Temp(Of::Other), _) if !stands_behind_a_table(token) => acts.push(Act::Uses(Feature::TempTable)),
            (Self::Schema, _) if token.is(b'.') => acts.push(Act::Uses(Feature::TempTable)),
            _ => {}
        }
        if keyword == Keyword::Into { Self::Word(of) } else { Self::Nothing }
    }
}

/// Whether TEMP before this token is the name of a table: INSERT INTO temp (..., INTO temp.name.
fn stands_behind_a_table(token: &Token<'_>) -> bool {
    let reserved = [Keyword::Select, Keyword::Default, Keyword::As, Keyword::With, Keyword::Using, Keyword::From];
    token.is(b'(') || token.is(b'.') || reserved.contains(&token.keyword())
}
