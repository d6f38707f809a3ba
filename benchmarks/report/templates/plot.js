// The plot. Plotly travels as gzip in base64; where it can't be inflated, the figures of the page stay.

async function loadPlotly() {
  const script = document.createElement("script");
  script.textContent = await inflate("plotly");
  document.head.append(script);
  if (!window.Plotly) throw new Error("the plotting library did not start");
}

// `unit`: the unit in the hover text, where that text does not show the value already.
const AXES = {
  bytes: { title: "bytes of the whole file (fewer is better)", tickformat: "~s" },
  ratio: { title: "ratio: uncompressed bytes / bytes of the file (more is better)", tickformat: "~g" },
  bits: { title: "bits (fewer is better)", tickformat: "~g" },
  macs: { title: "multiply-accumulates for one item (fewer is better)", tickformat: "~s", unit: "million multiply-accumulates" },
  latency1: { title: "milliseconds for a batch of 1 (fewer is better)", tickformat: "~g", unit: "ms for a batch of 1" },
  latency128: { title: "milliseconds for a batch of 128 (fewer is better)", tickformat: "~g", unit: "ms for a batch of 128" },
};

// Plotly reads a subset of HTML in its texts: names are shown as they are.
function plain(words) {
  return String(words).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

// "per weight", or of a picture "per pixel".
function perUnit() {
  return page.columns[page.place.bits].unit.replace("/", "per ");
}

function hover(row) {
  const seeds = row.records.length, { unit } = AXES[state.x], range = ends(row.qualityRange, page.metric, " to ");
  const bits = value(row, "bits") === null ? "" : ` · ${text(row, "bits")} bits ${perUnit()}`;
  return `<b>${plain(row.line.name)}</b><br>${plain(text(row, "point"))}<br>` +
    `${text(row, "bytes")} bytes · ${text(row, "ratio")}×${bits}<br>` +
    (unit ? `${text(row, state.x)} ${unit}<br>` : "") +
    `${plain(page.metric.name)} ${plain(scored(value(row, "quality")))} (95 %: ${ends(row.interval, page.metric, " to ")})` +
    (seeds > 1 ? `<br>${seeds} seeds: ${range}` : "");
}

// What smallest and largest file over seeds are in the unit of the axis; other quantities have no range.
function rateRange(row) {
  const here = value(row, state.x);
  if (!["bytes", "ratio", "bits"].includes(state.x)) return [here, here];
  const factor = here * (state.x === "ratio" ? value(row, "bytes") : 1 / value(row, "bytes"));
  return row.bytesRange.map((bytes) => (state.x === "ratio" ? factor / bytes : factor * bytes)).sort((a, b) => a - b);
}

function whiskers(rows) {
  const bars = { type: "data", symmetric: false, thickness: 1, width: 2 }, ranges = rows.map(rateRange);
  const x = rows.map((row) => value(row, state.x)), y = rows.map((row) => value(row, "quality"));
  return {
    error_y: { ...bars, array: rows.map((row, i) => row.interval[1] - y[i]), arrayminus: rows.map((row, i) => y[i] - row.interval[0]) },
    error_x: { ...bars, array: ranges.map((range, i) => range[1] - x[i]), arrayminus: ranges.map((range, i) => x[i] - range[0]) },
  };
}

// With more points than this, only those on the front, and single points without a line, have a marker and an interval:
// more would be unreadable and slow.
const CROWD = 500, NAMED = 8; // with more lines in front, their names would cover the plot

// A line in front has its colour, the others are grey.
function trace(line, { unbeaten, ahead, grey }) {
  const rows = placed(line), x = rows.map((row) => value(row, state.x)), y = rows.map((row) => value(row, "quality")), color = ahead.has(line) ? line.colour : grey;
  return {
    type: "scatter", mode: "lines+markers", x, y, customdata: rows.map((row) => row.key), meta: line.id,
    hovertext: rows.map(hover), hoverinfo: "text", opacity: 1, line: { color, width: ahead.has(line) ? 1.75 : 1 },
    marker: { color, symbol: line.symbol, size: ahead.has(line) ? 8 : 5, opacity: rows.map((row) => (unbeaten.has(row) || !ahead.has(line) ? 1 : 0.5)) },
    ...(state.intervals && !state.front ? whiskers(rows) : {}),
  };
}

// Lines of one colour without markers, with gaps between them: as one they take a fraction of the time.
function bareTrace(lines, color) {
  const rows = lines.flatMap((line) => [...placed(line), null]);
  return {
    type: "scatter", mode: "lines", x: rows.map((row) => row && value(row, state.x)), y: rows.map((row) => row && value(row, "quality")),
    customdata: rows.map((row) => row && row.key), hovertext: rows.map((row) => row && hover(row)), hoverinfo: "text", line: { color, width: 1 },
  };
}

function traces(lines, view, crowded) {
  const bare = crowded ? lines.filter((line) => placed(line).length > 1) : [];
  const alike = {};
  for (const line of bare) (alike[view.ahead.has(line) ? line.colour : view.grey] ??= []).push(line);
  const behindFirst = lines.filter((line) => !bare.includes(line)).sort((a, b) => view.ahead.has(a) - view.ahead.has(b));
  return [...Object.entries(alike).map(([color, own]) => bareTrace(own, color)), ...behindFirst.map((line) => trace(line, view))];
}

function frontTrace(rows, ink, crowded) {
  const better = [...rows].reverse();
  return {
    type: "scatter", mode: crowded ? "lines+markers" : "lines", hoverinfo: "skip", x: better.map((row) => value(row, state.x)), y: better.map((row) => value(row, "quality")),
    marker: { color: better.map((row) => row.line.colour), symbol: better.map((row) => row.line.symbol), size: 8 },
    line: { color: ink, width: 2.5 }, opacity: crowded ? 0.85 : 0.55, ...(state.intervals ? whiskers(better) : {}),
  };
}

// From a ratio to the place on the axis of rate; null on axes of cost.
function placing() {
  const { bytes } = networkHere();
  return { ratio: (ratio) => ratio, bytes: (ratio) => bytes / ratio, bits: (ratio) => page.whole.bits / ratio }[state.x] ?? null;
}

// Papers' own points of the methods in view, each with its place on the axis; there is none on axes of cost.
function reportedHere() {
  const methods = new Set(shownLines().map((line) => line.method)), place = placing();
  if (!place) return [];
  return page.reported.filter((one) => one.network === state.network && methods.has(one.method)).map((one) => ({ ...one, place: place(one.ratio) }));
}

// A reported curve of another method, without markers.
function printedTrace(curve, ink) {
  const ratios = curve.rows.map((row) => networkHere().bytes / value(row, "bytes")), y = curve.rows.map((row) => value(row, "quality"));
  const words = ratios.map((ratio, i) => `<b>${plain(curve.name)}</b><br>${plain(scored(y[i]))} at ${rounded(ratio, 2)}×`);
  return { type: "scatter", mode: "lines", x: ratios.map(placing()), y, hovertext: words, hoverinfo: "text", line: { color: ink, dash: "dot", width: 1.25 } };
}

// They are hollow, each joined to the measured point that answers it.
function reportedTrace(one, lines, ink) {
  const row = page.rowByKey.get(one.row), joined = row && lines.some((line) => line.rows.includes(row)) ? [row] : [];
  const words = `<b>${plain(one.method)}, reported</b><br>${plain(scored(one.quality))} at ${rounded(one.ratio, 2)}×, counting ${plain(one.counts)}<br>${plain(one.source)}`;
  return {
    type: "scatter", mode: "lines+markers", x: [one.place, ...joined.map((row) => value(row, state.x))], y: [one.quality, ...joined.map((row) => value(row, "quality"))],
    hovertext: [words, ""], hoverinfo: "text", line: { color: ink, dash: "dot", width: 1 },
    marker: { color: lines.find((line) => line.method === one.method).colour, symbol: "circle-open", size: [11, 0.1], line: { width: 2 } },
  };
}

function networkHere() {
  return page.networks.find((network) => network.name === state.network);
}

// Rows that have a place on the axis: of a line, and of all that are shown. On axes of cost, a line goes from left to right:
// a smaller file need not be a faster network.
function placed(line) {
  const rows = line.rows.filter((row) => value(row, state.x) !== null);
  return ["bytes", "ratio", "bits"].includes(state.x) ? rows : rows.sort((a, b) => value(a, state.x) - value(b, state.x));
}

// Lines of the plot: the uncompressed network is a line across it, and would take half of its width as a point.
function drawnLines() {
  const reference = page.rows[networkHere().row]?.line.id, shown = shownLines(), others = shown.filter((line) => line.id !== reference);
  return others.length ? others : shown;
}

function placedRows() {
  return drawnLines().flatMap(placed);
}

// The worst quality in view; null where all points are.
function limitOf(rows) {
  const { reference } = networkHere(), { view } = page.axis;
  if (state.y !== "near" || reference === null || view === null) return null;
  const limit = reference - page.metric.better * view, beyond = rows.filter((row) => isBeyond(value(row, "quality"), limit)).length;
  return beyond > 0 && beyond < rows.length ? limit : null;
}

function isBeyond(quality, limit) {
  return limit !== null && page.metric.better * (quality - limit) < 0;
}

// From where to where the axis of quality reaches where it does not show all points.
function qualityRange(rows, limit) {
  const { reference } = networkHere(), { pad } = page.axis;
  if (page.metric.better > 0) return [limit - pad, Math.max(reference, ...rows.map((row) => row.interval[1])) + pad];
  return [Math.min(reference, ...rows.map((row) => row.interval[0])) - pad, limit + pad];
}

// The range of an axis of logarithms: what is in view, with room for half a marker and, on the side of better, for names.
function span(places) {
  const low = Math.log10(Math.min(...places)), high = Math.log10(Math.max(...places)), room = 0.025 * (high - low) || 0.1, names = 4 * room;
  return fewer(state.x) > 0 ? [low - room - names, high + room] : [low - room, high + room + names];
}

// The names of lines in front, each beside its last point in view; names that would overlap are moved apart.
function nameLabels(ahead, limit, ink, height) {
  const side = fewer(state.x) > 0 ? "right" : "left", rows = placedRows().filter((row) => !isBeyond(value(row, "quality"), limit));
  const [low, high] = [Math.min, Math.max].map((end) => end(...rows.map((row) => value(row, "quality"))));
  const lines = [...ahead].map((line) => ({ line, seen: placed(line).filter((row) => !isBeyond(value(row, "quality"), limit)) })).filter(({ seen }) => seen.length);
  const ends = lines.map(({ line, seen }) => ({ line, row: seen.reduce((a, b) => (fewer(state.x) * (value(b, state.x) - value(a, state.x)) < 0 ? b : a)) }));
  let above = Infinity;
  return ends.sort((a, b) => value(b.row, "quality") - value(a.row, "quality")).map(({ line, row }) => {
    const place = ((value(row, "quality") - low) / (high - low || 1)) * height, moved = Math.min(place, above - 17);
    above = moved;
    return {
      x: Math.log10(value(row, state.x)), y: value(row, "quality"), xanchor: side, yanchor: "middle", xshift: side === "right" ? -9 : 9, yshift: moved - place, showarrow: false,
      text: `<b>${plain(line.label ?? line.method)}</b>`, font: { size: 13, color: line.colour }, bgcolor: ink,
    };
  });
}

// Where an axis on which the largest value is `times` the smallest has labels, so that there are enough and they fit a phone:
// at powers of ten, at 1, 2 and 5 of each, or at a few even steps.
function steps(times) {
  if (times > 100) return { dtick: 1 };
  return times > 6 ? { dtick: "D2" } : { nticks: 3 };
}

// Margins are fixed: where Plotly chooses them, it draws all once more.
function layout(rows, reported, colour, ahead) {
  const { reference } = networkHere(), limit = limitOf(rows), seen = (quality) => !isBeyond(quality, limit);
  const axis = { color: colour("--soft"), gridcolor: colour("--faint"), linecolor: colour("--rule"), zeroline: false, ticks: "outside", tickcolor: colour("--rule"), tickangle: 0 };
  const labels = ahead.size <= NAMED ? nameLabels(ahead, limit, colour("--paper"), 0.8 * element("plot").clientHeight) : [];
  const ratio = state.x === "ratio"; // there the uncompressed network stands on the left, its label on the right
  const places = [...rows.filter((row) => seen(value(row, "quality"))).map((row) => value(row, state.x)), ...reported.filter((one) => seen(one.quality)).map((one) => one.place)];
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, hovermode: "closest",
    font: { family: colour("--sans"), size: 13, color: colour("--ink") },
    margin: { l: 60, r: 16, t: 12, b: 56 },
    hoverlabel: { bgcolor: colour("--raised"), bordercolor: colour("--rule"), font: { color: colour("--ink") }, align: "left" },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("--soft"), activecolor: colour("--accent") },
    xaxis: { ...axis, type: "log", ...steps(Math.max(...places) / Math.min(...places)), tickformat: AXES[state.x].tickformat, title: { text: AXES[state.x].title.replace("bits", `bits ${perUnit()}`), font: { size: 13 } }, ...(places.length ? { range: span(places) } : {}) },
    yaxis: { ...axis, title: { text: plain(page.axis.title), font: { size: 13 } }, ...(limit === null ? {} : { range: qualityRange(rows, limit) }) },
    shapes: reference === null ? [] : [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: reference, y1: reference, line: { dash: "dot", width: 1.5, color: colour("--soft") } }],
    annotations: reference === null ? labels : [...labels, { xref: "paper", x: ratio ? 1 : 0, xanchor: ratio ? "right" : "left", y: reference, yanchor: "bottom", showarrow: false, text: `reference ${plain(scored(reference))}`, font: { size: 12, color: colour("--soft") } }],
  };
}

// What the plot does not show, and what its times are worth.
function plotNotes(rows) {
  const limit = limitOf(rows), timed = state.x.startsWith("latency") && rows.length, missing = rowsOf(drawnLines()).length - rows.length;
  const beyond = rows.filter((row) => isBeyond(value(row, "quality"), limit)).length, { better, differenceUnit } = page.metric;
  const lacking = `${missing === 1 ? "has" : "have"} no ${state.x.startsWith("latency") ? "such time" : "place on this axis"}`;
  return [
    rows.length > CROWD ? `${rows.length} points are too many to tell apart: only those on the front have markers and intervals.` : "",
    beyond ? `${beyond} of ${rows.length} points ${beyond === 1 ? "lies" : "lie"} more than ${`${page.axis.view} ${differenceUnit}`.trim()} ${better > 0 ? "below" : "above"} the reference, out of view.` : "",
    missing ? `${missing} of the shown points ${lacking}.` : "",
    state.reported && placing() && printedHere().length ? "Dotted: curves that papers report for other methods. Each can also be the baseline of BD-rates." : "",
    timed ? `${page.columns[page.place[state.x]].help}. Measured on: ${rows[0].machine}.` : "",
  ].filter(Boolean).join(" ");
}

// A line that is pointed at or has the focus, in its colour and above the others; none with "".
function highlight(id) {
  const index = element("plot").data?.findIndex((one) => one.meta === id) ?? -1, line = page.lines.find((one) => one.id === id && one.network === state.network);
  if (!window.Plotly || highlight.now === id || (id && (index < 0 || !line))) return;
  highlight.now = id;
  if (highlight.undo) Plotly.restyle(element("plot"), ...highlight.undo);
  highlight.undo = null;
  if (!id) return;
  const { line: { color, width }, marker } = element("plot").data[index];
  highlight.undo = [{ "line.color": color, "line.width": width, "marker.color": [marker.color], "marker.size": marker.size }, [index]];
  Plotly.restyle(element("plot"), { "line.color": line.colour, "line.width": 3, "marker.color": line.colour, "marker.size": 9 }, [index]);
}

// A function from the name of a colour to the colour, as an element has it.
function coloursOf(one) {
  const style = getComputedStyle(one);
  return (name) => style.getPropertyValue(name).trim();
}

// The traces and the layout of what is chosen.
function scene(colour) {
  const lines = drawnLines(), rows = placedRows(), reported = state.reported ? reportedHere() : [];
  const best = state.front ? front(rows, state.x) : [], unbeaten = new Set(state.front ? best : rows);
  const limit = limitOf(rows), inFront = (row) => unbeaten.has(row) && !isBeyond(value(row, "quality"), limit);
  const ahead = new Set(state.front && lines.length > 1 ? lines.filter((line) => line.rows.some(inFront)) : lines);
  const crowded = rows.length > CROWD, drawn = traces(lines, { unbeaten, ahead, grey: colour("--behind") }, crowded);
  if (state.front) drawn.push(frontTrace(best, colour("--ink"), crowded));
  drawn.push(...reported.map((one) => reportedTrace(one, lines, colour("--soft"))));
  if (state.reported && placing()) drawn.push(...printedHere().map((curve) => printedTrace(curve, colour("--soft"))));
  return { data: drawn, layout: layout(rows, reported, colour, ahead) };
}

function drawPlot() {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  if (!window.Plotly || !isNew("plot", [...FILTERS, "x", "y", "intervals", "front", "reported"], dark)) return;
  const drawn = scene(coloursOf(document.documentElement));
  const config = { displaylogo: false, responsive: true, modeBarButtons: [["zoom2d", "pan2d", "resetScale2d"]] };
  Plotly.react(element("plot"), drawn.data, drawn.layout, config);
  highlight.now = ""; // what was highlighted has been drawn anew
  highlight.undo = null;
  element("plot-note").textContent = plotNotes(placedRows());
}
