//! The library's pools in front of a test's PostgreSQL, without a process: hubs run, clients are records with a waker.

use std::path::Path;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Duration;

use pgpool::config::Config;
use pgpool::net::Endpoint;
use pgpool::pool::{ClientIdentity, ClientRecord, HubShown, Listed, NoListener, Pool, Pools};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::support::{Cluster, settings};

/// Longest wait for anything.
pub(super) const SOON: Duration = Duration::from_secs(20);

pub(super) struct Stage {
    pub(super) pools: Arc<Pools>,
}

impl Stage {
    pub(super) fn new(cluster: &Cluster, overrides: &str) -> Stage {
        let (pools, mut births) = Pools::new(config(cluster, overrides));
        let mut hubs = pools.listeners.births().unwrap();
        let connectors = Arc::clone(&pools);
        tokio::spawn(async move {
            while let Some(pool) = births.recv().await {
                tokio::spawn(pool.run_connector(Arc::clone(&connectors)));
            }
        });
        let listening = Arc::clone(&pools);
        tokio::spawn(async move {
            while let Some(hub) = hubs.recv().await {
                tokio::spawn(hub.run(Arc::clone(&listening)));
            }
        });
        Stage { pools }
    }

    pub(super) fn pool(&self, user: &str) -> Arc<Pool> {
        let database = self.pools.config.load().database("app").unwrap();
        self.pools.pool(&database, user)
    }

    pub(super) fn client(&self, user: &str) -> Client {
        let pool = self.pool(user);
        let now = pool.shared.clock.now();
        let identity = ClientIdentity {
            user: user.into(),
            database: "app".into(),
            peer: Endpoint::Unix { path: "".into(), port: 6432 },
            process: 0,
            local: None,
            tls: "",
            replication: pgpool::wire::startup::Replication::None,
            connected: now,
        };
        let record = ClientRecord::new(pool.shared.next_id(), Box::new([0; 4]), identity, Vec::new());
        record.join(&pool);
        record.admit(now);
        let bell = Arc::new(Bell::default());
        record.interrupt.register(&Waker::from(Arc::clone(&bell)));
        let listed = self.pools.clients.enlist(Arc::new(record));
        Client { pools: Arc::clone(&self.pools), pool, listed, bell }
    }

    /// The only hub.
    pub(super) fn hub(&self) -> HubShown {
        let mut shown = self.pools.listeners.shown();
        assert_eq!(shown.len(), 1, "{shown:?}");
        shown.remove(0)
    }

    /// How many channels and clients all hubs have.
    pub(super) fn listened(&self) -> (usize, usize) {
        let shown = self.pools.listeners.shown();
        (shown.iter().map(|hub| hub.channels).sum(), shown.iter().map(|hub| hub.clients).sum())
    }
}

pub(super) fn config(cluster: &Cluster, overrides: &str) -> Config {
    let text = settings::file_for(cluster, cluster.socket_dir(), overrides);
    Config::parse(&text, Path::new("pgpool.toml")).unwrap_or_else(|problems| panic!("{problems}")).config
}

/// Rings when the client's task would be woken.
#[derive(Default)]
pub(super) struct Bell(Notify);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

/// A client that is idle.
pub(super) struct Client {
    pub(super) pools: Arc<Pools>,
    pub(super) pool: Arc<Pool>,
    pub(super) listed: Listed,
    bell: Arc<Bell>,
}

impl Client {
    pub(super) fn record(&self) -> &Arc<ClientRecord> {
        self.listed.record()
    }

    pub(super) async fn listen(&self, channel: &str) -> Result<(), NoListener> {
        let mut subscription = self.pools.listeners.subscribe(&self.pool, self.record(), channel.as_bytes());
        timeout(SOON, subscription.ready()).await.expect("neither listened nor refused")
    }

    pub(super) fn unlisten(&self, channel: Option<&str>) {
        self.pools.listeners.unsubscribe(self.record(), channel.map(str::as_bytes));
    }

    /// Waits to be woken for mail, as an idle session does, and takes it.
    pub(super) async fn mail(&self) -> Vec<Mail> {
        let mailbox = self.record().mailbox().expect("no mailbox");
        while mailbox.is_empty() {
            timeout(SOON, self.bell.0.notified()).await.expect("the client was not woken");
        }
        let mut out = Vec::new();
        mailbox.take(&mut out);
        read(&out)
    }

    /// The next `count` messages.
    pub(super) async fn mails(&self, count: usize) -> Vec<Mail> {
        let mut all = Vec::new();
        while all.len() < count {
            all.extend(self.mail().await);
        }
        all
    }

    pub(super) fn has_mail(&self) -> bool {
        self.record().mailbox().is_some_and(|mailbox| !mailbox.is_empty())
    }

    /// Waits until the client is woken for a reason.
    pub(super) async fn interrupted(&self) -> pgpool::pool::Reason {
        loop {
            if let Some(reason) = self.record().interrupt.raised() {
                return reason;
            }
            timeout(SOON, self.bell.0.notified()).await.expect("the client was not interrupted");
        }
    }
}

/// One message out of a mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mail {
    /// Channel and payload of a notification.
    Note(String, String),
    /// The primary message of a warning of the pooler's.
    Warning(String),
}

pub(super) fn note(channel: &str, payload: &str) -> Mail {
    Mail::Note(channel.to_owned(), payload.to_owned())
}

fn read(mut bytes: &[u8]) -> Vec<Mail> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let length = u32::from_be_bytes(bytes[1..5].try_into().unwrap()) as usize;
        let (tag, body) = (bytes[0], &bytes[5..=length]);
        bytes = &bytes[length + 1..];
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        all.push(match tag {
            b'A' => {
                assert_ne!(u32::from_be_bytes(body[..4].try_into().unwrap()), 0, "no process id");
                let mut parts = body[4..].split(|&byte| byte == 0);
                Mail::Note(text(parts.next().unwrap()), text(parts.next().unwrap()))
            }
            b'N' => {
                let fields: Vec<String> = body.split(|&byte| byte == 0).map(text).collect();
                assert!(fields.contains(&"SWARNING".to_owned()) && fields.contains(&"C01000".to_owned()), "{fields:?}");
                assert!(fields.iter().any(|field| field.starts_with('H')), "no hint: {fields:?}");
                Mail::Warning(fields.iter().find_map(|field| field.strip_prefix('M')).unwrap().to_owned())
            }
            other => panic!("message {other} in a mailbox"),
        });
    }
    all
}
