//! The login: runs the authentication machine over the socket.

use std::future::{Future, poll_fn};
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use pgwire::messages::startup::Authentication;

use super::access::{Caller, Proving, Service};
use super::intake::Intake;
use super::{CONSOLE, Gate, Rejected, encode_request, is_console};
use crate::auth::{Challenge, Login, Method, Password, Step, end_point, password_in};
use crate::backend::unhurried;
use crate::config::{AuthSource, AuthType, Config};
use crate::hba::Directory;
use crate::net::tls::Certificate;
use crate::net::{BOUNCER, Stream};
use crate::pool::{Found, LookupError};
use crate::wire::startup::Startup;

/// That a client has proved who it is.
#[derive(Debug, Default)]
pub(super) struct Proof {
    /// What has to be sent before AuthenticationOk.
    last: Option<Challenge>,
    /// It has not, and did not have to: its name means nothing (`auth_type = "any"`).
    nobody: bool,
    /// The kernel says that it runs as the user that the pooler runs as.
    owner: bool,
    /// What was found in PostgreSQL, where the configuration has no secret of the user.
    found: Option<Found>,
}

impl Proof {
    /// Whether its name means nothing, so that it may only get at databases that force a user.
    pub(super) fn is_nobody(&self) -> bool {
        self.nobody
    }

    /// Whether it is who owns the pooler, and may do everything on the console.
    pub(super) fn is_owner(&self) -> bool {
        self.owner
    }

    /// What was found in PostgreSQL, if it was asked.
    pub(super) fn found(&self) -> Option<&Found> {
        self.found.as_ref()
    }

    /// Appends what tells the client so.
    pub(super) fn welcome(self, out: &mut BytesMut) -> Result<(), Rejected> {
        if let Some(last) = self.last {
            encode_request(&request(last), out)?;
        }
        encode_request(&Authentication::Ok, out)
    }
}

/// Lets the client prove who it is, by `auth_type`.
pub(super) async fn log_in(caller: Caller<'_>, stream: &mut Stream, intake: &mut Intake) -> Result<Proof, Rejected> {
    let Caller { gate, config, startup, .. } = caller;
    if is_owner(startup, stream) {
        return Ok(Proof { owner: true, ..Proof::default() });
    }
    let method = match config.general.auth_type {
        AuthType::Any => return Ok(Proof { nobody: true, ..Proof::default() }),
        AuthType::Cert if !has_certificate(stream, &startup.user) => {
            return Err(Rejected::Certificate { user: startup.user.clone() });
        }
        // The certificate is the proof.
        AuthType::Cert => Method::Trust,
        AuthType::Trust => Method::Trust,
        AuthType::Plain => Method::Plain,
        AuthType::Md5 => Method::Md5,
        AuthType::ScramSha256 => Method::ScramSha256,
        AuthType::Hba => match Box::pin(caller.prove(stream)).await? {
            Proving::By(method) => method,
            Proving::Done => return Ok(Proof::default()),
            Proving::Directory(directory) => return by_directory(caller, directory, stream, intake).await,
            Proving::Pam(service) => return by_pam(caller, service, stream, intake).await,
        },
        AuthType::Pam => return by_pam(caller, caller.usual_service(stream), stream, intake).await,
        AuthType::Ldap => {
            let directory = config.access.directory.as_ref().ok_or(Rejected::Internal("no auth_ldap_options"))?;
            return by_directory(caller, directory, stream, intake).await;
        }
    };
    let known = gate.pools.credentials.of_user(config, &startup.user);
    let found = match config.auth_source(&startup.database) {
        Some(source) if known.is_none() => Some(look_up(gate, stream, startup, &source).await?),
        Some(_) | None => None,
    };
    let credential = match &found {
        Some(found) => {
            if found.credential.is_none() {
                let user = &startup.user;
                tracing::info!(target: BOUNCER, "{} no such user: {user}", caller.visitor.party());
            }
            found.credential.clone()
        }
        None => known.or_else(|| known_without_secret(config, startup)),
    };
    let mock = gate.mock.with_iterations(config.general.scram_iterations);
    let ours = stream.session().and_then(|session| session.server_certificate.as_deref());
    let (mut login, mut step) =
        Login::begin_bindable(method, &startup.user, credential, &mock, ours.and_then(end_point));
    let mut by_sasl = false;
    loop {
        match step {
            Step::Ask(challenge) => {
                by_sasl |= matches!(challenge, Challenge::Sasl | Challenge::SaslPlus);
                let in_clear = challenge == Challenge::Cleartext;
                let mut out = BytesMut::new();
                encode_request(&request(challenge), &mut out)?;
                stream.write_all(&out).await?;
                let body = intake.password(stream, in_clear).await?;
                if let Some(derivation) = login.derivation(body) {
                    login.prepare(unhurried(Box::new(derivation)).await);
                }
                step = login.answer(body);
            }
            Step::Admit { last, .. } => return Ok(Proof { last, found, ..Proof::default() }),
            Step::Refuse(refusal) => {
                if let Some(found) = found.filter(|_| refusal.may_be_outdated()) {
                    found.doubt();
                }
                return Err(Rejected::Login { user: startup.user.clone(), refusal, by_sasl });
            }
        }
    }
}

/// Whether a client of the console comes by the Unix socket, under one of the console's own names, and from a process of
/// the system user that the pooler runs as: who could end it and read its files needs no password, as in PgBouncer.
fn is_owner(startup: &Startup, stream: &Stream) -> bool {
    is_console(startup) && CONSOLE.contains(&startup.user.as_str()) && stream.is_own()
}

/// Asks PostgreSQL for a user's secret.
async fn look_up(gate: &Gate, stream: &mut Stream, startup: &Startup, source: &AuthSource) -> Result<Found, Rejected> {
    while_there(stream, gate.pools.lookups.find(&gate.pools, source, &startup.user)).await
}

/// Waits for an answer of PostgreSQL's as long as the client stays.
pub(super) async fn while_there<T>(
    stream: &mut Stream,
    answer: impl Future<Output = Result<T, LookupError>>,
) -> Result<T, Rejected> {
    let mut answer = Box::pin(answer);
    poll_fn(|cx| match answer.as_mut().poll(cx) {
        Poll::Ready(found) => Poll::Ready(found.map_err(Rejected::Lookup)),
        Poll::Pending => stream.poll_closed(cx).map(|()| Err(Rejected::Left)),
    })
    .await
}

/// Whether the client has shown a certificate of this user; it was verified in the handshake.
fn has_certificate(stream: &Stream, user: &str) -> bool {
    let shown = stream.session().and_then(|session| session.client_certificate.as_deref());
    shown.and_then(Certificate::parse).and_then(|certificate| certificate.common_name()).as_deref() == Some(user)
}

async fn by_directory(
    caller: Caller<'_>,
    directory: &Directory,
    stream: &mut Stream,
    intake: &mut Intake,
) -> Result<Proof, Rejected> {
    let password = clear_password(caller, stream, intake).await?;
    Box::pin(caller.ask_directory(directory, &password)).await?;
    Ok(Proof::default())
}

async fn by_pam(
    caller: Caller<'_>,
    service: Service,
    stream: &mut Stream,
    intake: &mut Intake,
) -> Result<Proof, Rejected> {
    let password = clear_password(caller, stream, intake).await?;
    caller.ask_pam(service, password).await?;
    Ok(Proof::default())
}

/// Asks the client for its password in the clear.
async fn clear_password(caller: Caller<'_>, stream: &mut Stream, intake: &mut Intake) -> Result<Password, Rejected> {
    let mut out = BytesMut::new();
    encode_request(&Authentication::CleartextPassword, &mut out)?;
    stream.write_all(&out).await?;
    let refused = |refusal| Rejected::Login { user: caller.startup.user.clone(), refusal, by_sasl: false };
    password_in(intake.password(stream, true).await?).map_err(refused)
}

/// A user that the configuration names without a secret may come by `trust` and by nothing else: an empty secret
/// proves nothing.
fn known_without_secret(config: &Config, startup: &Startup) -> Option<std::sync::Arc<crate::auth::Credential>> {
    config.user(&startup.user)?;
    let empty = crate::auth::StoredSecret::parse("");
    Some(std::sync::Arc::new(crate::auth::Credential::new(empty, config.general.scram_iterations)))
}

fn request(challenge: Challenge) -> Authentication {
    match challenge {
        Challenge::Cleartext => Authentication::CleartextPassword,
        Challenge::Md5 { salt } => Authentication::MD5Password(salt.to_vec()),
        Challenge::Sasl => Authentication::SASL(Challenge::MECHANISMS.map(str::to_owned).to_vec()),
        Challenge::SaslPlus => Authentication::SASL(Challenge::MECHANISMS_PLUS.map(str::to_owned).to_vec()),
        Challenge::SaslContinue(data) => Authentication::SASLContinue(Bytes::from(data)),
        Challenge::SaslFinal(data) => Authentication::SASLFinal(Bytes::from(data)),
    }
}
