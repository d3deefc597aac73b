//! Files on disk: the configuration and its `auth_file`.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::config::{Config, Loaded, Problems, SecretSource};

fn load(config: &str, userlist: &[u8]) -> (TempDir, Result<Loaded, Problems>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pgpool.toml");
    fs::write(&path, config).unwrap();
    fs::write(directory.path().join("userlist.txt"), userlist).unwrap();
    let loaded = Config::load(&path);
    (directory, loaded)
}

/// Problems without the name of the temporary directory.
fn told(directory: &TempDir, problems: &[crate::config::Problem]) -> Vec<String> {
    let prefix = format!("{}/", directory.path().display());
    problems.iter().map(|problem| problem.to_string().replace(&prefix, "")).collect()
}

const WITH_USERLIST: &str = "[pgpool]\nauth_file = \"userlist.txt\"\n[databases.\"*\"]\n";

#[test]
fn secrets_from_both_files() {
    let config = format!("{WITH_USERLIST}[users.a]\npassword = \"ours\"\n[users.b]\npool_size = 1\n[users.d]\n");
    let (_directory, loaded) = load(&config, b"\"a\" \"theirs\"\n\"b\" \"listed\"\n\"c\" \"listed\"\n\"e\" \"\"\n");
    let config = loaded.unwrap().config;
    let found: Vec<(&str, Option<&str>, SecretSource)> = config
        .users
        .values()
        .map(|user| (user.name.as_str(), user.password.as_ref().map(|secret| secret.expose()), user.secret_source))
        .collect();
    let expected = [
        ("a", Some("ours"), SecretSource::Config),
        ("b", Some("listed"), SecretSource::AuthFile),
        ("c", Some("listed"), SecretSource::AuthFile),
        ("d", None, SecretSource::None),
        ("e", None, SecretSource::None),
    ];
    assert_eq!(found, expected);
    assert_eq!(config.users["b"].pool_size, Some(1));
}

#[test]
fn broken_lines_of_the_auth_file() {
    let (directory, loaded) = load(&format!("{WITH_USERLIST}[pgpoool]\n"), b"\"a\" \"s3cret\"\n\nb s3cret\n\"c\n");
    let problems = loaded.unwrap_err();
    let expected = [
        "pgpool.toml:4: unknown section [pgpoool], did you mean [pgpool]?",
        "userlist.txt:3: expected \"user\" \"secret\"",
        "userlist.txt:4: a quote is not closed",
    ];
    assert_eq!(told(&directory, &problems.0), expected);
}

#[test]
fn a_user_listed_twice() {
    let (directory, loaded) = load(WITH_USERLIST, b"\"a\" \"1\"\n\"a\" \"2\"\n");
    let loaded = loaded.unwrap();
    assert_eq!(loaded.config.users["a"].password.as_ref().map(|secret| secret.expose()), Some("2"));
    let expected = ["userlist.txt:2: user \"a\" occurs again after line 1; the last line counts"];
    assert_eq!(told(&directory, &loaded.warnings), expected);
}

#[test]
fn files_that_cannot_be_read() {
    let (directory, loaded) = load("[pgpool]\nauth_file = \"missing.txt\"\n[databases.a]\n", b"");
    let problems = told(&directory, &loaded.unwrap_err().0);
    assert_eq!(problems, ["pgpool.toml:2: cannot read auth_file missing.txt: No such file or directory (os error 2)"]);

    let (directory, loaded) = load(WITH_USERLIST, b"\"a\" \"\xff\"\n");
    let problems = told(&directory, &loaded.unwrap_err().0);
    assert!(
        problems[0].starts_with("pgpool.toml:2: cannot read auth_file userlist.txt: invalid utf-8"),
        "{problems:?}"
    );

    let missing = Config::load(Path::new("/nonexistent/pgpool.toml")).unwrap_err();
    assert!(missing.to_string().starts_with("/nonexistent/pgpool.toml: cannot read the file: "), "{missing}");
    let ini = Config::load(Path::new("/nonexistent/pgbouncer.ini")).unwrap_err();
    assert!(ini.to_string().starts_with("/nonexistent/pgbouncer.ini: cannot read the file: "), "{ini}");
}

#[test]
fn an_absolute_auth_file() {
    let directory = tempfile::tempdir().unwrap();
    let list = directory.path().join("users");
    fs::write(&list, "\"a\" \"b\"\n").unwrap();
    let text = format!("[pgpool]\nauth_file = {:?}\n", list.display().to_string());
    let config = Config::parse(&text, Path::new("somewhere/else.toml")).unwrap().config;
    assert_eq!(config.general.auth_file, Some(list));
    assert_eq!(config.path, PathBuf::from("somewhere/else.toml"));
    assert!(config.user("a").is_some());
    assert!(config.user("b").is_none());
}
