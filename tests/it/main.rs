//! All integration tests in one program: one file per subject, and `support`, which starts PostgreSQL, pgpool and
//! PgBouncer and speaks the protocol byte by byte.
//!
//! Each test starts what it needs on free ports in directories of its own, so that tests run side by side, and in
//! processes of their own under nextest.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::indexing_slicing,
    reason = "a test's helpers fail by panicking; clippy exempts only the test functions themselves"
)]

mod support;

mod announced;
mod auth_query;
mod bad_input;
mod budget;
mod cancel;
mod clocks;
mod clocks_backends;
mod closings;
mod console;
mod console_commands;
mod console_owner;
mod console_suspend;
mod contrib;
mod daemon;
mod death;
mod differential;
mod dns;
mod doctor;
mod drop_in;
mod exporters;
mod failover;
mod features;
mod fuzzing;
mod harness;
mod hba;
mod holders;
mod hosts;
mod http;
mod layering;
#[cfg(feature = "ldap")]
mod ldap;
mod limits;
mod limits_clients;
mod listening;
mod log_lines;
mod login_matrix;
mod logins;
mod modes;
#[cfg(feature = "pam")]
mod pam;
mod pass_through;
mod peers;
mod pgbouncer_settings;
mod pipelines;
mod privileges;
mod program;
mod protocol;
mod published_holes;
mod reload;
mod replanning;
mod replication;
mod restart;
mod secrets;
mod settings;
mod signals;
mod sizing;
mod stress;
mod stress_state;
mod takeover;
mod tls;
mod tools;
mod top;
