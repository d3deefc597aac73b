//! Bringing a backend's settings in line with the client's, before the client's first message.

use super::{End, Session};
use crate::backend::{ExchangeError, State, difference};
use crate::pool::{Lease, PoolSettings};
use crate::wire::write;

impl Session {
    /// Sends the difference: in one flight with the client's message where PostgreSQL cannot refuse it, else before it.
    /// Until it is through, no cancel request of the client can reach the backend.
    pub(super) async fn settle(&mut self, lease: &mut Lease, settings: &PoolSettings) -> Result<(), End> {
        let difference = difference(&lease.backend().state, &self.state);
        if !difference.tell.is_empty() {
            let mut out = Vec::new();
            for (name, value) in &difference.tell {
                write::parameter_status(&mut out, name, value);
            }
            self.stream.write_all(&out).await.map_err(End::ClientBroke)?;
        }
        if difference.sql.is_empty() {
            self.settled(lease);
        } else if let Some(workspace) = self.workspace.as_mut().filter(|_| difference.same_flight) {
            write::query(&mut workspace.prefix, &difference.sql);
            workspace.turn.settle();
        } else {
            // Text is ASCII but for the values, which are the client's own bytes.
            lease.query_bytes(&difference.sql, settings.spec.timeout).await.map_err(refused)?;
            self.settled(lease);
        }
        Ok(())
    }

    fn settled(&self, lease: &mut Lease) {
        let extra = self.state.extra.clone();
        let backend = lease.backend_mut();
        backend.state = State { reported: backend.state.reported.clone(), extra };
        self.client.record().set_link(Some(&backend.record));
    }
}

fn refused(error: ExchangeError) -> End {
    match error {
        ExchangeError::Refused(said) => End::Settings(said),
        other => End::BackendDied(other.to_string()),
    }
}
