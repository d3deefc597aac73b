//! The pgpool that runs with the same configuration, by its console.

use std::collections::BTreeSet;

use pgpool::backend::TextTable;
use pgpool::config::Config;
use serde::Serialize;

use crate::cli::link::{Link, LinkError, Way};

/// What its console shows.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Pooler {
    pub(crate) version: String,
    /// By the name of the command; those that this pgpool knows.
    pub(crate) tables: Vec<Shown>,
    /// The processes of PostgreSQL that serve it.
    pub(crate) backends: BTreeSet<u32>,
}

/// One table.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Shown {
    pub(crate) command: &'static str,
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Vec<Option<String>>>,
}

const TABLES: &[&str] = &["SHOW POOLS", "SHOW BUDGET", "SHOW HOLDERS", "SHOW PINS"];

/// Opens the console; the first way that works.
///
/// # Errors
/// The last one's; most likely no pgpool runs.
pub(crate) async fn open(config: &Config) -> Result<Link, LinkError> {
    let mut last = LinkError::Said(String::from("the configuration has no place where its console could be"));
    for way in Way::of_console(config) {
        match Link::open(&way).await {
            Ok(link) => return Ok(link),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Asks the console.
///
/// # Errors
/// [`LinkError`]; a command that it does not know is left out.
pub(crate) async fn look(config: &Config) -> Result<Pooler, LinkError> {
    let mut link = open(config).await?;
    let version = link.value("SHOW VERSION").await?.unwrap_or_default();
    let servers = link.table("SHOW SERVERS").await?;
    let backends = servers.column("remote_pid").flatten().filter_map(|pid| pid.parse().ok()).collect();
    let mut tables = Vec::new();
    for command in TABLES {
        match link.table(command).await {
            Ok(TextTable { columns, rows }) => tables.push(Shown { command, columns, rows }),
            Err(error) if error.code().is_some() => {}
            Err(error) => return Err(error),
        }
    }
    link.close().await;
    Ok(Pooler { version, tables, backends })
}
