//! Cases with what outlasts a transaction: prepared statements, settings, and what pins a backend.

use super::{Case, case, free, freed, held};
use crate::support::messages::{
    bind, close_statement, copy_data, copy_done, describe_statement, execute, extended, flush, parse, query, sync,
};

const TWICE: &str = "select $1::int * 2";
const IN: &str = "copy mine from stdin";

fn make() -> Vec<u8> {
    parse("s", TWICE, &[])
}

/// Bind and Execute, without a Sync.
fn run(name: &str) -> Vec<u8> {
    [bind("", name, &[Some("21")]), execute("", 0)].concat()
}

/// The same for a statement without parameters.
fn run_plain(name: &str) -> Vec<u8> {
    [bind("", name, &[]), execute("", 0)].concat()
}

pub(super) fn all() -> Vec<Case> {
    [statements(), refusals(), copies(), settings(), pins()].into_iter().flatten().collect()
}

fn statements() -> Vec<Case> {
    let [begin, commit] = ["begin", "commit"].map(query);
    vec![
        case(
            "a statement made in one flight and used in others",
            vec![
                free(&[make(), sync()], "1Z"),
                free(&[run("s"), sync()], "2DCZ"),
                free(&[describe_statement("s"), run("s"), run("s"), sync(), query("select 1")], "tT2DC2DCZTDCZ"),
                free(&[run("s"), query("select 1")], "2DCTDCZ"),
                free(&[close_statement("s"), sync()], "3Z"),
                free(&[run("s"), sync()], "EZ"),
            ],
        ),
        case(
            "a statement made in the first of two pipelined transactions",
            vec![
                free(
                    &[
                        begin.clone(),
                        make(),
                        run("s"),
                        sync(),
                        commit.clone(),
                        begin.clone(),
                        run("s"),
                        sync(),
                        commit.clone(),
                    ],
                    "CZ12DCZCZCZ2DCZCZ",
                ),
                free(&[run("s"), sync()], "2DCZ"),
            ],
        ),
        case(
            "a statement made in a transaction of several flights that is rolled back",
            vec![
                held(&[begin.clone(), make(), sync()], "CZ1Z"),
                held(&[run("s"), flush()], "2DC"),
                free(&[sync(), query("rollback")], "ZCZ"),
                free(&[run("s"), sync()], "2DCZ"),
                held(&[begin, run("s"), sync()], "CZ2DCZ"),
                free(&[run("s"), sync(), commit], "2DCZCZ"),
            ],
        ),
        case(
            "a statement replaced in one flight",
            vec![
                free(&[make(), sync()], "1Z"),
                free(
                    &[run("s"), close_statement("s"), parse("s", "select 'new'", &[]), run_plain("s"), sync()],
                    "2DC312DCZ",
                ),
                free(&[run_plain("s"), sync()], "2DCZ"),
            ],
        ),
        case(
            "a statement that is not synced before the next flight",
            vec![
                held(&[make(), flush()], "1"),
                free(&[run("s"), sync()], "2DCZ"),
                held(&[run("s"), flush()], "2DC"),
                free(&[query("select 1")], "TDCZ"),
            ],
        ),
    ]
}

/// Errors by which statements come about or not, or stay.
fn refusals() -> Vec<Case> {
    vec![
        case(
            "a Parse that is skipped makes nothing",
            vec![
                free(&[parse("", "selekt", &[]), make(), sync()], "EZ"),
                free(&[run("s"), sync()], "EZ"),
                free(&[make(), run("s"), sync()], "12DCZ"),
            ],
        ),
        case(
            "a Parse that fails makes nothing, and its name can be used",
            vec![
                free(&[parse("s", "selekt", &[]), sync(), run("s"), sync()], "EZEZ"),
                free(&[make(), sync(), run("s"), sync()], "1Z2DCZ"),
            ],
        ),
        case(
            "a Close that is skipped closes nothing",
            vec![
                free(&[make(), sync()], "1Z"),
                free(&[parse("", "selekt", &[]), close_statement("s"), sync()], "EZ"),
                free(&[run("s"), sync()], "2DCZ"),
            ],
        ),
        case(
            "a statement is made a second time",
            vec![
                free(&[make(), sync(), parse("s", "select 'never'", &[]), sync()], "1ZEZ"),
                free(&[run("s"), sync()], "2DCZ"),
                free(&[make(), run("s"), sync(), run("s"), sync()], "EZ2DCZ"),
            ],
        ),
        case(
            "an error between two uses in a pipeline",
            vec![
                free(
                    &[make(), sync(), bind("", "s", &[Some("x")]), execute("", 0), run("s"), sync(), run("s"), sync()],
                    "1ZEZ2DCZ",
                ),
                free(&[bind("", "s", &[]), sync(), run("s"), sync()], "EZ2DCZ"),
            ],
        ),
        case(
            "a statement in a transaction that has failed",
            vec![
                free(&[make(), sync()], "1Z"),
                held(&[query("begin"), query("select 1 / 0"), run("s"), sync()], "CZEZEZ"),
                held(&[parse("t", TWICE, &[]), sync(), close_statement("s"), sync()], "EZ3Z"),
                free(&[query("rollback")], "CZ"),
                free(&[run("t"), sync(), run("s"), sync()], "EZEZ"),
            ],
        ),
    ]
}

fn copies() -> Vec<Case> {
    let row = || copy_data(b"1\n");
    vec![
        case(
            "COPY by a statement with a name, and a Sync inside of it",
            vec![
                free(&[parse("c", IN, &[]), make(), sync()], "11Z"),
                free(&[run_plain("c"), row(), sync(), row(), copy_done(), run("s"), sync()], "2GC2DCZ"),
                held(&[run_plain("c"), row(), sync()], "2G"),
                free(&[copy_done(), sync(), run("s"), sync()], "CZ2DCZ"),
                free(&[query("select sum(x) from mine"), close_statement("c"), sync()], "TDCZ3Z"),
                free(&[run_plain("c"), sync()], "EZ"),
            ],
        ),
        case(
            "statements around a COPY in a transaction over several flights",
            vec![
                held(&[query("begin"), make(), run("s"), sync(), query(IN), row()], "CZ12DCZG"),
                held(&[row(), copy_done(), run("s"), sync()], "CZ2DCZ"),
                free(&[query("commit"), run("s"), sync()], "CZ2DCZ"),
            ],
        ),
        case(
            "a statement made behind a COPY that fails",
            vec![
                free(&[query(IN), copy_data(b"bad\n"), copy_done(), make(), sync(), run("s"), sync()], "GEZ1Z2DCZ"),
                free(
                    &[
                        parse("", IN, &[]),
                        run_plain(""),
                        copy_data(b"bad\n"),
                        copy_done(),
                        close_statement("s"),
                        sync(),
                    ],
                    "12GEZ",
                ),
                free(&[run("s"), sync()], "2DCZ"),
            ],
        ),
    ]
}

fn settings() -> Vec<Case> {
    let show = || query("select current_setting('app.x', true)");
    vec![
        case(
            "a setting made in one flight and seen in others",
            vec![
                free(&[query("set app.x = 'mine'"), show()], "CZTDCZ"),
                free(
                    &[show(), query("begin"), query("set local app.x = 'local'"), show(), query("commit"), show()],
                    "TDCZCZCZTDCZCZTDCZ",
                ),
                free(&[query("begin"), query("set app.x = 'undone'"), query("rollback"), show()], "CZCZCZTDCZ"),
                held(&[query("begin"), query("set app.x = 'kept'")], "CZCZ"),
                free(&[query("commit")], "CZ"),
                free(&[show()], "TDCZ"),
            ],
        ),
        case(
            "a RESET that is skipped",
            vec![
                free(&[query("set TimeZone to 'Asia/Tokyo'")], "CZ"),
                free(&[execute("never", 0), query("reset TimeZone"), query("reset all"), sync()], "EZ"),
                free(&[query("show TimeZone")], "TDCZ"),
            ],
        ),
        case(
            "a setting made by EXECUTE of what was prepared before",
            vec![
                free(&[parse("s", "select set_config('app.x', 'mine', false)", &[]), sync()], "1Z"),
                free(&[query("prepare one as select set_config('app.x', $1, false)")], "CZ"),
                free(&[query("execute s")], "TDCZ"),
                free(&[query("execute one('one')")], "TDCZ"),
                free(&[extended("execute s", &[]), show()], "12TDCZTDCZ"),
            ],
        ),
        case(
            "a setting made before a Sync whose transaction fails",
            vec![
                free(&[query("set app.x = 'mine'")], "CZ"),
                free(&[extended("select set_config('app.x', $1, false)", &[Some("new")]), show()], "12TDCZTDCZ"),
                free(
                    &[
                        parse("", "set app.x = 'undone'", &[]),
                        bind("", "", &[]),
                        execute("", 0),
                        parse("", "selekt", &[]),
                        sync(),
                    ],
                    "12CEZ",
                ),
                free(&[show()], "TDCZ"),
            ],
        ),
    ]
}

fn pins() -> Vec<Case> {
    let row = || copy_data(b"1\n");
    vec![
        case(
            "a lock of the session in a pipeline",
            vec![
                held(&[query("select pg_advisory_lock(1)"), query("select 1")], "TDCZTDCZ"),
                held(&[extended("select 2", &[])], "12TDCZ"),
                freed(&[query("select pg_advisory_unlock(1)"), query("select 3")], "TDCZTDCZ"),
            ],
        ),
        case(
            "a lock of the session that is taken in a transaction over several flights",
            vec![
                held(&[query("begin"), query("select pg_advisory_lock(1)")], "CZTDCZ"),
                held(&[query("rollback"), query("begin")], "CZCZ"),
                held(&[query("commit")], "CZ"),
                freed(&[query("select pg_advisory_unlock(1)")], "TDCZ"),
            ],
        ),
        case(
            "a lock of the session that EXECUTE takes",
            vec![
                free(&[query("prepare lock as select pg_advisory_lock(1)")], "CZ"),
                free(&[parse("unlock", "select pg_advisory_unlock(1)", &[]), sync()], "1Z"),
                held(&[query("execute lock")], "TDCZ"),
                freed(&[query("execute unlock")], "TDCZ"),
                held(&[extended("execute lock", &[])], "12TDCZ"),
                freed(&[extended("execute unlock", &[])], "12TDCZ"),
            ],
        ),
        case(
            "COPY into a temporary table over several flights",
            vec![
                held(&[query("create temp table scratch (x int)"), query("select 1")], "CZTDCZ"),
                held(&[query("copy scratch from stdin"), row(), sync()], "G"),
                held(&[row(), copy_done(), query("select sum(x) from scratch")], "CZTDCZ"),
                held(&[query("begin"), query("truncate scratch"), query("rollback")], "CZCZCZ"),
                freed(&[query("select sum(x) from scratch"), query("drop table scratch")], "TDCZCZ"),
            ],
        ),
        case(
            "a cursor that outlasts its transaction",
            vec![
                held(
                    &[
                        query("begin"),
                        query("declare c cursor with hold for select x from plenty order by x"),
                        query("commit"),
                    ],
                    "CZCZCZ",
                ),
                held(&[query("fetch 2 from c"), query("fetch 1 from c")], "TDDCZTDCZ"),
                freed(&[query("close c")], "CZ"),
            ],
        ),
    ]
}
