//! A backend at one of several hosts: each is tried until one gives a connection.
//!
//! All of them together have `server_connect_timeout`, each its share of what is left, so that one that swallows packets
//! leaves time for the others. Nothing here tries again.

use std::io;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::connect::log_in;
use super::fit::Nature;
use super::route::Against;
use super::{Backend, ConnectError, Identity, Interner, Spec};
use crate::config::SessionAttrs;
use crate::net::{BOUNCER, Clock, Endpoint, Micros, Party, Side, Target};
use crate::wire::startup::Replication;

/// Most time for what did not work a moment ago, where there is something else to try.
const SHORT: Duration = Duration::from_secs(1);

/// Opens a backend and brings it to its first idle ReadyForQuery.
///
/// Cancel safety: safe; the half-open connection is closed.
///
/// # Errors
/// [`ConnectError`] of the last host that was tried; one that may pass goes before one that will not.
pub async fn connect(spec: &Spec, who: Identity, interner: &Interner, clock: &Clock) -> Result<Backend, ConnectError> {
    let backend = somewhere(spec, who, interner, clock).await?;
    if spec.replication == Replication::None {
        spec.route.said.hear(&backend.state.reported);
    }
    Ok(backend)
}

async fn somewhere(spec: &Spec, who: Identity, interner: &Interner, clock: &Clock) -> Result<Backend, ConnectError> {
    let mut dial = Dial { spec, who, interner, clock, error: None, spare: None };
    let order = spec.route.order(clock.now());
    let (count, end) = (order.len(), Instant::now() + spec.timeout);
    for (place, (host, against)) in order.into_iter().enumerate() {
        if dial.spare.is_some() && against == Some(Against::Failed) {
            break;
        }
        let share = share(end, count - place, against, count > 1);
        match dial.host(host, share).await {
            Ok(backend) => {
                if let Some(spare) = dial.spare.take() {
                    spare.terminate();
                }
                return Ok(backend);
            }
            Err(error) => dial.failed(host, error, count > 1),
        }
    }
    match (dial.spare, dial.error) {
        (Some(backend), _) => {
            backend.record.set_spare(true);
            Ok(backend)
        }
        (None, error) => Err(error.unwrap_or(ConnectError::Timeout)),
    }
}

/// How long one of `left` may take.
fn share(end: Instant, left: usize, against: Option<Against>, others: bool) -> Duration {
    let share = end.saturating_duration_since(Instant::now()) / u32::try_from(left).unwrap_or(u32::MAX).max(1);
    if others && against == Some(Against::Failed) { share.min(SHORT) } else { share }
}

struct Dial<'a> {
    spec: &'a Spec,
    who: Identity,
    interner: &'a Interner,
    clock: &'a Clock,
    error: Option<ConnectError>,
    /// With `prefer-standby` one to a server that is none.
    spare: Option<Backend>,
}

impl Dial<'_> {
    /// Tries one host, at each of its addresses.
    async fn host(&mut self, host: usize, limit: Duration) -> Result<Backend, ConnectError> {
        let route = &self.spec.route;
        let end = Instant::now() + limit;
        let target = route.targets().get(host).ok_or(ConnectError::Timeout)?;
        let endpoints = match target {
            Target::Unix { path, port } => vec![Endpoint::Unix { path: path.clone(), port: *port }],
            Target::Tcp { host, port } => {
                let addresses =
                    timeout(limit, self.spec.names.addresses(host, *port, self.spec.lifetimes, self.clock.now()));
                let addresses = addresses.await.map_err(|_| ConnectError::Timeout)?.map_err(ConnectError::Lookup)?;
                addresses.into_iter().map(Endpoint::Tcp).collect()
            }
        };
        let endpoints = route.arrange(endpoints, self.clock.now());
        route.looked();
        let count = endpoints.len();
        let mut last = ConnectError::Lookup(io::Error::new(io::ErrorKind::NotFound, "name has no address"));
        for (place, (endpoint, against)) in endpoints.into_iter().enumerate() {
            let (share, begun) = (share(end, count - place, against, count > 1), Instant::now());
            let attempt = self.address(target, &endpoint);
            match timeout(share, attempt).await.unwrap_or(Err(ConnectError::Timeout)) {
                Ok((backend, None)) => {
                    route.went_well(host, &endpoint);
                    return Ok(backend);
                }
                Ok((backend, Some(misfit))) => {
                    last = ConnectError::Misfit(misfit);
                    if route.wanted == SessionAttrs::PreferStandby {
                        self.spare.get_or_insert(backend);
                    } else {
                        self.say_closed(Some(&endpoint), begun, &last);
                        backend.terminate();
                    }
                }
                Err(error) => {
                    self.say_closed(Some(&endpoint), begun, &error);
                    last = error;
                }
            }
            let (against, until) = self.mark(&last);
            route.went_wrong_at(&endpoint, against, self.clock.now(), until);
        }
        Err(last)
    }

    /// Says in PgBouncer's words why there is no connection to this address, or no more.
    fn say_closed(&self, endpoint: Option<&Endpoint>, begun: Instant, why: &ConnectError) {
        if let ConnectError::Refused(said) = why {
            tracing::warn!(target: BOUNCER, "server login failed: {} {}", said.severity, said.message);
        }
        if self.spec.log_disconnections {
            let Identity { id, database, user } = &self.who;
            let (database, user) = (Some(&**database), Some(&**user));
            let party = Party { side: Side::Backend, id: *id, database, user, endpoint, process: 0 };
            let age = begun.elapsed().as_secs();
            tracing::info!(target: BOUNCER, "{party} closing because: {} (age={age}s)", why.words());
        }
    }

    /// A backend at this address, and what is wrong with its server.
    async fn address(
        &self,
        target: &Target,
        endpoint: &Endpoint,
    ) -> Result<(Backend, Option<&'static str>), ConnectError> {
        let mut backend = log_in(self.spec, target, endpoint, self.who.clone(), (self.interner, self.clock)).await?;
        let wanted = self.spec.route.wanted;
        if wanted == SessionAttrs::Any {
            return Ok((backend, None));
        }
        let nature = Nature::of(&mut backend, self.interner).await?;
        Ok((backend, nature.misfit(wanted)))
    }

    /// Notes what went wrong with a host.
    fn failed(&mut self, host: usize, error: ConnectError, others: bool) {
        if let (ConnectError::Lookup(why), Some(Target::Tcp { host: name, .. })) =
            (&error, self.spec.route.targets().get(host))
        {
            tracing::warn!(target: BOUNCER, "DNS lookup failed: {name}: {why}");
            self.say_closed(None, Instant::now(), &error);
        }
        let (against, until) = self.mark(&error);
        if self.spec.route.went_wrong(host, against, until) && others {
            let target = self.spec.route.targets().get(host).map(ToString::to_string);
            tracing::warn!(database = %self.who.database, user = %self.who.user, target, %error,
                           "no connection to this host, trying the others");
        }
        if self.error.as_ref().is_none_or(|before| error.may_pass() || !before.may_pass()) {
            self.error = Some(error);
        }
    }

    fn mark(&self, error: &ConnectError) -> (Against, Micros) {
        let against = if matches!(error, ConnectError::Misfit(_)) { Against::Misfit } else { Against::Failed };
        let rest = Micros::try_from(self.spec.retry.as_micros()).unwrap_or(Micros::MAX);
        (against, self.clock.now().saturating_add(rest))
    }
}
