//! Whose words a line of the log has, and how PgBouncer names a connection in one.
//!
//! What happens to connections is said twice, in pgpool's words and in PgBouncer's, as two events with a target each;
//! whoever writes the log takes one of the two (`log_format`). Events with neither target are for both.

use std::fmt;
use std::net::IpAddr;

use super::Endpoint;

/// The target of events in pgpool's words that PgBouncer has its own for.
pub const OWN: &str = "pgpool::own";
/// The target of the same events in PgBouncer's words.
pub const BOUNCER: &str = "pgpool::bouncer";

/// Which side a connection is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// A client's.
    Frontend,
    /// One to PostgreSQL.
    Backend,
}

/// A connection as PgBouncer names it in front of a line: `C-0x00000000002a: app/alice@127.0.0.1:45040`.
#[derive(Clone, Copy, Debug)]
pub struct Party<'a> {
    /// Its side.
    pub side: Side,
    /// Its id, one sequence for both sides.
    pub id: u64,
    /// Its database entry, once it is known that there is one.
    pub database: Option<&'a str>,
    /// Its user, once that is known.
    pub user: Option<&'a str>,
    /// Where its other end is; `None` where that was not found.
    pub endpoint: Option<&'a Endpoint>,
    /// The process at the other end of a Unix socket; 0 where that is not known.
    pub process: u32,
}

impl fmt::Display for Party<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = if self.side == Side::Frontend { 'C' } else { 'S' };
        let (database, user) = (self.database.unwrap_or("(nodb)"), self.user.unwrap_or("(nouser)"));
        write!(f, "{side}-{}: {database}/{user}@", pointer(self.id))?;
        match self.endpoint {
            Some(Endpoint::Tcp(address)) => match (address.ip().to_canonical(), address.port()) {
                (IpAddr::V4(ip), port) => write!(f, "{ip}:{port}"),
                (IpAddr::V6(ip), port) => write!(f, "[{ip}]:{port}"),
            },
            Some(Endpoint::Unix { port, .. }) if self.process > 0 => write!(f, "unix({}):{port}", self.process),
            Some(Endpoint::Unix { port, .. }) => write!(f, "unix:{port}"),
            None => f.write_str("(bad-af):0"),
        }
    }
}

/// The stable name of a client or backend in the shape of an address; empty for 0, which is nobody's.
#[must_use]
pub fn pointer(id: u64) -> String {
    match id {
        0 => String::new(),
        id => format!("{id:#014x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_look_like_addresses() {
        assert_eq!(pointer(0), "");
        assert_eq!(pointer(1), "0x000000000001");
        assert_eq!(pointer(u64::MAX), "0xffffffffffffffff");
    }

    #[test]
    fn parties_are_named_as_in_pgbouncer() {
        let unix = Endpoint::Unix { path: "/tmp/.s.PGSQL.6432".into(), port: 6432 };
        let tcp = |address: &str| Endpoint::Tcp(address.parse().unwrap());
        let party = Party {
            side: Side::Frontend,
            id: 42,
            database: Some("app"),
            user: Some("alice"),
            endpoint: Some(&tcp("127.0.0.1:45040")),
            process: 0,
        };
        assert_eq!(party.to_string(), "C-0x00000000002a: app/alice@127.0.0.1:45040");
        let unknown = Party { database: None, user: None, endpoint: Some(&tcp("[::ffff:10.0.0.1]:5")), ..party };
        assert_eq!(unknown.to_string(), "C-0x00000000002a: (nodb)/(nouser)@10.0.0.1:5");
        let backend = Party { side: Side::Backend, endpoint: Some(&tcp("[::1]:5432")), ..party };
        assert_eq!(backend.to_string(), "S-0x00000000002a: app/alice@[::1]:5432");
        assert_eq!(
            Party { endpoint: Some(&unix), process: 7, ..party }.to_string(),
            "C-0x00000000002a: app/alice@unix(7):6432"
        );
        assert_eq!(Party { endpoint: Some(&unix), ..party }.to_string(), "C-0x00000000002a: app/alice@unix:6432");
        let lost = Party { endpoint: None, ..backend };
        assert_eq!(lost.to_string(), "S-0x00000000002a: app/alice@(bad-af):0");
    }
}
