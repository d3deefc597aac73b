//! `-d`, the pidfile, the log file at a reload, descriptors that run out, sockets of systemd: the process as the system
//! sees it.

use std::{fs, os::unix::net::UnixDatagram, path::Path, process::Command, time::Duration};

use crate::support::{
    Cluster, Pooler, Raw, eventually, pooler,
    process::{LoggingChild, Signal, send_signal},
    programs::{bound_to_this_thread, give_to_postgres},
};

const SOON: Duration = Duration::from_secs(10);

/// Ends the process of a pidfile with the test.
struct Background(u32);

impl Drop for Background {
    fn drop(&mut self) {
        let _ = send_signal(self.0, Signal::KILL);
    }
}

fn is_running(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn a_process_in_the_background_answers_when_it_serves() {
    let cluster = Cluster::start();
    let dir = tempfile::tempdir().unwrap();
    give_to_postgres(dir.path());
    let settings = "[pgpool]\nauth_type = \"trust\"\npidfile = \"pid\"\nlogfile = \"log\"\n";
    let file = pooler::write_settings(&cluster, dir.path(), settings);
    let done = pooler::run(&["-d", file.to_str().unwrap()], SOON);
    let log = || fs::read_to_string(dir.path().join("log")).unwrap_or_default();
    assert_eq!(done.code, Some(0), "{done:?} {}", log());
    let pid: u32 = fs::read_to_string(dir.path().join("pid")).unwrap().trim().parse().unwrap();
    let _background = Background(pid);
    assert!(log().contains("pgpool is ready"), "{}", log());
    // It has no terminal and is nobody's child here.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let session: u32 = stat.rsplit(") ").next().unwrap().split(' ').nth(3).unwrap().parse().unwrap();
    assert_eq!(session, pid);
    let mut client = Raw::connect_unix(&dir.path().join(".s.PGSQL.0"));
    client.startup(&[("user", "alice"), ("database", "app")]);
    client.authenticate("alice", "alicepw").unwrap();
    assert_eq!(client.value("select 1"), "1");

    // Another one says who is there and what to do.
    let second = pooler::run(&["-d", file.to_str().unwrap()], SOON);
    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(second.stderr.contains(&format!("names the process {pid} (pgpool), which is running")), "{second:?}");
    // In its place.
    let taking_over = pooler::run(&["-d", "-R", file.to_str().unwrap()], SOON);
    assert_eq!(taking_over.code, Some(0), "{taking_over:?}");
    let next: u32 = fs::read_to_string(dir.path().join("pid")).unwrap().trim().parse().unwrap();
    let _next = Background(next);
    assert!(next != pid && is_running(pid) && is_running(next));
    drop(client);
    eventually(SOON, "the first one ends", || !is_running(pid));
    send_signal(next, Signal::TERM).unwrap();
    eventually(SOON, "the second one ends", || !is_running(next));
    assert!(!dir.path().join("pid").exists());
}

#[test]
fn what_keeps_it_from_the_background_is_told_in_the_foreground() {
    let cluster = Cluster::start();
    let dir = tempfile::tempdir().unwrap();
    give_to_postgres(dir.path());
    let run = |settings: &str| {
        let file = pooler::write_settings(&cluster, dir.path(), settings);
        pooler::run(&["-d", file.to_str().unwrap()], SOON)
    };
    let no_pidfile = run("");
    assert!(
        no_pidfile.code == Some(1) && no_pidfile.stderr.contains("-d needs the setting `pidfile`"),
        "{no_pidfile:?}"
    );
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let settings = format!("[pgpool]\npidfile = \"pid\"\nlisten_port = {port}\nunix_socket_dir = \"/nowhere\"\n");
    let failed = run(&settings);
    assert_eq!(failed.code, Some(1), "{failed:?}");
    for told in ["listen_addr`, ", "pgpool.toml:", "another process listens there", "the directory has to exist"] {
        assert!(failed.stderr.contains(told), "{told}: {failed:?}");
    }
    assert!(!dir.path().join("pid").exists());
}

/// Whoever uses the socket would find out too late.
#[test]
fn nobody_starts_without_the_socket_that_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pgpool.toml");
    let own = dir.path().display();
    for (settings, told) in [
        ("unix_socket_dir = \"/nowhere\"".to_owned(), ["(setting `unix_socket_dir`, ", "the directory has to exist"]),
        (
            format!("unix_socket_dir = \"{own}\"\nunix_socket_group = \"nosuchgroup\""),
            ["(setting `unix_socket_group`, ", "the group has to exist"],
        ),
    ] {
        let text = format!("[pgpool]\nlisten_port = 0\n{settings}\n[databases.app]\n");
        fs::write(&file, text).unwrap();
        give_to_postgres(dir.path());
        let done = pooler::run(&[file.to_str().unwrap()], SOON);
        assert_eq!(done.code, Some(1), "{done:?}");
        assert!(told.iter().all(|told| done.stderr.contains(told)), "{told:?}: {done:?}");
    }
}

#[test]
fn a_stale_pidfile_is_replaced_and_the_log_is_opened_again_at_a_reload() {
    let cluster = Cluster::start();
    let pooler = Pooler::start(&cluster, "[pgpool]\nlogfile = \"log\"");
    let (log, moved) = (pooler.dir().join("log"), pooler.dir().join("log.1"));
    // Another file of the same name, as logrotate's `create` leaves it: the next line shows where it goes.
    fs::rename(&log, &moved).unwrap();
    pooler.reload(&cluster, "[pgpool]\nlogfile = \"log\"\nlog_stats = false");
    eventually(SOON, "the new file has the reload", || {
        fs::read_to_string(&log).is_ok_and(|text| text.contains("configuration reloaded"))
    });
    assert!(!fs::read_to_string(&moved).unwrap().contains("reloaded"));
}

#[test]
fn a_reload_and_set_change_where_and_how_much_is_logged() {
    let cluster = Cluster::start();
    let pooler = Pooler::start(&cluster, "[pgpool]\nlogfile = \"log\"");
    let text = |name: &str| fs::read_to_string(pooler.dir().join(name)).unwrap_or_default();
    pooler.console().query("SET verbose = 1").unwrap();
    // A connection that says nothing is logged at the level of DEBUG.
    let comes_and_goes = || drop(std::net::TcpStream::connect(("127.0.0.1", pooler.port())).unwrap());
    eventually(SOON, "more is logged", || {
        comes_and_goes();
        text("log").contains("no login")
    });
    // The reload takes that back, and goes on in another file.
    let mark = pooler.reload(&cluster, "[pgpool]\nlogfile = \"other\"");
    pooler.wait_for_log_since(mark, "configuration reloaded", SOON);
    assert!(text("other").contains("configuration reloaded") && !text("log").contains("configuration reloaded"));
    comes_and_goes();
    pooler.console().query("SHOW VERSION").unwrap();
    eventually(SOON, "lines go there", || text("other").contains("console session ended"));
    assert!(!text("other").contains("no login"), "{}", text("other"));
    // One that cannot be opened leaves it at that.
    let mark = pooler.reload(&cluster, "[pgpool]\nlogfile = \"nosuch/log\"\nverbose = 1");
    pooler.wait_for_log_since(mark, "cannot write logfile", SOON);
    eventually(SOON, "the former file goes on", || {
        comes_and_goes();
        text("other").contains("no login")
    });
    // Without one there is standard error.
    let mark = pooler.reload(&cluster, "");
    pooler.wait_for_log_since(mark, "configuration reloaded", SOON);
    let length = text("other").len();
    let mark = pooler.log_len();
    pooler.console().query("SHOW VERSION").unwrap();
    pooler.wait_for_log_since(mark, "console session ended", SOON);
    assert_eq!(text("other").len(), length);
}

#[test]
fn quiet_is_silent_on_standard_error() {
    let cluster = Cluster::start();
    let dir = tempfile::tempdir().unwrap();
    give_to_postgres(dir.path());
    let settings = "[pgpool]\nlogfile = \"log\"\npidfile = \"pid\"\n";
    let file = pooler::write_settings(&cluster, dir.path(), settings);
    let done = pooler::run(&["-d", "-q", file.to_str().unwrap()], SOON);
    let pid: u32 = fs::read_to_string(dir.path().join("pid")).unwrap().trim().parse().unwrap();
    let _background = Background(pid);
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
}

#[test]
fn the_version_is_that_of_the_console() {
    let cluster = Cluster::start();
    let pooler = Pooler::start(&cluster, "");
    let printed = pooler::run(&["-V"], SOON).stdout;
    assert_eq!(printed.lines().next().unwrap(), pooler.console().value("show version"));
}

#[test]
fn an_abstract_socket_serves_and_is_taken_over() {
    let cluster = Cluster::start();
    let dir = tempfile::tempdir().unwrap();
    let name = format!("@pgpool-{}", dir.path().file_name().unwrap().to_str().unwrap());
    // libpq needs a port in the name.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let pooler_port = port.to_string();
    let settings = format!("auth_type = \"trust\"\nunix_socket_dir = \"{name}\"\nlisten_port = {port}");
    let pooler = Pooler::start(&cluster, &format!("[pgpool]\n{settings}"));
    assert_eq!(pooler.socket(), Path::new(&format!("{name}/.s.PGSQL.{port}")));
    let psql = || {
        let socket = ["-XAtq", "-h", &name, "-p", &pooler_port, "-U", "alice", "-d", "app", "-c", "select 1"];
        let output = Command::new("psql").args(socket).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "1\n", "{output:?}");
    };
    psql();
    let client = pooler.login("alice", "alicepw", "app");
    let successor = pooler.successor();
    psql();
    assert!(successor.log().contains("the listening sockets were taken over"));
    drop(client);
}

#[test]
fn out_of_descriptors_it_pauses_and_does_not_spin() {
    let cluster = Cluster::start();
    let settings = "[pgpool]\nworker_threads = 1\nauth_type = \"trust\"\nlog_connections = false\n\
                    slot_budget = \"off\"";
    let pooler = Pooler::with_descriptors(&cluster, 32, settings);
    let mut served = pooler.login("alice", "alicepw", "app");
    let mut others: Vec<Raw> = (0..30).map(|_| Raw::connect(pooler.port())).collect();
    pooler.wait_for_log("cannot accept, pausing", SOON);
    let ticks = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", pooler.pid())).unwrap();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let before = ticks();
    for _ in 0..20 {
        assert_eq!(served.value("select 1"), "1");
        std::thread::sleep(Duration::from_millis(100));
    }
    // Hundredths of a second, within two seconds.
    assert!(ticks() - before < 60, "{} ticks", ticks() - before);
    assert_eq!(pooler.log().matches("cannot accept, pausing").count(), 1);
    let mut last = others.pop().unwrap();
    drop(others);
    last.startup(&[("user", "alice"), ("database", "app")]);
    last.authenticate("alice", "alicepw").unwrap();
    assert_eq!(last.value("select 2"), "2");
    pooler.wait_for_log("accepting again", SOON);
}

#[test]
fn systemd_opens_the_sockets_and_is_told() {
    let cluster = Cluster::start();
    let dir = tempfile::tempdir().unwrap();
    give_to_postgres(dir.path());
    let notified = dir.path().join("notify");
    let manager = UnixDatagram::bind(&notified).unwrap();
    give_to_postgres(&notified);
    manager.set_read_timeout(Some(SOON)).unwrap();
    let file = pooler::write_settings(&cluster, dir.path(), "[pgpool]\nauth_type = \"trust\"\n");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    // What systemd does: it opens the socket, becomes the service's user, and starts the program in its place.
    let script = "import os, socket, sys\n\
                  s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n\
                  s.bind(('127.0.0.1', int(sys.argv[1]))); s.listen(16)\n\
                  os.dup2(os.dup(s.fileno()), 3, inheritable=True)\n\
                  os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))\n\
                  os.execv(sys.argv[2], sys.argv[2:])";
    let mut command = bound_to_this_thread(Path::new("/usr/bin/python3"));
    command.args(["-c", script, &port.to_string(), env!("CARGO_BIN_EXE_pgpool")]).arg(&file);
    command.env("NOTIFY_SOCKET", &notified);
    let mut service = LoggingChild::spawn("the service", command);
    let told = || {
        let mut message = [0; 500];
        let length = manager.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    assert_eq!(told(), format!("MAINPID={}\nREADY=1\nSTATUS=serving", service.pid()));
    assert_eq!(Raw::login(port, "alice", "alicepw", "app").value("select 1"), "1");
    // listen_addr and unix_socket_dir do not count then, as in PgBouncer.
    assert_eq!(service.log().matches("listening on").count(), 1);
    service.signal(Signal::HUP);
    assert!(told().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert_eq!(told(), "READY=1");
    service.signal(Signal::TERM);
    assert!(told().starts_with("STOPPING=1"));
    assert_eq!(service.wait_exit(SOON).code(), Some(0));
}
