//! What belongs to the program and not to the library: `check`, where log lines go, the file with its process id.

pub(crate) mod check;
pub(crate) mod log;
pub(crate) mod pidfile;
pub(crate) mod syslog;
