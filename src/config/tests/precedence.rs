//! Which setting counts where several places say it.

use std::time::Duration;

use super::config;
use crate::config::{Config, Policy, PoolMode, SessionFeatures};

const FILE: &str = r#"
    [pgpool]
    pool_mode = "transaction"
    default_pool_size = 10
    min_pool_size = 1
    reserve_pool_size = 2
    max_db_connections = 30
    max_user_connections = 40
    max_db_client_connections = 50
    max_user_client_connections = 60
    server_lifetime = 70
    query_wait_timeout = 80
    query_timeout = 81
    idle_transaction_timeout = 82
    transaction_timeout = 83
    client_idle_timeout = 84
    session_features = "warn, listen=reject"
    max_pinned = 5

    [databases.plain]

    [databases.own]
    pool_mode = "statement"
    pool_size = 11
    min_pool_size = 0
    reserve_pool_size = 0
    max_db_connections = 0
    max_db_client_connections = 51
    server_lifetime = 0
    query_wait_timeout = 0
    session_features = "listen=allow"
    max_pinned = 0
    user = "own"

    [databases.known]
    user = "own"
    password = "written here"

    [databases."*"]
    host = "elsewhere"

    [users.plain]

    [users.own]
    password = "of the user"
    pool_mode = "session"
    pool_size = 0
    reserve_pool_size = 3
    max_user_connections = 41
    max_user_client_connections = 0
    query_timeout = 0
    query_wait_timeout = 91
    idle_transaction_timeout = 92
    transaction_timeout = 93
    client_idle_timeout = 94
"#;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn general_settings_fill_what_nobody_says() {
    let config = config(FILE);
    let (database, user) = (&config.databases["plain"], Some(&*config.users["plain"]));
    for user in [None, user] {
        assert_eq!(config.pool_mode(database, user), PoolMode::Transaction);
        assert_eq!(config.pool_size(database, user), 10);
        assert_eq!(config.reserve_pool_size(database, user), 2);
        assert_eq!(config.max_user_connections(user), 40);
        assert_eq!(config.max_user_client_connections(user), 60);
        assert_eq!(config.query_wait_timeout(database, user), secs(80));
        assert_eq!(config.query_timeout(user), secs(81));
        assert_eq!(config.idle_transaction_timeout(user), secs(82));
        assert_eq!(config.transaction_timeout(user), secs(83));
        assert_eq!(config.client_idle_timeout(user), secs(84));
    }
    assert_eq!(config.min_pool_size(database), 1);
    assert_eq!(config.max_db_connections(database), 30);
    assert_eq!(config.max_db_client_connections(database), 50);
    assert_eq!(config.server_lifetime(database), secs(70));
    assert_eq!(config.session_features(database).to_string(), "warn, listen=reject");
    assert_eq!(config.max_pinned(database, None), 5);
}

#[test]
fn the_database_goes_before_the_general_settings() {
    let config = config(FILE);
    let database = &config.databases["own"];
    assert_eq!(config.pool_mode(database, None), PoolMode::Statement);
    assert_eq!(config.pool_size(database, None), 11);
    assert_eq!(config.min_pool_size(database), 0);
    assert_eq!(config.reserve_pool_size(database, None), 0);
    assert_eq!(config.max_db_connections(database), 0);
    assert_eq!(config.max_db_client_connections(database), 51);
    assert_eq!(config.server_lifetime(database), Duration::ZERO);
    assert_eq!(config.query_wait_timeout(database, None), Duration::ZERO);
    // As a whole: what the general setting says of other features is gone.
    let features = SessionFeatures { listen: Policy::Allow, ..SessionFeatures::default() };
    assert_eq!(config.session_features(database), features);
    assert_eq!(config.max_pinned(database, None), 10);
}

#[test]
fn the_user_goes_before_the_database() {
    let config = config(FILE);
    let (database, user) = (&config.databases["own"], Some(&*config.users["own"]));
    assert_eq!(config.pool_mode(database, user), PoolMode::Session);
    assert_eq!(config.pool_size(database, user), 0);
    assert_eq!(config.reserve_pool_size(database, user), 3);
    assert_eq!(config.max_user_connections(user), 41);
    assert_eq!(config.max_user_client_connections(user), 0);
    assert_eq!(config.query_timeout(user), Duration::ZERO);
    assert_eq!(config.query_wait_timeout(database, user), secs(91));
    assert_eq!(config.query_wait_timeout(&config.databases["plain"], user), secs(91));
    assert_eq!(config.idle_transaction_timeout(user), secs(92));
    assert_eq!(config.transaction_timeout(user), secs(93));
    assert_eq!(config.client_idle_timeout(user), secs(94));
}

#[test]
fn pinned_backends_leave_one_of_the_pools_size() {
    let cases = [
        ("pool_size=10", 9),
        ("pool_size=2", 1),
        ("pool_size=1", 1),
        ("pool_size=0", u32::MAX),
        ("pool_size=0 max_pinned=3", 3),
        ("pool_size=2 max_pinned=3", 3),
    ];
    for (entry, expected) in cases {
        let config = config(&format!("[databases]\na = \"{entry}\"\n[users.small]\npool_size = 4\n"));
        assert_eq!(config.max_pinned(&config.databases["a"], None), expected, "{entry}");
    }
    let config = config("[databases.a]\npool_size = 10\n[users.small]\npool_size = 4\n");
    assert_eq!(config.max_pinned(&config.databases["a"], Some(&*config.users["small"])), 3);
}

#[test]
fn the_secret_of_a_forced_user() {
    let config = config(FILE);
    let secret = |name: &str| {
        let secret = config.forced_secret(&config.databases[name]);
        secret.map(|secret| secret.expose().to_owned())
    };
    assert_eq!(secret("plain"), None);
    assert_eq!(secret("own").as_deref(), Some("of the user"));
    assert_eq!(secret("known").as_deref(), Some("written here"));
}

#[test]
fn the_fallback_is_made_out_for_the_name() {
    let config = config(FILE);
    let exact = config.database("own").unwrap();
    assert_eq!((exact.name.as_str(), exact.backend_dbname()), ("own", "own"));
    let other = config.database("other").unwrap();
    assert_eq!((other.name.as_str(), other.backend_dbname()), ("other", "other"));
    assert_eq!(other.backend_hosts()[0].0.to_string(), "elsewhere");
    assert_eq!(config.database("pgpool"), None);
    assert_eq!(config.database("pgbouncer"), None);
    assert_eq!(Config::default().database("other"), None);
}

#[test]
fn the_fallback_may_name_one_database() {
    let config = config("[databases]\n\"*\" = \"dbname=postgres timezone=UTC application_name=''\"\n");
    let database = config.database("anything").unwrap();
    assert_eq!((database.name.as_str(), database.backend_dbname()), ("anything", "postgres"));
    let parameters: Vec<(&str, &str)> = database.startup_parameters().collect();
    assert_eq!(parameters, [("timezone", "UTC")]);
    assert!(matches!(database.backend_hosts()[..], [(crate::config::Host::Socket(_), 5432)]));
}

#[test]
fn users_are_looked_up_where_the_entry_says_or_the_general_settings() {
    let text = "[pgpool]\nauth_user = \"asker\"\nauth_query = \"q\"\n[databases.plain]\n[databases.own]\nauth_user = \"other\"\n\
                auth_query = \"mine\"\n[databases.away]\nauth_dbname = \"plain\"\n";
    let with = |more: &str| config(&text.replacen("[pgpool]\n", &format!("[pgpool]\n{more}"), 1));
    let said = |config: &crate::config::Config, name: &str| {
        config.auth_source(name).map(|source| [source.database, source.user, source.query].join(" "))
    };
    let here = with("");
    assert_eq!(said(&here, "plain").as_deref(), Some("plain asker q"));
    assert_eq!(said(&here, "own").as_deref(), Some("own other mine"));
    assert_eq!(said(&here, "away").as_deref(), Some("plain asker q"));
    assert_eq!((said(&here, "pgpool"), said(&here, "unknown")), (None, None));
    let there = with("auth_dbname = \"own\"\n");
    assert_eq!(said(&there, "plain").as_deref(), Some("own asker q"));
    assert_eq!(said(&there, "away").as_deref(), Some("plain asker q"));
    assert_eq!(said(&there, "pgbouncer").as_deref(), Some("own asker q"));
    let nobody = config(&text.replace("auth_user = \"asker\"\n", ""));
    assert_eq!((said(&nobody, "plain"), said(&nobody, "own").as_deref()), (None, Some("own other mine")));
    assert_eq!(config("[pgpool]\nauth_user = \"a\"\n[databases.\"*\"]\n").auth_source("any").unwrap().database, "any");
}
