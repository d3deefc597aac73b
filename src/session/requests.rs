//! What becomes of a client's requests on their way to PostgreSQL: prepared statements get the names that all clients
//! share, what a request may do to the session is noted, and what a policy forbids is sent to fail.
//!
//! Each function is told one message, writes what replaces it (if anything) behind all that was approved, enters it into
//! the turn and answers what is left of it to pass on. The books of names ([`Names`]) and of what the backend has
//! ([`Prepared`]) are written at once; what is not carried out is taken back by the turn's steps.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::agree::{Bound, portal_name};
use super::executed::Way;
use super::names::{Names, Step};
use super::reader::Reader;
use super::refuse::{full, too_many};
use super::scripts::names_statement;
use super::tally::Statements;
use super::turn::{About, Made, Own, Turn};
use super::watch::Watch;
use crate::backend::{Full, Key, Origin, PREFIX, Prepared, Statement};
use crate::pool::{ClientRecord, Pool, PoolSettings};
use crate::sql::{First, Script};
use crate::wire::tag::front;
use crate::wire::view::{Status, cstr};
use crate::wire::write::{Report, message, with_length};

/// How often the text of an unnamed statement must have come before a backend keeps a plan for it.
const OFTEN: u64 = 3;

/// What is left of a message to pass on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All of it, as it came; it is not in the turn's queue yet.
    Forward,
    /// All of it, as it came; it is in the turn's queue.
    Entered,
    /// All but this many bytes at its start, in whose place something else was written.
    Replaced(usize),
    /// It cannot be judged before PostgreSQL has answered what was sent.
    Wait,
    /// Nothing, not even of what is still to come of it; something else was written.
    Refused,
}

/// What a request is judged by.
pub(super) struct Requests<'a> {
    pub(super) turn: &'a mut Turn,
    pub(super) names: &'a mut Names,
    pub(super) prepared: &'a mut Prepared,
    pub(super) watch: &'a mut Option<Box<Watch>>,
    pub(super) notices: &'a mut Vec<u8>,
    pub(super) counts: &'a mut Statements,
    pub(super) reader: &'a Reader,
    pub(super) settings: &'a PoolSettings,
    pub(super) record: &'a ClientRecord,
    pub(super) pool: &'a Arc<Pool>,
    /// Whether the client is pinned already.
    pub(super) pinned: bool,
    /// The last Bind.
    pub(super) bound: &'a mut Bound,
    /// A Query is judged before which an extended query lacks its Sync.
    pub(super) within: bool,
    /// What has come of the client's next message.
    pub(super) next: &'a [u8],
    /// Which statement the backend runs, for whoever asks.
    pub(super) ran: &'a AtomicU64,
    /// Where what is written goes; everything approved stands before it.
    pub(super) out: &'a mut Vec<u8>,
}

impl Requests<'_> {
    /// A whole Parse.
    pub(super) fn parse(&mut self, body: &[u8]) -> Verdict {
        let Some((name, rest)) = cstr(body) else { return Verdict::Forward };
        let Some((text, _types)) = cstr(rest) else { return Verdict::Forward };
        let body_len = body.len();
        if self.settings.max_prepared == 0 {
            let script = self.reader.read(text);
            return self.admit(&script, |_| None).map_or(Verdict::Forward, |report| self.refuse_parse(&report));
        }
        let setting = self.reader.setting(text, self.watch.is_some(), self.record.id);
        let statement = match self.intern(Key { origin: Origin::Protocol, setting, body: rest }, text) {
            Ok(statement) => statement,
            Err(Full) => return self.refuse_parse(&full()),
        };
        let uncertain = !statement.script.acts.is_empty() && self.names_are_uncertain(&statement.script);
        if uncertain || self.is_moving(&statement) {
            return Verdict::Wait;
        }
        if let Some(report) = self.judge_features(&statement.script, false) {
            return self.refuse_parse(&report);
        }
        let renamed = match self.renamed_statement(&statement) {
            Ok(renamed) => renamed,
            Err(report) => return self.refuse_parse(&report),
        };
        if let Some((statement, shifts)) = renamed {
            self.ensure_named(&statement, Way::Message);
            let body = statement.body.clone();
            let verdict = self.prepare(name, &body, statement);
            if verdict == Verdict::Entered {
                self.write_message(front::PARSE, &[name, b"\0", &body[..]].concat());
            }
            self.turn.shift_last(shifts);
            return if verdict == Verdict::Refused { verdict } else { Verdict::Replaced(body_len + 5) };
        }
        self.prepare(name, rest, statement)
    }

    pub(super) fn intern(&self, key: Key<'_>, text: &[u8]) -> Result<Arc<Statement>, Full> {
        self.pool.shared.statements.intern(key, self.settings.max_statement_bytes, || self.reader.read(text))
    }

    /// A Parse of this statement, whose body behind the name is `rest`.
    fn prepare(&mut self, name: &[u8], rest: &[u8], statement: Arc<Statement>) -> Verdict {
        let length = name.len() + rest.len() + 6;
        if name.is_empty() {
            self.parse_unnamed(statement, length)
        } else {
            self.parse_named(name, rest, statement, length)
        }
    }

    /// Whether a script names statements, and names are not certain yet.
    fn names_are_uncertain(&mut self, script: &Script) -> bool {
        script.acts.iter().any(names_statement) && self.names.any_uncertain()
    }

    /// Whether the message of this type has to wait, since it is not known yet what it is about.
    pub(super) fn must_wait(&mut self, tag: u8, bytes: &[u8]) -> bool {
        let body = bytes.get(5..).unwrap_or_default();
        let name = match tag {
            front::PARSE => cstr(body).map(|(name, _)| name).filter(|name| !name.is_empty()),
            front::BIND => cstr(body).and_then(|(_, rest)| cstr(rest)).map(|(name, _)| name),
            _ => statement_name(bytes),
        };
        let Some(name) = name else { return false };
        self.names.is_uncertain(name)
            || (tag != front::CLOSE && self.names.find(name).is_some_and(|statement| self.is_moving(statement)))
    }

    /// Whether it is not known if the backend has a statement, or what would go for it.
    #[inline]
    fn is_moving(&self, statement: &Statement) -> bool {
        self.names.any_moving()
            && (self.names.is_moving(statement.id)
                || (!self.prepared.has(statement.id) && self.prepared.len() >= self.most_prepared()))
    }

    fn parse_unnamed(&mut self, statement: Arc<Statement>, length: usize) -> Verdict {
        let id = statement.id;
        let keep = self.settings.prepare_unnamed
            && statement.script.first == First::Plain
            && statement.script.acts.is_empty()
            && statement.parses.load(Relaxed) >= OFTEN
            && !statement.refused.load(Relaxed)
            && self.turn.is_at_rest();
        self.names.note_change(b"");
        let before = self.names.replace_unnamed(Arc::clone(&statement));
        let undo = Some(Box::new(Step::Unnamed((before, self.prepared.unnamed))));
        if !keep {
            self.prepared.insert_unnamed(id);
            self.turn.parse(undo);
            return Verdict::Entered;
        }
        // What the backend has without a name was parsed earlier, for all we know before a change of its tables.
        self.prepared.unnamed = None;
        self.counts.client_parses += 1;
        self.ensure(&statement);
        self.turn.make(Made::ParseComplete, undo);
        Verdict::Replaced(length)
    }

    fn parse_named(&mut self, name: &[u8], rest: &[u8], statement: Arc<Statement>, length: usize) -> Verdict {
        let id = statement.id;
        self.counts.client_parses += 1;
        if let Some(taken) = self.names.find(name).cloned() {
            // PostgreSQL is to say so, in the order in which it finds errors.
            self.ensure_something(&taken, 0);
            self.write_parse(&taken.name, rest);
            self.turn.parse(None);
            self.turn.take_last(name);
            return Verdict::Replaced(length);
        }
        if !self.names.fits(name, &statement, self.settings.max_client_statement_bytes) {
            return self.refuse_parse(&too_many());
        }
        self.names.note_change(name);
        self.names.insert(name.into(), Arc::clone(&statement));
        if !self.prepared.uses(id) {
            self.make_room(&statement);
            self.write_parse(&statement.name, rest);
            self.turn.parse(Some(Box::new(Step::Named(name.into(), id))));
            return Verdict::Replaced(length);
        }
        if self.turn.is_at_rest() {
            statement.hits.fetch_add(1, Relaxed);
            self.turn.make(Made::ParseComplete, Some(Box::new(Step::Named(name.into(), 0))));
            return Verdict::Replaced(length);
        }
        // Within a transaction PostgreSQL would have read the text now: with what the transaction has changed, and not
        // at all if it has failed. A plan that is out of date could not be mended behind the client's back either.
        if self.turn.status() == Status::Failed {
            self.write_parse(b"", rest);
            self.lose_unnamed();
            self.turn.parse(Some(Box::new(Step::Named(name.into(), 0))));
        } else {
            self.close(&statement);
            self.prepared.insert(Arc::clone(&statement));
            self.write_parse(&statement.name, rest);
            self.turn.parse(Some(Box::new(Step::Named(name.into(), id))));
        }
        Verdict::Replaced(length)
    }

    /// A Bind, whole or its first piece.
    #[inline]
    pub(super) fn bind(&mut self, bytes: &[u8], whole: bool) -> Verdict {
        let body = bytes.get(5..).unwrap_or_default();
        let Some((portal, rest)) = cstr(body) else { return Verdict::Forward };
        let Some((name, tail)) = cstr(rest) else { return Verdict::Forward };
        let Some((statement, number)) = self.names.numbered(name) else {
            self.bound.note(portal, About::default());
            return self.unknown(front::BIND, bytes, portal.len() + 1, name);
        };
        let mut statement = Arc::clone(statement);
        if !statement.script.acts.is_empty() {
            if self.names_are_uncertain(&statement.script) {
                return Verdict::Wait;
            }
            statement = match self.current(&statement) {
                Ok(statement) => statement,
                Err(report) => return self.refuse_bind(&report),
            };
            self.ensure_named(&statement, Way::Message);
        }
        if let Some(verdict) = self.disagrees(&statement, number, tail) {
            return verdict;
        }
        if !statement.script.acts.is_empty() || statement.script.sets > 0 {
            let parameter = |number| if whole { setting_name(tail, number) } else { None };
            let script = &statement.script;
            if let Some(report) = self.admit(script, parameter).or_else(|| self.admit_executed_by(&statement)) {
                return self.refuse_bind(&report);
            }
        }
        let verdict = self.pass_bind(bytes, (portal, name, tail), &statement, number);
        if statement.script.acts.iter().any(names_statement) {
            self.bound.note_runs(statement);
        }
        verdict
    }

    /// A Bind of this statement is passed on.
    #[inline]
    fn pass_bind(
        &mut self,
        bytes: &[u8],
        (portal, name, tail): (&[u8], &[u8], &[u8]),
        statement: &Arc<Statement>,
        number: u32,
    ) -> Verdict {
        let mut about = About { statement: statement.id, since: 0, name: number };
        self.ran.store(statement.id, Relaxed);
        if name.is_empty() && self.prepared.unnamed == Some(statement.id) {
            self.bound.note(portal, about);
            self.turn.bind(about);
            return Verdict::Entered;
        }
        if name.is_empty() && !self.prepared.uses(statement.id) {
            match wrong_number(statement, tail) {
                Some(parameters) => {
                    self.lose_unnamed();
                    self.write_empty(b"", parameters);
                }
                None => self.prepare_unnamed(statement),
            }
            self.bound.note(portal, about);
            self.turn.bind(about);
            return self.entered_behind(bytes);
        }
        about.since = self.ensure_for_bind(statement, tail);
        self.counts.binds += 1;
        let replaced = bytes.len() - tail.len();
        let length = word(bytes) - name.len() + statement.name.len();
        self.out.push(front::BIND);
        self.out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
        self.out.extend_from_slice(portal);
        self.out.push(0);
        self.out.extend_from_slice(&statement.name);
        self.out.push(0);
        self.bound.note(portal, about);
        self.turn.bind(about);
        Verdict::Replaced(replaced)
    }

    /// A whole Describe.
    pub(super) fn describe(&mut self, bytes: &[u8]) -> Verdict {
        let Some(name) = statement_name(bytes) else {
            let Some(about) = portal_name(bytes).and_then(|name| self.bound.about(name)) else {
                return Verdict::Forward;
            };
            self.turn.describe(about);
            return Verdict::Entered;
        };
        let Some((statement, number)) = self.names.numbered(name) else {
            return self.unknown(front::DESCRIBE, bytes, 1, name);
        };
        let statement = Arc::clone(statement);
        if !statement.script.acts.is_empty() {
            if self.names_are_uncertain(&statement.script) {
                return Verdict::Wait;
            }
            self.ensure_named(&statement, Way::Message);
        }
        let mut about = About { statement: statement.id, since: 0, name: number };
        let there = name.is_empty() && self.prepared.unnamed == Some(statement.id);
        if there || (name.is_empty() && !self.prepared.uses(statement.id)) {
            if !there {
                self.prepare_unnamed(&statement);
            }
            let forgotten = self.close_forgotten(&statement);
            self.describe_forgotten(about, forgotten);
            return if there { Verdict::Entered } else { self.entered_behind(bytes) };
        }
        self.ensure(&statement);
        let forgotten = self.close_forgotten(&statement);
        message(self.out, front::DESCRIBE, |out| {
            out.push(b'S');
            out.extend_from_slice(&statement.name);
            out.push(0);
        });
        about.since = self.prepared.used_since(statement.id);
        self.describe_forgotten(about, forgotten);
        Verdict::Replaced(bytes.len())
    }

    /// A Describe is passed on, of a statement that executes the one of this name, which is gone, if any.
    fn describe_forgotten(&mut self, about: About, forgotten: Option<&[u8]>) {
        self.turn.describe(about);
        if let Some(name) = forgotten {
            self.turn.take_last(name);
        }
    }

    /// A whole Close. Backends keep the statement for others; only the client's name is gone.
    pub(super) fn close_name(&mut self, bytes: &[u8]) -> Verdict {
        let Some(name) = statement_name(bytes) else { return Verdict::Forward };
        self.names.note_change(name);
        let undo = if name.is_empty() {
            let before = self.names.unnamed.take();
            Some(Box::new(Step::Unnamed((before, self.prepared.unnamed))))
        } else {
            self.names.remove(name).map(|(name, statement)| Box::new(Step::Closed(name, statement)))
        };
        if undo.is_none() && self.pinned {
            // It may be one that was too long to follow.
            return Verdict::Forward;
        }
        self.turn.make(Made::CloseComplete, undo);
        Verdict::Replaced(bytes.len())
    }

    /// The message goes behind what was written for it.
    fn entered_behind(&mut self, bytes: &[u8]) -> Verdict {
        self.out.extend_from_slice(bytes);
        Verdict::Replaced(bytes.len())
    }

    /// A statement that the client does not have: PostgreSQL is to say so. A name that looks like one of ours must not
    /// find it.
    fn unknown(&mut self, tag: u8, bytes: &[u8], at: usize, name: &[u8]) -> Verdict {
        let long = self.watch.as_ref().is_some_and(|watch| watch.lasting.is_some());
        if name.is_empty() && !self.pinned && !long {
            // There may be one on the backend, but it is not this client's.
            message(self.out, front::CLOSE, |out| out.extend_from_slice(b"S\0"));
            self.turn.own(Own::Close, None);
            self.lose_unnamed();
            self.enter(tag);
            return self.entered_behind(bytes);
        }
        if !name.starts_with(PREFIX) {
            return Verdict::Forward;
        }
        let (head, tail) = bytes.split_at_checked(5 + at + name.len()).unwrap_or((bytes, &[]));
        self.out.push(tag);
        self.out.extend_from_slice(&u32::try_from(word(bytes) + 1).unwrap_or(u32::MAX).to_be_bytes());
        self.out.extend_from_slice(head.get(5..).unwrap_or_default());
        self.out.push(b'?');
        self.out.extend_from_slice(tail);
        self.enter(tag);
        Verdict::Replaced(bytes.len())
    }

    fn enter(&mut self, tag: u8) {
        match tag {
            front::BIND => self.turn.bind(About::default()),
            _ => self.turn.describe(About::default()),
        }
    }

    /// Notes what a script may do; answers why it may not run, if so.
    pub(super) fn admit(&mut self, script: &Script, parameter: impl Fn(u16) -> Option<Box<str>>) -> Option<Report> {
        if script.acts.is_empty() && script.sets == 0 {
            return None;
        }
        self.judge_features(script, true).or_else(|| {
            let watch = self.watch.get_or_insert_default();
            watch.note(script, parameter);
            self.reserve_pin()
        })
    }

    pub(super) fn write_message(&mut self, tag: u8, body: &[u8]) {
        message(self.out, tag, |out| out.extend_from_slice(body));
    }
}

/// The name in a Describe or Close of a statement; `None` for one of a portal and for malformed ones.
fn statement_name(bytes: &[u8]) -> Option<&[u8]> {
    let body = bytes.get(5..)?.strip_prefix(b"S")?;
    cstr(body).filter(|(_, rest)| rest.is_empty()).map(|(name, _)| name)
}

/// The length word of a message.
fn word(bytes: &[u8]) -> usize {
    let word = bytes.get(1..5).and_then(|word| word.first_chunk::<4>());
    word.map_or(0, |word| u32::from_be_bytes(*word) as usize)
}

/// How many parameters a statement has, if a Bind gives another number of them or of their formats; `tail` follows the
/// names in it.
pub(super) fn wrong_number(statement: &Statement, tail: &[u8]) -> Option<u16> {
    let (formats, rest) = tail.split_first_chunk::<2>()?;
    let formats = u16::from_be_bytes(*formats);
    let given = u16::from_be_bytes(*rest.get(usize::from(formats) * 2..)?.first_chunk()?);
    let wanted = statement.parameters()?;
    (given != wanted || (formats > 1 && formats != given)).then_some(wanted)
}

/// The text of parameter `number` (from 1) in what follows the names in a Bind, as the name of a setting.
fn setting_name(tail: &[u8], number: u16) -> Option<Box<str>> {
    let mut rest = tail;
    let short = |rest: &mut &[u8]| {
        let (head, tail) = rest.split_first_chunk::<2>()?;
        *rest = tail;
        Some(usize::from(u16::from_be_bytes(*head)))
    };
    let formats = short(&mut rest)?;
    rest = rest.get(formats * 2..)?;
    let count = short(&mut rest)?;
    if number == 0 || usize::from(number) > count {
        return None;
    }
    for at in 1..=number {
        let (head, tail) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(i32::from_be_bytes(*head)).unwrap_or(0);
        let value = tail.get(..length)?;
        if at == number {
            return std::str::from_utf8(value).ok().map(|name| name.to_ascii_lowercase().into());
        }
        rest = tail.get(length..)?;
    }
    None
}

/// A Query.
pub(super) fn query_message(out: &mut Vec<u8>, text: &[&[u8]]) {
    out.push(front::QUERY);
    with_length(out, |out| {
        for part in text {
            out.extend_from_slice(part);
        }
        out.push(0);
    });
}
