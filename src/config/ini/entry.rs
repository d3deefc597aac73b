//! An entry of `[databases]` or `[users]`: a connection string.
//!
//! The last of several values of a keyword counts. A negative size, and zeros of those limits and times that PgBouncer
//! then looks up in the general settings, leave the setting out.

use std::collections::BTreeMap;

use crate::config::ini::spelling::set_entry;
use crate::config::ini::{Reader, in_ini_words};
use crate::config::keywords::{self, Escapes};
use crate::config::suggest::unknown_setting;
use crate::config::table::{Row, Table};
use crate::config::value::Shape;

/// Settings of entries whose zero is no value of its own to PgBouncer.
const ZERO_IS_UNSET: &[&str] = &[
    "max_db_connections",
    "max_db_client_connections",
    "max_user_connections",
    "max_user_client_connections",
    "server_lifetime",
];

/// The same, for users only.
const ZERO_OF_USER_IS_UNSET: &[&str] =
    &["query_timeout", "query_wait_timeout", "idle_transaction_timeout", "transaction_timeout", "client_idle_timeout"];

impl Reader {
    /// Fills `target` from the connection string of the entry `section`.
    pub(super) fn entry<T: Table>(&mut self, target: &mut T, section: &str, text: &str) {
        let pairs = match keywords::parse(text, Escapes::QuotesOnly) {
            Ok(pairs) => pairs,
            Err(error) => return self.problem(section, format!("`{section}`: {error}")),
        };
        let mut last = BTreeMap::new();
        for (index, (name, _)) in pairs.iter().enumerate() {
            last.insert(name.as_str(), index);
        }
        for (index, (name, value)) in pairs.iter().enumerate() {
            let key = format!("{section}.{name}");
            if last.get(name.as_str()) != Some(&index) {
                self.warn(&key, format!("`{name}` in [{section}] occurs twice; the last one counts"));
                continue;
            }
            let name = if name == "reserve_pool" && T::row("pool_size").is_some() { "reserve_pool_size" } else { name };
            match T::row(name) {
                Some(_) if value.is_empty() => {
                    self.problem(&key, format!("`{name}` in [{section}] is empty: leave it out"));
                }
                Some(row) => self.keyword(target, row, (section, value)),
                None => self.problem(&key, in_ini_words(&unknown_setting::<T>(name, section))),
            }
            self.draft.places.insert(format!("{section}.{name}"), self.here.clone());
        }
    }

    fn keyword<T: Table>(&mut self, target: &mut T, row: &Row<T>, (section, value): (&str, &str)) {
        let name = row.name;
        let key = format!("{section}.{name}");
        if is_unset::<T>(row, value) {
            return;
        }
        if let Err(error) = set_entry(row, target, value) {
            self.problem(&key, format!("`{name}` in [{section}]: {error}"));
        }
    }
}

/// Whether the value says no more than a missing one.
fn is_unset<T: Table>(row: &Row<T>, value: &str) -> bool {
    let is_user = T::row("dbname").is_none();
    let zero = ZERO_IS_UNSET.contains(&row.name) || (is_user && ZERO_OF_USER_IS_UNSET.contains(&row.name));
    match (row.shape, value.parse::<f64>()) {
        (Shape::Number | Shape::Time, Ok(number)) if zero => number <= 0.0,
        (Shape::Number, Ok(number)) => number < 0.0,
        _ => false,
    }
}
