// What the Node.js programs share: registering and running cases, and several clients at work in turns.

import { readFileSync } from "node:fs";
import { isDeepStrictEqual, inspect } from "node:util";

export const BACKENDS = Number(process.env.PGPOOL_BACKENDS ?? 0);
const CASES = new Map();

// A row for the table `everything`, in the order of its columns behind the id; big numbers as the drivers give them.
export const EVERYTHING = {
  an_int: -2147483648,
  a_bigint: "9007199254740993",
  a_numeric: "12345678901234567890.000000001",
  a_float: 0.1,
  a_bool: true,
  a_text: "Grüße, 世界 🐘 '\"\\",
  a_bytea: Buffer.from([0, 1, 0x27, 0x5c, 0xfe, 0xff]),
  a_timestamptz: new Date("2024-02-29T12:34:56.789Z"),
  a_uuid: "0b8f3c52-7d1e-4c55-9b1a-2f6f0c9d7e11",
  a_json: { list: [1, null, "é"] },
  a_jsonb: { deep: { x: 1.5 } },
  ints: [3, -1, 2],
  texts: ["a b", 'ü,"', ""],
  nothing: null,
};

export function test(name, body) {
  CASES.set(name, body);
}

export async function main(driver) {
  const chosen = process.argv.length > 2 ? process.argv.slice(2) : [...CASES.keys()];
  console.log("plan", ...chosen);
  for (const name of chosen) {
    try {
      await CASES.get(name)();
      console.log(`ok ${name}`);
    } catch (error) {
      console.log(`not ok ${name}: ${explain(error)}`);
    }
  }
  const { version } = JSON.parse(readFileSync(new URL(`node_modules/${driver}/package.json`, import.meta.url)));
  console.log(`version ${driver} ${version}`);
  // A client that did not come to its end would keep the program alive.
  process.exit(0);
}

function explain(error) {
  const place = /\w+_cases\.mjs:\d+/.exec(error.stack ?? "")?.[0] ?? "?";
  return `${place}: ${`${error.code ?? ""} ${error.message}`.replaceAll(/\s+/g, " ").slice(0, 400)}`;
}

export function equal(got, expected) {
  if (!isDeepStrictEqual(got, expected)) {
    throw new Error(`got ${inspect(got)}, expected ${inspect(expected)}`);
  }
}

// The work has to fail with this SQLSTATE.
export async function fails(sqlstate, work) {
  try {
    await work();
  } catch (error) {
    if (error.code === sqlstate) return;
    throw error;
  }
  throw new Error(`there was no error ${sqlstate}`);
}

// `condition` becomes true, or the time is over.
export async function eventually(condition, seconds = 10) {
  const end = Date.now() + 1000 * seconds;
  while (!condition() && Date.now() < end) await new Promise((done) => setTimeout(done, 20));
}

export const range = (count) => [...Array(count).keys()];

// Clients that work in turns, and one more that only holds a backend. A pool lends the backend that came back last, so
// clients that work one after the other would all use the same one. In every second turn of each client the last one is
// in a transaction, and so the client gets another backend than in its turn before.
export class Crowd {
  static async with(open, size, work) {
    const crowd = new Crowd();
    crowd.all = [];
    try {
      for (const _ of range(size + 1)) crowd.all.push(await open());
      crowd.clients = crowd.all.slice(0, size);
      crowd.last = crowd.all[size];
      await work(crowd);
    } finally {
      await Promise.all(crowd.all.map((client) => Promise.resolve(client.close()).catch(() => {})));
    }
  }

  // While `work` runs a backend is taken.
  async held(work) {
    await this.last.begin();
    await this.last.rows("select 1::text as one");
    await work();
    await this.last.commit();
  }

  async turns(rounds, work) {
    for (const turn of range(rounds)) {
      for (const [number, client] of this.clients.entries()) {
        if ((turn + number) % 2) await this.held(() => work(client, number, turn));
        else await work(client, number, turn);
      }
    }
  }
}
