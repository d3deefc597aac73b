//! `cargo +nightly fuzz run ini`: a configuration in PgBouncer's format.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pgpool::config::fuzz_ini(data));
