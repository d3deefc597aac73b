//! The settings that a session starts with: PostgreSQL's own, and what the client's startup packet asks for.
//!
//! What a startup packet may ask for and what comes of it is PostgreSQL's to say: the first client with a set of
//! settings has them tried on a backend, the next ones take what came of that. An `application_name` needs no trial.

use std::sync::Arc;
use std::task::{Context, Poll};

use super::{Gate, Rejected};
use crate::backend::{ExchangeError, State, assignments, difference};
use crate::config::{Config, General};
use crate::net::Stream;
use crate::pool::{Lease, Listed, Pool, Reason, WaitEnd, Waiting, advice, facts, failure_report, reason_report};
use crate::wire::sqlstate;
use crate::wire::startup::Startup;
use crate::wire::view::Diagnostic;
use crate::wire::write::Report;

/// Longest `application_name` that PostgreSQL keeps, bytes.
const NAME: usize = 63;

/// A login that has come as far as its pool.
struct Arrival<'a> {
    gate: &'a Gate,
    pool: &'a Arc<Pool>,
    client: &'a Listed,
    stream: &'a mut Stream,
}

/// The settings of a new session. Waits for a backend where PostgreSQL has to be asked.
pub(super) async fn first_settings(
    gate: &Gate,
    config: &Config,
    stream: &mut Stream,
    client: &Listed,
    startup: &Startup,
) -> Result<State, Rejected> {
    let Some(pool) = client.record().pool() else { return Err(Rejected::Internal("no pool")) };
    let mut name = None;
    let host = config.general.application_name_add_host.then(|| client.record().identity.peer.to_string());
    let mut rest = Vec::new();
    for (key, value) in wanted(startup, &config.general) {
        let key = key.to_ascii_lowercase();
        if key == "application_name" && value.len() <= NAME && value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            name = Some(value.clone());
        } else if let ("application_name", Some(_)) = (key.as_str(), &host) {
            name = Some(printable(value));
        } else {
            rest.push((key, value.clone()));
        }
    }
    if let Some(host) = host {
        name = Some(with_host(name.as_deref().unwrap_or("app"), &host));
    }
    Box::pin(pool.look_for_newcomer()).await;
    let known = if rest.is_empty() { pool.welcome() } else { pool.accepted(&rest) };
    let mut state = match known {
        Some(state) => state,
        None => Box::pin(ask(Arrival { gate, pool: &pool, client, stream }, rest)).await?,
    };
    if let Some(name) = name.filter(|_| state.reported.value("application_name").is_some()) {
        state.reported = pool.shared.interner.with(&state.reported, "application_name", name.as_bytes());
    }
    Ok(state)
}

/// What PgBouncer takes out of `options` where it is told to ignore `options`: what PostgreSQL reports and may be set.
const TAKEN: [&str; 7] = [
    "application_name",
    "client_encoding",
    "datestyle",
    "default_transaction_read_only",
    "intervalstyle",
    "standard_conforming_strings",
    "timezone",
];

/// The settings of a startup packet, without those that `ignore_startup_parameters` names. Where that names `options`,
/// what PgBouncer does not follow is dropped from `options`; `track_extra_parameters` says what else it does.
pub(super) fn wanted<'a>(
    startup: &'a Startup,
    general: &'a General,
) -> impl Iterator<Item = &'a (String, String)> + use<'a> {
    let named = |names: &[String], name: &str| names.iter().any(|other| other.eq_ignore_ascii_case(name));
    let ignored = &general.ignore_startup_parameters;
    let reduced = named(ignored, "options");
    startup.settings.iter().enumerate().filter_map(move |(at, setting)| {
        let name = &setting.0;
        let taken = || {
            TAKEN.iter().any(|taken| taken.eq_ignore_ascii_case(name)) || named(&general.track_extra_parameters, name)
        };
        let dropped = named(ignored, name) || (reduced && at < startup.of_options && !taken());
        (!dropped).then_some(setting)
    })
}

/// `name - host`, of no more bytes than PostgreSQL keeps: the name is cut, not the host.
fn with_host(name: &str, host: &str) -> String {
    const BETWEEN: &str = " - ";
    let room = NAME.saturating_sub(host.len() + BETWEEN.len());
    let name: String = name.chars().take(room).collect();
    format!("{name}{BETWEEN}{host}").chars().take(NAME).collect()
}

/// What PostgreSQL makes of an `application_name`: only the characters of ASCII that can be printed.
fn printable(name: &str) -> String {
    let kept = |c: char| if (' '..='~').contains(&c) { c } else { '?' };
    name.chars().map(kept).collect()
}

/// Asks PostgreSQL what it makes of these settings.
async fn ask(mut arrival: Arrival<'_>, settings: Vec<(String, String)>) -> Result<State, Rejected> {
    let pool = Arc::clone(arrival.pool);
    let mut lease = lend(&mut arrival).await?;
    let limit = pool.settings.load().spec.timeout;
    let Some(welcome) = pool.welcome() else { return Err(Rejected::Internal("no welcome")) };
    let back = difference(&lease.backend().state, &welcome).sql;
    if !back.is_empty() {
        lease.query_bytes(&back, limit).await.map_err(|error| broken(&error))?;
        lease.forget_settings(true);
    }
    if settings.is_empty() {
        lease.release();
        return Ok(welcome);
    }
    let pairs = || settings.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    match lease.query_bytes(&assignments(pairs()), limit).await {
        Ok(()) => {}
        Err(ExchangeError::Refused(said)) => {
            // Nothing was changed: the statements are one transaction.
            lease.release();
            return Err(refused(&said));
        }
        Err(error) => return Err(broken(&error)),
    }
    let interner = &pool.shared.interner;
    let reported = lease.backend().state.reported.clone();
    let extra = interner.collect(pairs().filter(|(name, _)| reported.value(name).is_none()));
    let state = State { reported, extra };
    lease.backend_mut().state = state.clone();
    lease.release();
    pool.accept(settings, state.clone());
    Ok(state)
}

async fn lend(arrival: &mut Arrival<'_>) -> Result<Lease, Rejected> {
    if let Some(lease) = arrival.pool.try_checkout(&arrival.pool.settings.load_full()) {
        return Ok(lease);
    }
    let record = arrival.client.record();
    std::future::poll_fn(|cx| {
        record.interrupt.register(cx.waker());
        Poll::Ready(())
    })
    .await;
    let ended = match arrival.pool.checkout(record, Login(arrival.stream)).await {
        Ok(lease) => return Ok(lease),
        Err(ended) => ended,
    };
    let report = match ended {
        WaitEnd::Gone => return Err(Rejected::Left),
        WaitEnd::Failed(failure) => Some(failure_report(&failure)),
        WaitEnd::Interrupted(Reason::QueryWaitTimeout) => {
            let hint = advice(&arrival.gate.pools, arrival.pool);
            reason_report(Reason::QueryWaitTimeout).map(|report| report.hint(hint))
        }
        WaitEnd::Interrupted(reason) => reason_report(reason),
    };
    let mut report = report.unwrap_or_else(|| Report::fatal(sqlstate::CONNECTION_FAILURE, "login interrupted"));
    if report.detail.is_empty() {
        report.detail = facts(&arrival.gate.pools, arrival.pool, record);
    }
    Err(Rejected::Told(report))
}

/// PostgreSQL's own words, as if the client had connected to it.
fn refused(said: &Diagnostic) -> Rejected {
    let report = Report::new("FATAL", said.code.clone(), said.message.clone());
    Rejected::Told(report.detail(said.detail.clone()).hint(said.hint.clone()))
}

fn broken(error: &ExchangeError) -> Rejected {
    let report = Report::fatal(sqlstate::CONNECTION_FAILURE, "server conn crashed?");
    Rejected::Told(report.detail(format!("The settings of the login could not be made: {error}.")))
}

/// The client's side of a wait during its login.
struct Login<'a>(&'a mut Stream);

impl Waiting for Login<'_> {
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll_closed(cx)
    }

    fn notify(&mut self) {}
}
