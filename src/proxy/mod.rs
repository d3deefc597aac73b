//! The process: listeners, tasks, reload, drain and the end.
//!
//! [`Proxy`] holds what the process is made of; [`tasks`] is the only place that spawns.

mod cancel;
mod client;
mod identity;
mod reload;
mod tasks;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use crate::admin::{Shutdown, StatsBook};
use crate::auth::{MockSecret, NoEntropy};
use crate::config::Config;
use crate::frontend::{Errand, Errands, Gate};
use crate::net::tls::{TlsError, Turnstile};
use crate::net::{Endpoint, Listener, Rights, bind_tcp, bind_unix};
use crate::pool::{Pools, Reason};
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
    /// Descriptors and addresses that it listens on, from the start.
    listening: OnceLock<Vec<(u32, Endpoint)>>,
    stats: Arc<StatsBook>,
    /// The file that a reload reads.
    path: PathBuf,
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
            listening: OnceLock::new(),
            stats: Arc::default(),
            path: config.path,
            ending: watch::Sender::new(None),
            reloading: tokio::sync::Mutex::new(()),
            over: Notify::new(),
            is_over: AtomicBool::new(false),
        };
        Ok((proxy, errands))
    }

    fn ending_now(&self) -> Option<Shutdown> {
        *self.ending.borrow()
    }

    /// Begins the end, or hastens one that has begun.
    fn end(&self, how: Shutdown) {
        let again = self.ending_now().is_some();
        // What stands still would never be done.
        let how = if again || self.pools.is_suspended() { Shutdown::Now } else { how };
        tracing::info!(?how, "shutting down");
        if how == Shutdown::WaitForServers {
            self.pools.set_paused(None, true);
        }
        self.ending.send_replace(Some(how));
    }

    /// Waits until everything that the end has to wait for is over.
    async fn drained(&self) {
        let mut ending = self.ending.subscribe();
        // The sender lives as long as `self`.
        let _ = ending.wait_for(Option::is_some).await;
        loop {
            match self.ending_now() {
                Some(Shutdown::WaitForServers) => {
                    self.pools
                        .clients
                        .interrupt(Reason::ServerShutdown, |client| client.phase() == crate::pool::Phase::Waiting);
                    if self.pools.all().iter().all(|pool| pool.counts().total == 0) {
                        break;
                    }
                }
                Some(Shutdown::WaitForClients) => {
                    if self.pools.clients.all().iter().all(|client| client.pool().is_none()) {
                        break;
                    }
                }
                Some(Shutdown::Now) | None => break,
            }
            tokio::select! {
                () = sleep(Duration::from_millis(50)) => {}
                _ = ending.changed() => {}
            }
        }
        self.pools.clients.interrupt(Reason::Shutdown, |_| true);
        // A moment for the last words; whoever does not take them is closed without.
        for _ in 0..20 {
            if self.pools.clients.is_empty() {
                break;
            }
            sleep(Duration::from_millis(10)).await;
        }
        self.is_over.store(true, Relaxed);
        self.over.notify_waiters();
    }
}

/// Binds everything that the configuration says to listen on. Each address that cannot be bound is logged; only when
/// none can, the process does not start (PgBouncer does the same).
async fn listen(config: &Config) -> Result<Vec<Listener>, StartError> {
    let general = &config.general;
    let mut listeners = Vec::new();
    let mut failure = None;
    let mut note = |address: String, result: std::io::Result<Listener>| match result {
        Ok(listener) => {
            if let Some(endpoint) = listener.endpoint() {
                tracing::info!("listening on {endpoint}");
            }
            listeners.push(listener);
        }
        Err(source) => {
            tracing::error!(%address, error = %source, "cannot listen");
            failure = Some(StartError::Listen { address, source });
        }
    };
    for name in &general.listen_addr {
        for addr in addresses(name, general.listen_port).await? {
            note(addr.to_string(), bind_tcp(addr, general.listen_backlog, general.so_reuseport));
        }
    }
    if let Some(dir) = &general.unix_socket_dir {
        let rights = Rights { mode: general.unix_socket_mode.0, group: general.unix_socket_group.clone() };
        note(dir.display().to_string(), bind_unix(dir, general.listen_port, &rights, general.listen_backlog));
    }
    match failure {
        Some(failure) if listeners.is_empty() => Err(failure),
        _ => Ok(listeners),
    }
}

async fn addresses(name: &str, port: u16) -> Result<Vec<SocketAddr>, StartError> {
    if name == "*" {
        return Ok(vec![SocketAddr::from(([0, 0, 0, 0], port)), SocketAddr::from(([0u16; 8], port))]);
    }
    match tokio::net::lookup_host((name, port)).await {
        Ok(found) => Ok(found.collect()),
        Err(source) => Err(StartError::Resolve { name: name.to_owned(), source }),
    }
}
