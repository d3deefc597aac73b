//! PREPARE, EXECUTE and DEALLOCATE in the text of a Parse, and what comes of them where requests fail and backends change.

use super::{
    ask, error,
    statements::{prepare, run, value},
    with,
};
use crate::support::{
    Cluster, Pooler, Raw, for_each_worker_count,
    messages::{bind, close_statement, describe_statement, execute, parse, query, sync},
    reply::tags,
    table::Table,
};

/// Parse, Bind and Execute of a text, as a driver sends all it has.
fn by_message(client: &mut Raw, sql: &str) -> String {
    tags(&ask(client, &[parse("", sql, &[]), bind("", "", &[]), execute("", 0), sync()].concat()))
}

#[test]
fn prepare_by_message_follows_its_client_and_does_not_pin() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let pooler = Pooler::trusting(&cluster, workers, "default_pool_size = 2");
        let mut clients = [(); 3].map(|()| pooler.login("alice", "alicepw", "app"));
        let mut holder = pooler.login("alice", "alicepw", "app");
        for (number, client) in clients.iter_mut().enumerate() {
            assert_eq!(by_message(client, &format!("prepare p (int) as select $1 + {number}00")), "12CZ");
            assert_eq!(by_message(client, "prepare p as select 0"), "12EZ");
            // One that the driver keeps: what it names is found when it runs.
            prepare(client, "kept", "execute p(7)");
        }
        for round in 0..4 {
            // Every second time all of them have the other backend.
            holder.query(if round % 2 == 0 { "begin" } else { "rollback" }).unwrap();
            for (number, client) in clients.iter_mut().enumerate() {
                let wanted = (number * 100 + 7).to_string();
                assert_eq!(client.value("execute p(7)"), wanted);
                assert_eq!(value(client, "kept"), wanted);
            }
        }
        assert!(Table::of(&mut pooler.console(), "SHOW PINS").rows.is_empty());
        let [first, second, _] = &mut clients;
        assert_eq!(by_message(first, "deallocate p"), "12CZ");
        let gone = error(&ask(first, &run("kept"))).unwrap();
        assert_eq!((gone.code.as_str(), gone.message.as_str()), ("26000", "prepared statement \"p\" does not exist"));
        assert_eq!(by_message(first, "prepare p (int) as select $1 * 2"), "12CZ");
        assert_eq!((value(first, "kept").as_str(), value(second, "kept").as_str()), ("14", "107"));
        // What fails leaves the name free.
        assert_eq!(by_message(second, "deallocate all"), "12CZ");
        let within = [query("begin"), query("select 1 / 0")].concat();
        second.send(&within);
        assert_eq!((tags(&second.read_until_ready()), tags(&second.read_until_ready())), ("CZ".into(), "EZ".into()));
        assert_eq!(by_message(second, "prepare p as select 1"), "EZ");
        second.query("rollback").unwrap();
        assert_eq!(by_message(second, "prepare p (int) as select $1 + 5"), "12CZ");
        assert_eq!(second.value("execute p(7)"), "12");
    });
}

#[test]
fn what_fails_behind_a_name_that_was_not_given_leaves_it_free() {
    let cluster = Cluster::start();
    let pooler = with(&cluster, "default_pool_size = 1");
    let mut client = pooler.login("alice", "alicepw", "app");
    // Nothing of this is carried out, and nor is what a portal would run that was never made.
    let skipped = [bind("", "never", &[]), parse("s", "deallocate all", &[]), bind("q", "s", &[]), sync()].concat();
    client.send(&[skipped, execute("q", 0), sync()].concat());
    assert_eq!([(); 2].map(|()| tags(&client.read_until_ready())), ["EZ", "EZ"]);
    assert_eq!(error(&ask(&mut client, &run("s"))).unwrap().code, "26000");
    // The same of a name that is given by a Query, in a block that has failed.
    client.send(&[query("begin"), query("select 1 / 0")].concat());
    assert_eq!([(); 2].map(|()| tags(&client.read_until_ready())), ["CZ", "EZ"]);
    let skipped = [parse("", "deallocate all", &[]), bind("q", "", &[]), sync()].concat();
    client.send(&[skipped, query("prepare s as select 1"), execute("q", 0), sync()].concat());
    assert_eq!([(); 3].map(|()| tags(&client.read_until_ready())), ["EZ", "EZ", "EZ"]);
    client.query("rollback").unwrap();
    assert_eq!(error(&ask(&mut client, &run("s"))).unwrap().code, "26000");
}

#[test]
fn what_is_prepared_again_in_vain_is_not_closed_when_it_is_there() {
    let cluster = Cluster::start();
    let pooler = with(&cluster, "default_pool_size = 1");
    let mut client = pooler.login("alice", "alicepw", "app");
    client.query("prepare one as select $1::int + 6").unwrap();
    // The name is taken, and what is behind the error is skipped: the same once more, by a name that is given here.
    let prepare = [parse("s", "prepare one as select $1::int + 8", &[]), bind("", "s", &[]), execute("", 0)].concat();
    let again = [parse("", "execute s", &[]), bind("", "", &[]), execute("", 0), sync()].concat();
    assert_eq!(tags(&ask(&mut client, &[prepare, again].concat())), "12EZ");
    client.query("deallocate one").unwrap();
    client.query("execute s").unwrap();
    prepare_anew(&mut client, "t");
    assert_eq!(client.value("execute one(4)"), "12");
    client.query("deallocate one").unwrap();
}

/// A text that no backend has, for which room is made there.
fn prepare_anew(client: &mut Raw, name: &str) {
    prepare(client, name, &format!("select 'for {name}'"));
}

#[test]
fn what_a_block_that_fails_would_have_deallocated_is_made_again() {
    let cluster = Cluster::start();
    let pooler = with(&cluster, "default_pool_size = 2");
    let [mut client, mut holder] = [(); 2].map(|()| pooler.login("alice", "alicepw", "app"));
    assert_eq!(by_message(&mut client, "prepare one as select 3"), "12CZ");
    // The other backend lacks it, and cannot get it when the block turns out to have failed.
    holder.query("begin").unwrap();
    client.query("begin").unwrap();
    let once = "prepare one as select 3; execute one; deallocate one";
    client.send(&[query("select 1 / 0"), query(once)].concat());
    assert_eq!([(); 2].map(|()| tags(&client.read_until_ready())), ["EZ", "EZ"]);
    client.query("rollback").unwrap();
    assert_eq!(client.query(once).unwrap_err().code, "42P05");
    assert_eq!(client.value("execute one"), "3");
}

#[test]
fn what_a_statement_names_is_known_before_it_is_described() {
    let cluster = Cluster::start();
    let pooler = with(&cluster, "default_pool_size = 1");
    let mut client = pooler.login("alice", "alicepw", "app");
    client.query("prepare one as select 3").unwrap();
    prepare(&mut client, "s", "deallocate one");
    // It is not deallocated, for all of this is skipped.
    let skipped = [parse("u", "selekt", &[]), bind("", "s", &[]), execute("", 0), sync()].concat();
    client.send(&[skipped, describe_statement("s"), sync()].concat());
    assert_eq!([(); 2].map(|()| tags(&client.read_until_ready())), ["EZ", "tnZ"]);
    assert_eq!(client.value("execute one"), "3");
}

#[test]
fn errors_of_what_is_executed_by_message_are_about_the_name_that_was_given() {
    let cluster = Cluster::start();
    let pooler = with(&cluster, "default_pool_size = 1");
    let mut client = pooler.login("alice", "alicepw", "app");
    let names: Vec<String> = (0..8).map(|number| format!("name{number}")).collect();
    for name in &names {
        prepare(&mut client, name, "select $1::int");
    }
    for name in &names {
        let text = format!("execute {name}");
        let answer = ask(&mut client, &[parse("", &text, &[]), bind("", "", &[]), execute("", 0), sync()].concat());
        let wanted = format!("wrong number of parameters for prepared statement \"{name}\"");
        assert_eq!(error(&answer).unwrap().message, wanted);
    }
}

#[test]
fn what_executes_a_statement_that_is_gone_is_not_described() {
    let cluster = Cluster::start();
    let pooler = with(&cluster, "default_pool_size = 1");
    for port in [cluster.port(), pooler.port()] {
        let mut client = Raw::login(port, "alice", "alicepw", "app");
        client.query("prepare two as select 2").unwrap();
        prepare(&mut client, "s", "execute two");
        assert_eq!(tags(&ask(&mut client, &[describe_statement("s"), sync()].concat())), "tTZ");
        client.query("deallocate two").unwrap();
        prepare(&mut client, "", "execute s");
        for name in ["s", "s"] {
            let answer = ask(&mut client, &[describe_statement(name), sync()].concat());
            assert_eq!(tags(&answer), "tEZ", "{name}");
            assert_eq!(error(&answer).unwrap().message, "prepared statement \"two\" does not exist");
        }
        // Nor when there is another one by the time of the answer.
        prepare(&mut client, "other", "deallocate two");
        client.query("prepare two as select 2").unwrap();
        prepare(&mut client, "", "execute two");
        assert_eq!(tags(&ask(&mut client, &run("other"))), "2CZ");
        client.send(&[describe_statement(""), sync(), parse("", "select 1", &[]), sync()].concat());
        assert_eq!(client.expect_error().message, "prepared statement \"two\" does not exist");
        assert_eq!([(); 2].map(|()| tags(&client.read_until_ready())), ["Z", "1Z"]);
        client.query("prepare two as select 2").unwrap();
        assert_eq!(tags(&ask(&mut client, &[describe_statement("s"), sync()].concat())), "tTZ");
        assert_eq!(value(&mut client, "s"), "2");
    }
}

#[test]
fn a_parse_that_fails_for_what_it_names_ends_the_unnamed_statement() {
    let cluster = Cluster::start();
    let pooler = with(&cluster, "default_pool_size = 2");
    let mut holder = pooler.login("alice", "alicepw", "app");
    for port in [cluster.port(), pooler.port()] {
        let mut client = Raw::login(port, "alice", "alicepw", "app");
        client.query("prepare one as select $1::int").unwrap();
        // The other backend lacks it, and cannot get it in a block that has failed.
        holder.query("begin").unwrap();
        client.query("begin").unwrap();
        prepare(&mut client, "", "select 5");
        client.send(&[describe_statement("never"), sync(), parse("", "execute one(4)", &[]), sync()].concat());
        assert_eq!([(); 2].map(|()| tags(&client.read_until_ready())), ["EZ", "EZ"]);
        let answer = ask(&mut client, &[describe_statement(""), sync()].concat());
        assert_eq!(error(&answer).unwrap().code, "26000");
        // Nor is one with a name there, although it was closed.
        let closed = [parse("t", "deallocate one", &[]), close_statement("t"), sync()];
        assert_eq!(tags(&ask(&mut client, &closed.concat())), "EZ");
        assert_eq!(tags(&ask(&mut client, &[parse("t", "", &[]), sync()].concat())), "1Z");
        client.query("rollback").unwrap();
        holder.query("rollback").unwrap();
    }
}

#[test]
fn what_is_deallocated_by_message_need_not_be_made_again() {
    let cluster = Cluster::start();
    cluster.sql("app", "create table going (x int); grant all on going to public");
    let pooler = with(&cluster, "default_pool_size = 2");
    let [mut client, mut holder] = [(); 2].map(|()| pooler.login("alice", "alicepw", "app"));
    client.query("prepare one as select * from going").unwrap();
    cluster.sql("app", "drop table going");
    // The other backend lacks it, and there is no getting it any more.
    holder.query("begin").unwrap();
    let pieces = [parse("", "deallocate one", &[]), describe_statement(""), bind("", "", &[]), execute("", 0), sync()];
    assert_eq!(tags(&ask(&mut client, &pieces.concat())), "1tn2CZ");
    assert_eq!(by_message(&mut client, "deallocate one"), "12EZ");
    // Nor is it made again to be described, which would not go with a Query that has to stand alone.
    client.query("prepare one as select 1").unwrap();
    prepare(&mut client, "d", "deallocate one");
    holder.query("rollback").unwrap();
    client.send(&[describe_statement("d"), query("discard all")].concat());
    assert_eq!(tags(&client.read_until_ready()), "tnCZ");
}

#[test]
fn what_is_executed_behind_the_end_of_a_failed_block_by_message_is_there() {
    let cluster = Cluster::start();
    let pooler = with(&cluster, "default_pool_size = 2");
    let [mut client, mut holder] = [(); 2].map(|()| pooler.login("alice", "alicepw", "app"));
    client.query("prepare s as select 1").unwrap();
    holder.query("begin").unwrap();
    client.send(&[query("begin"), query("select 1 / 0")].concat());
    assert_eq!([(); 2].map(|()| tags(&client.read_until_ready())), ["CZ", "EZ"]);
    // Without a Sync nothing but the answer itself tells that the block is over.
    let end = [parse("t", "rollback", &[]), bind("", "t", &[]), execute("", 0)].concat();
    assert_eq!(tags(&ask(&mut client, &[end, query("execute s")].concat())), "12CTDCZ");
}

#[test]
fn the_unnamed_statement_is_the_one_before_what_was_skipped() {
    let cluster = Cluster::start();
    let pooler = with(&cluster, "default_pool_size = 2");
    let [mut client, mut holder] = [(); 2].map(|()| pooler.login("alice", "alicepw", "app"));
    client.query("prepare s as select 3").unwrap();
    // The other backend gets it by a Parse without a name.
    holder.query("begin").unwrap();
    let skipped =
        [parse("", "select 1", &[]), describe_statement("never"), parse("", "select 2", &[]), sync()].concat();
    client.send(&[skipped, bind("", "s", &[]), execute("", 0), describe_statement(""), sync()].concat());
    assert_eq!([(); 2].map(|()| tags(&client.read_until_ready())), ["1EZ", "2DCtTZ"]);
    assert_eq!(value(&mut client, ""), "1");
}
