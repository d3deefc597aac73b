//! Fuzz targets: a login of each role against a peer that sends something else than it should.
//!
//! The bytes are instructions: which exchange it is, and what is done to each message on its way. Messages are made by
//! the other role, so that what is tampered with is a right exchange as far as it goes.

use std::sync::Arc;

use super::{
    Answerer, BackendSecret, Binding, Challenge, Channel, Credential, Login, Method, MockSecret, ScramVerifier, Step,
    StoredSecret, end_point,
};
use crate::config::ChannelBinding;

const USER: &str = "ann";
const PASSWORD: &str = "secret";

/// What is left of the instructions.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn byte(&mut self) -> u8 {
        let Some((byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *byte
    }

    /// The message as it arrives; half of all instructions leave it alone.
    fn tampered(&mut self, message: &[u8]) -> Vec<u8> {
        let mut out = message.to_vec();
        let op = self.byte();
        if op & 0x80 == 0 {
            return out;
        }
        let at = usize::from(self.byte()) % (out.len() + 1);
        let value = self.byte();
        match op & 7 {
            0 => {
                if let Some(byte) = out.get_mut(at) {
                    *byte ^= 1 << (value & 7);
                }
            }
            1 => out.truncate(at),
            2 => out.insert(at, value),
            3 => out.extend(message.iter().skip(at)),
            4 => drop(out.splice(at..out.len().min(at + 4), [0, 3, 4, value])),
            5 => drop(out.splice(at..out.len().min(at + 4), u32::MAX.to_be_bytes())),
            6 => drop(out.splice(at..at, [b',', b'a' | (value & 15), b'=', b'x'])),
            _ => {
                let (raw, rest) = self.0.split_at(usize::from(value).min(self.0.len()));
                self.0 = rest;
                out = raw.to_vec();
            }
        }
        out
    }
}

/// What an exchange is about.
struct Case {
    method: Method,
    stored: Option<Arc<Credential>>,
    /// Whether the client's password is the stored one.
    knows: bool,
    answerer: Answerer,
    /// What both could bind to.
    channel: Option<Vec<u8>>,
    /// Nothing but a bound exchange will do for the client.
    requires: bool,
}

fn case(choice: u8) -> Case {
    let method = match choice & 3 {
        0 | 3 => Method::ScramSha256,
        1 => Method::Md5,
        _ => Method::Plain,
    };
    let verifier = || ScramVerifier::from_password(PASSWORD.as_bytes(), b"salt of sixteen.", 2).to_string();
    let stored = if choice & 4 == 0 { PASSWORD.to_owned() } else { verifier() };
    let stored = Arc::new(Credential::new(StoredSecret::parse(stored), 2));
    let knows = choice & 0x18 != 0x18;
    let password = if knows { PASSWORD } else { "Secret" };
    let own = Arc::new(Credential::new(StoredSecret::parse(password), 2));
    let channel = (choice & 0x20 != 0).then(|| vec![7; 32]);
    let requires = choice & 0x40 != 0 && channel.is_some();
    let policy = if requires { ChannelBinding::Require } else { ChannelBinding::Prefer };
    let side = channel.clone().map_or(Channel::Plain, |data| Channel::Tls(Some(data)));
    let answerer = Answerer::new(USER, BackendSecret::Credential(own)).bound(Binding { policy, channel: side });
    let stored = (choice & 0x80 == 0).then_some(stored);
    Case { method, stored, knows, answerer, channel, requires }
}

/// The code of an Authentication message and what follows it.
fn encoded(challenge: &Challenge) -> (u32, Vec<u8>) {
    let list = |names: &[&str]| names.iter().flat_map(|name| [name.as_bytes(), b"\0"].concat()).chain([0]).collect();
    match challenge {
        Challenge::Cleartext => (3, Vec::new()),
        Challenge::Md5 { salt } => (5, salt.to_vec()),
        Challenge::Sasl => (10, list(&Challenge::MECHANISMS)),
        Challenge::SaslPlus => (10, list(&Challenge::MECHANISMS_PLUS)),
        Challenge::SaslContinue(data) => (11, data.clone()),
        Challenge::SaslFinal(data) => (12, data.clone()),
    }
}

/// The server's role: a client is admitted that knows the password and whose messages arrive as it sent them, and no
/// other.
///
/// # Panics
/// Where that is not so.
#[doc(hidden)]
pub fn fuzz_login(data: &[u8]) {
    let mut script = Script(data);
    let mut case = case(script.byte());
    let mock = MockSecret::from_key([1; 32], 2);
    let (mut login, mut step) =
        Login::begin_bindable(case.method, USER, case.stored.clone(), &mock, case.channel.clone());
    let (mut untouched, mut last) = (true, Vec::new());
    for _ in 0..8 {
        let challenge = match &step {
            Step::Ask(challenge) => challenge,
            Step::Admit { password, .. } => {
                let right = if case.method == Method::Plain {
                    is_right(&last, case.stored.as_deref())
                } else {
                    untouched && case.knows
                };
                assert!(right && case.stored.is_some(), "admitted");
                assert!(password.as_ref().is_none_or(|password| [password.as_bytes(), b"\0"].concat() == last));
                break;
            }
            Step::Refuse(refusal) => {
                assert!(!untouched || !case.knows || case.stored.is_none(), "refused a right client: {refusal:?}");
                break;
            }
        };
        let (code, body) = encoded(challenge);
        // A client that cannot go on sends what the script says.
        let reply = case.answerer.on_request(code, &body).ok().flatten();
        let right = reply.as_ref().map(|reply| reply.body().to_vec());
        let sent = script.tampered(right.as_deref().unwrap_or_default());
        untouched &= right.as_ref() == Some(&sent);
        step = login.answer(&sent);
        last = sent;
    }
    assert!(!matches!(step, Step::Ask(_)), "no exchange has so many messages");
    assert!(matches!(login.answer(b"secret\0"), Step::Refuse(_)), "a message after the end");
    let _ = end_point(data);
}

/// Whether a message is the password in the clear, be it by what was done to another one. To a verifier, which prepares
/// strings, one that is not ASCII may be the same.
fn is_right(message: &[u8], stored: Option<&Credential>) -> bool {
    let prepares = stored.is_some_and(|stored| matches!(stored.secret(), StoredSecret::Scram(_)));
    message.strip_suffix(b"\0").is_some_and(|text| text == PASSWORD.as_bytes() || (prepares && !text.is_ascii()))
}

/// The client's role: a SCRAM exchange ends well with a server that knows the secret and whose messages arrive as it
/// sent them, and with no other; a required binding is not left out.
///
/// # Panics
/// Where that is not so.
#[doc(hidden)]
pub fn fuzz_answer(data: &[u8]) {
    let mut script = Script(data);
    let mut case = case(script.byte());
    let mock = MockSecret::from_key([1; 32], 2);
    let (mut login, mut step) =
        Login::begin_bindable(case.method, USER, case.stored.clone(), &mock, case.channel.clone());
    let (mut begun, mut untouched, mut bound, mut finals) = (false, true, false, 0);
    for _ in 0..8 {
        let (code, body) = match &step {
            Step::Ask(challenge) => encoded(challenge),
            Step::Admit { last: Some(challenge), .. } => encoded(challenge),
            Step::Admit { last: None, .. } | Step::Refuse(_) => (0, Vec::new()),
        };
        let op = script.byte();
        let arriving = if op & 0xe0 == 0xe0 { u32::from(op & 0x0f) } else { code };
        let message = script.tampered(&body);
        // A million rounds may be asked for, and cost a second.
        if costly(&message) {
            return;
        }
        let reply = case.answerer.on_request(arriving, &message);
        let as_sent = arriving == code && message == body;
        // The list of mechanisms may differ where it makes no difference.
        untouched &= as_sent || (arriving, code) == (10, 10);
        finals += u32::from(arriving == 12 && reply.is_ok());
        match reply {
            Err(error) => {
                assert!(!case.answerer.is_ok() && !error.to_string().is_empty());
                break;
            }
            Ok(_) if case.answerer.is_ok() => break,
            Ok(Some(reply)) => {
                begun |= arriving == 10;
                bound |= arriving == 10 && reply.body().starts_with(b"SCRAM-SHA-256-PLUS\0");
                step = login.answer(reply.body());
            }
            Ok(None) => step = Step::Admit { last: None, password: None },
        }
    }
    if case.answerer.is_ok() {
        assert!(!begun || (untouched && finals == 1 && case.knows && case.stored.is_some()), "a server without proof");
        assert!(!begun || bound == case.channel.is_some(), "a binding that both could have is left out");
        assert!(!case.requires || bound, "a required binding is left out");
        assert!(case.answerer.on_request(0, b"").is_err() && !case.answerer.is_ok(), "a message after the end");
    }
}

/// Whether a message asks for more than 99 rounds and no more than are accepted.
fn costly(message: &[u8]) -> bool {
    let asked = message.windows(3).position(|bytes| bytes == b",i=").and_then(|at| message.get(at + 3..));
    asked.is_some_and(|digits| digits.iter().take_while(|byte| byte.is_ascii_digit()).count() > 2)
}
