// Tables of the page as files: every table with a `data-export-name`, as it is displayed.

function wordsOf(node) {
  return node.textContent.replace(/\s+/g, " ").trim();
}

// A cell without its interval, and the interval: "" if it has none.
function splitCell(from) {
  const copied = from.cloneNode(true), interval = copied.querySelector(".interval");
  interval?.remove();
  return [wordsOf(copied), interval ? wordsOf(interval) : ""];
}

// A unit stands in parentheses.
function headWords(head) {
  const copied = head.cloneNode(true);
  for (const unit of copied.querySelectorAll("small")) unit.textContent = ` (${wordsOf(unit)})`;
  return wordsOf(copied);
}

// The heads of a table's columns, its lines of [text, interval], and whether each column has numbers.
function tableContent(table) {
  const heads = [...table.tHead.rows].at(-1).cells, lines = [...table.tBodies].flatMap((body) => [...body.rows]).filter((row) => !row.hidden);
  return {
    heads: [...heads].map(headWords), numeric: [...heads].map((head) => head.classList.contains("number")),
    lines: lines.map((row) => [...heads].map((_, i) => (row.cells[i] ? splitCell(row.cells[i]) : ["", ""]))),
  };
}

// "1,234.5", "−3 %" or "20×" as a number; other texts as they are.
function asNumber(words) {
  const found = /^([+−-]?)([\d,]*\.?\d+) ?[%×]?$/.exec(words);
  return found ? Number(found[2].replaceAll(",", "")) * (found[1] && found[1] !== "+" ? -1 : 1) : words;
}

function tableCsv(table) {
  const { heads, numeric, lines } = tableContent(table), bounded = heads.map((_, i) => lines.some((line) => line[i][1]));
  const spread = (one) => heads.flatMap((_, i) => (bounded[i] ? one(i) : one(i).slice(0, 1)));
  const known = new Set(heads), place = Object.entries({ network: state.network, budget: state.budget }).filter(([name]) => !known.has(name));
  return asCsv([
    [...place.map(([name]) => name), ...spread((i) => [heads[i], `${heads[i]}, interval`])],
    ...lines.map((line) => [...place.map(([, chosen]) => chosen), ...spread((i) => [numeric[i] ? asNumber(line[i][0]) : line[i][0], line[i][1]])]),
  ]);
}

function tableLatex(table) {
  const { heads, numeric, lines } = tableContent(table);
  const texts = lines.map((line) => line.map(([words, interval]) => (interval ? `${words} [${interval}]` : words)));
  return asLatex([heads, ...texts], numeric.map((one) => (one ? "r" : "l")).join(""), table.dataset.exportName);
}

function offerTable(table) {
  const line = cell("p", "save this table: ", { className: "exports scripted" });
  const button = (kind, saved) => {
    const made = cell("button", kind, { type: "button" });
    made.setAttribute("aria-label", `${table.dataset.exportName} as ${kind}`);
    made.addEventListener("click", saved);
    return made;
  };
  line.append(
    button("CSV", () => save(`${fileName(table.dataset.exportName)}.csv`, "text/csv", tableCsv(table))), " ",
    button("LaTeX", () => save(`${fileName(table.dataset.exportName)}.tex`, "text/x-tex", tableLatex(table))),
  );
  (table.closest(".scroll") ?? table).after(line);
}

for (const table of document.querySelectorAll("table[data-export-name]")) offerTable(table);
