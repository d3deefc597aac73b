//! A cancel request of a client: found by its key, sent to the very backend that runs the client's query.
//!
//! It cannot hit the next client's query: the backend is told of the cancel before its client is looked at a second
//! time, and a backend that knows of a cancel is not lent before the cancel is over.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Proxy;
use crate::backend;
use crate::frontend::find_by_key;
use crate::pool::{ClientRecord, Phase, Reason, socket_options};

/// Limit where `cancel_wait_timeout` is off.
const LIMIT: Duration = Duration::from_secs(365 * 24 * 3600);
/// How often a client is looked at that is between its queue and its backend.
const AGAIN: Duration = Duration::from_millis(2);

pub(super) async fn cancel(proxy: &Proxy, process_id: u32, secret: &[u8]) {
    let Some(client) = find_by_key(&proxy.pools, process_id, secret) else {
        tracing::debug!("cancel request with an unknown key");
        return;
    };
    let limit = proxy.pools.config.load().general.cancel_wait_timeout;
    let deadline = Instant::now() + if limit.is_zero() { LIMIT } else { limit };
    let request = client.request.load(std::sync::atomic::Ordering::Relaxed);
    while Instant::now() < deadline {
        match (client.link(), client.phase()) {
            (0, Phase::Waiting) => return client.interrupt.raise(Reason::Canceled),
            (0, _) if client.pool().is_none() => return client.interrupt.raise(Reason::Canceled),
            // Its backend's settings are being brought in line; the query follows at once.
            (0, Phase::Running) => sleep(AGAIN).await,
            (0, _) => return,
            (link, _) => {
                if request == client.request.load(std::sync::atomic::Ordering::Relaxed)
                    || client.phase() == Phase::Running
                {
                    send(proxy, &client, link, deadline - Instant::now()).await;
                }
                return;
            }
        }
    }
}

/// Sends it to the backend `link`, if the client is still on it.
async fn send(proxy: &Proxy, client: &ClientRecord, link: u64, limit: Duration) {
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
