//! `pgpool check --connect`, whether the sum of the pools fits PostgreSQL's slots, and `pgpool init`, whose file does.

use std::{fs, path::Path, time::Duration};

use crate::support::{
    Cluster, Raw,
    cluster::free_port,
    pooler::{Finished, run, write_settings},
    process::{LoggingChild, Signal},
    programs::{bound_to_this_thread, give_to_postgres},
};

const SOON: Duration = Duration::from_secs(60);

fn check(cluster: &Cluster, overrides: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    give_to_postgres(dir.path());
    let file = write_settings(cluster, dir.path(), overrides);
    let Finished { code, stdout, stderr } = run(&["check", "--connect", file.to_str().unwrap()], SOON);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    stdout
}

#[test]
fn the_sum_of_the_pools_is_held_against_the_slots() {
    let cluster = Cluster::builder().max_connections(30).start();
    let port = cluster.port();
    // Five users of one database, and the listener of a pool in transaction mode.
    let told = check(&cluster, "[pgpool]\nslot_budget = \"off\"\ndefault_pool_size = 5\n");
    assert!(told.contains("[databases.app]: 5 users x pool_size 5 + 1 of the pooler's own = 26\n"), "{told}");
    assert!(told.contains("max_connections 30 - 3 superuser_reserved_connections = 27, 0 taken now\n"), "{told}");
    assert!(told.contains("  26 of 27: enough\n") && !told.contains("warning"), "{told}");
    let told = check(&cluster, "[pgpool]\nslot_budget = \"off\"\ndefault_pool_size = 6\n");
    let warning =
        format!("warning: 127.0.0.1:{port}: 31 connections may be asked for, and there are 27 slots; set max_db");
    assert!(told.contains(&warning), "{told}");
    assert!(
        !check(&cluster, "[pgpool]\nslot_budget = \"off\"\ndefault_pool_size = 6\nmax_db_connections = 27\n")
            .contains("warning")
    );
    // The same server by another name: one sum.
    let socket = cluster.socket_dir().display();
    let both = format!(
        "[pgpool]\nslot_budget = \"off\"\ndefault_pool_size = 5\n[databases.two]\ndbname = \"app\"\nhost = \"{socket}\"\nport = {port}\nuser = \"bob\"\n"
    );
    let told = check(&cluster, &both);
    let names = format!("{socket}:{port}");
    assert!(told.contains(&names) && told.contains("32 connections may be asked for"), "{told}");
    let peers = "[pgpool]\nslot_budget = \"off\"\ndefault_pool_size = 5\npeer_id = 1\n[peers.1]\nhost = \"/tmp\"\n[peers.2]\nhost = \"/tmp\"\n";
    assert!(check(&cluster, peers).contains("52 connections may be asked for"));
    assert!(check(&cluster, "[pgpool]\nslot_budget = \"off\"\ndefault_pool_size = 0\n").contains("warning: 127.0.0.1"));
    // The budget keeps to what is there, so that nobody is refused.
    let told = check(&cluster, "[pgpool]\ndefault_pool_size = 6\n");
    assert!(
        told.contains("32 of 27: not enough for all at once; slot_budget auto keeps") && !told.contains("warning"),
        "{told}"
    );
    assert!(
        check(&cluster, "[pgpool]\nslot_budget = 28\ndefault_pool_size = 6\n")
            .contains(": 28 connections may be asked")
    );
    let away = format!("[databases.app]\nport = {}\n", free_port());
    let told = check(&cluster, &away);
    assert!(told.contains("its slots are not known: cannot connect") && told.contains("= 101\n"), "{told}");
}

/// What init prints, made to listen where nobody else does.
fn init(cluster: &Cluster, user: &str, dir: &Path) -> (String, std::path::PathBuf, u16) {
    let dsn = format!("postgres://{user}@127.0.0.1:{}/app", cluster.port());
    let finished = run(&["init", "--dsn", &dsn, "--cores", "2"], SOON);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let port = free_port();
    let text = finished.stdout;
    assert!(text.contains("\nlisten_port = 6432\n"), "{text}");
    let socket_dir = format!("\nlisten_port = {port}\nunix_socket_dir = \"{}\"\n", dir.display());
    let file = dir.join("pgpool.toml");
    fs::write(&file, text.replace("\nlisten_port = 6432\n", &socket_dir)).unwrap();
    let checked = run(&["check", "--connect", file.to_str().unwrap()], SOON);
    assert_eq!(checked.code, Some(0), "{checked:?}\n{text}");
    (text, file, port)
}

fn start(file: &Path) -> LoggingChild {
    let mut command = bound_to_this_thread(Path::new(env!("CARGO_BIN_EXE_pgpool")));
    command.arg(file);
    let child = LoggingChild::spawn("pgpool", command);
    child.wait_for_log(0, "pgpool is ready", SOON);
    child
}

#[test]
fn pgpool_runs_on_what_init_has_printed() {
    let cluster = Cluster::builder().max_connections(43).start();
    cluster.sql("postgres", "create database \"odd \"\"name\"\"\" connection limit 3");
    cluster.sql("postgres", "alter role bob connection limit 4");
    cluster.sql("postgres", "create role late login password 'x' valid until '2001-01-01'");
    let dir = tempfile::tempdir().unwrap();
    give_to_postgres(dir.path());
    let (text, file, port) = init(&cluster, "postgres", dir.path());
    for part in [
        "There are 40 slots for ordinary roles. 32 of them (80 %) are pgpool's",
        "[databases.\"odd \\\"name\\\"\"]",
        "# Its CONNECTION LIMIT.\nmax_db_connections = 3\n",
        "default_pool_size = 5\n",
        "# late has a password that is no longer valid",
        "# trusty has no password in PostgreSQL",
        "# postgres is a superuser",
        "auth_type = \"md5\"\n",
        "max_user_connections = 4\n",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let checked = run(&["check", "--connect", file.to_str().unwrap()], SOON);
    assert!(!checked.stdout.contains("warning: 127.0.0.1"), "{}", checked.stdout);
    let mut pooler = start(&file);
    for (user, password) in [("alice", "alicepw"), ("bob", "bobpw")] {
        let mut raw = Raw::login(port, user, password, "app");
        assert_eq!(raw.value("select current_user"), user);
    }
    assert_eq!(Raw::login(port, "alice", "alicepw", "odd \"name\"").value("select current_database()"), "odd \"name\"");
    assert_eq!(Raw::try_login(port, "alice", "wrong", "app").err().unwrap().code, "28P01");
    pooler.signal(Signal::INT);
    pooler.wait_exit(SOON);
}

#[test]
fn without_the_right_to_read_secrets_init_prints_how_to_ask_for_them() {
    let cluster = Cluster::builder().hba("host all pgpool_auth 127.0.0.1/32 trust").start();
    let dir = tempfile::tempdir().unwrap();
    give_to_postgres(dir.path());
    let (text, file, port) = init(&cluster, "trusty", dir.path());
    assert!(text.contains("trusty may not read pg_authid") && text.contains("auth_user = \"pgpool_auth\"\n"), "{text}");
    assert!(!text.contains("SCRAM-SHA-256$"), "{text}");
    // What it says to run is run as it stands there.
    let sql: String =
        text.lines().filter_map(|line| line.strip_prefix("#   ")).map(|line| format!("{line}\n")).collect();
    assert!(sql.contains("CREATE FUNCTION") && sql.contains("GRANT EXECUTE"), "{text}");
    for database in ["app", "postgres"] {
        let once = if database == "app" {
            sql.clone()
        } else {
            sql.replace("CREATE ROLE pgpool_auth LOGIN PASSWORD '...';", "")
        };
        cluster.sql(database, &once);
    }
    let mut pooler = start(&file);
    let mut raw = Raw::login(port, "alice", "alicepw", "app");
    assert_eq!(raw.value("select current_user"), "alice");
    assert!(Raw::try_login(port, "postgres", "", "app").is_err());
    pooler.signal(Signal::INT);
    pooler.wait_exit(SOON);
}
