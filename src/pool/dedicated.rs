//! A backend for one client alone, from its login to its end: for replication, which cannot be shared.
//!
//! It counts for all limits like any other of its pool. An idle backend makes room for it where a limit is reached; else
//! it is waited for. It never comes to the shelf: dropped, it is closed.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;

use tokio::sync::Notify;

use super::cap::{Cap, Starving};
use super::{ClientRecord, Listing, Permit, Phase, Pool, Pools, Reason, Waiting};
use crate::backend::{Backend, BackendState, Closing, ConnectError, Identity, connect};
use crate::net::OWN;
use crate::wire::startup::Replication;

/// What a client wants a backend of its own for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Which protocol it will speak.
    pub replication: Replication,
    /// What its startup packet asks for, passed on as it is: a walsender takes no SET.
    pub settings: Vec<(String, String)>,
}

/// A backend for one client.
#[derive(Debug)]
pub struct Dedicated {
    // Dropped in this order: the place is free when the connection is closed.
    /// The backend.
    pub backend: Backend,
    _listing: Listing,
    _permits: [Permit; 3],
}

/// Why there is none.
#[derive(Debug)]
pub enum NoDedicated {
    /// The client has left.
    Gone,
    /// The client was told to end.
    Interrupted(Reason),
    /// PostgreSQL cannot be reached, or refuses.
    Failed(ConnectError),
}

impl Pool {
    /// Opens a backend for `client` alone, and links the two.
    ///
    /// Cancel safety: safe; what is half open is closed.
    ///
    /// # Errors
    /// [`NoDedicated`].
    pub async fn dedicate(
        self: &Arc<Self>,
        pools: &Pools,
        client: &ClientRecord,
        mut gone: impl Waiting,
        wanted: Wanted,
    ) -> Result<Dedicated, NoDedicated> {
        let clock = &self.shared.clock;
        client.grace.store(0, Relaxed);
        client.enter(Phase::Waiting, clock.now());
        let waker = Arc::new(Notify::new());
        let mut starving: Option<(Arc<Cap>, Starving)> = None;
        let permits = loop {
            let full = if self.paused() {
                Arc::clone(&self.size)
            } else {
                match self.room(pools) {
                    Ok(permits) => break permits,
                    Err(full) => full,
                }
            };
            if starving.as_ref().is_none_or(|(cap, _)| !Arc::ptr_eq(cap, &full)) {
                // Whatever comes back from here on wakes; what came before is found by another look. Only where it is
                // full: places under the other limits are taken and given back by each look itself.
                let place = full.starve(&waker);
                starving = Some((full, place));
                continue;
            }
            let ended = poll_fn(|cx| {
                client.interrupt.register(cx.waker());
                match client.interrupt.raised() {
                    Some(reason) if !reason.passes() => Poll::Ready(NoDedicated::Interrupted(reason)),
                    _ => gone.poll_gone(cx).map(|()| NoDedicated::Gone),
                }
            });
            tokio::select! {
                ended = ended => return Err(ended),
                () = waker.notified() => {}
            }
        };
        drop(starving);
        let settings = self.settings.load_full();
        let mut spec = settings.spec.clone();
        spec.replication = wanted.replication;
        spec.asked = wanted.settings;
        let epoch = self.shelf.lock().epoch;
        let id = self.shared.next_id();
        let who = Identity { id, database: Arc::clone(&self.key.database), user: Arc::clone(&self.key.user) };
        let begun = clock.now();
        let backend = Box::pin(connect(&spec, who, &self.shared.interner, clock)).await;
        self.note_connect(begun, backend.is_ok());
        let backend = backend.map_err(NoDedicated::Failed)?;
        if self.shelf.lock().epoch != epoch {
            backend.record.need_close();
        }
        if settings.log_connections {
            tracing::info!(target: OWN, database = %self.key.database, user = %self.key.user, id,
                           address = %backend.record.endpoint, pid = backend.record.process_id,
                           "new connection to server, for replication");
        }
        self.listed().insert(id, Arc::clone(&backend.record));
        let listing = Listing { pool: Arc::downgrade(self), id };
        backend.record.set_state(BackendState::Active);
        backend.record.set_link(client.id);
        client.set_link(Some(&backend.record));
        Ok(Dedicated { backend, _listing: listing, _permits: permits })
    }

    /// Places under the limits; idle backends of this pool and of its siblings make room. Else the limit that is
    /// reached.
    fn room(&self, pools: &Pools) -> Result<[Permit; 3], Arc<Cap>> {
        let settings = self.settings.load();
        let size = self.size.acquire(settings.size).or_else(|| {
            self.evict_oldest(Closing::EvictedForPool, &|_| true);
            self.size.acquire(settings.size)
        });
        let size = size.ok_or_else(|| Arc::clone(&self.size))?;
        let database = self.database_cap.acquire(settings.max_db).or_else(|| {
            pools.evict(Closing::EvictedForDatabase, None, &|pool| pool.key.database == self.key.database);
            self.database_cap.acquire(settings.max_db)
        });
        let database = database.ok_or_else(|| Arc::clone(&self.database_cap))?;
        let user = self.user_cap.acquire(settings.max_user).or_else(|| {
            pools.evict(Closing::EvictedForUser, None, &|pool| pool.key.user == self.key.user);
            self.user_cap.acquire(settings.max_user)
        });
        let user = user.ok_or_else(|| Arc::clone(&self.user_cap))?;
        Ok([size, database, user])
    }
}
