//! Answers of the console as tables: values by the names of their columns.

use super::{
    messages,
    raw::Raw,
    reply::{Message, Row},
};

#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Row>,
}

impl Table {
    /// Runs a command that answers rows; panics when it is refused.
    pub(crate) fn of(console: &mut Raw, sql: &str) -> Self {
        console.send(&messages::query(sql));
        let answer = console.read_until_ready();
        if let Some(message) = answer.iter().find(|message| message.tag == b'E') {
            panic!("{sql}: {:?}", message.error());
        }
        let columns = answer.iter().find(|message| message.tag == b'T').map(names).unwrap_or_default();
        let rows = answer.iter().filter(|message| message.tag == b'D').map(Message::row).collect();
        Self { columns, rows }
    }

    /// The rows whose columns have these values, NULL as the empty string.
    pub(crate) fn matching(&self, wanted: &[(&str, &str)]) -> Self {
        let fits = |row: &&Row| {
            wanted.iter().all(|(name, value)| row[self.position(name)].as_deref().unwrap_or_default() == *value)
        };
        Self { columns: self.columns.clone(), rows: self.rows.iter().filter(fits).cloned().collect() }
    }

    /// The values of a column, NULL as the empty string.
    pub(crate) fn column(&self, name: &str) -> Vec<String> {
        let position = self.position(name);
        self.rows.iter().map(|row| row[position].clone().unwrap_or_default()).collect()
    }

    /// The value in the only row.
    pub(crate) fn value(&self, name: &str) -> String {
        assert_eq!(self.rows.len(), 1, "not one row: {self:?}");
        self.column(name).remove(0)
    }

    /// The number in the only row.
    pub(crate) fn number(&self, name: &str) -> u64 {
        self.value(name).parse().unwrap_or_else(|error| panic!("{name} in {self:?}: {error}"))
    }

    fn position(&self, name: &str) -> usize {
        self.columns.iter().position(|column| column == name).unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }
}

/// A number of SHOW POOLS.
pub(crate) fn pool_number(console: &mut Raw, database: &str, user: &str, column: &str) -> u64 {
    Table::of(console, "SHOW POOLS").matching(&[("database", database), ("user", user)]).number(column)
}

/// The names in a RowDescription; behind each stand 18 bytes.
fn names(description: &Message) -> Vec<String> {
    let mut rest = description.body.get(2..).unwrap_or_default();
    let mut names = Vec::new();
    while let Some(end) = rest.iter().position(|byte| *byte == 0) {
        names.push(String::from_utf8_lossy(&rest[..end]).into_owned());
        rest = rest.get(end + 19..).unwrap_or_default();
    }
    names
}
