//! The packets without a type byte that open a connection: StartupMessage, SSLRequest, GSSENCRequest, CancelRequest.
//!
//! Source: `protocol-message-formats.html`, `protocol-flow.html` (Start-up), and for `options` the manual's page of the
//! server program (`app-postgres.html`: `-c name=value`, `--name=value`, backslash escapes as in `libpq-connect.html`).

use super::view::{cstr, int32};

/// Request code of CancelRequest, 1234.5678.
pub const CANCEL_CODE: u32 = 80_877_102;
/// Request code of SSLRequest, 1234.5679.
pub const SSL_CODE: u32 = 80_877_103;
/// Request code of GSSENCRequest, 1234.5680.
pub const GSSENC_CODE: u32 = 80_877_104;

/// Largest length word of an opening packet, bytes (PostgreSQL's `MAX_STARTUP_PACKET_LENGTH`).
pub const MAX_PACKET: u32 = 10_000;
/// Smallest one: the length word and a request code.
pub const MIN_PACKET: u32 = 8;

/// The newest minor version of protocol 3 that is spoken here.
pub const NEWEST_MINOR: u16 = 2;

/// An opening packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// SSLRequest.
    Ssl,
    /// GSSENCRequest.
    GssEnc,
    /// CancelRequest: somebody else's process id and secret (4 to 256 bytes).
    Cancel {
        /// Process id of BackendKeyData.
        process_id: u32,
        /// Secret of BackendKeyData.
        secret: Vec<u8>,
    },
    /// StartupMessage of protocol 3.
    Start(Startup),
}

/// What a connection replicates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replication {
    /// Nothing: it is for queries.
    #[default]
    None,
    /// The whole cluster; it belongs to no database.
    Physical,
    /// One database; queries of the simple protocol are taken, too.
    Logical,
}

impl Replication {
    /// As SHOW CLIENTS and SHOW SERVERS call it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Replication::None => "none",
            Replication::Physical => "physical",
            Replication::Logical => "logical",
        }
    }
}

/// A StartupMessage, its `options` taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Startup {
    /// Minor version that the client asked for.
    pub minor: u16,
    /// `user`.
    pub user: String,
    /// `database`; the user's name where it is missing.
    pub database: String,
    /// `replication`.
    pub replication: Replication,
    /// Every other parameter, in order, those of `options` first as PostgreSQL applies them.
    pub settings: Vec<(String, String)>,
    /// How many of them, at the start, are of `options`.
    pub of_options: usize,
    /// `_pq_.` protocol options, none of which is known here.
    pub protocol_options: Vec<String>,
}

/// Why an opening packet cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartupError {
    /// The length word is below 8 or above 10,000.
    #[error("invalid length of startup packet")]
    Length,
    /// Protocol 2 or one that PostgreSQL never had.
    #[error("unsupported frontend protocol {0}.{1}: server supports 3.0 to 3.2")]
    Protocol(u16, u16),
    /// The packet does not end with its terminator.
    #[error("invalid startup packet layout: expected terminator as last byte")]
    Layout,
    /// A name or value is not UTF-8.
    #[error("invalid startup packet: parameter is not valid UTF-8")]
    Encoding,
    /// No `user`.
    #[error("no PostgreSQL user name specified in startup packet")]
    NoUser,
    /// A switch in `options` that is no setting.
    #[error("unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed")]
    Options,
    /// `replication` with a value that is neither boolean nor `database`.
    #[error("invalid value for parameter \"replication\"")]
    Replication,
    /// CancelRequest without a secret, or with one of more than 256 bytes.
    #[error("invalid length of cancel request")]
    Cancel,
}

/// Checks the length word of an opening packet and answers how many bytes follow it (4 to 9,996).
///
/// # Errors
/// [`StartupError::Length`], before anything is allocated.
pub fn body_length(word: [u8; 4]) -> Result<usize, StartupError> {
    let length = u32::from_be_bytes(word);
    if (MIN_PACKET..=MAX_PACKET).contains(&length) { Ok(length as usize - 4) } else { Err(StartupError::Length) }
}

/// Reads an opening packet from the bytes behind its length word.
///
/// # Errors
/// Anything of [`StartupError`] but `Length`.
pub fn parse(body: &[u8]) -> Result<Opening, StartupError> {
    let (code, rest) = int32(body).ok_or(StartupError::Length)?;
    match code {
        SSL_CODE if rest.is_empty() => Ok(Opening::Ssl),
        GSSENC_CODE if rest.is_empty() => Ok(Opening::GssEnc),
        SSL_CODE | GSSENC_CODE => Err(StartupError::Length),
        CANCEL_CODE => cancel(rest),
        _ => start(code, rest).map(Opening::Start),
    }
}

fn cancel(rest: &[u8]) -> Result<Opening, StartupError> {
    let (process_id, secret) = int32(rest).ok_or(StartupError::Cancel)?;
    if !(4..=256).contains(&secret.len()) {
        return Err(StartupError::Cancel);
    }
    Ok(Opening::Cancel { process_id, secret: secret.to_vec() })
}

fn start(code: u32, mut rest: &[u8]) -> Result<Startup, StartupError> {
    let [a, b, c, d] = code.to_be_bytes();
    let (major, minor) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    if major != 3 {
        return Err(StartupError::Protocol(major, minor));
    }
    let mut startup = Startup { minor, ..Startup::default() };
    let mut plain = Vec::new();
    loop {
        let (name, tail) = text(rest)?;
        if name.is_empty() {
            if !tail.is_empty() {
                return Err(StartupError::Layout);
            }
            break;
        }
        let (value, tail) = text(tail)?;
        rest = tail;
        match name {
            "user" => startup.user = value.to_owned(),
            "database" => startup.database = value.to_owned(),
            "replication" => startup.replication = replication(value)?,
            "options" => startup.settings.extend(options(value)?),
            _ if name.starts_with("_pq_.") => startup.protocol_options.push(name.to_owned()),
            _ => plain.push((name.to_owned(), value.to_owned())),
        }
    }
    if startup.user.is_empty() {
        return Err(StartupError::NoUser);
    }
    if startup.database.is_empty() {
        startup.database.clone_from(&startup.user);
    }
    startup.of_options = startup.settings.len();
    startup.settings.append(&mut plain);
    Ok(startup)
}

fn text(bytes: &[u8]) -> Result<(&str, &[u8]), StartupError> {
    let (text, rest) = cstr(bytes).ok_or(StartupError::Layout)?;
    Ok((std::str::from_utf8(text).map_err(|_| StartupError::Encoding)?, rest))
}

fn replication(value: &str) -> Result<Replication, StartupError> {
    match value.to_ascii_lowercase().as_str() {
        "off" | "false" | "no" | "0" => Ok(Replication::None),
        "on" | "true" | "yes" | "1" => Ok(Replication::Physical),
        "database" => Ok(Replication::Logical),
        _ => Err(StartupError::Replication),
    }
}

/// Takes the value of `options` apart into settings, as PostgreSQL's `pg_split_opts` and `-c`/`--` do.
fn options(value: &str) -> Result<Vec<(String, String)>, StartupError> {
    let mut settings = Vec::new();
    let mut words = split_words(value).into_iter();
    while let Some(word) = words.next() {
        let assignment = if word == "-c" {
            words.next().ok_or(StartupError::Options)?
        } else if let Some(rest) = word.strip_prefix("--").or_else(|| word.strip_prefix("-c")) {
            rest.to_owned()
        } else {
            return Err(StartupError::Options);
        };
        let (name, value) = assignment.split_once('=').ok_or(StartupError::Options)?;
        if name.is_empty() {
            return Err(StartupError::Options);
        }
        settings.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(settings)
}

/// Words parted by white space; a backslash takes the next character as it is.
fn split_words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' => word.get_or_insert_default().extend(chars.next()),
            _ if char.is_ascii_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(char),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(code: u32, pairs: &[(&str, &str)]) -> Vec<u8> {
        let mut out = code.to_be_bytes().to_vec();
        for (name, value) in pairs {
            out.extend([name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat());
        }
        out.push(0);
        out
    }

    fn started(pairs: &[(&str, &str)]) -> Result<Startup, StartupError> {
        match parse(&packet(3 << 16, pairs))? {
            Opening::Start(startup) => Ok(startup),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn lengths_are_checked() {
        for (word, expected) in [(0, None), (7, None), (8, Some(4)), (10_000, Some(9_996)), (10_001, None)] {
            assert_eq!(body_length(u32::to_be_bytes(word)).ok(), expected);
        }
        assert_eq!(body_length([0x80, 0, 0, 0]), Err(StartupError::Length));
    }

    #[test]
    fn requests_are_told_apart() {
        assert_eq!(parse(&SSL_CODE.to_be_bytes()), Ok(Opening::Ssl));
        assert_eq!(parse(&GSSENC_CODE.to_be_bytes()), Ok(Opening::GssEnc));
        assert_eq!(parse(&[&SSL_CODE.to_be_bytes()[..], b"x"].concat()), Err(StartupError::Length));
        let cancel = [&CANCEL_CODE.to_be_bytes()[..], &[0, 0, 0, 9, 1, 2, 3, 4]].concat();
        assert_eq!(parse(&cancel), Ok(Opening::Cancel { process_id: 9, secret: vec![1, 2, 3, 4] }));
        assert_eq!(parse(&cancel[..10]), Err(StartupError::Cancel));
        assert_eq!(parse(&packet(2 << 16, &[])), Err(StartupError::Protocol(2, 0)));
    }

    #[test]
    fn the_database_is_the_user_where_it_is_missing() {
        let startup = started(&[("user", "ann")]).unwrap();
        assert_eq!((startup.user.as_str(), startup.database.as_str()), ("ann", "ann"));
        assert_eq!(started(&[("database", "x")]), Err(StartupError::NoUser));
    }

    #[test]
    fn minors_and_protocol_options_are_kept_for_the_negotiation() {
        let parsed = parse(&packet((3 << 16) | 9999, &[("user", "a"), ("_pq_.x", "1")])).unwrap();
        let Opening::Start(startup) = parsed else { panic!("{parsed:?}") };
        assert_eq!((startup.minor, startup.protocol_options), (9999, vec!["_pq_.x".to_owned()]));
    }

    #[test]
    fn options_become_settings() {
        type Case = (&'static str, Option<&'static [(&'static str, &'static str)]>);
        let cases: &[Case] = &[
            ("", Some(&[])),
            ("-c a=1", Some(&[("a", "1")])),
            ("-ca=1 --b-c=2", Some(&[("a", "1"), ("b_c", "2")])),
            (r"-c search_path=a,\ b", Some(&[("search_path", "a, b")])),
            (r"-c a=x\\y", Some(&[("a", r"x\y")])),
            ("-c a=b=c", Some(&[("a", "b=c")])),
            ("-c", None),
            ("-c a", None),
            ("-c =1", None),
            ("-B 5", None),
            ("a=1", None),
        ];
        for (value, expected) in cases {
            let got = started(&[("user", "u"), ("options", value)]).ok().map(|startup| startup.settings);
            let expected = expected.map(|pairs| {
                pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>()
            });
            assert_eq!(got, expected, "{value}");
        }
    }

    #[test]
    fn the_terminator_is_the_last_byte() {
        let mut bytes = packet(3 << 16, &[("user", "u")]);
        bytes.push(0);
        assert_eq!(parse(&bytes), Err(StartupError::Layout));
        bytes.truncate(bytes.len() - 2);
        assert_eq!(parse(&bytes), Err(StartupError::Layout));
        assert_eq!(parse(&packet(3 << 16, &[("user", "u")])[..6]), Err(StartupError::Layout));
        let bad = [&(3u32 << 16).to_be_bytes()[..], b"user\0\xff\xfe\0\0"].concat();
        assert_eq!(parse(&bad), Err(StartupError::Encoding));
    }

    #[test]
    fn replication_is_a_boolean_or_database() {
        assert_eq!(started(&[("user", "u"), ("replication", "off")]).unwrap().replication, Replication::None);
        assert_eq!(started(&[("user", "u"), ("replication", "YES")]).unwrap().replication, Replication::Physical);
        assert_eq!(started(&[("user", "u"), ("replication", "database")]).unwrap().replication, Replication::Logical);
        assert_eq!(started(&[("user", "u"), ("replication", "maybe")]), Err(StartupError::Replication));
    }

    proptest! {
        #[test]
        fn arbitrary_packets_never_panic(body in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse(&body);
            let _ = parse(&[&(3u32 << 16).to_be_bytes()[..], &body].concat());
        }
    }
}
