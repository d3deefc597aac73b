//! TLS records over a socket: what is read, decrypted, encrypted and written of one connection.
//!
//! rustls keeps the keys and no buffers; those here are allocated when something moves and freed when it has passed, so
//! an idle connection owns none. A message may end anywhere in a record and a record anywhere in what a socket gives.
//! Invariants: what was decrypted and not yet read counts as readable; half a record does not; plaintext that was
//! encrypted is sent before it is reported as written, so that nobody has to flush.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::{IpAddr, Ipv4Addr, ServerName};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus, WriteTraffic};
use rustls::{CommonState, Error};

use super::session::{Session, described, is_resumed};
use super::{Acceptor, Connector, HandshakeError};
use crate::net::socket::{Peek, Socket};

/// How much is read at first; most requests are shorter.
const READ: usize = 4 * 1024;
/// How much is read where much is coming, bytes: more than one record, which has at most 16 KiB and its frame.
const READ_MUCH: usize = 32 * 1024;
/// Most of a handshake that is kept unread, bytes: a chain of certificates has its place.
const HANDSHAKE_MOST: usize = 24 * 1024;
/// How much is encrypted at a time.
const WRITE: usize = 32 * 1024;
/// What a record adds to its plaintext, at most.
const FRAME: usize = 64;
/// The longest plaintext of a record.
const RECORD: usize = 16 * 1024;

/// The TLS of one connection.
pub(in crate::net) struct Records {
    engine: Engine,
    /// Received and not decrypted yet, from `taken` on.
    incoming: Vec<u8>,
    taken: usize,
    /// Something was received since the engine has last looked.
    unread: bool,
    /// The last read filled its room.
    much: bool,
    /// Decrypted and not read yet, from `given` on.
    plain: Vec<u8>,
    given: usize,
    /// Encrypted and not sent yet, from `sent` on.
    outgoing: Vec<u8>,
    sent: usize,
    /// How many bytes of the last write were encrypted, while it waits for the socket.
    promised: usize,
    #[cfg(debug_assertions)]
    promise: Vec<u8>,
    stage: Stage,
    session: Option<Session>,
    /// Our certificate, for [`Session`].
    certificate: Option<Arc<[u8]>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing was computed yet by a client, who speaks first.
    New,
    Handshake,
    Open,
    /// The peer has said that nothing will follow, or has just closed.
    Ended,
    Failed,
}

enum Engine {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

/// Where the engine puts things.
struct Places<'a> {
    /// The reader's own buffer, and how much of it is filled.
    into: &'a mut [u8],
    filled: usize,
    /// Where the rest goes.
    plain: &'a mut Vec<u8>,
    outgoing: &'a mut Vec<u8>,
    wanted: Wanted<'a>,
    /// How much of what is wanted was encrypted.
    encrypted: usize,
}

/// What is to be sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted<'a> {
    Nothing,
    Bytes(&'a [u8]),
    /// `close_notify`.
    Goodbye,
}

/// What the engine wants next.
#[derive(PartialEq, Eq)]
enum Next {
    Again,
    /// More from the peer; the handshake goes on.
    Blocked,
    /// Nothing is left to do.
    Open,
    /// The peer has ended.
    Ended,
}

impl Records {
    /// TLS as the server; `received` belongs to it already.
    pub(in crate::net) fn server(acceptor: &Acceptor, received: Vec<u8>) -> Result<Records, HandshakeError> {
        let engine = UnbufferedServerConnection::new(Arc::clone(&acceptor.config))?;
        let mut records = Records::new(Engine::Server(engine), received);
        records.certificate = Some(Arc::clone(&acceptor.certificate));
        records.stage = Stage::Handshake;
        Ok(records)
    }

    /// TLS as the client of `host`, a name or an address.
    pub(in crate::net) fn client(connector: &Connector, host: &str) -> Result<Records, HandshakeError> {
        let Some(config) = &connector.config else {
            return Err(Error::General("TLS is switched off".to_owned()).into());
        };
        // A name that no certificate can have is not told, and where names are verified none will do.
        let nobody = ServerName::IpAddress(IpAddr::V4(Ipv4Addr::from([0, 0, 0, 0])));
        let name = ServerName::try_from(host.to_owned()).unwrap_or(nobody);
        let engine = UnbufferedClientConnection::new(Arc::clone(config), name)?;
        Ok(Records::new(Engine::Client(engine), Vec::new()))
    }

    fn new(engine: Engine, incoming: Vec<u8>) -> Records {
        Records {
            engine,
            unread: !incoming.is_empty(),
            incoming,
            taken: 0,
            much: false,
            plain: Vec::new(),
            given: 0,
            outgoing: Vec::new(),
            sent: 0,
            promised: 0,
            #[cfg(debug_assertions)]
            promise: Vec::new(),
            stage: Stage::New,
            session: None,
            certificate: None,
        }
    }

    /// What was agreed upon, once it was.
    pub(in crate::net) fn session(&self) -> Option<&Session> {
        self.session.as_ref()
    }

    #[cfg(test)]
    pub(in crate::net) fn buffers(&self) -> usize {
        self.incoming.capacity() + self.plain.capacity() + self.outgoing.capacity()
    }

    /// Whether a read has something to give without the socket.
    #[inline]
    pub(in crate::net) fn readable(&self) -> bool {
        self.unread || self.given < self.plain.len() || matches!(self.stage, Stage::Ended | Stage::Failed)
    }

    pub(super) fn has_unread(&self) -> bool {
        self.unread
    }

    pub(super) fn begun(&self) -> bool {
        self.stage != Stage::New
    }

    /// Whether the handshake is over.
    pub(super) fn is_ready(&self) -> bool {
        self.session.is_some()
    }

    /// One step of the handshake, with whatever was received.
    pub(super) fn compute(&mut self) -> Result<(), Error> {
        if self.stage == Stage::New {
            self.stage = Stage::Handshake;
        }
        self.process(&mut [], Wanted::Nothing).map(drop)
    }

    /// Receives more of the handshake.
    pub(super) fn poll_receive(&mut self, socket: &mut Socket, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.make_room()?;
        let read = ready!(socket.poll_fill(cx, &mut self.incoming))?;
        self.unread = read > 0;
        Poll::Ready(Ok(read))
    }

    /// Reads into `buf`; zero is the end of the stream, whether or not the peer took leave (`close_notify`): the messages
    /// of the protocol tell where each ends, and a transaction that was not committed is none.
    pub(in crate::net) fn poll_read(
        &mut self,
        socket: &mut Socket,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = self.read(socket, buf, |socket, incoming| socket.poll_fill(cx, incoming));
        if read.is_pending() && self.sent < self.outgoing.len() {
            // An answer to a renewal of keys; if it cannot go now, it goes with the next write.
            let _ = self.poll_flush(socket, cx);
        }
        read
    }

    /// Reads what is there.
    pub(in crate::net) fn try_read(&mut self, socket: &mut Socket, buf: &mut [u8]) -> io::Result<usize> {
        if !self.readable() && !socket.readable() {
            // No buffer is needed to say so.
            return Err(io::ErrorKind::WouldBlock.into());
        }
        match self.read(socket, buf, |socket, incoming| now(socket.try_fill(incoming))) {
            Poll::Ready(read) => read,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Looks at what is there, whatever the runtime knows.
    pub(in crate::net) fn peek(&mut self, socket: &Socket) -> Peek {
        loop {
            if self.unread && self.process(&mut [], Wanted::Nothing).is_err() {
                return Peek::Closed;
            }
            if self.given < self.plain.len() {
                return Peek::Readable;
            }
            if matches!(self.stage, Stage::Ended | Stage::Failed) {
                return Peek::Closed;
            }
            if self.make_room().is_err() {
                return Peek::Closed;
            }
            match now(socket.fill_now(&mut self.incoming)) {
                Poll::Ready(Ok(read)) if read > 0 => self.unread = true,
                Poll::Ready(_) => return Peek::Closed,
                Poll::Pending => {
                    self.release();
                    return Peek::Quiet;
                }
            }
        }
    }

    fn read(
        &mut self,
        socket: &mut Socket,
        buf: &mut [u8],
        mut fill: impl FnMut(&mut Socket, &mut Vec<u8>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        loop {
            if let waiting @ [_, ..] = self.plain.get(self.given..).unwrap_or_default() {
                let count = waiting.len().min(buf.len());
                let (now, _) = waiting.split_at_checked(count).unwrap_or_default();
                buf.get_mut(..count).unwrap_or_default().copy_from_slice(now);
                self.given += count;
                if self.given == self.plain.len() {
                    (self.plain, self.given) = (Vec::new(), 0);
                }
                return Poll::Ready(Ok(count));
            }
            if self.unread {
                let (filled, _) = self.process(buf, Wanted::Nothing).map_err(broken)?;
                if filled > 0 {
                    return Poll::Ready(Ok(filled));
                }
                continue;
            }
            match self.stage {
                Stage::Ended => return Poll::Ready(Ok(0)),
                Stage::Failed => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
                Stage::New | Stage::Handshake => return Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
                Stage::Open => {}
            }
            self.make_room()?;
            let free = self.incoming.capacity() - self.incoming.len();
            let Poll::Ready(read) = fill(socket, &mut self.incoming) else {
                self.release();
                return Poll::Pending;
            };
            match read? {
                0 => self.stage = Stage::Ended,
                read => (self.unread, self.much) = (true, read == free),
            }
        }
    }

    /// Writes some of `bytes`. Where it is pending, the next call has to begin with the same bytes, some of which may
    /// have been encrypted already.
    pub(in crate::net) fn poll_write(
        &mut self,
        socket: &mut Socket,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_flush(socket, cx))?;
        if self.promised == 0 {
            self.promised = self.encrypt(bytes)?;
            #[cfg(debug_assertions)]
            self.promise.extend_from_slice(bytes.get(..self.promised).unwrap_or_default());
            ready!(self.poll_flush(socket, cx))?;
        }
        #[cfg(debug_assertions)]
        {
            assert!(bytes.starts_with(&self.promise), "a write that was pending goes on with other bytes");
            self.promise.clear();
        }
        let written = std::mem::take(&mut self.promised);
        if written > bytes.len() {
            return Poll::Ready(Err(io::ErrorKind::InvalidInput.into()));
        }
        Poll::Ready(Ok(written))
    }

    /// Writes if nothing waits to be sent. What the socket does not take at once goes before the next write.
    pub(in crate::net) fn try_write(&mut self, socket: &mut Socket, bytes: &[u8]) -> io::Result<usize> {
        self.try_flush(socket)?;
        if self.promised > 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let written = self.encrypt(bytes)?;
        match self.try_flush(socket) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            Ok(()) | Err(_) => Ok(written),
        }
    }

    /// Takes leave, as far as there is anything to take leave from.
    pub(in crate::net) fn say_goodbye(&mut self) {
        if self.session.is_some() {
            // Without it the other side sees an end of the stream all the same.
            let _ = self.process(&mut [], Wanted::Goodbye);
        }
    }

    /// Sends what was encrypted.
    pub(in crate::net) fn poll_flush(&mut self, socket: &mut Socket, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let rest @ [_, ..] = self.outgoing.get(self.sent..).unwrap_or_default() {
            match ready!(socket.poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.sent += written,
            }
        }
        (self.outgoing, self.sent) = (Vec::new(), 0);
        Poll::Ready(Ok(()))
    }

    fn try_flush(&mut self, socket: &mut Socket) -> io::Result<()> {
        while let rest @ [_, ..] = self.outgoing.get(self.sent..).unwrap_or_default() {
            self.sent += socket.try_write(rest)?;
        }
        (self.outgoing, self.sent) = (Vec::new(), 0);
        Ok(())
    }

    fn encrypt(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.stage == Stage::Failed || self.session.is_none() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let bytes = bytes.get(..WRITE).unwrap_or(bytes);
        let (_, encrypted) = self.process(&mut [], Wanted::Bytes(bytes)).map_err(broken)?;
        if encrypted < bytes.len() { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(encrypted) }
    }

    /// Makes room for at least something in `incoming`.
    fn make_room(&mut self) -> io::Result<()> {
        if self.taken > 0 {
            self.incoming.drain(..self.taken);
            self.taken = 0;
        }
        let held = self.incoming.len();
        let (wanted, most) = match self.stage {
            Stage::New | Stage::Handshake => (READ, HANDSHAKE_MOST),
            _ if self.much => (READ_MUCH, READ_MUCH),
            _ => (READ, READ_MUCH),
        };
        if held >= most {
            // No record is that long, and no message within TLS that is wanted here.
            return Err(io::ErrorKind::InvalidData.into());
        }
        if held == self.incoming.capacity() || self.incoming.capacity() < wanted {
            self.incoming.reserve_exact(wanted.max(held).min(most - held));
        }
        Ok(())
    }

    /// Frees what is not needed while nothing comes.
    fn release(&mut self) {
        if self.taken == self.incoming.len() {
            (self.incoming, self.taken) = (Vec::new(), 0);
            self.much = false;
        }
    }

    /// Lets the engine work: decrypts into `into`, or where that is full into `plain`, and encrypts `bytes`. Answers how
    /// much of both was done.
    fn process(&mut self, into: &mut [u8], wanted: Wanted<'_>) -> Result<(usize, usize), Error> {
        if self.stage == Stage::Failed {
            return Err(Error::General("the TLS connection has failed".to_owned()));
        }
        let Records { engine, incoming, taken, plain, outgoing, .. } = self;
        let mut places = Places { into, filled: 0, plain, outgoing, wanted, encrypted: 0 };
        let result = loop {
            let rest = incoming.get_mut(*taken..).unwrap_or_default();
            let (discard, next) = match engine {
                Engine::Server(engine) => handle(engine.process_tls_records(rest), &mut places),
                Engine::Client(engine) => handle(engine.process_tls_records(rest), &mut places),
            };
            *taken += discard;
            match next {
                // The reader has what it can take; the rest is decrypted when it comes back.
                Ok(Next::Again) if !places.plain.is_empty() && wanted == Wanted::Nothing => break Ok(None),
                Ok(Next::Again) => {}
                Ok(other) => break Ok(Some(other)),
                Err(error) => break Err(error),
            }
        };
        let done = (places.filled, places.encrypted);
        match result {
            Ok(next) => {
                self.unread = next.is_none();
                if next == Some(Next::Ended) {
                    self.stage = Stage::Ended;
                }
                self.note_session();
                Ok(done)
            }
            Err(error) => {
                self.unread = false;
                self.stage = Stage::Failed;
                self.collect_alert();
                Err(error)
            }
        }
    }

    /// What the engine has to say about an error. It is not asked for more than that: it would go on reading, from where
    /// it was in what it has not done with, and does not expect to fail twice.
    fn collect_alert(&mut self) {
        let Records { engine, incoming, taken, plain, outgoing, .. } = self;
        let mut places = Places { into: &mut [], filled: 0, plain, outgoing, wanted: Wanted::Nothing, encrypted: 0 };
        loop {
            let rest = incoming.get_mut(*taken..).unwrap_or_default();
            let (discard, next) = match engine {
                Engine::Server(engine) if engine.wants_write() => handle(engine.process_tls_records(rest), &mut places),
                Engine::Client(engine) if engine.wants_write() => handle(engine.process_tls_records(rest), &mut places),
                Engine::Server(_) | Engine::Client(_) => break,
            };
            *taken += discard;
            if !matches!(next, Ok(Next::Again)) {
                break;
            }
        }
    }

    fn note_session(&mut self) {
        if self.session.is_some() || self.stage == Stage::New {
            return;
        }
        let (state, is_server): (&CommonState, bool) = match &self.engine {
            Engine::Server(engine) => (engine, true),
            Engine::Client(engine) => (engine, false),
        };
        if state.is_handshaking() {
            return;
        }
        let theirs = state.peer_certificates().and_then(<[_]>::first).map(|certificate| certificate.as_ref());
        self.session = Some(Session {
            description: state.negotiated_cipher_suite().and_then(|suite| described(suite.suite())).unwrap_or("TLS"),
            resumed: is_resumed(state.handshake_kind()),
            named_protocol: state.alpn_protocol().is_some(),
            client_certificate: if is_server { theirs.map(Box::from) } else { None },
            server_certificate: if is_server { self.certificate.take() } else { theirs.map(Arc::from) },
        });
        if self.stage == Stage::Handshake {
            self.stage = Stage::Open;
        }
    }
}

/// Takes a state of the engine: how many bytes it has done with, and what comes next.
fn handle<Data>(status: UnbufferedStatus<'_, '_, Data>, places: &mut Places<'_>) -> (usize, Result<Next, Error>) {
    let UnbufferedStatus { discard, state } = status;
    let next = match state {
        Err(error) => Err(error),
        Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
            match traffic.next_record() {
                None => break Ok(Next::Again),
                Some(Ok(record)) => {
                    let free = places.into.get_mut(places.filled..).unwrap_or_default();
                    let count = free.len().min(record.payload.len());
                    let (now, later) = record.payload.split_at_checked(count).unwrap_or_default();
                    free.get_mut(..count).unwrap_or_default().copy_from_slice(now);
                    places.filled += count;
                    places.plain.extend_from_slice(later);
                }
                Some(Err(error)) => break Err(error),
            }
        },
        Ok(ConnectionState::EncodeTlsData(mut data)) => {
            let held = places.outgoing.len();
            match data.encode(&mut []) {
                Err(EncodeError::InsufficientSize(size)) => {
                    places.outgoing.resize(held + size.required_size, 0);
                    let room = places.outgoing.get_mut(held..).unwrap_or_default();
                    match data.encode(room) {
                        Ok(_) => Ok(Next::Again),
                        Err(error) => Err(Error::General(error.to_string())),
                    }
                }
                Ok(_) | Err(EncodeError::AlreadyEncoded) => Ok(Next::Again),
            }
        }
        Ok(ConnectionState::TransmitTlsData(data)) => {
            // It stands in `outgoing`, which is sent before anything else.
            data.done();
            Ok(Next::Again)
        }
        Ok(ConnectionState::BlockedHandshake) => Ok(Next::Blocked),
        Ok(ConnectionState::WriteTraffic(traffic)) => encrypt(traffic, places),
        Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Ok(Next::Ended),
        // Nothing is taken before a handshake is over, and there are no other states.
        Ok(_) => Err(Error::General("early data".to_owned())),
    };
    (discard, next)
}

/// Encrypts what is wanted. The room that it takes is known to the engine only.
fn encrypt<Data>(mut traffic: WriteTraffic<'_, Data>, places: &mut Places<'_>) -> Result<Next, Error> {
    let mut room = match places.wanted {
        Wanted::Nothing => return Ok(Next::Open),
        Wanted::Bytes(bytes) => bytes.len() + (bytes.len() / RECORD + 1) * FRAME,
        Wanted::Goodbye => FRAME,
    };
    let held = places.outgoing.len();
    loop {
        places.outgoing.resize(held + room, 0);
        let free = places.outgoing.get_mut(held..).unwrap_or_default();
        let written = match places.wanted {
            Wanted::Bytes(bytes) => traffic.encrypt(bytes, free),
            Wanted::Goodbye | Wanted::Nothing => traffic.queue_close_notify(free),
        };
        match written {
            Ok(written) => {
                places.outgoing.truncate(held + written);
                if let Wanted::Bytes(bytes) = std::mem::replace(&mut places.wanted, Wanted::Nothing) {
                    places.encrypted = bytes.len();
                }
                return Ok(Next::Open);
            }
            Err(EncryptError::InsufficientSize(size)) if size.required_size > room => room = size.required_size,
            Err(error) => {
                places.outgoing.truncate(held);
                return Err(Error::General(error.to_string()));
            }
        }
    }
}

/// An attempt that would block is one that is pending.
fn now(result: io::Result<usize>) -> Poll<io::Result<usize>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        other => Poll::Ready(other),
    }
}

fn broken(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records").field("stage", &self.stage).field("session", &self.session).finish_non_exhaustive()
    }
}
