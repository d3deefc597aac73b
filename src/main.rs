//! The pgpool program: arguments, logging, runtime, signals.
//!
//! `pgpool [-q] [-v]... [-u USER] CONFIG` runs the pooler; `pgpool check CONFIG` reads the configuration, says everything that is
//! wrong with it, and ends; `pgpool convert PGBOUNCER.INI` prints it as a pgpool.toml.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{ArgAction, Parser, Subcommand};
use pgpool::config::{Config, Loaded};

use crate::cli::log;
use crate::cli::pidfile::PidFile;

mod cli;

/// A PostgreSQL connection pooler.
#[derive(Debug, Parser)]
#[command(name = "pgpool", version, disable_version_flag = true, args_conflicts_with_subcommands = true)]
struct Arguments {
    /// Log warnings and errors only.
    #[arg(short, long)]
    quiet: bool,
    /// Log more; may be given several times.
    #[arg(short, long, action = ArgAction::Count)]
    verbose: u8,
    /// The system user to become instead of root; goes before the setting `user`.
    #[arg(short, long, value_name = "USER")]
    user: Option<String>,
    /// Print the version and exit.
    #[arg(short = 'V', long)]
    version: bool,
    /// The configuration file.
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read the configuration, say everything that is wrong with it, and exit.
    Check {
        /// The configuration file.
        config: PathBuf,
        /// Also say what it changes for a process that runs with this file, at a reload and at a restart.
        #[arg(long, value_name = "RUNNING")]
        against: Option<PathBuf>,
    },
    /// Print a pgbouncer.ini as a pgpool.toml, and to standard error what became of each setting.
    Convert {
        /// The configuration file of PgBouncer.
        config: PathBuf,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.version {
        return print(&format!("pgpool {}\n", env!("CARGO_PKG_VERSION")));
    }
    match (&arguments.command, &arguments.config) {
        (Some(Command::Check { config, against }), _) => match cli::check::check(config, against.as_deref()) {
            Ok(text) => print(&text),
            Err(problems) => fail(&problems),
        },
        (Some(Command::Convert { config }), _) => convert(config),
        (None, Some(config)) => run(config, &arguments),
        (None, None) => fail("pgpool: no configuration file was named; try `pgpool --help`"),
    }
}

fn convert(path: &Path) -> ExitCode {
    match Config::convert(path) {
        Ok(conversion) => {
            let warnings = conversion.warnings.iter().map(|warning| format!("warning: {warning}\n"));
            let text: String = conversion.report.iter().map(|line| format!("{line}\n")).chain(warnings).collect();
            // Without a standard error there is nobody to tell.
            let _ = std::io::stderr().write_all(text.as_bytes());
            print(&conversion.toml)
        }
        Err(problems) => fail(&problems.to_string()),
    }
}

fn run(path: &Path, arguments: &Arguments) -> ExitCode {
    let Loaded { config, warnings } = match Config::load(path) {
        Ok(loaded) => loaded,
        Err(problems) => return fail(&problems.to_string()),
    };
    if let Err(error) = pgpool::proxy::assume_identity(arguments.user.as_deref().unwrap_or(&config.general.user)) {
        return fail(&format!("pgpool: {error}"));
    }
    if let Err(error) = log::begin(&config, arguments.quiet, arguments.verbose) {
        return fail(&format!("pgpool: {error}"));
    }
    let pidfile = match config.general.pidfile.as_ref().map(|path| PidFile::write(&config.beside(path))) {
        Some(Err(error)) => return fail(&format!("pgpool: {error}")),
        Some(Ok(file)) => Some(file),
        None => None,
    };
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    if let Err(error) = std::fs::File::open(path) {
        tracing::warn!(file = %path.display(), %error, "the configuration cannot be read again, so RELOAD will fail");
    }
    raise_descriptor_limit();
    let workers = config.general.workers();
    let mut builder = if workers == 1 {
        tokio::runtime::Builder::new_current_thread()
    } else {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(workers);
        builder
    };
    let runtime = match builder.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("pgpool: cannot start: {error}")),
    };
    let result = runtime.block_on(pgpool::proxy::run(config));
    // Sessions that did not end by themselves are not waited for.
    runtime.shutdown_background();
    drop(pidfile);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("pgpool: {error}")),
    }
}

/// A client and a backend are a descriptor each; the system's soft limit of 1024 is soon reached.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let present = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: present.maximum, maximum: present.maximum };
    if present.current != present.maximum
        && let Err(error) = setrlimit(Resource::Nofile, wanted)
    {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn fail(text: &str) -> ExitCode {
    // Without a standard error there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "{text}");
    ExitCode::FAILURE
}
