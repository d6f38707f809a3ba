// What is displayed, as files and citations: all of it carries the snapshot.

async function copy(words) {
  try {
    await navigator.clipboard.writeText(words);
    element("status").textContent = "Copied.";
  } catch {
    prompt("Copy this:", words); // pages from a disk may not write to the clipboard
  }
  setTimeout(() => { element("status").textContent = ""; }, 2500);
}

// The name of a file without its suffix. `what` is a table of the page; the rows are the page's own.
function fileName(what = "") {
  return ["ratebench", page.suite, state.network, state.budget, what, page.snapshot].filter(Boolean).join("-").replace(/[^\w.-]+/g, "_");
}

function save(name, type, content) {
  const link = cell("a", "", { download: name, href: URL.createObjectURL(new Blob([content], { type })) });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

// Lines of cells, the first one of heads. A text that a spreadsheet would take for a formula begins with an apostrophe; numbers
// stay numbers. A caution becomes a column where there is one.
function asCsv([head, ...lines]) {
  const harmless = (one) => (typeof one === "string" && /^[=+\-@\t\r\n＝＋－＠]/.test(one) ? `'${one}` : String(one ?? ""));
  const quoted = (one) => (/[",\n\r]/.test(harmless(one)) ? `"${harmless(one).replaceAll('"', '""')}"` : harmless(one));
  const everywhere = { snapshot: page.snapshot, ...(page.caution ? { caution: page.caution } : {}) };
  const whole = [[...head, ...Object.keys(everywhere)], ...lines.map((line) => [...line, ...Object.values(everywhere)])];
  return whole.map((line) => line.map(quoted).join(",")).join("\n") + "\n";
}

// Text that LaTeX sets as it is; letters that a plain pdflatex does not know become question marks.
function tex(words) {
  return [...String(words)].map((letter) => page.tex[letter] ?? (letter.codePointAt(0) > page.texLast ? "?" : letter)).join("");
}

// Lines of cells, the first one of heads; `alignment` has a letter for each column.
function asLatex([head, ...lines], alignment, what) {
  const set = (line) => `${line.map(tex).join(" & ").replace(/^(?=\s*[[*])/, "{}")} \\\\`; // else \\ takes [ and * for its own
  const source = `RateBench, suite ${page.suite}, network ${state.network}, budget ${state.budget}, ${what}, snapshot ${page.snapshot}`.replace(/\s+/g, " ");
  return [
    `% ${source}`,
    "% needs \\usepackage{booktabs}, \\usepackage{longtable} and, for quotation marks and accents, \\usepackage[T1]{fontenc}",
    `\\begin{longtable}{${alignment}}`,
    `\\caption{${tex(source)}}\\\\`, "\\toprule", set(head), "\\midrule", "\\endfirsthead", "\\toprule", set(head), "\\midrule", "\\endhead", "\\bottomrule", "\\endfoot",
    "\\bottomrule", ...(page.caution ? [`\\multicolumn{${head.length}}{p{\\linewidth}}{${tex(page.caution)}}\\\\`] : []), "\\endlastfoot",
    ...lines.map(set), "\\end{longtable}", "",
  ].join("\n");
}

// Every row says its network and its budget, whether these columns are displayed or not.
function displayedColumns() {
  return page.columns.filter((column) => !["network", "budget"].includes(column.key) && state.columns.includes(column.key));
}

function csv() {
  const columns = displayedColumns(), scores = columns.filter((column) => column.metric !== null);
  const bounds = scores.flatMap((column) => [`${column.key}.low`, `${column.key}.high`]);
  const head = ["network", "budget", "method", "fidelity", ...columns.map((column) => column.key), ...bounds, "row"];
  const lines = ordered.map((row) => [row.line.network, value(row, "budget"), row.line.method, row.line.fidelity, ...columns.map((column) => value(row, column.key)), ...scores.flatMap((column) => row.intervals[column.metric] ?? ["", ""]), row.key]);
  return asCsv([head, ...lines]);
}

function json() {
  const columns = displayedColumns();
  const rows = ordered.map((row) => ({
    row: row.key, network: row.line.network, budget: value(row, "budget"), method: row.line.method, fidelity: row.line.fidelity,
    ...Object.fromEntries(columns.map((column) => [column.key, value(row, column.key)])), interval: row.interval, by_role: Object.fromEntries(page.roles.map((role, i) => [role, row.roles[i]])),
  }));
  return JSON.stringify({ suite: page.suite, caution: page.caution, snapshot: page.snapshot, view: wholeView(), rows }, null, 1) + "\n";
}

function latex() {
  const columns = displayedColumns();
  const head = ["method", ...columns.map((column) => (column.unit ? `${column.head} (${column.unit})` : column.head))];
  const bounds = (row, { metric }) => (metric === null || !row.intervals[metric] ? "" : ` [${ends(row.intervals[metric], page.metrics[metric])}]`);
  const lines = ordered.map((row) => [row.line.method, ...columns.map((column) => text(row, column.key) + bounds(row, column))]);
  return asLatex([head, ...lines], `l${columns.map((column) => (column.numeric ? "r" : "l")).join("")}`, "operating points");
}

function bibtex(key, title, note) {
  if (page.commit) note += `, commit ${page.commit}`;
  if (page.caution) note += `. ${tex(page.caution.replace(/\.$/, ""))}`;
  return `@misc{${key},\n  title  = {${title}},\n  author = {{RateBench contributors}},\n  year   = {${page.year}},\n${page.cited}  note   = {${note}}\n}`;
}

// FNV-1a, 32 bits: tells views apart, and works where pages have no `crypto.subtle` (plain http).
function fnv(words) {
  return [...new TextEncoder().encode(words)].reduce((hash, byte) => Math.imul(hash ^ byte, 0x01000193) >>> 0, 0x811c9dc5).toString(16).padStart(8, "0");
}

function viewBibtex() {
  return bibtex(`ratebench-${page.snapshot}-${fnv(write(state))}`, `RateBench: rate and quality of compressed neural networks, suite ${tex(page.suite)}`,
    `Snapshot ${page.snapshot}, view \\texttt{${tex("#" + write(state))}}`);
}

async function rowBibtex(row, own) {
  const hashes = (await Promise.all(own)).map((record) => record.provenance.artefact_sha256.slice(0, 12)).join(", ");
  const key = `ratebench-${page.snapshot}-${row.key}`.replace(/[^\w-]+/g, "-");
  return bibtex(key, `RateBench: ${tex(row.line.name)}, ${tex(text(row, "point"))}, on ${tex(row.line.network)}`,
    `Suite ${tex(page.suite)}, snapshot ${page.snapshot}, row \\texttt{${tex(row.key)}}, ${text(row, "bytes")} bytes, ${tex(`${page.metric.name} ${scored(value(row, "quality"))}`)}, files ${hashes}`);
}

const EXPORTS = {
  csv: () => save(`${fileName()}.csv`, "text/csv", csv()),
  json: () => save(`${fileName()}.json`, "application/json", json()),
  latex: () => save(`${fileName()}.tex`, "text/x-tex", latex()),
  png: () => picture(),
  link: () => copy(permalink()),
  bibtex: () => copy(viewBibtex()),
};
