// Comparing curves: which points are Pareto-optimal, and Bjøntegaard's BD-rate (VCEG-M33, 2001; with monotone piecewise cubics
// instead of one polynomial, as JCT-VC does).

const fewer = (x) => (x === "ratio" ? -1 : 1); // on which side of the axis better is

// How good a row is: its quality, negated where less is better.
function merit(row) {
  return page.metric.better * value(row, "quality");
}

// The Pareto-optimal rows: no other row is better in both position and quality.
function front(rows, x) {
  const ordered = rows.filter((row) => value(row, x) !== null)
    .sort((a, b) => fewer(x) * (value(a, x) - value(b, x)) || merit(b) - merit(a));
  let best = -Infinity;
  return ordered.filter((row) => merit(row) > best && ((best = merit(row)), true));
}

// Slopes of a monotone piecewise cubic through the points (Fritsch & Carlson 1980; ends as in SciPy's PchipInterpolator).
function slopes(x, y) {
  const h = [], d = [];
  for (let i = 0; i + 1 < x.length; i++) { h.push(x[i + 1] - x[i]); d.push((y[i + 1] - y[i]) / h[i]); }
  if (d.length === 1) return [d[0], d[0]];
  const end = (h0, h1, d0, d1) => {
    const slope = ((2 * h0 + h1) * d0 - h0 * d1) / (h0 + h1);
    if (Math.sign(slope) !== Math.sign(d0)) return 0;
    return Math.sign(d0) !== Math.sign(d1) && Math.abs(slope) > 3 * Math.abs(d0) ? 3 * d0 : slope;
  };
  const inner = d.slice(1).map((right, i) => {
    const left = d[i];
    if (left * right <= 0) return 0;
    const a = 2 * h[i + 1] + h[i], b = h[i + 1] + 2 * h[i];
    return (a + b) / (a / left + b / right);
  });
  const last = d.length - 1;
  return [end(h[0], h[1], d[0], d[1]), ...inner, end(h[last], h[last - 1], d[last], d[last - 1])];
}

// The integral of that cubic from one place to another, both within the points.
function integral(x, y, from, to) {
  const m = slopes(x, y);
  let sum = 0;
  for (let i = 0; i + 1 < x.length; i++) {
    const low = Math.max(from, x[i]), high = Math.min(to, x[i + 1]), h = x[i + 1] - x[i];
    if (high <= low) continue;
    const upTo = (place) => {
      const t = (place - x[i]) / h, t2 = t * t, t3 = t2 * t, t4 = t3 * t;
      return h * (y[i] * (t4 / 2 - t3 + t) + h * m[i] * (t4 / 4 - (2 * t3) / 3 + t2 / 2) + y[i + 1] * (t3 - t4 / 2) + h * m[i + 1] * (t4 / 4 - t3 / 3));
    };
    sum += upTo(high) - upTo(low);
  }
  return sum;
}

// BD-rate: the average difference in bytes at equal quality, in per cent of the baseline's bytes, and the range of quality
// that it covers: what both curves share or, if given, a range of merits. Null if the curves don't have it. Only each line's
// Pareto-optimal points count.
function bdRate(line, baseline, range = overlap([line, baseline])) {
  const [[x, y], [u, v]] = [bdCurve(line), bdCurve(baseline)];
  if (range === null || x.length < 2 || u.length < 2) return null;
  const [from, to] = range;
  if (from < Math.max(x[0], u[0]) || to > Math.min(x.at(-1), u.at(-1))) return null;
  const percent = 100 * (Math.exp((integral(x, y, from, to) - integral(u, v, from, to)) / (to - from)) - 1);
  const [low, high] = [page.metric.better * from, page.metric.better * to].sort((a, b) => a - b);
  return { percent, from: low, to: high };
}

function bdCurve(line) {
  const rows = front(line.rows, "bytes");
  return [rows.map(merit), rows.map((row) => Math.log(value(row, "bytes")))];
}

// The merits that all lines of one network have, within the displayed range of quality; null if these are too few.
function overlap(lines) {
  if (!lines.length) return null;
  const curves = lines.map((line) => bdCurve(line)[0]), { reference } = page.networks.find((network) => network.name === lines[0].network);
  const { better } = page.metric, { view, least } = page.axis, worst = reference === null || view === null ? -Infinity : better * reference - view;
  const from = Math.max(worst, ...curves.map((x) => x[0])), to = Math.min(...curves.map((x) => x.at(-1)));
  const enough = least ?? (Math.max(...curves.map((x) => x.at(-1))) - Math.min(...curves.map((x) => x[0]))) / 10;
  return to - from < enough ? null : [from, to];
}
