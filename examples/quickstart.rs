//! pgpool in one command: brings a throw-away PostgreSQL, puts pgpool in front of it, and lets fifty clients share five
//! connections.
//!
//! ```console
//! $ cargo run --example quickstart
//! ```
//!
//! PostgreSQL's programs have to be installed; nothing else has to be there, nothing is left behind, and no fixed port is
//! used. As root, PostgreSQL runs as the user `postgres`, because it refuses to run as root.

use std::env;
use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pgpool::config::Config;
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// Clients that are connected to pgpool at the same time.
const CLIENTS: usize = 50;
/// Transactions of each.
const TRANSACTIONS: usize = 20;
/// Connections to PostgreSQL that they share.
const POOL_SIZE: usize = 5;
/// PostgreSQL's port, which is only a part of its socket's name.
const PORT: u16 = 5432;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Result<()> {
    say("Making a PostgreSQL in a temporary directory ...")?;
    let postgres = Postgres::start()?;
    let port = free_port()?;
    let config = Config::parse(&configuration(&postgres, port), Path::new("quickstart.toml"))?.config;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        // The pooler is a future. Here it is one task, and the clients are others, all in one thread.
        let pooler = tokio::spawn(pgpool::proxy::run(config));
        tokio::select! {
            done = show(port) => done?,
            // Only if it could not start, or somebody pressed Ctrl-C.
            ended = pooler => { ended??; }
        }
        Ok(())
    });
    if result.is_err() {
        say(&format!("PostgreSQL's log says:\n{}", postgres.log()))?;
    }
    result
    // Here the runtime ends with its tasks, then PostgreSQL, and the directory goes.
}

/// What a pooler is for.
async fn show(port: u16) -> Result<()> {
    // PostgreSQL may still be starting. That needs no care: pgpool keeps the client in its queue until it answers.
    let first = connect(port, "postgres").await?;
    let version = first.simple_query("show server_version").await?;
    say(&format!("PostgreSQL {} answers through pgpool on port {port}.", value(&version, 0)?))?;

    let start = Instant::now();
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(work(port));
    }
    let mut pids = Vec::new();
    while let Some(ended) = clients.join_next().await {
        pids.extend(ended??);
    }
    let (transactions, took) = (pids.len(), start.elapsed());
    pids.sort_unstable();
    pids.dedup();
    say(&format!(
        "{CLIENTS} clients logged in and ran {transactions} transactions in {} ms, on {} connections to PostgreSQL.",
        took.as_millis(),
        pids.len()
    ))?;

    // The console is a database of its own, as PgBouncer's is.
    let console = connect(port, "pgpool").await?;
    say("\nWhat the console says (SHOW POOLS):")?;
    let shown = ["database", "user", "cl_active", "cl_waiting", "sv_active", "sv_idle", "maxwait", "pool_mode"];
    print_columns(&console.simple_query("show pools").await?, &shown)?;
    say("\nThat is all. Everything ends and is removed now; `scripts/demo` has one that stays.")
}

/// One client: a few transactions, and the process ids of the backends that ran them.
async fn work(port: u16) -> Result<Vec<String>> {
    let client = connect(port, "postgres").await?;
    let mut pids = Vec::new();
    for _ in 0..TRANSACTIONS {
        // From BEGIN to COMMIT a backend belongs to this client; between two transactions it serves the others.
        let sql = "begin; select pg_backend_pid(), pg_sleep(0.001); commit";
        pids.push(value(&client.simple_query(sql).await?, 0)?);
    }
    Ok(pids)
}

/// A client of pgpool. It is tried again while nobody listens: pgpool is just being started.
async fn connect(port: u16, database: &str) -> Result<Client> {
    let address = format!("host=127.0.0.1 port={port} user=postgres dbname={database}");
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match tokio_postgres::connect(&address, NoTls).await {
            Ok((client, connection)) => {
                // tokio-postgres wants the connection driven by somebody; it ends with the client.
                tokio::spawn(connection);
                return Ok(client);
            }
            Err(error) if error.as_db_error().is_some() || Instant::now() > deadline => return Err(error.into()),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// The smallest configuration that does something. `pgpool.toml.example` explains every setting.
fn configuration(postgres: &Postgres, port: u16) -> String {
    format!(
        r#"
[pgpool]
listen_addr = "127.0.0.1"
listen_port = {port}
unix_socket_dir = ""
auth_type = "trust"                 # only because it lives for a second and listens on the loopback
pool_mode = "transaction"
default_pool_size = {POOL_SIZE}
admin_users = ["postgres"]

[databases.postgres]
host = "{}"
port = {PORT}

[users.postgres]                    # without a password: `trust` asks for none, but lets in whom it knows only
"#,
        postgres.dir.path().display()
    )
}

/// A port that is free now.
fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// A PostgreSQL that listens on a unix socket in a directory of its own, and ends with this value.
struct Postgres {
    process: Child,
    dir: TempDir,
}

impl Postgres {
    fn start() -> Result<Postgres> {
        let bin = programs()?;
        let dir = tempfile::Builder::new().prefix("pgpool-quickstart-").tempdir()?;
        if is_root() {
            run(Command::new("chown").arg("postgres:").arg(dir.path()))?;
        }
        let data = dir.path().join("data");
        let options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"];
        run(as_postgres(&bin.join("initdb")).args(options).arg("-D").arg(&data))?;
        let log = File::create(dir.path().join("log"))?;
        let mut command = as_postgres(&bin.join("postgres"));
        command.arg("-D").arg(&data).args(["-p", &PORT.to_string()]);
        command.args(["-c", "listen_addresses=", "-c", "fsync=off", "-c"]);
        command.arg(format!("unix_socket_directories={}", dir.path().display()));
        let process = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        Ok(Postgres { process, dir })
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        use rustix::process::{Pid, Signal, kill_process};
        // INT is the "fast shutdown": clients are sent away and nothing is left behind, shared memory included.
        let asked = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw);
        if let Some(Err(error)) = asked.map(|pid| kill_process(pid, Signal::INT)) {
            let _ = say(&format!("PostgreSQL could not be ended: {error}"));
            let _ = self.process.kill();
        }
        let _ = self.process.wait();
    }
}

/// The directory of PostgreSQL's programs: what `pg_config` says, or Debian's newest.
fn programs() -> Result<PathBuf> {
    let told = Command::new("pg_config").arg("--bindir").output().map(|output| output.stdout).unwrap_or_default();
    let told = PathBuf::from(String::from_utf8_lossy(&told).trim());
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<_> = debian.map(|entry| entry.path().join("bin")).collect();
    found.sort();
    found.push(told);
    let with_server = |dir: &PathBuf| dir.join("initdb").is_file() && dir.join("postgres").is_file();
    let none = "PostgreSQL's server programs were not found (on Debian: apt-get install postgresql)";
    found.into_iter().rev().find(with_server).ok_or_else(|| none.into())
}

/// `program` as a user that PostgreSQL accepts.
fn as_postgres(program: &Path) -> Command {
    let mut command = if is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    // The directory that we were started in may be closed to that user.
    command.current_dir(env::temp_dir());
    command
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs a command to its end; what it said is the error if it fails.
fn run(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr)).into())
}

/// A value of the first row.
fn value(answer: &[SimpleQueryMessage], column: usize) -> Result<String> {
    let row = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    Ok(row.and_then(|row| row.get(column)).ok_or("the answer has no such value")?.to_owned())
}

/// Some columns of an answer, as a table.
fn print_columns(answer: &[SimpleQueryMessage], columns: &[&str]) -> Result<()> {
    let line = |cells: Vec<&str>| cells.iter().map(|cell| format!("{cell:>12}")).collect::<String>();
    say(&line(columns.to_vec()))?;
    for message in answer {
        if let SimpleQueryMessage::Row(row) = message {
            say(&line(columns.iter().map(|&column| row.get(column).unwrap_or_default()).collect()))?;
        }
    }
    Ok(())
}

/// Writes a line to standard output.
fn say(text: &str) -> Result<()> {
    Ok(writeln!(io::stdout(), "{text}")?)
}
