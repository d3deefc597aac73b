//! CVE-2026-6669: a server that asks for so many rounds of SCRAM's hash that a login never ends, and nothing else is done
//! meanwhile. The same could be done by the owner of a stored verifier, who chooses its rounds.

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use super::refused;
use crate::support::{
    Cluster, Pooler, Raw, eventually,
    fake::{Fake, WELCOME, read_message},
    messages::{message, password},
};

const SOON: Duration = Duration::from_secs(60);
const SALT: &str = "c2FsdHNhbHRzYWx0c2FsdA==";
/// As many as take long: some hundredths of a second at best, some seconds where nothing is optimized.
const MANY: u32 = 200_000;

/// A server that asks for so many rounds, and says when it has asked and was answered.
fn asking(rounds: String, asked: Arc<AtomicBool>, answered: Arc<AtomicBool>) -> Fake {
    Fake::start(move |_, socket| {
        socket.write_all(&message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0"))?;
        let first = String::from_utf8_lossy(&read_message(socket)?).into_owned();
        let nonce = first.rsplit_once("r=").unwrap().1;
        let challenge = format!("r={nonce}more,s={SALT},i={rounds}");
        socket.write_all(&message(b'R', &[&b"\0\0\0\x0b"[..], challenge.as_bytes()].concat()))?;
        asked.store(true, SeqCst);
        read_message(socket)?;
        answered.store(true, SeqCst);
        socket.write_all(WELCOME)
    })
}

/// How many queries of another client are answered from now on until something is the case.
fn served_until(client: &mut Raw, mut done: impl FnMut() -> bool) -> u32 {
    let mut count = 0;
    eventually(SOON, "it is computed", || {
        assert_eq!(client.value("select 1"), "1");
        let over = done();
        count += u32::from(!over);
        over
    });
    count
}

#[test]
fn cve_2026_6669_rounds_without_end() {
    let cluster = Cluster::start();
    for rounds in ["1000001", "2147483647", "4294967296", "18446744073709551616", "0"] {
        let fake = asking(rounds.to_owned(), Arc::default(), Arc::default());
        let pooler = fake.pooler(&cluster, "");
        let told = refused(&pooler, "alice", "elsewhere");
        let wanted = format!("server asks for {rounds} SCRAM iterations; 1 to 1000000 are computed");
        assert_eq!((told.severity.as_str(), told.message.as_str()), ("FATAL", wanted.as_str()));
        assert!(told.hint.unwrap().contains("scram_iterations"));
        pooler.wait_for_log(&wanted, SOON);
    }
}

#[test]
fn others_are_served_while_a_servers_rounds_are_computed() {
    let cluster = Cluster::start();
    let (asked, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
    let fake = asking(MANY.to_string(), Arc::clone(&asked), Arc::clone(&answered));
    let entry = format!("[databases.elsewhere]\nhost = \"127.0.0.1\"\nport = {}", fake.port());
    let settings = format!("server_tls_sslmode = \"disable\"\nserver_connect_timeout = 60\n{entry}");
    let pooler = Pooler::trusting(&cluster, 1, &settings);
    let mut client = pooler.login("trusty", "", "app");
    client.query("select 1").unwrap();
    let mut waiting = Raw::connect(pooler.port());
    waiting.startup(&[("user", "alice"), ("database", "elsewhere")]);
    eventually(SOON, "the server has asked", || asked.load(SeqCst));
    let served = served_until(&mut client, || answered.load(SeqCst));
    assert!(served > 5, "{served}");
}

#[test]
fn others_are_served_while_a_clients_rounds_are_computed() {
    let cluster = Cluster::start();
    let key = "c2FsdHNhbHRzYWx0c2FsdHNhbHRzYWx0c2FsdHNhbHQ=";
    let user = format!("[users.slow]\npassword = \"SCRAM-SHA-256${MANY}:{SALT}${key}:{key}\"");
    let pooler = Pooler::with_workers(&cluster, 1, &format!("auth_type = \"plain\"\n{user}"));
    let mut client = pooler.login("trusty", "trustypw", "app");
    client.query("select 1").unwrap();
    let mut slow = Raw::connect(pooler.port());
    slow.startup(&[("user", "slow"), ("database", "app")]);
    assert_eq!(slow.read().tag, b'R');
    slow.send(&password("wrong"));
    let served = served_until(&mut client, || !slow.is_silent_for(Duration::from_millis(1)));
    assert!(served > 5, "{served}");
    assert_eq!(slow.expect_error().code, "28P01");
}
