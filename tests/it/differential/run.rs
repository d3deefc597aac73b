//! A round on one side, and the two sides compared.

use std::{collections::BTreeMap, fmt};

use super::{
    script::{Batch, Round},
    texts,
};
use crate::support::{
    Raw,
    messages::{close_portal, sync},
    raw::NoMessage,
    reply::Message,
};

/// Where a round runs.
pub(super) struct Side {
    pub(super) port: u16,
    pub(super) database: &'static str,
    /// To empty the tables.
    pub(super) admin: Raw,
}

/// What a batch was answered.
#[derive(PartialEq, Eq)]
struct Answer {
    /// The messages but ParameterStatus, as text.
    messages: Vec<String>,
    /// What ParameterStatus has said so far.
    parameters: BTreeMap<String, String>,
}

/// The answer and what only the first side has to find out.
struct Model {
    answer: Answer,
    /// How many ReadyForQuery there are.
    readies: usize,
    /// Whether the last one says idle.
    idle: bool,
}

/// The answers differ.
pub(super) struct Mismatch {
    client: usize,
    batch: usize,
    wanted: Answer,
    given: Answer,
}

/// So many portals are closed behind a batch to see where its answers end. No script closes as many in a row.
const CLOSES: usize = 9;

/// What came of a round.
#[derive(Default)]
pub(super) struct Compared {
    /// How many messages were the same.
    pub(super) messages: usize,
    /// It ended with [`is_refused_describe`].
    pub(super) ended_early: bool,
}

/// Compares a round on PostgreSQL itself with one where the clients share so many backends.
pub(super) fn compare(
    round: &Round,
    direct: &mut Side,
    other: &mut Side,
    backends: usize,
) -> Result<Compared, Mismatch> {
    let models = models(round, direct);
    other.empty_tables();
    let mut clients: Vec<_> = round.scripts.iter().map(|_| other.login()).collect();
    let mut next = vec![0; clients.len()];
    let mut holding = vec![false; clients.len()];
    let mut compared = Compared::default();
    while let Some(wave) = wave(round, &models, &next, &holding, backends) {
        for client in &wave {
            round.scripts[*client][next[*client]]
                .writes()
                .iter()
                .for_each(|bytes| drop(clients[*client].try_send(bytes)));
        }
        for client in wave {
            let batch = next[client];
            let model = &models[client][batch];
            let given = answer(&mut clients[client], model.readies);
            if given != model.answer {
                let before = models[client][..batch].iter().flat_map(|model| &model.answer.messages);
                if is_refused_describe(before, &model.answer.messages, &given.messages) {
                    // What follows depends on what was skipped behind it.
                    compared.ended_early = true;
                    return Ok(compared);
                }
                let wanted =
                    Answer { messages: model.answer.messages.clone(), parameters: model.answer.parameters.clone() };
                return Err(Mismatch { client, batch, wanted, given });
            }
            compared.messages += given.messages.len();
            holding[client] = !model.idle;
            next[client] += 1;
        }
    }
    Ok(compared)
}

/// The one difference that there is (`docs/leaks.md`, "Where it differs"): in a failed transaction block a statement
/// cannot be prepared again on a backend that lacks it, so its Describe is refused like everything else there, where
/// PostgreSQL describes statements without a result.
fn is_refused_describe<'a>(
    before: impl DoubleEndedIterator<Item = &'a String>,
    wanted: &'a [String],
    given: &[String],
) -> bool {
    let same = wanted.iter().zip(given).take_while(|(wanted, given)| wanted == given).count();
    let (Some([parameters, no_result, ..]), Some(refused)) = (wanted.get(same..), given.get(same)) else {
        return false;
    };
    let status = before.chain(&wanted[..same]).rev().find(|message| message.starts_with("Z "));
    status.is_some_and(|status| status == "Z E")
        && parameters.starts_with("t ")
        && no_result.starts_with("n ")
        && refused.starts_with("E ")
        && refused.contains("| C25P02 |")
}

impl Side {
    pub(super) fn new(port: u16, database: &'static str, admin_port: u16) -> Self {
        Self { port, database, admin: Raw::login(admin_port, "postgres", "", database) }
    }

    fn login(&self) -> Raw {
        Raw::login(self.port, "trusty", "trustypw", self.database)
    }

    fn empty_tables(&mut self) {
        self.admin.query(texts::EMPTY_TABLES).expect("empty the tables");
    }
}

/// Which clients speak next: the one whose batch is due first, and perhaps a second at the same time. Nobody who needs a
/// backend speaks while clients that cannot go on without the test have them all.
fn wave(round: &Round, models: &[Vec<Model>], next: &[usize], holding: &[bool], backends: usize) -> Option<Vec<usize>> {
    let batch = |client: usize| -> Option<&Batch> { round.scripts[client].get(next[client]) };
    let fits = |wave: &[usize]| {
        let held = (0..next.len()).filter(|client| holding[*client] && !wave.contains(client)).count();
        let new = wave.iter().filter(|client| !holding[**client]).count();
        // Each may end up with a backend of its own, or those that give theirs back take turns on one.
        let keeping = wave.iter().filter(|client| holding[**client] || !models[**client][next[**client]].idle).count();
        new == 0 || held + wave.len() <= backends || held + keeping < backends
    };
    let mut due: Vec<_> = (0..next.len()).filter(|client| batch(*client).is_some()).collect();
    due.sort_by_key(|client| batch(*client).map(|batch| batch.at));
    let first = *due.iter().find(|client| fits(&[**client]))?;
    let together = batch(first).is_some_and(|batch| batch.together);
    let second = due.iter().find(|client| together && **client != first && fits(&[first, **client]));
    Some([Some(first), second.copied()].into_iter().flatten().collect())
}

fn models(round: &Round, direct: &mut Side) -> Vec<Vec<Model>> {
    direct.empty_tables();
    let end: Vec<u8> = [close_portal("never").repeat(CLOSES), sync()].concat();
    let model = |raw: &mut Raw, client: usize, number: usize| {
        raw.send(&[round.scripts[client][number].writes().concat(), end.clone()].concat());
        model(raw).unwrap_or_else(|(why, messages)| {
            panic!("PostgreSQL: {why:?} behind {messages:#?} in batch {number} of client {client} of\n{round}")
        })
    };
    let script = |client: usize| {
        let mut raw = direct.login();
        (0..round.scripts[client].len()).map(|number| model(&mut raw, client, number)).collect()
    };
    (0..round.scripts.len()).map(script).collect()
}

/// Reads up to the portals that were closed to mark the end.
fn model(raw: &mut Raw) -> Result<Model, (NoMessage, Vec<String>)> {
    let (mut messages, mut readies, mut idle, mut closes) = (Vec::new(), 0, true, 0);
    while closes < CLOSES {
        let message = match raw.try_read() {
            Ok(message) => message,
            Err(why) => return Err((why, messages)),
        };
        closes = if message.tag == b'3' { closes + 1 } else { 0 };
        if message.tag == b'Z' {
            readies += 1;
            idle = message.status() == 'I';
        }
        messages.extend(shown(&message));
    }
    messages.truncate(messages.len() - CLOSES);
    raw.read_until_ready();
    Ok(Model { answer: Answer { messages, parameters: raw.parameters.clone() }, readies, idle })
}

/// Reads so many ReadyForQuery.
fn answer(raw: &mut Raw, mut readies: usize) -> Answer {
    let mut messages = Vec::new();
    while readies > 0 {
        match raw.try_read() {
            Ok(message) => {
                readies -= usize::from(message.tag == b'Z');
                messages.extend(shown(&message));
            }
            Err(why) => {
                messages
                    .push(format!("<{}>", if why == NoMessage::Closed { "closed" } else { "nothing came in time" }));
                break;
            }
        }
    }
    Answer { messages, parameters: raw.parameters.clone() }
}

/// A message as text, without what may differ; nothing for a ParameterStatus.
fn shown(message: &Message) -> Option<String> {
    let tag = message.tag.escape_ascii();
    match message.tag {
        b'S' => None,
        b'E' | b'N' => {
            // Where in PostgreSQL's source it was raised.
            let fields: Vec<_> =
                message.strings(0).into_iter().filter(|field| !field.starts_with(['F', 'L', 'R'])).collect();
            Some(format!("{tag} {}", fields.join(" | ")))
        }
        b'T' => Some(format!("{tag} {}", without_origins(&message.body).escape_ascii())),
        _ => Some(format!("{tag} {}", message.body.escape_ascii())),
    }
}

/// A RowDescription without the tables that its columns come from: those of an EXECUTE that was parsed before what it
/// executes was there are lost on PostgreSQL, and not on a connection that has parsed it later (`docs/leaks.md`).
fn without_origins(body: &[u8]) -> Vec<u8> {
    let (count, mut rest) = body.split_at(2);
    let mut kept = count.to_vec();
    while let Some(end) = rest.iter().position(|&byte| byte == 0) {
        let (name, column) = rest.split_at(end + 1);
        kept.extend_from_slice(name);
        kept.extend_from_slice(&column[6..18]);
        rest = &column[18..];
    }
    kept
}

impl fmt::Display for Mismatch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client, batch, wanted, given } = self;
        writeln!(formatter, "batch {batch} of client {client} is answered otherwise (>: the first difference)")?;
        for (name, answer, other) in [("PostgreSQL", wanted, given), ("the other side", given, wanted)] {
            writeln!(formatter, "{name}:")?;
            let same = answer.messages.iter().zip(&other.messages).take_while(|(one, other)| one == other).count();
            for (index, message) in answer.messages.iter().enumerate() {
                writeln!(formatter, "  {} {message}", if index == same { '>' } else { ' ' })?;
            }
            for (name, value) in
                answer.parameters.iter().filter(|(name, value)| other.parameters.get(*name) != Some(value))
            {
                writeln!(formatter, "  > parameter {name} = {value}")?;
            }
        }
        Ok(())
    }
}
