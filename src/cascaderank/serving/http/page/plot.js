// Plots in SVG: the scores of a stage with the line of the cut, and the width of the funnel.

import { count, drawn, score } from "./dom.js";

const HEIGHT = 128;
const TOP = 18; // label of the line
const BOTTOM = 18; // lowest and highest score
const BAR = 8; // pixels of a bar with its gap

/** Return the plot of the scores of a stage, `width` pixels wide. */
export function scorePlot(run, stage, width, marked = -1) {
  const points = finiteScores(run, stage);
  const plot = drawn("svg", {
    class: "scores",
    width,
    height: HEIGHT,
    viewBox: `0 0 ${width} ${HEIGHT}`,
    role: "img",
    "aria-label": description(stage, points),
  });
  if (!points.values.length) {
    plot.append(text(width / 2, HEIGHT / 2, "no candidates", "middle"));
    return plot;
  }
  const bins = binned(points, stage.cut, Math.max(10, Math.floor(width / BAR)));
  const x = (value) => ((value - bins.start) / (bins.width * bins.kept.length)) * width;
  const hatch = `hatch-${stage.index}`;
  plot.append(
    drawn(
      "defs",
      {},
      drawn(
        "pattern",
        { id: hatch, width: 4, height: 4, patternUnits: "userSpaceOnUse" },
        drawn("path", { class: "hatch", d: "M-1 1l2-2M0 4l4-4M3 5l2-2" }),
      ),
    ),
    drawn("path", { class: "bar cut", fill: `url(#${hatch})`, d: bars(bins, width, "cut") }),
    drawn("path", { class: "bar kept", d: bars(bins, width, "kept") }),
    drawn("path", { class: "axis", d: `M0 ${HEIGHT - BOTTOM + 0.5}H${width}` }),
    text(1, HEIGHT - 4, score(points.low), "start"),
    text(width - 1, HEIGHT - 4, score(points.high), "end"),
  );
  if (stage.cut !== null) {
    const at = x(stage.cut);
    const left = at > width / 2;
    plot.append(
      drawn("path", { class: "line", d: `M${at} 4V${HEIGHT - BOTTOM}` }),
      text(at + (left ? -6 : 6), 13, `cut at ${score(stage.cut)}`, left ? "end" : "start"),
    );
  }
  const own = marked >= 0 && stage.ranks[marked] > 0 ? stage.scores[marked] : null;
  if (own !== null) {
    const at = Math.min(width - 5, Math.max(5, x(own)));
    const bottom = HEIGHT - BOTTOM;
    plot.append(
      drawn("path", { class: "item", d: `M${at} ${bottom}V${TOP + 14}` }),
      drawn("path", { class: "item-head", d: `M${at - 5} ${TOP + 6}h10l-5 9z` }),
    );
  }
  return plot;
}

/** Return the part of the funnel of one stage: as wide on the left as what came to all stages. */
export function flow(came, left, most, own = null) {
  const half = (n) => (n && most ? Math.max(1, 20 * Math.sqrt(n / most)) : 0);
  const [a, b] = [half(came), half(left)];
  const picture = drawn("svg", {
    class: "flow",
    viewBox: "0 0 100 44",
    preserveAspectRatio: "none",
    "aria-hidden": "true",
  });
  picture.append(
    drawn("path", {
      class: "stream",
      d: `M0 ${22 - a}C50 ${22 - a} 50 ${22 - b} 100 ${22 - b}V${22 + b}C50 ${22 + b} 50 ${22 + a} 0 ${22 + a}z`,
    }),
  );
  if (own !== null && own !== left) {
    const c = half(own);
    picture.append(drawn("path", { class: "own", d: `M97 ${22 - c}h3M97 ${22 + c}h3` }));
  }
  return picture;
}

function finiteScores(run, stage) {
  const values = [];
  const kept = [];
  for (const place of stage.order) {
    if (stage.scores[place] === null) continue;
    values.push(stage.scores[place]);
    kept.push(run.kept(stage, place));
  }
  return { values, kept, low: values.at(-1), high: values[0] };
}

function description(stage, { values, low, high }) {
  if (!values.length) return `Scores of ${stage.scorer}: no candidates came.`;
  const at = stage.cut === null ? "nothing was cut" : `the cut is at ${score(stage.cut)}`;
  return (
    `Scores of ${stage.scorer}: ${count(stage.order.length)} candidates from ${score(low)} to ` +
    `${score(high)}; ${at}; ${count(stage.left)} are left.`
  );
}

/** Count scores in bins; the cut is at the border of two of them. */
function binned({ values, kept, low, high }, cut, most) {
  const span = high - low || 1;
  const width = span / most;
  const middle = cut ?? low;
  const left = cut === null ? 0 : Math.ceil((cut - low) / width);
  const right = Math.max(1, Math.ceil((high - middle) / width + 1e-9));
  const start = middle - left * width;
  const found = { start, width, kept: new Int32Array(left + right), cut: new Int32Array(left + right) };
  values.forEach((value, i) => {
    let bin = Math.floor((value - start) / width);
    bin = cut !== null && value < cut ? Math.min(bin, left - 1) : Math.max(bin, left);
    bin = Math.min(left + right - 1, Math.max(0, bin));
    (kept[i] ? found.kept : found.cut)[bin] += 1;
  });
  return found;
}

function bars(bins, width, side) {
  const step = width / bins.kept.length;
  const most = Math.max(...bins.kept.map((n, i) => n + bins.cut[i]));
  const room = HEIGHT - TOP - BOTTOM - 8;
  let path = "";
  bins.kept.forEach((keptHere, i) => {
    const all = keptHere + bins.cut[i];
    if (!bins[side][i]) return;
    const whole = Math.max(3, room * Math.sqrt(all / most));
    const inner = whole * (keptHere / all);
    const bottom = HEIGHT - BOTTOM - (side === "cut" ? inner : 0);
    const height = side === "cut" ? whole - inner : inner;
    path += `M${(i * step + 0.5).toFixed(1)} ${bottom.toFixed(1)}v${-height.toFixed(1)}h${(step - 1).toFixed(1)}v${height.toFixed(1)}z`;
  });
  return path;
}

function text(x, y, content, anchor) {
  return drawn("text", { x, y, "text-anchor": anchor }, content);
}
