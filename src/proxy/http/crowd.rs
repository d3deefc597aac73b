//! How many connections the HTTP server has at once, and who goes when there are too many.
//!
//! A connection whose request is being answered is never ended for another one's sake; of the others the oldest goes, so
//! that peers which hold connections without a request cannot keep others out.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Most connections at once.
const MOST: usize = 64;

/// The connections there are.
#[derive(Debug, Default)]
pub(super) struct Crowd(Mutex<VecDeque<Arc<Place>>>);

/// One of them.
#[derive(Debug, Default)]
struct Place {
    leave: Notify,
    busy: AtomicBool,
}

/// A connection's place; dropped, it is free.
#[derive(Debug)]
pub(crate) struct Seat {
    crowd: Arc<Crowd>,
    place: Arc<Place>,
}

impl Crowd {
    /// A place for one more; none when all others are being answered.
    pub(super) fn enter(self: &Arc<Self>) -> Option<Seat> {
        let mut places = self.places();
        if places.len() >= MOST {
            let idle = places.iter().position(|place| !place.busy.load(Relaxed))?;
            // The permit is kept until its task looks.
            places.remove(idle)?.leave.notify_one();
        }
        let place = Arc::new(Place::default());
        places.push_back(Arc::clone(&place));
        Some(Seat { crowd: Arc::clone(self), place })
    }

    fn places(&self) -> MutexGuard<'_, VecDeque<Arc<Place>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Resolves when the place was given to another one.
    ///
    /// Cancel safety: safe.
    pub(super) async fn taken(&self) {
        self.place.leave.notified().await;
    }

    /// Says that a request is being answered, until the value is dropped.
    pub(super) fn busy(&self) -> Busy {
        self.place.busy.store(true, Relaxed);
        Busy(Arc::clone(&self.place))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.crowd.places().retain(|place| !Arc::ptr_eq(place, &self.place));
    }
}

/// A request that is being answered.
pub(super) struct Busy(Arc<Place>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.store(false, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_without_a_request_goes() {
        let crowd = Arc::<Crowd>::default();
        let mut seats: Vec<_> = (0..MOST).map(|_| crowd.enter().unwrap()).collect();
        let answering = seats[0].busy();
        let _new = crowd.enter().unwrap();
        seats[1].taken().await;
        assert_eq!(crowd.places().len(), MOST);
        drop(seats.remove(1));
        assert_eq!(crowd.places().len(), MOST, "its place was another's already");

        drop(answering);
        let newer = crowd.enter().unwrap();
        seats[0].taken().await;
        let all: Vec<_> = seats.iter().chain([&_new, &newer]).map(Seat::busy).collect();
        assert!(crowd.enter().is_none(), "all are being answered");
        drop(all);
        drop(newer);
        assert_eq!(crowd.places().len(), MOST - 1);
    }
}
