//! The configuration: from a file to a checked, immutable `Config`.
//!
//! A file is read whole before any of it counts, and every problem in it is reported at once, with its line. What a
//! setting is called, how it is written, its default and its documentation stand in one row of one table (`general`,
//! `database`, `user`). This module does no more I/O than reading the file and those that it names (`auth_file`,
//! `password_file`, `auth_hba_file`, `auth_ident_file`, `resolv_conf`); it never logs, and secrets do not appear in what it prints.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use problem::Place;
use zeroize::Zeroizing;

mod access;
mod changes;
mod check;
mod choice;
mod convert;
mod database;
mod demand;
mod features;
mod file;
mod fuzz;
mod general;
mod idle;
mod ini;
mod keywords;
mod kinds;
mod peer;
mod problem;
mod resolve;
mod resolver;
mod secret;
mod secret_file;
mod slot_budget;
mod span;
mod suggest;
mod table;
#[cfg(test)]
mod tests;
mod tls;
mod user;
pub mod userlist;
mod value;

pub use access::Access;
pub use changes::{Changes, EntryChanges, SettingChange, changes};
pub use choice::{
    AuthType, ChannelBinding, DheParams, Facility, ListenerLost, LoadBalance, LogFormat, Policy, PoolMode,
    PrepareUnnamed, SessionAttrs, SslMode, SslNegotiation,
};
pub use convert::Conversion;
pub use database::{Database, Host};
pub use demand::{Demand, EntryDemand, PoolDemand};
pub use features::SessionFeatures;
#[doc(hidden)]
pub use fuzz::{fuzz, fuzz_ini, fuzz_resolv_conf, fuzz_userlist};
pub use general::{General, SetError, Shown};
pub use kinds::{FileMode, split_host_port};
pub use peer::Peer;
pub use problem::{Problem, Problems};
pub use resolve::AuthSource;
pub use resolver::{Families, Remark, ResolvConf, Transport};
pub use secret::{Secret, SecretKind, SecretSource};
pub use secret_file::{SecretFileError, SecretFiles};
pub use slot_budget::SlotBudget;
pub use table::{Row, Table, When};
pub use tls::{Chosen, GROUPS, SUITES_12, SUITES_13, TlsProtocols};
pub use user::User;
pub use value::{Raw, Shape, ValueError};

/// A checked configuration. Never changes; a reload or `SET` makes a new one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The file, as it was named.
    pub path: PathBuf,
    /// Whether it is a pgbouncer.ini.
    pub ini: bool,
    /// `[pgpool]`.
    pub general: General,
    /// `[databases.NAME]` without the fallback, by name.
    pub databases: BTreeMap<String, Arc<Database>>,
    /// `[databases."*"]`: the entry for every name that has none; its own name is `*`.
    pub fallback: Option<Arc<Database>>,
    /// `[users.NAME]` and the users of the `auth_file`, by name.
    pub users: BTreeMap<String, Arc<User>>,
    /// `[peers.ID]`, by id.
    pub peers: BTreeMap<u16, Arc<Peer>>,
    /// The rules of the `auth_hba_file` and the maps of the `auth_ident_file`.
    pub access: Arc<Access>,
    /// What the file of `resolv_conf` says; none = the system's resolver is asked.
    pub resolver: Option<Arc<ResolvConf>>,
}

/// A configuration that can be used, and what is doubtful in it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What an operator should look at, in the order of the file.
    pub warnings: Vec<Problem>,
}

impl Config {
    /// Reads the file at `path`, and the files that it names.
    pub fn load(path: &Path) -> Result<Loaded, Problems> {
        Self::load_with_places(path).map(|(loaded, _)| loaded)
    }

    /// The same, with the place of everything that the file says.
    fn load_with_places(path: &Path) -> Result<(Loaded, BTreeMap<String, Place>), Problems> {
        let problem = |message| Problems(vec![Problem { file: path.to_path_buf(), line: None, key: None, message }]);
        let bytes = std::fs::read(path).map_err(|error| problem(format!("cannot read the file: {error}")))?;
        let bytes = Zeroizing::new(bytes);
        let text = std::str::from_utf8(&bytes).map_err(|error| problem(format!("the file is no text: {error}")))?;
        Self::parse_with_places(text, path)
    }

    /// Reads `text` as the file at `path`: as a pgbouncer.ini if its name ends in `.ini`, or neither in that nor in
    /// `.toml` and it has a section `[pgbouncer]`, else as TOML. The files that it
    /// names are searched from the directory of `path`, those of a pgbouncer.ini from the working directory.
    pub fn parse(text: &str, path: &Path) -> Result<Loaded, Problems> {
        Self::parse_with_places(text, path).map(|(loaded, _)| loaded)
    }

    fn parse_with_places(text: &str, path: &Path) -> Result<(Loaded, BTreeMap<String, Place>), Problems> {
        let ini = is_ini(path, text);
        let read = if ini { ini::read } else { file::read };
        let (mut draft, problems) = read(text, path);
        let warnings = std::mem::take(&mut draft.warnings);
        let mut findings = check::Findings { file: path, places: &draft.places, problems, warnings };
        check::read_secret_files(&mut draft.users, &mut draft.databases, &mut draft.fallback, &mut findings);
        let auth_file = draft.general.auth_file.clone();
        check::add_auth_file(auth_file.as_deref(), &mut draft.users, &mut findings);
        let access = access::read(&draft.general, &mut findings);
        let resolver = resolver::read(&draft.general, &mut findings);
        let config = Self {
            path: path.to_path_buf(),
            ini,
            general: draft.general,
            databases: shared(draft.databases),
            fallback: draft.fallback.map(Arc::new),
            users: shared(draft.users),
            peers: shared(draft.peers),
            access: Arc::new(access),
            resolver,
        };
        check::run(&config, &mut findings);
        let check::Findings { mut problems, mut warnings, .. } = findings;
        // This file before those that it names, whose problems are in order; a problem that concerns the whole file before
        // those of its lines.
        let place = |problem: &Problem| if problem.file == path { (false, problem.line) } else { (true, None) };
        problems.sort_by_key(place);
        warnings.sort_by_key(place);
        if problems.is_empty() { Ok((Loaded { config, warnings }, draft.places)) } else { Err(Problems(problems)) }
    }

    /// Reads the `auth_hba_file` and the `auth_ident_file` again, after one of their settings, or of those that they
    /// need, was changed by `SET`.
    ///
    /// # Errors
    /// Everything that is wrong with them; nothing is changed then.
    pub fn read_access(&mut self) -> Result<(), Problems> {
        let places = BTreeMap::new();
        let mut findings =
            check::Findings { file: &self.path, places: &places, problems: Vec::new(), warnings: Vec::new() };
        let access = access::read(&self.general, &mut findings);
        access::check_memberships(&access.rules, self, &mut findings);
        if !findings.problems.is_empty() {
            return Err(Problems(findings.problems));
        }
        self.access = Arc::new(access);
        Ok(())
    }

    /// Looks at the settings together again, after one of them was changed by `SET`.
    ///
    /// # Errors
    /// Combinations that cannot work.
    pub fn check_again(&self) -> Result<(), Problems> {
        let places = BTreeMap::new();
        let mut findings =
            check::Findings { file: &self.path, places: &places, problems: Vec::new(), warnings: Vec::new() };
        check::run(self, &mut findings);
        if findings.problems.is_empty() { Ok(()) } else { Err(Problems(findings.problems)) }
    }

    /// A file of a setting as seen from the directory of the configuration file.
    pub fn beside(&self, path: &Path) -> PathBuf {
        check::beside(&self.path, path)
    }

    /// Where the file says a setting of `[pgpool]`, as `FILE:LINE`, for messages; the file is read for it. Where it says
    /// nothing, the default counts.
    pub fn place_of(&self, setting: &str) -> String {
        let places = Self::load_with_places(&self.path).map(|(_, places)| places).unwrap_or_default();
        match places.get(&format!("{}.{setting}", General::SECTION)) {
            Some(place) => format!("{}:{}", place.file.display(), place.line),
            None => format!("by default in {}", self.path.display()),
        }
    }

    /// The settings of `[pgpool]` that count where such a file says nothing.
    pub fn defaults(&self) -> General {
        if self.ini { ini::defaults() } else { General::default() }
    }

    /// The rows of `SHOW CONFIG`, by name.
    pub fn shown(&self) -> Vec<Shown> {
        let mut rows = self.general.shown(&self.defaults());
        for row in rows.iter_mut().filter(|row| row.key == "conffile") {
            row.value = self.next_file().display().to_string();
        }
        rows
    }

    /// The file that the next reload reads.
    pub fn next_file(&self) -> PathBuf {
        self.general.conffile.as_ref().map_or_else(|| self.path.clone(), |file| self.beside(file))
    }

    /// Whether PgBouncer has no default for the setting `name`, and no value where nothing is set.
    pub fn has_no_default(name: &str) -> bool {
        ini::has_no_default(name)
    }

    /// Why the setting `name` of `[pgpool]` sets nothing, if so.
    pub fn why_idle(name: &str) -> Option<&'static str> {
        idle::why_idle(name)
    }

    /// The entry for a client that asks for `name`: the one of that name, else the fallback made out for it. The names
    /// of the console have none.
    pub fn database(&self, name: &str) -> Option<Arc<Database>> {
        if check::reserved(name) {
            return None;
        }
        if let Some(database) = self.databases.get(name) {
            return Some(Arc::clone(database));
        }
        let fallback = self.fallback.as_ref()?;
        Some(Arc::new(Database { name: name.to_owned(), ..Database::clone(fallback) }))
    }

    /// The user `name`, if the configuration or the `auth_file` knows it.
    pub fn user(&self, name: &str) -> Option<&Arc<User>> {
        self.users.get(name)
    }
}

/// Whether a file is in PgBouncer's format: by its name, or if that says nothing by a section that no pgpool.toml has.
fn is_ini(path: &Path, text: &str) -> bool {
    let named = |name| path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(name));
    named("ini") || (!named("toml") && text.lines().any(|line| line.trim() == "[pgbouncer]"))
}

fn shared<K: Ord, T>(entries: BTreeMap<K, T>) -> BTreeMap<K, Arc<T>> {
    entries.into_iter().map(|(name, entry)| (name, Arc::new(entry))).collect()
}
