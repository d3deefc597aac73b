//! A client's mailbox: the notifications that wait until its session is idle and takes them.
//!
//! Messages are kept as PostgreSQL sent them, bounded in number and bytes. What does not fit any more is dropped, and so
//! is everything after it until the session has taken what is there: the order is kept, and the loss is told behind the
//! messages that came before it.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::Acquire, Ordering::Release};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::wire::sqlstate;
use crate::wire::write::Report;

/// Most bytes of messages that wait for one client.
const MOST_BYTES: usize = 1024 * 1024;

/// Where the notifications of one client wait.
#[derive(Debug, Default)]
pub struct Mailbox {
    filled: AtomicBool,
    waiting: Mutex<Waiting>,
}

/// What became of a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// It waits, and nothing did before: the client has to be woken.
    First,
    /// It waits behind others.
    Behind,
    /// It was dropped, as the first one since the session took some.
    DroppedFirst,
    /// It was dropped like the one before it.
    Dropped,
}

#[derive(Default)]
struct Waiting {
    messages: Vec<u8>,
    /// Messages in it.
    count: u32,
    full: Option<Full>,
}

/// What could not be put there any more.
#[derive(Clone, Copy, Default)]
struct Full {
    lost: u64,
    gap: Option<Duration>,
}

impl fmt::Debug for Waiting {
    /// Payloads are the clients' own business.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting").field("bytes", &self.messages.len()).field("count", &self.count).finish()
    }
}

impl Mailbox {
    /// Whether nothing waits; one load.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.filled.load(Acquire)
    }

    /// Appends all that waits to `out`, whole messages, and behind them a notice where more would have been there.
    pub fn take(&self, out: &mut Vec<u8>) {
        let mut waiting = self.lock();
        let Waiting { mut messages, full, .. } = std::mem::take(&mut *waiting);
        self.filled.store(false, Release);
        drop(waiting);
        if out.is_empty() {
            std::mem::swap(out, &mut messages);
        } else {
            out.append(&mut messages);
        }
        match full {
            Some(Full { lost: 0, gap: Some(gap) }) => gap_report(gap).write_notice(out),
            Some(Full { lost, gap }) => loss_report(lost, gap).write_notice(out),
            None => {}
        }
    }

    /// Puts a notification there, unless `most` wait.
    pub(super) fn put(&self, message: &[u8], most: u32) -> Put {
        let mut waiting = self.lock();
        if waiting.admits(message.len(), most) {
            return self.append(&mut waiting, |messages| messages.extend_from_slice(message));
        }
        let full = waiting.full.get_or_insert_default();
        full.lost = full.lost.saturating_add(1);
        let first = full.lost == 1;
        // A single message may not fit at all; its loss has to be told nevertheless.
        self.filled.store(true, Release);
        if first { Put::DroppedFirst } else { Put::Dropped }
    }

    /// Says that nobody listened for a while; answers whether the client has to be woken.
    pub(super) fn tell_gap(&self, gap: Duration, most: u32) -> bool {
        let mut waiting = self.lock();
        if waiting.admits(0, most) {
            return self.append(&mut waiting, |messages| gap_report(gap).write_notice(messages)) == Put::First;
        }
        let full = waiting.full.get_or_insert_default();
        full.gap = Some(full.gap.unwrap_or_default().saturating_add(gap));
        false
    }

    fn append(&self, waiting: &mut Waiting, write: impl FnOnce(&mut Vec<u8>)) -> Put {
        write(&mut waiting.messages);
        waiting.count = waiting.count.saturating_add(1);
        self.filled.store(true, Release);
        if waiting.count == 1 { Put::First } else { Put::Behind }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn admits(&self, length: usize, most: u32) -> bool {
        self.full.is_none() && self.count < most && self.messages.len().saturating_add(length) <= MOST_BYTES
    }
}

fn loss_report(lost: u64, gap: Option<Duration>) -> Report {
    let mut detail = format!("{lost} notifications did not fit into this client's queue and were dropped.");
    if let Some(gap) = gap {
        detail = format!("{detail} For {:.1} s of that time nobody listened.", gap.as_secs_f64());
    }
    Report::new("WARNING", sqlstate::WARNING, format!("{lost} notifications were lost")).detail(detail).hint(
        "Read faster, keep transactions short, or raise listen_queue_size of the pooler; look at what the lost \
               notifications would have told.",
    )
}

fn gap_report(gap: Duration) -> Report {
    Report::new("WARNING", sqlstate::WARNING, "notifications may have been lost")
        .detail(format!(
            "The connection that listens for this client was lost and is there again after {:.1} s.",
            gap.as_secs_f64()
        ))
        .hint(
            "Look at what notifications of that time would have told. With listener_lost = \"disconnect\" the pooler \
               closes the connections of listening clients instead.",
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tag::back;
    use crate::wire::view::Diagnostic;
    use crate::wire::write::message;

    fn note(text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        message(&mut out, back::NOTIFICATION, |out| out.extend_from_slice(text.as_bytes()));
        out
    }

    /// Type and body of each message.
    fn taken(mailbox: &Mailbox) -> Vec<(u8, Vec<u8>)> {
        let mut out = Vec::new();
        mailbox.take(&mut out);
        let mut rest = &out[..];
        let mut all = Vec::new();
        while !rest.is_empty() {
            let length = u32::from_be_bytes(rest[1..5].try_into().unwrap()) as usize;
            all.push((rest[0], rest[5..=length].to_vec()));
            rest = &rest[length + 1..];
        }
        all
    }

    #[test]
    fn what_is_put_comes_out_once_and_in_order() {
        let mailbox = Mailbox::default();
        assert!(mailbox.is_empty());
        assert_eq!(mailbox.put(&note("a"), 10), Put::First);
        assert_eq!(mailbox.put(&note("b"), 10), Put::Behind);
        assert!(!mailbox.is_empty());
        let mut out = b"before".to_vec();
        mailbox.take(&mut out);
        assert_eq!(out, [b"before".to_vec(), note("a"), note("b")].concat());
        assert!(mailbox.is_empty());
        assert_eq!(taken(&mailbox), []);
        assert_eq!(mailbox.put(&note("c"), 10), Put::First);
        assert_eq!(taken(&mailbox), [(b'A', b"c".to_vec())]);
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_told_once() {
        let mailbox = Mailbox::default();
        let puts = ["a", "b", "c", "d"].map(|text| mailbox.put(&note(text), 2));
        assert_eq!(puts, [Put::First, Put::Behind, Put::DroppedFirst, Put::Dropped]);
        let all = taken(&mailbox);
        assert_eq!(all.iter().map(|(tag, _)| *tag).collect::<Vec<_>>(), *b"AAN");
        let said = Diagnostic::read(&all[2].1);
        assert_eq!((said.severity.as_str(), said.code.as_str()), ("WARNING", "01000"));
        assert_eq!(said.message, "2 notifications were lost");
        assert!(!said.detail.is_empty() && said.hint.contains("listen_queue_size"));
        // The next overflow is another one.
        assert_eq!(mailbox.put(&note("e"), 1), Put::First);
        assert_eq!(mailbox.put(&note("f"), 1), Put::DroppedFirst);
        assert_eq!(taken(&mailbox).len(), 2);
        assert!(mailbox.is_empty());
    }

    #[test]
    fn bytes_are_bounded_and_nothing_overtakes_a_loss() {
        let mailbox = Mailbox::default();
        let large = note(&"x".repeat(8000));
        while matches!(mailbox.put(&large, u32::MAX), Put::First | Put::Behind) {}
        assert!(mailbox.lock().messages.len() <= MOST_BYTES);
        assert_eq!(mailbox.put(&note("small"), u32::MAX), Put::Dropped);
        let mut out = Vec::new();
        mailbox.take(&mut out);
        assert!(out.len() > MOST_BYTES - 9000 && out.len() < MOST_BYTES + 1000);
    }

    #[test]
    fn a_gap_is_told_in_its_place() {
        let mailbox = Mailbox::default();
        assert!(mailbox.tell_gap(Duration::from_secs(1), 10));
        assert!(!mailbox.tell_gap(Duration::from_secs(1), 10));
        mailbox.put(&note("after"), 10);
        let all = taken(&mailbox);
        assert_eq!(all.iter().map(|(tag, _)| *tag).collect::<Vec<_>>(), *b"NNA");
        assert_eq!(Diagnostic::read(&all[0].1).message, "notifications may have been lost");
    }

    #[test]
    fn a_gap_of_a_full_mailbox_is_not_forgotten() {
        let mailbox = Mailbox::default();
        mailbox.put(&note("a"), 1);
        assert!(!mailbox.tell_gap(Duration::from_secs(1), 1));
        let all = taken(&mailbox);
        assert_eq!(Diagnostic::read(&all[1].1).message, "notifications may have been lost");
        mailbox.put(&note("a"), 1);
        mailbox.tell_gap(Duration::from_secs(1), 1);
        mailbox.tell_gap(Duration::from_secs(1), 1);
        mailbox.put(&note("b"), 1);
        let said = Diagnostic::read(&taken(&mailbox)[1].1);
        assert_eq!(said.message, "1 notifications were lost");
        assert!(said.detail.contains("2.0 s"));
    }
}
