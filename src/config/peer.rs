//! The settings of `[peers.ID]`.

use crate::config::Host;
use crate::config::kinds::{Count, Maybe, OneHost, Within};
use crate::config::table::settings;

/// Largest `peer_id`, PgBouncer's.
const MOST: u16 = 16383;

settings! {
    /// Another process of the group that passes cancel requests on to each other: one entry of `[peers]`.
    pub struct Peer in "peers.ID" {
        /// Its `peer_id`.
        id: u16,
    }

    /// Host name, IP address, or directory of the Unix socket at which the process listens.
    host: Option<Host> as Maybe<OneHost> = None, Reload;
    /// Port at which the process listens.
    port: u16 as Within<u16, 1, 65535> = 6432, Reload;
    /// Cancel requests that are passed on to it at the same time; unset = default_pool_size of [pgpool].
    pool_size: Option<u32> as Maybe<Count> = None, Reload;
}

/// The id that is the name of an entry.
///
/// # Errors
/// What is wrong with it.
pub(super) fn id(name: &str) -> Result<u16, String> {
    let id = name.parse().ok().filter(|id| (1..=MOST).contains(id));
    id.ok_or_else(|| format!("`{name}` in [peers]: a peer's name is its peer_id, from 1 to {MOST}"))
}
