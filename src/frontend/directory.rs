//! Passwords that an LDAP directory checks: `auth_type = "ldap"`, and the method `ldap` of a rule.
//!
//! What is asked is made by `hba`, where names are escaped. Here it is sent. Nobody is let in by an empty password or
//! an empty name: a directory takes both for a bind as nobody, and says that it succeeded.

use std::time::Duration;

use ldap3::{LdapConnAsync, LdapConnSettings, LdapError, Scope as LdapScope, SearchEntry, SearchOptions};

use crate::auth::Password;
use crate::hba::{Directory, Entry, Scope, filter_for};

/// Most time for one server to be reached; the next one of the list may answer.
const CONNECTS: Duration = Duration::from_secs(5);

/// Codes of RFC 4511 section 4.1.9.
const SUCCESS: u32 = 0;
const SIZE_LIMIT_EXCEEDED: u32 = 4;

/// Why a directory does not vouch for a client.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// None of the servers could be reached.
    #[error("no LDAP server can be reached: {0}")]
    Unreachable(#[source] LdapError),
    /// The connection broke.
    #[error("the connection to the LDAP server ended")]
    Lost,
    /// The pooler's own bind or search failed.
    #[error("LDAP search failed: {0}")]
    Search(#[source] LdapError),
    /// There is no such user.
    #[error("the LDAP directory has no such user")]
    NoEntry,
    /// There are several.
    #[error("the LDAP directory has several entries for this user")]
    SeveralEntries,
    /// The password is wrong, or cannot be one.
    #[error("the LDAP directory refuses the password: {0}")]
    Refused(#[source] LdapError),
    /// It is empty or not UTF-8, which LDAP asks for.
    #[error("the password cannot be asked of an LDAP directory")]
    NoPassword,
}

/// Whether the directory takes this password for the user's.
///
/// Cancel safety: safe; the connection to the directory is closed.
pub(super) async fn check(directory: &Directory, user: &str, password: &Password) -> Result<(), DirectoryError> {
    let password = std::str::from_utf8(password.as_bytes()).map_err(|_| DirectoryError::NoPassword)?;
    if password.is_empty() {
        return Err(DirectoryError::NoPassword);
    }
    let settings = || LdapConnSettings::new().set_conn_timeout(CONNECTS).set_starttls(directory.start_tls);
    let mut failure = DirectoryError::Lost;
    for server in &directory.servers {
        let (connection, mut ldap) = match LdapConnAsync::with_settings(settings(), server).await {
            Ok(connected) => connected,
            Err(error) => {
                tracing::warn!(%server, %error, "cannot connect to LDAP server");
                failure = DirectoryError::Unreachable(error);
                continue;
            }
        };
        return tokio::select! {
            asked = ask(&mut ldap, directory, user, password) => asked,
            _ = connection.drive() => Err(DirectoryError::Lost),
        };
    }
    Err(failure)
}

async fn ask(ldap: &mut ldap3::Ldap, directory: &Directory, user: &str, password: &str) -> Result<(), DirectoryError> {
    let entry = match directory.entry.of(user) {
        Some(entry) => entry,
        None => search(ldap, &directory.entry, user).await?,
    };
    if entry.is_empty() {
        return Err(DirectoryError::NoEntry);
    }
    let bound = ldap.simple_bind(&entry, password).await.and_then(ldap3::LdapResult::success);
    bound.map(drop).map_err(DirectoryError::Refused)
}

/// The one entry of the user.
async fn search(ldap: &mut ldap3::Ldap, entry: &Entry, user: &str) -> Result<String, DirectoryError> {
    let Entry::Search { base, scope, bind_dn, bind_password, filter } = entry else {
        return Err(DirectoryError::NoEntry);
    };
    if !bind_dn.is_empty() {
        let password = bind_password.as_ref().map_or(&[][..], |password| password.as_bytes());
        let password = std::str::from_utf8(password).map_err(|_| DirectoryError::NoPassword)?;
        let bound = ldap.simple_bind(bind_dn, password).await.and_then(ldap3::LdapResult::success);
        bound.map_err(DirectoryError::Search)?;
    }
    let scope = match scope {
        Scope::Base => LdapScope::Base,
        Scope::One => LdapScope::OneLevel,
        Scope::Subtree => LdapScope::Subtree,
    };
    // More than one is as bad as many.
    ldap.with_search_options(SearchOptions::new().sizelimit(2));
    // No attributes, only the name of the entry (RFC 4511 section 4.5.1.8).
    let found = ldap.search(base, scope, &filter_for(filter, user), vec!["1.1"]).await;
    let ldap3::SearchResult(entries, result) = found.map_err(DirectoryError::Search)?;
    if !matches!(result.rc, SUCCESS | SIZE_LIMIT_EXCEEDED) {
        return Err(DirectoryError::Search(LdapError::LdapResult { result }));
    }
    let mut names = entries.into_iter().filter(|entry| !entry.is_ref() && !entry.is_intermediate());
    match (names.next(), names.next()) {
        (None, _) => Err(DirectoryError::NoEntry),
        (Some(_), Some(_)) => Err(DirectoryError::SeveralEntries),
        (Some(_), None) if result.rc != SUCCESS => Err(DirectoryError::SeveralEntries),
        (Some(entry), None) => Ok(SearchEntry::construct(entry).dn),
    }
}
