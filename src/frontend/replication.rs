//! The login of a client that wants to replicate: it gets a backend of its own before it is told that it may begin.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BytesMut;

use super::settings::wanted;
use super::{Admitted, Gate, Newcomer, Rejected, announce, encode, key_data};
use crate::backend::ConnectError;
use crate::config::{Config, PoolMode};
use crate::net::Stream;
use crate::pool::{Listed, NoDedicated, Waiting, Wanted, facts, reason_report};
use crate::wire::sqlstate;
use crate::wire::write::{Report, parameter_status, ready_idle};

/// Opens the backend and tells the client what it is.
pub(super) async fn begin(
    gate: &Gate,
    config: &Config,
    stream: &mut Stream,
    client: Listed,
    newcomer: Newcomer,
) -> Result<Admitted, Rejected> {
    let Newcomer { startup, proof, early } = newcomer;
    let record = Arc::clone(client.record());
    let Some(pool) = record.pool() else { return Err(Rejected::Internal("no pool")) };
    let settings = wanted(&startup, &config.general).cloned().collect();
    let wanted = Wanted { replication: startup.replication, settings };
    let dedicated = match Box::pin(pool.dedicate(&gate.pools, &record, Login(stream), wanted)).await {
        Ok(dedicated) => dedicated,
        Err(NoDedicated::Gone) => return Err(Rejected::Left),
        Err(NoDedicated::Interrupted(reason)) => {
            let report = reason_report(reason);
            let mut report = report.unwrap_or_else(|| Report::fatal(sqlstate::CONNECTION_FAILURE, "login interrupted"));
            if report.detail.is_empty() {
                report.detail = facts(&gate.pools, &pool, &record);
            }
            return Err(Rejected::Told(report));
        }
        Err(NoDedicated::Failed(ConnectError::Refused(said))) => {
            let report = Report::new("FATAL", said.code.clone(), said.message.clone());
            return Err(Rejected::Told(report.detail(said.detail.clone()).hint(said.hint.clone())));
        }
        Err(NoDedicated::Failed(error)) => {
            let report = Report::fatal(sqlstate::CONNECTION_FAILURE, "server login failed");
            return Err(Rejected::Told(
                report.detail(format!("A connection for replication cannot be opened: {error}.")),
            ));
        }
    };
    let mut out = BytesMut::new();
    proof.welcome(&mut out)?;
    let reported = &dedicated.backend.state.reported;
    let mut raw = Vec::new();
    for (name, value) in reported.iter() {
        parameter_status(&mut raw, name, value);
    }
    out.extend_from_slice(&raw);
    announce(PoolMode::Session, config, &mut out)?;
    encode(&key_data(&record), &mut out)?;
    let mut ready = Vec::new();
    ready_idle(&mut ready);
    out.extend_from_slice(&ready);
    stream.write_all(&out).await?;
    record.publish(reported);
    let now = gate.pools.shared.clock.now();
    record.admit(now);
    crate::metrics::add(&pool.counters.client_login_count, 1);
    gate.pools.shared.events.logged_in(now.saturating_sub(record.identity.connected));
    Ok(Admitted::Replication { client, dedicated: Box::new(dedicated), early })
}

/// The client's side of a wait during its login.
struct Login<'a>(&'a mut Stream);

impl Waiting for Login<'_> {
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll_closed(cx)
    }

    fn notify(&mut self) {}
}
