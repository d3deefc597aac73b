//! A fake PostgreSQL on a unix socket: it lets everybody in, and answers each Query and each Sync with the same bytes.
//!
//! It lives in the runtime of the bench, so that one thread's time is all that is spent and nothing waits for the
//! system to wake another thread up.

use std::path::Path;
use std::sync::Arc;

use pgpool::wire::scan::{Grammar, Scanner};
use pgpool::wire::tag::{back, front, front_limit};
use pgpool::wire::write;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

/// Port in the name of the socket's file.
pub(crate) const PORT: u16 = 5432;

const FRONT: Grammar = Grammar { limit: front_limit, whole: |_| false, whole_max: 0, max: 1 << 20 };

/// What it says.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// To a Query.
    pub(crate) query: Vec<u8>,
    /// To a Sync, for all that was asked before it.
    pub(crate) sync: Vec<u8>,
}

/// A listening fake. It answers as long as its runtime runs; the socket's file goes with the value.
#[derive(Debug)]
pub(crate) struct Postgres {
    dir: TempDir,
}

impl Postgres {
    /// Listens in a directory of its own. Must be called within a runtime.
    pub(crate) fn start(answers: Arc<Answers>) -> Postgres {
        let dir = tempfile::Builder::new().prefix("pgpool-bench-").tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join(format!(".s.PGSQL.{PORT}"))).unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&answers)));
            }
        });
        Postgres { dir }
    }

    /// The directory of its socket.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }
}

async fn serve(mut stream: UnixStream, answers: Arc<Answers>) {
    let Ok(length) = stream.read_u32().await else { return };
    let mut startup = vec![0; length as usize - 4];
    if stream.read_exact(&mut startup).await.is_ok() && stream.write_all(&welcome()).await.is_ok() {
        answer(stream, answers).await;
    }
}

/// Answers a client that has logged in, until it leaves.
pub(crate) async fn answer(mut stream: UnixStream, answers: Arc<Answers>) {
    let mut buf = vec![0; 64 * 1024];
    let mut scanner = Scanner::default();
    let mut held = 0;
    while let Ok(read @ 1..) = stream.read(&mut buf[held..]).await {
        held += read;
        let mut used = 0;
        while let Some(piece) = scanner.next(&buf[used..held], &FRONT).unwrap() {
            used += piece.bytes.len();
            let reply = match piece.tag {
                _ if !piece.part.ends() => continue,
                front::QUERY => &answers.query,
                front::SYNC => &answers.sync,
                _ => continue,
            };
            if stream.write_all(reply).await.is_err() {
                return;
            }
        }
        buf.copy_within(used..held, 0);
        held -= used;
    }
}

/// From AuthenticationOk to the first ReadyForQuery.
fn welcome() -> Vec<u8> {
    let mut out = Vec::new();
    write::message(&mut out, back::AUTHENTICATION, |out| out.extend_from_slice(&0u32.to_be_bytes()));
    let parameters: [(&str, &[u8]); 6] = [
        ("application_name", b""),
        ("client_encoding", b"UTF8"),
        ("DateStyle", b"ISO, MDY"),
        ("server_version", b"17.0"),
        ("standard_conforming_strings", b"on"),
        ("TimeZone", b"UTC"),
    ];
    for (name, value) in parameters {
        write::parameter_status(&mut out, name, value);
    }
    write::message(&mut out, back::KEY_DATA, |out| out.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 2]));
    write::ready_idle(&mut out);
    out
}
