//! `cargo +nightly fuzz run login`: a client's login.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pgpool::auth::fuzz_login(data));
