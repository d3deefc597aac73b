//! One statement, by its first tokens and by what was seen in the rest.

use super::act::{Act, Feature, First, Name};
use super::lexer::{Kind, MOST, Token};

/// How many tokens of a statement are kept: enough for the longest beginning that counts.
const KEPT: usize = 16;

/// Most bytes of a name in PostgreSQL; longer ones are cut.
const NAME: usize = 63;

/// A statement as far as it was read.
#[derive(Debug, Default)]
pub(super) struct Head {
    tokens: [Option<Token>; KEPT],
    count: usize,
    /// Where the first AS ended that is a statement's of its own, and the last parenthesis before it.
    body: usize,
    types_end: usize,
    depth: u32,
    /// ON COMMIT DROP.
    pub(super) drops_on_commit: bool,
    /// WITH HOLD.
    pub(super) holds: bool,
    /// INTO TEMP.
    pub(super) into_temp: bool,
    /// `pg_temp.`
    pub(super) names_temp: bool,
}

/// The name that a token is.
pub(super) fn name(token: &Token) -> Name {
    let text = token.text();
    Name { text: text.get(..NAME.min(text.len())).unwrap_or_default().into(), range: token.start..token.end }
}

impl Head {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    #[inline]
    pub(super) fn push(&mut self, token: &Token) {
        if let Some(kept) = self.tokens.get_mut(self.count) {
            *kept = Some(*token);
        }
        self.count += 1;
        if self.body == 0 && self.first_is("prepare") {
            self.look_for_body(token);
        }
    }

    /// PREPARE name [(types)] AS statement.
    fn look_for_body(&mut self, token: &Token) {
        match token.kind {
            Kind::Mark(b'(') => self.depth += 1,
            Kind::Mark(b')') => {
                self.depth = self.depth.saturating_sub(1);
                self.types_end = token.end;
            }
            _ if self.depth == 0 && self.count > 2 && token.is("as") => self.body = token.end,
            _ => {}
        }
    }

    #[inline]
    fn at(&self, index: usize) -> Option<&Token> {
        self.tokens.get(index)?.as_ref()
    }

    fn is(&self, index: usize, word: &str) -> bool {
        self.at(index).is_some_and(|token| token.is(word))
    }

    fn first_is(&self, word: &str) -> bool {
        self.is(0, word)
    }

    /// Whether a word EXECUTE in this statement runs a prepared statement, as far as it was read.
    pub(super) fn may_execute(&self) -> bool {
        match self.at(0).map(Token::text) {
            Some(b"execute") => self.count == 1,
            Some(b"explain") => true,
            // CREATE TABLE ... AS EXECUTE; a trigger's EXECUTE is followed by FUNCTION or PROCEDURE.
            Some(b"create") => !(1..4).any(|index| {
                ["trigger", "rule", "function", "procedure", "event"].iter().any(|word| self.is(index, word))
            }),
            _ => false,
        }
    }

    /// What it is, for the first statement of a text.
    pub(super) fn first(&self) -> First {
        let Some(first) = self.at(0) else { return First::Empty };
        if first.is_mark(b'(') {
            return First::Plain;
        }
        if first.kind != Kind::Word {
            return First::Other;
        }
        match first.text() {
            b"select" | b"insert" | b"update" | b"delete" | b"merge" | b"values" | b"table" | b"with" => First::Plain,
            b"commit" | b"end" | b"rollback" | b"abort" => First::TransactionEnd,
            b"prepare" if self.is(1, "transaction") => First::TransactionEnd,
            _ => First::Other,
        }
    }

    /// Whether PostgreSQL answers it with the tag SET or RESET.
    pub(super) fn sets(&self) -> bool {
        (self.first_is("set") && !self.is(1, "constraints")) || self.first_is("reset")
    }

    /// What it may do; `end` is where it ends in the text.
    pub(super) fn acts(&self, end: usize, acts: &mut Vec<Act>) {
        let Some(first) = self.at(0).filter(|first| first.kind == Kind::Word) else {
            return self.temporary(acts);
        };
        match first.text() {
            b"set" => self.set(acts),
            b"reset" => self.reset(acts),
            b"prepare" if !self.is(1, "transaction") => self.prepare(end, acts),
            b"deallocate" => self.deallocate(acts),
            b"discard" if self.is(1, "all") => acts.push(Act::DiscardAll),
            b"discard" if self.is(1, "temp") || self.is(1, "temporary") => acts.push(Act::Ends(Feature::TempTable)),
            b"listen" => acts.push(self.channel(1).map_or(Act::Opaque, Act::Listen)),
            b"unlisten" if self.at(1).is_some_and(|token| token.is_mark(b'*')) => acts.push(Act::UnlistenAll),
            b"unlisten" => acts.push(self.channel(1).map_or(Act::Opaque, Act::Unlisten)),
            b"load" => acts.push(Act::Uses(Feature::Load)),
            b"declare" if self.holds => acts.push(Act::Uses(Feature::HoldCursor)),
            b"close" => acts.push(Act::Ends(Feature::HoldCursor)),
            b"drop" => acts.push(Act::Ends(Feature::TempTable)),
            b"call" | b"do" => acts.push(Act::Opaque),
            b"create" | b"explain" => self.create(acts),
            _ => self.temporary(acts),
        }
    }

    fn temporary(&self, acts: &mut Vec<Act>) {
        if self.into_temp {
            acts.push(Act::Uses(Feature::TempTable));
        }
    }

    /// CREATE [OR REPLACE] [GLOBAL | LOCAL] TEMP ..., also in EXPLAIN ANALYZE.
    fn create(&self, acts: &mut Vec<Act>) {
        let create = (0..KEPT).find(|&index| self.is(index, "create"));
        let temp = create.is_some_and(|create| {
            let mut words = (create + 1..KEPT).filter_map(|index| self.at(index));
            let word = words.find(|token| !["or", "replace", "global", "local"].iter().any(|word| token.is(word)));
            word.is_some_and(|word| word.is("temp") || word.is("temporary"))
        });
        if (temp && !self.drops_on_commit) || (self.names_temp && create.is_some()) || self.into_temp {
            acts.push(Act::Uses(Feature::TempTable));
        }
    }

    fn set(&self, acts: &mut Vec<Act>) {
        let mut at = 1;
        if self.is(1, "local") || self.is(1, "transaction") || self.is(1, "constraints") {
            return;
        }
        if self.is(1, "session") {
            if self.is(2, "characteristics") {
                let names = ["isolation", "read_only", "deferrable"];
                acts.extend(names.map(|name| Act::Set(format!("default_transaction_{name}").into())));
                return;
            }
            if self.is(2, "authorization") {
                return acts.push(Act::Set("session_authorization".into()));
            }
            at = 2;
        }
        let special = match self.at(at).filter(|token| token.kind == Kind::Word).map(Token::text) {
            Some(b"time") if self.is(at + 1, "zone") => Some("timezone"),
            Some(b"names") => Some("client_encoding"),
            Some(b"schema") => Some("search_path"),
            Some(b"role") => Some("role"),
            Some(b"xml") => Some("xmloption"),
            Some(b"seed") => return,
            _ => None,
        };
        if let Some(name) = special {
            return acts.push(Act::Set(name.into()));
        }
        let Some((name, next)) = self.setting(at) else { return acts.push(Act::Opaque) };
        let default = self.is(next + 1, "default") && self.count == next + 2;
        acts.push(if default { Act::Reset(name) } else { Act::Set(name) });
    }

    fn reset(&self, acts: &mut Vec<Act>) {
        if self.is(1, "all") {
            return acts.push(Act::ResetAll);
        }
        let special = match self.at(1).filter(|token| token.kind == Kind::Word).map(Token::text) {
            Some(b"session") if self.is(2, "authorization") => Some("session_authorization"),
            Some(b"time") if self.is(2, "zone") => Some("timezone"),
            Some(b"transaction") => return,
            _ => None,
        };
        let name = special.map(Box::from).or_else(|| self.setting(1).map(|(name, _)| name));
        acts.push(name.map_or(Act::Opaque, Act::Reset));
    }

    /// The name of a setting, with its dots, from a token on; and the index of what follows.
    fn setting(&self, from: usize) -> Option<(Box<str>, usize)> {
        let mut at = from;
        let mut name = String::new();
        loop {
            let token = self.at(at).filter(|token| token.is_name() && !token.cut)?;
            // Quoted or not, PostgreSQL compares the names of settings without regard to case.
            name.push_str(&std::str::from_utf8(token.text()).ok()?.to_ascii_lowercase());
            at += 1;
            if !self.at(at).is_some_and(|token| token.is_mark(b'.')) {
                return Some((name.into(), at));
            }
            name.push('.');
            at += 1;
        }
    }

    fn prepare(&self, end: usize, acts: &mut Vec<Act>) {
        let Some(named) = self.at(1).filter(|token| token.is_name() && !token.cut) else {
            return acts.push(Act::Opaque);
        };
        if self.body == 0 {
            // PostgreSQL will refuse it.
            return;
        }
        let types = self.at(2).filter(|token| token.is_mark(b'(')).map_or(0..0, |open| open.start..self.types_end);
        acts.push(Act::Prepare { name: name(named), types, statement: self.body..end });
    }

    fn deallocate(&self, acts: &mut Vec<Act>) {
        let at = if self.is(1, "prepare") && self.count > 2 { 2 } else { 1 };
        if self.is(at, "all") {
            return acts.push(Act::DeallocateAll);
        }
        let named = self.at(at).filter(|token| token.is_name() && !token.cut);
        acts.push(named.map_or(Act::Opaque, |named| Act::Deallocate(name(named))));
    }

    fn channel(&self, at: usize) -> Option<Box<[u8]>> {
        // A cut name may be written with escapes; one that is only long is cut by PostgreSQL as well.
        let token = self.at(at).filter(|token| token.is_name() && (!token.cut || token.text().len() == MOST))?;
        Some(name(token).text)
    }
}
