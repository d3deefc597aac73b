//! The login: runs the authentication machine over the socket.

use bytes::{Bytes, BytesMut};
use pgwire::messages::startup::Authentication;

use super::intake::Intake;
use super::{Gate, Rejected, encode_request};
use crate::auth::{Challenge, Login, Method, Step, end_point};
use crate::config::{AuthType, Config};
use crate::net::Stream;
use crate::net::tls::Certificate;
use crate::wire::startup::Startup;

/// That a client has proved who it is.
#[derive(Debug)]
pub(super) struct Proof {
    /// What has to be sent before AuthenticationOk.
    last: Option<Challenge>,
}

impl Proof {
    /// Appends what tells the client so.
    pub(super) fn welcome(self, out: &mut BytesMut) -> Result<(), Rejected> {
        if let Some(last) = self.last {
            encode_request(&request(last), out)?;
        }
        encode_request(&Authentication::Ok, out)
    }
}

/// Lets the client prove who it is, by `auth_type`.
pub(super) async fn log_in(
    gate: &Gate,
    config: &Config,
    stream: &mut Stream,
    intake: &mut Intake,
    startup: &Startup,
) -> Result<Proof, Rejected> {
    let method = match config.general.auth_type {
        AuthType::Cert if !has_certificate(stream, &startup.user) => {
            return Err(Rejected::Certificate { user: startup.user.clone() });
        }
        // The certificate is the proof.
        AuthType::Cert => Method::Trust,
        AuthType::Trust => Method::Trust,
        AuthType::Plain => Method::Plain,
        AuthType::Md5 => Method::Md5,
        AuthType::ScramSha256 => Method::ScramSha256,
    };
    let credential =
        gate.pools.credentials.of_user(config, &startup.user).or_else(|| known_without_secret(config, startup));
    let mock = gate.mock.with_iterations(config.general.scram_iterations);
    let ours = stream.session().and_then(|session| session.server_certificate.as_deref());
    let (mut login, mut step) =
        Login::begin_bindable(method, &startup.user, credential, &mock, ours.and_then(end_point));
    loop {
        match step {
            Step::Ask(challenge) => {
                let mut out = BytesMut::new();
                encode_request(&request(challenge), &mut out)?;
                stream.write_all(&out).await?;
                step = login.answer(intake.password(stream).await?);
            }
            Step::Admit { last, .. } => return Ok(Proof { last }),
            Step::Refuse(refusal) => return Err(Rejected::Login { user: startup.user.clone(), refusal }),
        }
    }
}

/// Whether the client has shown a certificate of this user; it was verified in the handshake.
fn has_certificate(stream: &Stream, user: &str) -> bool {
    let shown = stream.session().and_then(|session| session.client_certificate.as_deref());
    shown.and_then(Certificate::parse).and_then(|certificate| certificate.common_name()).as_deref() == Some(user)
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
