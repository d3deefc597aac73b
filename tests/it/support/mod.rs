//! What the tests stand on: a private PostgreSQL, the program under test, PgBouncer to compare with, a client that sends
//! raw bytes, and one way to wait.
//!
//! Invariant: whatever a test starts here is gone when the test is, however it ends.
#![allow(dead_code, reason = "a tool box: not every test program uses every tool")]

pub(crate) mod bouncer;
pub(crate) mod browser;
pub(crate) mod cluster;
#[cfg(feature = "ldap")]
pub(crate) mod directory;
pub(crate) mod fake;
pub(crate) mod http;
pub(crate) mod janitor;
pub(crate) mod messages;
pub(crate) mod nameserver;
pub(crate) mod pki;
pub(crate) mod pooler;
pub(crate) mod process;
pub(crate) mod programs;
pub(crate) mod random;
pub(crate) mod raw;
pub(crate) mod reply;
pub(crate) mod settings;
pub(crate) mod standby;
pub(crate) mod table;
pub(crate) mod template;
pub(crate) mod wait;

pub(crate) use cluster::{Cluster, Stop};
pub(crate) use nameserver::{Manners, Nameserver};
pub(crate) use pki::{Pki, Wanted};
pub(crate) use pooler::{Pooler, for_each_worker_count};
pub(crate) use raw::Raw;
pub(crate) use table::{Table, pool_number};
pub(crate) use wait::eventually;
