//! Messages that must be refused, each for its reason, and bytes of no meaning at all.

use proptest::collection::vec;
use proptest::prelude::*;

use super::{asked_text, credential, initial, mock, verifier};
use crate::auth::crypto::{encode_base64, hmac, sha256};
use crate::auth::secret::ScramKeys;
use crate::auth::*;

fn begin(secret: &str) -> Login {
    Login::begin(Method::ScramSha256, "alice", Some(credential(secret)), &mock()).0
}

#[test]
fn initial_responses() {
    let table: [(&[u8], Refusal); 9] = [
        (b"", Malformed::Terminator.into()),
        (b"SCRAM-SHA-256", Malformed::Terminator.into()),
        (b"SCRAM-SHA-256\0\0\0", Malformed::Short.into()),
        (b"SCRAM-SHA-256\0\0\0\0\x09n,,", Malformed::Length.into()),
        (b"SCRAM-SHA-256\0\x80\0\0\0n,,", Malformed::Length.into()),
        (b"SCRAM-SHA-256\0\0\0\0\0", Malformed::Empty.into()),
        (b"SCRAM-SHA-256-PLUS\0\0\0\0\x01n", Refusal::UnsupportedMechanism),
        (b"\0\0\0\0\x01n", Refusal::UnsupportedMechanism),
        (b"scram-sha-256\0\0\0\0\x01n", Refusal::UnsupportedMechanism),
    ];
    for (body, refusal) in table {
        assert_eq!(begin("secret").answer(body), Step::Refuse(refusal), "{body:?}");
    }
}

#[test]
fn client_first_messages() {
    let long_nonce = format!("n,,n=,r={}", "x".repeat(257));
    let long = format!("n,,n=,r=abc,x={}", "x".repeat(1024));
    let table: [(&str, Refusal); 20] = [
        ("n", Malformed::Gs2Header.into()),
        ("n,", Malformed::Gs2Header.into()),
        ("x,,n=,r=abc", Malformed::Gs2Header.into()),
        ("n,b=x,n=,r=abc", Malformed::Gs2Header.into()),
        ("p=tls-server-end-point,,n=,r=abc", Refusal::ChannelBinding),
        ("n,a=bob,n=,r=abc", Refusal::AuthorizationIdentity),
        ("n,,m=x,n=,r=abc", Refusal::MandatoryExtension),
        ("n,,n=,r=abc,m=x", Refusal::MandatoryExtension),
        ("n,,", Malformed::BadAttribute.into()),
        ("n,,r=abc", Malformed::Attribute('n').into()),
        ("n,,n=", Malformed::Attribute('r').into()),
        ("n,,n=,x=y,r=abc", Malformed::Attribute('r').into()),
        ("n,,n=,r=", Malformed::Nonce.into()),
        ("n,,n=,r=a b", Malformed::Nonce.into()),
        ("n,,n=,r=ä", Malformed::Nonce.into()),
        (&long_nonce, Malformed::Nonce.into()),
        ("n,,n=,r=abc,", Malformed::BadAttribute.into()),
        ("n,,n=,r=abc,xy=z", Malformed::BadAttribute.into()),
        ("n,,n=\0,r=abc", Malformed::Text.into()),
        (&long, Malformed::Long.into()),
    ];
    for (message, refusal) in table {
        assert_eq!(begin("secret").answer(&initial(message)), Step::Refuse(refusal), "{message}");
    }
    let mut body = b"SCRAM-SHA-256\0\0\0\0\x02".to_vec();
    body.extend_from_slice(b"\xff\xfe");
    assert_eq!(begin("secret").answer(&body), Step::Refuse(Malformed::Text.into()));
    let accepted = begin("secret").answer(&initial("y,,n=b=c,r=!~,x=y,z="));
    assert!(asked_text(&accepted).starts_with("r=!~"));
}

/// The final message of a client that knows the password, with each of its parts replaceable.
fn client_final(server_first: &str, head: impl Fn(&str) -> String) -> String {
    let nonce = server_first.split(',').next().unwrap();
    let without_proof = head(nonce);
    let auth_message = format!("n=,r=abc,{server_first},{without_proof}");
    let keys = ScramKeys::derive(b"secret", b"0123456789abcdef", super::ITERATIONS);
    let signature = hmac(&sha256(&keys.client_key), auth_message.as_bytes());
    let proof: Vec<u8> = keys.client_key.iter().zip(signature).map(|(key, byte)| key ^ byte).collect();
    format!("{without_proof},p={}", encode_base64(&proof))
}

#[test]
fn client_final_messages() {
    // Flag of the GS2 header, the message up to the proof, what is done to the whole, how it ends.
    type Head = fn(&str) -> String;
    type Edit = fn(String) -> String;
    type Row = (&'static str, Head, Edit, Option<Refusal>);
    let same: Edit = |message| message;
    let plain_head: Head = |nonce| format!("c=biws,{nonce}");
    let table: [Row; 17] = [
        ("n", plain_head, same, None),
        ("y", |nonce| format!("c=eSws,{nonce}"), same, None),
        ("n", |nonce| format!("c=biws,{nonce},x=y"), same, None),
        ("n", |nonce| format!("c=eSws,{nonce}"), same, Some(Refusal::ChannelBinding)),
        ("y", plain_head, same, Some(Refusal::ChannelBinding)),
        ("n", |nonce| format!("c=,{nonce}"), same, Some(Refusal::ChannelBinding)),
        ("n", |nonce| format!("c=b*ws,{nonce}"), same, Some(Malformed::Base64.into())),
        ("n", |nonce| format!("{nonce},c=biws"), same, Some(Malformed::Attribute('c').into())),
        ("n", |nonce| format!("c=biws,{nonce}x"), same, Some(Malformed::NonceMismatch.into())),
        ("n", |_| "c=biws,r=abc".to_owned(), same, Some(Malformed::NonceMismatch.into())),
        ("n", |nonce| format!("c=biws,{nonce},m=x"), same, Some(Refusal::MandatoryExtension)),
        ("n", plain_head, |message| message + ",x=y", Some(Malformed::Trailing.into())),
        ("n", plain_head, |message| message + ",", Some(Malformed::Trailing.into())),
        ("n", plain_head, |message| message + "A", Some(Malformed::Proof.into())),
        (
            "n",
            plain_head,
            |message| message.split(",p=").next().unwrap().to_owned(),
            Some(Malformed::Attribute('p').into()),
        ),
        (
            "n",
            plain_head,
            |message| message.split(",p=").next().unwrap().to_owned() + ",p=AAAA",
            Some(Malformed::Proof.into()),
        ),
        ("n", plain_head, |_| String::new(), Some(Malformed::Empty.into())),
    ];
    for (flag, head, edit, expected) in table {
        let mut login = begin(&verifier("secret"));
        let server_first = asked_text(&login.answer(&initial(&format!("{flag},,n=,r=abc"))));
        let message = edit(client_final(&server_first, head));
        match (login.answer(message.as_bytes()), expected) {
            (Step::Admit { .. }, None) => {}
            (Step::Refuse(refusal), Some(expected)) => assert_eq!(refusal, expected, "{message}"),
            (end, expected) => panic!("{message}: {end:?} instead of {expected:?}"),
        }
    }
}

#[test]
fn password_messages() {
    for method in [Method::Plain, Method::Md5] {
        for body in [b"".as_slice(), b"secret", b"sec\0ret\0"] {
            let (mut login, _) = Login::begin(method, "alice", Some(credential("secret")), &mock());
            assert_eq!(login.answer(body), Step::Refuse(Malformed::Terminator.into()), "{body:?}");
        }
    }
}

fn answerer() -> Answerer {
    Answerer::new("alice", BackendSecret::Credential(credential("secret")))
}

/// An answerer that has sent its first SCRAM message, and its nonce.
fn after_first() -> (Answerer, String) {
    let mut answerer = answerer();
    let reply = answerer.on_request(10, b"SCRAM-SHA-256\0\0").unwrap().unwrap();
    let text = String::from_utf8(reply.body()[18..].to_vec()).unwrap();
    (answerer, text.strip_prefix("n,,n=,r=").unwrap().to_owned())
}

#[test]
fn first_requests() {
    let table: [(u32, &[u8], AnswerError); 14] = [
        (0, b"x", Malformed::Trailing.into()),
        (3, b"x", Malformed::Trailing.into()),
        (5, b"", Malformed::Length.into()),
        (5, b"salty", Malformed::Length.into()),
        (10, b"", Malformed::Terminator.into()),
        (10, b"SCRAM-SHA-256", Malformed::Terminator.into()),
        (10, b"SCRAM-SHA-256-PLUS\0\0", AnswerError::UnsupportedMechanism),
        (11, b"r=abc", Malformed::Unexpected.into()),
        (12, b"v=", Malformed::Unexpected.into()),
        (2, b"", AnswerError::Unsupported(2)),
        (6, b"", AnswerError::Unsupported(6)),
        (7, b"", AnswerError::Unsupported(7)),
        (9, b"", AnswerError::Unsupported(9)),
        (u32::MAX, b"", AnswerError::Unsupported(u32::MAX)),
    ];
    for (code, body, error) in table {
        let mut answerer = answerer();
        assert_eq!(answerer.on_request(code, body), Err(error), "{code} {body:?}");
        assert_eq!(answerer.on_request(0, b""), Err(Malformed::Unexpected.into()), "an error is the end");
        assert!(!answerer.is_ok());
    }
}

#[test]
fn server_first_messages() {
    let table = [
        ("r=NONCEx,s=c2FsdA==,i=1", None),
        ("r=NONCEx,s=c2FsdA==,i=1,x=y", None),
        ("", Some(Malformed::Empty.into())),
        ("r=NONCEx\0,s=c2FsdA==,i=1", Some(Malformed::Text.into())),
        ("m=x,r=NONCEx,s=c2FsdA==,i=1", Some(AnswerError::MandatoryExtension)),
        ("r=NONCEx,s=c2FsdA==,i=1,m=x", Some(AnswerError::MandatoryExtension)),
        ("r=NONCE,s=c2FsdA==,i=1", Some(AnswerError::NonceMismatch)),
        ("r=other,s=c2FsdA==,i=1", Some(AnswerError::NonceMismatch)),
        ("r=,s=c2FsdA==,i=1", Some(Malformed::Nonce.into())),
        ("r=NONCE ,s=c2FsdA==,i=1", Some(Malformed::Nonce.into())),
        ("s=c2FsdA==,r=NONCEx,i=1", Some(Malformed::Attribute('r').into())),
        ("r=NONCEx,i=1", Some(Malformed::Attribute('s').into())),
        ("r=NONCEx,s=c2FsdA==", Some(Malformed::Attribute('i').into())),
        ("r=NONCEx,s=c2FsdA,i=1", Some(Malformed::Base64.into())),
        ("r=NONCEx,s=c2FsdA==,i=", Some(Malformed::Iterations.into())),
        ("r=NONCEx,s=c2FsdA==,i=-1", Some(Malformed::Iterations.into())),
        ("r=NONCEx,s=c2FsdA==,i=+1", Some(Malformed::Iterations.into())),
        ("r=NONCEx,s=c2FsdA==,i=99999999999", Some(AnswerError::IterationsOutOfRange(99_999_999_999))),
        ("r=NONCEx,s=c2FsdA==,i=0000000000000000000000000000000000000000001", Some(Malformed::Iterations.into())),
        ("r=NONCEx,s=c2FsdA==,i=0", Some(AnswerError::IterationsOutOfRange(0))),
        ("r=NONCEx,s=c2FsdA==,i=1000001", Some(AnswerError::IterationsOutOfRange(1_000_001))),
        ("r=NONCEx,s=c2FsdA==,i=1,", Some(Malformed::BadAttribute.into())),
    ];
    for (message, expected) in table {
        let (mut answerer, nonce) = after_first();
        let answered = answerer.on_request(11, message.replace("NONCE", &nonce).as_bytes());
        assert_eq!(answered.err(), expected, "{message}");
    }
}

#[test]
fn server_final_messages() {
    let zeros = format!("v={}", encode_base64(&[0; 32]));
    let trailing = format!("{zeros},x=y");
    let table: [(u32, &str, AnswerError); 10] = [
        (0, "", AnswerError::Incomplete),
        (12, "", Malformed::Empty.into()),
        (12, &zeros, AnswerError::BadServerSignature),
        (12, &trailing, Malformed::Trailing.into()),
        (12, "v=AAAA", Malformed::Proof.into()),
        (12, "x=AAAA", Malformed::Attribute('v').into()),
        (12, "e=other-error", AnswerError::ServerRefused),
        (11, "r=again", Malformed::Unexpected.into()),
        (10, "SCRAM-SHA-256\0\0", Malformed::Unexpected.into()),
        (3, "", Malformed::Unexpected.into()),
    ];
    for (code, body, error) in table {
        let (mut answerer, nonce) = after_first();
        answerer.on_request(11, format!("r={nonce}x,s=c2FsdA==,i=1").as_bytes()).unwrap();
        assert_eq!(answerer.on_request(code, body.as_bytes()), Err(error), "{code} {body}");
        assert_eq!(answerer.on_request(0, b""), Err(Malformed::Unexpected.into()));
        assert!(!answerer.is_ok());
    }
    let (mut answerer, _) = after_first();
    assert_eq!(answerer.on_request(0, b""), Err(AnswerError::Incomplete));
}

#[test]
fn nothing_is_answered_twice() {
    let mut answerer = answerer();
    answerer.on_request(5, b"salt").unwrap();
    assert_eq!(answerer.on_request(3, b""), Err(Malformed::Unexpected.into()));
}

/// Bytes that get past the first checks more often than uniform ones.
fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop_oneof![
        vec(any::<u8>(), 0..40),
        "[nyp=a,]{0,6}(n=[a-z]{0,3})?,?(r=[!-~]{0,8})?(,[a-z]=[a-z]{0,3}){0,2}".prop_map(String::into_bytes),
        "c=(biws|eSws),r=[!-~]{0,8},p=[A-Za-z0-9+/]{43}=".prop_map(String::into_bytes),
        "[a-z]{0,8}\0".prop_map(String::into_bytes),
    ];
    prop_oneof![
        pieces.clone(),
        pieces.prop_map(|message| {
            let mut body = b"SCRAM-SHA-256\0".to_vec();
            body.extend_from_slice(&u32::try_from(message.len()).unwrap_or(0).to_be_bytes());
            body.extend_from_slice(&message);
            body
        }),
    ]
}

proptest! {
    #[test]
    fn no_bytes_admit_a_client(answers in vec(bodies(), 1..5), method in 0..3, stored in 0..4) {
        let method = [Method::Plain, Method::Md5, Method::ScramSha256][usize::try_from(method).unwrap()];
        // Longer than what the strategy makes, so that no guess is right.
        let secret = "correct horse battery";
        let stored = match stored {
            0 => None,
            1 => Some(credential(secret)),
            2 => Some(credential("md5abcdef0123456789abcdef0123456789")),
            _ => Some(credential(&verifier(secret))),
        };
        let (mut login, _) = Login::begin(method, "alice", stored, &mock());
        for answer in answers {
            let step = login.answer(&answer);
            prop_assert!(!matches!(step, Step::Admit { .. }), "{step:?}");
        }
    }

    #[test]
    fn no_bytes_end_a_scram_login_to_a_server(requests in vec((0_u32..14, bodies()), 1..5)) {
        let (mut answerer, nonce) = after_first();
        answerer.on_request(11, format!("r={nonce}x,s=c2FsdA==,i=2").as_bytes()).unwrap();
        for (code, body) in requests {
            let answered = answerer.on_request(code, &body);
            prop_assert!(answered.is_err());
        }
        prop_assert!(!answerer.is_ok());
    }

    #[test]
    fn no_bytes_panic_the_client_role(requests in vec((0_u32..14, bodies()), 1..5)) {
        let mut answerer = answerer();
        for (code, body) in requests {
            let _ = answerer.on_request(code, &body);
        }
    }

    #[test]
    fn no_text_fails_to_be_a_secret(text in any::<Vec<u8>>(), tail in "[0-9:$A-Za-z=]{0,60}") {
        let _ = StoredSecret::parse(&text);
        let _ = StoredSecret::parse(format!("SCRAM-SHA-256${tail}"));
    }

    #[test]
    fn a_verifier_survives_its_text(password in any::<Vec<u8>>(), salt in vec(any::<u8>(), 0..40), rounds in 1_u32..4) {
        let verifier = ScramVerifier::from_password(&password, &salt, rounds);
        prop_assert_eq!(StoredSecret::parse(verifier.to_string()), StoredSecret::Scram(verifier));
    }
}
