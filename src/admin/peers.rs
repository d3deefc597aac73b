//! SHOW PEERS, SHOW PEER_POOLS: the processes that cancel requests are passed on to.

use super::columns::{Row, row};
use super::{Context, PeerTraffic};
use crate::pool::Pools;

pub(super) fn peers(pools: &Pools) -> Vec<Row> {
    let config = pools.config.load();
    let size = |peer: &crate::config::Peer| peer.pool_size.unwrap_or(config.general.default_pool_size);
    let host = |peer: &crate::config::Peer| peer.host.as_ref().map(ToString::to_string).unwrap_or_default();
    config.peers.values().map(|peer| row![u32::from(peer.id), host(peer), u32::from(peer.port), size(peer)]).collect()
}

pub(super) fn pools(context: &Context) -> Vec<Row> {
    let traffic = context.control.peers();
    let config = context.pools.config.load();
    let of = |id: u16| {
        traffic.iter().find(|peer| peer.id == id).copied().unwrap_or(PeerTraffic { id, ..PeerTraffic::default() })
    };
    let line = |peer: PeerTraffic| row![u32::from(peer.id), peer.active, peer.waiting, peer.active, 0u32];
    config.peers.keys().map(|id| line(of(*id))).collect()
}
