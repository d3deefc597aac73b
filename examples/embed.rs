//! pgpool inside of a program of your own, in front of a PostgreSQL that is there already.
//!
//! ```console
//! $ cargo run --example embed -- --host /var/run/postgresql app alice
//! $ PGPASSWORD=secret cargo run --example embed -- --host db.example.org --listen-port 7432 app alice
//! $ psql -h 127.0.0.1 -p 6432 -U alice app
//! ```
//!
//! What there is to see: a configuration is made from text and checked whole before anything starts; the pooler is one
//! future, which runs on whatever tokio runtime drives it; its log is whatever `tracing` subscriber you install.
//!
//! What to know before you do this in earnest: [`pgpool::proxy::run`] sets the process's handlers of HUP, INT, TERM, QUIT,
//! USR1 and USR2 (they reload, end, pause and resume), and its tasks end with the runtime. It is meant to be the only
//! pooler of its process.

use std::error::Error;
use std::path::Path;

use clap::Parser;
use pgpool::config::{Config, Loaded};
use pgpool::net::BOUNCER;
use tracing::Level;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// pgpool in front of a PostgreSQL that is there already.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where PostgreSQL is: a name, an address, or the directory of its unix socket.
    #[arg(long, default_value = "localhost")]
    host: String,
    /// PostgreSQL's port.
    #[arg(long, default_value_t = 5432)]
    port: u16,
    /// The port on which to listen, on 127.0.0.1 only.
    #[arg(long, default_value_t = 6432)]
    listen_port: u16,
    /// The database, under the same name for clients.
    database: String,
    /// The user, for clients and at PostgreSQL. With PGPASSWORD set, that is the password of both.
    user: String,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    // pgpool reads no environment; what a program makes of its own is up to the program.
    let text = configuration(&arguments, std::env::var("PGPASSWORD").ok().as_deref());

    // The path is for messages, for finding an `auth_file`, and for RELOAD, which reads that file again. There is no such
    // file here, so a RELOAD says so and changes nothing.
    let Loaded { config, warnings } = Config::parse(&text, Path::new("embedded.toml"))?;

    // Without a subscriber there is simply no log. What happens to connections is said in PgBouncer's words, too; one sort
    // is enough.
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    let ours = filter_fn(|event| event.target() != BOUNCER && *event.level() <= Level::INFO);
    tracing_subscriber::registry().with(lines.with_filter(ours)).init();
    for warning in warnings {
        tracing::warn!("{warning}");
    }

    // One thread serves thousands of clients, and does it at the least cost per query. `new_multi_thread` works as well:
    // the pools are shared by all workers. `worker_threads` of the configuration is for the program pgpool; a runtime
    // that you build has what you give it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;

    // Returns when a signal or SHUTDOWN on the console has ended it; fails only where it cannot start. Spawn it to do
    // something else beside it, as the example `quickstart` does.
    runtime.block_on(pgpool::proxy::run(config))?;
    Ok(())
}

/// The configuration as a file would have it. Names are those of PgBouncer; `pgpool.toml.example` has them all.
fn configuration(arguments: &Arguments, password: Option<&str>) -> String {
    let Arguments { host, port, listen_port, database, user } = arguments;
    let (host, database, user) = (quoted(host), quoted(database), quoted(user));
    // Without a password nobody could prove who he is. Whoever reaches the port is let in then, and PostgreSQL has to
    // trust this program in turn.
    let (auth_type, secret) = match password {
        Some(password) => ("scram-sha-256", format!("password = {}", quoted(password))),
        None => ("trust", String::new()),
    };
    format!(
        r#"
[pgpool]
listen_addr = "127.0.0.1"
listen_port = {listen_port}
unix_socket_dir = ""
auth_type = "{auth_type}"
# A connection to PostgreSQL is lent for a transaction, and no longer.
pool_mode = "transaction"
default_pool_size = 10
# Who may use the console: psql -p {listen_port} -U ... pgpool -c 'show pools'
admin_users = [{user}]

[databases.{database}]
host = {host}
port = {port}

[users.{user}]
{secret}
"#
    )
}

/// `text` as a TOML string, whatever is in it.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}
