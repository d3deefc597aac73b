// A handler that takes a client out of the pool and forgets client.release() on its way out.
import { createRequire } from "node:module";

const pg = createRequire(new URL("../node/", import.meta.url))("pg");
const pool = new pg.Pool({ max: 5, application_name: "checkout-api" });

async function handle(order) {
  const client = await pool.connect();
  const { rows } = await client.query("select $1::int as id", [order]);
  return rows[0];
}

for (let order = 0; order < 5; order += 1) {
  await handle(order);
}
console.log("ready");
process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
