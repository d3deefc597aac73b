//! `pgpool check`: what is wrong with a configuration, and what a reload would make of it.

use std::fmt::Write as _;
use std::path::Path;

use pgpool::config::{Config, Database, EntryChanges, Loaded, changes};
use pgpool::net::tls::Tls;

use super::demand::against_servers;

/// What to print about the file at `path`, what differs from the one at `against`, and, if it may `connect`, whether its
/// servers have as many slots as it may want.
///
/// # Errors
/// Everything that is wrong with it.
pub(crate) fn check(path: &Path, against: Option<&Path>, connect: bool) -> Result<String, String> {
    let Loaded { warnings, config } = Config::load(path).map_err(|problems| problems.to_string())?;
    Tls::load(&config, None).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut text: String = warnings.iter().map(|warning| format!("warning: {warning}\n")).collect();
    if let Some(other) = against {
        let running = Config::load(other).map_err(|problems| problems.to_string())?.config;
        text.push_str(&differences(&running, &config));
    }
    if connect {
        text.push_str(&against_servers(&config)?);
    }
    let _ = writeln!(text, "{}: no problem found", path.display());
    Ok(text)
}

/// What a process that runs with `old` makes of `new`: at a reload, or only when it is started again.
fn differences(old: &Config, new: &Config) -> String {
    let found = changes(old, new);
    let mut text = String::new();
    for boot in [false, true] {
        for change in found.settings.iter().filter(|change| change.boot_only == boot) {
            let when = if boot { "restart" } else { "reload" };
            let _ = writeln!(text, "{when}: {}: {} -> {}", change.name, shown(&change.old), shown(&change.new));
        }
    }
    if old.access != new.access {
        text.push_str("reload: the rules or maps of who may log in change\n");
    }
    entries(&mut text, "database", &found.databases, |name| database(old, new, name));
    entries(&mut text, "user", &found.users, |_| "");
    entries(&mut text, "peer", &found.peers, |_| "");
    if text.is_empty() {
        text.push_str("nothing changes\n");
    }
    text
}

fn entries<'a>(text: &mut String, kind: &str, found: &EntryChanges, what: impl Fn(&str) -> &'a str) {
    let lists = [("is new", &found.added), ("goes", &found.removed), ("changes", &found.changed)];
    for (verb, names) in lists {
        for name in names {
            let _ = writeln!(text, "reload: {kind} {name:?} {verb}{}", what(name));
        }
    }
}

/// What becomes of the connections of a database.
fn database(old: &Config, new: &Config, name: &str) -> &'static str {
    let entry = |config: &Config| match name {
        "*" => config.fallback.clone(),
        _ => config.databases.get(name).cloned(),
    };
    match (entry(old), entry(new)) {
        (Some(_), None) if new.fallback.is_some() => ", and its clients go on as those of \"*\"",
        (Some(_), None) => ", and its clients are disconnected",
        (Some(old), Some(new)) if old.user != new.user => ", and new clients get connections of its user",
        (Some(old), Some(new)) if !replaced(&old, &new) => "",
        (Some(_), Some(_)) => ", and its connections are replaced",
        (None, _) => "",
    }
}

fn replaced(old: &Database, new: &Database) -> bool {
    !old.same_target(new) || !old.startup_parameters().eq(new.startup_parameters())
}

fn shown(value: &str) -> &str {
    if value.is_empty() { "(empty)" } else { value }
}
