//! What one address may ask for before it has logged in: so many connections, and so many logins per second.
//!
//! Addresses of IPv6 count by their network of 64 bits, since whoever has one of its addresses has them all. Unix sockets
//! are not counted. Invariant: an address is remembered only while it has connections or its allowance is not full
//! again, and at most [`MOST`] are.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::Rejected;
use super::intake::Intake;
use crate::config::General;
use crate::net::{Endpoint, Micros, Stream};
use crate::wire::sqlstate;
use crate::wire::startup::{Opening, parse};
use crate::wire::write::Report;

/// Most addresses that are remembered. Beyond, new ones are let in uncounted: forgetting others would free those who
/// are being held back.
const MOST: usize = 65_536;

const SECOND: Micros = 1_000_000;

/// The addresses that clients come from.
#[derive(Debug, Default)]
pub struct Sources {
    known: Mutex<HashMap<IpAddr, Source>>,
}

#[derive(Debug)]
struct Source {
    connections: u32,
    /// When the logins that it has begun are forgotten, if it begins no more: each adds its share of a second.
    paid_until: Micros,
}

/// A connection of an address; it counts until it is dropped.
#[derive(Debug)]
pub struct Visit {
    sources: Arc<Sources>,
    address: IpAddr,
}

impl Sources {
    /// Counts a new connection; nothing where there is nothing to count.
    ///
    /// # Errors
    /// The address has all the connections that it may have, or begins too many logins.
    pub fn enter(
        self: &Arc<Sources>,
        peer: &Endpoint,
        general: &General,
        now: Micros,
    ) -> Result<Option<Visit>, Rejected> {
        let (most, rate) = (general.max_client_conn_per_ip, general.max_login_rate_per_ip);
        let Endpoint::Tcp(peer) = peer else { return Ok(None) };
        if most == 0 && rate == 0 {
            return Ok(None);
        }
        let address = network(peer.ip());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST && !known.contains_key(&address) {
            known.retain(|_, source| source.matters(now));
            if known.len() >= MOST {
                return Ok(None);
            }
        }
        let source = known.entry(address).or_insert(Source { connections: 0, paid_until: now });
        if most > 0 && source.connections >= most {
            return Err(too_many(address, most));
        }
        if rate > 0 {
            let share = SECOND / Micros::from(rate);
            let paid_until = source.paid_until.max(now) + share;
            if paid_until > now + SECOND.max(share) {
                return Err(too_fast(address, rate));
            }
            source.paid_until = paid_until;
        }
        source.connections += 1;
        Ok(Some(Visit { sources: Arc::clone(self), address }))
    }

    /// Forgets addresses that nothing is to be remembered of.
    pub fn forget(&self, now: Micros) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, source| source.matters(now));
        if known.capacity() > 1024 && known.len() < known.capacity() / 8 {
            known.shrink_to_fit();
        }
    }
}

impl Source {
    fn matters(&self, now: Micros) -> bool {
        self.connections > 0 || self.paid_until > now
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut known = self.sources.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(source) = known.get_mut(&self.address) {
            source.connections = source.connections.saturating_sub(1);
        }
    }
}

/// Reads what a client has to send before it can be told anything, and offers it nothing: to encrypt the reason would
/// cost what the limit is to save.
///
/// # Errors
/// The client left or broke the protocol.
pub async fn hear_out(stream: &mut Stream) -> Result<(), Rejected> {
    let mut intake = Intake::default();
    for _ in 0..3 {
        match parse(intake.opening(stream).await?).map_err(Rejected::Startup)? {
            Opening::Ssl | Opening::GssEnc => stream.write_all(b"N").await?,
            Opening::Start(_) => return Ok(()),
            Opening::Cancel { .. } => return Err(Rejected::Left),
        }
    }
    Err(Rejected::Protocol("unexpected request"))
}

/// The network that an address is counted by.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
    }
}

fn too_many(address: IpAddr, most: u32) -> Rejected {
    Rejected::Told(
        Report::fatal(sqlstate::TOO_MANY_CONNECTIONS, "client connections exceeded (max_client_conn_per_ip)")
            .detail(format!("The address {address} may have {most} connections, and has them."))
            .hint("Raise max_client_conn_per_ip, or let the application's pool open fewer connections."),
    )
}

fn too_fast(address: IpAddr, rate: u32) -> Rejected {
    Rejected::Told(
        Report::fatal(sqlstate::TOO_MANY_CONNECTIONS, "too many logins (max_login_rate_per_ip)")
            .detail(format!("The address {address} may begin {rate} logins per second."))
            .hint("Let the application keep its connections, or raise max_login_rate_per_ip."),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(address: &str) -> Endpoint {
        Endpoint::Tcp((address.parse::<IpAddr>().unwrap(), 4711).into())
    }

    fn limits(most: u32, rate: u32) -> General {
        General { max_client_conn_per_ip: most, max_login_rate_per_ip: rate, ..General::default() }
    }

    fn known(sources: &Sources) -> usize {
        sources.known.lock().unwrap().len()
    }

    #[test]
    fn connections_are_counted_by_address_until_they_end() {
        let (sources, general) = (Arc::new(Sources::default()), limits(2, 0));
        let enter = |address: &str| sources.enter(&from(address), &general, 0);
        let held = [enter("192.0.2.1").unwrap(), enter("192.0.2.1").unwrap()];
        let refused = enter("192.0.2.1").unwrap_err().report().unwrap();
        assert_eq!(refused.code, "53300");
        assert!(enter("192.0.2.2").is_ok());
        assert!(enter("::ffff:192.0.2.1").is_err(), "the same address in its other form");
        drop(held);
        assert!(enter("192.0.2.1").is_ok());
        sources.forget(0);
        assert_eq!(known(&sources), 0);
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let (sources, general) = (Arc::new(Sources::default()), limits(1, 0));
        let _held = sources.enter(&from("2001:db8::1"), &general, 0).unwrap();
        assert!(sources.enter(&from("2001:db8::ffff:1"), &general, 0).is_err());
        assert!(sources.enter(&from("2001:db8:0:1::1"), &general, 0).is_ok());
    }

    #[test]
    fn logins_are_allowed_at_a_rate_after_a_burst() {
        let (sources, general) = (Arc::new(Sources::default()), limits(0, 4));
        let begun = |now| (0..10).filter(|_| sources.enter(&from("192.0.2.1"), &general, now).is_ok()).count();
        assert_eq!(begun(0), 4);
        assert_eq!(begun(SECOND / 4), 1);
        assert_eq!(begun(SECOND / 2), 1);
        assert_eq!(begun(100 * SECOND), 4);
        // Those who are held back do not have to wait longer for having tried.
        assert_eq!(begun(101 * SECOND), 4);
        sources.forget(103 * SECOND);
        assert_eq!(known(&sources), 0);
        // A rate of one still lets one in.
        let slow = limits(0, 1);
        assert!(sources.enter(&from("192.0.2.9"), &slow, 0).is_ok());
        assert!(sources.enter(&from("192.0.2.9"), &slow, 1).is_err());
        assert!(sources.enter(&from("192.0.2.9"), &slow, SECOND).is_ok());
    }

    #[test]
    fn what_is_not_limited_is_not_remembered() {
        let sources = Arc::new(Sources::default());
        assert!(sources.enter(&from("192.0.2.1"), &limits(0, 0), 0).unwrap().is_none());
        assert!(sources.enter(&Endpoint::Unix { path: "/tmp/x".into(), port: 1 }, &limits(1, 1), 0).unwrap().is_none());
        assert_eq!(known(&sources), 0);
    }
}
