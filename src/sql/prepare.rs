//! PREPARE, from behind that word.

use std::ops::Range;

use super::acts::Acts;
use super::keyword::Keyword;
use super::token::{Kind, Token};
use super::{Act, Name};

/// A PREPARE that is being read.
#[derive(Debug)]
pub(super) struct Prepare {
    expects: Expects,
    name: Option<Name>,
    types: Range<usize>,
    statement: Range<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expects {
    Name,
    /// What is behind the name, which may have been the keyword TRANSACTION.
    BehindName(Keyword),
    Types,
    As,
    Statement,
    /// Nothing that would make a PREPARE of it.
    Nothing,
}

/// What the statement has turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Going,
    /// PREPARE TRANSACTION
    Transaction,
}

impl Prepare {
    pub(super) fn new() -> Self {
        Self { expects: Expects::Name, name: None, types: 0..0, statement: 0..0 }
    }

    /// `depth` counts the parentheses around the token; a parenthesis is not inside of itself.
    pub(super) fn token(&mut self, token: &Token<'_>, depth: u32) -> Form {
        self.expects = match (self.expects, token.keyword()) {
            (Expects::Name, keyword) => {
                self.name = token.name();
                self.types = token.end..token.end;
                if self.name.is_some() { Expects::BehindName(keyword) } else { Expects::Nothing }
            }
            (Expects::BehindName(Keyword::Transaction), _) if matches!(token.kind, Kind::Text(_)) => {
                return Form::Transaction;
            }
            (Expects::BehindName(_) | Expects::As, Keyword::As) => Expects::Statement,
            (Expects::BehindName(_), _) if token.is(b'(') => {
                self.types = token.end..token.end;
                Expects::Types
            }
            (Expects::Types, _) if token.is(b')') && depth == 0 => Expects::As,
            (Expects::Types, _) => {
                widen(&mut self.types, token);
                Expects::Types
            }
            (Expects::Statement, _) => {
                widen(&mut self.statement, token);
                Expects::Statement
            }
            (Expects::BehindName(_) | Expects::As | Expects::Nothing, _) => Expects::Nothing,
        };
        Form::Going
    }

    /// The statement is over.
    pub(super) fn end(self, acts: &mut Acts) {
        match self.name {
            Some(name) if self.expects == Expects::Statement && self.statement.start < self.statement.end => {
                acts.push(Act::Prepare { name, types: self.types, statement: self.statement });
            }
            _ => acts.opaque(),
        }
    }
}

fn widen(range: &mut Range<usize>, token: &Token<'_>) {
    if range.start == range.end {
        range.start = token.start;
    }
    range.end = token.end;
}
