//! The relay of one turn: bytes of both directions, forwarded as they came, judged message by message by the turn
//! machine.
//!
//! One task polls both sockets; nothing is copied but what a socket reads, nothing is allocated, and a direction whose
//! reader is slow is not read from. Invariant: bytes reach the other side only after their message was judged.

use std::io::IoSlice;
use std::task::{Context, Poll, ready};

use super::end::End;
use super::tally::Tally;
use super::turn::{Back, Front, Turn};
use super::workspace::Workspace;
use crate::backend::{Backend, Interner};
use crate::config::PoolMode;
use crate::net::Stream;
use crate::pool::ClientRecord;
use crate::wire::scan::{Grammar, Piece, Scanner};
use crate::wire::tag::{back, back_limit, front_limit};
use crate::wire::view::{Diagnostic, Status};

/// How a client's messages may look.
pub(super) fn front_grammar(max: u32) -> Grammar {
    Grammar { limit: front_limit, whole: |_| false, max }
}

/// Messages of PostgreSQL whose bodies are read; they are short.
fn read_whole(tag: u8) -> bool {
    matches!(tag, back::READY | back::PARAMETER_STATUS | back::COMMAND_COMPLETE)
}

/// What to do with the rest of a message whose start was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    Forward,
    Discard,
}

/// What a relay borrows.
pub(super) struct Parties<'a> {
    pub(super) client: &'a mut Stream,
    pub(super) backend: &'a mut Backend,
    pub(super) workspace: &'a mut Workspace,
    pub(super) record: &'a ClientRecord,
    pub(super) tally: &'a mut Tally,
    pub(super) interner: &'a Interner,
    pub(super) scanner: &'a mut Scanner,
}

/// One turn, or in session mode all turns of a client.
pub(super) struct Relay<'a> {
    client: &'a mut Stream,
    backend: &'a mut Backend,
    workspace: &'a mut Workspace,
    record: &'a ClientRecord,
    tally: &'a mut Tally,
    interner: &'a Interner,
    mode: PoolMode,
    up_scanner: &'a mut Scanner,
    up_grammar: Grammar,
    up_rest: Rest,
    down_scanner: Scanner,
    down_grammar: Grammar,
    down_rest: Rest,
    /// The client said goodbye.
    leaving: bool,
    /// The last read of the client's socket found nothing and left a waker there.
    armed: bool,
    /// The same of PostgreSQL's.
    backend_armed: bool,
}

impl<'a> Relay<'a> {
    /// A relay at the start of a turn: nothing of the client's bytes has been judged yet.
    pub(super) fn new(parties: Parties<'a>, mode: PoolMode, max_packet: u32) -> Relay<'a> {
        let Parties { client, backend, workspace, record, tally, interner, scanner } = parties;
        Relay {
            client,
            backend,
            workspace,
            record,
            tally,
            interner,
            mode,
            up_scanner: scanner,
            up_grammar: front_grammar(max_packet),
            up_rest: Rest::Forward,
            down_scanner: Scanner::default(),
            down_grammar: Grammar { limit: back_limit, whole: read_whole, max: u32::MAX },
            down_rest: Rest::Forward,
            leaving: false,
            armed: false,
            backend_armed: false,
        }
    }

    /// Whether a message of our own may be put between those that the client has received.
    pub(super) fn client_at_boundary(&self) -> bool {
        self.down_scanner.at_boundary() || self.down_rest == Rest::Discard
    }

    /// Whether the task will be woken by the client's next bytes.
    pub(super) fn client_armed(&self) -> bool {
        self.armed
    }

    /// Judges what was read from the client before there was a backend.
    pub(super) fn begin(&mut self) -> Result<(), End> {
        self.judge_up()
    }

    /// Relays until the backend may go to somebody else; answers whether the client has said goodbye. In session mode
    /// that is only when the client leaves while nothing is owed.
    ///
    /// Cancel safety: none; the backend must be closed then.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, End>> {
        if let Some(reason) = self.record.interrupt.raised() {
            self.record.interrupt.clear();
            if !reason.passes() {
                return Poll::Ready(Err(End::Interrupted(reason)));
            }
        }
        // PostgreSQL's side first: the answer that ends a turn spares a look at the client.
        match self.poll_down(cx) {
            Poll::Ready(Err(end)) => return Poll::Ready(Err(end)),
            Poll::Ready(Ok(())) => return Poll::Ready(Ok(self.leaving)),
            Poll::Pending => {}
        }
        if let Poll::Ready(Err(end)) = self.poll_up(cx) {
            return Poll::Ready(Err(end));
        }
        if self.over() {
            // What went up last is answered by nothing.
            return Poll::Ready(Ok(self.leaving));
        }
        if self.leaving && self.up_is_sent() && self.workspace.turn.needs_client() {
            // It left with a transaction or a request open: nothing that may be lent again.
            return Poll::Ready(Err(End::Goodbye));
        }
        Poll::Pending
    }

    /// Whether the backend stands idle with nothing owed, whatever the mode.
    pub(super) fn idle(&self) -> bool {
        self.workspace.turn.finished()
            && self.up_scanner.at_boundary()
            && self.down_scanner.at_boundary()
            && self.workspace.down.unjudged().is_empty()
            && self.up_is_sent()
    }

    fn up_is_sent(&self) -> bool {
        self.workspace.up.approved().is_empty() && self.workspace.prefix_sent == self.workspace.prefix.len()
    }

    /// Whether the backend may go to somebody else.
    fn over(&self) -> bool {
        (self.mode != PoolMode::Session || self.leaving) && self.idle()
    }

    /// From the client to PostgreSQL. Never ready but with an error.
    fn poll_up(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        loop {
            while !self.up_is_sent() {
                ready!(self.poll_send_up(cx))?;
            }
            if self.leaving {
                // What it has asked for is finished for it, but not once it has gone.
                return self.client.poll_closed(cx).map(|()| Err(End::ClientClosed));
            }
            // A full turn goes on with PostgreSQL's next answer.
            if self.workspace.turn.is_full() {
                return Poll::Pending;
            }
            let room = self.workspace.up.room();
            let read = match ready!(self.client.poll_read_armed(cx, room, &mut self.armed)) {
                Ok(0) => return Poll::Ready(Err(End::ClientClosed)),
                Ok(read) => read,
                Err(error) => return Poll::Ready(Err(End::ClientBroke(error))),
            };
            self.tally.received += read as u64;
            self.workspace.up.filled(read);
            self.judge_up()?;
        }
    }

    fn poll_send_up(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        let Workspace { up, prefix, prefix_sent, .. } = &mut *self.workspace;
        let first = prefix.get(*prefix_sent..).unwrap_or_default();
        let sent = if first.is_empty() {
            ready!(self.backend.stream.poll_write(cx, up.approved()))
        } else {
            let slices = [IoSlice::new(first), IoSlice::new(up.approved())];
            ready!(self.backend.stream.poll_write_vectored(cx, &slices))
        };
        let sent = match sent {
            Ok(sent) => sent,
            // PostgreSQL may have said why before it closed; that is still to be read.
            Err(_) => return self.poll_last_words(cx),
        };
        let of_first = sent.min(first.len());
        *prefix_sent += of_first;
        up.sent(sent - of_first);
        Poll::Ready(Ok(()))
    }

    /// Sending failed: relays what PostgreSQL still says, until it ends.
    fn poll_last_words(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        match ready!(self.poll_down(cx)) {
            Err(end) => Poll::Ready(Err(end)),
            Ok(()) => Poll::Ready(Err(End::BackendDied("it does not take any more requests".to_owned()))),
        }
    }

    fn judge_up(&mut self) -> Result<(), End> {
        while let Some(Piece { tag, part, bytes }) =
            self.up_scanner.next(self.workspace.up.unjudged(), &self.up_grammar).map_err(End::ClientViolation)?
        {
            let length = bytes.len();
            if part.starts() {
                self.up_rest = match self.workspace.turn.front(tag) {
                    Front::Forward => Rest::Forward,
                    Front::Drop => Rest::Discard,
                    Front::Terminate => {
                        self.leaving = true;
                        self.workspace.up.discard(usize::MAX / 2);
                        *self.up_scanner = Scanner::default();
                        return Ok(());
                    }
                };
                self.tally.request(tag, self.record);
            }
            match self.up_rest {
                Rest::Forward => self.workspace.up.approve(length),
                Rest::Discard => self.workspace.up.discard(length),
            }
        }
        Ok(())
    }

    /// From PostgreSQL to the client. Ready when the backend may go to somebody else; what the client has not taken
    /// yet is left in the buffer.
    fn poll_down(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        loop {
            if self.over() {
                return Poll::Ready(Ok(()));
            }
            while !self.workspace.down.approved().is_empty() {
                match ready!(self.client.poll_write(cx, self.workspace.down.approved())) {
                    Ok(sent) => self.workspace.down.sent(sent),
                    Err(error) => return Poll::Ready(Err(End::ClientBroke(error))),
                }
            }
            let room = self.workspace.down.room();
            if room.is_empty() {
                return Poll::Ready(Err(End::BackendViolation("a message is too long".to_owned())));
            }
            let read = match ready!(self.backend.stream.poll_read_armed(cx, room, &mut self.backend_armed)) {
                Ok(0) => return Poll::Ready(Err(End::BackendDied("PostgreSQL closed the connection".to_owned()))),
                Ok(read) => read,
                Err(error) => return Poll::Ready(Err(End::BackendDied(error.to_string()))),
            };
            self.tally.sent += read as u64;
            self.workspace.down.filled(read);
            self.judge_down()?;
        }
    }

    fn judge_down(&mut self) -> Result<(), End> {
        let Relay { workspace, backend, interner, tally, record, mode, .. } = self;
        let Workspace { turn, down, .. } = &mut **workspace;
        loop {
            if self.down_scanner.at_boundary() && turn.expects_rows() {
                down.approve(whole_rows(down.unjudged()));
            }
            let next = self.down_scanner.next(down.unjudged(), &self.down_grammar);
            let Some(piece) = next.map_err(|violation| End::BackendViolation(violation.to_string()))? else {
                return Ok(());
            };
            let length = piece.bytes.len();
            if piece.part.starts() {
                let mut judge = Judge { turn, backend, interner, tally, record, mode: *mode };
                self.down_rest = judge.message(piece.tag, piece.body())?;
            }
            match self.down_rest {
                Rest::Forward => down.approve(length),
                Rest::Discard => down.discard(length),
            }
        }
    }
}

/// Decides on one message of PostgreSQL and draws the consequences.
struct Judge<'a> {
    turn: &'a mut Turn,
    backend: &'a mut Backend,
    interner: &'a Interner,
    tally: &'a mut Tally,
    record: &'a ClientRecord,
    mode: PoolMode,
}

impl Judge<'_> {
    fn message(&mut self, tag: u8, body: &[u8]) -> Result<Rest, End> {
        match tag {
            back::PARAMETER_STATUS => self.backend.note_parameter(body, self.interner),
            // PostgreSQL ends the connection although the client has had all its answers: that concerns whoever comes
            // next, not this client, and nobody comes next.
            back::ERROR if self.turn.finished() && self.mode != PoolMode::Session => {
                self.backend.record.need_close();
                return Ok(Rest::Discard);
            }
            back::COMMAND_COMPLETE if !self.backend.state.extra.is_empty() => self.command(body),
            _ => {}
        }
        match self.turn.back(tag, body) {
            Back::Forward => Ok(Rest::Forward),
            Back::Swallow => Ok(Rest::Discard),
            Back::Settled => {
                // From here on the backend runs this client's requests, and a cancel request may hit them.
                self.record.set_link(Some(&self.backend.record));
                Ok(Rest::Discard)
            }
            Back::SettleFailed => Err(End::Settings(Box::new(Diagnostic::read(body)))),
            Back::Ready => self.ready(),
            Back::Broken => {
                Err(End::BackendViolation(format!("message 0x{tag:02x} is not the answer to anything that is owed")))
            }
        }
    }

    fn ready(&mut self) -> Result<Rest, End> {
        let status = self.turn.status();
        if self.mode == PoolMode::Statement && status != Status::Idle {
            return Err(End::StatementMode);
        }
        self.tally.ready(status, !self.turn.waits_for_client(), self.record);
        // The lease of a session lasts; its numbers should not wait for its end.
        if self.mode == PoolMode::Session
            && let Some(pool) = self.record.pool()
        {
            self.tally.settle(&pool.counters);
        }
        Ok(Rest::Forward)
    }

    /// A command may have changed settings that PostgreSQL does not report; what we made of them is not known then.
    fn command(&mut self, body: &[u8]) {
        if [&b"SET\0"[..], b"RESET\0", b"DISCARD ALL\0"].contains(&body) {
            self.backend.state.extra = self.interner.forget(&self.backend.state.extra);
        }
    }
}

/// How many bytes at the start of `buf` are whole DataRows and CopyData.
#[inline]
#[must_use]
pub fn whole_rows(buf: &[u8]) -> usize {
    let mut at = 0;
    while let Some((&[back::DATA_ROW | back::COPY_DATA, a, b, c, d], _)) =
        buf.get(at..).and_then(<[u8]>::split_first_chunk::<5>)
    {
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length < 4 || buf.len() - at <= length {
            break;
        }
        at += 1 + length;
    }
    at
}
