//! `auth_type = "hba"`: rules and maps from their files to logins, and the same rules in PostgreSQL.

mod against_postgresql;
mod generate;
mod memberships;

use std::{fs, path::Path, time::Duration};

use tempfile::TempDir;

use crate::support::{
    Cluster, Pooler, Raw, Table, for_each_worker_count,
    pooler::{run, write_settings},
    reply::PgError,
};

const SOON: Duration = Duration::from_secs(5);
const ENDS: Duration = Duration::from_secs(20);

/// The files of the rules, in a directory of their own.
struct Rules(TempDir);

impl Rules {
    fn new(rules: &str, maps: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("pgpool-hba-").tempdir().unwrap();
        let files = Self(dir);
        files.write("pg_hba.conf", rules);
        files.write("pg_ident.conf", maps);
        files
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.path().join(name), text).unwrap();
    }

    /// The settings that name them.
    fn settings(&self) -> String {
        let path = |name: &str| self.0.path().join(name).display().to_string();
        format!(
            "auth_type = \"hba\"\nauth_hba_file = \"{}\"\nauth_ident_file = \"{}\"\n",
            path("pg_hba.conf"),
            path("pg_ident.conf")
        )
    }
}

/// The user that the test runs as.
fn system_user() -> String {
    pgpool::net::lookup::user_name(rustix::process::geteuid().as_raw()).unwrap().unwrap()
}

fn login_local(pooler: &Pooler, user: &str, password: &str, database: &str) -> Result<Raw, PgError> {
    let mut client = Raw::connect_unix(pooler.socket());
    client.startup(&[("user", user), ("database", database)]);
    client.authenticate(user, password)?;
    Ok(client)
}

fn refused(pooler: &Pooler, user: &str, password: &str, database: &str) -> PgError {
    let outcome = Raw::try_login(pooler.port(), user, password, database);
    outcome.err().unwrap_or_else(|| panic!("{user} was let in to {database}"))
}

fn told(error: &PgError) -> (&str, &str, &str) {
    (error.severity.as_str(), error.code.as_str(), error.message.as_str())
}

/// The first authentication request that a client gets: what it is asked for.
fn asked(pooler: &Pooler, user: &str) -> u32 {
    let mut client = Raw::connect(pooler.port());
    client.startup(&[("user", user), ("database", "app")]);
    let message = client.read();
    assert_eq!(message.tag, b'R', "{message:?}");
    u32::from_be_bytes(message.body[..4].try_into().unwrap())
}

#[test]
fn hba_each_user_logs_in_by_his_rule() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let rules = Rules::new(
            "host app trusty 127.0.0.1/32 trust\nhost app alice all scram-sha-256\nhost app bob samehost md5\n\
             host app carol localhost password\nhost pgbouncer postgres samenet md5\nlocal all alice trust\n",
            "",
        );
        let pooler = Pooler::with_workers(&cluster, workers, &rules.settings());
        for (user, request) in [("trusty", 0), ("alice", 10), ("bob", 5), ("carol", 3)] {
            assert_eq!(asked(&pooler, user), request, "{user}");
            let mut client = pooler.login(user, &format!("{user}pw"), "app");
            assert_eq!(client.value("select current_user"), user);
            if user != "trusty" {
                let error = refused(&pooler, user, "wrong", "app");
                assert_eq!(told(&error).1, "28P01", "{user}");
            }
        }
        assert_eq!(login_local(&pooler, "alice", "", "app").unwrap().value("select current_user"), "alice");
        // The rule for one of the console's names is one for both.
        assert_eq!(pooler.console().query("SHOW VERSION").unwrap().len(), 1);
        pooler.login("postgres", "postgrespw", "pgbouncer");
    });
}

#[test]
fn hba_who_has_no_rule_or_is_rejected_is_told_so_as_by_postgresql() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let rules = Rules::new("host app carol all reject\nhost app trusty all trust\nlocal app carol reject\n", "");
        let pooler = Pooler::with_workers(&cluster, workers, &rules.settings());
        let error = refused(&pooler, "alice", "alicepw", "app");
        let words = "no pg_hba.conf entry for host \"127.0.0.1\", user \"alice\", database \"app\", no encryption";
        assert_eq!(told(&error), ("FATAL", "28000", words));
        assert!(error.hint.unwrap().contains("auth_hba_file"));
        let error = refused(&pooler, "carol", "carolpw", "app");
        let words =
            "pg_hba.conf rejects connection for host \"127.0.0.1\", user \"carol\", database \"app\", no encryption";
        assert_eq!(told(&error), ("FATAL", "28000", words));
        pooler.wait_for_log(&format!("rejected by {}/pg_hba.conf:1", rules.0.path().display()), SOON);
        let error = login_local(&pooler, "alice", "alicepw", "app").err().unwrap();
        let words = "no pg_hba.conf entry for host \"[local]\", user \"alice\", database \"app\", no encryption";
        assert_eq!(told(&error), ("FATAL", "28000", words));
        let error = login_local(&pooler, "carol", "carolpw", "app").err().unwrap();
        assert!(error.message.starts_with("pg_hba.conf rejects connection for host \"[local]\""), "{error:?}");
        // A database that there is not is told only to who has a rule for it.
        assert_eq!(told(&refused(&pooler, "trusty", "", "nosuch")).1, "28000");
    });
}

#[test]
fn hba_trust_still_admits_known_users_only() {
    let cluster = Cluster::start();
    let rules = Rules::new("local all all peer map=any\nhost all all all trust\n", "any /^ all\n");
    let pooler = Pooler::with_workers(&cluster, 1, &rules.settings());
    let error = refused(&pooler, "nobody", "", "app");
    assert_eq!(told(&error), ("FATAL", "28000", "\"trust\" authentication failed for user \"nobody\""));
    let error = login_local(&pooler, "nobody", "", "app").err().unwrap();
    assert_eq!(told(&error), ("FATAL", "28000", "Peer authentication failed for user \"nobody\""));
}

#[test]
fn hba_peer_goes_by_the_user_of_the_process() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let me = system_user();
        let maps = format!("m {me} alice\nm somebody bob\ngroups \"/^({me})$\" \\1\n");
        let rules = Rules::new(
            "local app alice peer map=m\nlocal app bob peer map=m\nlocal app carol peer\nlocal all all peer map=groups\n",
            &maps,
        );
        let settings = format!(
            "{}[users.{me}]\n[databases.own]\nhost = \"127.0.0.1\"\nport = {}\ndbname = \"app\"\nuser = \"trusty\"\n",
            rules.settings(),
            cluster.port()
        );
        let pooler = Pooler::with_workers(&cluster, workers, &settings);
        assert_eq!(login_local(&pooler, "alice", "", "app").unwrap().value("select current_user"), "alice");
        for user in ["bob", "carol"] {
            let error = login_local(&pooler, user, &format!("{user}pw"), "app").err().unwrap();
            let words = format!("Peer authentication failed for user \"{user}\"");
            assert_eq!(told(&error), ("FATAL", "28000", words.as_str()));
        }
        assert_eq!(login_local(&pooler, &me, "", "own").unwrap().value("select current_user"), "trusty");
        pooler.wait_for_log(&format!("the client's process runs as \"{me}\""), SOON);
        assert!(refused(&pooler, "alice", "alicepw", "app").message.starts_with("no pg_hba.conf entry for host"));
    });
}

#[test]
fn hba_a_file_with_mistakes_is_refused_with_every_mistake() {
    let cluster = Cluster::start();
    let rules =
        Rules::new("host all all all trust\nhots all all all trust\nlocal all /( peer\ninclude more\n", "m a\n");
    rules.write("more", "host all all 10.0.0.0/40 md5\n");
    let dir = tempfile::tempdir().unwrap();
    let settings = format!("[pgpool]\nlisten_backlog = -1\n{}", rules.settings());
    let file = write_settings(&cluster, dir.path(), &settings);
    let place = |name: &str| rules.0.path().join(name).display().to_string();
    let (hba, ident, more) = (place("pg_hba.conf"), place("pg_ident.conf"), place("more"));
    for arguments in [&["check", file.to_str().unwrap()][..], &[file.to_str().unwrap()][..]] {
        let ended = run(arguments, ENDS);
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        for told in [
            format!("{hba}:2: invalid connection type \"hots\""),
            format!("{hba}:3: invalid regular expression"),
            format!("{more}:1: invalid CIDR mask"),
            format!("{ident}:1: end-of-line before database user name"),
            "pgpool.toml:".to_owned(),
        ] {
            assert!(ended.stderr.contains(&told), "{told} is not in\n{}", ended.stderr);
        }
    }
    let missing = write_settings(&cluster, dir.path(), "[pgpool]\nauth_type = \"hba\"\nauth_ident_file = \"gone\"\n");
    let ended = run(&["check", missing.to_str().unwrap()], ENDS);
    assert!(ended.stderr.contains("auth_type hba needs auth_hba_file"), "{}", ended.stderr);
    assert!(ended.stderr.contains("cannot read auth_ident_file"), "{}", ended.stderr);
}

#[test]
fn hba_lines_that_nobody_can_log_in_by_are_warned_of() {
    let cluster = Cluster::start();
    let rules = Rules::new("local all all trust\nhost all all all trust\nhostssl all alice all cert\n", "");
    let dir = tempfile::tempdir().unwrap();
    let file = write_settings(&cluster, dir.path(), &format!("[pgpool]\n{}", rules.settings()));
    let ended = run(&["check", file.to_str().unwrap()], ENDS);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let place = format!("{}:3", rules.0.path().join("pg_hba.conf").display());
    let told = format!("{place}: hostssl line fits no client: TLS is off with client_tls_sslmode = disable");
    assert!(ended.stdout.contains(&format!("warning: {told}\n")), "{}", ended.stdout);
    let pooler = Pooler::with_workers(&cluster, 1, &rules.settings());
    pooler.wait_for_log(&told, SOON);
}

#[test]
fn hba_reload_reads_the_files_again_or_keeps_what_it_had() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let console = "host pgbouncer postgres all trust\n";
        let rules = Rules::new(&format!("{console}host all alice all trust\n"), "");
        let pooler = Pooler::with_workers(&cluster, workers, &rules.settings());
        assert_eq!(asked(&pooler, "alice"), 0);
        // The settings stay as they are; what is in the file counts.
        rules.write("pg_hba.conf", &format!("{console}host all alice all md5\n"));
        pooler.console().query("RELOAD").unwrap();
        assert_eq!(asked(&pooler, "alice"), 5);
        rules.write("pg_hba.conf", &format!("{console}host all alice all reject\nnonsense\nworse\n"));
        let error = pooler.console().query("RELOAD").unwrap_err();
        let detail = error.detail.unwrap_or_default();
        assert!(detail.contains("pg_hba.conf:3: ") && detail.contains("pg_hba.conf:4: "), "{detail}");
        assert_eq!(asked(&pooler, "alice"), 5);
        // One mistake in one of them keeps the other as well.
        rules.write("pg_hba.conf", &format!("{console}host all alice all reject\n"));
        rules.write("pg_ident.conf", "nonsense\n");
        pooler.console().query("RELOAD").unwrap_err();
        assert_eq!(asked(&pooler, "alice"), 5);
        rules.write("pg_ident.conf", "");
        pooler.console().query("RELOAD").unwrap();
        assert!(refused(&pooler, "alice", "alicepw", "app").message.starts_with("pg_hba.conf rejects"));
    });
}

#[test]
fn hba_set_reads_the_file_that_it_names() {
    let cluster = Cluster::start();
    let rules = Rules::new("host pgpool postgres all md5\nhost all alice all trust\n", "");
    let pooler = Pooler::with_workers(&cluster, 1, "");
    let mut console = pooler.console();
    let error = console.query("SET auth_type = 'hba'").unwrap_err();
    assert!(error.message.contains("needs auth_hba_file"), "{error:?}");
    let error = console.query("SET auth_hba_file = '/nonexistent'").unwrap_err();
    assert!(error.message.contains("cannot read auth_hba_file /nonexistent"), "{error:?}");
    let path = rules.0.path().join("pg_hba.conf").display().to_string();
    console.query(&format!("SET auth_hba_file = '{path}'")).unwrap();
    console.query("SET auth_type = 'hba'").unwrap();
    assert_eq!(asked(&pooler, "alice"), 0);
    assert!(refused(&pooler, "bob", "bobpw", "app").message.starts_with("no pg_hba.conf entry"));
    pooler.console();
    let shown = Table::of(&mut console, "SHOW CONFIG");
    assert_eq!(shown.matching(&[("key", "auth_hba_file")]).value("value"), path);
    assert_eq!(shown.matching(&[("key", "auth_type")]).value("value"), "hba");
}

#[test]
fn any_user_name_is_accepted_where_the_entry_forces_a_user() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let entry = |name: &str, user: &str| {
            format!("[databases.{name}]\nhost = \"127.0.0.1\"\nport = {}\ndbname = \"app\"\n{user}", cluster.port())
        };
        let settings = format!("auth_type = \"any\"\n{}", entry("forced", "user = \"trusty\"\n"));
        let pooler = Pooler::with_workers(&cluster, workers, &settings);
        for user in ["alice", "whoever", "o'hara"] {
            let mut client = pooler.login(user, "", "forced");
            assert_eq!(client.value("select current_user"), "trusty");
        }
        for user in ["alice", "whoever", "trusty"] {
            let error = refused(&pooler, user, "alicepw", "app");
            assert_eq!(told(&error), ("FATAL", "28000", "database \"app\" has no user of its own"));
        }
        assert_eq!(told(&refused(&pooler, "whoever", "", "pgpool")).1, "42501");
        assert_eq!(pooler.console().query("SHOW VERSION").unwrap().len(), 1);
        let file = pooler.settings_file();
        let ended = run(&["check", Path::new(&file).to_str().unwrap()], ENDS);
        assert!(ended.stdout.contains("nobody can log in to [databases.app]"), "{}", ended.stdout);
    });
}
