//! Where PostgreSQL is, as libpq writes it: a URL (`postgresql://user@host/db?sslmode=require`) or `host=... dbname=...`;
//! what it leaves out is taken from the PG* variables and from ~/.pgpass, as psql does.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// The keys that are understood, with libpq's variable.
const KEYS: &[(&str, &str)] = &[
    ("host", "PGHOST"),
    ("hostaddr", "PGHOSTADDR"),
    ("port", "PGPORT"),
    ("user", "PGUSER"),
    ("password", "PGPASSWORD"),
    ("passfile", "PGPASSFILE"),
    ("dbname", "PGDATABASE"),
    ("sslmode", "PGSSLMODE"),
    ("sslnegotiation", "PGSSLNEGOTIATION"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("sslcrl", "PGSSLCRL"),
    ("sslcert", "PGSSLCERT"),
    ("sslkey", "PGSSLKEY"),
    ("channel_binding", "PGCHANNELBINDING"),
    ("connect_timeout", "PGCONNECT_TIMEOUT"),
    ("options", "PGOPTIONS"),
    ("application_name", "PGAPPNAME"),
];
/// Keys of libpq that change nothing here.
const WITHOUT_EFFECT: &[&str] = &[
    "fallback_application_name",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
    "client_encoding",
    "gssencmode",
    "krbsrvname",
    "target_session_attrs",
    "load_balance_hosts",
    "sslcompression",
    "sslsni",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
    "requirepeer",
    "require_auth",
];

/// A connection string with what the environment adds to it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Dsn(BTreeMap<&'static str, String>);

impl Dsn {
    /// Reads `text`; `variable` is the environment.
    ///
    /// # Errors
    /// What is wrong with it, in a sentence.
    pub(crate) fn parse(text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Dsn, String> {
        let url = ["postgresql://", "postgres://"].iter().find_map(|scheme| text.trim().strip_prefix(scheme));
        let pairs = match url {
            Some(rest) => url_pairs(rest)?,
            None => keyword_pairs(text)?,
        };
        let mut found = BTreeMap::new();
        for (key, value) in pairs {
            match KEYS.iter().find(|(name, _)| *name == key) {
                Some((name, _)) => drop(found.insert(*name, value)),
                None if WITHOUT_EFFECT.contains(&key.as_str()) => {}
                None => return Err(format!("the connection string has the key \"{key}\", which is not known here")),
            }
        }
        for (name, from) in KEYS {
            if let Some(value) = variable(from).filter(|value| !value.is_empty()) {
                found.entry(name).or_insert(value);
            }
        }
        found.retain(|_, value| !value.is_empty());
        Ok(Dsn(found))
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// The hosts with their ports; a path is the directory of a Unix socket.
    ///
    /// # Errors
    /// A port that is none, or a number of ports that does not fit the hosts.
    pub(crate) fn hosts(&self) -> Result<Vec<(String, u16)>, String> {
        let split = |text: &str| text.split(',').map(str::trim).map(str::to_owned).collect::<Vec<_>>();
        let hosts = self.get("hostaddr").or(self.get("host")).map_or_else(|| vec![String::new()], split);
        let ports = self.get("port").map_or_else(|| vec![String::from("5432")], split);
        if ports.len() != 1 && ports.len() != hosts.len() {
            return Err(format!("the connection string has {} ports for {} hosts", ports.len(), hosts.len()));
        }
        let ports: Result<Vec<u16>, String> =
            ports
                .iter()
                .map(|port| {
                    if port.is_empty() { Ok(5432) } else { port.parse().map_err(|_| format!("\"{port}\" is no port")) }
                })
                .collect();
        Ok(hosts.into_iter().zip(ports?.into_iter().cycle()).collect())
    }

    /// The user: the system's where none is said.
    pub(crate) fn user(&self) -> String {
        self.get("user").map_or_else(system_user, str::to_owned)
    }

    /// The database: the user's name where none is said.
    pub(crate) fn dbname(&self) -> String {
        self.get("dbname").map_or_else(|| self.user(), str::to_owned)
    }

    /// The password: the one that is said, else the one of the password file.
    pub(crate) fn password(&self, host: &str, port: u16, home: Option<PathBuf>) -> Option<String> {
        if let Some(said) = self.get("password") {
            return Some(said.to_owned());
        }
        let file = self.get("passfile").map(PathBuf::from).or_else(|| Some(home?.join(".pgpass")))?;
        let host = if host.is_empty() || host.starts_with(['/', '@']) { "localhost" } else { host };
        let text = std::fs::read_to_string(file).ok()?;
        let wanted = [host, &port.to_string(), &self.dbname(), &self.user()];
        text.lines().find_map(|line| from_pgpass(line, wanted))
    }
}

/// Never shows the password.
impl std::fmt::Debug for Dsn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.0.iter().filter(|(key, _)| **key != "password")).finish()
    }
}

fn system_user() -> String {
    let uid = rustix::process::geteuid().as_raw().to_string();
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| String::from("postgres"))
}

/// The password of a line `host:port:database:user:password` that fits.
fn from_pgpass(line: &str, wanted: [&str; 4]) -> Option<String> {
    if line.starts_with('#') {
        return None;
    }
    let (mut fields, mut field) = (Vec::new(), String::new());
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            ':' if fields.len() < 4 => fields.push(std::mem::take(&mut field)),
            '\\' => field.extend(characters.next()),
            other => field.push(other),
        }
    }
    fields.push(field);
    let fits = |(field, wanted): (&String, &str)| field == "*" || field == wanted;
    (fields.len() == 5 && fields.iter().zip(wanted).all(fits)).then(|| fields.pop()).flatten()
}

fn url_pairs(rest: &str) -> Result<Vec<(String, String)>, String> {
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, dbname) = rest.split_once('/').unwrap_or((rest, ""));
    let (login, places) = authority.rsplit_once('@').unwrap_or(("", authority));
    let mut pairs = Vec::new();
    let mut add = |key: &str, value: &str| -> Result<(), String> {
        if !value.is_empty() {
            pairs.push((key.to_owned(), decoded(value)?));
        }
        Ok(())
    };
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    add("user", user)?;
    add("password", password)?;
    add("dbname", dbname)?;
    let places: Vec<(&str, &str)> = places.split(',').map(host_and_port).collect();
    add("host", &places.iter().map(|(host, _)| *host).collect::<Vec<_>>().join(","))?;
    if places.iter().any(|(_, port)| !port.is_empty()) {
        add("port", &places.iter().map(|(_, port)| *port).collect::<Vec<_>>().join(","))?;
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) =
            pair.split_once('=').ok_or_else(|| format!("\"{pair}\" in the connection string has no value"))?;
        add(key, value)?;
    }
    Ok(pairs)
}

fn host_and_port(place: &str) -> (&str, &str) {
    if let Some((host, rest)) = place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return (host, rest.strip_prefix(':').unwrap_or(""));
    }
    place.rsplit_once(':').unwrap_or((place, ""))
}

/// Without its %XX.
fn decoded(text: &str) -> Result<String, String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let code = rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let code = code.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|code| *code != 0);
        bytes.push(code.ok_or("a % in the connection string is not followed by two hexadecimal digits")?);
        rest = rest.get(2..).unwrap_or_default();
    }
    String::from_utf8(bytes).map_err(|_| String::from("the connection string is no UTF-8"))
}

/// `key = value` with values in single quotes where they need it, and backslashes before ' and \.
fn keyword_pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    if !rest.is_empty() && !rest.contains('=') {
        return Ok(vec![(String::from("dbname"), rest.trim_end().to_owned())]);
    }
    while !rest.is_empty() {
        let (key, tail) =
            rest.split_once('=').ok_or_else(|| format!("\"{rest}\" in the connection string has no value"))?;
        let (value, tail) = value_of(tail.trim_start())?;
        pairs.push((key.trim().to_owned(), value));
        rest = tail.trim_start();
    }
    Ok(pairs)
}

fn value_of(text: &str) -> Result<(String, &str), String> {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut characters = text.char_indices().skip(usize::from(quoted));
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.extend(characters.next().map(|(_, next)| next)),
            '\'' if quoted => return Ok((value, text.get(at + 1..).unwrap_or_default())),
            space if !quoted && space.is_whitespace() => return Ok((value, text.get(at..).unwrap_or_default())),
            other => value.push(other),
        }
    }
    if quoted { Err(String::from("a quote in the connection string does not end")) } else { Ok((value, "")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dsn(text: &str) -> Dsn {
        Dsn::parse(text, |_| None).unwrap()
    }

    fn shown(text: &str) -> String {
        let dsn = dsn(text);
        format!("{:?} {} {} {:?}", dsn.hosts().unwrap(), dsn.user(), dsn.dbname(), dsn.get("password"))
    }

    #[test]
    fn both_forms_say_the_same() {
        let expected = r#"[("db.example.com", 6543)] al ice d'b Some("p@ss:w/rd")"#;
        assert_eq!(shown("postgresql://al%20ice:p%40ss%3Aw%2Frd@db.example.com:6543/d'b?sslmode=require"), expected);
        let words = r"host=db.example.com  port = 6543 user='al ice' password=p@ss:w/rd dbname=d\'b sslmode=require";
        assert_eq!(shown(words), expected);
        assert_eq!(dsn(words).get("sslmode"), Some("require"));
        assert_eq!(dsn("postgres://u@[::1]:5433/d").hosts().unwrap(), [("::1".to_owned(), 5433)]);
        let several = [("a".to_owned(), 1), ("b".to_owned(), 5432)];
        assert_eq!(dsn("postgres://a:1,b/d").hosts().unwrap(), several);
        assert_eq!(dsn("postgres:///d?host=/run/pg&user=u").hosts().unwrap(), [("/run/pg".to_owned(), 5432)]);
        assert_eq!(dsn("d").dbname(), "d");
    }

    #[test]
    fn the_environment_adds_what_is_left_out() {
        let variable = |name: &str| Some(format!("from {name}"));
        let dsn = Dsn::parse("host=h user=u", variable).unwrap();
        assert_eq!((dsn.get("host"), dsn.get("dbname")), (Some("h"), Some("from PGDATABASE")));
        assert!(!format!("{dsn:?}").contains("PGPASSWORD"));
    }

    #[test]
    fn bad_strings_are_told() {
        let error = |text| Dsn::parse(text, |_| None).unwrap_err();
        assert!(error("host='x").contains("quote"));
        assert!(error("hots=x").contains("\"hots\""));
        assert!(error("postgres://u%2@h").contains("hexadecimal"));
        assert!(error("host=x y").contains("no value"));
        assert!(dsn("port=x").hosts().unwrap_err().contains("no port"));
        assert!(dsn("host=a,b port=1,2,3").hosts().unwrap_err().contains("3 ports"));
    }

    #[test]
    fn a_password_file_is_read_as_libpq_does() {
        let wanted = ["h", "5432", "d", "u"];
        assert_eq!(from_pgpass(r"h:5432:*:u:a\:b:c", wanted), Some("a:b:c".to_owned()));
        assert_eq!(from_pgpass("other:5432:*:u:x", wanted), None);
        assert_eq!(from_pgpass("#h:5432:d:u:x", wanted), None);
    }
}
