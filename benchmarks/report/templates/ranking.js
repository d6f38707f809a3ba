// Lines in order of quality at one rate. A line is represented by its largest file with at least the chosen ratio: the rate
// chooses the point, not its score on the test items.

function standing() {
  const at = Number(state.at), found = [];
  for (const line of shownLines()) {
    const fitting = line.rows.filter((row) => value(row, "ratio") >= at);
    if (fitting.length) found.push(fitting.reduce((a, b) => (value(b, "ratio") < value(a, "ratio") ? b : a)));
  }
  // A rank is one more than the number of lines whose interval lies entirely on the better side.
  const isBetter = page.metric.better > 0 ? (a, b) => a.interval[0] > b.interval[1] : (a, b) => a.interval[1] < b.interval[0];
  const rank = (row) => 1 + found.filter((other) => isBetter(other, row)).length;
  return found.map((row) => ({ row, rank: rank(row) })).sort((a, b) => a.rank - b.rank || merit(b.row) - merit(a.row));
}

function drawRanking() {
  if (!isNew("ranking", [...FILTERS, "at"])) return;
  const ranked = standing(), without = shownLines().length - ranked.length;
  const rows = ranked.map(({ row, rank }) => {
    const link = cell("button", row.line.name, { type: "button", className: "to-row" });
    link.dataset.row = row.key;
    const name = cell("th", marker(row.line), { scope: "row" });
    name.append(link, ...warnings(row));
    const line = cell("tr", cell("td", String(rank), { className: "number" }));
    const quality = cell("td", text(row, "quality"), { className: "number" });
    quality.append(" ", cell("small", ends(row.interval), { className: "interval" }));
    line.append(name, quality, cell("td", text(row, "ratio"), { className: "number" }), cell("td", text(row, "bytes"), { className: "number" }), cell("td", text(row, "point"), { className: "words" }));
    return line;
  });
  element("ranking-rows").tBodies[0].replaceChildren(...rows);
  element("ranking-note").textContent = without ? `${without} of the shown lines ${without === 1 ? "has" : "have"} no file with such a ratio.` : "";
}
