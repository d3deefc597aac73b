//! `pgpool CONFIG`: everything around the pooler, from reading the file to the end.

use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use pgpool::config::{Config, Loaded};
use pgpool::net::BOUNCER;
use pgpool::proxy::{News, Surroundings, assume_identity, run_in};
use tokio::runtime;

use super::daemon;
use super::log::{self, Log};
use super::pidfile::PidFile;
use super::systemd::{self, Notify};
use crate::Arguments;

/// Runs the pooler with the file at `path` until it ends.
///
/// # Errors
/// Why it could not start, for whoever started it.
pub(crate) fn run(path: &Path, arguments: &Arguments) -> Result<ExitCode, String> {
    let Loaded { config, warnings } = Config::load(path).map_err(|problems| problems.to_string())?;
    if arguments.daemon && config.general.pidfile.is_none() {
        return Err(format!("pgpool: -d needs the setting `pidfile` in {}, to find the process again", path.display()));
    }
    if arguments.daemon && !arguments.detached {
        return daemon::detach().map_err(|error| format!("pgpool: cannot start in the background: {error}"));
    }
    if arguments.detached {
        daemon::leave_terminal().map_err(|error| format!("pgpool: cannot leave the terminal: {error}"))?;
    }
    let told = |error: &dyn std::fmt::Display| format!("pgpool: {error}");
    assume_identity(arguments.user.as_deref().unwrap_or(&config.general.user)).map_err(|error| told(&error))?;
    let log = log::begin(&config, arguments.quiet, arguments.verbose).map_err(|error| told(&error))?;
    let pidfile = Arc::new(Mutex::new(None));
    // A process that takes over writes it when it has.
    if !arguments.reboot {
        *pidfile.lock().unwrap_or_else(PoisonError::into_inner) = write_pidfile(&config, None)?;
    }
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    if arguments.detached && config.general.logfile.is_none() && !config.general.syslog {
        tracing::warn!("neither logfile nor syslog is set: in the background nothing is logged");
    }
    if let Err(error) = std::fs::File::open(path) {
        tracing::warn!(file = %path.display(), %error, "the configuration cannot be read again, so RELOAD will fail");
    }
    raise_descriptor_limit(&config);
    let sockets = systemd::sockets().map_err(|error| format!("pgpool: a socket of LISTEN_FDS is unfit: {error}"))?;
    let log_counts = log.counts();
    let around = Around { config: config.clone(), log, pidfile: Arc::clone(&pidfile), detached: arguments.detached };
    let notify = Notify::from_environment();
    let herald = move |news: News| {
        around.hear(&news);
        if let Some(notify) = &notify {
            notify.tell(&news);
        }
    };
    let surroundings =
        Surroundings { take_over: arguments.reboot, sockets, herald: Some(Box::new(herald)), log_counts };
    let runtime = runtime(config.general.workers()).map_err(|error| format!("pgpool: cannot start: {error}"))?;
    let result = runtime.block_on(run_in(config, surroundings));
    // Sessions that did not end by themselves are not waited for.
    runtime.shutdown_background();
    drop(pidfile.lock().unwrap_or_else(PoisonError::into_inner).take());
    result.map(|()| ExitCode::SUCCESS).map_err(|error| told(&error))
}

/// What the program does about what happens to the process.
struct Around {
    config: Config,
    log: Log,
    pidfile: Arc<Mutex<Option<PidFile>>>,
    detached: bool,
}

impl Around {
    fn hear(&self, news: &News) {
        match news {
            News::Ready(predecessor) => {
                let mut pidfile = self.pidfile.lock().unwrap_or_else(PoisonError::into_inner);
                if pidfile.is_none() {
                    match write_pidfile(&self.config, *predecessor) {
                        Ok(written) => *pidfile = written,
                        Err(error) => tracing::error!("{error}"),
                    }
                }
                if self.detached
                    && let Err(error) = daemon::serves()
                {
                    tracing::error!(%error, "cannot tell the process in the foreground that this one serves");
                }
            }
            News::Reloading => self.log.reopen(),
            News::Configured(config) => self.log.follow(config),
            News::Reloaded | News::Ending | News::Status(_) => {}
        }
    }
}

fn write_pidfile(config: &Config, predecessor: Option<u32>) -> Result<Option<PidFile>, String> {
    let path = config.general.pidfile.as_ref().map(|path| config.beside(path));
    let written = path.map(|path| PidFile::write(&path, predecessor)).transpose();
    written.map_err(|error| format!("pgpool: {error}"))
}

fn runtime(workers: usize) -> std::io::Result<runtime::Runtime> {
    let mut builder = if workers == 1 {
        runtime::Builder::new_current_thread()
    } else {
        let mut builder = runtime::Builder::new_multi_thread();
        builder.worker_threads(workers);
        builder
    };
    builder.enable_all().build()
}

/// A client and a backend are a descriptor each; the system's soft limit of 1024 is soon reached.
fn raise_descriptor_limit(config: &Config) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let present = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: present.maximum, maximum: present.maximum };
    if present.current != present.maximum
        && let Err(error) = setrlimit(Resource::Nofile, wanted)
    {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
    let shown = |limit: Option<u64>| limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string());
    let (limit, clients) = (getrlimit(Resource::Nofile), config.general.max_client_conn);
    let backends: u64 = config.demands().iter().filter_map(|demand| demand.known).sum();
    tracing::info!(target: BOUNCER, "kernel file descriptor limit: {} (hard: {}); max_client_conn: {clients}, max expected \
                                     fd use: {}", shown(limit.current), shown(limit.maximum), u64::from(clients) + backends);
}
