//! How many clients there are, and that those who leave a queue leave nothing behind.

use std::{thread, time::Duration};

use crate::support::{
    Cluster, Pooler, Raw, Table, eventually, for_each_worker_count, messages, pool_number, random::Random,
    reply::PgError,
};

const SOON: Duration = Duration::from_secs(5);

fn refused(pooler: &Pooler, user: &str, database: &str) -> PgError {
    let outcome = Raw::try_login(pooler.port(), user, &format!("{user}pw"), database);
    outcome.err().unwrap_or_else(|| panic!("{user} was let in to {database}"))
}

/// Checks a refusal: its text, and facts in DETAIL and HINT.
fn check(error: &PgError, message: &str, fact: &str, setting: &str) {
    let told = (error.severity.as_str(), error.code.as_str(), error.message.as_str());
    assert_eq!(told, ("FATAL", "53300", message));
    assert!(error.detail.as_ref().is_some_and(|detail| detail.contains(fact)), "{error:?}");
    assert!(error.hint.as_ref().is_some_and(|hint| hint.contains(setting)), "{error:?}");
}

#[test]
fn max_client_conn_refuses_clients_but_no_administrator() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let pooler = Pooler::trusting(&cluster, workers, "max_client_conn = 3");
        let mut clients: Vec<_> = (0..3).map(|_| pooler.login("alice", "alicepw", "app")).collect();
        let error = refused(&pooler, "bob", "app");
        let message = "no more connections allowed (max_client_conn)";
        check(&error, message, "3 clients are connected, max_client_conn is 3.", "max_client_conn");
        let mut console = pooler.console();
        eventually(SOON, "all are admitted", || {
            Table::of(&mut console, "SHOW POOLS").matching(&[("database", "app")]).number("cl_active") == 3
        });
        drop(console);
        // A cancel request is no client.
        let key = clients[0].backend_key.clone().unwrap();
        clients[0].send(&messages::query("select pg_sleep(30)"));
        eventually(SOON, "the query runs", || {
            cluster.sql("postgres", "select count(*) from pg_stat_activity where query like 'select pg_sleep(30)%'")
                == "1"
        });
        Raw::cancel(pooler.port(), &key);
        assert_eq!(clients[0].expect_error().code, "57014");
        clients.pop();
        eventually(SOON, "a place is free", || Raw::try_login(pooler.port(), "bob", "bobpw", "app").is_ok());
    });
}

#[test]
fn clients_per_database_and_per_user_are_limited() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let settings = format!(
            "max_db_client_connections = 2\nmax_user_client_connections = 3\n[databases.other]\nhost = \"127.0.0.1\"\n\
             port = {}\ndbname = \"app\"\n[databases.own]\nhost = \"127.0.0.1\"\nport = {}\ndbname = \"app\"\n\
             max_db_client_connections = 1\n[users.bob]\nmax_user_client_connections = 1",
            cluster.port(),
            cluster.port(),
        );
        let pooler = Pooler::trusting(&cluster, workers, &settings);
        let db_full = "client connections exceeded (max_db_client_connections)";
        let user_full = "client connections exceeded (max_user_client_connections)";
        let mut clients = vec![pooler.login("alice", "alicepw", "app"), pooler.login("alice", "alicepw", "app")];
        let fact = "The database \"app\" may have 2 client connections";
        check(&refused(&pooler, "carol", "app"), db_full, fact, "max_db_client_connections");
        clients.push(pooler.login("alice", "alicepw", "own"));
        let fact = "The database \"own\" may have 1 client connections";
        check(&refused(&pooler, "carol", "own"), db_full, fact, "max_db_client_connections");
        let fact = "The user \"alice\" may have 3 client connections";
        check(&refused(&pooler, "alice", "other"), user_full, fact, "max_user_client_connections");
        clients.push(pooler.login("bob", "bobpw", "other"));
        let fact = "The user \"bob\" may have 1 client connections";
        check(&refused(&pooler, "bob", "other"), user_full, fact, "max_user_client_connections");
        // A refused login takes no place, and neither does a client that has left.
        clients.remove(0);
        eventually(SOON, "a place is free", || Raw::try_login(pooler.port(), "alice", "alicepw", "other").is_ok());
    });
}

#[test]
fn clients_that_leave_the_queue_leak_nothing() {
    const CLIENTS: usize = 100;
    const SIZE: usize = 3;
    for_each_worker_count(|workers| {
        let mut random = Random::announced();
        let cluster = Cluster::start();
        let pooler = Pooler::trusting(&cluster, workers, &format!("default_pool_size = {SIZE}"));
        let mut console = pooler.console();
        let mut holders: Vec<_> = (0..SIZE).map(|_| pooler.login("alice", "alicepw", "app")).collect();
        for holder in &mut holders {
            holder.query("begin").unwrap();
        }
        let port = pooler.port();
        let mut queued: Vec<_> = (0..4)
            .map(|_| {
                thread::spawn(move || {
                    let login = |_| Raw::login(port, "alice", "alicepw", "app");
                    let mut clients: Vec<_> = (0..CLIENTS / 4).map(login).collect();
                    clients.iter_mut().for_each(|client| client.send(&messages::query("select 1")));
                    clients
                })
            })
            .flat_map(|clients| clients.join().unwrap())
            .collect();
        eventually(SOON, "all are queued", || {
            pool_number(&mut console, "app", "alice", "cl_waiting") == CLIENTS as u64
        });
        // They go in any order, while now and then a backend comes back for the next of them.
        while !queued.is_empty() {
            drop(queued.swap_remove(random.below(queued.len())));
            if random.below(10) == 0 {
                let holder = &mut holders[random.below(SIZE)];
                holder.query("commit").unwrap();
                holder.query("begin").unwrap();
            }
        }
        eventually(SOON, "nobody waits", || pool_number(&mut console, "app", "alice", "cl_waiting") == 0);
        for holder in &mut holders {
            holder.query("commit").unwrap();
        }
        let mut others: Vec<_> = (0..SIZE).map(|_| pooler.login("alice", "alicepw", "app")).collect();
        for other in &mut others {
            other.query("begin").unwrap();
        }
        let pools = Table::of(&mut console, "SHOW POOLS").matching(&[("user", "alice")]);
        let counts = ["cl_waiting", "sv_active", "sv_idle", "sv_login"].map(|name| pools.number(name));
        assert_eq!(counts, [0, SIZE as u64, 0, 0]);
        let databases = Table::of(&mut console, "SHOW DATABASES").matching(&[("name", "app")]);
        let counts = ["current_connections", "current_client_connections"].map(|name| databases.number(name));
        assert_eq!(counts, [SIZE as u64, 2 * SIZE as u64]);
        assert_eq!(cluster.backend_pids("alice").len(), SIZE);
    });
}
