//! `cargo +nightly fuzz run view`: the messages of PostgreSQL that are looked into.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pgpool::wire::fuzz_view(data));
