//! What only shows when settings are looked at together: the `auth_file`, and combinations that cannot work.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::config::choice::{AuthType, ChannelBinding, DheParams, SslMode, SslNegotiation};
use crate::config::idle::IDLE;
use crate::config::problem::{Place, Problem};
use crate::config::secret::{Secret, SecretKind, SecretSource};
use crate::config::table::Table;
use crate::config::user::User;
use crate::config::{Config, Database, General, access, file, secret_file, userlist};

/// Problems and warnings found so far, and where each setting stands.
pub(super) struct Findings<'a> {
    pub(super) file: &'a Path,
    pub(super) places: &'a BTreeMap<String, Place>,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
}

impl Findings<'_> {
    /// A problem or warning about the setting or section `key`, on its line if the file has it.
    fn about(&self, key: &str, message: String) -> Problem {
        let place = self.places.get(key);
        let file = place.map_or(self.file, |place| &place.file);
        Problem { file: file.to_path_buf(), line: place.map(|place| place.line), key: Some(key.to_owned()), message }
    }

    pub(super) fn problem(&mut self, key: &str, message: String) {
        let problem = self.about(key, message);
        self.problems.push(problem);
    }

    pub(super) fn warn(&mut self, key: &str, message: String) {
        let warning = self.about(key, message);
        self.warnings.push(warning);
    }

    /// `path` as seen from the directory of the configuration file.
    pub(super) fn beside(&self, path: &Path) -> PathBuf {
        beside(self.file, path)
    }
}

/// Reads what `password_file` settings name, into `password`.
pub(super) fn read_secret_files(
    users: &mut BTreeMap<String, User>,
    databases: &mut BTreeMap<String, Database>,
    fallback: &mut Option<Database>,
    findings: &mut Findings<'_>,
) {
    for user in users.values_mut() {
        let section = format!("users.{}", user.name);
        if read_secret_file(user.password_file.as_deref(), &mut user.password, &section, findings) {
            user.secret_source = SecretSource::PasswordFile;
        }
    }
    for database in databases.values_mut().chain(fallback) {
        let section = format!("databases.{}", database.name);
        read_secret_file(database.password_file.as_deref(), &mut database.password, &section, findings);
    }
}

fn read_secret_file(
    file: Option<&Path>,
    password: &mut Option<Secret>,
    section: &str,
    findings: &mut Findings<'_>,
) -> bool {
    let Some(file) = file else { return false };
    let path = findings.beside(file);
    let message = match secret_file::read(&path) {
        _ if password.is_some() => format!("[{section}] has both `password` and `password_file`"),
        Ok(secret) => {
            *password = Some(secret);
            return true;
        }
        Err(error) => format!("cannot read password_file {}: {error}", path.display()),
    };
    let problem = findings.about(&format!("{section}.password_file"), message);
    findings.problems.push(problem);
    false
}

/// Adds the users of the `auth_file`, if there is one, to `users`. A secret of the configuration goes first.
pub(super) fn add_auth_file(path: Option<&Path>, users: &mut BTreeMap<String, User>, findings: &mut Findings<'_>) {
    let Some(path) = path else { return };
    let path = findings.beside(path);
    let text = match std::fs::read(&path).and_then(|bytes| String::from_utf8(bytes).map_err(io::Error::other)) {
        Ok(text) => Zeroizing::new(text),
        Err(error) => {
            let message = format!("cannot read auth_file {}: {error}", path.display());
            findings.problem("pgpool.auth_file", message);
            return;
        }
    };
    let at = |line, message: String| Problem { file: path.clone(), line: Some(line), key: None, message };
    let (entries, errors) = userlist::parse(&text);
    findings.problems.extend(errors.into_iter().map(|(line, error)| at(line, error.to_string())));
    let mut seen = BTreeMap::new();
    for entry in entries {
        if let Some(first) = seen.insert(entry.user.clone(), entry.line) {
            let message = format!("user \"{}\" occurs again after line {first}; the last line counts", entry.user);
            findings.warnings.push(at(entry.line, message));
        }
        let user = users.entry(entry.user.clone()).or_insert_with(|| User { name: entry.user, ..User::default() });
        if matches!(user.secret_source, SecretSource::None | SecretSource::AuthFile) {
            user.secret_source = if entry.secret.is_some() { SecretSource::AuthFile } else { SecretSource::None };
            user.password = entry.secret;
        }
    }
}

/// `path` as seen from the directory of the configuration file.
pub(super) fn beside(file: &Path, path: &Path) -> PathBuf {
    file.parent().unwrap_or(Path::new("")).join(path)
}

/// Looks for combinations that cannot work, or not as they were meant.
pub(super) fn run(config: &Config, findings: &mut Findings<'_>) {
    idle(config, findings);
    listening(config, findings);
    logins(config, findings);
    lookups(config, findings);
    access::check_memberships(&config.access.rules, config, findings);
    left_out(config, findings);
    client_tls(config, findings);
    server_tls(config, findings);
    pools(config, findings);
    hosts(config, findings);
}

fn idle(config: &Config, findings: &mut Findings<'_>) {
    let defaults = config.defaults();
    for (name, why) in IDLE {
        if General::row(name).is_some_and(|row| !(row.same)(&config.general, &defaults)) {
            findings.warn(&format!("pgpool.{name}"), format!("`{name}` of PgBouncer has no effect: {why}"));
        }
    }
}

fn hosts(config: &Config, findings: &mut Findings<'_>) {
    for database in config.databases.values().chain(&config.fallback) {
        if !database.ports_fit() {
            let key = format!("databases.{}.port", database.name);
            let message = format!(
                "{} ports for {} hosts in [databases.{}]: there has to be one for all, or one for each",
                database.port.len(),
                database.host.len(),
                database.name
            );
            findings.problem(&key, message);
        }
    }
}

/// What was asked for of TLS and cannot be had.
fn left_out(config: &Config, findings: &mut Findings<'_>) {
    let general = &config.general;
    let lists = [
        ("client_tls_ciphers", &general.client_tls_ciphers),
        ("client_tls13_ciphers", &general.client_tls13_ciphers),
        ("client_tls_ecdhcurve", &general.client_tls_ecdhcurve),
        ("server_tls_ciphers", &general.server_tls_ciphers),
        ("server_tls13_ciphers", &general.server_tls13_ciphers),
    ];
    for (name, list) in lists.iter().filter(|(_, list)| !list.left_out.is_empty()) {
        let message = format!("{} in {name} cannot be had with rustls and is left out", list.left_out.join(", "));
        findings.warn(&format!("pgpool.{name}"), message);
    }
    let versions = [
        ("client_tls_protocols", general.client_tls_protocols),
        ("server_tls_protocols", general.server_tls_protocols),
    ];
    for (name, _) in versions.iter().filter(|(_, versions)| versions.old) {
        let message = format!("versions before tlsv1.2 in {name} cannot be had with rustls and are left out");
        findings.warn(&format!("pgpool.{name}"), message);
    }
    if general.client_tls_dheparams == DheParams::Legacy {
        let message = String::from("client_tls_dheparams has no effect: there is no such key exchange with rustls");
        findings.warn("pgpool.client_tls_dheparams", message);
    }
}

fn client_tls(config: &Config, findings: &mut Findings<'_>) {
    let general = &config.general;
    let mode = general.client_tls_sslmode;
    let mode_key = "pgpool.client_tls_sslmode";
    if mode != SslMode::Disable && (general.client_tls_key_file.is_none() || general.client_tls_cert_file.is_none()) {
        findings.problem(
            mode_key,
            format!("client_tls_sslmode = {mode} needs client_tls_key_file and client_tls_cert_file"),
        );
    }
    if mode >= SslMode::VerifyCa && general.client_tls_ca_file.is_none() {
        findings.problem(mode_key, format!("client_tls_sslmode = {mode} needs client_tls_ca_file"));
    }
    if mode < SslMode::VerifyCa && general.client_tls_crl_file.is_some() {
        let message = format!("client_tls_crl_file has no effect with client_tls_sslmode = {mode}");
        findings.warn("pgpool.client_tls_crl_file", message);
    }
    if general.auth_type == AuthType::Cert && mode != SslMode::VerifyFull {
        let message = String::from("auth_type = cert needs client_tls_sslmode = verify-full");
        findings.problem("pgpool.auth_type", message);
    }
}

fn server_tls(config: &Config, findings: &mut Findings<'_>) {
    let general = &config.general;
    let mode = general.server_tls_sslmode;
    if mode == SslMode::VerifyCa && general.server_tls_ca_file.is_none() {
        let message = String::from(
            "server_tls_sslmode = verify-ca without server_tls_ca_file trusts the certificates of all public CAs, of \
             whatever host: write verify-full, or name the CA",
        );
        findings.warn("pgpool.server_tls_sslmode", message);
    }
    if mode < SslMode::VerifyCa && general.server_tls_crl_file.is_some() {
        let message = format!("server_tls_crl_file has no effect with server_tls_sslmode = {mode}");
        findings.warn("pgpool.server_tls_crl_file", message);
    }
    if general.server_tls_key_file.is_some() != general.server_tls_cert_file.is_some() {
        let one = if general.server_tls_key_file.is_some() { "key" } else { "cert" };
        let message = String::from("server_tls_key_file and server_tls_cert_file go together");
        findings.problem(&format!("pgpool.server_tls_{one}_file"), message);
    }
    if general.server_tls_sslnegotiation == SslNegotiation::Direct && mode < SslMode::Require {
        let message = format!("sslnegotiation direct needs server_tls_sslmode = require or more, not {mode}");
        findings.problem("pgpool.server_tls_sslnegotiation", message);
    }
    if general.server_channel_binding == ChannelBinding::Require && mode == SslMode::Disable {
        let message = String::from("server_channel_binding = require needs TLS, and server_tls_sslmode = disable");
        findings.problem("pgpool.server_channel_binding", message);
    }
}

fn listening(config: &Config, findings: &mut Findings<'_>) {
    let general = &config.general;
    if general.so_reuseport && general.peer_id == 0 {
        let message = String::from(
            "so_reuseport without peer_id and [peers]: a cancel request may come to another process, which does not know \
             its key; one process uses all cores by its worker_threads",
        );
        findings.warn("pgpool.so_reuseport", message);
    }
    for peer in config.peers.values().filter(|peer| peer.host.is_none() && peer.id != general.peer_id) {
        let key = format!("peers.{}", peer.id);
        findings.problem(&key, format!("[{key}] has no host"));
    }
    if general.listen_addr.is_empty() && general.unix_socket_dir.is_none() {
        let message = String::from("nothing to listen on: listen_addr and unix_socket_dir are both empty");
        findings.problem("pgpool.listen_addr", message);
    }
    for (what, window, limit) in [
        ("drain", general.drain_window, general.drain_timeout),
        ("takeover", general.takeover_window, general.takeover_timeout),
    ] {
        if !limit.is_zero() && window > limit {
            let message =
                format!("{what}_window is longer than {what}_timeout: clients are cut off before they are told");
            findings.warn(&format!("pgpool.{what}_window"), message);
        }
    }
    if config.databases.is_empty() && config.fallback.is_none() {
        let message = String::from("there are no databases: clients can only reach the console");
        findings.warn("databases", message);
    }
}

fn logins(config: &Config, findings: &mut Findings<'_>) {
    let auth_type = config.general.auth_type;
    if auth_type == AuthType::ScramSha256 {
        for user in config.users.values() {
            if user.password.as_ref().is_some_and(|secret| secret.kind() == SecretKind::Md5) {
                let message = format!(
                    "user \"{}\" can never log in: an md5 secret does not work with auth_type scram-sha-256",
                    user.name
                );
                findings.warn(&format!("users.{}.password", user.name), message);
            }
        }
    }
    let console_looks_up = file::RESERVED.iter().any(|name| config.auth_source(name).is_some());
    let groups = [("admin_users", &config.general.admin_users), ("stats_users", &config.general.stats_users)];
    for (setting, names) in groups {
        for name in names {
            let secret = config.users.get(name).and_then(|user| user.password.as_ref());
            let by_secret = matches!(auth_type, AuthType::Plain | AuthType::Md5 | AuthType::ScramSha256);
            if secret.is_none() && !console_looks_up && by_secret {
                let message = format!("user \"{name}\" of {setting} has no secret and cannot log in");
                findings.warn(&format!("pgpool.{setting}"), message);
            }
        }
    }
    for database in config.databases.values().chain(&config.fallback) {
        if auth_type == AuthType::Any && database.user.is_none() {
            let key = format!("databases.{}", database.name);
            let message = format!("nobody can log in to [{key}]: auth_type any needs a user there");
            findings.warn(&key, message);
        }
        if database.password.is_some() && database.user.is_none() {
            let key = format!("databases.{}.password", database.name);
            findings.warn(&key, String::from("a database's password has no effect without its user"));
        }
    }
}

fn lookups(config: &Config, findings: &mut Findings<'_>) {
    let mut named = vec![(String::from("pgpool.auth_dbname"), config.general.auth_dbname.as_ref())];
    named.extend(
        config
            .databases
            .values()
            .chain(&config.fallback)
            .map(|database| (format!("databases.{}.auth_dbname", database.name), database.auth_dbname.as_ref())),
    );
    for (key, name) in named.into_iter().filter_map(|(key, name)| Some((key, name?))) {
        if reserved(name) {
            let message = format!("`auth_dbname` cannot be `{name}`, which is the console");
            let problem = findings.about(&key, message);
            findings.problems.push(problem);
        } else if config.database(name).is_none() {
            findings.warn(&key, format!("there is no database \"{name}\" for auth_query to run in"));
        }
    }
}

fn pools(config: &Config, findings: &mut Findings<'_>) {
    let general = &config.general;
    let mut reserves = vec![general.reserve_pool_size];
    reserves.extend(config.databases.values().chain(&config.fallback).filter_map(|entry| entry.reserve_pool_size));
    reserves.extend(config.users.values().filter_map(|user| user.reserve_pool_size));
    if general.reserve_pool_timeout.is_zero() && reserves.iter().any(|size| *size > 0) {
        let message = String::from("reserve_pool_timeout = 0 means that reserve_pool_size has no effect");
        findings.warn("pgpool.reserve_pool_timeout", message);
    }
    let too_large = |min: u32, size: u32| size > 0 && min > size;
    let (min, size) = (general.min_pool_size, general.default_pool_size);
    if too_large(min, size) {
        let message = format!("min_pool_size {min} is larger than default_pool_size {size}");
        findings.warn("pgpool.min_pool_size", message);
    }
    for database in config.databases.values().chain(&config.fallback) {
        let said_here = database.pool_size.is_some() || database.min_pool_size.is_some();
        let (min, size) = (config.min_pool_size(database), config.pool_size(database, None));
        if said_here && too_large(min, size) {
            let key = format!("databases.{}", database.name);
            findings.warn(&key, format!("min_pool_size {min} is larger than pool_size {size} in [{key}]"));
        }
    }
}

/// Whether `name` belongs to the console.
pub(super) fn reserved(name: &str) -> bool {
    file::RESERVED.contains(&name)
}
