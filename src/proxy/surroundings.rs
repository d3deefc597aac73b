//! What the process has from whoever started it, and whom it tells how it is.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::config::Config;
use crate::metrics::LogCounts;

/// What has happened to the process.
#[derive(Clone, Debug)]
pub enum News {
    /// It serves. With the process that it took over from, which goes on serving the clients that it has.
    Ready(Option<u32>),
    /// It reads its configuration again.
    Reloading,
    /// Other settings are in force, by a reload or by SET.
    Configured(Arc<Config>),
    /// It has read its configuration again, with or without success.
    Reloaded,
    /// It does not accept clients any more, and ends when it has served those that it has.
    Ending,
    /// One line for operators.
    Status(String),
}

/// Whom the process tells.
pub type Herald = Box<dyn Fn(News) + Send + Sync>;

/// Who says whether the process may serve, in place of that process or of nobody. It is asked before anything is listened
/// on, and an error is why not.
pub type Admission = Box<dyn Fn(Option<u32>) -> Result<(), String> + Send + Sync>;

/// What is around the process.
#[derive(Default)]
pub struct Surroundings {
    /// Take the listening sockets over from the process that runs, if there is one.
    pub take_over: bool,
    /// Sockets to listen on instead of those that the configuration names.
    pub sockets: Vec<OwnedFd>,
    /// Is asked whether the process may serve.
    pub admission: Option<Admission>,
    /// Is told what happens.
    pub herald: Option<Herald>,
    /// How much was logged, kept by who logs.
    pub log_counts: Arc<LogCounts>,
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Surroundings { take_over, sockets, admission, herald, log_counts } = self;
        let (admission, herald) = (admission.is_some(), herald.is_some());
        f.debug_struct("Surroundings")
            .field("take_over", take_over)
            .field("sockets", sockets)
            .field("admission", &admission)
            .field("herald", &herald)
            .field("log_counts", log_counts)
            .finish()
    }
}
