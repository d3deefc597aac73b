//! Plans that are out of date: tables change while backends keep the statements of many clients. Two clients share one
//! backend; the first has made the statement there, and what a client sees is what it would see on PostgreSQL with a
//! statement of its own, or better.

mod unnamed;

use crate::support::{
    Cluster, Pooler, Raw, for_each_worker_count,
    messages::{bind, close_statement, describe_portal, describe_statement, execute, flush, parse, query, sync},
    reply::{Message, rows, tags},
};

const ALL: &str = "select * from t";

struct Stage {
    cluster: Cluster,
    pooler: Pooler,
    console: Raw,
    first: Raw,
    second: Raw,
    columns: usize,
}

impl Stage {
    fn start(workers: usize) -> Self {
        Self::with(workers, "")
    }

    fn with(workers: usize, settings: &str) -> Self {
        Self::sized(workers, 1, settings)
    }

    fn sized(workers: usize, backends: usize, settings: &str) -> Self {
        let cluster = Cluster::start();
        cluster.sql("app", "create table t (x int); insert into t values (1), (2), (3); grant all on t to public");
        let pooler = Pooler::trusting(&cluster, workers, &format!("default_pool_size = {backends}\n{settings}"));
        let [first, second] = [(), ()].map(|()| pooler.login("alice", "alicepw", "app"));
        let console = pooler.console();
        Self { cluster, pooler, console, first, second, columns: 1 }
    }

    /// The table gets another column.
    fn alter(&mut self) {
        self.cluster.sql("app", &format!("alter table t add column y{} int default 7", self.columns));
        self.columns += 1;
    }

    /// How many errors about plans clients got, and how many batches were sent again.
    fn counted(&mut self) -> (u32, u32) {
        let state = self.console.query("show state").unwrap();
        let number = |name: &str| {
            let row = state.iter().find(|row| row[0].as_deref() == Some(name)).expect(name);
            row[1].as_deref().unwrap().parse().unwrap()
        };
        (number("stale_plans"), number("repeated_batches"))
    }
}

/// The types of the answers up to ReadyForQuery, and how many columns the first row has.
fn ask(client: &mut Raw, parts: &[Vec<u8>]) -> (String, usize) {
    let answer = ask_whole(client, parts);
    let width = answer.iter().find(|message| message.tag == b'D').map_or(0, |message| message.row().len());
    (tags(&answer), width)
}

fn ask_whole(client: &mut Raw, parts: &[Vec<u8>]) -> Vec<Message> {
    client.send(&parts.concat());
    client.read_until_ready()
}

/// Bind, Describe and Execute: what libpq sends.
fn run(name: &str) -> Vec<u8> {
    [bind("", name, &[]), describe_portal(""), execute("", 0)].concat()
}

/// The error that the client gets.
fn refused(client: &mut Raw, parts: &[Vec<u8>], wanted: &str) {
    let answer = ask_whole(client, parts);
    assert_eq!(tags(&answer), wanted);
    let error = rows(&answer).unwrap_err();
    assert_eq!((error.code.as_str(), error.message.as_str()), ("0A000", "cached plan must not change result type"));
}

#[test]
fn outside_of_a_block_nobody_sees_it() {
    for_each_worker_count(|workers| {
        let mut stage = Stage::start(workers);
        for client in [&mut stage.first, &mut stage.second] {
            assert_eq!(ask(client, &[parse("s", ALL, &[]), run("s"), sync()]), ("12TDDDCZ".into(), 1));
        }
        let made = |text: &str, width: usize| (text.to_owned(), width);
        // One that has the statement, one that makes it anew, and one that has it again.
        stage.alter();
        assert_eq!(ask(&mut stage.first, &[run("s"), sync()]), made("2TDDDCZ", 2));
        assert_eq!(ask(&mut stage.second, &[run("s"), sync()]), made("2TDDDCZ", 2));
        assert_eq!(stage.counted(), (0, 1));
        stage.alter();
        let again = [close_statement("s"), parse("s", ALL, &[]), run("s"), sync()];
        assert_eq!(ask(&mut stage.second, &again), made("312TDDDCZ", 3));
        assert_eq!(ask(&mut stage.first, &[run("s"), sync()]), made("2TDDDCZ", 3));
        assert_eq!(stage.counted(), (0, 2));
        // Described by name, alone and before its use.
        stage.alter();
        assert_eq!(ask(&mut stage.first, &[describe_statement("s"), sync()]), made("tTZ", 0));
        stage.alter();
        assert_eq!(ask(&mut stage.first, &[describe_statement("s"), run("s"), sync()]), made("tT2TDDDCZ", 5));
        stage.alter();
        let prepare = [parse("new", ALL, &[]), describe_statement("new"), sync()];
        let answer = ask_whole(&mut stage.second, &prepare);
        assert_eq!((tags(&answer).as_str(), answer[2].body[1]), ("1tTZ", 6));
        // A client that makes it anew need not have it described.
        stage.alter();
        let bare = [parse("bare", ALL, &[]), bind("", "bare", &[]), execute("", 0), sync()];
        assert_eq!(ask(&mut stage.second, &bare), made("12DDDCZ", 7));
        assert_eq!(stage.counted(), (0, 6));
    });
}

#[test]
fn statements_without_names_are_no_different() {
    let mut stage = Stage::start(1);
    let once = || [parse("", ALL, &[]), run(""), sync()];
    for _ in 0..4 {
        for client in [&mut stage.first, &mut stage.second] {
            assert_eq!(ask(client, &once()), ("12TDDDCZ".into(), 1));
        }
    }
    for width in 2..4 {
        stage.alter();
        assert_eq!(ask(&mut stage.first, &once()), ("12TDDDCZ".into(), width));
        assert_eq!(ask(&mut stage.second, &once()), ("12TDDDCZ".into(), width));
    }
    // What was parsed before the change.
    stage.alter();
    assert_eq!(ask(&mut stage.first, &[run(""), sync()]), ("2TDDDCZ".into(), 4));
    assert_eq!(stage.counted(), (0, 3));
}

#[test]
fn a_block_fails_once_as_on_postgresql() {
    for_each_worker_count(|workers| {
        let mut stage = Stage::start(workers);
        for client in [&mut stage.first, &mut stage.second] {
            assert_eq!(ask(client, &[parse("s", ALL, &[]), run("s"), sync()]).0, "12TDDDCZ");
        }
        for (request, wanted) in [(run("s"), "EZ"), (describe_statement("s"), "tEZ")] {
            stage.alter();
            stage.first.query("begin").unwrap();
            refused(&mut stage.first, &[request, sync()], wanted);
            stage.first.query("rollback").unwrap();
            assert_eq!(ask(&mut stage.first, &[run("s"), sync()]), ("2TDDDCZ".into(), stage.columns));
            assert_eq!(ask(&mut stage.second, &[run("s"), sync()]), ("2TDDDCZ".into(), stage.columns));
        }
        assert_eq!(stage.counted(), (2, 0));
        // The block was begun in the same flight.
        stage.alter();
        stage.first.send(&[query("begin"), run("s"), sync()].concat());
        assert_eq!(tags(&stage.first.read_until_ready()), "CZ");
        refused(&mut stage.first, &[], "EZ");
        stage.first.query("rollback").unwrap();
        // Whoever makes the statement within the block, by name or without one, gets no error.
        for name in ["new", ""] {
            stage.alter();
            stage.second.query("begin").unwrap();
            assert_eq!(
                ask(&mut stage.second, &[parse(name, ALL, &[]), run(name), sync()]),
                ("12TDDDCZ".into(), stage.columns)
            );
            stage.second.query("commit").unwrap();
        }
        assert_eq!(stage.counted(), (3, 0));
    });
}

#[test]
fn what_was_told_something_else_before_gets_the_error_until_it_asks_again() {
    let mut stage = Stage::start(1);
    let rows_only = [bind("", "s", &[]), execute("", 0), sync()];
    assert_eq!(ask(&mut stage.first, &[parse("s", ALL, &[]), describe_statement("s"), sync()]).0, "1tTZ");
    assert_eq!(ask(&mut stage.first, &rows_only), ("2DDDCZ".into(), 1));
    stage.alter();
    for _ in 0..3 {
        refused(&mut stage.first, &rows_only, "EZ");
    }
    assert_eq!(ask(&mut stage.first, &[describe_statement("s"), sync()]).0, "tTZ");
    assert_eq!(ask(&mut stage.first, &rows_only), ("2DDDCZ".into(), 2));
    assert_eq!(stage.counted(), (3, 0));
}

#[test]
fn what_may_have_had_an_effect_is_never_repeated() {
    let mut stage = Stage::start(1);
    let insert = "insert into t values (4) returning x";
    let make = [parse("i", insert, &[]), parse("s", ALL, &[]), run("s"), sync()];
    assert_eq!(ask(&mut stage.first, &make).0, "112TDDDCZ");
    // In the same batch, in the one behind it, and flushed.
    stage.alter();
    refused(&mut stage.first, &[run("i"), run("s"), sync()], "2TDCEZ");
    assert_eq!(stage.first.value("select count(*) from t"), "3");
    assert_eq!(ask(&mut stage.first, &[run("s"), sync()]).0, "2TDDDCZ");
    stage.alter();
    stage.first.send(&[run("s"), sync(), run("i"), sync()].concat());
    refused(&mut stage.first, &[], "EZ");
    assert_eq!(tags(&stage.first.read_until_ready()), "2TDCZ");
    assert_eq!(stage.first.value("select count(*) from t"), "4");
    assert_eq!(ask(&mut stage.first, &[run("s"), sync()]).0, "2TDDDDCZ");
    stage.alter();
    stage.first.send(&[run("i"), flush()].concat());
    assert_eq!(tags(&stage.first.read_until(b'C')), "2TDC");
    refused(&mut stage.first, &[run("s"), sync()], "EZ");
    assert_eq!(stage.first.value("select count(*) from t"), "4");
    // The last of several batches may be repeated, and those before it are not.
    assert_eq!(ask(&mut stage.first, &[run("s"), sync()]).0, "2TDDDDCZ");
    stage.alter();
    stage.first.send(&[run("i"), sync(), run("s"), sync()].concat());
    assert_eq!(tags(&stage.first.read_until_ready()), "2TDCZ");
    assert_eq!(tags(&stage.first.read_until_ready()), "2TDDDDDCZ");
    assert_eq!(stage.first.value("select count(*) from t"), "5");
    // Effects behind what failed come once.
    stage.alter();
    assert_eq!(ask(&mut stage.first, &[run("s"), run("i"), run("s"), sync()]).0, "2TDDDDDC2TDC2TDDDDDDCZ");
    assert_eq!(stage.first.value("select count(*) from t"), "6");
    assert_eq!(stage.counted(), (3, 2));
}

#[test]
fn batches_that_come_in_parts_cursors_and_long_ones() {
    let mut stage = Stage::start(1);
    assert_eq!(ask(&mut stage.first, &[parse("s", ALL, &[]), run("s"), sync()]).0, "12TDDDCZ");
    // Some rows at a time.
    stage.alter();
    let some = [bind("c", "s", &[]), describe_portal("c"), execute("c", 2), execute("c", 2), sync()];
    assert_eq!(ask(&mut stage.first, &some), ("2TDDsDCZ".into(), 2));
    // Without its Sync it is too early to know what follows.
    stage.alter();
    stage.first.send(&[run("s"), flush()].concat());
    assert_eq!(stage.first.expect_error().code, "0A000");
    assert_eq!(ask(&mut stage.first, &[sync()]).0, "Z");
    assert_eq!(ask(&mut stage.first, &[run("s"), sync()]), ("2TDDDCZ".into(), 3));
    // More than is kept.
    stage.alter();
    let long = "select * from t where $1 <> ''";
    let text = "x".repeat(40_000);
    let with = |text: &str| [bind("", "p", &[Some(text)]), describe_portal(""), execute("", 0), sync()];
    assert_eq!(ask(&mut stage.first, &[parse("p", long, &[]), sync()]).0, "1Z");
    assert_eq!(ask(&mut stage.first, &with(&text)), ("2TDDDCZ".into(), 4));
    stage.alter();
    refused(&mut stage.first, &with(&text), "EZ");
    assert_eq!(ask(&mut stage.first, &with(&text)), ("2TDDDCZ".into(), 5));
    stage.alter();
    assert_eq!(ask(&mut stage.first, &with("short")), ("2TDDDCZ".into(), 6));
    assert_eq!(stage.counted(), (2, 2));
}

#[test]
fn a_statement_that_cannot_be_made_any_more_says_so() {
    let mut stage = Stage::start(1);
    assert_eq!(ask(&mut stage.first, &[parse("s", "select *, x from t", &[]), run("s"), sync()]).0, "12TDDDCZ");
    assert_eq!(ask(&mut stage.first, &[run("s"), sync()]).0, "2TDDDCZ");
    stage.cluster.sql("app", "alter table t rename x to z");
    let answer = ask_whole(&mut stage.first, &[run("s"), sync()]);
    assert_eq!((tags(&answer).as_str(), rows(&answer).unwrap_err().code.as_str()), ("EZ", "42703"));
    stage.cluster.sql("app", "alter table t rename z to x; alter table t add column more int");
    assert_eq!(ask(&mut stage.first, &[run("s"), sync()]), ("2TDDDCZ".into(), 3));
}

#[test]
fn other_statements_of_the_batch_are_where_they_belong() {
    // Each use of one throws the other out.
    let mut stage = Stage::with(1, "max_prepared_statements = 1");
    let make = [parse("a", ALL, &[]), parse("b", "select 1", &[]), run("b"), run("a"), sync()];
    assert_eq!(ask(&mut stage.first, &make).0, "112TDC2TDDDCZ");
    stage.alter();
    let all = [run("a"), run("b"), run("a"), sync()];
    assert_eq!(ask(&mut stage.first, &all), ("2TDDDC2TDC2TDDDCZ".into(), 2));
    // One that is to be thrown out behind its use is not made afresh for that.
    stage.alter();
    refused(&mut stage.first, &[run("a"), run("b"), sync()], "EZ");
    assert_eq!(ask(&mut stage.first, &[run("a"), run("b"), sync()]), ("2TDDDC2TDCZ".into(), 3));
    assert_eq!(stage.counted(), (1, 1));
    for name in ["a", "b", "a"] {
        assert!(!ask(&mut stage.first, &[run(name), sync()]).0.contains('E'), "{name}");
    }
}

#[test]
fn statements_of_queries_are_made_afresh_too() {
    let mut stage = Stage::start(1);
    for client in [&mut stage.first, &mut stage.second] {
        client.query("prepare q as select * from t").unwrap();
    }
    let width = |client: &mut Raw| client.query("execute q").map(|rows| rows[0].len()).map_err(|error| error.code);
    assert_eq!([width(&mut stage.first), width(&mut stage.second)], [Ok(1), Ok(1)]);
    stage.alter();
    assert_eq!(width(&mut stage.first), Err("0A000".to_owned()));
    assert_eq!([width(&mut stage.first), width(&mut stage.second)], [Ok(2), Ok(2)]);
    // In place of use it is thrown away, or another takes its name.
    stage.alter();
    assert_eq!(width(&mut stage.first), Err("0A000".to_owned()));
    stage.first.query("deallocate q").unwrap();
    stage.first.query("prepare q as select * from t").unwrap();
    assert_eq!([width(&mut stage.first), width(&mut stage.second)], [Ok(3), Ok(3)]);
    stage.alter();
    assert_eq!(width(&mut stage.first), Err("0A000".to_owned()));
    stage.first.query("deallocate all").unwrap();
    stage.first.query("prepare q as select * from t").unwrap();
    assert_eq!([width(&mut stage.first), width(&mut stage.second)], [Ok(4), Ok(4)]);
    // One that was made by message and is run by text.
    assert_eq!(ask(&mut stage.first, &[parse("m", ALL, &[]), sync()]).0, "1Z");
    stage.first.query("execute m").unwrap();
    stage.alter();
    assert_eq!(stage.first.query("execute m").unwrap_err().code, "0A000");
    assert_eq!(stage.first.query("execute m").unwrap()[0].len(), 5);
    assert_eq!(stage.counted(), (4, 0));
    drop(stage.pooler);
}

/// Bind and Execute of a client that goes by what it was told when it prepared.
fn bare(name: &str) -> [Vec<u8>; 3] {
    [bind("", name, &[]), execute("", 0), sync()]
}

fn prepare(name: &str, text: &str) -> [Vec<u8>; 3] {
    [parse(name, text, &[]), describe_statement(name), sync()]
}

#[test]
fn a_backend_that_makes_it_afresh_keeps_to_what_the_client_was_told() {
    for_each_worker_count(|workers| {
        let mut stage = Stage::sized(workers, 2, "");
        let made = |text: &str, width: usize| (text.to_owned(), width);
        let mut reader = stage.pooler.login("alice", "alicepw", "app");
        assert_eq!(ask(&mut reader, &prepare("s", ALL)).0, "1tTZ");
        // The backend that came back last is taken, and the reader gets another one.
        stage.first.query("begin").unwrap();
        assert_eq!(ask(&mut reader, &bare("s")), made("2DDDCZ", 1));
        stage.alter();
        refused(&mut reader, &bare("s"), "EZ");
        stage.second.query("begin").unwrap();
        stage.first.query("rollback").unwrap();
        // It has its statement from before the change here.
        refused(&mut reader, &bare("s"), "EZ");
        // Nor does it come to be right by itself, wherever that is made afresh.
        for _ in 0..2 {
            let answer = ask_whole(&mut reader, &bare("s"));
            assert_eq!(tags(&answer), "EZ");
            let routine = b"RRevalidateCachedQuery\0";
            assert!(answer[0].body.windows(routine.len()).any(|window| window == routine), "drivers know it by that");
        }
        reader.query("begin").unwrap();
        refused(&mut reader, &bare("s"), "EZ");
        assert_eq!(reader.query("rollback").map(|_| ()), Ok(()));
        // One that is told the columns with the rows sees nothing of it, and one that prepares anew once is done.
        assert_eq!(ask(&mut reader, &[run("s"), sync()]), made("2TDDDCZ", 2));
        assert_eq!(ask(&mut reader, &prepare("again", ALL)).0, "1tTZ");
        assert_eq!(ask(&mut reader, &bare("again")), made("2DDDCZ", 2));
        stage.first.query("begin").unwrap();
        stage.second.query("rollback").unwrap();
        assert_eq!(ask(&mut reader, &bare("again")), made("2DDDCZ", 2));
        assert_eq!(stage.counted().1, 0);
    });
}

#[test]
fn a_backend_that_makes_it_afresh_keeps_to_the_parameters_too() {
    let mut stage = Stage::sized(1, 2, "");
    let mut reader = stage.pooler.login("alice", "alicepw", "app");
    let text = "select 1 from t where x = $1";
    assert_eq!(ask(&mut reader, &prepare("s", text)).0, "1tTZ");
    stage.first.query("begin").unwrap();
    stage.cluster.sql("app", "alter table t alter column x type text using x::text");
    let bound = [bind("", "s", &[Some("1")]), execute("", 0), sync()];
    refused(&mut reader, &bound, "EZ");
    let described = [bind("", "s", &[Some("1")]), describe_portal(""), execute("", 0), sync()];
    refused(&mut reader, &described, "EZ");
    assert_eq!(ask(&mut reader, &prepare("again", text)).0, "1tTZ");
    let bound = [bind("", "again", &[Some("1")]), execute("", 0), sync()];
    assert_eq!(ask(&mut reader, &bound), ("2DCZ".into(), 1));
}

#[test]
fn clients_with_tables_of_their_own_share_a_text() {
    let mut stage = Stage::start(1);
    stage.cluster.sql(
        "app",
        "create schema one; create table one.v (x int); insert into one.v values (1);
         create schema two; create table two.v (x int, y text); insert into two.v values (1, 'y');
         grant all on schema one, two to public; grant all on one.v, two.v to public",
    );
    let prepare = prepare("s", "select * from v");
    for (client, path, answers) in
        [(&mut stage.first, "set search_path = one", "1tTZ"), (&mut stage.second, "set search_path = two", "1tTZ")]
    {
        client.query(path).unwrap();
        assert_eq!(ask(client, &prepare).0, answers);
    }
    for _ in 0..3 {
        assert_eq!(ask(&mut stage.first, &bare("s")), ("2DCZ".into(), 1));
        assert_eq!(ask(&mut stage.second, &bare("s")), ("2DCZ".into(), 2));
    }
    assert_eq!(stage.counted().0, 0);
}

#[test]
fn two_binds_in_one_flight_wait_in_their_order() {
    let mut stage = Stage::sized(1, 2, "");
    let mut reader = stage.pooler.login("alice", "alicepw", "app");
    for (name, text) in [("s", ALL), ("other", "select x from t where x > 1")] {
        assert_eq!(ask(&mut reader, &prepare(name, text)).0, "1tTZ");
    }
    stage.first.query("begin").unwrap();
    let both = [bind("", "s", &[]), execute("", 0), bind("", "other", &[]), execute("", 0), sync()].concat();
    reader.send(&[&both[..], &both[..]].concat());
    assert_eq!(tags(&reader.read_until_ready()), "2DDDC2DDCZ");
    assert_eq!(tags(&reader.read_until_ready()), "2DDDC2DDCZ");
    // The second cannot be made any more; the first has run by then, and is undone with it.
    stage.cluster.sql("app", "alter table t add column gone int; create table log (n int); grant all on log to public");
    for (name, text) in [("log", "insert into log values (1)"), ("gone", "select gone from t")] {
        assert_eq!(ask(&mut reader, &prepare(name, text)).0, if name == "log" { "1tnZ" } else { "1tTZ" });
    }
    stage.second.query("begin").unwrap();
    stage.first.query("rollback").unwrap();
    stage.cluster.sql("app", "alter table t drop column gone");
    let both = [bind("", "log", &[]), execute("", 0), bind("", "gone", &[]), execute("", 0), sync()];
    let answer = ask_whole(&mut reader, &both);
    assert_eq!((tags(&answer).as_str(), answer[2].error().code.as_str()), ("2CEZ", "42703"));
    assert_eq!(reader.query("select count(*) from log").unwrap()[0][0].as_deref(), Some("0"));
}
