//! The console: the virtual database `pgbouncer` (and `pgpool`), by simple and by extended query.
//!
//! It reads snapshots and sends commands, and never touches a session: what it wants of one it asks for by an
//! interrupt. Names, columns, types, messages and tags are PgBouncer's, because dashboards and scripts rely on them;
//! beyond PgBouncer it takes comments, several statements per message, and the extended protocol.

mod budget;
mod civil;
mod columns;
mod command;
mod console;
mod control;
mod databases;
mod descriptors;
mod encode;
mod extended;
mod fakes;
mod holders;
mod link;
mod listeners;
mod memory;
mod message;
mod peers;
mod pins;
mod said;
mod show;
mod similar;
mod sockets;
mod statements;
mod stats;
#[cfg(test)]
mod tests;
mod token;
mod users;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use crate::net::Endpoint;
use crate::pool::{Pools, Reason};
use crate::session::Workspaces;

pub use console::serve;
pub use fakes::VERSION;
pub use stats::StatsBook;

/// Name of the console's database and user in its own tables, whichever name a client used: dashboards look for this
/// one, or leave it out.
pub const DATABASE: &str = "pgbouncer";

/// How the process is to end; the more urgent the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shutdown {
    /// As with `Drain`, by `takeover_window` and `takeover_timeout`: another process has the listening sockets.
    TakenOver,
    /// When the last client has left.
    WaitForClients,
    /// When the last client has left, or was told to between two transactions, or `drain_timeout` has passed.
    Drain,
    /// When the backends are done with their transactions; queued clients are refused.
    WaitForServers,
    /// At once.
    Now,
}

impl Shutdown {
    /// Whether what is paused has to stay so for it.
    #[must_use]
    pub fn forbids_resume(self) -> bool {
        matches!(self, Shutdown::Now | Shutdown::WaitForServers)
    }
}

/// Cancel requests that are passed on to another process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerTraffic {
    /// Its `peer_id`.
    pub id: u16,
    /// How many wait for their turn.
    pub waiting: u32,
    /// How many are on their way.
    pub active: u32,
}

/// What the console can have done by the process that it runs in.
pub trait Control: Send + Sync {
    /// Reads the configuration again; the error names every problem, and nothing has changed then.
    fn reload(&self) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>>;
    /// Other settings are in force.
    fn configured(&self) {}
    /// Ends the process.
    fn shutdown(&self, how: Shutdown);
    /// How the process is ending, if it is.
    fn ending(&self) -> Option<Shutdown>;
    /// Descriptors and addresses that it listens on.
    fn listening(&self) -> Vec<(u32, Endpoint)>;
    /// How many connections were accepted and have not logged in yet.
    fn arriving(&self) -> usize {
        0
    }
    /// The cancel requests that are passed on to other processes now.
    fn peers(&self) -> Vec<PeerTraffic> {
        Vec::new()
    }
}

pub use crate::frontend::Role;

/// What the console shows and commands.
#[derive(Clone)]
pub struct Context {
    /// Pools, clients, configuration.
    pub pools: Arc<Pools>,
    /// The process.
    pub control: Arc<dyn Control>,
    /// Statistics.
    pub stats: Arc<StatsBook>,
    /// The buffers of the sessions.
    pub workspaces: Arc<Workspaces>,
}

/// How a session of the console ended.
#[derive(Debug)]
pub enum ConsoleEnd {
    /// The client said goodbye.
    Terminated,
    /// The client closed the connection without a word.
    Closed,
    /// The connection broke.
    Lost(io::Error),
    /// The client sent what the protocol does not allow; it was told what.
    Violation(String),
    /// Somebody ended the session; the client was told.
    Interrupted(Reason),
    /// It commanded SHUTDOWN, and waited for the end without an answer.
    Shutdown,
}

/// Whether `name` is a name of the console's database.
pub(crate) fn is_console(name: &str) -> bool {
    name == DATABASE || name == "pgpool"
}
