//! Each method with each kind of stored secret and each kind of client.

use std::sync::Arc;

use super::{ITERATIONS, asked_text, credential, encoded, initial, mock, verifier};
use crate::auth::*;

const USER: &str = "alice";
/// `md5("secretalice")`.
const MD5: &str = "md54a0a68b43b6cd5cf266fa02f196e2371";

/// Runs a login with our own client role on the other side. Returns the codes that the client saw, and the end.
fn run(
    method: Method,
    stored: Option<&Arc<Credential>>,
    client: BackendSecret,
) -> (Vec<u32>, Result<Step, AnswerError>) {
    let (mut login, mut step) = Login::begin(method, USER, stored.cloned(), &mock());
    let mut answerer = Answerer::new(USER, client);
    let mut codes = Vec::new();
    loop {
        match &step {
            Step::Ask(challenge) => {
                let (code, body) = encoded(challenge);
                codes.push(code);
                let reply = match answerer.on_request(code, &body) {
                    Ok(reply) => reply.unwrap(),
                    Err(error) => return (codes, Err(error)),
                };
                step = login.answer(reply.body());
            }
            Step::Admit { last, .. } => {
                if let Some(challenge) = last {
                    let (code, body) = encoded(challenge);
                    codes.push(code);
                    assert_eq!(answerer.on_request(code, &body), Ok(None));
                }
                assert_eq!(answerer.on_request(0, b""), Ok(None));
                assert!(answerer.is_ok());
                break;
            }
            Step::Refuse(_) => break,
        }
    }
    assert_eq!(login.answer(b"secret\0"), Step::Refuse(Refusal::Malformed(Malformed::Unexpected)));
    (codes, Ok(step))
}

fn plain(password: &str) -> BackendSecret {
    BackendSecret::Credential(credential(password))
}

const CLEAR: &[u32] = &[3];
const MD5_ONLY: &[u32] = &[5];
const SCRAM: &[u32] = &[10, 11];

#[test]
fn each_method_with_each_stored_secret() {
    use Method::{Md5, Plain, ScramSha256, Trust};
    use Refusal::{NoUsableSecret, UnknownTrustedUser, UnknownUser, WrongPassword};
    let stored_verifier = verifier("secret");
    let kinds = [Some("secret"), Some(MD5), Some(stored_verifier.as_str()), Some(""), None];
    // For each kind of stored secret: what the client is asked, and how the right and a wrong password end.
    type Row = (&'static [u32], Option<Refusal>, Option<Refusal>);
    let wrong = Some(WrongPassword);
    let never = |codes: &'static [u32], refusal| (codes, Some(refusal), Some(refusal));
    let table: [(Method, [Row; 5]); 4] = [
        (
            Trust,
            [
                (&[], None, None),
                (&[], None, None),
                (&[], None, None),
                (&[], None, None),
                never(&[], UnknownTrustedUser),
            ],
        ),
        (
            Plain,
            [
                (CLEAR, None, wrong),
                (CLEAR, None, wrong),
                (CLEAR, None, wrong),
                never(CLEAR, NoUsableSecret),
                never(CLEAR, UnknownUser),
            ],
        ),
        (
            Md5,
            [
                (MD5_ONLY, None, wrong),
                (MD5_ONLY, None, wrong),
                (SCRAM, None, wrong),
                never(MD5_ONLY, NoUsableSecret),
                never(MD5_ONLY, UnknownUser),
            ],
        ),
        (
            ScramSha256,
            [
                (SCRAM, None, wrong),
                never(SCRAM, NoUsableSecret),
                (SCRAM, None, wrong),
                never(SCRAM, NoUsableSecret),
                never(SCRAM, UnknownUser),
            ],
        ),
    ];
    for (method, rows) in table {
        for (kind, (asked, with_right, with_wrong)) in kinds.iter().zip(rows) {
            let stored = kind.map(credential);
            for (password, expected) in [("secret", with_right), ("Secret", with_wrong)] {
                let (codes, end) = run(method, stored.as_ref(), plain(password));
                let what = format!("{method:?} {kind:?} {password}");
                match (end.unwrap(), expected) {
                    (Step::Refuse(refusal), Some(expected)) => {
                        assert_eq!(refusal, expected, "{what}");
                        assert_eq!(codes, asked, "{what}");
                    }
                    (Step::Admit { last, password: proven }, None) => {
                        let shown = (method == Plain).then(|| Password::new(password.as_bytes()));
                        assert_eq!(proven, shown, "{what}");
                        assert_eq!(last.is_some(), asked == SCRAM, "{what}");
                        assert_eq!(codes.strip_suffix(&[12]).unwrap_or(&codes), asked, "{what}");
                    }
                    (end, expected) => panic!("{what}: {end:?} instead of {expected:?}"),
                }
            }
        }
    }
}

#[test]
fn an_empty_password_is_refused_before_anything_else() {
    for stored in [Some(credential("secret")), Some(credential("")), None] {
        for method in [Method::Plain, Method::Md5] {
            let (mut login, _) = Login::begin(method, USER, stored.clone(), &mock());
            assert_eq!(login.answer(b"\0"), Step::Refuse(Refusal::EmptyPassword));
        }
    }
}

#[test]
fn what_the_client_role_can_answer() {
    let (cleartext, md5, scram) = (3, 5, 10);
    let stored_verifier = verifier("secret");
    let table = [
        (plain("secret"), [Ok(()), Ok(()), Ok(())]),
        (plain(MD5), [Err(AnswerError::WrongSecretType), Ok(()), Err(AnswerError::WrongSecretType)]),
        (plain(&stored_verifier), [Err(AnswerError::WrongSecretType); 3]),
        (plain(""), [Err(AnswerError::NoPassword); 3]),
        (BackendSecret::None, [Err(AnswerError::NoPassword); 3]),
        (plain("se\0cret"), [Err(AnswerError::WrongSecretType), Ok(()), Ok(())]),
    ];
    let bodies = [(cleartext, b"".as_slice()), (md5, b"salt"), (scram, b"SCRAM-SHA-256\0\0")];
    for (secret, expected) in table {
        for ((code, body), expected) in bodies.into_iter().zip(expected) {
            let answered = Answerer::new(USER, secret.clone()).on_request(code, body);
            assert_eq!(answered.map(|reply| assert!(reply.is_some())), expected, "{secret:?} {code}");
        }
    }
}

#[test]
fn md5_answers_are_known_ones() {
    // md5(hex(md5("secretalice")) || "salt"), worked out with md5sum.
    let expected = b"md5986e2194384c07f4fd1df4b1351b3e68\0".as_slice();
    for secret in ["secret", MD5] {
        let reply = Answerer::new(USER, plain(secret)).on_request(5, b"salt").unwrap().unwrap();
        assert_eq!(reply.body(), expected, "{secret}");
    }
}

#[test]
fn a_server_that_asks_nothing_needs_no_secret() {
    let mut answerer = Answerer::new(USER, BackendSecret::None);
    assert_eq!(answerer.on_request(0, b""), Ok(None));
    assert!(answerer.is_ok());
}

#[test]
fn rounds_are_paid_once() {
    let client = credential("secret");
    for (stored, method, expected) in [
        (credential("secret"), Method::ScramSha256, 1),
        (credential(&verifier("secret")), Method::ScramSha256, 0),
        (credential(&verifier("secret")), Method::Plain, 1),
        (credential("secret"), Method::Plain, 0),
        (credential(MD5), Method::Plain, 0),
    ] {
        for _ in 0..5 {
            let (_, end) = run(method, Some(&stored), BackendSecret::Credential(Arc::clone(&client)));
            assert!(matches!(end, Ok(Step::Admit { .. })));
        }
        assert_eq!(stored.derivations(), expected, "{stored:?} {method:?}");
    }
    // Two salts, met five times each: that of the verifier, and the one that the first credential chose.
    assert_eq!(client.derivations(), 2);
}

#[test]
fn a_verifier_of_endless_rounds_is_not_paid_for() {
    let endless = verifier("secret").replacen("$5:", "$2000000000:", 1);
    let stored = credential(&endless);
    let (_, end) = run(Method::Plain, Some(&stored), plain("secret"));
    assert_eq!(end, Ok(Step::Refuse(Refusal::NoUsableSecret)));
    assert_eq!(stored.derivations(), 0);
    let (_, end) = run(Method::ScramSha256, Some(&stored), plain("secret"));
    assert_eq!(end, Err(AnswerError::IterationsOutOfRange(2_000_000_000)));
}

#[test]
fn non_ascii_passwords_are_prepared_on_both_sides() {
    let stored = credential(&verifier("IX\u{aa}"));
    let (_, end) = run(Method::ScramSha256, Some(&stored), plain("\u{2168}\u{ad}a"));
    assert!(matches!(end, Ok(Step::Admit { .. })));
}

/// A login with the stored verifier, by SCRAM or with the password itself, and what PostgreSQL is told afterwards.
#[test]
fn a_login_reveals_the_keys_for_the_same_verifier() {
    let server = credential(&verifier("secret"));
    for method in [Method::ScramSha256, Method::Md5, Method::Plain] {
        let stored = credential(&verifier("secret"));
        let keys = BackendSecret::Keys(Arc::clone(&stored));
        assert!(keys.awaits_login());
        assert_eq!(run(Method::ScramSha256, Some(&server), keys.clone()).1, Err(AnswerError::NoKeys));
        let (_, end) = run(method, Some(&stored), plain("wrong"));
        assert_eq!(end, Ok(Step::Refuse(Refusal::WrongPassword)));
        assert!(keys.awaits_login());
        let (_, end) = run(method, Some(&stored), plain("secret"));
        assert!(matches!(end, Ok(Step::Admit { .. })), "{end:?}");
        assert!(!keys.awaits_login());
        let (codes, end) = run(Method::ScramSha256, Some(&server), keys.clone());
        assert!(matches!(end, Ok(Step::Admit { .. })), "{end:?}");
        assert_eq!(codes, [10, 11, 12]);
        // Nothing but SCRAM, and nothing for another salt or other rounds.
        for method in [Method::Plain, Method::Md5] {
            let (_, end) = run(method, Some(&credential(MD5)), keys.clone());
            assert_eq!(end, Err(AnswerError::WrongSecretType), "{method:?}");
        }
        for other in
            [verifier("secret").replacen("$5:MDEy", "$5:MDEz", 1), verifier("secret").replacen("$5:", "$6:", 1)]
        {
            assert_ne!(other, verifier("secret"));
            let (_, end) = run(Method::ScramSha256, Some(&credential(&other)), keys.clone());
            assert_eq!(end, Err(AnswerError::OtherVerifier), "{other}");
        }
        // The very same credential without the keys, as a forced user has it.
        let (_, end) = run(Method::ScramSha256, Some(&server), BackendSecret::Credential(stored));
        assert_eq!(end, Err(AnswerError::WrongSecretType));
    }
}

#[test]
fn a_plain_secret_reveals_nothing() {
    let stored = credential("secret");
    let (_, end) = run(Method::ScramSha256, Some(&stored), plain("secret"));
    assert!(matches!(end, Ok(Step::Admit { .. })));
    assert!(BackendSecret::Keys(stored).awaits_login());
}

#[test]
fn an_empty_challenge_asks_for_a_missing_initial_response() {
    let (mut login, _) = Login::begin(Method::ScramSha256, USER, Some(credential("secret")), &mock());
    let step = login.answer(b"SCRAM-SHA-256\0\xff\xff\xff\xff");
    assert_eq!(step, Step::Ask(Challenge::SaslContinue(Vec::new())));
    let reply = asked_text(&login.answer(b"y,,n=ignored,r=abc"));
    assert!(reply.starts_with("r=abc"), "{reply}");
}

/// The parts of server-first-message: length of the nonce, salt, iterations.
fn server_first(user: &str, stored: Option<Arc<Credential>>) -> (usize, String, String) {
    let (mut login, step) = Login::begin(Method::ScramSha256, user, stored, &mock());
    assert_eq!(step, Step::Ask(Challenge::Sasl));
    let reply = asked_text(&login.answer(&initial("n,,n=,r=abc")));
    let (nonce, rest) = reply.split_once(",s=").unwrap();
    let (salt, iterations) = rest.split_once(",i=").unwrap();
    (nonce.len(), salt.to_owned(), iterations.to_owned())
}

#[test]
fn a_mock_exchange_looks_like_a_real_one() {
    let real = server_first("alice", Some(credential("secret")));
    let unknown = server_first("bob", None);
    let unusable = server_first("carol", Some(credential(MD5)));
    for mocked in [&unknown, &unusable] {
        assert_eq!((mocked.0, mocked.1.len(), &mocked.2), (real.0, real.1.len(), &real.2));
    }
    assert_eq!(real.2, ITERATIONS.to_string());
    assert_eq!(unknown, server_first("bob", None), "the salt of an unknown user does not change");
    assert_ne!(unknown.1, server_first("bobby", None).1);
    assert_ne!(unknown.1, unusable.1);
}

#[test]
fn mock_secrets_differ_between_processes_and_keep_their_key_over_a_reload() {
    let salt = |mock: &MockSecret| {
        let (mut login, _) = Login::begin(Method::ScramSha256, "bob", None, mock);
        let reply = asked_text(&login.answer(&initial("n,,n=,r=abc")));
        reply.split_once(",s=").unwrap().1.to_owned()
    };
    let one = MockSecret::new(9).unwrap();
    assert_ne!(salt(&one), salt(&MockSecret::new(9).unwrap()));
    assert_eq!(salt(&one), salt(&one.with_iterations(9)));
    assert!(salt(&one.with_iterations(10)).ends_with(",i=10"));
}
