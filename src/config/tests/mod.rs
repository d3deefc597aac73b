//! Tests of the whole module: files in, configurations or problems out.

use std::path::Path;

use proptest::prelude::*;

use crate::config::{Config, Loaded};

mod changing;
mod convert;
mod demand;
mod example;
mod ini;
mod loading;
mod pgbouncer;
mod precedence;
mod problems;
mod rules;
mod values;

/// Reads a file that has no problems.
fn parsed(text: &str) -> Loaded {
    Config::parse(text, Path::new("pgpool.toml")).unwrap_or_else(|problems| panic!("{problems}"))
}

/// The configuration of a file that has no problems.
fn config(text: &str) -> Config {
    parsed(text).config
}

/// The problems of a file, as an operator sees them.
fn problems(text: &str) -> String {
    Config::parse(text, Path::new("pgpool.toml")).map(|_| ()).unwrap_err().to_string()
}

/// The warnings of a file, as an operator sees them.
fn warnings(text: &str) -> Vec<String> {
    parsed(text).warnings.iter().map(ToString::to_string).collect()
}

/// Lines that are mostly like those of a configuration, so that random text gets past the first byte.
fn nearly_toml() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        Just(String::from("[pgpool]")),
        Just(String::from("[databases]")),
        Just(String::from("[users]")),
        "\\[(databases|users)\\.[a-z\"*. ]{0,6}\\]",
        "(listen_port|pool_mode|query_timeout|unix_socket_mode|host|password|pool_size|mydb) = .{0,12}",
        "(listen_port|pool_mode|query_timeout|unix_socket_mode|host|admin_users|mydb) = [-0-9a-fox.\\[\\]{}\"',=]{0,12}",
        ".{0,20}",
    ];
    proptest::collection::vec(line, 0..12).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "(?s).*") {
        let _ = Config::parse(&text, Path::new("pgpool.toml"));
    }

    #[test]
    fn any_near_configuration_is_read_or_refused(text in nearly_toml()) {
        if let Err(problems) = Config::parse(&text, Path::new("pgpool.toml")) {
            let lines = text.lines().count().max(1) + 1;
            prop_assert!(!problems.0.is_empty());
            prop_assert!(problems.0.is_sorted_by_key(|problem| problem.line));
            prop_assert!(problems.0.iter().all(|problem| problem.line.is_none_or(|line| (1..=lines).contains(&line))));
        }
    }
}
