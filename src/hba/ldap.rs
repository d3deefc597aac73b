//! The options of the method `ldap`: where the directory is, and what it is asked.
//!
//! What is asked holds the name that the client gave. It is escaped wherever it goes, so that no name is read as more than
//! a name: within a distinguished name by RFC 4514, within a filter by RFC 4515.

use std::fmt;

use zeroize::Zeroizing;

use super::mistake::Mistake;
use super::token::fields;

/// The password that the pooler itself has in the directory. Wiped, and not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct BindPassword(Zeroizing<Box<[u8]>>);

impl BindPassword {
    /// The password.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for BindPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BindPassword(..)")
    }
}

/// What the options say; `Directory` is what comes of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LdapOptions {
    url: Option<Url>,
    scheme: Option<Scheme>,
    server: Option<String>,
    port: Option<u16>,
    tls: bool,
    prefix: Option<String>,
    suffix: Option<String>,
    base: Option<String>,
    bind_dn: Option<String>,
    bind_password: Option<BindPassword>,
    attribute: Option<String>,
    filter: Option<String>,
}

/// What `ldapurl` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Url {
    scheme: Scheme,
    server: String,
    port: Option<u16>,
    base: String,
    attribute: Option<String>,
    scope: Scope,
    filter: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Scheme {
    #[default]
    Plain,
    Tls,
}

/// How far below the base a directory is searched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// The entry itself; what an `ldapurl` says that says nothing.
    Base,
    /// The entries directly below.
    One,
    /// Everything below; what is searched without an `ldapurl`.
    #[default]
    Subtree,
}

/// A directory that says whether a password is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// Its addresses, to be tried in turn: `ldap://host:port` or `ldaps://host:port`.
    pub servers: Vec<String>,
    /// Whether TLS is begun on the connection (`ldaptls=1`).
    pub start_tls: bool,
    /// How the name of the user becomes his entry.
    pub entry: Entry,
}

/// How the name of a user becomes an entry of the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// It stands between these.
    Between {
        /// `ldapprefix`.
        prefix: String,
        /// `ldapsuffix`.
        suffix: String,
    },
    /// It is searched for.
    Search {
        /// Where.
        base: String,
        /// How far below.
        scope: Scope,
        /// As whom; empty for nobody.
        bind_dn: String,
        /// With which password.
        bind_password: Option<BindPassword>,
        /// For what: a filter with `$username` in it.
        filter: String,
    },
}

impl Directory {
    /// Reads options as they stand behind a method, for `auth_ldap_options`.
    ///
    /// # Errors
    /// The first mistake.
    pub fn parse(text: &str) -> Result<Self, Mistake> {
        let mut options = LdapOptions::default();
        for token in fields(text)?.iter().flatten() {
            let (name, value) = token.text.split_once('=').ok_or(Mistake::NoLdapOption)?;
            options.take(name, value)?;
        }
        options.finish()
    }
}

impl Entry {
    /// The entry of this user; none if he has to be searched for.
    pub fn of(&self, user: &str) -> Option<String> {
        match self {
            // ldapprefix="cn=" and the like make a distinguished name; DOMAIN\ and @example.net do not, and take no escapes.
            Self::Between { prefix, suffix } if prefix.contains('=') || suffix.contains('=') => {
                Some(format!("{prefix}{}{suffix}", escape_dn(user)))
            }
            Self::Between { prefix, suffix } => Some(format!("{prefix}{user}{suffix}")),
            Self::Search { .. } => None,
        }
    }
}

/// The filter for a user.
pub fn filter_for(filter: &str, user: &str) -> String {
    filter.replace("$username", &escape_filter(user))
}

/// A value within a distinguished name (RFC 4514 section 2.4).
fn escape_dn(value: &str) -> String {
    let mut escaped = String::new();
    let last = value.chars().count().saturating_sub(1);
    for (at, c) in value.chars().enumerate() {
        match c {
            '\0' => escaped.push_str("\\00"),
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' | '=' => escaped.extend(['\\', c]),
            '#' if at == 0 => escaped.push_str("\\#"),
            ' ' if at == 0 || at == last => escaped.push_str("\\ "),
            _ => escaped.push(c),
        }
    }
    escaped
}

/// A value within a filter (RFC 4515 section 3).
fn escape_filter(value: &str) -> String {
    let mut escaped = String::new();
    for c in value.chars() {
        match c {
            '*' | '(' | ')' | '\\' | '\0' => escaped.push_str(&format!("\\{:02x}", u32::from(c))),
            _ => escaped.push(c),
        }
    }
    escaped
}

impl LdapOptions {
    pub(super) const NAMES: [&'static str; 12] = [
        "ldapurl",
        "ldapscheme",
        "ldapserver",
        "ldapport",
        "ldaptls",
        "ldapprefix",
        "ldapsuffix",
        "ldapbasedn",
        "ldapbinddn",
        "ldapbindpasswd",
        "ldapsearchattribute",
        "ldapsearchfilter",
    ];

    /// Takes one option; its value is not repeated in a mistake.
    pub(super) fn take(&mut self, name: &str, value: &str) -> Result<(), Mistake> {
        let text = || Some(value.to_owned());
        match name {
            "ldapurl" => {
                self.url = Some(Url::parse(value).ok_or(Mistake::Value {
                    option: "ldapurl",
                    choices: "ldap://host:port/basedn?attribute?scope?filter, or the same with ldaps",
                })?);
            }
            "ldapscheme" => {
                self.scheme = Some(match value {
                    "ldap" => Scheme::Plain,
                    "ldaps" => Scheme::Tls,
                    _ => return Err(Mistake::Value { option: "ldapscheme", choices: "ldap or ldaps" }),
                });
            }
            "ldapserver" => self.server = text(),
            "ldapport" => {
                let port = value.parse().ok().filter(|port| *port > 0);
                self.port = Some(port.ok_or(Mistake::Value { option: "ldapport", choices: "1 to 65535" })?);
            }
            "ldaptls" => {
                self.tls = match value {
                    "1" => true,
                    "0" => false,
                    // PostgreSQL takes everything else for 0, and sends passwords in the clear.
                    _ => return Err(Mistake::Value { option: "ldaptls", choices: "0 or 1" }),
                };
            }
            "ldapprefix" => self.prefix = text(),
            "ldapsuffix" => self.suffix = text(),
            "ldapbasedn" => self.base = text(),
            "ldapbinddn" => self.bind_dn = text(),
            "ldapbindpasswd" => self.bind_password = Some(BindPassword(Zeroizing::new(value.as_bytes().into()))),
            "ldapsearchattribute" => self.attribute = text(),
            "ldapsearchfilter" => self.filter = text(),
            _ => return Err(super::option::unknown(name)),
        }
        Ok(())
    }

    /// Makes a directory of them.
    pub(super) fn finish(self) -> Result<Directory, Mistake> {
        let url = self.url.unwrap_or_default();
        let server = self.server.unwrap_or(url.server);
        if server.trim().is_empty() {
            return Err(Mistake::Ldap("ldapserver or ldapurl has to be set"));
        }
        let scheme = self.scheme.unwrap_or(url.scheme);
        if scheme == Scheme::Tls && self.tls {
            return Err(Mistake::Ldap("ldaptls=1 begins TLS on an ldap connection: leave it out with ldaps"));
        }
        let (scheme, usual) = if scheme == Scheme::Tls { ("ldaps", 636) } else { ("ldap", 389) };
        let port = self.port.or(url.port).unwrap_or(usual);
        let address = |host: &str| match host.rsplit_once(':') {
            // A host of a list may have a port of its own.
            Some((_, own)) if !own.is_empty() && own.bytes().all(|byte| byte.is_ascii_digit()) => {
                format!("{scheme}://{host}")
            }
            _ => format!("{scheme}://{host}:{port}"),
        };
        let base = self.base.or_else(|| (!url.base.is_empty()).then_some(url.base));
        let attribute = self.attribute.or(url.attribute);
        let filter = self.filter.or(url.filter);
        let searches = base.is_some()
            || self.bind_dn.is_some()
            || self.bind_password.is_some()
            || attribute.is_some()
            || filter.is_some();
        let entry = match (self.prefix, self.suffix, base) {
            (None, None, None) => return Err(Mistake::Ldap("ldapbasedn, ldapprefix or ldapsuffix has to be set")),
            (None, None, Some(base)) => Entry::Search {
                base,
                scope: url.scope,
                bind_dn: self.bind_dn.unwrap_or_default(),
                bind_password: self.bind_password,
                filter: filter_of(attribute, filter)?,
            },
            _ if searches => {
                return Err(Mistake::Ldap(
                    "ldapprefix and ldapsuffix cannot be used together with ldapbasedn, ldapbinddn, ldapbindpasswd, \
                     ldapsearchattribute, ldapsearchfilter or a base in ldapurl",
                ));
            }
            (prefix, suffix, _) => {
                Entry::Between { prefix: prefix.unwrap_or_default(), suffix: suffix.unwrap_or_default() }
            }
        };
        Ok(Directory { servers: server.split_whitespace().map(address).collect(), start_tls: self.tls, entry })
    }
}

fn filter_of(attribute: Option<String>, filter: Option<String>) -> Result<String, Mistake> {
    match (attribute, filter) {
        (Some(_), Some(_)) => Err(Mistake::Ldap("ldapsearchattribute cannot be used together with ldapsearchfilter")),
        (None, Some(filter)) if !filter.contains("$username") => {
            Err(Mistake::Ldap("ldapsearchfilter has to hold $username, or every user is the same"))
        }
        (None, Some(filter)) if filter.starts_with('(') => Ok(filter),
        (None, Some(filter)) => Ok(format!("({filter})")),
        (attribute, None) => Ok(format!("({}=$username)", attribute.as_deref().unwrap_or("uid"))),
    }
}

impl Url {
    /// `ldap[s]://host[:port]/basedn[?[attribute][?[scope][?[filter]]]]` (RFC 4516).
    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = match text.split_once("://")? {
            ("ldap", rest) => (Scheme::Plain, rest),
            ("ldaps", rest) => (Scheme::Tls, rest),
            _ => return None,
        };
        let (host, rest) = rest.split_once('/').unwrap_or((rest, ""));
        let (server, port) = match host.rsplit_once(':') {
            Some((server, port)) if !port.ends_with(']') => (server, Some(port.parse().ok().filter(|port| *port > 0)?)),
            _ => (host, None),
        };
        let mut parts = rest.splitn(4, '?').map(decode);
        let mut part = || parts.next().map_or(Some(String::new()), |part| part);
        let (base, attribute, scope, filter) = (part()?, part()?, part()?, part()?);
        let scope = match scope.as_str() {
            "" | "base" => Scope::Base,
            "one" => Scope::One,
            "sub" => Scope::Subtree,
            _ => return None,
        };
        let given = |text: String| (!text.is_empty()).then_some(text);
        Some(Self {
            scheme,
            server: server.to_owned(),
            port,
            base,
            attribute: given(attribute),
            scope,
            filter: given(filter),
        })
    }
}

/// Takes `%20` and its like back.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, tail) = tail.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}

impl fmt::Display for Directory {
    /// Without the password, which nobody is to see.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.servers.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(options: &str) -> Entry {
        Directory::parse(options).unwrap().entry
    }

    #[test]
    fn directories_are_read_as_postgresql_reads_them() {
        let read = |options: &str| Directory::parse(options).unwrap();
        let simple = read(r#"ldapserver=a ldapprefix="cn=" ldapsuffix=", dc=example, dc=net""#);
        assert_eq!((simple.servers.as_slice(), simple.start_tls), (["ldap://a:389".to_owned()].as_slice(), false));
        assert_eq!(simple.entry.of("bob").as_deref(), Some("cn=bob, dc=example, dc=net"));
        let both = read("ldapserver=\"a b:1389\" ldapport=3389 ldaptls=1 ldapbasedn=dc=x");
        assert_eq!((both.servers, both.start_tls), (vec!["ldap://a:3389".into(), "ldap://b:1389".into()], true));
        let Entry::Search { filter, scope, bind_dn, .. } = both.entry else { panic!() };
        assert_eq!((filter.as_str(), scope, bind_dn.as_str()), ("(uid=$username)", Scope::Subtree, ""));
        let url = read("ldapurl=\"ldaps://h:700/dc=a%20b,dc=c?mail?sub\" ldapbinddn=cn=r ldapbindpasswd=secret");
        assert_eq!(url.servers, ["ldaps://h:700"]);
        let Entry::Search { base, filter, scope, .. } = url.entry else { panic!() };
        assert_eq!((base.as_str(), filter.as_str(), scope), ("dc=a b,dc=c", "(mail=$username)", Scope::Subtree));
        let url = read("ldapurl=\"ldap://h/dc=x??one?(&(uid=$username)(a=b))\"");
        let Entry::Search { filter, scope, .. } = &url.entry else { panic!() };
        assert_eq!((filter.as_str(), *scope), ("(&(uid=$username)(a=b))", Scope::One));
        assert!(!format!("{:?}", read("ldapserver=a ldapbasedn=b ldapbindpasswd=hunter2")).contains("hunter2"));
    }

    #[test]
    fn what_cannot_be_asked_is_refused() {
        for options in [
            "",
            "ldapserver=a",
            "ldapbasedn=a",
            "ldapserver=a ldapprefix=b ldapbasedn=c",
            "ldapserver=a ldapport=0 ldapprefix=b",
            "ldapserver=a ldapport=x ldapprefix=b",
            "ldapserver=a ldaptls=yes ldapprefix=b",
            "ldapserver=a ldapscheme=http ldapprefix=b",
            "ldapserver=a ldapbasedn=b ldapsearchattribute=c ldapsearchfilter=($username)",
            "ldapurl=http://a/b",
            "ldapurl=ldap://a:x/b",
            "ldapserver=a ldapbasedn=b ldapsearchfilter=(uid=x)",
            "ldapurl=ldap://a/b?c?d",
            "ldapurl=ldap://a/%zz",
            "hunter2",
            "ldapserver=a ldapprefix=b ldaptls=1 ldapscheme=ldaps",
            "ldapservr=a",
        ] {
            let mistake = Directory::parse(options).unwrap_err().to_string();
            assert!(!mistake.contains("hunter2"), "{mistake}");
        }
    }

    #[test]
    fn a_name_stays_a_name() {
        let between = entry(r#"ldapserver=a ldapprefix="uid=" ldapsuffix=",dc=x""#);
        for (user, expected) in [
            ("bob", "uid=bob,dc=x"),
            ("bob,ou=admins", r"uid=bob\,ou\=admins,dc=x"),
            (" a+b ", r"uid=\ a\+b\ ,dc=x"),
            ("#a\"<>;\\", r##"uid=\#a\"\<\>\;\\,dc=x"##),
            (" ", r"uid=\ ,dc=x"),
        ] {
            assert_eq!(between.of(user).as_deref(), Some(expected), "{user}");
        }
        let domain = entry(r#"ldapserver=a ldapsuffix="@example.net""#);
        assert_eq!(domain.of("bob+x").as_deref(), Some("bob+x@example.net"));
        assert_eq!(
            filter_for("(&(uid=$username)(x=$username))", "*)(uid=\\"),
            r"(&(uid=\2a\29\28uid=\5c)(x=\2a\29\28uid=\5c))"
        );
    }
}
