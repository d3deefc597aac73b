//! LISTEN and NOTIFY for clients that hold no backend between their transactions.
//!
//! One backend per database (host, port and name in PostgreSQL) listens for all clients. A client subscribes to a channel
//! and waits until PostgreSQL has really executed LISTEN; from then on each notification goes into its [`Mailbox`] and
//! its task is woken. Channels are counted: the first subscriber makes LISTEN, the last one that leaves UNLISTEN.
//!
//! Nobody is left believing in a silence: what does not fit into a mailbox and what may have been missed while the
//! connection was away is told to the client, and a client that leaves leaves no channel behind.
//!
//! Locks are taken in this order: registry, a client's subscriptions, a hub's roll, mailbox.

mod ask;
mod hub;
mod line;
mod mailbox;
mod roll;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{ClientRecord, Pool, Reason, Shared};
use crate::config::ListenerLost;
use ask::Ask;
use hub::Key;
use roll::{Channel, Joined};

pub use ask::{NoListener, Subscription};
pub use hub::{Hub, HubShown, HubState};
pub use mailbox::Mailbox;

/// Longest name of a channel, bytes; PostgreSQL cuts identifiers there (`NAMEDATALEN` less one).
const LONGEST_NAME: usize = 63;

/// The hubs of all databases.
#[derive(Debug)]
pub struct Listeners {
    hubs: Mutex<HashMap<Key, Arc<Hub>>>,
    born: UnboundedSender<Arc<Hub>>,
    births: Mutex<Option<UnboundedReceiver<Arc<Hub>>>>,
    shared: Arc<Shared>,
    losses: AtomicU64,
}

impl Listeners {
    pub(super) fn new(shared: Arc<Shared>) -> Listeners {
        let (born, births) = unbounded_channel();
        let births = Mutex::new(Some(births));
        Listeners { hubs: Mutex::default(), born, births, shared, losses: AtomicU64::new(0) }
    }

    /// New hubs, whose receiver runs them; once.
    pub fn births(&self) -> Option<UnboundedReceiver<Arc<Hub>>> {
        self.births.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Subscribes a client of `pool` to a channel, given by its bytes after folding and without quotes. Poll the answer
    /// until PostgreSQL listens.
    pub fn subscribe(&self, pool: &Pool, client: &Arc<ClientRecord>, channel: &[u8]) -> Subscription {
        let channel = Channel::from(clipped(channel));
        let mut hubs = self.lock();
        let hub = self.hub(&mut hubs, Key::of(pool));
        let joined = client.subscriptions.join(&hub, |mailbox| hub.roll().subscribe(client, mailbox, &channel));
        drop(hubs);
        let gone = || Joined { ask: Arc::new(Ask::answered(Err(NoListener::Gone))), fresh: false, asks: false };
        let Joined { ask, fresh, asks } = joined.unwrap_or_else(gone);
        if asks {
            hub.asked.notify_one();
        }
        Subscription { ask, hub: Some(hub), client: client.id, channel, fresh, patience: None }
    }

    /// Unsubscribes a client from a channel, or from all. What its mailbox holds stays there.
    pub fn unsubscribe(&self, client: &ClientRecord, channel: Option<&[u8]>) {
        client.subscriptions.quit(channel.map(clipped));
    }

    /// All hubs, by database.
    #[must_use]
    pub fn shown(&self) -> Vec<HubShown> {
        let hubs: Vec<Arc<Hub>> = self.lock().values().cloned().collect();
        let mut shown: Vec<HubShown> = hubs.iter().map(|hub| hub.shown()).collect();
        shown.sort_by(|a, b| a.database.cmp(&b.database));
        shown
    }

    /// How often a backend was lost while clients listened, since the process started.
    #[must_use]
    pub fn losses(&self) -> u64 {
        self.losses.load(Relaxed)
    }

    /// Makes hubs whose backend should not stay (PAUSE, RECONNECT, a pool that was closed) look.
    pub(super) fn look(&self) {
        let hubs: Vec<Arc<Hub>> = self.lock().values().cloned().collect();
        for hub in hubs.iter().filter(|hub| hub.is_displaced()) {
            hub.asked.notify_one();
        }
    }

    /// Takes the listening clients of a pool along to the database that it leads to now.
    pub fn follow(&self, pool: &Arc<Pool>, policy: ListenerLost) {
        let key = Key::of(pool);
        let mut hubs = self.lock();
        let others: Vec<Arc<Hub>> = hubs.values().filter(|hub| hub.key != key).cloned().collect();
        let mut dropped_unlocked = Vec::new();
        let now = self.shared.clock.now();
        for other in others {
            let theirs = |record: &ClientRecord| record.pool().is_some_and(|its| Arc::ptr_eq(&its, pool));
            let taken = other.roll().take_out(theirs);
            for (record, channels) in taken.iter().filter(|(_, channels)| !channels.is_empty()) {
                let hub = self.hub(&mut hubs, key.clone());
                for channel in channels {
                    record.subscriptions.join(&hub, |mailbox| {
                        let mut roll = hub.roll();
                        let joined = roll.subscribe(record, mailbox, channel);
                        roll.take_over(record.id, channel, now);
                        joined
                    });
                }
                hub.asked.notify_one();
                if policy == ListenerLost::Disconnect {
                    record.interrupt.raise(Reason::ListenerLost);
                }
            }
            other.asked.notify_one();
            dropped_unlocked.push(taken);
        }
        drop(hubs);
    }

    /// Takes a hub out that nobody needs; `false` while somebody does.
    fn retire(&self, hub: &Arc<Hub>) -> bool {
        let mut hubs = self.lock();
        let unused = hub.roll().is_empty();
        if unused {
            hubs.remove(&hub.key);
        }
        unused
    }

    fn hub(&self, hubs: &mut HashMap<Key, Arc<Hub>>, key: Key) -> Arc<Hub> {
        let hub = hubs.entry(key.clone()).or_insert_with(|| {
            let hub = Arc::new(Hub::new(key, Arc::clone(&self.shared)));
            // Without a receiver the process is ending.
            let _ = self.born.send(Arc::clone(&hub));
            hub
        });
        Arc::clone(hub)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arc<Hub>>> {
        self.hubs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name as PostgreSQL keeps it: identifiers are cut, but not within a character.
fn clipped(channel: &[u8]) -> &[u8] {
    let end = channel.iter().position(|&byte| byte == 0).unwrap_or(channel.len());
    let mut end = end.min(LONGEST_NAME);
    if let Ok(text) = std::str::from_utf8(channel) {
        end = text.floor_char_boundary(end);
    }
    channel.get(..end).unwrap_or_default()
}

/// What a client listens on, seen from the client: the way to its hubs and its mailbox. Dropped, it listens on nothing.
#[derive(Debug)]
pub(super) struct Subscriptions {
    client: u64,
    mailbox: OnceLock<Arc<Mailbox>>,
    hubs: Mutex<Hubs>,
}

#[derive(Debug, Default)]
struct Hubs {
    of: Vec<Arc<Hub>>,
    /// The client has left; nothing is joined any more.
    left: bool,
}

impl Subscriptions {
    pub(super) fn new(client: u64) -> Subscriptions {
        Subscriptions { client, mailbox: OnceLock::new(), hubs: Mutex::default() }
    }

    #[inline]
    pub(super) fn mailbox(&self) -> Option<&Arc<Mailbox>> {
        self.mailbox.get()
    }

    /// The client has left.
    pub(super) fn leave(&self) {
        self.lock().left = true;
        self.quit(None);
    }

    /// Joins a hub, unless the client has left.
    fn join(&self, hub: &Arc<Hub>, join: impl FnOnce(&Arc<Mailbox>) -> Joined) -> Option<Joined> {
        let mut hubs = self.lock();
        if hubs.left {
            return None;
        }
        if !hubs.of.iter().any(|known| Arc::ptr_eq(known, hub)) {
            hubs.of.push(Arc::clone(hub));
        }
        Some(join(self.mailbox.get_or_init(Arc::default)))
    }

    fn quit(&self, channel: Option<&[u8]>) {
        self.lock().of.retain(|hub| !hub.unsubscribe(self.client, channel));
    }

    fn lock(&self) -> MutexGuard<'_, Hubs> {
        self.hubs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Subscriptions {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests;
