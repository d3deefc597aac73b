//! The end of both: SHUTDOWN of each kind and the signals for it, seen by those who are there and by those who come.

use std::{net::TcpStream, os::unix::net::UnixStream, path::Path};

use super::{Differences, HAS_NEWER, Pair, SOON, Side, known};
use crate::support::{
    Raw, eventually,
    messages::query,
    process::Signal,
    reply::{self, Message, PgError},
};

/// How the end is asked for.
#[derive(Clone, Copy)]
enum Asked {
    Console(&'static str),
    Signal(Signal),
}

const ENDS: &[(&str, Asked, bool)] = &[
    ("SHUTDOWN", Asked::Console("shutdown"), true),
    ("SHUTDOWN WAIT_FOR_SERVERS", Asked::Console("shutdown wait_for_servers"), false),
    ("SHUTDOWN WAIT_FOR_CLIENTS", Asked::Console("shutdown wait_for_clients"), false),
    ("SIGTERM", Asked::Signal(Signal::TERM), false),
    ("SIGINT", Asked::Signal(Signal::INT), false),
    ("SIGQUIT", Asked::Signal(Signal::QUIT), true),
];

/// Without the SQLSTATE, which differs in each of these.
fn words(error: &PgError) -> String {
    format!("{}: {}", error.severity, error.message)
}

/// What a client gets that may be sent away, or has been.
fn gets(client: &mut Raw, sql: &str) -> String {
    // Where it has been, its connection may be gone.
    let _ = client.try_send(&query(sql));
    let mut all: Vec<Message> = Vec::new();
    while let Some(message) = client.read_or_eof() {
        let ends = message.tag == b'Z';
        all.push(message);
        if ends {
            break;
        }
    }
    if all.is_empty() {
        return "nothing".to_owned();
    }
    let told = match reply::rows(&all) {
        Ok(rows) => rows.into_iter().flatten().flatten().collect::<Vec<_>>().join(" "),
        Err(error) => words(&error),
    };
    format!("{told}{}", if all.last().unwrap().tag == b'Z' { "" } else { ", the end" })
}

/// Somebody new, by the Unix socket.
fn comes(socket: &Path, database: &str) -> String {
    if UnixStream::connect(socket).is_err() {
        return "refused".to_owned();
    }
    let mut raw = Raw::connect_unix(socket);
    raw.startup(&[("user", "postgres"), ("database", database)]);
    match raw.try_read() {
        Ok(message) if message.tag == b'E' => words(&message.error()),
        Ok(_) => "in".to_owned(),
        Err(_) => "closed".to_owned(),
    }
}

/// What is seen of an end, in order; `at_once`: there is nobody left to come to.
fn story(side: &mut Side, asked: Asked, at_once: bool) -> Vec<(&'static str, String)> {
    let socket = Path::new(&side.sockets).join(format!(".s.PGSQL.{}", side.port));
    let mut console = side.console();
    let mut busy = [side.login("alice", "named"), side.login("alice", "named")];
    for client in &mut busy {
        client.query("begin").unwrap();
    }
    let (mut queued, mut idle) = (side.login("alice", "named"), side.login("bob", "app"));
    idle.query("select 1").unwrap();
    queued.send(&query("select 'served'"));
    let answer = match asked {
        Asked::Console(sql) => gets(&mut console, sql),
        Asked::Signal(signal) => {
            side.process.signal(signal);
            "a signal".to_owned()
        }
    };
    let mut told = vec![("answer", answer)];
    eventually(SOON, "nobody is let in", || TcpStream::connect(("127.0.0.1", side.port)).is_err());
    if !at_once {
        // It may be open to everybody for a moment longer.
        let mut answer = String::new();
        eventually(SOON, "nobody is let in by the socket", || {
            answer = comes(&socket, "app");
            answer != "in"
        });
        told.push(("by the socket", answer));
        told.push(("the console by the socket", comes(&socket, "pgbouncer")));
    }
    let [one, other] = &mut busy;
    told.push(("in a transaction", gets(one, "select 'there'")));
    told.push(("its end", gets(one, "commit")));
    told.push(("idle", gets(&mut idle, "select 'idle'")));
    told.push(("queued", gets(&mut queued, "select 'again'")));
    told.push(("the other's end", gets(other, "commit")));
    drop((busy, queued, idle, console));
    let code = side.process.try_wait_exit(SOON).map(|status| status.code());
    told.push(("the process", format!("{code:?}")));
    told
}

#[test]
fn both_end_in_the_same_way() {
    let mut all = Differences::new();
    let mut last = None;
    for (what, asked, at_once) in ENDS {
        let Some(mut pair) = Pair::start().filter(|pair| pair.minor >= HAS_NEWER) else { return };
        let (ours, theirs) = (story(&mut pair.ours, *asked, *at_once), story(&mut pair.theirs, *asked, *at_once));
        assert_eq!(ours.last().unwrap().1, "Some(Some(0))", "{what}: {ours:?}");
        for ((step, ours), (_, theirs)) in ours.into_iter().zip(theirs).filter(|(ours, theirs)| ours != theirs) {
            all.insert(format!("{what}: {step}"), (ours, theirs));
        }
        last = Some(pair);
    }
    last.unwrap().assert_known(&all, known::ENDS);
}
