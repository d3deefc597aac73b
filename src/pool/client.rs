//! What others may know of a client while one task owns it, and the list of all clients.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;

use super::interrupt::{Interrupt, Reason};
use super::listen::{Mailbox, Subscriptions};
use super::{Permit, Pin, Pool};
use crate::backend::{BackendRecord, Settings};
use crate::net::{BOUNCER, Endpoint, Micros, OWN, Party, Side};
use crate::wire::startup::Replication;

/// What a client is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Not yet admitted.
    Login = 0,
    /// Between transactions, without a backend (session mode: with one).
    Idle = 1,
    /// Queued for a backend.
    Waiting = 2,
    /// A query runs.
    Running = 3,
    /// A transaction is open and PostgreSQL waits for the client.
    InTransaction = 4,
}

/// Who a client is.
#[derive(Clone, Debug)]
pub struct ClientIdentity {
    /// User that it logged in as.
    pub user: Arc<str>,
    /// Database that it asked for.
    pub database: Arc<str>,
    /// Its address.
    pub peer: Endpoint,
    /// The process at its end of a Unix socket, as it connected; 0 where there is none or the system does not tell.
    pub process: u32,
    /// Our end of its connection.
    pub local: Option<SocketAddr>,
    /// Version and cipher suite of its TLS connection; empty without.
    pub tls: &'static str,
    /// What it replicates, if anything.
    pub replication: Replication,
    /// When it connected.
    pub connected: Micros,
}

/// The public face of one client. Its task writes, anyone reads.
#[derive(Debug)]
pub struct ClientRecord {
    /// Unique in this process; also the process id of its cancel key.
    pub id: u64,
    /// The `peer_id` in its cancel key; 0 for none.
    pub peer_id: u16,
    /// Secret of its cancel key: 4 bytes in protocol 3.0, 32 in 3.2.
    pub secret: Box<[u8]>,
    /// Who it is.
    pub identity: ClientIdentity,
    /// How others stop it.
    pub interrupt: Interrupt,
    /// Start of the present phase.
    pub since: AtomicU64,
    /// Start of the present or last transaction.
    pub transaction_since: AtomicU64,
    /// Start of the present or last query.
    pub request: AtomicU64,
    /// How much of the present wait does not count, since the pool was paused; microseconds.
    pub grace: AtomicU64,
    /// The suspension that its session stands still for.
    pub(super) still: AtomicU32,
    /// The number of its socket's file descriptor; 0 where nobody has told.
    pub descriptor: AtomicU32,
    /// Prepared statements that it had at the end of its last turn.
    pub prepared: AtomicU32,
    /// When the lease began that was called a leak.
    pub(super) leak: AtomicU64,
    pub(super) subscriptions: Subscriptions,
    pool: ArcSwapOption<Pool>,
    phase: AtomicU8,
    admitted: AtomicBool,
    link: AtomicU64,
    settings: Mutex<Option<Settings>>,
    permits: Mutex<Vec<Permit>>,
    pin: Mutex<Option<Pin>>,
}

impl ClientRecord {
    /// The record of a client that is still logging in.
    #[must_use]
    pub fn new(id: u64, secret: Box<[u8]>, identity: ClientIdentity, permits: Vec<Permit>) -> ClientRecord {
        let connected = identity.connected;
        ClientRecord {
            id,
            peer_id: 0,
            secret,
            identity,
            interrupt: Interrupt::default(),
            since: AtomicU64::new(connected),
            transaction_since: AtomicU64::new(connected),
            request: AtomicU64::new(connected),
            grace: AtomicU64::new(0),
            still: AtomicU32::new(0),
            descriptor: AtomicU32::new(0),
            prepared: AtomicU32::new(0),
            leak: AtomicU64::new(0),
            subscriptions: Subscriptions::new(id),
            pool: ArcSwapOption::empty(),
            phase: AtomicU8::new(Phase::Login as u8),
            admitted: AtomicBool::new(false),
            link: AtomicU64::new(0),
            settings: Mutex::new(None),
            permits: Mutex::new(permits),
            pin: Mutex::new(None),
        }
    }

    /// The same with a cancel key that says which process of a group it belongs to, and may be passed on three times.
    /// Bytes 1 and 2 of the key are the peer's id, the lowest two bits of byte 7 the times (PgBouncer's layout).
    #[must_use]
    pub fn of_peer(mut self, peer_id: u16) -> ClientRecord {
        self.peer_id = peer_id;
        if let Some(byte) = self.secret.get_mut(3).filter(|_| peer_id > 0) {
            *byte |= 0b11;
        }
        self
    }

    /// The process id of its cancel key: bits of its id, and never negative.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        let [.., second, first] = self.id.to_be_bytes();
        match self.peer_id.to_le_bytes() {
            [0, 0] => u32::try_from(self.id & 0x7fff_ffff).unwrap_or(0),
            [low, high] => u32::from_be_bytes([second & 0x7f, low, high, first]),
        }
    }

    /// Whether a cancel key is its own. The secret is compared in constant time; how often the key was passed on on its
    /// way here does not matter.
    #[must_use]
    pub fn has_key(&self, process_id: u32, secret: &[u8]) -> bool {
        let hops = |at: usize| if at == 3 && self.peer_id > 0 { 0b11 } else { 0 };
        let pairs = self.secret.iter().zip(secret).enumerate();
        self.process_id() == process_id
            && self.secret.len() == secret.len()
            && pairs.fold(0, |all, (at, (own, other))| all | (own ^ (other | hops(at)))) == 0
    }

    /// What it is doing.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Relaxed) {
            0 => Phase::Login,
            1 => Phase::Idle,
            2 => Phase::Waiting,
            3 => Phase::Running,
            _ => Phase::InTransaction,
        }
    }

    /// Says what it is doing from now on.
    #[inline]
    pub fn enter(&self, phase: Phase, now: Micros) {
        self.since.store(now, Relaxed);
        self.phase.store(phase as u8, Relaxed);
    }

    /// Whether its login is over.
    #[must_use]
    pub fn admitted(&self) -> bool {
        self.admitted.load(Relaxed)
    }

    /// Says that its login is over.
    pub fn admit(&self, now: Micros) {
        self.admitted.store(true, Relaxed);
        self.enter(Phase::Idle, now);
    }

    /// The backend that it is linked to, 0 for none. Cancel requests rely on its order with
    /// [`BackendRecord::being_canceled`].
    #[must_use]
    pub fn link(&self) -> u64 {
        self.link.load(SeqCst)
    }

    /// Links it to a backend, whose queries a cancel request may hit from now on.
    pub fn set_link(&self, backend: Option<&BackendRecord>) {
        self.link.store(backend.map_or(0, |record| record.id), SeqCst);
    }

    /// The pool that it belongs to; `None` for clients of the console and before the login is over.
    #[must_use]
    pub fn pool(&self) -> Option<Arc<Pool>> {
        self.pool.load_full()
    }

    /// Says which pool it belongs to from now on. For its own task, while it is neither linked nor pinned.
    pub fn join(&self, pool: &Arc<Pool>) {
        pool.members.fetch_add(1, Relaxed);
        if let Some(before) = self.pool.swap(Some(Arc::clone(pool))) {
            before.members.fetch_sub(1, Relaxed);
        }
    }

    /// Where its notifications wait; `None` until it subscribes for the first time.
    #[must_use]
    #[inline]
    pub fn mailbox(&self) -> Option<&Arc<Mailbox>> {
        self.subscriptions.mailbox()
    }

    /// The span of its log lines.
    #[must_use]
    pub fn span(&self) -> tracing::Span {
        let ClientIdentity { user, database, peer, .. } = &self.identity;
        let own = tracing::info_span!(target: OWN, "client", id = self.id, %database, %user, %peer);
        if own.is_disabled() { tracing::info_span!(target: BOUNCER, "client", message = %self.party()) } else { own }
    }

    /// What PgBouncer calls it in the log.
    #[must_use]
    pub fn party(&self) -> Party<'_> {
        let ClientIdentity { user, database, peer, process, .. } = &self.identity;
        let database = Some(&**database);
        Party { side: Side::Frontend, id: self.id, database, user: Some(user), endpoint: Some(peer), process: *process }
    }

    /// Publishes its settings, for the console's `application_name`.
    pub fn publish(&self, settings: &Settings) {
        *self.settings.lock().unwrap_or_else(PoisonError::into_inner) = Some(settings.clone());
    }

    /// Its `application_name`, empty where it has none.
    #[must_use]
    pub fn application_name(&self) -> String {
        self.setting("application_name").unwrap_or_default()
    }

    /// The value of one of its settings, of those that PostgreSQL reports.
    #[must_use]
    pub fn setting(&self, name: &str) -> Option<String> {
        let settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone();
        settings.and_then(|set| set.value(name).map(|value| String::from_utf8_lossy(value).into_owned()))
    }

    /// Says why it keeps its backend between transactions, or that it does no longer.
    pub fn set_pin(&self, pin: Option<Pin>) {
        let mut held = self.pin.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = self.pool() {
            let features = |pin: &Option<Pin>| pin.as_ref().map(|pin| pin.features.clone()).unwrap_or_default();
            pool.pins.change(&features(&held), &features(&pin));
        }
        *held = pin;
    }

    /// Why it keeps its backend between transactions, if it does.
    #[must_use]
    pub fn pin(&self) -> Option<Pin> {
        self.pin.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// All clients.
#[derive(Debug, Default)]
pub struct Clients {
    listed: Mutex<HashMap<u64, Arc<ClientRecord>>>,
    /// How many are being told their last words.
    departing: AtomicUsize,
}

impl Clients {
    /// Lists a client until the guard is dropped.
    #[must_use]
    pub fn enlist(self: &Arc<Self>, record: Arc<ClientRecord>) -> Listed {
        self.lock().insert(record.id, Arc::clone(&record));
        Listed { clients: Arc::clone(self), record, departed: AtomicBool::new(false) }
    }

    /// All of them, in order of their ids.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<ClientRecord>> {
        let mut all: Vec<_> = self.lock().values().cloned().collect();
        all.sort_unstable_by_key(|record| record.id);
        all
    }

    /// The client of this id.
    #[must_use]
    pub fn find(&self, id: u64) -> Option<Arc<ClientRecord>> {
        self.lock().get(&id).cloned()
    }

    /// Interrupts every client that `which` chooses, and answers how many.
    pub fn interrupt(&self, reason: Reason, which: impl Fn(&ClientRecord) -> bool) -> usize {
        let all = self.all();
        let chosen = all.iter().filter(|record| which(record));
        chosen.inspect(|record| record.interrupt.raise(reason)).count()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// How many are not listed any more and still have to hear why.
    #[must_use]
    pub fn departing(&self) -> usize {
        self.departing.load(Relaxed)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<ClientRecord>>> {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client's place in the list; dropped, the client is gone, and its permits with it.
#[derive(Debug)]
pub struct Listed {
    clients: Arc<Clients>,
    record: Arc<ClientRecord>,
    departed: AtomicBool,
}

impl Listed {
    /// Takes the client from the list, and its permits and whatever else it holds, while it hears its last words.
    pub fn depart(&self) {
        if !self.departed.swap(true, Relaxed) {
            self.clients.departing.fetch_add(1, Relaxed);
            self.strike();
        }
    }

    fn strike(&self) {
        self.clients.lock().remove(&self.record.id);
        self.record.subscriptions.leave();
        // The record may live on in a snapshot; what it holds must not.
        self.record.set_pin(None);
        if let Some(pool) = self.record.pool() {
            pool.members.fetch_sub(1, Relaxed);
        }
        self.record.permits.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The record.
    #[must_use]
    pub fn record(&self) -> &Arc<ClientRecord> {
        &self.record
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        if *self.departed.get_mut() {
            self.clients.departing.fetch_sub(1, Relaxed);
        } else {
            self.strike();
        }
    }
}
