//! `cargo +nightly fuzz run scan`: a stream of messages, in pieces.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pgpool::wire::fuzz_scan(data));
