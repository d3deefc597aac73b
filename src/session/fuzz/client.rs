//! A client: what it sends, and what it may be sent.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

use memchr::memmem;

use super::input::{Input, pick};
use super::postgres::PREPARED;
use super::token::{Token, next_client, tokens, unmark};
use crate::wire::scan::{Grammar, Scanner};
use crate::wire::tag::{back, back_limit, front};
use crate::wire::write::{message, put_cstr, query};

/// What a client takes. Long messages are looked at piece by piece.
const GRAMMAR: Grammar = Grammar { limit: back_limit, whole: |_| true, whole_max: 8 * 1024, max: u32::MAX };

/// Names of statements; those at odd places stand for a text with a parameter.
const NAMES: [&str; 6] = ["", "", "s1", "s2", "s3", "s4"];

/// One client after the other at the same place.
#[derive(Debug, Default)]
pub(super) struct Client {
    pub(super) slot: usize,
    pub(super) socket: Option<UnixStream>,
    /// Does not read.
    pub(super) deaf: bool,
    /// Everything that it has sent was a right message.
    pub(super) honest: bool,
    /// Requests that a ReadyForQuery answers, unless a COPY or an error reads over them.
    pub(super) asked: u32,
    /// ReadyForQuery that it was sent.
    pub(super) ready: u32,
    /// The request whose row came last.
    pub(super) seen: u32,
    /// The last number given out.
    pub(super) serial: u32,
    /// Those before belong to another one.
    first: u32,
    /// What the socket has not taken.
    outgoing: Vec<u8>,
    /// How many bytes at the end of the next message wait for what is sent after it.
    hold: usize,
    held: usize,
    /// Where and how the next message is changed.
    change: Option<(u8, u8)>,
    buffer: Vec<u8>,
    scanner: Scanner,
}

impl Client {
    pub(super) fn at(slot: usize) -> Client {
        Client { slot, ..Client::default() }
    }

    /// A new one takes the place.
    pub(super) fn begin(&mut self, socket: UnixStream) {
        let (slot, serial) = (self.slot, next_client(self.serial));
        *self = Client { slot, serial, first: serial + 1, honest: true, socket: Some(socket), ..Client::default() };
    }

    pub(super) fn token(&mut self) -> String {
        self.serial += 1;
        Token { slot: self.slot, serial: self.serial }.text()
    }

    /// Sends the next message in two parts, the last `count` bytes later.
    pub(super) fn hold(&mut self, count: u8) {
        self.hold = usize::from(count) + 1;
    }

    /// Sends the next message with one byte changed.
    pub(super) fn change(&mut self, at: u8, by: u8) {
        self.change = Some((at, by));
        self.honest = false;
    }

    /// Whether its last request was answered, or it has gone.
    pub(super) fn served(&self) -> bool {
        self.socket.is_none() || self.seen == self.serial
    }

    fn send(&mut self, mut bytes: Vec<u8>) {
        if let Some((at, by)) = self.change.take() {
            let (at, before) = (usize::from(at) % bytes.len().max(1), tokens(&bytes));
            bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= by);
            if tokens(&bytes) != before {
                // Nobody knows whose it would be.
                bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= by);
            }
        }
        self.outgoing.append(&mut bytes);
        self.held = std::mem::take(&mut self.hold);
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.honest = false;
        let mut bytes = bytes.to_vec();
        unmark(&mut bytes);
        self.send(bytes);
    }

    pub(super) fn message(&mut self, tag: u8, body: &[u8]) {
        self.asked += u32::from(matches!(tag, front::SYNC | front::FUNCTION_CALL));
        let mut out = Vec::with_capacity(body.len() + 5);
        message(&mut out, tag, |out| out.extend_from_slice(body));
        self.send(out);
    }

    pub(super) fn query(&mut self, text: &str) {
        self.asked += 1;
        let mut out = Vec::with_capacity(text.len() + 6);
        query(&mut out, text.as_bytes());
        self.send(out);
    }

    /// Some text.
    pub(super) fn text(&mut self, detail: u8) -> String {
        let token = self.token();
        let name = pick(&["p1", "p2", "s1"], detail >> 5);
        let text = match detail % 26 {
            0 => "begin".to_owned(),
            1 => "commit".to_owned(),
            2 => "rollback".to_owned(),
            3 => "copy t from stdin".to_owned(),
            4 => format!("copy (select '{token}') to stdout"),
            5 | 6 => format!("set a.b = '{token}'"),
            7 => "reset a.b".to_owned(),
            8 => format!("select pg_advisory_lock('{token}')"),
            9 => "discard all".to_owned(),
            10 => format!("prepare {name} as select '{token}'"),
            11 => format!("execute {name}"),
            12 => format!("deallocate {name}"),
            13 => format!("select '{token}';select '{}'", self.token()),
            14 => format!("fail '{token}'"),
            15 => String::new(),
            16 => format!("set timezone = '{token}'"),
            17 => format!("begin;select '{token}'"),
            18 if detail & 0x80 != 0 => format!("select '{token}{}'", " ".repeat(70_000)),
            18 => format!("copy t from stdin;select '{token}'"),
            19 => format!("do $$ {token} $$"),
            20 => "deallocate all".to_owned(),
            21 => format!("select set_config('a.b', '{token}', false)"),
            22 => format!("reset all;select '{token}'"),
            _ => format!("select '{token}'"),
        };
        if detail / 26 % 2 == 1 && !text.is_empty() { format!("{text} /* {token} */") } else { text }
    }

    pub(super) fn parse(&mut self, detail: u8, input: &mut Input<'_>) {
        let place = usize::from(detail) % NAMES.len();
        let text = match (place % 2, detail / 8 % 4) {
            (1, 0) => format!("select $1, '{}'", self.token()),
            (1, which) => format!("select $1, {which}"),
            (_, 0) => "select 0".to_owned(),
            (_, 1) => format!("select '{}'", self.token()),
            _ => self.text(input.next().unwrap_or_default()),
        };
        let mut body = Vec::new();
        put_cstr(&mut body, pick(&NAMES, detail).as_bytes());
        put_cstr(&mut body, text.as_bytes());
        body.extend_from_slice(&[0, 0]);
        self.message(front::PARSE, &body);
    }

    pub(super) fn bind(&mut self, detail: u8) {
        let place = usize::from(detail) % NAMES.len();
        let mut body = Vec::new();
        put_cstr(&mut body, if detail & 0x40 == 0 { b"" } else { b"c" });
        put_cstr(&mut body, pick(&NAMES, detail).as_bytes());
        body.extend_from_slice(&[0, 0]);
        // Now and then one too many or too few.
        if (place % 2 == 1) != (detail & 0x80 != 0 && detail & 0x20 != 0) {
            let token = self.token();
            body.extend_from_slice(&[0, 1, 0, 0, 0, 10]);
            body.extend_from_slice(token.as_bytes());
        } else {
            body.extend_from_slice(&[0, 0]);
        }
        body.extend_from_slice(&[0, 0]);
        self.message(front::BIND, &body);
    }

    /// Describe and Close.
    pub(super) fn named(&mut self, tag: u8, detail: u8) {
        let statement = pick(&NAMES, detail);
        let (kind, name) = match detail & 0xc0 {
            0 => (b'P', ""),
            0x40 => (b'P', "c"),
            _ => (b'S', statement),
        };
        let mut body = vec![kind];
        put_cstr(&mut body, name.as_bytes());
        self.message(tag, &body);
    }

    pub(super) fn execute(&mut self, detail: u8) {
        let mut body = Vec::new();
        put_cstr(&mut body, if detail & 0x40 == 0 { b"" } else { b"c" });
        body.extend_from_slice(&[0, 0, 0, detail & 1]);
        self.message(front::EXECUTE, &body);
    }

    /// Sends what can be sent; answers how much was taken.
    pub(super) fn flush(&mut self) -> usize {
        let ready = self.outgoing.len().saturating_sub(self.held);
        let Some(socket) = self.socket.as_mut().filter(|_| ready > 0) else { return 0 };
        match socket.write(self.outgoing.get(..ready).unwrap_or_default()) {
            Ok(sent) => {
                self.outgoing.drain(..sent);
                sent
            }
            // A session that has ended takes nothing; what it has said is still to be read.
            Err(error) if error.kind() != ErrorKind::WouldBlock => {
                self.outgoing.clear();
                0
            }
            Err(_) => 0,
        }
    }

    /// Sends what was held back, too.
    pub(super) fn unhold(&mut self) {
        (self.hold, self.held) = (0, 0);
    }

    /// Reads what is there; answers how much that was.
    pub(super) fn read(&mut self, room: &mut [u8], ordered: bool) -> usize {
        let Some(socket) = self.socket.as_mut().filter(|_| !self.deaf) else { return 0 };
        match socket.read(room) {
            Ok(0) => {
                self.socket = None;
                0
            }
            Ok(read) => {
                self.buffer.extend_from_slice(room.get(..read).unwrap_or_default());
                self.look(ordered);
                read
            }
            Err(error) => {
                if error.kind() != ErrorKind::WouldBlock {
                    self.socket = None;
                }
                0
            }
        }
    }

    /// Looks at what it was sent: messages, with no token but its own in them. `ordered`: PostgreSQL has answered in
    /// order.
    fn look(&mut self, ordered: bool) {
        let mut used = 0;
        loop {
            let piece = match self.scanner.next(self.buffer.get(used..).unwrap_or_default(), &GRAMMAR) {
                Ok(Some(piece)) => piece,
                Ok(None) => break,
                Err(violation) => {
                    let rest = self.buffer.get(used..).unwrap_or_default().escape_ascii();
                    assert!(
                        used > usize::MAX / 2,
                        "client {} is sent what is no message ({violation}): {rest}",
                        self.slot
                    );
                    break;
                }
            };
            used += piece.bytes.len();
            let starts = piece.part.starts();
            self.ready += u32::from(starts && piece.tag == back::READY);
            let surplus = ordered && self.honest && self.ready > self.asked;
            assert!(!surplus, "client {} is sent a ReadyForQuery too many", self.slot);
            for token in tokens(piece.bytes) {
                let range = !self.honest || (self.first..=self.serial).contains(&token.serial);
                let whose = token.slot == self.slot && range;
                assert!(whose, "client {} is sent what is of {token:?}: {}", self.slot, piece.bytes.escape_ascii());
                // What was prepared once is run at any time.
                if starts && piece.tag == back::DATA_ROW && memmem::find(piece.bytes, PREPARED).is_none() {
                    let back = token.serial < self.seen;
                    assert!(!(ordered && self.honest && back), "client {}: {token:?} comes late", self.slot);
                    self.seen = token.serial;
                }
            }
        }
        self.buffer.drain(..used);
    }
}
