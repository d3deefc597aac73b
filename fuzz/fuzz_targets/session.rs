//! `cargo +nightly fuzz run session`: sessions between clients and a PostgreSQL that do what they like, in stopped time.

#![no_main]

use tokio::runtime::Builder;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let dir = tempfile::tempdir().unwrap();
    let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(pgpool::session::fuzz(data, dir.path()));
});
