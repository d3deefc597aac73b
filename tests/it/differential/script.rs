//! What clients say: messages with a label, cut into flights and batches, and a readable form of it all.

use std::fmt;

use crate::support::messages::{self, cstr, message};

/// A message and how a reader of the report sees it.
#[derive(Clone)]
pub(super) struct Op {
    label: String,
    bytes: Vec<u8>,
}

/// Messages of which the last brings a ReadyForQuery, unless an error before it makes PostgreSQL skip it. A COPY FROM
/// STDIN stands in a flight with its data and its end, so that any flight may be left out.
pub(super) type Flight = Vec<Op>;

/// Flights that are sent before the first answer is read. PostgreSQL skips nothing after the last.
#[derive(Clone, Default)]
pub(super) struct Batch {
    pub(super) flights: Vec<Flight>,
    /// When it is due, as against those of other clients.
    pub(super) at: usize,
    /// May be sent at the same time as the next client's.
    pub(super) together: bool,
    /// In how many writes it goes out.
    pub(super) writes: usize,
}

pub(super) type Script = Vec<Batch>;

/// The scripts of clients that share a pool.
#[derive(Clone)]
pub(super) struct Round {
    pub(super) scripts: Vec<Script>,
}

impl Batch {
    /// What to write, piece by piece.
    pub(super) fn writes(&self) -> Vec<Vec<u8>> {
        let bytes: Vec<u8> = self.flights.iter().flatten().flat_map(|op| op.bytes.clone()).collect();
        bytes.chunks(bytes.len().div_ceil(self.writes).max(1)).map(<[u8]>::to_vec).collect()
    }
}

impl fmt::Display for Round {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (client, script) in self.scripts.iter().enumerate().filter(|(_, script)| !script.is_empty()) {
            writeln!(formatter, "client {client}:")?;
            for (number, batch) in script.iter().enumerate() {
                let (at, writes) = (batch.at, batch.writes);
                let together = if batch.together { ", with the next client's" } else { "" };
                writeln!(formatter, "  batch {number} (at {at}, writes: {writes}{together})")?;
                for flight in &batch.flights {
                    let labels: Vec<_> = flight.iter().map(|op| op.label.as_str()).collect();
                    writeln!(formatter, "    {}", labels.join(" | "))?;
                }
            }
        }
        Ok(())
    }
}

pub(super) fn query(sql: &str) -> Op {
    Op { label: format!("Query «{sql}»"), bytes: messages::query(sql) }
}

pub(super) fn parse(statement: &str, sql: &str) -> Op {
    Op { label: format!("Parse {statement:?} «{sql}»"), bytes: messages::parse(statement, sql, &[]) }
}

/// A format is 0 (text) or 1 (binary).
pub(super) fn bind(portal: &str, statement: &str, parameters: &[Option<&[u8]>], formats: &[u16], result: &[u16]) -> Op {
    let mut body = [cstr(portal), cstr(statement)].concat();
    put_formats(&mut body, formats);
    body.extend_from_slice(&u16::try_from(parameters.len()).expect("few parameters").to_be_bytes());
    for parameter in parameters {
        let length = parameter.map_or(-1, |value| i32::try_from(value.len()).expect("a short value"));
        body.extend_from_slice(&length.to_be_bytes());
        body.extend_from_slice(parameter.unwrap_or_default());
    }
    put_formats(&mut body, result);
    let shown: Vec<_> = parameters.iter().map(|value| value.map(|value| value.escape_ascii().to_string())).collect();
    Op {
        label: format!("Bind {portal:?} to {statement:?} {shown:?} formats {formats:?} {result:?}"),
        bytes: message(b'B', &body),
    }
}

fn put_formats(body: &mut Vec<u8>, formats: &[u16]) {
    body.extend_from_slice(&u16::try_from(formats.len()).expect("few formats").to_be_bytes());
    formats.iter().for_each(|format| body.extend_from_slice(&format.to_be_bytes()));
}

pub(super) fn describe_statement(name: &str) -> Op {
    Op { label: format!("Describe statement {name:?}"), bytes: messages::describe_statement(name) }
}

pub(super) fn describe_portal(name: &str) -> Op {
    Op { label: format!("Describe portal {name:?}"), bytes: messages::describe_portal(name) }
}

pub(super) fn execute(portal: &str, rows: u32) -> Op {
    Op { label: format!("Execute {portal:?} {rows}"), bytes: messages::execute(portal, rows) }
}

pub(super) fn close_statement(name: &str) -> Op {
    Op { label: format!("Close statement {name:?}"), bytes: messages::close_statement(name) }
}

pub(super) fn close_portal(name: &str) -> Op {
    Op { label: format!("Close portal {name:?}"), bytes: messages::close_portal(name) }
}

pub(super) fn flush() -> Op {
    Op { label: "Flush".to_owned(), bytes: messages::flush() }
}

pub(super) fn sync() -> Op {
    Op { label: "Sync".to_owned(), bytes: messages::sync() }
}

pub(super) fn copy_data(data: &[u8]) -> Op {
    Op { label: format!("CopyData {}", data.escape_ascii()), bytes: messages::copy_data(data) }
}

pub(super) fn copy_done() -> Op {
    Op { label: "CopyDone".to_owned(), bytes: messages::copy_done() }
}

pub(super) fn copy_fail(reason: &str) -> Op {
    Op { label: format!("CopyFail {reason:?}"), bytes: messages::copy_fail(reason) }
}

pub(super) fn function_call(oid: u32, arguments: &[&str]) -> Op {
    Op { label: format!("FunctionCall {oid} {arguments:?}"), bytes: messages::function_call(oid, arguments) }
}
