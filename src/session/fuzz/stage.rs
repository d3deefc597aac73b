//! What the fuzzer runs on: a pool in front of a socket of its own, and the tasks, each polled when it was woken and not
//! else, so that one that forgets its waker stands still.

use std::future::Future;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};

use crate::config::Config;
use crate::net::{Endpoint, Stream};
use crate::pool::{ClientIdentity, ClientRecord, Pool, Pools};
use crate::session::{End, House, Session, Workspaces};
use crate::wire::startup::Replication;

/// Says that a task is to be polled.
struct Flag {
    raised: AtomicBool,
    /// Who polls.
    outer: Waker,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.raised.store(true, Relaxed);
        self.outer.wake_by_ref();
    }
}

struct Task {
    flag: Arc<Flag>,
    future: Pin<Box<dyn Future<Output = End> + Send>>,
}

/// The pool with its tasks.
pub(super) struct Stage {
    pub(super) listener: UnixListener,
    pub(super) pools: Arc<Pools>,
    pub(super) pool: Arc<Pool>,
    house: House,
    connector: Task,
    sessions: Vec<Task>,
    outer: Waker,
}

impl Stage {
    /// A pool with these settings that finds PostgreSQL in `dir`.
    pub(super) fn open(dir: &Path, settings: &str, outer: &Waker) -> Option<Stage> {
        let path = dir.join(".s.PGSQL.5432");
        // Of the run before.
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).ok()?;
        listener.set_nonblocking(true).ok()?;
        let text = format!("[pgpool]\nauth_type=\"trust\"\n{settings}[databases.db]\nhost={:?}\nport=5432\n", dir);
        let config = Config::parse(&text, Path::new("fuzz.toml")).ok()?.config;
        let database = config.database("db")?;
        let (pools, _) = Pools::new(config);
        let pool = pools.pool(&database, "ann");
        let house = House { pools: Arc::clone(&pools), workspaces: Arc::new(Workspaces::new(4)) };
        let run = Arc::clone(&pool).run_connector(Arc::clone(&pools));
        // The connector does not end while its pool is there.
        let connector = async move {
            run.await;
            End::Goodbye
        };
        let connector = Task::new(connector, outer);
        Some(Stage { listener, pools, pool, house, connector, sessions: Vec::new(), outer: outer.clone() })
    }

    /// A client that has just logged in: its socket.
    pub(super) fn connect(&mut self) -> Option<UnixStream> {
        let (ours, theirs) = UnixStream::pair().ok()?;
        ours.set_nonblocking(true).ok()?;
        theirs.set_nonblocking(true).ok()?;
        let stream = Stream::from(tokio::net::UnixStream::from_std(theirs).ok()?);
        let state = self.pool.welcome()?;
        let now = self.pool.shared.clock.now();
        let identity = ClientIdentity {
            user: Arc::clone(&self.pool.key.user),
            database: Arc::clone(&self.pool.key.database),
            peer: Endpoint::Unix { path: PathBuf::new(), port: 6432 },
            process: 0,
            local: None,
            tls: "",
            connected: now,
            replication: Replication::None,
        };
        let record = ClientRecord::new(self.pool.shared.next_id(), Box::new([0; 4]), identity, Vec::new());
        record.join(&self.pool);
        record.admit(now);
        let client = self.pools.clients.enlist(Arc::new(record));
        let session = Session::new(stream, client, state, self.house.clone(), &[])?;
        self.sessions.push(Task::new(session.run(), &self.outer));
        Some(ours)
    }

    /// Polls what was woken; answers whether anything was, and adds how sessions have ended.
    pub(super) fn poll(&mut self, ends: &mut Vec<End>) -> bool {
        let mut any = self.connector.poll().is_some();
        self.sessions.retain_mut(|task| match task.poll() {
            None => true,
            Some(Poll::Pending) => {
                any = true;
                true
            }
            Some(Poll::Ready(end)) => {
                any = true;
                ends.push(end);
                false
            }
        });
        any
    }

    /// How many sessions have not ended, those that clear up after their client included.
    pub(super) fn sessions(&self) -> usize {
        self.sessions.len()
    }
}

impl Task {
    fn new(future: impl Future<Output = End> + Send + 'static, outer: &Waker) -> Task {
        let flag = Arc::new(Flag { raised: AtomicBool::new(true), outer: outer.clone() });
        Task { flag, future: Box::pin(future) }
    }

    /// Nothing where it was not woken.
    fn poll(&mut self) -> Option<Poll<End>> {
        let woken = self.flag.raised.swap(false, Relaxed);
        let waker = Waker::from(Arc::clone(&self.flag));
        woken.then(|| self.future.as_mut().poll(&mut Context::from_waker(&waker)))
    }
}
