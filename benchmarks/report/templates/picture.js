// The plot as an image whose lines are named, with the snapshot in its title.

// The lines that a trace draws, found by the keys of its rows.
function linesOf(trace) {
  return [...new Set((trace.customdata ?? []).flatMap((key) => page.rowByKey.get(key)?.line ?? []))];
}

// One line with its whole name, several that are drawn as one by their methods; other traces are not in the legend.
function nameTrace(trace) {
  const lines = linesOf(trace);
  const name = lines.length === 1 ? lines[0].name : [...new Set(lines.map((line) => line.method))].join(", ");
  return { ...trace, name: plain(name), showlegend: Boolean(name) };
}

function picture() {
  const { data, layout } = element("plot"), traces = data.map(nameTrace), entries = traces.filter((trace) => trace.showlegend).length;
  const width = 1200, height = 640 + 20 * entries, paper = getComputedStyle(document.documentElement).getPropertyValue("--paper").trim();
  const title = plain(`RateBench, suite ${page.suite}, network ${state.network}, snapshot ${page.snapshot}`);
  const whole = {
    ...layout, autosize: false, width, height, showlegend: true, paper_bgcolor: paper, plot_bgcolor: paper,
    title: { text: title, font: { size: 14 }, x: 0.01, y: 1, yref: "container", yanchor: "top", pad: { t: 12 } },
    margin: { l: 70, r: 20, t: 48, b: 80 + 20 * entries }, legend: { orientation: "v", x: 0, y: 0, yref: "container", yanchor: "bottom" },
  };
  return Plotly.downloadImage({ data: traces, layout: whole }, { format: "png", width, height, scale: 2, filename: fileName() });
}
