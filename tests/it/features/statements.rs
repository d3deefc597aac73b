//! Prepared statements at their limits, and in the wrong places. Those whose texts name others are in `by_message.rs`.

use std::fs;

use super::{ask, error, pins, pins_become, with};
use crate::support::{
    Cluster, Pooler, Raw, for_each_worker_count,
    messages::{bind, close_portal, close_statement, describe_portal, describe_statement, execute, parse, query, sync},
    reply::{rows, tags},
    table::Table,
};

pub(super) fn prepare(client: &mut Raw, name: &str, sql: &str) {
    let answer = ask(client, &[parse(name, sql, &[]), sync()].concat());
    assert_eq!(tags(&answer), "1Z", "{answer:?}");
}

pub(super) fn run(name: &str) -> Vec<u8> {
    [bind("", name, &[]), execute("", 0), sync()].concat()
}

pub(super) fn value(client: &mut Raw, name: &str) -> String {
    let answer = ask(client, &run(name));
    let rows = rows(&answer).unwrap_or_else(|error| panic!("«{name}»: {error:?}"));
    rows[0][0].clone().unwrap()
}

/// A text of some 70 KiB that gives `value`.
fn long(value: &str) -> String {
    format!("select '{value}' /* {} */", "x".repeat(70_000))
}

#[test]
fn statements_are_shown_once_for_all_who_have_them() {
    let cluster = Cluster::start();
    let pooler = with(&cluster, "default_pool_size = 1");
    let [mut first, mut second] = [(), ()].map(|()| pooler.login("alice", "alicepw", "app"));
    prepare(&mut first, "mine", "select 'shared'");
    prepare(&mut second, "yours", "select 'shared'");
    for _ in 0..2 {
        assert_eq!(
            (value(&mut first, "mine"), value(&mut second, "yours")),
            ("shared".to_owned(), "shared".to_owned())
        );
    }
    let shown = Table::of(&mut pooler.console(), "SHOW PREPARED_STATEMENTS").matching(&[("query", "select 'shared'")]);
    assert_eq!((shown.number("clients"), shown.number("servers"), shown.number("parses")), (2, 1, 2));
    assert!(shown.number("hits") >= 3, "{shown:?}");
    assert_eq!(first.value("select count(*) from pg_prepared_statements"), "1");
    assert_eq!(tags(&ask(&mut first, &[close_statement("mine"), sync()].concat())), "3Z");
    assert_eq!(value(&mut second, "yours"), "shared");
    let shown = Table::of(&mut pooler.console(), "SHOW PREPARED_STATEMENTS").matching(&[("query", "select 'shared'")]);
    assert_eq!(shown.number("clients"), 1);
}

#[test]
fn texts_have_limits_for_each_client_and_for_all() {
    let cluster = Cluster::start();
    for (setting, hint) in [("max_client_statement_bytes", "max_client_"), ("max_statement_bytes", "max_statement_")] {
        let pooler = with(&cluster, &format!("default_pool_size = 1\n{setting} = 1048576"));
        let mut client = pooler.login("alice", "alicepw", "app");
        let padding = "x".repeat(50_000);
        let mut made = 0;
        let refused = loop {
            let text = format!("select {made} /* {padding} */");
            match error(&ask(&mut client, &[parse(&format!("s{made}"), &text, &[]), sync()].concat())) {
                Some(error) => break error,
                None => made += 1,
            }
            assert!(made < 100, "{setting} has no effect");
        };
        assert_eq!(refused.code, "54000", "{refused:?}");
        assert!(refused.hint.unwrap_or_default().contains(hint), "{setting}");
        assert_eq!((value(&mut client, "s0"), made > 15), ("0".to_owned(), true));
        ask(&mut client, &[close_statement("s0"), close_statement("s1"), sync()].concat());
        drop(client);
        let mut client = pooler.login("alice", "alicepw", "app");
        prepare(&mut client, "again", &format!("select 'new' /* {padding} */"));
    }
}

#[test]
fn a_text_too_long_to_be_looked_at_keeps_its_backend() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let pooler = Pooler::trusting(&cluster, workers, "default_pool_size = 2");
        for name in ["", "long"] {
            let mut client = pooler.login("alice", "alicepw", "app");
            prepare(&mut client, name, &long("first"));
            let mut other = pooler.login("alice", "alicepw", "app");
            for _ in 0..3 {
                let refused = error(&ask(&mut other, &run(name))).expect("nobody else has it");
                assert_eq!(refused.code, "26000");
                assert_eq!(value(&mut client, name), "first");
            }
            assert_eq!(pins(&pooler).value("features"), "long_statements");
            assert_eq!(tags(&ask(&mut client, &[describe_statement(name), sync()].concat())), "tTZ");
            if name.is_empty() {
                continue;
            }
            let again = error(&ask(&mut client, &[parse(name, &long("second"), &[]), sync()].concat()));
            assert_eq!(again.map(|error| error.code).as_deref(), Some("42P05"));
            assert_eq!(tags(&ask(&mut client, &[close_statement(name), sync()].concat())), "3Z");
            prepare(&mut client, name, &long("third"));
            assert_eq!(value(&mut client, name), "third");
        }
        pins_become(&pooler, 0);
        let mut other = pooler.login("alice", "alicepw", "app");
        assert_eq!(error(&ask(&mut other, &run("long"))).map(|error| error.code).as_deref(), Some("26000"));
    });
}

#[test]
fn what_a_long_query_sets_is_followed() {
    let cluster = Cluster::start();
    let pooler = with(&cluster, "default_pool_size = 1");
    let [mut first, mut second] = [(), ()].map(|()| pooler.login("alice", "alicepw", "app"));
    let seen = "select coalesce(current_setting('app.x', true), '')";
    first.query(&format!("{}; set app.x = 'mine'", long("1"))).unwrap();
    assert_eq!((second.value(seen), first.value(seen)), (String::new(), "mine".to_owned()));
    first.query("reset app.x").unwrap();
    assert_eq!(first.value(seen), "");
}

#[test]
fn ten_thousand_names_of_one_client() {
    const NAMES: usize = 10_000;
    let cluster = Cluster::start();
    let pooler = with(&cluster, "default_pool_size = 2\nmax_prepared_statements = 50");
    let mut client = pooler.login("alice", "alicepw", "app");
    for chunk in (0..NAMES).collect::<Vec<_>>().chunks(500) {
        let parses: Vec<_> = chunk.iter().map(|n| parse(&format!("s{n}"), &format!("select 'v{n}'"), &[])).collect();
        let answer = ask(&mut client, &[parses.concat(), sync()].concat());
        assert_eq!(tags(&answer), format!("{}Z", "1".repeat(chunk.len())));
    }
    for number in (0..NAMES).step_by(97) {
        assert_eq!(value(&mut client, &format!("s{number}")), format!("v{number}"));
    }
    assert!(client.value("select count(*) from pg_prepared_statements").parse::<usize>().unwrap() <= 50);
    let closes: Vec<_> = (0..NAMES).map(|number| close_statement(&format!("s{number}"))).collect();
    let answer = ask(&mut client, &[closes.concat(), sync()].concat());
    assert_eq!(tags(&answer), format!("{}Z", "3".repeat(NAMES)));
    assert_eq!(error(&ask(&mut client, &run("s1"))).map(|error| error.code).as_deref(), Some("26000"));
}

#[test]
fn a_million_texts_do_not_fill_the_memory() {
    const TEXTS: usize = 1_000_000;
    let cluster = Cluster::start();
    let pooler = with(&cluster, "default_pool_size = 1");
    let mut client = pooler.login("alice", "alicepw", "app");
    let mut ask_for = |numbers: std::ops::Range<usize>| {
        for start in numbers.step_by(500) {
            let each = |number: usize| {
                let name = if number.is_multiple_of(2) { "" } else { "s" };
                let text = format!("select {number} /* {} */", "x".repeat(200));
                [close_statement(name), parse(name, &text, &[]), describe_statement(name)].concat()
            };
            let flight: Vec<_> = (start..start + 500).map(each).collect();
            let answer = ask(&mut client, &[flight.concat(), sync()].concat());
            assert_eq!(tags(&answer), format!("{}Z", "31tT".repeat(500)));
        }
    };
    ask_for(0..TEXTS / 10);
    let before = resident_kib(&pooler);
    ask_for(TEXTS / 10..TEXTS);
    let after = resident_kib(&pooler);
    assert!(after < before + 8 * 1024, "{before} KiB have become {after}");
}

fn resident_kib(pooler: &Pooler) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", pooler.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn names_that_are_not_there() {
    let cluster = Cluster::start();
    let pooler = with(&cluster, "default_pool_size = 1");
    let [mut first, mut second] = [(), ()].map(|()| pooler.login("alice", "alicepw", "app"));
    prepare(&mut second, "theirs", "select 'secret'");
    for name in ["never", "theirs", "pgpool_1", "pgpool_2", ""] {
        for bytes in [run(name), [describe_statement(name), sync()].concat()] {
            let refused = error(&ask(&mut first, &bytes)).unwrap_or_else(|| panic!("«{name}» is there"));
            assert_eq!(refused.code, "26000", "{refused:?}");
        }
        // Closing what is not there is no error.
        assert_eq!(tags(&ask(&mut first, &[close_statement(name), close_portal(name), sync()].concat())), "33Z");
    }
    // What a guess would be: names of this kind, in a text that is too long to be understood before it is passed on.
    let mut third = pooler.login("alice", "alicepw", "app");
    for name in ["pgpool_1", "pgpool_2", "pgpool_aaaaaaaaaaaa_1"] {
        let long = format!("{} execute {name}", " ".repeat(70_000));
        assert_eq!(third.query(&long).expect_err(name).code, "26000");
    }
    drop(third);
    for number in 1..3 {
        let [plain, decoded] = [format!("pgpool_{number}"), format!("U&\"pgpool\\005f{number}\"")];
        for command in ["execute", "deallocate", "explain execute", "create table stolen as execute"] {
            for name in [&plain, &decoded, &plain.to_uppercase(), &format!("\"{plain}\"")] {
                let sql = format!("{command} {name}");
                let refused = first.query(&sql).expect_err(&sql);
                assert_eq!(refused.code, "26000", "{sql}: {refused:?}");
                assert!(refused.message.contains(&format!("\"{plain}\"")) || *name == decoded, "{sql}: {refused:?}");
                assert_eq!(first.query_extended(&sql, &[]).expect_err(&sql).code, "26000");
            }
        }
    }
    assert_eq!(value(&mut second, "theirs"), "secret");
    for all in ["deallocate all", "discard all"] {
        prepare(&mut first, "mine", "select 'mine'");
        assert_eq!(value(&mut first, "mine"), "mine");
        first.query(all).unwrap();
        assert_eq!(error(&ask(&mut first, &run("mine"))).map(|error| error.code).as_deref(), Some("26000"), "{all}");
        assert_eq!(value(&mut second, "theirs"), "secret", "behind another client's {all}");
    }
}

#[test]
fn a_failing_parse_in_a_pipeline_troubles_nobody_else() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let pooler = Pooler::trusting(&cluster, workers, "default_pool_size = 1");
        let [mut first, mut second] = [(), ()].map(|()| pooler.login("alice", "alicepw", "app"));
        prepare(&mut second, "s", "select 'second'");
        for round in 0..50 {
            let good = format!("select 'good {round}'");
            let flight = [
                parse("bad", "selekt", &[]),
                parse("skipped", &good, &[]),
                run("skipped"),
                close_statement("s"),
                parse("s", &good, &[]),
                run("s"),
                run("skipped"),
                query("select 1"),
            ];
            first.send(&flight.concat());
            second.send(&run("s").repeat(3));
            let answers: Vec<_> = (0..4).map(|_| tags(&first.read_until_ready())).collect();
            assert_eq!(answers, ["EZ", "312DCZ", "EZ", "TDCZ"]);
            for _ in 0..3 {
                let answer = second.read_until_ready();
                assert_eq!(rows(&answer), Ok(vec![vec![Some("second".to_owned())]]), "round {round}");
            }
        }
    });
}

#[test]
fn room_is_made_for_a_statement_in_a_block_that_fails() {
    let cluster = Cluster::start();
    let pooler = with(&cluster, "default_pool_size = 1\nmax_prepared_statements = 1");
    let mut client = pooler.login("alice", "alicepw", "app");
    client.query("prepare a as select 1").unwrap();
    prepare(&mut client, "s", "select 2");
    client.query("begin").unwrap();
    // When the Query is judged, nobody knows yet that the block has failed.
    client.send(&[describe_portal("nope"), sync(), query("execute a"), sync()].concat());
    let answers = [(); 3].map(|()| tags(&client.read_until_ready()));
    assert_eq!(answers, ["EZ", "EZ", "Z"]);
    client.query("rollback").unwrap();
    assert_eq!((client.value("execute a"), value(&mut client, "s")), ("1".into(), "2".into()));
}

#[test]
fn what_is_executed_behind_the_end_of_a_failed_block_is_there() {
    let cluster = Cluster::start();
    let pooler = with(&cluster, "default_pool_size = 1\nmax_prepared_statements = 1");
    let mut client = pooler.login("alice", "alicepw", "app");
    client.query("prepare a as select 1").unwrap();
    // The backend has this one instead.
    prepare(&mut client, "s", "select 2");
    client.send(&[query("begin"), query("select 1 / 0")].concat());
    assert_eq!([(); 2].map(|()| tags(&client.read_until_ready())), ["CZ", "EZ"]);
    client.send(&[query("rollback"), query("execute a")].concat());
    assert_eq!([(); 2].map(|()| tags(&client.read_until_ready())), ["CZ", "TDCZ"]);
}
