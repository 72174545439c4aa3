// The dashboard: asks once a second, draws what it is told, and moves flows.

import { Rates, Refused, follow, get, post, setToken, short } from "./api.js";
import { MOST, Topology } from "./topology.js";
import { Traffic } from "./traffic.js";

const COLORS = 6;
const by = (id) => document.getElementById(id);
const color = (index) => `var(--a${index % COLORS})`;

const rates = new Rates();
const topology = new Topology(by("topology"), choose);
const traffic = new Traffic(by("traffic"), by("legend"));
let chosen;
let latest;
/** The flow that is being moved. */
let moving;
let lastEvent = 0;

function choose(key) {
  chosen = chosen === key ? undefined : key;
  if (latest) show(latest);
  document.querySelector("tr.chosen")?.scrollIntoView({ block: "nearest", behavior: "smooth" });
}

function cell(text, name = "") {
  const td = document.createElement("td");
  td.className = name;
  td.append(text);
  return td;
}

/** Fills a table; `rows` are lists of cells. */
function fill(id, rows, empty = "none") {
  const body = by(id).tBodies[0];
  const columns = by(id).tHead.rows[0].cells.length;
  if (!rows.length) {
    const td = cell(empty, "empty");
    td.colSpan = columns;
    rows = [[td]];
  }
  body.replaceChildren(...rows.map((cells) => {
    const row = document.createElement("tr");
    row.append(...cells);
    return row;
  }));
}

const keyOf = (flow) => `${flow.mn} ${flow.fid ?? flow.selector_text}`;

/** Asks for everything that is drawn. A role that has no such table has an empty one. */
async function ask() {
  const names = ["status", "bindings", "flows", "paths", "peers", "ports", "workers", "drops"];
  const answers = await Promise.all(names.map((name) => get(`/v1/${name}`).catch((error) => {
    if (error instanceof Refused && error.status === 409) return [];
    throw error;
  })));
  const all = Object.fromEntries(names.map((name, i) => [name, answers[i]]));
  rates.look(performance.now());
  all.flowRates = new Map(all.flows.map((flow) => [keyOf(flow), rates.of(`flow ${keyOf(flow)}`, flow.packets)]));
  all.bits = all.paths.flatMap((row) => {
    if (row.path.kind !== "tunnel") return [];
    const { out_octets: out, in_octets: into } = row.counters;
    const name = `${row.role} ${row.id}`;
    const bits = 8 * (rates.of(`out ${name}`, out) + rates.of(`in ${name}`, into));
    return [{ remote: row.path.remote, bits }];
  });
  all.portRates = all.ports.map((port) => ({
    ...port,
    in: rates.of(`in ${port.name}`, port.rx_packets),
    out: rates.of(`out ${port.name}`, port.tx_packets),
  }));
  all.workerRates = all.workers.map((worker) => {
    const turns = rates.of(`turns ${worker.id}`, worker.turns);
    const busy = rates.of(`busy ${worker.id}`, worker.busy_turns);
    return { id: worker.id, busy: turns ? busy / turns : 0, packets: rates.of(`packets ${worker.id}`, worker.rx_packets) };
  });
  all.dropRates = all.drops.map((drop) => ({ ...drop, rate: rates.of(`drop ${drop.plane} ${drop.reason}`, drop.packets) }));
  return all;
}

function show(all) {
  const { status } = all;
  by("name").textContent = status.name;
  by("roles").textContent = `${status.roles.join(", ").toUpperCase()} · flowmob ${status.version}`;
  document.title = `${status.name} · flowmob`;
  by("state").textContent = `${status.ready ? "ready" : "not ready"}, up ${duration(status.uptime_seconds)}`;
  by("state").className = "";

  const gateways = all.peers.map((peer, index) => ({
    name: peer.name,
    color: color(index),
    down: peer.state === "down",
    text: `${peer.role === "lma" ? "MAG" : "LMA"} · ${peer.sessions} session${peer.sessions === 1 ? "" : "s"}`,
    address: peer.address,
  }));
  const colors = new Map(gateways.map((gateway) => [gateway.name, gateway.color]));
  const { mobiles, left } = mobilesOf(all);
  const flows = all.flows.map((flow) => ({
    key: keyOf(flow),
    mn: flow.mn,
    peer: flow.via,
    bid: flow.bid,
    color: colors.get(flow.via) ?? "var(--quiet)",
    runs: all.flowRates.get(keyOf(flow)) > 0,
    chosen: keyOf(flow) === chosen,
    text: `${flow.mn} flow ${flow.fid ?? ""}: ${flow.selector_text}`,
  }));
  topology.draw({ name: status.name, role: status.roles.join(", ").toUpperCase(), gateways, mobiles, flows });
  by("more").textContent = left ? `${left} more mobiles: type a part of one's name above` : "";

  traffic.add(gateways.map((gateway) => ({
    name: gateway.name,
    color: gateway.color,
    bits: all.bits.filter((path) => path.remote === gateway.address).reduce((sum, path) => sum + path.bits, 0),
  })));
  showFlows(all, colors);
  fill("peers", all.peers.map((peer) => [
    cell(peer.name),
    cell(peer.address),
    cell(String(peer.sessions), "number"),
    cell(peer.state, peer.state === "down" ? "bad" : peer.state === "up" ? "fine" : ""),
  ]));
  fill("ports", all.portRates.map((port) => [cell(port.name), cell(short(port.in, "/s"), "number"), cell(short(port.out, "/s"), "number")]));
  fill("workers", all.workerRates.map((worker) => [
    cell(String(worker.id)),
    cell(`${(100 * worker.busy).toFixed(0)} %`, "number"),
    cell(short(worker.packets, "/s"), "number"),
  ]));
  fill("drops", all.dropRates.map((drop) => {
    const name = cell(drop.reason);
    name.title = drop.meaning;
    return [name, cell(short(drop.rate, "/s"), "number"), cell(String(drop.packets), "number")];
  }));
}

/** The mobiles that are drawn, those with flows first. */
function mobilesOf(all) {
  const wanted = by("filter").value.trim().toLowerCase();
  const found = new Map();
  for (const binding of all.bindings) {
    if (wanted && !binding.mn.toLowerCase().includes(wanted)) continue;
    const mobile = found.get(binding.mn) ?? { id: binding.mn, accesses: [] };
    found.set(binding.mn, mobile);
    mobile.accesses.push({
      peer: binding.peer,
      label: binding.bid ?? binding.port ?? "",
      technology: binding.access_technology,
      up: binding.state === "active",
    });
  }
  const busy = new Set(all.flows.map((flow) => flow.mn));
  const mobiles = [...found.values()].sort((a, b) => busy.has(b.id) - busy.has(a.id));
  return { mobiles: mobiles.slice(0, MOST), left: Math.max(0, mobiles.length - MOST) };
}

function showFlows(all, colors) {
  const wanted = by("filter").value.trim().toLowerCase();
  const flows = all.flows.filter((flow) => !wanted || flow.mn.toLowerCase().includes(wanted)).slice(0, 100);
  const rows = flows.map((flow) => {
    const chip = document.createElement("span");
    chip.className = "chip";
    chip.style.setProperty("--c", colors.get(flow.via) ?? "var(--quiet)");
    const others = flow.fid ? all.bindings.filter((b) => b.mn === flow.mn && b.bid !== flow.bid && b.state === "active") : [];
    const moves = document.createElement("span");
    for (const access of others) {
      const button = document.createElement("button");
      button.textContent = `${access.peer} (${access.bid})`;
      button.title = `Move flow ${flow.fid} of ${flow.mn} to access ${access.bid}`;
      button.disabled = moving !== undefined;
      button.addEventListener("click", () => move(flow, access));
      moves.append(button, " ");
    }
    const runs = flow.state === "active" ? `${flow.via ?? "-"} (${flow.bid ?? "-"})` : `${flow.via ?? "-"}: ${flow.state}`;
    const cells = [
      cell(chip),
      cell(flow.mn),
      cell(String(flow.fid ?? "-")),
      cell(runs),
      cell(others.length ? moves : "-"),
      cell(short(all.flowRates.get(keyOf(flow))), "number"),
      cell(flow.selector_text, "selector"),
    ];
    return cells;
  });
  fill("flows", rows, "none: flowmob flow add makes one");
  flows.forEach((flow, index) => {
    const row = by("flows").tBodies[0].rows[index];
    row.dataset.flow = keyOf(flow);
    row.classList.toggle("chosen", keyOf(flow) === chosen);
    row.addEventListener("click", (event) => {
      if (event.target.tagName !== "BUTTON") choose(keyOf(flow));
    });
  });
}

async function move(flow, access) {
  moving = flow;
  chosen = keyOf(flow);
  say(`moving flow ${flow.fid} of ${flow.mn} to ${access.peer} …`);
  show(latest);
  try {
    const moved = await post("/v1/flows/move", { mn: flow.mn, fid: flow.fid, bid: access.bid });
    say(`flow ${moved.fid} moved to access ${moved.bid} in ${(moved.microseconds / 1000).toFixed(1)} ms`);
  } catch (error) {
    say(error.message, true);
  }
  moving = undefined;
  await turn();
}

function say(text, bad = false) {
  by("said").textContent = text;
  by("said").className = bad ? "bad" : "fine";
}

function duration(seconds) {
  const [d, h, m] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60];
  return d ? `${d} d ${h} h` : h ? `${h} h ${m} min` : m ? `${m} min ${seconds % 60} s` : `${seconds} s`;
}

function event(happened) {
  if (happened.id <= lastEvent) return;
  lastEvent = happened.id;
  const item = document.createElement("li");
  const time = document.createElement("time");
  const at = new Date(happened.unix_ms);
  time.dateTime = at.toISOString();
  time.textContent = at.toLocaleTimeString();
  item.append(time, happened.text);
  if (happened.warning) item.className = "warning";
  by("events").prepend(item);
  while (by("events").children.length > 200) by("events").lastChild.remove();
}

/** Asks and draws once. */
async function turn() {
  try {
    latest = await ask();
    by("door").hidden = true;
    by("rooms").hidden = false;
    show(latest);
  } catch (error) {
    if (error instanceof Refused && error.status === 401) {
      by("rooms").hidden = true;
      by("door").hidden = false;
      by("state").textContent = "closed";
    } else {
      by("state").textContent = `no answer: ${error.message}`;
      by("state").className = "lost";
    }
  }
}

/** Hears events for as long as there is anybody to hear, and comes back when there was not. */
async function hear() {
  for (;;) {
    try {
      await follow(lastEvent, event);
    } catch {
      // What is wrong is said by the questions, which are asked all the while.
    }
    await new Promise((done) => setTimeout(done, 1500));
    const status = await get("/v1/status").catch(() => undefined);
    // A process that began anew counts its events anew.
    if (status && latest && status.uptime_seconds < latest.status.uptime_seconds) lastEvent = 0;
  }
}

by("door").addEventListener("submit", (submitted) => {
  submitted.preventDefault();
  setToken(by("token").value);
  turn();
});
by("filter").addEventListener("input", () => latest && show(latest));
addEventListener("resize", () => latest && show(latest));

hear();
for (;;) {
  if (!document.hidden) await turn();
  await new Promise((done) => setTimeout(done, 1000));
}
