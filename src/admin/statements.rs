//! SHOW PREPARED_STATEMENTS: the texts that clients have prepared, each once for the whole process.

use std::sync::atomic::Ordering::Relaxed;

use super::columns::{Row, row};
use crate::backend::Statement;
use crate::metrics::Totals;
use crate::pool::Pools;

/// How much of a text is shown, bytes.
const SHOWN: usize = 200;

/// The rows, in order of their ids.
pub(super) fn rows(pools: &Pools) -> Vec<Row> {
    pools.shared.statements.shown().iter().map(|statement| statement_row(statement)).collect()
}

/// The totals, for SHOW STATE.
pub(super) fn totals(pools: &Pools) -> [Row; 5] {
    let statements = &pools.shared.statements;
    let counted = pools.all().iter().map(|pool| pool.counters.totals()).fold(Totals::default(), Totals::plus);
    let limit = pools.config.load().general.max_statement_bytes;
    [
        row!["prepared_statements", statements.shown().len().to_string()],
        row!["prepared_statement_bytes", statements.bytes().to_string()],
        row!["prepared_statement_bytes_limit", limit.to_string()],
        row!["stale_plans", counted.stale_plans.to_string()],
        row!["repeated_batches", counted.repeated_batches.to_string()],
    ]
}

fn statement_row(statement: &Statement) -> Row {
    row![
        statement.id,
        String::from_utf8_lossy(&statement.name).into_owned(),
        statement.bytes(),
        statement.clients(),
        statement.servers(),
        statement.parses.load(Relaxed),
        statement.hits.load(Relaxed),
        beginning(statement.text()),
    ]
}

/// The beginning of a text, which may be in any encoding.
fn beginning(text: &[u8]) -> String {
    // Some bytes more, so that a cut within a character falls behind the end of what is shown.
    let mut shown = String::from_utf8_lossy(text.get(..SHOWN + 4).unwrap_or(text)).into_owned();
    if shown.len() > SHOWN {
        shown.truncate(shown.floor_char_boundary(SHOWN));
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(beginning(b"select 1"), "select 1");
        assert_eq!(beginning(&[b'x'; 200]), "x".repeat(200));
        assert_eq!(beginning(&[b'x'; 201]), format!("{}…", "x".repeat(200)));
        assert_eq!(beginning("ä".repeat(1000).as_bytes()), format!("{}…", "ä".repeat(100)));
        assert_eq!(beginning(format!("x{}", "ä".repeat(1000)).as_bytes()), format!("x{}…", "ä".repeat(99)));
        assert_eq!(beginning(b"\xe9t\xe9"), "\u{fffd}t\u{fffd}");
        assert!(beginning(&[0xff; 300]).len() <= 203);
    }
}
