//! What differs between two configurations: for the log of a reload, and for what has to be done about it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::Config;
use crate::config::general::General;
use crate::config::table::{Row, Table, When};

/// Everything that differs. Holds no secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Settings of `[pgpool]`, in the order of the documentation.
    pub settings: Vec<SettingChange>,
    /// Databases, the fallback under the name `*`.
    pub databases: EntryChanges,
    /// Users, of the file and of its `auth_file`.
    pub users: EntryChanges,
    /// Peers.
    pub peers: EntryChanges,
}

/// A general setting with another value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingChange {
    /// Name of the setting.
    pub name: &'static str,
    /// Former value, in PgBouncer's spelling.
    pub old: String,
    /// Present value.
    pub new: String,
    /// Whether the change has no effect before the process is started again.
    pub boot_only: bool,
}

/// Names of entries that came, went, or differ in any setting; each list is sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntryChanges {
    /// Only in the new configuration.
    pub added: Vec<String>,
    /// Only in the old configuration.
    pub removed: Vec<String>,
    /// In both, not alike.
    pub changed: Vec<String>,
}

/// What changes from `old` to `new`.
pub fn changes(old: &Config, new: &Config) -> Changes {
    let differs = |row: &&Row<General>| !(row.same)(&old.general, &new.general);
    let settings = General::ROWS.iter().filter(differs).map(|row| SettingChange {
        name: row.name,
        old: (row.show)(&old.general),
        new: (row.show)(&new.general),
        boot_only: row.when == When::Boot,
    });
    let mut databases = entries(&old.databases, &new.databases);
    let fallback = |config: &Config| config.fallback.iter().map(|entry| (String::from("*"), entry.clone())).collect();
    // "*" sorts before every name that is likely, so it goes in front.
    let star = entries(&fallback(old), &fallback(new));
    databases.added.splice(0..0, star.added);
    databases.removed.splice(0..0, star.removed);
    databases.changed.splice(0..0, star.changed);
    let named = |config: &Config| config.peers.iter().map(|(id, peer)| (id.to_string(), Arc::clone(peer))).collect();
    let peers = entries(&named(old), &named(new));
    Changes { settings: settings.collect(), databases, users: entries(&old.users, &new.users), peers }
}

impl Changes {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.settings.is_empty() && self.databases.is_empty() && self.users.is_empty() && self.peers.is_empty()
    }
}

impl EntryChanges {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

fn entries<T: PartialEq>(old: &BTreeMap<String, Arc<T>>, new: &BTreeMap<String, Arc<T>>) -> EntryChanges {
    let without = |name: &&String, other: &BTreeMap<String, Arc<T>>| !other.contains_key(*name);
    let changed = |(name, entry): &(&String, &Arc<T>)| new.get(*name).is_some_and(|other| other != *entry);
    EntryChanges {
        added: new.keys().filter(|name| without(name, old)).cloned().collect(),
        removed: old.keys().filter(|name| without(name, new)).cloned().collect(),
        changed: old.iter().filter(changed).map(|(name, _)| name.clone()).collect(),
    }
}
