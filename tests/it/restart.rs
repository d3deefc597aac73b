//! A process that is replaced, or ends, at an awkward moment: in the middle of its end, of a maintenance, or beside
//! somebody who has its files.

use std::{fs, path::Path, time::Duration};

use crate::support::{Cluster, Pooler, Raw, eventually, for_each_worker_count, messages, pooler, process::Signal};

const SOON: Duration = Duration::from_secs(10);
const A_WHILE: Duration = Duration::from_millis(300);

/// What a start with `-R` says that has to fail.
fn fails_to_take_over(pooler: &Pooler) -> String {
    let failed = pooler::run(&["-R", pooler.settings_file().to_str().unwrap()], SOON);
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert!(!failed.stderr.contains("pgpool is ready"), "{failed:?}");
    failed.stderr
}

fn serves_at(socket: &Path) {
    let mut client = Raw::connect_unix(socket);
    client.startup(&[("user", "alice"), ("database", "app")]);
    client.authenticate("alice", "alicepw").unwrap();
    assert_eq!(client.value("select 1"), "1");
}

fn refuses_connections(pooler: &Pooler) -> bool {
    std::net::TcpStream::connect(("127.0.0.1", pooler.port())).is_err()
}

fn pidfile(pooler: &Pooler) -> String {
    fs::read_to_string(pooler.dir().join("pid")).unwrap_or_default().trim().to_owned()
}

#[test]
fn a_process_that_drains_is_taken_over_from() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        for signal in [Signal::TERM, Signal::INT] {
            let settings = "pidfile = \"pid\"\ndrain_window = 0\ndrain_timeout = 0";
            let mut pooler = Pooler::trusting(&cluster, workers, settings);
            let mut busy = pooler.login("alice", "alicepw", "app");
            busy.query("begin").unwrap();
            pooler.signal(signal);
            eventually(SOON, "nobody is let in", || refuses_connections(&pooler));

            let mut first = pooler.successor();
            assert!(!first.log().contains("cannot listen"), "{}", first.log());
            assert_eq!(pidfile(&pooler), first.pid().to_string());
            serves_at(pooler.socket());
            assert_eq!(busy.value("select 'goes on'"), "goes on");
            // Cancel requests come to the new one.
            busy.send(&messages::query("select pg_sleep(60)"));
            eventually(SOON, "the query runs", || {
                cluster.sql("app", "select count(*) from pg_stat_activity where query like 'select pg_sleep%'") == "1"
            });
            let key = busy.backend_key.clone().unwrap();
            let mut asking = Raw::connect_unix(pooler.socket());
            asking.send(&messages::cancel_request(key.0, &key.1));
            assert_eq!(busy.expect_error().code, "57014");
            busy.read_until_ready();
            busy.send(&messages::query("rollback"));
            assert_eq!(busy.read().command(), "ROLLBACK");
            drop(busy);
            assert_eq!(pooler.wait_exit(SOON).code(), Some(0));

            // What the new one has stays.
            serves_at(pooler.socket());
            assert_eq!(pidfile(&pooler), first.pid().to_string());
            let mut second = pooler.successor();
            assert_eq!(first.wait_exit(SOON).code(), Some(0));
            serves_at(pooler.socket());
            second.signal(Signal::TERM);
            assert_eq!(second.wait_exit(SOON).code(), Some(0));
            assert!(!pooler.socket().exists() && pidfile(&pooler).is_empty());
        }
    });
}

#[test]
fn a_pidfile_of_somebody_else_keeps_a_process_from_starting() {
    let cluster = Cluster::start();
    let mut pooler = Pooler::trusting(&cluster, 1, "pidfile = \"pid\"");
    let other = cluster.pid().to_string();
    fs::write(pooler.dir().join("pid"), &other).unwrap();
    let told = fails_to_take_over(&pooler);
    assert!(told.contains(&format!("names the process {other}")), "{told}");
    pooler.wait_for_log("another process did not take over", SOON);
    assert_eq!(pooler.login("alice", "alicepw", "app").value("select 1"), "1");
    serves_at(pooler.socket());
    // Nor is the file of somebody else removed.
    pooler.signal(Signal::TERM);
    assert_eq!(pooler.wait_exit(SOON).code(), Some(0));
    assert_eq!(pidfile(&pooler), other);
}

#[test]
fn a_process_that_cannot_be_taken_over_from_is_not_doubled() {
    let cluster = Cluster::start();
    let pooler = Pooler::trusting(&cluster, 1, "");
    let mut control = pooler.socket().as_os_str().to_owned();
    control.push(".takeover");
    fs::remove_file(&control).unwrap();
    let told = fails_to_take_over(&pooler);
    assert!(told.contains("cannot take over (-R)") && told.contains("without -R"), "{told}");
    serves_at(pooler.socket());
}

#[test]
fn files_that_are_somebody_elses_by_now_stay() {
    let cluster = Cluster::start();
    let mut pooler = Pooler::trusting(&cluster, 1, "pidfile = \"pid\"");
    let other = cluster.pid().to_string();
    fs::write(pooler.dir().join("pid"), &other).unwrap();
    fs::remove_file(pooler.socket()).unwrap();
    let _another = std::os::unix::net::UnixListener::bind(pooler.socket()).unwrap();
    pooler.signal(Signal::TERM);
    assert_eq!(pooler.wait_exit(SOON).code(), Some(0));
    assert!(pooler.socket().exists());
    assert_eq!(pidfile(&pooler), other);
}

#[test]
fn a_maintenance_is_not_taken_over_from() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let mut pooler = Pooler::trusting(&cluster, workers, "");
        let mut console = pooler.console();
        for (command, undo, remedy) in [
            ("PAUSE", "RESUME", "RESUME"),
            ("PAUSE app", "RESUME app", "RESUME \"app\""),
            ("SUSPEND", "RESUME", "RESUME"),
        ] {
            console.query(command).unwrap();
            let told = fails_to_take_over(&pooler);
            assert!(told.contains("cannot take over (-R)") && told.contains(remedy), "{command}: {told}");
            console.query(undo).unwrap();
            assert_eq!(pooler.login("alice", "alicepw", "app").value("select 1"), "1");
        }
        drop(console);
        let _successor = pooler.successor();
        assert_eq!(pooler.wait_exit(SOON).code(), Some(0));
    });
}

#[test]
fn disabled_databases_are_so_in_the_next_process() {
    let cluster = Cluster::start();
    let more =
        format!("[databases.\"two\\nlines\"]\nhost = \"127.0.0.1\"\nport = {}\ndbname = \"app\"", cluster.port());
    let mut pooler = Pooler::trusting(&cluster, 1, &more);
    let mut console = pooler.console();
    console.query("DISABLE app").unwrap();
    console.query("DISABLE \"two\nlines\"").unwrap();
    drop(console);
    let first = pooler.successor();
    assert_eq!(pooler.wait_exit(SOON).code(), Some(0));
    let second = pooler.successor();
    eventually(SOON, "the first one has ended", || first.log().contains("pgpool has ended"));
    for name in ["app", "two\nlines"] {
        let refused = Raw::try_login(pooler.port(), "alice", "alicepw", name).err().unwrap();
        assert!(refused.message.contains("is disabled"), "{refused:?}");
    }
    pooler.console().query("ENABLE app").unwrap();
    assert_eq!(pooler.login("alice", "alicepw", "app").value("select 1"), "1");
    drop(second);
}

#[test]
fn what_was_paused_goes_on_in_a_process_that_ends() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        for taken_over in [true, false] {
            let pooler = Pooler::trusting(&cluster, workers, "drain_window = 0\ndrain_timeout = 0");
            let mut console = pooler.console_unix();
            let mut client = pooler.login("alice", "alicepw", "app");
            client.query("select 1").unwrap();
            let mut successor = taken_over.then(|| pooler.successor());
            if !taken_over {
                pooler.signal(Signal::TERM);
                eventually(SOON, "nobody is let in", || refuses_connections(&pooler));
            }
            assert!(console.query("RESUME").is_err());
            for by_signal in [false, true] {
                console.query("PAUSE").unwrap();
                client.send(&messages::query("select 'resumed'"));
                assert!(client.is_silent_for(A_WHILE));
                match by_signal {
                    true => pooler.signal(Signal::USR2),
                    false => drop(console.query("RESUME").unwrap()),
                }
                assert_eq!(client.read_until(b'D').pop().unwrap().row(), [Some("resumed".to_owned())]);
                client.read_until_ready();
            }
            console.query("PAUSE app").unwrap();
            console.query("RESUME app").unwrap();
            drop((client, console));
            pooler.wait_for_log("pgpool has ended", SOON);
            if let Some(successor) = &mut successor {
                assert!(successor.is_running());
            }
        }
    });
}

#[test]
fn what_runs_at_the_deadline_is_cancelled_before_its_client_is_told() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        cluster.sql("app", "create table kept(a int); grant all on kept to public");
        for taken_over in [false, true] {
            let settings = "drain_window = 0\ndrain_timeout = 1\ntakeover_timeout = 1\ndefault_pool_size = 2";
            let mut pooler = Pooler::trusting(&cluster, workers, settings);
            let mut writing = pooler.login("alice", "alicepw", "app");
            let mut within = pooler.login("alice", "alicepw", "app");
            let mut queued = pooler.login("alice", "alicepw", "app");
            within.query("begin").unwrap();
            within.query("insert into kept values (2)").unwrap();
            writing.send(&messages::query("insert into kept select 1 from pg_sleep(4)"));
            eventually(SOON, "the query runs", || running(&cluster) == "1");
            queued.send(&messages::query("insert into kept values (3)"));
            let mut successor = taken_over.then(|| pooler.successor());
            if !taken_over {
                pooler.signal(Signal::TERM);
            }
            assert_eq!(writing.expect_error().code, "57014");
            // By then PostgreSQL had ended it.
            assert_eq!(running(&cluster), "0");
            writing.read_until_ready();
            for client in [&mut writing, &mut within, &mut queued] {
                assert_eq!(client.expect_error().code, "57P01");
            }
            assert_eq!(pooler.wait_exit(SOON).code(), Some(0));
            assert_eq!(cluster.sql("app", "select count(*) from kept"), "0");
            if let Some(successor) = &mut successor {
                successor.signal(Signal::QUIT);
                successor.wait_exit(SOON);
            }
        }
    });
}

fn running(cluster: &Cluster) -> String {
    let running =
        "select count(*) from pg_stat_activity where query like 'insert into kept select%' and state = 'active'";
    cluster.sql("app", running)
}

#[test]
fn what_cannot_be_cancelled_does_not_keep_the_process() {
    let cluster = Cluster::start();
    let mut pooler = Pooler::trusting(&cluster, 1, "drain_window = 0\ndrain_timeout = 0.5");
    let mut stubborn = pooler.login("alice", "alicepw", "app");
    let endless = "do $$ begin for i in 1..20 loop begin perform pg_sleep(1); exception when query_canceled then null; \
                   end; end loop; end $$";
    stubborn.send(&messages::query(endless));
    eventually(SOON, "the query runs", || {
        cluster.sql("app", "select count(*) from pg_stat_activity where query like 'do $$%' and state = 'active'")
            == "1"
    });
    pooler.signal(Signal::TERM);
    assert_eq!(stubborn.expect_error().code, "57P01");
    assert_eq!(pooler.wait_exit(Duration::from_secs(5)).code(), Some(0));
}
