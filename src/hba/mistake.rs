//! What can be wrong with a line of `pg_hba.conf` or `pg_ident.conf`, and what to write instead.
//!
//! The texts follow PostgreSQL's where it has one. None of them repeats an option's value, which may be a secret.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// A mistake and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file, as it was named.
    pub file: PathBuf,
    /// The line, from 1; none where it concerns the file.
    pub line: Option<usize>,
    /// What is wrong.
    pub mistake: Mistake,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        write!(f, " {}", self.mistake)
    }
}

/// The methods that a rule may name, for messages.
pub(super) const METHODS: &str = "trust, reject, password, md5, scram-sha-256, cert, peer, ldap, pam";

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mistake {
    /// There is no rule, so that nobody could log in.
    #[error("there is no rule in this file: write one, such as \"host all all 127.0.0.1/32 scram-sha-256\"")]
    NoRules,
    /// A file cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Unreadable {
        /// The file or directory.
        path: PathBuf,
        /// The system's words.
        error: Unreadable,
    },
    /// Files include each other more deeply than ten times.
    #[error("files include each other more than 10 times deep")]
    TooDeep,
    /// A file that is being read already.
    #[error("{} includes itself", .0.display())]
    Loop(PathBuf),
    /// A closing quote is missing.
    #[error("a quote is not closed: end the name with \"")]
    OpenQuote,
    /// A zero byte.
    #[error("a zero byte is not allowed")]
    ZeroByte,
    /// The line ends too early.
    #[error("end-of-line before {0}")]
    Missing(&'static str),
    /// Something stands behind the last column.
    #[error("there is more on the line than {0}")]
    TooMuch(&'static str),
    /// A list where one value is expected.
    #[error("multiple values specified for {0}: write one, without commas")]
    Several(&'static str),
    /// A column that came to nothing, by an `@` file without names.
    #[error("{0} is empty")]
    Empty(&'static str),
    /// The first column.
    #[error("invalid connection type \"{0}\": write local, host, hostssl, hostnossl, hostgssenc or hostnogssenc")]
    Kind(String),
    /// Membership in a role, which is PostgreSQL's to know, where it cannot be asked.
    #[error(
        "\"{name}\" needs to know who is a member of which role, and {database} has no auth_user to ask PostgreSQL as: \
         set {setting}, or {instead}"
    )]
    Membership {
        /// The name that needs it.
        name: String,
        /// A database that the line may be about.
        database: String,
        /// What to configure.
        setting: &'static str,
        /// What to write instead.
        instead: &'static str,
    },
    /// `+role` in a map.
    #[error("\"+{0}\" in a map is not supported: write the names of the members, or an expression")]
    MemberInMap(String),
    /// An expression that cannot be compiled.
    #[error("invalid regular expression \"{expression}\": {reason}")]
    Expression {
        /// The expression without its slash.
        expression: String,
        /// Why.
        reason: String,
    },
    /// An expression that PostgreSQL would understand in another way.
    #[error(
        "regular expression \"{expression}\": {construct} does not mean the same here as in PostgreSQL; write {instead}"
    )]
    Dialect {
        /// The expression without its slash.
        expression: String,
        /// The part of it.
        construct: String,
        /// What to write.
        instead: &'static str,
    },
    /// No address and no host name.
    #[error(
        "invalid IP address \"{0}\": write an address with its mask (192.0.2.0/24), a host name, all, samehost or samenet"
    )]
    Address(String),
    /// An address of one interface.
    #[error("address \"{0}\" names an interface: leave out what begins with %")]
    Scope(String),
    /// IPv4 in the shape of IPv6.
    #[error("address \"{address}\" is an IPv4 address written as IPv6, which fits no client: write {instead}")]
    Mapped {
        /// The column.
        address: String,
        /// Address and mask.
        instead: String,
    },
    /// Not a number of bits.
    #[error("invalid CIDR mask in address \"{0}\": write 0 to 32 for IPv4, 0 to 128 for IPv6")]
    Bits(String),
    /// A host name has no mask.
    #[error("specifying both host name and CIDR mask is invalid: \"{0}\"")]
    NameWithMask(String),
    /// No mask behind an address.
    #[error(
        "end-of-line before netmask specification: specify an address range in CIDR notation, as in {0}/32, or \
             provide a separate netmask"
    )]
    NoMask(String),
    /// Not a mask.
    #[error("invalid IP mask \"{0}\": specify an address range in CIDR notation, or provide a separate netmask")]
    Mask(String),
    /// IPv4 with IPv6.
    #[error("IP address and mask do not match: both have to be IPv4 or both IPv6")]
    Families,
    /// No method of PostgreSQL.
    #[error("invalid authentication method \"{0}\": pgpool knows {METHODS}")]
    Method(String),
    /// `peer` over TCP.
    #[error("peer authentication is only supported on local sockets: write it on a \"local\" line")]
    PeerRemote,
    /// `cert` without TLS.
    #[error("cert authentication is only supported on hostssl connections: write it on a \"hostssl\" line")]
    CertWithoutTls,
    /// Something without an equals sign.
    #[error("authentication option not in name=value format: {0}")]
    NoOption(String),
    /// An option that nobody knows.
    #[error("unrecognized authentication option name: \"{name}\"{}", .nearest.map(|near| format!(", did you mean {near}?")).unwrap_or_default())]
    Option {
        /// Its name.
        name: String,
        /// A known one.
        nearest: Option<&'static str>,
    },
    /// An option of another method.
    #[error("authentication option \"{option}\" is only valid for authentication methods {methods}")]
    OptionOfOther {
        /// Its name.
        option: &'static str,
        /// The methods.
        methods: &'static str,
    },
    /// An option of lines with TLS.
    #[error("{0} can only be configured for \"hostssl\" rows")]
    TlsOption(&'static str),
    /// Options of `ldap` that do not go together, or are missing.
    #[error("method ldap: {0}")]
    Ldap(&'static str),
    /// Something without an equals sign among options that may hold a password.
    #[error("authentication option not in name=value format")]
    NoLdapOption,
    /// A value out of a few.
    #[error("invalid value for {option}: write {choices}")]
    Value {
        /// The option.
        option: &'static str,
        /// What it takes.
        choices: &'static str,
    },
    /// `clientcert=verify-ca` with `cert`.
    #[error("clientcert only accepts \"verify-full\" when using \"cert\" authentication")]
    CertNeedsFull,
    /// A map without a file of maps.
    #[error("map={0} needs auth_ident_file, which is not set")]
    NoMaps(String),
    /// `\1` without a group.
    #[error(
        "regular expression \"{0}\" has no subexpressions as requested by backreference in the database user: put \
             ( ) around what \\1 stands for"
    )]
    NoGroup(String),
}

/// The system's error about a file; two are the same if they say the same.
#[derive(Clone, Debug)]
pub struct Unreadable(Arc<io::Error>);

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        Self(Arc::new(error))
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl PartialEq for Unreadable {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_string() == other.0.to_string()
    }
}

impl Eq for Unreadable {}
