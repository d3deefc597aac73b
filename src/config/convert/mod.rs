//! A pgbouncer.ini as a pgpool.toml that means the same, and what became of each of its lines.
//!
//! Invariant: what is written is read again as an equal configuration. Settings that the file does not have are written
//! where a pgpool.toml would mean something else by their absence. The text has the file's secrets.

mod notes;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use zeroize::Zeroizing;

use self::notes::note;
use crate::config::idle::why_idle;
use crate::config::problem::{Place, Problem, Problems};
use crate::config::table::{Row, Table, When};
use crate::config::value::Shape;
use crate::config::{Config, Database, General, Loaded, Peer, SecretSource, User};

/// A pgbouncer.ini in TOML.
#[derive(Debug)]
pub struct Conversion {
    /// The text of the pgpool.toml.
    pub toml: Zeroizing<String>,
    /// What became of each setting, as `FILE:LINE: name: same`, in the order of the files.
    pub report: Vec<String>,
    /// What is doubtful in the file.
    pub warnings: Vec<Problem>,
}

impl Config {
    /// Reads the pgbouncer.ini at `path` and writes it in TOML.
    ///
    /// # Errors
    /// Everything that is wrong with it; also, that it is no pgbouncer.ini by its name.
    pub fn convert(path: &Path) -> Result<Conversion, Problems> {
        let other = || {
            let message = String::from(
                "only a pgbouncer.ini can be converted: its name ends in .ini, or it has a section [pgbouncer]",
            );
            Problems(vec![Problem { file: path.to_path_buf(), line: None, key: None, message }])
        };
        let (Loaded { config, warnings }, places) = match Self::load_with_places(path) {
            Ok(loaded) if !loaded.0.config.ini => return Err(other()),
            loaded => loaded?,
        };
        let toml = Zeroizing::new(write(&config, &places));
        Ok(Conversion { toml, report: report(&places), warnings })
    }
}

/// The configuration in TOML; `places` has what its file says itself.
pub(super) fn write(config: &Config, places: &BTreeMap<String, Place>) -> String {
    let mut out = format!("# From {:?}.\n\n[{}]\n", config.path, General::SECTION);
    let fresh = General::default();
    for row in General::ROWS {
        let said = places.contains_key(&format!("pgpool.{}", row.name));
        if said || !(row.same)(&config.general, &fresh) {
            let comment = if said { "" } else { " (PgBouncer's default)" };
            setting(&mut out, row, &config.general, "pgpool", comment);
        }
    }
    for database in config.fallback.iter().chain(config.databases.values()) {
        section(&mut out, "databases", &database.name);
        entry(&mut out, &**database, "databases", |name| name == "password" && database.password_file.is_some());
    }
    for user in config.users.values() {
        let elsewhere = |name: &str| name == "password" && user.secret_source != SecretSource::Config;
        let says = |row: &Row<User>| !elsewhere(row.name) && !(row.same)(user, &User::default());
        // Those that only the auth_file has are there with it.
        if User::ROWS.iter().any(says) || user.secret_source == SecretSource::None {
            section(&mut out, "users", &user.name);
            entry(&mut out, &**user, "users", elsewhere);
        }
    }
    for peer in config.peers.values() {
        section(&mut out, "peers", &peer.id.to_string());
        entry(&mut out, &**peer, "peers", |_| false);
    }
    out
}

fn section(out: &mut String, kind: &str, name: &str) {
    let _ = write!(out, "\n[{kind}.{}]\n", quoted(name));
}

/// Writes what an entry says; `skipped` names what is said elsewhere.
fn entry<T: Table>(out: &mut String, entry: &T, kind: &str, skipped: impl Fn(&str) -> bool) {
    let fresh = T::default();
    for row in T::ROWS {
        if !(row.same)(entry, &fresh) && !skipped(row.name) {
            setting(out, row, entry, kind, "");
        }
    }
}

fn setting<T>(out: &mut String, row: &Row<T>, from: &T, section: &str, comment: &str) {
    let unit = if row.unit.is_empty() { String::new() } else { format!(" [{}]", row.unit) };
    let boot = if row.when == When::Boot { " [restart]" } else { "" };
    let _ = writeln!(out, "# {}{unit}{boot}{comment}", row.doc);
    if let Some(note) = note(section, row.name) {
        let _ = writeln!(out, "# Not as in PgBouncer: {note}.");
    }
    let text = Zeroizing::new((row.write)(from));
    let value = match row.shape {
        Shape::Number | Shape::Time => text.to_string(),
        Shape::Flag => String::from(if *text == "1" { "true" } else { "false" }),
        Shape::Mode | Shape::Path | Shape::Text => quoted(&text),
    };
    let _ = writeln!(out, "{} = {value}", row.name);
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => drop(write!(out, "\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// What became of each line.
fn report(places: &BTreeMap<String, Place>) -> Vec<String> {
    let mut lines: Vec<(&Place, String)> = places.iter().filter_map(|(key, place)| Some((place, fate(key)?))).collect();
    lines.sort_by(|(one, a), (other, b)| (&one.file, one.line, a).cmp(&(&other.file, other.line, b)));
    lines.into_iter().map(|(place, line)| format!("{}:{}: {line}", place.file.display(), place.line)).collect()
}

/// "max_client_conn: same"; nothing for an entry as such.
fn fate(key: &str) -> Option<String> {
    let (section, rest) = key.split_once('.')?;
    // The name of an entry may have dots, those of settings have none.
    let (shown, name) = match rest.rsplit_once('.') {
        _ if section == "pgpool" => (rest.to_owned(), rest),
        Some((_, name)) => (key.to_owned(), name),
        None => return None,
    };
    let known = match section {
        "pgpool" => General::row(name).is_some(),
        "databases" => Database::row(name).is_some(),
        "peers" => Peer::row(name).is_some(),
        _ => User::row(name).is_some(),
    };
    let fate = match (note(section, name), why_idle(name).filter(|_| section == "pgpool")) {
        _ if !known => return None,
        (_, Some(why)) => format!("ignored: {why}"),
        (Some(note), None) => format!("different: {note}"),
        (None, None) => String::from("same"),
    };
    Some(format!("{shown}: {fate}"))
}
