//! `cargo +nightly fuzz run userlist`: a file of users.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pgpool::config::fuzz_userlist(data));
