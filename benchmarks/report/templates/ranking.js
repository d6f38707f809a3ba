// Lines in order of accuracy at one rate: each by its largest file that is small enough. The rate chooses the point, not its
// score on the test images.

function standing() {
  const at = Number(state.at), found = [];
  for (const line of shownLines()) {
    const fitting = line.rows.filter((row) => value(row, "ratio") >= at);
    if (fitting.length) found.push(fitting.reduce((a, b) => (value(b, "ratio") < value(a, "ratio") ? b : a)));
  }
  // A rank is one more than the number of those that are better beyond doubt: whose interval lies above.
  const rank = (row) => 1 + found.filter((other) => other.interval[0] > row.interval[1]).length;
  return found.map((row) => ({ row, rank: rank(row) })).sort((a, b) => a.rank - b.rank || value(b.row, "quality") - value(a.row, "quality"));
}

function drawRanking() {
  if (!isNew("ranking", [...FILTERS, "at"])) return;
  const ranked = standing(), without = shownLines().length - ranked.length;
  const rows = ranked.map(({ row, rank }) => {
    const link = cell("button", row.line.name, { type: "button", className: "to-row" });
    link.dataset.row = row.key;
    const name = cell("th", marker(row.line), { scope: "row" });
    name.append(link);
    const line = cell("tr", cell("td", String(rank), { className: "number" }));
    const quality = cell("td", text(row, "quality"), { className: "number" });
    quality.append(" ", cell("small", row.interval.map((one) => rounded(one, 2)).join("–"), { className: "interval" }));
    line.append(name, quality, cell("td", text(row, "ratio"), { className: "number" }), cell("td", text(row, "bytes"), { className: "number" }), cell("td", text(row, "point"), { className: "words" }));
    return line;
  });
  element("ranking-rows").tBodies[0].replaceChildren(...rows);
  element("ranking-note").textContent = without ? `${without} of the shown lines have no file that small.` : "";
}
