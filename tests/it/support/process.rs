//! A child process that logs to its standard error: its log is kept for assertions, and it never outlives its owner.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

pub(crate) use rustix::process::Signal;
use rustix::process::{Pid, kill_process};

use super::wait::holds_within;

/// How many bytes of the log are shown when a test fails.
const TAIL: usize = 8_000;

#[derive(Debug)]
pub(crate) struct LoggingChild {
    name: String,
    child: Child,
    log: Arc<Log>,
}

#[derive(Debug, Default)]
struct Log {
    state: Mutex<LogState>,
    grown: Condvar,
}

#[derive(Debug, Default)]
struct LogState {
    text: String,
    ended: bool,
}

impl LoggingChild {
    /// Starts `command` with its standard error read by a thread.
    pub(crate) fn spawn(name: &str, mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("start {name}: {error}"));
        let log = Arc::new(Log::default());
        let stderr = child.stderr.take().expect("a piped stderr");
        let reader = Arc::clone(&log);
        thread::spawn(move || reader.fill(stderr));
        Self { name: name.to_owned(), child, log }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        send_signal(self.child.id(), signal).unwrap_or_else(|error| panic!("signal {}: {error}", self.name));
    }

    /// All that was logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().text.clone()
    }

    /// Waits for a line that contains `pattern` at or after byte `from` of the log, and returns that line.
    pub(crate) fn wait_for_log(&self, from: usize, pattern: &str, within: Duration) -> String {
        self.try_wait_for_log(from, pattern, within)
            .unwrap_or_else(|why| panic!("{}: {why} waiting for «{pattern}»", self.name))
    }

    pub(crate) fn try_wait_for_log(&self, from: usize, pattern: &str, within: Duration) -> Result<String, String> {
        let deadline = Instant::now() + within;
        let mut state = self.log.lock();
        loop {
            let new = state.text.get(from..).unwrap_or_default();
            if let Some(line) = new.lines().find(|line| line.contains(pattern)) {
                return Ok(line.to_owned());
            }
            if state.ended {
                return Err("its log ended".to_owned());
            }
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                return Err(format!("{within:?} passed"));
            };
            state = self.log.grown.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until the process has ended.
    pub(crate) fn wait_exit(&mut self, within: Duration) -> ExitStatus {
        let name = self.name.clone();
        self.try_wait_exit(within).unwrap_or_else(|| panic!("{name} has not ended within {within:?}"))
    }

    pub(crate) fn try_wait_exit(&mut self, within: Duration) -> Option<ExitStatus> {
        let mut status = None;
        holds_within(within, || {
            status = self.child.try_wait().expect("wait for a child");
            status.is_some()
        });
        status
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("wait for a child").is_none()
    }
}

impl Drop for LoggingChild {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = self.log();
            let cut = log.ceil_char_boundary(log.len().saturating_sub(TAIL));
            eprintln!("---- the end of the log of {} ----\n{}----", self.name, &log[cut..]);
        }
    }
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, LogState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fill(&self, stderr: ChildStderr) {
        let mut reader = BufReader::new(stderr);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            self.lock().text.push_str(&String::from_utf8_lossy(&line));
            self.grown.notify_all();
            line.clear();
        }
        self.lock().ended = true;
        self.grown.notify_all();
    }
}

/// A figure of /proc/PID/status in KiB: `VmRSS`, or `VmHWM`, the most that the former has been.
pub(crate) fn memory_kib(pid: u32, figure: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("read a process's status");
    let line = status.lines().find_map(|line| line.strip_prefix(figure)?.strip_prefix(':')).expect("such a figure");
    line.trim().trim_end_matches(" kB").parse().expect("a number of KiB")
}

/// Sends a signal to one process.
pub(crate) fn send_signal(pid: u32, signal: Signal) -> Result<(), rustix::io::Errno> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id");
    kill_process(pid, signal)
}
