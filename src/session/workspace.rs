//! What a turn works with: a buffer per direction and the turn machine. Borrowed while data flows, so that an idle
//! client owns none.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use super::Turn;

/// Size of a buffer, bytes. Large results cost one system call per this much; pages that nothing was read into are
/// never touched, so a small query does not pay for it in memory.
pub(super) const BUFFER: usize = 64 * 1024;

/// Longest message that is read whole before it is judged, where its body has to be known; bytes.
pub(super) const LONGEST_WHOLE: usize = BUFFER - 4 * 1024;

/// Most bytes of our own that wait to be sent to PostgreSQL before the client's next message is judged.
pub(super) const MOST_OUT: usize = 128 * 1024;

/// Most bytes that are kept once they were sent, in case they have to be sent again.
const MOST_KEPT: usize = 16 * 1024;

/// One direction's bytes: `[start..ready)` may be sent, `[ready..end)` was read but could not be judged yet.
#[derive(Debug)]
pub(super) struct Buffer {
    data: Vec<u8>,
    start: usize,
    ready: usize,
    end: usize,
}

impl Buffer {
    fn new() -> Buffer {
        Buffer { data: vec![0; BUFFER], start: 0, ready: 0, end: 0 }
    }

    fn clear(&mut self) {
        (self.start, self.ready, self.end) = (0, 0, 0);
        if self.data.len() > BUFFER {
            self.data = vec![0; BUFFER];
        }
    }

    /// What may be sent.
    #[inline]
    pub(super) fn approved(&self) -> &[u8] {
        self.data.get(self.start..self.ready).unwrap_or_default()
    }

    /// What was read but not judged.
    #[inline]
    pub(super) fn unjudged(&self) -> &[u8] {
        self.data.get(self.ready..self.end).unwrap_or_default()
    }

    /// Notes that `count` approved bytes were sent.
    #[inline]
    pub(super) fn sent(&mut self, count: usize) {
        self.start = (self.start + count).min(self.ready);
    }

    /// Approves the next `count` unjudged bytes.
    #[inline]
    pub(super) fn approve(&mut self, count: usize) {
        self.ready = (self.ready + count).min(self.end);
    }

    /// Puts bytes of our own behind what is approved, and approves them. What was read and not judged moves; a buffer
    /// without room grows until it is given back.
    pub(super) fn insert(&mut self, bytes: &[u8]) {
        let count = bytes.len();
        if self.data.len() - self.end < count {
            self.room();
        }
        if self.data.len() - self.end < count {
            self.data.resize(self.end + count, 0);
        }
        self.data.copy_within(self.ready..self.end, self.ready + count);
        if let Some(to) = self.data.get_mut(self.ready..self.ready + count) {
            to.copy_from_slice(bytes);
        }
        self.ready += count;
        self.end += count;
    }

    /// Takes the next `count` unjudged bytes out.
    pub(super) fn discard(&mut self, count: usize) {
        let from = (self.ready + count).min(self.end);
        if self.start == self.ready {
            (self.start, self.ready) = (from, from);
        } else {
            self.data.copy_within(from..self.end, self.ready);
            self.end -= from - self.ready;
        }
    }

    /// Room to read into, once everything approved was sent: what is left moves to the front. Empty when a message that
    /// must be judged whole does not fit.
    #[inline]
    pub(super) fn room(&mut self) -> &mut [u8] {
        if self.start == self.ready && self.start > 0 {
            if self.ready < self.end {
                self.data.copy_within(self.ready..self.end, 0);
            }
            self.end -= self.ready;
            (self.start, self.ready) = (0, 0);
        }
        self.data.get_mut(self.end..).unwrap_or_default()
    }

    /// Notes that `count` bytes were read into the room.
    #[inline]
    pub(super) fn filled(&mut self, count: usize) {
        self.end = (self.end + count).min(self.data.len());
    }

    /// Puts bytes there as if they had been read.
    pub(super) fn restore(&mut self, bytes: &[u8]) {
        let count = bytes.len().min(self.room().len());
        if let (Some(to), Some(from)) = (self.room().get_mut(..count), bytes.get(..count)) {
            to.copy_from_slice(from);
        }
        self.filled(count);
    }

    /// Whether it holds nothing at all.
    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }
}

/// What a turn works with.
#[derive(Debug)]
pub(super) struct Workspace {
    /// From the client to PostgreSQL.
    pub(super) up: Buffer,
    /// From PostgreSQL to the client.
    pub(super) down: Buffer,
    /// What goes to PostgreSQL before the approved bytes of `up`: messages of the pooler's own and rewritten ones, with
    /// what had to stay before them.
    pub(super) out: Vec<u8>,
    /// How much of it was sent. That is kept while its answers are awaited and it is not much.
    pub(super) out_sent: usize,
    /// Whether `out` begins where PostgreSQL owed nothing, and has all that was sent since.
    pub(super) whole: bool,
    /// A ParameterDescription that the client gets when it is known that no error follows.
    pub(super) parameters: Vec<u8>,
    /// What is owed.
    pub(super) turn: Turn,
    /// So many are borrowed that this one should not be kept while waiting.
    pub(super) crowded: bool,
}

impl Workspace {
    /// What is to be sent to PostgreSQL next is appended to the answer, behind all that was approved so far.
    pub(super) fn compose(&mut self) -> &mut Vec<u8> {
        self.renew();
        compose(&mut self.up, &mut self.out)
    }

    /// Forgets what was sent, once it is answered.
    #[inline]
    pub(super) fn renew(&mut self) {
        if self.out_is_sent() && self.turn.waits_for_client() {
            self.out.clear();
            self.out_sent = 0;
            self.whole = true;
        }
    }

    /// Whether nothing of `out` is still to be sent.
    #[inline]
    pub(super) fn out_is_sent(&self) -> bool {
        self.out_sent == self.out.len()
    }

    /// What is still to be sent of `out`.
    pub(super) fn out_to_send(&self) -> &[u8] {
        self.out.get(self.out_sent..).unwrap_or_default()
    }

    /// Notes that `count` bytes were sent, of `out` where it is not sent yet, else of `up`.
    #[inline]
    pub(super) fn note_sent(&mut self, count: usize) {
        if self.out_is_sent() {
            self.up.sent(count);
            self.whole = false;
            return;
        }
        self.out_sent = (self.out_sent + count).min(self.out.len());
        if self.out_is_sent() && self.out.len() > MOST_KEPT {
            self.out.clear();
            self.out_sent = 0;
            self.whole = false;
        }
    }

    /// Makes it ready for another turn; what the client sent already stays.
    pub(super) fn prepare(&mut self) {
        self.down.clear();
        self.out.clear();
        self.out.shrink_to(MOST_OUT);
        self.out_sent = 0;
        self.whole = true;
        self.parameters.clear();
        self.turn.reset();
    }
}

/// Moves the approved bytes of `up` into `out`, so that what is appended to it follows them.
pub(super) fn compose<'a>(up: &mut Buffer, out: &'a mut Vec<u8>) -> &'a mut Vec<u8> {
    let approved = up.approved();
    if !approved.is_empty() {
        out.extend_from_slice(approved);
        let count = approved.len();
        up.sent(count);
    }
    out
}

/// What one takes, without what it is about to send of its own; bytes.
pub const WORKSPACE: usize = size_of::<Workspace>() + 2 * BUFFER;

/// The workspaces that nobody uses at present.
#[derive(Debug)]
pub struct Workspaces {
    #[expect(clippy::vec_box, reason = "a session holds one by its pointer; moving it in and out must not allocate")]
    free: Mutex<Vec<Box<Workspace>>>,
    lent: AtomicUsize,
    keep: usize,
}

impl Workspaces {
    /// Keeps at most `keep` for reuse.
    #[must_use]
    pub fn new(keep: usize) -> Workspaces {
        Workspaces { free: Mutex::new(Vec::with_capacity(keep)), lent: AtomicUsize::new(0), keep }
    }

    /// How many are lent, and how many wait to be.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.lent.load(Relaxed), self.free.lock().unwrap_or_else(PoisonError::into_inner).len())
    }

    /// One to work with.
    pub(super) fn borrow(&self) -> Box<Workspace> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let lent = self.lent.fetch_add(1, Relaxed);
        let mut workspace = free.unwrap_or_else(|| {
            Box::new(Workspace {
                up: Buffer::new(),
                down: Buffer::new(),
                out: Vec::new(),
                out_sent: 0,
                whole: true,
                parameters: Vec::new(),
                turn: Turn::default(),
                crowded: false,
            })
        });
        workspace.crowded = lent >= self.keep;
        workspace
    }

    /// Gives one back.
    pub(super) fn give_back(&self, mut workspace: Box<Workspace>) {
        workspace.up.clear();
        workspace.prepare();
        self.lent.fetch_sub(1, Relaxed);
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < self.keep {
            free.push(workspace);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &[u8]) -> Buffer {
        let mut buffer = Buffer::new();
        buffer.restore(text);
        buffer
    }

    #[test]
    fn bytes_are_judged_sent_and_dropped_in_order() {
        let mut buffer = filled(b"abcdefgh");
        buffer.approve(2);
        buffer.discard(2);
        buffer.approve(2);
        assert_eq!((buffer.approved(), buffer.unjudged()), (&b"abef"[..], &b"gh"[..]));
        buffer.sent(4);
        buffer.discard(1);
        assert_eq!((buffer.approved(), buffer.unjudged()), (&b""[..], &b"h"[..]));
        assert_eq!(buffer.room().len(), BUFFER - 1);
        buffer.restore(b"i");
        assert_eq!(buffer.unjudged(), b"hi");
        buffer.approve(99);
        assert_eq!(buffer.approved(), b"hi");
        buffer.sent(99);
        assert!(buffer.is_empty());
        assert_eq!(buffer.room().len(), BUFFER);
    }

    #[test]
    fn what_is_put_in_stands_between_what_was_judged_and_what_was_not() {
        let mut buffer = filled(b"abcd");
        buffer.approve(2);
        buffer.insert(b"--");
        assert_eq!((buffer.approved(), buffer.unjudged()), (&b"ab--"[..], &b"cd"[..]));
        let mut full = filled(&[b'x'; BUFFER]);
        full.approve(BUFFER - 1);
        full.insert(b"12");
        assert!(full.approved().ends_with(b"x12") && full.unjudged() == b"x");
        full.approve(1);
        assert_eq!(full.approved().len(), BUFFER + 2);
        full.clear();
        assert_eq!(full.room().len(), BUFFER);
    }

    #[test]
    fn what_was_sent_is_kept_until_it_is_answered() {
        let workspaces = Workspaces::new(1);
        let mut workspace = workspaces.borrow();
        let send = |workspace: &mut Workspace, tag, bytes: &[u8]| {
            workspace.renew();
            workspace.turn.front(tag);
            workspace.out.extend_from_slice(bytes);
            workspace.note_sent(usize::MAX / 2);
            assert!(workspace.out_is_sent() && workspace.out_to_send().is_empty());
        };
        send(&mut workspace, b'B', b"bind");
        send(&mut workspace, b'S', b"sync");
        assert_eq!((&workspace.out[..], workspace.whole), (&b"bindsync"[..], true));
        workspace.turn.back(b'2', b"");
        workspace.turn.back(b'Z', b"I");
        send(&mut workspace, b'B', b"next");
        assert_eq!((&workspace.out[..], workspace.whole), (&b"next"[..], true));
        // What is sent past it is not kept, nor what is long.
        workspace.note_sent(4);
        send(&mut workspace, b'S', b"sync");
        assert!(!workspace.whole);
        workspace.turn.back(b'2', b"");
        workspace.turn.back(b'Z', b"I");
        send(&mut workspace, b'B', &[0; MOST_KEPT + 1]);
        assert!(workspace.out.is_empty() && !workspace.whole);
        workspace.prepare();
        assert!(workspace.whole);
    }

    #[test]
    fn a_returned_workspace_is_clean() {
        let workspaces = Workspaces::new(1);
        let mut workspace = workspaces.borrow();
        workspace.up.restore(b"secret");
        workspace.turn.front(b'Q');
        workspace.out.extend_from_slice(b"SET");
        workspaces.give_back(workspace);
        let again = workspaces.borrow();
        assert!(again.up.is_empty() && again.out.is_empty() && again.turn.finished());
    }
}
