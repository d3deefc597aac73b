//! What others may know of a backend while one session owns it: atomics that the owner writes and the console, the
//! sweeper and the canceller read. No lock is taken to write any of it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};

use super::Route;
use super::closing::{Closing, FirstClosing};
use crate::net::tls::Connector;
use crate::net::{Endpoint, Micros, Party, Side, Target};
use crate::wire::startup::Replication;

/// How much of a text is noted, bytes.
const MOST_NOTED: usize = 256;

/// What a backend is doing, in the words of `SHOW SERVERS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum BackendState {
    /// Lent to a client.
    Active = 0,
    /// On the shelf.
    Idle = 1,
    /// Being checked or reset before it is lent again.
    Tested = 2,
    /// Given back, but a cancel request for its last query is still under way.
    BeingCanceled = 3,
}

/// The public face of one backend.
#[derive(Debug)]
pub struct BackendRecord {
    /// Unique in this process, one sequence with the clients' ids.
    pub id: u64,
    /// Database entry of its pool.
    pub database: Arc<str>,
    /// User of its pool.
    pub user: Arc<str>,
    /// The host that it is connected to, as the configuration has it.
    pub target: Target,
    /// The way that it was found on, with what that host has to be.
    pub route: Arc<Route>,
    /// The address that it is connected to.
    pub endpoint: Endpoint,
    /// Our end of the connection.
    pub local: Option<SocketAddr>,
    /// The number of its socket's file descriptor.
    pub descriptor: u32,
    /// Version and cipher suite of its TLS connection; empty without.
    pub tls: &'static str,
    /// How its TLS connection was made, for cancel requests.
    pub(super) secured: Option<Secured>,
    /// What it replicates, for the only client that it ever has.
    pub replication: Replication,
    /// PostgreSQL's process id, from BackendKeyData.
    pub process_id: u32,
    /// Secret for cancel requests.
    pub secret: Box<[u8]>,
    /// When it was opened.
    pub connected: Micros,
    /// When it was last lent.
    pub request: AtomicU64,
    /// When it was last given back.
    pub released: AtomicU64,
    /// Prepared statements that it had when it was last given back.
    pub prepared: AtomicU32,
    /// The prepared statement that it last ran; 0 where it was a text.
    pub statement: AtomicU64,
    text: Mutex<Beginning>,
    state: AtomicU8,
    close_needed: AtomicBool,
    spare: AtomicBool,
    closing: FirstClosing,
    link: AtomicU64,
    cancels: AtomicU32,
}

/// The beginning of a text.
#[derive(Debug)]
struct Beginning {
    bytes: [u8; MOST_NOTED],
    length: usize,
}

impl Default for Beginning {
    fn default() -> Beginning {
        Beginning { bytes: [0; MOST_NOTED], length: 0 }
    }
}

/// How a TLS connection was made.
#[derive(Debug)]
pub(super) struct Secured {
    pub(super) connector: Arc<Connector>,
    /// The host as the configuration names it, for which the certificate has to be.
    pub(super) host: Box<str>,
}

/// Where a backend is.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) target: Target,
    pub(super) route: Arc<Route>,
    pub(super) endpoint: Endpoint,
}

/// Facts of a new [`BackendRecord`].
#[derive(Clone, Debug)]
pub struct Identity {
    /// See [`BackendRecord::id`].
    pub id: u64,
    /// See [`BackendRecord::database`].
    pub database: Arc<str>,
    /// See [`BackendRecord::user`].
    pub user: Arc<str>,
}

impl BackendRecord {
    pub(super) fn new(identity: Identity, place: Place, local: Option<SocketAddr>, connected: Micros) -> Self {
        BackendRecord {
            id: identity.id,
            database: identity.database,
            user: identity.user,
            target: place.target,
            route: place.route,
            endpoint: place.endpoint,
            local,
            descriptor: 0,
            tls: "",
            secured: None,
            replication: Replication::None,
            process_id: 0,
            secret: Box::default(),
            connected,
            request: AtomicU64::new(connected),
            released: AtomicU64::new(connected),
            prepared: AtomicU32::new(0),
            statement: AtomicU64::new(0),
            text: Mutex::default(),
            state: AtomicU8::new(BackendState::Tested as u8),
            close_needed: AtomicBool::new(false),
            spare: AtomicBool::new(false),
            closing: FirstClosing::default(),
            link: AtomicU64::new(0),
            cancels: AtomicU32::new(0),
        }
    }

    /// What PgBouncer calls it in the log.
    #[must_use]
    pub fn party(&self) -> Party<'_> {
        let (database, user) = (Some(&*self.database), Some(&*self.user));
        Party { side: Side::Backend, id: self.id, database, user, endpoint: Some(&self.endpoint), process: 0 }
    }

    /// Notes the text that it runs.
    #[inline]
    pub fn note_text(&self, text: &[u8]) {
        self.statement.store(0, Relaxed);
        // Whoever reads it at this moment sees the text before.
        if let Ok(mut beginning) = self.text.try_lock() {
            let length = text.len().min(MOST_NOTED);
            if let (Some(to), Some(from)) = (beginning.bytes.get_mut(..length), text.get(..length)) {
                to.copy_from_slice(from);
            }
            beginning.length = length;
        }
    }

    /// The beginning of the text that it last ran, where that was no prepared statement.
    #[must_use]
    pub fn noted_text(&self) -> Vec<u8> {
        let beginning = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        let text = beginning.bytes.get(..beginning.length).unwrap_or_default();
        text.split(|&byte| byte == 0).next().unwrap_or_default().to_vec()
    }

    /// What it is doing.
    #[must_use]
    pub fn state(&self) -> BackendState {
        match self.state.load(Relaxed) {
            0 => BackendState::Active,
            1 => BackendState::Idle,
            2 => BackendState::Tested,
            _ => BackendState::BeingCanceled,
        }
    }

    /// Says what it is doing.
    pub fn set_state(&self, state: BackendState) {
        self.state.store(state as u8, Relaxed);
    }

    /// Whether it must be closed instead of being lent again (RECONNECT, a changed configuration).
    #[must_use]
    pub fn close_needed(&self) -> bool {
        self.close_needed.load(Relaxed)
    }

    /// Marks it for closing at its next release.
    pub fn need_close(&self) {
        self.close_needed.store(true, Relaxed);
    }

    /// Whether its server will do only as long as there is no better one: with `prefer-standby` one that is no standby.
    #[must_use]
    pub fn is_spare(&self) -> bool {
        self.spare.load(Relaxed)
    }

    pub(super) fn set_spare(&self, spare: bool) {
        self.spare.store(spare, Relaxed);
    }

    /// Says why it is being closed, or will be; the first to say so is right.
    pub fn close_because(&self, closing: Closing) {
        self.closing.set(closing);
    }

    /// Why it was closed. Where nobody said so, nobody vouched for it.
    #[must_use]
    pub fn closing(&self) -> Closing {
        self.closing.get().unwrap_or(Closing::Unclean)
    }

    /// The client that it is lent to, 0 for none.
    #[must_use]
    pub fn link(&self) -> u64 {
        self.link.load(Relaxed)
    }

    /// Links it to a client; 0 unlinks it.
    pub fn set_link(&self, client: u64) {
        self.link.store(client, Relaxed);
    }

    /// Announces a cancel request, for as long as the value lasts. The caller then makes sure that the query to be
    /// cancelled still runs. Together with the owner, who unlinks its client first and looks for announcements
    /// afterwards, one of the two always sees the other (both orders are sequentially consistent).
    #[must_use]
    pub fn announce_cancel(&self) -> Announced<'_> {
        self.cancels.fetch_add(1, SeqCst);
        Announced(self)
    }

    /// Whether a cancel request is under way; such a backend must not be lent to another client.
    #[must_use]
    pub fn being_canceled(&self) -> bool {
        self.cancels() > 0
    }

    /// How many cancel requests are under way.
    #[must_use]
    pub fn cancels(&self) -> u32 {
        self.cancels.load(SeqCst)
    }

    pub(super) fn with_descriptor(self, descriptor: u32) -> Self {
        BackendRecord { descriptor, ..self }
    }

    pub(super) fn with_tls(mut self, description: &'static str, connector: Arc<Connector>, host: &str) -> Self {
        self.tls = description;
        self.secured = Some(Secured { connector, host: host.into() });
        self
    }

    pub(super) fn replicating(mut self, replication: Replication) -> Self {
        self.replication = replication;
        self
    }

    pub(super) fn with_key(mut self, process_id: u32, secret: &[u8]) -> Self {
        self.process_id = process_id;
        self.secret = secret.into();
        self
    }
}

/// A cancel request that is under way to a backend.
#[derive(Debug)]
pub struct Announced<'a>(&'a BackendRecord);

impl Drop for Announced<'_> {
    fn drop(&mut self) {
        self.0.cancels.fetch_sub(1, SeqCst);
    }
}
