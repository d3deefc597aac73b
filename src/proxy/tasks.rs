//! Every task of the process is started here and nowhere else.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::client::{Arrival, serve};
use super::listen::listen;
use super::reload::{reload, take_over, warm};
use super::{Proxy, SWEEP, StartError};
use crate::admin::Shutdown;
use crate::config::{Config, SecretFiles};
use crate::frontend::Errand;
use crate::net::Listener;
use crate::net::tls::Tls;
use crate::pool::{Desk, Hub, Pool, Pools, socket_options, sweep};

/// How long accepting pauses when the system refuses (out of descriptors or memory).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often the files of `password_file` are looked at.
const SECRETS: Duration = Duration::from_secs(1);

/// Runs the pooler until it is told to end.
///
/// # Errors
/// [`StartError`]; afterwards nothing fails that would end the process.
pub async fn run(config: Config) -> Result<(), StartError> {
    let tls = Tls::load(&config, None)?;
    let listeners = listen(&config).await?;
    let (pools, births) = Pools::with_tls(config.clone(), tls);
    let (proxy, errands) = Proxy::new(config, Arc::clone(&pools)).map_err(StartError::Entropy)?;
    let proxy = Arc::new(proxy);
    signals(&proxy)?;
    tokio::spawn(run_errands(errands));
    tokio::spawn(connectors(Arc::clone(&pools), births));
    if let Some(births) = pools.listeners.births() {
        tokio::spawn(hubs(Arc::clone(&pools), births));
    }
    if let Some(births) = pools.lookups.births() {
        tokio::spawn(desks(Arc::clone(&pools), births));
    }
    tokio::spawn(sweeper(Arc::clone(&proxy)));
    tokio::spawn(statistics(Arc::clone(&proxy)));
    tokio::spawn(secrets(Arc::clone(&pools)));
    let files: Vec<_> = listeners.iter().filter_map(Listener::file).collect();
    for listener in listeners {
        tokio::spawn(accept(Arc::clone(&proxy), listener));
    }
    warm(&pools);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), pid = std::process::id(), "pgpool is ready");
    proxy.drained().await;
    for pool in pools.all() {
        pool.close();
    }
    for file in files {
        // The tasks that own the listeners may not come to it any more.
        let _ = std::fs::remove_file(file);
    }
    tracing::info!("pgpool has ended");
    Ok(())
}

/// Accepts connections until the end begins; by the Unix socket, which stays for the console, until it is there.
async fn accept(proxy: Arc<Proxy>, listener: Listener) {
    let mut ending = proxy.ending.subscribe();
    let ends_early = matches!(listener, Listener::Tcp(_));
    loop {
        let options = socket_options(&proxy.pools.config.load().general);
        let accepted = tokio::select! {
            accepted = listener.accept(&options) => Some(accepted),
            _ = ending.wait_for(Option::is_some), if ends_early => None,
        };
        match accepted {
            Some(Ok((stream, peer))) => drop(tokio::spawn(serve(Arrival::new(&proxy), stream, peer))),
            Some(Err(error)) if transient(&error) => {
                tracing::debug!(%error, "connection was gone before it was accepted");
            }
            Some(Err(error)) => {
                tracing::error!(%error, "cannot accept, pausing");
                sleep(ACCEPT_PAUSE).await;
            }
            None => break,
        }
    }
    // Those that the system has let in already are told; closing the socket would reset them.
    let options = socket_options(&proxy.pools.config.load().general);
    while let Ok(Ok((stream, peer))) = timeout(Duration::ZERO, listener.accept(&options)).await {
        drop(tokio::spawn(serve(Arrival::new(&proxy), stream, peer)));
    }
}

/// Errors of the one connection that was to be accepted, not of the listener.
fn transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::InvalidInput
    )
}

/// Gives each errand of a login a thread; how many run at a time is the senders' to limit.
async fn run_errands(mut errands: UnboundedReceiver<Errand>) {
    while let Some(errand) = errands.recv().await {
        tokio::task::spawn_blocking(errand);
    }
}

async fn connectors(pools: Arc<Pools>, mut births: UnboundedReceiver<Arc<Pool>>) {
    while let Some(pool) = births.recv().await {
        tokio::spawn(pool.run_connector(Arc::clone(&pools)));
    }
}

async fn hubs(pools: Arc<Pools>, mut births: UnboundedReceiver<Arc<Hub>>) {
    while let Some(hub) = births.recv().await {
        tokio::spawn(hub.run(Arc::clone(&pools)));
    }
}

async fn desks(pools: Arc<Pools>, mut births: UnboundedReceiver<Arc<Desk>>) {
    while let Some(desk) = births.recv().await {
        tokio::spawn(desk.run(Arc::clone(&pools)));
    }
}

async fn sweeper(proxy: Arc<Proxy>) {
    let mut ticks = interval(SWEEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = proxy.pools.shared.clock.now();
    while !proxy.is_over.load(Relaxed) {
        ticks.tick().await;
        sweep(&proxy.pools, last);
        last = proxy.pools.shared.clock.now();
        proxy.gate.sources.forget(last);
    }
}

/// Looks after the files of `password_file`, on a thread of its own each time: a file system may take its time.
async fn secrets(pools: Arc<Pools>) {
    let mut files = SecretFiles::default();
    loop {
        sleep(SECRETS).await;
        let config = pools.config.load_full();
        if config.secret_files().is_empty() {
            continue;
        }
        let look = tokio::task::spawn_blocking(move || {
            let found = files.look(&config);
            (files, found)
        });
        let found;
        (files, found) = look.await.unwrap_or_default();
        if !found.is_empty() {
            take_over(&pools, found);
        }
    }
}

async fn statistics(proxy: Arc<Proxy>) {
    loop {
        let general = &proxy.pools.config.load_full().general;
        sleep(general.stats_period).await;
        proxy.stats.tick(&proxy.pools, proxy.pools.shared.clock.now());
        if general.log_stats {
            tracing::info!("{}", proxy.stats.log_line());
        }
    }
}

/// PgBouncer's signals: HUP reloads, TERM waits for clients, INT waits for servers, QUIT ends now, USR1 and USR2 pause
/// and resume. TERM or INT a second time ends now.
fn signals(proxy: &Arc<Proxy>) -> Result<(), StartError> {
    let kinds = [
        SignalKind::hangup(),
        SignalKind::terminate(),
        SignalKind::interrupt(),
        SignalKind::quit(),
        SignalKind::user_defined1(),
        SignalKind::user_defined2(),
    ];
    for kind in kinds {
        let mut stream = signal(kind).map_err(StartError::Signals)?;
        let proxy = Arc::clone(proxy);
        tokio::spawn(async move {
            while stream.recv().await.is_some() {
                on_signal(&proxy, kind).await;
            }
        });
    }
    Ok(())
}

async fn on_signal(proxy: &Proxy, kind: SignalKind) {
    if kind == SignalKind::hangup() {
        // The log has the problems.
        let _ = reload(proxy).await;
    } else if kind == SignalKind::terminate() {
        proxy.end(Shutdown::Drain);
    } else if kind == SignalKind::interrupt() {
        proxy.end(Shutdown::WaitForServers);
    } else if kind == SignalKind::quit() {
        proxy.end(Shutdown::Now);
    } else if kind == SignalKind::user_defined1() {
        tracing::info!(changed = proxy.pools.set_paused(None, true), "PAUSE by signal");
    } else if proxy.ending_now().is_none() {
        tracing::info!(changed = proxy.pools.set_paused(None, false), "RESUME by signal");
    }
}
