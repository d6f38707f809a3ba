// The table: rows are made from the data as they come into view, so that ten thousand are no more work than a hundred.

const CHUNK = 40;
const alphabet = new Intl.Collator("en", { numeric: true });
let ordered = [], made = 0; // rows that fit, in order; how many of them are in the document

function sortValue(row, key) {
  return key === "method" ? row.line.method : value(row, key);
}

function inOrder(rows) {
  const key = state.sort.replace(/^-/, ""), direction = state.sort.startsWith("-") ? -1 : 1;
  if (!key || (key !== "method" && !(key in page.place))) {
    const limit = limitOf(rows), ahead = front(rows, "bytes").filter((row) => !isBeyond(value(row, "quality"), limit)), rest = new Set(ahead);
    return [...ahead.reverse(), ...rows.filter((row) => !rest.has(row))];
  }
  return [...rows].sort((a, b) => {
    const left = sortValue(a, key), right = sortValue(b, key);
    if (left === right) return 0;
    if (left === null || right === null) return left === null ? 1 : -1; // what is unknown comes last either way
    return direction * (typeof left === "number" ? left - right : alphabet.compare(left, right));
  });
}

function svg(tag, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, content] of Object.entries(attributes)) node.setAttribute(name, content);
  node.append(...children);
  return node;
}

function marker(line) {
  return svg("svg", { class: "marker", viewBox: "-6 -6 12 12", "aria-hidden": "true", fill: line.colour }, svg("use", { href: `#${line.symbol}` }));
}

function stroke(line) {
  const path = svg("path", { d: "M-16 0H16", stroke: line.colour, "stroke-width": 2 });
  return svg("svg", { class: "stroke", viewBox: "-16 -6 32 12", "aria-hidden": "true" }, path, svg("use", { href: `#${line.symbol}`, fill: line.colour }));
}

function roleText(row) {
  const whole = row.roles.reduce((a, b) => a + b, 0);
  return page.roles.flatMap((role, i) => (row.roles[i] ? [`${page.roleNames[role]} ${rounded(row.roles[i], 0)} (${rounded((100 * row.roles[i]) / whole, 1)} %)`] : [])).join(", ");
}

function roleBar(row) {
  const whole = row.roles.reduce((a, b) => a + b, 0);
  let start = 0;
  const parts = page.roles.map((role, i) => {
    const width = (60 * row.roles[i]) / whole, part = svg("rect", { class: `role-${role}`, x: start.toFixed(2), width: width.toFixed(2), height: 10 });
    start += width;
    return part;
  });
  return svg("svg", { class: "bar", viewBox: "0 0 60 10", role: "img" }, svg("title", {}, roleText(row)), ...parts);
}

// What a reader should know before comparing a row with others.
function warnings(row) {
  const stale = row.stale ? [" ", cell("span", "†", { className: "stale", title: "The code has changed since this measurement" })] : [];
  const outdone = row.outdone ? [" ", cell("span", "▽", { className: "outdone", title: `Better and no larger without training: ${row.outdone}` })] : [];
  return [...stale, ...outdone];
}

function rowElement(row) {
  const line = row.line, head = cell("th", "", { scope: "row" });
  const open = cell("button", "", { type: "button", className: "open" });
  open.setAttribute("aria-expanded", "false");
  open.setAttribute("aria-label", `details of ${line.method}, ${text(row, "point")}`);
  head.append(open, marker(line), cell("span", line.method, { className: "name" }), " ", cell("span", line.fidelity, { className: `label ${line.fidelity}` }));
  head.append(...warnings(row));
  const cells = page.columns.flatMap((column, i) => {
    if (!state.columns.includes(column.key)) return [];
    const shown = cell("td", row.texts[i], { className: column.numeric ? "number" : "words" });
    if (!column.numeric) shown.title = row.texts[i];
    const interval = column.metric === null ? null : row.intervals[column.metric];
    if (interval) shown.append(" ", cell("small", ends(interval, page.metrics[column.metric]), { className: "interval" }));
    return column.key === "bytes" ? [shown, cell("td", roleBar(row))] : [shown];
  });
  row.element = cell("tr", head);
  row.element.dataset.key = row.key;
  row.element.append(...cells);
  row.drawer = null;
  return row.element;
}

function drawHead() {
  const shown = page.columns.filter((column) => state.columns.includes(column.key)), groups = cell("tr", cell("th", "", { className: "group" }));
  for (const group of new Set(shown.map((column) => column.group))) {
    const own = shown.filter((column) => column.group === group);
    const size = own.length + own.some((column) => column.key === "bytes"); // the bar by role has a column, too
    groups.append(cell("th", group, { scope: "colgroup", className: "group", colSpan: size }));
  }
  const heads = cell("tr", headCell("method", "method", "", "The method and its fidelity to a paper", false));
  for (const column of shown) {
    heads.append(headCell(column.key, column.head, column.unit, column.help, column.numeric));
    if (column.key === "bytes") heads.append(cell("th", "by role", { scope: "col", title: "Where the file's bytes go" }));
  }
  element("rows").tHead.replaceChildren(groups, heads);
}

function headCell(key, name, unit, help, numeric) {
  const button = cell("button", name, { type: "button" });
  if (unit) button.append(" ", cell("small", unit));
  const head = cell("th", button, { scope: "col", title: help, className: numeric ? "number" : "words" });
  head.dataset.sort = key;
  const here = state.sort.replace(/^-/, "") === key;
  head.setAttribute("aria-sort", here ? (state.sort.startsWith("-") ? "descending" : "ascending") : "none");
  return head;
}

function more(count = CHUNK) {
  const next = ordered.slice(made, made + count);
  made += next.length;
  element("rows").tBodies[0].append(...next.map(rowElement));
  element("more").hidden = made >= ordered.length;
}

function drawTable() {
  if (!isNew("table", [...FILTERS, "query", "sort", "columns"])) return;
  const words = state.query.toLowerCase().split(/\s+/).filter(Boolean), all = rowsOf(shownLines());
  ordered = inOrder(all.filter((row) => words.every((word) => row.searched.includes(word))));
  for (const row of page.rows) row.element = row.drawer = null;
  made = 0;
  drawHead();
  element("rows").tBodies[0].replaceChildren();
  more();
  const count = page.lines.reduce((sum, line) => sum + (line.network === state.network && line.budget === state.budget ? line.rows.length : 0), 0);
  element("count").textContent = `${ordered.length} of ${count} operating points on ${state.network}`;
}

// The opened row's drawer: in the address, so there is one at a time.
function drawDrawer() {
  for (const row of page.rows) if (row.drawer && row.key !== state.row) toggle(row, false);
  const row = page.rowByKey.get(state.row);
  if (row?.element) toggle(row, true);
}

// Open and show a row: filters that hide it are removed, in one redraw.
function goTo(row) {
  const own = page.curves.filter((curve) => curve.rows.includes(row)).map((curve) => curve.id);
  const apart = ordered.includes(row) ? {} : { query: "", hide: state.hide.filter((id) => id !== row.line.id && !own.includes(id)) };
  const { network, budget } = row.line, seen = own.length > 0;
  change({ ...apart, network, budget, ...(seen ? {} : { configs: "all" }), ...(passes({ ...row.line, network: state.network, budget: state.budget }) ? {} : { family: "", fidelity: "" }), row: row.key });
  more(Math.max(0, ordered.indexOf(row) + 1 - made));
  drawDrawer();
  row.element.scrollIntoView({ block: "center" });
  row.element.querySelector(".open").focus({ preventScroll: true });
}
