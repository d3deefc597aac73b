//! auth_query: users whom the configuration does not know are looked up in PostgreSQL.

use std::time::Duration;

use crate::support::{Cluster, Pooler, Raw, cluster, reply::PgError};

mod attacks;
mod away;
mod keeping;

const SOON: Duration = Duration::from_secs(10);
const WRONG: &str = "password authentication failed for user";

/// PostgreSQL with a log of each statement.
fn builder() -> cluster::Builder {
    Cluster::builder().conf("log_statement = 'all'").conf("password_encryption = 'scram-sha-256'")
}

/// The same with a role that may read `pg_authid`.
fn start() -> Cluster {
    let cluster = builder().start();
    cluster.sql("app", "create role asker login password 'askerpw'; grant select on pg_authid to asker");
    cluster
}

/// The configuration knows nobody but the one who asks, and the console's administrator.
fn settings(more: &str) -> String {
    format!(
        "auth_user = \"asker\"\n{more}\n[users]\nalice = \"unset\"\nbob = \"unset\"\ncarol = \"unset\"\n\
         trusty = \"unset\"\n[users.asker]\npassword = \"askerpw\"\n"
    )
}

fn pooler(cluster: &Cluster, more: &str) -> Pooler {
    Pooler::with_workers(cluster, 2, &settings(more))
}

fn refused(pooler: &Pooler, user: &str, password: &str, database: &str) -> PgError {
    let outcome = Raw::try_login(pooler.port(), user, password, database);
    outcome.err().unwrap_or_else(|| panic!("{user} was let in with «{password}»"))
}

/// How often PostgreSQL was asked about this user.
fn questions(cluster: &Cluster, user: &str) -> usize {
    let log = cluster.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(" asker@")).collect();
    let parameter = format!("$1 = '{user}'");
    lines.iter().filter(|line| line.contains("DETAIL:") && line.ends_with(&parameter)).count()
}

#[test]
fn the_default_query_finds_users_and_their_verifiers_open_connections() {
    let cluster = start();
    for auth_type in ["scram-sha-256", "md5", "plain"] {
        let pooler = pooler(&cluster, &format!("auth_type = \"{auth_type}\""));
        let mut one = pooler.login("alice", "alicepw", "app");
        let mut two = pooler.login("alice", "alicepw", "app");
        for client in [&mut one, &mut two] {
            client.query("begin").unwrap();
            assert_eq!(client.value("select current_user"), "alice", "{auth_type}");
        }
        let error = refused(&pooler, "alice", "wrong", "app");
        assert_eq!((error.code.as_str(), error.message), ("28P01", format!("{WRONG} \"alice\"")));
        if auth_type == "md5" {
            assert_eq!(pooler.login("bob", "bobpw", "app").value("select current_user"), "bob");
        }
        // A user of the configuration is not asked for.
        assert_eq!(pooler.login("postgres", "postgrespw", "app").value("select current_user"), "postgres");
        assert_eq!(questions(&cluster, "postgres"), 0);
    }
}

#[test]
fn a_function_serves_an_auth_user_without_privileges() {
    let cluster = builder().start();
    cluster.sql(
        "app",
        "create role asker login password 'askerpw'; create schema pooling; grant usage on schema pooling to asker;
         create function pooling.user_lookup(in i_username text, out uname text, out phash text) returns record as $$
           select rolname, case when rolvaliduntil < now() then null else rolpassword end
           from pg_authid where rolname = i_username and rolcanlogin
         $$ language sql security definer set search_path = pg_catalog, pg_temp;
         revoke all on function pooling.user_lookup(text) from public;
         grant execute on function pooling.user_lookup(text) to asker",
    );
    let pooler = pooler(&cluster, "auth_query = \"SELECT uname, phash FROM pooling.user_lookup($1)\"");
    assert_eq!(pooler.login("alice", "alicepw", "app").value("select current_user"), "alice");
    // A function with OUT parameters gives a row for everybody: nobody's has neither name nor secret.
    let error = refused(&pooler, "ghost", "x", "app");
    assert_eq!((error.code.as_str(), error.message), ("28P01", format!("{WRONG} \"ghost\"")));
}

#[test]
fn who_may_not_log_in_is_refused_as_with_a_wrong_password() {
    let cluster = start();
    cluster.sql(
        "app",
        "create role expired login password 'pw' valid until '2020-01-01';
         create role valid login password 'pw' valid until '2999-01-01';
         create role nologin password 'pw' nologin; create role nopassword login",
    );
    let pooler = pooler(&cluster, "");
    for user in ["expired", "nologin", "nopassword", "ghost"] {
        let error = refused(&pooler, user, "pw", "app");
        assert_eq!((error.severity.as_str(), error.code.as_str()), ("FATAL", "28P01"), "{user}");
        assert_eq!(error.message, format!("{WRONG} \"{user}\""));
        // It was refused where a wrong password is: at the end of an exchange that looks like any other.
        let mut client = Raw::connect(pooler.port());
        client.startup(&[("user", user), ("database", "app")]);
        assert_eq!(client.read().body[..4], [0, 0, 0, 10], "{user}");
    }
    pooler.login("valid", "pw", "app");
    for user in ["expired", "nopassword"] {
        let line = pooler.wait_for_log(&format!("user=\"{user}\""), SOON);
        assert!(line.contains("gave no secret"), "{line}");
    }
}

#[test]
fn a_query_that_is_none_is_a_configuration_error() {
    let cluster = start();
    let cases = [
        ("SELECT rolname, rolpassword, 1 FROM pg_authid WHERE rolname = $1", "not 3"),
        ("SELECT rolname FROM pg_authid WHERE rolname = $1", "not 1"),
        ("SELECT rolname, rolpassword FROM pg_authid WHERE $1 = $1", "more than one row"),
        ("SELECT 'bob', rolpassword FROM pg_authid WHERE rolname = $1", "another user"),
        ("SELECT NULL::text, rolpassword FROM pg_authid WHERE rolname = $1", "null user name"),
        ("SELEKT $1", "syntax error"),
        ("SELECT a, b FROM missing WHERE a = $1", "auth_query_search_path"),
        ("SELECT usename, passwd FROM pg_shadow WHERE usename = $1", "SECURITY DEFINER"),
        ("SET work_mem = 1", "bind message supplies 1 parameters"),
        ("SELECT rolname, 1/0 FROM pg_authid WHERE rolname = $1", "division by zero"),
    ];
    let entries: String = cases
        .iter()
        .enumerate()
        .map(|(index, (query, _))| {
            let port = cluster.port();
            format!("[databases.app{index}]\nhost = \"127.0.0.1\"\nport = {port}\ndbname = \"app\"\nauth_query = \"{query}\"\n")
        })
        .collect();
    let pooler = Pooler::with_workers(&cluster, 2, &format!("{}{entries}", settings("")));
    for (index, (query, reason)) in cases.into_iter().enumerate() {
        let mark = pooler.log_len();
        let error = refused(&pooler, "alice", "alicepw", &format!("app{index}"));
        let told = (error.severity.as_str(), error.code.as_str(), error.message.as_str());
        assert_eq!(told, ("FATAL", "08P01", "bouncer config error"), "{query}");
        let line = pooler.wait_for_log_since(mark, "auth_query gave no answer", SOON);
        assert!(line.contains("ERROR") && line.contains(reason), "{query}: {line}");
    }
    // It does no harm to the others.
    pooler.login("alice", "alicepw", "app");
}

#[test]
fn another_database_may_have_the_secrets() {
    let cluster = start();
    cluster.sql("postgres", "create database secrets template app");
    let entry = |name: &str| format!("[databases.{name}]\nhost = \"127.0.0.1\"\nport = {}\n", cluster.port());
    let more = format!("{}{}auth_dbname = \"nowhere\"\ndbname = \"app\"\n", entry("secrets"), entry("lost"));
    let general = "auth_dbname = \"secrets\"\nadmin_users = [\"postgres\", \"alice\"]";
    let pooler = Pooler::with_workers(&cluster, 2, &format!("{}{more}", settings(general)));
    pooler.login("alice", "alicepw", "app");
    assert_eq!(cluster.sql("postgres", "select datname from pg_stat_activity where usename = 'asker'"), "secrets");
    // The console's users, too.
    pooler.login("alice", "alicepw", "pgpool").query("SHOW VERSION").unwrap();
    assert_eq!(refused(&pooler, "alice", "wrong", "pgpool").code, "28P01");
    // A database that does not exist is not told to those who have proved nothing.
    assert_eq!(refused(&pooler, "alice", "wrong", "none").code, "28P01");
    assert_eq!(refused(&pooler, "alice", "alicepw", "none").code, "3D000");
    let error = refused(&pooler, "alice", "alicepw", "lost");
    assert_eq!((error.code.as_str(), error.message.as_str()), ("08P01", "bouncer config error"));
    pooler.wait_for_log("authentication database \"nowhere\" is not configured", SOON);
    pooler.console().query("DISABLE secrets").unwrap();
    let error = refused(&pooler, "alice", "alicepw", "app");
    let told = (error.code.as_str(), error.message.as_str());
    assert_eq!(told, ("57P03", "authentication database \"secrets\" is disabled"));
}

#[test]
fn without_auth_dbname_the_console_knows_the_configuration_only() {
    let cluster = start();
    let pooler = pooler(&cluster, "admin_users = [\"postgres\", \"alice\"]");
    pooler.login("alice", "alicepw", "app");
    assert_eq!(refused(&pooler, "alice", "alicepw", "pgpool").code, "28P01");
    assert_eq!(refused(&pooler, "alice", "alicepw", "nosuch").code, "28P01");
}

#[test]
fn each_entry_may_ask_in_its_own_way() {
    let cluster = start();
    cluster.sql(
        "app",
        "create role other login password 'otherpw'; create schema s; grant usage on schema s to other;
         create table s.users (name text, secret text); insert into s.users values ('eve', 'evepw');
         grant select on s.users to other",
    );
    let entry = format!(
        "[databases.own]\nhost = \"127.0.0.1\"\nport = {}\ndbname = \"app\"\nuser = \"postgres\"\n\
         auth_user = \"other\"\nauth_query = \"SELECT name, secret FROM s.users WHERE name = $1\"\n\
         [users.other]\npassword = \"otherpw\"\n",
        cluster.port()
    );
    let pooler = Pooler::with_workers(&cluster, 2, &format!("{}{entry}", settings("")));
    assert_eq!(pooler.login("eve", "evepw", "own").value("select current_user"), "postgres");
    assert_eq!(refused(&pooler, "eve", "evepw", "app").code, "28P01");
    assert_eq!(refused(&pooler, "alice", "alicepw", "own").code, "28P01");
    pooler.login("alice", "alicepw", "app");
}

#[test]
fn an_auth_user_whom_postgresql_trusts_needs_no_secret() {
    let cluster = start();
    cluster.sql("app", "grant select on pg_authid to trusty");
    let pooler = Pooler::with_workers(&cluster, 2, &settings("").replace("\"asker\"", "\"trusty\""));
    assert_eq!(pooler.login("alice", "alicepw", "app").value("select current_user"), "alice");
}

#[test]
fn trust_admits_whom_postgresql_knows() {
    let cluster = start();
    let pooler = pooler(&cluster, "auth_type = \"trust\"");
    assert_eq!(pooler.login("trusty", "", "app").value("select current_user"), "trusty");
    let error = refused(&pooler, "ghost", "", "app");
    let told = (error.code.as_str(), error.message.as_str());
    assert_eq!(told, ("28000", "\"trust\" authentication failed for user \"ghost\""));
}

/// A pgbouncer.ini asks as auth_user would: what PgBouncer finds without naming its schema is found.
#[test]
fn the_search_path_may_be_that_of_auth_user() {
    let cluster = start();
    cluster.sql(
        "app",
        "create schema lookup; create function lookup.find(text) returns table (name name, secret text) \
         language sql security definer as 'select rolname, rolpassword from pg_authid where rolname = $1'; \
         grant usage on schema lookup to asker; grant execute on function lookup.find to asker; \
         alter role asker set search_path = lookup",
    );
    let query = "auth_query = \"select name, secret from find($1)\"";
    let ours = pooler(&cluster, &format!("{query}\nauth_query_search_path = \"\""));
    assert_eq!(ours.login("alice", "alicepw", "app").value("select 1"), "1");
    let strict = pooler(&cluster, query);
    assert_eq!(refused(&strict, "alice", "alicepw", "app").message, "bouncer config error");
}
