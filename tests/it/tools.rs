//! PostgreSQL's own programs through pgpool in transaction mode, with fewer connections than they have sessions; and
//! pgcli, and SQLAlchemy on the console, which scripts/test installs.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use crate::support::{Cluster, Pooler, programs::tool};

/// Runs a program as alice through pgpool, and returns what it prints.
fn run(pooler: &Pooler, program: &str, arguments: &[&str], input: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("input");
    fs::write(&script, input).unwrap();
    let output = Command::new(program)
        .args(arguments)
        .env("PGHOST", "127.0.0.1")
        .env("PGPORT", pooler.port().to_string())
        .env("PGUSER", "alice")
        .env("PGPASSWORD", "alicepw")
        .env("PGDATABASE", "app")
        .stdin(Stdio::from(fs::File::open(script).unwrap()))
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {arguments:?}\n{out}{err}");
    assert!(!err.to_lowercase().contains("error"), "{program} {arguments:?}\n{err}");
    out.into_owned()
}

/// `other` is a second, empty database.
fn stage() -> (Cluster, Pooler) {
    let cluster = Cluster::start();
    cluster.sql("postgres", "create database other owner alice");
    cluster.sql("app", "grant all on schema public to alice");
    let entry = format!("[databases.other]\nhost = \"127.0.0.1\"\nport = {}\n", cluster.port());
    // pg_dump sets what its text does not name, which pins its connection: with two workers it has three, and one is free.
    let pooler = Pooler::trusting(&cluster, 2, &format!("default_pool_size = 4\n{entry}"));
    (cluster, pooler)
}

const SCHEMA: &str = "
create table item (id serial primary key, name text not null unique, price numeric(10, 2) check (price > 0));
create index on item (price);
create view dear as select * from item where price > 50;
create type mood as enum ('sad', 'happy');
create table person (id int primary key, feels mood, likes int references item);
create function twice(x int) returns int language sql as 'select x * 2';
insert into item (name, price) select 'item ' || n, n from generate_series(1, 1000) n;
insert into person select n, (array['sad', 'happy'])[n % 2 + 1]::mood, n from generate_series(1, 500) n;
select lo_from_bytea(0, '\\x010203') > 0;
";

#[test]
fn psql_does_what_it_does() {
    let (_cluster, pooler) = stage();
    let psql = |input: &str| run(&pooler, "psql", &["-XAtq", "-v", "ON_ERROR_STOP=1"], input);
    psql(SCHEMA);
    let listed = psql("\\d item\n\\dt\n\\dv\n\\df twice\n\\dT mood\n\\l\n\\du\n\\conninfo\n");
    assert!(["name|text|", "person", "dear", "twice", "mood", "other", "alice"].iter().all(|w| listed.contains(w)));
    let file = tempfile::NamedTempFile::new().unwrap();
    let name = file.path().display();
    let copied = psql(&format!(
        "\\copy item to '{name}' csv\ncreate table again (like item);\n\\copy again from '{name}' csv\n\
         select count(*), sum(price) from again;\n"
    ));
    assert_eq!(copied, "1000|500500.00\n");
    let fetched = psql("\\set FETCH_COUNT 7\nselect id from item order by id limit 100;\n");
    assert_eq!(fetched.lines().count(), 100);
    assert_eq!(psql("select 1 as a, 2 as b \\gset\nselect :a + :b;\n"), "3\n");
    assert_eq!(psql("begin;\nsavepoint a;\n\\set ON_ERROR_ROLLBACK on\nselect twice(4);\ncommit;\n"), "8\n");
}

#[test]
fn pgbench_in_each_mode() {
    let (_cluster, pooler) = stage();
    // Each client has a thread: pgbench prepares while its thread waits, also for clients that hold a connection.
    run(&pooler, "pgbench", &["-i", "-s", "1", "-q", "--foreign-keys"], "");
    for mode in ["simple", "extended", "prepared"] {
        let printed = run(&pooler, "pgbench", &["-c", "8", "-j", "8", "-t", "40", "-n", "-M", mode], "");
        assert!(printed.contains("number of transactions actually processed: 320/320"), "{printed}");
        assert!(printed.contains("number of failed transactions: 0"), "{printed}");
    }
    let pipeline = "\\startpipeline\nselect 1;\nselect abalance from pgbench_accounts where aid = 1;\n\\endpipeline\n";
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), pipeline).unwrap();
    let path = file.path().to_str().unwrap();
    run(&pooler, "pgbench", &["-c", "8", "-j", "8", "-t", "40", "-n", "-M", "prepared", "-f", path], "");
}

#[test]
fn what_is_dumped_through_the_pooler_is_restored_through_it() {
    let (cluster, pooler) = stage();
    run(&pooler, "psql", &["-XAtq", "-v", "ON_ERROR_STOP=1"], SCHEMA);
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let facts = "select (select sum(price) from item), (select count(*) from person), twice(3), \
                 (select count(*) from pg_largeobject_metadata), (select last_value from item_id_seq), \
                 (select count(*) from pg_constraint where contype in ('c', 'f', 'p', 'u') and connamespace = 'public'::regnamespace)";
    let wanted = cluster.sql("app", facts);
    let restored = |how: &str| {
        assert_eq!(cluster.sql("other", facts), wanted, "{how}");
        cluster.sql("postgres", "drop database other with (force)");
        cluster.sql("postgres", "create database other owner alice");
    };
    // One transaction holds the snapshot, the workers take it over.
    let kinds: [(&str, &[&str], &[&str]); 3] = [
        ("plain", &["-Fp"], &[]),
        ("custom", &["-Fc"], &["-j", "3"]),
        ("directory", &["-Fd", "-j", "2"], &["-j", "2"]),
    ];
    for (name, dump, restore) in kinds {
        let file = path(name);
        run(&pooler, "pg_dump", &[dump, &["-f", &file, "--no-privileges"]].concat(), "");
        if name == "plain" {
            run(&pooler, "psql", &["-Xq", "-v", "ON_ERROR_STOP=1", "-d", "other", "-f", &file], "");
        } else {
            let fixed = ["-d", "other", "--no-owner", "--no-privileges", "--exit-on-error"];
            run(&pooler, "pg_restore", &[&fixed, restore, &[file.as_str()]].concat(), "");
        }
        assert!(Path::new(&file).exists());
        restored(name);
    }
}

/// In transaction mode, with one connection for pgcli's several.
#[test]
fn pgcli_connects_lists_tables_and_queries() {
    let Some(program) = tool("pgcli") else { return };
    let cluster = Cluster::start();
    cluster.sql("app", "create table listed (x int)");
    let pooler = Pooler::start(&cluster, "[pgpool]\ndefault_pool_size = 1");
    let home = tempfile::tempdir().unwrap();
    let mut child = Command::new(program)
        .args(["--less-chatty", &pooler.dsn("alice", "alicepw", "app")])
        .env("HOME", home.path())
        .env("XDG_CONFIG_HOME", home.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"\\dt\nselect 40 + 2 as answer;\n\\q\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.contains("| listed |") && told.contains("| 42"), "{output:?}");
}

#[test]
fn sqlalchemy_reads_the_console() {
    let Some(program) = tool("python") else { return };
    let cluster = Cluster::start();
    let pooler = Pooler::start(&cluster, "");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/tools/console.py");
    let address = format!("postgres:postgrespw@127.0.0.1:{}/pgbouncer", pooler.port());
    let output = Command::new(program).args([script, &address]).output().unwrap();
    assert!(output.status.success() && output.stdout == b"fine\n", "{}", String::from_utf8_lossy(&output.stderr));
}
