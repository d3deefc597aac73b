//! What somebody could send who has proved nothing.

use std::time::{Duration, Instant};

use super::{SOON, TURNING, assert_well, knock};
use crate::support::{
    Cluster, Pooler, Raw,
    messages::{cstr, sasl_initial, sasl_response},
    pooler,
    process::memory_kib,
};

const FIRST: &[u8] = b"n,,n=,r=abcdefghijklmnopqrstuvwx";

/// CVE-2026-19888 was a last message of SCRAM without a nonce, which was compared all the same. Users who do not exist
/// get as far.
#[test]
fn cve_2026_19888_a_final_message_without_a_nonce() {
    let cluster = Cluster::start();
    let mut pooler = Pooler::start(&cluster, "");
    let proof = "dHJhbnNwYXJlbnR0cmFuc3BhcmVudHRyYW5zcGFyZW4=";
    let finals = [
        String::new(),
        "c".to_owned(),
        "c=".to_owned(),
        "c=biws".to_owned(),
        "c=biws,".to_owned(),
        "c=biws,,".to_owned(),
        "c=biws,r".to_owned(),
        "c=biws,r=".to_owned(),
        format!("c=biws,p={proof}"),
        format!("c=biws,r,p={proof}"),
        format!("c=biws,r=,p={proof}"),
        format!("c=biws,p={proof},r=abc"),
        format!("c=biws,x=y,p={proof}"),
        format!("p={proof}"),
        format!(",p={proof}"),
        format!("r=abcdefghijklmnopqrstuvwx,p={proof}"),
    ];
    for user in ["alice", "nobody"] {
        for text in &finals {
            let mut raw = Raw::connect(pooler.port());
            raw.startup(&[("user", user), ("database", "app")]);
            assert_eq!(raw.read().tag, b'R');
            raw.send(&sasl_initial("SCRAM-SHA-256", FIRST));
            assert_eq!(raw.read().tag, b'R');
            raw.send(&sasl_response(text.as_bytes()));
            let told = raw.expect_error();
            assert_eq!((told.severity.as_str(), told.code.as_str()), ("FATAL", "08P01"), "{user} {text}: {told:?}");
            raw.expect_eof();
        }
    }
    assert_well(&mut pooler);
}

/// CVE-2026-6668 and CVE-2026-107348 were packets for which a buffer grew until the size that it should have turned over,
/// and then for ever. Here nothing grows: what is too long is refused by its length, and the rest is not waited for.
#[test]
fn cve_2026_6668_and_107348_packets_that_grow() {
    let cluster = Cluster::start();
    let mut pooler = Pooler::with_workers(&cluster, 2, "max_packet_size = 2147483647");
    let chunk = vec![b'x'; 1 << 16];
    // Memory that is there from the first login of each kind on.
    pooler.console();
    for method in ["plain", "md5", "scram-sha-256"] {
        pooler.console().query(&format!("SET auth_type = '{method}'")).unwrap();
        let before = memory_kib(pooler.pid(), "VmHWM");
        for length in TURNING.into_iter().chain([0x1_0005, 0x0010_0000, 0x4000_0000, 0xffff_ffff]) {
            let mut raw = knock(&pooler, "app", b"");
            assert_eq!(raw.read().tag, b'R');
            let begun = Instant::now();
            let _ = raw.try_send(&[&b"p"[..], &length.to_be_bytes(), &chunk].concat());
            // It has been told by the first bytes; whatever else comes goes nowhere.
            for _ in 0..256 {
                if raw.try_send(&chunk).is_err() {
                    break;
                }
            }
            // The answer may be lost with a connection that is reset.
            if let Ok(answer) = raw.try_read() {
                assert_eq!(answer.error().code, "08P01", "{method} {length:#x}");
            }
            assert!(begun.elapsed() < SOON / 2, "{method} {length:#x}: {:?}", begun.elapsed());
        }
        let grown = memory_kib(pooler.pid(), "VmHWM") - before;
        assert!(grown < 4096, "{method}: {grown} KiB");
    }
    assert_well(&mut pooler);
}

/// The same of those who are in: a message that is too long for PostgreSQL is refused at its first bytes.
#[test]
fn cve_2026_6668_packets_that_grow_after_the_login() {
    let cluster = Cluster::start();
    let mut pooler = Pooler::trusting(&cluster, 2, "");
    for tag in *b"QPBDECF" {
        for length in TURNING {
            let mut raw = pooler.login("alice", "", "app");
            let _ = raw.try_send(&[&[tag][..], &length.to_be_bytes(), &cstr("select 1")].concat());
            raw.set_read_timeout(Duration::from_secs(2));
            let told = raw.try_read();
            let answered = told.as_ref().is_ok_and(|answer| answer.tag == b'E' && answer.error().code == "08P01");
            assert!(answered, "{} {length:#x}: {told:?}", char::from(tag));
        }
    }
    assert_well(&mut pooler);
}

/// A limit above what PostgreSQL itself takes, which CVE-2026-107348 needed, cannot be set.
#[test]
fn no_limit_is_above_two_gigabytes() {
    let cluster = Cluster::start();
    let dir = tempfile::tempdir().unwrap();
    let file = pooler::write_settings(&cluster, dir.path(), "[pgpool]\nmax_packet_size = 2147483649");
    let checked = pooler::run(&["check", file.to_str().unwrap()], SOON);
    assert_eq!(checked.code, Some(1), "{checked:?}");
    assert!(checked.stderr.contains("max_packet_size") || checked.stdout.contains("max_packet_size"), "{checked:?}");
}
