//! Online restart: a new process takes the listening sockets over from the one that runs.
//!
//! The two talk over a Unix socket beside that for clients, for the same system user only. The new one asks when its
//! configuration is known to be good and says when it serves; only then the old one stops to accept, and serves the
//! clients that it has. Both have the same sockets meanwhile, so no connection is refused or lost in between; and where
//! the new one fails the old one has changed nothing. Cancel requests come to the new process from then on: those whose
//! keys it does not know it passes on to the sockets of those before it.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::timeout;

use super::Proxy;
use crate::admin::Shutdown;
use crate::config::General;
use crate::net::{Listener, Rights, bind_unix, connect_unix, receive_descriptors, send_descriptors, socket_path};

const ASK: &[u8] = b"pgpool takeover 1\n";
const READY: &[u8] = b"ready\n";
const DONE: &[u8] = b"done\n";
/// Last line of the answer.
const END: &str = "end\n";
/// Longest answer: a path for each process that still serves clients.
const LONGEST: usize = 64 << 10;
/// How long either side waits for the other's next words.
const PATIENCE: Duration = Duration::from_secs(20);
const BACKLOG: u32 = 64;

/// Why the sockets cannot be taken over.
#[derive(Debug, thiserror::Error)]
pub enum TakeoverError {
    /// The other process does not answer.
    #[error("the process at {} does not answer: {source}", path.display())]
    Talk {
        /// Where it listens.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// It belongs to somebody else.
    #[error("the process at {} runs as another system user ({uid})", path.display())]
    Stranger {
        /// Where it listens.
        path: PathBuf,
        /// Its user.
        uid: u32,
    },
    /// It is no pgpool, or of a version that talks otherwise.
    #[error("the process at {} does not understand: it may be another version", .0.display())]
    Strange(PathBuf),
}

/// What the process that runs has to give.
#[derive(Debug)]
pub(super) struct Estate {
    stream: UnixStream,
    path: PathBuf,
    /// Its process id.
    pub(super) pid: u32,
    pub(super) listeners: Vec<Listener>,
    /// Where it and those before it take cancel requests.
    pub(super) elders: Vec<PathBuf>,
}

/// The socket at which a process is asked for its listening sockets; none without a directory.
pub(super) fn control_path(general: &General) -> Option<PathBuf> {
    let mut path = socket_path(general.unix_socket_dir.as_deref()?, general.listen_port).into_os_string();
    path.push(".takeover");
    Some(path.into())
}

/// Asks the process that runs, if there is one.
///
/// # Errors
/// There is one that cannot be taken over from.
pub(super) async fn ask(general: &General) -> Result<Option<Estate>, TakeoverError> {
    let Some(path) = control_path(general) else { return Ok(None) };
    let Ok(stream) = connect_unix(&path).await else { return Ok(None) };
    let talk = |source| TakeoverError::Talk { path: path.clone(), source };
    if let Some(uid) = stranger(&stream).map_err(talk)? {
        return Err(TakeoverError::Stranger { path, uid });
    }
    let (mut bytes, mut descriptors) = (Vec::new(), Vec::new());
    let talked = timeout(PATIENCE, async {
        send_descriptors(&stream, ASK, &[]).await?;
        while !bytes.ends_with(END.as_bytes()) && bytes.len() < LONGEST {
            if !receive_descriptors(&stream, &mut bytes, &mut descriptors).await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    });
    talked.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(talk)?;
    let Some((pid, elders)) = read_answer(&bytes) else { return Err(TakeoverError::Strange(path)) };
    let listeners: io::Result<Vec<_>> = descriptors.into_iter().map(Listener::adopt).collect();
    let listeners = listeners.map_err(talk)?;
    // Until the other one has been told, the files are its own.
    listeners.iter().for_each(|listener| listener.set_given_away(true));
    Ok(Some(Estate { stream, path, pid, listeners, elders }))
}

impl Estate {
    /// Tells the other process that this one serves, and waits until it has stopped to accept.
    ///
    /// # Errors
    /// It did not answer; then it may go on accepting.
    pub(super) async fn settle(self) -> Result<(), TakeoverError> {
        let Estate { stream, path, .. } = self;
        let (mut bytes, mut descriptors) = (Vec::new(), Vec::new());
        let talked = timeout(PATIENCE, async {
            send_descriptors(&stream, READY, &[]).await?;
            while bytes.len() < DONE.len() && receive_descriptors(&stream, &mut bytes, &mut descriptors).await? {}
            if bytes == DONE { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
        });
        let talked = talked.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        talked.map_err(|source| TakeoverError::Talk { path, source })
    }
}

/// The other side's user, if it is neither our own nor root.
fn stranger(stream: &UnixStream) -> io::Result<Option<u32>> {
    let uid = stream.peer_cred()?.uid();
    Ok((uid != 0 && uid != nix::unistd::geteuid().as_raw()).then_some(uid))
}

fn answer<'a>(elders: impl Iterator<Item = &'a Path>) -> String {
    let mut text = format!("pgpool 1 {}\n", std::process::id());
    for elder in elders {
        text.push_str(&format!("elder {}\n", elder.display()));
    }
    text + END
}

fn read_answer(bytes: &[u8]) -> Option<(u32, Vec<PathBuf>)> {
    let text = std::str::from_utf8(bytes).ok()?.strip_suffix(END)?;
    let mut lines = text.lines();
    let pid = lines.next()?.strip_prefix("pgpool 1 ")?.parse().ok()?;
    let elders: Option<Vec<_>> = lines.map(|line| line.strip_prefix("elder ").map(PathBuf::from)).collect();
    Some((pid, elders?))
}

/// What a process gives away.
pub(super) struct Giver {
    pub(super) control: Arc<Listener>,
    pub(super) listeners: Vec<Arc<Listener>>,
}

impl Giver {
    /// Waits for a process that takes over, and answers with the socket at which this one takes cancel requests then.
    /// Whoever asks and does not get as far changes nothing.
    pub(super) async fn serve(&self, proxy: &Proxy) -> Listener {
        loop {
            let asked = match self.control.accept_local().await {
                Ok(stream) => timeout(PATIENCE * 2, self.give(&stream, proxy)).await,
                Err(error) => {
                    tracing::error!(%error, "cannot accept at the socket for takeovers, pausing");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
            };
            match asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(cancels) => return cancels,
                Err(error) => tracing::warn!(%error, "another process did not take over; this one goes on"),
            }
        }
    }

    async fn give(&self, stream: &UnixStream, proxy: &Proxy) -> io::Result<Listener> {
        if let Some(uid) = stranger(stream)? {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("it runs as system user {uid}")));
        }
        expect(stream, ASK).await?;
        let mut path = self.control.file().unwrap_or_default().into_os_string();
        path.push(format!(".{}", std::process::id()));
        let cancels = bind_unix(Path::new(&path), 0, &Rights::own(), BACKLOG)?;
        let elders = proxy.elders();
        let own = cancels.file();
        let text = answer(own.iter().chain(&elders).map(PathBuf::as_path));
        let all = self.listeners.iter().chain([&self.control]);
        let descriptors: Vec<_> = all.map(|listener| listener.as_fd()).collect();
        send_descriptors(stream, text.as_bytes(), &descriptors).await?;
        expect(stream, READY).await?;
        for listener in self.listeners.iter().chain([&self.control]) {
            listener.set_given_away(true);
        }
        proxy.end(Shutdown::TakenOver);
        // It serves already.
        let _ = send_descriptors(stream, DONE, &[]).await;
        Ok(cancels)
    }
}

async fn expect(stream: &UnixStream, words: &[u8]) -> io::Result<()> {
    let (mut bytes, mut descriptors) = (Vec::new(), Vec::new());
    while bytes.len() < words.len() && receive_descriptors(stream, &mut bytes, &mut descriptors).await? {}
    if bytes == words { Ok(()) } else { Err(io::Error::new(io::ErrorKind::InvalidData, "unexpected words")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_as_it_was_written() {
        let elders = [PathBuf::from("/tmp/a b"), PathBuf::from("@x/.s.PGSQL.1.takeover.7")];
        let text = answer(elders.iter().map(PathBuf::as_path));
        assert_eq!(read_answer(text.as_bytes()), Some((std::process::id(), elders.to_vec())));
        for wrong in
            ["", "end\n", "pgpool 2 7\nend\n", "pgpool 1 x\nend\n", "pgpool 1 7\nother x\nend\n", "pgpool 1 7\n"]
        {
            assert_eq!(read_answer(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
