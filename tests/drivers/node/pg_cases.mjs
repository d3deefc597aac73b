// node-postgres (pg): unnamed statements for queries with values, named ones where the application names them.

import { pipeline } from "node:stream/promises";
import { Readable } from "node:stream";

import pg from "pg";
import copyStreams from "pg-copy-streams";
import Cursor from "pg-cursor";

import { BACKENDS, Crowd, EVERYTHING, equal, eventually, fails, main, range, test } from "./cases.mjs";
import { register } from "./session_cases.mjs";

class Client {
  static async open(options) {
    const client = new Client();
    client.connection = new pg.Client(options);
    client.connection.on("error", () => {});
    await client.connection.connect();
    return client;
  }

  async rows(text, values) {
    return (await this.connection.query({ text, values, rowMode: "array" })).rows;
  }

  run(text, values) {
    return this.connection.query(text, values);
  }

  begin() {
    return this.run("begin");
  }

  commit() {
    return this.run("commit");
  }

  rollback() {
    return this.run("rollback");
  }

  close() {
    return this.connection.end();
  }
}

const crowd = (name, size, work) => test(name, () => Crowd.with(() => Client.open(), size, work));

crowd("connect", 5, (crowd) =>
  crowd.turns(2, async (client, number) => {
    equal(await client.rows("select current_user::text as u, $1::int as n", [number]), [["app", number]]);
  }));

crowd("parameters", 5, (crowd) =>
  crowd.turns(20, async (client, number) => {
    equal(await client.rows("select $1::int + 1 as n, $2 as t", [number, "é'\\"]), [[number + 1, "é'\\"]]);
  }));

crowd("prepared", 5, async (crowd) => {
  await crowd.turns(20, async (client, number) => {
    // One name, another statement on each connection.
    const named = { name: "by_name", text: `select $1::int + ${100 * number} as n`, values: [number], rowMode: "array" };
    equal((await client.connection.query(named)).rows, [[101 * number]]);
  });
  if (!BACKENDS) equal(await crowd.clients[0].rows("select name from pg_prepared_statements"), [["by_name"]]);
});

crowd("prepared_many", 3, (crowd) =>
  crowd.turns(3, async (client, number) => {
    for (const n of range(120)) {
      const query = { name: `statement ${n}`, text: `select ${n} + $1::int as n`, values: [number] };
      equal((await client.connection.query(query)).rows, [{ n: n + number }]);
    }
  }));

crowd("prepared_concurrently", 6, (crowd) =>
  Promise.all(crowd.clients.map(async (client, number) => {
    for (const n of range(50)) {
      const double = { name: "double", text: "select $1::int * 2 as n, $2::text as t", values: [n, `${number}`] };
      equal((await client.connection.query(double)).rows, [{ n: 2 * n, t: `${number}` }]);
      await client.begin();
      const triple = { name: "triple", text: "select $1::int * 3 as n", values: [n] };
      equal((await client.connection.query(triple)).rows, [{ n: 3 * n }]);
      await client.commit();
    }
  })));

crowd("prepared_and_failing", 5, (crowd) =>
  crowd.turns(6, async (client, number) => {
    const divide = (by) => client.connection.query({ name: "divide", text: "select 6 / $1::int as n", values: [by] });
    await fails("22012", () => divide(0));
    await fails("42P01", () => client.connection.query({ name: "wrong", text: "select * from no_such_table" }));
    equal((await divide(number + 1)).rows, [{ n: Math.floor(6 / (number + 1)) }]);
  }));

crowd("queued", 5, (crowd) =>
  crowd.turns(4, async (client, number) => {
    const answers = await Promise.all(range(30).map((n) => client.rows("select $1::int + $2::int as n", [n, number])));
    equal(answers, range(30).map((n) => [[n + number]]));
  }));

const columns = Object.keys(EVERYTHING);

async function everything(crowd, options) {
  await crowd.last.run("delete from everything");
  const marks = columns.map((_, at) => `$${at + 2}`).join(", ");
  await crowd.turns(1, (client, number) => client.run(
    `insert into everything (id, ${columns.join(", ")}) values ($1, ${marks})`, [number, ...Object.values(EVERYTHING)]));
  await crowd.turns(4, async (client, number) => {
    const text = `select ${columns.join(", ")} from everything where id = $1`;
    const { rows } = await client.connection.query({ ...options, text, values: [number] });
    equal(rows, [EVERYTHING]);
  });
}

crowd("types_text", 5, (crowd) => everything(crowd, {}));
crowd("types_prepared", 5, (crowd) => everything(crowd, { name: "everything" }));

// This version reads binary values as UTF-8 first, so only such whose bytes are ASCII arrive as they are.
test("types_binary", () => Crowd.with(() => Client.open({ binary: true }), 5, (crowd) =>
  crowd.turns(4, async (client, number) => {
    const query = { text: "select $1::int as i, true as b, 'ü'::text as t, null as n", values: [number] };
    equal((await client.connection.query(query)).rows, [{ i: number, b: true, t: "ü", n: null }]);
  })));

crowd("copy", 5, async (crowd) => {
  await crowd.last.run("delete from account");
  await crowd.turns(2, async (client, number) => {
    const lines = range(500).map((n) => `${1000 * number + n}\tähm ${n}\t${n}\n`);
    await client.run("delete from account where id / 1000 = $1", [number]);
    await pipeline(Readable.from(lines), client.connection.query(copyStreams.from("copy account from stdin")));
    const out = client.connection.query(
      copyStreams.to(`copy (select * from account where id / 1000 = ${number} order by id) to stdout`));
    const chunks = [];
    for await (const chunk of out) chunks.push(chunk);
    equal(Buffer.concat(chunks).toString(), lines.join(""));
    await fails("23505", () => pipeline(
      Readable.from(lines.slice(0, 1)), client.connection.query(copyStreams.from("copy account from stdin"))));
  });
  equal(await crowd.last.rows("select count(*)::int as n from account"), [[2500]]);
});

crowd("cursor", 5, (crowd) =>
  crowd.turns(2, async (client, number) => {
    await client.begin();
    const cursor = client.connection.query(
      new Cursor("select n + $1::int as n from generate_series(1, 1000) n", [number], { rowMode: "array" }));
    let total = 0;
    for (let rows = await cursor.read(90); rows.length; rows = await cursor.read(90)) {
      for (const [n] of rows) total += n;
    }
    await cursor.close();
    await client.commit();
    equal(total, 500500 + 1000 * number);
  }));

crowd("cursor_left_early", 5, (crowd) =>
  crowd.turns(2, async (client, number) => {
    const cursor = client.connection.query(new Cursor("select n from generate_series(1, 1000) n"));
    equal((await cursor.read(2)).length, 2);
    await cursor.close();
    equal(await client.rows("select $1::int as n", [number]), [[number]]);
  }));

crowd("listen_notify", 4, async (crowd) => {
  const [listener, sender, ...others] = crowd.clients;
  const got = [];
  const receive = async () => {
    await eventually(() => got.length);
    return got.splice(0);
  };
  listener.connection.on("notification", (news) => got.push(`${news.channel}: ${news.payload}`));
  for (const other of others) other.connection.on("notification", () => got.push("to somebody else"));
  await listener.run("listen news");
  for (const number of range(6)) {
    await sender.run("select pg_notify('news', $1)", [`idle ${number}`]);
    for (const other of others) equal(await other.rows("select $1::int as n", [number]), [[number]]);
    equal(await receive(), [`news: idle ${number}`]);
  }
  await listener.begin();
  equal(await listener.rows("select 'busy' as x"), [["busy"]]);
  await sender.run("notify news, 'in a transaction'");
  await listener.commit();
  equal(await receive(), ["news: in a transaction"]);
  await listener.run("listen last");
  await listener.run("unlisten news");
  await sender.run("notify news, 'nobody'");
  await sender.run("notify last, 'the end'");
  equal(await receive(), ["last: the end"]);
  await listener.run("unlisten *");
});

// The driver's own way to cancel a query: another connection that sends the cancel request.
crowd("cancel", 3, (crowd) =>
  crowd.turns(2, async (client, number) => {
    const query = new pg.Query("select pg_sleep(10)");
    const ended = new Promise((done, failed) => query.on("end", done).on("error", failed));
    client.connection.query(query);
    setTimeout(() => new pg.Client().cancel(client.connection, query), 300);
    await fails("57014", () => ended);
    equal(await client.rows("select $1::int as n", [number]), [[number]]);
  }));

test("pool", async () => {
  for (const _ of range(3)) {
    const pool = new pg.Pool({ max: 6 });
    await Promise.all(range(60).map(async (number) => {
      equal((await pool.query("select $1::int as n", [number])).rows, [{ n: number }]);
      const client = await pool.connect();
      try {
        await client.query("begin");
        await client.query("set local app.custom = 'mine'");
        const query = { name: "custom", text: "select current_setting('app.custom') as x" };
        equal((await client.query(query)).rows, [{ x: "mine" }]);
        await client.query("commit");
      } finally {
        client.release();
      }
    }));
    await pool.end();
  }
});

crowd("console", 1, async (crowd) => {
  if (BACKENDS === 0) return; // PostgreSQL has none
  await crowd.turns(1, (client) => client.run("select 1"));
  const console = new pg.Client({ database: "pgbouncer" });
  await console.connect();
  const users = async (command) => (await console.query(command)).rows.map((row) => row.user);
  equal((await users("SHOW POOLS")).includes("app"), true);
  equal((await users("SHOW CLIENTS")).includes("app"), true);
  const lists = (await console.query("SHOW LISTS")).rows;
  equal(lists.find((row) => row.list === "pools").items > 0, true);
  await console.end();
});

register(() => Client.open());
await main("pg");
