//! Who are you: the login of our clients, and our own logins to PostgreSQL.
//!
//! Both are pure machines that are fed with message bodies and say what to send; sockets, frames and deadlines are
//! the callers'. [`Login`] is the server's role (trust, plain, md5, SCRAM-SHA-256), [`Answerer`] the client's
//! (cleartext, md5, SCRAM-SHA-256); both bind SCRAM to a TLS connection, whose data they are given; a [`Credential`] holds one user's secret and what both derive from it once.
//! Looking up a user is not done here.
//!
//! Invariant: nobody is admitted who did not prove to know the stored secret (`trust` aside), and an unknown user is
//! refused in the same words and at the same place as one with a plain secret and a wrong password. What still tells
//! them apart: `md5` turns into SCRAM for a stored verifier only, and checking a plain password against one takes time.

mod answer;
mod basic;
mod binding;
mod credential;
mod crypto;
mod fuzz;
mod login;
mod refusal;
mod sasl;
mod scram_client;
mod scram_server;
mod secret;
#[cfg(test)]
mod tests;

pub use answer::{AnswerError, Answerer, BackendSecret, Reply};
pub use basic::Basic;
pub use binding::{Binding, Channel, end_point};
pub use credential::Credential;
pub use crypto::NoEntropy;
#[doc(hidden)]
pub use fuzz::{fuzz_answer, fuzz_login};
pub use login::{Challenge, Login, Method, MockSecret, Step, password_in};
pub use refusal::Refusal;
pub use sasl::{Malformed, SCRAM_SHA_256, SCRAM_SHA_256_PLUS};
pub use secret::{Derivation, Password, ScramVerifier, StoredSecret};
