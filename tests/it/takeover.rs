//! Online restart: `-R` takes the listening sockets over, and nobody notices.

use std::{
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use crate::support::{
    Cluster, Pooler, Raw, eventually, for_each_worker_count, messages, pooler,
    process::{LoggingChild, Signal},
    programs::{find, postgres_bin_dir},
};

const SOON: Duration = Duration::from_secs(10);

fn pgbench() -> Command {
    let program = find("pgbench").unwrap_or_else(|| postgres_bin_dir().join("pgbench"));
    Command::new(program)
}

fn benching(arguments: &[&str], dsn: &str) -> Child {
    pgbench().args(arguments).arg(dsn).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// The proof: clients that connect for each transaction, and clients that stay, while ten processes follow each other.
#[test]
fn no_transaction_fails_while_the_process_is_replaced_ten_times() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let mut pooler = Pooler::trusting(
            &cluster,
            workers,
            "default_pool_size = 3\nlog_connections = false\nquery_wait_timeout = 20",
        );
        let dsn = pooler.dsn("alice", "alicepw", "app");
        let direct = cluster.port().to_string();
        let made = pgbench()
            .args(["-i", "-q", "-s", "1", "-p", &direct, "-U", "alice", "-h", "127.0.0.1", "app"])
            .env("PGPASSWORD", "alicepw")
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let seconds = "16";
        // A thread each: one that waits for a connection must not hold up another that is in a transaction.
        let coming = benching(&["-n", "-C", "-c", "4", "-j", "4", "-T", seconds], &dsn);
        let staying = benching(&["-n", "-c", "4", "-j", "4", "-T", seconds, "-M", "prepared"], &dsn);
        // Mostly idle, which is when a client could be taken for one that nobody needs.
        let resting = benching(&["-n", "-c", "4", "-T", seconds, "-j", "4", "-R", "8", "-S"], &dsn);
        let mut successors: Vec<LoggingChild> = Vec::new();
        for _ in 0..10 {
            thread::sleep(Duration::from_millis(800));
            successors.push(pooler.successor());
        }
        for bench in [coming, staying, resting] {
            let output = bench.wait_with_output().unwrap();
            let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(output.status.success(), "{said}{complained}");
            assert!(said.contains("number of failed transactions: 0 "), "{said}");
            assert!(!complained.contains("ERROR") && !complained.contains("FATAL"), "{complained}");
            eprintln!("{said}");
        }
        // All but the last have nobody left.
        assert_eq!(pooler.wait_exit(SOON).code(), Some(0));
        let mut last = successors.pop().unwrap();
        for mut former in successors {
            assert_eq!(former.wait_exit(SOON).code(), Some(0));
        }
        assert!(last.is_running());
        assert_eq!(pooler.login("alice", "alicepw", "app").value("select 1"), "1");
        // What a process needs for its successor goes with it.
        let left: Vec<_> = std::fs::read_dir(pooler.dir()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.iter().filter(|name| name.to_string_lossy().starts_with(".s.PGSQL")).count() == 2, "{left:?}");
        let mut by_socket = Raw::connect_unix(pooler.socket());
        by_socket.startup(&[("user", "alice"), ("database", "app")]);
        by_socket.authenticate("alice", "alicepw").unwrap();
        assert_eq!(by_socket.value("select 2"), "2");
    });
}

#[test]
fn the_former_process_serves_its_clients_and_their_cancel_requests() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let mut pooler = Pooler::trusting(&cluster, workers, "default_pool_size = 1");
        let mut old = pooler.login("alice", "alicepw", "app");
        let mut queued = pooler.login("alice", "alicepw", "app");
        old.query("begin").unwrap();
        queued.send(&messages::query("select 'served'"));
        let mut first = pooler.successor();
        let mut second = pooler.successor();
        pooler.wait_for_log("another process has taken over", SOON);
        // Two processes later its key is still known.
        old.send(&messages::query("select pg_sleep(60)"));
        eventually(SOON, "the query runs", || {
            cluster.sql("app", "select count(*) from pg_stat_activity where query like 'select pg_sleep%'") == "1"
        });
        Raw::cancel(pooler.port(), old.backend_key.as_ref().unwrap());
        assert_eq!(old.expect_error().code, "57014");
        old.read_until_ready();
        old.query("rollback").unwrap();
        assert_eq!(queued.read_until(b'D').pop().unwrap().row(), [Some("served".to_owned())]);
        queued.read_until_ready();
        assert_eq!(first.wait_exit(SOON).code(), Some(0), "it had no clients");
        assert!(pooler.is_running() && second.is_running());
        drop((old, queued));
        assert_eq!(pooler.wait_exit(SOON).code(), Some(0));
        // An unknown key of nobody.
        Raw::cancel(pooler.port(), &(7, vec![1, 2, 3, 4]));
        second.signal(Signal::TERM);
        assert_eq!(second.wait_exit(SOON).code(), Some(0));
    });
}

#[test]
fn idle_clients_of_the_former_process_are_told_where_that_is_set() {
    let cluster = Cluster::start();
    let mut pooler = Pooler::trusting(&cluster, 1, "takeover_window = 1\ntakeover_timeout = 60");
    let mut idle = pooler.login("alice", "alicepw", "app");
    let mut busy = pooler.login("alice", "alicepw", "app");
    busy.query("begin").unwrap();
    let _successor = pooler.successor();
    assert_eq!(idle.expect_error().code, "57P01");
    busy.query("commit").unwrap();
    assert_eq!(busy.expect_error().code, "57P01");
    assert_eq!(pooler.wait_exit(SOON).code(), Some(0));
    assert_eq!(pooler.login("alice", "alicepw", "app").value("select 1"), "1");
}

#[test]
fn the_socket_goes_over_whichever_way_leads_to_its_directory() {
    let cluster = Cluster::start();
    let mut pooler = Pooler::trusting(&cluster, 1, "");
    let (dir, file) = (pooler.dir().to_owned(), pooler.settings_file());
    std::os::unix::fs::symlink(&dir, dir.join("here")).unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    let quoted = |dir: &std::path::Path| format!("unix_socket_dir = \"{}\"", dir.display());
    assert!(text.contains(&quoted(&dir)), "{text}");
    std::fs::write(&file, text.replace(&quoted(&dir), &quoted(&dir.join("here")))).unwrap();
    let mut successor = pooler.successor();
    assert_eq!(pooler.wait_exit(SOON).code(), Some(0));
    let mut by_socket = Raw::connect_unix(pooler.socket());
    by_socket.startup(&[("user", "alice"), ("database", "app")]);
    by_socket.authenticate("alice", "alicepw").unwrap();
    assert_eq!(by_socket.value("select 1"), "1");
    drop(by_socket);
    successor.signal(Signal::TERM);
    assert_eq!(successor.wait_exit(SOON).code(), Some(0));
    let left: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with(".s.PGSQL")), "{left:?}");
}

#[test]
fn a_process_that_cannot_serve_takes_nothing_over() {
    let cluster = Cluster::start();
    let mut pooler = Pooler::trusting(&cluster, 1, "");
    let file = pooler.settings_file();
    let good = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, good.replace("[pgpool]", "[pgpool]\npool_mod = 1")).unwrap();
    let failed = pooler::run(&["-R", file.to_str().unwrap()], SOON);
    assert!(failed.code == Some(1) && failed.stderr.contains("pool_mod"), "{failed:?}");
    let tls = "client_tls_sslmode = \"require\"\nclient_tls_key_file = \"no\"\nclient_tls_cert_file = \"no\"";
    std::fs::write(&file, good.replace("[pgpool]", &format!("[pgpool]\n{tls}"))).unwrap();
    let failed = pooler::run(&["-R", file.to_str().unwrap()], SOON);
    assert!(failed.code == Some(1), "{failed:?}");
    // One that comes as far as asking, and ends there.
    let mut path = pooler.socket().as_os_str().to_owned();
    path.push(".takeover");
    let mut asking = std::os::unix::net::UnixStream::connect(&path).unwrap();
    std::io::Write::write_all(&mut asking, b"pgpool takeover 1\n").unwrap();
    drop(asking);
    pooler.wait_for_log("another process did not take over", SOON);
    assert!(pooler.is_running());
    assert_eq!(pooler.login("alice", "alicepw", "app").value("select 1"), "1");
    // Nor is the file of the socket gone.
    let mut by_socket = Raw::connect_unix(pooler.socket());
    by_socket.startup(&[("user", "alice"), ("database", "app")]);
    by_socket.authenticate("alice", "alicepw").unwrap();
}

#[test]
fn without_a_process_to_take_over_from_it_starts() {
    let cluster = Cluster::start();
    let pooler = Pooler::start_with(&cluster, "[pgpool]\nauth_type = \"trust\"\npidfile = \"pid\"", &["-R"]);
    let pidfile = || std::fs::read_to_string(pooler.dir().join("pid")).unwrap_or_default().trim().to_owned();
    assert_eq!(pidfile(), pooler.pid().to_string());
    let client = pooler.login("alice", "alicepw", "app");
    let successor = pooler.successor();
    assert_eq!(pidfile(), successor.pid().to_string());
    drop(client);
    pooler.wait_for_log("pgpool has ended", SOON);
    assert_eq!(pidfile(), successor.pid().to_string());
}
