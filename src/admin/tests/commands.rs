//! The commands that change something.

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::*;
use crate::pool::{Lease, Reason};

#[tokio::test]
async fn stats_users_only_look() {
    let pooler = Pooler::new();
    let mut console = pooler.console(Role::Stats).await;
    for command in [
        "PAUSE",
        "RESUME",
        "SUSPEND",
        "DISABLE one",
        "ENABLE one",
        "RECONNECT",
        "KILL",
        "KILL_CLIENT 1",
        "WAIT_CLOSE",
        "RELOAD",
        "SHUTDOWN",
        "SHUTDOWN WAIT_FOR_CLIENTS",
        "SET query_timeout = 1",
    ] {
        assert_eq!(console.tag(command).await, "08P01 admin access needed", "{command}");
    }
    assert!(!pooler.pools.all_paused() && pooler.process.ending().is_none());
    for command in ["SHOW CONFIG", "SHOW TIMEZONE"] {
        assert_eq!(console.tag(command).await, "SHOW");
    }
    assert_eq!(console.tag("SET datestyle = 'ISO'").await, "SET");
}

#[tokio::test]
async fn pause_and_its_kin_refuse_what_pgbouncer_refuses() {
    let pooler = Pooler::new();
    let mut console = pooler.console(Role::Admin).await;
    let cases = [
        ("RESUME", "08P01 pooler is not paused/suspended"),
        ("PAUSE", "PAUSE"),
        ("PAUSE", "08P01 already suspended/paused"),
        ("PAUSE one", "08P01 already suspended/paused"),
        ("KILL one", "08P01 already suspended/paused"),
        ("RESUME", "RESUME"),
        ("SUSPEND", "SUSPEND"),
        ("SUSPEND", "08P01 already suspended/paused"),
        ("PAUSE", "08P01 already suspended/paused"),
        ("PAUSE one", "08P01 already suspended/paused"),
        ("KILL one", "08P01 already suspended/paused"),
        ("RESUME one", "08P01 database one is not paused"),
        ("RESUME", "RESUME"),
        ("RESUME", "08P01 pooler is not paused/suspended"),
        ("PAUSE one", "PAUSE"),
        ("PAUSE one", "PAUSE"),
        ("SUSPEND", "08P01 cannot suspend with paused databases"),
        ("RESUME two", "08P01 database two is not paused"),
        ("RESUME one", "RESUME"),
        ("PAUSE nope", "08P01 no such database: nope"),
        ("RESUME nope", "08P01 no such database: nope"),
        ("PAUSE pgbouncer", "08P01 cannot pause admin db: pgbouncer"),
        ("PAUSE pgpool", "08P01 cannot pause admin db: pgpool"),
        ("KILL pgpool", "08P01 cannot kill admin db: pgpool"),
        ("DISABLE pgbouncer", "08P01 cannot disable admin db: pgbouncer"),
        ("RECONNECT pgbouncer", "08P01 cannot reconnect admin db: pgbouncer"),
        ("WAIT_CLOSE pgbouncer", "08P01 cannot wait in admin db: pgbouncer"),
        ("DISABLE", "08P01 a database is required"),
        ("ENABLE nope", "08P01 no such database: nope"),
        ("DISABLE one", "DISABLE"),
        ("ENABLE one", "ENABLE"),
        ("RECONNECT", "RECONNECT"),
        ("RECONNECT two", "RECONNECT"),
        ("WAIT_CLOSE", "WAIT_CLOSE"),
        ("KILL_CLIENT", "08P01 invalid client pointer supplied"),
        ("KILL_CLIENT x", "08P01 invalid client pointer supplied"),
        ("KILL_CLIENT 999", "08P01 client not found"),
    ];
    for (command, answer) in cases {
        assert_eq!(console.tag(command).await, answer, "{command}");
    }
    console.tag("PAUSE").await;
    assert_eq!(console.rows("SHOW STATE").await[..3].concat(), ["active", "no", "paused", "yes", "suspended", "no"]);
    console.tag("RESUME").await;
    console.tag("DISABLE two").await;
    console.tag("PAUSE one").await;
    let flags: Vec<_> = console.rows("SHOW DATABASES").await.iter().map(|row| row[15..].concat()).collect();
    assert_eq!(flags, ["10", "00", "01"]);
}

/// A pool with one backend, which is lent, at a PostgreSQL that has said no more than that it is ready.
pub(super) async fn lent(pooler: &Pooler, listener: &TcpListener) -> (Arc<Pool>, Lease) {
    let database = pooler.pools.config.load().database("busy").unwrap();
    let pool = pooler.pools.pool(&database, "alice");
    tokio::spawn(Arc::clone(&pool).run_connector(Arc::clone(&pooler.pools)));
    let (mut socket, _) = listener.accept().await.unwrap();
    socket.write_all(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I").await.unwrap();
    std::mem::forget(socket);
    let lease = loop {
        match pool.try_checkout(&pool.settings.load_full()) {
            Some(lease) => break lease,
            None => tokio::task::yield_now().await,
        }
    };
    assert_eq!(pool.counts().total, 1);
    (pool, lease)
}

pub(super) async fn busy() -> (Pooler, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let text = format!(
        "[pgpool]\nauth_type = \"trust\"\n[databases.busy]\nhost = \"127.0.0.1\"\nport = {port}\nmin_pool_size = 1\n"
    );
    (Pooler::with(&text), listener)
}

#[tokio::test]
async fn pause_waits_and_a_cancel_request_resumes() {
    let (pooler, listener) = busy().await;
    let _lent = lent(&pooler, &listener).await;
    let mut console = pooler.console(Role::Admin).await;
    for command in ["PAUSE", "PAUSE busy"] {
        console.send(&query(command)).await;
        while !pooler.pools.is_paused("busy") {
            tokio::task::yield_now().await;
        }
        console.record.interrupt.raise(Reason::Canceled);
        let answers = console.until_ready().await;
        assert_eq!((tags(&answers).as_str(), answers[0].report().code.as_str()), ("EZ", "57014"));
        assert!(!pooler.pools.is_paused("busy"), "{command}");
    }
    // Another session's RESUME ends the wait as well, and what was sent meanwhile is not lost.
    console.send(&[query("PAUSE"), query("SHOW VERSION")].concat()).await;
    while !pooler.pools.is_paused("busy") {
        tokio::task::yield_now().await;
    }
    let mut other = pooler.console(Role::Admin).await;
    assert_eq!(other.tag("RESUME").await, "RESUME");
    assert_eq!(tags(&console.until_ready().await), "EZ");
    assert_eq!(tags(&console.until_ready().await), "TDCZ");
}

#[tokio::test]
async fn a_waiting_pause_ends_with_its_client_but_stays_in_force() {
    let (pooler, listener) = busy().await;
    let _lent = lent(&pooler, &listener).await;
    let mut console = pooler.console(Role::Admin).await;
    console.send(&query("PAUSE")).await;
    while !pooler.pools.all_paused() {
        tokio::task::yield_now().await;
    }
    drop(console.stream);
    assert!(matches!(console.task.await.unwrap(), ConsoleEnd::Closed));
    assert!(pooler.pools.all_paused());
}

#[tokio::test]
async fn pause_answers_when_the_last_backend_is_gone() {
    let (pooler, listener) = busy().await;
    let (pool, lease) = lent(&pooler, &listener).await;
    let mut console = pooler.console(Role::Admin).await;
    console.send(&query("PAUSE")).await;
    while !pooler.pools.all_paused() {
        tokio::task::yield_now().await;
    }
    assert_eq!(pool.counts().total, 1);
    // Given back, it is closed instead of being put on the shelf.
    lease.release();
    assert_eq!(tags(&console.until_ready().await), "CZ");
    assert_eq!(pool.counts().total, 0);
}

#[tokio::test]
async fn kill_ends_the_clients_and_leaves_the_database_paused() {
    let pooler = Pooler::new();
    let join = |name: &str| {
        let database = pooler.pools.config.load().database(name).unwrap();
        let client = pooler.client("alice", name);
        client.record().join(&pooler.pools.pool(&database, "alice"));
        client.record().admit(1);
        client
    };
    let (one, two) = (join("one"), join("two"));
    let mut console = pooler.console(Role::Admin).await;
    assert_eq!(console.tag("KILL one").await, "KILL");
    assert_eq!(one.record().interrupt.raised(), Some(Reason::DatabaseRemoved));
    assert_eq!(two.record().interrupt.raised(), None);
    assert!(pooler.pools.database_paused("one") && !pooler.pools.database_paused("two"));
    assert_eq!(console.tag("KILL").await, "KILL");
    assert_eq!(two.record().interrupt.raised(), Some(Reason::DatabaseRemoved));
    assert!(pooler.pools.database_paused("two") && !pooler.pools.all_paused());
    let three = join("two");
    assert_eq!(console.tag(&format!("KILL_CLIENT {}", three.record().id)).await, "KILL_CLIENT");
    assert_eq!(three.record().interrupt.raised(), Some(Reason::Killed));
    assert_eq!(console.tag("RESUME two").await, "RESUME");
}

#[tokio::test]
async fn reload_tells_every_problem() {
    let pooler = Pooler::new();
    let mut console = pooler.console(Role::Admin).await;
    assert_eq!(console.tag("RELOAD").await, "RELOAD");
    *pooler.process.problems.lock().unwrap() = Some("a:1: one\na:2: two".to_owned());
    let answers = console.ask("RELOAD").await;
    let report = answers[0].report();
    assert_eq!((report.severity.as_str(), report.code.as_str()), ("ERROR", "F0000"));
    assert_eq!(report.detail, "a:1: one\na:2: two");
}

#[tokio::test]
async fn shutdown_answers_unless_it_is_at_once() {
    let pooler = Pooler::new();
    let mut console = pooler.console(Role::Admin).await;
    assert_eq!(console.tag("SHUTDOWN WAIT_FOR_CLIENTS").await, "SHUTDOWN");
    assert_eq!(console.tag("RESUME").await, "08P01 pooler is shutting down");
    assert_eq!(console.tag("SHUTDOWN WAIT_FOR_SERVERS").await, "SHUTDOWN");
    console.send(&query("SHOW VERSION; SHUTDOWN; SHOW VERSION")).await;
    for expected in [b'T', b'D', b'C'] {
        assert_eq!(console.next().await.unwrap().tag, expected);
    }
    while pooler.process.ending() != Some(Shutdown::Now) {
        tokio::task::yield_now().await;
    }
    console.record.interrupt.raise(Reason::Shutdown);
    assert!(matches!(console.end().await, ConsoleEnd::Shutdown));
    assert_eq!(
        *pooler.process.told.lock().unwrap(),
        [Shutdown::WaitForClients, Shutdown::WaitForServers, Shutdown::Now]
    );
}

#[tokio::test]
async fn set_changes_the_configuration_and_the_pools() {
    let pooler = Pooler::new();
    let database = pooler.pools.config.load().database("one").unwrap();
    let pool = pooler.pools.pool(&database, "bob");
    let mut console = pooler.console(Role::Admin).await;
    assert_eq!(console.tag("SET default_pool_size = 7").await, "SET default_pool_size=7");
    assert_eq!(pool.settings.load().size, 7);
    assert_eq!(pooler.pools.config.load().general.default_pool_size, 7);
    let boot = console.ask("SET listen_port = 7").await;
    let warning = boot[0].report();
    assert_eq!((tags(&boot).as_str(), warning.severity.as_str(), warning.code.as_str()), ("NCZ", "WARNING", "01000"));
    assert_eq!(warning.message, "`listen_port` takes effect only when the process starts");
    assert_eq!(boot[1].body, b"SET listen_port=7\0");
    assert_eq!(pooler.pools.config.load().general.listen_port, 6500);
    assert!(console.tag("SET listen_port = many").await.starts_with("08P01 `listen_port`: "));
    assert!(console.tag("SET default_pool_size = many").await.starts_with("08P01 "));
    let unknown = console.tag("SET defualt_pool_size = 1").await;
    assert_eq!(unknown, "08P01 unknown setting `defualt_pool_size`, did you mean `default_pool_size`?");
    assert_eq!(pool.settings.load().size, 7);
    assert_eq!(pool.settings.load().max_pinned, 6);
    assert_eq!(console.tag("SET max_pinned = 2").await, "SET max_pinned=2");
    assert_eq!(pool.settings.load().max_pinned, 2);
    let list = "SET session_features = 'reject, load=allow'";
    assert_eq!(console.tag(list).await, "SET session_features=reject, load=allow");
    assert_eq!(pool.settings.load().features.to_string(), "reject, load=allow");
}
