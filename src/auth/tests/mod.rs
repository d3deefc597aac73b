//! Both roles against each other, against the RFC's example, and against nonsense.
//!
//! The two machines here differ in every function but the primitives; those are tested against published vectors.

mod binding;
mod both_roles;
mod malformed;
mod vectors;

use std::sync::Arc;

use super::*;

/// Few, so that unoptimised tests stay quick.
pub(super) const ITERATIONS: u32 = 5;

pub(super) fn mock() -> MockSecret {
    MockSecret::from_key([7; 32], ITERATIONS)
}

pub(super) fn credential(secret: &str) -> Arc<Credential> {
    Arc::new(Credential::new(StoredSecret::parse(secret), ITERATIONS))
}

pub(super) fn verifier(password: &str) -> String {
    ScramVerifier::from_password(password.as_bytes(), b"0123456789abcdef", ITERATIONS).to_string()
}

/// Code and body of the Authentication message, as the frontend encodes it.
pub(super) fn encoded(challenge: &Challenge) -> (u32, Vec<u8>) {
    match challenge {
        Challenge::Cleartext => (3, Vec::new()),
        Challenge::Md5 { salt } => (5, salt.to_vec()),
        Challenge::Sasl => {
            let names: Vec<_> = Challenge::MECHANISMS.iter().map(|name| format!("{name}\0")).collect();
            (10, format!("{}\0", names.concat()).into_bytes())
        }
        Challenge::SaslPlus => {
            let names: Vec<_> = Challenge::MECHANISMS_PLUS.iter().map(|name| format!("{name}\0")).collect();
            (10, format!("{}\0", names.concat()).into_bytes())
        }
        Challenge::SaslContinue(data) => (11, data.clone()),
        Challenge::SaslFinal(data) => (12, data.clone()),
    }
}

/// A SASLInitialResponse.
pub(super) fn initial(message: &str) -> Vec<u8> {
    let mut body = b"SCRAM-SHA-256\0".to_vec();
    body.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    body.extend_from_slice(message.as_bytes());
    body
}

pub(super) fn asked_text(step: &Step) -> String {
    let Step::Ask(Challenge::SaslContinue(data)) = step else { panic!("{step:?} is no SASLContinue") };
    String::from_utf8(data.clone()).unwrap()
}
