//! Channel binding, in both roles.

use super::{credential, encoded, mock};
use crate::auth::{
    AnswerError, Answerer, BackendSecret, Binding, Challenge, Channel, Login, Method, Refusal, Step, end_point,
};
use crate::config::ChannelBinding;

const OURS: &[u8] = b"hash of our certificate";

fn begin(end_point: Option<&[u8]>) -> (Login, Step) {
    let stored = Some(credential("secret"));
    Login::begin_bindable(Method::ScramSha256, "alice", stored, &mock(), end_point.map(<[u8]>::to_vec))
}

fn answerer(policy: ChannelBinding, channel: Channel) -> Answerer {
    Answerer::new("alice", BackendSecret::Credential(credential("secret"))).bound(Binding { policy, channel })
}

/// Both talk until one of them gives up or the client is admitted.
fn talk(mut server: (Login, Step), mut client: Answerer) -> Result<Vec<u8>, String> {
    let mut first = Vec::new();
    loop {
        match server.1 {
            Step::Ask(challenge) => {
                let (code, body) = encoded(&challenge);
                let reply = client.on_request(code, &body).map_err(|error| error.to_string())?.unwrap();
                if first.is_empty() {
                    first = reply.body().to_vec();
                }
                server.1 = server.0.answer(reply.body());
            }
            Step::Admit { last, .. } => {
                let (code, body) = encoded(&last.unwrap());
                client.on_request(code, &body).map_err(|error| error.to_string())?;
                client.on_request(0, b"").map_err(|error| error.to_string())?;
                return Ok(first);
            }
            Step::Refuse(refusal) => return Err(refusal.to_string()),
        }
    }
}

#[test]
fn each_policy_meets_each_server() {
    use ChannelBinding::{Disable, Prefer, Require};

    let same = || Channel::Tls(Some(OURS.to_vec()));
    let other = || Channel::Tls(Some(b"hash of somebody else's".to_vec()));
    let refused = |refusal: Refusal| Err(refusal.to_string());
    let stopped = |error: AnswerError| Err(error.to_string());
    let table = [
        (Prefer, same(), Some(OURS), Ok("SCRAM-SHA-256-PLUS p=tls-server-end-point,,")),
        (Require, same(), Some(OURS), Ok("SCRAM-SHA-256-PLUS p=tls-server-end-point,,")),
        (Disable, same(), Some(OURS), Ok("SCRAM-SHA-256 n,,")),
        (Prefer, same(), None, Ok("SCRAM-SHA-256 y,,")),
        (Disable, same(), None, Ok("SCRAM-SHA-256 n,,")),
        (Require, same(), None, stopped(AnswerError::NotBound)),
        (Prefer, Channel::Plain, None, Ok("SCRAM-SHA-256 n,,")),
        (Require, Channel::Plain, None, stopped(AnswerError::NotBound)),
        (Prefer, other(), Some(OURS), refused(Refusal::ChannelBinding)),
        (Require, other(), Some(OURS), refused(Refusal::ChannelBinding)),
        (Prefer, Channel::Tls(None), Some(OURS), stopped(AnswerError::NoEndPoint)),
        (Disable, Channel::Tls(None), Some(OURS), Ok("SCRAM-SHA-256 n,,")),
        (Prefer, Channel::Tls(None), None, Ok("SCRAM-SHA-256 y,,")),
    ];
    for (policy, channel, offered, expected) in table {
        let said = format!("{policy}, {channel:?}, {offered:?}");
        let found = talk(begin(offered), answerer(policy, channel));
        match (found, expected) {
            (Ok(first), Ok(expected)) => {
                let (mechanism, header) = expected.split_once(' ').unwrap();
                let rest = first.strip_prefix(mechanism.as_bytes()).unwrap_or_else(|| panic!("{said}: {first:?}"));
                assert!(rest[0] == 0 && rest[5..].starts_with(header.as_bytes()), "{said}");
            }
            (found, expected) => assert_eq!(found.err(), expected.err(), "{said}"),
        }
    }
}

#[test]
fn a_login_that_must_be_bound_takes_no_other_method() {
    let channel = Channel::Tls(Some(OURS.to_vec()));
    for (code, body) in [(0, b"".as_slice()), (3, b""), (5, b"salt"), (10, b"SCRAM-SHA-256\0\0")] {
        let mut answerer = answerer(ChannelBinding::Require, channel.clone());
        assert_eq!(answerer.on_request(code, body), Err(AnswerError::NotBound), "{code}");
    }
}

fn initial(mechanism: &str, message: &str) -> Vec<u8> {
    let mut body = format!("{mechanism}\0").into_bytes();
    body.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    body.extend_from_slice(message.as_bytes());
    body
}

#[test]
fn what_a_client_says_of_binding_has_to_fit() {
    let plain = "SCRAM-SHA-256";
    let plus = "SCRAM-SHA-256-PLUS";
    let table = [
        (Some(OURS), plain, "n", None),
        (Some(OURS), plain, "y", Some(Refusal::Downgraded)),
        (Some(OURS), plain, "p=tls-server-end-point", Some(Refusal::ChannelBinding)),
        (Some(OURS), plus, "p=tls-server-end-point", None),
        (Some(OURS), plus, "p=tls-unique", Some(Refusal::ChannelBinding)),
        (Some(OURS), plus, "p=", Some(Refusal::ChannelBinding)),
        (Some(OURS), plus, "n", Some(Refusal::ChannelBinding)),
        (Some(OURS), plus, "y", Some(Refusal::Downgraded)),
        (None, plain, "y", None),
        (None, plain, "p=tls-server-end-point", Some(Refusal::ChannelBinding)),
        (None, plus, "p=tls-server-end-point", Some(Refusal::UnsupportedMechanism)),
    ];
    for (offered, mechanism, flag, expected) in table {
        let (mut login, step) = begin(offered);
        let challenge = if offered.is_some() { Challenge::SaslPlus } else { Challenge::Sasl };
        assert_eq!(step, Step::Ask(challenge));
        let step = login.answer(&initial(mechanism, &format!("{flag},,n=,r=abc")));
        match (step, expected) {
            (Step::Ask(Challenge::SaslContinue(_)), None) => {}
            // With a mechanism that binds it makes no difference why the client does not.
            (Step::Refuse(Refusal::ChannelBinding), Some(Refusal::Downgraded)) if mechanism == plus => {}
            (step, expected) => assert_eq!(Some(step), expected.map(Step::Refuse), "{mechanism} {flag}"),
        }
    }
}

#[test]
fn a_certificate_that_cannot_be_read_has_no_end_point() {
    for der in [b"".as_slice(), b"\x30\x03\x02\x01\x01", &[0x30; 64]] {
        assert_eq!(end_point(der), None);
    }
}
