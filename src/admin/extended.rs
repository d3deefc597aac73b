//! Prepared statements and portals of one session of the console: what a driver prepares, binds and describes.
//!
//! A command is parsed once, at Parse; nothing of it is done before Execute.

use std::collections::HashMap;

use super::columns::Column;
use super::command::{Command, parse};
use super::encode::Format;
use super::message::{Bind, Object, Parse};
use crate::wire::sqlstate;
use crate::wire::write::Report;

/// Most statements, and most portals, of one session.
const MOST: usize = 1000;

/// The type of a parameter that nobody has named one for: `text`.
const TEXT: u32 = 25;

/// What was prepared.
#[derive(Clone, Debug)]
struct Statement {
    command: Option<Command>,
    /// The types of its parameters.
    parameters: Vec<u32>,
}

/// A statement bound to formats, and whether it was executed.
#[derive(Clone, Debug)]
struct Portal {
    command: Option<Command>,
    formats: Vec<Format>,
    done: bool,
}

/// What Execute is to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Execution {
    /// Run the command and send its rows in these formats.
    Run(Command, Vec<Format>),
    /// There is no command.
    Empty,
    /// It ran before; a portal has its rows only once.
    Done,
}

/// What Describe answers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Described {
    /// The types of its parameters, where it is a statement.
    pub(super) parameters: Option<Vec<u32>>,
    /// The columns; `None` where there are no rows.
    pub(super) columns: Option<&'static [Column]>,
    /// Their formats.
    pub(super) formats: Vec<Format>,
}

/// The statements and portals of one session.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    statements: HashMap<String, Statement>,
    portals: HashMap<String, Portal>,
}

impl Prepared {
    /// Parse.
    pub(super) fn parse(&mut self, message: Parse) -> Result<(), Report> {
        let Parse { name, query, mut types } = message;
        if !name.is_empty() && self.statements.contains_key(&name) {
            return Err(Report::error("42P05", format!("prepared statement \"{name}\" already exists")));
        }
        let mut commands = parse(&query)?;
        if commands.len() > 1 {
            let message = "cannot insert multiple commands into a prepared statement";
            return Err(Report::error(sqlstate::SYNTAX_ERROR, message));
        }
        if self.statements.len() >= MOST {
            return Err(too_many("prepared statements"));
        }
        let command = commands.pop();
        // Types that are named count, needed or not, as in PostgreSQL.
        types.resize(command.as_ref().map_or(0, Command::parameters).max(types.len()), 0);
        let parameters = types.into_iter().map(|id| if id == 0 { TEXT } else { id }).collect();
        self.statements.insert(name, Statement { command, parameters });
        Ok(())
    }

    /// Bind.
    pub(super) fn bind(&mut self, message: Bind) -> Result<(), Report> {
        let Bind { portal, statement, parameters, formats } = message;
        let Some(prepared) = self.statements.get(&statement) else { return Err(no_statement(&statement)) };
        let Statement { command, parameters: wanted } = prepared;
        if parameters != wanted.len() {
            let message = format!(
                "bind message supplies {parameters} parameters, but prepared statement \"{statement}\" requires {}",
                wanted.len()
            );
            return Err(Report::error(sqlstate::PROTOCOL_VIOLATION, message));
        }
        let columns = command.as_ref().and_then(Command::columns).unwrap_or_default().len();
        if formats.len() > 1 && formats.len() != columns {
            let message = format!("bind message has {} result formats but query has {columns} columns", formats.len());
            return Err(Report::error(sqlstate::PROTOCOL_VIOLATION, message));
        }
        let format = |code: u16| match code {
            0 => Ok(Format::Text),
            1 => Ok(Format::Binary),
            other => Err(Report::error("22023", format!("unsupported format code: {other}"))),
        };
        let formats = formats.into_iter().map(format).collect::<Result<Vec<_>, _>>()?;
        if !portal.is_empty() && self.portals.contains_key(&portal) {
            return Err(Report::error("42P03", format!("cursor \"{portal}\" already exists")));
        }
        if self.portals.len() >= MOST {
            return Err(too_many("portals"));
        }
        self.portals.insert(portal, Portal { command: command.clone(), formats, done: false });
        Ok(())
    }

    /// Describe.
    pub(super) fn describe(&self, object: &Object) -> Result<Described, Report> {
        let (parameters, command, formats) = match object {
            Object::Statement(name) => {
                let statement = self.statements.get(name).ok_or_else(|| no_statement(name))?;
                (Some(statement.parameters.clone()), &statement.command, Vec::new())
            }
            Object::Portal(name) => {
                let portal = self.portals.get(name).ok_or_else(|| no_portal(name))?;
                (None, &portal.command, portal.formats.clone())
            }
        };
        Ok(Described { parameters, columns: command.as_ref().and_then(Command::columns), formats })
    }

    /// Execute.
    pub(super) fn execute(&mut self, name: &str) -> Result<Execution, Report> {
        let portal = self.portals.get_mut(name).ok_or_else(|| no_portal(name))?;
        let Some(command) = &portal.command else { return Ok(Execution::Empty) };
        if std::mem::replace(&mut portal.done, true) {
            return Ok(Execution::Done);
        }
        Ok(Execution::Run(command.clone(), portal.formats.clone()))
    }

    /// Close; what is not there is closed.
    pub(super) fn close(&mut self, object: &Object) {
        match object {
            Object::Statement(name) => drop(self.statements.remove(name)),
            Object::Portal(name) => drop(self.portals.remove(name)),
        }
    }

    /// Sync, and a simple query: the transaction is over, and its portals with it.
    pub(super) fn end_transaction(&mut self) {
        self.portals.clear();
    }
}

fn no_statement(name: &str) -> Report {
    let message = match name {
        "" => "unnamed prepared statement does not exist".to_owned(),
        _ => format!("prepared statement \"{name}\" does not exist"),
    };
    Report::error("26000", message)
}

fn no_portal(name: &str) -> Report {
    Report::error("34000", format!("portal \"{name}\" does not exist"))
}

fn too_many(what: &str) -> Report {
    let report = Report::error("54000", format!("too many {what}"));
    report.detail(format!("A session of the console has at most {MOST}.")).hint("Close some of them.")
}
