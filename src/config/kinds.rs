//! The kinds of settings: how each type is read and shown. The tables of settings name one per row.
//!
//! Times have a file of their own, `span`.

use std::marker::PhantomData;
use std::path::PathBuf;

use crate::config::choice::Choice;
use crate::config::database::Host;
use crate::config::secret::Secret;
use crate::config::value::{Kind, Raw, Shape, ValueError};

/// The largest number that PgBouncer's settings hold.
pub(super) const INT_MAX: u64 = 2_147_483_647;
/// A number of connections; 0 means no limit or none, the setting says which.
pub(super) type Count = Within<u32, 0, INT_MAX>;

/// `bool`; shown as 1 and 0 like PgBouncer does.
pub(super) struct Flag;
/// A whole number from `MIN` to `MAX`.
pub(super) struct Within<T, const MIN: u64, const MAX: u64>(PhantomData<T>);
/// Any text.
pub(super) struct Text;
/// A list of words; text is split at commas.
pub(super) struct Words;
/// A path; the empty text is `None`.
pub(super) struct File;
/// One word of an enum.
pub(super) struct OneOf<C>(PhantomData<C>);
/// Permissions of a file, in octal.
pub(super) struct Mode;
/// A secret.
pub(super) struct Hidden;
/// Where PostgreSQL servers listen; text is split at commas.
pub(super) struct Hosts;
/// A host name, an IP address, or an absolute path.
pub(super) struct OneHost;
/// Their ports: one for all, or one for each.
pub(super) struct Ports;
/// Where to listen: `host:port`, with a name, an IP address (IPv6 in brackets) or "*" for the host.
pub(super) struct HostPort;
/// A setting that may be left out.
pub(super) struct Maybe<K>(PhantomData<K>);

/// Permissions of the socket file; only the lowest nine bits are ever set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileMode(pub u32);

impl Kind for Flag {
    type Value = bool;
    const SHAPE: Shape = Shape::Flag;

    fn read(raw: &Raw<'_>) -> Result<bool, ValueError> {
        let known = match raw {
            Raw::Bool(flag) => Some(*flag),
            Raw::Integer { value: 0, .. } => Some(false),
            Raw::Integer { value: 1, .. } => Some(true),
            Raw::Text(text) => match text.trim().to_ascii_lowercase().as_str() {
                "1" | "true" | "on" | "yes" => Some(true),
                "0" | "false" | "off" | "no" => Some(false),
                _ => None,
            },
            Raw::Integer { .. } | Raw::Float(_) | Raw::List(_) | Raw::Other(_) => None,
        };
        known.ok_or_else(|| raw.mismatch("true or false"))
    }

    fn show(value: &bool) -> String {
        String::from(if *value { "1" } else { "0" })
    }
}

impl<T, const MIN: u64, const MAX: u64> Kind for Within<T, MIN, MAX>
where
    T: TryFrom<i128> + ToString,
{
    type Value = T;
    const SHAPE: Shape = Shape::Number;

    fn read(raw: &Raw<'_>) -> Result<T, ValueError> {
        let expected = "a whole number";
        let number = match raw {
            Raw::Integer { value, .. } => *value,
            Raw::Text(text) => whole_number(text.trim()).ok_or_else(|| raw.mismatch(expected))?,
            Raw::Bool(_) | Raw::Float(_) | Raw::List(_) | Raw::Other(_) => return Err(raw.mismatch(expected)),
        };
        let outside = || ValueError::Range { found: number.to_string(), min: MIN.to_string(), max: MAX.to_string() };
        if number < i128::from(MIN) || number > i128::from(MAX) {
            return Err(outside());
        }
        T::try_from(number).map_err(|_| outside())
    }

    fn show(value: &T) -> String {
        value.to_string()
    }
}

/// Decimal, or hexadecimal with `0x`. A leading zero is refused: PgBouncer would read octal, people mean decimal.
fn whole_number(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let starts_with_digit = digits.starts_with(|c: char| c.is_ascii_digit());
    let ambiguous = digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0x");
    if !starts_with_digit || ambiguous {
        return None;
    }
    let number = match digits.strip_prefix("0x") {
        Some(hex) => i128::from_str_radix(hex, 16).ok()?,
        None => digits.parse::<i128>().ok()?,
    };
    Some(if negative { -number } else { number })
}

impl Kind for Text {
    type Value = String;
    const EMPTY_IS_UNSET: bool = true;

    fn read(raw: &Raw<'_>) -> Result<String, ValueError> {
        let Raw::Text(text) = raw else { return Err(raw.mismatch("a string")) };
        without_zero_byte(text)
    }

    fn show(value: &String) -> String {
        value.clone()
    }
}

fn without_zero_byte(text: &str) -> Result<String, ValueError> {
    if text.contains('\0') { Err(ValueError::ZeroByte) } else { Ok(text.to_owned()) }
}

impl Kind for Words {
    type Value = Vec<String>;

    fn read(raw: &Raw<'_>) -> Result<Vec<String>, ValueError> {
        match raw {
            Raw::Text(text) => {
                text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(without_zero_byte).collect()
            }
            // An element of a list is taken as it is: a user's name may hold a comma.
            Raw::List(words) => words.iter().map(|word| without_zero_byte(word)).collect(),
            Raw::Bool(_) | Raw::Integer { .. } | Raw::Float(_) | Raw::Other(_) => {
                Err(raw.mismatch("a list of strings or a string with commas"))
            }
        }
    }

    fn show(value: &Vec<String>) -> String {
        value.join(", ")
    }
}

impl Kind for File {
    type Value = Option<PathBuf>;
    const SHAPE: Shape = Shape::Path;

    fn read(raw: &Raw<'_>) -> Result<Option<PathBuf>, ValueError> {
        let Raw::Text(text) = raw else { return Err(raw.mismatch("a path")) };
        let text = without_zero_byte(text)?;
        Ok((!text.is_empty()).then(|| PathBuf::from(text)))
    }

    fn show(value: &Option<PathBuf>) -> String {
        value.as_ref().map(|path| path.display().to_string()).unwrap_or_default()
    }
}

impl<C: Choice> Kind for OneOf<C> {
    type Value = C;

    fn read(raw: &Raw<'_>) -> Result<C, ValueError> {
        match raw {
            Raw::Text(text) => text.parse(),
            _ => Err(raw.mismatch(C::EXPECTED)),
        }
    }

    fn show(value: &C) -> String {
        value.to_string()
    }
}

impl Kind for Mode {
    type Value = FileMode;
    const SHAPE: Shape = Shape::Mode;

    fn read(raw: &Raw<'_>) -> Result<FileMode, ValueError> {
        let expected = "a file mode in octal, like \"0777\"";
        let bits = match raw {
            Raw::Integer { value, radix: 8 } => u32::try_from(*value).ok(),
            // 777 without a sign of octal would be 01411.
            Raw::Text(text) => {
                let digits = text.trim();
                let octal = digits.strip_prefix("0o").unwrap_or(digits);
                let plain = octal.bytes().all(|b| b.is_ascii_digit());
                plain.then(|| u32::from_str_radix(octal, 8).ok()).flatten()
            }
            Raw::Integer { .. } | Raw::Bool(_) | Raw::Float(_) | Raw::List(_) | Raw::Other(_) => None,
        };
        let bits = bits.ok_or_else(|| raw.mismatch(expected))?;
        if bits > 0o777 {
            let (min, max) = (String::from("0000"), String::from("0777"));
            return Err(ValueError::Range { found: format!("{bits:04o}"), min, max });
        }
        Ok(FileMode(bits))
    }

    fn show(value: &FileMode) -> String {
        format!("{:04o}", value.0)
    }
}

impl Kind for Hidden {
    type Value = Secret;
    const EMPTY_IS_UNSET: bool = true;

    fn read(raw: &Raw<'_>) -> Result<Secret, ValueError> {
        // The text must not appear in the error, so `mismatch` is only reached by values that are no text.
        let Raw::Text(text) = raw else { return Err(raw.mismatch("a string")) };
        Ok(Secret::new(&without_zero_byte(text)?))
    }

    fn show(_: &Secret) -> String {
        String::from("********")
    }

    fn write(value: &Secret) -> String {
        value.expose().to_owned()
    }
}

impl Kind for Hosts {
    type Value = Vec<Host>;
    const EMPTY_IS_UNSET: bool = true;

    fn read(raw: &Raw<'_>) -> Result<Vec<Host>, ValueError> {
        match raw {
            Raw::Text(text) if text.trim().is_empty() => Ok(Vec::new()),
            Raw::Text(text) => text.split(',').map(|host| one_host(host, raw)).collect(),
            Raw::List(hosts) => hosts.iter().map(|host| one_host(host, raw)).collect(),
            Raw::Bool(_) | Raw::Integer { .. } | Raw::Float(_) | Raw::Other(_) => Err(raw.mismatch(HOSTS)),
        }
    }

    fn show(value: &Vec<Host>) -> String {
        value.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }
}

impl Kind for OneHost {
    type Value = Host;
    const EMPTY_IS_UNSET: bool = true;

    fn read(raw: &Raw<'_>) -> Result<Host, ValueError> {
        match raw {
            Raw::Text(text) => one_host(text, raw),
            _ => Err(raw.mismatch("a host name, an address or a directory")),
        }
    }

    fn show(value: &Host) -> String {
        value.to_string()
    }
}

const HOSTS: &str = "a host name, an address, a directory, or a list of them";

fn one_host(text: &str, raw: &Raw<'_>) -> Result<Host, ValueError> {
    let text = without_zero_byte(text.trim())?;
    if text.starts_with(['/', '@']) {
        return Ok(Host::Socket(PathBuf::from(text)));
    }
    if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c == ',') {
        return Err(match raw {
            Raw::List(_) => ValueError::Spelling { expected: "a host name, an address or a directory", found: text },
            _ => raw.mismatch(HOSTS),
        });
    }
    Ok(Host::Name(text))
}

impl Kind for Ports {
    type Value = Vec<u16>;

    fn read(raw: &Raw<'_>) -> Result<Vec<u16>, ValueError> {
        match raw {
            Raw::Text(text) => text.split(',').map(|port| Port::read(&Raw::Text(port))).collect(),
            Raw::List(ports) if !ports.is_empty() => ports.iter().map(|port| Port::read(&Raw::Text(port))).collect(),
            _ => Port::read(raw).map(|port| vec![port]),
        }
    }

    fn show(value: &Vec<u16>) -> String {
        value.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }
}

type Port = Within<u16, 1, 65535>;

impl Kind for HostPort {
    type Value = String;
    const EMPTY_IS_UNSET: bool = true;

    fn read(raw: &Raw<'_>) -> Result<String, ValueError> {
        let expected = "an address with a port, like \"127.0.0.1:9127\", \"[::1]:9127\" or \"*:9127\"";
        let Raw::Text(text) = raw else { return Err(raw.mismatch(expected)) };
        let text = without_zero_byte(text.trim())?;
        split_host_port(&text).map(|_| text.clone()).ok_or_else(|| raw.mismatch(expected))
    }

    fn show(value: &String) -> String {
        value.clone()
    }
}

/// Host and port of a `host:port`; the host without brackets.
pub fn split_host_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|_| port.bytes().all(|byte| byte.is_ascii_digit()))?;
    let inner = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').filter(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok())?,
        None => host,
    };
    let plain = !inner.is_empty() && !inner.contains(|c: char| c.is_whitespace() || matches!(c, ',' | '/' | '[' | ']'));
    (plain && (host.starts_with('[') || !inner.contains(':'))).then_some((inner, port))
}

impl<K: Kind> Kind for Maybe<K> {
    type Value = Option<K::Value>;
    const SHAPE: Shape = K::SHAPE;
    const UNIT: &'static str = K::UNIT;

    fn read(raw: &Raw<'_>) -> Result<Self::Value, ValueError> {
        if K::EMPTY_IS_UNSET && *raw == Raw::Text("") {
            return Ok(None);
        }
        K::read(raw).map(Some)
    }

    fn show(value: &Self::Value) -> String {
        value.as_ref().map(K::show).unwrap_or_default()
    }

    fn write(value: &Self::Value) -> String {
        value.as_ref().map(K::write).unwrap_or_default()
    }
}
