//! Random scripts of protocol messages, on PostgreSQL itself and through pgpool: the answers are the same.
//!
//! Three clients share a pool that is too small for them. Their scripts run to the end on connections of their own first,
//! which tells what each batch of messages is answered and whether a transaction is open behind it; then interleaved on
//! the other side, in an order that follows from the seed. Each client has its own table, and each side its own database,
//! so that nothing but the pooler can make a difference. Compared is every message but ParameterStatus, of which the
//! values behind each batch are, and but for the fields of errors that name PostgreSQL's source.
//!
//! Each run draws a seed and prints it, and `PGPOOL_TEST_SEED` repeats it. `PGPOOL_DIFFERENTIAL_SECONDS` makes it as long
//! as one likes, and `PGPOOL_DIFFERENTIAL_GROUPS` (names of groups with commas) leaves out all other groups.

mod generate;
mod run;
mod script;
mod shrink;
mod texts;

use std::{
    env,
    time::{Duration, Instant},
};

use self::{
    generate::Group,
    run::{Mismatch, Side, compare},
    script::Round,
};
use crate::support::{Cluster, Pooler, random::Random};

const CLIENTS: usize = 3;
/// However slow the machine is.
const FEWEST: usize = 20;
/// How many rounds before one that fails are looked at for the cause.
const MEMORY: usize = 4;
const SECONDS: &str = "PGPOOL_DIFFERENTIAL_SECONDS";
const GROUPS: &str = "PGPOOL_DIFFERENTIAL_GROUPS";

/// The side that is compared with PostgreSQL.
enum Other<'a> {
    PostgreSQL,
    Pgpool { settings: &'a str, workers: usize, backends: usize },
}

#[test]
fn postgresql_answers_like_postgresql() {
    differential(&Other::PostgreSQL);
}

#[test]
fn session_mode_answers_like_postgresql() {
    for workers in [1, 2] {
        differential(&Other::Pgpool { settings: "pool_mode = \"session\"", workers, backends: CLIENTS });
    }
}

#[test]
fn transaction_mode_answers_like_postgresql() {
    for (workers, backends) in [(1, 1), (2, 2)] {
        differential(&Other::Pgpool { settings: "", workers, backends });
    }
}

/// What the scripts may use. There are always queries.
fn groups() -> Vec<Group> {
    let names = env::var(GROUPS).unwrap_or_default();
    let is_named = |group: &Group| names.split(',').any(|name| name == format!("{group:?}"));
    let is_used = |group: &&Group| names.is_empty() || **group == Group::Queries || is_named(group);
    Group::ALL.iter().filter(is_used).copied().collect()
}

fn differential(other: &Other<'_>) {
    let groups = groups();
    let cluster = Cluster::start();
    cluster.sql("app", texts::TABLES);
    cluster.sql("postgres", "create database plain template app");
    let random = Random::announced();
    let mut direct = Side::new(cluster.port(), "plain", cluster.port());
    let (_pooler, mut side) = other.start(&cluster);
    let end = Instant::now() + other.time();
    let (mut recent, mut count, mut messages, mut ended_early) = (Vec::new(), 0, 0, 0);
    while count < FEWEST || Instant::now() < end {
        recent.drain(..recent.len().saturating_sub(MEMORY));
        recent.push(generate::round(&random.part(count as u64), CLIENTS, &groups));
        match compare(&recent[recent.len() - 1], &mut direct, &mut side, other.backends()) {
            Ok(compared) => {
                messages += compared.messages;
                ended_early += usize::from(compared.ended_early);
            }
            Err(mismatch) => {
                let again = |rounds: &[Round]| {
                    let (_pooler, mut side) = other.start(&cluster);
                    rounds.iter().find_map(|round| compare(round, &mut direct, &mut side, other.backends()).err())
                };
                fail(count, &mismatch, &recent, shrink::shrink(&recent, again));
            }
        }
        count += 1;
    }
    eprintln!("{count} rounds, {messages} messages compared, {ended_early} rounds ended early");
    assert!(messages > count * 20, "scripts of nothing");
    assert!(ended_early <= 3 + count / 100, "too much is not compared");
}

impl Other<'_> {
    fn start(&self, cluster: &Cluster) -> (Option<Pooler>, Side) {
        match self {
            Self::PostgreSQL => (None, Side::new(cluster.port(), "app", cluster.port())),
            Self::Pgpool { settings, workers, backends } => {
                let pooler =
                    Pooler::trusting(cluster, *workers, &format!("default_pool_size = {backends}\n{settings}"));
                let side = Side::new(pooler.port(), "app", cluster.port());
                (Some(pooler), side)
            }
        }
    }

    /// How long the scripts run.
    fn time(&self) -> Duration {
        let seconds =
            env::var(SECONDS).map(|text| text.parse().unwrap_or_else(|error| panic!("{SECONDS}={text}: {error}")));
        Duration::from_secs(seconds.unwrap_or(match self {
            Self::Pgpool { settings: "", .. } => 30,
            Self::PostgreSQL | Self::Pgpool { .. } => 5,
        }))
    }

    fn backends(&self) -> usize {
        match self {
            Self::PostgreSQL => CLIENTS,
            Self::Pgpool { backends, .. } => *backends,
        }
    }
}

fn fail(number: usize, mismatch: &Mismatch, recent: &[Round], shrunk: Option<(Vec<Round>, Mismatch)>) -> ! {
    let small = match shrunk {
        Some((rounds, mismatch)) => format!("as little as fails on a fresh pool:\n{}{mismatch}", shown(&rounds)),
        None => "it does not fail again on a fresh pool".to_owned(),
    };
    let last = &recent[recent.len() - 1..];
    panic!("round {number}:\n{}{mismatch}\n{small}", shown(last));
}

fn shown(rounds: &[Round]) -> String {
    rounds.iter().map(Round::to_string).collect::<Vec<_>>().join("then on new connections\n")
}
