//! `pgpool init`: a pgpool.toml that fits the server that it has looked at, each choice with its reason.

mod plan;
mod write;

use serde::Deserialize;

use self::plan::Plan;
use super::doctor::examine::{Examined, examine};
use super::dsn::Dsn;
use super::link::{LinkError, Way};

/// Arguments of `pgpool init`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    /// PostgreSQL, as a URL or as key=value; PG* variables and ~/.pgpass add what it leaves out.
    #[arg(long, default_value = "")]
    dsn: String,
    /// Cores of the server; known where it is this machine.
    #[arg(long)]
    cores: Option<u32>,
}

/// A database of the server.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct DatabaseSeen {
    pub(crate) name: String,
    pub(crate) limit: i64,
}

/// A role that may log in.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct RoleSeen {
    pub(crate) name: String,
    pub(crate) limit: i64,
    pub(crate) superuser: bool,
    pub(crate) expired: bool,
    /// What `pg_authid` has, where it may be read.
    #[serde(default)]
    pub(crate) secret: Option<String>,
}

/// What is there to be written about.
pub(crate) struct Seen {
    pub(crate) examined: Examined,
    pub(crate) databases: Vec<DatabaseSeen>,
    pub(crate) roles: Vec<RoleSeen>,
    /// Whether `pg_authid` could be read.
    pub(crate) secrets: bool,
}

const DATABASES: &str = "select json_build_object('name', datname, 'limit', datconnlimit) from pg_database \
    where datallowconn and not datistemplate order by datname";

fn roles(table: &str, secret: &str) -> String {
    format!(
        "select json_build_object('name', rolname, 'limit', rolconnlimit, 'superuser', rolsuper, \
         'expired', coalesce(rolvaliduntil < now(), false), 'secret', {secret}) from {table} where rolcanlogin \
         and rolname !~ '^(pg_|rds|cloudsql|azure)' order by rolname"
    )
}

/// The text of the file.
///
/// # Errors
/// Why there is none.
pub(crate) fn init(arguments: &Arguments) -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start: {error}"))?;
    let dsn = Dsn::parse(&arguments.dsn, |name| std::env::var(name).ok())?;
    let way = Way::of_dsn(&dsn).map_err(|error| error.line())?;
    let way = way.first().ok_or("the connection string names no host")?;
    let seen = runtime.block_on(Box::pin(look(way, arguments.cores))).map_err(|error| error.line())?;
    Ok(write::file(&seen, &Plan::of(&seen), &dsn, way))
}

async fn look(way: &Way, cores: Option<u32>) -> Result<Seen, LinkError> {
    let mut examined = Box::pin(examine(way, cores, true)).await?;
    let link = &mut examined.link;
    let databases = link.documents(DATABASES).await?;
    let (roles, secrets) = match link.documents(&roles("pg_authid", "rolpassword")).await {
        Ok(roles) => (roles, true),
        Err(error) if error.code() == Some("42501") => (link.documents(&roles("pg_roles", "null")).await?, false),
        Err(error) => return Err(error),
    };
    Ok(Seen { examined, databases, roles, secrets })
}
