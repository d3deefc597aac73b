//! Why a client was not admitted, and what it is told.

use std::io;

use super::access::Denial;
use crate::auth::Refusal;
use crate::net::tls::HandshakeError;
use crate::pool::LookupError;
use crate::wire::sqlstate;
use crate::wire::startup::StartupError;
use crate::wire::write::Report;

/// Why a client was not admitted.
#[derive(Debug, thiserror::Error)]
pub enum Rejected {
    /// It closed the connection; load balancers that probe the port do so too.
    #[error("client left before its login was over")]
    Left,
    /// The connection broke.
    #[error("connection broke: {0}")]
    Io(#[from] io::Error),
    /// Its opening packet cannot be served.
    #[error("{0}")]
    Startup(StartupError),
    /// It broke the protocol.
    #[error("{0}")]
    Protocol(&'static str),
    /// The TLS handshake failed. Nothing can be told but by TLS itself.
    #[error("TLS handshake failed: {0}")]
    Tls(HandshakeError),
    /// It did not prove who it is.
    #[error("login failed for user \"{user}\": {refusal}")]
    Login {
        /// Whom it said to be.
        user: String,
        /// What was wrong; the client is not told all of it.
        refusal: Refusal,
        /// Whether it was asked to prove it by SASL.
        by_sasl: bool,
    },
    /// The rules of `auth_hba_file` do not let it in.
    #[error("{}: {reason}", .report.message)]
    Denied {
        /// What it is told.
        report: Report,
        /// Why, for the log.
        reason: Box<Denial>,
    },
    /// Nobody knows whether there is such a user: `auth_query` gave no answer.
    #[error("{0}")]
    Lookup(LookupError),
    /// Its certificate is not the user's, or there is none.
    #[error("certificate authentication failed for user \"{user}\"")]
    Certificate {
        /// Whom it said to be.
        user: String,
    },
    /// `client_login_timeout`.
    #[error("client_login_timeout")]
    Timeout,
    /// Something of our own failed.
    #[error("internal: {0}")]
    Internal(&'static str),
    /// It is told this.
    #[error("{}", .0.message)]
    Told(Report),
}

impl Rejected {
    /// The word that it is counted under; nothing for what load balancers do to see whether the port is open.
    #[must_use]
    pub fn counted_as(&self) -> Option<&'static str> {
        Some(match self {
            Rejected::Left | Rejected::Io(_) => return None,
            Rejected::Startup(_) | Rejected::Protocol(_) => "protocol",
            Rejected::Tls(_) => "tls",
            Rejected::Login { refusal, .. } if refusal.sqlstate() == sqlstate::PROTOCOL_VIOLATION => "protocol",
            Rejected::Login { .. } => "password",
            Rejected::Denied { .. } => "rule",
            Rejected::Lookup(_) => "lookup",
            Rejected::Certificate { .. } => "certificate",
            Rejected::Timeout => "timeout",
            Rejected::Internal(_) => "other",
            Rejected::Told(report) if report.code == sqlstate::TOO_MANY_CONNECTIONS => "limit",
            Rejected::Told(_) => "refused",
        })
    }

    /// PgBouncer's words for it, where it would say anything.
    #[must_use]
    pub(super) fn words(&self) -> Option<String> {
        Some(match self {
            Rejected::Left | Rejected::Io(_) | Rejected::Tls(_) => return None,
            Rejected::Startup(StartupError::NoUser) => "no username supplied".to_owned(),
            Rejected::Login { by_sasl: true, refusal, .. } if refusal.may_be_outdated() => {
                "SASL authentication failed".to_owned()
            }
            Rejected::Login { refusal, .. } => refusal.message().to_owned(),
            Rejected::Denied { report, reason } => match report.message.split(" for user \"").next() {
                _ if reason.is_by_rule() => "login rejected".to_owned(),
                Some("Peer authentication failed") => "unix socket login rejected".to_owned(),
                // The name stands in front of the line.
                words => words.unwrap_or_default().to_owned(),
            },
            Rejected::Certificate { .. } => "certificate authentication failed".to_owned(),
            other => other.report().map(|report| report.message).unwrap_or_default(),
        })
    }

    /// What the client is told; nothing where nobody listens.
    #[must_use]
    pub fn report(&self) -> Option<Report> {
        Some(match self {
            Rejected::Left | Rejected::Io(_) | Rejected::Tls(_) => return None,
            Rejected::Startup(StartupError::Protocol(..)) => {
                Report::fatal(sqlstate::FEATURE_NOT_SUPPORTED, self.to_string())
            }
            Rejected::Startup(StartupError::NoUser) => Report::fatal(sqlstate::INVALID_AUTHORIZATION, self.to_string()),
            Rejected::Startup(_) | Rejected::Protocol(_) => {
                Report::fatal(sqlstate::PROTOCOL_VIOLATION, self.to_string())
            }
            Rejected::Login { user, refusal, .. } => {
                let message = refusal.message();
                let message = if refusal.sqlstate() == sqlstate::PROTOCOL_VIOLATION {
                    message.to_owned()
                } else {
                    format!("{message} for user \"{user}\"")
                };
                Report::fatal(refusal.sqlstate(), message)
            }
            Rejected::Lookup(error) => lookup_report(error),
            Rejected::Certificate { .. } => Report::fatal(sqlstate::INVALID_AUTHORIZATION, self.to_string()),
            Rejected::Timeout => Report::fatal(sqlstate::CANNOT_CONNECT_NOW, "client_login_timeout")
                .detail("The login took longer than client_login_timeout."),
            Rejected::Internal(_) => Report::fatal(sqlstate::CONNECTION_FAILURE, "internal error of the pooler"),
            Rejected::Told(report) | Rejected::Denied { report, .. } => report.clone(),
        })
    }
}

/// PgBouncer's words. The client has not proved who it is, so what went wrong is for the log.
fn lookup_report(error: &LookupError) -> Report {
    let hint = "The pooler's log has the reason.";
    match error {
        LookupError::Disabled(_) => Report::fatal(sqlstate::CANNOT_CONNECT_NOW, error.to_string())
            .hint("An administrator has disabled it on the console; ENABLE lets clients in again."),
        LookupError::NoDatabase(_) | LookupError::Misfit(_) | LookupError::Refused(_) => {
            Report::fatal(sqlstate::PROTOCOL_VIOLATION, "bouncer config error").hint(hint)
        }
        LookupError::Ending => Report::fatal(sqlstate::ADMIN_SHUTDOWN, "pooler is shutting down"),
        LookupError::Broken(_) | LookupError::Timeout | LookupError::Unreachable(_) | LookupError::Limit(_) => {
            Report::fatal(sqlstate::CONNECTION_FAILURE, "auth_query failed: no answer from PostgreSQL").hint(hint)
        }
    }
}
