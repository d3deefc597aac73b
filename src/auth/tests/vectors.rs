//! The example exchange of RFC 7677 section 3, seen from either side.

use crate::auth::scram_client::{ExpectServerFirst, Flag};
use crate::auth::scram_server::ExpectClientFirst;
use crate::auth::secret::{ScramKeys, ScramVerifier};
use crate::auth::{AnswerError, Refusal};

const CLIENT_FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const CLIENT_FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
     p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
const PASSWORD: &[u8] = b"pencil";

fn salt() -> Vec<u8> {
    crate::auth::crypto::decode_base64("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap()
}

fn server(doomed: Option<Refusal>) -> ExpectClientFirst {
    let verifier = ScramVerifier::from_password(PASSWORD, &salt(), 4096);
    ExpectClientFirst::new(verifier, "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".to_owned(), doomed)
}

#[test]
fn server_role() {
    let (next, reply) = server(None).client_first(CLIENT_FIRST.as_bytes()).unwrap();
    assert_eq!(reply, SERVER_FIRST);
    let (last, client_key) = next.client_final(CLIENT_FINAL.as_bytes()).unwrap();
    assert_eq!(last, SERVER_FINAL);
    assert_eq!(*client_key, ScramKeys::derive(PASSWORD, &salt(), 4096).client_key);
}

#[test]
fn server_role_when_doomed() {
    let (next, reply) = server(Some(Refusal::UnknownUser)).client_first(CLIENT_FIRST.as_bytes()).unwrap();
    assert_eq!(reply, SERVER_FIRST);
    assert_eq!(next.client_final(CLIENT_FINAL.as_bytes()).unwrap_err(), Refusal::UnknownUser);
}

#[test]
fn client_role() {
    let (state, first) = ExpectServerFirst::begin("user", "rOprNGfwEbeRWgbNEkqO".to_owned(), Flag::No);
    assert_eq!(first, CLIENT_FIRST);
    let derive = |salt: &[u8], rounds| Ok(ScramKeys::derive(PASSWORD, salt, rounds));
    let (state, last) = state.server_first(SERVER_FIRST.as_bytes(), derive).unwrap();
    assert_eq!(last, CLIENT_FINAL);
    state.server_final(SERVER_FINAL.as_bytes()).unwrap();
}

#[test]
fn client_role_rejects_another_signature() {
    let (state, _) = ExpectServerFirst::begin("user", "rOprNGfwEbeRWgbNEkqO".to_owned(), Flag::No);
    let derive = |salt: &[u8], rounds| Ok(ScramKeys::derive(b"pen", salt, rounds));
    let (state, _) = state.server_first(SERVER_FIRST.as_bytes(), derive).unwrap();
    assert_eq!(state.server_final(SERVER_FINAL.as_bytes()), Err(AnswerError::BadServerSignature));
}
