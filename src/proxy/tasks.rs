//! Every task of the process is started here and nowhere else.

use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::cancel::send;
use super::client::{Arrival, Door, serve};
use super::http::{self, Http};
use super::listen::{adopt, control, listen};
use super::reload::{reload, take_over, warm};
use super::said::{say_ended, say_signal, say_up};
use super::takeover::{self, Estate, Giver};
use super::{News, Proxy, SWEEP, StartError, Surroundings, TakeoverError};
use crate::admin::Shutdown;
use crate::backend::Closing;
use crate::config::{Config, SecretFiles};
use crate::frontend::Errand;
use crate::metrics::LogCounts;
use crate::net::tls::Tls;
use crate::net::{Endpoint, Listener, OWN, Stream};
use crate::pool::{ClientRecord, Desk, Hub, Pool, Pools, Slots, socket_options, sweep};

/// How long accepting pauses when the system refuses (out of descriptors or memory).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a TCP socket stays open at the end for those who have begun to connect, whose last packet may be on its way.
const CLOSING: Duration = Duration::from_millis(200);

/// Cancel requests of the pooler's own at the same time.
const CANCELS: usize = 16;

/// How often the files of `password_file` are looked at.
const SECRETS: Duration = Duration::from_secs(1);

/// How often it is looked whether addresses are too old, and serials of zones.
const NAMES: Duration = Duration::from_secs(1);

/// The same where dns_zone_check_period is shorter.
const LEAST: Duration = Duration::from_millis(100);

/// Runs the pooler until it is told to end.
///
/// # Errors
/// [`StartError`]; afterwards nothing fails that would end the process.
pub async fn run(config: Config) -> Result<(), StartError> {
    run_in(config, Surroundings::default()).await
}

/// The same, with what whoever started the process has for it.
///
/// # Errors
/// [`StartError`].
pub async fn run_in(config: Config, surroundings: Surroundings) -> Result<(), StartError> {
    let Surroundings { take_over: asks, sockets, admission, herald, log_counts } = surroundings;
    let tls = Tls::load(&config, None)?;
    let passed = !sockets.is_empty();
    let mut estate = if asks { takeover::ask(&config.general, passed).await? } else { None };
    let predecessor = estate.as_ref().map(|estate| estate.pid);
    if let Some(admission) = admission {
        admission(predecessor).map_err(StartError::Unwanted)?;
    }
    let mut inherited = estate.as_mut().map(|estate| std::mem::take(&mut estate.listeners)).unwrap_or_default();
    let listeners = if sockets.is_empty() { listen(&config, &mut inherited).await? } else { adopt(sockets)? };
    let control = control(takeover::control_path(&config.general).as_deref(), &mut inherited).map(Arc::new);
    let http_listeners: Vec<_> = http::listen(&config, &mut inherited).await.into_iter().map(Arc::new).collect();
    drop(inherited);
    let (pools, births) = Pools::with_tls(config.clone(), tls);
    let (mut proxy, errands) = Proxy::new(config, Arc::clone(&pools)).map_err(StartError::Entropy)?;
    proxy.herald = herald;
    if let Some(estate) = &mut estate {
        proxy.elders = Mutex::new(std::mem::take(&mut estate.elders));
    }
    let proxy = Arc::new(proxy);
    signals(&proxy)?;
    let listeners: Vec<Arc<Listener>> = listeners.into_iter().map(Arc::new).collect();
    // Nobody else sets it.
    let _ = proxy.listening.set(listeners.iter().map(Arc::downgrade).collect());
    if let Some(estate) = estate {
        settle(estate, &pools).await?;
    }
    // The other one may have begun to close those sockets.
    listeners.iter().for_each(|listener| listener.let_newcomers_in());
    proxy.defer_accepts();
    // From here on the files are this process's, unless somebody else opened the sockets for it.
    listeners.iter().for_each(|listener| listener.set_given_away(passed));
    control.iter().for_each(|listener| listener.set_given_away(false));
    let local = listeners.iter().chain(&control).filter(|listener| listener.file().is_some());
    let files: Vec<Weak<Listener>> = local.map(Arc::downgrade).collect();
    keep_house(&proxy, births, errands);
    serve_all(&proxy, control, listeners, (http_listeners, log_counts));
    warm(&pools);
    proxy.tell(News::Ready(predecessor));
    say_up(if pools.config.load().general.resolv_conf.is_some() { "hickory" } else { "getaddrinfo" });
    proxy.drained().await;
    for pool in pools.all() {
        pool.close(Closing::Ending);
    }
    for listener in files.iter().filter_map(Weak::upgrade).filter(|listener| listener.owns_file()) {
        // The tasks that own the listeners may not come to it any more.
        if let Some(file) = listener.file() {
            let _ = std::fs::remove_file(file);
        }
    }
    if let Some(file) = proxy.cancels.get() {
        let _ = std::fs::remove_file(file);
    }
    say_ended(proxy.ending_now());
    Ok(())
}

/// Tells the process that is taken over from that it may stop to accept, and does as its operators have said.
async fn settle(estate: Estate, pools: &Pools) -> Result<(), TakeoverError> {
    let predecessor = estate.pid;
    match estate.settle().await {
        Ok(disabled) => {
            tracing::info!(predecessor, "the listening sockets were taken over");
            for database in disabled {
                tracing::info!(database, "disabled as it was there");
                pools.set_disabled(&database, true);
            }
        }
        Err(error @ TakeoverError::Refused { .. }) => return Err(error),
        Err(error) => tracing::warn!(%error, "whether the former process still accepts is not known"),
    }
    Ok(())
}

/// Starts what runs beside the clients.
fn keep_house(proxy: &Arc<Proxy>, births: UnboundedReceiver<Arc<Pool>>, errands: UnboundedReceiver<Errand>) {
    let pools = &proxy.pools;
    tokio::spawn(run_errands(errands));
    tokio::spawn(connectors(Arc::clone(pools), births));
    if let Some(births) = pools.listeners.births() {
        tokio::spawn(hubs(Arc::clone(pools), births));
    }
    if let Some(births) = pools.shared.budgets.births() {
        tokio::spawn(keepers(Arc::clone(pools), births));
    }
    if let Some(births) = pools.lookups.births() {
        tokio::spawn(desks(Arc::clone(pools), births));
    }
    tokio::spawn(sweeper(Arc::clone(proxy)));
    tokio::spawn(statistics(Arc::clone(proxy)));
    tokio::spawn(secrets(Arc::clone(pools)));
    tokio::spawn(names(Arc::clone(pools)));
    tokio::spawn(zones(Arc::clone(pools)));
}

/// Accepts whoever comes: clients, those who ask by HTTP, and another process that takes over.
fn serve_all(
    proxy: &Arc<Proxy>,
    control: Option<Arc<Listener>>,
    listeners: Vec<Arc<Listener>>,
    (http_listeners, log_counts): (Vec<Arc<Listener>>, Arc<LogCounts>),
) {
    let http = Http::new(proxy, log_counts);
    if !http_listeners.is_empty() {
        tokio::spawn(Arc::clone(&http).follow_trend());
    }
    let weak = |listeners: &[Arc<Listener>]| listeners.iter().map(Arc::downgrade).collect();
    if let Some(control) = control {
        let giver = Giver { control, clients: weak(&listeners), http: weak(&http_listeners) };
        tokio::spawn(successor(Arc::clone(proxy), giver));
    }
    // A socket is closed when its task is done with it.
    for listener in listeners {
        tokio::spawn(accept(Arc::clone(proxy), listener));
    }
    for listener in http_listeners {
        tokio::spawn(accept_http(Arc::clone(&http), listener));
    }
}

/// Gives the listening sockets to another process that takes over, and serves cancel requests for what is left.
async fn successor(proxy: Arc<Proxy>, giver: Giver) {
    let cancels = giver.serve(&proxy).await;
    drop(giver);
    tracing::info!("another process has taken over; this one serves the clients that it has");
    let _ = proxy.cancels.set(cancels.file().unwrap_or_default());
    accept(proxy, Arc::new(cancels)).await;
}

/// Cancels what PostgreSQL does for these clients, within `limit`; a few at a time, since each cancel request is a
/// connection.
pub(super) fn cancel_queries(proxy: &Arc<Proxy>, clients: Vec<Arc<ClientRecord>>, limit: Duration) {
    let turns = Arc::new(Semaphore::new(CANCELS));
    for client in clients {
        let (proxy, turns) = (Arc::clone(proxy), Arc::clone(&turns));
        tokio::spawn(async move {
            let _turn = turns.acquire().await;
            send(&proxy, &client, client.link(), limit).await;
        });
    }
}

/// Accepts connections until the end begins and whoever had connected by then is in; by the Unix socket, which stays for
/// the console, until the end is there. Where another process has the socket, it is left to that one.
async fn accept(proxy: Arc<Proxy>, listener: Arc<Listener>) {
    let door = Door::new(&proxy);
    let mut ending = proxy.ending.subscribe();
    let is_local = listener.file().is_some();
    let gone = || proxy.is_handed_over() && (!is_local || listener.is_given_away());
    let mut acceptor = Acceptor { proxy: &proxy, listener: &listener, late: false, pausing: false };
    tokio::select! {
        // What another process has the sockets for comes to that one.
        biased;
        _ = ending.wait_for(Option::is_some) => {}
        () = acceptor.run() => {}
    }
    if !is_local && turn_away_newcomers(&proxy, &listener) {
        tokio::select! {
            biased;
            _ = ending.wait_for(|_| gone()) => {}
            () = sleep(CLOSING) => {}
            () = acceptor.run() => {}
        }
    }
    if !gone() {
        acceptor.take_waiting();
    }
    if !is_local || listener.is_given_away() {
        // Who comes between these two is reset by the system.
        drop(listener);
        return drop(door);
    }
    drop(door);
    acceptor.late = true;
    tokio::select! {
        biased;
        _ = ending.wait_for(|_| gone()) => {}
        () = acceptor.run() => {}
    }
}

/// Has nobody else begin to connect by TCP, and answers whether that is so. A socket that another process has as well is
/// that one's.
fn turn_away_newcomers(proxy: &Proxy, listener: &Listener) -> bool {
    let handed_over = proxy.handed_over.lock().unwrap_or_else(PoisonError::into_inner);
    if *handed_over {
        return false;
    }
    // Those who have connected and say nothing are about to be let in, too.
    let told = listener.turn_away_newcomers().and_then(|()| listener.defer(false));
    told.inspect_err(|error| tracing::debug!(%error, "who connects just now may be reset")).is_ok()
}

/// What accepts at one listening socket.
struct Acceptor<'a> {
    proxy: &'a Arc<Proxy>,
    listener: &'a Listener,
    /// Only the console is open to those who come.
    late: bool,
    pausing: bool,
}

impl Acceptor<'_> {
    /// Accepts those who wait already.
    fn take_waiting(&self) {
        let options = socket_options(&self.proxy.pools.config.load().general);
        loop {
            match self.listener.take_waiting(&options) {
                Ok(Some((stream, peer))) => self.serve(stream, peer),
                Err(error) if transient(&error) => {}
                Ok(None) | Err(_) => break,
            }
        }
    }

    fn serve(&self, stream: Stream, peer: Endpoint) {
        drop(tokio::spawn(serve(Arrival::new(self.proxy, self.late), stream, peer)));
    }

    /// Accepts for ever.
    ///
    /// Cancel safety: safe; no connection is lost.
    async fn run(&mut self) {
        loop {
            let options = socket_options(&self.proxy.pools.config.load().general);
            match self.listener.accept(&options).await {
                Ok((stream, peer)) => {
                    if std::mem::take(&mut self.pausing) {
                        tracing::info!("accepting again");
                    }
                    self.serve(stream, peer);
                }
                Err(error) if transient(&error) => {
                    tracing::debug!(%error, "connection was gone before it was accepted");
                }
                Err(error) => {
                    if !std::mem::replace(&mut self.pausing, true) {
                        tracing::error!(%error, "cannot accept, pausing: look at the limit of open files (LimitNOFILE, ulimit -n)");
                    }
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Accepts connections of the HTTP server, until the process ends or another one has taken over: whoever asks how the end
/// goes has to be answered.
async fn accept_http(http: Arc<Http>, listener: Arc<Listener>) {
    let (Listener::Tcp(socket), Some(Endpoint::Tcp(local))) = (&*listener, listener.endpoint()) else { return };
    let mut ending = http.ending();
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            _ = ending.wait_for(|_| http.is_handed_over()) => return,
        };
        match accepted {
            Ok((stream, peer)) => match http.enter() {
                Some(seat) => drop(tokio::spawn(Arc::clone(&http).serve(stream, peer, local, seat))),
                None => tracing::debug!(%peer, "too many HTTP requests at once"),
            },
            Err(error) if transient(&error) => {}
            Err(error) => {
                tracing::debug!(%error, "cannot accept HTTP connections, pausing");
                sleep(ACCEPT_PAUSE).await;
            }
        }
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

async fn keepers(pools: Arc<Pools>, mut births: UnboundedReceiver<Arc<Slots>>) {
    while let Some(slots) = births.recv().await {
        tokio::spawn(slots.keep(Arc::clone(&pools)));
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

/// Follows the names of PostgreSQL's hosts.
async fn names(pools: Arc<Pools>) {
    loop {
        sleep(NAMES).await;
        pools.follow_names().await;
    }
}

/// Follows their zones.
async fn zones(pools: Arc<Pools>) {
    loop {
        let period = pools.config.load().general.dns_zone_check_period;
        sleep(if period.is_zero() { NAMES } else { period.clamp(LEAST, NAMES) }).await;
        pools.follow_zones().await;
    }
}

async fn statistics(proxy: Arc<Proxy>) {
    loop {
        let general = &proxy.pools.config.load_full().general;
        sleep(general.stats_period).await;
        proxy.stats.tick(&proxy.pools, proxy.pools.shared.clock.now());
        let line = proxy.stats.log_line();
        if general.log_stats {
            tracing::info!("{line}");
        }
        proxy.tell(News::Status(line));
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
    let ending = match proxy.ending_now() {
        // What is paused goes on as long as clients are waited for.
        Some(how) if kind == SignalKind::user_defined2() => how.forbids_resume(),
        how => how.is_some_and(|how| how != Shutdown::TakenOver),
    };
    say_signal(kind, ending, proxy.pools.all_paused());
    if kind == SignalKind::hangup() {
        // The log has the problems.
        let _ = reload(proxy).await;
    } else if kind == SignalKind::terminate() {
        proxy.end_by_signal(Shutdown::Drain);
    } else if kind == SignalKind::interrupt() {
        proxy.end_by_signal(Shutdown::WaitForServers);
    } else if kind == SignalKind::quit() {
        proxy.end_by_signal(Shutdown::Now);
    } else if kind == SignalKind::user_defined1() {
        if proxy.pools.is_suspended() {
            tracing::info!("PAUSE by signal is ignored while everything is suspended");
            return;
        }
        let changed = proxy.pools.set_paused(None, true);
        tracing::info!(target: OWN, changed, "PAUSE by signal");
    } else if !proxy.ending_now().is_some_and(Shutdown::forbids_resume) {
        let changed = proxy.pools.go_on() || proxy.pools.set_paused(None, false);
        tracing::info!(target: OWN, changed, "RESUME by signal");
    }
}
