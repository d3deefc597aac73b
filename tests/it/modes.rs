//! When a backend changes hands: exactly at a ReadyForQuery that says idle with nothing owed in transaction mode, never
//! in a transaction block in statement mode, at the client's end in session mode.

mod leaving;
mod session;

use std::time::Duration;

use crate::support::{
    Cluster, Pooler, Raw, eventually, for_each_worker_count,
    messages::{bind, copy_fail, execute, extended, flush, parse, query, sync},
    reply::{rows, tags},
};

const SOON: Duration = Duration::from_secs(10);
/// Long enough for an answer that must not come.
const MOMENT: Duration = Duration::from_millis(30);

/// A pool of one backend, and two clients of it.
struct Pair {
    cluster: Cluster,
    pooler: Pooler,
    console: Raw,
    first: Raw,
    second: Raw,
}

impl Pair {
    fn start(mode: &str, workers: usize) -> Self {
        let cluster = Cluster::start();
        cluster.sql("app", "create table marks (x int); grant all on marks to public");
        let pooler = Pooler::start(
            &cluster,
            &format!(
                "[pgpool]\nauth_type = \"trust\"\npool_mode = \"{mode}\"\nworker_threads = {workers}\ndefault_pool_size = 1"
            ),
        );
        let [first, second] = [(), ()].map(|()| pooler.login("alice", "alicepw", "app"));
        let console = pooler.console();
        Self { cluster, pooler, console, first, second }
    }

    /// The second client asks for something and has to wait.
    fn second_asks_and_waits(&mut self) {
        self.second.send(&query("select 'second'"));
        let console = &mut self.console;
        eventually(SOON, "the second client is queued", || waiting(console) == 1);
        assert!(self.second.is_silent_for(MOMENT), "the second client was served");
    }

    fn second_is_served(&mut self) {
        let answer = self.second.read_until_ready();
        assert_eq!((tags(&answer).as_str(), answer[1].row()), ("TDCZ", vec![Some("second".to_owned())]));
        assert_eq!(waiting(&mut self.console), 0);
    }

    /// The first client gets the replies `wanted` to `bytes` and still has the backend; then `end` releases it.
    fn first_holds(&mut self, bytes: &[u8], wanted: &str, end: &[u8]) {
        self.first.send(bytes);
        let replies: Vec<_> = wanted.bytes().map(|_| self.first.read()).collect();
        assert_eq!(tags(&replies), wanted);
        let console = &mut self.console;
        eventually(SOON, "the first client has the backend", || pool_figure(console, "sv_active") == 1);
        self.second_asks_and_waits();
        self.first.send(end);
        assert_eq!(self.first.read_until_ready().last().unwrap().status(), 'I');
        self.second_is_served();
    }
}

/// How many clients of alice wait for a backend.
fn waiting(console: &mut Raw) -> u32 {
    pool_figure(console, "cl_waiting")
}

/// A figure of alice's pool in SHOW POOLS.
fn pool_figure(console: &mut Raw, column: &str) -> u32 {
    console.send(&query("show pools"));
    let answer = console.read_until_ready();
    // Each column is its name and 18 bytes of facts.
    let mut names = Vec::new();
    let mut rest = &answer[0].body[2..];
    while let Some(end) = rest.iter().position(|byte| *byte == 0) {
        names.push(String::from_utf8_lossy(&rest[..end]).into_owned());
        rest = &rest[end + 19..];
    }
    let index = names.iter().position(|name| name == column).unwrap();
    let rows = rows(&answer).unwrap();
    let alice = rows.iter().find(|row| row[1].as_deref() == Some("alice")).unwrap();
    alice[index].as_ref().unwrap().parse().unwrap()
}

fn backend_pid(client: &mut Raw) -> String {
    client.value("select pg_backend_pid()")
}

#[test]
fn a_backend_is_released_at_the_end_of_a_transaction_and_not_before() {
    for_each_worker_count(|workers| {
        let mut pair = Pair::start("transaction", workers);
        pair.first_holds(&query("begin"), "CZ", &query("commit"));
        pair.first_holds(&[query("begin"), query("select 1 / 0")].concat(), "CZEZ", &query("rollback"));
        pair.first_holds(&query("begin; select 1"), "CTDCZ", &query("select 1; commit"));
        pair.first_holds(&extended("begin", &[]), "12nCZ", &extended("commit", &[]));
        // Afterwards they take turns on the one backend.
        let pid = backend_pid(&mut pair.first);
        for _ in 0..5 {
            assert_eq!((backend_pid(&mut pair.second), backend_pid(&mut pair.first)), (pid.clone(), pid.clone()));
        }
    });
}

#[test]
fn a_backend_is_held_while_the_client_owes_the_end_of_a_request() {
    for_each_worker_count(|workers| {
        let mut pair = Pair::start("transaction", workers);
        let unsynced = [parse("", "select 1", &[]), flush()].concat();
        pair.first_holds(&unsynced, "1", &sync());
        pair.first_holds(&[parse("", "selekt", &[]), flush()].concat(), "E", &sync());
        pair.first_holds(&[extended("select 1", &[]), unsynced].concat(), "12TDCZ1", &sync());
        let executed = [parse("", "select 1", &[]), bind("", "", &[]), execute("", 0), flush()].concat();
        pair.first_holds(&executed, "12DC", &sync());
        pair.first_holds(&query("copy marks from stdin"), "G", &copy_fail("no"));
        // Half of a message is on its way, which is too long to be kept until it is whole.
        let long = query(&format!("select 'slow' /* {} */", "x".repeat(70_000)));
        let (head, rest) = long.split_at(65_000);
        pair.first_holds(head, "", rest);
        // Half of a short one keeps nobody waiting.
        let short = query("select 'short'");
        let (head, rest) = short.split_at(9);
        pair.first.send(head);
        pair.second.send(&query("select 'second'"));
        pair.second_is_served();
        pair.first.send(rest);
        assert_eq!(tags(&pair.first.read_until_ready()), "TDCZ");
    });
}

#[test]
fn a_backend_is_held_until_the_last_sync_in_flight_is_answered() {
    for_each_worker_count(|workers| {
        let mut pair = Pair::start("transaction", workers);
        let mut locker = Raw::login(pair.cluster.port(), "postgres", "", "app");
        for last in [extended("select count(*) from marks", &[]), query("select count(*) from marks")] {
            locker.query("begin; lock table marks").unwrap();
            pair.first.send(&[extended("select 1", &[]), last].concat());
            assert_eq!(pair.first.read_until_ready().last().unwrap().status(), 'I');
            pair.second_asks_and_waits();
            locker.query("commit").unwrap();
            assert_eq!(pair.first.read_until_ready().last().unwrap().status(), 'I');
            pair.second_is_served();
        }
    });
}

#[test]
fn statement_mode_refuses_transaction_blocks() {
    for_each_worker_count(|workers| {
        let mut pair = Pair::start("statement", workers);
        for request in [
            query("begin"),
            query("begin; insert into marks values (1)"),
            extended("begin", &[]),
            query("insert into marks values (2); begin; insert into marks values (3)"),
        ] {
            let dirty = backend_pid(&mut pair.second);
            let mut client = pair.pooler.login("alice", "alicepw", "app");
            client.send(&request);
            let error = client.expect_error();
            assert_eq!(
                (error.severity.as_str(), error.code.as_str(), error.message.as_str()),
                ("FATAL", "0A000", "transaction blocks not allowed in statement pooling mode")
            );
            client.expect_eof();
            // What had begun is rolled back.
            assert_eq!(backend_pid(&mut pair.second), dirty);
            assert_eq!(pair.second.value("select count(*) from marks where x in (1, 3)"), "0");
        }
        // Several statements of one Query are one implicit transaction, and so is what stands before a Sync.
        assert_eq!(pair.first.value("insert into marks values (4); select count(*) from marks where x = 4"), "1");
        assert!(pair.first.query("begin; commit").is_ok());
    });
}

#[test]
fn statement_mode_gives_each_statement_to_whoever_comes() {
    let mut pair = Pair::start("statement", 1);
    let pid = backend_pid(&mut pair.first);
    assert_eq!(backend_pid(&mut pair.second), pid);
    pair.first_holds(&[parse("", "select 1", &[]), flush()].concat(), "1", &sync());
}

#[test]
fn the_users_pool_mode_wins_over_the_databases_and_that_over_the_general_one() {
    let cluster = Cluster::start();
    for (general, database, user, wanted) in [
        ("session", "unset", "unset", "session"),
        ("transaction", "session", "unset", "session"),
        ("session", "statement", "unset", "statement"),
        ("statement", "session", "transaction", "transaction"),
        ("transaction", "statement", "session", "session"),
        ("transaction", "unset", "statement", "statement"),
    ] {
        let pooler = Pooler::start(
            &cluster,
            &format!(
                "[pgpool]\npool_mode = \"{general}\"\ndefault_pool_size = 1\n\
                 [databases.app]\npool_mode = \"{database}\"\n[users.alice]\npool_mode = \"{user}\""
            ),
        );
        assert_eq!(observed_mode(&pooler), wanted, "{general}, {database}, {user}");
    }
}

/// The pool mode of alice on `app` by what it does; the pool has one backend.
fn observed_mode(pooler: &Pooler) -> &'static str {
    let mut first = pooler.login("alice", "alicepw", "app");
    first.send(&query("begin"));
    let answer = [first.read(), first.read()];
    if answer[1].tag == b'E' {
        assert_eq!(answer[1].error().code, "0A000");
        return "statement";
    }
    assert_eq!(tags(&answer), "CZ");
    first.query("commit").unwrap();
    let mut console = pooler.console();
    let mut second = pooler.login("alice", "alicepw", "app");
    second.send(&query("select 1"));
    let mut served = false;
    eventually(SOON, "the second client is served or queued", || {
        served = !second.is_silent_for(Duration::from_millis(1));
        served || waiting(&mut console) == 1
    });
    if served { "transaction" } else { "session" }
}
