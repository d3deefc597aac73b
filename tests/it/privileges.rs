//! Whose rights the process has, and what one address may take.

use std::{fs, path::Path, process::Command, time::Duration};

use crate::support::{Cluster, Pooler, Raw, eventually, pooler::write_settings, process::Signal, programs::is_root};

const SOON: Duration = Duration::from_secs(5);

fn is_served(client: &mut Raw) -> bool {
    client.query("select 1").is_ok_and(|rows| rows.len() == 1)
}

fn may_log_in(pooler: &Pooler) -> bool {
    Raw::try_login(pooler.port(), "alice", "alicepw", "app").is_ok()
}

/// `pgpool ARGUMENTS` as root; what it says when it ends by itself.
fn as_root(arguments: &[&str]) -> (Option<i32>, String) {
    let program = Path::new(env!("CARGO_BIN_EXE_pgpool"));
    let output = Command::new("timeout").arg("20").arg(program).args(arguments).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn root_has_to_say_whom_to_become() {
    let cluster = Cluster::start();
    let dir = tempfile::tempdir().unwrap();
    let file = write_settings(&cluster, dir.path(), "");
    let file = file.to_str().unwrap();
    let unknown = "there is no system user \"nobody-by-that-name\"";
    for (user, said) in [("nobody-by-that-name", unknown), ("root", "is root, whom pgpool does not run as")] {
        let (code, log) = as_root(&["-u", user, file]);
        assert_eq!(code, Some(1), "{log}");
        assert!(log.contains(said), "{log}");
    }
    if is_root() {
        let (code, log) = as_root(&[file]);
        assert_eq!(code, Some(1), "{log}");
        assert!(log.contains("does not run as root") && log.contains("-u postgres"), "{log}");
    }
}

#[test]
fn the_process_becomes_the_user_of_the_settings() {
    if !is_root() {
        eprintln!("only root can become somebody else");
        return;
    }
    let cluster = Cluster::start();
    let pooler = Pooler::start_as_root(&cluster, "[pgpool]\nuser = \"postgres\"");
    let status = fs::read_to_string(format!("/proc/{}/status", pooler.pid())).unwrap();
    let root = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().skip(1).any(|id| id == "0")
    };
    assert!(!root("Uid:") && !root("Gid:") && !root("Groups:"), "{status}");
    let capabilities = status.lines().find(|line| line.starts_with("CapPrm:")).unwrap();
    assert!(capabilities.ends_with("0000000000000000"), "{capabilities}");
    let mut client = pooler.login("alice", "alicepw", "app");
    assert!(is_served(&mut client));
    // What it has to read again it reads as that user.
    let mark = pooler.log_len();
    pooler.signal(Signal::HUP);
    pooler.wait_for_log_since(mark, "configuration reloaded", Duration::from_secs(10));
    assert!(is_served(&mut client));
}

#[test]
fn one_address_has_so_many_connections() {
    let cluster = Cluster::start();
    let pooler = Pooler::trusting(&cluster, 1, "max_client_conn_per_ip = 3");
    let mut held: Vec<_> = (0..3).map(|_| pooler.login("alice", "alicepw", "app")).collect();
    let refused = Raw::try_login(pooler.port(), "alice", "alicepw", "app").err().expect("a refusal");
    assert_eq!(refused.code, "53300", "{refused:?}");
    assert!(refused.message.contains("max_client_conn_per_ip"), "{refused:?}");
    assert!(refused.hint.is_some_and(|hint| hint.contains("max_client_conn_per_ip")));
    assert!(held.iter_mut().all(is_served));
    // What has ended does not count, but who has not logged in yet does.
    drop(held);
    let silent: Vec<_> = (0..3).map(|_| Raw::connect(pooler.port())).collect();
    eventually(SOON, "a refusal", || !may_log_in(&pooler));
    drop(silent);
    eventually(SOON, "a login", || may_log_in(&pooler));
}

#[test]
fn one_address_begins_so_many_logins() {
    let cluster = Cluster::start();
    let pooler = Pooler::trusting(&cluster, 1, "max_login_rate_per_ip = 5");
    let (mut admitted, mut refused) = (0, 0);
    for _ in 0..30 {
        *(if may_log_in(&pooler) { &mut admitted } else { &mut refused }) += 1;
    }
    assert!((5..25).contains(&admitted) && refused > 0, "{admitted} admitted, {refused} refused");
    eventually(SOON, "a login", || may_log_in(&pooler));
}
