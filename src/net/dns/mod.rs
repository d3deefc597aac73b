//! Asking nameservers: for the addresses of host names, and for the zones that these are in.
//!
//! A library speaks DNS. It has one resolver for each nameserver here, since what is asked next after a failure is
//! resolv.conf(5)'s to say: each nameserver in its turn, and all of them again; the domains of `search` one after the
//! other, but not on the mere silence of a nameserver, or a name might be found where it is not meant. Nothing is kept:
//! for that there is `Names`.

mod files;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ServerOrderingStrategy,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use tokio::time::timeout;

use self::files::{HostsFile, SystemZones};
use super::names::{Answer, Names, Resolve};
use super::zones::{Soa, Zones, Zoning};
use crate::config::{Families, ResolvConf, Transport};

/// Longest answer by UDP that is asked for, of EDNS: no path splits it.
const PAYLOAD: u16 = 1232;

/// The nameservers of a `resolv_conf`.
struct Dns {
    conf: ResolvConf,
    servers: Vec<Server>,
    search: Vec<Name>,
    /// Which nameserver is the next to begin with.
    turn: AtomicUsize,
    hosts: HostsFile,
}

struct Server {
    address: SocketAddr,
    resolver: TokioResolver,
}

/// Why there is nothing that was asked for.
#[derive(Debug)]
enum Failure {
    /// A nameserver says that the name is not there, or has nothing of that kind.
    Absent {
        exists: bool,
        /// The zone that it found out in, where it says.
        zone: Option<(Name, u32)>,
    },
    /// A nameserver says that it cannot tell.
    Refused(SocketAddr, ResponseCode),
    /// No nameserver says anything.
    Silent(String),
    /// What was asked for is no name.
    Invalid(String),
}

impl Dns {
    /// Asks these nameservers, but /etc/hosts first.
    fn new(conf: &ResolvConf) -> Dns {
        let server = |address: &SocketAddr| match resolver(*address, conf) {
            Ok(resolver) => Some(Server { address: *address, resolver }),
            Err(error) => {
                tracing::error!(%address, %error, "nameserver cannot be used");
                None
            }
        };
        let domain = |domain: &String| match Name::from_str_relaxed(domain) {
            Ok(mut name) => {
                name.set_fqdn(true);
                Some(name)
            }
            Err(error) => {
                tracing::warn!(%domain, %error, "domain of `search` is no name and is ignored");
                None
            }
        };
        Dns {
            servers: conf.servers.iter().filter_map(server).collect(),
            search: conf.search.iter().filter_map(domain).collect(),
            conf: conf.clone(),
            turn: AtomicUsize::new(0),
            hosts: HostsFile::system(),
        }
    }

    async fn addresses(&self, host: &str) -> Result<Vec<SocketAddr>, Failure> {
        let given = parse(host)?;
        let mut found = self.hosts.addresses(&given).await;
        let mut failure = Failure::Absent { exists: false, zone: None };
        if found.is_empty() {
            for name in self.complete(&given) {
                match self.addresses_of(&name).await {
                    Ok(addresses) => {
                        found = addresses;
                        break;
                    }
                    Err(silent @ Failure::Silent(_)) => return Err(silent),
                    Err(other) => failure = failure.or(other),
                }
            }
        }
        if found.is_empty() {
            return Err(failure);
        }
        Ok(in_order(found).into_iter().map(|address| SocketAddr::new(address, 0)).collect())
    }

    /// The addresses of a complete name, those of IPv6 first; at least one.
    async fn addresses_of(&self, name: &Name) -> Result<Vec<IpAddr>, Failure> {
        let v4 = self.ask(name, RecordType::A);
        let v6 = self.ask(name, RecordType::AAAA);
        let (v6, v4) = match self.conf.families {
            Families::Together => {
                let (v6, v4) = tokio::join!(v6, v4);
                (Some(v6), v4)
            }
            Families::OneByOne => (Some(v6.await), v4.await),
            Families::OnlyV4 => (None, v4.await),
        };
        let mut found = Vec::new();
        let mut failure = Failure::Absent { exists: false, zone: None };
        for answer in v6.into_iter().chain([v4]) {
            match answer {
                Ok(lookup) => found.extend(lookup.answers().iter().filter_map(|record| record.data.ip_addr())),
                Err(error) => failure = failure.or(error),
            }
        }
        if found.is_empty() { Err(failure) } else { Ok(found) }
    }

    async fn zone(&self, host: &str) -> Result<Option<Soa>, Failure> {
        let mut zone = None;
        let mut failure = None;
        for name in self.complete(&parse(host)?) {
            match self.enclosing(&name).await {
                Ok((found, true)) => return Ok(found),
                // It is not there under this name; if under none, it would be where it is looked for first.
                Ok((found, false)) => zone = zone.or(found),
                Err(silent @ Failure::Silent(_)) => return Err(silent),
                Err(error) => failure = Some(error),
            }
        }
        match (zone, failure) {
            (None, Some(failure)) => Err(failure),
            (zone, _) => Ok(zone),
        }
    }

    /// The zone that a complete name is in, and whether there is such a name. A nameserver answers with the zone's SOA
    /// whether the name has one itself or not. Where it does not, or where it follows an alias into another zone, the
    /// names above are asked about.
    async fn enclosing(&self, name: &Name) -> Result<(Option<Soa>, bool), Failure> {
        let mut exists = true;
        let mut at = name.clone();
        while !at.is_root() {
            let soa = match self.ask(&at, RecordType::SOA).await {
                Ok(lookup) => lookup.answers().iter().find_map(|record| match &record.data {
                    RData::SOA(soa) => Some((record.name.clone(), soa.serial)),
                    _ => None,
                }),
                Err(Failure::Absent { exists: there, zone }) => {
                    if at == *name {
                        exists = there;
                    }
                    zone
                }
                Err(other) => return Err(other),
            };
            if let Some((zone, serial)) = soa
                && zone.zone_of(name)
                && !zone.is_root()
            {
                let zone = zone.to_lowercase().to_ascii().trim_end_matches('.').to_owned();
                return Ok((Some(Soa { zone, serial }), exists));
            }
            at = at.base_name();
        }
        Ok((None, exists))
    }

    /// What the first nameserver says that says something.
    async fn ask(&self, name: &Name, kind: RecordType) -> Result<Lookup, Failure> {
        let first = if self.conf.rotate { self.turn.fetch_add(1, Relaxed) % self.servers.len().max(1) } else { 0 };
        let mut failure = Failure::Silent(String::from("there is no nameserver"));
        for _ in 0..self.conf.attempts {
            for Server { address, resolver } in self.servers.iter().cycle().skip(first).take(self.servers.len()) {
                failure = match timeout(self.conf.timeout, resolver.lookup(name.clone(), kind)).await {
                    Ok(Ok(lookup)) => return Ok(lookup),
                    Ok(Err(NetError::Dns(DnsError::NoRecordsFound(none)))) => {
                        let exists = none.response_code != ResponseCode::NXDomain;
                        let zone = none.soa.map(|soa| (soa.name, soa.data.serial));
                        return Err(Failure::Absent { exists, zone });
                    }
                    Ok(Err(NetError::Dns(DnsError::ResponseCode(code)))) => Failure::Refused(*address, code),
                    Ok(Err(error)) => Failure::Silent(format!("{address}: {error}")),
                    Err(_) => Failure::Silent(format!("{address}: no answer within {} s", self.conf.timeout.as_secs())),
                };
            }
        }
        Err(failure)
    }

    /// The complete names that a name may stand for, in the order in which they are tried.
    fn complete(&self, name: &Name) -> Vec<Name> {
        let mut itself = name.clone();
        itself.set_fqdn(true);
        if name.is_fqdn() || name.is_localhost() {
            return vec![itself];
        }
        let mut names: Vec<Name> =
            self.search.iter().filter_map(|domain| name.clone().append_domain(domain).ok()).collect();
        let dots = usize::from(name.num_labels()).saturating_sub(1);
        let place = if dots >= self.conf.ndots { 0 } else { names.len() };
        names.insert(place, itself);
        names
    }
}

/// What looks names up, and what follows their zones: the nameservers of a `resolv_conf`, if there is one; else the
/// system's resolver looks up, and the system's nameservers are asked about zones.
#[must_use]
pub fn names_and_zones(conf: Option<&ResolvConf>) -> (Names, Zones) {
    let Some(conf) = conf else { return (Names::default(), Zones::new(SystemZones::system())) };
    let dns = Arc::new(Dns::new(conf));
    (Names::new(Arc::clone(&dns)), Zones::new(dns))
}

impl fmt::Debug for Dns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dns").field("conf", &self.conf).finish_non_exhaustive()
    }
}

impl Resolve for Arc<Dns> {
    fn resolve<'a>(&'a self, host: &'a str) -> Answer<'a> {
        Box::pin(async move { Ok(self.addresses(host).await?) })
    }
}

impl Zoning for Arc<Dns> {
    fn zone_of<'a>(&'a self, host: &'a str) -> Answer<'a, Option<Soa>> {
        Box::pin(async move { Ok(self.zone(host).await?) })
    }
}

impl Failure {
    /// The one of two that says more: that a nameserver could not tell, then that there is such a name.
    fn or(self, other: Failure) -> Failure {
        let weight = |failure: &Failure| match failure {
            Failure::Absent { exists: false, .. } => 0,
            Failure::Absent { exists: true, .. } => 1,
            Failure::Refused(..) => 2,
            Failure::Silent(_) => 3,
            Failure::Invalid(_) => 4,
        };
        if weight(&other) > weight(&self) { other } else { self }
    }
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> io::Error {
        match failure {
            Failure::Absent { exists: false, .. } => io::Error::new(io::ErrorKind::NotFound, "no such host name"),
            Failure::Absent { exists: true, .. } => io::Error::new(io::ErrorKind::NotFound, "the name has no address"),
            Failure::Refused(server, code) => io::Error::other(format!("nameserver {server} answers: {code}")),
            Failure::Silent(why) => {
                io::Error::new(io::ErrorKind::TimedOut, format!("no nameserver has answered ({why})"))
            }
            Failure::Invalid(why) => io::Error::new(io::ErrorKind::InvalidInput, format!("not a host name: {why}")),
        }
    }
}

/// Asks one nameserver once, and keeps nothing.
fn resolver(server: SocketAddr, conf: &ResolvConf) -> Result<TokioResolver, NetError> {
    let mut ways = match conf.transport {
        Transport::Udp => NameServerConfig::udp_and_tcp(server.ip()),
        Transport::Tcp => NameServerConfig::tcp(server.ip()),
    };
    ways.connections.iter_mut().for_each(|way: &mut ConnectionConfig| way.port = server.port());
    let config = ResolverConfig::from_name_servers(vec![ways]);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let options = builder.options_mut();
    options.timeout = conf.timeout;
    options.attempts = 0;
    options.edns0 = conf.edns;
    options.edns_payload_len = PAYLOAD;
    options.use_hosts_file = ResolveHosts::Never;
    options.server_ordering_strategy = ServerOrderingStrategy::UserProvidedOrder;
    options.cache_size = 0;
    options.positive_max_ttl = Some(Duration::ZERO);
    options.negative_max_ttl = Some(Duration::ZERO);
    builder.build()
}

fn parse(host: &str) -> Result<Name, Failure> {
    match Name::from_str_relaxed(host) {
        Ok(name) if name.is_root() => Err(Failure::Invalid(String::from("it is empty"))),
        Ok(name) => Ok(name),
        Err(error) => Err(Failure::Invalid(error.to_string())),
    }
}

/// Each address once; those that there is no way to from here last, as with getaddrinfo.
fn in_order(found: Vec<IpAddr>) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = Vec::with_capacity(found.len());
    for address in found {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    let first = addresses.first().map(IpAddr::is_ipv6);
    if addresses.iter().any(|address| Some(address.is_ipv6()) != first) {
        addresses.sort_by_cached_key(|address| !is_reachable(*address));
    }
    addresses
}

/// Whether there is a route: the connect of a UDP socket looks for one and sends nothing.
fn is_reachable(address: IpAddr) -> bool {
    const DISCARD: u16 = 9;
    let any: SocketAddr = if address.is_ipv6() { ([0_u16; 8], 0).into() } else { ([0_u8; 4], 0).into() };
    UdpSocket::bind(any).and_then(|socket| socket.connect((address, DISCARD))).is_ok()
}
