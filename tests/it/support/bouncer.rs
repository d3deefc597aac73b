//! PgBouncer in front of a test's PostgreSQL, to compare with what it answers. `None` where it is not installed.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use tempfile::TempDir;

use super::{
    cluster::{Cluster, free_port},
    janitor::Janitor,
    process::{LoggingChild, Signal},
    programs::{bound_to_this_thread, give_to_postgres, minor_version, newer_pgbouncer, pgbouncer},
    raw::Raw,
};

const STARTS: Duration = Duration::from_secs(10);
const PORT_ATTEMPTS: usize = 20;

#[derive(Debug)]
pub(crate) struct Bouncer {
    process: LoggingChild,
    port: u16,
    minor: u32,
    dir: TempDir,
    _janitor: Janitor,
}

impl Bouncer {
    /// The same users, database and settings as `Pooler::start`; `settings` are lines of the section `[pgbouncer]`.
    pub(crate) fn start(cluster: &Cluster, settings: &str) -> Option<Self> {
        Some(Self::run(&pgbouncer()?, cluster, None, settings))
    }

    /// One that is new enough for peers, at this port or at any. It has to be there.
    pub(crate) fn newer(cluster: &Cluster, port: Option<u16>, settings: &str) -> Self {
        let program = newer_pgbouncer();
        let minor = minor_version(&program);
        assert!(minor >= 21, "PgBouncer 1.{minor} has keys of another layout");
        Self::run(&program, cluster, port, settings)
    }

    fn run(program: &Path, cluster: &Cluster, port: Option<u16>, settings: &str) -> Self {
        let minor = minor_version(program);
        for _ in 0..PORT_ATTEMPTS {
            let dir = tempfile::Builder::new().prefix("pgpool-pgb-").tempdir().expect("make a directory");
            let janitor = Janitor::watch(dir.path());
            give_to_postgres(dir.path());
            let port = port.unwrap_or_else(free_port);
            let file = dir.path().join("pgbouncer.ini");
            fs::write(&file, ini(cluster, &dir, port, settings)).expect("write pgbouncer.ini");
            fs::write(dir.path().join("userlist.txt"), userlist()).expect("write userlist.txt");
            let mut command = bound_to_this_thread(program);
            command.arg(&file);
            let process = LoggingChild::spawn("pgbouncer", command);
            // «process up» comes after the listeners; without any it ends, and the next port is tried.
            if process.try_wait_for_log(0, "process up", STARTS).is_ok() && process.log().contains("listening on 127") {
                return Self { process, port, minor, dir, _janitor: janitor };
            }
        }
        panic!("PgBouncer did not start");
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The second number of its version.
    pub(crate) fn minor(&self) -> u32 {
        self.minor
    }

    /// Where its Unix socket is.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The Unix socket's file.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join(format!(".s.PGSQL.{}", self.port))
    }

    /// More lines at the end of its file, for the next RELOAD.
    pub(crate) fn add(&self, lines: &str) {
        let file = self.dir.path().join("pgbouncer.ini");
        let text = fs::read_to_string(&file).expect("read pgbouncer.ini");
        fs::write(&file, text + lines).expect("write pgbouncer.ini");
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    pub(crate) fn dsn(&self, user: &str, password: &str, database: &str) -> String {
        format!("postgresql://{user}:{password}@127.0.0.1:{}/{database}", self.port)
    }

    pub(crate) fn login(&self, user: &str, password: &str, database: &str) -> Raw {
        Raw::login(self.port, user, password, database)
    }

    pub(crate) fn console(&self) -> Raw {
        self.login("postgres", "postgrespw", "pgbouncer")
    }

    /// The same by the Unix socket, which is nobody else's.
    pub(crate) fn console_unix(&self) -> Raw {
        let mut raw = Raw::connect_unix(&self.socket());
        raw.startup(&[("user", "postgres"), ("database", "pgbouncer")]);
        raw.authenticate("postgres", "postgrespw").expect("a login on the console");
        raw
    }
}

fn ini(cluster: &Cluster, dir: &TempDir, port: u16, settings: &str) -> String {
    format!(
        "[databases]\n\
         app = host=127.0.0.1 port={server} dbname=app\n\
         [pgbouncer]\n\
         listen_addr = 127.0.0.1\n\
         listen_port = {port}\n\
         unix_socket_dir = {dir}\n\
         pool_mode = transaction\n\
         auth_type = scram-sha-256\n\
         auth_file = {dir}/userlist.txt\n\
         admin_users = postgres\n\
         ignore_startup_parameters = extra_float_digits\n\
         {settings}\n",
        server = cluster.port(),
        dir = dir.path().display(),
    )
}

fn userlist() -> String {
    let mut list = String::new();
    for (user, password) in [
        ("alice", "alicepw"),
        ("bob", "bobpw"),
        ("carol", "carolpw"),
        ("trusty", "trustypw"),
        ("postgres", "postgrespw"),
    ] {
        writeln!(list, "\"{user}\" \"{password}\"").expect("write to a string");
    }
    list
}
