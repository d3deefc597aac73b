//! The login of one client: which challenge it gets, and whether its answers admit it.
//!
//! A machine without a socket: it is fed with the bodies of `p` messages and says what to send. It neither looks up
//! the user nor encodes the Authentication messages. Deadlines are the caller's. Invariant: only a right answer to a
//! challenge of this login ends in [`Step::Admit`] (`trust` aside), and an unknown user meets the same challenges,
//! and is refused at the same one, as a user with a plain secret and a wrong password.

use std::mem;
use std::sync::Arc;

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::credential::{Credential, SALT_LEN};
use super::crypto::{Key, NoEntropy, hmac, md5_answer, md5_hex, nonce, random, same, sha256};
use super::refusal::Refusal;
use super::sasl::{Malformed, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, initial_response, whole_cstring};
use super::scram_server::{ExpectClientFinal, ExpectClientFirst};
use super::secret::{Derivation, Derived, Password, ScramVerifier, StoredSecret};

/// Rounds above this are not spent on checking a plain password: the owner of a stored verifier chooses its count,
/// and two thousand million of them would hold a worker for minutes.
const MAX_PLAIN_ITERATIONS: u32 = 1_000_000;

/// How a client is to be authenticated; what is left of `auth_type` or an HBA rule when the rest is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Admits each known user, asking nothing.
    Trust,
    /// A password in the clear. Works with each kind of stored secret.
    Plain,
    /// An md5 answer; a SCRAM exchange instead if a verifier is stored.
    Md5,
    /// A SCRAM-SHA-256 exchange. Cannot work with a stored md5 hash.
    ScramSha256,
}

/// An Authentication message to send (PostgreSQL manual, "Message Formats").
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// AuthenticationCleartextPassword, code 3.
    Cleartext,
    /// AuthenticationMD5Password, code 5.
    Md5 {
        /// The four bytes that follow the code.
        salt: [u8; 4],
    },
    /// AuthenticationSASL, code 10, with [`Challenge::MECHANISMS`].
    Sasl,
    /// The same with [`Challenge::MECHANISMS_PLUS`].
    SaslPlus,
    /// AuthenticationSASLContinue, code 11, with this data, which may be empty.
    SaslContinue(Vec<u8>),
    /// AuthenticationSASLFinal, code 12, with this data.
    SaslFinal(Vec<u8>),
}

impl Challenge {
    /// The mechanisms to list in AuthenticationSASL.
    pub const MECHANISMS: [&'static str; 1] = [SCRAM_SHA_256];
    /// The same where the exchange can be bound to the TLS connection, the better one first.
    pub const MECHANISMS_PLUS: [&'static str; 2] = [SCRAM_SHA_256_PLUS, SCRAM_SHA_256];
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Send this, then feed the next `p` message to [`Login::answer`].
    Ask(Challenge),
    /// The client is who it says.
    Admit {
        /// To be sent in front of AuthenticationOk.
        last: Option<Challenge>,
        /// What a client of [`Method::Plain`] has proven to know; it can log in to PostgreSQL with it.
        password: Option<Password>,
    },
    /// Send an error and close.
    Refuse(Refusal),
}

/// What the exchanges of unknown users are made from. One per process; it outlives reloads, or the salt of an unknown
/// user would change with each.
pub struct MockSecret {
    key: Key,
    scram_iterations: u32,
}

/// Whoever has the key can tell which users there are.
impl Drop for MockSecret {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl ZeroizeOnDrop for MockSecret {}

impl MockSecret {
    /// A random one. `scram_iterations` is the setting of that name.
    pub fn new(scram_iterations: u32) -> Result<Self, NoEntropy> {
        Ok(Self::from_key(random()?, scram_iterations))
    }

    /// One with a key that the caller keeps: only so do unknown users keep their salts over a restart, as users with
    /// stored verifiers do.
    pub fn from_key(key: [u8; 32], scram_iterations: u32) -> Self {
        Self { key, scram_iterations: scram_iterations.max(1) }
    }

    /// The same with other rounds, after a reload.
    #[must_use]
    pub fn with_iterations(&self, scram_iterations: u32) -> Self {
        Self::from_key(self.key, scram_iterations)
    }

    /// A verifier whose salt depends on the user alone and that no password satisfies.
    fn verifier(&self, user: &str) -> ScramVerifier {
        let derived = Zeroizing::new(hmac(&self.key, user.as_bytes()));
        let salt = derived.iter().take(SALT_LEN).copied().collect();
        let stored_key = sha256(&*derived);
        ScramVerifier { iterations: self.scram_iterations, salt, stored_key, server_key: sha256(&stored_key) }
    }

    fn md5_hash(&self, user: &str) -> [u8; 32] {
        md5_hex(&self.key, user.as_bytes())
    }
}

/// The password in the body of a client's `p` message, where something else than a stored secret is to check it.
///
/// # Errors
/// [`Refusal::EmptyPassword`], and what breaks the protocol.
pub fn password_in(body: &[u8]) -> Result<Password, Refusal> {
    non_empty(body).map(Password::new)
}

/// One client's login, from its startup packet to the end of its authentication.
pub struct Login {
    state: State,
    /// The user's, for the key that a SCRAM proof reveals.
    credential: Option<Arc<Credential>>,
    /// What was computed beforehand.
    derived: Option<Derived>,
}

enum State {
    ExpectPassword { user: String, account: Result<Arc<Credential>, Refusal> },
    ExpectMd5 { answer: Vec<u8>, doomed: Option<Refusal> },
    ExpectInitialResponse(ExpectClientFirst),
    ExpectClientFirst(ExpectClientFirst),
    ExpectClientFinal(ExpectClientFinal),
    Ended,
}

impl Login {
    /// Begins a login. `credential` is `None` for a user that does not exist.
    ///
    /// The first login with SCRAM of a user whose plain password is stored derives its verifier here, which takes
    /// some milliseconds of CPU at the usual 4096 rounds; all later ones find it in the credential.
    pub fn begin(method: Method, user: &str, credential: Option<Arc<Credential>>, mock: &MockSecret) -> (Self, Step) {
        Self::begin_bindable(method, user, credential, mock, None)
    }

    /// The same where a SCRAM exchange can be bound to the client's TLS connection, by what [`end_point`] makes of our
    /// certificate.
    ///
    /// [`end_point`]: super::end_point
    pub fn begin_bindable(
        method: Method,
        user: &str,
        credential: Option<Arc<Credential>>,
        mock: &MockSecret,
        end_point: Option<Vec<u8>>,
    ) -> (Self, Step) {
        let account = credential.clone().ok_or(Refusal::UnknownUser);
        let begun = match method {
            Method::Trust => Ok((State::Ended, trust(&account))),
            Method::Plain => Ok(begin_plain(user, account)),
            Method::Md5 => match &account {
                Ok(credential) if matches!(credential.secret(), StoredSecret::Scram(_)) => {
                    begin_scram(user, &account, mock, end_point)
                }
                Ok(_) | Err(_) => begin_md5(user, &account, mock),
            },
            Method::ScramSha256 => begin_scram(user, &account, mock, end_point),
        };
        let (state, step) = begun.unwrap_or_else(|error| (State::Ended, Step::Refuse(error.into())));
        (Self { state, credential, derived: None }, step)
    }

    /// What the answer takes long for, if it does: to be computed in pieces and given to [`Login::prepare`] before.
    pub fn derivation(&self, body: &[u8]) -> Option<Derivation> {
        let State::ExpectPassword { account: Ok(credential), .. } = &self.state else { return None };
        credential.check_derivation(non_empty(body).ok()?)
    }

    /// Takes what [`Login::derivation`] has come to.
    pub fn prepare(&mut self, derivation: Derivation) {
        self.derived = Some(derivation.finish());
    }

    /// Takes the body of the client's `p` message, without tag and length. A message after the end is refused.
    pub fn answer(&mut self, body: &[u8]) -> Step {
        match self.advance(body) {
            Ok((state, step)) => {
                self.state = state;
                step
            }
            Err(refusal) => Step::Refuse(refusal),
        }
    }

    /// Leaves the state at `Ended`, so that an error ends the login wherever it comes from.
    fn advance(&mut self, body: &[u8]) -> Result<(State, Step), Refusal> {
        match mem::replace(&mut self.state, State::Ended) {
            State::ExpectPassword { user, account } => {
                let password = non_empty(body)?;
                if !account?.is_satisfied_by(password, &user, self.derived.take()) {
                    return Err(Refusal::WrongPassword);
                }
                Ok((State::Ended, Step::Admit { last: None, password: Some(Password::new(password)) }))
            }
            State::ExpectMd5 { answer, doomed } => {
                let right = same(non_empty(body)?, &answer);
                match (right, doomed) {
                    (true, None) => Ok((State::Ended, Step::Admit { last: None, password: None })),
                    (_, Some(refusal)) => Err(refusal),
                    (false, None) => Err(Refusal::WrongPassword),
                }
            }
            State::ExpectInitialResponse(scram) => {
                let (mechanism, message) = initial_response(body)?;
                let scram = scram.choose(mechanism)?;
                match message {
                    Some(message) => client_first(scram, message),
                    // RFC 4422 section 3.3: an empty challenge asks for what the client could have sent at once.
                    None => Ok((State::ExpectClientFirst(scram), Step::Ask(Challenge::SaslContinue(Vec::new())))),
                }
            }
            State::ExpectClientFirst(scram) => client_first(scram, body),
            State::ExpectClientFinal(scram) => {
                let (message, client_key) = scram.client_final(body)?;
                if let Some(credential) = &self.credential {
                    credential.reveal(&client_key);
                }
                let last = Challenge::SaslFinal(message.into_bytes());
                Ok((State::Ended, Step::Admit { last: Some(last), password: None }))
            }
            State::Ended => Err(Malformed::Unexpected.into()),
        }
    }
}

fn trust(account: &Result<Arc<Credential>, Refusal>) -> Step {
    match account {
        Ok(_) => Step::Admit { last: None, password: None },
        Err(_) => Step::Refuse(Refusal::UnknownTrustedUser),
    }
}

fn begin_plain(user: &str, account: Result<Arc<Credential>, Refusal>) -> (State, Step) {
    let account = account.and_then(|credential| match credential.secret() {
        StoredSecret::Scram(verifier) if verifier.iterations > MAX_PLAIN_ITERATIONS => Err(Refusal::NoUsableSecret),
        _ if credential.is_empty() => Err(Refusal::NoUsableSecret),
        StoredSecret::Plain(_) | StoredSecret::Md5(_) | StoredSecret::Scram(_) => Ok(credential),
    });
    (State::ExpectPassword { user: user.to_owned(), account }, Step::Ask(Challenge::Cleartext))
}

fn begin_md5(
    user: &str,
    account: &Result<Arc<Credential>, Refusal>,
    mock: &MockSecret,
) -> Result<(State, Step), NoEntropy> {
    let stored = match account {
        Ok(credential) if credential.is_empty() => Err(Refusal::NoUsableSecret),
        Ok(credential) => credential.md5_hash(user).ok_or(Refusal::NoUsableSecret),
        Err(refusal) => Err(*refusal),
    };
    let salt = random()?;
    let answer = md5_answer(&stored.unwrap_or_else(|_| mock.md5_hash(user)), salt);
    Ok((State::ExpectMd5 { answer, doomed: stored.err() }, Step::Ask(Challenge::Md5 { salt })))
}

fn begin_scram(
    user: &str,
    account: &Result<Arc<Credential>, Refusal>,
    mock: &MockSecret,
    end_point: Option<Vec<u8>>,
) -> Result<(State, Step), NoEntropy> {
    let stored = match account {
        Ok(credential) if credential.is_empty() => Err(Refusal::NoUsableSecret),
        Ok(credential) => credential.scram_verifier()?.cloned().ok_or(Refusal::NoUsableSecret),
        Err(refusal) => Err(*refusal),
    };
    let (verifier, doomed) = match stored {
        Ok(verifier) => (verifier, None),
        Err(refusal) => (mock.verifier(user), Some(refusal)),
    };
    let challenge = if end_point.is_some() { Challenge::SaslPlus } else { Challenge::Sasl };
    let scram = ExpectClientFirst::new(verifier, nonce()?, doomed).bindable(end_point);
    Ok((State::ExpectInitialResponse(scram), Step::Ask(challenge)))
}

fn client_first(scram: ExpectClientFirst, message: &[u8]) -> Result<(State, Step), Refusal> {
    let (next, reply) = scram.client_first(message)?;
    Ok((State::ExpectClientFinal(next), Step::Ask(Challenge::SaslContinue(reply.into_bytes()))))
}

fn non_empty(body: &[u8]) -> Result<&[u8], Refusal> {
    match whole_cstring(body)? {
        [] => Err(Refusal::EmptyPassword),
        password => Ok(password),
    }
}
