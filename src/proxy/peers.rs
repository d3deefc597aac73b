//! Cancel requests for other processes: those behind the same port (`so_reuseport`) or the same load balancer.
//!
//! A key says whose it is, in PgBouncer's layout, so that the two may be mixed in one group: the second and third byte of
//! the eight are the `peer_id`, little-endian, and the lowest two bits of the last one how often it may be passed on.
//! Invariant: each time it is passed on there is one less left, so that none goes round for ever.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::admin::PeerTraffic;
use crate::config::{Host, Peer};
use crate::net::{Target, socket_path};
use crate::wire::write;

/// Which byte of a key's secret has the count, and where in it.
const HOPS_AT: usize = 3;
const HOPS: u8 = 0b11;

/// Whose key it is; 0 for nobody's of a group.
pub(super) fn owner(process_id: u32) -> u16 {
    let [_, low, high, _] = process_id.to_be_bytes();
    u16::from_le_bytes([low, high])
}

/// The request as it is passed on; none where it may not be any more.
pub(super) fn onward(process_id: u32, secret: &[u8]) -> Option<Vec<u8>> {
    let mut secret = secret.to_vec();
    let byte = secret.get_mut(HOPS_AT).filter(|byte| **byte & HOPS > 0)?;
    *byte -= 1;
    let mut request = Vec::new();
    write::cancel_request(&mut request, process_id, &secret);
    Some(request)
}

/// Where a peer listens.
pub(super) fn target(peer: &Peer) -> io::Result<Target> {
    let port = peer.port;
    match &peer.host {
        Some(Host::Socket(dir)) => Ok(Target::Unix { path: socket_path(dir, port), port }),
        Some(Host::Name(host)) => Ok(Target::Tcp { host: host.clone(), port }),
        None => Err(io::Error::new(io::ErrorKind::NotFound, "the peer has no host")),
    }
}

/// How many requests are on their way to each peer.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    counts: Mutex<BTreeMap<u16, Counts>>,
    freed: Notify,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    waiting: u32,
    active: u32,
}

/// A request that waits, or is on its way; it counts until it is dropped.
#[derive(Debug)]
pub(super) struct Passage {
    traffic: Arc<Traffic>,
    peer: u16,
    active: bool,
}

impl Traffic {
    /// Waits until fewer than `most` are on their way to `peer`; 0 = no limit.
    ///
    /// Cancel safety: safe.
    pub(super) async fn enter(self: &Arc<Traffic>, peer: u16, most: u32) -> Passage {
        self.change(peer, |counts| counts.waiting += 1);
        let mut passage = Passage { traffic: Arc::clone(self), peer, active: false };
        loop {
            let freed = self.freed.notified();
            let entered = self.change(peer, |counts| {
                let room = most == 0 || counts.active < most;
                if room {
                    counts.waiting -= 1;
                    counts.active += 1;
                }
                room
            });
            if entered {
                passage.active = true;
                return passage;
            }
            freed.await;
        }
    }

    /// What is on its way to whom.
    pub(super) fn rows(&self) -> Vec<PeerTraffic> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts
            .iter()
            .map(|(id, counts)| PeerTraffic { id: *id, waiting: counts.waiting, active: counts.active })
            .collect()
    }

    fn change<T>(&self, peer: u16, change: impl FnOnce(&mut Counts) -> T) -> T {
        change(self.counts.lock().unwrap_or_else(PoisonError::into_inner).entry(peer).or_default())
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        let active = self.active;
        self.traffic.change(self.peer, |counts| {
            let count = if active { &mut counts.active } else { &mut counts.waiting };
            *count = count.saturating_sub(1);
        });
        self.traffic.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_passed_on_three_times() {
        // Bytes of a key as PgBouncer makes it for peer 0x1234: [x, 0x34, 0x12, x, x, x, x, x | 3].
        let (id, mut secret) = (0x0134_12ff, vec![9, 9, 9, 0b1011]);
        assert_eq!(owner(id), 0x1234);
        for left in [0b1010, 0b1001, 0b1000] {
            let request = onward(id, &secret).unwrap();
            assert_eq!(request[8..], [1, 0x34, 0x12, 0xff, 9, 9, 9, left]);
            secret = request[12..].to_vec();
        }
        assert_eq!(onward(id, &secret), None);
        assert_eq!(onward(id, &[1, 2]), None);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_a_peers_size_are_on_their_way() {
        let traffic = Arc::new(Traffic::default());
        let first = traffic.enter(7, 1).await;
        let limit = std::time::Duration::from_secs(1);
        assert!(tokio::time::timeout(limit, traffic.enter(7, 1)).await.is_err());
        let row = |waiting, active| vec![PeerTraffic { id: 7, waiting, active }];
        assert_eq!(traffic.rows(), row(0, 1));
        let (second, ()) = tokio::join!(traffic.enter(7, 1), async {
            assert_eq!(traffic.rows(), row(1, 1));
            drop(first);
        });
        assert_eq!(traffic.rows(), row(0, 1));
        drop(second);
        assert_eq!(traffic.rows(), row(0, 0));
    }
}
