//! The pool's invariants under random aborts: clients that are dropped while they wait, leases that are dropped, given
//! back, or lost in a panic, PAUSE and RECONNECT in between. Backends are played by a listener that logs everybody in.

mod names;
mod slots;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::time::{Duration, timeout};

use super::*;
use crate::config::Config;
use crate::net::Endpoint;

const SIZE: u32 = 5;
const CLIENTS: usize = 40;
const TURNS: usize = 60;

/// Numbers that look random, from a seed that a failing test prints.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Logs everybody in and then reads until the end. Now and then it refuses a connection.
async fn postgres(listener: UnixListener) {
    let mut count = 0u32;
    loop {
        let (mut socket, _) = listener.accept().await.unwrap();
        count += 1;
        let refuse = count.is_multiple_of(7);
        tokio::spawn(async move {
            let mut buf = [0; 512];
            let _ = socket.read(&mut buf).await;
            let welcome = b"R\0\0\0\x08\0\0\0\0S\0\0\0\x09a\0bc\0K\0\0\0\x0c\0\0\0\x01\0\0\0\x02Z\0\0\0\x05I";
            if refuse || socket.write_all(welcome).await.is_err() {
                return;
            }
            while socket.read(&mut buf).await.is_ok_and(|read| read > 0) {}
        });
    }
}

pub(super) struct Stage {
    pub(super) pools: Arc<Pools>,
    pub(super) pool: Arc<Pool>,
    _dir: tempfile::TempDir,
    /// Backends that are lent at present.
    lent: Arc<Mutex<HashSet<u64>>>,
}

pub(super) fn stage(settings: &str) -> Stage {
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join(".s.PGSQL.5432")).unwrap();
    tokio::spawn(postgres(listener));
    let text = format!(
        "[pgpool]\nauth_type = \"trust\"\npool_mode = \"transaction\"\ndefault_pool_size = {SIZE}\n{settings}\n\
         [databases.db]\nhost = \"{}\"\n",
        dir.path().display()
    );
    let config = Config::parse(&text, &PathBuf::from("test.toml")).unwrap().config;
    let (pools, mut births) = Pools::new(config);
    let spawner = Arc::clone(&pools);
    tokio::spawn(async move {
        while let Some(pool) = births.recv().await {
            tokio::spawn(pool.run_connector(Arc::clone(&spawner)));
        }
    });
    let database = pools.config.load().database("db").unwrap();
    let pool = pools.pool(&database, "alice");
    Stage { pools, pool, _dir: dir, lent: Arc::default() }
}

impl Stage {
    pub(super) fn client(&self) -> Arc<ClientRecord> {
        let identity = ClientIdentity {
            user: "alice".into(),
            database: "db".into(),
            peer: Endpoint::Unix { path: PathBuf::new(), port: 0 },
            process: 0,
            local: None,
            tls: "",
            replication: crate::wire::startup::Replication::None,
            connected: self.pools.shared.clock.now(),
        };
        let record = ClientRecord::new(self.pools.shared.next_id(), Box::default(), identity, Vec::new());
        record.join(&self.pool);
        Arc::new(record)
    }
}

struct Patient;

impl Waiting for Patient {
    fn poll_gone(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        std::task::Poll::Pending
    }
    fn notify(&mut self) {}
}

/// Notes a lease for as long as it lasts; two leases of one backend at a time are the end of the test.
struct Noted {
    lease: Option<Lease>,
    lent: Arc<Mutex<HashSet<u64>>>,
    id: u64,
}

impl Noted {
    fn new(lease: Lease, lent: &Arc<Mutex<HashSet<u64>>>) -> Noted {
        let id = lease.backend().record.id;
        assert!(lent.lock().unwrap().insert(id), "backend {id} was lent twice");
        Noted { lease: Some(lease), lent: Arc::clone(lent), id }
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        self.lent.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
        drop(self.lease.take());
    }
}

/// One client: waits (and may be dropped meanwhile), holds, and ends its lease in some way.
async fn turn(pool: Arc<Pool>, client: Arc<ClientRecord>, lent: Arc<Mutex<HashSet<u64>>>, mut random: Random) {
    let patience = Duration::from_micros(random.below(3_000));
    let lease = match pool.try_checkout(&pool.settings.load_full()) {
        Some(lease) => lease,
        None => match timeout(patience, pool.checkout(&client, Patient)).await {
            Ok(Ok(lease)) => lease,
            _ => return,
        },
    };
    let mut noted = Noted::new(lease, &lent);
    assert!(pool.counts().total <= SIZE);
    for _ in 0..random.below(4) {
        tokio::task::yield_now().await;
    }
    match random.below(10) {
        0 => panic!("a session fails"),
        1 => {}
        2 => noted.lease.take().unwrap().close(Closing::Unclean),
        _ => {
            noted.lent.lock().unwrap().remove(&noted.id);
            noted.lease.take().unwrap().release();
            // Somebody else may have it by now.
            std::mem::forget(noted);
        }
    }
}

async fn storm(settings: &str, seed: u64) {
    let stage = stage(settings);
    let mut random = Random(seed | 1);
    let over = Arc::new(AtomicBool::new(false));
    let watched = (Arc::clone(&stage.pool), Arc::clone(&over));
    let watcher = tokio::spawn(async move {
        while !watched.1.load(Relaxed) {
            let counts = watched.0.counts();
            assert!(counts.total <= SIZE && counts.idle <= SIZE, "{counts:?}");
            tokio::task::yield_now().await;
        }
    });
    for _ in 0..TURNS {
        let mut tasks = Vec::new();
        for _ in 0..CLIENTS {
            let seed = random.below(u64::MAX) | 1;
            let lent = Arc::clone(&stage.lent);
            tasks.push(tokio::spawn(turn(Arc::clone(&stage.pool), stage.client(), lent, Random(seed))));
        }
        match random.below(12) {
            0 => stage.pool.reconnect(),
            1 => {
                stage.pools.set_paused(None, true);
                tokio::task::yield_now().await;
                stage.pools.set_paused(None, false);
            }
            _ => {}
        }
        for task in tasks {
            if random.below(8) == 0 {
                task.abort();
            }
            // Panics and aborts are part of the game; a broken invariant is not.
            if let Err(error) = task.await
                && error.is_panic()
            {
                let text = error.into_panic();
                let text = text.downcast_ref::<String>().cloned().unwrap_or_default();
                assert!(!text.contains("lent twice") && !text.contains("total"), "{text}");
            }
        }
    }
    over.store(true, Relaxed);
    watcher.await.unwrap();
    whole(&stage).await;
}

/// After everything: the whole pool can be lent, nobody waits, and every permit belongs to a backend.
async fn whole(stage: &Stage) {
    let mut leases = Vec::new();
    for _ in 0..SIZE {
        let client = stage.client();
        let lease = timeout(Duration::from_secs(20), stage.pool.checkout(&client, Patient)).await;
        leases.push(lease.expect("the pool has lost a place").unwrap());
    }
    assert!(stage.pool.try_checkout(&stage.pool.settings.load_full()).is_none());
    let counts = stage.pool.counts();
    assert_eq!((counts.total, counts.idle, counts.waiting), (SIZE, 0, 0));
    let caps = [&stage.pool.size, &stage.pool.database_cap, &stage.pool.user_cap];
    assert_eq!(caps.map(|cap| cap.used()), [SIZE; 3]);
    assert_eq!(stage.pool.backends().len(), SIZE as usize);
    leases.into_iter().for_each(Lease::release);
    stage.pools.set_paused(None, true);
    assert_eq!(caps.map(|cap| cap.used()), [0; 3]);
    assert!(stage.pool.backends().is_empty());
}

fn seed() -> u64 {
    let given = std::env::var("PGPOOL_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos().into());
    println!("seed {seed}");
    seed
}

#[tokio::test]
async fn limits_hold_under_random_aborts_on_one_worker() {
    storm("", seed()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_hold_under_random_aborts_on_two_workers() {
    storm("", seed()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_hold_with_round_robin_and_a_minimum() {
    storm("server_round_robin = true\nmin_pool_size = 3", seed()).await;
}

#[tokio::test]
async fn first_come_first_served() {
    let stage = stage("");
    let mut leases = Vec::new();
    for _ in 0..SIZE {
        leases.push(stage.pool.checkout(&stage.client(), Patient).await.unwrap());
    }
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for number in 0..10 {
        let (pool, client, order) = (Arc::clone(&stage.pool), stage.client(), Arc::clone(&order));
        tasks.push(tokio::spawn(async move {
            let lease = pool.checkout(&client, Patient).await.unwrap();
            order.lock().unwrap().push(number);
            lease.release();
        }));
        while stage.pool.counts().waiting <= number {
            tokio::task::yield_now().await;
        }
    }
    // Somebody in the middle leaves.
    tasks.remove(4).abort();
    while stage.pool.counts().waiting == 10 {
        tokio::task::yield_now().await;
    }
    leases.pop().unwrap().release();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3, 5, 6, 7, 8, 9]);
}

/// A pool that only a login has made goes when nobody has used it for an hour, with what `min_pool_size` keeps in it;
/// that of a user of the configuration stays.
#[tokio::test]
async fn pools_of_users_that_were_looked_up_are_forgotten() {
    const HOUR: Micros = 3_600_000_000;
    for (settings, forgotten) in [("auth_user = \"asker\"\nmin_pool_size = 2", true), ("min_pool_size = 2", false)] {
        let stage = stage(settings);
        let lease = stage.pool.checkout(&stage.client(), Patient).await.unwrap();
        let look = |later: Micros| {
            stage.pools.forget_if_unused(&stage.pool, stage.pools.shared.clock.now() + later);
            stage.pool.is_closed()
        };
        assert!(!look(2 * HOUR), "a backend is lent");
        stage.pool.touched.store(stage.pools.shared.clock.now(), Relaxed);
        lease.release();
        while stage.pool.counts().idle < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(!look(HOUR - 60_000_000));
        assert_eq!(look(HOUR + 1_000_000), forgotten, "{settings}");
        let left = stage.pools.all().len();
        assert_eq!(left, usize::from(!forgotten));
    }
}
