//! Bringing a backend's settings in line with the client's, before the client's first message.

use super::relay::front_grammar;
use super::{End, Session};
use crate::backend::{ExchangeError, State, difference};
use crate::pool::{Lease, PoolSettings};
use crate::sql::First;
use crate::wire::scan::Part;
use crate::wire::tag::front;
use crate::wire::view::cstr;
use crate::wire::write;

impl Session {
    /// Sends the difference, in one flight with the client's message where that message cannot run if PostgreSQL
    /// refuses a setting, else before it. Until it is through, no cancel request of the client can reach the backend.
    pub(super) async fn settle(&mut self, lease: &mut Lease, settings: &PoolSettings) -> Result<(), End> {
        let difference = difference(&lease.backend().state, &self.state);
        if !difference.tell.is_empty() {
            let mut out = Vec::new();
            for (name, value) in &difference.tell {
                write::parameter_status(&mut out, name, value);
            }
            self.stream.write_all(&out).await.map_err(End::ClientBroke)?;
        }
        // Text is ASCII but for the values, which are the client's own bytes.
        let limit = settings.spec.timeout;
        if !difference.encoding.is_empty() {
            lease.query_bytes(&difference.encoding, limit).await.map_err(refused)?;
        }
        if difference.sql.is_empty() {
            self.settled(lease);
            self.client.record().set_link(Some(&lease.backend().record));
            return Ok(());
        }
        let stops = difference.harmless || self.first_stops();
        if let Some(workspace) = self.workspace.as_mut().filter(|_| stops) {
            // A setting that is refused leaves a failed transaction block, in which the client's request fails too.
            let (begin, end): (&[u8], &[u8]) = if difference.harmless { (b"", b"") } else { (b"BEGIN;", b"COMMIT") };
            write::query(&mut workspace.out, &[begin, &difference.sql, end].concat());
            workspace.turn.settle();
            lease.backend_mut().prepared.unnamed = None;
            self.settled(lease);
        } else {
            lease.query_bytes(&difference.sql, limit).await.map_err(refused)?;
            self.settled(lease);
            self.client.record().set_link(Some(&lease.backend().record));
        }
        Ok(())
    }

    fn settled(&self, lease: &mut Lease) {
        let extra = self.state.extra.clone();
        let backend = lease.backend_mut();
        backend.state = State { reported: backend.state.reported.clone(), extra };
    }

    /// Whether the first request cannot run in a failed transaction block: it does not end it.
    fn first_stops(&mut self) -> bool {
        let Some(workspace) = self.workspace.as_ref() else { return false };
        let mut scanner = self.scanner;
        let Ok(Some(piece)) = scanner.next(workspace.up.unjudged(), &front_grammar(u32::MAX)) else { return false };
        if piece.part != Part::Whole {
            return false;
        }
        let body = piece.body();
        let second = || cstr(body).and_then(|(_, rest)| cstr(rest)).map(|(second, _)| second);
        self.reader.follow(&self.state);
        let first = match piece.tag {
            front::QUERY => cstr(body).map(|(text, _)| self.reader.read(text).first),
            front::PARSE => second().map(|text| self.reader.read(text).first),
            front::BIND => second().and_then(|name| self.names.find(name)).map(|statement| statement.script.first),
            _ => None,
        };
        first.is_some_and(|first| first != First::TransactionEnd)
    }
}

fn refused(error: ExchangeError) -> End {
    match error {
        ExchangeError::Refused(said) => End::Settings(said),
        other => End::BackendDied(other.to_string()),
    }
}
