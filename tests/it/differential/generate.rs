//! Random scripts. What they are made of is switched on group by group, for not every pool mode offers everything.

use super::{
    script::{
        Batch, Flight, Op, Round, Script, bind, close_portal, close_statement, copy_data, copy_done, copy_fail,
        describe_portal, describe_statement, execute, flush, function_call, parse, query, sync,
    },
    texts::{self, Text},
};
use crate::support::random::Random;

/// Something that a script may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Group {
    /// Queries that leave nothing behind, errors among them, and rows in the client's own table.
    Queries,
    /// BEGIN, savepoints and SQL's cursors; also what PostgreSQL says to COMMIT without BEGIN.
    Transactions,
    /// Parse, Bind and Execute of unnamed statements within one Sync.
    Unnamed,
    /// Portals with and without names, by message: those that are there and those that never were.
    Portals,
    /// Messages of an extended query that a Query follows instead of a Sync.
    WithoutSync,
    Copies,
    /// A Sync or Flush inside of the data of a COPY that PostgreSQL finds nothing wrong with.
    SyncInCopy,
    /// The same where the data are wrong. PostgreSQL answers those that it had not read before it refused the data.
    SyncInBadCopy,
    Functions,
    /// SET LOCAL, and `set_config` to the same effect.
    LocalSettings,
    /// SET and RESET of what PostgreSQL reports.
    ReportedSettings,
    /// SET, RESET and `set_config` of what PostgreSQL does not report.
    OtherSettings,
    /// SET ROLE.
    Roles,
    /// An unnamed statement that is used behind another Sync than its own.
    UnnamedAcross,
    /// Prepared statements by message.
    Named,
    /// PREPARE, EXECUTE, DEALLOCATE.
    SqlPrepare,
    /// PREPARE, EXECUTE and DEALLOCATE in the text of a Parse.
    SqlByMessage,
    /// EXECUTE and DEALLOCATE of statements that were made by message, and the reverse.
    MixedNames,
    /// DISCARD ALL.
    Discard,
}

impl Group {
    pub(super) const ALL: &[Group] = &[
        Group::Queries,
        Group::Transactions,
        Group::Unnamed,
        Group::Portals,
        Group::WithoutSync,
        Group::Copies,
        Group::SyncInCopy,
        Group::SyncInBadCopy,
        Group::Functions,
        Group::LocalSettings,
        Group::ReportedSettings,
        Group::OtherSettings,
        Group::Roles,
        Group::UnnamedAcross,
        Group::Named,
        Group::SqlPrepare,
        Group::SqlByMessage,
        Group::MixedNames,
        Group::Discard,
    ];
}

const PORTALS: &[&str] = &["", "p", "q"];
const STATEMENTS: &[&str] = &["s", "t", "u"];

struct Generator<'a> {
    random: Random,
    groups: &'a [Group],
    /// The client's own table.
    mine: String,
    /// How many parameters a statement of [`STATEMENTS`] has, if its last Parse succeeded.
    parameters: [usize; STATEMENTS.len()],
    /// Whether the same is one that names others, or was.
    at_once: [bool; STATEMENTS.len()],
}

/// Scripts for so many clients. Those whose random numbers are equal are equal.
pub(super) fn round(random: &Random, clients: usize, groups: &[Group]) -> Round {
    let script = |client: usize| {
        let mine = format!("mine_{client}");
        let (parameters, at_once) = ([0; STATEMENTS.len()], [false; STATEMENTS.len()]);
        Generator { random: random.part(client as u64), groups, mine, parameters, at_once }.script()
    };
    Round { scripts: (0..clients).map(script).collect() }
}

impl Generator<'_> {
    fn script(&mut self) -> Script {
        let mut at = 0;
        let mut script: Script = (0..3 + self.random.below(9))
            .map(|_| {
                at += 1 + self.random.below(10);
                let mut flights: Vec<_> = (0..1 + self.random.below(3)).map(|_| self.flight()).collect();
                if self.has(Group::WithoutSync) {
                    // Whatever is being skipped ends here, so that the last answer is a ReadyForQuery.
                    flights.push(vec![sync()]);
                }
                let (together, writes) = (self.random.once_in(2), 1 + self.random.below(3));
                Batch { flights, at, together, writes }
            })
            .collect();
        let last = query(&format!("select id, note from {} order by id, note", self.mine));
        let flights = vec![vec![query("rollback")], vec![last]];
        script.push(Batch { flights, at: at + 1, together: false, writes: 1 });
        script
    }

    fn has(&self, group: Group) -> bool {
        self.groups.contains(&group)
    }

    fn flight(&mut self) -> Flight {
        loop {
            match self.random.below(12) {
                0..=4 => return vec![self.query()],
                5..=8 if self.has(Group::Unnamed) => return self.extended(),
                9 if self.has(Group::Copies) => return self.copy(),
                10 if self.has(Group::Functions) => {
                    let (oid, arguments) = texts::FUNCTIONS[self.random.below(texts::FUNCTIONS.len())];
                    return vec![function_call(oid, arguments)];
                }
                11 if self.has(Group::Portals) => return vec![self.portal_step(), sync()],
                _ => {}
            }
        }
    }

    fn query(&mut self) -> Op {
        self.sql_and_query().1
    }

    fn sql_and_query(&mut self) -> (&'static str, Op) {
        let texts: Vec<_> = texts::QUERIES.iter().filter(|(group, _)| self.has(*group)).collect();
        // Groups of few texts are not drowned by those of many.
        let group = self.groups[self.random.below(self.groups.len())];
        let of_group: Vec<_> = texts.iter().filter(|(of, _)| *of == group).collect();
        let sql = match of_group.as_slice() {
            [] => texts[self.random.below(texts.len())].1,
            some => some[self.random.below(some.len())].1,
        };
        (sql, query(&self.fill(sql)))
    }

    /// Replaces the places that differ from client to client and from time to time.
    fn fill(&mut self, sql: &str) -> String {
        let value = self.random.below(10).to_string();
        sql.replace("{mine}", &self.mine).replace("{n}", &value)
    }

    fn extended(&mut self) -> Flight {
        let mut flight = Vec::new();
        for _ in 0..1 + self.random.below(3) {
            match self.random.below(6) {
                0 | 1 if self.has(Group::Named) => flight.extend(self.named_steps()),
                2 if self.has(Group::Portals) => flight.push(self.portal_step()),
                3 if self.has(Group::UnnamedAcross) => flight.push(self.unnamed_step()),
                _ => {
                    let (steps, is_last) = self.unnamed_steps();
                    flight.extend(steps);
                    if is_last {
                        flight.push(sync());
                        return flight;
                    }
                }
            }
            if self.random.once_in(6) {
                flight.push(flush());
            }
        }
        flight.push(if self.has(Group::WithoutSync) && self.random.once_in(5) { self.end() } else { sync() });
        flight
    }

    /// A Query in the place of a Sync. Not DISCARD ALL, which PostgreSQL refuses behind an Execute: there may be one of the
    /// pooler's own (`docs/leaks.md`, "Where it differs").
    fn end(&mut self) -> Op {
        loop {
            let (sql, end) = self.sql_and_query();
            if !sql.starts_with("discard all") {
                return end;
            }
        }
    }

    fn text(&mut self) -> (String, usize) {
        let texts: Vec<&Text> = texts::PREPARED.iter().filter(|text| self.has(text.group)).collect();
        let text = texts[self.random.below(texts.len())];
        (self.fill(text.sql), text.parameters)
    }

    /// Whether a portal of this text has to be executed right behind its Bind, if ever: on PostgreSQL what it names is
    /// looked for when it runs, and through pgpool when it is bound (`docs/leaks.md`, "Where it differs").
    fn names_others(sql: &str) -> bool {
        sql.starts_with("execute") || sql == "deallocate one"
    }

    /// A statement from Parse to Execute, and whether a Sync has to follow: a PREPAREd BEGIN, COMMIT or ROLLBACK does not
    /// take effect before, and PostgreSQL ends the connection for another one that it meets until then.
    fn unnamed_steps(&mut self) -> (Flight, bool) {
        let at_once: Vec<&Text> = texts::AT_ONCE.iter().filter(|text| self.has(text.group)).collect();
        let (sql, parameters, is_last) = match at_once.len() {
            1.. if self.random.once_in(10) => {
                let sql = self.random.pick(&at_once).sql.to_owned();
                let is_last = STATEMENTS.iter().any(|name| sql.ends_with(name));
                (sql, 0, is_last)
            }
            _ => {
                let (sql, parameters) = self.text();
                (sql, parameters, false)
            }
        };
        let mut steps = vec![parse("", &sql)];
        if self.random.once_in(3) {
            steps.push(describe_statement(""));
        }
        steps.extend(self.bind_steps("", parameters, Self::names_others(&sql)));
        (steps, is_last)
    }

    /// Half of a statement, for a later Sync to go on with.
    fn unnamed_step(&mut self) -> Op {
        match self.random.below(4) {
            0 => parse("", &self.text().0),
            1 => describe_statement(""),
            2 => close_statement(""),
            _ => self.bind("", "", 1),
        }
    }

    fn named_steps(&mut self) -> Flight {
        let number = self.random.below(STATEMENTS.len());
        let name = STATEMENTS[number];
        let mut steps = Vec::new();
        match self.random.below(8) {
            0..=2 => {
                let (sql, parameters) = self.text();
                steps.push(parse(name, &sql));
                self.parameters[number] = parameters;
                self.at_once[number] |= Self::names_others(&sql);
            }
            3 => steps.push(describe_statement(name)),
            4 => steps.push(close_statement(name)),
            _ => {}
        }
        if self.random.below(3) > 0 {
            steps.extend(self.bind_steps(name, self.parameters[number], self.at_once[number]));
        }
        if steps.is_empty() {
            steps.push(describe_statement("never"));
        }
        steps
    }

    /// Bind and, most of the time or (`at_once`) always, Execute.
    fn bind_steps(&mut self, statement: &str, parameters: usize, at_once: bool) -> Flight {
        let portal = if self.has(Group::Portals) { self.random.pick(PORTALS) } else { "" };
        let mut steps = vec![self.bind(portal, statement, parameters)];
        if self.random.once_in(3) {
            steps.push(describe_portal(portal));
        }
        match self.random.below(8) {
            0 if !at_once => {}
            1 => steps.extend([execute(portal, 2), execute(portal, 3), execute(portal, 0)]),
            2 => steps.push(execute(portal, 1)),
            _ => steps.push(execute(portal, 0)),
        }
        if self.random.once_in(6) {
            steps.push(close_portal(portal));
        }
        steps
    }

    fn bind(&mut self, portal: &str, statement: &str, parameters: usize) -> Op {
        let count = if self.random.once_in(12) { self.random.below(4) } else { parameters };
        let binary = self.random.once_in(5);
        let values: Vec<Option<&[u8]>> = (0..count)
            .map(|_| match (self.random.below(8), binary) {
                (0, _) => None,
                (1, false) => Some(b"x".as_slice()),
                (2, false) => Some(b"0".as_slice()),
                (_, false) => Some([b"1".as_slice(), b"2", b"7"][self.random.below(3)]),
                (1, true) => Some(b"\0\0".as_slice()),
                (_, true) => Some([b"\0\0\0\x01".as_slice(), b"\0\0\0\x07"][self.random.below(2)]),
            })
            .collect();
        let formats: &[u16] = if binary { &[1] } else { [&[][..], &[0]][self.random.below(2)] };
        let result = [&[][..], &[], &[0], &[1], &[1, 0, 1]][self.random.below(5)];
        bind(portal, statement, &values, formats, result)
    }

    /// Something with a portal that may or may not be there. Not with the unnamed one: PostgreSQL 15 may crash when it is
    /// asked to execute the one that a failed simple query has left behind in its transaction.
    fn portal_step(&mut self) -> Op {
        let portal = self.random.pick(&PORTALS[1..]);
        match self.random.below(4) {
            0 => describe_portal(portal),
            1 => close_portal(portal),
            _ => execute(portal, [0, 1, 5][self.random.below(3)]),
        }
    }

    fn copy(&mut self) -> Flight {
        let mine = self.mine.clone();
        if self.random.once_in(4) {
            return vec![query("copy (select x, y from plenty order by x limit 7) to stdout")];
        }
        let table = if self.random.once_in(6) { "nosuch" } else { &mine };
        let sql = format!("copy {table} from stdin");
        let bad = self.random.once_in(4);
        let synced = self.has(if bad { Group::SyncInBadCopy } else { Group::SyncInCopy });
        let mut data = Vec::new();
        for _ in 0..self.random.below(4) {
            match self.random.below(6) {
                0 if bad => data.push(copy_data(b"bad\n")),
                1 => data.extend([copy_data(b"1\tsp"), copy_data(b"lit\n")]),
                2 if synced => data.push(if self.random.once_in(2) { sync() } else { flush() }),
                _ => data.push(copy_data(b"2\tcopied\n")),
            }
        }
        data.push(if self.random.once_in(5) { copy_fail("enough") } else { copy_done() });
        if self.random.once_in(2) {
            return [vec![query(&sql)], data].concat();
        }
        let start = vec![parse("", &sql), bind("", "", &[], &[], &[]), execute("", 0)];
        // No later Bind must find a COPY whose data does not come.
        let end = vec![sync(), parse("", "select 1"), sync()];
        [start, data, end].concat()
    }
}
