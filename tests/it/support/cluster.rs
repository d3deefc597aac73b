//! A PostgreSQL of the test's own: a fresh data directory, a free port, nothing left behind.
//!
//! Roles: `postgres` (superuser, trusted), `alice` (SCRAM, `alicepw`), `bob` (MD5, `bobpw`), `carol` (clear text over the
//! wire, `carolpw`), `trusty` (trusted); database `app`. The kernel ends PostgreSQL with the thread that started it, so
//! start a cluster in the test's own thread.

use std::{
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use tempfile::TempDir;

use super::{
    janitor::Janitor,
    process::{Signal, send_signal},
    programs::{give_to_postgres, postgres_bin_dir, scratch_dir, unprivileged},
    template,
    wait::{eventually, holds_within},
};

const STARTS: Duration = Duration::from_secs(30);
const STOPS: Duration = Duration::from_secs(30);
const PORT_ATTEMPTS: usize = 20;
/// How much of its log a test that fails shows, in bytes.
const SHOWN: usize = 4000;

const CONF: &str = "\
listen_addresses = '127.0.0.1'
fsync = off
full_page_writes = off
synchronous_commit = off
shared_buffers = 16MB
autovacuum = off
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
logging_collector = off
log_line_prefix = '%m [%p] %u@%d '
";

const HBA: &str = "\
local all         postgres trust
local replication postgres trust
local all         trusty   trust
local all         bob      md5
local all         carol    password
local all         all      scram-sha-256
host  all         postgres 127.0.0.1/32 trust
host  replication postgres 127.0.0.1/32 trust
host  all         trusty   127.0.0.1/32 trust
host  all         bob      127.0.0.1/32 md5
host  all         carol    127.0.0.1/32 password
host  all         all      127.0.0.1/32 scram-sha-256
";

/// How PostgreSQL is told to stop, in `pg_ctl`'s words.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stop {
    /// When the last client has gone.
    Smart,
    /// Clients are sent away.
    Fast,
    /// At once; the next start recovers.
    Immediate,
}

#[derive(Debug, Default)]
pub(crate) struct Builder {
    conf: String,
    hba: String,
    port: Option<u16>,
}

#[derive(Debug)]
pub(crate) struct Cluster {
    postmaster: Option<Child>,
    port: u16,
    // Dropped in this order: the janitor last.
    dir: TempDir,
    _janitor: Janitor,
}

impl Builder {
    pub(crate) fn max_connections(self, count: u32) -> Self {
        self.conf(&format!("max_connections = {count}"))
    }

    /// One line of postgresql.conf.
    pub(crate) fn conf(mut self, line: &str) -> Self {
        self.conf.push_str(line);
        self.conf.push('\n');
        self
    }

    /// One line of pg_hba.conf, which goes before the usual ones.
    pub(crate) fn hba(mut self, line: &str) -> Self {
        self.hba.push_str(line);
        self.hba.push('\n');
        self
    }

    /// At this address, with the port that the other cluster has at its own.
    pub(crate) fn beside(mut self, other: &Cluster, address: &str) -> Self {
        self.port = Some(other.port());
        self.conf(&format!("listen_addresses = '{address}'"))
    }

    pub(crate) fn start(self) -> Cluster {
        Cluster::made_at(self.port, |data, socket_dir| {
            template::copy_to(data);
            let conf = format!("{CONF}unix_socket_directories = '{}'\n{}", socket_dir.display(), self.conf);
            fs::write(data.join("postgresql.auto.conf"), conf).expect("write the configuration");
            fs::write(data.join("pg_hba.conf"), format!("{}{HBA}", self.hba)).expect("write pg_hba.conf");
        })
    }
}

impl Cluster {
    /// Starts a PostgreSQL on the data directory that `make` makes, at this path; the other is for its socket.
    pub(super) fn made_by(make: impl FnOnce(&Path, &Path)) -> Cluster {
        Cluster::made_at(None, make)
    }

    fn made_at(port: Option<u16>, make: impl FnOnce(&Path, &Path)) -> Cluster {
        let dir = tempfile::Builder::new().prefix("pgpool-pg-").tempdir_in(scratch_dir()).expect("make a directory");
        let janitor = Janitor::watch(dir.path());
        give_to_postgres(dir.path());
        make(&dir.path().join("data"), dir.path());
        let mut cluster = Cluster { postmaster: None, port: 0, dir, _janitor: janitor };
        let started = (0..PORT_ATTEMPTS).any(|_| {
            cluster.port = port.unwrap_or_else(free_port);
            cluster.try_start()
        });
        assert!(started, "PostgreSQL did not start:\n{}", cluster.log());
        cluster
    }

    pub(crate) fn start() -> Self {
        Self::builder().start()
    }

    pub(crate) fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn socket_dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The postmaster's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.postmaster.as_ref().expect("PostgreSQL was stopped").id()
    }

    /// Runs SQL as `postgres` and returns what psql prints, without the last line's end: columns apart by `|`.
    pub(crate) fn sql(&self, database: &str, text: &str) -> String {
        let output = Command::new("psql")
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database])
            .args(["-p", &self.port.to_string(), "-c", text, "-h"])
            .arg(self.socket_dir())
            .env("PGCONNECT_TIMEOUT", "10")
            .output()
            .expect("start psql (on Debian: apt-get install postgresql-client)");
        let printed = String::from_utf8_lossy(&output.stdout);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "psql failed on: {text}\n{printed}{complaint}");
        printed.trim_end_matches('\n').to_owned()
    }

    /// The backends that serve clients as this user, without the one that pgpool asks for slots on.
    pub(crate) fn backend_pids(&self, user: &str) -> Vec<u32> {
        self.sql(
            "postgres",
            &format!(
                "select pid from pg_stat_activity where usename = '{user}' and backend_type = 'client backend' \
                 and application_name not like 'pgpool budget %' and pid <> pg_backend_pid() order by backend_start, pid"
            ),
        )
        .lines()
        .map(|pid| pid.parse().expect("a process id"))
        .collect()
    }

    /// Kills one backend so that it cannot say goodbye. PostgreSQL then ends all others and recovers: see
    /// [`Cluster::terminate_backend`] for the polite way.
    pub(crate) fn kill_backend(&self, pid: u32) {
        send_signal(pid, Signal::KILL).expect("kill a backend");
    }

    /// Nobody gets in, and nothing is cancelled, as long as the value lasts; those who are in go on.
    pub(crate) fn hold_up(&self) -> HeldUp<'_> {
        send_signal(self.pid(), Signal::STOP).expect("stop the postmaster");
        HeldUp(self)
    }

    /// Has PostgreSQL end one backend (SQLSTATE 57P01), and waits until it is gone.
    pub(crate) fn terminate_backend(&self, pid: u32) {
        let ended = self.sql("postgres", &format!("select pg_terminate_backend({pid}, 10000)"));
        assert_eq!(ended, "t", "backend {pid} did not end");
    }

    pub(crate) fn stop(&mut self, mode: Stop) {
        let Some(mut postmaster) = self.postmaster.take() else { return };
        let signal = match mode {
            Stop::Smart => Signal::TERM,
            Stop::Fast => Signal::INT,
            Stop::Immediate => Signal::QUIT,
        };
        send_signal(postmaster.id(), signal).expect("signal PostgreSQL");
        let ended = holds_within(STOPS, || postmaster.try_wait().expect("wait for PostgreSQL").is_some());
        if !ended {
            let _ = postmaster.kill();
            let _ = postmaster.wait();
            panic!("PostgreSQL did not stop within {STOPS:?}:\n{}", self.log());
        }
    }

    /// Starts a stopped PostgreSQL on the port that it had.
    pub(crate) fn start_again(&mut self) {
        assert!(self.postmaster.is_none(), "PostgreSQL runs already");
        assert!(self.try_start(), "PostgreSQL did not start again:\n{}", self.log());
    }

    pub(crate) fn restart(&mut self, mode: Stop) {
        self.stop(mode);
        self.start_again();
    }

    /// Has PostgreSQL read postgresql.auto.conf and pg_hba.conf again. Effects are not immediate: use `eventually`.
    pub(crate) fn reload(&self) {
        send_signal(self.pid(), Signal::HUP).expect("signal PostgreSQL");
    }

    /// Waits until PostgreSQL takes connections again, after a crash of a backend.
    pub(crate) fn wait_until_recovered(&self) {
        eventually(STARTS, "PostgreSQL takes connections again", || {
            Command::new("psql")
                .args(["-XAtqw", "-U", "postgres", "-d", "postgres", "-c", "select 1", "-p"])
                .arg(self.port.to_string())
                .arg("-h")
                .arg(self.socket_dir())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
        });
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("postgres.log")).unwrap_or_default()
    }

    /// `false` when PostgreSQL has ended instead of getting ready, as it does when the port is taken.
    fn try_start(&mut self) -> bool {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("postgres.log"))
            .expect("open PostgreSQL's log");
        let mut postmaster = unprivileged(&postgres_bin_dir().join("postgres"), "QUIT")
            .arg("-D")
            .arg(self.data_dir())
            .args(["-p", &self.port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("start postgres");
        let mut running = true;
        let settled = holds_within(STARTS, || {
            running = postmaster.try_wait().expect("wait for PostgreSQL").is_none();
            !running || self.is_ready()
        });
        self.postmaster = Some(postmaster);
        assert!(settled, "PostgreSQL is not ready after {STARTS:?}:\n{}", self.log());
        if !running {
            self.postmaster = None;
        }
        running
    }

    /// The eighth line of postmaster.pid is the postmaster's own word.
    fn is_ready(&self) -> bool {
        fs::read_to_string(self.data_dir().join("postmaster.pid"))
            .is_ok_and(|file| file.lines().nth(7).is_some_and(|status| status.trim() == "ready"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = self.log();
            let cut = log.ceil_char_boundary(log.len().saturating_sub(SHOWN));
            eprintln!("---- the end of the log of PostgreSQL ----\n{}----", &log[cut..]);
        }
        if let Some(mut postmaster) = self.postmaster.take() {
            let _ = send_signal(postmaster.id(), Signal::QUIT);
            if !holds_within(STOPS, || !matches!(postmaster.try_wait(), Ok(None))) {
                let _ = postmaster.kill();
                let _ = postmaster.wait();
            }
        }
    }
}

/// A PostgreSQL whose postmaster stands still.
pub(crate) struct HeldUp<'a>(&'a Cluster);

impl Drop for HeldUp<'_> {
    fn drop(&mut self) {
        send_signal(self.0.pid(), Signal::CONT).expect("let the postmaster go on");
    }
}

/// A TCP port of 127.0.0.1 that nobody listened on a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("bind a free port");
    listener.local_addr().expect("a bound address").port()
}
