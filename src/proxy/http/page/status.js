"use strict";
// Shows /status.json, again every two seconds. Whatever comes from there is put in as text, never as markup.

const EVERY = 2000;
const SVG = "http://www.w3.org/2000/svg";
const $ = (id) => document.getElementById(id);
let before = null;

function element(name, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function number(value) {
  if (value >= 1e9) return (value / 1e9).toFixed(1) + " G";
  if (value >= 1e6) return (value / 1e6).toFixed(1) + " M";
  if (value >= 1e4) return (value / 1e3).toFixed(1) + " k";
  return value >= 100 || Number.isInteger(value) ? String(Math.round(value)) : value.toFixed(1);
}

function time(seconds) {
  if (seconds <= 0) return "0";
  if (seconds < 0.001) return Math.round(seconds * 1e6) + " µs";
  if (seconds < 1) return (seconds * 1000).toFixed(seconds < 0.1 ? 1 : 0) + " ms";
  if (seconds < 120) return seconds.toFixed(1) + " s";
  if (seconds < 7200) return Math.round(seconds / 60) + " min";
  if (seconds < 172800) return Math.round(seconds / 3600) + " h";
  return Math.round(seconds / 86400) + " days";
}

function cell(label, content, kind) {
  const made = element("td", undefined, kind);
  made.dataset.label = label;
  made.append(content);
  return made;
}

// A bar of parts of a whole.
function bar(whole, parts, title) {
  const made = element("div", undefined, "bar");
  made.title = title;
  for (const [kind, value] of parts) {
    const part = element("i", undefined, kind);
    part.style.width = (100 * value) / Math.max(whole, 1) + "%";
    made.append(part);
  }
  return made;
}

function tiles(now) {
  const sum = (name) => now.pools.reduce((all, pool) => all + pool[name], 0);
  const longest = now.pools.reduce((most, pool) => Math.max(most, pool.wait_us), 0) / 1e6;
  const waiting = sum("waiting");
  const shown = [
    ["clients of " + number(now.clients_max), number(now.clients), false],
    ["waiting", waiting ? number(waiting) + ", " + time(longest) : "0", waiting > 0],
    ["connections lent", number(sum("active")), false],
    ["connections idle", number(sum("idle")), false],
    ["pinned", number(sum("pinned")), false],
    ["errors of the pooler", number(now.errors), false],
    ["failed logins", number(now.login_failures), false],
    ["memory", number(now.resident) + "B", false],
  ];
  $("tiles").replaceChildren(...shown.map(([name, value, isBad]) => {
    const tile = element("div", undefined, isBad ? "tile not-well" : "tile");
    tile.append(element("b", value), element("span", name));
    return tile;
  }));
}

function chart(name, values, unit, show) {
  const made = element("div", undefined, "chart");
  const head = element("div");
  const last = values.length ? values[values.length - 1] : 0;
  const most = values.reduce((one, other) => Math.max(one, other), 0);
  const value = element("b", show(last) + unit);
  value.dataset.rate = name;
  value.dataset.value = last;
  head.append(element("span", name), value, element("span", "most " + show(most)));
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 150 60");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", name + ", the last five minutes");
  const from = 150 - values.length + 1;
  const points = values.map((one, at) => from + at + "," + (58 - (54 * one) / Math.max(most, 1e-9)).toFixed(2));
  if (points.length) {
    const area = document.createElementNS(SVG, "polygon");
    area.setAttribute("points", [from + ",60", ...points, "150,60"].join(" "));
    const line = document.createElementNS(SVG, "polyline");
    line.setAttribute("points", points.join(" "));
    svg.append(area, line);
  }
  made.append(head, svg);
  return made;
}

function charts(trend) {
  $("charts").replaceChildren(
    chart("transactions", trend.transactions, "/s", number),
    chart("queries", trend.queries, "/s", number),
    chart("clients that wait", trend.waiting, "", number),
    chart("connections lent", trend.active, "", number),
    chart("time per query", trend.query_ms, "", (ms) => time(ms / 1000)),
    chart("received", trend.received, "B/s", number),
    chart("sent", trend.sent, "B/s", number),
  );
}

function pools(now) {
  const earlier = new Map((before ? before.pools : []).map((pool) => [pool.database + "\0" + pool.user, pool]));
  const seconds = before ? (now.received_at - before.received_at) / 1000 : 0;
  $("pools").tBodies[0].replaceChildren(...now.pools.map((pool) => {
    const row = element("tr");
    const last = earlier.get(pool.database + "\0" + pool.user);
    const count = last ? Math.max(0, pool.transactions - last.transactions) : 0;
    const taken = last ? Math.max(0, pool.transaction_us - last.transaction_us) : 0;
    const size = pool.size || Math.max(pool.open, 1);
    const words = pool.active + " lent, " + pool.idle + " idle" + (pool.opening ? ", " + pool.opening + " opening" : "") +
      (pool.size ? " of " + pool.size : "") + (pool.pinned ? ", " + pool.pinned + " pinned" : "");
    const bars = element("div", undefined, "bars");
    bars.append(bar(Math.max(size, pool.open), [["active", pool.active], ["idle", pool.idle]], words),
      element("span", words, "dim"));
    if (pool.failing) bars.append(element("span", " cannot connect", "bad"));
    const name = element("span", pool.database + " / " + pool.user);
    name.append(element("span", pool.mode ? " " + pool.mode : "", "dim"));
    row.append(
      cell("Pool", name, "wide"),
      cell("Connections", bars),
      cell("Clients", number(pool.clients), "n"),
      cell("Waiting", number(pool.waiting), pool.waiting ? "n bad" : "n"),
      cell("Longest wait", time(pool.wait_us / 1e6), "n"),
      cell("Transactions/s", number(seconds ? count / seconds : 0), "n rate"),
      cell("Average", time(count ? taken / count / 1e6 : 0), "n"),
    );
    return row;
  }));
  $("no-pools").hidden = now.pools.length > 0;
}

function holders(now) {
  $("holders").tBodies[0].replaceChildren(...now.holders.map((holder) => {
    const row = element("tr");
    if (holder.leak) row.title = "longer than leak_threshold";
    const who = element("span", holder.application || "unnamed application");
    who.append(element("span", " " + holder.client + ", " + holder.peer, "dim"));
    row.append(
      cell("Client", who, "wide"),
      cell("Pool", holder.database + " / " + holder.user),
      cell("Doing", holder.doing, holder.doing === "idle in transaction" && holder.phase_s > 10 ? "warn" : ""),
      cell("For", time(holder.phase_s), "n"),
      cell("Lent for", time(holder.held_s), holder.leak ? "n bad" : "n"),
      cell("Backend", holder.pid ? String(holder.pid) : "", "n"),
    );
    return row;
  }));
  $("no-holders").hidden = now.holders.length > 0;
}

function budget(now) {
  $("budget").hidden = now.servers.length === 0;
  $("servers").replaceChildren(...now.servers.map((server) => {
    const made = element("div");
    const { ours, others = 0, reserved = 0, max, budget: most } = server;
    const words = ours + " ours" + (most === undefined ? "" : " of at most " + most) +
      (max === undefined ? ", the server does not tell more" : ", " + others + " others', " + reserved + " reserved, " + max + " in all");
    made.append(element("span", server.name + (server.shrunk ? ", PostgreSQL was full" : ""), server.shrunk ? "warn" : ""),
      bar(max || most || Math.max(ours, 1), [["ours", ours], ["others", others], ["reserved", reserved]], words),
      element("span", words, "dim"));
    return made;
  }));
}

function show(now) {
  const state = $("state");
  state.textContent = now.state;
  state.className = now.state === "serving" ? "" : "not-well";
  $("process").textContent = "version " + now.version + ", process " + now.pid + ", up " + time(now.uptime);
  tiles(now);
  charts(now.trend);
  budget(now);
  pools(now);
  holders(now);
}

async function look() {
  try {
    const answer = await fetch("status.json", { cache: "no-store", signal: AbortSignal.timeout(10000) });
    if (!answer.ok) throw new Error("status " + answer.status);
    const now = await answer.json();
    now.received_at = performance.now();
    show(now);
    before = now;
  } catch (error) {
    $("state").textContent = "no answer: " + error.message;
    $("state").className = "not-well";
  }
  setTimeout(look, EVERY);
}

look();
