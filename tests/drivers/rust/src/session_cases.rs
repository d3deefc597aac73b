//! The cases that are SQL and therefore the same for all drivers.

use std::{collections::BTreeSet, thread};

use crate::{Case, Client, Crowd, Fallible, backends, case, equal, fails};

const CUSTOM: &str = "select coalesce(current_setting('app.custom', true), '')";
const SETTINGS: &str = "select concat_ws(' ', current_setting('TimeZone'), current_setting('statement_timeout'), \
                        current_setting('app.custom', true))";
const ZONES: [&str; 5] = ["Europe/Berlin", "Asia/Tokyo", "America/New_York", "Africa/Cairo", "Australia/Sydney"];

pub fn all<C: Client + Send + 'static>(open: fn() -> Fallible<C>) -> Vec<Case> {
    fn with<C: Client + 'static>(
        name: &'static str,
        size: usize,
        open: fn() -> Fallible<C>,
        body: fn(&mut Crowd<C>) -> Fallible<()>,
    ) -> Case {
        case(name, move || body(&mut Crowd::open(size, open)?))
    }
    vec![
        with("clients_share_backends", 5, open, clients_share_backends),
        case("many_connections", move || many_connections(open)),
        with("commit_and_rollback", 5, open, commit_and_rollback),
        with("failed_statement", 5, open, failed_statement),
        with("savepoints", 5, open, savepoints),
        case("concurrent_transactions", move || concurrent_transactions(open)),
        with("set_settings", 5, open, set_settings),
        with("set_config", 5, open, set_config),
        with("set_in_transactions", 5, open, set_in_transactions),
        with("search_path", 5, open, search_path),
        with("sql_prepare", 5, open, sql_prepare),
        with("statement_timeout", 2, open, statement_timeout),
        with("temp_table", 5, open, temp_table),
        with("advisory_lock", 5, open, advisory_lock),
        with("cursor_with_hold", 5, open, cursor_with_hold),
        with("discard_all", 5, open, discard_all),
    ]
}

fn clients_share_backends<C: Client>(crowd: &mut Crowd<C>) -> Fallible<()> {
    let mut seen = vec![BTreeSet::new(); 5];
    // More turns than elsewhere: tokio-postgres closes statements behind a query, which shuffles the backends.
    crowd.turns(12, |client, number| {
        seen[number].insert(client.text("select pg_backend_pid()::text")?);
        Ok(())
    })?;
    let each = if backends() == 0 { 1 } else { 2 };
    equal(seen.iter().map(BTreeSet::len).collect::<Vec<_>>(), vec![each; 5])?;
    let all: BTreeSet<_> = seen.into_iter().flatten().collect();
    equal(all.len(), if backends() == 0 { 5 } else { backends() })
}

fn many_connections<C: Client>(open: fn() -> Fallible<C>) -> Fallible<()> {
    for number in 0..40 {
        equal(open()?.text(&format!("select '{number}'"))?, number.to_string())?;
    }
    let mut crowd = Crowd::open(12, open)?;
    crowd.turns(2, |client, number| equal(client.text(&format!("select '{number}'"))?, number.to_string()))
}

fn commit_and_rollback<C: Client>(crowd: &mut Crowd<C>) -> Fallible<()> {
    crowd.last.run("delete from account")?;
    crowd.turns(4, |client, number| {
        client.run("begin")?;
        client.run(&format!(
            "insert into account values ({number}, 'kept', 1) on conflict (id) do update set balance = account.balance + 1"
        ))?;
        client.run("commit")?;
        client.run("begin")?;
        client.run(&format!("update account set owner = 'lost' where id = {number}"))?;
        client.run("rollback")
    })?;
    let rows =
        crowd.last.text("select string_agg(concat_ws(' ', id, owner, balance), ',' order by id) from account")?;
    equal(rows, "0 kept 4,1 kept 4,2 kept 4,3 kept 4,4 kept 4")
}

fn failed_statement<C: Client>(crowd: &mut Crowd<C>) -> Fallible<()> {
    crowd.turns(4, |client, number| {
        client.run("begin")?;
        fails("22012", client.text("select (1 / 0)::text"))?;
        fails("25P02", client.text("select 'in a failed transaction'"))?;
        client.run("rollback")?;
        fails("42P01", client.text("select x::text from no_such_table"))?;
        equal(client.text(&format!("select '{number}'"))?, number.to_string())
    })
}

fn savepoints<C: Client>(crowd: &mut Crowd<C>) -> Fallible<()> {
    crowd.last.run("delete from account")?;
    crowd.turns(2, |client, number| {
        client.run("begin")?;
        client.run(&format!("insert into account values ({number}, 'a', 1) on conflict do nothing"))?;
        client.run("savepoint before")?;
        fails("23505", client.run(&format!("insert into account values ({number}, 'b', 2)")))?;
        client.run("rollback to savepoint before")?;
        client.run(&format!("update account set balance = balance + 10 where id = {number}"))?;
        client.run("commit")
    })?;
    equal(crowd.last.text("select sum(balance) || min(owner) from account")?, "105a")
}

fn concurrent_transactions<C: Client + Send + 'static>(open: fn() -> Fallible<C>) -> Fallible<()> {
    let crowd = Crowd::open(6, open)?;
    let mut last = crowd.last;
    last.run("delete from account")?;
    last.run("insert into account select n, 'x', 0 from generate_series(0, 5) n union values (100, 'all', 0)")?;
    let workers: Vec<_> = crowd
        .clients
        .into_iter()
        .enumerate()
        .map(|(number, mut client)| {
            thread::spawn(move || -> Fallible<()> {
                for _ in 0..20 {
                    client.run("begin")?;
                    client.run("update account set balance = balance + 1 where id = 100")?;
                    client.run(&format!("update account set balance = balance + 1 where id = {number}"))?;
                    client.run("commit")?;
                    equal(client.text(&format!("select '{number}'"))?, number.to_string())?;
                }
                Ok(())
            })
        })
        .collect();
    for worker in workers {
        worker.join().expect("a worker that ends")?;
    }
    equal(last.text("select string_agg(balance::text, ' ' order by id) from account")?, "20 20 20 20 20 20 120")
}

fn each_sees_its_own<C: Client>(crowd: &mut Crowd<C>) -> Fallible<()> {
    crowd.turns(6, |client, number| {
        equal(client.text(SETTINGS)?, format!("{} {}ms value {number}", ZONES[number], 10001 + number))
    })?;
    // The one that only held a backend has set nothing.
    equal(crowd.last.text(SETTINGS)?.trim_end(), "UTC 0")?;
    for client in &mut crowd.clients {
        client.run("reset timezone")?;
        client.run("reset statement_timeout")?;
        client.run("reset app.custom")?;
    }
    crowd.turns(2, |client, _| equal(client.text(SETTINGS)?.trim_end(), "UTC 0"))
}

fn set_settings<C: Client>(crowd: &mut Crowd<C>) -> Fallible<()> {
    crowd.turns(1, |client, number| {
        client.run(&format!("set timezone to '{}'", ZONES[number]))?;
        client.run(&format!("set statement_timeout = {}", 10001 + number))?;
        client.run(&format!("set app.custom = 'value {number}'"))
    })?;
    each_sees_its_own(crowd)
}

fn set_config<C: Client>(crowd: &mut Crowd<C>) -> Fallible<()> {
    crowd.turns(1, |client, number| {
        client.text(&format!("select set_config('TimeZone', '{}', false)", ZONES[number]))?;
        client.text(&format!("select set_config('statement_timeout', '{}', false)", 10001 + number))?;
        client.text(&format!("select set_config('app.custom', 'value {number}', false)")).map(drop)
    })?;
    each_sees_its_own(crowd)
}

fn set_in_transactions<C: Client>(crowd: &mut Crowd<C>) -> Fallible<()> {
    crowd.turns(1, |client, number| {
        client.run("begin")?;
        client.run(&format!("set app.custom = 'kept {number}'"))?;
        client.run("commit")
    })?;
    crowd.turns(2, |client, _| {
        client.run("begin")?;
        client.run("set app.custom = 'rolled back'")?;
        equal(client.text(CUSTOM)?, "rolled back")?;
        client.run("rollback")?;
        client.run("begin")?;
        client.run("set local app.custom = 'local'")?;
        equal(client.text(CUSTOM)?, "local")?;
        client.run("commit")
    })?;
    crowd.turns(2, |client, number| equal(client.text(CUSTOM)?, format!("kept {number}")))
}

fn search_path<C: Client>(crowd: &mut Crowd<C>) -> Fallible<()> {
    crowd.turns(1, |client, number| {
        client.run(&format!("create schema if not exists tenant_{number}"))?;
        client
            .run(&format!("create table if not exists tenant_{number}.thing as select 'of {number}'::text as name"))?;
        client.run(&format!("set search_path = tenant_{number}"))
    })?;
    crowd.turns(8, |client, number| equal(client.text("select name from thing")?, format!("of {number}")))?;
    fails("42P01", crowd.last.text("select name from thing"))
}

fn sql_prepare<C: Client>(crowd: &mut Crowd<C>) -> Fallible<()> {
    crowd.turns(1, |client, number| {
        client.run(&format!("prepare plan_a (int) as select ($1 + {})::text", 100 * number))
    })?;
    crowd.turns(4, |client, number| equal(client.text("execute plan_a(1)")?, (100 * number + 1).to_string()))?;
    fails("26000", crowd.last.text("execute plan_a(1)"))?;
    crowd.clients[0].run("deallocate plan_a")?;
    fails("26000", crowd.clients[0].text("execute plan_a(2)"))?;
    for number in 1..5 {
        equal(crowd.clients[number].text("execute plan_a(3)")?, (100 * number + 3).to_string())?;
    }
    crowd.clients[0].run("prepare plan_a as select 'again'")?;
    crowd.held(0, |client| equal(client.text("execute plan_a")?, "again"))
}

fn statement_timeout<C: Client>(crowd: &mut Crowd<C>) -> Fallible<()> {
    let nap = "select 'slept' || pg_sleep(0.3)::text";
    crowd.clients[0].run("set statement_timeout = 100")?;
    crowd.held(0, |hasty| fails("57014", hasty.text("select pg_sleep(10)::text")))?;
    equal(crowd.clients[1].text(nap)?, "slept")?;
    fails("57014", crowd.clients[0].text("select pg_sleep(10)::text"))?;
    crowd.clients[0].run("set statement_timeout = 0")?;
    crowd.held(0, |hasty| equal(hasty.text(nap)?, "slept"))
}

// What PostgreSQL keeps for a session: one client at a time has some, so that the others have a backend left.

fn temp_table<C: Client>(crowd: &mut Crowd<C>) -> Fallible<()> {
    let exists = "select (to_regclass('pg_temp.scratch') is not null)::text";
    for owner in 0..4 {
        crowd.clients[owner].run("create temp table scratch (n int)")?;
        for count in 1..5 {
            crowd.held(owner, |client| {
                client.run("begin")?;
                client.run(&format!("insert into scratch values ({count})"))?;
                client.run("commit")?;
                equal(
                    client.text("select count(*) || ' ' || sum(n) from scratch")?,
                    format!("{count} {}", count * (count + 1) / 2),
                )
            })?;
            equal(crowd.clients[owner + 1].text(exists)?, "false")?;
        }
        crowd.clients[owner].run("drop table scratch")?;
        for client in &mut crowd.clients {
            equal(client.text(exists)?, "false")?;
        }
    }
    Ok(())
}

fn advisory_lock<C: Client>(crowd: &mut Crowd<C>) -> Fallible<()> {
    for owner in 0..4 {
        crowd.clients[owner].text("select pg_advisory_lock(4711)::text")?;
        for _ in 0..3 {
            crowd.held(owner, |client| equal(client.text("select 'still here'")?, "still here"))?;
            equal(crowd.clients[owner + 1].text("select pg_try_advisory_xact_lock(4711)::text")?, "false")?;
        }
        crowd.held(owner, |client| equal(client.text("select pg_advisory_unlock(4711)::text")?, "true"))?;
        equal(crowd.clients[owner + 1].text("select pg_try_advisory_lock(4711)::text")?, "true")?;
        equal(crowd.clients[owner + 1].text("select pg_advisory_unlock(4711)::text")?, "true")?;
    }
    Ok(())
}

fn cursor_with_hold<C: Client>(crowd: &mut Crowd<C>) -> Fallible<()> {
    let some = |numbers: &[&str]| numbers.iter().map(|n| Some((*n).to_owned())).collect::<Vec<_>>();
    for owner in 0..4 {
        crowd.clients[owner].run("begin")?;
        crowd.clients[owner].run("declare held cursor with hold for select n::text from generate_series(1, 9) n")?;
        equal(crowd.clients[owner].texts("fetch 2 from held")?, some(&["1", "2"]))?;
        crowd.clients[owner].run("commit")?;
        crowd.held(owner, |client| equal(client.texts("fetch 3 from held")?, some(&["3", "4", "5"])))?;
        fails("34000", crowd.clients[owner + 1].texts("fetch 1 from held"))?;
        crowd.clients[owner].run("close held")?;
        fails("34000", crowd.clients[owner].texts("fetch 1 from held"))?;
    }
    Ok(())
}

fn discard_all<C: Client>(crowd: &mut Crowd<C>) -> Fallible<()> {
    crowd.clients[1].run("set app.custom = 'of the second'")?;
    let first = &mut crowd.clients[0];
    first.run("set app.custom = 'of the first'")?;
    first.run("prepare plan_b as select 'b'")?;
    first.run("create temp table scratch (n int)")?;
    first.text("select pg_advisory_lock(4712)::text")?;
    first.run("discard all")?;
    for _ in 0..2 {
        crowd.held(0, |client| {
            // Texts of this case only: DISCARD ALL has thrown away what the driver had prepared before.
            equal(client.text("select coalesce(current_setting('app.custom', true), '') as after_discard")?, "")?;
            equal(client.text("select (to_regclass('pg_temp.scratch') is null)::text")?, "true")
        })?;
        equal(crowd.clients[1].text(CUSTOM)?, "of the second")?;
    }
    fails("26000", crowd.clients[0].text("execute plan_b"))?;
    equal(crowd.clients[1].text("select pg_try_advisory_lock(4712)::text")?, "true")?;
    equal(crowd.clients[1].text("select pg_advisory_unlock(4712)::text")?, "true")?;
    crowd.clients[1].run("reset app.custom")
}
