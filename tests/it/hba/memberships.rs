//! Rules about members of roles: PostgreSQL is asked who they are, and without its answer nobody is let in.

use std::time::Duration;

use super::{ENDS, Rules, asked, refused, told};
use crate::support::{
    Cluster, Pooler, eventually,
    pooler::{run, write_settings},
};

const SOON: Duration = Duration::from_secs(10);
const CONSOLE: &str = "host pgbouncer postgres all trust\n";

/// PostgreSQL with a role that may do no more than log in, and some roles.
fn start() -> Cluster {
    let cluster = Cluster::builder().conf("log_statement = 'all'").start();
    cluster.sql(
        "app",
        "create role asker login password 'askerpw'; create role staff; create role crew noinherit in role staff; \
         create role \"odd name\"; grant crew to alice; grant staff to bob; grant \"odd name\" to carol; \
         create role app; grant app to carol; create role boss login superuser",
    );
    cluster
}

/// The settings: `asker` asks, by this password.
fn settings(rules: &Rules, password: &str, more: &str) -> String {
    format!(
        "{}auth_user = \"asker\"\n{more}\n[users.boss]\npassword = \"bosspw\"\n[users.staff]\npassword = \"x\"\n\
         [users.asker]\npassword = \"{password}\"\n",
        rules.settings()
    )
}

/// How often PostgreSQL was asked about this user.
fn questions(cluster: &Cluster, user: &str) -> usize {
    let parameter = format!("$1 = '{user}'");
    cluster.log().lines().filter(|line| line.contains(" asker@") && line.ends_with(&parameter)).count()
}

#[test]
fn hba_members_are_those_of_postgresql() {
    let cluster = start();
    let text = format!(
        "{CONSOLE}host app +staff all md5\nhost app +\"odd name\" 127.0.0.2/32 trust\nhost app +nosuch all trust\n\
         host samerole all all password\nhost app boss,trusty all scram-sha-256\n"
    );
    let rules = Rules::new(&text, "");
    let pooler = Pooler::with_workers(&cluster, 2, &settings(&rules, "askerpw", ""));
    // Of a role of the role, whether or not it inherits; of the role; and the role itself.
    for user in ["alice", "bob", "staff"] {
        assert_eq!(asked(&pooler, user), 5, "{user}");
    }
    assert_eq!(asked(&pooler, "carol"), 3);
    // Superusers are members of what they were made members of.
    assert_eq!(asked(&pooler, "boss"), 10);
    assert_eq!(asked(&pooler, "trusty"), 10);
    assert!(refused(&pooler, "nobody", "", "app").message.starts_with("no pg_hba.conf entry"));
    assert!(refused(&pooler, "'; drop role staff; --", "", "app").message.starts_with("no pg_hba.conf entry"));
    let long = "a".repeat(200);
    assert!(refused(&pooler, &long, "", "app").message.starts_with("no pg_hba.conf entry"));
    let mut client = pooler.login("alice", "alicepw", "app");
    assert_eq!(client.value("select current_user"), "alice");
    assert_eq!(questions(&cluster, "alice"), 1, "an answer serves many logins");
    assert_eq!(cluster.backend_pids("asker").len(), 1);
}

#[test]
fn hba_members_are_rejected_as_well() {
    let cluster = start();
    let rules = Rules::new(&format!("{CONSOLE}host app +staff all reject\nhost app all all trust\n"), "");
    let pooler = Pooler::with_workers(&cluster, 1, &settings(&rules, "askerpw", ""));
    for user in ["alice", "bob"] {
        assert!(refused(&pooler, user, "", "app").message.starts_with("pg_hba.conf rejects connection"), "{user}");
    }
    assert_eq!(asked(&pooler, "carol"), 0);
}

#[test]
fn hba_a_new_member_comes_in_after_a_refusal_and_a_former_one_after_the_lifetime() {
    let cluster = start();
    let rules = Rules::new(&format!("{CONSOLE}host app +staff all md5\n"), "");
    let lifetimes = |found| format!("auth_query_lifetime = {found}\nauth_query_negative_lifetime = 600\n");
    let pooler = Pooler::with_workers(&cluster, 1, &settings(&rules, "askerpw", &lifetimes(600)));
    refused(&pooler, "carol", "", "app");
    cluster.sql("app", "grant staff to carol");
    let login = || crate::support::Raw::try_login(pooler.port(), "carol", "carolpw", "app").is_ok();
    eventually(SOON, "what she was refused by is asked again", login);
    cluster.sql("app", "revoke staff from carol");
    assert!(login(), "it still counts");
    pooler.console().query("RELOAD").unwrap();
    assert!(!login(), "a reload asks again");
    let pooler = Pooler::with_workers(&cluster, 1, &settings(&rules, "askerpw", &lifetimes(0)));
    assert_eq!(asked(&pooler, "bob"), 5);
    cluster.sql("app", "revoke staff from bob");
    refused(&pooler, "bob", "", "app");
}

#[test]
fn hba_nobody_comes_in_while_memberships_cannot_be_known() {
    let cluster = start();
    for method in ["md5", "reject"] {
        let text = format!("{CONSOLE}host app carol all trust\nhost app +staff all {method}\nhost all all all trust\n");
        let rules = Rules::new(&text, "");
        let pooler = Pooler::with_workers(&cluster, 1, &settings(&rules, "wrong", ""));
        for user in ["bob", "trusty", "nobody"] {
            let error = refused(&pooler, user, "", "app");
            let words = "auth_query failed: no answer from PostgreSQL";
            assert_eq!(told(&error), ("FATAL", "08006", words), "{user} {method}");
        }
        // Who needs no answer does not wait for one.
        assert_eq!(asked(&pooler, "carol"), 0);
        pooler.wait_for_log("cannot connect to server for auth_query", SOON);
    }
    let rules = Rules::new(&format!("{CONSOLE}host nosuch +staff all md5\nhost all all all trust\n"), "");
    let pooler = Pooler::with_workers(&cluster, 1, &settings(&rules, "askerpw", ""));
    let error = refused(&pooler, "bob", "", "nosuch");
    assert!(error.message.starts_with("pg_hba.conf rejects connection"), "{error:?}");
    cluster.sql("app", "revoke select on pg_auth_members from public");
    let rules = Rules::new(&format!("{CONSOLE}host app +staff all md5\nhost all all all trust\n"), "");
    let pooler = Pooler::with_workers(&cluster, 1, &settings(&rules, "askerpw", ""));
    assert_eq!(told(&refused(&pooler, "bob", "", "app")), ("FATAL", "08P01", "bouncer config error"));
    pooler.wait_for_log("cannot find out the roles of a user", SOON);
}

#[test]
fn hba_memberships_need_an_auth_user_from_the_start_on() {
    let cluster = start();
    let rules = Rules::new(&format!("{CONSOLE}host app +staff all md5\n"), "");
    let dir = tempfile::tempdir().unwrap();
    let file = write_settings(&cluster, dir.path(), &format!("[pgpool]\n{}", rules.settings()));
    let ended = run(&["check", file.to_str().unwrap()], ENDS);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let told = format!("{}/pg_hba.conf:2: \"+staff\" needs to know who is a member", rules.0.path().display());
    assert!(ended.stderr.contains(&told), "{}", ended.stderr);
    let pooler = Pooler::with_workers(&cluster, 1, &settings(&rules, "askerpw", ""));
    let error = pooler.console().query("SET auth_user = ''").unwrap_err();
    assert!(error.message.contains("\"+staff\" needs to know who is a member"), "{error:?}");
    assert_eq!(asked(&pooler, "bob"), 5);
    // The console has to have a database to ask in.
    rules.write("pg_hba.conf", &format!("{CONSOLE}host all +staff all md5\n"));
    assert!(pooler.console().query("RELOAD").is_err());
    let more = "auth_dbname = \"app\"\nadmin_users = [\"bob\"]\n";
    let pooler = Pooler::with_workers(&cluster, 1, &settings(&rules, "askerpw", more));
    pooler.login("bob", "bobpw", "pgbouncer").query("SHOW VERSION").unwrap();
    assert!(refused(&pooler, "carol", "carolpw", "pgbouncer").message.starts_with("no pg_hba.conf entry"));
}
