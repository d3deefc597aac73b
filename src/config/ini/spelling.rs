//! How PgBouncer spells values, where that is not how the console's `SET` and TOML strings do.
//!
//! Whole numbers of `[pgbouncer]` have a base like numbers in C: `0x1f`, `017`, `15`. Flags are numbers. Times are
//! floating. In entries numbers are decimal. Whatever is none of that goes to the setting as text, which takes it (a time
//! with a unit) or says what is wrong.

use std::env;
use std::path::PathBuf;

use crate::config::table::Row;
use crate::config::value::{Raw, Shape, ValueError};

/// Reads a value of `[pgbouncer]` into the setting of `row`.
pub(super) fn set_general<T>(row: &Row<T>, target: &mut T, text: &str) -> Result<(), ValueError> {
    let raw = match (row.shape, number(text)) {
        (Shape::Path, _) => return set_path(row, target, text),
        (Shape::Flag, Some(value)) => Raw::Bool(value != 0),
        // A mode in hexadecimal is as clear as one in octal; 777 would be 01411.
        (Shape::Mode, Some(value)) => Raw::Integer { value, radix: if radix(text) == 10 { 10 } else { 8 } },
        (Shape::Mode, None) => Raw::Other("no number"),
        (Shape::Number, Some(value)) => Raw::Integer { value, radix: radix(text) },
        (Shape::Time, _) => time(text),
        _ => Raw::Text(text),
    };
    (row.set)(target, &raw)
}

/// Reads a value of an entry into the setting of `row`.
pub(super) fn set_entry<T>(row: &Row<T>, target: &mut T, text: &str) -> Result<(), ValueError> {
    let raw = match row.shape {
        Shape::Path => return set_path(row, target, text),
        Shape::Number => text.parse().map_or(Raw::Text(text), |value| Raw::Integer { value, radix: 10 }),
        Shape::Time => time(text),
        Shape::Flag | Shape::Mode | Shape::Text => Raw::Text(text),
    };
    (row.set)(target, &raw)
}

/// PgBouncer looks for a file from where it was started, and knows `~`. Here the path is made one that means
/// the same from everywhere.
fn set_path<T>(row: &Row<T>, target: &mut T, text: &str) -> Result<(), ValueError> {
    if text.is_empty() || text.starts_with('@') {
        return (row.set)(target, &Raw::Text(text));
    }
    let path = absolute(text);
    // What came of a text and the directory's name is text, or the file could not be shown.
    (row.set)(target, &Raw::Text(&path.to_string_lossy()))
}

/// `path` from the working directory, with the home directory for `~`.
pub(super) fn absolute(path: &str) -> PathBuf {
    let home = |rest: &str| Some(PathBuf::from(env::var_os("HOME")?).join(rest));
    let expanded = match path.strip_prefix('~') {
        Some("") => home(""),
        Some(rest) => rest.strip_prefix('/').and_then(home),
        None => None,
    };
    let path = expanded.unwrap_or_else(|| PathBuf::from(path));
    std::path::absolute(&path).unwrap_or(path)
}

/// A whole number as C's `strtol` reads it with base 0.
pub(super) fn number(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    let base = radix(text);
    let digits = if base == 16 { digits.get(2..)? } else { digits };
    // `from_str_radix` would take another sign.
    let value =
        digits.starts_with(|c: char| c.is_ascii_hexdigit()).then(|| i128::from_str_radix(digits, base).ok())??;
    Some(if negative { -value } else { value })
}

fn radix(text: &str) -> u32 {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => 16,
        [b'0', _, ..] => 8,
        _ => 10,
    }
}

fn time(text: &str) -> Raw<'_> {
    match (text.parse(), number(text)) {
        (Ok(seconds), _) => Raw::Float(seconds),
        (Err(_), Some(value)) => Raw::Integer { value, radix: 16 },
        (Err(_), None) => Raw::Text(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::General;
    use crate::config::table::Table;

    #[test]
    fn numbers_have_a_base() {
        let cases = [
            ("0", Some(0)),
            ("15", Some(15)),
            ("-1", Some(-1)),
            ("+7", Some(7)),
            ("0x1F", Some(31)),
            ("0X1f", Some(31)),
            ("-0x10", Some(-16)),
            ("0777", Some(0o777)),
            ("010", Some(8)),
            ("00", Some(0)),
            ("08", None),
            ("0x", None),
            ("0xg", None),
            ("", None),
            ("-", None),
            ("--1", None),
            ("0x-1", None),
            ("1 ", None),
            ("5 ; x", None),
            ("1.5", None),
            ("a", None),
        ];
        for (text, expected) in cases {
            assert_eq!(number(text), expected, "{text}");
        }
    }

    fn shown(name: &str, text: &str) -> Result<String, String> {
        let row = General::row(name).unwrap();
        let mut general = General::default();
        set_general(row, &mut general, text).map_err(|error| error.to_string())?;
        Ok((row.show)(&general))
    }

    #[test]
    fn values_mean_what_they_mean_to_pgbouncer() {
        let cases = [
            ("max_client_conn", "0x64", "100"),
            ("max_client_conn", "0144", "100"),
            ("unix_socket_mode", "0700", "0700"),
            ("unix_socket_mode", "0x1ff", "0777"),
            ("log_stats", "0", "0"),
            ("log_stats", "2", "1"),
            ("log_stats", "off", "0"),
            ("server_lifetime", "1e3", "1000"),
            ("server_lifetime", "0.25", "0.25"),
            ("server_lifetime", "010", "10"),
            ("server_lifetime", "0x10", "16"),
            ("server_lifetime", "2min", "120"),
            ("tcp_user_timeout", "1500", "1500"),
            ("admin_users", "a, b", "a, b"),
            ("auth_file", "/etc/x", "/etc/x"),
            ("auth_file", "", ""),
            ("pool_mode", "Transaction", "transaction"),
        ];
        for (name, text, expected) in cases {
            assert_eq!(shown(name, text).as_deref(), Ok(expected), "{name} = {text}");
        }
        for (name, text) in [
            ("max_client_conn", "08"),
            ("max_client_conn", "-1"),
            ("max_client_conn", "5 ; x"),
            ("max_client_conn", ""),
            ("unix_socket_mode", "777"),
            ("unix_socket_mode", "rwx"),
            ("log_stats", "maybe"),
            ("server_lifetime", "inf"),
            ("server_lifetime", "-1"),
            ("server_lifetime", ""),
        ] {
            assert!(shown(name, text).is_err(), "{name} = {text}: {:?}", shown(name, text));
        }
    }

    #[test]
    fn files_are_found_from_everywhere() {
        let here = env::current_dir().unwrap();
        assert_eq!(shown("auth_file", "users.txt"), Ok(here.join("users.txt").display().to_string()));
        let home = PathBuf::from(env::var_os("HOME").unwrap_or_default());
        assert_eq!(absolute("~/x"), std::path::absolute(home.join("x")).unwrap());
    }
}
