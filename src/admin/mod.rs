//! The console: the virtual database `pgpool` (and `pgbouncer`), by simple and by extended query.

use std::future::Future;
use std::pin::Pin;

/// How the process is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// At once.
    Now,
    /// When the backends are done with their transactions; queued clients are refused.
    WaitForServers,
    /// When the last client has left.
    WaitForClients,
}

/// What the console can have done by the process that it runs in.
pub trait Control: Send + Sync {
    /// Reads the configuration again; the error names every problem, and nothing has changed then.
    fn reload(&self) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>>;
    /// Ends the process.
    fn shutdown(&self, how: Shutdown);
    /// How the process is ending, if it is.
    fn ending(&self) -> Option<Shutdown>;
}
