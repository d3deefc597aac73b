//! `cargo +nightly fuzz run hba`: files of rules and of maps.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pgpool::hba::fuzz(data));
