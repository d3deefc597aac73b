//! One accepted connection, from its first byte to its end.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use super::Proxy;
use super::cancel::cancel;
use crate::admin::{self, Shutdown};
use crate::frontend::{Admitted, Rejected, Visitor, admit, hear_out};
use crate::net::{BOUNCER, Endpoint, OWN, Stream};
use crate::pool::Listed;
use crate::session::{House, Session, replicate};
use crate::wire::startup::Replication;

/// How long a rejected client may take to accept the reason.
const PATIENCE: Duration = Duration::from_secs(2);

/// A connection that was accepted and is no client yet: the end waits for it.
pub(super) struct Arrival {
    proxy: Arc<Proxy>,
    /// It came by a socket that is open for the console alone.
    late: bool,
}

impl Arrival {
    pub(super) fn new(proxy: &Arc<Proxy>, late: bool) -> Arrival {
        proxy.arriving.fetch_add(1, SeqCst);
        Arrival { proxy: Arc::clone(proxy), late }
    }

    /// Whether it has come too late to be served. Whoever had connected when the end began is served like all others,
    /// unless that waits for no client.
    fn is_too_late(&self) -> bool {
        match self.proxy.ending_now() {
            // Whoever has taken over does not serve those that were accepted here.
            None | Some(Shutdown::TakenOver) => false,
            Some(Shutdown::WaitForClients | Shutdown::Drain) => self.late,
            Some(Shutdown::WaitForServers | Shutdown::Now) => true,
        }
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        self.proxy.arriving.fetch_sub(1, SeqCst);
    }
}

/// A listening socket that clients may still come by: the end waits until it is closed.
pub(super) struct Door(Arc<Proxy>);

impl Door {
    pub(super) fn new(proxy: &Arc<Proxy>) -> Door {
        proxy.doors.fetch_add(1, SeqCst);
        Door(Arc::clone(proxy))
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.0.doors.fetch_sub(1, SeqCst);
    }
}

/// Serves a connection until it ends.
pub(super) async fn serve(arrival: Arrival, mut stream: Stream, peer: Endpoint) {
    let proxy = Arc::clone(&arrival.proxy);
    let connected = proxy.pools.shared.clock.now();
    let entered = proxy.gate.sources.enter(&peer, &proxy.pools.config.load().general, connected);
    let id = proxy.pools.shared.next_id();
    let mut visitor = Visitor::new(id, peer, stream.peer_process().unwrap_or(0), connected);
    // Counts until the connection has ended.
    let _visit = match entered {
        Ok(visit) => visit,
        Err(rejected) => return Box::pin(turn_away(&proxy, stream, &visitor, &rejected)).await,
    };
    let ending = arrival.is_too_late();
    // On the heap, so that it costs nothing once it is over.
    let admitted = Box::pin(admit(&proxy.gate, &mut stream, &mut visitor, ending)).await;
    match admitted {
        Ok(Admitted::Session { client, state, early }) => {
            log_login(&proxy, &client);
            let house = House { pools: Arc::clone(&proxy.pools), workspaces: Arc::clone(&proxy.workspaces) };
            let session = Session::new(stream, client, state, house, &early);
            drop((proxy, arrival, visitor, early));
            if let Some(session) = session {
                session.run().await;
            }
        }
        Ok(Admitted::Replication { client, dedicated, early }) => {
            log_login(&proxy, &client);
            Box::pin(replicate(stream, client, dedicated, &early, &proxy.pools)).await;
        }
        Ok(Admitted::Admin { client, role }) => {
            let context = admin::Context {
                pools: Arc::clone(&proxy.pools),
                control: Arc::clone(&proxy) as Arc<dyn admin::Control>,
                stats: Arc::clone(&proxy.stats),
                workspaces: Arc::clone(&proxy.workspaces),
            };
            drop(arrival);
            let end = Box::pin(admin::serve(stream, client.record(), role, context)).await;
            let peer = &visitor.peer;
            tracing::info!(target: OWN, client = client.record().id, %peer, ?end, "console session ended");
        }
        Ok(Admitted::Cancel { process_id, secret }) => {
            // The client waits for the close of this connection, which must not tell whether the key was right.
            let words = Box::pin(cancel(&proxy, process_id, &secret)).await;
            let (pools, now) = (&proxy.pools, proxy.pools.shared.clock.now());
            visitor.say_cancelled(words, &pools.config.load().general, now);
        }
        Err(rejected) => Box::pin(reject(&proxy, stream, &visitor, &rejected)).await,
    }
}

fn log_login(proxy: &Proxy, client: &Listed) {
    if proxy.pools.config.load().general.log_connections {
        let identity = &client.record().identity;
        let replication = Some(identity.replication).filter(|kind| *kind != Replication::None);
        tracing::info!(target: OWN, client = client.record().id, peer = %identity.peer, user = %identity.user,
                       database = %identity.database, tls = Some(identity.tls).filter(|tls| !tls.is_empty()),
                       replication = replication.map(Replication::as_str), "login succeeded");
    }
}

/// Tells a client that is not let in at all why.
async fn turn_away(proxy: &Proxy, mut stream: Stream, visitor: &Visitor, rejected: &Rejected) {
    if let Ok(Ok(())) = tokio::time::timeout(PATIENCE, hear_out(&mut stream)).await {
        reject(proxy, stream, visitor, rejected).await;
    }
}

async fn reject(proxy: &Proxy, mut stream: Stream, visitor: &Visitor, rejected: &Rejected) {
    let general = &proxy.pools.config.load().general;
    let (peer, now) = (&visitor.peer, proxy.pools.shared.clock.now());
    visitor.say_rejected(rejected, general, now);
    match rejected {
        // What load balancers do to see whether the port is open is nothing to be logged.
        Rejected::Left | Rejected::Io(_) => tracing::debug!(%peer, reason = %rejected, "no login"),
        Rejected::Tls(error) => {
            let counts = &proxy.pools.tls_counts;
            if let Some(unsaid) = counts.note_failure(now) {
                let unsaid = Some(unsaid).filter(|count| *count > 0);
                tracing::warn!(target: OWN, %peer, reason = %error, unsaid, "TLS handshake failed");
                tracing::warn!(target: BOUNCER, unsaid, "TLS handshake error: handshake failed: {error}");
            }
        }
        _ if general.log_pooler_errors => {
            tracing::warn!(target: OWN, %peer, reason = %rejected, "client was not admitted");
        }
        _ => {}
    }
    if let Some(reason) = rejected.counted_as() {
        proxy.pools.shared.events.login_failures.count(reason);
    }
    let Some(report) = rejected.report() else { return };
    proxy.pools.shared.events.error(&report.code);
    let mut out = Vec::new();
    report.write(&mut out);
    // Whether it arrives is up to the client.
    let _ = tokio::time::timeout(PATIENCE, async {
        stream.write_all(&out).await?;
        stream.finish().await
    })
    .await;
}
