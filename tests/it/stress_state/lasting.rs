//! What a session sets or makes for itself and has to find again on whatever backend it gets.

use std::sync::atomic::Ordering::Relaxed;

use super::{
    ROLES,
    client::{Client, Lost, State},
};
use crate::support::messages::{bind, close_statement, describe_statement, execute, extended, parse, query, sync};

const NAMES: [&str; 3] = ["s0", "s1", "s2"];

impl Client<'_> {
    pub(super) fn set_tenant(&mut self) -> Result<(), Lost> {
        let (tenant, other) = (self.tenant(), self.tenant());
        let set = format!("set app.tenant = '{tenant}'");
        let set_other = format!("set app.tenant = '{other}'");
        let mut wanted = Some(tenant.clone());
        match self.random.below(12) {
            0 => self.run_all(&[&set])?,
            1 => {
                self.run_all(&["begin", &set])?;
                self.expect_tokens("select tenant from owned", &tenant, super::ROWS)?;
                self.run_all(&["rollback"])?;
                wanted = self.state.tenant.clone();
            }
            2 => self.run_all(&["begin", &set, "commit"])?,
            3 => self.run_all(&[&format!("select set_config('app.tenant', '{tenant}', false)")])?,
            4 => drop(self.rows_of(&extended("select set_config('app.tenant', $1, false)", &[Some(&tenant)]))?),
            5 => {
                self.fails("select 1 / 0", "22012")?;
                self.run_all(&[&set])?;
            }
            6 => {
                self.fails(&format!("{set}; select 1 / 0"), "22012")?;
                wanted = self.state.tenant.clone();
            }
            7 => {
                self.run_all(&["reset app.tenant"])?;
                wanted = None;
            }
            8 => self.run_all(&["begin", &set, "savepoint a", &set_other, "rollback to a", "commit"])?,
            9 => {
                self.run_all(&[&set, "begin", &format!("set local app.tenant = '{other}'")])?;
                self.expect_tokens("select tenant from owned", &other, super::ROWS)?;
                self.run_all(&["commit"])?;
            }
            10 => {
                self.run_all(&["begin", &set_other])?;
                self.fails("selekt", "42601")?;
                self.run_all(&["commit", &set])?;
            }
            _ => drop(self.rows_of(&extended(&set, &[]))?),
        }
        self.state.tenant = wanted;
        self.own_rows()
    }

    pub(super) fn set_role(&mut self) -> Result<(), Lost> {
        let role = format!("hat_{}", self.random.below(ROLES));
        let set = format!("set role {role}");
        match self.random.below(5) {
            0 => {
                self.run_all(&["reset role"])?;
                self.state.role = None;
            }
            1 => {
                self.run_all(&["begin", &set])?;
                self.expect_tokens("select current_user", &role, 1)?;
                self.run_all(&["rollback"])?;
            }
            2 => self.fails("set role nobody", "22023")?,
            _ => {
                self.run_all(&[&set])?;
                self.state.role = Some(role);
            }
        }
        self.look()
    }

    pub(super) fn set_path(&mut self) -> Result<(), Lost> {
        let set = format!("set search_path to c{}, public", self.number);
        match self.random.below(4) {
            0 => {
                self.run_all(&["reset search_path"])?;
                self.state.path = false;
            }
            1 => self.run_all(&["begin", "set search_path to nowhere", "rollback"])?,
            _ => {
                self.run_all(&[&set])?;
                self.state.path = true;
            }
        }
        self.look()
    }

    /// A statement by message: made, found again, described, closed, or made where there is one.
    pub(super) fn named(&mut self) -> Result<(), Lost> {
        let number = self.random.below(NAMES.len());
        let (name, token) = (NAMES[number], self.token());
        let make = parse(name, &format!("select '{token}'::text, $1::int"), &[]);
        let known = self.state.named[number].clone();
        if self.random.once_in(4) {
            self.rows_of(&[close_statement(name), sync()].concat())?;
            self.state.named[number] = None;
            return self.uses(name, None);
        }
        match (known, self.random.below(4)) {
            (Some(_), 0) => self.is_refused(&[make, sync()].concat(), "42P05")?,
            (None, _) => {
                self.rows_of(&[make, sync()].concat())?;
                self.state.named[number] = Some(token);
            }
            (Some(_), 1) => {
                self.rows_of(&[close_statement(name), make, sync()].concat())?;
                self.state.named[number] = Some(token);
            }
            (Some(_), _) => {}
        }
        self.uses(name, self.state.named[number].clone())
    }

    /// Runs a statement that gives the token, or is not there.
    fn uses(&mut self, name: &str, token: Option<String>) -> Result<(), Lost> {
        let describe = if self.random.once_in(3) { describe_statement(name) } else { Vec::new() };
        let bytes = [describe, bind("", name, &[Some("5")]), execute("", 0), sync()].concat();
        match token {
            Some(token) => {
                let rows = self.rows_of(&bytes)?;
                self.expect(name, &rows, &[vec![Some(token), Some("5".to_owned())]])
            }
            None => self.is_refused(&bytes, "26000"),
        }
    }

    fn is_refused(&mut self, bytes: &[u8], wanted: &str) -> Result<(), Lost> {
        match self.answer_to(bytes)? {
            (_, Some(code)) if code == wanted => Ok(()),
            other => Err(self.wrong(&format!("{}: {other:?} and not {wanted}", bytes.escape_ascii()))),
        }
    }

    pub(super) fn sql_prepare(&mut self) -> Result<(), Lost> {
        let token = self.token();
        let prepare = format!("prepare p as select '{token}'::text");
        match (self.state.prepared.is_some(), self.random.below(4)) {
            (true, 0) => {
                self.run_all(&["deallocate p"])?;
                self.state.prepared = None;
            }
            (true, 1) => self.fails(&prepare, "42P05")?,
            (true, _) => {}
            (false, 0) => {
                self.run_all(&["begin", &prepare, "rollback"])?;
                self.state.prepared = Some(token);
            }
            (false, _) => {
                self.run_all(&[&prepare])?;
                self.state.prepared = Some(token);
            }
        }
        match self.state.prepared.clone() {
            Some(token) => self.expect_tokens("execute p", &token, 1),
            None => self.fails("execute p", "26000"),
        }
    }

    /// Holds something that stays with the backend, and gives it back, or leaves with it.
    pub(super) fn pin(&mut self) -> Result<(), Lost> {
        let token = self.token();
        let leaves = self.random.once_in(6);
        if self.random.once_in(2) {
            let number = self.number;
            if !self.pins(&format!("select pg_advisory_lock({number})"))? {
                return self.look();
            }
            self.state.locks = 1;
            self.look()?;
            self.own_rows()?;
            if leaves {
                return Err(Lost);
            }
            self.expect_tokens(&format!("select pg_advisory_unlock({number})"), "t", 1)?;
            self.state.locks = 0;
        } else {
            if !self.pins(&format!("create temp table scratch as select '{token}'::text as token"))? {
                return self.look();
            }
            self.own_rows()?;
            self.expect_tokens("select token from scratch", &token, 1)?;
            if leaves {
                return Err(Lost);
            }
            self.run_all(&["drop table scratch"])?;
        }
        if self.random.once_in(3) {
            // What a session gives up all at once.
            let _ = self.rows_of(&query("discard all"))?;
            self.state = State::default();
        }
        self.look()
    }

    /// Runs what pins a backend; `false` where no more may be pinned. Nothing of it has run then.
    fn pins(&mut self, sql: &str) -> Result<bool, Lost> {
        match self.answer_to(&query(sql))? {
            (_, None) => Ok(true),
            (_, Some(code)) if code == "53400" => {
                self.shared.unpinned.fetch_add(1, Relaxed);
                Ok(false)
            }
            (_, Some(code)) => Err(self.wrong(&format!("{sql}: {code}"))),
        }
    }
}
