// Controls, events, start.

function draw() {
  drawControls();
  drawRanking();
  drawTable();
  drawDrawer();
  drawPlot(); // last: it measures, and what is not laid out until then is laid out for it
}

const CHECKS = ["intervals", "front", "reported"], CHOICES = ["family", "fidelity", "at", "loss"];

function drawControls() {
  for (const input of document.querySelectorAll("main input[type=radio]")) input.checked = state[input.name] === input.value;
  for (const name of CHECKS) element(name).checked = state[name];
  for (const name of CHOICES) element(name).value = state[name];
  for (const input of document.querySelectorAll("input[name=column]")) input.checked = state.columns.includes(input.value);
  if (element("query").value !== state.query) element("query").value = state.query;
  element("reported").closest("label").hidden = !reportedHere().length && !printedHere().length;
  element("at").options[0].text = `automatic: ${boardHere().start}×`;
  element("loss").options[0].text = `automatic: ${boardHere().losses.length ? lossHere().words : "–"}`;
  for (const input of document.querySelectorAll("input[name=budget]")) input.disabled = !page.boards.some((board) => board.network === state.network && board.budget === input.value);
  if (isNew("lines", [...FILTERS.filter((name) => name !== "hide"), "baseline"])) drawLines();
  for (const button of element("lines").children) button.setAttribute("aria-pressed", String(!state.hide.includes(button.dataset.line)));
}

// The legend, and the lines that others can be compared with.
function drawLines() {
  const lines = visibleLines(), baselines = [...lines, ...printedHere()];
  element("baseline").replaceChildren(new Option("none", ""), ...baselines.map((line) => new Option(line.name, line.id)));
  element("baseline").value = baselines.some((line) => line.id === state.baseline) ? state.baseline : "";
  element("lines").replaceChildren(...lines.map(lineButton));
}

function lineButton(line) {
  const button = cell("button", stroke(line), { type: "button", className: "line", title: "show this line alone; then add others to it" });
  button.append(cell("span", line.name), line.others ? cell("small", `+${line.others} more`) : "");
  button.dataset.line = line.id;
  return button;
}

// The first line that is chosen is shown alone; further ones are added and removed, and without any all are shown.
function isolated(id) {
  const own = visibleLines().map((line) => line.id), elsewhere = state.hide.filter((other) => !own.includes(other));
  const hidden = own.filter((other) => state.hide.includes(other)), next = hidden.length ? toggled(hidden, id) : own.filter((other) => other !== id);
  return { hide: next.length < own.length ? [...elsewhere, ...next] : elsewhere };
}

function toggled(list, one) {
  return list.includes(one) ? list.filter((other) => other !== one) : [...list, one];
}

function clicked({ target }) {
  const line = target.closest("[data-line]"), head = target.closest("[data-sort]"), open = target.closest(".open");
  const exported = target.closest("[data-export]"), toRow = target.closest("[data-row]");
  if (line) change(isolated(line.dataset.line));
  else if (head && target.closest("button")) change({ sort: nextSort(head.dataset.sort) });
  else if (open) change({ row: state.row === open.closest("tr").dataset.key ? "" : open.closest("tr").dataset.key });
  else if (exported) EXPORTS[exported.dataset.export]();
  else if (toRow) goTo(page.rowByKey.get(toRow.dataset.row));
  else if (target.id === "show-all") change({ hide: [] });
  else if (target.id === "reset") change(defaults());
}

// Best first, then worst first.
function nextSort(key) {
  const best = page.columns[page.place[key]]?.best > 0 ? `-${key}` : key, worst = best === key ? `-${key}` : key;
  return state.sort === best ? worst : best;
}

function listen() {
  for (const [type, id] of [["pointerover", true], ["focusin", true], ["pointerout", false], ["focusout", false]]) {
    element("lines").addEventListener(type, ({ target }) => highlight(id ? (target.closest("[data-line]")?.dataset.line ?? "") : ""));
  }
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
  if (fragment && !fragment.includes("=")) {
    const place = element(fragment);
    if (place?.tagName === "DETAILS") place.open = true;
    return;
  }
  const found = read(fragment);
  state = found.state;
  element("link-note").textContent = linkNote(found);
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
    element("plot").on("plotly_hover", ({ points }) => highlight(points[0].data.meta ?? ""));
    element("plot").on("plotly_unhover", () => highlight(""));
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
