//! The columns DATABASE and USER.

use super::matching::{Facts, Memberships};
use super::mistake::Mistake;
use super::pattern::Pattern;
use super::token::Token;

/// One value of the column DATABASE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseName {
    /// `all`: every database, but no physical replication.
    All,
    /// `sameuser`: the database with the user's name.
    SameUser,
    /// `samerole` or `samegroup`: the database with the name of a role that the user is a member of.
    SameRole,
    /// `replication`: physical replication, whatever the database.
    Replication,
    /// A name.
    Name(String),
    /// `/expression`.
    Pattern(Pattern),
}

/// One value of the column USER, or of the last column of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserName {
    /// `all`.
    All,
    /// `+role`: its members, direct and indirect, and the role itself. A superuser is no member by being one.
    Member(String),
    /// A name.
    Name(String),
    /// `/expression`.
    Pattern(Pattern),
}

impl DatabaseName {
    pub(super) fn parse(token: &Token) -> Result<Self, Mistake> {
        if token.is("all") {
            Ok(Self::All)
        } else if token.is("sameuser") {
            Ok(Self::SameUser)
        } else if token.is("replication") {
            Ok(Self::Replication)
        } else if token.is("samerole") || token.is("samegroup") {
            Ok(Self::SameRole)
        } else if let Some(expression) = token.text.strip_prefix('/') {
            Ok(Self::Pattern(Pattern::new(expression)?))
        } else {
            Ok(Self::Name(token.text.clone()))
        }
    }

    /// Whether it may stand for a database of this name, whoever the user is.
    #[must_use]
    pub fn may_cover(&self, database: &str) -> bool {
        match self {
            Self::All | Self::SameUser | Self::SameRole => true,
            Self::Replication => false,
            Self::Name(name) => name == database,
            Self::Pattern(pattern) => pattern.matches(database),
        }
    }

    /// Whether it stands for the connection that the client asks for; `None` where that takes memberships that nobody
    /// has asked for yet.
    pub(super) fn covers(&self, facts: &Facts<'_>, memberships: &Memberships) -> Option<bool> {
        let names = facts.databases;
        Some(match self {
            Self::Replication => facts.replication,
            // Physical replication is no connection to a database.
            Self::All | Self::SameUser | Self::SameRole | Self::Name(_) | Self::Pattern(_) if facts.replication => {
                false
            }
            Self::All => true,
            Self::SameUser => names.first() == Some(&facts.user),
            Self::SameRole => match names {
                [name] => return memberships.include(name),
                // The console, which has nothing to do with a role of its name.
                _ => false,
            },
            Self::Name(name) => names.contains(&name.as_str()),
            Self::Pattern(pattern) => names.iter().any(|name| pattern.matches(name)),
        })
    }
}

impl UserName {
    pub(super) fn parse(token: &Token) -> Result<Self, Mistake> {
        if token.is("all") {
            Ok(Self::All)
        } else if let Some(role) = token.text.strip_prefix('+').filter(|_| !token.quoted) {
            Ok(Self::Member(role.to_owned()))
        } else if let Some(expression) = token.text.strip_prefix('/') {
            Ok(Self::Pattern(Pattern::new(expression)?))
        } else {
            Ok(Self::Name(token.text.clone()))
        }
    }

    /// Whether it stands for the user; `None` where that takes memberships that nobody has asked for yet.
    pub(super) fn covers(&self, user: &str, memberships: &Memberships) -> Option<bool> {
        Some(match self {
            Self::All => true,
            Self::Member(role) => return memberships.include(role),
            Self::Name(name) => name == user,
            Self::Pattern(pattern) => pattern.matches(user),
        })
    }
}
