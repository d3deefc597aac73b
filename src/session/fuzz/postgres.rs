//! A connection of the fuzzer's PostgreSQL: it answers as PostgreSQL would, as far as the messages go, as long as nobody
//! has it do otherwise, and sees to it that a request reaches it only where it may.
//!
//! What it is sent waits until it is told to work on it, in order, as in the socket of a real one.

use std::collections::{HashMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

use super::token::{Token, tokens, unmark};
use crate::wire::scan::{Grammar, Scanner};
use crate::wire::tag::{back, back_limit, front, front_limit};
use crate::wire::view::int32;
use crate::wire::write::{Report, message, parameter_status};

/// Stands in the rows of what was prepared before.
pub(super) const PREPARED: &[u8] = b"prepared";

const FRONT: Grammar = Grammar { limit: front_limit, whole: |_| true, whole_max: usize::MAX, max: u32::MAX };
const BACK: Grammar = Grammar { limit: said_limit, whole: |_| false, whole_max: 0, max: u32::MAX };

/// A message that it was sent.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) tag: u8,
    pub(super) body: Vec<u8>,
    token: Option<Token>,
}

/// What is bound.
#[derive(Clone, Debug)]
pub(super) struct Portal {
    pub(super) text: Vec<u8>,
    pub(super) value: Vec<u8>,
}

/// How far the connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Startup,
    Open,
    /// A cancel request for the connection of this number.
    Cancel(u32),
    Closed,
}

/// A COPY FROM STDIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Copying {
    No,
    Simple,
    Extended,
}

#[derive(Debug)]
pub(super) struct Postgres {
    pub(super) id: u32,
    pub(super) stage: Stage,
    /// It has only said what PostgreSQL says.
    pub(super) honest: bool,
    /// It has said what is no message.
    nonsense: bool,
    /// Who had the connection when that could be heard; 0 is nobody.
    heard: Option<u64>,
    /// The next request fails, since somebody has asked for that.
    pub(super) canceled: bool,
    pub(super) inbox: VecDeque<Request>,
    pub(super) statements: HashMap<Vec<u8>, Vec<u8>>,
    pub(super) portals: HashMap<Vec<u8>, Portal>,
    pub(super) status: u8,
    pub(super) skips: bool,
    pub(super) copying: Copying,
    /// The statements of a Query that are not run yet.
    pub(super) script: VecDeque<Vec<u8>>,
    pub(super) setting: Option<Vec<u8>>,
    pub(super) locked: bool,
    /// Whose request came last.
    pub(super) holder: Option<Token>,
    /// The one that is being answered.
    pub(super) current: Option<Token>,
    pub(super) out: Vec<u8>,
    /// It closes the connection behind that, through a client's fault.
    pub(super) ends: bool,
    /// It was sent a request within a COPY FROM STDIN.
    pub(super) within: bool,
    /// How many bytes at the end of `out` wait.
    pub(super) held: usize,
    /// What it has sent, and not whole headers.
    said: Vec<u8>,
    sent: Scanner,
    socket: UnixStream,
    buffer: Vec<u8>,
}

impl Postgres {
    pub(super) fn new(id: u32, socket: UnixStream) -> Postgres {
        Postgres {
            id,
            stage: Stage::Startup,
            honest: true,
            nonsense: false,
            heard: None,
            canceled: false,
            inbox: VecDeque::new(),
            statements: HashMap::new(),
            portals: HashMap::new(),
            status: b'I',
            skips: false,
            copying: Copying::No,
            script: VecDeque::new(),
            setting: None,
            locked: false,
            holder: None,
            current: None,
            out: Vec::new(),
            ends: false,
            within: false,
            held: 0,
            said: Vec::new(),
            sent: Scanner::default(),
            socket,
            buffer: Vec::new(),
        }
    }

    pub(super) fn say(&mut self, tag: u8, body: &[u8]) {
        message(&mut self.out, tag, |out| out.extend_from_slice(body));
    }

    pub(super) fn error(&mut self, code: &str, text: &str) {
        let token = self.current.map(Token::text).unwrap_or_default();
        Report::new("ERROR", code, format!("{text} {token}")).write(&mut self.out);
    }

    /// Says what was not asked for.
    pub(super) fn lie(&mut self, bytes: &[u8]) {
        self.honest = false;
        self.out.extend_from_slice(bytes);
    }

    /// Sends what the socket takes; answers how much that was.
    pub(super) fn flush(&mut self) -> usize {
        let ready = self.out.len().saturating_sub(self.held);
        if ready == 0 || self.stage == Stage::Closed {
            return 0;
        }
        match self.socket.write(self.out.get(..ready).unwrap_or_default()) {
            Ok(sent) => {
                self.follow(sent);
                self.out.drain(..sent);
                if self.ends && self.out.is_empty() {
                    self.stage = Stage::Closed;
                }
                sent
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(_) => {
                self.out.clear();
                0
            }
        }
    }

    /// What it has said by now could be heard by whoever has the connection, or has it next.
    pub(super) fn quiet(&mut self, client: u64) {
        if self.nonsense && self.heard.is_none() {
            self.heard = Some(client);
        }
    }

    /// Looks whether what it says can be messages.
    fn follow(&mut self, sent: usize) {
        self.said.extend_from_slice(self.out.get(..sent).unwrap_or_default());
        let mut used = 0;
        while let Some(rest) = self.said.get(used..) {
            match self.sent.next(rest, &BACK) {
                Ok(Some(piece)) => used += piece.bytes.len(),
                Ok(None) => break,
                Err(_) => {
                    self.nonsense = true;
                    break;
                }
            }
        }
        self.said.drain(..used);
    }

    /// Reads what is there; answers how much that was. `client` has the connection, 0 is nobody; without
    /// one it is closed at the other end.
    pub(super) fn read(&mut self, room: &mut [u8], client: Option<u64>) -> usize {
        if self.stage == Stage::Closed {
            return 0;
        }
        match self.socket.read(room) {
            Ok(read) if read > 0 => {
                self.buffer.extend_from_slice(room.get(..read).unwrap_or_default());
                self.look(client);
                read
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            _ => {
                self.stage = Stage::Closed;
                1
            }
        }
    }

    fn look(&mut self, client: Option<u64>) {
        if self.stage == Stage::Startup && !self.start() {
            return;
        }
        let mut used = 0;
        let mut scanner = Scanner::default();
        // Half a message is somebody's whom nobody knows.
        let mut holder = self.holder.take();
        while let Ok(Some(piece)) = scanner.next(self.buffer.get(used..).unwrap_or_default(), &FRONT) {
            used += piece.bytes.len();
            if piece.tag == front::TERMINATE && self.copying == Copying::No {
                self.stage = Stage::Closed;
                return;
            }
            // What was asked for already may be sent before anybody listens.
            let lent = self.heard.is_some_and(|heard| client.is_some_and(|client| client != heard || client == 0));
            assert!(!lent, "connection {} is lent after nonsense: {}", self.id, piece.bytes.escape_ascii());
            let found = tokens(piece.body());
            let token = found.last().copied();
            if let Some(token) = token {
                self.owes_nobody_else(token, holder);
            }
            // One that does not say whose it is belongs to those before, where those are not over.
            let owes = self.inbox.iter().any(|request| request.tag != front::FLUSH);
            let last = holder.filter(|_| self.honest && (self.is_open() || owes));
            holder = token.or(last);
            self.holder = holder;
            self.inbox.push_back(Request { tag: piece.tag, body: piece.body().to_vec(), token });
        }
        self.buffer.drain(..used);
        self.look_within();
    }

    /// Looks whether a client has sent a request within a COPY, which makes it its own fault that it cannot be followed.
    fn look_within(&mut self) {
        let ends = |request: &&Request| matches!(request.tag, front::COPY_DONE | front::COPY_FAIL);
        let within = self.inbox.iter().take_while(|request| !ends(request));
        let asks = |request: &Request| !matches!(request.tag, front::COPY_DATA | front::FLUSH | front::SYNC);
        self.within |= self.copying != Copying::No && within.into_iter().any(asks);
    }

    /// The first invariant of pooling, as PostgreSQL sees it.
    fn owes_nobody_else(&self, token: Token, holder: Option<Token>) {
        if !self.honest {
            return;
        }
        let other = |known: &Option<Token>| known.is_some_and(|known| !known.is_of(token));
        let owed = self.inbox.iter().find(|request| other(&request.token));
        assert!(owed.is_none(), "{token:?} comes while {owed:?} is not answered");
        assert!(!(self.is_open() && other(&holder)), "{token:?} comes into the transaction of {holder:?}");
    }

    /// Whether a transaction or a request is not over.
    fn is_open(&self) -> bool {
        self.status != b'I' || self.copying != Copying::No || self.skips
    }

    /// The startup packet; answers whether more may follow.
    fn start(&mut self) -> bool {
        let Some((length, rest)) = int32(&self.buffer) else { return false };
        let Some(body) = rest.get(..(length as usize).saturating_sub(4)) else { return false };
        if let (Some((80_877_102, body)), true) = (int32(body), body.len() == 12) {
            self.stage = Stage::Cancel(int32(body).map(|(id, _)| id).unwrap_or_default());
            return false;
        }
        let used = body.len() + 4;
        self.buffer.drain(..used);
        self.stage = Stage::Open;
        self.say(back::AUTHENTICATION, &[0; 4]);
        for (name, value) in [
            ("client_encoding", "UTF8"),
            ("DateStyle", "ISO, MDY"),
            ("standard_conforming_strings", "on"),
            ("TimeZone", "UTC"),
        ] {
            parameter_status(&mut self.out, name, value.as_bytes());
        }
        self.say(back::KEY_DATA, &[self.id.to_be_bytes(), [0, 0, 0, 7]].concat());
        self.say(back::READY, b"I");
        true
    }

    /// Works on the next message. `fails`: that goes wrong, where it can.
    pub(super) fn work(&mut self, fails: bool) {
        if self.ends {
            return;
        }
        let Some(request) = self.inbox.pop_front() else { return };
        self.current = request.token;
        let before = self.out.len();
        self.answer(&request, fails);
        let said = self.out.get_mut(before..).unwrap_or_default();
        if tokens(said).into_iter().any(|token| !known(self.honest, self.holder, token)) {
            unmark(said);
        }
        self.look_within();
    }
}

/// Whether a token may be said: once lies were told, only one of whoever has the connection.
fn known(honest: bool, holder: Option<Token>, token: Token) -> bool {
    honest || holder.is_some_and(|holder| holder.is_of(token))
}

/// What may be said in a login or behind it.
fn said_limit(tag: u8) -> Option<u32> {
    if matches!(tag, back::AUTHENTICATION | back::KEY_DATA) { Some(64) } else { back_limit(tag) }
}
