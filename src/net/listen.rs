//! Listening sockets: TCP addresses and unix sockets, our own and those that another process passed on.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use nix::unistd::Group;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::{Endpoint, SocketOptions, Stream, tune};

/// What the names of unix sockets begin with; the port follows.
const PREFIX: &str = ".s.PGSQL.";

/// A listening socket. A unix socket's file is removed when it is dropped, unless it was given away or is another one by
/// now.
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
        /// Which file it was when the socket was opened or adopted.
        file: Option<FileId>,
        /// Somebody else answers for the file.
        given_away: AtomicBool,
    },
}

/// What makes a file this one: another of the same name has another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    fn of(path: &Path) -> Option<FileId> {
        let found = fs::symlink_metadata(path).ok()?;
        Some(FileId { device: found.dev(), inode: found.ino() })
    }
}

/// Who may use a unix socket's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    /// Permission bits.
    pub mode: u32,
    /// Group, by name or number; empty: that of the process.
    pub group: String,
}

impl Rights {
    /// For this user alone.
    #[must_use]
    pub fn own() -> Rights {
        Rights { mode: 0o600, group: String::new() }
    }
}

impl Listener {
    /// A listening socket that another process has opened.
    ///
    /// # Errors
    /// The system's error; `InvalidInput` for what is no socket to listen on.
    pub fn adopt(descriptor: OwnedFd) -> io::Result<Listener> {
        let socket = Socket::from(descriptor);
        if !socket.is_listener()? {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the socket does not listen"));
        }
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        if address.is_unix() {
            let path = unix_path(&address)
                .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the unix socket has no name"))?;
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let port = name.strip_prefix(PREFIX).and_then(|port| port.parse().ok()).unwrap_or(0);
            let listener = UnixListener::from_std(socket.into())?;
            let file = FileId::of(&path);
            return Ok(Listener::Unix { listener, path, port, file, given_away: AtomicBool::new(false) });
        }
        Ok(Listener::Tcp(TcpListener::from_std(socket.into())?))
    }

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

    /// A connection that waits already, asked of the system itself: the runtime may not know of it yet.
    ///
    /// # Errors
    /// The system's error.
    pub fn take_waiting(&self, options: &SocketOptions) -> io::Result<Option<(Stream, Endpoint)>> {
        let listening = match self {
            Listener::Tcp(listener) => SockRef::from(listener),
            Listener::Unix { listener, .. } => SockRef::from(listener),
        };
        let (socket, peer) = match listening.accept() {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        socket.set_nonblocking(true)?;
        Ok(Some(match (self, peer.as_socket()) {
            (Listener::Unix { port, .. }, _) => {
                let endpoint = Endpoint::Unix { path: PathBuf::new(), port: *port };
                (Stream::from(UnixStream::from_std(socket.into())?), endpoint)
            }
            (Listener::Tcp(_), Some(addr)) => {
                let stream = TcpStream::from_std(socket.into())?;
                tune(&stream, options)?;
                (Stream::from(stream), Endpoint::Tcp(addr))
            }
            (Listener::Tcp(_), None) => return Err(io::ErrorKind::InvalidData.into()),
        }))
    }

    /// The next connection to a unix socket, for other than clients; none to TCP.
    ///
    /// Cancel safety: safe.
    ///
    /// # Errors
    /// The system's error.
    pub async fn accept_local(&self) -> io::Result<UnixStream> {
        match self {
            Listener::Tcp(_) => Err(io::ErrorKind::Unsupported.into()),
            Listener::Unix { listener, .. } => Ok(listener.accept().await?.0),
        }
    }

    /// Whether somebody else answers for the socket.
    #[must_use]
    pub fn is_given_away(&self) -> bool {
        matches!(self, Listener::Unix { given_away, .. } if given_away.load(Relaxed))
    }

    /// Whether a unix socket's file is this process's to remove: nobody else answers for it, and nobody has put another
    /// in its place.
    #[must_use]
    pub fn owns_file(&self) -> bool {
        let Listener::Unix { path, file, given_away, .. } = self else { return false };
        !given_away.load(Relaxed) && !is_abstract(path) && file.is_some() && *file == FileId::of(path)
    }

    /// Whether it is the unix socket of this file, whichever way leads to its directory.
    #[must_use]
    pub fn is_file(&self, file: &Path) -> bool {
        let Listener::Unix { path, .. } = self else { return false };
        let place = |path: &Path| Some((fs::canonicalize(path.parent()?).ok()?, path.file_name()?.to_owned()));
        path == file || (!is_abstract(file) && place(path).is_some_and(|own| Some(own) == place(file)))
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

    /// Says whether somebody else answers for a unix socket's file.
    pub fn set_given_away(&self, given: bool) {
        if let Listener::Unix { given_away, .. } = self {
            given_away.store(given, Relaxed);
        }
    }

    /// The address that it listens on, with the port that the system chose where 0 was asked for.
    #[must_use]
    pub fn endpoint(&self) -> Option<Endpoint> {
        match self {
            Listener::Tcp(listener) => listener.local_addr().ok().map(Endpoint::Tcp),
            Listener::Unix { path, port, .. } => Some(Endpoint::Unix { path: path.clone(), port: *port }),
        }
    }

    /// Whether it listens on that TCP address, or on a port of the system's choice where that is asked for.
    #[must_use]
    pub fn is_at(&self, addr: SocketAddr) -> bool {
        let Some(Endpoint::Tcp(mut own)) = self.endpoint() else { return false };
        if addr.port() == 0 {
            own.set_port(0);
        }
        own == addr
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Listener::Tcp(listener) => listener.as_fd(),
            Listener::Unix { listener, .. } => listener.as_fd(),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if self.owns_file()
            && let Listener::Unix { path, .. } = self
        {
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

/// The unix socket of a port in a directory. A directory that begins with `@` means a name without a file.
#[must_use]
pub fn socket_path(dir: &Path, port: u16) -> PathBuf {
    dir.join(format!("{PREFIX}{port}"))
}

/// Listens on a unix socket. A file that a dead process left behind is replaced, a live one's is not.
///
/// # Errors
/// The system's error; `AddrInUse` when somebody answers there, `InvalidInput` where it is the group that cannot be had.
pub fn bind_unix(path: &Path, port: u16, rights: &Rights, backlog: u32) -> io::Result<Listener> {
    let address = unix_address(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    if !is_abstract(path) && path.exists() {
        if Socket::new(Domain::UNIX, Type::STREAM, None)?.connect(&address).is_ok() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        fs::remove_file(path)?;
    }
    socket.bind(&address)?;
    if !is_abstract(path)
        && let Err(error) = grant(path, rights)
    {
        let _ = fs::remove_file(path);
        return Err(error);
    }
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    // Only now: a socket that does not listen is one whose peer has gone, to the runtime, and stays so.
    let listener = UnixListener::from_std(socket.into())?;
    let file = FileId::of(path);
    Ok(Listener::Unix { listener, path: path.to_path_buf(), port, file, given_away: AtomicBool::new(false) })
}

fn grant(path: &Path, rights: &Rights) -> io::Result<()> {
    if !rights.group.is_empty() {
        // Told from what is wrong with the directory.
        let wrong = |error| io::Error::new(io::ErrorKind::InvalidInput, error);
        chown(path, None, Some(group_id(&rights.group).map_err(wrong)?)).map_err(wrong)?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(rights.mode))
}

/// Connects to a unix socket, be it a file's or one without.
///
/// # Errors
/// The system's error.
pub async fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    if !is_abstract(path) {
        return UnixStream::connect(path).await;
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Nothing is waited for but a place in the backlog.
    socket.connect(&unix_address(path)?)?;
    socket.set_nonblocking(true)?;
    UnixStream::from_std(socket.into())
}

/// Whether a socket of this name has no file: PostgreSQL and libpq write its leading zero byte as `@`.
fn is_abstract(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().first() == Some(&b'@')
}

fn unix_address(path: &Path) -> io::Result<SockAddr> {
    match path.to_str().and_then(|text| text.strip_prefix('@')) {
        Some(name) => SockAddr::unix(format!("\0{name}")),
        None => SockAddr::unix(path),
    }
}

fn unix_path(address: &SockAddr) -> Option<PathBuf> {
    if let Some(path) = address.as_pathname() {
        return Some(path.to_path_buf());
    }
    let name = std::str::from_utf8(address.as_abstract_namespace()?).ok()?;
    Some(PathBuf::from(format!("@{name}")))
}

fn group_id(group: &str) -> io::Result<u32> {
    if let Ok(id) = group.parse() {
        return Ok(id);
    }
    let known = Group::from_name(group)?.map(|known| known.gid.as_raw());
    known.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("there is no group \"{group}\"")))
}
