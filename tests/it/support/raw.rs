//! A PostgreSQL client that sends and shows bytes as they are, for what no driver would do.
//!
//! Blocking. Every read has a deadline: a test that waits for a message that does not come fails and says which.

use std::{
    collections::BTreeMap,
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    path::Path,
    sync::Arc,
    time::Duration,
};

use postgres_protocol::authentication::{
    md5_hash,
    sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256},
};

use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::{
    messages,
    reply::{Message, PgError, Row, rows},
};

const READ_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) struct Raw {
    stream: Stream,
    received: Vec<u8>,
    /// The ParameterStatus messages so far: the last value of each.
    pub(crate) parameters: BTreeMap<String, String>,
    /// Those by which a pooler speaks of itself, without the `pgbouncer.` in front.
    pub(crate) told_of_pooler: BTreeMap<String, String>,
    /// BackendKeyData: the process id and the secret, which is as long as it came.
    pub(crate) backend_key: Option<(u32, Vec<u8>)>,
    /// NegotiateProtocolVersion: the newest minor version spoken, and the options not understood.
    pub(crate) negotiated: Option<(u32, Vec<String>)>,
}

/// Why no message was read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum NoMessage {
    /// The other side has closed.
    Closed,
    /// None came within the deadline.
    InTime,
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<StreamOwned<ClientConnection, Chopped>>),
}

/// A TCP connection that takes only so many bytes at a time, so that records arrive in pieces.
struct Chopped {
    tcp: TcpStream,
    at_most: usize,
}

impl Read for Chopped {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        self.tcp.read(buf)
    }
}

impl Write for Chopped {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.tcp.write(&bytes[..bytes.len().min(self.at_most)])
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.tcp.flush()
    }
}

impl Raw {
    pub(crate) fn connect(port: u16) -> Self {
        let stream =
            TcpStream::connect(("127.0.0.1", port)).unwrap_or_else(|error| panic!("connect to {port}: {error}"));
        stream.set_nodelay(true).expect("set TCP_NODELAY");
        Self::on(Stream::Tcp(stream))
    }

    /// Connects to 127.0.0.1 from this address of the machine.
    pub(crate) fn connect_from(source: &str, port: u16) -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("make a socket");
        let source: std::net::IpAddr = source.parse().expect("an address");
        socket.bind(&std::net::SocketAddr::new(source, 0).into()).expect("bind to an address");
        let target = std::net::SocketAddr::from(([127, 0, 0, 1], port));
        socket.connect(&target.into()).unwrap_or_else(|error| panic!("connect to {port}: {error}"));
        Self::on(Stream::Tcp(socket.into()))
    }

    pub(crate) fn connect_unix(socket: &Path) -> Self {
        let stream =
            UnixStream::connect(socket).unwrap_or_else(|error| panic!("connect to {}: {error}", socket.display()));
        Self::on(Stream::Unix(stream))
    }

    fn on(stream: Stream) -> Self {
        let mut raw = Self {
            stream,
            received: Vec::new(),
            parameters: BTreeMap::new(),
            told_of_pooler: BTreeMap::new(),
            backend_key: None,
            negotiated: None,
        };
        raw.set_read_timeout(READ_TIMEOUT);
        raw
    }

    /// Asks for TLS, and begins it as `localhost`'s client.
    pub(crate) fn ask_tls(mut self, config: &Arc<ClientConfig>) -> Result<Self, String> {
        self.send(&messages::ssl_request());
        assert_eq!(self.read_byte(), b'S');
        self.start_tls(config, usize::MAX)
    }

    /// Begins TLS at once; a write sends at most so many bytes.
    pub(crate) fn start_tls(self, config: &Arc<ClientConfig>, at_most: usize) -> Result<Self, String> {
        let Stream::Tcp(tcp) = self.stream else { panic!("TLS over something else than TCP") };
        let name = "localhost".try_into().expect("a name");
        let mut tls = ClientConnection::new(Arc::clone(config), name).expect("a client");
        let mut tcp = Chopped { tcp, at_most };
        while tls.is_handshaking() {
            tls.complete_io(&mut tcp).map_err(|error| error.to_string())?;
        }
        Ok(Self::on(Stream::Tls(Box::new(StreamOwned::new(tls, tcp)))))
    }

    /// The TLS of this connection.
    pub(crate) fn tls(&mut self) -> &mut ClientConnection {
        match &mut self.stream {
            Stream::Tls(tls) => &mut tls.conn,
            Stream::Tcp(_) | Stream::Unix(_) => panic!("no TLS"),
        }
    }

    /// Sends what is no TLS within a TLS connection.
    pub(crate) fn send_below_tls(&mut self, bytes: &[u8]) {
        let Stream::Tls(tls) = &mut self.stream else { panic!("no TLS") };
        tls.sock.tcp.write_all(bytes).expect("send");
    }

    /// A login through TLS.
    pub(crate) fn login_tls(port: u16, config: &Arc<ClientConfig>, user: &str, password: &str) -> Self {
        let mut raw = Self::connect(port).ask_tls(config).expect("TLS");
        raw.startup(&[("user", user), ("database", "app")]);
        raw.authenticate(user, password).unwrap_or_else(|error| panic!("login of {user}: {error:?}"));
        raw
    }

    /// Connects over TCP and logs in; panics when refused.
    pub(crate) fn login(port: u16, user: &str, password: &str, database: &str) -> Self {
        Self::try_login(port, user, password, database).unwrap_or_else(|error| panic!("login of {user}: {error:?}"))
    }

    pub(crate) fn try_login(port: u16, user: &str, password: &str, database: &str) -> Result<Self, PgError> {
        let mut raw = Self::connect(port);
        raw.startup(&[("user", user), ("database", database)]);
        raw.authenticate(user, password)?;
        Ok(raw)
    }

    /// Sends a cancel request on a connection of its own, and waits until the other side has closed that.
    pub(crate) fn cancel(port: u16, key: &(u32, Vec<u8>)) {
        let mut raw = Self::connect(port);
        raw.send(&messages::cancel_request(key.0, &key.1));
        raw.expect_eof();
    }

    pub(crate) fn set_read_timeout(&mut self, timeout: Duration) {
        match &self.stream {
            Stream::Tcp(stream) => stream.set_read_timeout(Some(timeout)),
            Stream::Unix(stream) => stream.set_read_timeout(Some(timeout)),
            Stream::Tls(stream) => stream.sock.tcp.set_read_timeout(Some(timeout)),
        }
        .expect("set a read timeout");
    }

    /// The startup packet of protocol 3.0.
    pub(crate) fn startup(&mut self, parameters: &[(&str, &str)]) {
        self.startup_with_version(0, parameters);
    }

    /// The startup packet of protocol 3.`minor`.
    pub(crate) fn startup_with_version(&mut self, minor: u16, parameters: &[(&str, &str)]) {
        self.send(&messages::startup(messages::PROTOCOL_3_0 | u32::from(minor), parameters));
    }

    /// After the startup packet: answers whatever is asked for (nothing, clear text, MD5, SCRAM), and reads until ready.
    pub(crate) fn authenticate(&mut self, user: &str, password: &str) -> Result<(), PgError> {
        let mut scram = None;
        loop {
            let message = self.read();
            match message.tag {
                b'R' => self.answer(&message.body, (user, password), &mut scram),
                b'E' => return Err(message.error()),
                b'Z' => return Ok(()),
                b'S' | b'K' | b'v' | b'N' => {}
                _ => panic!("{message:?} during login"),
            }
        }
    }

    fn answer(&mut self, request: &[u8], (user, password): (&str, &str), scram: &mut Option<ScramSha256>) {
        let (kind, rest) = request.split_at_checked(4).expect("an authentication request");
        match u32::from_be_bytes(kind.try_into().expect("four bytes")) {
            0 => {}
            3 => self.send(&messages::password(password)),
            5 => {
                let salt = rest.try_into().expect("a salt of four bytes");
                self.send(&messages::password(&md5_hash(user.as_bytes(), password.as_bytes(), salt)));
            }
            10 => {
                let client = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
                self.send(&messages::sasl_initial(SCRAM_SHA_256, client.message()));
                *scram = Some(client);
            }
            11 => {
                let client = scram.as_mut().expect("a SASL exchange");
                client.update(rest).expect("a SCRAM challenge");
                let response = client.message().to_vec();
                self.send(&messages::sasl_response(&response));
            }
            12 => scram.take().expect("a SASL exchange").finish(rest).expect("the right server signature"),
            other => panic!("authentication request {other}"),
        }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).expect("send");
    }

    /// The other side may have closed already.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match &mut self.stream {
            Stream::Tcp(stream) => stream.write_all(bytes),
            Stream::Unix(stream) => stream.write_all(bytes),
            Stream::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        }
    }

    /// No more bytes will come from here; those on the way are still read.
    pub(crate) fn shutdown_write(&mut self) {
        match &self.stream {
            Stream::Tcp(stream) => stream.shutdown(std::net::Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(std::net::Shutdown::Write),
            Stream::Tls(stream) => stream.sock.tcp.shutdown(std::net::Shutdown::Write),
        }
        .expect("shut down the sending side");
    }

    /// The next message; panics at the end of the stream or when none comes.
    pub(crate) fn read(&mut self) -> Message {
        self.read_or_eof().expect("a message, but the other side has closed")
    }

    /// The next message for tests that go on without one.
    pub(crate) fn try_read(&mut self) -> Result<Message, NoMessage> {
        loop {
            if let Some(message) = self.take_message() {
                self.note(&message);
                return Ok(message);
            }
            match self.try_receive() {
                Ok(true) => {}
                Ok(false) => return Err(NoMessage::Closed),
                Err(_) => return Err(NoMessage::InTime),
            }
        }
    }

    /// `None` when the other side has closed between two messages.
    pub(crate) fn read_or_eof(&mut self) -> Option<Message> {
        loop {
            if let Some(message) = self.take_message() {
                self.note(&message);
                return Some(message);
            }
            if !self.receive("a message") {
                assert!(self.received.is_empty(), "closed within a message: {:?}", self.received);
                return None;
            }
        }
    }

    /// One byte that is no message: the answer to an SSLRequest.
    pub(crate) fn read_byte(&mut self) -> u8 {
        while self.received.is_empty() {
            assert!(self.receive("a byte"), "closed before the byte");
        }
        self.received.remove(0)
    }

    /// All messages up to and with the next ReadyForQuery.
    pub(crate) fn read_until_ready(&mut self) -> Vec<Message> {
        self.read_until(b'Z')
    }

    pub(crate) fn read_until(&mut self, tag: u8) -> Vec<Message> {
        let mut messages = Vec::new();
        loop {
            let message = self.read();
            let last = message.tag == tag;
            messages.push(message);
            if last {
                return messages;
            }
        }
    }

    /// A simple query: the rows of all its statements, or its error. Notices are skipped.
    pub(crate) fn query(&mut self, sql: &str) -> Result<Vec<Row>, PgError> {
        self.send(&messages::query(sql));
        rows(&self.read_until_ready())
    }

    /// The same over the extended protocol, unnamed.
    pub(crate) fn query_extended(&mut self, sql: &str, parameters: &[Option<&str>]) -> Result<Vec<Row>, PgError> {
        self.send(&messages::extended(sql, parameters));
        rows(&self.read_until_ready())
    }

    /// The one value that a query gives; panics otherwise.
    pub(crate) fn value(&mut self, sql: &str) -> String {
        let rows = self.query(sql).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        match rows.as_slice() {
            [row] => row.first().cloned().flatten().expect("a value that is not null"),
            _ => panic!("{sql}: not one row: {rows:?}"),
        }
    }

    /// Reads up to the next ErrorResponse; panics when a ReadyForQuery comes first.
    pub(crate) fn expect_error(&mut self) -> PgError {
        loop {
            let message = self.read();
            match message.tag {
                b'E' => return message.error(),
                b'Z' => panic!("ReadyForQuery instead of an error"),
                _ => {}
            }
        }
    }

    /// Expects nothing more but the end of the stream; a reset counts as one.
    pub(crate) fn expect_eof(&mut self) {
        if let Some(message) = self.read_or_eof() {
            panic!("{message:?} instead of the end of the stream");
        }
    }

    /// Whether nothing comes for so long. For «it must not answer yet»; elsewhere wait for what comes.
    pub(crate) fn is_silent_for(&mut self, time: Duration) -> bool {
        if !self.received.is_empty() {
            return false;
        }
        self.set_read_timeout(time);
        let mut chunk = [0; 4096];
        let outcome = self.read_some(&mut chunk);
        self.set_read_timeout(READ_TIMEOUT);
        match outcome {
            Ok(read) => {
                self.received.extend_from_slice(&chunk[..read]);
                false
            }
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
    }

    fn take_message(&mut self) -> Option<Message> {
        let header: [u8; 5] = self.received.get(..5)?.try_into().expect("five bytes");
        let [tag, length @ ..] = header;
        let end = usize::try_from(u32::from_be_bytes(length)).expect("a length") + 1;
        assert!(end >= 5, "a message «{}» of length {}", tag.escape_ascii(), end - 1);
        let body = self.received.get(5..end)?.to_vec();
        self.received.drain(..end);
        Some(Message { tag, body })
    }

    /// `false` at the end of the stream.
    fn receive(&mut self, awaited: &str) -> bool {
        self.try_receive()
            .unwrap_or_else(|error| panic!("waiting for {awaited}, having received {:?}: {error}", self.received))
    }

    /// `false` at the end of the stream; a reset counts as one.
    fn try_receive(&mut self) -> std::io::Result<bool> {
        let mut chunk = vec![0; 65_536];
        match self.read_some(&mut chunk) {
            Ok(read) => {
                self.received.extend_from_slice(&chunk[..read]);
                Ok(read > 0)
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(false),
            // The end of the stream without a word before it.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn read_some(&mut self, chunk: &mut [u8]) -> std::io::Result<usize> {
        loop {
            let outcome = match &mut self.stream {
                Stream::Tcp(stream) => stream.read(chunk),
                Stream::Unix(stream) => stream.read(chunk),
                Stream::Tls(stream) => stream.read(chunk),
            };
            match outcome {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                outcome => return outcome,
            }
        }
    }

    fn note(&mut self, message: &Message) {
        match message.tag {
            b'S' => {
                let mut strings = message.strings(0).into_iter();
                let (name, value) = (strings.next().expect("a name"), strings.next().expect("a value"));
                match name.strip_prefix("pgbouncer.") {
                    Some(name) => self.told_of_pooler.insert(name.to_owned(), value),
                    None => self.parameters.insert(name, value),
                };
            }
            b'K' => self.backend_key = Some((message.u32_at(0), message.body[4..].to_vec())),
            b'v' => self.negotiated = Some((message.u32_at(0) & 0xffff, message.strings(8))),
            _ => {}
        }
    }
}
