// Controls, events, start.

function draw() {
  drawControls();
  drawRanking();
  drawTable();
  drawDrawer();
  drawPlot(); // last: it measures, and what is not laid out until then is laid out for it
}

const CHECKS = ["intervals", "front", "reported"], CHOICES = ["family", "budget", "fidelity", "at"];

function drawControls() {
  for (const input of document.querySelectorAll(".controls input[type=radio]")) input.checked = state[input.name] === input.value;
  for (const name of CHECKS) element(name).checked = state[name];
  for (const name of CHOICES) element(name).value = state[name];
  for (const input of document.querySelectorAll("input[name=column]")) input.checked = state.columns.includes(input.value);
  if (element("query").value !== state.query) element("query").value = state.query;
  element("front").disabled = machines().size > 1;
  element("reported").closest("label").hidden = !reportedHere().length;
  if (isNew("lines", [...FILTERS.filter((name) => name !== "hide"), "baseline"])) drawLines();
  for (const button of element("lines").children) button.setAttribute("aria-pressed", String(!state.hide.includes(button.dataset.line)));
}

// The legend, and the lines that others can be compared with.
function drawLines() {
  const lines = visibleLines(), baseline = page.lines.find((line) => line.id === state.baseline && line.network === state.network);
  element("baseline").replaceChildren(new Option("none", ""), ...lines.map((line) => new Option(line.name, line.id)));
  element("baseline").value = baseline ? baseline.id : "";
  element("lines").replaceChildren(...lines.map((line) => lineButton(line, baseline)));
}

function lineButton(line, baseline) {
  const button = cell("button", stroke(line), { type: "button", className: "line" });
  button.append(cell("span", line.name));
  if (baseline && line !== baseline) {
    const difference = bdRate(line, baseline);
    const words = difference === null ? "too little in common" : `${difference.percent < 0 ? "−" : "+"}${rounded(Math.abs(difference.percent), 1)} % bytes`;
    const over = difference === null ? "" : `BD-rate over ${page.metric.name} of ${ends([difference.from, difference.to], page.metric, " to ")} ${page.metric.unit}`.trim();
    button.append(cell("small", words, { className: "bd", title: over }));
  }
  button.dataset.line = line.id;
  return button;
}

function toggled(list, one) {
  return list.includes(one) ? list.filter((other) => other !== one) : [...list, one];
}

function clicked({ target }) {
  const line = target.closest("[data-line]"), head = target.closest("[data-sort]"), open = target.closest(".open");
  const own = visibleLines().map((one) => one.id), elsewhere = state.hide.filter((id) => !own.includes(id));
  const exported = target.closest("[data-export]"), toRow = target.closest("[data-row]");
  if (line) change({ hide: toggled(state.hide, line.dataset.line) });
  else if (head && target.closest("button")) change({ sort: state.sort === head.dataset.sort ? `-${state.sort}` : head.dataset.sort });
  else if (open) change({ row: state.row === open.closest("tr").dataset.key ? "" : open.closest("tr").dataset.key });
  else if (exported) EXPORTS[exported.dataset.export]();
  else if (toRow) goTo(page.rowByKey.get(toRow.dataset.row));
  else if (target.id === "show-all") change({ hide: elsewhere });
  else if (target.id === "show-none") change({ hide: [...elsewhere, ...own] });
  else if (target.id === "reset") change(defaults());
}

function listen() {
  document.addEventListener("change", ({ target }) => {
    if (target.name === "column") change({ columns: page.columns.map((column) => column.key).filter((key) => toggled(state.columns, target.value).includes(key)) });
    else if (target.type === "radio") change({ [target.name]: target.value });
    else if (CHECKS.includes(target.name)) change({ [target.name]: target.checked });
    else if ([...CHOICES, "baseline"].includes(target.id)) change({ [target.id]: target.value });
  });
  element("query").addEventListener("input", ({ target }) => change({ query: target.value }));
  document.addEventListener("click", clicked);
  addEventListener("hashchange", arrive);
  addEventListener("beforeprint", () => more(ordered.length));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  new IntersectionObserver((seen) => seen.some((one) => one.isIntersecting) && more()).observe(element("more"));
}

// A fragment with "=" is a view, and a row in it is opened; any other one is a place on the page.
function arrive() {
  const fragment = location.hash.slice(1);
  if (fragment && !fragment.includes("=")) return;
  state = read(fragment);
  draw();
  const row = page.rowByKey.get(state.row);
  if (row) goTo(row);
}

async function start() {
  const root = document.documentElement;
  try {
    await loadData();
  } catch (error) {
    root.classList.add("figures");
    element("fallback").hidden = false;
    console.warn(error);
    return;
  }
  root.classList.add("js");
  state = defaults();
  listen();
  draw();
  try {
    await loadPlotly();
    drawPlot();
    element("plot").on("plotly_click", ({ points }) => page.rowByKey.has(points[0].customdata) && goTo(page.rowByKey.get(points[0].customdata)));
  } catch (error) {
    root.classList.add("figures");
    element("fallback").hidden = false;
    console.warn(error);
  }
  arrive();
  root.dataset.ready = "yes";
}

start();
