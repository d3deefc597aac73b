// Knex, the query builder, on pg with Knex's own pool.

import knex from "knex";

import { Crowd, EVERYTHING, equal, fails, main, range, test } from "./cases.mjs";
import { register } from "./session_cases.mjs";

// A Knex with one connection.
class Client {
  static async open() {
    const client = new Client();
    client.knex = knex({ client: "pg", connection: {}, pool: { min: 1, max: 1 } });
    client.current = client.knex;
    return client;
  }

  async rows(text) {
    return (await this.current.raw(text)).rows.map((row) => Object.values(row));
  }

  run(text) {
    return this.current.raw(text);
  }

  async begin() {
    this.current = await this.knex.transaction();
  }

  commit() {
    const transaction = this.current;
    this.current = this.knex;
    return transaction.commit();
  }

  rollback() {
    const transaction = this.current;
    this.current = this.knex;
    return transaction.rollback();
  }

  close() {
    return this.knex.destroy();
  }
}

const crowd = (name, size, work) => test(name, () => Crowd.with(Client.open, size, work));

crowd("connect", 5, (crowd) =>
  crowd.turns(2, async (client, number) => {
    equal((await client.knex.raw("select current_user::text as u, ?::int as n", [number])).rows, [{ u: "app", n: number }]);
  }));

crowd("builder", 5, async (crowd) => {
  await crowd.last.knex("account").del();
  await crowd.turns(10, async ({ knex }, number) => {
    await knex("account").insert({ id: number, owner: "é'\\", balance: 1 }).onConflict("id").merge({
      balance: knex.raw("account.balance + 1") });
    equal(await knex("account").where({ id: number }).pluck("owner"), ["é'\\"]);
    const found = await knex("account").whereIn("id", [number]).andWhere("balance", ">", 0).count("* as n").first();
    equal(found, { n: "1" });
  });
  equal(await crowd.last.knex("account").sum("balance as s").first(), { s: "50" });
});

crowd("types", 5, async (crowd) => {
  await crowd.last.knex("everything").del();
  await crowd.turns(1, ({ knex }, number) => knex("everything").insert({ id: number, ...EVERYTHING }));
  await crowd.turns(6, async ({ knex }, number) => {
    equal(await knex("everything").where({ id: number }).select(Object.keys(EVERYTHING)), [EVERYTHING]);
  });
});

crowd("transaction_blocks", 5, async (crowd) => {
  await crowd.last.knex("account").del();
  await crowd.turns(4, async ({ knex }, number) => {
    await knex.transaction(async (transaction) => {
      await transaction("account").insert({ id: number, owner: "a", balance: 0 }).onConflict("id").ignore();
      await fails("23505", () => transaction.transaction((nested) =>
        nested("account").insert({ id: number, owner: "b", balance: 0 })));
      await transaction("account").where({ id: number }).forUpdate().increment("balance", 1);
    }, { isolationLevel: "repeatable read" });
    await fails("22012", () => knex.transaction(async (transaction) => {
      await transaction("account").where({ id: number }).update({ balance: -1 });
      await transaction.raw("select 1 / 0");
    }));
  });
  equal(await crowd.last.knex("account").orderBy("id").select("id", "owner", "balance"),
    range(5).map((number) => ({ id: number, owner: "a", balance: "4" })));
});

crowd("batch_insert", 3, async (crowd) => {
  await crowd.turns(2, async ({ knex }, number) => {
    await knex("account").where(knex.raw("id / 1000 = ?", [number])).del();
    const rows = range(300).map((n) => ({ id: 1000 * number + n, owner: "batch", balance: n }));
    const ids = await knex.batchInsert("account", rows, 70).returning("id");
    equal(ids.map(({ id }) => id), rows.map(({ id }) => id));
  });
});

crowd("schema_builder", 3, (crowd) =>
  crowd.turns(3, async ({ knex }, number) => {
    const name = `made_by_knex_${number}`;
    await knex.schema.dropTableIfExists(name);
    await knex.schema.createTable(name, (table) => {
      table.increments("id");
      table.jsonb("doc").notNullable();
    });
    equal(await knex.schema.hasColumn(name, "doc"), true);
    equal(await knex(name).insert({ doc: { number } }).returning("*"), [{ id: 1, doc: { number } }]);
    await knex.schema.dropTable(name);
  }));

// The driver's time limit: it gives up the connection with the running query. Its option `cancel` is no use behind any
// pooler: it calls pg_cancel_backend() with a process id that it thinks is its backend's.
crowd("time_limit", 3, (crowd) =>
  crowd.turns(2, async ({ knex }, number) => {
    const error = await knex.raw("select pg_sleep(1)").timeout(200).catch((error) => error);
    equal(error.name, "KnexTimeoutError");
    equal((await knex.raw("select ?::int as n", [number])).rows, [{ n: number }]);
  }));

test("pool", async () => {
  for (const _ of range(3)) {
    const pool = knex({ client: "pg", connection: {} });
    await pool("account").del();
    await Promise.all(range(60).map(async (number) => {
      await pool.transaction(async (transaction) => {
        await transaction("account").insert({ id: number, owner: "pool", balance: number });
        equal(await transaction("account").where({ id: number }).pluck("balance"), [`${number}`]);
      });
      equal((await pool.raw("select ?::int as n", [number])).rows, [{ n: number }]);
    }));
    equal(await pool("account").sum("balance as s").first(), { s: "1770" });
    await pool.destroy();
  }
});

register(Client.open);
await main("knex");
