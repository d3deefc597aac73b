//! `pgpool top`: the console of a running pgpool (or PgBouncer) as a screen that is drawn again and again.
//!
//! `state` decides what a key does and `draw` what is seen; both know no terminal. What is here asks the console and
//! reads keys. A command that takes long, as PAUSE may, has a connection of its own, so that the screen goes on.

mod draw;
mod snapshot;
mod state;

use std::future::Future;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use pgpool::config::Config;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use tokio::runtime::Runtime;

use self::snapshot::{Snapshot, take};
use self::state::{Action, State};
use super::age;
use super::dsn::Dsn;
use super::link::{Link, LinkError, Way};

/// How long keys are waited for before the clock is looked at again.
const TICK: Duration = Duration::from_millis(100);
/// How long commands that run are looked at in between.
const GLANCE: Duration = Duration::from_millis(5);
/// Most time for an answer of the console.
const PATIENCE: Duration = Duration::from_secs(5);

/// Arguments of `pgpool top`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The configuration of the pgpool that runs.
    #[arg(required_unless_present = "dsn")]
    config: Option<PathBuf>,
    /// The console, as a URL or as key=value: host=... port=6432 user=... dbname=pgpool.
    #[arg(long, conflicts_with = "config")]
    dsn: Option<String>,
    /// How often to look.
    #[arg(long, default_value = "1s", value_name = "SPAN", value_parser = age::parse)]
    interval: Duration,
}

type Running = Pin<Box<dyn Future<Output = Result<String, LinkError>>>>;

/// Runs it until somebody quits.
///
/// # Errors
/// There is no terminal or no console.
pub(crate) fn top(arguments: &Arguments) -> Result<ExitCode, String> {
    let ways = ways(arguments)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start: {error}"))?;
    let link = runtime.block_on(Box::pin(open(&ways))).map_err(|error| error.line())?;
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        return Err(String::from("pgpool top needs a terminal. HINT: psql shows the same: SHOW POOLS, SHOW CLIENTS"));
    }
    let mut terminal = ratatui::try_init().map_err(|error| format!("cannot use the terminal: {error}"))?;
    let screen = Screen { runtime: &runtime, ways: &ways, link: Some(link), running: Vec::new() };
    let ended = screen.run(&mut terminal, arguments.interval.max(TICK));
    ratatui::restore();
    ended.map(|()| ExitCode::SUCCESS).map_err(|error| format!("the terminal: {error}"))
}

fn ways(arguments: &Arguments) -> Result<Vec<Way>, String> {
    if let Some(text) = &arguments.dsn {
        let dsn = Dsn::parse(text, |name| std::env::var(name).ok())?;
        return Way::of_dsn(&dsn).map_err(|error| error.line());
    }
    let path = arguments.config.clone().unwrap_or_default();
    let config = Config::load(&path).map_err(|problems| problems.to_string())?.config;
    Ok(Way::of_console(&config))
}

/// The first way that leads to a console.
async fn open(ways: &[Way]) -> Result<Link, LinkError> {
    let mut last = LinkError::Said(String::from("the configuration has no place where its console could be"));
    for way in ways {
        match Link::open(way).await {
            Ok(mut link) => match link.value("SHOW VERSION").await {
                Ok(Some(_)) => return Ok(link),
                Ok(None) | Err(_) => {
                    let message = format!(
                        "{} is no console of a pooler. HINT: dbname=pgpool (or pgbouncer) is; `pgpool doctor` looks at PostgreSQL",
                        way.shown()
                    );
                    last = LinkError::Said(message);
                }
            },
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn command(ways: Vec<Way>, sql: String) -> Result<String, LinkError> {
    let mut link = open(&ways).await?;
    link.table(&sql).await?;
    link.close();
    Ok(sql)
}

struct Screen<'a> {
    runtime: &'a Runtime,
    ways: &'a [Way],
    link: Option<Link>,
    running: Vec<Running>,
}

impl Screen<'_> {
    fn run(mut self, terminal: &mut DefaultTerminal, interval: Duration) -> std::io::Result<()> {
        let mut state = State::default();
        let mut next = Instant::now();
        loop {
            if Instant::now() >= next {
                match self.look() {
                    Ok(snapshot) => state.see(snapshot),
                    Err(error) => state.say(format!("no answer: {}", error.line())),
                }
                next = Instant::now() + interval;
            }
            self.glance(&mut state);
            terminal.draw(|frame| draw::draw(frame, &mut state))?;
            if !event::poll(TICK.min(next.saturating_duration_since(Instant::now())))? {
                continue;
            }
            let Event::Key(key) = event::read()? else { continue };
            if key.kind == KeyEventKind::Release {
                continue;
            }
            match state.key(key) {
                Action::None => {}
                Action::Quit => return Ok(()),
                Action::Run(sql) => {
                    state.say(format!("{sql} ..."));
                    self.running.push(Box::pin(command(self.ways.to_vec(), sql)));
                    next = Instant::now();
                }
            }
        }
    }

    /// Asks the console, again from the beginning where the connection was lost.
    fn look(&mut self) -> Result<Snapshot, LinkError> {
        let (ways, kept) = (self.ways, self.link.take());
        let looking = async {
            let mut link = match kept {
                Some(link) => link,
                None => Box::pin(open(ways)).await?,
            };
            let snapshot = take(&mut link).await?;
            Ok((link, snapshot))
        };
        // The clock of the runtime is there within it only.
        let looked = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, looking).await });
        let late = || LinkError::Said(format!("nothing for {} s", PATIENCE.as_secs()));
        let (link, snapshot) = looked.map_err(|_| late())??;
        self.link = Some(link);
        Ok(snapshot)
    }

    /// Lets the commands go on, and tells of those that are done.
    fn glance(&mut self, state: &mut State) {
        for mut running in std::mem::take(&mut self.running) {
            let done = self.runtime.block_on(async { tokio::time::timeout(GLANCE, &mut running).await });
            match done {
                Ok(Ok(sql)) => state.say(format!("{sql}: done")),
                Ok(Err(error)) => state.say(error.line()),
                Err(_) => self.running.push(running),
            }
        }
    }
}
