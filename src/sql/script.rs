//! A text as a whole, in one piece or in many.

use std::ffi::CStr;

use super::glance::glance;
use super::lexer::Lexer;
use super::statements::Statements;
use super::{Act, Characters, Dialect};

/// What the first statement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// There is none.
    Empty,
    /// COMMIT, END, ROLLBACK (also TO), ABORT, PREPARE TRANSACTION.
    TransactionEnd,
    /// SELECT, INSERT, UPDATE, DELETE, MERGE, VALUES, TABLE, WITH or a parenthesis.
    Plain,
    /// Something else.
    Other,
}

/// What a text may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// What its first statement is.
    pub first: First,
    /// How many statements are in it. More than PostgreSQL would count if a function's body is BEGIN ATOMIC.
    pub statements: u32,
    /// How many of them begin with SET or RESET; PostgreSQL answers no more with these tags.
    pub sets: u32,
    /// The highest number of a parameter in it, `$1` and so on; 0 if there is none.
    pub parameters: u16,
    /// What it may do to the session.
    pub acts: Vec<Act>,
}

/// Reads a text. It ends at its first NUL if there is one.
#[must_use]
pub fn read(text: &[u8], dialect: Dialect) -> Script {
    glance(text, dialect).unwrap_or_else(|| read_on(text, dialect))
}

#[inline(never)]
fn read_on(text: &[u8], dialect: Dialect) -> Script {
    let mut reading = Reading::new(dialect);
    reading.feed(text);
    reading.finish()
}

/// A text that is being read.
#[derive(Debug)]
pub struct Reading {
    lexer: Lexer,
    statements: Statements,
    /// Whether the NUL was seen.
    over: bool,
}

impl Reading {
    /// The beginning of a text.
    #[must_use]
    pub fn new(dialect: Dialect) -> Self {
        Self { lexer: Lexer::new(dialect), statements: Statements::new(dialect), over: false }
    }

    /// Reads the next bytes of the text.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.over {
            return;
        }
        let text = match CStr::from_bytes_until_nul(bytes) {
            Ok(text) => {
                self.over = true;
                text.to_bytes()
            }
            Err(_) => bytes,
        };
        self.lexer.feed(text, &mut self.statements);
    }

    /// The text is over.
    #[must_use]
    pub fn finish(mut self) -> Script {
        self.lexer.finish(&mut self.statements);
        self.statements.finish()
    }
}

/// The body of the fuzz target: no panic, and every division gives the same.
///
/// # Panics
/// Where that is not so.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    let [choice, cut, text @ ..] = data else { return };
    let characters = match choice >> 1 & 3 {
        0 | 1 => Characters::Plain,
        2 => Characters::Pairs,
        _ => Characters::ShiftJis,
    };
    let dialect = Dialect { standard_strings: choice & 1 == 0, characters };
    let whole = read(text, dialect);
    let mut pieces = Reading::new(dialect);
    text.chunks(usize::from(*cut).max(1)).for_each(|piece| pieces.feed(piece));
    assert_eq!(whole, pieces.finish());
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    assert_eq!(whole, read(text, dialect));
    for act in &whole.acts {
        if let Act::Prepare { name, types, statement } = act {
            assert!(name.range.end <= types.start && types.end < statement.start && statement.start < statement.end);
            assert!(text.get(statement.clone()).is_some());
        }
    }
}
