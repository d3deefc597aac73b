//! Cases that leave nothing behind their transactions.

use super::{Case, case, free, held};
use crate::support::messages::{
    bind, close_portal, copy_data, copy_done, copy_fail, describe_portal, execute, extended, flush, function_call,
    parse, query, sync,
};

const IN: &str = "copy mine from stdin";
const OUT: &str = "copy (select x from plenty order by x limit 2) to stdout";

/// Parse, Bind and Execute, without a Sync.
fn step(sql: &str) -> Vec<u8> {
    [parse("", sql, &[]), bind("", "", &[]), execute("", 0)].concat()
}

/// A COPY with two rows, up to CopyDone.
fn data() -> Vec<u8> {
    [copy_data(b"1\n"), copy_data(b"2\n"), copy_done()].concat()
}

fn sum() -> Vec<u8> {
    query("select sum(x) from mine")
}

pub(super) fn all() -> Vec<Case> {
    [transactions(), flights(), copies(), syncs_in_copies()].into_iter().flatten().collect()
}

fn transactions() -> Vec<Case> {
    let queries = ["begin", "insert into mine values (1)", "commit", "begin", "select 1 / 0", "select 2", "commit"];
    let insert = step("insert into mine values (3)");
    vec![
        case(
            "two transactions by Query, the second fails",
            vec![free(&queries.map(query), "CZCZCZCZEZEZCZ"), free(&[sum()], "TDCZ")],
        ),
        case(
            "two transactions by extended query, a Sync behind each statement",
            vec![free(
                &["begin", "select 1", "commit", "begin", "select 2", "rollback"]
                    .map(|sql| [step(sql), sync()].concat()),
                "12CZ12DCZ12CZ12CZ12DCZ12CZ",
            )],
        ),
        case(
            "two transactions before one Sync",
            vec![free(
                &[
                    step("begin"),
                    insert.clone(),
                    step("commit"),
                    step("begin"),
                    insert.clone(),
                    step("rollback"),
                    sync(),
                    sum(),
                ],
                "12C12C12C12C12C12CZTDCZ",
            )],
        ),
        case(
            "the first of two transactions is skipped up to its Sync",
            vec![free(
                &[
                    step("begin"),
                    step("select 1 / 0"),
                    insert.clone(),
                    step("commit"),
                    sync(),
                    step("rollback"),
                    sync(),
                    insert.clone(),
                    sync(),
                    sum(),
                ],
                "12C1EZ12CZ12CZTDCZ",
            )],
        ),
        case(
            "implicit transactions and function calls in one flight",
            vec![free(
                &[
                    insert.clone(),
                    insert,
                    query("select 1"),
                    function_call(1620, &["A"]),
                    step("select 2"),
                    sync(),
                    sync(),
                ],
                "12C12CTDCZVZ12DCZZ",
            )],
        ),
    ]
}

fn flights() -> Vec<Case> {
    vec![
        case(
            "a transaction over several flights",
            vec![
                held(&[query("begin"), query("select 1")], "CZTDCZ"),
                held(&[extended("insert into mine values (4)", &[])], "12nCZ"),
                held(&[query("selekt"), query("select 1")], "EZEZ"),
                free(&[query("rollback")], "CZ"),
                free(&[sum()], "TDCZ"),
            ],
        ),
        case(
            "a transaction ends and the next begins in one flight",
            vec![
                held(&[query("begin")], "CZ"),
                held(&[query("commit"), query("begin"), query("insert into mine values (5)")], "CZCZCZ"),
                held(&[step("commit"), sync(), step("begin"), sync()], "12CZ12CZ"),
                free(&[query("commit"), sum()], "CZTDCZ"),
            ],
        ),
        case(
            "a flight that ends with Flush",
            vec![
                held(&[step("insert into mine values (6)"), flush()], "12C"),
                held(&[step("select 6"), flush()], "12DC"),
                free(&[sync()], "Z"),
                held(&[parse("", "selekt", &[]), flush()], "E"),
                free(&[step("select 7"), sync(), sum()], "ZTDCZ"),
            ],
        ),
        case(
            "a portal over several flights of a transaction",
            vec![
                held(
                    &[
                        query("begin"),
                        parse("", "select x from plenty order by x", &[]),
                        bind("p", "", &[]),
                        execute("p", 2),
                        sync(),
                    ],
                    "CZ12DDsZ",
                ),
                held(&[execute("p", 3), describe_portal("p"), sync(), query("select 1")], "DDDsTZTDCZ"),
                held(&[execute("p", 0), close_portal("p"), sync()], "DDDDC3Z"),
                free(&[query("commit"), execute("p", 0), sync()], "CZEZ"),
            ],
        ),
        case(
            "a flight cut in the middle of a message",
            vec![
                // Half a request is kept until it is whole, and holds no backend.
                free(&[query("select 1"), query("select 2")[..7].to_vec()], "TDCZ"),
                free(&[query("select 2")[7..].to_vec()], "TDCZ"),
            ],
        ),
    ]
}

fn copies() -> Vec<Case> {
    vec![
        case(
            "COPY by Query inside of a pipeline",
            vec![free(
                &[query("select 1"), query(IN), data(), sum(), query(OUT), query(IN), data(), sum()],
                "TDCZGCZTDCZHddcCZGCZTDCZ",
            )],
        ),
        case(
            "COPY by extended query inside of a pipeline",
            vec![free(
                &[
                    step("select 1"),
                    sync(),
                    step(IN),
                    data(),
                    sync(),
                    step(OUT),
                    sync(),
                    step("select sum(x) from mine"),
                    sync(),
                ],
                "12DCZ12GCZ12HddcCZ12DCZ",
            )],
        ),
        case(
            "COPY between other statements before one Sync",
            vec![free(&[step("select 1"), step(IN), data(), step("select sum(x) from mine"), sync()], "12DC12GC12DCZ")],
        ),
        case(
            "COPY in two pipelined transactions, the second rolled back",
            vec![free(
                &[
                    query("begin"),
                    query(IN),
                    data(),
                    query("commit"),
                    query("begin"),
                    query(IN),
                    data(),
                    query("rollback"),
                    sum(),
                ],
                "CZGCZCZCZGCZCZTDCZ",
            )],
        ),
        case(
            "COPY over several flights of a transaction",
            vec![
                held(&[query("begin"), query(IN), copy_data(b"1\n")], "CZG"),
                held(&[data(), query("select 1")], "CZTDCZ"),
                held(&[step(IN), flush()], "12G"),
                held(&[data(), step("select 2"), sync()], "C12DCZ"),
                free(&[query("commit"), sum()], "CZTDCZ"),
            ],
        ),
        case(
            "COPY that fails inside of a pipeline",
            vec![
                free(&[query(IN), copy_data(b"1\n"), copy_fail("no"), query("select 1")], "GEZTDCZ"),
                free(&[query(IN), copy_data(b"bad\n"), data(), query("select 1")], "GEZTDCZ"),
                free(
                    &[step(IN), copy_data(b"bad\n"), data(), step("select 1"), sync(), query("select 2")],
                    "12GEZTDCZ",
                ),
                free(&[query("copy nosuch from stdin"), data(), step("select 1"), sync()], "EZ12DCZ"),
                free(&[sum()], "TDCZ"),
            ],
        ),
    ]
}

fn syncs_in_copies() -> Vec<Case> {
    let row = || copy_data(b"1\n");
    vec![
        case(
            "Sync and Flush inside of a COPY by Query",
            vec![free(
                &[query(IN), row(), sync(), row(), flush(), sync(), sync(), row(), copy_done(), sum()],
                "GCZTDCZ",
            )],
        ),
        case(
            "Sync inside of a COPY by extended query",
            vec![
                free(&[step(IN), sync(), row(), sync(), copy_done(), sync(), sum()], "12GCZTDCZ"),
                free(
                    &[step("select 1"), step(IN), row(), sync(), row(), copy_done(), step("select 2"), sync()],
                    "12DC12GC12DCZ",
                ),
            ],
        ),
        case(
            "a flight that ends with a Sync inside of a COPY",
            vec![
                held(&[query("select 1"), query(IN), row(), sync()], "TDCZG"),
                held(&[row(), sync(), flush()], ""),
                free(&[row(), copy_done(), sum()], "CZTDCZ"),
                held(&[step(IN), sync()], "12G"),
                free(&[row(), copy_done(), sync(), sum()], "CZTDCZ"),
            ],
        ),
        case(
            "Sync inside of a COPY within a transaction of several flights",
            vec![
                held(&[query("begin"), query(IN), row(), sync()], "CZG"),
                held(&[sync(), copy_fail("enough"), query("select 1")], "EZEZ"),
                free(&[query("rollback"), sum()], "CZTDCZ"),
            ],
        ),
    ]
}
