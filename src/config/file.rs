//! From the text of a TOML file to a draft of the configuration.
//!
//! Every problem of the file is collected with its line; reading goes on after each of them. What needs more than one
//! setting to be judged is left to `check`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use crate::config::database::Database;
use crate::config::general::General;
use crate::config::keywords::{self, Escapes};
use crate::config::peer::{self, Peer};
use crate::config::problem::{Place, Problem};
use crate::config::secret::SecretSource;
use crate::config::suggest::{SECTIONS, elsewhere, nearest, unknown_setting};
use crate::config::table::Table;
use crate::config::user::User;
use crate::config::value::Raw;

/// Names of the console, which no entry may take.
pub(super) const RESERVED: &[&str] = &["pgpool", "pgbouncer"];

/// What a file says, each setting by itself being valid.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) general: General,
    pub(super) databases: BTreeMap<String, Database>,
    pub(super) fallback: Option<Database>,
    pub(super) users: BTreeMap<String, User>,
    pub(super) peers: BTreeMap<u16, Peer>,
    /// Where each setting and section stands, by its dotted name.
    pub(super) places: BTreeMap<String, Place>,
    /// What is doubtful about single lines.
    pub(super) warnings: Vec<Problem>,
}

/// Reads `text`; `file` is only named in the problems.
pub(super) fn read(text: &str, file: &Path) -> (Draft, Vec<Problem>) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader::new(text, file);
    for error in errors {
        reader.syntax(error.message(), error.span());
    }
    for (key, value) in table.get_ref() {
        let (name, line) = (key.get_ref().as_ref(), reader.line(key.span()));
        match value.get_ref() {
            DeValue::Table(section) if name == General::SECTION => {
                let mut general = std::mem::take(&mut reader.draft.general);
                reader.fill(&mut general, section, General::SECTION);
                reader.draft.general = general;
            }
            DeValue::Table(section) if name == "databases" => reader.databases(section),
            DeValue::Table(section) if name == "users" => reader.users(section),
            DeValue::Table(section) if name == "peers" => reader.peers(section),
            _ => reader.stray(name, line, value.get_ref()),
        }
    }
    (reader.draft, reader.problems)
}

struct Reader<'a> {
    file: &'a Path,
    /// The same, for the places.
    shared: Arc<Path>,
    /// Offset at which each line begins.
    starts: Vec<usize>,
    /// Lines that are no TOML. What the parser makes of them would only cause further, misleading problems.
    broken: BTreeSet<usize>,
    draft: Draft,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    fn new(text: &str, file: &'a Path) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(offset, _)| offset + 1)).collect();
        Self {
            file,
            shared: Arc::from(file),
            starts,
            broken: BTreeSet::new(),
            draft: Draft::default(),
            problems: Vec::new(),
        }
    }

    /// Line, from 1, on which `span` begins.
    fn line(&self, span: Range<usize>) -> usize {
        self.starts.partition_point(|start| *start <= span.start)
    }

    fn syntax(&mut self, message: &str, span: Option<Range<usize>>) {
        let line = span.map(|span| self.line(span));
        // One slip often makes the parser stumble several times on its line; the first message is the helpful one.
        let new = line.is_none_or(|line| self.broken.insert(line));
        if new {
            let message = message.to_owned();
            self.problems.push(Problem { file: self.file.to_path_buf(), line, key: None, message });
        }
    }

    fn problem(&mut self, line: usize, key: &str, message: String) {
        if !self.broken.contains(&line) {
            let key = Some(key.to_owned());
            self.problems.push(Problem { file: self.file.to_path_buf(), line: Some(line), key, message });
        }
    }

    fn place(&mut self, key: String, line: usize) {
        self.draft.places.insert(key, Place { file: Arc::clone(&self.shared), line });
    }

    /// Fills `target` from the TOML table of `section`.
    fn fill<T: Table>(&mut self, target: &mut T, table: &DeTable<'_>, section: &str) {
        for (key, value) in table {
            let line = self.line(key.span());
            self.setting(target, (key.get_ref().as_ref(), &Raw::from_toml(value.get_ref())), section, line);
        }
    }

    /// Fills `target` from a connection string.
    fn fill_from_text<T: Table>(&mut self, target: &mut T, text: &str, section: &str, line: usize) {
        let pairs = match keywords::parse(text, Escapes::Backslashes) {
            Ok(pairs) => pairs,
            Err(error) => return self.problem(line, section, format!("`{section}`: {error}")),
        };
        let mut seen = BTreeSet::new();
        for (name, value) in &pairs {
            if seen.insert(name) {
                self.setting(target, (name, &Raw::Text(value)), section, line);
            } else {
                self.problem(line, &format!("{section}.{name}"), format!("`{name}` in [{section}] occurs twice"));
            }
        }
    }

    fn setting<T: Table>(&mut self, target: &mut T, (name, raw): (&str, &Raw<'_>), section: &str, line: usize) {
        let path = format!("{section}.{name}");
        match T::row(name) {
            None => self.problem(line, &path, unknown_setting::<T>(name, section)),
            Some(row) => {
                if let Err(error) = (row.set)(target, raw) {
                    self.problem(line, &path, format!("`{name}` in [{section}]: {error}"));
                }
            }
        }
        self.place(path, line);
    }

    fn databases(&mut self, entries: &DeTable<'_>) {
        for (key, value) in entries {
            let (name, line) = (key.get_ref().as_ref(), self.line(key.span()));
            let mut database = Database { name: name.to_owned(), ..Database::default() };
            if self.entry(&mut database, name, value.get_ref(), ("databases", line)) {
                if RESERVED.contains(&name) {
                    let message = format!("the database name `{name}` is reserved for the console");
                    self.problem(line, &format!("databases.{name}"), message);
                } else if name == "*" {
                    self.draft.fallback = Some(database);
                } else {
                    self.draft.databases.insert(name.to_owned(), database);
                }
            }
        }
    }

    fn users(&mut self, entries: &DeTable<'_>) {
        for (key, value) in entries {
            let (name, line) = (key.get_ref().as_ref(), self.line(key.span()));
            let mut user = User { name: name.to_owned(), ..User::default() };
            if self.entry(&mut user, name, value.get_ref(), ("users", line)) {
                if user.password.is_some() {
                    user.secret_source = SecretSource::Config;
                }
                self.draft.users.insert(name.to_owned(), user);
            }
        }
    }

    fn peers(&mut self, entries: &DeTable<'_>) {
        for (key, value) in entries {
            let (name, line) = (key.get_ref().as_ref(), self.line(key.span()));
            let mut peer = Peer::default();
            if self.entry(&mut peer, name, value.get_ref(), ("peers", line)) {
                match peer::id(name) {
                    Ok(id) => drop(self.draft.peers.insert(id, Peer { id, ..peer })),
                    Err(message) => self.problem(line, &format!("peers.{name}"), message),
                }
            }
        }
    }

    /// Reads one entry of `[databases]`, `[users]` or `[peers]`; false if there is no entry to keep.
    fn entry<T: Table>(&mut self, target: &mut T, name: &str, value: &DeValue<'_>, place: (&str, usize)) -> bool {
        let (kind, line) = place;
        let section = format!("{kind}.{name}");
        self.place(section.clone(), line);
        if name.is_empty() || name.contains('\0') {
            self.problem(line, kind, format!("a name in [{kind}] is empty or holds a zero byte"));
            return false;
        }
        match value {
            DeValue::Table(table) => self.fill(target, table, &section),
            DeValue::String(text) => self.fill_from_text(target, text, &section, line),
            // A setting without its entry, such as `port = 5432` right below [databases].
            _ => {
                let found = Raw::from_toml(value).type_name();
                let message = elsewhere(name)
                    .unwrap_or_else(|| format!("`{section}`: expected a table or \"keyword=value …\", found {found}"));
                self.problem(line, &section, message);
                return false;
            }
        }
        true
    }

    /// A key of the top level that is none of our sections.
    fn stray(&mut self, name: &str, line: usize, value: &DeValue<'_>) {
        let is_table = matches!(value, DeValue::Table(_));
        let message = match name {
            _ if SECTIONS.contains(&name) => format!("`{name}` must be a section: [{name}]"),
            _ if !is_table => elsewhere(name).unwrap_or_else(|| format!("`{name}` stands in no section")),
            "pgbouncer" => String::from("unknown section [pgbouncer]: its settings belong into [pgpool]"),
            _ => {
                let hint = nearest(name, SECTIONS.iter().copied()).map(|near| format!(", did you mean [{near}]?"));
                format!("unknown section [{name}]{}", hint.unwrap_or_default())
            }
        };
        self.problem(line, name, message);
    }
}
