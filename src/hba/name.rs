//! The columns DATABASE and USER.

use super::mistake::Mistake;
use super::pattern::Pattern;
use super::token::Token;

const NO_SAMEROLE: &str = "write the names, or sameuser where each user has a database of his name";
const NO_GROUP: &str = "write the names of the members, or @file for a file of them";

/// One value of the column DATABASE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseName {
    /// `all`: every database, but no physical replication.
    All,
    /// `sameuser`: the database with the user's name.
    SameUser,
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
            Err(Mistake::Membership(token.text.clone(), NO_SAMEROLE))
        } else if let Some(expression) = token.text.strip_prefix('/') {
            Ok(Self::Pattern(Pattern::new(expression)?))
        } else {
            Ok(Self::Name(token.text.clone()))
        }
    }

    /// Whether it stands for a connection to the database that `names` are the names of; the first is the one that the
    /// client gave.
    pub(super) fn covers(&self, names: &[&str], user: &str, replication: bool) -> bool {
        match self {
            Self::Replication => replication,
            // Physical replication is no connection to a database.
            Self::All | Self::SameUser | Self::Name(_) | Self::Pattern(_) if replication => false,
            Self::All => true,
            Self::SameUser => names.first() == Some(&user),
            Self::Name(name) => names.contains(&name.as_str()),
            Self::Pattern(pattern) => names.iter().any(|name| pattern.matches(name)),
        }
    }
}

impl UserName {
    pub(super) fn parse(token: &Token) -> Result<Self, Mistake> {
        if token.is("all") {
            Ok(Self::All)
        } else if !token.quoted && token.text.starts_with('+') {
            Err(Mistake::Membership(token.text.clone(), NO_GROUP))
        } else if let Some(expression) = token.text.strip_prefix('/') {
            Ok(Self::Pattern(Pattern::new(expression)?))
        } else {
            Ok(Self::Name(token.text.clone()))
        }
    }

    pub(super) fn covers(&self, user: &str) -> bool {
        match self {
            Self::All => true,
            Self::Name(name) => name == user,
            Self::Pattern(pattern) => pattern.matches(user),
        }
    }
}
