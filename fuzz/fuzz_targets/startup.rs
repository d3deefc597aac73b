//! `cargo +nightly fuzz run startup`: a packet that opens a connection.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pgpool::wire::fuzz_startup(data));
