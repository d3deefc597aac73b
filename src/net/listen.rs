//! Listening sockets: TCP addresses and unix sockets.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use nix::unistd::Group;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UnixListener};

use super::{Endpoint, SocketOptions, Stream, tune};

/// A listening socket. A unix socket's file is removed when it is dropped.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// Unix domain.
    Unix {
        /// The socket.
        listener: UnixListener,
        /// Its file.
        path: PathBuf,
        /// The port in the file's name.
        port: u16,
    },
}

/// Who may use a unix socket's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    /// Permission bits.
    pub mode: u32,
    /// Group, by name or number; empty: that of the process.
    pub group: String,
}

impl Listener {
    /// The next connection.
    ///
    /// Cancel safety: safe; no connection is lost.
    ///
    /// # Errors
    /// The system's error; running out of descriptors is one of them.
    pub async fn accept(&self, options: &SocketOptions) -> io::Result<(Stream, Endpoint)> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, addr) = listener.accept().await?;
                tune(&stream, options)?;
                Ok((Stream::from(stream), Endpoint::Tcp(addr)))
            }
            Listener::Unix { listener, port, .. } => {
                let (stream, _) = listener.accept().await?;
                Ok((Stream::from(stream), Endpoint::Unix { path: PathBuf::new(), port: *port }))
            }
        }
    }

    /// The file of a unix socket.
    #[must_use]
    pub fn file(&self) -> Option<PathBuf> {
        match self {
            Listener::Tcp(_) => None,
            Listener::Unix { path, .. } => Some(path.clone()),
        }
    }

    /// The number of its file descriptor, to be shown.
    #[must_use]
    pub fn descriptor(&self) -> u32 {
        let descriptor = match self {
            Listener::Tcp(listener) => listener.as_raw_fd(),
            Listener::Unix { listener, .. } => listener.as_raw_fd(),
        };
        u32::try_from(descriptor).unwrap_or(0)
    }

    /// The address that it listens on, with the port that the system chose where 0 was asked for.
    #[must_use]
    pub fn endpoint(&self) -> Option<Endpoint> {
        match self {
            Listener::Tcp(listener) => listener.local_addr().ok().map(Endpoint::Tcp),
            Listener::Unix { path, port, .. } => Some(Endpoint::Unix { path: path.clone(), port: *port }),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Listener::Unix { path, .. } = self {
            // It may be gone already; nothing depends on it.
            let _ = fs::remove_file(path);
        }
    }
}

/// Listens on a TCP address, of which other processes may have a share.
///
/// # Errors
/// The system's error: address in use, not ours, no permission.
pub fn bind_tcp(addr: SocketAddr, backlog: u32, shared: bool) -> io::Result<Listener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(Listener::Tcp(TcpListener::from_std(socket.into())?))
}

/// Listens on `DIR/.s.PGSQL.PORT`. A file that a dead process left behind is replaced, a live one's is not.
///
/// # Errors
/// The system's error; `AddrInUse` when somebody answers there.
pub fn bind_unix(dir: &Path, port: u16, rights: &Rights, backlog: u32) -> io::Result<Listener> {
    let path = dir.join(format!(".s.PGSQL.{port}"));
    if path.exists() {
        if std::os::unix::net::UnixStream::connect(&path).is_ok() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        fs::remove_file(&path)?;
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&socket2::SockAddr::unix(&path)?)?;
    if !rights.group.is_empty() {
        chown(&path, None, Some(group_id(&rights.group)?))?;
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(rights.mode))?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    let listener = UnixListener::from_std(socket.into())?;
    Ok(Listener::Unix { listener, path, port })
}

fn group_id(group: &str) -> io::Result<u32> {
    if let Ok(id) = group.parse() {
        return Ok(id);
    }
    let known = Group::from_name(group)?.map(|known| known.gid.as_raw());
    known.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("there is no group \"{group}\"")))
}
