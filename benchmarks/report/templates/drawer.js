// What a row opens to: how to cite and to reproduce it, provenance of each seed, where the bytes go.

// [name, what it is in a record, whether it is for copying]
const FACTS = [
  ["record", (r) => r.id, true],
  ["measured", (r) => `${r.provenance.started}, ${rounded(r.wall_s, 1)} s in all`],
  ["code", (r) => `${r.provenance.commit ?? "no commit"}${r.provenance.dirty ? ", with changes that are not committed" : ""}`],
  ["fingerprint", (r) => `${r.provenance.fingerprint}, ${{ true: "the installed code", false: "the code or the reference has changed since", null: "can't be compared with the installed code" }[r.current]}`],
  ["quality", (r) => page.metrics.flatMap((metric) => (r.metrics[metric.name] ? [scoreText(metric, r.metrics[metric.name])] : [])).join("; ") + `, ${r.selection} epoch`],
  ["file", (r) => `${rounded(r.rate.file_bytes, 0)} bytes: ${Object.entries(r.rate.by_role).map(([role, size]) => `${role} ${rounded(size, 0)}`).join(", ")}`],
  ["SHA-256 of the file", (r) => r.provenance.artefact_sha256, true],
  ["speed", (r) => `encode ${rounded(r.speed.encode_s, 3)} s, decode ${rounded(r.speed.decode_s, 3)} s, on ${r.speed.device}, ${counted(r.speed.threads, "thread")} used${page.timed[r.provenance.artefact_sha256] ?? ""}`],
  ["machine", (r) => [r.provenance.cpu, r.provenance.gpu].filter(Boolean).join(", ")],
  ["learning rate", (r) => (r.epochs === 0 ? "–" : (r.learning_rate ?? "the method's own"))],
  ["configuration", (r) => named(r.config)],
  ["notes", (r) => named(r.notes)],
  ["data", (r) => named(r.provenance.data)],
  ["versions", (r) => named(r.provenance.versions)],
];

// What a record says of one metric; of a proportion how many items it counts, too.
function scoreText(metric, { items, total, value, low, high }) {
  const bounds = ends([metric.scale * low, metric.scale * high], metric, " to "), words = `${metric.name} ${scored(metric.scale * value, metric)} (${bounds})`;
  return `${words}, ${metric.kind === "proportion" ? `${rounded(total, 0)} of ` : "over "}${counted(rounded(items, 0), "test item")}`;
}

function counted(number, thing) {
  return `${number} ${thing}${String(number) === "1" ? "" : "s"}`;
}

function named(values) {
  return Object.entries(values).map(([name, one]) => `${name}=${typeof one === "string" ? one : JSON.stringify(one)}`).join(", ") || "–";
}

// What tells a record from the others of a row: its seed and, in a mean over networks, its network.
function runOf(record, own) {
  const seeds = new Set(own.map(({ seed }) => seed)).size > 1, networks = new Set(own.map(({ network }) => network)).size > 1;
  return [networks ? record.network : "", seeds || !networks ? `seed ${record.seed}` : ""].filter(Boolean).join(", ");
}

function details(own) {
  const facts = document.createElement("table"), head = cell("tr", cell("td", ""));
  head.append(...own.map((record) => cell("th", runOf(record, own), { scope: "col" })));
  facts.createTHead().append(head);
  const rows = FACTS.map(([name, fact, forCopying]) => {
    const texts = own.map(fact), wrap = (words) => (forCopying ? cell("code", words) : words);
    const line = cell("tr", cell("th", name, { scope: "row" }));
    if (new Set(texts).size === 1) line.append(cell("td", wrap(texts[0]), { colSpan: texts.length }));
    else line.append(...texts.map((words) => cell("td", wrap(words))));
    return line;
  });
  facts.createTBody().append(...rows);
  return facts;
}

// What the run of a record's cell said; of those measured before logs were kept there is none.
function log(record, own, said) {
  const text = said[record.id.replace(/\/[^/]*$/, "")];
  if (text === undefined) return cell("p", `No log was kept of ${runOf(record, own)}'s run.`, { className: "note" });
  const folded = cell("details", cell("summary", `log of ${runOf(record, own)}'s run`), { className: "log" });
  folded.append(cell("pre", text, { tabIndex: 0 }));
  return folded;
}

function drawerActions(row) {
  const actions = cell("p", "", { className: "actions" });
  const button = (name, copied) => {
    const made = cell("button", name, { type: "button" });
    made.addEventListener("click", async () => copy(await copied()));
    return made;
  };
  actions.append(
    button("copy link to this row", () => permalink({ row: row.key })),
    button("copy BibTeX of this row", async () => rowBibtex(row, row.records.map((index) => records.then((all) => all[index])))),
  );
  if (page.papers[row.line.method]) actions.append(button("copy BibTeX of the paper", () => page.papers[row.line.method]));
  return actions;
}

function toggle(row, open = !row.drawer) {
  if (open === Boolean(row.drawer)) return;
  if (open) {
    const inside = cell("div", "…", { className: "inside" });
    Promise.all([records, logs]).then(
      ([all, said]) => {
        const own = row.records.map((index) => all[index]);
        inside.replaceChildren(drawerActions(row), reproduction(own), details(own), cell("p", `By role: ${roleText(row)}.`, { className: "note" }), ...own.map((record) => log(record, own, said)));
      },
      () => inside.replaceChildren("This browser can't unpack the records: they are in records.csv beside this page."),
    );
    row.drawer = cell("tr", cell("td", inside, { colSpan: row.element.cells.length }), { className: "drawer" });
    row.element.after(row.drawer);
  } else {
    row.drawer.remove();
    row.drawer = null;
  }
  row.element.classList.toggle("opened", open);
  row.element.classList.toggle("found", open);
  row.element.querySelector(".open").setAttribute("aria-expanded", String(open));
}
