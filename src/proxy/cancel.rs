//! A cancel request of a client: found by its key, sent to the very backend that runs the client's query.
//!
//! It cannot hit the next client's query: the backend is told of the cancel before its client is looked at a second
//! time, and a backend that knows of a cancel is not lent before the cancel is over.

use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::{Proxy, peers};
use crate::backend;
use crate::config::General;
use crate::frontend::find_by_key;
use crate::net::{Endpoint, Stream, Target, connect_to};
use crate::pool::{ClientRecord, Phase, Reason, lifetimes, socket_options};
use crate::wire::write;

/// Limit where `cancel_wait_timeout` is off.
const LIMIT: Duration = Duration::from_secs(365 * 24 * 3600);
/// Least time for connecting to another process.
const LEAST: Duration = Duration::from_secs(10);
/// How often a client is looked at that is between its queue and its backend.
const AGAIN: Duration = Duration::from_millis(2);

/// What became of it, in PgBouncer's words.
pub(super) async fn cancel(proxy: &Proxy, process_id: u32, secret: &[u8]) -> &'static str {
    let Some(client) = find_by_key(&proxy.pools, process_id, secret) else {
        pass_on(proxy, process_id, secret).await;
        return "failed cancel request";
    };
    let deadline = Instant::now() + limit(proxy);
    let request = client.request.load(std::sync::atomic::Ordering::Relaxed);
    while Instant::now() < deadline {
        match (client.link(), client.phase()) {
            (0, Phase::Waiting) => {
                client.interrupt.raise(Reason::Canceled);
                return "cancel request for waiting client";
            }
            (0, _) if client.pool().is_none() => {
                client.interrupt.raise(Reason::Canceled);
                return "cancel request for console client";
            }
            // Its backend's settings are being brought in line; the query follows at once.
            (0, Phase::Running) => sleep(AGAIN).await,
            (0, _) => return "cancel request for idle client",
            (link, _) => {
                if request == client.request.load(std::sync::atomic::Ordering::Relaxed)
                    || client.phase() == Phase::Running
                {
                    send(proxy, &client, link, deadline - Instant::now()).await;
                }
                return "successfully sent cancel request";
            }
        }
    }
    "failed cancel request"
}

/// Sends it to the backend `link`, if the client is still on it.
pub(super) async fn send(proxy: &Proxy, client: &ClientRecord, link: u64, limit: Duration) {
    let Some(record) = proxy.pools.backend(link) else { return };
    let announced = record.announce_cancel();
    if client.link() == link {
        let options = socket_options(&proxy.pools.config.load().general);
        if let Err(error) = backend::cancel(&record, &options, limit).await {
            tracing::warn!(client = client.id, backend = link, %error, "cancel request failed");
        }
    }
    drop(announced);
    if let Some(pool) = client.pool() {
        pool.unpark();
    }
}

fn limit(proxy: &Proxy) -> Duration {
    let limit = proxy.pools.config.load().general.cancel_wait_timeout;
    if limit.is_zero() { LIMIT } else { limit }
}

/// Asks the processes that this one took over from, which may have the client, and the one of the group whose key it is.
async fn pass_on(proxy: &Proxy, process_id: u32, secret: &[u8]) {
    tracing::debug!("cancel request with an unknown key");
    let mut request = Vec::new();
    write::cancel_request(&mut request, process_id, secret);
    let limit = limit(proxy);
    for path in proxy.elders() {
        let elder = Target::Unix { path: path.clone(), port: 0 };
        if let Err(error) = timeout(limit, hand_on(proxy, &elder, &request)).await.unwrap_or(Ok(())) {
            tracing::debug!(%elder, %error, "a process that was taken over from has ended");
            proxy.forget_elder(&path);
        }
    }
    let config = proxy.pools.config.load_full();
    let (owner, own) = (peers::owner(process_id), config.general.peer_id);
    if own == 0 || [0, own].contains(&owner) {
        return;
    }
    let (Some(peer), Some(request)) = (config.peers.get(&owner), peers::onward(process_id, secret)) else {
        tracing::debug!(peer = owner, "a cancel request is for a peer that is not there, or was passed on too often");
        return;
    };
    let size = peer.pool_size.unwrap_or(config.general.default_pool_size);
    let attempt = async {
        let _passage = proxy.traffic.enter(owner, size).await;
        hand_on(proxy, &peers::target(peer)?, &request).await
    };
    if let Err(error) = timeout(limit, attempt).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        tracing::warn!(peer = owner, %error, "cancel request could not be passed on");
    }
}

/// A connection to the first of a target's addresses that takes one within its share of the time.
async fn connect(proxy: &Proxy, target: &Target, general: &General) -> io::Result<Stream> {
    let endpoints = match target {
        Target::Unix { path, port } => vec![Endpoint::Unix { path: path.clone(), port: *port }],
        Target::Tcp { host, port } => {
            let shared = &proxy.pools.shared;
            let found = shared.names.addresses(host, *port, lifetimes(general), shared.clock.now()).await?;
            found.into_iter().map(Endpoint::Tcp).collect()
        }
    };
    let limit = general.cancel_wait_timeout.max(LEAST);
    let share = limit / u32::try_from(endpoints.len()).unwrap_or(1).max(1);
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "name has no address");
    for endpoint in endpoints {
        match timeout(share, connect_to(&endpoint, &socket_options(general))).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => failure = error,
            Err(_) => failure = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(failure)
}

/// Sends a request to another process, and waits until it has dealt with it.
async fn hand_on(proxy: &Proxy, target: &Target, request: &[u8]) -> io::Result<()> {
    let general = &proxy.pools.config.load().general;
    let mut stream = connect(proxy, target, general).await?;
    stream.write_all(request).await?;
    // It closes the connection without a word.
    let mut byte = [0];
    std::future::poll_fn(|cx| stream.poll_read(cx, &mut byte)).await.map(|_| ())
}
