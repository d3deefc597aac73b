//! The relay of one turn: bytes of both directions, judged message by message by the turn machine, and outside of session
//! mode by `Requests` and `Judge`.
//!
//! One task polls both sockets. Bytes are forwarded as they came, but for what those two put in their place; a turn that
//! needs nothing of that copies nothing but what a socket reads. A direction whose reader is slow is not read from.
//! Invariant: bytes reach the other side only after their message was judged.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::end::End;
use super::judge::{Judge, Rest, unexplained};
use super::names::{Names, take_back};
use super::reader::Reader;
use super::repeat::Repeat;
use super::requests::{Requests, Verdict};
use super::tally::Tally;
use super::turn::{Back, Front, Own};
use super::watch::Watch;
use super::workspace::{Buffer, LONGEST_WHOLE, MOST_OUT, Workspace};
use crate::backend::{Backend, Statement};
use crate::config::{Policy, PoolMode};
use crate::net::Stream;
use crate::pool::{ClientRecord, Listeners, Pool, PoolSettings, Subscription};
use crate::sql::{Feature, Reading};
use crate::wire::scan::{Grammar, Part, Piece, Scanner, Violation};
use crate::wire::tag::{back, back_limit, front, front_limit};
use crate::wire::write::message;

/// How a client's messages may look where only their types count.
pub(super) fn front_grammar(max: u32) -> Grammar {
    Grammar { limit: front_limit, whole: |_| false, whole_max: 0, max }
}

/// How a client's messages may look where what they ask for counts.
pub(super) fn request_grammar(max: u32) -> Grammar {
    let whole = |tag| matches!(tag, front::QUERY | front::PARSE | front::BIND | front::DESCRIBE | front::CLOSE);
    Grammar { limit: front_limit, whole, whole_max: LONGEST_WHOLE, max }
}

/// How PostgreSQL's messages may look.
pub(super) fn back_grammar() -> Grammar {
    Grammar { limit: back_limit, whole: read_whole, whole_max: LONGEST_WHOLE, max: u32::MAX }
}

/// Messages of PostgreSQL whose bodies are read; they are short.
fn read_whole(tag: u8) -> bool {
    matches!(tag, back::READY | back::PARAMETER_STATUS | back::COMMAND_COMPLETE | back::ERROR)
}

/// What a relay borrows.
pub(super) struct Parties<'a> {
    pub(super) client: &'a mut Stream,
    pub(super) backend: &'a mut Backend,
    pub(super) workspace: &'a mut Workspace,
    pub(super) tally: &'a mut Tally,
    pub(super) scanner: &'a mut Scanner,
    pub(super) names: &'a mut Names,
    pub(super) watch: &'a mut Option<Box<Watch>>,
    pub(super) reader: &'a Reader,
    pub(super) record: &'a Arc<ClientRecord>,
    pub(super) pool: &'a Arc<Pool>,
    pub(super) listeners: &'a Listeners,
    pub(super) settings: &'a PoolSettings,
    /// The client had the backend before this turn, and keeps it.
    pub(super) pinned: bool,
    /// The client listens on this very backend.
    pub(super) hears: bool,
}

/// One turn, or in session mode all turns of a client.
pub(super) struct Relay<'a> {
    at: Parties<'a>,
    /// Requests are looked at: prepared statements, settings, what pins.
    watching: bool,
    up_grammar: Grammar,
    up_rest: Rest,
    /// The text of a message that is too long to be looked at whole.
    long: Option<Reading>,
    down_scanner: Scanner,
    down_grammar: Grammar,
    down_rest: Rest,
    /// The last Bind's statement, if running it changes the book of names.
    pending: Option<Arc<Statement>>,
    /// Channels that the listening backend is about to listen to; until then nothing is sent.
    asked: Vec<Subscription>,
    /// Messages of our own for the client's next boundary.
    notices: Vec<u8>,
    /// The first request was judged whole, and what follows must not be sent before settings are in line.
    held: bool,
    /// A request cannot be judged before PostgreSQL has answered something.
    waits: bool,
    /// A request of the client's was judged.
    begun: bool,
    /// All that the client is to be sent was answered here, and PostgreSQL's own answers follow without more of the
    /// client's requests; one write for both is cheaper than two.
    gathering: bool,
    /// The client asked for a Flush since PostgreSQL sent anything.
    flushed: bool,
    /// The client said goodbye.
    leaving: bool,
    /// The last read of the client's socket found nothing and left a waker there.
    armed: bool,
    /// The same of PostgreSQL's.
    backend_armed: bool,
}

impl<'a> Relay<'a> {
    /// A relay at the start of a turn: nothing of the client's bytes has been judged yet.
    pub(super) fn new(at: Parties<'a>) -> Relay<'a> {
        let watching = at.settings.mode != PoolMode::Session;
        let max = at.settings.max_packet;
        Relay {
            watching,
            up_grammar: if watching { request_grammar(max) } else { front_grammar(max) },
            up_rest: Rest::Forward,
            long: None,
            down_scanner: Scanner::default(),
            down_grammar: back_grammar(),
            down_rest: Rest::Forward,
            pending: None,
            asked: Vec::new(),
            notices: Vec::new(),
            held: false,
            waits: false,
            begun: false,
            gathering: false,
            flushed: false,
            leaving: false,
            armed: false,
            backend_armed: false,
            at,
        }
    }

    /// Whether a message of our own may be put between those that the client has received.
    pub(super) fn client_at_boundary(&self) -> bool {
        self.down_scanner.at_boundary() || self.down_rest == Rest::Discard
    }

    /// Where PostgreSQL's stream of messages stands.
    pub(super) fn backend_scanner(&self) -> Scanner {
        self.down_scanner
    }

    /// Whether the task will be woken by the client's next bytes.
    pub(super) fn client_armed(&self) -> bool {
        self.armed
    }

    /// Judges what was read from the client before there was a backend.
    pub(super) fn begin(&mut self) -> Result<(), End> {
        self.at.names.all_answered();
        self.judge_up()
    }

    /// Relays until the backend may go to somebody else; answers whether the client has said goodbye. In session mode
    /// that is only when the client leaves while nothing is owed.
    ///
    /// Cancel safety: none; the backend must be closed then.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, End>> {
        let interrupt = &self.at.record.interrupt;
        if let Some(reason) = interrupt.raised() {
            interrupt.clear();
            if !reason.passes() {
                return Poll::Ready(Err(End::Interrupted(reason)));
            }
        }
        self.deliver();
        loop {
            // PostgreSQL's side first: the answer that ends a turn spares a look at the client.
            match self.poll_down(cx) {
                Poll::Ready(Err(end)) => return Poll::Ready(Err(end)),
                Poll::Ready(Ok(())) => return Poll::Ready(Ok(self.leaving)),
                Poll::Pending => {}
            }
            let waiting = self.at.workspace.down.approved().len();
            if let Poll::Ready(Err(end)) = self.poll_up(cx) {
                return Poll::Ready(Err(end));
            }
            if self.at.workspace.down.approved().len() == waiting {
                break;
            }
            // Requests were answered here.
        }
        if self.over() {
            // What went up last is answered by nothing.
            return Poll::Ready(Ok(self.leaving));
        }
        if self.leaving && self.up_is_sent() && self.at.workspace.turn.needs_client() {
            // It left with a transaction or a request open: nothing that may be lent again as it is.
            return Poll::Ready(Err(End::Goodbye));
        }
        Poll::Pending
    }

    /// Notifications for a client that keeps its backend, between two transactions as PostgreSQL has it.
    fn deliver(&mut self) {
        let Some(mailbox) = self.at.record.mailbox().filter(|mailbox| self.at.pinned && !mailbox.is_empty()) else {
            return;
        };
        if self.at.workspace.turn.finished() && self.down_scanner.at_boundary() {
            let mut messages = Vec::new();
            mailbox.take(&mut messages);
            self.at.workspace.down.insert(&messages);
        }
    }

    /// Waits until the listening backend listens to what the client is about to. Where it cannot, the client listens on
    /// its own backend and keeps it.
    fn poll_listening(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(subscription) = self.asked.last_mut() {
            if let Err(error) = ready!(subscription.poll_ready(cx)) {
                tracing::warn!(client = self.at.record.id, %error, "no listening connection; the client is pinned");
                self.at.watch.get_or_insert_default().uses.insert(Feature::Listen);
            }
            self.asked.pop();
        }
        Poll::Ready(())
    }

    /// Whether the backend stands idle with nothing owed, whatever the mode.
    pub(super) fn idle(&self) -> bool {
        self.at.workspace.turn.finished()
            && !self.at.workspace.turn.needs_probe()
            && self.at.scanner.at_boundary()
            && self.down_scanner.at_boundary()
            && self.at.workspace.down.unjudged().is_empty()
            && self.up_is_sent()
    }

    fn up_is_sent(&self) -> bool {
        self.at.workspace.up.approved().is_empty() && self.at.workspace.out_is_sent()
    }

    /// Whether the backend may go to somebody else.
    fn over(&self) -> bool {
        (self.leaving || (self.watching && self.begun)) && self.idle()
    }

    /// From the client to PostgreSQL. Never ready but with an error.
    fn poll_up(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        loop {
            if !self.asked.is_empty() {
                ready!(self.poll_listening(cx));
            }
            while !self.up_is_sent() {
                ready!(self.poll_send_up(cx))?;
            }
            let probes = self.at.workspace.turn.needs_probe() && self.at.scanner.at_boundary();
            if self.leaving && !probes {
                // What it has asked for is finished for it, but not once it has gone.
                return self.at.client.poll_closed(cx).map(|()| Err(End::ClientClosed));
            }
            // A full turn goes on with PostgreSQL's next answer, and so does what waits for settings.
            if probes {
                // No Query: it would end the client's unnamed statement.
                let out = self.at.workspace.compose();
                message(out, front::CLOSE, |out| out.extend_from_slice(b"Ppgpool?\0"));
                message(out, front::SYNC, |_| {});
                self.at.workspace.turn.own(Own::Probe, None);
                self.at.workspace.turn.own(Own::Sync, None);
                continue;
            }
            if self.waits && !self.at.workspace.turn.owes_anything() {
                self.at.names.all_answered();
                self.waits = false;
            }
            if self.at.workspace.turn.is_full() || self.held || self.waits {
                return self.poll_ahead(cx);
            }
            if !self.at.workspace.up.unjudged().is_empty() {
                // It was left when much was on its way.
                self.judge_up()?;
                if !self.up_is_sent() || self.leaving || self.held || self.waits {
                    continue;
                }
            }
            let room = self.at.workspace.up.room();
            let read = match ready!(self.at.client.poll_read_armed(cx, room, &mut self.armed)) {
                Ok(0) => return Poll::Ready(Err(End::ClientClosed)),
                Ok(read) => read,
                Err(error) => return Poll::Ready(Err(End::ClientBroke(error))),
            };
            self.at.tally.received += read as u64;
            self.at.workspace.up.filled(read);
            self.judge_up()?;
        }
    }

    /// Reads on while nothing can be judged, up to one buffer: only behind what a client still sends can be seen that it
    /// has left. Never ready but with an error.
    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        loop {
            let room = self.at.workspace.up.room();
            if room.is_empty() {
                return Poll::Pending;
            }
            match ready!(self.at.client.poll_read_armed(cx, room, &mut self.armed)) {
                Ok(0) => return Poll::Ready(Err(End::ClientClosed)),
                Ok(read) => {
                    self.at.tally.received += read as u64;
                    self.at.workspace.up.filled(read);
                }
                Err(error) => return Poll::Ready(Err(End::ClientBroke(error))),
            }
        }
    }

    fn poll_send_up(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        let workspace = &mut *self.at.workspace;
        let sent = if workspace.out_is_sent() {
            ready!(self.at.backend.stream.poll_write(cx, workspace.up.approved()))
        } else {
            // One write is cheaper than one of two parts.
            if workspace.up.approved().len() <= MOST_COPIED {
                workspace.compose();
            }
            ready!(self.at.backend.stream.poll_write(cx, workspace.out_to_send()))
        };
        match sent {
            Ok(sent) => workspace.note_sent(sent),
            // PostgreSQL may have said why before it closed; that is still to be read.
            Err(_) => return self.poll_last_words(cx),
        }
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
        while !self.held && self.at.workspace.out.len() < MOST_OUT {
            let before = *self.at.scanner;
            let next = self.at.scanner.next(self.at.workspace.up.unjudged(), &self.up_grammar);
            let Some(piece) = next.map_err(End::ClientViolation)? else { break };
            let (tag, part, length) = (piece.tag, piece.part, piece.bytes.len());
            let mut verdict = Verdict::Forward;
            if part.starts() {
                if self.watching && !self.at.workspace.turn.skips() {
                    verdict = self.judge_request(tag, part, length);
                }
                if verdict == Verdict::Wait {
                    if self.at.workspace.turn.is_copying() {
                        // What it would wait for waits for the end of the COPY, and that for the client.
                        return Err(End::ClientViolation(Violation::Type(tag)));
                    }
                    self.waits = true;
                    // Within a COPY what has to be waited for may stand behind a Sync that PostgreSQL has read over.
                    message(&mut self.at.workspace.out, front::FLUSH, |_| {});
                    *self.at.scanner = before;
                    break;
                }
                self.begun = true;
                self.flushed |= tag == front::FLUSH;
                self.at.tally.request(tag, self.at.record);
                self.up_rest = match verdict {
                    Verdict::Forward => match self.at.workspace.turn.front(tag) {
                        Front::Forward => Rest::Forward,
                        Front::Terminate => {
                            self.leaving = true;
                            self.at.workspace.up.discard(usize::MAX / 2);
                            *self.at.scanner = Scanner::default();
                            break;
                        }
                    },
                    Verdict::Entered | Verdict::Replaced(_) => Rest::Forward,
                    Verdict::Refused | Verdict::Wait => Rest::Discard,
                };
            }
            if self.long.is_some() {
                self.read_long(part, length);
            }
            let up = &mut self.at.workspace.up;
            match (self.up_rest, verdict) {
                (Rest::Forward, Verdict::Replaced(count)) => {
                    up.discard(count);
                    up.approve(length - count.min(length));
                }
                (Rest::Forward, _) => up.approve(length),
                (Rest::Discard, _) => up.discard(length),
            }
            if part.ends() && matches!(tag, front::QUERY | front::SYNC | front::FUNCTION_CALL) {
                self.held = self.at.workspace.turn.is_settling();
            }
        }
        self.after_judging();
        self.subscribe();
        Ok(())
    }

    /// Has the listening backend listen to what the client's requests are about to.
    fn subscribe(&mut self) {
        let Parties { watch, listeners, record, pool, settings, .. } = &mut self.at;
        let Some(watch) = watch.as_mut().filter(|watch| watch.asked < watch.listens.len()) else { return };
        if settings.features.listen == Policy::Pin {
            let new = watch.listens.iter().skip(watch.asked);
            self.asked.extend(new.map(|channel| listeners.subscribe(pool, record, channel)));
        }
        watch.asked = watch.listens.len();
    }

    /// Takes back what was not carried out, and answers what is to be answered here.
    fn after_judging(&mut self) {
        let Parties { workspace, names, backend, .. } = &mut self.at;
        let Workspace { turn, down, .. } = &mut **workspace;
        if turn.has_undone() {
            for (step, failed) in turn.take_undone() {
                take_back(*step, failed, names, &mut backend.prepared);
            }
        }
        if self.down_scanner.at_boundary() {
            if !self.notices.is_empty() {
                down.insert(&std::mem::take(&mut self.notices));
            }
            while let Some(made) = turn.next_made() {
                self.gathering |= down.approved().is_empty();
                down.insert(&made.message());
            }
            // PostgreSQL sends nothing before a Flush or the end of the batch either.
            self.gathering &= !self.flushed && turn.answers_follow() && down.approved().len() <= MOST_GATHERED;
        }
    }

    /// A request that begins; its piece is the first `length` bytes of what was not judged.
    #[inline]
    fn judge_request(&mut self, tag: u8, part: Part, length: usize) -> Verdict {
        let pending = if tag == front::EXECUTE { self.pending.take() } else { None };
        if pending.is_none()
            && !matches!(tag, front::QUERY | front::PARSE | front::BIND | front::DESCRIBE | front::CLOSE)
        {
            return Verdict::Forward;
        }
        self.at.workspace.renew();
        self.at.workspace.compose();
        self.at.names.follow(self.at.workspace.turn.batches());
        let (reader, settings) = (self.at.reader, self.at.settings);
        let (mut requests, up) = requests(&mut self.at, &mut self.notices, &mut self.pending);
        let bytes = up.unjudged().get(..length).unwrap_or_default();
        let follows = settings.max_prepared > 0;
        match tag {
            front::QUERY | front::PARSE if part != Part::Whole => {
                self.long = Some(reader.reading());
                requests.begin_long(tag, bytes);
                Verdict::Forward
            }
            front::EXECUTE => pending.map_or(Verdict::Forward, |statement| requests.execute(&statement.script)),
            _ if requests.turn.is_ambiguous() => Verdict::Wait,
            _ if follows && requests.turn.is_clearing() => Verdict::Wait,
            _ if follows && tag != front::QUERY && requests.must_wait(tag, bytes) => Verdict::Wait,
            front::QUERY => requests.query(bytes),
            front::PARSE => requests.parse(bytes.get(5..).unwrap_or_default()),
            front::BIND if follows => requests.bind(bytes, part == Part::Whole),
            front::DESCRIBE if follows => requests.describe(bytes),
            front::CLOSE if follows => requests.close_name(bytes),
            _ => Verdict::Forward,
        }
    }

    /// A piece of a text that is too long to be looked at whole: what it may do is known when it has passed.
    fn read_long(&mut self, part: Part, length: usize) {
        let bytes = self.at.workspace.up.unjudged().get(..length).unwrap_or_default();
        let Some(reading) = &mut self.long else { return };
        // A Parse has its name in front of the text, which was looked at when it began.
        reading.feed(if part.starts() { text_of(bytes) } else { bytes });
        if !part.ends() {
            return;
        }
        let Some(reading) = self.long.take() else { return };
        let (mut requests, _) = requests(&mut self.at, &mut self.notices, &mut self.pending);
        requests.note_long(&reading.finish());
    }

    /// From PostgreSQL to the client. Ready when the backend may go to somebody else; what the client has not taken
    /// yet is left in the buffer.
    fn poll_down(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        loop {
            if self.over() {
                return Poll::Ready(Ok(()));
            }
            while !self.gathering && !self.at.workspace.down.approved().is_empty() {
                match ready!(self.at.client.poll_write(cx, self.at.workspace.down.approved())) {
                    Ok(sent) => self.at.workspace.down.sent(sent),
                    Err(error) => return Poll::Ready(Err(End::ClientBroke(error))),
                }
            }
            let room = self.at.workspace.down.room();
            if room.is_empty() {
                return Poll::Ready(Err(End::BackendViolation("a message is too long".to_owned())));
            }
            let read = match ready!(self.at.backend.stream.poll_read_armed(cx, room, &mut self.backend_armed)) {
                Ok(0) => return Poll::Ready(Err(End::BackendDied("PostgreSQL closed the connection".to_owned()))),
                Ok(read) => read,
                Err(error) => return Poll::Ready(Err(End::BackendDied(error.to_string()))),
            };
            self.at.tally.sent += read as u64;
            self.at.workspace.down.filled(read);
            self.judge_down()?;
            (self.gathering, self.flushed) = (false, false);
        }
    }

    fn judge_down(&mut self) -> Result<(), End> {
        loop {
            let Parties {
                workspace, backend, names, watch, tally, record, pool, settings, pinned, hears, scanner, ..
            } = &mut self.at;
            let Workspace { turn, down, up, out, out_sent, whole, parameters, .. } = &mut **workspace;
            if self.down_scanner.at_boundary() && turn.expects_rows() {
                down.approve(whole_rows(down.unjudged()));
            }
            let next = self.down_scanner.next(down.unjudged(), &self.down_grammar);
            let Some(piece) = next.map_err(|violation| End::BackendViolation(violation.to_string()))? else {
                return Ok(());
            };
            let Piece { tag, part, bytes } = piece;
            let length = bytes.len();
            let mut instead = None;
            if tag == back::ERROR && self.watching && up.approved().is_empty() && scanner.at_boundary() {
                let prepared = &mut backend.prepared;
                let mut repeat = Repeat { turn, names, prepared, out, out_sent, whole, parameters, pool };
                if repeat.error(&piece) {
                    down.discard(length);
                    continue;
                }
            }
            if part.starts() {
                if is_mere_answer(tag) {
                    self.down_rest = match turn.back(tag, &[]) {
                        Back::Forward => Rest::Forward,
                        Back::Swallow => Rest::Discard,
                        _ => return Err(unexplained(tag)),
                    };
                } else {
                    let interner = &pool.shared.interner;
                    let (mode, watching, pinned, hears) = (settings.mode, self.watching, *pinned, *hears);
                    let mut judge = Judge {
                        turn,
                        backend,
                        names,
                        watch,
                        interner,
                        tally,
                        record,
                        mode,
                        watching,
                        pinned,
                        hears,
                        instead: &mut instead,
                    };
                    self.down_rest = match judge.message(&piece) {
                        Ok(rest) => rest,
                        Err(end) => {
                            // It was judged, whatever comes of it: nobody must take it for unread.
                            down.discard(length);
                            return Err(end);
                        }
                    };
                }
                if tag == back::PARAMETER_DESCRIPTION && part == Part::Whole && *whole && turn.statement().0 > 0 {
                    // PostgreSQL finds out about a plan behind it.
                    if matches!(down.unjudged().get(length), None | Some(&back::ERROR)) {
                        parameters.extend_from_slice(bytes);
                        self.down_rest = Rest::Discard;
                    }
                } else if !parameters.is_empty() {
                    down.insert(parameters);
                    parameters.clear();
                }
            }
            match self.down_rest {
                Rest::Forward => down.approve(length),
                Rest::Discard => down.discard(length),
            }
            // Only in the place of what is thrown away.
            instead.iter().for_each(|message| down.insert(message));
            if part.ends() && (turn.makes_next() || turn.has_undone() || !self.notices.is_empty()) {
                self.after_judging();
            }
            if self.held && !self.at.workspace.turn.is_settling() {
                self.held = false;
            }
            if part.ends() {
                // What waits is looked at again.
                self.waits = false;
            }
        }
    }
}

/// What judges a request, and the buffer that the request stands in.
fn requests<'r>(
    at: &'r mut Parties<'_>,
    notices: &'r mut Vec<u8>,
    pending: &'r mut Option<Arc<Statement>>,
) -> (Requests<'r>, &'r Buffer) {
    let Workspace { turn, up, out, .. } = &mut *at.workspace;
    let requests = Requests {
        turn,
        names: at.names,
        prepared: &mut at.backend.prepared,
        watch: at.watch,
        notices,
        reader: at.reader,
        settings: at.settings,
        record: at.record,
        pool: at.pool,
        pinned: at.pinned,
        pending,
        out,
    };
    (requests, up)
}

/// The start of a text in the first piece of a Query or Parse.
fn text_of(bytes: &[u8]) -> &[u8] {
    let body = bytes.get(5..).unwrap_or_default();
    match bytes.first() {
        Some(&front::PARSE) => {
            body.iter().position(|&byte| byte == 0).and_then(|end| body.get(end + 1..)).unwrap_or_default()
        }
        _ => body,
    }
}

/// Most bytes of answers of our own that wait for PostgreSQL's.
const MOST_GATHERED: usize = 1024;

/// Messages that tell nothing but that a request is answered, wholly or in part.
#[inline]
fn is_mere_answer(tag: u8) -> bool {
    matches!(
        tag,
        back::ROW_DESCRIPTION | back::DATA_ROW | back::PARSE_COMPLETE | back::BIND_COMPLETE | back::CLOSE_COMPLETE
    )
}

/// What is copied to be sent in one write with what stands before it, bytes at most.
const MOST_COPIED: usize = 8 * 1024;

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
