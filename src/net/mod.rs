//! Sockets: listeners, the stream that a session or a backend owns, addresses and their resolution.
//!
//! Knows nothing of the protocol. TLS is a part of the [`Stream`]; everything above sees only its methods.

mod clock;
mod defer;
mod dns;
mod door;
mod listen;
pub mod lookup;
mod names;
mod party;
mod pass;
mod socket;
mod stream;
pub mod tls;
mod zones;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

pub use clock::{Clock, Micros};
pub use dns::names_and_zones;
pub use listen::{Listener, Rights, bind_tcp, bind_unix, connect_unix, socket_path};
pub use names::{Answer, Lifetimes, Names, Resolve, System};
pub use party::{BOUNCER, OWN, Party, Side, pointer};
pub use pass::{MOST_DESCRIPTORS, receive_descriptors, send_descriptors};
pub use stream::{Peek, Stream};
pub use zones::{ShownZone, Soa, Zones, Zoning};

/// Where a connection leads to, before names are resolved.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// A host name or address, and a port.
    Tcp {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// A unix socket.
    Unix {
        /// Path of the socket file.
        path: PathBuf,
        /// Port in its name.
        port: u16,
    },
}

/// The address that a connection really has.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// TCP.
    Tcp(SocketAddr),
    /// The unix socket of this directory's file and port.
    Unix {
        /// Path of the socket file; empty where unknown.
        path: PathBuf,
        /// Port in its name.
        port: u16,
    },
}

impl Endpoint {
    /// The address without port; `unix` for unix sockets, as PgBouncer's console shows it.
    #[must_use]
    pub fn host(&self) -> String {
        match self {
            Endpoint::Tcp(addr) => addr.ip().to_canonical().to_string(),
            Endpoint::Unix { .. } => "unix".to_owned(),
        }
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        match self {
            Endpoint::Tcp(addr) => addr.port(),
            Endpoint::Unix { port, .. } => *port,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp(addr) => write!(f, "{addr}"),
            Endpoint::Unix { path, .. } if path.as_os_str().is_empty() => f.write_str("unix"),
            Endpoint::Unix { path, .. } => write!(f, "unix:{}", path.display()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Tcp { host, port } => write!(f, "{host}:{port}"),
            Target::Unix { path, .. } => write!(f, "unix:{}", path.display()),
        }
    }
}

/// TCP options of one connection; zero leaves the system's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketOptions {
    /// `tcp_keepalive`.
    pub keepalive: bool,
    /// `tcp_keepidle`.
    pub idle: Duration,
    /// `tcp_keepintvl`.
    pub interval: Duration,
    /// `tcp_keepcnt`.
    pub count: u32,
    /// `tcp_user_timeout`.
    pub user_timeout: Duration,
    /// `tcp_socket_buffer`, bytes.
    pub buffer: u32,
}

/// Opens a connection to exactly this address.
///
/// # Errors
/// The system's error.
pub async fn connect_to(endpoint: &Endpoint, options: &SocketOptions) -> io::Result<Stream> {
    match endpoint {
        Endpoint::Tcp(addr) => {
            let stream = TcpStream::connect(addr).await?;
            tune(&stream, options)?;
            Ok(Stream::from(stream))
        }
        Endpoint::Unix { path, .. } => Ok(Stream::from(connect_unix(path).await?)),
    }
}

/// Sets the TCP options; small messages are never delayed.
fn tune(stream: &TcpStream, options: &SocketOptions) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    if options.keepalive {
        let mut keepalive = TcpKeepalive::new();
        if !options.idle.is_zero() {
            keepalive = keepalive.with_time(options.idle);
        }
        if !options.interval.is_zero() {
            keepalive = keepalive.with_interval(options.interval);
        }
        if options.count > 0 {
            keepalive = keepalive.with_retries(options.count);
        }
        socket.set_tcp_keepalive(&keepalive)?;
    }
    if options.buffer > 0 {
        let size = usize::try_from(options.buffer).unwrap_or(usize::MAX);
        socket.set_send_buffer_size(size)?;
        socket.set_recv_buffer_size(size)?;
    }
    if !options.user_timeout.is_zero() {
        socket.set_tcp_user_timeout(Some(options.user_timeout))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_systems_buffers_have_the_size_that_was_asked_for() {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let none = Duration::ZERO;
        for (buffer, enlarged) in [(0, false), (131_072, true)] {
            let options =
                SocketOptions { keepalive: false, idle: none, interval: none, count: 0, user_timeout: none, buffer };
            let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let before = SockRef::from(&stream).send_buffer_size().unwrap();
            tune(&stream, &options).unwrap();
            // Linux doubles what is asked for.
            let now = SockRef::from(&stream).send_buffer_size().unwrap();
            assert!(if enlarged { (131_072..=262_144).contains(&now) } else { now == before }, "{before} {now}");
        }
    }
}
