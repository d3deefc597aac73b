//! `cargo +nightly fuzz run answer`: our own login to PostgreSQL.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pgpool::auth::fuzz_answer(data));
