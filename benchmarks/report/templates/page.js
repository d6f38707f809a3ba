// The page's behaviour. Sorting and searching are these few lines and not a library: the rows are in the HTML (they can
// be read, searched and printed without a script), a row has a drawer, and a table library would weigh 700 kB.
// All that can be chosen is in `state`; `change` is the one way to choose and `draw` shows it.

const state = { network: page.networks[0].name, x: "bytes", y: "near", intervals: true, hidden: new Set(), query: "", sort: "", descending: false };
const records = inflate(document.getElementById("records").textContent).then(JSON.parse);
records.catch(() => {}); // who opens a row's details is told
const table = document.getElementById("rows"), body = table.tBodies[0];
const lineOfRow = new Map(page.series.flatMap((line, index) => line.rows.map((row) => [row, index])));
const shownRows = [...body.rows].map((element, index) => ({ element, index, text: element.textContent.toLowerCase() }));

function change(choice) {
  Object.assign(state, choice);
  draw();
}

function draw() {
  drawControls();
  drawPlot(state);
  drawTable();
}

function drawControls() {
  for (const input of document.querySelectorAll(".controls input[type=radio]")) input.checked = state[input.name] === input.value;
  document.querySelector("input[name=intervals]").checked = state.intervals;
  for (const button of document.querySelectorAll("[data-line]")) {
    const index = Number(button.dataset.line);
    button.hidden = page.series[index].network !== state.network;
    button.setAttribute("aria-pressed", String(!state.hidden.has(index)));
  }
}

function sortValue(row) {
  return state.sort === "method" ? row.method : row.values[state.sort];
}

function compare(a, b) {
  const left = sortValue(page.rows[a.index]), right = sortValue(page.rows[b.index]);
  if (left === right) return a.index - b.index;
  if (left === null || right === null) return left === null ? 1 : -1; // what is unknown comes last either way
  const order = typeof left === "number" ? left - right : left.localeCompare(right, "en", { numeric: true });
  return (state.descending ? -order : order) || a.index - b.index;
}

function drawTable() {
  const words = state.query.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0, all = 0;
  for (const row of shownRows) {
    const line = lineOfRow.get(row.index), here = page.series[line].network === state.network;
    const fits = here && !state.hidden.has(line) && words.every((word) => row.text.includes(word));
    row.element.hidden = !fits;
    if (row.drawer) row.drawer.hidden = !fits;
    all += here;
    count += fits;
  }
  const order = state.sort ? [...shownRows].sort(compare) : shownRows;
  body.append(...order.flatMap((row) => (row.drawer ? [row.element, row.drawer] : [row.element])));
  for (const head of table.querySelectorAll("[data-sort]")) {
    const direction = state.descending ? "descending" : "ascending";
    head.setAttribute("aria-sort", head.dataset.sort === state.sort ? direction : "none");
  }
  document.getElementById("count").textContent = `${count} of ${all} operating points` + (page.networks.length > 1 ? ` on ${state.network}` : "");
}

function cell(tag, content, attributes = {}) {
  const made = Object.assign(document.createElement(tag), attributes);
  made.append(content);
  return made;
}

function named(values) {
  return Object.entries(values).map(([name, value]) => `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`).join(", ") || "–";
}

// [name, what it is in a record, whether it is for copying]
const FACTS = [
  ["record", (r) => r.id, true],
  ["run it again", (r) => r.provenance.command, true],
  ["measured", (r) => `${r.provenance.started}, ${rounded(r.wall_s, 1)} s in all`],
  ["code", (r) => `${r.provenance.commit ?? "no commit"}${r.provenance.dirty ? ", with changes that are not committed" : ""}`],
  ["fingerprint", (r) => `${r.provenance.fingerprint}, ${{ true: "the code at hand", false: "code changed since", null: "can't be compared with the code at hand" }[r.current]}`],
  ["correct", (r) => `${rounded(r.quality.correct, 0)} of ${rounded(r.quality.total, 0)}: ${rounded(100 * r.quality.value, 2)} % (${rounded(100 * r.quality.low, 2)} to ${rounded(100 * r.quality.high, 2)}), ${r.quality.selection} epoch`],
  ["file", (r) => `${rounded(r.rate.file_bytes, 0)} bytes: ${Object.entries(r.rate.by_role).map(([role, size]) => `${role} ${rounded(size, 0)}`).join(", ")}`],
  ["SHA-256 of the file", (r) => r.provenance.artefact_sha256, true],
  ["speed", (r) => `encode ${rounded(r.speed.encode_s, 3)} s, decode ${rounded(r.speed.decode_s, 3)} s, batch 1 ${rounded(r.speed.latency_ms_batch1, 2)} ms, batch 128 ${rounded(r.speed.latency_ms_batch128, 2)} ms, on ${r.speed.device}, ${r.speed.threads} threads used`],
  ["machine", (r) => [r.provenance.cpu, r.provenance.gpu].filter(Boolean).join(", ")],
  ["configuration", (r) => named(r.config)],
  ["data", (r) => named(r.provenance.data)],
  ["versions", (r) => named(r.provenance.versions)],
];

function details(records) {
  const facts = document.createElement("table");
  const head = cell("tr", cell("td", ""));
  head.append(...records.map((record) => cell("th", `seed ${record.seed}`, { scope: "col" })));
  facts.createTHead().append(head);
  const rows = FACTS.map(([name, read, forCopying]) => {
    const texts = records.map(read), wrap = (text) => (forCopying ? cell("code", text) : text);
    const line = cell("tr", cell("th", name, { scope: "row" }));
    if (new Set(texts).size === 1) line.append(cell("td", wrap(texts[0]), { colSpan: texts.length }));
    else line.append(...texts.map((text) => cell("td", wrap(text))));
    return line;
  });
  facts.createTBody().append(...rows);
  return facts;
}

function toggle(row, open = !row.drawer) {
  if (open === Boolean(row.drawer)) return;
  if (open) {
    const inside = cell("div", "…", { className: "inside" });
    records.then(
      (all) => inside.replaceChildren(details(page.rows[row.index].records.map((index) => all[index]))),
      () => inside.replaceChildren("This browser can't unpack the records: they are in records.csv beside this page."),
    );
    row.drawer = cell("tr", cell("td", inside, { colSpan: row.element.cells.length }), { className: "drawer" });
    row.element.after(row.drawer);
  } else {
    row.drawer.remove();
    row.drawer = null;
  }
  row.element.classList.toggle("opened", open);
  row.element.querySelector(".open").setAttribute("aria-expanded", String(open));
}

function goTo(index) {
  const row = shownRows[index];
  if (row.element.hidden) change({ query: (document.getElementById("query").value = "") });
  toggle(row, true);
  for (const other of body.querySelectorAll(".found")) other.classList.remove("found");
  row.element.classList.add("found");
  row.element.scrollIntoView({ block: "center" });
  row.element.querySelector(".open").focus({ preventScroll: true });
}

function listen() {
  document.addEventListener("change", ({ target }) => {
    if (target.type === "radio") change({ [target.name]: target.value });
    else if (target.name === "intervals") change({ intervals: target.checked });
  });
  document.getElementById("query").addEventListener("input", ({ target }) => { state.query = target.value; drawTable(); });
  document.addEventListener("click", ({ target }) => {
    const line = target.closest("[data-line]"), head = target.closest("[data-sort]"), open = target.closest(".open");
    const own = page.series.flatMap((one, index) => (one.network === state.network ? [index] : []));
    if (line) {
      const hidden = new Set(state.hidden), index = Number(line.dataset.line);
      if (!hidden.delete(index)) hidden.add(index);
      change({ hidden });
    } else if (head && target.closest("button")) {
      change({ descending: state.sort === head.dataset.sort && !state.descending, sort: head.dataset.sort });
    } else if (open) toggle(shownRows.find((row) => row.element === open.closest("tr")));
    else if (target.id === "show-all") change({ hidden: new Set([...state.hidden].filter((index) => !own.includes(index))) });
    else if (target.id === "show-none") change({ hidden: new Set([...state.hidden, ...own]) });
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
}

async function start() {
  document.documentElement.classList.add("js");
  document.getElementById("operating-point").colSpan -= 1; // the column of the network, which is chosen above
  listen();
  draw();
  try {
    await loadPlotly();
    drawPlot(state);
    document.getElementById("plot").on("plotly_click", ({ points }) => goTo(points[0].customdata));
  } catch (error) {
    document.documentElement.classList.add("figures");
    document.getElementById("fallback").hidden = false;
    console.warn(error);
  }
}

start();
