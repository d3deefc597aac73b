//! What clients are told of the pooler at their login, in the words that PgBouncer has for it since 1.26, so that drivers
//! that go by them do so. What a pooler behind this one says of itself goes no further.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use crate::support::{
    Cluster, Pooler, Raw,
    fake::{Fake, WELCOME},
    messages::{message, query},
};

fn told(client: &Raw) -> String {
    client.told_of_pooler.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

#[test]
fn clients_are_told_how_they_are_pooled() {
    let cluster = Cluster::start();
    let settings = "[users.bob]\npool_mode = \"session\"\n";
    let pooler = Pooler::trusting(&cluster, 1, settings);
    let login = |user| told(&pooler.login(user, "", "app"));
    assert_eq!(login("alice"), "max_prepared_statements=200 pool_mode=transaction version=1.26.1");
    assert_eq!(login("bob"), "max_prepared_statements=200 pool_mode=session version=1.26.1");
    let mut console = pooler.console();
    assert_eq!(told(&console), "version=1.26.1");
    console.query("SET max_prepared_statements = 0").unwrap();
    console.query("SET pool_mode = statement").unwrap();
    assert_eq!(login("alice"), "max_prepared_statements=0 pool_mode=statement version=1.26.1");
    let mut replica = Raw::connect(pooler.port());
    replica.startup(&[("user", "postgres"), ("database", "app"), ("replication", "database")]);
    replica.authenticate("postgres", "").unwrap();
    assert_eq!(told(&replica), "max_prepared_statements=0 pool_mode=session version=1.26.1");
}

/// Type and body of a message.
fn next(socket: &mut TcpStream) -> std::io::Result<(u8, Vec<u8>)> {
    let mut header = [0; 5];
    socket.read_exact(&mut header)?;
    let mut body = vec![0; usize::try_from(u32::from_be_bytes(header[1..].try_into().unwrap())).unwrap() - 4];
    socket.read_exact(&mut body)?;
    Ok((header[0], body))
}

#[test]
fn what_another_pooler_says_of_itself_goes_no_further() {
    let cluster = Cluster::start();
    let (count, asked) = (AtomicU32::new(0), Arc::<Mutex<Vec<String>>>::default());
    let noted = Arc::clone(&asked);
    // Each connection is to another version, and stays in a transaction.
    let fake = Fake::start(move |_, socket| {
        let version = format!("pgbouncer.version\x009.{}\0", count.fetch_add(1, Relaxed));
        let mode = message(b'S', b"pgbouncer.pool_mode\0statement\0");
        let said = [message(b'S', version.as_bytes()), mode].concat();
        socket.write_all(&[&WELCOME[..9], &said, &WELCOME[9..]].concat())?;
        while let Ok((tag, body)) = next(socket) {
            let text = String::from_utf8_lossy(&body).into_owned();
            noted.lock().unwrap().push(text.clone());
            if tag == b'X' {
                break;
            }
            let status: &[u8] = if text.starts_with("begin") { b"T" } else { b"I" };
            socket.write_all(&[message(b'C', b"BEGIN\0"), message(b'Z', status)].concat())?;
        }
        Ok(())
    });
    let pooler = fake.pooler(&cluster, "");
    let mut clients = [(); 2].map(|()| pooler.login("alice", "", "elsewhere"));
    for client in &mut clients {
        assert_eq!(told(client), "max_prepared_statements=200 pool_mode=transaction version=1.26.1");
        client.send(&query("begin"));
        assert_eq!(client.read_until_ready().last().unwrap().status(), 'T');
    }
    let asked = asked.lock().unwrap();
    assert_eq!(asked.iter().filter(|text| text.starts_with("begin")).count(), 2);
    assert!(!asked.iter().any(|text| text.contains("pgbouncer")), "{asked:?}");
}
