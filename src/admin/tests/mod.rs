//! Tests of the console over a socket pair, with raw bytes on the client's side.

mod columns;
mod commands;
mod driver;
mod grammar;
mod protocol;
mod robust;
mod settings;

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use super::*;
use crate::config::Config;
use crate::net::{Endpoint, Stream};
use crate::pool::{ClientIdentity, ClientRecord, Listed, Pool};
use crate::wire::view::Diagnostic;

/// A process that remembers what it was told.
#[derive(Default)]
pub(super) struct Process {
    pub(super) told: Mutex<Vec<Shutdown>>,
    pub(super) problems: Mutex<Option<String>>,
}

impl Control for Process {
    fn arriving(&self) -> usize {
        1
    }

    fn reload(&self) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>> {
        Box::pin(async { self.problems.lock().unwrap().clone().map_or(Ok(()), Err) })
    }

    fn shutdown(&self, how: Shutdown) {
        self.told.lock().unwrap().push(how);
    }

    fn ending(&self) -> Option<Shutdown> {
        self.told.lock().unwrap().last().copied()
    }

    fn listening(&self) -> Vec<(u32, Endpoint)> {
        vec![(7, Endpoint::Tcp("127.0.0.1:6432".parse().unwrap()))]
    }
}

/// A pooler with two databases, and what its console talks to.
pub(super) struct Pooler {
    pub(super) pools: Arc<Pools>,
    pub(super) process: Arc<Process>,
    pub(super) stats: Arc<StatsBook>,
    _births: tokio::sync::mpsc::UnboundedReceiver<Arc<Pool>>,
}

const CONFIG: &str = r#"
[pgpool]
listen_port = 6500
pool_mode = "transaction"
auth_type = "trust"
[databases.one]
host = "10.0.0.1"
pool_mode = "session"
[databases.two]
dbname = "second"
user = "forced"
max_db_connections = 7
[users.alice]
pool_size = 3
pool_mode = "statement"
"#;

impl Pooler {
    pub(super) fn new() -> Pooler {
        Pooler::with(CONFIG)
    }

    pub(super) fn with(text: &str) -> Pooler {
        let config = Config::parse(text, Path::new("/nowhere/pgpool.toml")).unwrap().config;
        let (pools, births) = Pools::new(config);
        Pooler { pools, process: Arc::default(), stats: Arc::default(), _births: births }
    }

    /// A listed client that is still logging in.
    pub(super) fn client(&self, user: &str, database: &str) -> Listed {
        let identity = ClientIdentity {
            user: user.into(),
            database: database.into(),
            peer: Endpoint::Tcp("192.0.2.1:5000".parse().unwrap()),
            process: 0,
            local: Some("[::ffff:192.0.2.2]:6432".parse().unwrap()),
            tls: "",
            replication: crate::wire::startup::Replication::None,
            connected: self.pools.shared.clock.now(),
        };
        let record = ClientRecord::new(self.pools.shared.next_id(), Box::new([1, 2, 3, 4]), identity, Vec::new());
        self.pools.clients.enlist(Arc::new(record))
    }

    /// What the console is given.
    pub(super) fn context(&self) -> Context {
        Context {
            pools: Arc::clone(&self.pools),
            control: Arc::clone(&self.process) as Arc<dyn Control>,
            stats: Arc::clone(&self.stats),
            workspaces: Arc::new(Workspaces::new(1)),
        }
    }

    /// Connects to the console and reads the greeting.
    pub(super) async fn console(&self, role: Role) -> Session {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let listed = self.client("operator", "pgbouncer");
        let record = Arc::clone(listed.record());
        let context = self.context();
        let task = tokio::spawn(async move {
            let listed = listed;
            serve(Stream::from(theirs), listed.record(), role, context).await
        });
        let mut session = Session { stream: ours, record, task, greeting: Vec::new() };
        session.greeting = session.until_ready().await;
        session
    }
}

/// A message of the console.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) tag: u8,
    pub(super) body: Vec<u8>,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?}", char::from(self.tag), String::from_utf8_lossy(&self.body))
    }
}

impl Message {
    /// The values of a DataRow.
    pub(super) fn values(&self) -> Vec<Option<Vec<u8>>> {
        assert_eq!(self.tag, b'D', "{self:?}");
        let mut rest = &self.body[2..];
        let mut values = Vec::new();
        while !rest.is_empty() {
            let length = i32::from_be_bytes(rest[..4].try_into().unwrap());
            rest = &rest[4..];
            values.push(usize::try_from(length).ok().map(|length| {
                let (value, tail) = rest.split_at(length);
                rest = tail;
                value.to_vec()
            }));
        }
        assert_eq!(values.len(), usize::from(u16::from_be_bytes([self.body[0], self.body[1]])));
        values
    }

    /// The values of a DataRow in text format, NULL as "-".
    pub(super) fn texts(&self) -> Vec<String> {
        let text = |value: Option<Vec<u8>>| value.map_or("-".to_owned(), |value| String::from_utf8(value).unwrap());
        self.values().into_iter().map(text).collect()
    }

    /// The columns of a RowDescription: name, type, format.
    pub(super) fn columns(&self) -> Vec<(String, u32, u16)> {
        assert_eq!(self.tag, b'T', "{self:?}");
        let mut rest = &self.body[2..];
        let mut columns = Vec::new();
        while !rest.is_empty() {
            let end = rest.iter().position(|byte| *byte == 0).unwrap();
            let name = String::from_utf8(rest[..end].to_vec()).unwrap();
            let fixed = &rest[end + 1..end + 19];
            let oid = u32::from_be_bytes(fixed[6..10].try_into().unwrap());
            columns.push((name, oid, u16::from_be_bytes(fixed[16..].try_into().unwrap())));
            rest = &rest[end + 19..];
        }
        columns
    }

    /// The fields of an ErrorResponse or NoticeResponse.
    pub(super) fn report(&self) -> Diagnostic {
        assert!(matches!(self.tag, b'E' | b'N'), "{self:?}");
        Diagnostic::read(&self.body)
    }
}

/// The tags of messages.
pub(super) fn tags(messages: &[Message]) -> String {
    messages.iter().map(|message| char::from(message.tag)).collect()
}

/// A client's message.
pub(super) fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend_from_slice(&(u32::try_from(body.len()).unwrap() + 4).to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

pub(super) fn query(text: &str) -> Vec<u8> {
    frame(b'Q', format!("{text}\0").as_bytes())
}

pub(super) fn parse(name: &str, text: &str) -> Vec<u8> {
    frame(b'P', format!("{name}\0{text}\0\0\0").as_bytes())
}

/// Bind of the unnamed portal.
pub(super) fn bind(statement: &str, formats: &[u16]) -> Vec<u8> {
    let mut body = format!("\0{statement}\0\0\0\0\0").into_bytes();
    body.extend_from_slice(&u16::try_from(formats.len()).unwrap().to_be_bytes());
    body.extend(formats.iter().flat_map(|format| format.to_be_bytes()));
    frame(b'B', &body)
}

pub(super) fn execute() -> Vec<u8> {
    frame(b'E', b"\0\0\0\0\0")
}

pub(super) fn sync() -> Vec<u8> {
    frame(b'S', b"")
}

/// The client's end of a session of the console.
pub(super) struct Session {
    pub(super) stream: UnixStream,
    pub(super) record: Arc<ClientRecord>,
    pub(super) task: JoinHandle<ConsoleEnd>,
    pub(super) greeting: Vec<Message>,
}

impl Session {
    pub(super) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The next message, `None` at the end.
    pub(super) async fn next(&mut self) -> Option<Message> {
        let mut header = [0; 5];
        self.stream.read_exact(&mut header).await.ok()?;
        let length = u32::from_be_bytes(header[1..].try_into().unwrap()) as usize;
        let mut body = vec![0; length - 4];
        self.stream.read_exact(&mut body).await.unwrap();
        Some(Message { tag: header[0], body })
    }

    /// All messages up to ReadyForQuery, which must say idle, or the end.
    pub(super) async fn until_ready(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        while let Some(message) = self.next().await {
            let ready = message.tag == b'Z';
            assert!(!ready || message.body == b"I");
            messages.push(message);
            if ready {
                break;
            }
        }
        messages
    }

    /// What a simple query is answered with.
    pub(super) async fn ask(&mut self, text: &str) -> Vec<Message> {
        self.send(&query(text)).await;
        self.until_ready().await
    }

    /// The rows of a simple query.
    pub(super) async fn rows(&mut self, text: &str) -> Vec<Vec<String>> {
        let messages = self.ask(text).await;
        messages.iter().filter(|message| message.tag == b'D').map(Message::texts).collect()
    }

    /// The command tag of a simple query without rows, or its error as `CODE text`.
    pub(super) async fn tag(&mut self, text: &str) -> String {
        let messages = self.ask(text).await;
        let answer = messages.iter().find(|message| matches!(message.tag, b'C' | b'E')).unwrap();
        match answer.tag {
            b'C' => String::from_utf8(answer.body[..answer.body.len() - 1].to_vec()).unwrap(),
            _ => format!("{} {}", answer.report().code, answer.report().message),
        }
    }

    /// How the session ended, which must have no more to say.
    pub(super) async fn end(mut self) -> ConsoleEnd {
        assert_eq!(self.next().await, None);
        self.task.await.unwrap()
    }
}
