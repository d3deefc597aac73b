//! `cargo +nightly fuzz run turn`: a client and a PostgreSQL that send what they like.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pgpool::session::fuzz_turn(data));
