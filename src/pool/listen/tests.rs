//! The book against a model of PostgreSQL, and hubs in front of a played PostgreSQL that falls silent, with paused time.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::time::{Instant, sleep, timeout};

use super::roll::{Batch, Roll};
use super::*;
use crate::config::Config;
use crate::net::Endpoint;
use crate::pool::{ClientIdentity, Pools};
use crate::wire::view::Diagnostic;

#[test]
fn names_are_cut_as_postgresql_does() {
    assert_eq!(clipped(b"short"), b"short");
    assert_eq!(clipped(&[b'x'; 70]), [b'x'; 63]);
    assert_eq!(clipped(b"a\0b"), b"a");
    let text = format!("{}\u{e4}", "x".repeat(62));
    assert_eq!(clipped(text.as_bytes()), [b'x'; 62]);
    assert_eq!(clipped(&[0xe4; 70]), [0xe4; 63]);
}

fn client(id: u64) -> Arc<ClientRecord> {
    let identity = ClientIdentity {
        user: "alice".into(),
        database: "db".into(),
        peer: Endpoint::Unix { path: PathBuf::new(), port: 0 },
        process: 0,
        local: None,
        tls: "",
        replication: crate::wire::startup::Replication::None,
        connected: 1,
    };
    Arc::new(ClientRecord::new(id, Box::default(), identity, Vec::new()))
}

/// What happens to a roll.
#[derive(Clone, Debug)]
enum Step {
    Subscribe(u64, u8),
    Unsubscribe(u64, Option<u8>),
    /// The query that is due is sent.
    Ask,
    /// The query under way is answered.
    Answer,
    Lose,
    Fail,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..4u64, 0..5u8).prop_map(|(client, channel)| Step::Subscribe(client, channel)),
        3 => (1..4u64, proptest::option::of(0..5u8)).prop_map(|(client, channel)| Step::Unsubscribe(client, channel)),
        4 => Just(Step::Ask),
        4 => Just(Step::Answer),
        1 => Just(Step::Lose),
        1 => Just(Step::Fail),
    ]
}

/// The channel that this PostgreSQL refuses.
const REFUSED: u8 = 4;

fn name(channel: u8) -> Channel {
    Channel::from([channel])
}

/// A roll and a PostgreSQL that it is told about.
#[derive(Default)]
struct Model {
    roll: Roll,
    /// What PostgreSQL listens on.
    listens: HashSet<Channel>,
    under_way: Option<Batch>,
    /// What clients were told that they listen on, and have not left.
    promised: HashSet<(u64, Channel)>,
    asks: Vec<(u64, Channel, Arc<Ask>)>,
}

impl Model {
    fn take(&mut self, step: &Step, clients: &[Arc<ClientRecord>]) {
        match step {
            Step::Subscribe(client, channel) => {
                let record = &clients[usize::try_from(*client).unwrap() - 1];
                let joined = self.roll.subscribe(record, &Arc::default(), &name(*channel));
                self.asks.push((*client, name(*channel), joined.ask));
            }
            Step::Unsubscribe(client, channel) => {
                let left = channel.map(name);
                self.roll.unsubscribe(*client, left.as_deref());
                let stays = |id: u64, its: &Channel| id != *client || left.as_ref().is_some_and(|left| left != its);
                self.promised.retain(|(id, channel)| stays(*id, channel));
                self.asks.retain(|(id, channel, _)| stays(*id, channel));
            }
            Step::Ask if self.under_way.is_none() => self.under_way = self.roll.next(),
            Step::Ask => {}
            Step::Answer => self.answer(),
            Step::Lose => self.lose(),
            Step::Fail => {
                self.lose();
                self.roll.fail(&NoListener::Gone).make();
                self.roll.trying();
            }
        }
        self.collect();
    }

    fn answer(&mut self) {
        let Some(batch) = self.under_way.take() else { return };
        match &batch {
            Batch::Listen(channels) if channels.contains(&name(REFUSED)) => {
                let calls = self.roll.refused(&batch, Box::new(Diagnostic::default()));
                return calls.unwrap().make();
            }
            Batch::Listen(channels) => self.listens.extend(channels.iter().cloned()),
            Batch::Unlisten(channels) => channels.iter().for_each(|channel| {
                self.listens.remove(channel);
            }),
            Batch::Prepare | Batch::Ping => {}
        }
        self.roll.done(&batch).make();
    }

    fn lose(&mut self) {
        self.listens.clear();
        self.under_way = None;
        self.roll.lost(1, false).1.make();
    }

    /// Takes in the answers, as the subscriptions do.
    fn collect(&mut self) {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let promised = &mut self.promised;
        self.asks.retain(|(client, channel, ask)| match ask.poll(&mut cx) {
            std::task::Poll::Pending => true,
            std::task::Poll::Ready(answer) => {
                if answer.is_ok() {
                    promised.insert((*client, Arc::clone(channel)));
                }
                false
            }
        });
    }
}

proptest! {
    #[test]
    fn the_roll_agrees_with_postgresql(steps in proptest::collection::vec(step(), 0..80)) {
        let clients: Vec<_> = (1..4).map(client).collect();
        let mut model = Model::default();
        for step in &steps {
            model.take(step, &clients);
        }
        // Left alone, it comes to rest.
        for _ in 0..100 {
            model.take(&Step::Ask, &clients);
            model.take(&Step::Answer, &clients);
        }
        prop_assert!(model.roll.next().is_none() && model.asks.is_empty());
        let wanted: HashSet<Channel> = model.promised.iter().map(|(_, channel)| Arc::clone(channel)).collect();
        prop_assert!(wanted.is_subset(&model.listens), "{wanted:?} {:?}", model.listens);
        let (channels, _) = model.roll.counts();
        prop_assert_eq!(channels, model.listens.len());
        for id in 1..4 {
            model.take(&Step::Unsubscribe(id, None), &clients);
        }
        for _ in 0..4 {
            model.take(&Step::Ask, &clients);
            model.take(&Step::Answer, &clients);
        }
        prop_assert!(model.listens.is_empty() && model.roll.is_empty() && !model.roll.in_gap());
        prop_assert_eq!(model.roll.counts(), (0, 0));
    }
}

/// Logs everybody in, and answers a few queries of each connection; then it is silent, as a dead network is.
async fn silent_postgres(listener: UnixListener, answers: usize, accepted: Arc<AtomicU32>) {
    loop {
        let (mut socket, _) = listener.accept().await.unwrap();
        accepted.fetch_add(1, Relaxed);
        tokio::spawn(async move {
            let mut buf = [0; 1024];
            let _ = socket.read(&mut buf).await;
            let welcome = b"R\0\0\0\x08\0\0\0\0K\0\0\0\x0c\0\0\0\x01\0\0\0\x02Z\0\0\0\x05I";
            socket.write_all(welcome).await.unwrap();
            for _ in 0..answers {
                if socket.read(&mut buf).await.unwrap_or(0) == 0 {
                    return;
                }
                socket.write_all(b"I\0\0\0\x04Z\0\0\0\x05I").await.unwrap();
            }
            while socket.read(&mut buf).await.is_ok_and(|read| read > 0) {}
        });
    }
}

fn pools(dir: &Path) -> Arc<Pools> {
    let text = format!(
        "[pgpool]\nauth_type = \"trust\"\nmax_db_connections = 2\n[databases.db]\nhost = \"{}\"\n",
        dir.display()
    );
    let (pools, _) = Pools::new(Config::parse(&text, &PathBuf::from("test.toml")).unwrap().config);
    let mut hubs = pools.listeners.births().unwrap();
    let runs = Arc::clone(&pools);
    tokio::spawn(async move {
        while let Some(hub) = hubs.recv().await {
            tokio::spawn(hub.run(Arc::clone(&runs)));
        }
    });
    pools
}

fn subscriber(pools: &Pools) -> (Arc<Pool>, Arc<ClientRecord>) {
    let pool = pools.pool(&pools.config.load().database("db").unwrap(), "alice");
    let record = client(pools.shared.next_id());
    record.join(&pool);
    (pool, record)
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_falls_silent_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let accepted = Arc::new(AtomicU32::new(0));
    let listener = UnixListener::bind(dir.path().join(".s.PGSQL.5432")).unwrap();
    // The settings, LISTEN, and one ping.
    tokio::spawn(silent_postgres(listener, 3, Arc::clone(&accepted)));
    let pools = pools(dir.path());
    let (pool, record) = subscriber(&pools);
    pools.listeners.subscribe(&pool, &record, b"a").ready().await.unwrap();
    let start = Instant::now();
    let mailbox = record.mailbox().unwrap();
    let told = async {
        while mailbox.is_empty() {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(Duration::from_secs(200), told).await.unwrap();
    assert_eq!(accepted.load(Relaxed), 2);
    let silence = start.elapsed().as_secs();
    assert!((85..100).contains(&silence), "noticed after {silence} s");
    // Without channels it goes after a while, and its place with it.
    pools.listeners.unsubscribe(&record, None);
    let retired = async {
        while !pools.listeners.shown().is_empty() {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(Duration::from_secs(200), retired).await.unwrap();
    assert_eq!(pools.database_backends.used("db"), 0);
}

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_is_told_why_and_not_subscribed() {
    let dir = tempfile::tempdir().unwrap();
    let pools = pools(dir.path());
    let (pool, record) = subscriber(&pools);
    let late = pools.listeners.subscribe(&pool, &record, b"a").ready().await.unwrap_err();
    assert!(matches!(late, NoListener::Late(_, Some(_))), "{late}");
    assert_eq!(late.report().code, "08006");
    assert!(pools.listeners.shown().iter().all(|hub| (hub.channels, hub.clients) == (0, 0)));
    // A record that is dropped without having been listed leaves nothing behind either.
    drop(pools.listeners.subscribe(&pool, &record, b"b"));
    assert_eq!(pools.listeners.shown()[0].clients, 1);
    drop(record);
    assert!(pools.listeners.shown().iter().all(|hub| (hub.channels, hub.clients) == (0, 0)));
}

#[tokio::test(start_paused = true)]
async fn one_client_cannot_have_channels_without_end() {
    let dir = tempfile::tempdir().unwrap();
    let pools = pools(dir.path());
    let (pool, record) = subscriber(&pools);
    for number in 0..roll::MOST_CHANNELS {
        drop(pools.listeners.subscribe(&pool, &record, number.to_string().as_bytes()));
    }
    let refused = pools.listeners.subscribe(&pool, &record, b"one more").ready().await;
    assert!(matches!(refused, Err(NoListener::Channels(_))), "{refused:?}");
}
