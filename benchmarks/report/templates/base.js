"use strict";
// Data, state and small helpers. All that can be chosen is in `state`, which the address holds: `change` is the one way to
// choose, and `draw` shows it.

let page, records, logs; // the page's data, and promises of all records and of what their runs said

async function inflate(id) {
  const packed = Uint8Array.from(atob(document.getElementById(id).textContent), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

const element = (id) => document.getElementById(id);

function cell(tag, content, attributes = {}) {
  const made = Object.assign(document.createElement(tag), attributes);
  made.append(content);
  return made;
}

const formats = []; // by digits: making one takes longer than a thousand numbers

function rounded(number, digits) {
  if (Math.abs(number) < 999) return number.toFixed(digits); // no group of thousands: this is several times faster
  formats[digits] ??= new Intl.NumberFormat("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return formats[digits].format(number);
}

// An average of a metric, with its unit.
function scored(number, metric = page.metric) {
  return metric.unit ? `${rounded(number, metric.decimals)} ${metric.unit}` : rounded(number, metric.decimals);
}

// The two ends of an interval of a metric; a dash beside a minus would read like one.
function ends([low, high], metric = page.metric, between = low < 0 ? " to " : "–") {
  return `${rounded(low, metric.decimals)}${between}${rounded(high, metric.decimals)}`;
}

function value(row, key) {
  return row.values[page.place[key]];
}

function text(row, key) {
  return row.texts[page.place[key]];
}

// What the page begins with; only what differs from it stands in the address.
function defaults() {
  return {
    network: page.networks[0].name, budget: page.networks[0].budget,
    x: "bytes", y: "near", intervals: true, front: true, reported: true,
    family: "", fidelity: "", configs: "best", hide: [], baseline: "", range: "pair", at: "", loss: "",
    query: "", sort: "", columns: page.columns.filter((column) => column.shown).map((column) => column.key), row: "",
  };
}

let state;

// With `whole`, also what is as on a page that has just been opened: another page may begin differently.
function write(known, whole = false) {
  const first = defaults(), parts = new URLSearchParams();
  for (const [name, chosen] of Object.entries(known)) {
    if (whole || String(chosen) !== String(first[name])) parts.set(name, typeof chosen === "boolean" ? Number(chosen) : chosen);
  }
  return parts.toString();
}

// What can be chosen of a name; what it does not list can be anything.
function possible() {
  const lines = page.lines.map((line) => line.id);
  return {
    network: page.networks.map((network) => network.name), budget: page.boards.map((board) => board.budget), x: Object.keys(AXES).filter((axis) => axis in page.place), y: ["near", "all"],
    configs: ["best", "all"], range: ["pair", "common"], ...Object.fromEntries(CHOICES.map((name) => [name, [...element(name).options].map((option) => option.value)])),
    baseline: ["", ...lines, ...page.printed.map((curve) => curve.id)], hide: lines, columns: page.columns.map((column) => column.key), row: ["", ...page.rowByKey.keys()],
  };
}

// A state from an address, and what the address names that the page does not have: that is left as it begins.
function read(fragment) {
  const found = defaults(), parts = new URLSearchParams(fragment), known = possible(), gone = [];
  for (const [name, first] of Object.entries(found)) {
    const chosen = parts.get(name);
    if (chosen === null) continue;
    const wanted = Array.isArray(first) ? chosen.split(",").filter(Boolean) : [chosen], missing = wanted.filter((one) => known[name] && !known[name].includes(one));
    gone.push(...missing.map((one) => `the ${NAMES[name] ?? name} ${one}`));
    if (typeof first === "boolean") found[name] = chosen === "1";
    else if (Array.isArray(first)) found[name] = wanted.filter((one) => !missing.includes(one));
    else if (!missing.length) found[name] = chosen;
  }
  const { snapshot } = page, of = parts.get("snapshot") ?? snapshot, state = measured(found);
  if (parts.has("budget") && state.budget !== found.budget) gone.push(`the budget ${found.budget} on ${found.network}`);
  return { state, gone, other: of === snapshot ? "" : of };
}

// A state whose network was measured at its budget: otherwise the network's first budget with more than the reference takes its place.
function measured(known) {
  const budgets = page.boards.filter((board) => board.network === known.network).map((board) => board.budget);
  return budgets.includes(known.budget) ? known : { ...known, budget: page.networks.find((network) => network.name === known.network).budget };
}

const NAMES = { x: "axis", hide: "line", columns: "column", baseline: "line", at: "ratio" };

// What to tell whoever followed a link that this page can't show as it was.
function linkNote({ gone, other }) {
  const lacking = gone.length ? `This page does not have what the link names: ${gone.join(", ")}.` : "";
  const differs = other ? `The link is of snapshot ${other}, this page is of ${page.snapshot}: numbers may differ.` : "";
  return [lacking, differs].filter(Boolean).join(" ");
}

// The whole view, with what is chosen automatically here.
function wholeView(choice = {}) {
  return write({ ...state, at: String(ratioHere()), loss: lossHere()?.words ?? "", ...choice }, true);
}

// A link holds the whole view and the snapshot.
function permalink(choice = {}) {
  return `${location.href.replace(/#.*/s, "")}#${wholeView(choice)}&snapshot=${page.snapshot}`;
}

function change(choice) {
  const filtered = [...FILTERS, "query"].some((name) => name in choice); // what was opened may be out of sight then
  state = measured({ ...state, ...(filtered ? { row: "" } : {}), ...choice });
  history.replaceState(null, "", "#" + write(state));
  const focused = document.activeElement?.closest("[data-sort]");
  draw();
  if (focused && !focused.isConnected) document.querySelector(`[data-sort="${focused.dataset.sort}"] button`)?.focus(); // a keyboard goes on where it was
}

const FILTERS = ["network", "family", "budget", "fidelity", "configs", "hide"];
const last = {}; // what each part of the page was drawn for

// Whether a part has to be drawn again: one of the choices that it shows is another one than it was.
function isNew(part, names, more = "") {
  const now = JSON.stringify([names.map((name) => state[name]), more]);
  return last[part] !== now && ((last[part] = now), true);
}

// Whether a line passes the filters.
function passes(line) {
  return line.network === state.network && line.budget === state.budget && (!state.family || line.families.includes(state.family)) &&
    (!state.fidelity || line.fidelity === state.fidelity);
}

// Each method's curve over its configurations, or every configuration as a line of its own.
function visibleLines() {
  return (state.configs === "all" ? page.lines : page.curves).filter(passes);
}

function boardHere() {
  return page.boards.find((board) => board.network === state.network && board.budget === state.budget);
}

// The curves of other methods that papers report.
function printedHere() {
  return page.printed.filter((curve) => curve.network === state.network);
}

// Lines that are neither filtered nor hidden, and their rows.
function shownLines() {
  return visibleLines().filter((line) => !state.hide.includes(line.id));
}

function rowsOf(lines) {
  return lines.flatMap((line) => line.rows);
}

async function loadData() {
  page = JSON.parse(await inflate("data"));
  [page.metric] = page.metrics; // the one that networks are compared by
  page.place = Object.fromEntries(page.columns.map((column, index) => [column.key, index]));
  for (const line of page.lines) line.rows = [];
  for (const row of page.rows) {
    row.line = page.lines[row.line];
    row.line.rows.push(row);
    [row.interval] = row.intervals;
    row.searched = [row.line.name, ...row.texts].join(" ").toLowerCase();
  }
  page.curves = page.envelopes.map(({ line, rows, others, name, label, protocol, largest }, envelope) => ({ ...page.lines[line], name, label, protocol, largest, envelope, others: others.length, rows: rows.map((row) => page.rows[row]) }));
  const row = (known) => ({ values: page.columns.map(({ key }) => known[key] ?? null) });
  page.printed = page.printed.map((curve) => ({ ...curve, id: `reported.${curve.name}`, rows: curve.points.map(([bytes, quality]) => row({ bytes, quality })) }));
  page.rowByKey = new Map(page.rows.map((row) => [row.key, row]));
  [records, logs] = ["records", "logs"].map((id) => inflate(id).then(JSON.parse));
  for (const promise of [records, logs]) promise.catch(() => {}); // who opens a row's details is told
}
