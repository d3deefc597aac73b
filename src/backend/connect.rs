//! Opening a backend at one address: socket, startup packet, login, the first ReadyForQuery.
//!
//! Straight down, once, in order; nothing here retries and nothing decides when to open one.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BufMut;
use zeroize::Zeroizing;

use super::encrypt::encrypt;
use super::exchange::{ExchangeError, Messages};
use super::record::Place;
use super::{Backend, BackendRecord, Identity, Interner, Prepared, Route, State, is_of_a_pooler, unhurried};
use crate::auth::{AnswerError, Answerer, BackendSecret, Binding, Channel, end_point};
use crate::config::ChannelBinding;
use crate::net::tls::{Connector, HandshakeError};
use crate::net::{BOUNCER, Clock, Endpoint, Lifetimes, Names, SocketOptions, Stream, Target, connect_to};
use crate::wire::sqlstate;
use crate::wire::startup::Replication;
use crate::wire::tag::{back, back_limit, front};
use crate::wire::view::{Diagnostic, Status, int32, parameter_status};
use crate::wire::write;

/// Protocol version that PostgreSQL is asked for. 3.2 would only bring longer cancel keys, and the poolers and proxies
/// that may stand in between close the connection when they hear of it.
const PROTOCOL: u32 = 3 << 16;

/// How to open the backends of a pool.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Where PostgreSQL is.
    pub route: Arc<Route>,
    /// What knows the addresses of host names.
    pub names: Arc<Names>,
    /// How long it knows them.
    pub lifetimes: Lifetimes,
    /// Database to connect to.
    pub dbname: String,
    /// User to log in as.
    pub user: String,
    /// What the user proves himself with.
    pub secret: BackendSecret,
    /// Parameters for the startup packet, besides user and database.
    pub parameters: Vec<(&'static str, String)>,
    /// What the connection is to replicate.
    pub replication: Replication,
    /// What its only client's startup packet asks for; nothing where there is no such client.
    pub asked: Vec<(String, String)>,
    /// TCP options.
    pub socket: SocketOptions,
    /// TLS, which Unix sockets do without.
    pub tls: Arc<Connector>,
    /// Whether a SCRAM login is bound to the TLS connection.
    pub channel_binding: ChannelBinding,
    /// Limit for all of it.
    pub timeout: Duration,
    /// How long a host that failed comes after the others.
    pub retry: Duration,
    /// Whether it is logged in PgBouncer's words that a connection was opened.
    pub log_connections: bool,
    /// And that it was closed before its login was over.
    pub log_disconnections: bool,
}

impl Spec {
    /// Whether backends that were opened by the other are what this one would open, as far as its settings tell.
    #[must_use]
    pub fn same_way(&self, other: &Spec) -> bool {
        self.parameters == other.parameters && self.tls.same_settings(&other.tls)
    }
}

/// Why a backend could not be opened, in PgBouncer's words where it has some, and the system's behind.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name of the host has no address, or could not be looked up.
    #[error("server DNS lookup failed: {0}")]
    Lookup(io::Error),
    /// No connection.
    #[error("connect failed: {0}")]
    Connect(io::Error),
    /// A connection that broke during the login.
    #[error("server conn crashed? {0}")]
    Io(#[from] io::Error),
    /// It took too long.
    #[error("connect timeout")]
    Timeout,
    /// PostgreSQL refused, in its own words.
    #[error("{} {}: {}", .0.severity, .0.code, .0.message)]
    Refused(Box<Diagnostic>),
    /// It has no TLS, and there has to be.
    #[error("server refused SSL: server does not support SSL, but SSL was required")]
    NoTls,
    /// It answered the question for TLS with something else than yes or no.
    #[error("server did not understand the request for SSL")]
    TlsAnswer,
    /// The TLS handshake failed.
    #[error("TLS with the server failed: {0}")]
    Tls(HandshakeError),
    /// We cannot or will not answer its request for authentication.
    #[error("{0}")]
    Authentication(#[from] AnswerError),
    /// The slots that we may hold at the host that was found are used up.
    #[error("the slot budget of this host is used up")]
    NoSlot,
    /// It is not what `target_session_attrs` wants.
    #[error("{0}")]
    Misfit(&'static str),
    /// It does not speak the protocol.
    #[error("protocol violation in login: {0}")]
    Protocol(ExchangeError),
}

impl From<ExchangeError> for ConnectError {
    fn from(error: ExchangeError) -> Self {
        match error {
            ExchangeError::Io(error) => ConnectError::Io(error),
            ExchangeError::Refused(diagnostic) => ConnectError::Refused(diagnostic),
            other => ConnectError::Protocol(other),
        }
    }
}

impl ConnectError {
    /// Why the connection was closed, in PgBouncer's words alone, where it has some.
    pub(super) fn words(&self) -> String {
        match self {
            ConnectError::Lookup(_) => "server DNS lookup failed".to_owned(),
            ConnectError::Connect(_) => "connect failed".to_owned(),
            ConnectError::Io(_) => "server conn crashed?".to_owned(),
            ConnectError::NoTls => "server refused SSL".to_owned(),
            ConnectError::TlsAnswer => "bad sslreq answer".to_owned(),
            ConnectError::Refused(said) => said.message.clone(),
            ConnectError::Timeout
            | ConnectError::Tls(_)
            | ConnectError::Authentication(_)
            | ConnectError::NoSlot
            | ConnectError::Misfit(_)
            | ConnectError::Protocol(_) => self.to_string(),
        }
    }

    /// Whether PostgreSQL, the role or the database has no connection left.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, ConnectError::Refused(said) if said.code == sqlstate::TOO_MANY_CONNECTIONS)
    }

    /// Whether trying again soon may help: PostgreSQL is away, starting, stopping or full. A refusal of the login as
    /// such (password, database, permission) is none of these.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            ConnectError::Lookup(_)
            | ConnectError::Connect(_)
            | ConnectError::Io(_)
            | ConnectError::Timeout
            | ConnectError::TlsAnswer
            | ConnectError::NoSlot
            | ConnectError::Misfit(_) => true,
            ConnectError::Tls(HandshakeError::Io(_) | HandshakeError::Left) => true,
            ConnectError::Refused(said) => matches!(said.code.as_str(), "57P01" | "57P02" | "57P03" | "53300"),
            ConnectError::NoTls
            | ConnectError::Tls(HandshakeError::Tls(_) | HandshakeError::NoProtocol)
            | ConnectError::Authentication(_)
            | ConnectError::Protocol(_) => false,
        }
    }
}

/// Opens a backend at this address of `target` and brings it to its first idle ReadyForQuery.
///
/// Cancel safety: safe; the half-open connection is closed.
pub(super) async fn log_in(
    spec: &Spec,
    target: &Target,
    endpoint: &Endpoint,
    who: Identity,
    (interner, clock): (&Interner, &Clock),
) -> Result<Backend, ConnectError> {
    let mut stream = connect_to(endpoint, &spec.socket).await.map_err(ConnectError::Connect)?;
    let local = stream.local_addr();
    let place = Place { target: target.clone(), route: Arc::clone(&spec.route), endpoint: endpoint.clone() };
    let record = BackendRecord::new(who, place, local, clock.now()).with_descriptor(stream.descriptor());
    let mut record = record.replicating(spec.replication);
    if spec.log_connections {
        match local {
            Some(from) => tracing::info!(target: BOUNCER, "{} new connection to server (from {from})", record.party()),
            None => tracing::info!(target: BOUNCER, "{} new connection to server", record.party()),
        }
    }
    if let Target::Tcp { host, .. } = target {
        encrypt(&mut stream, &spec.tls, host).await?;
        if let Some(session) = stream.session() {
            record = record.with_tls(session.description, Arc::clone(&spec.tls), host);
            if spec.log_connections {
                tracing::info!(target: BOUNCER, "{} SSL established: {}", record.party(), session.description);
            }
        }
    }
    stream.write_all(&startup(spec)).await?;
    let mut messages = Messages::with(login_limit);
    let mut answerer = Answerer::new(&spec.user, spec.secret.clone()).bound(binding(spec, &stream));
    let mut reported: Vec<(String, Vec<u8>)> = Vec::new();
    let mut ready = false;
    // What stands behind ReadyForQuery already is read as well: most likely it says why PostgreSQL ends the connection.
    while !ready || messages.left_over() {
        let (tag, body) = messages.next(&mut stream).await?;
        match tag {
            back::AUTHENTICATION => {
                let (code, body) = int32(body).ok_or(ExchangeError::Unexpected(tag))?;
                if let Some(derivation) = answerer.derivation(code, body) {
                    answerer.prepare(unhurried(Box::new(derivation)).await);
                }
                if let Some(reply) = answerer.on_request(code, body)? {
                    let mut out = Zeroizing::new(Vec::with_capacity(reply.body().len() + 5));
                    write::message(&mut out, front::PASSWORD, |out| out.put_slice(reply.body()));
                    stream.write_all(&out).await?;
                }
            }
            back::ERROR => return Err(ConnectError::Refused(Box::new(Diagnostic::read(body)))),
            back::NOTICE | back::NEGOTIATE => {}
            // Nothing that follows may come from somebody whom we have not authenticated as far as the method goes.
            _ if !answerer.is_ok() => return Err(ExchangeError::Unexpected(tag).into()),
            back::KEY_DATA => {
                let (process_id, secret) = int32(body).ok_or(ExchangeError::Unexpected(tag))?;
                record = record.with_key(process_id, secret);
            }
            back::PARAMETER_STATUS => {
                let (name, value) = parameter_status(body).ok_or(ExchangeError::Unexpected(tag))?;
                if !is_of_a_pooler(name) {
                    reported.push((name.to_owned(), value.to_vec()));
                }
            }
            back::READY if !ready && Status::from_ready(body) == Some(Status::Idle) => ready = true,
            other => return Err(ExchangeError::Unexpected(other).into()),
        }
    }
    let reported = interner.collect(reported.iter().map(|(name, value)| (name.as_str(), value.as_slice())));
    let state = State { reported, extra: interner.collect([]) };
    Ok(Backend { stream, state, prepared: Prepared::default(), idle_since: clock.now(), record: Arc::new(record) })
}

/// What the login may be bound to.
fn binding(spec: &Spec, stream: &Stream) -> Binding {
    let certificate = stream.session().map(|session| session.server_certificate.as_deref());
    let channel = certificate.map_or(Channel::Plain, |der| Channel::Tls(der.and_then(end_point)));
    Binding { policy: spec.channel_binding, channel }
}

fn startup(spec: &Spec) -> Vec<u8> {
    let mut out = Vec::new();
    write::with_length(&mut out, |out| {
        out.put_u32(PROTOCOL);
        let fixed = [("user", spec.user.as_str()), ("database", spec.dbname.as_str())];
        let more = spec.parameters.iter().map(|(name, value)| (*name, value.as_str()));
        let replication = match spec.replication {
            Replication::None => None,
            Replication::Physical => Some(("replication", "true")),
            Replication::Logical => Some(("replication", "database")),
        };
        let asked = spec.asked.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in fixed.into_iter().chain(replication).chain(more).chain(asked) {
            write::put_cstr(out, name.as_bytes());
            write::put_cstr(out, value.as_bytes());
        }
        out.put_u8(0);
    });
    out
}

fn login_limit(tag: u8) -> Option<u32> {
    match tag {
        back::AUTHENTICATION | back::KEY_DATA | back::NEGOTIATE => Some(16 * 1024),
        other => back_limit(other),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    use super::*;
    use crate::backend::connect;
    use crate::config::{LoadBalance, SessionAttrs};
    use crate::wire::write::{Report, ready_idle};

    /// A backend may be terminated in the very moment in which its login is done.
    #[tokio::test]
    async fn last_words_right_behind_a_login_are_understood() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let postgres = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut startup = [0; 1024];
            let _ = socket.read(&mut startup).await.unwrap();
            let mut out = b"R\0\0\0\x08\0\0\0\0".to_vec();
            ready_idle(&mut out);
            Report::new("FATAL", "57P01", "terminating connection").write(&mut out);
            socket.write_all(&out).await.unwrap();
        };
        let none = Duration::ZERO;
        let socket =
            SocketOptions { keepalive: false, idle: none, interval: none, count: 0, user_timeout: none, buffer: 0 };
        let spec = Spec {
            route: Arc::new(Route::new(
                vec![Target::Unix { path, port: 5432 }],
                LoadBalance::Disable,
                SessionAttrs::Any,
            )),
            names: Arc::default(),
            lifetimes: Lifetimes::default(),
            replication: Replication::None,
            asked: Vec::new(),
            dbname: "app".to_owned(),
            user: "alice".to_owned(),
            secret: BackendSecret::None,
            parameters: Vec::new(),
            socket,
            tls: Arc::new(Connector::none()),
            channel_binding: ChannelBinding::Prefer,
            timeout: Duration::from_secs(10),
            retry: none,
            log_connections: false,
            log_disconnections: false,
        };
        let who = Identity { id: 1, database: "app".into(), user: "alice".into() };
        let (interner, clock) = (Interner::default(), Clock::start());
        let (result, ()) = tokio::join!(connect(&spec, who, &interner, &clock), postgres);
        let error = result.unwrap_err();
        assert!(error.may_pass() && error.to_string().contains("57P01"), "{error}");
    }
}
