//! Who waits for a backend of a pool, and since when. The order of service is deadpool's; this is only the book that
//! the connector, the sweeper and the console read.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::net::Micros;

/// The waiting clients of one pool.
#[derive(Debug, Default)]
pub(super) struct Queue {
    book: Mutex<Book>,
    /// What the book says, for those who must not hold up anybody: how many wait, and since when the first does.
    waiting: AtomicUsize,
    oldest: AtomicU64,
}

#[derive(Debug, Default)]
struct Book {
    next: u64,
    waiting: usize,
    /// Tickets in order; a time of 0 marks one that left.
    tickets: VecDeque<(u64, Micros)>,
}

impl Queue {
    /// Enters one who waits since `now`, until the ticket is dropped.
    pub(super) fn enter(&self, now: Micros) -> Ticket<'_> {
        let mut book = self.book();
        let number = book.next;
        book.next += 1;
        book.waiting += 1;
        book.tickets.push_back((number, now.max(1)));
        self.publish(&book);
        Ticket { queue: self, number }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.book().waiting
    }

    /// Since when the first of them waits.
    pub(super) fn oldest(&self) -> Option<Micros> {
        self.book().tickets.front().map(|&(_, since)| since)
    }

    /// How many wait, without the lock.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }

    /// Since when the first of them waits, without the lock.
    pub(super) fn waiting_since(&self) -> Option<Micros> {
        Some(self.oldest.load(Relaxed)).filter(|since| *since > 0)
    }

    fn publish(&self, book: &Book) {
        self.waiting.store(book.waiting, Relaxed);
        self.oldest.store(book.tickets.front().map_or(0, |&(_, since)| since), Relaxed);
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the queue; dropped, it is left.
pub(super) struct Ticket<'a> {
    queue: &'a Queue,
    number: u64,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut book = self.queue.book();
        book.waiting -= 1;
        if let Ok(index) = book.tickets.binary_search_by_key(&self.number, |&(number, _)| number)
            && let Some(ticket) = book.tickets.get_mut(index)
        {
            ticket.1 = 0;
        }
        while book.tickets.front().is_some_and(|&(_, since)| since == 0) {
            book.tickets.pop_front();
        }
        self.queue.publish(&book);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_the_first_who_still_waits() {
        let queue = Queue::default();
        let first = queue.enter(10);
        let second = queue.enter(20);
        let third = queue.enter(30);
        let is = |waiting, oldest| {
            assert_eq!((queue.len(), queue.oldest()), (waiting, oldest));
            assert_eq!((queue.waiting(), queue.waiting_since()), (waiting, oldest));
        };
        is(3, Some(10));
        drop(second);
        is(2, Some(10));
        drop(first);
        is(1, Some(30));
        drop(third);
        is(0, None);
    }
}
