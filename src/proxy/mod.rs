//! The process: listeners, tasks, reload, drain and the end.
//!
//! [`Proxy`] holds what the process is made of; [`tasks`] is the only place that spawns.

mod cancel;
mod client;
mod end;
mod identity;
mod listen;
mod reload;
mod tasks;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{Notify, watch};

use crate::admin::{Shutdown, StatsBook};
use crate::auth::{MockSecret, NoEntropy};
use crate::config::Config;
use crate::frontend::{Errand, Errands, Gate};
use crate::net::tls::{TlsError, Turnstile};
use crate::pool::Pools;
use crate::session::Workspaces;

pub use identity::{IdentityError, assume_identity};
pub use tasks::run;

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
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// `listen_addr` has a name that is no address and does not resolve.
    #[error("cannot resolve listen_addr \"{name}\": {source}")]
    Resolve {
        /// The name.
        name: String,
        /// The resolver's error.
        source: std::io::Error,
    },
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

/// What a running process is made of.
pub(crate) struct Proxy {
    pools: Arc<Pools>,
    gate: Gate,
    workspaces: Arc<Workspaces>,
    stats: Arc<StatsBook>,
    /// The file that a reload reads.
    path: PathBuf,
    /// Connections that were accepted and are not clients yet.
    arriving: AtomicUsize,
    /// The end that was asked for.
    ending: watch::Sender<Option<Shutdown>>,
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
            stats: Arc::default(),
            path: config.path,
            arriving: AtomicUsize::new(0),
            ending: watch::Sender::new(None),
            reloading: tokio::sync::Mutex::new(()),
            over: Notify::new(),
            is_over: AtomicBool::new(false),
        };
        Ok((proxy, errands))
    }
}
