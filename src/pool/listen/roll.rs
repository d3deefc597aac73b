//! Who listens on what: the channels of one database, their subscribers, and what the listening backend has to be told
//! next. Pure bookkeeping under the hub's lock; whoever has to be woken is collected in [`Calls`], for when the lock is
//! free again.
//!
//! A channel stays here as long as somebody subscribes to it or the backend listens on it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::NoListener;
use super::ask::Ask;
use super::mailbox::{Mailbox, Put};
use crate::backend::ConnectError;
use crate::net::{Clock, Micros};
use crate::pool::{ClientRecord, Reason};
use crate::wire::view::Diagnostic;

/// Most channels of one client, so that its memory is bounded.
pub(super) const MOST_CHANNELS: usize = 10_000;
/// Most channels in one query.
const BATCH: usize = 500;

/// Name of a channel, as PostgreSQL has it.
pub(super) type Channel = Arc<[u8]>;

/// What the listening backend is asked next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Batch {
    /// Settings that would end the connection by and by.
    Prepare,
    /// Whether it is still there.
    Ping,
    /// LISTEN
    Listen(Vec<Channel>),
    /// UNLISTEN
    Unlisten(Vec<Channel>),
}

/// How the present connection stands to a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It does not listen on it.
    Wanted,
    /// LISTEN is under way.
    Asked,
    /// It listens.
    Listening,
    /// UNLISTEN is under way.
    Leaving,
}

/// How PostgreSQL is known to take LISTEN for a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// Nobody has listened on it.
    New,
    /// It stood in a query that PostgreSQL refused: it is asked for alone.
    Suspect,
    /// It was listened on before, so it will be again, whatever that takes.
    Known,
}

#[derive(Debug)]
struct Entry {
    standing: Standing,
    trust: Trust,
    subscribers: HashMap<u64, Arc<Subscriber>>,
    asks: Vec<Weak<Ask>>,
}

/// A client that listens.
#[derive(Debug)]
pub(super) struct Subscriber {
    id: u64,
    record: Weak<ClientRecord>,
    mailbox: Arc<Mailbox>,
}

#[derive(Debug)]
struct Member {
    subscriber: Arc<Subscriber>,
    channels: HashSet<Channel>,
}

/// A time in which nobody listened, and the clients that have to be told.
#[derive(Debug)]
struct Gap {
    since: Micros,
    clients: HashSet<u64>,
}

/// The book of one hub.
#[derive(Debug, Default)]
pub(super) struct Roll {
    channels: HashMap<Channel, Entry>,
    clients: HashMap<u64, Member>,
    gap: Option<Gap>,
    /// There may be something to ask the connection for.
    changed: bool,
    /// Answers who asks, while there is no point in trying.
    refusal: Option<NoListener>,
    trouble: Option<Arc<ConnectError>>,
}

/// What a subscription begins with.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) ask: Arc<Ask>,
    pub(super) fresh: bool,
    /// The hub has to be woken.
    pub(super) asks: bool,
}

/// Whom to call when the lock is free: waking, and dropping the last reference to a client, may run code of others.
#[derive(Debug, Default)]
#[must_use]
pub(super) struct Calls {
    asks: Vec<(Arc<Ask>, Result<(), NoListener>)>,
    nudged: Vec<Arc<ClientRecord>>,
    interrupted: Vec<Arc<ClientRecord>>,
}

impl Calls {
    pub(super) fn make(self) {
        for (ask, answer) in self.asks {
            ask.answer(answer);
        }
        for record in &self.nudged {
            record.interrupt.nudge();
        }
        for record in &self.interrupted {
            record.interrupt.raise(Reason::ListenerLost);
        }
    }
}

/// What became of one notification.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Delivery {
    pub(super) delivered: u64,
    pub(super) dropped: u64,
}

impl Roll {
    /// How many channels and clients there are.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.channels.values().filter(|entry| !entry.subscribers.is_empty()).count(), self.clients.len())
    }

    /// Whether nobody listens on anything.
    pub(super) fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// Whether clients wait for a connection that was lost.
    pub(super) fn in_gap(&self) -> bool {
        self.gap.is_some()
    }

    pub(super) fn trouble(&self) -> Option<Arc<ConnectError>> {
        self.trouble.clone()
    }

    /// Clients in the order of their ids.
    pub(super) fn records(&self) -> Vec<Arc<ClientRecord>> {
        let mut ids: Vec<u64> = self.clients.keys().copied().collect();
        ids.sort_unstable();
        ids.iter().filter_map(|id| self.clients.get(id)?.subscriber.record.upgrade()).collect()
    }

    /// Subscribes a client to a channel.
    pub(super) fn subscribe(
        &mut self,
        client: &Arc<ClientRecord>,
        mailbox: &Arc<Mailbox>,
        channel: &Channel,
    ) -> Joined {
        let answered = |answer| Joined { ask: Arc::new(Ask::answered(answer)), fresh: false, asks: false };
        let member = self.clients.entry(client.id).or_insert_with(|| Member {
            subscriber: Arc::new(Subscriber {
                id: client.id,
                record: Arc::downgrade(client),
                mailbox: Arc::clone(mailbox),
            }),
            channels: HashSet::new(),
        });
        let fresh = !member.channels.contains(channel);
        if fresh && member.channels.len() >= MOST_CHANNELS {
            return answered(Err(NoListener::Channels(MOST_CHANNELS)));
        }
        let entry = self.channels.entry(Arc::clone(channel)).or_insert_with(|| Entry {
            standing: Standing::Wanted,
            trust: Trust::New,
            subscribers: HashMap::new(),
            asks: Vec::new(),
        });
        if let (Some(refusal), false) = (&self.refusal, entry.standing == Standing::Listening) {
            let refusal = refusal.clone();
            let answer = answered(Err(refusal));
            self.tidy(client.id, channel);
            return answer;
        }
        member.channels.insert(Arc::clone(channel));
        entry.subscribers.insert(client.id, Arc::clone(&member.subscriber));
        if entry.standing == Standing::Listening {
            return Joined { fresh, ..answered(Ok(())) };
        }
        if entry.asks.len() == entry.asks.capacity() {
            entry.asks.retain(|ask| ask.strong_count() > 0);
        }
        self.changed = true;
        let ask = Arc::new(Ask::default());
        entry.asks.push(Arc::downgrade(&ask));
        Joined { ask, fresh, asks: true }
    }

    /// Unsubscribes a client from a channel, or from all; answers whether it is subscribed to nothing any more.
    pub(super) fn unsubscribe(&mut self, client: u64, channel: Option<&[u8]>) -> bool {
        let Some(member) = self.clients.get_mut(&client) else { return true };
        self.changed = true;
        let left: Vec<Channel> = match channel {
            None => std::mem::take(&mut member.channels).into_iter().collect(),
            Some(channel) => member.channels.take(channel).into_iter().collect(),
        };
        for channel in &left {
            if let Some(entry) = self.channels.get_mut(channel) {
                entry.subscribers.remove(&client);
            }
            self.tidy(client, channel);
        }
        !self.clients.contains_key(&client)
    }

    /// Forgets a channel that nobody wants and a client that wants nothing.
    fn tidy(&mut self, client: u64, channel: &Channel) {
        let unused = |entry: &Entry| entry.subscribers.is_empty() && entry.standing == Standing::Wanted;
        if self.channels.get(channel).is_some_and(unused) {
            self.channels.remove(channel);
        }
        if self.clients.get(&client).is_some_and(|member| member.channels.is_empty()) {
            self.clients.remove(&client);
        }
        if self.clients.is_empty() {
            self.gap = None;
        }
    }

    /// What the connection is to be asked now, if anything; it is under way from here on.
    pub(super) fn next(&mut self) -> Option<Batch> {
        // Looked at with each notification, so all channels are gone through only where something may be found.
        if !self.changed {
            return None;
        }
        let batch = self.find_batch();
        self.changed = batch.is_some();
        batch
    }

    fn find_batch(&mut self) -> Option<Batch> {
        for trust in [Trust::Known, Trust::New] {
            let batch = self.advance((Standing::Wanted, Standing::Asked), BATCH, |entry| entry.trust == trust);
            if !batch.is_empty() {
                return Some(Batch::Listen(batch));
            }
        }
        let batch = self.advance((Standing::Wanted, Standing::Asked), 1, |_| true);
        if !batch.is_empty() {
            return Some(Batch::Listen(batch));
        }
        let unused = |entry: &Entry| entry.subscribers.is_empty();
        let batch = self.advance((Standing::Listening, Standing::Leaving), BATCH, unused);
        (!batch.is_empty()).then_some(Batch::Unlisten(batch))
    }

    fn advance(
        &mut self,
        (from, to): (Standing, Standing),
        most: usize,
        which: impl Fn(&Entry) -> bool,
    ) -> Vec<Channel> {
        let chosen = self.channels.iter_mut().filter(|(_, entry)| entry.standing == from && which(entry));
        let advanced = chosen.take(most).map(|(channel, entry)| {
            entry.standing = to;
            Arc::clone(channel)
        });
        advanced.collect()
    }

    /// PostgreSQL has done what it was asked.
    pub(super) fn done(&mut self, batch: &Batch) -> Calls {
        let mut calls = Calls::default();
        match batch {
            Batch::Prepare | Batch::Ping => {}
            Batch::Listen(channels) => {
                for channel in channels {
                    let Some(entry) = self.channels.get_mut(channel) else { continue };
                    (entry.standing, entry.trust) = (Standing::Listening, Trust::Known);
                    calls.asks.extend(entry.asks.drain(..).filter_map(|ask| Some((ask.upgrade()?, Ok(())))));
                }
                self.channels_unneeded();
            }
            Batch::Unlisten(channels) => {
                for channel in channels {
                    let Some(entry) = self.channels.get_mut(channel) else { continue };
                    // Who has come meanwhile is listened for again; he has missed nothing that he was promised.
                    (entry.standing, entry.trust) = (Standing::Wanted, Trust::New);
                }
                self.channels_unneeded();
            }
        }
        calls
    }

    fn channels_unneeded(&mut self) {
        self.channels.retain(|_, entry| !entry.subscribers.is_empty() || entry.standing != Standing::Wanted);
    }

    /// PostgreSQL has refused a LISTEN. A channel that was listened on before cannot be given up: the connection is of
    /// no use then, and the refusal comes back. Otherwise it is asked for each alone, and one that was alone fails.
    pub(super) fn refused(&mut self, batch: &Batch, said: Box<Diagnostic>) -> Result<Calls, Box<Diagnostic>> {
        let Batch::Listen(channels) = batch else { return Err(said) };
        let known = |entry: &Entry| entry.trust == Trust::Known;
        if channels.iter().filter_map(|channel| self.channels.get(channel)).any(known) {
            return Err(said);
        }
        let mut calls = Calls::default();
        if let [channel] = channels.as_slice() {
            self.fail_channel(channel, &NoListener::Refused(said), &mut calls);
            return Ok(calls);
        }
        for channel in channels {
            let Some(entry) = self.channels.get_mut(channel) else { continue };
            (entry.standing, entry.trust) = (Standing::Wanted, Trust::Suspect);
        }
        self.channels_unneeded();
        Ok(calls)
    }

    fn fail_channel(&mut self, channel: &Channel, why: &NoListener, calls: &mut Calls) {
        let Some(entry) = self.channels.remove(channel) else { return };
        calls.asks.extend(entry.asks.iter().filter_map(|ask| Some((ask.upgrade()?, Err(why.clone())))));
        for client in entry.subscribers.keys() {
            if let Some(member) = self.clients.get_mut(client) {
                member.channels.remove(channel);
            }
            self.tidy(*client, channel);
        }
    }

    /// No connection can be had for a reason that waiting does not mend: who asks is told, and channels on which nobody
    /// has listened yet are given up. Until [`Roll::trying`] who comes is told the same.
    pub(super) fn fail(&mut self, why: &NoListener) -> Calls {
        self.refusal = Some(why.clone());
        let mut calls = Calls::default();
        for entry in self.channels.values_mut().filter(|entry| entry.trust == Trust::Known) {
            calls.asks.extend(entry.asks.drain(..).filter_map(|ask| Some((ask.upgrade()?, Err(why.clone())))));
        }
        let new = |(_, entry): &(&Channel, &Entry)| entry.trust != Trust::Known;
        let given_up: Vec<Channel> = self.channels.iter().filter(new).map(|(channel, _)| Arc::clone(channel)).collect();
        for channel in &given_up {
            self.fail_channel(channel, why, &mut calls);
        }
        calls
    }

    /// Another connection is tried.
    pub(super) fn trying(&mut self) {
        self.refusal = None;
    }

    /// The last trouble, for those who run out of patience.
    pub(super) fn note_trouble(&mut self, error: Option<Arc<ConnectError>>) {
        self.trouble = error;
    }

    /// The connection is gone. Answers how many clients it listened for; `interrupts` says that they end.
    pub(super) fn lost(&mut self, now: Micros, interrupts: bool) -> (usize, Calls) {
        self.changed = true;
        let mut clients = HashSet::new();
        for entry in self.channels.values_mut() {
            if entry.trust == Trust::Known {
                clients.extend(entry.subscribers.keys().copied());
            }
            entry.standing = Standing::Wanted;
        }
        self.channels_unneeded();
        let mut calls = Calls::default();
        if clients.is_empty() {
            return (0, calls);
        }
        if interrupts {
            calls.interrupted = clients.iter().filter_map(|id| self.subscriber(*id)?.record.upgrade()).collect();
        }
        let count = clients.len();
        self.gap.get_or_insert_with(|| Gap { since: now, clients: HashSet::new() }).clients.extend(clients);
        (count, calls)
    }

    /// Ends the gap where everything is listened on again that was before: how long it was, and how many have been told.
    pub(super) fn regained(&mut self, now: Micros, most: u32) -> Option<(Duration, usize, Calls)> {
        let missing = |entry: &Entry| entry.trust == Trust::Known && entry.standing != Standing::Listening;
        if self.gap.is_none() || self.channels.values().any(missing) {
            return None;
        }
        let gap = self.gap.take()?;
        let time = Clock::between(gap.since, now);
        let told: Vec<_> = gap.clients.iter().filter_map(|id| self.subscriber(*id)).collect();
        let mut calls = Calls::default();
        for subscriber in &told {
            if subscriber.mailbox.tell_gap(time, most) {
                calls.nudged.extend(subscriber.record.upgrade());
            }
        }
        Some((time, told.len(), calls))
    }

    fn subscriber(&self, id: u64) -> Option<&Arc<Subscriber>> {
        self.clients.get(&id).map(|member| &member.subscriber)
    }

    /// Takes the clients that `which` chooses out, with their channels.
    pub(super) fn take_out(
        &mut self,
        which: impl Fn(&ClientRecord) -> bool,
    ) -> Vec<(Arc<ClientRecord>, HashSet<Channel>)> {
        let chosen: Vec<_> = self.records().into_iter().map(|record| (which(&record), record)).collect();
        let taken = chosen.into_iter().filter_map(|(chosen, record)| {
            let channels = self.clients.get(&record.id)?.channels.clone();
            if chosen {
                self.unsubscribe(record.id, None);
            }
            // Also those that stay are dropped by the caller, who does not hold the lock.
            Some((record, if chosen { channels } else { HashSet::new() }))
        });
        taken.collect()
    }

    /// Takes a client over that was listened for elsewhere: what it missed meanwhile is a gap.
    pub(super) fn take_over(&mut self, client: u64, channel: &Channel, now: Micros) {
        if let Some(entry) = self.channels.get_mut(channel) {
            entry.trust = Trust::Known;
            self.gap.get_or_insert_with(|| Gap { since: now, clients: HashSet::new() }).clients.insert(client);
        }
    }

    /// Puts a notification into the mailboxes of those who listen on its channel.
    pub(super) fn deliver(&self, channel: &[u8], message: &[u8], most: u32, calls: &mut Calls) -> Delivery {
        let mut delivery = Delivery::default();
        for subscriber in self.channels.get(channel).iter().flat_map(|entry| entry.subscribers.values()) {
            match subscriber.mailbox.put(message, most) {
                Put::First => {
                    delivery.delivered += 1;
                    calls.nudged.extend(subscriber.record.upgrade());
                }
                Put::Behind => delivery.delivered += 1,
                Put::Dropped => delivery.dropped += 1,
                Put::DroppedFirst => {
                    delivery.dropped += 1;
                    calls.nudged.extend(subscriber.record.upgrade());
                    tracing::warn!(
                        client = subscriber.id,
                        queue = most,
                        "the queue of a listening client is full, notifications are dropped"
                    );
                }
            }
        }
        delivery
    }
}
