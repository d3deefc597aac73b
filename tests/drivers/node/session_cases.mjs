// The cases that are SQL and therefore the same for all Node.js drivers. `register` takes a function that opens a client,
// and names of cases that the driver has no way to do:
//
//   rows(sql)    the rows of a query, whose columns are all text, as arrays
//   run(sql)     a statement without rows
//   begin(), commit(), rollback(), close()

import { BACKENDS, Crowd, equal, fails, range, test } from "./cases.mjs";

export function register(open, ...without) {
  const crowd = (name, size, work) => without.includes(name) || test(name, () => Crowd.with(open, size, work));
  for (const part of [clients, transactions, settings, statements, belongings]) part(crowd, open);
}

function clients(crowd, open) {
  crowd("clients_share_backends", 5, async (crowd) => {
    const seen = crowd.clients.map(() => new Set());
    await crowd.turns(4, async (client, number) => {
      seen[number].add((await client.rows("select pg_backend_pid()::text as pid"))[0][0]);
    });
    equal(seen.map((backends) => backends.size), range(5).map(() => (BACKENDS ? 2 : 1)));
    equal(new Set(seen.flatMap((backends) => [...backends])).size, BACKENDS || 5);
  });

  crowd("many_connections", 12, async (crowd) => {
    for (const number of range(40)) {
      const client = await open();
      equal(await client.rows(`select '${number}' as n`), [[`${number}`]]);
      await client.close();
    }
    await crowd.turns(2, async (client, number) => {
      equal(await client.rows(`select '${number}' as n`), [[`${number}`]]);
    });
  });
}

function transactions(crowd) {
  crowd("commit_and_rollback", 5, async (crowd) => {
    await crowd.last.run("delete from account");
    await crowd.turns(4, async (client, number) => {
      await client.begin();
      await client.run(`insert into account values (${number}, 'kept', 1)
        on conflict (id) do update set balance = account.balance + 1`);
      await client.commit();
      await client.begin();
      await client.run(`update account set owner = 'lost' where id = ${number}`);
      await client.rollback();
    });
    const rows = await crowd.last.rows("select id::text, owner, balance::text from account order by account.id");
    equal(rows, range(5).map((number) => [`${number}`, "kept", "4"]));
  });

  crowd("failed_statement", 5, (crowd) =>
    crowd.turns(4, async (client, number) => {
      await client.begin();
      await fails("22012", () => client.rows("select (1 / 0)::text as x"));
      await fails("25P02", () => client.rows("select 'in a failed transaction' as x"));
      await client.rollback();
      await fails("42P01", () => client.rows("select x::text from no_such_table"));
      equal(await client.rows(`select '${number}' as n`), [[`${number}`]]);
    }));

  crowd("savepoints", 5, async (crowd) => {
    await crowd.last.run("delete from account");
    await crowd.turns(2, async (client, number) => {
      await client.begin();
      await client.run(`insert into account values (${number}, 'a', 1) on conflict do nothing`);
      await client.run("savepoint before");
      await fails("23505", () => client.run(`insert into account values (${number}, 'b', 2)`));
      await client.run("rollback to savepoint before");
      await client.run(`update account set balance = balance + 10 where id = ${number}`);
      await client.commit();
    });
    equal(await crowd.last.rows("select sum(balance)::text as s, min(owner) as o from account"), [["105", "a"]]);
  });

  crowd("concurrent_transactions", 6, async (crowd) => {
    await crowd.last.run("delete from account");
    await crowd.last.run(`insert into account select n, 'x', 0 from generate_series(0, 5) n
      union values (100, 'all', 0)`);
    await Promise.all(crowd.clients.map(async (client, number) => {
      for (const _ of range(20)) {
        await client.begin();
        await client.run("update account set balance = balance + 1 where id = 100");
        await client.run(`update account set balance = balance + 1 where id = ${number}`);
        await client.commit();
        equal(await client.rows(`select '${number}' as n`), [[`${number}`]]);
      }
    }));
    equal(await crowd.last.rows("select string_agg(balance::text, ' ' order by id) as b from account"),
      [["20 20 20 20 20 20 120"]]);
  });
}

const SETTINGS = `select current_setting('TimeZone') as a, current_setting('statement_timeout') as b,
  coalesce(current_setting('app.custom', true), '') as c`;
const CUSTOM = "select coalesce(current_setting('app.custom', true), '') as c";
const ZONES = ["Europe/Berlin", "Asia/Tokyo", "America/New_York", "Africa/Cairo", "Australia/Sydney"];

function settings(crowd) {
  async function eachSeesItsOwn(crowd) {
    await crowd.turns(6, async (client, number) => {
      equal(await client.rows(SETTINGS), [[ZONES[number], `${10001 + number}ms`, `value ${number}`]]);
    });
    // The one that only held a backend has set nothing.
    equal(await crowd.last.rows(SETTINGS), [["UTC", "0", ""]]);
    for (const client of crowd.clients) {
      for (const name of ["timezone", "statement_timeout", "app.custom"]) await client.run(`reset ${name}`);
    }
    await crowd.turns(2, async (client) => equal(await client.rows(SETTINGS), [["UTC", "0", ""]]));
  }

  crowd("set_settings", 5, async (crowd) => {
    await crowd.turns(1, async (client, number) => {
      await client.run(`set timezone to '${ZONES[number]}'`);
      await client.run(`set statement_timeout = ${10001 + number}`);
      await client.run(`set app.custom = 'value ${number}'`);
    });
    await eachSeesItsOwn(crowd);
  });

  crowd("set_config", 5, async (crowd) => {
    await crowd.turns(1, async (client, number) => {
      await client.rows(`select set_config('TimeZone', '${ZONES[number]}', false)`);
      await client.rows(`select set_config('statement_timeout', '${10001 + number}', false)`);
      await client.rows(`select set_config('app.custom', 'value ${number}', false)`);
    });
    await eachSeesItsOwn(crowd);
  });

  crowd("set_in_transactions", 5, async (crowd) => {
    await crowd.turns(1, async (client, number) => {
      await client.begin();
      await client.run(`set app.custom = 'kept ${number}'`);
      await client.commit();
    });
    await crowd.turns(2, async (client) => {
      await client.begin();
      await client.run("set app.custom = 'rolled back'");
      equal(await client.rows(CUSTOM), [["rolled back"]]);
      await client.rollback();
      await client.begin();
      await client.run("set local app.custom = 'local'");
      equal(await client.rows(CUSTOM), [["local"]]);
      await client.commit();
    });
    await crowd.turns(2, async (client, number) => equal(await client.rows(CUSTOM), [[`kept ${number}`]]));
  });

  crowd("search_path", 5, async (crowd) => {
    await crowd.turns(1, async (client, number) => {
      await client.run(`create schema if not exists tenant_${number}`);
      await client.run(`create table if not exists tenant_${number}.thing as select 'of ${number}'::text as name`);
      await client.run(`set search_path = tenant_${number}`);
    });
    await crowd.turns(8, async (client, number) => {
      equal(await client.rows("select name from thing"), [[`of ${number}`]]);
    });
    await fails("42P01", () => crowd.last.rows("select name from thing"));
  });
}

function statements(crowd) {
  crowd("sql_prepare", 5, async (crowd) => {
    await crowd.turns(1, (client, number) =>
      client.run(`prepare plan_a (int) as select ($1 + ${100 * number})::text as x`));
    await crowd.turns(4, async (client, number) => {
      equal(await client.rows("execute plan_a(1)"), [[`${100 * number + 1}`]]);
    });
    await fails("26000", () => crowd.last.rows("execute plan_a(1)"));
    const [first, ...others] = crowd.clients;
    await first.run("deallocate plan_a");
    await fails("26000", () => first.rows("execute plan_a(2)"));
    for (const [at, client] of others.entries()) {
      equal(await client.rows("execute plan_a(3)"), [[`${100 * (at + 1) + 3}`]]);
    }
    await first.run("prepare plan_a as select 'again' as x");
    await crowd.held(async () => equal(await first.rows("execute plan_a"), [["again"]]));
  });

  crowd("statement_timeout", 2, async (crowd) => {
    const [hasty, patient] = crowd.clients;
    const nap = "select 'slept' || pg_sleep(0.3)::text as x";
    await hasty.run("set statement_timeout = 100");
    await crowd.held(() => fails("57014", () => hasty.rows("select pg_sleep(10)::text as x")));
    equal(await patient.rows(nap), [["slept"]]);
    await fails("57014", () => hasty.rows("select pg_sleep(10)::text as x"));
    await hasty.run("set statement_timeout = 0");
    await crowd.held(async () => equal(await hasty.rows(nap), [["slept"]]));
  });
}

// What PostgreSQL keeps for a session: one client at a time has some, so that the others have a backend left.
function belongings(crowd) {
  const pairs = (clients) => clients.slice(1).map((other, at) => [clients[at], other]);

  crowd("temp_table", 5, async (crowd) => {
    const exists = "select (to_regclass('pg_temp.scratch') is not null)::text as x";
    for (const [owner, other] of pairs(crowd.clients)) {
      await owner.run("create temp table scratch (n int)");
      for (const count of range(4)) {
        await crowd.held(async () => {
          await owner.begin();
          await owner.run(`insert into scratch values (${count})`);
          await owner.commit();
          equal(await owner.rows("select string_agg(n::text, ' ' order by n) as x from scratch"),
            [[range(count + 1).join(" ")]]);
        });
        equal(await other.rows(exists), [["false"]]);
      }
      await owner.run("drop table scratch");
      for (const client of crowd.clients) equal(await client.rows(exists), [["false"]]);
    }
  });

  crowd("advisory_lock", 5, async (crowd) => {
    for (const [owner, other] of pairs(crowd.clients)) {
      await owner.rows("select pg_advisory_lock(4711)::text as x");
      for (const _ of range(3)) {
        await crowd.held(async () => equal(await owner.rows("select 'still here' as x"), [["still here"]]));
        equal(await other.rows("select pg_try_advisory_xact_lock(4711)::text as x"), [["false"]]);
      }
      await crowd.held(async () => equal(await owner.rows("select pg_advisory_unlock(4711)::text as x"), [["true"]]));
      equal(await other.rows("select pg_try_advisory_lock(4711)::text as x"), [["true"]]);
      equal(await other.rows("select pg_advisory_unlock(4711)::text as x"), [["true"]]);
    }
  });

  crowd("cursor_with_hold", 5, async (crowd) => {
    for (const [owner, other] of pairs(crowd.clients)) {
      await owner.begin();
      await owner.run("declare held cursor with hold for select n::text from generate_series(1, 9) n");
      equal(await owner.rows("fetch 2 from held"), [["1"], ["2"]]);
      await owner.commit();
      await crowd.held(async () => equal(await owner.rows("fetch 3 from held"), [["3"], ["4"], ["5"]]));
      await fails("34000", () => other.rows("fetch 1 from held"));
      await owner.run("close held");
      await fails("34000", () => owner.rows("fetch 1 from held"));
    }
  });

  crowd("discard_all", 5, async (crowd) => {
    const [first, second] = crowd.clients;
    await second.run("set app.custom = 'of the second'");
    await first.run("set app.custom = 'of the first'");
    await first.run("prepare plan_b as select 'b' as x");
    await first.run("create temp table scratch (n int)");
    await first.rows("select pg_advisory_lock(4712)::text as x");
    await first.run("discard all");
    for (const _ of range(2)) {
      await crowd.held(async () => {
        equal(await first.rows(CUSTOM), [[""]]);
        equal(await first.rows("select (to_regclass('pg_temp.scratch') is null)::text as x"), [["true"]]);
      });
      equal(await second.rows(CUSTOM), [["of the second"]]);
    }
    await fails("26000", () => first.rows("execute plan_b"));
    equal(await second.rows("select pg_try_advisory_lock(4712)::text as x"), [["true"]]);
    await second.rows("select pg_advisory_unlock(4712)::text as x");
    await second.run("reset app.custom");
  });
}
