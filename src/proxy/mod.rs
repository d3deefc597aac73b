//! The process: listeners, tasks, reload, drain and the end.
//!
//! [`Proxy`] holds what the process is made of; [`tasks`] is the only place that spawns.

mod cancel;
mod client;
mod end;
mod http;
mod identity;
mod listen;
mod peers;
mod reload;
mod said;
mod surroundings;
mod takeover;
mod tasks;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{Notify, watch};

use crate::admin::{Shutdown, StatsBook};
use crate::auth::{MockSecret, NoEntropy};
use crate::config::Config;
use crate::frontend::{Errand, Errands, Gate};
use crate::net::Listener;
use crate::net::tls::{TlsError, Turnstile};
use crate::pool::Pools;
use crate::session::Workspaces;

pub use identity::{IdentityError, assume_identity};
pub use surroundings::{Admission, Herald, News, Surroundings};
pub use takeover::TakeoverError;
pub use tasks::{run, run_in};

/// How often the sweeper looks: PgBouncer's full maintenance runs three times a second.
const SWEEP: Duration = Duration::from_millis(333);
/// Questions about clients that the system is asked at the same time.
const LOOKUPS: usize = 16;
/// Passwords that PAM checks at the same time.
const CHECKS: usize = 32;
/// Idle workspaces that are kept for reuse.
const WORKSPACES: usize = 64;

/// Why the process cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// None of the addresses could be listened on.
    #[error("cannot listen on {address} (setting `{setting}`, {place}): {source}{}", remedy(source, setting))]
    Listen {
        /// The address.
        address: String,
        /// The setting that names it.
        setting: &'static str,
        /// Where that stands.
        place: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// A socket that was passed by whoever started the process cannot be listened on.
    #[error("cannot listen on a socket that was passed to this process: {0}")]
    Passed(std::io::Error),
    /// The process that runs does not give its sockets away.
    #[error("cannot take over (-R): {0}")]
    Takeover(#[from] TakeoverError),
    /// `listen_addr` has a name that is no address and does not resolve.
    #[error("cannot resolve listen_addr \"{name}\": {source}")]
    Resolve {
        /// The name.
        name: String,
        /// The resolver's error.
        source: std::io::Error,
    },
    /// Whoever started the process does not let it serve.
    #[error("{0}")]
    Unwanted(String),
    /// The files of TLS cannot be used.
    #[error("{0}")]
    Tls(#[from] TlsError),
    /// The system has no randomness.
    #[error("{0}")]
    Entropy(NoEntropy),
    /// A signal handler could not be set.
    #[error("cannot handle signals: {0}")]
    Signals(std::io::Error),
}

impl StartError {
    fn listen(address: String, source: std::io::Error, setting: &'static str, config: &Config) -> StartError {
        StartError::Listen { address, setting, place: config.place_of(setting), source }
    }
}

/// What an operator may do about an address that cannot be listened on.
fn remedy(error: &std::io::Error, setting: &str) -> &'static str {
    match error.kind() {
        ErrorKind::AddrInUse => {
            "; another process listens there (`ss -lptn` tells which): stop it, take over from it with -R, or choose another \
             listen_port"
        }
        ErrorKind::AddrNotAvailable => "; no network interface of this machine has that address",
        ErrorKind::PermissionDenied if setting == "listen_addr" => {
            "; ports below 1024 need the capability CAP_NET_BIND_SERVICE: choose another listen_port"
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "; the user that pgpool runs as has to be able to write to the directory: change its owner, or choose another"
        }
        ErrorKind::InvalidInput if setting == "unix_socket_group" => {
            "; the group has to exist, and the user that pgpool runs as has to be in it"
        }
        ErrorKind::NotFound if setting == "unix_socket_dir" => {
            "; the directory has to exist: make it, or choose another"
        }
        _ => "",
    }
}

/// What a running process is made of.
pub(crate) struct Proxy {
    pools: Arc<Pools>,
    gate: Gate,
    workspaces: Arc<Workspaces>,
    /// What it listens on for clients, from the start.
    listening: OnceLock<Vec<Weak<Listener>>>,
    stats: Arc<StatsBook>,
    /// Where the processes that this one took over from take cancel requests.
    elders: Mutex<Vec<PathBuf>>,
    /// Where this one takes them when another process has taken over from it.
    cancels: OnceLock<PathBuf>,
    /// Cancel requests for other processes.
    traffic: Arc<peers::Traffic>,
    /// Is told what happens.
    herald: Option<Herald>,
    /// Connections that were accepted and are not clients yet.
    arriving: AtomicUsize,
    /// Listening sockets that clients may still come by.
    doors: AtomicUsize,
    /// The end that was asked for.
    ending: watch::Sender<Option<Shutdown>>,
    /// Whether another process has the listening sockets; held while that is settled.
    handed_over: Mutex<bool>,
    /// Everything is paused for the end and not by an operator.
    paused_by_end: AtomicBool,
    /// One reload at a time.
    reloading: tokio::sync::Mutex<()>,
    /// Woken when the process has nothing left to wait for.
    over: Notify,
    is_over: AtomicBool,
}

impl Proxy {
    /// Also what has to be run for its logins.
    fn new(config: Config, pools: Arc<Pools>) -> Result<(Proxy, UnboundedReceiver<Errand>), NoEntropy> {
        let mock = MockSecret::new(config.general.scram_iterations)?;
        let (lookups, errands) = Errands::new(LOOKUPS);
        let turns = Turnstile::new(config.general.workers());
        let checks = lookups.beside(CHECKS);
        let proxy = Proxy {
            gate: Gate { pools: Arc::clone(&pools), mock, sources: Arc::default(), lookups, turns, checks },
            pools,
            workspaces: Arc::new(Workspaces::new(WORKSPACES)),
            listening: OnceLock::new(),
            stats: Arc::default(),
            elders: Mutex::default(),
            cancels: OnceLock::new(),
            traffic: Arc::default(),
            herald: None,
            arriving: AtomicUsize::new(0),
            doors: AtomicUsize::new(0),
            ending: watch::Sender::new(None),
            handed_over: Mutex::new(false),
            paused_by_end: AtomicBool::new(false),
            reloading: tokio::sync::Mutex::new(()),
            over: Notify::new(),
            is_over: AtomicBool::new(false),
        };
        Ok((proxy, errands))
    }

    /// What it still listens on for clients.
    fn listeners(&self) -> impl Iterator<Item = Arc<Listener>> {
        self.listening.get().into_iter().flatten().filter_map(Weak::upgrade)
    }

    /// Has the system do as `tcp_defer_accept` says.
    fn defer_accepts(&self) {
        let on = self.pools.config.load().general.tcp_defer_accept;
        for listener in self.listeners() {
            if let Err(error) = listener.defer(on) {
                tracing::warn!(%error, "tcp_defer_accept cannot be set");
            }
        }
    }

    fn elders(&self) -> Vec<PathBuf> {
        self.elders.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn forget_elder(&self, path: &Path) {
        self.elders.lock().unwrap_or_else(PoisonError::into_inner).retain(|elder| elder != path);
    }

    fn tell(&self, news: News) {
        if let Some(herald) = &self.herald {
            herald(news);
        }
    }
}
