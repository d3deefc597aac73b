//! pgpool, a PostgreSQL connection pooler, as a library.
//!
//! The modules stand in the order of their layers: a module imports only modules above it in this list
//! (`tests/it/layering.rs` fails on an arrow that runs the other way). `ARCHITECTURE.md` tells what each is for.

pub mod wire;

pub mod metrics;

pub mod sql;

pub mod hba;

pub mod config;

pub mod net;

pub mod auth;

pub mod backend;

pub mod pool;

pub mod frontend;

pub mod session;

pub mod admin;

pub mod proxy;
