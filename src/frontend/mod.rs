//! A client until it is admitted: opening packets, login, first settings.
//!
//! Straight down, once, in order: [`admit`] ends in an [`Admitted`] or a [`Rejected`]. Before the login is over a client
//! costs at most [`MAX_BEFORE_LOGIN`] bytes, and everything is under the one deadline of `client_login_timeout`.

mod access;
#[cfg(feature = "ldap")]
mod directory;
mod errand;
mod intake;
mod login;
#[cfg(feature = "pam")]
mod pam;
mod reject;
mod replication;
mod settings;
mod sources;
mod visitor;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pgwire::messages::Message;
use pgwire::messages::startup::{Authentication, BackendKeyData, NegotiateProtocolVersion, ParameterStatus, SecretKey};
use tokio::time::{Instant, timeout_at};

use crate::auth::MockSecret;
use crate::backend::State;
use crate::config::{Config, PoolMode};
use crate::net::Stream;
use crate::net::tls::{Acceptor, HandshakeError, Tls, Turnstile};
use crate::pool::{ClientIdentity, ClientRecord, Dedicated, Listed, Permit, Pools};
use crate::wire::sqlstate;
use crate::wire::startup::{NEWEST_MINOR, Opening, Replication, Startup, parse};
use crate::wire::write::{Report, ready_idle};
use access::Caller;
use intake::Intake;
use login::Proof;

pub use access::Denial;
pub use errand::{Errand, Errands};
pub use intake::MAX_BEFORE_LOGIN;
pub use reject::Rejected;
pub use sources::{Sources, Visit, hear_out};
pub use visitor::Visitor;

/// Names of the console.
pub const CONSOLE: [&str; 2] = ["pgpool", CONSOLE_SHOWN];
/// The one that it is shown under.
const CONSOLE_SHOWN: &str = "pgbouncer";
/// What a client is told in front of the name of a database that there is not.
const NO_DATABASE: &str = "no such database: ";

/// The version of PgBouncer that this is like, for whoever goes by it.
pub const PGBOUNCER: &str = "1.26.1";

/// What a user may do on the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Everything (`admin_users`).
    Admin,
    /// Look (`stats_users`).
    Stats,
}

/// What logins go by.
pub struct Gate {
    /// Pools, clients, configuration.
    pub pools: Arc<Pools>,
    /// Makes the answers to unknown users.
    pub mock: MockSecret,
    /// What each address may ask for.
    pub sources: Arc<Sources>,
    /// Asks the system about clients.
    pub lookups: Errands,
    /// Whose turn it is to compute a TLS handshake.
    pub turns: Turnstile,
    /// Asks PAM about passwords.
    pub checks: Errands,
}

/// A client that passed.
#[derive(Debug)]
pub enum Admitted {
    /// To a pool. It has been told that it may begin.
    Session {
        /// Its place in the list.
        client: Listed,
        /// Its settings.
        state: State,
        /// Bytes that it sent already.
        early: Vec<u8>,
    },
    /// To a backend of its own, to replicate. It has been told that it may begin.
    Replication {
        /// Its place in the list.
        client: Listed,
        /// The backend.
        dedicated: Box<Dedicated>,
        /// Bytes that it sent already.
        early: Vec<u8>,
    },
    /// To the console. It has been sent AuthenticationOk and nothing more.
    Admin {
        /// Its place in the list.
        client: Listed,
        /// What it may do.
        role: Role,
    },
    /// It only came to cancel somebody's query.
    Cancel {
        /// Process id of the key.
        process_id: u32,
        /// Secret of the key.
        secret: Vec<u8>,
    },
}

/// Takes a client in. The stream stays the caller's, who tells it of a rejection.
///
/// Cancel safety: none; close the stream then.
///
/// # Errors
/// [`Rejected`], with what to tell the client.
pub async fn admit(
    gate: &Gate,
    stream: &mut Stream,
    visitor: &mut Visitor,
    process_ends: bool,
) -> Result<Admitted, Rejected> {
    let config = gate.pools.config.load_full();
    let limit = match config.general.client_login_timeout {
        Duration::ZERO => Duration::from_secs(365 * 24 * 3600),
        limit => limit,
    };
    let mut deadline = Instant::now() + limit;
    let mut intake = Intake::default();
    let opening = timeout_at(deadline, open(gate, stream, &mut intake)).await.map_err(|_| Rejected::Timeout)??;
    let startup = match opening {
        Opening::Start(startup) => startup,
        Opening::Cancel { process_id, secret } => return Ok(Admitted::Cancel { process_id, secret }),
        Opening::Ssl | Opening::GssEnc => return Err(Rejected::Protocol("unexpected request")),
    };
    if gate.pools.is_suspended() && !is_console(&startup) {
        // The console can always be reached, or nobody could command RESUME.
        let before = Instant::now();
        gate.pools.shared.suspension.over().await;
        deadline += before.elapsed();
    }
    let known = async {
        if Tls::is_required(&config) && !stream.is_local() && stream.session().is_none() {
            return Err(Rejected::Told(
                Report::fatal(sqlstate::INVALID_AUTHORIZATION, "SSL required")
                    .detail("client_tls_sslmode lets clients in with TLS only, except by the Unix socket.")
                    .hint("Connect with sslmode=require or stronger."),
            ));
        }
        let permits = permits(gate, &config, &startup, visitor)?;
        if process_ends && !is_console(&startup) {
            return Err(Rejected::Told(Report::fatal(sqlstate::ADMIN_SHUTDOWN, "pooler is shutting down")));
        }
        visitor.announce(&config, &startup, stream);
        let caller = Caller { gate, config: &config, visitor, startup: &startup };
        let proof = login::log_in(caller, stream, &mut intake).await?;
        Ok((startup, permits, proof))
    };
    let (startup, permits, proof) = timeout_at(deadline, known).await.map_err(|_| Rejected::Timeout)??;
    let identity = ClientIdentity {
        user: startup.user.as_str().into(),
        database: startup.database.as_str().into(),
        peer: visitor.peer.clone(),
        process: visitor.process,
        local: stream.local_addr(),
        tls: stream.session().map_or("", |session| session.description),
        replication: startup.replication,
        connected: visitor.connected,
    };
    let secret = random_secret(startup.minor)?;
    let record =
        ClientRecord::new(visitor.id, secret, identity, permits).of_peer(gate.pools.config.load().general.peer_id);
    record.descriptor.store(stream.descriptor(), Relaxed);
    let client = gate.pools.clients.enlist(Arc::new(record));
    if is_console(&startup) {
        return console(gate, &config, stream, client, proof).await;
    }
    // A reload may have come during the login.
    let config = gate.pools.config.load_full();
    session(gate, &config, stream, client, Newcomer { startup, proof, early: intake.left_over() }).await
}

/// What is known of a client that has logged in.
struct Newcomer {
    startup: Startup,
    proof: Proof,
    early: Vec<u8>,
}

fn is_console(startup: &Startup) -> bool {
    CONSOLE.contains(&startup.database.as_str())
}

/// Reads opening packets up to the one that counts, and begins TLS where it is asked for and there is any. TLS and GSS
/// may be asked for once each, and within TLS not at all.
async fn open(gate: &Gate, stream: &mut Stream, intake: &mut Intake) -> Result<Opening, Rejected> {
    let (mut ssl, mut gss) = (false, false);
    let acceptor = gate.pools.tls.load().acceptor.clone().filter(|_| !stream.is_local());
    if let Some(acceptor) = &acceptor
        && intake.begins_tls(stream).await?
    {
        secure(gate, stream, intake, acceptor).await?;
        if stream.session().is_none_or(|session| !session.named_protocol) {
            return Err(Rejected::Protocol("direct TLS connection without ALPN, which has to name \"postgresql\""));
        }
        (ssl, gss) = (true, true);
    }
    loop {
        let opening = parse(intake.opening(stream).await?).map_err(Rejected::Startup)?;
        let asked = match &opening {
            Opening::Ssl => &mut ssl,
            Opening::GssEnc => &mut gss,
            Opening::Cancel { .. } => return Ok(opening),
            Opening::Start(startup) => {
                if startup.replication != Replication::None && is_console(startup) {
                    let message = "the console has nothing to replicate";
                    return Err(Rejected::Told(Report::fatal(sqlstate::FEATURE_NOT_SUPPORTED, message)));
                }
                negotiate(stream, startup).await?;
                return Ok(opening);
            }
        };
        if std::mem::replace(asked, true) {
            return Err(Rejected::Protocol("unexpected request for encryption"));
        }
        // Somebody in between may have put in what he wants to be taken for the client's.
        if intake.has_more() {
            return Err(Rejected::Protocol("received unencrypted data after SSL request"));
        }
        match acceptor.as_ref().filter(|_| opening == Opening::Ssl) {
            Some(acceptor) => {
                stream.write_all(b"S").await?;
                secure(gate, stream, intake, acceptor).await?;
                (ssl, gss) = (true, true);
            }
            None => stream.write_all(b"N").await?,
        }
    }
}

/// Begins TLS.
async fn secure(gate: &Gate, stream: &mut Stream, intake: &mut Intake, acceptor: &Acceptor) -> Result<(), Rejected> {
    let accepted = stream.accept_tls(acceptor, intake.take_rest(), &gate.turns).await;
    match (accepted, stream.session()) {
        (Ok(()), Some(session)) => {
            gate.pools.tls_counts.note(session);
            Ok(())
        }
        (Ok(()), None) => Err(Rejected::Tls(HandshakeError::Left)),
        (Err(error), _) => Err(Rejected::Tls(error)),
    }
}

/// Tells a client that asks for more than we speak what we speak.
async fn negotiate(stream: &mut Stream, startup: &Startup) -> Result<(), Rejected> {
    if startup.minor <= NEWEST_MINOR && startup.protocol_options.is_empty() {
        return Ok(());
    }
    let spoken = (3 << 16) | i32::from(startup.minor.min(NEWEST_MINOR));
    let mut out = BytesMut::new();
    encode(&NegotiateProtocolVersion::new(spoken, startup.protocol_options.clone()), &mut out)?;
    Ok(stream.write_all(&out).await?)
}

/// The permits that a client needs; admins get at the console whatever the limits are.
fn permits(gate: &Gate, config: &Config, startup: &Startup, visitor: &mut Visitor) -> Result<Vec<Permit>, Rejected> {
    let pools = &gate.pools;
    let limit = config.general.max_client_conn;
    // 0 would mean no limit to a cap; here it means that nobody is let in.
    let Some(first) = pools
        .client_cap
        .acquire(if is_console(startup) { 0 } else { limit.max(1) })
        .filter(|_| limit > 0 || is_console(startup))
    else {
        let used = pools.client_cap.used();
        return Err(Rejected::Told(
            Report::fatal(sqlstate::TOO_MANY_CONNECTIONS, "no more connections allowed (max_client_conn)")
                .detail(format!("{used} clients are connected, max_client_conn is {limit}."))
                .hint("Raise max_client_conn, or let the application's pool open fewer connections."),
        ));
    };
    visitor.user = Some(startup.user.as_str().into());
    let mut permits = vec![first];
    if is_console(startup) {
        return Ok(permits);
    }
    if let Some(database) = config.database(&startup.database) {
        let limit = config.max_db_client_connections(&database);
        let permit = pools.database_clients.of(&startup.database).acquire(limit);
        permits.push(permit.ok_or_else(|| full("max_db_client_connections", "database", &startup.database, limit))?);
    }
    let limit = config.max_user_client_connections(config.user(&startup.user).map(AsRef::as_ref));
    let permit = pools.user_clients.of(&startup.user).acquire(limit);
    permits.push(permit.ok_or_else(|| full("max_user_client_connections", "user", &startup.user, limit))?);
    Ok(permits)
}

fn full(setting: &str, what: &str, name: &str, limit: u32) -> Rejected {
    let message = format!("client connections exceeded ({setting})");
    Rejected::Told(
        Report::fatal(sqlstate::TOO_MANY_CONNECTIONS, message)
            .detail(format!("The {what} \"{name}\" may have {limit} client connections, and has them."))
            .hint(format!("Raise {setting}, or let the application's pool open fewer connections.")),
    )
}

async fn console(
    gate: &Gate,
    config: &Config,
    stream: &mut Stream,
    client: Listed,
    proof: Proof,
) -> Result<Admitted, Rejected> {
    let user = client.record().identity.user.to_string();
    let role = if proof.is_owner() || config.general.admin_users.contains(&user) {
        Role::Admin
    } else if config.general.stats_users.contains(&user) {
        Role::Stats
    } else {
        return Err(Rejected::Told(
            Report::fatal(sqlstate::INSUFFICIENT_PRIVILEGE, "not allowed")
                .detail(format!("User \"{user}\" may not use the console."))
                .hint("Add the user to admin_users or stats_users."),
        ));
    };
    let mut out = BytesMut::new();
    proof.welcome(&mut out)?;
    stream.write_all(&out).await?;
    client.record().admit(gate.pools.shared.clock.now());
    Ok(Admitted::Admin { client, role })
}

async fn session(
    gate: &Gate,
    config: &Config,
    stream: &mut Stream,
    client: Listed,
    newcomer: Newcomer,
) -> Result<Admitted, Rejected> {
    let Newcomer { startup, proof, .. } = &newcomer;
    let name = &startup.database;
    let database = config.database(name).ok_or_else(|| {
        Rejected::Told(
            Report::fatal(sqlstate::INVALID_CATALOG_NAME, format!("{NO_DATABASE}{name}"))
                .hint("The databases that can be reached are those of [databases] in the pooler's configuration."),
        )
    })?;
    if gate.pools.is_disabled(name) {
        return Err(Rejected::Told(
            Report::fatal(sqlstate::CANNOT_CONNECT_NOW, format!("database \"{name}\" is disabled"))
                .hint("An administrator has disabled it on the console; ENABLE lets clients in again."),
        ));
    }
    if proof.is_nobody() && database.user.is_none() {
        return Err(Rejected::Told(
            Report::fatal(sqlstate::INVALID_AUTHORIZATION, format!("database \"{name}\" has no user of its own"))
                .detail("With auth_type any the name that a client gives means nothing.")
                .hint("Give the database's entry in the pooler's configuration a user, or set another auth_type."),
        ));
    }
    let pool = gate.pools.pool_of_login(&database, &startup.user, proof.found());
    client.record().join(&pool);
    if pool.is_closed() {
        return Err(Rejected::Told(Report::fatal(sqlstate::ADMIN_SHUTDOWN, "database removed")));
    }
    if startup.replication != Replication::None {
        return replication::begin(gate, config, stream, client, newcomer).await;
    }
    let Newcomer { startup, proof, early } = newcomer;
    let state = settings::first_settings(gate, config, stream, &client, &startup).await?;
    let mut out = BytesMut::new();
    proof.welcome(&mut out)?;
    for (name, value) in state.reported.iter() {
        // Names and values came from PostgreSQL in the client's encoding; those that are not UTF-8 are sent as bytes.
        match std::str::from_utf8(value) {
            Ok(value) => encode(&ParameterStatus::new(name.to_owned(), value.to_owned()), &mut out)?,
            Err(_) => {
                let mut raw = Vec::new();
                crate::wire::write::parameter_status(&mut raw, name, value);
                out.extend_from_slice(&raw);
            }
        }
    }
    announce(pool.settings.load().mode, config, &mut out)?;
    let record = client.record();
    encode(&key_data(record), &mut out)?;
    let mut ready = Vec::new();
    if !config.general.login_notify_message.is_empty() {
        let notice = Report::new("NOTICE", "00000", config.general.login_notify_message.as_str());
        notice.write_notice(&mut ready);
    }
    ready_idle(&mut ready);
    out.extend_from_slice(&ready);
    stream.write_all(&out).await?;
    record.publish(&state.reported);
    let now = gate.pools.shared.clock.now();
    record.admit(now);
    crate::metrics::add(&pool.counters.client_login_count, 1);
    gate.pools.shared.events.logged_in(now.saturating_sub(record.identity.connected));
    Ok(Admitted::Session { client, state, early })
}

/// What PgBouncer tells its clients of itself, for drivers that go by it.
fn announce(mode: PoolMode, config: &Config, out: &mut BytesMut) -> Result<(), Rejected> {
    for (name, value) in [
        ("pgbouncer.version", PGBOUNCER.to_owned()),
        ("pgbouncer.pool_mode", mode.as_str().to_owned()),
        ("pgbouncer.max_prepared_statements", config.general.max_prepared_statements.to_string()),
    ] {
        encode(&ParameterStatus::new(name.to_owned(), value), out)?;
    }
    Ok(())
}

/// The cancel key of a client: its id, and its secret.
#[must_use]
pub fn key_data(record: &ClientRecord) -> BackendKeyData {
    let process_id = i32::try_from(record.process_id()).unwrap_or(i32::MAX);
    BackendKeyData::new(process_id, SecretKey::Bytes(Bytes::copy_from_slice(&record.secret)))
}

/// The client that a cancel key belongs to.
#[must_use]
pub fn find_by_key(pools: &Pools, key: u32, secret: &[u8]) -> Option<Arc<ClientRecord>> {
    // A key has the low 31 bits of an id; the rest is how often the sequence has passed them.
    let rounds = pools.shared.last_id() >> 31;
    let mut by_id = (0..=rounds).filter_map(|round| pools.clients.find(u64::from(key) | (round << 31)));
    let found = by_id.find(|record| record.has_key(key, secret));
    // With a peer's id there is not enough of the client's left to find it by.
    let in_a_group = pools.config.load().general.peer_id > 0;
    let scan = || pools.clients.all().into_iter().find(|record| record.has_key(key, secret));
    found.or_else(|| in_a_group.then(scan).flatten())
}

/// Secret of a cancel key: 4 bytes before protocol 3.2, 32 since.
fn random_secret(minor: u16) -> Result<Box<[u8]>, Rejected> {
    let mut secret = vec![0; if minor >= 2 { 32 } else { 4 }].into_boxed_slice();
    getrandom::fill(&mut secret).map_err(|_| Rejected::Internal("no entropy"))?;
    Ok(secret)
}

/// Appends a message; pgwire fails at none of those that are sent here.
fn encode(message: &impl Message, out: &mut BytesMut) -> Result<(), Rejected> {
    message.encode(out).map_err(|_| Rejected::Internal("message could not be encoded"))
}

/// Appends an authentication request.
fn encode_request(request: &Authentication, out: &mut BytesMut) -> Result<(), Rejected> {
    encode(request, out)
}
