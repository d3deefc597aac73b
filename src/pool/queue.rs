//! Who waits for a backend of a pool, and since when. The order of service is deadpool's; this is only the book that
//! the connector, the sweeper and the console read.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::net::Micros;

/// The waiting clients of one pool.
#[derive(Debug, Default)]
pub(super) struct Queue(Mutex<Book>);

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

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        assert_eq!((queue.len(), queue.oldest()), (3, Some(10)));
        drop(second);
        assert_eq!((queue.len(), queue.oldest()), (2, Some(10)));
        drop(first);
        assert_eq!((queue.len(), queue.oldest()), (1, Some(30)));
        drop(third);
        assert_eq!((queue.len(), queue.oldest()), (0, None));
    }
}
