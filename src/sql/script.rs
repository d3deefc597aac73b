//! From tokens to what a text may do: statements, and the names in them that count wherever they stand.

use super::act::{Act, Arg, Feature, First, Script};
use super::lexer::{Dialect, Kind, Lexer, Token};
use super::statement::Head;

/// Most acts that are kept track of.
const MOST_ACTS: usize = 10_000;

/// Most calls of `set_config` within each other that are looked into.
const MOST_CALLS: usize = 16;

/// Reads a text that comes in chunks.
#[derive(Debug)]
pub struct Reading {
    lexer: Lexer,
    reader: Reader,
    /// The text has ended with a NUL.
    over: bool,
}

impl Reading {
    /// A new text.
    #[must_use]
    pub fn new(dialect: Dialect) -> Reading {
        Reading { lexer: Lexer::new(dialect), reader: Reader::default(), over: false }
    }

    /// Its next bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.over {
            return;
        }
        let end = bytes.iter().position(|&byte| byte == 0);
        self.over = end.is_some();
        let bytes = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
        let Reading { lexer, reader, .. } = self;
        lexer.feed(bytes, &mut |token| reader.token(token));
    }

    /// What it may do.
    #[must_use]
    pub fn finish(mut self) -> Script {
        let Reading { lexer, reader, .. } = &mut self;
        let length = lexer.finish(&mut |token| reader.token(token));
        reader.end_statement(length);
        if lexer.lost {
            reader.act(Act::Opaque);
        }
        let Reader { first, statements, sets, acts, .. } = self.reader;
        Script { first: first.unwrap_or(First::Empty), statements, sets, acts }
    }
}

/// A call of `set_config` under way.
#[derive(Debug)]
struct Call {
    /// How deep its arguments are.
    depth: u32,
    argument: u32,
    name: Option<Arg>,
    /// The third argument is the literal true and nothing else; `None` before it.
    local: Option<bool>,
}

/// What the last words were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Last {
    #[default]
    Nothing,
    /// A name of a function that counts.
    Function(Function),
    Into,
    With,
    On,
    OnCommit,
    PgTemp,
    Execute,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Function {
    SetConfig,
    Lock,
    Unlock,
}

#[derive(Debug, Default)]
struct Reader {
    first: Option<First>,
    statements: u32,
    sets: u32,
    acts: Vec<Act>,
    /// The present statement.
    head: Head,
    depth: u32,
    calls: Vec<Call>,
    last: Last,
}

impl Reader {
    #[inline]
    fn token(&mut self, token: &Token) {
        if token.is_mark(b';') && self.depth == 0 {
            self.end_statement(token.start);
            return;
        }
        if self.head.is_empty() {
            self.statements = self.statements.saturating_add(1);
        }
        self.head.push(token);
        if !self.calls.is_empty() {
            self.argument(token);
        }
        match token.kind {
            Kind::Word | Kind::Quoted => self.name(token),
            Kind::Mark(mark) => self.mark(mark),
            Kind::Literal | Kind::Parameter | Kind::Number => self.last = Last::Nothing,
        }
    }

    #[inline]
    fn name(&mut self, token: &Token) {
        if self.last == Last::Execute {
            self.last = Last::Nothing;
            match token.cut {
                false => self.act(Act::Execute(super::statement::name(token))),
                true => self.act(Act::Opaque),
            }
            return;
        }
        let text = token.text();
        let quoted = token.kind == Kind::Quoted;
        self.last = match (text.len(), text.first()) {
            // The shortest words that count have two letters, the longest 31.
            (2..=31, Some(b'a'..=b'x')) => self.word(text, quoted),
            _ => Last::Nothing,
        };
        // A name that is written with escapes may be any.
        if quoted && token.cut && text.len() < super::lexer::MOST {
            self.last = Last::Function(Function::SetConfig);
        }
    }

    fn word(&mut self, text: &[u8], quoted: bool) -> Last {
        match text {
            b"set_config" => Last::Function(Function::SetConfig),
            b"pg_advisory_lock"
            | b"pg_advisory_lock_shared"
            | b"pg_try_advisory_lock"
            | b"pg_try_advisory_lock_shared" => Last::Function(Function::Lock),
            b"pg_advisory_unlock" | b"pg_advisory_unlock_shared" | b"pg_advisory_unlock_all" => {
                Last::Function(Function::Unlock)
            }
            b"pg_temp" => Last::PgTemp,
            _ if quoted => Last::Nothing,
            b"into" => Last::Into,
            b"with" => Last::With,
            b"on" => Last::On,
            b"commit" if self.last == Last::On => Last::OnCommit,
            b"drop" if self.last == Last::OnCommit => {
                self.head.drops_on_commit = true;
                Last::Nothing
            }
            b"hold" if self.last == Last::With => {
                self.head.holds = true;
                Last::Nothing
            }
            // INTO [LOCAL | GLOBAL] TEMP
            b"local" | b"global" if self.last == Last::Into => Last::Into,
            b"temp" | b"temporary" if self.last == Last::Into => {
                self.head.into_temp = true;
                Last::Nothing
            }
            // EXPLAIN EXECUTE, CREATE TABLE AS EXECUTE; not GRANT EXECUTE, not a trigger's EXECUTE FUNCTION.
            b"execute" if self.head.may_execute() => Last::Execute,
            _ => Last::Nothing,
        }
    }

    fn mark(&mut self, mark: u8) {
        match (mark, std::mem::take(&mut self.last)) {
            (b'(', Last::Function(function)) => {
                self.depth = self.depth.saturating_add(1);
                match function {
                    Function::Lock => self.act(Act::Uses(Feature::AdvisoryLock)),
                    Function::Unlock => self.act(Act::Ends(Feature::AdvisoryLock)),
                    Function::SetConfig if self.calls.len() < MOST_CALLS => {
                        self.calls.push(Call { depth: self.depth, argument: 1, name: None, local: None });
                    }
                    Function::SetConfig => self.act(Act::SetConfig(Arg::Opaque)),
                }
            }
            (b'(', _) => self.depth = self.depth.saturating_add(1),
            (b')', _) => {
                self.depth = self.depth.saturating_sub(1);
                while self.calls.last().is_some_and(|call| call.depth > self.depth) {
                    self.end_call();
                }
            }
            (b'.', Last::PgTemp) => self.head.names_temp = true,
            _ => {}
        }
    }

    /// A token within a call of `set_config`.
    fn argument(&mut self, token: &Token) {
        let Some(call) = self.calls.last_mut() else { return };
        if self.depth == call.depth && token.is_mark(b',') {
            call.argument += 1;
            return;
        }
        if token.is_mark(b')') && self.depth == call.depth {
            return;
        }
        match call.argument {
            1 => {
                let simple = match (token.kind, std::str::from_utf8(token.text())) {
                    (Kind::Literal, Ok(text)) if !token.cut => Arg::Name(text.to_ascii_lowercase().into()),
                    (Kind::Parameter, Ok(text)) => text.parse().map_or(Arg::Opaque, Arg::Parameter),
                    _ => Arg::Opaque,
                };
                call.name = Some(if call.name.is_none() { simple } else { Arg::Opaque });
            }
            3 => {
                let text = token.text().to_ascii_lowercase();
                let truth = [&b"t"[..], b"tr", b"tru", b"true", b"y", b"ye", b"yes", b"on", b"1"];
                let yes = match token.kind {
                    Kind::Word => text == b"true",
                    Kind::Literal => !token.cut && truth.contains(&text.as_slice()),
                    _ => false,
                };
                call.local = Some(yes && call.local.is_none());
            }
            _ => {}
        }
    }

    fn end_call(&mut self) {
        let Some(call) = self.calls.pop() else { return };
        if call.local != Some(true) {
            self.act(Act::SetConfig(call.name.unwrap_or(Arg::Opaque)));
        }
    }

    fn end_statement(&mut self, end: usize) {
        while !self.calls.is_empty() {
            self.calls.pop();
            self.act(Act::SetConfig(Arg::Opaque));
        }
        self.depth = 0;
        self.last = Last::Nothing;
        let head = std::mem::take(&mut self.head);
        if head.is_empty() {
            return;
        }
        self.first.get_or_insert(head.first());
        self.sets = self.sets.saturating_add(u32::from(head.sets()));
        let room = MOST_ACTS.saturating_sub(self.acts.len());
        let before = self.acts.len();
        head.acts(end, &mut self.acts);
        if self.acts.len() - before > room {
            self.acts.truncate(MOST_ACTS);
            self.acts.push(Act::Opaque);
        }
    }

    fn act(&mut self, act: Act) {
        if self.acts.len() < MOST_ACTS {
            self.acts.push(act);
        } else if self.acts.last() != Some(&Act::Opaque) {
            self.acts.push(Act::Opaque);
        }
    }
}
