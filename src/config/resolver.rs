//! The file of `resolv_conf`, and the system's own /etc/resolv.conf: which nameservers are asked, and how.
//!
//! The format is that of resolv.conf(5), and what says how to ask is read by the crate of that name. Lines with
//! nameservers are read here, since they may have ports, as c-ares takes them. Each of them has to name something that
//! can be asked; anything else that is not understood is ignored and said, as other resolvers ignore it.

use std::fs;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::time::Duration;

use resolv_conf::ParseError;

use crate::config::check::Findings;
use crate::config::general::General;

/// The port of DNS.
const PORT: u16 = 53;
/// The largest values that count, by resolv.conf(5).
const MOST_DOTS: u32 = 15;
const MOST_SECONDS: u32 = 30;
const MOST_ATTEMPTS: u32 = 5;

/// Which nameservers are asked, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvConf {
    /// The nameservers, in the order in which they are tried.
    pub servers: Vec<SocketAddr>,
    /// Each question begins with the next of them.
    pub rotate: bool,
    /// Domains in which names are looked for that are not complete, in this order.
    pub search: Vec<String>,
    /// Names with so many dots are tried as they are before that.
    pub ndots: usize,
    /// How long one nameserver may take for one question.
    pub timeout: Duration,
    /// How often each nameserver is asked.
    pub attempts: u32,
    /// Questions say that longer answers may come (EDNS).
    pub edns: bool,
    /// How it is asked.
    pub transport: Transport,
    /// Which addresses are asked for.
    pub families: Families,
}

/// How nameservers are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// By UDP, and by TCP where an answer does not fit.
    Udp,
    /// By TCP.
    Tcp,
}

/// Which addresses are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// Those of IPv4 and IPv6, at the same time.
    Together,
    /// One after the other.
    OneByOne,
    /// Those of IPv4.
    OnlyV4,
}

/// Something that is not as it should be in such a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// Line from 1; none where it is about the file.
    pub line: Option<usize>,
    /// What, and what to do.
    pub message: String,
    /// Whether the file cannot be gone by.
    pub grave: bool,
}

/// Why something is no nameserver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NoServer {
    NoAddress,
    WithInterface,
}

impl ResolvConf {
    /// Reads the bytes of such a file. Where there are no grave remarks there is a nameserver.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> (ResolvConf, Vec<Remark>) {
        let text = String::from_utf8_lossy(bytes);
        let mut remarks = Vec::new();
        let mut servers = Vec::new();
        let mut rest = String::with_capacity(text.len());
        for (number, line) in text.split('\n').enumerate() {
            let said = line.split([';', '#']).next().unwrap_or_default();
            let mut words = said.split([' ', '\t', ',', '\r']).filter(|word| !word.is_empty());
            match words.next() {
                Some("nameserver") => servers_of(words, number + 1, &mut servers, &mut remarks),
                // Commas are no part of a domain, and a list of such is told from one name.
                Some("search") => rest.push_str(&said.replace(',', " ")),
                Some(_) => rest.push_str(said),
                None => {}
            }
            rest.push('\n');
        }
        if servers.is_empty() {
            let message = String::from("it names no nameserver: add a line such as `nameserver 127.0.0.1`");
            remarks.push(Remark { line: None, message, grave: true });
        }
        let (read, errors) = resolv_conf::Config::parse_with_errors(rest.as_bytes());
        for error in errors {
            let number = line_of(&error);
            let line = rest.split('\n').nth(number).unwrap_or_default().trim();
            remarks.push(Remark {
                line: Some(number + 1),
                message: format!("`{line}` is not understood, and ignored"),
                grave: false,
            });
        }
        remarks.sort_by_key(|remark| remark.line);
        (ResolvConf::of(servers, &read), remarks)
    }

    fn of(servers: Vec<SocketAddr>, read: &resolv_conf::Config) -> ResolvConf {
        let one_by_one = read.single_request || read.single_request_reopen;
        ResolvConf {
            servers,
            rotate: read.rotate,
            search: read.get_last_search_or_domain().cloned().collect(),
            ndots: usize::try_from(read.ndots.min(MOST_DOTS)).unwrap_or_default(),
            timeout: Duration::from_secs(u64::from(read.timeout.clamp(1, MOST_SECONDS))),
            attempts: read.attempts.clamp(1, MOST_ATTEMPTS),
            edns: read.edns0,
            transport: if read.use_vc { Transport::Tcp } else { Transport::Udp },
            families: match (read.no_aaaa, one_by_one) {
                (true, _) => Families::OnlyV4,
                (false, true) => Families::OneByOne,
                (false, false) => Families::Together,
            },
        }
    }
}

/// Reads the file of `resolv_conf`, if there is one.
pub(super) fn read(general: &General, findings: &mut Findings<'_>) -> Option<Arc<ResolvConf>> {
    const KEY: &str = "pgpool.resolv_conf";
    let path = findings.beside(general.resolv_conf.as_deref()?);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) => {
            let message = format!(
                "cannot read resolv_conf {}: {error}; name a file like /etc/resolv.conf that pgpool's user may read, or \
                 leave the setting out: the system's resolver is asked then",
                path.display()
            );
            findings.problem(KEY, message);
            return None;
        }
    };
    let (conf, remarks) = ResolvConf::parse(&bytes);
    for Remark { line, message, grave } in &remarks {
        let place = line.map_or(String::new(), |line| format!(", line {line}"));
        let message = format!("resolv_conf {}{place}: {message}", path.display());
        if *grave {
            findings.problem(KEY, message);
        } else {
            findings.warn(KEY, message);
        }
    }
    (!remarks.iter().any(|remark| remark.grave)).then(|| Arc::new(conf))
}

/// The nameservers of one line.
fn servers_of<'a>(
    words: impl Iterator<Item = &'a str>,
    line: usize,
    servers: &mut Vec<SocketAddr>,
    remarks: &mut Vec<Remark>,
) {
    let mut found = false;
    let mut remark = |message| remarks.push(Remark { line: Some(line), message, grave: true });
    for word in words {
        found = true;
        match server(word) {
            Ok(server) => servers.push(server),
            Err(NoServer::NoAddress) => remark(format!(
                "`{word}` is no address of a nameserver: write an IP address, with a port where it is not 53, such as \
                 192.0.2.1:5353 or [2001:db8::1]:5353"
            )),
            Err(NoServer::WithInterface) => {
                remark(format!("`{word}` counts on one interface only: write an address that is reached without"));
            }
        }
    }
    if !found {
        remark(String::from("`nameserver` needs an IP address"));
    }
}

/// `192.0.2.1`, `192.0.2.1:53`, `2001:db8::1`, `[2001:db8::1]:53`; brackets may be around any address.
fn server(word: &str) -> Result<SocketAddr, NoServer> {
    let (address, port) = match word.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, "")) => (address, None),
        Some((address, port)) => (address, Some(port.strip_prefix(':').ok_or(NoServer::NoAddress)?)),
        None => match word.split_once(':') {
            Some((address, port)) if address.contains('.') => (address, Some(port)),
            _ => (word, None),
        },
    };
    let port = match port {
        // A sign is no digit.
        Some(port) if port.starts_with(|first: char| first.is_ascii_digit()) => {
            port.parse().ok().filter(|port| *port > 0).ok_or(NoServer::NoAddress)?
        }
        Some(_) => return Err(NoServer::NoAddress),
        None => PORT,
    };
    if let Some((address, _)) = address.split_once('%') {
        let local = address.parse::<IpAddr>().is_ok_and(|address| address.is_ipv6());
        return Err(if local { NoServer::WithInterface } else { NoServer::NoAddress });
    }
    match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => Ok(SocketAddr::from((address, port))),
        Ok(IpAddr::V6(address)) => Ok(SocketAddrV6::new(address, port, 0, 0).into()),
        Err(_) => Err(NoServer::NoAddress),
    }
}

/// From 0.
fn line_of(error: &ParseError) -> usize {
    match error {
        ParseError::InvalidUtf8(line, _) | ParseError::InvalidIp(line, _) => *line,
        ParseError::InvalidValue(line)
        | ParseError::InvalidOptionValue(line)
        | ParseError::InvalidOption(line)
        | ParseError::InvalidDirective(line)
        | ParseError::ExtraData(line) => *line,
    }
}

/// Fuzz target: any bytes are read, every remark has a place in them, and what was read says the same when it is written
/// down and read again.
///
/// # Panics
/// Where that is not so.
pub(super) fn fuzz(data: &[u8]) {
    let (conf, remarks) = ResolvConf::parse(data);
    let lines = data.split(|byte| *byte == b'\n').count();
    assert!(remarks.iter().all(|remark| remark.line.is_none_or(|line| (1..=lines).contains(&line))));
    assert!(!conf.servers.is_empty() || remarks.iter().any(|remark| remark.grave), "{remarks:?}");
    assert!(conf.servers.iter().all(|server| server.port() > 0) && conf.attempts > 0 && !conf.timeout.is_zero());
    let mut text = String::new();
    for server in &conf.servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    let (again, remarks) = ResolvConf::parse(text.as_bytes());
    assert!(again.servers == conf.servers && remarks.len() == usize::from(conf.servers.is_empty()), "{remarks:?}");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> (ResolvConf, Vec<String>) {
        let (conf, remarks) = ResolvConf::parse(text.as_bytes());
        let told = |remark: &Remark| {
            format!("{} {} {}", remark.line.unwrap_or_default(), if remark.grave { "!" } else { "-" }, remark.message)
        };
        (conf, remarks.iter().map(told).collect())
    }

    #[test]
    fn nameservers_may_have_ports() {
        let read = |word: &str| server(word).map(|server| server.to_string());
        for (word, expected) in [
            ("127.0.0.1", "127.0.0.1:53"),
            ("127.0.0.1:5353", "127.0.0.1:5353"),
            ("[127.0.0.1]:5353", "127.0.0.1:5353"),
            ("[127.0.0.1]", "127.0.0.1:53"),
            ("::1", "[::1]:53"),
            ("[::1]", "[::1]:53"),
            ("[2001:db8::1]:65535", "[2001:db8::1]:65535"),
            ("::ffff:192.0.2.1", "[::ffff:192.0.2.1]:53"),
        ] {
            assert_eq!(read(word).as_deref(), Ok(expected), "{word}");
        }
        for word in [
            "db1",
            "127.0.0.1:",
            "127.0.0.1:0",
            "127.0.0.1:65536",
            "127.0.0.1:+53",
            "[::1]53",
            "[::1",
            "::1]:53",
            "127.0.0.1.5353",
            "127.1",
            "[]:53",
            "",
            ":53",
            "127.0.0.1%lo",
            "1.2.3.4:53:53",
        ] {
            assert_eq!(read(word), Err(NoServer::NoAddress), "{word}");
        }
        for word in ["fe80::1%eth0", "[fe80::1%2]:53"] {
            assert_eq!(read(word), Err(NoServer::WithInterface), "{word}");
        }
    }

    #[test]
    fn a_file_says_how_to_ask() {
        let text = "# by hand\nnameserver 10.0.0.1\n  nameserver [::1]:5353 ; the second\nsearch a.test,b.test  c.test\n\
                    options ndots:2 timeout:3 attempts:4 rotate edns0 use-vc single-request\n";
        let (conf, remarks) = of(text);
        let expected = ResolvConf {
            servers: vec!["10.0.0.1:53".parse().unwrap(), "[::1]:5353".parse().unwrap()],
            rotate: true,
            search: ["a.test", "b.test", "c.test"].map(String::from).into(),
            ndots: 2,
            timeout: Duration::from_secs(3),
            attempts: 4,
            edns: true,
            transport: Transport::Tcp,
            families: Families::OneByOne,
        };
        assert_eq!((conf, remarks), (expected, Vec::new()));
        let (conf, remarks) = of("domain x.test\nnameserver 10.0.0.1, 10.0.0.2:54\r\noptions no-aaaa");
        assert_eq!((conf.servers.len(), conf.search, remarks), (2, vec![String::from("x.test")], Vec::new()));
        assert_eq!((conf.timeout, conf.attempts, conf.ndots), (Duration::from_secs(5), 2, 1), "resolv.conf(5)'s");
        assert_eq!((conf.families, conf.transport, conf.edns), (Families::OnlyV4, Transport::Udp, false));
        let (conf, _) = of("nameserver 1.1.1.1\noptions ndots:99 timeout:0 attempts:0\n");
        assert_eq!((conf.ndots, conf.timeout, conf.attempts), (15, Duration::from_secs(1), 1));
        let (conf, _) = of("nameserver 1.1.1.1\noptions timeout:99 attempts:99\n");
        assert_eq!((conf.timeout, conf.attempts), (Duration::from_secs(30), 5));
    }

    #[test]
    fn what_cannot_be_asked_is_a_mistake_and_what_is_not_understood_is_said() {
        let (_, remarks) =
            of("\u{feff}x\nnameserver db1\nnameserver\noptions no-such rotate\n# \u{fffd}\nsortlist x\n");
        assert_eq!(
            remarks,
            [
                "0 ! it names no nameserver: add a line such as `nameserver 127.0.0.1`",
                "1 - `\u{feff}x` is not understood, and ignored",
                "2 ! `db1` is no address of a nameserver: write an IP address, with a port where it is not 53, such as \
                 192.0.2.1:5353 or [2001:db8::1]:5353",
                "3 ! `nameserver` needs an IP address",
                "4 - `options no-such rotate` is not understood, and ignored",
                "6 - `sortlist x` is not understood, and ignored",
            ]
        );
        let (conf, remarks) = of("nameserver 1.1.1.1\nnameserver fe80::1%eth0\n");
        assert_eq!((conf.servers.len(), remarks.len()), (1, 1), "{remarks:?}");
        assert!(remarks[0].starts_with("2 ! `fe80::1%eth0` counts on one interface only"), "{remarks:?}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(
            data in proptest::collection::vec(any::<u8>(), 0..200),
            line in "(nameserver|search|options|domain)?[ \t]*[\\[\\]0-9a-f:.%,; ]{0,40}",
        ) {
            fuzz(&data);
            fuzz(&[&data[..], b"\n", line.as_bytes()].concat());
        }
    }
}
