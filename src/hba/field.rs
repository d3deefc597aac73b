//! The columns of a line, taken one after the other.

use std::slice::Iter;

use super::mistake::Mistake;
use super::token::Token;

/// What is left of a line.
pub(super) struct Columns<'a>(Iter<'a, Vec<Token>>);

impl<'a> Columns<'a> {
    pub(super) fn of(fields: &'a [Vec<Token>]) -> Self {
        Self(fields.iter())
    }

    /// The next column, which may have any number of values.
    pub(super) fn list(&mut self, what: &'static str) -> Result<&'a [Token], Mistake> {
        self.0.next().map(Vec::as_slice).ok_or(Mistake::Missing(what))
    }

    /// The next column, which has one value.
    pub(super) fn one(&mut self, what: &'static str) -> Result<&'a Token, Mistake> {
        match self.list(what)? {
            [] => Err(Mistake::Empty(what)),
            [token] => Ok(token),
            [_, _, ..] => Err(Mistake::Several(what)),
        }
    }

    /// Everything that follows, without its columns.
    pub(super) fn rest(self) -> impl Iterator<Item = &'a Token> {
        self.0.flatten()
    }

    /// Nothing may follow the columns `all`.
    pub(super) fn end(mut self, all: &'static str) -> Result<(), Mistake> {
        if self.0.next().is_some() { Err(Mistake::TooMuch(all)) } else { Ok(()) }
    }
}
