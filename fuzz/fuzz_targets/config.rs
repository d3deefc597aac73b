//! `cargo +nightly fuzz run config`: the configuration.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pgpool::config::fuzz(data));
