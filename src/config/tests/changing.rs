//! What a reload finds changed.

use super::config;
use crate::config::{Changes, SettingChange, changes};

#[test]
fn nothing_changes() {
    let text = "[pgpool]\nverbose = 1\n[databases.a]\n[users.b]\npassword = \"c\"\n";
    assert_eq!(changes(&config(text), &config(text)), Changes::default());
    assert!(changes(&config(text), &config(text)).is_empty());
}

#[test]
fn settings_and_entries() {
    let old = config(
        "[pgpool]\nlisten_port = 1\nverbose = 1\n[databases.a]\n[databases.b]\nport = 1\n[databases.\"*\"]\n\
         [users.u]\npassword = \"one\"\n[users.v]\n",
    );
    let new = config(
        "[pgpool]\nlisten_port = 2\nquery_timeout = 1.5\n[databases.b]\nport = 2\n[databases.c]\n[databases.\"*\"]\n\
         port = 3\n[users.u]\npassword = \"two\"\n[users.w]\n",
    );
    let found = changes(&old, &new);
    let change = |name, old: &str, new: &str, boot_only| {
        let (old, new) = (old.to_owned(), new.to_owned());
        SettingChange { name, old, new, boot_only }
    };
    let expected = [
        change("listen_port", "1", "2", true),
        change("verbose", "1", "0", false),
        change("query_timeout", "0", "1.5", false),
    ];
    assert_eq!(found.settings, expected);
    assert_eq!(found.databases.added, ["c"]);
    assert_eq!(found.databases.removed, ["a"]);
    assert_eq!(found.databases.changed, ["*", "b"]);
    assert_eq!(found.users.added, ["w"]);
    assert_eq!(found.users.removed, ["v"]);
    assert_eq!(found.users.changed, ["u"]);
    assert!(!found.is_empty());
    assert!(!format!("{found:?}").contains("two"));
}

#[test]
fn lists_that_look_alike_still_differ() {
    let old = config("[pgpool]\nadmin_users = [\"a, b\"]\n");
    let new = config("[pgpool]\nadmin_users = [\"a\", \"b\"]\n");
    assert_eq!(changes(&old, &new).settings.len(), 1);
}

#[test]
fn boot_settings_stay() {
    let running = config("[pgpool]\nlisten_port = 1\nmax_client_conn = 1\n");
    let mut reloaded = config("[pgpool]\nlisten_port = 2\nmax_client_conn = 2\n");
    reloaded.general.keep_boot_settings(&running.general);
    assert_eq!((reloaded.general.listen_port, reloaded.general.max_client_conn), (1, 2));
}

#[test]
fn the_target_of_a_database() {
    let database = |text: &str| config(&format!("[databases]\na = \"{text}\"\n")).databases["a"].clone();
    let plain = database("host=h");
    for same in ["host=h port=5432", "host=h dbname=a", "host=h pool_size=3", "host=h timezone=UTC"] {
        assert!(plain.same_target(&database(same)), "{same}");
    }
    for other in ["host=i", "host=h port=1", "host=h dbname=b", "host=h user=u"] {
        assert!(!plain.same_target(&database(other)), "{other}");
    }
}
