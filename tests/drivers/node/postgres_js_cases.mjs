// postgres.js (postgres): named prepared statements for every query, pipelining, types looked up by itself.

import { pipeline } from "node:stream/promises";
import { Readable } from "node:stream";

import postgres from "postgres";

import { BACKENDS, Crowd, EVERYTHING, equal, eventually, fails, main, range, test } from "./cases.mjs";
import { register } from "./session_cases.mjs";

// A pool of one connection; queries outside of `begin` go to `sql`, within to the transaction's.
class Client {
  static async open() {
    const client = new Client();
    client.pool = postgres({ max: 1, onnotice: () => {} });
    client.sql = client.pool;
    await client.pool`select 1`;
    return client;
  }

  rows(text) {
    return this.sql.unsafe(text, [], { prepare: true }).values().then((rows) => [...rows]);
  }

  run(text) {
    return this.sql.unsafe(text);
  }

  // The driver's transactions are callbacks: this one stays in it until it is told how to end.
  async begin() {
    await new Promise((begun, failed) => {
      this.transaction = this.pool.begin((sql) => {
        this.sql = sql;
        begun();
        return new Promise((done, undo) => Object.assign(this, { done, undo }));
      });
      this.transaction.catch(failed);
    });
  }

  async commit() {
    this.sql = this.pool;
    this.done();
    await this.transaction;
  }

  async rollback() {
    this.sql = this.pool;
    this.undo(new Error("roll back"));
    await this.transaction.catch(() => {});
  }

  close() {
    return this.pool.end({ timeout: 1 });
  }
}

const crowd = (name, size, work) => test(name, () => Crowd.with(Client.open, size, work));

crowd("connect", 5, (crowd) =>
  crowd.turns(2, async ({ sql }, number) => {
    equal([...await sql`select current_user::text as u, ${number}::int as n`], [{ u: "app", n: number }]);
  }));

crowd("prepared", 5, async (crowd) => {
  await crowd.turns(20, async ({ sql }, number) => {
    equal([...await sql`select ${number}::int + 1 as n, ${"é'\\"}::text as t`], [{ n: number + 1, t: "é'\\" }]);
  });
  const [{ sql }] = crowd.clients;
  if (!BACKENDS) equal((await sql`select count(*)::int as n from pg_prepared_statements`)[0].n > 0, true);
});

crowd("prepared_many", 3, (crowd) =>
  crowd.turns(3, async ({ sql }, number) => {
    for (const n of range(120)) {
      equal([...await sql.unsafe(`select ${n} + $1::int as n`, [number], { prepare: true })], [{ n: n + number }]);
    }
  }));

crowd("prepared_concurrently", 6, (crowd) =>
  Promise.all(crowd.clients.map(async ({ sql }, number) => {
    for (const n of range(50)) {
      equal([...await sql`select ${n}::int * 2 as n, ${`${number}`}::text as t`], [{ n: 2 * n, t: `${number}` }]);
      await sql.begin(async (sql) => {
        equal([...await sql`select ${n}::int * 3 as n`], [{ n: 3 * n }]);
        equal([...await sql`select ${number}::int * 4 as n`], [{ n: 4 * number }]);
      });
    }
  })));

crowd("prepared_and_failing", 5, (crowd) =>
  crowd.turns(6, async ({ sql }, number) => {
    await fails("22012", () => sql`select 6 / ${0}::int as n`);
    await fails("42P01", () => sql`select * from no_such_table`);
    equal([...await sql`select 6 / ${number + 1}::int as n`], [{ n: Math.floor(6 / (number + 1)) }]);
  }));

crowd("pipelined", 5, (crowd) =>
  crowd.turns(4, async ({ sql }, number) => {
    const answers = await Promise.all(range(60).map((n) => sql`select ${n}::int + ${number}::int as n`));
    equal(answers.map((rows) => rows[0].n), range(60).map((n) => n + number));
  }));

crowd("types", 5, async (crowd) => {
  await crowd.last.sql`delete from everything`;
  await crowd.turns(1, ({ sql }, number) => sql`insert into everything ${sql({ id: number, ...EVERYTHING })}`);
  await crowd.turns(6, async ({ sql }, number) => {
    const columns = Object.keys(EVERYTHING);
    equal([...await sql`select ${sql(columns)} from everything where id = ${number}`], [EVERYTHING]);
  });
});

crowd("transaction_blocks", 5, async (crowd) => {
  await crowd.last.sql`delete from account`;
  await crowd.turns(4, async ({ sql }, number) => {
    await sql.begin("isolation level repeatable read", async (sql) => {
      await sql`insert into account values (${number}, 'a', 0) on conflict do nothing`;
      await fails("23505", () => sql.savepoint((sql) => sql`insert into account values (${number}, 'b', 0)`));
      await sql`update account set balance = balance + 1 where id = ${number}`;
    });
    await fails("22012", () => sql.begin(async (sql) => {
      await sql`update account set balance = -1 where id = ${number}`;
      await sql`select 1 / 0`;
    }));
  });
  equal([...await crowd.last.sql`select id, owner, balance::int from account order by id`],
    range(5).map((number) => ({ id: number, owner: "a", balance: 4 })));
});

crowd("copy", 5, async (crowd) => {
  await crowd.last.sql`delete from account`;
  await crowd.turns(2, async ({ sql }, number) => {
    const lines = range(500).map((n) => `${1000 * number + n}\tähm ${n}\t${n}\n`);
    await sql`delete from account where id / 1000 = ${number}`;
    await pipeline(Readable.from(lines), await sql`copy account from stdin`.writable());
    const out = await sql.unsafe(
      `copy (select * from account where id / 1000 = ${number} order by id) to stdout`).readable();
    const chunks = [];
    for await (const chunk of out) chunks.push(chunk);
    equal(Buffer.concat(chunks).toString(), lines.join(""));
  });
  equal([...await crowd.last.sql`select count(*)::int as n from account`], [{ n: 2500 }]);
});

crowd("cursor", 5, (crowd) =>
  crowd.turns(2, async ({ sql }, number) => {
    let total = 0;
    for await (const rows of sql`select n + ${number}::int as n from generate_series(1, 1000) n`.cursor(90)) {
      for (const { n } of rows) total += n;
    }
    equal(total, 500500 + 1000 * number);
    await sql.begin(async (sql) => {
      for await (const [row] of sql`select n from generate_series(1, 1000) n`.cursor()) {
        if (row.n === 3) break;
      }
    });
  }));

// listen() opens a connection of its own, which never does anything else.
crowd("listen_notify", 3, async (crowd) => {
  const [listener, sender, other] = crowd.clients;
  const got = [];
  const receive = async () => {
    await eventually(() => got.length);
    return got.splice(0);
  };
  const news = await listener.sql.listen("news", (payload) => got.push(`news: ${payload}`));
  for (const number of range(6)) {
    await sender.sql.notify("news", `idle ${number}`);
    equal([...await other.sql`select ${number}::int as n`], [{ n: number }]);
    equal(await receive(), [`news: idle ${number}`]);
  }
  await listener.sql.listen("last", (payload) => got.push(`last: ${payload}`));
  await news.unlisten();
  await sender.sql.notify("news", "nobody");
  await sender.sql.notify("last", "the end");
  equal(await receive(), ["last: the end"]);
});

crowd("cancel", 3, (crowd) =>
  crowd.turns(2, async ({ sql }, number) => {
    const query = sql`select pg_sleep(10)`;
    setTimeout(() => query.cancel(), 300);
    await fails("57014", () => query);
    equal([...await sql`select ${number}::int as n`], [{ n: number }]);
  }));

test("pool", async () => {
  for (const _ of range(3)) {
    const sql = postgres({ onnotice: () => {} });
    await Promise.all(range(60).map(async (number) => {
      equal([...await sql`select ${number}::int as n`], [{ n: number }]);
      await sql.begin(async (sql) => {
        await sql`select set_config('app.custom', ${`${number}`}, true)`;
        equal([...await sql`select current_setting('app.custom') as x`], [{ x: `${number}` }]);
      });
    }));
    const reserved = await sql.reserve();
    equal([...await reserved`select 'reserved' as x`], [{ x: "reserved" }]);
    reserved.release();
    await sql.end();
  }
});

// It ends a transaction with the first error outside of its own savepoints: see transaction_blocks.
register(Client.open, "savepoints");
await main("postgres");
