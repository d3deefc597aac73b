//! What belongs to the program and not to the library: `check`, `run` with what is around a
//! process: where log lines go, the file with its id, `-d`, systemd.

pub(crate) mod check;
pub(crate) mod daemon;
pub(crate) mod log;
pub(crate) mod pidfile;
pub(crate) mod run;
pub(crate) mod syslog;
pub(crate) mod systemd;
