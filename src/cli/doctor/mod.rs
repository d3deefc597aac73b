//! `pgpool doctor`: who holds PostgreSQL's connection slots, what is wrong with that, and what could be done.
//!
//! It changes nothing, but for `--terminate`. What it asks PostgreSQL is in `examine`, what it makes of the answers in
//! `findings` and `advice`, which are pure.

mod advice;
pub(super) mod examine;
pub(super) mod facts;
mod findings;
mod pooler;
mod report;
mod terminate;
pub(super) mod text;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use pgpool::config::Config;

use self::examine::{Examined, examine};
use self::facts::Facts;
use self::findings::{Bounds, findings};
use self::pooler::Pooler;
use self::report::{Looked, Report, Status};
use self::terminate::{Condition, Orders, terminate};
use super::age;
use super::dsn::Dsn;
use super::link::Way;

/// Arguments of `pgpool doctor`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The configuration of a pgpool: all its servers are looked at, and itself if it runs.
    #[arg(required_unless_present = "dsn")]
    config: Option<PathBuf>,
    /// PostgreSQL itself, as a URL or as key=value; PG* variables and ~/.pgpass add what it leaves out.
    #[arg(long, conflicts_with = "config")]
    dsn: Option<String>,
    /// Connect as this user of the configuration.
    #[arg(long, value_name = "NAME", conflicts_with = "dsn")]
    user: Option<String>,
    /// Print one JSON document instead of text.
    #[arg(long)]
    json: bool,
    /// Per cent of the slots from which it is a warning.
    #[arg(long, default_value_t = 80.0, value_name = "PERCENT")]
    warn: f64,
    /// Per cent of the slots from which it is critical.
    #[arg(long, default_value_t = 95.0, value_name = "PERCENT")]
    critical: f64,
    /// From how long on idle connections count as leaked.
    #[arg(long, default_value = "10min", value_name = "SPAN", value_parser = age::parse)]
    leak_age: Duration,
    /// From how long on a transaction that is idle, or prepared, is a warning.
    #[arg(long, default_value = "5min", value_name = "SPAN", value_parser = age::parse)]
    transaction_age: Duration,
    /// Cores of the server, for advice; known where it is this machine.
    #[arg(long)]
    cores: Option<u32>,
    /// Look again every so many seconds.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "5", conflicts_with = "terminate")]
    watch: Option<u32>,
    /// End the connections that match: idle>30min, idle-in-transaction>10min, application=NAME; may be given several times.
    #[arg(long, value_name = "CONDITION")]
    terminate: Vec<Condition>,
    /// End them without a question.
    #[arg(long, requires = "terminate")]
    yes: bool,
    /// End those of superusers, too.
    #[arg(long, requires = "terminate")]
    superusers: bool,
    /// End replication connections, too.
    #[arg(long, requires = "terminate")]
    replication: bool,
    /// End those of the pgpool that runs with the configuration, too.
    #[arg(long, requires = "terminate")]
    pooler: bool,
}

/// Runs it.
///
/// # Errors
/// It could not begin.
pub(crate) fn doctor(arguments: &Arguments) -> Result<ExitCode, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start: {error}"))?;
    runtime.block_on(Box::pin(run(arguments)))
}

async fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    loop {
        let (report, examined) = Box::pin(look(arguments)).await;
        if !arguments.terminate.is_empty() {
            return Ok(Box::pin(free(arguments, &report, examined)).await);
        }
        let text = if arguments.json { format!("{}\n", report.json()) } else { text::text(&report) };
        let mut out = std::io::stdout();
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        match arguments.watch {
            // Whoever read it has left.
            Some(_) if written.is_err() => return Ok(ExitCode::SUCCESS),
            Some(seconds) => {
                tokio::time::sleep(Duration::from_secs(u64::from(seconds.max(1)))).await;
                drop(writeln!(out));
            }
            None => return Ok(ExitCode::from(report.status().code())),
        }
    }
}

/// Looks at everything once.
async fn look(arguments: &Arguments) -> (Report, Vec<Examined>) {
    let bounds = Bounds {
        warn: arguments.warn,
        critical: arguments.critical,
        leak_age: arguments.leak_age.as_secs_f64(),
        transaction_age: arguments.transaction_age.as_secs_f64(),
    };
    let mut report = Report { servers: Vec::new(), failed: Vec::new(), full: false, pooler: None, bounds };
    let (ways, demands, config) = match places(arguments) {
        Ok(places) => places,
        Err(error) => {
            report.failed.push(error);
            return (report, Vec::new());
        }
    };
    if let Some(config) = &config {
        report.pooler = Some(Box::pin(pooler::look(config)).await.map_err(|error| error.line()));
    }
    let mut all = Vec::new();
    for (index, way) in ways.iter().enumerate() {
        match Box::pin(examine(way, arguments.cores, arguments.terminate.is_empty())).await {
            Ok(mut examined) => {
                let facts = &mut examined.facts;
                mark(facts, report.pooler.as_ref());
                facts.demand_kept = config.as_ref().is_some_and(Config::keeps_to_slots);
                if let Some((most, told)) = demands.get(index) {
                    (facts.demand, facts.demand_told) = (*most, told.clone());
                }
                let (findings, advice) = (findings(facts, &bounds), advice::advice(facts, &bounds));
                report.servers.push(Looked { facts: facts.clone(), findings, advice });
                all.push(examined);
            }
            Err(error) => {
                report.full |= error.code() == Some("53300");
                report.failed.push(text::printable(&error.line()));
            }
        }
    }
    (report, all)
}

type Places = (Vec<Way>, Vec<(Option<u64>, String)>, Option<Config>);

/// Where to look, and what the configuration may ask for there.
fn places(arguments: &Arguments) -> Result<Places, String> {
    if let Some(text) = &arguments.dsn {
        let dsn = Dsn::parse(text, |name| std::env::var(name).ok())?;
        return Ok((Way::of_dsn(&dsn).map_err(|error| error.line())?, Vec::new(), None));
    }
    let path = arguments.config.as_deref().unwrap_or(Path::new(""));
    let config = Config::load(path).map_err(|problems| problems.to_string().replace('\n', "; "))?.config;
    let (mut ways, mut told) = (Vec::new(), Vec::new());
    let processes = u64::from(config.processes());
    for demand in config.demands() {
        let way = Way::of_config(&config, &demand.host, demand.port, arguments.user.as_deref());
        ways.push(way.map_err(|error| error.line())?);
        let times = if processes > 1 { format!("\ntimes {processes} processes ([peers])") } else { String::new() };
        told.push((demand.most.or(demand.known).map(|most| most * processes), format!("{demand}{times}")));
    }
    if ways.is_empty() {
        return Err(format!("{} has no databases, so there is no server to look at", path.display()));
    }
    Ok((ways, told, Some(config)))
}

/// The names of connections that a pgpool has for itself: they tell those of any pgpool.
const OWN_NAMES: &[&str] = &["pgpool budget ", "pgpool listener", "pgpool auth_query"];

/// Marks the sessions that are the running pgpool's, as its console says, or any pgpool's by their names.
fn mark(facts: &mut Facts, pooler: Option<&Result<Pooler, String>>) {
    let shown = pooler.and_then(|pooler| pooler.as_ref().ok());
    for session in &mut facts.sessions {
        session.pooler = shown.is_some_and(|pooler| pooler.backends.contains(&session.pid))
            || OWN_NAMES.iter().any(|name| session.application.starts_with(name));
    }
}

/// `--terminate`.
async fn free(arguments: &Arguments, report: &Report, examined: Vec<Examined>) -> ExitCode {
    let orders = Orders {
        conditions: &arguments.terminate,
        superusers: arguments.superusers,
        replication: arguments.replication,
        pooler: arguments.pooler,
        yes: arguments.yes,
    };
    let mut errors: Vec<String> = report.failed.clone();
    if let Some(Err(error)) = &report.pooler {
        drop(writeln!(std::io::stdout(), "the connections of a running pgpool are not known: {error}"));
    }
    for mut examined in examined {
        if let Err(error) = Box::pin(terminate(&mut examined, &orders)).await {
            errors.push(error.line());
        }
        examined.link.close();
    }
    for error in &errors {
        drop(writeln!(std::io::stderr(), "{error}"));
    }
    if errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(Status::Unknown.code()) }
}

#[cfg(test)]
mod tests {
    use crate::cli::link::LinkError;

    #[test]
    fn an_error_of_a_query_has_one_line() {
        let error = LinkError::Said(String::from("one\ntwo"));
        assert_eq!(error.line(), "one two");
    }
}
