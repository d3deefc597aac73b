//! `pgpool top` in a terminal, in front of a real pgpool: what is seen, and what keys do.

use std::{
    io::{Read, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use crate::support::{Cluster, Pooler, Raw, Table, bouncer::Bouncer, cluster::free_port, eventually, pooler::run};

const SOON: Duration = Duration::from_secs(30);

/// The program under a pseudo terminal, which `script` makes.
struct Terminal {
    child: Child,
    keys: ChildStdin,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    fn start(arguments: &str) -> Terminal {
        let command = format!("stty cols 140 rows 30; exec {} top {arguments}", env!("CARGO_BIN_EXE_pgpool"));
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "script", "-qec", &command, "/dev/null"])
            .env("TERM", "xterm")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (keys, mut output, copy) = (child.stdin.take().unwrap(), child.stdout.take().unwrap(), Arc::clone(&seen));
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count) = output.read(&mut buffer) {
                if count == 0 {
                    return;
                }
                copy.lock().unwrap().extend_from_slice(&buffer[..count]);
            }
        });
        Terminal { child, keys, seen }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// Waits until it is drawn in one piece, and forgets what was drawn before.
    fn wait_for(&self, text: &str) {
        let mut drawn = String::new();
        let found = crate::support::wait::holds_within(SOON, || {
            drawn = String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned();
            drawn.contains(text)
        });
        assert!(found, "{text:?} was not drawn: {drawn:?}");
        self.seen.lock().unwrap().clear();
    }

    fn wait_exit(mut self) -> Option<i32> {
        let mut status = None;
        eventually(SOON, "it ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().code()
    }
}

fn paused(console: &mut Raw) -> String {
    Table::of(console, "SHOW DATABASES").matching(&[("name", "app")]).value("paused")
}

#[test]
fn a_database_is_paused_and_resumed_and_a_client_killed_by_keys() {
    let cluster = Cluster::start();
    let pooler = Pooler::start(&cluster, &format!("[pgpool]\nlisten_port = {}", free_port()));
    let mut client = pooler.login("alice", "alicepw", "app");
    assert_eq!(client.value("select 1"), "1");
    let mut console = pooler.console();
    let dsn = format!("postgresql://postgres:postgrespw@127.0.0.1:{}/pgpool", pooler.port());
    let mut terminal = Terminal::start(&format!("--dsn '{dsn}' --interval 200ms"));
    terminal.wait_for("alice");
    // What has not changed on the screen, as a space, is not drawn again.
    terminal.press("?");
    terminal.wait_for("KILL_CLIENT");
    terminal.press(" ");

    // The pool of the application is on top, by its name: the console's is called pgbouncer.
    terminal.press("\x1b[D\x1b[D\x1b[Dr");
    terminal.press("p");
    terminal.wait_for("PAUSE \"app\"? y/N");
    terminal.press("n");
    terminal.wait_for("nothing was done");
    assert_eq!(paused(&mut console), "0");
    terminal.press("p");
    terminal.wait_for("PAUSE \"app\"? y/N");
    terminal.press("y");
    eventually(SOON, "it is paused", || paused(&mut console) == "1");
    terminal.press("u");
    terminal.wait_for("RESUME \"app\"? y/N");
    terminal.press("y");
    eventually(SOON, "it is resumed", || paused(&mut console) == "0");

    // Clients by their users, alice on top.
    terminal.press("2");
    terminal.wait_for("2 Clients");
    terminal.press("\x1b[D\x1b[D\x1b[D\x1b[D\x1b[Dr");
    terminal.press("x");
    terminal.wait_for("KILL_CLIENT ");
    terminal.press("y");
    assert_eq!(client.expect_error().severity, "FATAL");
    terminal.press("q");
    assert_eq!(terminal.wait_exit(), Some(0));
}

#[test]
fn pgbouncers_console_is_seen_as_well() {
    let cluster = Cluster::start();
    let Some(bouncer) = Bouncer::start(&cluster, "") else { return };
    let mut client = bouncer.login("alice", "alicepw", "app");
    assert_eq!(client.value("select 1"), "1");
    let mut terminal = Terminal::start(&format!("--dsn '{}'", bouncer.dsn("postgres", "postgrespw", "pgbouncer")));
    terminal.wait_for("PgBouncer");
    terminal.press("q");
    assert_eq!(terminal.wait_exit(), Some(0));
}

#[test]
fn without_a_console_or_a_terminal_it_says_so() {
    let cluster = Cluster::start();
    let pooler = Pooler::start(&cluster, "");
    let no_terminal = run(&["top", "--dsn", &pooler.dsn("postgres", "postgrespw", "pgpool")], SOON);
    assert_eq!(no_terminal.code, Some(1));
    assert!(no_terminal.stderr.contains("needs a terminal"), "{no_terminal:?}");
    let no_console = run(&["top", "--dsn", &format!("host=127.0.0.1 port={} user=postgres", cluster.port())], SOON);
    assert!(
        no_console.stderr.contains("is no console of a pooler") && no_console.stderr.contains("HINT"),
        "{no_console:?}"
    );
    let nobody = run(&["top", "--dsn", &format!("host=127.0.0.1 port={} user=x", free_port())], SOON);
    assert!(nobody.stderr.contains("cannot connect") && nobody.stderr.contains("HINT"), "{nobody:?}");
}
