//! `pgpool.toml.example` states every setting, in its section, with its documentation and default.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use toml::de::DeValue;

use crate::config::{Config, Database, General, Peer, Raw, Table, User, When};

/// A setting as the file states it.
struct Stated<'a> {
    /// Text after the equals sign.
    value: &'a str,
    /// The comment line above it.
    doc: &'a str,
}

fn text() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("pgpool.toml.example")).unwrap()
}

/// A line of a setting, commented out or not: no space after the `#`.
fn setting(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.strip_prefix('#').unwrap_or(line).split_once(" = ")?;
    let plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    (plain && !name.is_empty()).then_some((name, value))
}

/// A line without what comments a section's name out.
fn section(line: &str) -> &str {
    line.strip_prefix('#').filter(|rest| rest.starts_with('[')).unwrap_or(line)
}

/// Settings of the section that begins with `[kind`, by name.
fn stated<'a>(text: &'a str, kind: &str) -> BTreeMap<&'a str, Stated<'a>> {
    let (mut found, mut inside, mut above) = (BTreeMap::new(), false, "");
    for line in text.lines() {
        let head = section(line);
        if head.starts_with('[') {
            inside = head.starts_with(&format!("[{kind}"));
        }
        if let (true, Some((name, value))) = (inside, setting(line)) {
            assert!(found.insert(name, Stated { value, doc: above }).is_none(), "{name} is stated twice");
        }
        above = line;
    }
    found
}

fn assert_stated<T: Table + PartialEq + std::fmt::Debug>(text: &str, kind: &str) {
    let mut stated = stated(text, kind);
    for row in T::ROWS {
        let name = row.name;
        let here = stated.remove(name).unwrap_or_else(|| panic!("[{kind}] lacks {name}"));
        let unit = if row.unit.is_empty() { String::new() } else { format!(" [{}]", row.unit) };
        let boot = if row.when == When::Boot { " [restart]" } else { "" };
        assert_eq!(here.doc, format!("# {}{unit}{boot}", row.doc), "{name}");

        let value = DeValue::parse(here.value).unwrap();
        let mut read = T::default();
        (row.set)(&mut read, &Raw::from_toml(value.get_ref())).unwrap_or_else(|error| panic!("{name}: {error}"));
        // A setting that may be left out has no value by default; the file shows how one is written.
        let optional = (row.show)(&T::default()).is_empty() && T::SECTION != General::SECTION;
        assert!(optional || read == T::default(), "{name}: the default is {}", (row.show)(&T::default()));
        assert!(!optional || read != T::default(), "{name}: an example says nothing");
    }
    assert_eq!(stated.keys().collect::<Vec<_>>(), Vec::<&&str>::new(), "unknown in [{kind}]");
}

#[test]
fn every_setting_is_stated() {
    let text = text();
    assert_stated::<General>(&text, "pgpool");
    assert_stated::<Database>(&text, "databases.");
    assert_stated::<User>(&text, "users.");
    assert_stated::<Peer>(&text, "peers.");
}

#[test]
fn the_file_can_be_used_as_it_is() {
    let loaded = Config::parse(&text(), Path::new("pgpool.toml")).unwrap();
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.config.general, General::default());
    assert_eq!((loaded.config.databases.len(), loaded.config.users.len()), (1, 1));
}

#[test]
fn the_file_can_be_used_with_every_setting() {
    let uncommented = |line: &str| match setting(line) {
        // Only instead of the password, and only if it is there.
        Some(("password_file", _)) => String::new(),
        Some((name, value)) => format!("{name} = {value}\n"),
        None => format!("{}\n", section(line)),
    };
    let text: String = text().lines().map(uncommented).collect();
    let loaded = Config::parse(&text, Path::new("pgpool.toml")).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.config.general, General::default());
}
