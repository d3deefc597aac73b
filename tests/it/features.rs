//! What clients in transaction mode leave behind or take along, seen from outside: policies, pins, LISTEN, prepared
//! statements, and what a function does in silence.

mod by_message;
mod leaving;
mod notifications;
mod statements;

use std::time::Duration;

use crate::support::{
    Cluster, Pooler, Raw, eventually, for_each_worker_count,
    messages::{execute, extended, parse, query, sync},
    reply::{Message, PgError, tags},
    table::Table,
};

const SOON: Duration = Duration::from_secs(10);

/// A statement for each feature of `session_features`.
const USES: &[(&str, &str)] = &[
    ("advisory_locks", "select pg_advisory_lock(1)"),
    ("temp_tables", "create temp table if not exists scratch (x int)"),
    ("cursors", "declare c cursor with hold for select 1"),
    ("listen", "listen news"),
    // Whether there is such a library is PostgreSQL's concern.
    ("load", "load 'nothing'"),
    ("settings", "select set_config('app.' || 'x', 'y', false)"),
];

fn with(cluster: &Cluster, settings: &str) -> Pooler {
    Pooler::trusting(cluster, 1, settings)
}

fn error(answer: &[Message]) -> Option<PgError> {
    answer.iter().find(|message| message.tag == b'E').map(Message::error)
}

fn warnings(answer: &[Message]) -> Vec<PgError> {
    let notices = answer.iter().filter(|message| message.tag == b'N').map(Message::error);
    notices.filter(|notice| notice.severity == "WARNING").collect()
}

fn ask(client: &mut Raw, bytes: &[u8]) -> Vec<Message> {
    client.send(bytes);
    client.read_until_ready()
}

fn pins(pooler: &Pooler) -> Table {
    Table::of(&mut pooler.console(), "SHOW PINS")
}

fn pins_become(pooler: &Pooler, count: usize) {
    eventually(SOON, "the pins are shown", || pins(pooler).rows.len() == count);
}

#[test]
fn each_feature_is_rejected_warned_of_or_allowed() {
    let cluster = Cluster::start();
    for policy in ["reject", "warn", "allow"] {
        let pooler = with(&cluster, &format!("default_pool_size = 2\nsession_features = \"{policy}\""));
        for (feature, sql) in USES {
            for bytes in [query(sql), extended(sql, &[])] {
                let mut client = pooler.login("alice", "alicepw", "app");
                let answer = ask(&mut client, &bytes);
                let (error, warnings) = (error(&answer), warnings(&answer));
                let name = format!("{policy} {feature}: {answer:?}");
                let rejected = error.as_ref().filter(|error| error.code == "0A000");
                assert_eq!(rejected.is_some(), policy == "reject", "{name}");
                assert_eq!(warnings.len(), usize::from(policy == "warn"), "{name}");
                for told in rejected.into_iter().chain(&warnings) {
                    assert!(told.hint.as_ref().is_some_and(|hint| hint.ends_with("pool_mode = session.")), "{name}");
                }
                assert!(warnings.iter().all(|warning| warning.code == "01000"), "{name}");
                assert_eq!(client.value("select 'goes on'"), "goes on");
            }
            assert!(pins(&pooler).rows.is_empty(), "{policy} {feature}");
        }
    }
}

#[test]
fn what_is_rejected_fails_its_transaction() {
    let cluster = Cluster::start();
    let pooler = with(&cluster, "default_pool_size = 1\nsession_features = \"reject\"");
    let mut client = pooler.login("alice", "alicepw", "app");
    let flight = [query("begin"), query("listen x"), query("select 1"), query("rollback"), query("select 2")].concat();
    client.send(&flight);
    let answers: Vec<_> = (0..5).map(|_| client.read_until_ready()).collect();
    let codes: Vec<_> = answers.iter().map(|answer| error(answer).map(|error| error.code)).collect();
    assert_eq!(codes, [None, Some("0A000".to_owned()), Some("25P02".to_owned()), None, None]);
    let status: String = answers.iter().map(|answer| answer.last().unwrap().status()).collect();
    assert_eq!(status, "TEEII");
    // What stands behind it up to Sync is skipped, and nothing of it has run.
    let flight = [parse("a", "listen x", &[]), parse("b", "select 1", &[]), execute("", 0), sync()].concat();
    assert_eq!(tags(&ask(&mut client, &flight)), "EZ");
    assert_eq!(client.value("select count(*) from pg_listening_channels()"), "0");
    assert_eq!(client.value("select count(*) from pg_prepared_statements where name <> ''"), "0");
}

#[test]
fn one_pin_too_many_is_refused_with_its_reasons() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let pooler = Pooler::trusting(&cluster, workers, "default_pool_size = 3\nmax_pinned = 1");
        let mut holder = Raw::connect(pooler.port());
        holder.startup(&[("user", "alice"), ("database", "app"), ("application_name", "the holder")]);
        holder.authenticate("alice", "alicepw").unwrap();
        holder.query("create temp table scratch (x int)").unwrap();
        pins_become(&pooler, 1);
        let shown = pins(&pooler);
        assert_eq!(shown.value("features"), "temp_tables");
        assert_eq!(shown.value("application_name"), "the holder");
        let pid = holder.value("select pg_backend_pid()");
        assert_eq!(shown.value("remote_pid"), pid);

        let mut other = pooler.login("alice", "alicepw", "app");
        let lock = "select pg_advisory_lock(2)";
        let refused = |error: PgError| {
            assert_eq!(error.code, "53400", "{error:?}");
            let detail = error.detail.unwrap_or_default();
            assert!(detail.contains("the holder") && detail.contains("temp_tables"), "{detail}");
            assert!(error.hint.unwrap_or_default().contains("max_pinned"));
        };
        refused(other.query(lock).unwrap_err());
        refused(other.query_extended(lock, &[]).unwrap_err());
        other.query("begin").unwrap();
        refused(other.query(lock).unwrap_err());
        assert_eq!(other.query("select 1").unwrap_err().code, "25P02");
        other.query("rollback").unwrap();
        // What ends with the transaction needs no pin.
        other.query("begin; select pg_advisory_xact_lock(2); commit").unwrap();
        let locks = "select count(*) from pg_locks where locktype = 'advisory'";
        assert_eq!(cluster.sql("app", locks), "0");

        assert_eq!(holder.value("select pg_backend_pid()"), pid);
        holder.query("drop table scratch").unwrap();
        pins_become(&pooler, 0);
        other.query(lock).unwrap();
        pins_become(&pooler, 1);
        assert_eq!(pins(&pooler).value("features"), "advisory_locks");
        drop(other);
        pins_become(&pooler, 0);
        eventually(SOON, "the lock is gone", || cluster.sql("app", locks) == "0");
    });
}

/// What no text tells shows by what PostgreSQL reports on the way.
#[test]
fn what_a_function_sets_stays_with_its_client_or_nowhere() {
    let cluster = Cluster::start();
    cluster.sql(
        "app",
        "create function quiet() returns void language plpgsql as $$ begin \
           perform set_config('app.secret', 'mine', false); \
           perform set_config('application_name', 'quiet ' || clock_timestamp(), false); end $$",
    );
    for_each_worker_count(|workers| {
        let pooler = Pooler::trusting(&cluster, workers, "default_pool_size = 1");
        let [mut first, mut second] = [(), ()].map(|()| pooler.login("alice", "alicepw", "app"));
        for bytes in [query("select quiet()"), extended("select quiet()", &[])] {
            let before = second.value("select pg_backend_pid()");
            assert!(error(&ask(&mut first, &bytes)).is_none());
            let seen =
                "select coalesce(current_setting('app.secret', true), '') || current_setting('application_name')";
            assert_eq!(second.value(seen), "");
            assert!(first.value("show application_name").starts_with("quiet 2"));
            assert_eq!(second.value("select pg_backend_pid()"), before, "the backend is cleaned, not closed");
        }
    });
}
