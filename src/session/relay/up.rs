//! From the client to PostgreSQL: requests are read, judged and sent.

use std::task::{Context, Poll, ready};

use super::super::agree::Bound;
use super::super::end::End;
use super::super::judge::Rest;
use super::super::names::take_back;
use super::super::requests::{Requests, Verdict};
use super::super::turn::{Front, Own};
use super::super::workspace::{MOST_OUT, Workspace};
use super::{Parties, Relay};
use crate::backend::State;
use crate::config::Policy;
use crate::sql::Feature;
use crate::wire::scan::{Part, Scanner, Violation};
use crate::wire::tag::front;
use crate::wire::write::message;

/// Most bytes of answers of our own that wait for PostgreSQL's.
const MOST_GATHERED: usize = 1024;

/// What is copied to be sent in one write with what stands before it, bytes at most.
const MOST_COPIED: usize = 8 * 1024;

impl Relay<'_> {
    /// From the client to PostgreSQL. Never ready but with an error.
    pub(super) fn poll_up(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
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
            if self.suspended() {
                return Poll::Pending;
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

    pub(super) fn judge_up(&mut self) -> Result<(), End> {
        while !self.held && self.at.workspace.out.len() < MOST_OUT {
            let before = *self.at.scanner;
            let next = self.at.scanner.next(self.at.workspace.up.unjudged(), &self.up_grammar);
            let Some(piece) = next.map_err(End::ClientViolation)? else { break };
            let (tag, part, length) = (piece.tag, piece.part, piece.bytes.len());
            let mut verdict = Verdict::Forward;
            if part.starts() {
                if tag == front::QUERY && self.at.settings.no_simple_queries {
                    return Err(End::SimpleQuery);
                }
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
                if tag == front::QUERY || (tag == front::PARSE && self.at.settings.max_prepared == 0) {
                    self.note_text(tag, length);
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

    /// Notes for whoever asks what the backend runs.
    #[inline]
    fn note_text(&self, tag: u8, length: usize) {
        let bytes = self.at.workspace.up.unjudged().get(..length).unwrap_or_default();
        let text = if tag == front::PARSE { text_of(bytes) } else { bytes.get(5..).unwrap_or_default() };
        self.at.backend.record.note_text(text);
    }

    /// Has the listening backend listen to what the client's requests are about to.
    fn subscribe(&mut self) {
        let Parties { watch, listeners, record, pool, settings, backend, .. } = &mut self.at;
        let Some(watch) = watch.as_mut().filter(|watch| watch.asked < watch.listens.len()) else { return };
        let encoding = |state: &State| state.reported.value("client_encoding").map(<[u8]>::to_vec);
        let other = pool.welcome().is_some_and(|welcome| encoding(&welcome) != encoding(&backend.state));
        if settings.features.listen == Policy::Pin && other {
            // What the listening backend hears is in the encoding that it begins with.
            watch.uses.insert(Feature::Listen);
        } else if settings.features.listen == Policy::Pin {
            let new = watch.listens.iter().skip(watch.asked);
            self.asked.extend(new.map(|channel| listeners.subscribe(pool, record, channel)));
        }
        watch.asked = watch.listens.len();
    }

    /// Takes back what was not carried out, and answers what is to be answered here.
    pub(super) fn after_judging(&mut self) {
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
        let runs = tag == front::EXECUTE && self.bound.runs_any();
        if !runs && !matches!(tag, front::QUERY | front::PARSE | front::BIND | front::DESCRIBE | front::CLOSE) {
            return Verdict::Forward;
        }
        self.at.workspace.renew();
        self.at.workspace.compose();
        self.at.names.follow(self.at.workspace.turn.batches());
        let (reader, settings) = (self.at.reader, self.at.settings);
        let (mut requests, bytes) = requests(&mut self.at, &mut self.notices, &mut self.bound, length);
        let follows = settings.max_prepared > 0;
        match tag {
            front::QUERY | front::PARSE if part != Part::Whole => {
                self.long = Some(reader.reading());
                requests.begin_long(tag, bytes);
                Verdict::Forward
            }
            front::EXECUTE => requests.execute(bytes),
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
        let (mut requests, _) = requests(&mut self.at, &mut self.notices, &mut self.bound, 0);
        requests.note_long(&reading.finish());
    }
}

/// What judges a request, and the request: the next `length` bytes.
fn requests<'r>(
    at: &'r mut Parties<'_>,
    notices: &'r mut Vec<u8>,
    bound: &'r mut Bound,
    length: usize,
) -> (Requests<'r>, &'r [u8]) {
    let Workspace { turn, up, out, .. } = &mut *at.workspace;
    let (bytes, next) = up.unjudged().split_at_checked(length).unwrap_or_default();
    let requests = Requests {
        turn,
        names: at.names,
        prepared: &mut at.backend.prepared,
        ran: &at.backend.record.statement,
        watch: at.watch,
        notices,
        counts: &mut at.tally.statements,
        reader: at.reader,
        settings: at.settings,
        record: at.record,
        pool: at.pool,
        pinned: at.pinned,
        bound,
        within: false,
        next,
        out,
    };
    (requests, bytes)
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
