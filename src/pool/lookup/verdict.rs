//! What an answer says: that of auth_query has two columns, name and secret, and at most one row, the user's; that about
//! roles has a row for each.

use std::collections::BTreeSet;

use crate::auth::StoredSecret;
use crate::backend::Answered;

/// Rows that are read: one more than an answer may have.
pub(super) const MOST_ROWS: u32 = 2;

/// The roles that `$1` is a member of, as PostgreSQL's own rules see it (`is_member_of_role_nosuper`): direct and indirect
/// ones, whether or not they are inherited, and the user's own; a superuser is a member of no others. No rows where there
/// is no such user. Everybody may read what it reads.
pub(super) const ROLES: &str = "\
    WITH RECURSIVE mine (oid) AS (\
     SELECT oid FROM pg_catalog.pg_roles WHERE rolname = $1::pg_catalog.text \
     UNION SELECT m.roleid FROM pg_catalog.pg_auth_members m JOIN mine ON m.member = mine.oid) \
    SELECT r.rolname FROM pg_catalog.pg_roles r JOIN mine ON r.oid = mine.oid";

/// Roles that are read: one more than a user may have.
pub(super) const MOST_ROLES: u32 = 10_001;

/// What PostgreSQL knows of a user.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// There is no such user.
    Unknown,
    /// There is, but nothing to log in with: it has no password, or one that has expired.
    NoSecret,
    /// There is.
    Secret(StoredSecret),
}

/// Why an answer is none: the query is not what auth_query has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// The wrong number of columns.
    #[error("expected 2 columns from auth_query (name and secret), not {0}")]
    Columns(usize),
    /// More than one row.
    #[error("auth_query returned more than one row")]
    Rows,
    /// NULL in the first column, and a secret in the second.
    #[error("auth_query response contained null user name")]
    NullName,
    /// Another user's name in the first column.
    #[error("auth_query returned another user than it was asked for")]
    OtherUser,
    /// More roles than are read.
    #[error("the user is a member of more than 10000 roles")]
    Roles,
}

/// Reads an answer about a user's roles. One whose name is no text is left out: no rule can name it.
pub(super) fn roles(answered: Answered) -> Result<BTreeSet<Box<str>>, Misfit> {
    if answered.rows.len() >= MOST_ROLES as usize {
        return Err(Misfit::Roles);
    }
    let values = answered.rows.into_iter().flatten().flatten();
    Ok(values.filter_map(|name| std::str::from_utf8(&name).ok().map(Into::into)).collect())
}

/// Reads an answer about `user`.
pub(super) fn verdict(answered: Answered, user: &str) -> Result<Verdict, Misfit> {
    if answered.columns != 2 {
        return Err(Misfit::Columns(answered.columns));
    }
    let mut rows = answered.rows.into_iter();
    let Some(row) = rows.next() else { return Ok(Verdict::Unknown) };
    if rows.next().is_some() {
        return Err(Misfit::Rows);
    }
    let count = row.len();
    let Ok([name, secret]) = <[_; 2]>::try_from(row) else { return Err(Misfit::Columns(count)) };
    // A function with OUT parameters gives one row whatever it has found; PgBouncer's manual has such a one.
    let (name, secret) = match (name, secret) {
        (None, None) => return Ok(Verdict::Unknown),
        (None, Some(_)) => return Err(Misfit::NullName),
        (Some(name), secret) => (name, secret),
    };
    if **name != *user.as_bytes() {
        return Err(Misfit::OtherUser);
    }
    match secret.map(|secret| StoredSecret::parse(&**secret)) {
        Some(secret) if secret.is_empty() => Ok(Verdict::NoSecret),
        Some(secret) => Ok(Verdict::Secret(secret)),
        None => Ok(Verdict::NoSecret),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Value;

    fn answered(columns: usize, rows: &[&[Option<&str>]]) -> Answered {
        let value = |value: &Option<&str>| value.map(|text| Value::new(text.as_bytes().into()));
        Answered { columns, rows: rows.iter().map(|row| row.iter().map(value).collect()).collect() }
    }

    #[test]
    fn only_one_row_of_the_user_counts() {
        let secret = || Ok(Verdict::Secret(StoredSecret::parse("pw")));
        let row: &[_] = &[Some("ann"), Some("pw")];
        let table = [
            (answered(2, &[row]), secret()),
            (answered(2, &[]), Ok(Verdict::Unknown)),
            (answered(2, &[&[Some("ann"), None]]), Ok(Verdict::NoSecret)),
            (answered(2, &[&[Some("ann"), Some("")]]), Ok(Verdict::NoSecret)),
            (answered(2, &[row, row]), Err(Misfit::Rows)),
            (answered(2, &[&[None, Some("pw")]]), Err(Misfit::NullName)),
            (answered(2, &[&[None, None]]), Ok(Verdict::Unknown)),
            (answered(2, &[&[Some("Ann"), Some("pw")]]), Err(Misfit::OtherUser)),
            (answered(2, &[&[Some("an"), None]]), Err(Misfit::OtherUser)),
            (answered(2, &[&[Some("ann")]]), Err(Misfit::Columns(1))),
            (answered(3, &[&[Some("ann"), Some("pw"), Some("x")]]), Err(Misfit::Columns(3))),
            (answered(1, &[]), Err(Misfit::Columns(1))),
            (answered(0, &[]), Err(Misfit::Columns(0))),
        ];
        for (answered, expected) in table {
            assert_eq!(verdict(answered, "ann"), expected);
        }
    }
}
