//! The relay of one turn: bytes of both directions, judged message by message by the turn machine, and outside of session
//! mode by `Requests` and `Judge`.
//!
//! One task polls both sockets. Bytes are forwarded as they came, but for what those two put in their place; a turn that
//! needs nothing of that copies nothing but what a socket reads. A direction whose reader is slow is not read from.
//! Invariant: bytes reach the other side only after their message was judged.

mod down;
mod up;

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::agree::Bound;
use super::end::End;
use super::judge::Rest;
use super::names::Names;
use super::reader::Reader;
use super::tally::Tally;
use super::watch::Watch;
use super::workspace::{LONGEST_WHOLE, Workspace};
use crate::backend::{Backend, Shape};
use crate::config::PoolMode;
use crate::net::Stream;
use crate::pool::{ClientRecord, Listeners, Pool, PoolSettings, Reason, Subscription};
use crate::sql::{Feature, Reading};
use crate::wire::scan::{Grammar, Scanner};
use crate::wire::tag::{back, back_limit, front, front_limit};

pub use down::whole_rows;

/// How a client's messages may look where only their types count.
pub(super) fn front_grammar(max: u32) -> Grammar {
    Grammar { limit: front_limit, whole: |_| false, whole_max: 0, max }
}

/// How a client's messages may look where what they ask for counts.
pub(super) fn request_grammar(max: u32) -> Grammar {
    let whole = |tag| {
        matches!(tag, front::QUERY | front::PARSE | front::BIND | front::DESCRIBE | front::EXECUTE | front::CLOSE)
    };
    Grammar { limit: front_limit, whole, whole_max: LONGEST_WHOLE, max }
}

/// How PostgreSQL's messages may look.
pub(super) fn back_grammar() -> Grammar {
    Grammar { limit: back_limit, whole: read_whole, whole_max: LONGEST_WHOLE, max: u32::MAX }
}

/// Messages of PostgreSQL whose bodies are read, as far as they are short.
fn read_whole(tag: u8) -> bool {
    matches!(
        tag,
        back::READY
            | back::PARAMETER_STATUS
            | back::COMMAND_COMPLETE
            | back::ERROR
            | back::PARAMETER_DESCRIPTION
            | back::ROW_DESCRIPTION
    )
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
    /// The last Bind.
    bound: Bound,
    /// What PostgreSQL has told of the statement that is being described.
    learnt: Shape,
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
            bound: Bound::default(),
            learnt: Shape::default(),
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
            if interrupt.is_hurried() && self.rests() {
                return Poll::Ready(Err(End::Interrupted(Reason::Shutdown)));
            }
            let waiting = self.at.workspace.down.approved().len();
            if let Poll::Ready(Err(end)) = self.poll_up(cx) {
                return Poll::Ready(Err(end));
            }
            if self.at.workspace.down.approved().len() == waiting || self.suspended() {
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
        if interrupt.asked_to_leave() && self.idle() && self.at.workspace.up.is_empty() && !self.at.client.readable() {
            return Poll::Ready(Err(End::Interrupted(Reason::Shutdown)));
        }
        if self.up_is_sent() && self.at.workspace.down.approved().is_empty() {
            self.at.record.stands_still(&self.at.pool.shared.suspension);
        }
        Poll::Pending
    }

    /// Whether nothing is to be read from either side.
    #[inline]
    fn suspended(&self) -> bool {
        self.at.pool.shared.suspension.present().is_some()
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

    /// Whether nothing runs in PostgreSQL, be it within a transaction, and nothing is on its way there.
    fn rests(&self) -> bool {
        self.at.workspace.turn.waits_for_client() && self.at.scanner.at_boundary() && self.up_is_sent()
    }

    fn up_is_sent(&self) -> bool {
        self.at.workspace.up.approved().is_empty() && self.at.workspace.out_is_sent()
    }

    /// Whether the backend may go to somebody else.
    fn over(&self) -> bool {
        (self.leaving || (self.watching && self.begun)) && self.idle()
    }
}
