//! Answers what PostgreSQL asks when we log in to it.
//!
//! A machine without a socket: it is fed with Authentication messages and returns the bodies of `p` messages. It does
//! not choose whose secret to use. Invariant: a SCRAM exchange is not over before the server's signature was checked,
//! and a secret is never sent in a weaker form than the server asked for.

use std::fmt;
use std::mem;
use std::sync::Arc;

use zeroize::Zeroize;

use super::binding::{Binding, Channel};
use super::credential::Credential;
use super::crypto::{NoEntropy, md5_answer, nonce};
use super::sasl::{Malformed, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, offered, write_initial_response};
use super::scram_client::{ExpectServerFinal, ExpectServerFirst, Flag, ITERATIONS};
use super::secret::{Derivation, Derived, ScramKeys};
use crate::config::ChannelBinding;

/// AuthenticationOk and its kin, by the code that opens their bodies (PostgreSQL manual, "Message Formats").
mod code {
    pub(super) const OK: u32 = 0;
    pub(super) const CLEARTEXT: u32 = 3;
    pub(super) const MD5: u32 = 5;
    pub(super) const SASL: u32 = 10;
    pub(super) const SASL_CONTINUE: u32 = 11;
    pub(super) const SASL_FINAL: u32 = 12;
}

/// What there is to log in to PostgreSQL with.
#[derive(Debug, Clone)]
pub enum BackendSecret {
    /// Nothing: only a server that asks nothing lets us in.
    None,
    /// A plain password answers all requests; an md5 hash answers md5 requests; a verifier alone answers none.
    Credential(Arc<Credential>),
    /// A stored verifier, with the key that its owner's login reveals: it answers SCRAM for the verifier's own salt and
    /// rounds, from the first login on. Only for backends of the very user whose clients log in by this credential.
    Keys(Arc<Credential>),
}

impl BackendSecret {
    /// Whether it is of no use before a client has logged in.
    #[must_use]
    pub fn awaits_login(&self) -> bool {
        matches!(self, BackendSecret::Keys(credential) if !credential.is_revealed())
    }
}

/// The body of a `p` message to send. Its `Debug` hides it: it may be a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Reply(Vec<u8>);

impl Reply {
    /// The bytes after tag and length.
    pub fn body(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reply(..)")
    }
}

/// Why a login to PostgreSQL cannot go on. The connection is to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// The server asks for a password and there is none.
    #[error("server login failed: server asks for a password and there is none")]
    NoPassword,
    /// The stored secret cannot answer this kind of request.
    #[error("server login failed: wrong password type")]
    WrongSecretType,
    /// A verifier is stored, and no client has revealed its key yet.
    #[error("server login failed: no client of this user has proved its password yet")]
    NoKeys,
    /// A verifier is stored that is not the server's: another salt or another number of rounds.
    #[error("server login failed: the SCRAM verifier differs from PostgreSQL's")]
    OtherVerifier,
    /// The server could not prove that it knows the secret.
    #[error("invalid server signature")]
    BadServerSignature,
    /// AuthenticationOk came before the server had proven that it knows the secret.
    #[error("server ended the SCRAM exchange before it was complete")]
    Incomplete,
    /// server-final-message holds an error instead of a signature.
    #[error("server refused the SCRAM exchange")]
    ServerRefused,
    /// The server's message breaks the protocol.
    #[error("malformed authentication request: {0}")]
    Malformed(#[from] Malformed),
    /// The server's nonce does not begin with ours, or adds nothing to it.
    #[error("server's SCRAM nonce does not match")]
    NonceMismatch,
    /// The server asks for no rounds, or for more than a million.
    #[error("server asks for {0} SCRAM iterations; {first} to {last} are computed", first = ITERATIONS.start(), last = ITERATIONS.end())]
    IterationsOutOfRange(u128),
    /// The server requires an extension that is not known.
    #[error("server requires an unsupported SCRAM extension")]
    MandatoryExtension,
    /// The login has to be bound to the TLS connection, and the server does not offer that.
    #[error("channel binding is required, but the server did not offer an authentication method with it")]
    NotBound,
    /// The login should be bound, and there is nothing to bind it to.
    #[error(
        "channel binding is not possible: the signature of the server's certificate has no hash function; \
         set server_channel_binding = disable"
    )]
    NoEndPoint,
    /// The server offers SASL mechanisms without SCRAM-SHA-256.
    #[error("server offers no SASL mechanism that is supported")]
    UnsupportedMechanism,
    /// A kind of authentication that is not supported (Kerberos, GSSAPI, SSPI), by its code.
    #[error("server asks for unsupported authentication {0}")]
    Unsupported(u32),
    /// No random nonce could be made.
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
}

impl AnswerError {
    /// What an operator may do about it; empty where the message says all.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NoPassword => "Give the user a secret in [users], the auth_file or a password_file.",
            Self::WrongSecretType => {
                "A plain password answers every request of PostgreSQL's, an md5 hash only those for md5, a SCRAM \
                 verifier only those for SCRAM of the user that has logged in with it."
            }
            Self::NoKeys => {
                "Of this user only a SCRAM verifier is stored: connections can be opened once a client has logged in \
                 with the password."
            }
            Self::IterationsOutOfRange(_) => {
                "The role's password was set with so many scram_iterations: set it again with fewer, or see whether this \
                 is the right server."
            }
            Self::OtherVerifier => {
                "Store the very text that PostgreSQL has in pg_authid.rolpassword, or the plain password."
            }
            _ => "",
        }
    }
}

/// One login to PostgreSQL, from the first Authentication message to AuthenticationOk.
pub struct Answerer {
    user: String,
    secret: BackendSecret,
    binding: Binding,
    state: State,
    /// What was computed beforehand.
    derived: Option<Derived>,
}

enum State {
    ExpectRequest,
    ExpectContinue(ExpectServerFirst),
    ExpectFinal(ExpectServerFinal),
    /// All is answered, and checked if there was anything to check.
    ExpectOk,
    Ended,
    Failed,
}

impl Answerer {
    /// `user` is the one of the startup packet; it takes part in md5 answers.
    pub fn new(user: &str, secret: BackendSecret) -> Self {
        Self { user: user.to_owned(), secret, binding: Binding::NONE, state: State::ExpectRequest, derived: None }
    }

    /// The same with a connection that the login may, or has to, be bound to.
    #[must_use]
    pub fn bound(self, binding: Binding) -> Self {
        Self { binding, ..self }
    }

    /// Whether AuthenticationOk has come, in its place.
    pub fn is_ok(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// What the answer to a message takes long for, if it does: to be computed in pieces and given to
    /// [`Answerer::prepare`] before the message is answered.
    pub fn derivation(&self, code: u32, body: &[u8]) -> Option<Derivation> {
        let (code::SASL_CONTINUE, State::ExpectContinue(scram)) = (code, &self.state) else { return None };
        let BackendSecret::Credential(credential) = &self.secret else { return None };
        let asked = scram.asked(body).ok()?;
        credential.answer_derivation(&asked.salt, asked.iterations)
    }

    /// Takes what [`Answerer::derivation`] has come to.
    pub fn prepare(&mut self, derivation: Derivation) {
        self.derived = Some(derivation.finish());
    }

    /// Takes an Authentication message: its code, and what follows the code. Returns what to send, if anything.
    ///
    /// The first answer to a SCRAM salt costs its rounds, some milliseconds of CPU at the usual 4096 and up to a second
    /// at the limit of a million, unless they were computed before; the credential remembers the keys. After an error each
    /// further message is an error.
    pub fn on_request(&mut self, code: u32, body: &[u8]) -> Result<Option<Reply>, AnswerError> {
        let state = mem::replace(&mut self.state, State::Failed);
        match self.advance(state, code, body) {
            Ok((state, reply)) => {
                self.state = state;
                Ok(reply.map(Reply))
            }
            Err(error) => Err(error),
        }
    }

    fn advance(&mut self, state: State, code: u32, body: &[u8]) -> Result<(State, Option<Vec<u8>>), AnswerError> {
        // Any other method, and none at all, would do without the proof that is wanted.
        if self.binding.policy == ChannelBinding::Require && matches!(state, State::ExpectRequest) && code != code::SASL
        {
            return Err(AnswerError::NotBound);
        }
        match (code, state) {
            (code::OK, State::ExpectRequest | State::ExpectOk) => empty(body).map(|()| (State::Ended, None)),
            (code::OK, State::ExpectContinue(_) | State::ExpectFinal(_)) => Err(AnswerError::Incomplete),
            (code::CLEARTEXT, State::ExpectRequest) => {
                empty(body)?;
                Ok((State::ExpectOk, Some(terminated(self.cleartext()?)?)))
            }
            (code::MD5, State::ExpectRequest) => {
                let salt = body.try_into().map_err(|_| Malformed::Length)?;
                Ok((State::ExpectOk, Some(terminated(&self.md5(salt)?)?)))
            }
            (code::SASL, State::ExpectRequest) => {
                let (state, message) = self.begin_scram(body)?;
                Ok((State::ExpectContinue(state), Some(message)))
            }
            (code::SASL_CONTINUE, State::ExpectContinue(scram)) => {
                let derived = self.derived.take();
                let (next, message) = scram.server_first(body, |salt, count| self.keys(salt, count, derived))?;
                Ok((State::ExpectFinal(next), Some(message.into_bytes())))
            }
            (code::SASL_FINAL, State::ExpectFinal(scram)) => {
                scram.server_final(body)?;
                Ok((State::ExpectOk, None))
            }
            (code::OK | code::CLEARTEXT | code::MD5 | code::SASL..=code::SASL_FINAL, _) => {
                Err(Malformed::Unexpected.into())
            }
            (other, _) => Err(AnswerError::Unsupported(other)),
        }
    }

    fn credential(&self) -> Result<&Credential, AnswerError> {
        match &self.secret {
            BackendSecret::Credential(credential) | BackendSecret::Keys(credential) if !credential.is_empty() => {
                Ok(credential)
            }
            BackendSecret::Credential(_) | BackendSecret::Keys(_) | BackendSecret::None => Err(AnswerError::NoPassword),
        }
    }

    fn keys(&self, salt: &[u8], iterations: u32, derived: Option<Derived>) -> Result<ScramKeys, AnswerError> {
        match &self.secret {
            BackendSecret::Keys(credential) => credential.revealed_keys(salt, iterations),
            BackendSecret::Credential(_) | BackendSecret::None => {
                self.credential()?.client_keys(salt, iterations, derived).ok_or(AnswerError::WrongSecretType)
            }
        }
    }

    fn cleartext(&self) -> Result<&[u8], AnswerError> {
        let password = self.credential()?.password().ok_or(AnswerError::WrongSecretType)?;
        Ok(password.as_bytes())
    }

    fn md5(&self, salt: [u8; 4]) -> Result<Vec<u8>, AnswerError> {
        let hash = self.credential()?.md5_hash(&self.user).ok_or(AnswerError::WrongSecretType)?;
        Ok(md5_answer(&hash, salt))
    }

    fn begin_scram(&self, mechanisms: &[u8]) -> Result<(ExpectServerFirst, Vec<u8>), AnswerError> {
        let (mechanism, flag) = self.mechanism(mechanisms)?;
        // Said before anything is sent: a secret that cannot finish the exchange should not begin it.
        match &self.secret {
            BackendSecret::Keys(credential) if !credential.is_revealed() => return Err(AnswerError::NoKeys),
            BackendSecret::Keys(_) => {}
            BackendSecret::Credential(_) | BackendSecret::None => {
                self.credential()?.password().ok_or(AnswerError::WrongSecretType)?;
            }
        }
        let (state, message) = ExpectServerFirst::begin("", nonce()?, flag);
        Ok((state, write_initial_response(mechanism, &message).ok_or(Malformed::Long)?))
    }
}

impl Answerer {
    /// Which of the mechanisms to take, and what to say about binding. A server that offers to bind is held to it: that
    /// it seems not to is what somebody in between would have to make us believe, and what it would then be told.
    fn mechanism(&self, offer: &[u8]) -> Result<(&'static str, Flag), AnswerError> {
        let offer = offered(offer)?;
        let required = self.binding.policy == ChannelBinding::Require;
        let flag = match &self.binding {
            Binding { policy: ChannelBinding::Disable, .. } => Flag::No,
            Binding { channel: Channel::Tls(Some(data)), .. } if offer.plus => {
                return Ok((SCRAM_SHA_256_PLUS, Flag::Bound(data.clone())));
            }
            Binding { channel: Channel::Tls(None), .. } if offer.plus => return Err(AnswerError::NoEndPoint),
            Binding { channel: Channel::Tls(_) | Channel::Plain, .. } if required => return Err(AnswerError::NotBound),
            Binding { channel: Channel::Tls(_), .. } => Flag::NotOffered,
            Binding { channel: Channel::Plain, .. } => Flag::No,
        };
        if offer.scram { Ok((SCRAM_SHA_256, flag)) } else { Err(AnswerError::UnsupportedMechanism) }
    }
}

fn empty(body: &[u8]) -> Result<(), AnswerError> {
    if body.is_empty() { Ok(()) } else { Err(Malformed::Trailing.into()) }
}

/// A PasswordMessage. A password with a zero byte cannot be sent in one; it must not be sent cut.
fn terminated(text: &[u8]) -> Result<Vec<u8>, AnswerError> {
    if text.contains(&0) {
        return Err(AnswerError::WrongSecretType);
    }
    let mut body = Vec::with_capacity(text.len() + 1);
    body.extend_from_slice(text);
    body.push(0);
    Ok(body)
}
