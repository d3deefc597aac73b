//! Log lines: standard error, and besides the file of `logfile` and syslog.
//!
//! Somebody may move the file away: it is looked for once a second, when there is something to write, and made anew.
//! Control characters of what clients and servers say are escaped.

use std::fmt::{self, Write as _};
use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pgpool::config::{Config, LogFormat};
use pgpool::metrics::LogCounts;
use pgpool::net::{BOUNCER, OWN};
use tracing::field::Field;
use tracing::level_filters::LevelFilter;
use tracing::{Level, Subscriber};
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::filter::{Targets, dynamic_filter_fn, filter_fn};
use tracing_subscriber::fmt::{format, layer};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, registry, reload};

use super::bouncer_line::Head;
use super::syslog::Outlet;

/// How often it is looked for whether the file is still the one of its name.
const LOOK: Duration = Duration::from_secs(1);

/// A log that has begun: its file, and how much was logged.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    file: Arc<Mutex<Option<LogFile>>>,
    counts: Arc<LogCounts>,
    syslog: Outlet,
    level: reload::Handle<Targets, Registry>,
    /// What the command line adds to the setting.
    verbose: u8,
}

impl Log {
    /// How many lines there were, to be read at any time.
    pub(crate) fn counts(&self) -> Arc<LogCounts> {
        Arc::clone(&self.counts)
    }

    /// Opens the file of that name again, whatever the one that is open is called by now.
    pub(crate) fn reopen(&self) {
        if let Some(file) = self.file.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            file.reopen();
        }
    }

    /// Goes by the settings of `config` from here on. What cannot be opened is said, and what is open goes on.
    pub(crate) fn follow(&self, config: &Config) {
        let problems = [self.follow_file(config), self.syslog.follow(&config.general)];
        for problem in problems.into_iter().filter_map(Result::err) {
            tracing::error!("{problem}");
        }
        // Fails only where nobody logs any more.
        let _ = self.level.reload(level(self.verbose, config));
    }

    fn follow_file(&self, config: &Config) -> Result<(), String> {
        let path = config.general.logfile.as_ref().map(|path| config.beside(path));
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if file.as_ref().map(|file| &file.path) != path.as_ref() {
            *file = path.map(|path| LogFile::open(&path)).transpose()?;
        }
        Ok(())
    }
}

/// What is logged: of libraries only what somebody has to look at, unless everything is wanted.
fn level(verbose: u8, config: &Config) -> Targets {
    let (own, others) = match verbose.saturating_add(config.general.verbose) {
        0 => (LevelFilter::INFO, LevelFilter::WARN),
        1 => (LevelFilter::DEBUG, LevelFilter::WARN),
        _ => (LevelFilter::TRACE, LevelFilter::DEBUG),
    };
    Targets::new().with_target("pgpool", own).with_default(others)
}

/// Begins to log: not to standard error where that is to be `quiet`, and with `verbose` more than the settings say.
///
/// # Errors
/// What is wrong with the `logfile`, or with syslog.
pub(crate) fn begin(config: &Config, quiet: bool, verbose: u8) -> Result<Log, String> {
    let path = config.general.logfile.as_ref().map(|path| config.beside(path));
    let file = path.map(|path| LogFile::open(&path)).transpose()?;
    let syslog = Outlet::default();
    syslog.follow(&config.general)?;
    // The terminal's colours are nobody else's.
    let ansi = io::stderr().is_terminal() && file.is_none() && !syslog.is_open();
    let file = Arc::new(Mutex::new(file));
    let (filter, handle) = reload::Layer::new(level(verbose, config));
    let log = Log { file: Arc::clone(&file), counts: Arc::default(), syslog: syslog.clone(), level: handle, verbose };
    let counting = Counting(log.counts());
    let lines = layer().with_writer(move || Lines { file: Arc::clone(&file), quiet }).with_target(false);
    let format = config.general.log_format;
    // Each connection is told of twice, in two sorts of words.
    let other = if format == LogFormat::PgBouncer { OWN } else { BOUNCER };
    let registry = registry().with(filter).with(filter_fn(move |event| event.target() != other)).with(counting);
    let fields = format::debug_fn(write_field).delimited(" ");
    match format {
        LogFormat::Json => registry.with(lines.json()).with(lines_to(syslog)).init(),
        LogFormat::Text => registry.with(lines.fmt_fields(fields).with_ansi(ansi)).with(lines_to(syslog)).init(),
        LogFormat::PgBouncer => {
            let lines = lines.fmt_fields(fields).with_ansi(false).event_format(Head::local());
            registry.with(lines).with(bare_lines_to(syslog)).init();
        }
    }
    Ok(log)
}

/// The lines without their time, which syslog knows; none is made while nothing goes there.
fn lines_to<S>(syslog: Outlet) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let fields = format::debug_fn(write_field).delimited(" ");
    let switch = syslog.clone();
    let lines = layer().without_time().with_ansi(false).with_target(false).fmt_fields(fields).with_writer(syslog);
    lines.with_filter(dynamic_filter_fn(move |_, _| switch.is_open()))
}

/// The same in PgBouncer's shape.
fn bare_lines_to<S>(syslog: Outlet) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let fields = format::debug_fn(write_field).delimited(" ");
    let switch = syslog.clone();
    let lines = layer().with_ansi(false).fmt_fields(fields).event_format(Head::None).with_writer(syslog);
    lines.with_filter(dynamic_filter_fn(move |_, _| switch.is_open()))
}

/// Counts what is logged.
struct Counting(Arc<LogCounts>);

impl<S: Subscriber> Layer<S> for Counting {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        self.0.0.count(match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            Level::DEBUG => "debug",
            Level::TRACE => "trace",
        });
    }
}

/// Takes whole lines.
struct Lines {
    file: Arc<Mutex<Option<LogFile>>>,
    quiet: bool,
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some(file) = self.file.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            file.write(line);
        }
        if self.quiet { Ok(line.len()) } else { io::stderr().write(line) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
struct LogFile {
    path: PathBuf,
    file: File,
    looked: Instant,
}

impl LogFile {
    fn open(path: &Path) -> Result<LogFile, String> {
        let file = append_to(path).map_err(|error| format!("cannot write logfile {}: {error}", path.display()))?;
        Ok(LogFile { path: path.to_path_buf(), file, looked: Instant::now() })
    }

    /// Appends a line. Where that fails there is still standard error.
    fn write(&mut self, line: &[u8]) {
        if self.looked.elapsed() >= LOOK {
            self.looked = Instant::now();
            if !self.is_there() {
                self.reopen();
            }
        }
        let _ = self.file.write_all(line);
    }

    /// Where that fails the file that is open goes on.
    fn reopen(&mut self) {
        if let Ok(file) = append_to(&self.path) {
            self.file = file;
        }
    }

    fn is_there(&self) -> bool {
        let same = |named: fs::Metadata| {
            self.file.metadata().is_ok_and(|open| (open.dev(), open.ino()) == (named.dev(), named.ino()))
        };
        fs::metadata(&self.path).is_ok_and(same)
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// A field as `name=value`, the message without a name. Both may hold what a client or a server has said: nothing of it
/// begins a line or is a terminal's command. In JSON such characters are escaped anyway.
fn write_field(writer: &mut format::Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    match field.name() {
        "message" => {}
        name if writer.has_ansi_escapes() => write!(writer, "\x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m")?,
        name => write!(writer, "{name}=")?,
    }
    write!(Printable(writer), "{value:?}")
}

/// Writes control characters as `\n`, `\u{1b}` and so on.
struct Printable<'a, 'b>(&'a mut format::Writer<'b>);

impl fmt::Write for Printable<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for part in text.split_inclusive(char::is_control) {
            let plain = part.trim_end_matches(char::is_control);
            self.0.write_str(plain)?;
            write!(self.0, "{}", part.get(plain.len()..).unwrap_or_default().escape_debug())?;
        }
        Ok(())
    }
}
