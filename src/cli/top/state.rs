//! What is chosen on the screen, and what a key does to it.

use std::cmp::Ordering;

use pgpool::backend::TextTable;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::widgets::TableState;

use super::snapshot::{Rates, Snapshot};
use crate::cli::link::identifier;

/// The tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum View {
    #[default]
    Pools,
    Clients,
    Holders,
}

impl View {
    pub(crate) const ALL: [View; 3] = [View::Pools, View::Clients, View::Holders];

    pub(crate) fn title(self) -> &'static str {
        match self {
            View::Pools => "1 Pools",
            View::Clients => "2 Clients",
            View::Holders => "3 Holders",
        }
    }

    /// By what it is sorted at first, the first of them that is there: the longest wait on top.
    fn columns(self) -> &'static [&'static str] {
        match self {
            View::Pools => &["cl_waiting"],
            View::Clients => &["wait"],
            View::Holders => &["held", "wait"],
        }
    }
}

/// What is to be done about a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    None,
    Quit,
    /// A command for the console, after it was confirmed.
    Run(String),
}

/// Everything on the screen.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) view: View,
    pub(crate) seen: Option<Snapshot>,
    pub(crate) rates: Rates,
    pub(crate) message: String,
    /// A command that waits for a yes.
    pub(crate) asked: Option<String>,
    pub(crate) help: bool,
    /// The column by which the table is sorted; `None`: the view's own.
    sort: Option<String>,
    ascending: bool,
    pub(crate) table: TableState,
}

impl State {
    /// Takes what the console shows now.
    pub(crate) fn see(&mut self, snapshot: Snapshot) {
        if let Some(earlier) = &self.seen {
            self.rates = snapshot.since(earlier);
        }
        self.seen = Some(snapshot);
        self.select(0);
    }

    /// Shows a line at the bottom.
    pub(crate) fn say(&mut self, message: String) {
        self.message = message;
    }

    /// The table of the view, sorted.
    pub(crate) fn sorted(&self) -> TextTable {
        let Some(mut table) = self.shown().cloned() else { return TextTable::default() };
        if let Some(at) = table.columns.iter().position(|column| *column == self.sort_column()) {
            let value = |row: &Vec<Option<String>>| row.get(at).cloned().flatten().unwrap_or_default();
            table.rows.sort_by(|one, other| {
                let order = compare(&value(one), &value(other));
                if self.ascending { order } else { order.reverse() }
            });
        }
        table
    }

    /// By what it is sorted.
    pub(crate) fn sort_column(&self) -> String {
        let there =
            |name: &&&str| self.shown().is_some_and(|table| table.columns.iter().any(|column| column == **name));
        let usual = self.view.columns().iter().find(there).copied().unwrap_or_default();
        self.sort.clone().unwrap_or_else(|| usual.to_owned())
    }

    /// The table of the view, as it came.
    fn shown(&self) -> Option<&TextTable> {
        let seen = self.seen.as_ref()?;
        Some(match self.view {
            View::Pools => &seen.pools,
            View::Clients => &seen.clients,
            View::Holders => &seen.holders,
        })
    }

    /// A key was pressed.
    pub(crate) fn key(&mut self, key: KeyEvent) -> Action {
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            return Action::Quit;
        }
        if let Some(command) = self.asked.take() {
            return match key.code {
                KeyCode::Char('y' | 'Y') => Action::Run(command),
                _ => {
                    self.say(String::from("nothing was done"));
                    Action::None
                }
            };
        }
        if self.help {
            self.help = false;
            return Action::None;
        }
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Action::Quit,
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.help = true,
            KeyCode::Char('1') => self.show(View::Pools),
            KeyCode::Char('2') => self.show(View::Clients),
            KeyCode::Char('3') => self.show(View::Holders),
            KeyCode::Tab => {
                let at = View::ALL.iter().position(|view| *view == self.view).unwrap_or(0);
                self.show(View::ALL.get(at + 1).copied().unwrap_or_default());
            }
            KeyCode::Down => self.select(1),
            KeyCode::Up => self.select(-1),
            KeyCode::PageDown => self.select(10),
            KeyCode::PageUp => self.select(-10),
            KeyCode::Char('s') | KeyCode::Right => self.sort_by(1),
            KeyCode::Left => self.sort_by(-1),
            KeyCode::Char('r') => self.ascending = !self.ascending,
            KeyCode::Char('p') => self.ask_about("database", |name| format!("PAUSE {}", identifier(name))),
            KeyCode::Char('u') => self.ask_about("database", |name| format!("RESUME {}", identifier(name))),
            KeyCode::Char('P') => self.asked = Some(String::from("PAUSE")),
            KeyCode::Char('U') => self.asked = Some(String::from("RESUME")),
            KeyCode::Char('x') => self.ask_to_kill(),
            _ => {}
        }
        Action::None
    }

    fn show(&mut self, view: View) {
        if self.view != view {
            self.view = view;
            self.sort = None;
            self.ascending = false;
            self.table = TableState::default();
            self.select(0);
        }
    }

    /// Moves the choice by so many rows.
    fn select(&mut self, by: i64) {
        let rows = i64::try_from(self.sorted().rows.len()).unwrap_or(0);
        let now = self.table.selected().and_then(|at| i64::try_from(at).ok()).unwrap_or(0);
        let at = now.saturating_add(by).clamp(0, (rows - 1).max(0));
        self.table.select(usize::try_from(at).ok().filter(|_| rows > 0));
    }

    fn sort_by(&mut self, by: i64) {
        let columns = self.sorted().columns;
        let Ok(count) = i64::try_from(columns.len()) else { return };
        let column = self.sort_column();
        let now = columns.iter().position(|name| *name == column).and_then(|at| i64::try_from(at).ok()).unwrap_or(0);
        let next = usize::try_from((now + by).rem_euclid(count.max(1))).unwrap_or(0);
        self.sort = columns.get(next).cloned();
    }

    /// The value of a column in the chosen row.
    fn chosen(&self, column: &str) -> Option<String> {
        let table = self.sorted();
        let value = table.column(column).nth(self.table.selected()?)?.map(str::to_owned);
        value.filter(|value| !value.is_empty())
    }

    fn ask_about(&mut self, column: &str, command: impl Fn(&str) -> String) {
        match self.chosen(column) {
            Some(value) => self.asked = Some(command(&value)),
            None => self.say(format!("the chosen row has no {column}")),
        }
    }

    /// PgBouncer's console knows clients by another column.
    fn ask_to_kill(&mut self) {
        let client = ["id", "client", "client_id"].into_iter().find_map(|column| self.chosen(column));
        let number = client.filter(|id| self.view != View::Pools && id.bytes().all(|byte| byte.is_ascii_digit()));
        match number {
            Some(id) => self.asked = Some(format!("KILL_CLIENT {id}")),
            None => self.say(String::from("choose a client first (2 or 3)")),
        }
    }
}

/// Numbers as numbers, all else as text.
fn compare(one: &str, other: &str) -> Ordering {
    match (one.parse::<f64>(), other.parse::<f64>()) {
        (Ok(one), Ok(other)) => one.total_cmp(&other),
        (Ok(_), Err(_)) => Ordering::Greater,
        (Err(_), Ok(_)) => Ordering::Less,
        (Err(_), Err(_)) => one.cmp(other),
    }
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::tests::snapshot;
    use super::*;

    fn press(state: &mut State, keys: &str) -> Action {
        let mut last = Action::None;
        for key in keys.chars() {
            let code = match key {
                'v' => KeyCode::Down,
                '^' => KeyCode::Up,
                '\t' => KeyCode::Tab,
                other => KeyCode::Char(other),
            };
            last = state.key(KeyEvent::new(code, KeyModifiers::NONE));
        }
        last
    }

    fn seen() -> State {
        let mut state = State::default();
        state.see(snapshot(1));
        state
    }

    fn first_column(state: &State, column: &str) -> Vec<String> {
        state.sorted().column(column).map(|value| value.unwrap_or_default().to_owned()).collect()
    }

    #[test]
    fn who_waits_is_on_top_until_another_column_is_chosen() {
        let mut state = seen();
        assert_eq!(first_column(&state, "user"), ["alice", "carol", "bob"]);
        press(&mut state, "r");
        assert_eq!(first_column(&state, "user"), ["bob", "carol", "alice"]);
        press(&mut state, "rs");
        assert_eq!(state.sort_column(), "sv_active");
        assert_eq!(first_column(&state, "sv_active"), ["5", "2", "1"]);
    }

    #[test]
    fn a_command_needs_a_yes() {
        let mut state = seen();
        assert_eq!(press(&mut state, "p"), Action::None);
        assert_eq!(state.asked.as_deref(), Some("PAUSE \"app\""));
        assert_eq!(press(&mut state, "n"), Action::None);
        assert_eq!((state.asked.as_deref(), state.message.as_str()), (None, "nothing was done"));
        assert_eq!(press(&mut state, "vpy"), Action::Run("PAUSE \"crm\"".to_owned()));
        assert_eq!(press(&mut state, "uy"), Action::Run("RESUME \"crm\"".to_owned()));
        assert_eq!(press(&mut state, "Py"), Action::Run("PAUSE".to_owned()));
        // Pools are nobody to be killed.
        assert_eq!(press(&mut state, "x"), Action::None);
        assert_eq!(state.asked, None);
        assert_eq!(press(&mut state, "2xy"), Action::Run("KILL_CLIENT 12".to_owned()));
        assert_eq!(press(&mut state, "\txy"), Action::Run("KILL_CLIENT 11".to_owned()));
    }

    #[test]
    fn the_choice_stays_within_the_rows() {
        let mut state = seen();
        press(&mut state, "^^^");
        assert_eq!(state.table.selected(), Some(0));
        press(&mut state, "vvvvvvvv");
        assert_eq!(state.table.selected(), Some(2));
        let mut empty = State::default();
        press(&mut empty, "vsprx");
        assert_eq!((empty.table.selected(), empty.asked), (None, None));
    }

    #[test]
    fn keys_for_help_and_the_end() {
        let mut state = seen();
        press(&mut state, "?");
        assert!(state.help);
        assert_eq!(press(&mut state, "q"), Action::None);
        assert!(!state.help);
        assert_eq!(press(&mut state, "q"), Action::Quit);
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(state.key(interrupt), Action::Quit);
    }
}
