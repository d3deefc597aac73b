//! What the log says of the console in PgBouncer's words: errors that a client is told, and how its session ended.
//!
//! A command may hold a secret, so what it says is logged only as far as it cannot.

use super::{ConsoleEnd, DATABASE};
use crate::config::General;
use crate::net::{BOUNCER, Clock, Party};
use crate::pool::{ClientRecord, Pools, reason_report};
use crate::wire::write::Report;

/// What may begin a value.
const VALUES: [char; 4] = ['\'', '"', '=', '$'];

fn party(client: &ClientRecord) -> Party<'_> {
    Party { database: Some(DATABASE), ..client.party() }
}

/// Says that a command failed; `sets`: it was a SET, whose value may be in the message.
pub(super) fn say_error(report: &Report, sets: bool, client: &ClientRecord, general: &General) {
    let words = if sets { "SET failed".to_owned() } else { without_values(&report.message) };
    tracing::error!(target: BOUNCER, "{words}");
    if general.log_pooler_errors {
        tracing::warn!(target: BOUNCER, "{} pooler error: {words}", party(client));
    }
}

/// A message about a command that cannot be read: `invalid command 'SHOW POOLZ', use SHOW HELP;`, cut where a value begins.
fn without_values(message: &str) -> String {
    let cut = message.strip_prefix("invalid command '").and_then(|rest| rest.strip_suffix("', use SHOW HELP;"));
    match cut.and_then(|command| command.split_once(VALUES)) {
        Some((before, _)) => format!("invalid command '{before}...', use SHOW HELP;"),
        None => message.to_owned(),
    }
}

/// Says how a session of the console ended.
pub(super) fn say_end(end: &ConsoleEnd, client: &ClientRecord, pools: &Pools) {
    let general = &pools.config.load().general;
    let (words, told) = match end {
        ConsoleEnd::Terminated => ("client close request".to_owned(), false),
        ConsoleEnd::Closed | ConsoleEnd::Lost(_) => ("client unexpected eof".to_owned(), false),
        ConsoleEnd::Violation(what) => (what.clone(), true),
        ConsoleEnd::Interrupted(reason) => match reason_report(*reason) {
            Some(report) => (report.message, true),
            None => return,
        },
        // The process has ended with it.
        ConsoleEnd::Shutdown => return,
    };
    let party = party(client);
    if general.log_disconnections {
        let age = Clock::between(client.identity.connected, pools.shared.clock.now()).as_secs();
        tracing::info!(target: BOUNCER, "{party} closing because: {words} (age={age}s)");
    }
    if told && general.log_pooler_errors {
        tracing::warn!(target: BOUNCER, "{party} pooler error: {words}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_commands_are_not_logged() {
        for (message, logged) in [
            ("invalid command 'SHOW POOLZ', use SHOW HELP;", "invalid command 'SHOW POOLZ', use SHOW HELP;"),
            (
                "invalid command 'alter user x password 'secret'', use SHOW HELP;",
                "invalid command 'alter user x password ...', use SHOW HELP;",
            ),
            ("invalid command 'SETT a=secret', use SHOW HELP;", "invalid command 'SETT a...', use SHOW HELP;"),
            ("database app is not paused", "database app is not paused"),
        ] {
            assert_eq!(without_values(message), logged);
        }
    }
}
