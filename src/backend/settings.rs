//! Session settings as values that can be compared by pointer: what a client wants, and what a backend carries.
//!
//! Equal sets are one allocation for the whole process (the [`Interner`] sees to it when a set changes), so bringing a
//! backend in line costs one pointer comparison where nothing differs. Values are compared exactly, byte for byte.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Reported settings that no SET can change; a client is told when they differ.
const READ_ONLY: [&str; 5] =
    ["in_hot_standby", "integer_datetimes", "is_superuser", "server_encoding", "server_version"];

/// Reported settings whose values cannot be refused once PostgreSQL has reported them.
const HARMLESS: [&str; 6] =
    ["application_name", "client_encoding", "DateStyle", "IntervalStyle", "standard_conforming_strings", "TimeZone"];

/// Settings whose value is a list of quoted names: SET with one string would make it one name.
const LISTS: [&str; 5] = [
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];

type Entry = (Box<str>, Option<Box<[u8]>>);
type Entries = Vec<Entry>;

/// An immutable set of settings, sorted by name; a value of `None` is one that is not known.
#[derive(Clone, Debug)]
pub struct Settings(Arc<Entries>);

impl PartialEq for Settings {
    fn eq(&self, other: &Settings) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Settings {
    /// The value of a setting, its name compared as PostgreSQL does, ignoring case.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&[u8]> {
        self.find(name).and_then(|(_, value)| value.as_deref())
    }

    /// The name as this set spells it.
    #[must_use]
    pub fn spelling(&self, name: &str) -> Option<&str> {
        self.find(name).map(|(name, _)| name.as_ref())
    }

    /// Name and value of each setting that is known.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().filter_map(|(name, value)| Some((name.as_ref(), value.as_deref()?)))
    }

    /// The name of each setting, known or not.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_ref())
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn find(&self, name: &str) -> Option<&Entry> {
        self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))
    }
}

/// The process's table of settings in use.
#[derive(Debug, Default)]
pub struct Interner {
    sets: Mutex<HashMap<u64, Vec<Weak<Entries>>>>,
}

impl Interner {
    /// The set of these settings; later duplicates win.
    pub fn collect<'a>(&self, pairs: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Settings {
        let mut entries = Entries::new();
        for (name, value) in pairs {
            put(&mut entries, name, Some(value));
        }
        self.intern(entries)
    }

    /// `set` with one setting changed.
    #[must_use]
    pub fn with(&self, set: &Settings, name: &str, value: &[u8]) -> Settings {
        if set.value(name) == Some(value) {
            return set.clone();
        }
        let mut entries = set.0.as_ref().clone();
        put(&mut entries, name, Some(value));
        self.intern(entries)
    }

    /// `set` with a setting whose value is not known any more.
    #[must_use]
    pub fn with_unknown(&self, set: &Settings, name: &str) -> Settings {
        let mut entries = set.0.as_ref().clone();
        put(&mut entries, name, None);
        self.intern(entries)
    }

    /// `set` without a setting.
    #[must_use]
    pub fn without(&self, set: &Settings, name: &str) -> Settings {
        if set.find(name).is_none() {
            return set.clone();
        }
        let others = set.0.iter().filter(|(known, _)| !known.eq_ignore_ascii_case(name));
        self.intern(others.cloned().collect())
    }

    /// `set` with the same names, no value of which is known any more.
    #[must_use]
    pub fn forget(&self, set: &Settings) -> Settings {
        self.intern(set.0.iter().map(|(name, _)| (name.clone(), None)).collect())
    }

    fn intern(&self, entries: Entries) -> Settings {
        let mut hasher = DefaultHasher::new();
        entries.hash(&mut hasher);
        let hash = hasher.finish();
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        if sets.len() > 256 && sets.len().is_power_of_two() {
            sets.retain(|_, bucket| bucket.iter().any(|set| set.strong_count() > 0));
        }
        let bucket = sets.entry(hash).or_default();
        bucket.retain(|set| set.strong_count() > 0);
        if let Some(found) = bucket.iter().filter_map(Weak::upgrade).find(|set| **set == entries) {
            return Settings(found);
        }
        let set = Arc::new(entries);
        bucket.push(Arc::downgrade(&set));
        Settings(set)
    }
}

fn put(entries: &mut Entries, name: &str, value: Option<&[u8]>) {
    let value = value.map(Box::from);
    match entries.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
        Some(entry) => entry.1 = value,
        None => {
            let at = entries.partition_point(|(known, _)| known.as_ref() < name);
            entries.insert(at, (name.into(), value));
        }
    }
}

/// What a session carries: the settings that PostgreSQL reports, and those that it does not (`extra`).
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Settings known by ParameterStatus.
    pub reported: Settings,
    /// Settings known because we made them.
    pub extra: Settings,
}

/// What brings a backend in line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Statements for one simple Query; empty where nothing has to be sent.
    pub sql: Vec<u8>,
    /// A statement to be sent by itself before, so that the others are read in the right encoding; mostly empty.
    pub encoding: Vec<u8>,
    /// PostgreSQL cannot refuse any of them.
    pub harmless: bool,
    /// What the client has to be told: settings that no SET can change.
    pub tell: Vec<(String, Vec<u8>)>,
}

/// The setting of SET ROLE; without one it is not in the set.
const ROLE: &str = "role";

/// The statements that take a backend `from` one state `to` another.
#[must_use]
pub fn difference(from: &State, to: &State) -> Difference {
    let mut found = Difference { harmless: from.extra.value("statement_timeout").is_none(), ..Difference::default() };
    let changes_role = from.extra != to.extra && from.extra.find(ROLE) != to.extra.find(ROLE);
    if changes_role && from.extra.find(ROLE).is_some() {
        // What follows may not be the other client's role's to do.
        found.harmless = false;
        found.sql.extend_from_slice(b"RESET ROLE;");
    }
    if from.reported != to.reported {
        // Becoming another user comes first: it decides what the rest may do.
        for authorization in [true, false] {
            for (name, value) in to.reported.iter() {
                if (name == "session_authorization") == authorization && from.reported.value(name) != Some(value) {
                    reported(&mut found, from, name, value);
                }
            }
        }
    }
    if from.extra != to.extra {
        for (name, _) in from.extra.0.iter() {
            if to.extra.find(name).is_none() && name.as_ref() != ROLE {
                found.harmless = false;
                found.sql.extend_from_slice(b"RESET ");
                quote_name(&mut found.sql, name);
                found.sql.push(b';');
            }
        }
        for (name, value) in to.extra.iter() {
            if from.extra.value(name) != Some(value) && name != ROLE {
                found.harmless = false;
                assign(&mut found.sql, name, value);
            }
        }
    }
    let becomes = from.reported.value("session_authorization") != to.reported.value("session_authorization");
    if let Some(role) = to.extra.value(ROLE).filter(|_| changes_role || becomes) {
        found.harmless = false;
        assign(&mut found.sql, ROLE, role);
    }
    let encoding = to.reported.value("client_encoding").unwrap_or_default();
    if !found.sql.is_ascii() && from.reported.value("client_encoding") != Some(encoding) {
        assign(&mut found.encoding, "client_encoding", encoding);
    }
    found
}

/// The statements that make these settings, as a startup packet would.
#[must_use]
pub fn assignments<'a>(settings: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Vec<u8> {
    let mut sql = Vec::new();
    for (name, value) in settings {
        assign(&mut sql, name, value);
    }
    sql
}

fn reported(found: &mut Difference, from: &State, name: &str, value: &[u8]) {
    if READ_ONLY.contains(&name) {
        if let Some(actual) = from.reported.value(name) {
            found.tell.push((name.to_owned(), actual.to_vec()));
        }
        return;
    }
    found.harmless &= HARMLESS.contains(&name);
    assign(&mut found.sql, name, value);
}

/// Appends the statement that sets `name` to the text `value`, as a startup packet would.
fn assign(sql: &mut Vec<u8>, name: &str, value: &[u8]) {
    if LISTS.iter().any(|list| list.eq_ignore_ascii_case(name)) {
        sql.extend_from_slice(b"SELECT pg_catalog.set_config(");
        quote_value(sql, name.as_bytes());
        sql.push(b',');
        quote_value(sql, value);
        sql.extend_from_slice(b",false);");
    } else {
        sql.extend_from_slice(b"SET ");
        quote_name(sql, name);
        sql.push(b'=');
        quote_value(sql, value);
        sql.push(b';');
    }
}

/// A name with its dots, each part quoted.
fn quote_name(sql: &mut Vec<u8>, name: &str) {
    for (index, part) in name.split('.').enumerate() {
        if index > 0 {
            sql.push(b'.');
        }
        sql.push(b'"');
        sql.extend_from_slice(part.replace('"', "\"\"").as_bytes());
        sql.push(b'"');
    }
}

/// A literal that means the same whatever `standard_conforming_strings` is. In the encodings that only clients may have
/// (SJIS, BIG5, GBK ...) a backslash can be the second byte of a character; such a value would be altered, not escape,
/// since the server converts the text before it reads it and a doubled backslash stays within its literal.
pub fn quote_value(sql: &mut Vec<u8>, value: &[u8]) {
    if value.contains(&b'\\') {
        sql.extend_from_slice(b" E");
    }
    sql.push(b'\'');
    for &byte in value {
        if byte == b'\'' || byte == b'\\' {
            sql.push(byte);
        }
        sql.push(byte);
    }
    sql.push(b'\'');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(interner: &Interner, reported: &[(&str, &str)], extra: &[(&str, &str)]) -> State {
        let set =
            |pairs: &[(&str, &str)]| interner.collect(pairs.iter().map(|(name, value)| (*name, value.as_bytes())));
        State { reported: set(reported), extra: set(extra) }
    }

    fn sql(from: &State, to: &State) -> String {
        String::from_utf8(difference(from, to).sql).unwrap()
    }

    #[test]
    fn equal_sets_are_one_allocation() {
        let interner = Interner::default();
        let one = state(&interner, &[("a", "1"), ("B", "2")], &[]);
        let two = state(&interner, &[("B", "2"), ("a", "1")], &[]);
        assert_eq!(one, two);
        let changed = interner.with(&one.reported, "b", b"3");
        assert_ne!(changed, one.reported);
        assert_eq!(changed.value("B"), Some(&b"3"[..]));
        assert_eq!(interner.with(&changed, "B", b"2"), one.reported);
    }

    #[test]
    fn only_the_difference_is_sent_and_case_counts() {
        let interner = Interner::default();
        let from = state(&interner, &[("application_name", "app"), ("TimeZone", "UTC")], &[]);
        let to = state(&interner, &[("application_name", "App"), ("TimeZone", "UTC")], &[]);
        let found = difference(&from, &to);
        assert_eq!(found.sql, br#"SET "application_name"='App';"#);
        assert!(found.harmless);
        assert_eq!(difference(&to, &to), Difference { harmless: true, ..Difference::default() });
    }

    #[test]
    fn extras_are_set_and_reset_and_may_be_refused() {
        let interner = Interner::default();
        let from = state(&interner, &[], &[("app.tenant", "1"), ("work_mem", "1MB")]);
        let to = state(&interner, &[], &[("search_path", r#""$user", x"#), ("work_mem", "1MB")]);
        let found = difference(&from, &to);
        assert!(!found.harmless);
        assert_eq!(
            String::from_utf8(found.sql).unwrap(),
            r#"RESET "app"."tenant";SELECT pg_catalog.set_config('search_path','"$user", x',false);"#
        );
    }

    #[test]
    fn what_was_forgotten_is_set_or_reset_again() {
        let interner = Interner::default();
        let known = state(&interner, &[], &[("work_mem", "1MB")]);
        let unknown = State { extra: interner.forget(&known.extra), ..known.clone() };
        let none = state(&interner, &[], &[]);
        assert_eq!(sql(&unknown, &known), r#"SET "work_mem"='1MB';"#);
        assert_eq!(sql(&unknown, &none), r#"RESET "work_mem";"#);
    }

    #[test]
    fn the_role_is_left_first_and_taken_last() {
        let interner = Interner::default();
        let from = state(&interner, &[], &[("role", "a"), ("work_mem", "1MB")]);
        let to = state(&interner, &[], &[("app.tenant", "1"), ("role", "b")]);
        assert_eq!(sql(&from, &to), r#"RESET ROLE;RESET "work_mem";SET "app"."tenant"='1';SET "role"='b';"#);
        assert_eq!(sql(&to, &state(&interner, &[], &[("app.tenant", "1")])), "RESET ROLE;");
        let same = state(&interner, &[], &[("role", "b")]);
        assert_eq!(sql(&to, &same), r#"RESET "app"."tenant";"#);
        let user = |name, role| state(&interner, &[("session_authorization", name)], &[("role", role)]);
        assert_eq!(sql(&user("u", "b"), &user("v", "b")), r#"SET "session_authorization"='v';SET "role"='b';"#);
    }

    #[test]
    fn the_encoding_comes_before_what_is_written_in_it() {
        let interner = Interner::default();
        let from = state(&interner, &[("client_encoding", "LATIN1")], &[]);
        let to = state(&interner, &[("client_encoding", "UTF8")], &[("app.name", "Zürich")]);
        assert_eq!(difference(&from, &to).encoding, br#"SET "client_encoding"='UTF8';"#);
        assert_eq!(difference(&from, &state(&interner, &[("client_encoding", "UTF8")], &[])).encoding, b"");
    }

    #[test]
    fn values_cannot_break_out() {
        let interner = Interner::default();
        let from = state(&interner, &[("application_name", "")], &[]);
        let to = state(&interner, &[("application_name", r"';drop--\'")], &[]);
        assert_eq!(sql(&from, &to), r#"SET "application_name"= E''';drop--\\''';"#);
    }

    #[test]
    fn the_user_comes_first_and_read_only_ones_are_told() {
        let interner = Interner::default();
        let from =
            state(&interner, &[("server_version", "16"), ("session_authorization", "a"), ("DateStyle", "x")], &[]);
        let to = state(&interner, &[("server_version", "15"), ("session_authorization", "b"), ("DateStyle", "y")], &[]);
        let found = difference(&from, &to);
        assert_eq!(found.sql, br#"SET "session_authorization"='b';SET "DateStyle"='y';"#);
        assert_eq!(found.tell, [("server_version".to_owned(), b"16".to_vec())]);
        assert!(!found.harmless);
    }
}
