// Methods at one rate, at one quality and over whole curves. The places on curves and the tests of differences are in the
// data (boards); the filters choose whose they are.

// The methods of a list that are not filtered or hidden, each with its curve.
function listed(found) {
  const shown = new Set(shownCurves());
  return found.map((one) => ({ ...one, curve: page.curves[one.at[0]] })).filter(({ curve }) => shown.has(curve));
}

function shownCurves() {
  return page.curves.filter((curve) => passes(curve) && !state.hide.includes(curve.id));
}

// Ranks: one more than the number of shown methods that are better beyond chance.
function standing(among = boardHere().rates[ratioHere()]) {
  const found = listed(among), shown = new Set(found.map(({ at }) => at[0]));
  return found.map((one) => ({ ...one, rank: 1 + one.better.filter((other) => shown.has(other)).length }));
}

function ratioHere() {
  return state.at || boardHere().start;
}

function lossHere() {
  const { losses } = boardHere();
  return losses.find(({ words }) => words === state.loss) ?? losses[Math.min(1, losses.length - 1)];
}

// Where the curve was measured: its neighbours, each a button to the row.
function neighbours([, low, high]) {
  const made = cell("td", "", { className: "words" });
  for (const row of low === high ? [low] : [low, high]) {
    const one = page.rows[row], button = cell("button", `${text(one, "bytes")} B`, { type: "button", className: "to-row", title: `${one.line.name}, ${text(one, "point")}: ${scored(value(one, "quality"))}` });
    button.dataset.row = one.key;
    made.append(row === low ? "" : " – ", button, ...warnings(one));
  }
  return made;
}

function nameCell(curve) {
  const name = cell("th", marker(curve), { scope: "row" });
  name.append(cell("span", curve.label, { className: "name" }), curve.others ? cell("small", ` +${curve.others} more`, { title: `${curve.name}: ${CHOSEN[page.envelopes[curve.envelope].chosen]}` }) : "");
  return name;
}

const CHOSEN = { validation: "the validation split chooses among its configurations", first: "its first configuration; validation scores of the others are missing", only: "" };

const number = (words) => cell("td", words, { className: "number" });

// Methods whose files are all smaller, or all larger, come last, without a score.
function drawAtRate() {
  const ranked = standing().sort((a, b) => a.rank - b.rank), outside = shownCurves().filter((curve) => !ranked.some((one) => one.curve === curve));
  element("at-rate").dataset.exportName = `at-${ratioHere()}x`;
  element("at-rate").tBodies[0].replaceChildren(...ranked.map(({ curve, at, rank }) => {
    const line = cell("tr", number(String(rank)));
    line.append(nameCell(curve), number(rounded(at[4], page.metric.decimals)), neighbours(at));
    return line;
  }), ...outside.map((curve) => {
    const line = cell("tr", number("–")), smallest = Math.min(...curve.rows.map((row) => value(row, "bytes")));
    line.append(nameCell(curve), number("–"), cell("td", `files of ${ends([smallest, curve.largest], { decimals: 0 }, " to ")} B`, { className: "words" }));
    return line;
  }));
  element("at-rate-note").textContent = `${rounded(networkSize() / Number(ratioHere()), 0)} bytes.`;
}

// The uncompressed bytes of a network.
function networkSize(network = state.network) {
  const row = page.lines.find((line) => line.network === network).rows[0];
  return value(row, "bytes") * value(row, "ratio");
}

// The geometric mean of a method's ratios at one loss over all networks of the budget, as a cell; none for one network. It may be
// larger still where a curve ends. Where the page has a mean over networks, that stands for them.
function overNetworks({ method, protocol }, words) {
  if (page.networks.length === 1 || page.networks[0].name === page.mean) return [];
  const boards = page.boards.filter((board) => board.budget === state.budget && board.losses.length);
  const found = boards.map((board) => board.losses.find((lost) => lost.words === words)?.methods.find(({ at }) => page.curves[at[0]].method === method && page.curves[at[0]].protocol === protocol));
  if (!found.every(Boolean)) return [number("–")];
  const logs = found.map(({ at }, i) => Math.log(networkSize(boards[i].network) / at[3]));
  const mean = number(rounded(Math.exp(logs.reduce((sum, one) => sum + one, 0) / logs.length), 1));
  return [found.some((one) => one.ends) ? bounded(mean, "or more") : mean];
}

// A number that is a bound, with the word for it beside: a column of its own in exports.
function bounded(made, words) {
  made.append(" ", cell("small", words, { className: "interval" }));
  return made;
}

// "Or less" where a curve ends: its smallest file is still good enough.
function drawAtQuality() {
  const lost = lossHere();
  element("at-quality-part").hidden = !lost;
  if (!lost) return;
  const found = standing(lost.methods), bytes = networkSize(), [best] = found.map(({ at }) => at[3]);
  element("at-quality").dataset.exportName = `within-${lost.words.replaceAll(" ", "-")}`;
  element("at-quality").tBodies[0].replaceChildren(...found.map(({ curve, at, ends, rank }) => {
    const line = cell("tr", number(String(rank))), size = number(rounded(at[3], 0));
    line.append(nameCell(curve), ends ? bounded(size, "or less") : size, number(rounded(bytes / at[3], 1)), number(rounded(at[3] / best, 2)), ...overNetworks(curve, lost.words), neighbours(at));
    return line;
  }));
  const without = shownCurves().length - found.length;
  element("at-quality-note").textContent = `At least ${scored(lost.score)}. `.replace("least", page.metric.better > 0 ? "least" : "most") + (without ? `${without} of the shown methods ${without === 1 ? "does" : "do"} not reach it.` : "");
}

function drawBd() {
  const lines = shownLines(), baseline = [...lines, ...printedHere()].find((line) => line.id === state.baseline) ?? null;
  element("bd-part").hidden = !baseline;
  if (!baseline) return;
  const common = state.range === "common" ? overlap(lines.filter((line) => overlap([line, baseline]))) : undefined;
  const found = lines.filter((line) => line !== baseline).map((line) => ({ line, difference: bdRate(line, baseline, common) }));
  found.sort((a, b) => (a.difference?.percent ?? Infinity) - (b.difference?.percent ?? Infinity));
  element("bd").tBodies[0].replaceChildren(...found.map(({ line, difference }) => {
    const row = cell("tr", line.envelope === undefined ? lineCell(line) : nameCell(line));
    const words = difference && `${difference.percent < 0 ? "−" : "+"}${rounded(Math.abs(difference.percent), 1)}`;
    row.append(number(words ?? "–"), number(difference ? ends([difference.from, difference.to], page.metric, " to ") : "too little in common"));
    return row;
  }));
}

function lineCell(line) {
  const name = cell("th", marker(line), { scope: "row" });
  name.append(line.name);
  return name;
}

function drawRanking() {
  if (!isNew("ranking", [...FILTERS, "at", "loss", "baseline", "range"])) return;
  drawAtRate();
  drawAtQuality();
  drawBd();
}
