//! Statements that their backend has lost when they are used: a second client runs DISCARD ALL between the flights,
//! wherever the backend is free. The answers are those of PostgreSQL, where nothing is lost.

use super::{Case, TABLES, answer, assert_same, case, free, held, on_postgresql};
use crate::support::{
    Cluster, Pooler, for_each_worker_count,
    messages::{bind, close_statement, copy_fail, describe_statement, execute, parse, query, sync},
    reply::tags,
};

const ONE: &str = "select $1::int + 1";

/// Bind and Execute, without a Sync.
fn run(name: &str, parameters: &[Option<&str>]) -> Vec<u8> {
    [bind("", name, parameters), execute("", 0)].concat()
}

fn step(sql: &str) -> Vec<u8> {
    [parse("", sql, &[]), run("", &[])].concat()
}

/// A request that fails by itself.
fn never() -> Vec<u8> {
    execute("never", 0)
}

#[test]
fn nobody_sees_that_a_backend_has_lost_statements() {
    let cluster = Cluster::start();
    cluster.sql("app", TABLES);
    let cases: Vec<_> =
        [failed_blocks(), taken_names(), pipelines(), names_in_errors()].into_iter().flatten().collect();
    let wanted: Vec<_> = cases.iter().map(|case| on_postgresql(case, &cluster)).collect();
    for_each_worker_count(|workers| {
        let pooler = Pooler::trusting(&cluster, workers, "default_pool_size = 1");
        for (case, wanted) in cases.iter().zip(&wanted) {
            eprintln!("«{}»", case.name);
            let [mut first, mut second] = [(), ()].map(|()| pooler.login("alice", "alicepw", "app"));
            for (flight, wanted) in case.flights.iter().zip(wanted) {
                first.send(&flight.bytes);
                assert_same(case.name, &answer(&mut first, flight, case.name), wanted);
                if flight.behind == super::Behind::Free {
                    second.query("discard all").expect("discard all");
                }
            }
            // Nothing more than is due.
            first.send(&sync());
            assert!(matches!(first.try_read(), Ok(message) if message.tag == b'Z'), "«{}»", case.name);
        }
    });
}

#[test]
fn a_copy_that_fails_with_a_sync_inside_leaves_the_unnamed_statement() {
    let cluster = Cluster::start();
    cluster.sql("app", TABLES);
    let copy = [
        parse("", "copy mine from stdin", &[]),
        run("", &[]),
        sync(),
        copy_fail("enough"),
        sync(),
        parse("", ONE, &[]),
        sync(),
    ];
    for mode in ["session", "transaction"] {
        let pooler = Pooler::trusting(&cluster, 1, &format!("default_pool_size = 1\npool_mode = \"{mode}\""));
        let mut client = pooler.login("alice", "alicepw", "app");
        for _ in 0..3 {
            client.send(&copy.concat());
            assert_eq!([(); 2].map(|()| tags(&client.read_until_ready())), ["12GEZ", "1Z"], "{mode}");
            client.send(&[run("", &[Some("1")]), sync()].concat());
            assert_eq!(tags(&client.read_until_ready()), "2DCZ", "{mode}");
        }
    }
}

fn failed_blocks() -> Vec<Case> {
    let begin = || held(&[query("begin"), query("select 1 / 0")], "CZEZ");
    let refused = |name| held(&[bind("", name, &[None, None]), sync()], "EZ");
    let end = || free(&[query("rollback")], "CZ");
    let made = |flight| {
        vec![flight, begin(), refused("s"), refused("s"), end(), free(&[run("s", &[Some("1")]), sync()], "2DCZ")]
    };
    vec![
        case("a Bind with too many parameters", made(free(&[parse("s", ONE, &[]), sync()], "1Z"))),
        case(
            "a Bind with too many parameters of a statement by PREPARE",
            made(free(&[query("prepare s (int) as select $1 + 1")], "CZ")),
        ),
        case(
            "a Bind with too many parameters of the unnamed statement",
            vec![
                free(&[parse("", ONE, &[]), sync()], "1Z"),
                held(&[step("begin"), never(), sync()], "12CEZ"),
                held(&[parse("", ONE, &[]), sync()], "EZ"),
                held(&[bind("", "", &[]), sync()], "EZ"),
                end(),
            ],
        ),
        case(
            "a Bind with the right number of parameters",
            vec![
                free(&[parse("s", ONE, &[]), parse("r", "rollback", &[]), sync()], "11Z"),
                begin(),
                held(&[bind("", "s", &[None]), sync()], "EZ"),
                held(&[run("r", &[]), run("s", &[Some("1")]), query("begin")], "2C2DCCZ"),
                end(),
            ],
        ),
    ]
}

fn taken_names() -> Vec<Case> {
    let made = || free(&[parse("s", "select x from mine", &[]), parse("t", ONE, &[]), sync()], "11Z");
    let again = |text| [parse("s", text, &[]), sync()].concat();
    vec![
        case(
            "of a statement whose table is not to be seen",
            vec![
                made(),
                free(&[query("set search_path to pg_catalog")], "CZ"),
                free(&[again("select 1")], "EZ"),
                free(&[again("selekt")], "EZ"),
                free(&[again("select 1"), query("reset search_path"), run("s", &[]), sync()], "EZCZ2CZ"),
            ],
        ),
        case(
            "behind the end of a failed block in the same batch",
            vec![
                made(),
                held(&[query("begin"), query("select 1 / 0")], "CZEZ"),
                free(&[step("rollback"), parse("t", "select 1", &[]), never(), sync()], "12CEZ"),
                free(&[run("t", &[Some("1")]), sync()], "2DCZ"),
            ],
        ),
        case(
            "in a failed block",
            vec![
                made(),
                held(&[query("begin"), query("select 1 / 0")], "CZEZ"),
                held(&[parse("t", "select 1", &[]), sync(), parse("t", "rollback", &[]), sync()], "EZEZ"),
                free(&[query("rollback; prepare t as select 1")], "CEZ"),
                free(&[run("t", &[Some("1")]), sync()], "2DCZ"),
                held(&[query("begin"), query("select 1 / 0")], "CZEZ"),
                free(&[query("rollback; deallocate t")], "CCZ"),
                free(&[run("t", &[Some("1")]), sync()], "EZ"),
            ],
        ),
        case(
            "in a batch before the one that uses the statement",
            vec![
                made(),
                free(
                    &[again("select 1"), run("s", &[]), sync(), again("select 1"), run("t", &[Some("1")]), sync()],
                    "EZ2CZEZ2DCZ",
                ),
                free(&[query("prepare t as select 1"), run("t", &[Some("1")]), sync()], "EZ2DCZ"),
            ],
        ),
    ]
}

fn pipelines() -> Vec<Case> {
    let made = || free(&[parse("s", ONE, &[]), parse("t", "select 2", &[]), sync()], "11Z");
    let one = || [run("s", &[Some("1")]), sync()].concat();
    vec![
        case(
            "a batch that is skipped where it uses the statement, and one that is not",
            vec![
                made(),
                free(&[never(), one(), one(), one()], "EZ2DCZ2DCZ"),
                free(&[never(), describe_statement("s"), sync(), describe_statement("s"), sync()], "EZtTZ"),
                free(&[never(), one(), query("execute s(1)"), one()], "EZTDCZ2DCZ"),
            ],
        ),
        case(
            "a Query with EXECUTE that is skipped",
            vec![
                made(),
                free(&[never(), query("select 1"), query("execute t"), query("execute t"), sync()], "EZ"),
                free(&[never(), query("select 1"), query("prepare t as select 3"), sync()], "EZ"),
                free(&[never(), query("select 1"), query("deallocate t"), sync(), run("t", &[]), sync()], "EZ2DCZ"),
                free(&[parse("", "select 1", &[]), query("select 1"), query("execute t"), sync()], "1TDCZTDCZZ"),
            ],
        ),
        case(
            "a Query that fails before its EXECUTE, and one whose EXECUTE cannot be",
            vec![
                made(),
                free(&[query("select 1; select 1 / 0; execute t")], "TDCEZ"),
                free(&[query("set search_path to pg_catalog")], "CZ"),
                free(&[query("select 1; execute t; select 2")], "TDCTDCTDCZ"),
                free(&[query("reset search_path"), parse("u", "select x from mine", &[]), sync()], "CZ1Z"),
                free(&[query("set search_path to pg_catalog")], "CZ"),
                free(&[query("select 1; execute u"), query("select 1; select 1 / 0; execute u")], "TDCEZTDCEZ"),
                free(&[query("execute t; execute u; select 1"), query("execute u")], "TDCEZEZ"),
            ],
        ),
        case(
            "the unnamed statement, closed in vain before a Query ends it",
            vec![
                free(&[parse("", "select 1", &[]), sync()], "1Z"),
                free(&[never(), close_statement(""), sync(), query("select 1")], "EZTDCZ"),
                free(&[run("", &[]), sync()], "EZ"),
            ],
        ),
    ]
}

fn names_in_errors() -> Vec<Case> {
    let made = || free(&[parse("s", ONE, &[]), sync()], "1Z");
    vec![
        case(
            "a Bind that fails before its name is closed",
            vec![
                made(),
                free(&[bind("", "s", &[]), sync(), close_statement("s"), bind("", "s", &[]), sync()], "EZ3EZ"),
            ],
        ),
        case(
            "an EXECUTE that fails before its name is closed",
            vec![made(), free(&[query("execute s"), close_statement("s"), sync()], "EZ3Z")],
        ),
        case(
            "an EXECUTE that fails before its name is deallocated",
            vec![made(), free(&[query("execute s"), query("deallocate s")], "EZCZ")],
        ),
    ]
}
