//! `pgpool CONFIG`: everything around the pooler, from reading the file to the end.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
    let place = Arc::new(Place::new(&config));
    let around = Around { log, place: Arc::clone(&place), detached: arguments.detached };
    let admission = {
        let place = Arc::clone(&place);
        move |predecessor| place.claim(predecessor)
    };
    let notify = Notify::from_environment();
    let herald = move |news: News| {
        around.hear(&news);
        if let Some(notify) = &notify {
            notify.tell(&news);
        }
    };
    let surroundings = Surroundings {
        take_over: arguments.reboot,
        sockets,
        admission: Some(Box::new(admission)),
        herald: Some(Box::new(herald)),
        log_counts,
    };
    let runtime = runtime(config.general.workers()).map_err(|error| format!("pgpool: cannot start: {error}"))?;
    let result = runtime.block_on(run_in(config, surroundings));
    // Sessions that did not end by themselves are not waited for.
    runtime.shutdown_background();
    place.leave();
    result.map(|()| ExitCode::SUCCESS).map_err(|error| told(&error))
}

/// What the program does about what happens to the process.
struct Around {
    log: Log,
    place: Arc<Place>,
    detached: bool,
}

impl Around {
    fn hear(&self, news: &News) {
        match news {
            News::Ready(predecessor) => {
                self.place.take(*predecessor);
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

/// The place that the pidfile gives to one process at a time.
struct Place {
    path: Option<PathBuf>,
    file: Mutex<Option<PidFile>>,
}

impl Place {
    fn new(config: &Config) -> Place {
        let path = config.general.pidfile.as_ref().map(|path| config.beside(path));
        Place { path, file: Mutex::new(None) }
    }

    /// Before it serves: takes the place, or sees that it will be free when `predecessor` was taken over from.
    fn claim(&self, predecessor: Option<u32>) -> Result<(), String> {
        let Some(path) = &self.path else { return Ok(()) };
        *self.lock() = PidFile::claim(path, predecessor).map_err(|error| error.to_string())?;
        Ok(())
    }

    /// When it serves.
    fn take(&self, predecessor: Option<u32>) {
        let (Some(path), mut file) = (&self.path, self.lock()) else { return };
        if file.is_none() {
            match PidFile::write(path, predecessor) {
                Ok(written) => *file = Some(written),
                Err(error) => tracing::error!("{error}"),
            }
        }
    }

    fn leave(&self) {
        drop(self.lock().take());
    }

    fn lock(&self) -> MutexGuard<'_, Option<PidFile>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
