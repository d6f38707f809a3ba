"use strict";
// The plot. Plotly travels as gzip in base64; where it can't be inflated, the figures of the page stay.

const page = JSON.parse(document.getElementById("data").textContent);

async function inflate(base64) {
  const packed = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

async function loadPlotly() {
  const script = document.createElement("script");
  script.textContent = await inflate(document.getElementById("plotly").textContent);
  document.head.append(script);
  if (!window.Plotly) throw new Error("the plotting library did not start");
}

const AXES = {
  bytes: { title: "bytes of the whole file (fewer is better)", tickformat: "~s" },
  ratio: { title: "ratio to the fp32 reference (more is better)", tickformat: "~g" },
  bits: { title: "bits per weight (fewer is better)", tickformat: "~g" },
};

// Plotly reads a subset of HTML in its texts: names are shown as they are.
function plain(text) {
  return String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

function rounded(number, digits) {
  return number.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

function hover(line, row) {
  const value = row.values, seeds = row.records.length;
  const range = seeds > 1 ? `<br>${seeds} seeds: ${rounded(row.qualityRange[0], 2)} to ${rounded(row.qualityRange[1], 2)} %` : "";
  return `<b>${plain(line.name)}</b><br>${plain(value.point)}<br>` +
    `${rounded(value.bytes, 0)} bytes · ${rounded(value.ratio, 2)}× · ${rounded(value.bits, 3)} bits per weight<br>` +
    `${rounded(value.quality, 2)} % (95 %: ${rounded(row.interval[0], 2)} to ${rounded(row.interval[1], 2)})${range}`;
}

// What smallest and largest file over seeds are in the unit of the axis.
function rateRange(row, x) {
  const factor = row.values[x] * (x === "ratio" ? row.values.bytes : 1 / row.values.bytes);
  return row.bytesRange.map((bytes) => (x === "ratio" ? factor / bytes : factor * bytes)).sort((a, b) => a - b);
}

function trace(line, state) {
  const rows = line.rows.map((index) => page.rows[index]);
  const x = rows.map((row) => row.values[state.x]), y = rows.map((row) => row.values.quality);
  const bars = { type: "data", symmetric: false, thickness: 1, width: 2 };
  const ranges = rows.map((row) => rateRange(row, state.x));
  return {
    type: "scatter", mode: "lines+markers", x, y, customdata: line.rows,
    hovertext: rows.map((row) => hover(line, row)), hoverinfo: "text",
    line: { color: line.colour, dash: line.dash, width: 1.75 },
    marker: { color: line.colour, symbol: line.symbol, size: 8 },
    error_y: { ...bars, visible: state.intervals, array: rows.map((row, i) => row.interval[1] - y[i]), arrayminus: rows.map((row, i) => y[i] - row.interval[0]) },
    error_x: { ...bars, visible: state.intervals, array: ranges.map((range, i) => range[1] - x[i]), arrayminus: ranges.map((range, i) => x[i] - range[0]) },
  };
}

function layout(shown, state) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const reference = page.networks.find((network) => network.name === state.network).reference;
  const axis = { color: colour("--soft"), gridcolor: colour("--faint"), linecolor: colour("--rule"), zeroline: false, ticks: "outside", tickcolor: colour("--rule"), automargin: true };
  const rows = shown.flatMap((line) => line.rows.map((index) => page.rows[index]));
  const ratio = state.x === "ratio"; // there the uncompressed network stands on the left, its label on the right
  const rates = rows.map((row) => row.values[state.x]), wide = Math.max(...rates) > 3 * Math.min(...rates);
  const floor = reference - page.view, below = rows.filter((row) => row.values.quality < floor).length;
  const near = state.y === "near" && reference !== null && below > 0 && below < rows.length;
  const top = Math.max(reference ?? 0, ...rows.map((row) => row.interval[1])) + 0.3;
  document.getElementById("plot-note").textContent =
    near ? `${below} of ${rows.length} points lie more than ${page.view} points below the reference, out of view.` : "";
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, hovermode: "closest",
    font: { family: style.getPropertyValue("--sans"), size: 13, color: colour("--ink") },
    margin: { l: 60, r: 16, t: 12, b: 56 },
    hoverlabel: { bgcolor: colour("--raised"), bordercolor: colour("--rule"), font: { color: colour("--ink") }, align: "left" },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("--soft"), activecolor: colour("--accent") },
    xaxis: { ...axis, type: "log", dtick: wide ? "D2" : "D1", tickformat: AXES[state.x].tickformat, title: { text: AXES[state.x].title } },
    yaxis: { ...axis, title: { text: `${plain(page.metric)}, %` }, ...(near ? { range: [floor - 0.3, top] } : {}) },
    shapes: reference === null ? [] : [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: reference, y1: reference, line: { dash: "dot", width: 1.5, color: colour("--soft") } }],
    annotations: reference === null ? [] : [{ xref: "paper", x: ratio ? 1 : 0, xanchor: ratio ? "right" : "left", y: reference, yanchor: "bottom", showarrow: false, text: `reference ${rounded(reference, 2)} %`, font: { size: 12, color: colour("--soft") } }],
  };
}

function drawPlot(state) {
  if (!window.Plotly) return;
  const place = document.getElementById("plot");
  const shown = page.series.filter((line, index) => line.network === state.network && !state.hidden.has(index));
  const config = { displaylogo: false, responsive: true, modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] };
  Plotly.react(place, shown.map((line) => trace(line, state)), layout(shown, state), config);
}
