//! The protocol as a client sees it through pgpool, message by message: nothing is added, lost, changed or reordered.
//!
//! The talks of `talks.rs` and `copies.rs` run against PostgreSQL itself and through pgpool in every pool mode that they
//! fit in; the transcripts, tags and bodies, have to be equal. What PostgreSQL has no model answer for (how a login
//! opens, how much memory a result costs) is in `opening.rs` and `sizes.rs`.

mod copies;
mod opening;
mod sizes;
mod talks;

use crate::support::{Cluster, Pooler, Raw, for_each_worker_count, reply::Message};

/// The least that a talk needs of a pool mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Needs {
    /// Every statement by itself.
    Statements,
    /// A backend for the length of a transaction.
    Transactions,
    /// The same backend for the whole session.
    Session,
}

/// A conversation. `speak` ends with all answers read.
struct Talk {
    name: &'static str,
    needs: Needs,
    speak: fn(&mut Raw) -> Vec<Message>,
}

/// The tables that the talks use.
const TABLES: &str = "create table plenty as select g as x, 'row ' || g as y from generate_series(1, 100) g; \
                      create table target (x int, y text); \
                      grant all on plenty, target to public";

#[test]
fn transcripts_are_those_of_postgresql_in_session_mode() {
    compare("session", Needs::Session);
}

#[test]
fn transcripts_are_those_of_postgresql_in_transaction_mode() {
    compare("transaction", Needs::Transactions);
}

#[test]
fn transcripts_are_those_of_postgresql_in_statement_mode() {
    compare("statement", Needs::Statements);
}

fn compare(mode: &str, offers: Needs) {
    let cluster = Cluster::start();
    cluster.sql("app", TABLES);
    let fitting: Vec<Talk> =
        talks::all().into_iter().chain(copies::all()).filter(|talk| talk.needs <= offers).collect();
    let mut direct = Raw::login(cluster.port(), "alice", "alicepw", "app");
    let wanted: Vec<_> = fitting.iter().map(|talk| transcript(talk, &mut direct)).collect();
    for_each_worker_count(|workers| {
        let settings = format!("[pgpool]\npool_mode = \"{mode}\"\nworker_threads = {workers}\ndefault_pool_size = 2");
        let pooler = Pooler::start(&cluster, &settings);
        let mut client = pooler.login("alice", "alicepw", "app");
        for (talk, wanted) in fitting.iter().zip(&wanted) {
            assert_same(talk.name, &transcript(talk, &mut client), wanted);
        }
        // A second client gets at backends that have been through all of it.
        let mut second = pooler.login("alice", "alicepw", "app");
        for (talk, wanted) in fitting.iter().zip(&wanted) {
            assert_same(talk.name, &transcript(talk, &mut second), wanted);
        }
        assert!(cluster.backend_pids("alice").len() <= 3, "a backend was not reused");
    });
}

/// What a talk gave, with process ids masked; and the connection is of use afterwards.
fn transcript(talk: &Talk, client: &mut Raw) -> Vec<Message> {
    let mut messages = (talk.speak)(client);
    assert_eq!(client.value("select 'after'"), "after", "after «{}»", talk.name);
    for message in messages.iter_mut().filter(|message| message.tag == b'A') {
        message.body[..4].fill(0);
    }
    messages
}

fn assert_same(name: &str, given: &[Message], wanted: &[Message]) {
    for (index, (given, wanted)) in given.iter().zip(wanted).enumerate() {
        assert!(given == wanted, "message {index} of «{name}»:\n  pgpool:     {given:?}\n  PostgreSQL: {wanted:?}");
    }
    assert_eq!(given.len(), wanted.len(), "messages of «{name}»:\n  {given:?}\n  {wanted:?}");
}

/// Sends bytes in one write and reads up to the `count`th ReadyForQuery.
fn exchange(client: &mut Raw, bytes: &[u8], count: usize) -> Vec<Message> {
    client.send(bytes);
    (0..count).flat_map(|_| client.read_until_ready()).collect()
}
