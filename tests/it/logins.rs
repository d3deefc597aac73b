//! Logins in both roles: what a client has to prove, and how pgpool proves itself to PostgreSQL.

use std::{fs, thread, time::Duration};

use postgres_protocol::authentication::{
    md5_hash,
    sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256},
};

use crate::support::{Cluster, Pooler, Raw, eventually, for_each_worker_count, messages, pool_number, reply::PgError};

const SOON: Duration = Duration::from_secs(5);
/// What is stored of a user's secret.
const SECRETS: [&str; 3] = ["plain", "md5", "scram"];

/// A user per kind of stored secret, with the password `pw`: `plain` … in `[users]`, `file_plain` … in an auth_file.
fn settings(cluster: &Cluster, auth_type: &str) -> (String, String) {
    let (mut users, mut file) = (String::new(), String::from("; users\n\"quo\"\"ted\" \"p\"\"w\" \"and more\"\n"));
    for (place, name) in ["", "file_"].iter().flat_map(|place| SECRETS.map(|name| (*place, name))) {
        let user = format!("{place}{name}");
        let secret = match name {
            "plain" => "pw".to_owned(),
            "md5" => cluster.sql("postgres", &format!("select 'md5' || md5('pw' || '{user}')")),
            _ => verifier(cluster, "pw"),
        };
        if place.is_empty() {
            users.push_str(&format!("[users.{user}]\npassword = \"{secret}\"\n"));
        } else {
            file.push_str(&format!("\"{user}\" \"{secret}\"\n"));
        }
    }
    let general =
        format!("auth_type = \"{auth_type}\"\nauth_file = \"userlist.txt\"\n[databases.app]\nuser = \"postgres\"\n");
    (format!("{general}{users}"), file)
}

/// What PostgreSQL stores of a password.
fn verifier(cluster: &Cluster, password: &str) -> String {
    let statements = "set password_encryption = 'scram-sha-256'; drop role if exists sample;";
    cluster.sql(
        "postgres",
        &format!("{statements} create role sample password '{password}'; select rolpassword from pg_authid where rolname = 'sample'"),
    )
}

/// Starts pgpool with an auth_file: the file's directory is known only then, so that it comes by a reload.
fn start(cluster: &Cluster, workers: usize, auth_type: &str) -> Pooler {
    let pooler = Pooler::with_workers(cluster, workers, "");
    let (settings, file) = settings(cluster, auth_type);
    fs::write(pooler.dir().join("userlist.txt"), file).unwrap();
    let mark = pooler.reload(cluster, &format!("[pgpool]\nworker_threads = {workers}\n{settings}"));
    pooler.wait_for_log_since(mark, "configuration reloaded", SOON);
    pooler
}

fn refused(pooler: &Pooler, user: &str, password: &str, database: &str) -> PgError {
    let outcome = Raw::try_login(pooler.port(), user, password, database);
    outcome.err().unwrap_or_else(|| panic!("{user} was let in with «{password}»"))
}

#[test]
fn each_auth_type_reads_each_stored_secret() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        for auth_type in ["plain", "md5", "scram-sha-256"] {
            let pooler = start(&cluster, workers, auth_type);
            for (place, secret) in ["", "file_"].iter().flat_map(|place| SECRETS.map(|secret| (place, secret))) {
                let user = &format!("{place}{secret}");
                let wrong = format!("password authentication failed for user \"{user}\"");
                if (auth_type, secret) == ("scram-sha-256", "md5") {
                    // A hash for another method proves nothing here, and nobody is told that this is why.
                    let error = refused(&pooler, user, "pw", "app");
                    assert_eq!((error.code.as_str(), &error.message), ("28P01", &wrong), "{auth_type} {user}");
                } else {
                    let mut client = pooler.login(user, "pw", "app");
                    assert_eq!(client.value("select current_user"), "postgres", "{auth_type} {user}");
                }
                for password in ["wrong", "PW"] {
                    let error = refused(&pooler, user, password, "app");
                    let told = (error.severity.as_str(), error.code.as_str(), &error.message);
                    assert_eq!(told, ("FATAL", "28P01", &wrong), "{auth_type} {user} «{password}»");
                }
                let error = refused(&pooler, user, "", "app");
                assert_eq!((error.severity.as_str(), error.code.as_str()), ("FATAL", "28P01"), "{auth_type} {user}");
            }
            pooler.login("quo\"ted", "p\"w", "app");
            assert_eq!(refused(&pooler, "quo\"ted", "p\"\"w", "app").code, "28P01");
        }
    });
}

#[test]
fn trust_admits_known_users_only() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let pooler = start(&cluster, workers, "trust");
        for user in ["plain", "md5", "scram", "file_plain", "file_md5", "file_scram"] {
            let mut client = Raw::connect(pooler.port());
            client.startup(&[("user", user), ("database", "app")]);
            let first = client.read();
            assert_eq!((first.tag, first.body.as_slice()), (b'R', [0; 4].as_slice()), "{user} was asked something");
            client.read_until_ready();
            assert_eq!(client.value("select 1"), "1");
        }
        let error = refused(&pooler, "nobody", "", "app");
        let told = (error.severity.as_str(), error.code.as_str(), error.message.as_str());
        assert_eq!(told, ("FATAL", "28000", "\"trust\" authentication failed for user \"nobody\""));
    });
}

#[test]
fn an_unknown_user_sees_what_a_wrong_password_sees() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        for auth_type in ["plain", "md5", "scram-sha-256"] {
            let pooler = start(&cluster, workers, auth_type);
            for password in ["wrong", ""] {
                let wrong = exchange(&pooler, "plain", password);
                let unknown = exchange(&pooler, "ghost", password);
                assert_eq!(wrong, unknown, "{auth_type} «{password}»");
                assert!(wrong.last().unwrap().contains("28P01"), "{wrong:?}");
            }
            assert_eq!(exchange(&pooler, "ghost", "a").len(), if auth_type == "scram-sha-256" { 3 } else { 2 });
        }
    });
}

/// What the other side says in a login that fails: the requests without their random parts, and the error.
fn exchange(pooler: &Pooler, user: &str, password: &str) -> Vec<String> {
    let mut client = Raw::connect(pooler.port());
    client.startup(&[("user", user), ("database", "app")]);
    let mut said = Vec::new();
    let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
    while let Some(message) = client.read_or_eof() {
        if message.tag == b'E' {
            said.push(format!("{:?}", message.error()).replace(user, "USER"));
            continue;
        }
        let (kind, rest) = (message.body[3], &message.body[4..]);
        match kind {
            3 => client.send(&messages::password(password)),
            5 => {
                let answer = md5_hash(user.as_bytes(), password.as_bytes(), rest.try_into().unwrap());
                client.send(&messages::password(&answer));
            }
            10 => client.send(&messages::sasl_initial(SCRAM_SHA_256, scram.message())),
            11 => {
                scram.update(rest).unwrap();
                let response = scram.message().to_vec();
                client.send(&messages::sasl_response(&response));
            }
            other => panic!("authentication request {other}"),
        }
        // Of a SCRAM challenge the names of its parts and the rounds, of all else the length.
        let text = if kind == 11 { String::from_utf8_lossy(rest).into_owned() } else { String::new() };
        let fixed = |part: &str| if part.starts_with("i=") { part.to_owned() } else { part.chars().take(1).collect() };
        let parts: Vec<String> = text.split(',').map(fixed).collect();
        said.push(format!("request {kind} {} {parts:?}", rest.len()));
    }
    said
}

#[test]
fn pgpool_proves_itself_to_postgresql_by_every_method() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let stored = |user: &str| {
            cluster.sql("postgres", &format!("select rolpassword from pg_authid where rolname = '{user}'"))
        };
        let pooler = Pooler::with_workers(&cluster, workers, "");
        for user in ["alice", "bob", "carol", "trusty"] {
            let mut client = pooler.login(user, &format!("{user}pw"), "app");
            assert_eq!(client.value("select current_user"), user);
        }
        // A stored hash answers PostgreSQL's md5 request.
        let bob = stored("bob");
        assert!(bob.starts_with("md5"), "{bob}");
        let users = format!("auth_type = \"md5\"\n[users.bob]\npassword = \"{bob}\"");
        let pooler = Pooler::with_workers(&cluster, workers, &users);
        assert_eq!(pooler.login("bob", "bobpw", "app").value("select current_user"), "bob");
        // It cannot answer a request for the password itself, nor for a SCRAM exchange.
        let hash = cluster.sql("postgres", "select 'md5' || md5('carolpwcarol')");
        let users = format!("auth_type = \"md5\"\n[users.carol]\npassword = \"{hash}\"");
        let pooler = Pooler::with_workers(&cluster, workers, &users);
        let error = refused(&pooler, "carol", "carolpw", "app");
        let told = (error.code.as_str(), error.message.as_str());
        assert_eq!(told, ("08006", "server login failed: wrong password type"));
    });
}

#[test]
fn an_entry_can_force_a_user() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let host = format!("host = \"127.0.0.1\"\nport = {}\ndbname = \"app\"", cluster.port());
        let settings = format!(
            "[users.carol]\npassword = \"other\"\n[databases.own]\n{host}\nuser = \"alice\"\npassword = \"alicepw\"\n\
             [databases.listed]\n{host}\nuser = \"bob\"\n[databases.bad]\n{host}\nuser = \"alice\"\npassword = \"no\"\n"
        );
        let pooler = Pooler::with_workers(&cluster, workers, &settings);
        for (database, user) in [("own", "alice"), ("listed", "bob")] {
            // The client proves its own password, not that of the forced user.
            let mut client = pooler.login("carol", "other", database);
            assert_eq!(client.value("select current_user"), user);
            assert_eq!(refused(&pooler, "carol", &format!("{user}pw"), database).code, "28P01");
        }
        let error = refused(&pooler, "carol", "other", "bad");
        let told = (error.code.as_str(), error.message.as_str());
        assert_eq!(told, ("28P01", "password authentication failed for user \"alice\""));
    });
}

#[test]
fn a_wrong_backend_password_is_not_tried_once_per_client() {
    const CLIENTS: usize = 40;
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let settings = "server_login_retry = 60\n[users.alice]\npassword = \"outdated\"";
        let pooler = Pooler::with_workers(&cluster, workers, settings);
        let port = pooler.port();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| thread::spawn(move || Raw::try_login(port, "alice", "outdated", "app").err().unwrap()))
            .collect();
        let theirs = "password authentication failed for user \"alice\"";
        let mut own_words = 0;
        for client in clients {
            let error = client.join().unwrap();
            assert_eq!((error.severity.as_str(), error.code.as_str()), ("FATAL", "28P01"), "{error:?}");
            own_words += usize::from(error.message == theirs);
            let cached = format!("server login has been failing, cached error: {theirs} (server_login_retry)");
            assert!(error.message == theirs || error.message == cached, "{error:?}");
        }
        assert!(own_words > 0, "nobody of those who waited was told what PostgreSQL said");
        let attempts = || cluster.log().matches(theirs).count();
        let mut console = pooler.console();
        eventually(SOON, "all attempts are over", || pool_number(&mut console, "app", "alice", "sv_login") == 0);
        let before = pooler.log().matches("cannot connect to server").count();
        assert!((1..=8).contains(&before), "{before} attempts for {CLIENTS} clients");
        eventually(SOON, "PostgreSQL has logged each attempt", || attempts() == before);
        assert_eq!(refused(&pooler, "alice", "outdated", "app").code, "28P01");
        let after = pooler.log().matches("cannot connect to server").count();
        assert_eq!((attempts(), after), (before, before), "server_login_retry has not passed");
        // Another user's pool is not touched by it.
        assert_eq!(pooler.login("bob", "bobpw", "app").value("select 1"), "1");
    });
}

#[test]
fn unknown_databases_are_told_after_the_login() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let entry = format!("[databases.gone]\nhost = \"127.0.0.1\"\nport = {}\ndbname = \"ghost\"", cluster.port());
        let pooler = Pooler::with_workers(&cluster, workers, &entry);
        let error = refused(&pooler, "alice", "alicepw", "nosuch");
        let told = (error.severity.as_str(), error.code.as_str(), error.message.as_str());
        assert_eq!(told, ("FATAL", "3D000", "no such database: nosuch"));
        // Without the password nobody learns which databases there are.
        for database in ["nosuch", "gone", "app", "pgpool"] {
            assert_eq!(refused(&pooler, "alice", "wrong", database).code, "28P01", "{database}");
        }
        let error = refused(&pooler, "alice", "alicepw", "gone");
        let told = (error.severity.as_str(), error.code.as_str(), error.message.as_str());
        assert_eq!(told, ("FATAL", "3D000", "database \"ghost\" does not exist"));
    });
}
