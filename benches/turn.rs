//! A whole turn: a client sends a request and reads the answer to its end, over sockets that never leave this process.
//!
//! Client, pooler and PostgreSQL share one thread, so that the time of a turn is all the work that it takes. Three ways
//! are measured side by side, and what counts is how far apart they are:
//!
//! - `direct`: the client is connected to the fake PostgreSQL;
//! - `bare-relay`: between the two, a task copies bytes and looks at none of them;
//! - `pgpool`: between the two is [`Session::run`], with a checkout and a release for every turn.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a bench fails by panicking")]

mod support;

use std::sync::Arc;
use std::time::Instant;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pgpool::net::Stream;
use pgpool::session::{House as Shared, Session, Workspaces};
use pgpool::wire::tag::{back, front};
use pgpool::wire::write;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional_with_sizes};
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};

use support::house::House;
use support::postgres::{Answers, Postgres, answer};

/// Size of the relay's buffer, bytes.
const BUFFER: usize = 64 * 1024;

/// A request and its answer.
struct Talk {
    name: &'static str,
    request: Vec<u8>,
    reply: Vec<u8>,
}

/// What is between the client and PostgreSQL.
#[derive(Clone, Copy)]
enum Way {
    Direct,
    BareRelay,
    Pgpool,
}

fn turn(criterion: &mut Criterion) {
    for talk in [simple(), extended(), large()] {
        let mut group = criterion.benchmark_group(talk.name);
        group.throughput(Throughput::Bytes((talk.request.len() + talk.reply.len()) as u64));
        for (name, way) in [("direct", Way::Direct), ("bare-relay", Way::BareRelay), ("pgpool", Way::Pgpool)] {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            let mut client = Client::connect(&runtime, way, &talk);
            group.bench_function(name, |bencher| {
                bencher.iter_custom(|turns| {
                    runtime.block_on(async {
                        let start = Instant::now();
                        for _ in 0..turns {
                            client.turn(&talk).await;
                        }
                        start.elapsed()
                    })
                });
            });
        }
        group.finish();
    }
}

/// A client that has logged in.
struct Client {
    stream: UnixStream,
    buf: Vec<u8>,
    /// What its session needs to live.
    _house: Option<House>,
}

impl Client {
    fn connect(runtime: &Runtime, way: Way, talk: &Talk) -> Client {
        let answers = Arc::new(Answers { query: talk.reply.clone(), sync: talk.reply.clone() });
        runtime.block_on(async {
            let (stream, theirs) = UnixStream::pair().unwrap();
            let house = match way {
                Way::Direct => {
                    tokio::spawn(answer(theirs, answers));
                    None
                }
                Way::BareRelay => {
                    tokio::spawn(bare_relay(theirs, answers));
                    None
                }
                Way::Pgpool => Some(session(theirs, answers).await),
            };
            let mut client = Client { stream, buf: vec![0; BUFFER], _house: house };
            client.check(talk).await;
            client
        })
    }

    /// One turn.
    async fn turn(&mut self, talk: &Talk) {
        self.stream.write_all(&talk.request).await.unwrap();
        let mut left = talk.reply.len();
        while left > 0 {
            let read = self.stream.read(&mut self.buf).await.unwrap();
            assert!((1..=left).contains(&read), "the answer has {} bytes", talk.reply.len());
            left -= read;
        }
    }

    /// One turn, looking at what comes.
    async fn check(&mut self, talk: &Talk) {
        self.stream.write_all(&talk.request).await.unwrap();
        let mut reply = vec![0; talk.reply.len()];
        self.stream.read_exact(&mut reply).await.unwrap();
        assert!(reply == talk.reply, "the answer is not the one that was sent");
    }
}

async fn bare_relay(mut client: UnixStream, answers: Arc<Answers>) {
    let (mut backend, theirs) = UnixStream::pair().unwrap();
    tokio::spawn(answer(theirs, answers));
    // It ends with the bench.
    let _ = copy_bidirectional_with_sizes(&mut client, &mut backend, BUFFER, BUFFER).await;
}

/// Serves the client by a session on a pool of one backend.
async fn session(client: UnixStream, answers: Arc<Answers>) -> House {
    let house = House::open(Postgres::start(answers), 1).await;
    let shared = Shared { pools: Arc::clone(&house.pools), workspaces: Arc::new(Workspaces::new(4)) };
    let state = house.pool.welcome().unwrap();
    let session = Session::new(Stream::from(client), house.client(), state, shared, &[]).unwrap();
    tokio::spawn(session.run());
    house
}

/// `select 1` as a simple query.
fn simple() -> Talk {
    let (mut request, mut reply) = (Vec::new(), Vec::new());
    write::query(&mut request, b"select 1");
    row_description(&mut reply);
    row(&mut reply, b"1");
    end(&mut reply, b"SELECT 1\0");
    Talk { name: "select-1-simple", request, reply }
}

/// `select $1` as an extended query in one flight, unnamed as most drivers send what they do not prepare.
fn extended() -> Talk {
    let (mut request, mut reply) = (Vec::new(), Vec::new());
    write::message(&mut request, front::PARSE, |out| out.extend_from_slice(b"\0select $1\0\0\0"));
    write::message(&mut request, front::BIND, |out| out.extend_from_slice(b"\0\0\0\0\0\x01\0\0\0\x011\0\0"));
    write::message(&mut request, front::DESCRIBE, |out| out.extend_from_slice(b"P\0"));
    write::message(&mut request, front::EXECUTE, |out| out.extend_from_slice(b"\0\0\0\0\0"));
    write::message(&mut request, front::SYNC, |_| {});
    write::message(&mut reply, back::PARSE_COMPLETE, |_| {});
    write::message(&mut reply, back::BIND_COMPLETE, |_| {});
    row_description(&mut reply);
    row(&mut reply, b"1");
    end(&mut reply, b"SELECT 1\0");
    Talk { name: "select-1-extended", request, reply }
}

/// A simple query with a thousand rows of 100 bytes.
fn large() -> Talk {
    let (mut request, mut reply) = (Vec::new(), Vec::new());
    write::query(&mut request, b"select repeat('x', 89) from generate_series(1, 1000)");
    row_description(&mut reply);
    for _ in 0..1000 {
        row(&mut reply, &[b'x'; 89]);
    }
    end(&mut reply, b"SELECT 1000\0");
    Talk { name: "result-of-100-kB", request, reply }
}

/// One column of text.
fn row_description(out: &mut Vec<u8>) {
    write::message(out, back::ROW_DESCRIPTION, |out| {
        out.extend_from_slice(b"\0\x01value\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0");
    });
}

/// A row of one column.
fn row(out: &mut Vec<u8>, value: &[u8]) {
    write::message(out, back::DATA_ROW, |out| {
        out.extend_from_slice(b"\0\x01");
        out.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
        out.extend_from_slice(value);
    });
}

fn end(out: &mut Vec<u8>, command: &[u8]) {
    write::message(out, back::COMMAND_COMPLETE, |out| out.extend_from_slice(command));
    write::ready_idle(out);
}

criterion_group!(benches, turn);
criterion_main!(benches);
