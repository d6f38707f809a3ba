// The plot as an image whose lines are named, with the snapshot in its title; in light colours, for a printed page.

// A line with its name and, though it may be grey in the plot, its colour; several that are drawn as one with their methods.
// Other traces are not in the legend.
function nameTrace(trace) {
  const line = shownLines().find((one) => one.id === trace.meta);
  if (line) return { ...trace, name: plain(line.name), showlegend: true, line: { ...trace.line, color: line.colour }, marker: { ...trace.marker, color: line.colour } };
  const methods = new Set((trace.customdata ?? []).flatMap((key) => page.rowByKey.get(key)?.line.method ?? []));
  return { ...trace, name: plain([...methods].join(", ")), showlegend: methods.size > 0 };
}

function picture() {
  const light = cell("div", "", { className: "light" });
  document.body.append(light);
  const colour = coloursOf(light), paper = colour("--paper"), { data, layout } = scene(colour), { layout: shown } = element("plot");
  light.remove();
  for (const axis of ["xaxis", "yaxis"]) layout[axis].range = [...shown[axis].range]; // a part that is enlarged is saved as it is seen
  const traces = data.map(nameTrace), entries = traces.filter((trace) => trace.showlegend).length, width = 1200, height = 640 + 20 * entries;
  const title = plain(`RateBench, suite ${page.suite}, network ${state.network}, budget ${state.budget}, snapshot ${page.snapshot}`);
  const whole = {
    ...layout, autosize: false, width, height, showlegend: true, paper_bgcolor: paper, plot_bgcolor: paper,
    title: { text: title, font: { size: 14 }, x: 0.01, y: 1, yref: "container", yanchor: "top", pad: { t: 12 } },
    margin: { l: 70, r: 20, t: 48, b: 80 + 20 * entries }, legend: { orientation: "v", x: 0, y: 0, yref: "container", yanchor: "bottom" },
  };
  return Plotly.downloadImage({ data: traces, layout: whole }, { format: "png", width, height, scale: 2, filename: fileName() });
}
