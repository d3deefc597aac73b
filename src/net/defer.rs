//! `TCP_DEFER_ACCEPT` of a listening socket: who has connected is accepted when he says something.
//!
//! Source: `tcp(7)`. It is there on Linux only, as in PgBouncer.

use std::io;

use super::Listener;

#[cfg(target_os = "linux")]
mod option {
    use nix::{getsockopt_impl, libc, setsockopt_impl, sockopt_impl};

    sockopt_impl!(
        /// Seconds for which the system keeps a silent connection to itself; 0 = not at all.
        DeferAccept,
        Both,
        libc::IPPROTO_TCP,
        libc::TCP_DEFER_ACCEPT,
        u32
    );
}

#[cfg(target_os = "linux")]
impl Listener {
    /// Says whether the system keeps silent connections to itself, for 45 seconds as in PgBouncer. There is nothing to
    /// say of a unix socket.
    ///
    /// # Errors
    /// The system's.
    pub fn defer(&self, on: bool) -> io::Result<()> {
        match self {
            Listener::Tcp(listener) => {
                let seconds = if on { 45 } else { 0 };
                Ok(nix::sys::socket::setsockopt(listener, option::DeferAccept, &seconds)?)
            }
            Listener::Unix { .. } => Ok(()),
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl Listener {
    /// Does nothing.
    ///
    /// # Errors
    /// None.
    pub fn defer(&self, _: bool) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::net::bind_tcp;

    #[tokio::test]
    async fn the_system_is_told() {
        let listener = bind_tcp(([127, 0, 0, 1], 0).into(), 8, false).unwrap();
        let told = || match &listener {
            Listener::Tcp(listener) => nix::sys::socket::getsockopt(listener, option::DeferAccept).unwrap(),
            Listener::Unix { .. } => 0,
        };
        assert_eq!(told(), 0);
        listener.defer(true).unwrap();
        // The system counts in the times at which it asks again.
        assert!((30..=90).contains(&told()), "{}", told());
        listener.defer(false).unwrap();
        assert_eq!(told(), 0);
    }
}
