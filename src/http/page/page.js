
"use strict";
// All text of the server goes through textContent: a database may be called anything.
const $ = (id) => document.getElementById(id);
const PAGE = 50, SILENT = 4000;
// Charts show what there is, in steps: the axis of a server that has just begun is not all empty.
const SPANS = [[60000, "minute", "1 min ago"], [180000, "three minutes", "3 min ago"], [600000, "ten minutes", "10 min ago"]];
const WINDOW = 600000;
const RANK = { ok: 0, work: 1, warn: 2, bad: 3 };
const model = { server: {}, summary: null, rows: new Map(), history: [], errors: [], now: 0 };
const view = { open: new Set(), limit: PAGE, items: new Map(), histories: new Map(), heard: 0, link: "wait" };

function h(tag, props, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(props || {})) {
    if (key in node && !key.includes("-")) node[key] = value; else node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}
function s(tag, props, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(props || {})) node.setAttribute(key, value);
  node.append(...children);
  return node;
}
function put(node, text) { if (node.textContent !== text) node.textContent = text; }

// Numbers as people read them.
function bytes(n) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let i = 0;
  while (n >= 999.5 && i < units.length - 1) { n /= 1000; i++; }
  return [i === 0 || n >= 99.5 ? Math.round(n).toString() : n.toFixed(1), units[i]];
}
function behind(seconds) {
  if (!(seconds > 0)) return ["level", ""];
  if (seconds < 0.9995) return [Math.max(1, Math.round(seconds * 1000)).toString(), "ms"];
  if (seconds < 59.95) return [seconds.toFixed(1), "s"];
  return [span(seconds), ""];
}
function span(seconds) {
  const whole = Math.floor(seconds);
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const at = parts.findIndex(([size]) => whole >= size);
  if (at < 0) return "0 s";
  const words = [`${Math.floor(whole / parts[at][0])} ${parts[at][1]}`];
  const rest = Math.floor((whole % parts[at][0]) / (parts[at + 1] || [1])[0]);
  if (parts[at + 1] && rest > 0) words.push(`${rest} ${parts[at + 1][1]}`);
  return words.join(" ");
}
const plain = (pair) => pair.filter(Boolean).join(" ");
const rate = (n) => { const [number, unit] = bytes(n); return [number, unit + "/s"]; };
const count = (n, one, many) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
function big(node, [number, unit]) {
  const text = number + "|" + unit;
  if (node.dataset.shown === text) return;
  node.dataset.shown = text;
  node.replaceChildren(number, ...(unit ? [h("small", {}, unit)] : []));
}
// 89abcdef01234567/0000000000000003:00000000000010f8 is for programs.
function short(position) {
  const found = /^([0-9a-f]{16})\/0*([0-9a-f]+):0*([0-9a-f]+)$/.exec(position);
  return found ? `${found[1].slice(0, 8)}/${found[2]}:${found[3]}` : position || "none yet";
}
const HELD = {
  nothing: "nothing holds it",
  walcast: "waits for walcast to read it",
  checkpoint: "waits for a checkpoint",
  reader: "held by a reader",
};

// A shape for each health, so that colour is never the only sign.
const SHAPES = {
  ok: () => s("circle", { cx: 6, cy: 6, r: 5 }),
  work: () => s("path", { d: "M6 1a5 5 0 0 1 0 10z M6 1a5 5 0 0 0 0 10v-1.4a3.6 3.6 0 0 1 0-7.2z" }),
  warn: () => s("path", { d: "M6 .8 11.6 11H.4z" }),
  bad: () => s("rect", { x: 1, y: 1, width: 10, height: 10, rx: 1.5 }),
};
function state(health, word) {
  return h("span", { className: "state", "data-health": health }, s("svg", { viewBox: "0 0 12 12", "aria-hidden": "true" }, SHAPES[health]()), word);
}
function word(of) { return of.state === "streaming" && of.health === "warn" ? "falling behind" : of.state.replace("-", " "); }
const worst = (row) => row.replicas.reduce((a, r) => (RANK[r.health] > RANK[a] ? r.health : a), row.health);
function reasonOf(row) {
  if (row.reason) return row.reason;
  const bad = row.replicas.filter((r) => RANK[r.health] >= 2);
  if (!bad.length) return "";
  const first = bad[0];
  const what = first.state === "streaming" ? `is ${plain(behind(first.behind))} behind` : `is ${word(first)}${first.reason ? ": " + first.reason : ""}`;
  return `replica ${first.name} ${what}${bad.length > 1 ? `, and ${bad.length - 1} more` : ""}`;
}

// Charts: an area over ten minutes that ends now.
class Chart {
  constructor(figure, title, at, format, floor) {
    this.at = at; this.format = format; this.floor = floor; this.points = [];
    this.value = h("b", {});
    this.top = h("span", { className: "top" });
    this.area = s("path", { class: "area" }); this.line = s("path", { class: "line" });
    this.cross = s("path", { class: "cross" });
    const grid = [25, 50, 75].map((y) => s("path", { class: "grid", d: `M0 ${y}H100` }));
    this.svg = s("svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", "aria-hidden": "true" }, ...grid, this.area, this.line, this.cross);
    this.plot = h("div", { className: "plot" }, this.svg, this.top);
    this.left = h("span", {}); this.title = title; this.figure = figure;
    figure.replaceChildren(h("figcaption", {}, h("span", {}, title), this.value), this.plot, h("div", { className: "axis", "aria-hidden": "true" }, this.left, h("span", {}, "now")));
    figure.setAttribute("role", "group");
    this.plot.addEventListener("pointermove", (event) => { this.hover = event.offsetX / this.plot.clientWidth; this.read(); });
    this.plot.addEventListener("pointerleave", () => { this.hover = undefined; this.read(); });
  }
  draw(points, now) {
    this.points = points; this.now = now;
    const age = now - Math.max(now - WINDOW, model.server.started_ms);
    const [width, what, left] = SPANS.find(([size]) => age <= size) || SPANS[2];
    this.width = width;
    put(this.left, left); put($("h-charts"), "The last " + what);
    let max = this.floor;
    for (const p of points) if (p[this.at] > max) max = p[this.at];
    this.max = max;
    const x = (p) => Math.max(0, 100 - ((now - p[0]) / width) * 100).toFixed(2);
    const y = (value) => (100 - (value / max) * 92).toFixed(2);
    let line = "", before = null;
    for (const p of points) {
      if (now - p[0] > width) continue;
      // Where nothing is told it was quiet, or nobody looked.
      if (before && p[0] - before[0] > 3500) line += `L${x([before[0] + 1000])} 100L${x([p[0] - 1000])} 100`;
      line += `${line ? "L" : "M"}${x(p)} ${y(p[this.at])}`;
      before = p;
    }
    this.line.setAttribute("d", line);
    const first = points.find((p) => now - p[0] <= width);
    this.area.setAttribute("d", line && first ? `${line}L${x(before)} 100L${x(first)} 100Z` : "");
    put(this.top, plain(this.format(max)));
    const last = before ? before[this.at] : 0;
    this.plot.classList.toggle("late", this.at === 1 && last > 5);
    this.figure.setAttribute("aria-label", `${this.title}: now ${plain(this.format(last))}, at most ${plain(this.format(max === this.floor ? Math.max(0, ...points.map((p) => p[this.at])) : max))} in the last ${what}`);
    this.read();
  }
  read() {
    if (this.hover === undefined || !this.points.length) {
      this.cross.setAttribute("d", "");
      const last = this.points[this.points.length - 1];
      put(this.value, last ? plain(this.format(last[this.at])) : "");
      return;
    }
    const time = this.now - (1 - this.hover) * this.width;
    let best = this.points[0];
    for (const p of this.points) if (Math.abs(p[0] - time) < Math.abs(best[0] - time)) best = p;
    this.cross.setAttribute("d", `M${this.hover * 100} 0V100`);
    const near = Math.abs(best[0] - time) < 3500;
    put(this.value, `${near ? plain(this.format(best[this.at])) : "no sample"} · ${span((this.now - time) / 1000)} ago`);
  }
}
const charts = [
  new Chart($("c-behind"), "Furthest behind", 1, behind, 1),
  new Chart($("c-bytes"), "Throughput, as sent and received", 2, rate, 1000),
];

// Topology: who is upstream, this server, who follows it.
function groups(rows) {
  const followers = new Map(), upstreams = new Map();
  const take = (map, key, start, health, behind) => {
    const node = map.get(key) || { ...start, databases: 0, health: "ok", behind: 0 };
    node.databases++;
    node.behind = Math.max(node.behind, behind);
    if (RANK[health] > RANK[node.health]) { node.health = health; node.word = start.word; }
    map.set(key, node);
  };
  for (const row of rows) {
    for (const r of row.replicas) {
      const host = r.address.replace(/:\d+$/, "");
      take(followers, r.name + "\n" + host, { name: r.name, note: host, word: word(r) }, r.health, r.behind);
    }
    if (row.role === "replica") take(upstreams, row.upstream, { name: row.upstream, note: "", word: word(row) }, row.health, row.behind);
  }
  const sorted = (map) => [...map.values()].sort((a, b) => RANK[b.health] - RANK[a.health] || a.name.localeCompare(b.name));
  return { followers: sorted(followers), upstreams: sorted(upstreams) };
}
function node(of, kind) {
  const late = of.behind > 0 ? `, ${plain(behind(of.behind))} behind` : "";
  return h("div", { className: "node" }, h("b", { title: of.name }, of.name),
    h("span", { className: "muted" }, [of.note, `${kind} of ${count(of.databases, "database", "databases")}`].filter(Boolean).join(" · ")),
    state(of.health, of.word + late));
}
function nodes(list, kind) {
  const shown = list.slice(0, 6).map((of) => node(of, kind));
  if (list.length > 6) shown.push(h("div", { className: "node muted" }, `and ${list.length - 6} more`));
  return h("div", { className: "nodes" }, ...shown);
}
function wire(on) {
  return h("div", { className: "wire", "aria-hidden": "true" }, s("svg", { viewBox: "0 0 64 16" }, s("path", { class: "flow" + (on ? " on" : ""), d: "M4 8H56" }), s("path", { d: "M51 3l6 5-6 5" })));
}
function advice() {
  const first = [...model.rows.values()].find((row) => row.role === "primary");
  const name = first ? first.name : "app.db";
  return `walcast replica --upstream ${model.server.upstream} --db '${name}=/replica/${name.split("/").pop()}'`;
}
function topology() {
  const rows = [...model.rows.values()], sum = model.summary;
  const { followers, upstreams } = groups(rows);
  const key = JSON.stringify([followers, upstreams, sum.databases, sum.primaries, sum.bytes_per_second > 0]);
  if (view.topology === key) return;
  view.topology = key;
  const replicas = sum.databases - sum.primaries;
  const roles = [sum.primaries && count(sum.primaries, "primary", "primaries"), replicas && count(replicas, "replica", "replicas")].filter(Boolean).join(", ");
  const self = h("div", { className: "node self" }, h("b", {}, model.server.id || "this server"), h("span", { className: "muted" }, "this server"), h("span", { className: "muted" }, roles || "no databases"));
  const parts = [];
  if (upstreams.length) parts.push(nodes(upstreams, "upstream"), wire(sum.bytes_per_second > 0));
  parts.push(h("div", { className: "nodes" }, self));
  if (followers.length) parts.push(wire(sum.bytes_per_second > 0), nodes(followers, "replica"));
  else if (sum.primaries) parts.push(wire(false), h("div", { className: "empty" }, "No replicas yet. On a machine that shall have a copy:", h("code", { tabIndex: 0 }, advice())));
  $("topology").className = "topology" + (parts.length < 5 ? " two" : "");
  $("topology").replaceChildren(...parts);
}

// The list of databases: what needs a look comes first, at most some rows are in the document.
function matches(row, words) {
  const text = [row.name, row.role, word(row), row.reason, row.path, ...row.replicas.map((r) => r.name + " " + word(r))].join(" ").toLowerCase();
  return words.every((w) => text.includes(w));
}
function wanted() {
  const words = $("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const only = $("only").checked;
  return [...model.rows.values()]
    .filter((row) => (!only || RANK[worst(row)] >= 2) && matches(row, words))
    .sort((a, b) => Math.max(1, RANK[worst(b)]) - Math.max(1, RANK[worst(a)]) || (a.name < b.name ? -1 : 1));
}
class Item {
  constructor(row) {
    const cell = (label) => { const value = h("span", {}); return [h("span", { className: "num" }, h("span", { className: "hidden" }, label + " "), value), value]; };
    this.name = h("span", { className: "name" }); this.st = h("span", { className: "st" });
    const [behindCell, behindValue] = cell("behind"); const [rateCell, rateValue] = cell("throughput"); const [sizeCell, sizeValue] = cell("size");
    Object.assign(this, { behindValue, rateValue, sizeValue });
    this.why = h("span", { className: "why" });
    this.id = "d" + Math.random().toString(36).slice(2);
    this.button = h("button", { type: "button", className: "row", "aria-expanded": "false", "aria-controls": this.id }, this.name, this.st, behindCell, rateCell, sizeCell, this.why);
    this.detail = h("div", { className: "detail", id: this.id, hidden: true });
    this.element = h("li", {}, this.button, this.detail);
    this.element.dataset.database = row.name;
    this.button.addEventListener("click", () => this.toggle());
    this.name.replaceChildren(row.name, " ", h("small", {}, row.role));
  }
  toggle() {
    const open = !view.open.has(this.row.name);
    if (open) view.open.add(this.row.name); else view.open.delete(this.row.name);
    this.button.setAttribute("aria-expanded", String(open));
    this.detail.hidden = !open;
    if (open) { this.build(); this.fetch(); }
  }
  show(row) {
    if (this.row === row) return;
    this.row = row;
    const health = worst(row);
    // A primary that captures well is not at fault when a replica is: the reason below says whose state it is.
    const own = RANK[row.health] >= RANK[health] ? word(row) : row.replicas.find((r) => r.health === health) ? "replica " + word(row.replicas.find((r) => r.health === health)) : word(row);
    const key = health + own;
    if (this.key !== key) { this.key = key; this.st.replaceChildren(state(health, own)); }
    put(this.behindValue, row.role === "primary" && !row.replicas.length ? "–" : plain(behind(row.behind)));
    put(this.rateValue, plain(rate(row.bytes_per_second)));
    put(this.sizeValue, plain(bytes(row.size)));
    const why = reasonOf(row);
    put(this.why, why); this.why.hidden = !why || RANK[health] < 1; this.why.title = why;
    if (!this.detail.hidden) this.fill();
  }
  build() {
    this.reason = h("p", { className: "reason" });
    this.facts = h("dl", { className: "facts" }); this.values = new Map();
    this.figures = [h("figure", { className: "chart" }), h("figure", { className: "chart" })];
    this.charts = [new Chart(this.figures[0], "Behind", 1, behind, 1), new Chart(this.figures[1], "Throughput", 2, rate, 1000)];
    this.replicas = h("div", {});
    this.detail.replaceChildren(this.reason, this.facts, h("div", { className: "charts" }, ...this.figures), this.replicas);
    this.fill();
  }
  fact(label, value, mono) {
    if (!value) return;
    let dd = this.values.get(label);
    if (!dd) { dd = h("dd", { className: mono ? "mono" : "" }); this.values.set(label, dd); this.facts.append(h("div", {}, h("dt", {}, label), dd)); }
    put(dd, value);
  }
  fill() {
    const row = this.row, why = reasonOf(row);
    put(this.reason, why); this.reason.hidden = !why; this.reason.dataset.health = worst(row);
    this.fact("File", row.path, true);
    this.fact("Position", short(row.position), true);
    if (row.role === "replica") {
      this.fact("Upstream", row.upstream, true);
      this.fact("Position of the upstream", short(row.upstream_position), true);
      this.fact("Safe from a power cut", short(row.durable), true);
      this.fact("Last level", !row.followed ? "not followed" : row.stale === null ? "now" : row.stale < 0 ? "never yet" : span(row.stale) + " ago");
    }
    this.fact("Log (-wal)", `${plain(bytes(row.log))}, ${HELD[row.held]}`);
    this.fact(row.role === "primary" ? "Commits captured" : "Publications", `${row.commits.toLocaleString("en")} (${row.commits_per_second.toLocaleString("en")} /s)`);
    this.fact(row.role === "primary" ? "Sent to replicas" : "Received", plain(bytes(row.bytes)));
    this.fact("Snapshots", row.snapshots.toLocaleString("en"));
    this.table();
    const history = view.histories.get(row.name);
    if (history) this.charts.forEach((chart) => chart.draw(history, model.now));
  }
  table() {
    const row = this.row;
    if (row.role !== "primary") return;
    const key = JSON.stringify(row.replicas);
    if (this.tableKey === key) return;
    this.tableKey = key;
    if (!row.replicas.length) {
      if (!this.told) { this.told = true; this.replicas.replaceChildren(h("p", { className: "empty" }, "No replicas of this database yet.", h("code", { tabIndex: 0 }, `walcast replica --upstream ${model.server.upstream} --db '${row.name}=/replica/${row.name.split("/").pop()}'`))); }
      return;
    }
    this.told = false;
    const head = ["Replica", "Address", "State", "Behind", "Bytes behind", "Applied", "Durable", "Connected"];
    const body = row.replicas.map((r) => {
      const cell = (text, mono) => h("td", { className: mono ? "mono" : "", title: mono ? text : "" }, mono ? short(text) : text);
      const connected = r.since_ms > 0 ? span(Math.max(0, model.now - r.since_ms) / 1000) : "no";
      const st = h("td", { title: r.reason }, state(r.health, word(r)));
      return h("tr", {}, h("th", { scope: "row" }, r.name), cell(r.address), st, cell(plain(behind(r.behind))), cell(plain(bytes(r.behind_bytes))), cell(r.applied, true), cell(r.durable, true), cell(connected));
    });
    const scrolled = this.scroll ? this.scroll.scrollLeft : 0, focused = this.scroll && document.activeElement === this.scroll;
    this.scroll = h("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": `Replicas of ${row.name}` }, h("table", {}, h("thead", {}, h("tr", {}, ...head.map((t) => h("th", { scope: "col" }, t)))), h("tbody", {}, ...body)));
    this.replicas.replaceChildren(h("h3", {}, "Replicas"), this.scroll);
    this.scroll.scrollLeft = scrolled;
    if (focused) this.scroll.focus();
  }
  async fetch() {
    const name = this.row.name;
    try {
      const answer = await fetch("history?database=" + encodeURIComponent(name));
      if (answer.ok) { view.histories.set(name, await answer.json()); if (this.row) this.fill(); }
    } catch { /* The page says already that the server is gone. */ }
  }
}
function list() {
  const rows = wanted(), shown = rows.slice(0, view.limit), ul = $("list");
  const keep = new Set(shown.map((row) => row.name));
  const holding = ul.contains(document.activeElement);
  for (const [name, item] of view.items) if (!keep.has(name)) { item.element.remove(); view.items.delete(name); view.open.delete(name); view.histories.delete(name); }
  const elements = shown.map((row) => {
    let item = view.items.get(row.name);
    if (!item) { item = new Item(row); view.items.set(row.name, item); }
    item.show(row);
    return item.element;
  });
  // A row that has the keyboard's focus would lose it by being moved: the order waits until it is elsewhere.
  elements.forEach((element, i) => {
    if (!element.parentNode || (!holding && ul.children[i] !== element)) ul.insertBefore(element, ul.children[i] || null);
  });
  const total = model.rows.size, rest = rows.length - shown.length;
  put($("count"), rows.length === total ? total.toLocaleString("en") : `${rows.length.toLocaleString("en")} of ${total.toLocaleString("en")}`);
  $("more").hidden = rest <= 0;
  put($("more"), `Show ${Math.min(rest, PAGE * 2)} more of ${rest.toLocaleString("en")}`);
  $("empty").hidden = rows.length > 0;
  if (!rows.length) {
    put($("empty"), total ? ($("only").checked && !$("filter").value ? "Nothing needs a look." : "No database matches the filter.")
      : "This server has no databases yet. Name them in its configuration file, or start it with --db; directories are looked at by themselves.");
  }
}

function errors() {
  const key = model.errors.length ? model.errors[model.errors.length - 1].number : -1;
  if (view.errors === key) return;
  view.errors = key;
  const lines = [...model.errors].reverse().map((line) => {
    const time = new Date(line.time_ms);
    return h("li", {}, h("time", { dateTime: time.toISOString(), title: time.toLocaleString() }, time.toLocaleTimeString([], { hour12: false })),
      state(line.level === "error" ? "bad" : "warn", line.level === "error" ? "error" : "warning"),
      h("p", {}, line.database ? h("b", {}, line.database + " ") : null, line.text));
  });
  $("errors").replaceChildren(...lines);
  $("errors").tabIndex = lines.length ? 0 : -1;
  $("no-errors").hidden = lines.length > 0;
}

function headline() {
  const sum = model.summary, h1 = $("headline");
  if (view.link === "lost") {
    h1.dataset.health = "bad"; put(h1, "Lost the server");
    const ago = view.heard ? `Last heard ${span((Date.now() - view.heard) / 1000)} ago; what is below is from then. ` : "";
    put($("subline"), ago + "Trying again.");
    document.title = "✕ Lost – walcast";
    return;
  }
  if (!sum) return;
  let text = "All is well", health = sum.health;
  if (!sum.databases) { text = "No databases yet"; health = "work"; }
  else if (sum.attention) text = sum.databases === 1 ? "This database needs a look" : `${count(sum.attention, "database needs", "databases need")} a look`;
  else if (health === "work") text = "Getting there";
  h1.dataset.health = health; put(h1, text);
  const roles = [];
  if (sum.primaries) roles.push(count(sum.primaries, "primary", "primaries"), `${sum.connected} of ${count(sum.followers, "replica", "replicas")} connected`);
  if (sum.databases > sum.primaries) roles.push(`${count(sum.databases - sum.primaries, "copy", "copies")} here`);
  roles.push(`running for ${span((model.now - model.server.started_ms) / 1000)}`);
  put($("subline"), roles.join(" · "));
  document.title = `${sum.attention ? "▲ " : ""}${text} – walcast`;
}
function tiles() {
  const sum = model.summary;
  const late = [...model.rows.values()].reduce((a, row) => (row.behind > (a ? a.behind : 0) ? row : a), null);
  big($("t-behind"), sum.databases === sum.primaries && !sum.followers ? ["–", ""] : behind(sum.behind));
  put($("t-behind-who"), late ? late.name : sum.databases === sum.primaries && !sum.followers ? "no replicas yet" : "all readers see the newest state");
  big($("t-bytes"), rate(sum.bytes_per_second));
  put($("t-bytes-what"), sum.primaries === sum.databases ? "sent to replicas, compressed" : sum.primaries ? "sent and received" : "received, compressed");
  big($("t-commits"), [sum.commits_per_second >= 100 ? Math.round(sum.commits_per_second).toLocaleString("en") : sum.commits_per_second.toFixed(1), "/s"]);
  big($("t-databases"), [sum.databases.toLocaleString("en"), ""]);
  put($("t-size"), plain(bytes(sum.size)) + " in all");
}
function render() {
  view.due = false;
  $("content").hidden = !model.summary;
  headline();
  if (!model.summary) return;
  tiles(); topology(); list(); errors();
  charts.forEach((chart) => chart.draw(model.history, model.now));
  put($("server"), model.server.id);
  put($("version"), "walcast " + model.server.version);
}
function soon() { if (!view.due) { view.due = true; requestAnimationFrame(render); } }

// What changed, for those who hear the page: gathered, so that a thousand changes are one sentence.
let changes = [], telling = 0;
function tell(before, after) {
  if (!before || (before.state === after.state && worst(before) === worst(after))) return;
  changes.push(`${after.name}: ${word(after)}${RANK[worst(after)] >= 2 && reasonOf(after) ? ", " + reasonOf(after) : ""}`);
  clearTimeout(telling);
  telling = setTimeout(() => {
    put($("news"), changes.length > 3 ? `${changes.length} changes of state, the last: ${changes[changes.length - 1]}` : changes.join(". "));
    changes = [];
  }, 500);
}

function heard() { view.heard = Date.now(); link("live"); }
function link(state) {
  if (view.link === state) return;
  view.link = state;
  $("link").dataset.state = state;
  put($("link-text"), { wait: "Connecting", live: "Live", lost: "Lost" }[state]);
  document.body.classList.toggle("lost", state === "lost");
  if (state === "lost") put($("news"), "The page lost the server and tries again");
  soon();
}
function trim() {
  const old = model.now - WINDOW;
  while (model.history.length && model.history[0][0] < old) model.history.shift();
}
function full(data) {
  const rows = new Map(data.rows.map((row) => [row.name, row]));
  for (const [name, row] of rows) tell(model.rows.get(name), row);
  Object.assign(model, { server: data.server, summary: data.summary, rows, history: data.history, errors: data.errors, now: data.now_ms });
  view.topology = view.errors = undefined;
  for (const [name, item] of view.items) if (view.open.has(name)) item.fetch();
}
function tick(data) {
  for (const row of data.rows) { tell(model.rows.get(row.name), row); model.rows.set(row.name, row); }
  for (const name of data.gone) model.rows.delete(name);
  model.summary = data.summary; model.now = data.now_ms;
  model.history.push(data.point); trim();
  for (const name of view.open) {
    const row = model.rows.get(name), history = view.histories.get(name);
    if (row && history) {
      history.push([data.now_ms, row.behind, row.bytes_per_second, row.commits_per_second]);
      while (history.length && history[0][0] < model.now - WINDOW) history.shift();
      const item = view.items.get(name);
      if (item && !item.detail.hidden) item.charts.forEach((chart) => chart.draw(history, model.now));
    }
  }
  if (data.errors.length) {
    const known = new Set(model.errors.map((line) => line.number));
    model.errors.push(...data.errors.filter((line) => !known.has(line.number)));
    model.errors.splice(0, Math.max(0, model.errors.length - 50));
  }
}

let source = null, opened = 0;
function connect() {
  if (source) source.close();
  opened = Date.now();
  source = new EventSource("events");
  const on = (name, take) => source.addEventListener(name, (event) => { take(JSON.parse(event.data)); heard(); soon(); });
  on("full", full);
  on("tick", tick);
  source.onerror = () => link("lost");
}
connect();
// A server that is stopped sends no error: silence is one as well.
setInterval(() => {
  const now = Date.now();
  if (now - Math.max(view.heard, opened) > SILENT) link("lost");
  if (view.link === "lost") {
    headline();
    if (source.readyState === EventSource.CLOSED ? now - opened > 3000 : now - opened > 10000) connect();
  }
}, 1000);
$("filter").addEventListener("input", () => { view.limit = PAGE; soon(); });
$("only").addEventListener("change", () => { view.limit = PAGE; soon(); });
$("more").addEventListener("click", () => { view.limit += PAGE * 2; soon(); });
