//! The commands that change something: PAUSE and its kin, RELOAD, SHUTDOWN, SET.
//!
//! Everything is done through the pools' own flags and the clients' interrupts; sessions are never touched. Effects,
//! refusals and tags are PgBouncer's.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::link::{Link, Pause};
use super::show::Answer;
use super::{ConsoleEnd, Context, Shutdown, is_console};
use crate::backend::Closing;
use crate::config::{Config, SetError};
use crate::net::tls::Tls;
use crate::net::{BOUNCER, OWN};
use crate::pool::{Pool, Pools, Reason, Suspended};
use crate::wire::sqlstate;
use crate::wire::write::Report;

/// How often a waiting command looks.
const LOOK: Duration = Duration::from_millis(20);

/// Why a command has no answer.
#[derive(Debug)]
pub(super) enum Stop {
    /// It failed; the session goes on.
    Failed(Box<Report>),
    /// The session ends.
    Ended(ConsoleEnd),
}

impl From<Report> for Stop {
    fn from(report: Report) -> Stop {
        Stop::Failed(Box::new(report))
    }
}

/// PgBouncer's one SQLSTATE for what the console refuses.
pub(super) fn refusal(message: impl Into<String>) -> Report {
    Report::error(sqlstate::PROTOCOL_VIOLATION, message)
}

/// The database entry that a command names: not the console, and one that a client could ask for.
fn checked<'a>(pools: &Pools, name: &'a str, verb: &str) -> Result<&'a str, Report> {
    if is_console(name) {
        return Err(refusal(format!("cannot {verb} admin db: {name}")));
    }
    if (name == "*" || pools.config.load().database(name).is_none()) && pools.of_database(name).is_empty() {
        return Err(refusal(format!("no such database: {name}")));
    }
    Ok(name)
}

/// The pools of a database, or all.
fn chosen(pools: &Pools, database: Option<&str>) -> Vec<Arc<Pool>> {
    database.map_or_else(|| pools.all(), |name| pools.of_database(name))
}

fn log(command: &str, database: Option<&str>) {
    tracing::info!(target: OWN, command, database, "console command issued");
}

/// The same in PgBouncer's words, who says so before it looks whether there is such a database.
fn say(command: &str, database: Option<&str>) {
    match database {
        Some(name) => tracing::info!(target: BOUNCER, "{command} '{name}' command issued"),
        None => tracing::info!(target: BOUNCER, "{command} command issued"),
    }
}

/// PAUSE: answers when no backend is left.
pub(super) async fn pause(context: &Context, link: &mut Link<'_>, database: Option<&str>) -> Result<Answer, Stop> {
    let pools = &context.pools;
    if pools.all_paused() || pools.is_suspended() {
        return Err(refusal("already suspended/paused").into());
    }
    say("PAUSE", database);
    if let Some(name) = database {
        checked(pools, name, "pause")?;
    }
    log("PAUSE", database);
    pools.set_paused(database, true);
    let still = || database.map_or_else(|| pools.all_paused(), |name| pools.database_paused(name));
    let left = || chosen(pools, database).iter().any(|pool| pool.counts().total > 0);
    while left() {
        if !still() {
            return Err(refusal("PAUSE was undone by RESUME before it was complete").into());
        }
        match link.pause(LOOK).await {
            Pause::Over => {}
            Pause::Canceled => {
                pools.set_paused(database, false);
                return Err(canceled().into());
            }
            // As PgBouncer does: what a console commanded outlives it.
            Pause::Ended(end) => return Err(Stop::Ended(end)),
        }
    }
    Ok(Answer::tag("PAUSE"))
}

/// SUSPEND: answers when nothing moves any more. It lasts until RESUME, or until the session ends that commanded it.
pub(super) async fn suspend(
    context: &Context,
    link: &mut Link<'_>,
    kept: &mut Option<Suspended>,
) -> Result<Answer, Stop> {
    let pools = &context.pools;
    if pools.all_paused() {
        return Err(refusal("already suspended/paused").into());
    }
    if pools.any_paused() {
        return Err(refusal("cannot suspend with paused databases").into());
    }
    let suspended = kept.insert(pools.suspend().ok_or_else(|| refusal("already suspended/paused"))?);
    log("SUSPEND", None);
    say("SUSPEND", None);
    let begun = Instant::now();
    loop {
        let moving = suspended.moving();
        if !suspended.lasts() {
            return Err(refusal("SUSPEND was undone by RESUME before it was complete").into());
        }
        if moving.is_empty() {
            return Ok(Answer::tag("SUSPEND"));
        }
        let limit = pools.config.load().general.suspend_timeout;
        if !limit.is_zero() && begun.elapsed() > limit {
            moving.iter().for_each(|client| client.interrupt.raise(Reason::SuspendTimeout));
        }
        match link.pause(LOOK).await {
            Pause::Over => {}
            Pause::Canceled => {
                *kept = None;
                return Err(canceled().into());
            }
            Pause::Ended(end) => return Err(Stop::Ended(end)),
        }
    }
}

fn canceled() -> Report {
    Report::error(sqlstate::QUERY_CANCELED, "canceling statement due to user request")
}

/// RESUME.
pub(super) fn resume(context: &Context, database: Option<&str>) -> Result<Answer, Report> {
    let pools = &context.pools;
    say("RESUME", database);
    let stands = pools.all_paused() || pools.is_suspended();
    // Who still has clients lets them go on.
    let too_late = |how: Shutdown| how.forbids_resume() || (!stands && how != Shutdown::TakenOver);
    match database {
        None if context.control.ending().is_some_and(too_late) => return Err(refusal("pooler is shutting down")),
        None if pools.go_on() => {
            log("RESUME", None);
            return Ok(Answer::tag("RESUME"));
        }
        None if !pools.all_paused() => {
            let paused = pools.all().iter().any(|pool| pool.paused());
            let report = refusal("pooler is not paused/suspended");
            return Err(if paused { report.hint("A single database is resumed by RESUME db.") } else { report });
        }
        None => {}
        Some(name) if is_console(name) => return Err(refusal(format!("database {name} is not paused"))),
        Some(name) if pools.database_paused(name) => {}
        Some(name) => {
            checked(pools, name, "resume")?;
            return Err(refusal(format!("database {name} is not paused")));
        }
    }
    log("RESUME", database);
    pools.set_paused(database, false);
    Ok(Answer::tag("RESUME"))
}

/// DISABLE and ENABLE.
pub(super) fn disable(context: &Context, database: Option<&str>, disabled: bool) -> Result<Answer, Report> {
    let (tag, verb) = if disabled { ("DISABLE", "disable") } else { ("ENABLE", "enable") };
    let Some(name) = database else { return Err(refusal("a database is required")) };
    say(tag, database);
    let undone = !disabled && context.pools.is_disabled(name);
    let name = if undone { name } else { checked(&context.pools, name, verb)? };
    log(tag, database);
    context.pools.set_disabled(name, disabled);
    Ok(Answer::tag(tag))
}

/// RECONNECT.
pub(super) fn reconnect(context: &Context, database: Option<&str>) -> Result<Answer, Report> {
    say("RECONNECT", database);
    if let Some(name) = database {
        checked(&context.pools, name, "reconnect")?;
    }
    log("RECONNECT", database);
    for pool in chosen(&context.pools, database) {
        pool.reconnect();
    }
    context.pools.lookups.reconnect(database);
    Ok(Answer::tag("RECONNECT"))
}

/// WAIT_CLOSE: answers when no backend is left that a RECONNECT or a changed configuration wants closed.
pub(super) async fn wait_close(context: &Context, link: &mut Link<'_>, database: Option<&str>) -> Result<Answer, Stop> {
    let pools = &context.pools;
    say("WAIT_CLOSE", database);
    if let Some(name) = database {
        if is_console(name) {
            return Err(refusal(format!("cannot wait in admin db: {name}")).into());
        }
        checked(pools, name, "wait in")?;
    }
    log("WAIT_CLOSE", database);
    let old = |pool: &Pool| pool.backends().iter().any(|record| record.close_needed());
    while chosen(pools, database).iter().any(|pool| old(pool)) {
        match link.pause(LOOK).await {
            Pause::Over => {}
            Pause::Canceled => return Err(canceled().into()),
            Pause::Ended(end) => return Err(Stop::Ended(end)),
        }
    }
    Ok(Answer::tag("WAIT_CLOSE"))
}

/// KILL: clients and backends go now, and the database stays paused.
pub(super) fn kill(context: &Context, database: Option<&str>) -> Result<Answer, Report> {
    let pools = &context.pools;
    if pools.all_paused() || pools.is_suspended() {
        return Err(refusal("already suspended/paused"));
    }
    say("KILL", database);
    if let Some(name) = database {
        checked(pools, name, "kill")?;
    }
    log("KILL", database);
    for record in chosen(pools, database).iter().flat_map(|pool| pool.backends()) {
        record.close_because(Closing::Removed);
    }
    match database {
        Some(name) => {
            pools.set_paused(Some(name), true);
        }
        // Each by itself, so that RESUME db brings one back while the others stay down.
        None => {
            let config = pools.config.load();
            let mut names: Vec<String> = config.databases.keys().cloned().collect();
            names.extend(pools.all().iter().map(|pool| pool.key.database.to_string()));
            for name in names {
                pools.set_paused(Some(&name), true);
            }
        }
    }
    // The backends of the clients below are closed with their leases; those given back in the same moment by this.
    for pool in chosen(pools, database) {
        pool.reconnect();
    }
    pools.clients.interrupt(Reason::DatabaseRemoved, |client| {
        client.pool().is_some_and(|pool| database.is_none_or(|name| &*pool.key.database == name))
    });
    Ok(Answer::tag("KILL"))
}

/// KILL_CLIENT.
pub(super) fn kill_client(context: &Context, id: Option<&str>) -> Result<Answer, Report> {
    let id = id.and_then(client_id).ok_or_else(|| refusal("invalid client pointer supplied"))?;
    let client = context.pools.clients.find(id).ok_or_else(|| refusal("client not found"))?;
    tracing::info!(id, "console command KILL_CLIENT issued");
    client.interrupt.raise(Reason::Killed);
    Ok(Answer::tag("KILL_CLIENT"))
}

/// The id of a client, as SHOW CLIENTS has it in `id` or in `ptr`.
fn client_id(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// RELOAD.
pub(super) async fn reload(context: &Context) -> Result<Answer, Report> {
    log("RELOAD", None);
    say("RELOAD", None);
    match context.control.reload().await {
        Ok(()) => Ok(Answer::tag("RELOAD")),
        Err(problems) => {
            let report = Report::error(sqlstate::CONFIG_FILE_ERROR, "RELOAD failed, nothing was changed");
            Err(report.detail(problems))
        }
    }
}

/// SHUTDOWN.
pub(super) async fn shutdown(context: &Context, link: &mut Link<'_>, how: Shutdown) -> Result<Answer, Stop> {
    tracing::info!(target: OWN, ?how, "console command SHUTDOWN issued");
    let mode = match how {
        Shutdown::WaitForServers => " WAIT_FOR_SERVERS",
        Shutdown::WaitForClients => " WAIT_FOR_CLIENTS",
        Shutdown::Drain => " DRAIN",
        Shutdown::Now | Shutdown::TakenOver => "",
    };
    tracing::info!(target: BOUNCER, "SHUTDOWN{mode} command issued");
    context.control.shutdown(how);
    match how {
        Shutdown::WaitForServers | Shutdown::WaitForClients | Shutdown::Drain | Shutdown::TakenOver => {
            Ok(Answer::tag("SHUTDOWN"))
        }
        // No answer: scripts take the end of the connection for that of the process.
        Shutdown::Now => match link.stay().await {
            ConsoleEnd::Interrupted(_) => Err(Stop::Ended(ConsoleEnd::Shutdown)),
            end => Err(Stop::Ended(end)),
        },
    }
}

/// SET, until the next RELOAD.
pub(super) fn set(context: &Context, name: &str, value: &str) -> Result<Answer, Report> {
    let pools = &context.pools;
    let _configuring = pools.configuring.lock().unwrap_or_else(PoisonError::into_inner);
    let mut config = Config::clone(&pools.config.load());
    let mut tag = format!("SET {name}={value}");
    // A tag that is too long for its message would be none.
    tag.truncate(tag.floor_char_boundary(200));
    match config.general.set(name, value) {
        Ok(()) => {}
        // PgBouncer answers as if it had been done.
        Err(error @ SetError::Boot(_)) => {
            let warning = Report::new("WARNING", sqlstate::WARNING, error.to_string())
                .detail("Nothing was changed.")
                .hint("Write it into the configuration file and restart.");
            return Ok(Answer::notice(warning, &tag));
        }
        Err(error) => return Err(refusal(error.to_string()).hint("SHOW CONFIG lists all.")),
    }
    const OF_ACCESS: [&str; 6] =
        ["auth_type", "auth_hba_file", "auth_ident_file", "auth_ldap_options", "auth_user", "auth_dbname"];
    if OF_ACCESS.contains(&name) {
        config.read_access().map_err(|problems| refusal(format!("`{name}`: {problems}")))?;
    }
    config.check_again().map_err(|problems| refusal(format!("`{name}`: {problems}")))?;
    let tls = Tls::load(&config, Some(&pools.tls.load())).map_err(|error| refusal(error.to_string()))?;
    tracing::info!(setting = name, "console command SET issued");
    pools.tls.store(Arc::new(tls));
    pools.put_in_force(config);
    context.control.configured();
    match Config::why_idle(name) {
        Some(why) => {
            let message = format!("`{name}` of PgBouncer has no effect");
            Ok(Answer::notice(Report::new("WARNING", sqlstate::WARNING, message).detail(why), &tag))
        }
        None => Ok(Answer::tag(tag)),
    }
}
