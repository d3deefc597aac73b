//! One line of `pg_hba.conf`: whom it is about, and how he has to prove himself.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::address::Address;
use super::field::Columns;
use super::mistake::Mistake;
use super::name::{DatabaseName, UserName};
use super::option::Options;
use super::source::Line;

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: Arc<Path>,
    /// Its line, from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// What kinds of connections a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Unix sockets.
    Local,
    /// TCP, with and without TLS.
    Host,
    /// TCP with TLS.
    HostSsl,
    /// TCP without TLS.
    HostNoSsl,
    /// TCP with GSSAPI encryption, which pgpool does not have: never.
    HostGssEnc,
    /// TCP without GSSAPI encryption: the same as `Host`.
    HostNoGssEnc,
}

/// How the client has to prove itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Not at all.
    Trust,
    /// It is refused.
    Reject,
    /// By its password in the clear.
    Password,
    /// By an md5 answer, or SCRAM where the secret is a SCRAM verifier.
    Md5,
    /// By SCRAM-SHA-256.
    ScramSha256,
    /// By its TLS certificate.
    Cert,
    /// By the user that its process runs as.
    Peer,
    /// By its password, which a directory checks.
    Ldap,
    /// By its password, which the system checks.
    Pam,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Where it stands.
    pub place: Place,
    /// Column TYPE.
    pub kind: Kind,
    /// Column DATABASE.
    pub databases: Vec<DatabaseName>,
    /// Column USER.
    pub users: Vec<UserName>,
    /// Column ADDRESS; `All` where the kind is `Local`.
    pub address: Address,
    /// Column METHOD.
    pub method: Method,
    /// What follows.
    pub options: Options,
    /// A method of PostgreSQL's that stands there and pgpool does not have: whom the line is about is refused.
    pub unsupported: Option<&'static str>,
}

/// Two rules that say the same, wherever they stand.
impl Rule {
    /// Whether the other one says the same.
    pub fn says(&self, other: &Self) -> bool {
        let place = self.place.clone();
        *self == Self { place, unsupported: self.unsupported, ..other.clone() }
    }
}

impl Kind {
    /// All, by their names.
    pub(super) const NAMES: [(&'static str, Self); 6] = [
        ("local", Self::Local),
        ("host", Self::Host),
        ("hostssl", Self::HostSsl),
        ("hostnossl", Self::HostNoSsl),
        ("hostgssenc", Self::HostGssEnc),
        ("hostnogssenc", Self::HostNoGssEnc),
    ];
}

impl Method {
    /// All, by their names.
    pub(super) const NAMES: [(&'static str, Self); 9] = [
        ("trust", Self::Trust),
        ("reject", Self::Reject),
        ("password", Self::Password),
        ("md5", Self::Md5),
        ("scram-sha-256", Self::ScramSha256),
        ("cert", Self::Cert),
        ("peer", Self::Peer),
        ("ldap", Self::Ldap),
        ("pam", Self::Pam),
    ];

    /// PostgreSQL's others.
    const OTHERS: [&'static str; 6] = ["ident", "gss", "sspi", "radius", "bsd", "oauth"];

    fn parse(text: &str, kind: Kind) -> Result<Self, Mistake> {
        if let Some((_, method)) = Self::NAMES.iter().find(|(name, _)| *name == text) {
            return Ok(*method);
        }
        match Self::OTHERS.iter().find(|other| **other == text) {
            // PostgreSQL's own rule: what ident once meant for Unix sockets.
            Some(&"ident") if kind == Kind::Local => Ok(Self::Peer),
            Some(_) => Ok(Self::Reject),
            None => Err(Mistake::Method(text.to_owned())),
        }
    }
}

/// Reads a line.
pub(super) fn parse(line: &Line) -> Result<Rule, Mistake> {
    let mut columns = Columns::of(&line.fields);
    let kind = columns.one("connection type")?;
    let Some((_, kind)) = Kind::NAMES.iter().find(|(name, _)| *name == kind.text) else {
        return Err(Mistake::Kind(kind.text.clone()));
    };
    let databases = columns.list("database specification")?.iter().map(DatabaseName::parse);
    let databases = databases.collect::<Result<_, _>>()?;
    let users = columns.list("role specification")?.iter().map(UserName::parse).collect::<Result<_, _>>()?;
    let address = if *kind == Kind::Local { Address::All } else { Address::parse(&mut columns)? };
    let named = &columns.one("authentication method")?.text;
    let method = Method::parse(named, *kind)?;
    let unsupported = Method::OTHERS.iter().copied().find(|other| other == named && method == Method::Reject);
    match (*kind, method) {
        (Kind::Local, Method::Peer) => {}
        (_, Method::Peer) => return Err(Mistake::PeerRemote),
        (Kind::HostSsl, Method::Cert) => {}
        (_, Method::Cert) => return Err(Mistake::CertWithoutTls),
        _ => {}
    }
    // Nobody here knows what they mean.
    let options =
        if unsupported.is_some() { Options::default() } else { Options::parse(columns.rest(), *kind, method)? };
    Ok(Rule { place: line.place.clone(), kind: *kind, databases, users, address, method, options, unsupported })
}
