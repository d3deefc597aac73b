//! How a session ended: one value, and one place that says whose fault it was, what is logged and what the client is
//! told.

use std::io;

use crate::backend::Closing;
use crate::pool::{Failure, Reason, failure_report, reason_report};
use crate::wire::scan::Violation;
use crate::wire::sqlstate as code;
use crate::wire::view::Diagnostic;
use crate::wire::write::Report;

/// How a session ended.
#[derive(Debug)]
pub enum End {
    /// The client said goodbye.
    Goodbye,
    /// The client closed the connection without a word.
    ClientClosed,
    /// The connection to the client broke.
    ClientBroke(io::Error),
    /// The client broke the protocol.
    ClientViolation(Violation),
    /// The backend closed the connection or it broke, while it was lent to this client.
    BackendDied(String),
    /// PostgreSQL sent what it does not owe, or what cannot be a message.
    BackendViolation(String),
    /// Bringing the backend's settings in line failed.
    Settings(Box<Diagnostic>),
    /// A transaction block in statement mode.
    StatementMode,
    /// A simple query, where the configuration forbids them.
    SimpleQuery,
    /// No backend could be had.
    Unavailable(Box<Failure>),
    /// The sweeper, the console or the end of the process.
    Interrupted(Reason),
}

/// Whose fault an end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// Nobody's.
    Nobody,
    /// The client's.
    Client,
    /// PostgreSQL's.
    Server,
    /// A limit or an operator of this pooler.
    Pooler,
}

impl End {
    /// Whose fault it is.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            End::Goodbye | End::ClientClosed => Blame::Nobody,
            End::ClientBroke(_) | End::ClientViolation(_) | End::StatementMode | End::SimpleQuery => Blame::Client,
            End::BackendDied(_) | End::BackendViolation(_) | End::Settings(_) | End::Unavailable(_) => Blame::Server,
            End::Interrupted(_) => Blame::Pooler,
        }
    }

    /// Why the backend that was lent is closed, unless it can be saved.
    #[must_use]
    pub fn closing(&self) -> Closing {
        match self {
            End::BackendDied(_) => Closing::Crashed,
            End::BackendViolation(_) => Closing::Broke,
            End::Settings(_) => Closing::Parameter,
            End::StatementMode => Closing::StatementMode,
            End::Interrupted(Reason::QueryTimeout) => Closing::QueryTimeout,
            End::Interrupted(Reason::IdleTransactionTimeout) => Closing::IdleTransaction,
            End::Interrupted(Reason::TransactionTimeout) => Closing::Transaction,
            End::Interrupted(Reason::DatabaseRemoved) => Closing::Removed,
            End::Interrupted(Reason::Shutdown | Reason::ServerShutdown) => Closing::Ending,
            End::Interrupted(Reason::ServerReplaced) => Closing::Needed,
            End::Goodbye
            | End::ClientClosed
            | End::ClientBroke(_)
            | End::ClientViolation(_)
            | End::SimpleQuery
            | End::Unavailable(_)
            | End::Interrupted(_) => Closing::ClientLeft,
        }
    }

    /// The reason for the log, in PgBouncer's words where it has some.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            End::Goodbye => "client close request".to_owned(),
            End::ClientClosed => "client unexpected eof".to_owned(),
            End::ClientBroke(error) => format!("client connection broke: {error}"),
            End::BackendDied(why) => format!("server conn crashed? ({why})"),
            End::BackendViolation(why) => format!("server broke the protocol: {why}"),
            other => other.report().map(|report| report.message).unwrap_or_default(),
        }
    }

    /// The reason in PgBouncer's words alone, where it has some.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            End::ClientBroke(_) => "client unexpected eof".to_owned(),
            End::BackendDied(_) | End::BackendViolation(_) => {
                self.report().map(|report| report.message).unwrap_or_default()
            }
            other => other.reason(),
        }
    }

    /// What the client is told, if anything. Facts about the pool are added by the session.
    #[must_use]
    pub fn report(&self) -> Option<Report> {
        Some(match self {
            End::Goodbye | End::ClientClosed | End::ClientBroke(_) => return None,
            End::ClientViolation(violation) => Report::fatal(code::PROTOCOL_VIOLATION, violation.to_string())
                .hint("The client's driver or something between it and the pooler broke the protocol."),
            End::BackendDied(why) => Report::fatal(code::CONNECTION_FAILURE, "server conn crashed?")
                .detail(format!("The connection to PostgreSQL ended in the middle of this client's turn: {why}."))
                .hint("Connect again and repeat the transaction. PostgreSQL's log tells why its process ended."),
            End::BackendViolation(why) => Report::fatal(code::CONNECTION_FAILURE, "server broke the protocol")
                .detail(format!(
                    "The connection to PostgreSQL was closed since it could not be followed any more: {why}."
                ))
                .hint("Connect again and repeat the transaction."),
            End::Settings(said) => Report::fatal(code::CONNECTION_FAILURE, "invalid server parameter")
                .detail(format!("PostgreSQL refused this session's settings: {} ({})", said.message, said.code))
                .hint("Connect again; look at the settings that this client makes at its start."),
            End::StatementMode => {
                Report::fatal(code::FEATURE_NOT_SUPPORTED, "transaction blocks not allowed in statement pooling mode")
                    .hint("Use pool_mode = \"transaction\" for this database or user.")
            }
            End::SimpleQuery => Report::fatal(code::FEATURE_NOT_SUPPORTED, "PQexec disallowed")
                .detail("The setting disable_pqexec refuses simple queries.")
                .hint("Have the driver use the extended protocol, as PQexecParams does."),
            End::Unavailable(failure) => failure_report(failure),
            End::Interrupted(reason) => return reason_report(*reason),
        })
    }
}
