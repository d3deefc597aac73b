//! The screen.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Clear, Paragraph, Row, Table};

use super::state::{State, View};
use crate::cli::doctor::text::printable;

/// Widest column.
const WIDEST: u16 = 40;

const HELP: &[&str] = &[
    "1 2 3, Tab      pools, clients, holders",
    "up, down        choose a row",
    "s, left, right  sort by another column",
    "r               the other way round",
    "p, u            PAUSE, RESUME the database of the row",
    "P, U            PAUSE, RESUME everything",
    "x               KILL_CLIENT the client of the row",
    "q               quit",
    "",
    "Commands are asked about first.",
];

/// Draws everything.
pub(crate) fn draw(frame: &mut Frame<'_>, state: &mut State) {
    let rows = Layout::vertical([Constraint::Length(2), Constraint::Min(3), Constraint::Length(1)]);
    let [top, middle, bottom] = rows.areas(frame.area());
    frame.render_widget(header(state), top);
    table(frame, state, middle);
    frame.render_widget(footer(state), bottom);
    if state.help {
        help(frame);
    }
}

fn header(state: &State) -> Paragraph<'static> {
    let Some(seen) = &state.seen else { return Paragraph::new("waiting for the console") };
    let rates = state.rates;
    let alert = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
    let waiting = seen.total("cl_waiting");
    let mut first = vec![Span::raw(printable(&seen.version))];
    if seen.paused {
        first.push(Span::styled("  PAUSED", alert));
    }
    first.push(Span::raw(format!(
        "  {:.0} transactions/s  {:.0} queries/s  {:.1} ms wait",
        rates.transactions, rates.queries, rates.wait
    )));
    let second = vec![
        Span::raw(format!("clients {} active, ", seen.total("cl_active"))),
        Span::styled(format!("{waiting} waiting"), if waiting > 0 { alert } else { Style::new() }),
        Span::raw(format!(
            "  connections {} lent, {} idle, {} opening",
            seen.total("sv_active"),
            seen.total("sv_idle") + seen.total("sv_used"),
            seen.total("sv_login")
        )),
    ];
    Paragraph::new(vec![Line::from(first), Line::from(second)])
}

fn table(frame: &mut Frame<'_>, state: &mut State, area: Rect) {
    let sorted = state.sorted();
    let by = state.sort_column();
    let cells: Vec<Vec<String>> = sorted
        .rows
        .iter()
        .map(|row| row.iter().map(|value| printable(value.as_deref().unwrap_or(""))).collect())
        .collect();
    let widths = sorted.columns.iter().enumerate().map(|(at, name)| {
        let widest = cells.iter().filter_map(|row| row.get(at)).chain([name]).map(|text| text.chars().count()).max();
        Constraint::Length(u16::try_from(widest.unwrap_or(0)).unwrap_or(WIDEST).min(WIDEST))
    });
    let heads = sorted.columns.iter().map(|name| {
        let style = Style::new().add_modifier(Modifier::BOLD);
        Cell::from(name.clone()).style(if *name == by { style.add_modifier(Modifier::UNDERLINED) } else { style })
    });
    let mut titles = Vec::new();
    for view in View::ALL {
        let style = Style::new().add_modifier(if view == state.view { Modifier::REVERSED } else { Modifier::empty() });
        titles.extend([Span::styled(format!(" {} ", view.title()), style), Span::raw(" ")]);
    }
    let table = Table::new(cells.iter().map(|row| Row::new(row.iter().map(String::as_str))), widths)
        .header(Row::new(heads))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
        .block(Block::bordered().title(Line::from(titles)));
    frame.render_stateful_widget(table, area, &mut state.table);
}

fn footer(state: &State) -> Paragraph<'static> {
    match &state.asked {
        Some(command) => {
            let style = Style::new().fg(Color::Yellow).add_modifier(Modifier::BOLD);
            Paragraph::new(format!("{}? y/N", printable(command))).style(style)
        }
        None if !state.message.is_empty() => Paragraph::new(printable(&state.message)),
        None => Paragraph::new("? help   q quit   s sort   p pause   u resume   x kill"),
    }
}

fn help(frame: &mut Frame<'_>) {
    let area = frame.area();
    let height = u16::try_from(HELP.len()).unwrap_or(0) + 2;
    let (width, height) = (56.min(area.width), height.min(area.height));
    let place = Rect { x: (area.width - width) / 2, y: (area.height - height) / 2, width, height };
    frame.render_widget(Clear, place);
    let lines: Vec<Line<'_>> = HELP.iter().map(|line| Line::from(*line)).collect();
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" pgpool top ")), place);
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

    use super::super::snapshot::tests::snapshot;
    use super::*;

    fn screen(state: &mut State, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, state)).unwrap();
        let buffer = terminal.backend().buffer();
        let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        (0..height).map(line).collect()
    }

    fn key(state: &mut State, code: char) {
        state.key(KeyEvent::new(KeyCode::Char(code), KeyModifiers::NONE));
    }

    #[test]
    fn pools_are_seen_with_who_waits_on_top() {
        let mut state = State::default();
        assert_eq!(screen(&mut state, 60, 8)[0], "waiting for the console");
        state.see(snapshot(1));
        let lines = screen(&mut state, 100, 10);
        assert_eq!(lines[0], "pgpool 0.1.0  0 transactions/s  0 queries/s  0.0 ms wait");
        assert_eq!(lines[1], "clients 52 active, 15 waiting  connections 8 lent, 4 idle, 0 opening");
        assert!(lines[2].starts_with("┌ 1 Pools   2 Clients   3 Holders "), "{}", lines[2]);
        assert!(
            lines[3].starts_with("│database user  cl_active cl_waiting sv_active sv_idle maxwait pool_mode"),
            "{}",
            lines[3]
        );
        assert!(lines[4].starts_with("│app      alice 3         12 "), "{}", lines[4]);
        assert_eq!(lines[9], "? help   q quit   s sort   p pause   u resume   x kill");
    }

    #[test]
    fn questions_and_help_are_seen() {
        let mut state = State::default();
        state.see(snapshot(1));
        key(&mut state, 'p');
        assert_eq!(screen(&mut state, 80, 20)[19], "PAUSE \"app\"? y/N");
        key(&mut state, 'n');
        key(&mut state, '?');
        let lines = screen(&mut state, 80, 20).join("\n");
        assert!(lines.contains("KILL_CLIENT the client of the row") && lines.contains(" pgpool top "), "{lines}");
    }

    #[test]
    fn no_size_is_too_small_and_no_name_is_obeyed() {
        let mut state = State::default();
        let mut seen = snapshot(1);
        seen.pools.rows[0][0] = Some(String::from("a\u{1b}[2Jb"));
        state.see(seen);
        assert!(screen(&mut state, 80, 12).join("\n").contains("a?[2Jb"));
        state.help = true;
        for (width, height) in [(1, 1), (3, 2), (10, 5), (300, 100)] {
            screen(&mut state, width, height);
        }
    }
}
