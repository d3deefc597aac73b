//! What a client may try before it has proved who it is.

use super::{pooler, questions, refused, settings, start};
use crate::support::{Pooler, Raw};

/// Names are parameters: nothing in them is read as SQL, and none stands for another.
#[test]
fn hostile_names_are_names() {
    let cluster = start();
    cluster.sql("app", "create table precious (x int)");
    let long = "x".repeat(63);
    let names = ["a'b", "a\"b", "'; drop table precious; --", "$1", "a\\b", "E'\\x27'", "名前", "%s", " ", &long];
    for name in names {
        let quoted = name.replace('"', "\"\"");
        cluster.sql("app", &format!("create role \"{quoted}\" login password 'pw'"));
    }
    let pooler = pooler(&cluster, "");
    for name in names {
        assert_eq!(pooler.login(name, "pw", "app").value("select current_user"), name);
        assert_eq!(refused(&pooler, name, "wrong", "app").code, "28P01", "{name}");
    }
    // PostgreSQL would cut these to the name of somebody who exists, or of nobody.
    for name in [format!("{long}x"), format!("{long}{}", "y".repeat(3000)), "alice'".to_owned(), "alice\\".to_owned()] {
        let error = refused(&pooler, &name, "pw", "app");
        assert_eq!(error.code, "28P01", "{name}");
    }
    assert_eq!(questions(&cluster, &long), 1, "a name that is too long for a role is not asked for");
    assert_eq!(cluster.sql("app", "select count(*) from precious"), "0");
}

/// Schemas of an attacker in front of `pg_catalog`, by all ways that a client has, and by the settings of the role.
#[test]
fn no_search_path_of_a_client_reaches_the_query() {
    let cluster = start();
    cluster.sql(
        "app",
        "create schema evil; grant usage on schema evil to public; create table public.stolen (who text);
         grant insert on public.stolen to public;
         create function evil.now() returns timestamptz language sql as
           $$ insert into public.stolen values (current_user); select pg_catalog.now() $$;
         create view evil.pg_authid as select rolname, rolvaliduntil, true as rolcanlogin,
           'evilpw'::text as rolpassword from pg_catalog.pg_roles;
         grant select on evil.pg_authid to public;
         alter role asker set search_path = evil, pg_catalog; alter database app set search_path = evil, pg_catalog",
    );
    let pooler = pooler(&cluster, "auth_query_lifetime = 0\nauth_query_negative_lifetime = 0");
    // One who has the very user and database of the lookups.
    let mut same = pooler.login("asker", "askerpw", "app");
    same.query("set search_path = evil, pg_catalog").unwrap();
    same.query("begin").unwrap();
    let paths: [&[(&str, &str)]; 4] = [
        &[("options", "-c search_path=evil,pg_catalog")],
        &[("search_path", "evil,pg_catalog")],
        &[("options", "--search-path=evil"), ("application_name", "x")],
        &[("role", "postgres")],
    ];
    for parameters in paths {
        for password in ["evilpw", "wrong"] {
            let mut client = Raw::connect(pooler.port());
            let mut all = vec![("user", "alice"), ("database", "app")];
            all.extend(parameters);
            client.startup(&all);
            let error = client.authenticate("alice", password).unwrap_err();
            assert_eq!(error.code, "28P01", "{parameters:?}");
        }
    }
    pooler.login("alice", "alicepw", "app");
    assert!(questions(&cluster, "alice") > 8);
    let path = "select count(*) from public.stolen";
    assert_eq!(cluster.sql("app", path), "0", "something else than pg_catalog's was called");
}

/// What one client has on its backend is not seen by the lookups either, whoever it is.
#[test]
fn lookups_have_a_connection_of_their_own() {
    let cluster = start();
    let more = "default_pool_size = 1\npool_mode = \"session\"\nauth_query_lifetime = 0";
    let pooler = pooler(&cluster, more);
    let mut same = pooler.login("asker", "askerpw", "app");
    let theirs = same.value("select pg_backend_pid()");
    // The pool of (app, asker) is used up, and its only backend is in the middle of something.
    same.query(
        "create temp table pg_authid (rolname text, rolpassword text, rolvaliduntil timestamptz, rolcanlogin bool)",
    )
    .unwrap();
    pooler.login("alice", "alicepw", "app");
    let pids = cluster.backend_pids("asker");
    assert_eq!(pids.len(), 2, "{pids:?}");
    assert!(pids.iter().any(|pid| pid.to_string() == theirs));
}

/// Somebody who knows names and no passwords costs PostgreSQL a query per name and second at most.
#[test]
fn wrong_passwords_do_not_cost_a_query_each() {
    let cluster = start();
    let pooler = Pooler::with_workers(&cluster, 2, &settings("auth_query_lifetime = 600\nauth_type = \"plain\""));
    let began = std::time::Instant::now();
    for _ in 0..60 {
        assert_eq!(refused(&pooler, "bob", "wrong", "app").code, "28P01");
        assert_eq!(refused(&pooler, "ghost", "wrong", "app").code, "28P01");
    }
    let most = usize::try_from(began.elapsed().as_secs()).unwrap() + 2;
    for user in ["bob", "ghost"] {
        let asked = questions(&cluster, user);
        assert!((1..=most).contains(&asked), "{user}: {asked} questions, no more than {most} expected");
    }
}
