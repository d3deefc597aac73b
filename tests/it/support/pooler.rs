//! The program under test: `pgpool FILE` in the foreground, in front of a test's PostgreSQL.

use std::{
    fs::{self, File},
    io::{Read, Seek},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use super::{
    cluster::Cluster,
    janitor::Janitor,
    process::{LoggingChild, Signal},
    programs::{bound_to_this_thread, ended_with_this_thread, give_to_postgres},
    raw::Raw,
    settings,
    wait::holds_within,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pgpool");
const READY: &str = "pgpool is ready";
const STARTS: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(crate) struct Pooler {
    process: LoggingChild,
    port: u16,
    socket: Option<PathBuf>,
    dir: TempDir,
    _janitor: Janitor,
}

/// What a run of the program that came to an end by itself left behind.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Pooler {
    /// Starts pgpool with the harness's settings (`support/settings.rs`) and `overrides`, TOML laid over them, and waits
    /// until it is ready. `key = "unset"` removes a default.
    pub(crate) fn start(cluster: &Cluster, overrides: &str) -> Self {
        Self::start_with(cluster, overrides, &[])
    }

    /// The same with that many workers; `overrides` begins with settings of `[pgpool]`.
    pub(crate) fn with_workers(cluster: &Cluster, workers: usize, overrides: &str) -> Self {
        Self::start(cluster, &format!("[pgpool]\nworker_threads = {workers}\n{overrides}"))
    }

    /// The same with `auth_type = "trust"`: for tests of anything but logins, since SCRAM takes a while in debug builds.
    pub(crate) fn trusting(cluster: &Cluster, workers: usize, overrides: &str) -> Self {
        Self::with_workers(cluster, workers, &format!("auth_type = \"trust\"\n{overrides}"))
    }

    /// The same as root, if the test is.
    pub(crate) fn start_as_root(cluster: &Cluster, overrides: &str) -> Self {
        Self::launch(cluster, overrides, &[], ended_with_this_thread(Path::new(PROGRAM)))
    }

    /// The same with arguments before the file's name.
    pub(crate) fn start_with(cluster: &Cluster, overrides: &str, arguments: &[&str]) -> Self {
        Self::start_in(cluster, overrides, arguments, &[])
    }

    /// The same with variables in its environment.
    pub(crate) fn start_in(
        cluster: &Cluster,
        overrides: &str,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let mut command = bound_to_this_thread(Path::new(PROGRAM));
        command.envs(environment.iter().copied());
        Self::launch(cluster, overrides, arguments, command)
    }

    /// The same with that many descriptors at most.
    pub(crate) fn with_descriptors(cluster: &Cluster, descriptors: usize, overrides: &str) -> Self {
        let mut command = bound_to_this_thread(Path::new("/usr/bin/prlimit"));
        command.arg(format!("--nofile={descriptors}:{descriptors}")).arg(PROGRAM);
        Self::launch(cluster, overrides, &[], command)
    }

    fn launch(cluster: &Cluster, overrides: &str, arguments: &[&str], mut command: Command) -> Self {
        let dir = tempfile::Builder::new().prefix("pgpool-it-").tempdir().expect("make a directory");
        give_to_postgres(dir.path());
        let janitor = Janitor::watch(dir.path());
        let file = dir.path().join("pgpool.toml");
        fs::write(&file, settings::file_for(cluster, dir.path(), overrides)).expect("write pgpool.toml");
        command.args(arguments).arg(&file);
        let process = LoggingChild::spawn("pgpool", command);
        process.wait_for_log(0, READY, STARTS);
        let log = process.log();
        let port = after(&log, "listening on 127.0.0.1:").and_then(|rest| leading_number(&rest)).unwrap_or(0);
        let socket = after(&log, "listening on unix:").map(|rest| PathBuf::from(until_delimiter(&rest)));
        Self { process, port, socket, dir, _janitor: janitor }
    }

    /// The TCP port of 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        assert_ne!(self.port, 0, "pgpool logged no TCP listener");
        self.port
    }

    /// The port of the HTTP server at 127.0.0.1, or at all addresses.
    pub(crate) fn http_port(&self) -> u16 {
        let log = self.process.log();
        let at = |host| after(&log, &format!("HTTP server at {host}:")).and_then(|rest| leading_number(&rest));
        at("127.0.0.1").or_else(|| at("0.0.0.0")).expect("pgpool logged no HTTP server")
    }

    /// The Unix socket's file.
    pub(crate) fn socket(&self) -> &Path {
        self.socket.as_deref().expect("pgpool logged no Unix listener")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The directory of the settings file; relative names of other files (`auth_file`) may be put there.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn settings_file(&self) -> PathBuf {
        self.dir.path().join("pgpool.toml")
    }

    /// A libpq URL.
    pub(crate) fn dsn(&self, user: &str, password: &str, database: &str) -> String {
        format!("postgresql://{user}:{password}@127.0.0.1:{}/{database}", self.port())
    }

    /// A raw client that has logged in and is idle.
    pub(crate) fn login(&self, user: &str, password: &str, database: &str) -> Raw {
        Raw::login(self.port(), user, password, database)
    }

    /// A raw client on the console.
    pub(crate) fn console(&self) -> Raw {
        self.login("postgres", "postgrespw", "pgpool")
    }

    /// The same by the Unix socket, where no TLS is asked for.
    pub(crate) fn console_unix(&self) -> Raw {
        let mut raw = Raw::connect_unix(self.socket());
        raw.startup(&[("user", "postgres"), ("database", "pgpool")]);
        raw.authenticate("postgres", "postgrespw").expect("a login on the console");
        raw
    }

    /// Starts another process by the same file that takes the listening sockets over, and waits until it serves. The
    /// port, the directory and all else stay this pooler's.
    pub(crate) fn successor(&self) -> LoggingChild {
        let mut command = bound_to_this_thread(Path::new(PROGRAM));
        command.arg("-R").arg(self.settings_file());
        let process = LoggingChild::spawn("the successor", command);
        process.wait_for_log(0, READY, STARTS);
        process
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Writes new settings (defaults with `overrides`, as at the start) and sends SIGHUP. When they apply is for the
    /// caller to await: by the log, from the position that this returns, or by what they change.
    pub(crate) fn reload(&self, cluster: &Cluster, overrides: &str) -> usize {
        let mark = self.log_len();
        let text = settings::file_for(cluster, self.dir.path(), overrides);
        fs::write(self.settings_file(), text).expect("write pgpool.toml");
        self.signal(Signal::HUP);
        mark
    }

    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    /// A position for [`Pooler::wait_for_log_since`].
    pub(crate) fn log_len(&self) -> usize {
        self.process.log().len()
    }

    /// Waits for a line with `pattern` in it anywhere in the log, and returns the line.
    pub(crate) fn wait_for_log(&self, pattern: &str, within: Duration) -> String {
        self.process.wait_for_log(0, pattern, within)
    }

    pub(crate) fn wait_for_log_since(&self, mark: usize, pattern: &str, within: Duration) -> String {
        self.process.wait_for_log(mark, pattern, within)
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    pub(crate) fn wait_exit(&mut self, within: Duration) -> ExitStatus {
        self.process.wait_exit(within)
    }
}

/// Runs a test's body with one worker and with two: `worker_threads = {workers}`.
pub(crate) fn for_each_worker_count(mut body: impl FnMut(usize)) {
    for workers in [1, 2] {
        eprintln!("with worker_threads = {workers}");
        body(workers);
    }
}

/// Runs `pgpool ARGUMENTS`, which must come to an end by itself.
pub(crate) fn run(arguments: &[&str], within: Duration) -> Finished {
    let mut stdout = tempfile::tempfile().expect("make a file");
    let mut stderr = tempfile::tempfile().expect("make a file");
    let mut child = bound_to_this_thread(Path::new(PROGRAM))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(stdout.try_clone().expect("clone a file"))
        .stderr(stderr.try_clone().expect("clone a file"))
        .spawn()
        .expect("start pgpool");
    let mut status = None;
    let ended = holds_within(within, || {
        status = child.try_wait().expect("wait for pgpool");
        status.is_some()
    });
    if !ended {
        let _ = child.kill();
        let _ = child.wait();
    }
    let (stdout, stderr) = (read_back(&mut stdout), read_back(&mut stderr));
    let status = status.unwrap_or_else(|| panic!("pgpool {arguments:?} has not ended within {within:?}:\n{stderr}"));
    Finished { code: status.code(), stdout, stderr }
}

fn read_back(file: &mut File) -> String {
    let mut text = String::new();
    file.rewind().expect("rewind a file");
    file.read_to_string(&mut text).expect("read a file");
    text
}

/// Writes settings for `cluster` into `dir` without starting anything, for [`run`].
pub(crate) fn write_settings(cluster: &Cluster, dir: &Path, overrides: &str) -> PathBuf {
    let file = dir.join("pgpool.toml");
    fs::write(&file, settings::file_for(cluster, dir, overrides)).expect("write pgpool.toml");
    file
}

fn after(log: &str, marker: &str) -> Option<String> {
    log.split_once(marker).map(|(_, rest)| rest.to_owned())
}

fn leading_number(text: &str) -> Option<u16> {
    let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

fn until_delimiter(text: &str) -> &str {
    let end = text.find(|character: char| character.is_whitespace() || character == '"').unwrap_or(text.len());
    &text[..end]
}

#[test]
fn listeners_are_found_in_text_and_json_logs() {
    let text = "INFO listening on 127.0.0.1:40123\nINFO listening on unix:/tmp/x/.s.PGSQL.40123\n";
    let json = r#"{"message":"listening on 127.0.0.1:40123"}{"message":"listening on unix:/tmp/x/.s.PGSQL.40123"}"#;
    for log in [text, json] {
        let port = after(log, "listening on 127.0.0.1:").and_then(|rest| leading_number(&rest));
        let socket = after(log, "listening on unix:").map(|rest| until_delimiter(&rest).to_owned());
        assert_eq!((port, socket.as_deref()), (Some(40123), Some("/tmp/x/.s.PGSQL.40123")));
    }
}
