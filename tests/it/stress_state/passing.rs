//! What ends with its transaction, and what ends a client.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::atomic::Ordering::Relaxed,
    thread,
    time::Duration,
};

use super::{
    ROWS,
    client::{Client, Lost},
};
use crate::support::messages::{bind, cancel_request, execute, extended, parse, query, sync};

impl Client<'_> {
    /// A tenant for one transaction.
    pub(super) fn local(&mut self) -> Result<(), Lost> {
        let tenant = self.tenant();
        let set = format!("set local app.tenant = '{tenant}'");
        let end = ["commit", "rollback"][self.random.below(2)];
        match self.random.below(7) {
            0 => {
                self.run_all(&["begin", &set])?;
                self.expect_tokens("select tenant from owned", &tenant, ROWS)?;
                self.run_all(&[end])?;
            }
            1 => {
                let sql = format!("begin; {set}; select tenant from owned; {end}");
                self.expect_tokens(&sql, &tenant, ROWS)?;
            }
            2 => self.local_in_a_pipeline(&tenant, end)?,
            3 => self.local_up_to_sync(&tenant)?,
            4 => {
                self.run_all(&["begin", &set])?;
                self.fails("select 1 / 0", "22012")?;
                self.run_all(&["rollback"])?;
            }
            5 => {
                let create = format!("create temp table scratch on commit drop as select '{tenant}'::text as token");
                self.run_all(&["begin", &create])?;
                self.expect_tokens("select token from scratch", &tenant, 1)?;
                self.run_all(&[end])?;
            }
            _ => {
                let lock = format!("select pg_advisory_xact_lock({})", self.number);
                self.run_all(&["begin", &lock, "set local role hat_1"])?;
                self.expect_tokens("select current_user", "hat_1", 1)?;
                self.run_all(&[end])?;
            }
        }
        if self.random.once_in(2) { self.look() } else { self.own_rows() }
    }

    /// A whole transaction in one write.
    fn local_in_a_pipeline(&mut self, tenant: &str, end: &str) -> Result<(), Lost> {
        let set = extended("select set_config('app.tenant', $1, true)", &[Some(tenant)]);
        let flight = [extended("begin", &[]), set, query("select tenant from owned"), extended(end, &[])].concat();
        let _ = self.raw.try_send(&flight);
        for (step, wanted) in [("begin", 0), ("set_config", 1), ("select tenant from owned", ROWS), (end, 0)] {
            let (rows, code) = self.answer()?;
            if code.is_some() {
                return Err(self.wrong(&format!("{step} in a pipeline: {code:?}")));
            }
            self.expect(step, &rows, &vec![vec![Some(tenant.to_owned())]; wanted])?;
        }
        Ok(())
    }

    /// What stands before one Sync is one transaction.
    fn local_up_to_sync(&mut self, tenant: &str) -> Result<(), Lost> {
        let flight = [
            parse("", "select set_config('app.tenant', $1, true)", &[]),
            bind("", "", &[Some(tenant)]),
            execute("", 0),
            parse("", "select tenant from owned", &[]),
            bind("", "", &[]),
            execute("", 0),
            sync(),
        ];
        let rows = self.rows_of(&flight.concat())?;
        self.expect("a tenant up to Sync", &rows, &vec![vec![Some(tenant.to_owned())]; 1 + ROWS])
    }

    /// A cancel request at any moment: before, in, or after the query, which may or may not fail by it.
    pub(super) fn canceled(&mut self) -> Result<(), Lost> {
        let (token, key) = (self.token(), self.raw.backend_key.clone().expect("a key to cancel with"));
        let hundredths = self.random.below(3);
        let _ = self.raw.try_send(&query(&format!("select '{token}', pg_sleep(0.0{hundredths})")));
        thread::park_timeout(Duration::from_millis(self.random.below(20) as u64));
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("connect");
        stream.write_all(&cancel_request(key.0, &key.1)).expect("send a cancel request");
        let answer = self.answer()?;
        let _ = stream.read(&mut [0]);
        self.shared.cancels.fetch_add(1, Relaxed);
        match answer {
            (_, Some(code)) if code == "57014" => {}
            (rows, None) if rows.len() == 1 && rows[0][0].as_ref() == Some(&token) => {}
            other => return Err(self.wrong(&format!("a canceled query: {other:?}"))),
        }
        // A request that comes late must not hit what runs next.
        self.look()
    }

    /// Closes in the middle of something.
    pub(super) fn vanish(&mut self) -> Result<(), Lost> {
        if !self.random.once_in(3) {
            return self.own_rows();
        }
        let tenant = self.tenant();
        let bytes = match self.random.below(5) {
            0 => query("select pg_sleep(0.03)"),
            1 => query(&format!("begin; set local app.tenant = '{tenant}'; set local role hat_2")),
            2 => query(&format!("select repeat('{tenant}', 1000) from generate_series(1, 1000)")),
            3 => [query("begin"), query("create temp table scratch as select 1"), query("selekt")].concat(),
            _ => extended("select set_config('app.tenant', $1, true), pg_sleep(0.01)", &[Some(&tenant)]),
        };
        let part = if self.random.once_in(3) { self.random.below(bytes.len()) } else { bytes.len() };
        let _ = self.raw.try_send(&bytes[..part]);
        if self.random.once_in(2) {
            self.raw.set_read_timeout(Duration::from_millis(20));
            let _ = self.raw.try_read();
        }
        self.shared.kills.fetch_add(1, Relaxed);
        Err(Lost)
    }
}
