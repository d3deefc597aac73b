//! Pipelines and what makes a backend stay, together: several transactions in one flight, transactions over several
//! flights, COPY in between, and a Sync that is none because it stands inside of a COPY.
//!
//! Each case runs on PostgreSQL itself, and then in transaction mode on a single backend that a second client wants too:
//! the answers have to be the same, and the second client is served when the backend is free and not before. It uses the
//! same names for statements and settings of its own.

mod cases;
mod lasting;
mod lost;

use std::time::Duration;

use crate::support::{
    Cluster, Pooler, Raw, eventually, for_each_worker_count,
    messages::{bind, execute, parse, query, sync},
    pool_number,
    reply::{Message, PgError, tags},
};

/// Where the backend is behind a flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behind {
    /// The second client gets it, and may as well have come first.
    Free,
    /// The second client waits.
    Held,
    /// It was pinned up to then, and is free.
    Freed,
}

struct Flight {
    bytes: Vec<u8>,
    /// What it is answered, without ParameterStatus.
    tags: &'static str,
    behind: Behind,
}

struct Case {
    name: &'static str,
    flights: Vec<Flight>,
}

const SOON: Duration = Duration::from_secs(10);
/// Long enough for an answer that must not come.
const MOMENT: Duration = Duration::from_millis(20);

const TABLES: &str = "create table mine (x int); create table plenty as select generate_series(1, 9) as x; \
                      grant all on mine, plenty to public";

fn case(name: &'static str, flights: Vec<Flight>) -> Case {
    Case { name, flights }
}

fn free(parts: &[Vec<u8>], tags: &'static str) -> Flight {
    Flight { bytes: parts.concat(), tags, behind: Behind::Free }
}

fn held(parts: &[Vec<u8>], tags: &'static str) -> Flight {
    Flight { bytes: parts.concat(), tags, behind: Behind::Held }
}

fn freed(parts: &[Vec<u8>], tags: &'static str) -> Flight {
    Flight { bytes: parts.concat(), tags, behind: Behind::Freed }
}

#[test]
fn answers_are_those_of_postgresql_while_another_client_wants_the_backend() {
    let cluster = Cluster::start();
    cluster.sql("app", TABLES);
    let cases: Vec<_> = cases::all().into_iter().chain(lasting::all()).collect();
    let mut admin = Raw::login(cluster.port(), "postgres", "", "app");
    let mut empty = || drop(admin.query("truncate mine").expect("empty the table"));
    let wanted: Vec<_> = cases
        .iter()
        .map(|case| {
            empty();
            on_postgresql(case, &cluster)
        })
        .collect();
    for_each_worker_count(|workers| {
        let pooler = Pooler::trusting(&cluster, workers, "default_pool_size = 1");
        let mut console = pooler.console();
        for (case, wanted) in cases.iter().zip(&wanted) {
            eprintln!("«{}»", case.name);
            empty();
            let [first, second] = [(), ()].map(|()| pooler.login("alice", "alicepw", "app"));
            Pair { first, second: Second::new(second), console: &mut console }.run(case, wanted);
        }
    });
}

fn on_postgresql(case: &Case, cluster: &Cluster) -> Vec<Vec<Message>> {
    let mut direct = Raw::login(cluster.port(), "alice", "alicepw", "app");
    let answer = |flight: &Flight| {
        direct.send(&flight.bytes);
        answer(&mut direct, flight, case.name)
    };
    case.flights.iter().map(answer).collect()
}

/// As many messages as are due.
fn answer(client: &mut Raw, flight: &Flight, name: &str) -> Vec<Message> {
    let mut messages = Vec::new();
    while messages.len() < flight.tags.len() {
        match client.try_read() {
            Ok(message) if message.tag == b'S' => {}
            Ok(message) => messages.push(message),
            Err(why) => panic!("«{name}»: {why:?} behind {messages:?}, and {} is due", flight.tags),
        }
        assert!(flight.tags.starts_with(&tags(&messages)), "«{name}»: {} is due, not {messages:?}", flight.tags);
    }
    messages
}

/// Two clients of one backend.
struct Pair<'a> {
    first: Raw,
    second: Second,
    console: &'a mut Raw,
}

/// The client that wants the backend too.
struct Second {
    raw: Raw,
    waits: bool,
}

impl Pair<'_> {
    fn run(mut self, case: &Case, wanted: &[Vec<Message>]) {
        self.second.prepare();
        for (flight, wanted) in case.flights.iter().zip(wanted) {
            if flight.behind == Behind::Freed {
                self.pins_are(1);
            }
            self.first.send(&flight.bytes);
            if flight.behind == Behind::Free {
                self.second.ask();
            }
            let given = answer(&mut self.first, flight, case.name);
            assert_same(case.name, &given, wanted);
            match flight.behind {
                Behind::Free => self.second.is_served(),
                Behind::Held => self.second_waits(),
                Behind::Freed => {
                    self.second.ask();
                    self.second.is_served();
                    self.pins_are(0);
                }
            }
        }
        drop(self.first);
        self.second.ask();
        self.second.is_served();
        self.second.finds_nothing();
    }

    fn pins_are(&mut self, count: usize) {
        let console = &mut *self.console;
        eventually(SOON, "the pins are shown", || console.query("SHOW PINS").unwrap().len() == count);
    }

    fn second_waits(&mut self) {
        self.second.ask();
        eventually(SOON, "the second client is queued", || {
            pool_number(self.console, "app", "alice", "cl_waiting") == 1
        });
        assert!(self.second.raw.is_silent_for(MOMENT), "the second client was served");
    }
}

impl Second {
    fn new(raw: Raw) -> Self {
        Self { raw, waits: false }
    }

    /// Makes a statement and a setting that have the first client's names.
    fn prepare(&mut self) {
        self.raw.send(&[parse("s", "select 'other'", &[]), sync()].concat());
        assert_eq!(tags(&self.raw.read_until_ready()), "1Z");
        self.raw.query("set app.x = 'other'").unwrap();
    }

    fn ask(&mut self) {
        if !self.waits {
            let setting = query("select coalesce(current_setting('app.x', true), '')");
            self.raw.send(&[bind("", "s", &[]), execute("", 0), sync(), setting].concat());
        }
        self.waits = true;
    }

    fn is_served(&mut self) {
        for _ in 0..2 {
            let answer = self.raw.read_until_ready();
            let row = answer.iter().find(|message| message.tag == b'D').map(Message::row);
            assert_eq!(row, Some(vec![Some("other".to_owned())]), "the second client got {answer:?}");
        }
        self.waits = false;
    }

    /// Nothing of the first client's is left.
    fn finds_nothing(&mut self) {
        let locks = "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()";
        assert_eq!(self.raw.value(locks), "0");
        assert_eq!(self.raw.value("select to_regclass('pg_temp.scratch') is null"), "t");
    }
}

fn assert_same(name: &str, given: &[Message], wanted: &[Message]) {
    for (given, wanted) in given.iter().zip(wanted) {
        let same = match (error(given), error(wanted)) {
            (Some(given), Some(wanted)) => given == wanted,
            _ => given == wanted,
        };
        assert!(same, "«{name}»:\n  pgpool:     {given:?}\n  PostgreSQL: {wanted:?}");
    }
}

fn error(message: &Message) -> Option<PgError> {
    (message.tag == b'E').then(|| message.error())
}
