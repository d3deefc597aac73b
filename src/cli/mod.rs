//! What belongs to the program and not to the library: `check`; `doctor`, `init` and `top`, by a `link` to where a `dsn` leads; `run` with
//! what is around a process: where log lines go, the file with its id, `-d`, systemd.

pub(crate) mod age;
mod bouncer_line;
pub(crate) mod check;
pub(crate) mod daemon;
pub(crate) mod demand;
pub(crate) mod doctor;
pub(crate) mod dsn;
pub(crate) mod init;
pub(crate) mod link;
pub(crate) mod log;
pub(crate) mod pidfile;
pub(crate) mod run;
pub(crate) mod syslog;
pub(crate) mod systemd;
pub(crate) mod top;
