//! The pgpool program: its arguments.
//!
//! `pgpool [-d] [-R] [-q] [-v]... [-u USER] CONFIG` runs the pooler; `pgpool check CONFIG` reads the configuration, says everything that is
//! wrong with it, and ends; `pgpool convert PGBOUNCER.INI` prints it as a pgpool.toml; `pgpool doctor` looks at PostgreSQL.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{ArgAction, Parser, Subcommand};
use pgpool::config::Config;

mod cli;

/// A PostgreSQL connection pooler.
#[derive(Debug, Parser)]
#[command(name = "pgpool", version, disable_version_flag = true, args_conflicts_with_subcommands = true)]
struct Arguments {
    /// Run in the background; needs `pidfile`.
    #[arg(short, long)]
    daemon: bool,
    /// This process is the one in the background.
    #[arg(long, hide = true)]
    detached: bool,
    /// Take over from the process that runs, which goes on serving the clients that it has.
    #[arg(short = 'R', long)]
    reboot: bool,
    /// Do not log to standard error.
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
        /// Also ask the servers how many connections they take, and say whether the configuration may want more.
        #[arg(long)]
        connect: bool,
    },
    /// Say who holds PostgreSQL's connection slots, what is wrong with that and what could be done; exits with 0 (fine), 1
    /// (warning), 2 (critical) or 3 (unknown), as Nagios has it.
    Doctor(Box<cli::doctor::Arguments>),
    /// Show the console of a running pgpool as a screen that is drawn again and again, with keys for its commands.
    Top(cli::top::Arguments),
    /// Print a pgpool.toml that fits a PostgreSQL server: its databases, its roles, sizes within its slots.
    Init(cli::init::Arguments),
    /// Print a pgbouncer.ini as a pgpool.toml, and to standard error what became of each setting.
    Convert {
        /// The configuration file of PgBouncer.
        config: PathBuf,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.version {
        return print(&format!("{}\n", pgpool::admin::VERSION));
    }
    match (&arguments.command, &arguments.config) {
        (Some(Command::Check { config, against, connect }), _) => {
            match cli::check::check(config, against.as_deref(), *connect) {
                Ok(text) => print(&text),
                Err(problems) => fail(&problems),
            }
        }
        (Some(Command::Convert { config }), _) => convert(config),
        (Some(Command::Init(arguments)), _) => match cli::init::init(arguments) {
            Ok(text) => print(&text),
            Err(error) => fail(&format!("pgpool: {error}")),
        },
        (Some(Command::Top(arguments)), _) => {
            cli::top::top(arguments).unwrap_or_else(|error| fail(&format!("pgpool: {error}")))
        }
        (Some(Command::Doctor(arguments)), _) => cli::doctor::doctor(arguments).unwrap_or_else(|error| fail(&error)),
        (None, Some(config)) => match cli::run::run(config, &arguments) {
            Ok(code) => code,
            Err(error) => fail(&error),
        },
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
