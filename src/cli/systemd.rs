//! What systemd has for its services: sockets that it has opened, and a socket on which it is told how they are
//! (`sd_listen_fds(3)`, `sd_notify(3)`).

use std::io;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use listenfd::ListenFd;
use pgpool::proxy::News;

/// The sockets that were opened for this process; none without socket activation.
///
/// # Errors
/// One of them is no socket to listen on for streams.
pub(crate) fn sockets() -> io::Result<Vec<OwnedFd>> {
    let mut passed = ListenFd::from_env();
    let mut sockets = Vec::new();
    for at in 0..passed.len() {
        if let Ok(Some(tcp)) = passed.take_tcp_listener(at) {
            sockets.push(tcp.into());
        } else if let Some(unix) = passed.take_unix_listener(at)? {
            sockets.push(unix.into());
        }
    }
    Ok(sockets)
}

/// The socket of the service manager.
#[derive(Debug)]
pub(crate) struct Notify(UnixDatagram);

impl Notify {
    /// The one that the environment names, if any.
    pub(crate) fn from_environment() -> Option<Notify> {
        let name = std::env::var_os("NOTIFY_SOCKET")?;
        let address = match name.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(&name),
        };
        let socket = UnixDatagram::unbound().ok()?;
        socket.connect_addr(&address.ok()?).ok()?;
        Some(Notify(socket))
    }

    pub(crate) fn tell(&self, news: &News) {
        // A manager that does not listen is told nothing.
        let _ = message(news).map(|message| self.0.send(message.as_bytes()));
    }
}

fn message(news: &News) -> Option<String> {
    Some(match news {
        News::Ready(_) => format!("MAINPID={}\nREADY=1\nSTATUS=serving", std::process::id()),
        News::Reloading => {
            let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
            format!("RELOADING=1\nMONOTONIC_USEC={}", now.tv_sec * 1_000_000 + now.tv_nsec / 1_000)
        }
        News::Configured(_) => return None,
        News::Reloaded => "READY=1".to_owned(),
        News::Ending => "STOPPING=1\nSTATUS=serving the clients that are still there".to_owned(),
        News::Status(line) => format!("STATUS={}", line.replace('\n', " ")),
    })
}
