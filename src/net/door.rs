//! A listening socket that is about to be closed: who has begun to connect is let in, and who begins now knocks again.
//!
//! Closing a listening socket resets whoever has connected and was not accepted yet, and whoever is about to. So the system
//! is first told to drop each SYN that comes for it (a filter on the socket, `socket(7)` SO_ATTACH_FILTER). A peer sends
//! his again after a second: then it goes to another process of the same port, or nobody listens and he is refused.

use std::io;

use super::Listener;

#[cfg(any(target_os = "linux", target_os = "android"))]
mod filter {
    use socket2::SockFilter;

    /// Loads the byte with the flags of the TCP header, at which a filter's packet begins.
    const FLAGS: SockFilter = SockFilter::new(0x30, 0, 0, 13);
    /// Keeps SYN and ACK of it.
    const SYN_AND_ACK: SockFilter = SockFilter::new(0x54, 0, 0, 0x12);
    /// Goes on if it is SYN alone, else one further.
    const IF_SYN: SockFilter = SockFilter::new(0x15, 0, 1, 0x02);
    const DROP: SockFilter = SockFilter::new(0x06, 0, 0, 0);
    const PASS: SockFilter = SockFilter::new(0x06, 0, 0, u32::MAX);

    pub(super) const NO_SYN: [SockFilter; 5] = [FLAGS, SYN_AND_ACK, IF_SYN, DROP, PASS];
}

#[cfg(any(target_os = "linux", target_os = "android"))]
impl Listener {
    /// Has nobody else begin to connect by TCP. Whoever shares the socket is cut off as well.
    ///
    /// # Errors
    /// The system's.
    pub fn turn_away_newcomers(&self) -> io::Result<()> {
        match self {
            Listener::Tcp(listener) => socket2::SockRef::from(listener).attach_filter(&filter::NO_SYN),
            Listener::Unix { .. } => Ok(()),
        }
    }

    /// Takes that back. Nothing where it was not so.
    pub fn let_newcomers_in(&self) {
        if let Listener::Tcp(listener) = self {
            // It fails where there is no filter.
            let _ = socket2::SockRef::from(listener).detach_filter();
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
impl Listener {
    /// Does nothing.
    ///
    /// # Errors
    /// None.
    pub fn turn_away_newcomers(&self) -> io::Result<()> {
        Ok(())
    }

    /// Does nothing.
    pub fn let_newcomers_in(&self) {}
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::ErrorKind;
    use std::net::{SocketAddr, TcpStream};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::net::{Endpoint, bind_tcp};

    fn connect(to: SocketAddr, within: Duration) -> io::Result<TcpStream> {
        TcpStream::connect_timeout(&to, within)
    }

    fn address(listener: &Listener) -> Option<SocketAddr> {
        match listener.endpoint() {
            Some(Endpoint::Tcp(address)) => Some(address),
            Some(Endpoint::Unix { .. }) | None => None,
        }
    }

    async fn accepts(listener: &Listener) -> Option<SocketAddr> {
        match listener {
            Listener::Tcp(listener) => listener.accept().await.ok().map(|(_, peer)| peer),
            Listener::Unix { .. } => None,
        }
    }

    #[tokio::test]
    async fn who_has_connected_is_let_in_and_who_comes_later_knocks_again() {
        for loopback in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = bind_tcp(loopback.parse().unwrap(), 8, true) else { continue };
            let to = address(&listener).unwrap();
            let early = connect(to, Duration::from_secs(5)).unwrap();
            match listener.turn_away_newcomers() {
                // Some systems keep filters from ordinary users.
                Err(error) if error.kind() == ErrorKind::PermissionDenied => return,
                told => told.unwrap(),
            }
            let late = connect(to, Duration::from_millis(200)).unwrap_err();
            assert_eq!(late.kind(), ErrorKind::TimedOut);
            assert_eq!(accepts(&listener).await, Some(early.local_addr().unwrap()));
            // It is the other process that the second knock comes to.
            let begun = Instant::now();
            let knocking = std::thread::spawn(move || connect(to, Duration::from_secs(10)));
            std::thread::sleep(Duration::from_millis(200));
            let other = bind_tcp(to, 8, true).unwrap();
            drop(listener);
            let knocked = knocking.join().unwrap().unwrap();
            assert!(begun.elapsed() > Duration::from_millis(500), "{:?}", begun.elapsed());
            assert_eq!(accepts(&other).await, Some(knocked.local_addr().unwrap()));
            other.turn_away_newcomers().unwrap();
            other.let_newcomers_in();
            other.let_newcomers_in();
            connect(to, Duration::from_secs(5)).unwrap();
        }
    }
}
