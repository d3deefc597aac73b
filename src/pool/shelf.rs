//! The shelf: idle backends, lent by `deadpool::unmanaged`.
//!
//! deadpool hands out seats, first come first served, to whoever waits; each seat stands for one backend in the deque
//! beside it. Its own store is a stack that cannot be searched, so round robin, the reaper and eviction would not be
//! possible with the backends inside it; with seats (which have no size) it keeps the order of service and the waking,
//! and the deque keeps the order of the backends. Invariant: there are never more free seats than backends here.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use deadpool::unmanaged::{Object, Pool as Seats};

use super::Listing;
use super::budget::SlotPermit;
use super::cap::Permit;
use crate::backend::Backend;

/// More than any pool can have; the limits are ours.
const UNBOUNDED: usize = u32::MAX as usize >> 4;

/// The right to one backend of the shelf.
#[derive(Debug)]
pub(super) struct Seat;

/// A backend with what it counts for. Dropped, its connection is closed, its permits come back, it is not listed any
/// more and the connector looks again, in this order.
#[derive(Debug)]
pub(super) struct Held {
    /// The backend.
    pub(super) backend: Backend,
    /// Pool, database and user.
    pub(super) permits: [Permit; 3],
    /// One of PostgreSQL's.
    pub(super) slot: SlotPermit,
    /// Its place in the pool's list.
    pub(super) listing: Listing,
}

impl Held {
    /// Closes a backend that stands between two messages. One that is just dropped gets no Terminate: half a message
    /// may be on its way to it, and five more bytes could complete it.
    pub(super) fn terminate(self) {
        let Held { backend, permits, slot, listing } = self;
        backend.terminate();
        drop(permits);
        drop(slot);
        drop(listing);
    }
}

/// A seat that was taken. Dropped, it is gone with its backend; [`Shelf::put`] gives it back.
#[derive(Debug)]
pub(super) struct Taken(Option<Object<Seat>>);

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(seat) = self.0.take() {
            drop(Object::take(seat));
        }
    }
}

#[derive(Debug)]
pub(super) struct Shelf {
    seats: Seats<Seat>,
    idle: Mutex<Idle>,
}

/// What the lock of the shelf guards.
#[derive(Debug, Default)]
pub(super) struct Idle {
    /// Last given back at the end.
    pub(super) backends: VecDeque<Box<Held>>,
    /// Reasons not to put anything on the shelf (PAUSE of everything, of this database, KILL).
    pub(super) paused: bool,
    /// Backends of an earlier epoch are closed when they come back.
    pub(super) epoch: u64,
}

impl Shelf {
    pub(super) fn new() -> Shelf {
        Shelf { seats: Seats::new(UNBOUNDED), idle: Mutex::default() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A seat, if one is free and nobody waits for it.
    #[inline]
    pub(super) fn try_seat(&self) -> Option<Taken> {
        self.seats.try_get().ok().map(|seat| Taken(Some(seat)))
    }

    /// The next free seat, first come first served.
    ///
    /// Cancel safety: safe; the place in the queue is lost.
    pub(super) async fn seat(&self) -> Option<Taken> {
        self.seats.get().await.ok().map(|seat| Taken(Some(seat)))
    }

    /// The backend for a seat that was just taken.
    pub(super) fn pick(&self, round_robin: bool) -> Option<Box<Held>> {
        let mut idle = self.lock();
        if round_robin { idle.backends.pop_front() } else { idle.backends.pop_back() }
    }

    /// Puts a backend back with the seat that it was taken with, or answers it where nothing may be put there.
    pub(super) fn put(&self, held: Box<Held>, mut seat: Taken) -> Result<(), Box<Held>> {
        let mut idle = self.lock();
        if idle.paused {
            return Err(held);
        }
        idle.backends.push_back(held);
        drop(idle);
        // The backend is there before the seat is free.
        drop(seat.0.take());
        Ok(())
    }

    /// Puts a new backend there, or answers it where nothing may be put there.
    pub(super) fn add(&self, held: Box<Held>) -> Result<(), Box<Held>> {
        let mut idle = self.lock();
        if idle.paused {
            return Err(held);
        }
        idle.backends.push_back(held);
        drop(idle);
        // Cannot fail: the seats are unbounded and never closed.
        let _ = self.seats.try_add(Seat);
        Ok(())
    }

    /// Takes the idle backends that `which` chooses off the shelf, but none that a client has been promised.
    pub(super) fn remove(&self, mut which: impl FnMut(&mut Held) -> bool) -> Vec<Held> {
        let mut idle = self.lock();
        let mut removed = Vec::new();
        let mut index = 0;
        while let Some(held) = idle.backends.get_mut(index) {
            if !which(held) {
                index += 1;
                continue;
            }
            let Some(seat) = self.try_seat() else { break };
            drop(seat);
            removed.extend(idle.backends.remove(index).map(|held| *held));
        }
        removed
    }

    /// How many backends are idle.
    pub(super) fn len(&self) -> usize {
        self.lock().backends.len()
    }
}
