//! `pg_ident.conf`: which user of the system, or of a certificate, may be which user of the database.

use super::field::Columns;
use super::matching::Memberships;
use super::mistake::Mistake;
use super::name::UserName;
use super::pattern::Pattern;
use super::source::Line;
use super::token::Token;

/// The lines of one `pg_ident.conf`, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdentMaps(pub Vec<Mapping>);

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Name of the map.
    pub map: String,
    /// The user that the system or the certificate names.
    pub(super) system: SystemUser,
    /// The user of the database.
    pub(super) user: DatabaseUser,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SystemUser {
    Name(String),
    Pattern(Pattern),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum DatabaseUser {
    /// A name with `\1` in it, cut there: what the group matched goes between.
    Group(String, String),
    Fixed(UserName),
}

/// Reads a line.
pub(super) fn parse(line: &Line) -> Result<Mapping, Mistake> {
    let mut columns = Columns::of(&line.fields);
    let map = columns.one("map name")?.text.clone();
    let system = columns.one("system user name")?;
    let user = columns.one("database user name")?;
    columns.end("map, system user and database user")?;
    let system = match system.text.strip_prefix('/') {
        Some(expression) => SystemUser::Pattern(Pattern::new(expression)?),
        None => SystemUser::Name(system.text.clone()),
    };
    Ok(Mapping { map, user: database_user(user, &system)?, system })
}

/// `\1` counts where the system user is an expression and the database user is none.
fn database_user(token: &Token, system: &SystemUser) -> Result<DatabaseUser, Mistake> {
    let fixed = UserName::parse(token)?;
    if let UserName::Member(role) = fixed {
        return Err(Mistake::MemberInMap(role));
    }
    match (system, &fixed, token.text.split_once("\\1")) {
        (SystemUser::Pattern(pattern), UserName::Name(_), Some((before, after))) => {
            if !pattern.has_group() {
                return Err(Mistake::NoGroup(pattern.expression().to_owned()));
            }
            Ok(DatabaseUser::Group(before.to_owned(), after.to_owned()))
        }
        _ => Ok(DatabaseUser::Fixed(fixed)),
    }
}

impl IdentMaps {
    /// Whether `system` may be the database's `user`. Without a map they have to be the same.
    pub fn permits(&self, map: Option<&str>, system: &str, user: &str) -> bool {
        match map {
            None => system == user,
            Some(map) => self.0.iter().any(|mapping| mapping.map == map && mapping.permits(system, user)),
        }
    }

    /// Whether there is a map of this name.
    pub fn has(&self, map: &str) -> bool {
        self.0.iter().any(|mapping| mapping.map == map)
    }
}

impl Mapping {
    fn permits(&self, system: &str, user: &str) -> bool {
        let group = match &self.system {
            SystemUser::Name(name) if name == system => None,
            SystemUser::Name(_) => return false,
            SystemUser::Pattern(pattern) => match pattern.first_group(system) {
                Some(group) => group,
                None => return false,
            },
        };
        match (&self.user, group) {
            (DatabaseUser::Fixed(name), _) => name.covers(user, &Memberships::Unasked) == Some(true),
            (DatabaseUser::Group(before, after), Some(group)) => user
                .strip_prefix(before.as_str())
                .and_then(|rest| rest.strip_suffix(after.as_str()))
                .is_some_and(|middle| middle == group),
            // The group took no part in the match: nothing is known to compare with.
            (DatabaseUser::Group(..), None) => false,
        }
    }
}
