//! From a pgbouncer.ini to a draft of the configuration: the settings are those of a pgpool.toml, with PgBouncer's
//! spelling, sections and defaults.
//!
//! Sections may come again and go on over `%include`s; the last of several values counts, and another `[pgbouncer]` sets
//! what was before it back, as in PgBouncer. Unlike PgBouncer, which stops at the first mistake, every mistake is
//! collected with its file and line.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

mod defaults;
mod entry;
mod lines;
mod spelling;

pub(super) use defaults::{defaults, has_no_default};

use crate::config::file::{Draft, RESERVED};
use crate::config::general::General;
use crate::config::peer::{self, Peer};
use crate::config::problem::{Place, Problem};
use crate::config::secret::SecretSource;
use crate::config::suggest::{nearest, unknown_setting};
use crate::config::table::Table;
use crate::config::{Database, Host, User};

use self::lines::Item;

/// How deep files may include each other, as in PgBouncer.
const DEEPEST: usize = 10;
/// PgBouncer's directory for connections to PostgreSQL where neither the entry nor `unix_socket_dir` says one.
const SOCKET_DIRECTORY: &str = "/tmp";
const SECTIONS: [&str; 4] = ["pgbouncer", "databases", "users", "peers"];

/// Reads `text`, the file at `path`, and what it includes.
pub(super) fn read(text: &str, path: &Path) -> (Draft, Vec<Problem>) {
    let file: Arc<Path> = Arc::from(path);
    let mut reader = Reader {
        here: Place { file, line: 0 },
        section: Section::None,
        draft: Draft { general: defaults(), ..Draft::default() },
        problems: Vec::new(),
    };
    reader.file(text, 0);
    reader.default_hosts();
    (reader.draft, reader.problems)
}

/// Where a setting belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Section {
    /// Before the first section.
    None,
    General,
    Databases,
    Users,
    Peers,
    /// One that is a mistake; nothing is said of what stands in it.
    Unknown,
}

struct Reader {
    /// The line that is read.
    here: Place,
    section: Section,
    draft: Draft,
    problems: Vec<Problem>,
}

impl Reader {
    fn file(&mut self, text: &str, depth: usize) {
        for (line, item) in lines::read(text) {
            self.here.line = line;
            match item {
                Ok(Item::Section(name)) => self.section(name),
                Ok(Item::Include(file)) => self.include(file, depth),
                Ok(Item::Setting { name, value }) => self.setting(&name, value),
                Err(error) => self.problem("", error.to_string()),
            }
        }
    }

    fn include(&mut self, name: &str, depth: usize) {
        if depth + 1 > DEEPEST {
            let message = format!("%include {name}: files include each other more than {DEEPEST} times deep");
            return self.problem("", message);
        }
        // What is named is what an operator knows; what is opened does not depend on it.
        let text = match std::fs::read(spelling::absolute(name)) {
            Ok(bytes) => Zeroizing::new(bytes),
            Err(error) => return self.problem("", format!("cannot read %include {name}: {error}")),
        };
        let Ok(text) = std::str::from_utf8(&text) else {
            return self.problem("", format!("cannot read %include {name}: the file is no text"));
        };
        let place = std::mem::replace(&mut self.here, Place { file: Arc::from(Path::new(name)), line: 0 });
        self.file(text, depth + 1);
        self.here = place;
    }

    fn section(&mut self, name: &str) {
        self.section = match name {
            "pgbouncer" => Section::General,
            "databases" => Section::Databases,
            "users" => Section::Users,
            "peers" => Section::Peers,
            _ => Section::Unknown,
        };
        match self.section {
            Section::General => self.general_again(),
            Section::Unknown => {
                let hint = match nearest(name, SECTIONS.into_iter()) {
                    _ if name == General::SECTION => String::from(": its settings stand in [pgbouncer]"),
                    Some(near) => format!(", did you mean [{near}]?"),
                    None => String::new(),
                };
                self.problem(name, format!("unknown section [{name}]{hint}"));
            }
            Section::Peers | Section::Databases | Section::Users | Section::None => {}
        }
    }

    /// `[pgbouncer]`, perhaps not for the first time: PgBouncer sets everything back that has a default.
    fn general_again(&mut self) {
        let fresh = defaults::reset(&self.draft.general);
        let lost = General::ROWS.iter().filter(|row| !(row.same)(&fresh, &self.draft.general));
        let lost: Vec<&str> = lost.map(|row| row.name).collect();
        if !lost.is_empty() {
            let message = format!("another [pgbouncer] sets back what stands before it: {}", lost.join(", "));
            self.warn("pgpool", message);
        }
        self.draft.general = fresh;
        self.draft.places.retain(|key, _| !key.starts_with("pgpool."));
    }

    fn setting(&mut self, name: &str, value: &str) {
        if name.contains('\0') || value.contains('\0') {
            return self.problem(name, String::from("a zero byte is not allowed"));
        }
        match self.section {
            Section::None => self.problem(name, format!("`{name}` stands in no section, such as [pgbouncer]")),
            Section::General => self.general(name, value),
            Section::Databases => self.database(name, value),
            Section::Users => self.user(name, value),
            Section::Peers => self.peer(name, value),
            Section::Unknown => {}
        }
    }

    fn general(&mut self, name: &str, value: &str) {
        let key = format!("pgpool.{name}");
        let Some(row) = General::row(name) else {
            return self.problem(&key, in_ini_words(&unknown_setting::<General>(name, "pgbouncer")));
        };
        if let Err(error) = spelling::set_general(row, &mut self.draft.general, value) {
            let comment = if value.contains([';', '#']) { "; a comment stands on a line of its own" } else { "" };
            self.problem(&key, format!("`{name}` in [pgbouncer]: {error}{comment}"));
        }
        self.place(key, name);
    }

    /// Notes where `key` stands, and that an earlier place no longer counts.
    fn place(&mut self, key: String, name: &str) {
        if let Some(first) = self.draft.places.insert(key.clone(), self.here.clone()) {
            let file = if first.file == self.here.file { String::new() } else { format!("{}:", first.file.display()) };
            self.warn(&key, format!("`{name}` occurs again after line {file}{}; the last one counts", first.line));
        }
    }

    fn database(&mut self, name: &str, value: &str) {
        let key = format!("databases.{name}");
        let mut database = Database { name: name.to_owned(), ..Database::default() };
        self.entry(&mut database, &key, value);
        if RESERVED.contains(&name) {
            self.problem(&key, format!("the database name `{name}` is reserved for the console"));
        }
        self.place(key, name);
        if name == "*" {
            self.draft.fallback = Some(database);
        } else {
            self.draft.databases.insert(name.to_owned(), database);
        }
    }

    fn user(&mut self, name: &str, value: &str) {
        let key = format!("users.{name}");
        let mut user = User { name: name.to_owned(), ..User::default() };
        self.entry(&mut user, &key, value);
        if user.password.is_some() {
            user.secret_source = SecretSource::Config;
        }
        self.place(key, name);
        self.draft.users.insert(name.to_owned(), user);
    }

    fn peer(&mut self, name: &str, value: &str) {
        let key = format!("peers.{name}");
        let mut peer = Peer::default();
        self.entry(&mut peer, &key, value);
        self.place(key.clone(), name);
        match peer::id(name) {
            Ok(id) => drop(self.draft.peers.insert(id, Peer { id, ..peer })),
            Err(message) => self.problem(&key, message),
        }
    }

    /// Entries without a host are where PgBouncer looks for them: behind a socket in `unix_socket_dir`.
    fn default_hosts(&mut self) {
        let directory = self.draft.general.unix_socket_dir.clone();
        let socket = Host::Socket(directory.unwrap_or_else(|| PathBuf::from(SOCKET_DIRECTORY)));
        for database in self.draft.databases.values_mut().chain(&mut self.draft.fallback) {
            if database.host.is_empty() {
                database.host.push(socket.clone());
            }
        }
    }

    fn about(&self, key: &str, message: String) -> Problem {
        let key = (!key.is_empty()).then(|| key.to_owned());
        Problem { file: self.here.file.to_path_buf(), line: Some(self.here.line), key, message }
    }

    fn problem(&mut self, key: &str, message: String) {
        let problem = self.about(key, message);
        self.problems.push(problem);
    }

    fn warn(&mut self, key: &str, message: String) {
        let warning = self.about(key, message);
        self.draft.warnings.push(warning);
    }
}

/// A message about sections by the names that they have in a pgbouncer.ini.
fn in_ini_words(message: &str) -> String {
    let names = [
        ("[pgpool]", "[pgbouncer]"),
        ("[databases.NAME]", "[databases]"),
        ("[users.NAME]", "[users]"),
        ("[peers.ID]", "[peers]"),
    ];
    let mut words = message.to_owned();
    for (toml, ini) in names {
        words = words.replace(toml, ini);
    }
    words
}
