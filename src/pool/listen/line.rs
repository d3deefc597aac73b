//! The conversation with a listening backend: one query at a time, and notifications at any time.
//!
//! The line ends when the connection is lost, when it is not wanted where it leads to any more (PAUSE, RECONNECT, a new
//! configuration), or when nobody has listened for a while. It never waits for a client. A connection that only listens
//! would not notice that the network swallows what comes for it, so it asks now and then whether PostgreSQL is there.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BufMut;
use tokio::time::{Instant, Sleep, sleep};

use super::Hub;
use super::roll::{Batch, Calls, Channel};
use crate::backend::Backend;
use crate::pool::budget::SlotPermit;
use crate::pool::{Listing, Permit, Pools};
use crate::wire::scan::{Grammar, Scanner, Violation};
use crate::wire::tag::{back, back_limit};
use crate::wire::view::{Diagnostic, Status, cstr, int32};
use crate::wire::write;

/// What may come from a listening backend; notifications have at most 8 kB.
const LISTENING: Grammar = Grammar { limit: back_limit, whole: |_| true, whole_max: usize::MAX, max: 256 * 1024 };
/// Longest wait for the answer to a query.
const ANSWER: Duration = Duration::from_secs(30);
/// Silence after which PostgreSQL is asked whether it is there.
const PING: Duration = Duration::from_secs(30);
/// How long the connection is kept after the last channel has gone.
const LINGER: Duration = Duration::from_secs(60);
/// Bytes per read.
const CHUNK: usize = 16 * 1024;

/// The settings of a role or database that end idle connections or hinder LISTEN; those that PostgreSQL knows.
const PREPARE: &[u8] = b"select pg_catalog.set_config(name, '0', false) from pg_catalog.pg_settings where name in \
    ('idle_session_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout', 'statement_timeout')";

/// Why a line was lost.
#[derive(Debug, thiserror::Error)]
pub(super) enum Loss {
    /// The connection broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// PostgreSQL closed it without a word.
    #[error("connection closed")]
    Closed,
    /// PostgreSQL said why.
    #[error("{} {}: {}", .0.severity, .0.code, .0.message)]
    Said(Box<Diagnostic>),
    /// PostgreSQL broke the protocol.
    #[error("{0}")]
    Violation(#[from] Violation),
    /// A message that has no place here.
    #[error("unexpected message 0x{0:02x}")]
    Unexpected(u8),
    /// A query was not answered.
    #[error("no answer within {} s", ANSWER.as_secs())]
    Silent,
    /// PAUSE, RECONNECT, or another configuration.
    #[error("closed by the pooler: PAUSE, RECONNECT or a new configuration")]
    Displaced,
}

/// How a line ended.
#[derive(Debug)]
pub(super) enum Over {
    /// Nobody has listened for a while.
    Quiet,
    /// The connection is of no use any more.
    Lost(Loss),
}

/// One listening backend. The fields are dropped in this order: closed first, counted no more last.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) backend: Backend,
    pub(super) _listing: Listing,
    pub(super) _permits: [Permit; 2],
    pub(super) _slot: SlotPermit,
    pub(super) talk: Talk,
}

/// The state of the conversation.
#[derive(Debug)]
pub(super) struct Talk {
    read: Vec<u8>,
    write: Vec<u8>,
    written: usize,
    prepared: bool,
    /// When it last sent anything.
    heard: Instant,
    ping: Pin<Box<Sleep>>,
    /// Everything is listened on again that was before this line; the trouble is over.
    pub(super) settled: bool,
    under_way: Option<Batch>,
    refused: Option<Box<Diagnostic>>,
    answer: Option<Pin<Box<Sleep>>>,
    quiet: Option<Pin<Box<Sleep>>>,
}

impl Talk {
    pub(super) fn new() -> Talk {
        Talk {
            read: Vec::new(),
            write: Vec::new(),
            written: 0,
            prepared: false,
            heard: Instant::now(),
            ping: Box::pin(sleep(PING)),
            settled: false,
            under_way: None,
            refused: None,
            answer: None,
            quiet: None,
        }
    }
}

impl Talk {
    fn ping_due(&mut self, cx: &mut Context<'_>) -> bool {
        let mut due = false;
        while self.ping.as_mut().poll(cx).is_ready() {
            due = self.heard.elapsed() >= PING;
            let next = if due { Instant::now() } else { self.heard } + PING;
            self.ping.as_mut().reset(next);
        }
        due
    }
}

impl Line {
    /// Talks until it is over. The caller closes the connection.
    pub(super) async fn run(&mut self, hub: &Hub, pools: &Pools) -> Over {
        let mut asked = pin!(hub.asked.notified());
        let mut chunk = vec![0; CHUNK];
        poll_fn(|cx| {
            while asked.as_mut().poll(cx).is_ready() {
                asked.set(hub.asked.notified());
                if hub.is_displaced() {
                    return Poll::Ready(Over::Lost(Loss::Displaced));
                }
            }
            match self.poll(cx, hub, pools, &mut chunk) {
                Ok(Poll::Ready(())) => Poll::Ready(Over::Quiet),
                Ok(Poll::Pending) => Poll::Pending,
                Err(loss) => Poll::Ready(Over::Lost(loss)),
            }
        })
        .await
    }

    fn poll(&mut self, cx: &mut Context<'_>, hub: &Hub, pools: &Pools, chunk: &mut [u8]) -> Result<Poll<()>, Loss> {
        loop {
            self.ask(hub, cx);
            self.poll_write(cx)?;
            match self.backend.stream.poll_read(cx, chunk)? {
                Poll::Ready(0) => return Err(Loss::Closed),
                Poll::Ready(read) => {
                    self.talk.heard = Instant::now();
                    self.talk.read.extend_from_slice(chunk.get(..read).unwrap_or_default());
                    self.take_in(hub, pools)?;
                }
                Poll::Pending => break,
            }
        }
        if self.talk.answer.as_mut().is_some_and(|answer| answer.as_mut().poll(cx).is_ready()) {
            return Err(Loss::Silent);
        }
        if self.talk.under_way.is_some() || !hub.roll().is_empty() {
            self.talk.quiet = None;
            return Ok(Poll::Pending);
        }
        let quiet = self.talk.quiet.get_or_insert_with(|| Box::pin(sleep(LINGER)));
        Ok(quiet.as_mut().poll(cx))
    }

    /// Asks what there is to ask, unless an answer is due.
    fn ask(&mut self, hub: &Hub, cx: &mut Context<'_>) {
        let talk = &mut self.talk;
        if talk.under_way.is_some() {
            return;
        }
        let batch = if talk.prepared { hub.roll().next() } else { Some(Batch::Prepare) };
        let Some(batch) = batch.or_else(|| talk.ping_due(cx).then_some(Batch::Ping)) else { return };
        talk.prepared = true;
        talk.write.clear();
        talk.written = 0;
        write::query(&mut talk.write, &statement(&batch));
        talk.under_way = Some(batch);
        talk.answer = Some(Box::pin(sleep(ANSWER)));
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Result<(), Loss> {
        let talk = &mut self.talk;
        while let rest @ [_, ..] = talk.write.get(talk.written..).unwrap_or_default() {
            match self.backend.stream.poll_write(cx, rest)? {
                Poll::Ready(0) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                Poll::Ready(written) => talk.written += written,
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    /// Takes in the whole messages that were read.
    fn take_in(&mut self, hub: &Hub, pools: &Pools) -> Result<(), Loss> {
        let read = std::mem::take(&mut self.talk.read);
        let most = pools.config.load().general.listen_queue_size;
        let mut calls = Calls::default();
        let mut used = 0;
        let result = loop {
            let rest = read.get(used..).unwrap_or_default();
            match Scanner::default().next(rest, &LISTENING) {
                Ok(None) => break Ok(()),
                Err(violation) => break Err(violation.into()),
                Ok(Some(piece)) => {
                    used += piece.bytes.len();
                    if piece.tag == back::NOTIFICATION {
                        if let Some(channel) = channel(piece.body()) {
                            hub.deliver(channel, piece.bytes, most, &mut calls);
                        }
                    } else if let Err(loss) = self.on_message(piece.tag, piece.body(), hub, most) {
                        break Err(loss);
                    }
                }
            }
        };
        calls.make();
        self.talk.read = read;
        self.talk.read.drain(..used);
        result
    }

    fn on_message(&mut self, tag: u8, body: &[u8], hub: &Hub, most: u32) -> Result<(), Loss> {
        match tag {
            back::ERROR => {
                let said = Box::new(Diagnostic::read(body));
                if self.talk.under_way.is_none() || said.severity != "ERROR" {
                    return Err(Loss::Said(said));
                }
                self.talk.refused = Some(said);
                Ok(())
            }
            back::READY if Status::from_ready(body) == Some(Status::Idle) => self.on_ready(hub, most),
            back::NOTICE
            | back::PARAMETER_STATUS
            | back::EMPTY_QUERY
            | back::COMMAND_COMPLETE
            | back::ROW_DESCRIPTION
            | back::DATA_ROW => Ok(()),
            other => Err(Loss::Unexpected(other)),
        }
    }

    fn on_ready(&mut self, hub: &Hub, most: u32) -> Result<(), Loss> {
        self.talk.answer = None;
        let batch = self.talk.under_way.take().ok_or(Loss::Unexpected(back::READY))?;
        let mut roll = hub.roll();
        let calls = match self.talk.refused.take() {
            None => roll.done(&batch),
            Some(said) => roll.refused(&batch, said).map_err(Loss::Said)?,
        };
        drop(roll);
        calls.make();
        match batch {
            Batch::Prepare | Batch::Ping => {}
            Batch::Listen(_) | Batch::Unlisten(_) => self.talk.settled |= hub.regained(most),
        }
        Ok(())
    }
}

/// The channel of a notification's body (`protocol-message-formats.html`, NotificationResponse).
fn channel(body: &[u8]) -> Option<&[u8]> {
    let (_process_id, rest) = int32(body)?;
    let (channel, _payload) = cstr(rest)?;
    Some(channel)
}

fn statement(batch: &Batch) -> Vec<u8> {
    let (word, channels) = match batch {
        Batch::Prepare => return PREPARE.to_vec(),
        Batch::Ping => return Vec::new(),
        Batch::Listen(channels) => ("LISTEN \"", channels),
        Batch::Unlisten(channels) => ("UNLISTEN \"", channels),
    };
    let mut sql = Vec::new();
    for channel in channels {
        sql.put_slice(word.as_bytes());
        quote(channel, &mut sql);
        sql.put_slice(b"\";");
    }
    sql
}

fn quote(channel: &Channel, sql: &mut Vec<u8>) {
    for &byte in channel.iter() {
        if byte == b'"' {
            sql.push(b'"');
        }
        sql.push(byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted() {
        let names = [&b"plain"[..], b"Two Words", b"a\"; drop table b; --"].map(Channel::from);
        let sql = statement(&Batch::Listen(names.to_vec()));
        let wanted = "LISTEN \"plain\";LISTEN \"Two Words\";LISTEN \"a\"\"; drop table b; --\";";
        assert_eq!(String::from_utf8(sql).unwrap(), wanted);
        assert_eq!(statement(&Batch::Unlisten(vec![Channel::from(&b"x"[..])])), b"UNLISTEN \"x\";");
    }

    #[test]
    fn the_channel_of_a_notification_is_found() {
        assert_eq!(channel(b"\0\0\0\x07name\0payload\0"), Some(&b"name"[..]));
        assert_eq!(channel(b"\0\0\0"), None);
        assert_eq!(channel(b"\0\0\0\x07name"), None);
    }
}
