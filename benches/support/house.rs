//! A pool whose backends are open and idle, and clients of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll};

use pgpool::config::Config;
use pgpool::net::Endpoint;
use pgpool::pool::{ClientIdentity, ClientRecord, Lease, Listed, Pool, Pools, Waiting};

use super::postgres::{PORT, Postgres};

/// A pool in transaction mode, and all that it belongs to.
#[derive(Debug)]
pub(crate) struct House {
    pub(crate) pools: Arc<Pools>,
    pub(crate) pool: Arc<Pool>,
    /// Its socket's file must stay.
    _postgres: Postgres,
}

impl House {
    /// Opens `size` backends. Must be called within a runtime.
    pub(crate) async fn open(postgres: Postgres, size: u32) -> House {
        let (pools, mut births) = Pools::new(config(postgres.dir(), size));
        let connectors = Arc::clone(&pools);
        tokio::spawn(async move {
            while let Some(pool) = births.recv().await {
                tokio::spawn(pool.run_connector(Arc::clone(&connectors)));
            }
        });
        let database = pools.config.load().database("bench").unwrap();
        let pool = pools.pool(&database, "bench");
        let house = House { pools, pool, _postgres: postgres };
        let client = house.client();
        let mut leases = Vec::new();
        for _ in 0..size {
            leases.push(house.pool.checkout(client.record(), Stays).await.unwrap());
        }
        leases.into_iter().for_each(Lease::release);
        house
    }

    /// A client that has logged in.
    pub(crate) fn client(&self) -> Listed {
        let now = self.pool.shared.clock.now();
        let identity = ClientIdentity {
            user: Arc::clone(&self.pool.key.user),
            database: Arc::clone(&self.pool.key.database),
            peer: Endpoint::Unix { path: PathBuf::new(), port: 6432 },
            process: 0,
            local: None,
            tls: "",
            replication: pgpool::wire::startup::Replication::None,
            connected: now,
        };
        let record = ClientRecord::new(self.pool.shared.next_id(), Box::new([0; 4]), identity, Vec::new());
        record.join(&self.pool);
        record.admit(now);
        self.pools.clients.enlist(Arc::new(record))
    }
}

fn config(dir: &Path, size: u32) -> Config {
    let text = format!(
        "[pgpool]\n\
         auth_type = \"trust\"\n\
         pool_mode = \"transaction\"\n\
         default_pool_size = {size}\n\
         [databases.bench]\n\
         host = \"{}\"\n\
         port = {PORT}\n",
        dir.display()
    );
    Config::parse(&text, Path::new("bench.toml")).unwrap().config
}

/// A client that does not leave while it waits.
pub(crate) struct Stays;

impl Waiting for Stays {
    fn poll_gone(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    fn notify(&mut self) {}
}
