//! A call of `set_config`, from behind its opening parenthesis.

use super::acts::{Acts, setting_name};
use super::keyword::Keyword;
use super::setting::names_temporary_schema;
use super::token::{Kind, Token, Value};
use super::{Act, Arg, Feature};

/// A call that is being read.
#[derive(Debug)]
pub(super) struct Call {
    /// How deep its arguments stand.
    depth: u32,
    /// How many arguments are over.
    over: u32,
    /// How many tokens the argument has so far.
    tokens: u32,
    name: Arg,
    local: bool,
    temporary: bool,
}

impl Call {
    pub(super) fn new(depth: u32) -> Self {
        Self { depth, over: 0, tokens: 0, name: Arg::Opaque, local: false, temporary: false }
    }

    /// Whether the call is over. `depth` counts the parentheses around the token; a parenthesis is not inside of
    /// itself.
    pub(super) fn token(&mut self, token: &Token<'_>, depth: u32) -> bool {
        if depth < self.depth {
            return true;
        }
        if depth == self.depth && token.is(b',') {
            self.over = self.over.saturating_add(1);
            self.tokens = 0;
            return false;
        }
        self.tokens = self.tokens.saturating_add(1);
        let goes_on = self.tokens == 1 || is_cast(self.tokens, token);
        match self.over {
            0 if self.tokens == 1 => self.name = name(token),
            0 if !goes_on => self.name = Arg::Opaque,
            1 => self.temporary |= matches!(token.kind, Kind::Text(value) if names_temporary_schema(value)),
            2 if self.tokens == 1 => self.local = is_true(token),
            2 => self.local &= goes_on,
            _ => {}
        }
        false
    }

    /// The call is over, or something else has to be looked at in its stead.
    pub(super) fn end(self, closed: bool, acts: &mut Acts) {
        if closed && self.over == 2 && self.local {
            return;
        }
        let name = if self.over > 0 { self.name } else { Arg::Opaque };
        let path = matches!(&name, Arg::Name(name) if **name == *"search_path");
        acts.push(Act::SetConfig(name));
        if path && self.temporary {
            acts.push(Act::Uses(Feature::TempTable));
        }
    }
}

/// Whether the token of this number belongs to a cast of a literal: `::text`.
fn is_cast(number: u32, token: &Token<'_>) -> bool {
    match number {
        2 | 3 => token.is(b':'),
        4 => token.keyword() == Keyword::Type,
        _ => false,
    }
}

fn name(token: &Token<'_>) -> Arg {
    match token.kind {
        Kind::Text(Value::Whole(text)) => setting_name(text).map_or(Arg::Opaque, Arg::Name),
        Kind::Parameter(Some(number)) => Arg::Parameter(number),
        _ => Arg::Opaque,
    }
}

/// Whether it is a literal that is true (`parse_bool` in PostgreSQL's `bool.c`).
fn is_true(token: &Token<'_>) -> bool {
    match token.kind {
        Kind::Text(Value::Whole(text)) => matches!(
            text.to_ascii_lowercase().as_slice(),
            b"t" | b"tr" | b"tru" | b"true" | b"y" | b"ye" | b"yes" | b"on" | b"1"
        ),
        _ => token.keyword() == Keyword::True,
    }
}
