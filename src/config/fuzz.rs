//! Fuzz targets: any text as a configuration, as a file of users and as a file of nameservers.

use std::path::Path;

use super::{Config, Loaded, convert, resolver, userlist};

/// Files whose directory is not there, so that no file is found that a text may name.
const NAME: &str = "/nonexistent/pgpool/pgpool.toml";
const INI: &str = "/nonexistent/pgpool/pgbouncer.ini";

/// The configuration: a text is read as a whole or refused with the places of its mistakes, always in the same way; what
/// was read knows every entry by its name.
///
/// # Panics
/// Where that is not so.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    judge(data, NAME);
}

/// The same for a text in PgBouncer's format; what was read is the same when it is written in TOML and read again.
///
/// # Panics
/// Where that is not so.
#[doc(hidden)]
pub fn fuzz_ini(data: &[u8]) {
    judge(data, INI);
    let text = String::from_utf8_lossy(data);
    if names_devices(&text) {
        return;
    }
    if let Ok((Loaded { config, .. }, places)) = Config::parse_with_places(&text, Path::new(INI)) {
        let toml = convert::write(&config, &places);
        match Config::parse(&toml, Path::new(NAME)) {
            Ok(again) => {
                assert!(Config { path: config.path.clone(), ini: config.ini, ..again.config } == config, "{toml}")
            }
            Err(problems) => assert_eq!(problems.to_string(), "", "{toml}"),
        }
    }
}

fn judge(data: &[u8], name: &str) {
    let text = String::from_utf8_lossy(data);
    if names_devices(&text) {
        return;
    }
    let path = Path::new(name);
    let lines = text.split('\n').count();
    match (Config::parse(&text, path), Config::parse(&text, path)) {
        (Ok(loaded), Ok(again)) => {
            assert_eq!(format!("{loaded:?}"), format!("{again:?}"));
            for warning in &loaded.warnings {
                assert!(!warning.message.is_empty() && warning.line.is_none_or(|line| (1..=lines).contains(&line)));
            }
            let config = loaded.config;
            assert!(config.databases.iter().all(|(name, database)| *name == database.name));
            assert!(config.users.keys().all(|name| !name.is_empty() && config.user(name).is_some()));
            let other = config.database("no such entry");
            assert!(other.is_none_or(|other| other.name == "no such entry" && config.fallback.is_some()));
        }
        (Err(problems), Err(again)) => {
            assert!(!problems.0.is_empty());
            for problem in &problems.0 {
                assert!(!problem.message.is_empty());
                assert!(
                    problem.file != path || problem.line.is_none_or(|line| (1..=lines).contains(&line)),
                    "{problem}"
                );
            }
            assert_eq!(problems.to_string(), again.to_string());
        }
        (Ok(_), Err(problems)) | (Err(problems), Ok(_)) => {
            assert_eq!(problems.to_string(), "", "read once, refused once")
        }
    }
}

/// What a text may name is read: nothing but files that are not there.
fn names_devices(text: &str) -> bool {
    text.contains("/dev/") || text.contains("/proc/")
}

/// The file of users: each line is a user, a mistake or neither; and each user that is written down again is the same.
///
/// # Panics
/// Where that is not so.
#[doc(hidden)]
pub fn fuzz_userlist(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (entries, errors) = userlist::parse(&text);
    let lines = text.lines().count();
    assert!(entries.len() + errors.len() <= lines);
    assert!(entries.is_sorted_by(|a, b| a.line < b.line) && errors.is_sorted_by(|a, b| a.0 < b.0));
    for (line, _) in &errors {
        assert!((1..=lines).contains(line) && entries.iter().all(|entry| entry.line != *line));
    }
    for entry in entries {
        assert!((1..=lines).contains(&entry.line) && !entry.user.is_empty());
        let secret = entry.secret.as_ref().map(|secret| secret.expose()).unwrap_or_default();
        assert!(![entry.user.as_str(), secret].iter().any(|text| text.contains(['\0', '\n'])));
        // A lone CR at the end of what a line has would be taken for its end.
        let quoted = format!("\"{}\" \"{}\" .", entry.user.replace('"', "\"\""), secret.replace('"', "\"\""));
        let (again, errors) = userlist::parse(&quoted);
        assert!(errors.is_empty() && again == [userlist::Entry { line: 1, ..entry }]);
    }
}

/// The file of nameservers.
///
/// # Panics
/// Where [`resolver::fuzz`] does.
#[doc(hidden)]
pub fn fuzz_resolv_conf(data: &[u8]) {
    resolver::fuzz(data);
}
