//! `cargo +nightly fuzz run sql`: the text of a query, whole and in pieces.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pgpool::sql::fuzz(data));
