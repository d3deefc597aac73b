//! Online restart: a new process takes the listening sockets over from the one that runs.
//!
//! The two talk over a Unix socket beside that for clients, for the same system user only. The new one asks when its
//! configuration is known to be good and says when it serves; only then the old one stops to accept, and serves the
//! clients that it has. Both have the same sockets meanwhile, so no connection is refused or lost in between; and where
//! the new one fails the old one has changed nothing. Cancel requests come to the new process from then on: those whose
//! keys it does not know it passes on to the sockets of those before it.
//!
//! A process whose end has begun gives what it still has: not its TCP sockets, which it is closing. One that cannot be
//! taken over from says why, and the new one does not start.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

use super::Proxy;
use crate::admin::Shutdown;
use crate::config::General;
use crate::net::{Listener, Rights, bind_unix, connect_unix, receive_descriptors, send_descriptors, socket_path};

const ASK: &[u8] = b"pgpool takeover 1\n";
const READY: &[u8] = b"ready\n";
/// Last line of what the old process says when it accepts nobody any more.
const DONE: &str = "done\n";
/// What a line before that begins with; the name of a database follows.
const DISABLED: &str = "disabled ";
/// Last line of the answer.
const END: &str = "end\n";
/// What the line begins with that stands in its place where the process does not hand over; the reason follows.
const REFUSED: &str = "refused ";
/// Longest answer: a path for each process that still serves clients.
const LONGEST: usize = 64 << 10;
/// How long either side waits for the other's next words.
const PATIENCE: Duration = Duration::from_secs(20);
const BACKLOG: u32 = 64;
/// How often it is looked whether sockets are closed.
const LOOK: Duration = Duration::from_millis(10);

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
    /// It says that it cannot be taken over from now.
    #[error("the process at {} does not hand over: {why}", path.display())]
    Refused {
        /// Where it listens.
        path: PathBuf,
        /// Its words.
        why: String,
    },
    /// Somebody listens for clients, and nobody for those who take over.
    #[error(
        "a process listens at {} and takes no questions at {}: it is no pgpool, or its file was removed; stop it, and \
         start without -R",
        clients.display(), path.display()
    )]
    Deaf {
        /// Where it listens for clients.
        clients: PathBuf,
        /// Where it should be asked.
        path: PathBuf,
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

/// Asks the process that runs, if there is one. `passed`: somebody else has opened the sockets for clients, so that one
/// to which can be connected proves nothing.
///
/// # Errors
/// There is one that cannot be taken over from.
pub(super) async fn ask(general: &General, passed: bool) -> Result<Option<Estate>, TakeoverError> {
    let Some(path) = control_path(general) else { return Ok(None) };
    let Ok(stream) = connect_unix(&path).await else {
        let clients = socket_path(general.unix_socket_dir.as_deref().unwrap_or(Path::new("")), general.listen_port);
        return match connect_unix(&clients).await {
            Ok(_) if !passed => Err(TakeoverError::Deaf { clients, path }),
            _ => Ok(None),
        };
    };
    let talk = |source| TakeoverError::Talk { path: path.clone(), source };
    if let Some(uid) = stranger(&stream).map_err(talk)? {
        return Err(TakeoverError::Stranger { path, uid });
    }
    let (mut bytes, mut descriptors) = (Vec::new(), Vec::new());
    let talked = timeout(PATIENCE, async {
        send_descriptors(&stream, ASK, &[]).await?;
        while !ends_with_line(&bytes, END) && bytes.len() < LONGEST {
            if !receive_descriptors(&stream, &mut bytes, &mut descriptors).await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    });
    talked.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(talk)?;
    if let Some(why) = read_refusal(&bytes) {
        return Err(TakeoverError::Refused { path, why });
    }
    let Some((pid, elders)) = read_answer(&bytes) else { return Err(TakeoverError::Strange(path)) };
    let listeners: io::Result<Vec<_>> = descriptors.into_iter().map(Listener::adopt).collect();
    let listeners = listeners.map_err(talk)?;
    // Until the other one has been told, the files are its own.
    listeners.iter().for_each(|listener| listener.set_given_away(true));
    Ok(Some(Estate { stream, path, pid, listeners, elders }))
}

impl Estate {
    /// Tells the other process that this one is ready to serve, and waits until that has stopped to accept. Answers which
    /// databases were disabled there.
    ///
    /// # Errors
    /// `Refused`: it goes on, and this one must not start. Else it did not answer, so most likely it has gone.
    pub(super) async fn settle(self) -> Result<Vec<String>, TakeoverError> {
        let Estate { stream, path, .. } = self;
        let (mut bytes, mut descriptors) = (Vec::new(), Vec::new());
        let talked = timeout(PATIENCE, async {
            // It may have said already that it is too late.
            let sent = send_descriptors(&stream, READY, &[]).await;
            while !ends_with_line(&bytes, DONE) && !ends_with_line(&bytes, END) {
                if !receive_descriptors(&stream, &mut bytes, &mut descriptors).await? {
                    return Err(sent.err().unwrap_or(io::ErrorKind::UnexpectedEof.into()));
                }
            }
            Ok(())
        });
        let talked = talked.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        match (read_refusal(&bytes), talked) {
            (Some(why), _) => Err(TakeoverError::Refused { path, why }),
            (None, talked) => {
                talked.map_err(|source| TakeoverError::Talk { path, source })?;
                Ok(read_disabled(&bytes))
            }
        }
    }
}

/// The other side's user, if it is neither our own nor root.
fn stranger(stream: &UnixStream) -> io::Result<Option<u32>> {
    let uid = stream.peer_cred()?.uid();
    Ok((uid != 0 && uid != nix::unistd::geteuid().as_raw()).then_some(uid))
}

/// Whether this line is the last one.
fn ends_with_line(bytes: &[u8], line: &str) -> bool {
    bytes.strip_suffix(line.as_bytes()).is_some_and(|rest| rest.is_empty() || rest.ends_with(b"\n"))
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

/// The last words of a process that has handed over.
fn done(disabled: &[String]) -> String {
    let mut text = String::new();
    for name in disabled {
        text.push_str(&format!("{DISABLED}{}\n", name.replace('\\', "\\\\").replace('\n', "\\n")));
    }
    text + DONE
}

fn read_disabled(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let name = |written: &str| {
        let mut name = String::with_capacity(written.len());
        let mut rest = written.chars();
        while let Some(character) = rest.next() {
            name.extend(match character {
                '\\' => rest.next().map(|escaped| if escaped == 'n' { '\n' } else { escaped }),
                other => Some(other),
            });
        }
        name
    };
    text.lines().filter_map(|line| line.strip_prefix(DISABLED).map(name)).collect()
}

fn refusal(why: &str) -> String {
    format!("{REFUSED}{why}\n{END}")
}

fn read_refusal(bytes: &[u8]) -> Option<String> {
    let line = std::str::from_utf8(bytes).ok()?.strip_suffix(END)?.strip_suffix('\n')?;
    line.strip_prefix(REFUSED).map(str::to_owned)
}

impl Proxy {
    /// Whether another process has the listening sockets.
    pub(super) fn is_handed_over(&self) -> bool {
        *self.handed_over.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why no other process may take over now, in words for whoever started that; one line.
    fn obstacle(&self) -> Option<String> {
        if self.is_over.load(Relaxed) || self.ending_now() == Some(Shutdown::Now) {
            return Some("it is just ending; start again when it has".to_owned());
        }
        let (pools, pid) = (&self.pools, std::process::id());
        // The new one would serve in the middle of somebody's maintenance.
        if pools.is_suspended() {
            return Some(format!("everything is suspended there; say RESUME first, or send SIGUSR2 to {pid}"));
        }
        if pools.all_paused() && !self.paused_by_end.load(Relaxed) {
            return Some(format!("everything is paused there; say RESUME first, or send SIGUSR2 to {pid}"));
        }
        let paused = pools.paused_databases().into_iter().next();
        paused.map(|name| format!("the database {name:?} is paused there; say RESUME {name:?} first"))
    }

    /// Leaves the sockets to the other process, unless something is in the way.
    fn hand_over<'a>(&self, given: impl Iterator<Item = &'a Arc<Listener>>) -> Result<(), String> {
        let mut handed_over = self.handed_over.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(obstacle) = self.obstacle() {
            return Err(obstacle);
        }
        given.for_each(|listener| listener.set_given_away(true));
        *handed_over = true;
        drop(handed_over);
        self.end(Shutdown::TakenOver);
        Ok(())
    }
}

/// What a process gives away.
pub(super) struct Giver {
    pub(super) control: Arc<Listener>,
    /// For clients. Those that are closed are no more.
    pub(super) clients: Vec<Weak<Listener>>,
    /// Of the HTTP server.
    pub(super) http: Vec<Weak<Listener>>,
}

impl Giver {
    /// Waits for a process that takes over, and answers with the socket at which this one takes cancel requests then.
    /// Whoever asks and does not get as far changes nothing.
    pub(super) async fn serve(&self, proxy: &Proxy) -> Listener {
        loop {
            let (asked, stream) = match self.control.accept_local().await {
                Ok(stream) => (timeout(PATIENCE * 2, self.give(&stream, proxy)).await, stream),
                Err(error) => {
                    tracing::error!(%error, "cannot accept at the socket for takeovers, pausing");
                    sleep(Duration::from_secs(1)).await;
                    continue;
                }
            };
            match asked {
                Ok(Ok(cancels)) => return cancels,
                Ok(Err(error)) => tracing::warn!(%error, "another process did not take over; this one goes on"),
                Err(_) => {
                    let error = refuse(&stream, "it was not told in time that the new one is ready").await;
                    tracing::warn!(%error, "another process did not take over; this one goes on");
                }
            }
        }
    }

    /// What is there to be given. The TCP sockets of a process that ends are about to be closed.
    fn present(&self, ends: bool) -> Vec<Arc<Listener>> {
        let clients = self.clients.iter().filter_map(Weak::upgrade);
        let clients = clients.filter(|listener| !ends || listener.file().is_some());
        clients.chain(self.http.iter().filter_map(Weak::upgrade)).chain([Arc::clone(&self.control)]).collect()
    }

    async fn give(&self, stream: &UnixStream, proxy: &Proxy) -> io::Result<Listener> {
        if let Some(uid) = stranger(stream)? {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("it runs as system user {uid}")));
        }
        expect(stream, ASK).await?;
        if let Some(obstacle) = proxy.obstacle() {
            return Err(refuse(stream, &obstacle).await);
        }
        while proxy.ending_now().is_some() && proxy.doors.load(Relaxed) > 0 {
            // The other one opens their addresses anew.
            sleep(LOOK).await;
        }
        let mut path = self.control.file().unwrap_or_default().into_os_string();
        path.push(format!(".{}", std::process::id()));
        let cancels = bind_unix(Path::new(&path), 0, &Rights::own(), BACKLOG)?;
        let elders = proxy.elders();
        let own = cancels.file();
        let text = answer(own.iter().chain(&elders).map(PathBuf::as_path));
        {
            let given = self.present(proxy.ending_now().is_some());
            let descriptors: Vec<_> = given.iter().map(|listener| listener.as_fd()).collect();
            send_descriptors(stream, text.as_bytes(), &descriptors).await?;
        }
        expect(stream, READY).await?;
        if let Err(obstacle) = proxy.hand_over(self.present(false).iter()) {
            return Err(refuse(stream, &obstacle).await);
        }
        // It serves already.
        let _ = send_descriptors(stream, done(&proxy.pools.disabled_databases()).as_bytes(), &[]).await;
        Ok(cancels)
    }
}

/// Tells the other process why it does not get the sockets; answers the same as an error.
async fn refuse(stream: &UnixStream, why: &str) -> io::Error {
    // Where it has gone there is nobody to be told.
    let _ = timeout(PATIENCE, send_descriptors(stream, refusal(why).as_bytes(), &[])).await;
    io::Error::other(why.to_owned())
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
            assert_eq!(read_refusal(wrong.as_bytes()), None, "{wrong}");
        }
        let names = ["a", "line\nand \\n", ""].map(str::to_owned);
        let text = done(&names);
        assert!(ends_with_line(text.as_bytes(), DONE) && !ends_with_line(b"disabled abandone\n", DONE));
        assert_eq!(read_disabled(text.as_bytes()), names);
        let text = refusal("it rests");
        assert_eq!(read_refusal(text.as_bytes()).as_deref(), Some("it rests"));
        assert_eq!(read_answer(text.as_bytes()), None);
    }
}
