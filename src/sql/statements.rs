//! The statements of a text, token by token.
//!
//! Only the first word of a statement makes a SET or a PREPARE of it. Calls of functions and INTO TEMP count wherever
//! they stand.

use super::acts::Acts;
use super::block::Block;
use super::call::Call;
use super::into::{Into, Of};
use super::keyword::Keyword;
use super::prepare::{Form, Prepare};
use super::setting::{Setting, Step, Verb};
use super::token::{Kind, Sink, Token, Wanted};
use super::{Act, Arg, Dialect, Feature, First, Name, Script};

/// The statements of a text so far.
#[derive(Debug)]
pub(super) struct Statements {
    dialect: Dialect,
    first: First,
    count: u32,
    /// How many of them begin with SET or RESET.
    sets: u32,
    /// The highest number of a parameter.
    parameters: u16,
    acts: Acts,
    expects: Expects,
    /// How many parentheses are open.
    depth: u32,
    /// The keyword that the token before was, and whether that was a quoted word.
    before: (Keyword, bool),
    into: Into,
    /// Whether the word UPDATE was seen in this statement.
    updates: bool,
    call: Option<Call>,
    block: Option<Box<Block>>,
}

/// What a statement is, as far as it was read.
#[derive(Debug)]
enum Expects {
    /// Its first token.
    Beginning,
    /// Nothing that matters by the statement's kind.
    Nothing,
    /// The statement that is explained.
    Explained,
    Setting(Setting),
    Prepare(Prepare),
    /// The name of what is executed.
    Execute,
    /// INTO as the second token.
    Insert,
    /// A name, ALL, or PREPARE where that was not seen yet.
    Deallocate(Option<Name>),
    Discard,
    Listen,
    Unlisten,
    /// WITH HOLD
    Declare,
    /// TEMP, AS EXECUTE and what makes a thing temporary in other ways.
    Create(Lifetime),
    /// The schema's name.
    Import,
    /// The strings of DO.
    Do,
}

/// How long what is created will be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lifetime {
    Unlimited,
    Session,
    /// ON COMMIT, and DROP may follow.
    SessionOrTransaction,
    Transaction,
}

impl Statements {
    pub(super) fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            first: First::Empty,
            count: 0,
            sets: 0,
            parameters: 0,
            acts: Acts::default(),
            expects: Expects::Beginning,
            depth: 0,
            before: (Keyword::None, false),
            into: Into::Nothing,
            updates: false,
            call: None,
            block: None,
        }
    }

    /// The text is over.
    pub(super) fn finish(&mut self) -> Script {
        self.end();
        Script {
            first: self.first,
            statements: self.count,
            sets: self.sets,
            parameters: self.parameters,
            acts: self.acts.take(),
        }
    }

    /// The statement is over.
    fn end(&mut self) {
        if let Some(call) = self.call.take() {
            call.end(false, &mut self.acts);
        }
        match std::mem::replace(&mut self.expects, Expects::Beginning) {
            Expects::Setting(setting) if setting.end(&mut self.acts) == Step::Failed => self.acts.opaque(),
            Expects::Prepare(prepare) => prepare.end(&mut self.acts),
            Expects::Deallocate(Some(name)) => self.acts.push(Act::Deallocate(name)),
            Expects::Create(Lifetime::Session | Lifetime::SessionOrTransaction) => {
                self.acts.push(Act::Uses(Feature::TempTable));
            }
            Expects::Setting(_) | Expects::Deallocate(None) | Expects::Create(_) => {}
            Expects::Beginning | Expects::Nothing | Expects::Explained | Expects::Execute | Expects::Insert => {}
            Expects::Discard | Expects::Listen | Expects::Unlisten | Expects::Declare => {}
            Expects::Import | Expects::Do => {}
        }
        self.before = (Keyword::None, false);
        self.depth = 0;
        self.into = Into::Nothing;
        self.updates = false;
        self.block = None;
    }

    /// The first token of a statement, or of one that is explained.
    fn begin(&mut self, token: &Token<'_>) {
        let keyword = token.keyword();
        if matches!(self.expects, Expects::Beginning) {
            self.count = self.count.saturating_add(1);
            if self.first == First::Empty {
                self.first = first(token);
            }
            if matches!(keyword, Keyword::Set | Keyword::Reset) {
                self.sets = self.sets.saturating_add(1);
            }
        }
        let act = match keyword {
            Keyword::Load => Some(Act::Uses(Feature::Load)),
            Keyword::Close => Some(Act::Ends(Feature::HoldCursor)),
            Keyword::Drop => Some(Act::Ends(Feature::TempTable)),
            Keyword::Call | Keyword::Do => Some(Act::Opaque),
            _ => None,
        };
        if let Some(act) = act {
            self.acts.push(act);
        }
        self.expects = match keyword {
            Keyword::Insert | Keyword::Merge => Expects::Insert,
            Keyword::Set => Expects::Setting(Setting::new(Verb::Set)),
            Keyword::Reset => Expects::Setting(Setting::new(Verb::Reset)),
            Keyword::Prepare => Expects::Prepare(Prepare::new()),
            Keyword::Execute => Expects::Execute,
            Keyword::Explain => Expects::Explained,
            Keyword::Deallocate => Expects::Deallocate(None),
            Keyword::Discard => Expects::Discard,
            Keyword::Listen => Expects::Listen,
            Keyword::Unlisten => Expects::Unlisten,
            Keyword::Declare => Expects::Declare,
            Keyword::Create => Expects::Create(Lifetime::Unlimited),
            Keyword::Import => Expects::Import,
            Keyword::Do => Expects::Do,
            _ => Expects::Nothing,
        };
    }

    /// What matters in any statement.
    fn watch(&mut self, token: &Token<'_>) {
        if let Some(call) = &mut self.call
            && call.token(token, self.depth)
            && let Some(call) = self.call.take()
        {
            call.end(true, &mut self.acts);
        }
        match token.kind {
            Kind::Mark(b'(') => self.called(self.before.0),
            Kind::Parameter(number) => self.parameters = self.parameters.max(number.unwrap_or(u16::MAX)),
            Kind::Mark(_) | Kind::Text(_) | Kind::Number => {}
            Kind::Unreadable => self.acts.opaque(),
            Kind::Word(word) => match word.keyword {
                Keyword::Unreadable => self.acts.opaque(),
                Keyword::Uescape if self.before.1 => self.acts.opaque(),
                Keyword::Update => self.updates = true,
                // A rule on this view calls set_config.
                Keyword::PgSettings if self.updates => self.acts.push(Act::SetConfig(Arg::Opaque)),
                _ => {}
            },
        }
    }

    /// A parenthesis opens behind a word.
    fn called(&mut self, function: Keyword) {
        match function {
            Keyword::AdvisoryLock => self.acts.push(Act::Uses(Feature::AdvisoryLock)),
            Keyword::AdvisoryUnlock => self.acts.push(Act::Ends(Feature::AdvisoryLock)),
            Keyword::RunsText => self.acts.opaque(),
            Keyword::SetConfig => {
                // A call inside of another's arguments: of the outer one is told what is known.
                if let Some(outer) = self.call.replace(Call::new(self.depth.saturating_add(1))) {
                    outer.end(false, &mut self.acts);
                }
            }
            _ => {}
        }
    }

    /// What matters by the statement's kind.
    fn step(&mut self, token: &Token<'_>) {
        let keyword = token.keyword();
        let next = match &mut self.expects {
            Expects::Nothing | Expects::Do | Expects::Insert => None,
            Expects::Beginning => return self.begin(token),
            Expects::Explained => return self.explained(token),
            Expects::Setting(setting) => match setting.token(token, &mut self.acts) {
                Step::More => None,
                Step::Done => Some(Expects::Nothing),
                Step::Failed => {
                    self.acts.opaque();
                    Some(Expects::Nothing)
                }
            },
            Expects::Prepare(prepare) => match prepare.token(token, self.depth) {
                Form::Going => None,
                Form::Transaction => {
                    if self.count == 1 {
                        self.first = First::TransactionEnd;
                    }
                    Some(Expects::Nothing)
                }
            },
            Expects::Deallocate(name) => {
                match (keyword, token.name()) {
                    (Keyword::All, _) => {
                        *name = None;
                        self.acts.push(Act::DeallocateAll);
                    }
                    (_, Some(new)) => *name = Some(new),
                    (_, None) => self.acts.opaque(),
                }
                None
            }
            Expects::Execute | Expects::Discard | Expects::Listen | Expects::Unlisten => {
                if let Some(act) = named(&self.expects, token) {
                    self.acts.push(act);
                }
                Some(Expects::Nothing)
            }
            Expects::Declare => declare(keyword, self.before.0, self.depth, &mut self.acts),
            Expects::Create(lifetime) => create(lifetime, token, self.before.0, self.depth, &mut self.acts),
            Expects::Import => {
                if keyword == Keyword::PgTemp {
                    self.acts.push(Act::Uses(Feature::TempTable));
                }
                None
            }
        };
        if let Some(next) = next {
            self.expects = next;
        }
    }

    /// Behind EXPLAIN: its options, then a statement.
    fn explained(&mut self, token: &Token<'_>) {
        let option = matches!(token.keyword(), Keyword::Analyze | Keyword::Verbose);
        if !option && self.depth == 0 && !token.is(b'(') && !token.is(b')') {
            self.begin(token);
        }
    }
}

impl Sink for Statements {
    #[inline(never)]
    fn token(&mut self, token: &Token<'_>) {
        match token.kind {
            Kind::Mark(b';') if self.depth == 0 => return self.end(),
            Kind::Mark(b')') => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        self.watch(token);
        let of = if matches!(self.expects, Expects::Insert) { Of::Insert } else { Of::Other };
        if self.into != Into::Nothing || token.keyword() == Keyword::Into {
            self.into = self.into.token(token, of, &mut self.acts);
        }
        if of == Of::Insert {
            self.expects = Expects::Nothing;
        } else {
            self.step(token);
        }
        if let (Expects::Do, Kind::Text(_)) = (&self.expects, token.kind)
            && let Some(block) = self.block.take()
        {
            block.finish(&mut self.acts);
        }
        if token.is(b'(') {
            self.depth = self.depth.saturating_add(1);
        }
        self.before = token.word().map_or((Keyword::None, false), |word| (word.keyword, word.quoted));
    }

    #[inline]
    fn idles(&self) -> bool {
        matches!(self.expects, Expects::Nothing) && self.into == Into::Nothing && self.call.is_none()
    }

    #[inline]
    fn pass(&mut self, quoted: bool) {
        self.before = (Keyword::None, quoted);
    }

    fn wanted(&mut self) -> Wanted {
        match self.expects {
            Expects::Do => {
                self.block = Some(Box::new(Block::new(self.dialect)));
                Wanted::All
            }
            Expects::Setting(_) => Wanted::Beginning,
            _ if self.call.is_some() => Wanted::Beginning,
            _ => Wanted::Nothing,
        }
    }

    fn content(&mut self, bytes: &[u8]) {
        if let Some(block) = &mut self.block {
            block.feed(bytes, &mut self.acts);
        }
    }
}

fn first(token: &Token<'_>) -> First {
    match token.keyword() {
        Keyword::Commit | Keyword::End | Keyword::Rollback | Keyword::Abort => First::TransactionEnd,
        Keyword::Select | Keyword::Insert | Keyword::Update | Keyword::Delete | Keyword::Merge => First::Plain,
        Keyword::Values | Keyword::Table | Keyword::With => First::Plain,
        _ if token.is(b'(') => First::Plain,
        _ => First::Other,
    }
}

/// The act of a verb and the token behind it.
fn named(verb: &Expects, token: &Token<'_>) -> Option<Act> {
    Some(match (verb, token.keyword(), token.name()) {
        (Expects::Execute, _, Some(name)) => Act::Execute(name),
        (Expects::Listen, _, Some(name)) => Act::Listen(name.text),
        (Expects::Unlisten, _, Some(name)) => Act::Unlisten(name.text),
        (Expects::Unlisten, _, None) if token.is(b'*') => Act::UnlistenAll,
        (Expects::Discard, Keyword::All, _) => Act::DiscardAll,
        (Expects::Discard, Keyword::Temp, _) => Act::Ends(Feature::TempTable),
        (Expects::Discard, _, _) => return None,
        _ => Act::Opaque,
    })
}

fn declare(keyword: Keyword, before: Keyword, depth: u32, acts: &mut Acts) -> Option<Expects> {
    match (keyword, before) {
        (Keyword::Hold, Keyword::With) => {
            acts.push(Act::Uses(Feature::HoldCursor));
            Some(Expects::Nothing)
        }
        (Keyword::For, _) if depth == 0 => Some(Expects::Nothing),
        _ => None,
    }
}

fn create(lifetime: &mut Lifetime, token: &Token<'_>, before: Keyword, depth: u32, acts: &mut Acts) -> Option<Expects> {
    let keyword = token.keyword();
    match (before, keyword) {
        (Keyword::Create | Keyword::Replace | Keyword::Global | Keyword::Local, Keyword::Temp) => {
            *lifetime = Lifetime::Session;
        }
        (Keyword::On, Keyword::Commit) if depth == 0 && *lifetime == Lifetime::Session => {
            *lifetime = Lifetime::SessionOrTransaction;
        }
        (Keyword::Commit, Keyword::Drop) if *lifetime == Lifetime::SessionOrTransaction => {
            *lifetime = Lifetime::Transaction;
        }
        (Keyword::As, Keyword::Execute) => {
            if *lifetime != Lifetime::Unlimited && *lifetime != Lifetime::Transaction {
                acts.push(Act::Uses(Feature::TempTable));
            }
            return Some(Expects::Execute);
        }
        (Keyword::Schema, Keyword::PgTemp) => *lifetime = Lifetime::Session,
        (Keyword::PgTemp, _) if token.is(b'.') => acts.push(Act::Uses(Feature::TempTable)),
        _ if *lifetime == Lifetime::SessionOrTransaction => *lifetime = Lifetime::Session,
        _ => {}
    }
    None
}
