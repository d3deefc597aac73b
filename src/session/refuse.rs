//! Requests that must not run. They are sent to fail, so that PostgreSQL keeps its own books about the transaction and
//! about what it skips, and only the words of its error are replaced.

use super::requests::{Requests, Verdict, query_message};
use crate::wire::sqlstate;
use crate::wire::tag::front;
use crate::wire::write::Report;

/// A text that cannot be run and a name that no statement has, for what is sent to fail; it shows in PostgreSQL's log.
pub(super) const REFUSED: &[u8] = b"pgpool refuses this statement";

impl Requests<'_> {
    fn refusal(&self, report: &Report) -> Vec<u8> {
        self.pool.shared.events.error(&report.code);
        let mut text = Vec::new();
        report.write(&mut text);
        text
    }

    pub(super) fn refuse_query(&mut self, report: &Report) -> Verdict {
        let text = self.refusal(report);
        query_message(self.out, &[REFUSED]);
        self.turn.refuse_query(text);
        Verdict::Refused
    }

    pub(super) fn refuse_execute(&mut self, report: &Report) -> Verdict {
        let text = self.refusal(report);
        self.write_message(front::EXECUTE, &[REFUSED, &[0; 5]].concat());
        self.turn.refuse_parse(text);
        Verdict::Refused
    }

    pub(super) fn refuse_parse(&mut self, report: &Report) -> Verdict {
        let text = self.refusal(report);
        self.write_parse(b"", &[REFUSED, b"\0\0\0"].concat());
        self.lose_unnamed();
        self.turn.refuse_parse(text);
        Verdict::Refused
    }

    pub(super) fn refuse_bind(&mut self, report: &Report) -> Verdict {
        let text = self.refusal(report);
        self.refuse_bind_with(text)
    }

    /// The client gets this ErrorResponse for its Bind.
    pub(super) fn refuse_bind_with(&mut self, text: Vec<u8>) -> Verdict {
        self.write_message(front::BIND, &[b"\0", REFUSED, &[0; 7]].concat());
        self.turn.refuse_parse(text);
        Verdict::Refused
    }
}

pub(super) fn full() -> Report {
    Report::error(sqlstate::PROGRAM_LIMIT_EXCEEDED, "too many prepared statements")
        .detail("The texts of all clients' prepared statements together have reached max_statement_bytes.")
        .hint("Raise max_statement_bytes, or let applications close statements that they do not use any more.")
}

pub(super) fn too_many() -> Report {
    Report::error(sqlstate::PROGRAM_LIMIT_EXCEEDED, "too many prepared statements")
        .detail("The names and texts of this client's prepared statements have reached max_client_statement_bytes.")
        .hint("Close statements that are not used any more, or raise max_client_statement_bytes.")
}
