//! `cargo +nightly fuzz run resolv_conf`: a file of nameservers.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pgpool::config::fuzz_resolv_conf(data));
