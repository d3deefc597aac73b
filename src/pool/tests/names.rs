//! Connections to a host whose name gets other addresses.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::{Patient, Pools, Stage};
use crate::config::Config;
use crate::net::tls::Tls;
use crate::net::{Answer, Names, Resolve, Soa, Zones, Zoning};

/// A resolver that says what the test has put there. The serial of its zone is the last number of the first address.
#[derive(Clone, Debug, Default)]
struct Played(Arc<Mutex<Vec<SocketAddr>>>);

impl Resolve for Played {
    fn resolve<'a>(&'a self, _: &'a str) -> Answer<'a> {
        let addresses = self.0.lock().unwrap().clone();
        Box::pin(async move { Ok(addresses) })
    }
}

impl Zoning for Played {
    fn zone_of<'a>(&'a self, _: &'a str) -> Answer<'a, Option<Soa>> {
        let serial = self.0.lock().unwrap().first().map_or(0, |address| match address.ip() {
            IpAddr::V4(address) => u32::from(address.octets()[3]),
            IpAddr::V6(_) => 0,
        });
        Box::pin(async move { Ok(Some(Soa { zone: "test".to_owned(), serial })) })
    }
}

/// Logs everybody in.
async fn hospitable(listener: TcpListener) {
    loop {
        let (mut socket, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let mut buf = [0; 512];
            let _ = socket.read(&mut buf).await;
            let _ = socket.write_all(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I").await;
            while socket.read(&mut buf).await.is_ok_and(|read| read > 0) {}
        });
    }
}

/// A pool of an entry whose host's name has what `played` says, and a PostgreSQL at that port of 127.0.0.1 and 127.0.0.2.
async fn played_stage(played: &Played, settings: &str) -> (Stage, u16) {
    let first = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = first.local_addr().unwrap().port();
    let second = TcpListener::bind(("127.0.0.2", port)).await.unwrap();
    tokio::spawn(hospitable(first));
    tokio::spawn(hospitable(second));
    let names = (Names::new(played.clone()), Zones::new(played.clone()));
    let (pools, mut births) = Pools::with_names(config("db.test", port, settings), Tls::none(), names);
    let spawner = Arc::clone(&pools);
    tokio::spawn(async move {
        while let Some(pool) = births.recv().await {
            tokio::spawn(pool.run_connector(Arc::clone(&spawner)));
        }
    });
    let database = pools.config.load().database("db").unwrap();
    let pool = pools.pool(&database, "alice");
    (Stage { pools, pool, _dir: tempfile::tempdir().unwrap(), lent: Arc::default() }, port)
}

fn config(host: &str, port: u16, settings: &str) -> Config {
    let text = format!(
        "[pgpool]\nauth_type = \"trust\"\nserver_tls_sslmode = \"disable\"\n{settings}\n\
         [databases.db]\nhost = \"{host}\"\nport = {port}\n"
    );
    Config::parse(&text, &PathBuf::from("test.toml")).unwrap().config
}

fn local(last: u8) -> Vec<SocketAddr> {
    vec![([127, 0, 0, last], 0).into()]
}

#[tokio::test]
async fn connections_to_an_address_that_is_gone_from_dns_are_replaced() {
    let played = Played(Arc::new(Mutex::new(local(1))));
    let (stage, _) = played_stage(&played, "dns_max_ttl = \"1ms\"").await;
    let (pools, pool, client) = (&stage.pools, &stage.pool, stage.client());
    let lease = async || pool.checkout(&client, Patient).await.unwrap();
    let (idle, busy) = (lease().await, lease().await);
    idle.release();
    assert_eq!(pool.backends().len(), 2);
    tokio::time::sleep(Duration::from_millis(5)).await;
    pools.follow_names().await;
    assert!(pool.backends().iter().all(|record| !record.close_needed()), "nothing has changed");

    *played.0.lock().unwrap() = local(2);
    tokio::time::sleep(Duration::from_millis(5)).await;
    pools.follow_names().await;
    assert_eq!(pool.idle_since().len(), 0, "the idle one goes at once");
    assert!(busy.backend().record.close_needed(), "the other one when it comes back");
    busy.release();
    let new = lease().await;
    assert_eq!(new.backend().record.endpoint.host(), "127.0.0.2");
}

#[tokio::test]
async fn a_name_is_kept_for_its_entry_and_its_connections_and_then_forgotten() {
    let settings = "dns_max_ttl = 0";
    let (stage, port) = played_stage(&Played(Arc::new(Mutex::new(local(1)))), settings).await;
    let (pools, pool, client) = (&stage.pools, &stage.pool, stage.client());
    let lease = async || pool.checkout(&client, Patient).await.unwrap();
    let known = async || {
        pools.follow_names().await;
        pools.shared.names.hosts().into_iter().collect::<Vec<_>>()
    };
    let busy = lease().await;
    assert_eq!(known().await, ["db.test"]);
    pools.put_in_force(config("db2.test", port, settings));
    assert_eq!(known().await, ["db.test"], "a connection is there still");
    let new = lease().await;
    assert_eq!(known().await, ["db.test", "db2.test"]);
    drop(busy);
    assert_eq!(known().await, ["db2.test"]);
    drop(new);
    assert_eq!(known().await, ["db2.test"], "its entry may need it again");
}

#[tokio::test]
async fn a_zone_with_another_serial_has_its_names_looked_up_at_once() {
    let played = Played(Arc::new(Mutex::new(local(1))));
    let (stage, port) = played_stage(&played, "dns_max_ttl = 3600\ndns_zone_check_period = \"1ms\"").await;
    let (pools, pool, client) = (&stage.pools, &stage.pool, stage.client());
    let lease = async || pool.checkout(&client, Patient).await.unwrap();
    let busy = lease().await;
    let look = async || {
        tokio::time::sleep(Duration::from_millis(5)).await;
        pools.follow_names().await;
        pools.follow_zones().await;
    };
    look().await;
    assert!(!busy.backend().record.close_needed(), "nothing has changed");
    let shown = |pools: &Pools| pools.shared.zones.shown().into_iter().map(|zone| zone.serial).collect::<Vec<_>>();
    assert_eq!(shown(pools), [1]);

    *played.0.lock().unwrap() = local(2);
    pools.follow_names().await;
    assert!(!busy.backend().record.close_needed(), "the answer counts for an hour");
    look().await;
    assert!(busy.backend().record.close_needed());
    busy.release();
    let new = lease().await;
    assert_eq!((new.backend().record.endpoint.host(), shown(pools)), ("127.0.0.2".to_owned(), vec![2]));

    pools.put_in_force(config("db.test", port, "dns_max_ttl = 3600"));
    *played.0.lock().unwrap() = local(1);
    look().await;
    assert_eq!(shown(pools), [0; 0], "without a period nothing is asked or shown");
    assert!(!new.backend().record.close_needed());
}
