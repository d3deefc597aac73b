//! `cargo +nightly fuzz run x509`: a certificate.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pgpool::net::tls::fuzz(data));
