//! `auth_hba_file`, `auth_ident_file` and `auth_ldap_options`: who may log in from where, and how.
//!
//! Reads the files and hands them to `hba`, which knows their format. Both are read with the configuration and
//! count with it, as a whole or not at all.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::config::check::{self, Findings};
use crate::config::choice::{AuthType, SslMode};
use crate::config::file;
use crate::config::general::General;
use crate::config::problem::Problem;
use crate::hba::{
    DatabaseName, Directory, Fault, Files, IdentMaps, Kind, Method, Mistake, Rule, Rules, read_maps, read_rules,
};

/// What both files say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// The rules; none without an `auth_hba_file`, and then nobody is let in by `auth_type = "hba"`.
    pub rules: Rules,
    /// The maps of `auth_ident_file`.
    pub maps: IdentMaps,
    /// The directory of `auth_ldap_options`.
    pub directory: Option<Directory>,
}

/// Reads both files, as far as they are set.
pub(super) fn read(general: &General, findings: &mut Findings<'_>) -> Access {
    let mut access = Access::default();
    if let Some(path) = &general.auth_ident_file {
        let path = findings.beside(path);
        match read_maps(&path, &Disk) {
            Ok(maps) => access.maps = maps,
            Err(faults) => findings.problems_of("auth_ident_file", &path, faults),
        }
    }
    match &general.auth_hba_file {
        Some(path) => {
            let path = findings.beside(path);
            match read_rules(&path, &Disk) {
                Ok(rules) => access.rules = rules,
                Err(faults) => findings.problems_of("auth_hba_file", &path, faults),
            }
        }
        None if general.auth_type == AuthType::Hba => {
            let message = String::from("auth_type hba needs auth_hba_file, the file with the rules");
            findings.problem("pgpool.auth_type", message);
        }
        None => {}
    }
    match &general.auth_ldap_options {
        Some(options) => match Directory::parse(options.expose()) {
            Ok(directory) => access.directory = Some(directory),
            Err(mistake) => findings.problem("pgpool.auth_ldap_options", format!("`auth_ldap_options`: {mistake}")),
        },
        None if general.auth_type == AuthType::Ldap => {
            let message =
                String::from("auth_type ldap needs auth_ldap_options, such as \"ldapserver=... ldapbasedn=...\"");
            findings.problem("pgpool.auth_type", message);
        }
        None => {}
    }
    check_features(&access, general, findings);
    check_methods(&access, findings);
    check_maps(&access, general, findings);
    check_tls(&access, general, findings);
    access
}

/// A build may be without what needs other libraries.
fn check_features(access: &Access, general: &General, findings: &mut Findings<'_>) {
    let features = [
        ("ldap", cfg!(feature = "ldap"), AuthType::Ldap, Method::Ldap),
        ("pam", cfg!(feature = "pam"), AuthType::Pam, Method::Pam),
    ];
    for (feature, _, auth_type, method) in features.iter().filter(|(_, built, ..)| !built) {
        let message = format!("this pgpool was built without {feature} (cargo's feature `{feature}`)");
        if general.auth_type == *auth_type {
            findings.problem("pgpool.auth_type", message.clone());
        }
        for rule in access.rules.0.iter().filter(|rule| rule.method == *method) {
            findings.problems.push(problem(&rule.place.file, Some(rule.place.line), message.clone()));
        }
    }
}

/// Lines with methods that PostgreSQL has alone.
fn check_methods(access: &Access, findings: &mut Findings<'_>) {
    for rule in &access.rules.0 {
        if let Some(method) = rule.unsupported {
            let message = format!("authentication method \"{method}\" is not supported: whom the line fits is refused");
            findings.warnings.push(problem(&rule.place.file, Some(rule.place.line), message));
        }
    }
}

fn check_maps(access: &Access, general: &General, findings: &mut Findings<'_>) {
    for rule in &access.rules.0 {
        let Some(map) = rule.options.map.as_deref() else { continue };
        let at = |message| problem(&rule.place.file, Some(rule.place.line), message);
        if general.auth_ident_file.is_none() {
            findings.problems.push(at(Mistake::NoMaps(map.to_owned()).to_string()));
        } else if !access.maps.has(map) {
            findings.warnings.push(at(format!("auth_ident_file has no map \"{map}\": nobody can log in by this line")));
        }
    }
}

/// Lines that need memberships, which are asked for where users are looked up: each database that they may be about needs
/// an `auth_user`.
pub(super) fn check_memberships(rules: &Rules, config: &Config, findings: &mut Findings<'_>) {
    for rule in &rules.0 {
        let Some((name, instead)) = rule.membership() else { continue };
        let (database, setting, instead) = match without_source(rule, config) {
            None => continue,
            Some(Lacking::Console) => {
                let instead = "name databases, without the console, which is one of all";
                ("the console".to_owned(), "auth_user and auth_dbname in [pgpool]", instead)
            }
            Some(Lacking::Entry(entry)) => (format!("[databases.{entry}]"), "auth_user", instead),
        };
        let message = Mistake::Membership { name, database, setting, instead }.to_string();
        findings.problems.push(problem(&rule.place.file, Some(rule.place.line), message));
    }
}

/// Where users cannot be looked up.
enum Lacking<'a> {
    Console,
    Entry(&'a str),
}

/// A database that the rule may be about and where users cannot be looked up.
fn without_source<'a>(rule: &Rule, config: &'a Config) -> Option<Lacking<'a>> {
    let names = &rule.databases;
    let lacks = |name: &str| config.auth_source(name).is_none();
    let entries = config.databases.keys().find(|name| lacks(name) && names.iter().any(|known| known.may_cover(name)));
    if let Some(name) = entries {
        return Some(Lacking::Entry(name));
    }
    let by_fallback = |name: &DatabaseName| match name {
        DatabaseName::All | DatabaseName::SameUser | DatabaseName::SameRole | DatabaseName::Pattern(_) => true,
        DatabaseName::Replication => false,
        DatabaseName::Name(name) => !config.databases.contains_key(name) && !check::reserved(name),
    };
    if let Some(fallback) = config.fallback.as_ref().filter(|fallback| lacks(&fallback.name))
        && names.iter().any(by_fallback)
    {
        return Some(Lacking::Entry(&fallback.name));
    }
    // `samerole` is never about the console, and `sameuser` only for a user of its name.
    let of_console = |name: &DatabaseName| match name {
        DatabaseName::SameUser | DatabaseName::SameRole | DatabaseName::Replication => false,
        DatabaseName::All | DatabaseName::Name(_) | DatabaseName::Pattern(_) => {
            file::RESERVED.iter().any(|console| name.may_cover(console))
        }
    };
    (names.iter().any(of_console) && file::RESERVED.iter().any(|name| lacks(name))).then_some(Lacking::Console)
}

/// Lines that can let nobody in, or fit nobody, with the clients' `sslmode`. PostgreSQL warns of the same.
fn check_tls(access: &Access, general: &General, findings: &mut Findings<'_>) {
    let mode = general.client_tls_sslmode;
    for rule in &access.rules.0 {
        let message = match rule.kind {
            Kind::HostSsl if mode == SslMode::Disable => {
                format!("hostssl line fits no client: TLS is off with client_tls_sslmode = {mode}")
            }
            Kind::HostSsl if mode < SslMode::VerifyCa && rule.options.clientcert.is_some() => format!(
                "line with {} lets nobody in: no client is asked for a certificate with client_tls_sslmode = {mode}; \
                 verify-ca and verify-full ask for one",
                if rule.method == Method::Cert { "method cert" } else { "clientcert" }
            ),
            Kind::HostNoSsl if mode >= SslMode::Require => {
                format!("hostnossl line fits no client: nobody comes without TLS with client_tls_sslmode = {mode}")
            }
            Kind::Local | Kind::Host | Kind::HostSsl | Kind::HostNoSsl | Kind::HostGssEnc | Kind::HostNoGssEnc => {
                continue;
            }
        };
        findings.warnings.push(problem(&rule.place.file, Some(rule.place.line), message));
    }
}

fn problem(file: &Path, line: Option<usize>, message: String) -> Problem {
    Problem { file: file.to_path_buf(), line, key: None, message }
}

impl Findings<'_> {
    /// What is wrong with the file of a setting and those that it includes. That the file itself cannot be read is the
    /// setting's problem.
    fn problems_of(&mut self, setting: &str, file: &Path, faults: Vec<Fault>) {
        for fault in faults {
            if fault.line.is_none()
                && let Mistake::Unreadable { path, error } = &fault.mistake
                && path == file
            {
                let message = format!("cannot read {setting} {}: {error}", file.display());
                self.problem(&format!("pgpool.{setting}"), message);
            } else {
                self.problems.push(problem(&fault.file, fault.line, fault.mistake.to_string()));
            }
        }
    }
}

/// The file system.
struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<String> {
        String::from_utf8(fs::read(path)?).map_err(io::Error::other)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if !path.is_dir() {
                files.push(path);
            }
        }
        Ok(files)
    }
}
