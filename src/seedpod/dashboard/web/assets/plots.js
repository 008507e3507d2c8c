// The plots: plotly's SVG traces alone, so that no WebGL is needed. Sizes and axes stay where they are as data comes.

import { short, value } from "./format.js";

const MANY = 100; // points above which they are drawn smaller
const LABELLED = 8; // curves up to which each carries its name
const LIGHT = ["#1d5fbf", "#b4560d", "#7a3fb0", "#0f7b7b", "#b02a5b", "#5b6b13", "#3a4a9f", "#8a5300"];
const DARK = ["#82b4ff", "#f3a261", "#c79bf2", "#5fd0cf", "#f58ab3", "#b9cc5e", "#a5b1f5", "#f0b357"];
const STATIC = { displayModeBar: false, responsive: true, scrollZoom: false, doubleClick: "reset" };
const dark = matchMedia("(prefers-color-scheme: dark)");

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export const colourOf = (number) => (dark.matches ? DARK : LIGHT)[number % LIGHT.length];

export const onTheme = (change) => dark.addEventListener("change", change);

function layout(more) {
  const axis = {
    gridcolor: css("--line"),
    linecolor: css("--line"),
    zeroline: false,
    tickfont: { size: 12 },
    title: { font: { size: 12 } },
    fixedrange: true,
  };
  const { xaxis, yaxis, ...rest } = more;
  return {
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: css("--muted") },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 48, r: 46, t: 10, b: 38 },
    showlegend: false,
    hovermode: "closest",
    hoverlabel: { bgcolor: css("--card"), bordercolor: css("--line"), font: { color: css("--text"), size: 12 } },
    ...rest,
    xaxis: { ...axis, ...xaxis },
    yaxis: { ...axis, ...yaxis },
  };
}

function draw(id, traces, how) {
  const place = document.getElementById(id);
  const empty = place.querySelector(".empty");
  if (empty) empty.hidden = traces.length > 0;
  if (traces.length || place.data) Plotly.react(place, traces, layout(how), STATIC);
}

export function drawCurves(store) {
  const running = store.shown.filter((number) => (store.curves.get(number) ?? []).length);
  const traces = [];
  if (store.bestCurve?.points.length) traces.push(reference(store.bestCurve, running.length === 0));
  for (const number of running) {
    const points = store.curves.get(number);
    const names = points.map((_, place) => (place === points.length - 1 && running.length <= LABELLED ? ` #${number}` : ""));
    traces.push({
      x: points.map((point) => point[0]),
      y: points.map((point) => point[1]),
      text: names,
      mode: "lines+markers+text",
      textposition: "middle right",
      textfont: { color: colourOf(number), size: 12 },
      line: { color: colourOf(number), width: 2 },
      marker: { color: colourOf(number), size: 4 },
      cliponaxis: false,
      hovertemplate: `#${number}, epoch %{x}: %{y:.4f}<extra></extra>`,
    });
  }
  const epochs = store.plan?.epochs ?? 10;
  draw("curves", traces, {
    xaxis: { title: { text: "epoch" }, range: [0.7, Math.max(2, epochs) + 0.3], dtick: epochs <= 12 ? 1 : undefined },
    yaxis: { title: { text: store.plan?.objective ?? "" }, automargin: false, nticks: 6 },
    margin: { l: 68, r: 66, t: 10, b: 38 },
  });
}

function reference(curve, alone) {
  const last = curve.points.length - 1;
  return {
    x: curve.points.map((point) => point[0]),
    y: curve.points.map((point) => point[1]),
    text: curve.points.map((_, place) => (place === last ? ` best #${curve.number}` : "")),
    mode: "lines+text",
    textposition: "middle right",
    textfont: { color: css("--muted"), size: 12 },
    cliponaxis: false,
    line: alone ? { color: css("--accent"), width: 2.5 } : { color: css("--muted"), width: 1.5, dash: "dot" },
    hovertemplate: `best, #${curve.number}, epoch %{x}: %{y:.4f}<extra></extra>`,
  };
}

export function drawHistory(store) {
  const trials = store.latest;
  const complete = trials.filter((trial) => trial.status === "complete");
  const failed = trials.filter((trial) => trial.status === "failed");
  const total = store.now?.total ?? store.plan?.trials ?? 1;
  const ended = trials.length ? trials[trials.length - 1].order : 0;
  const traces = [];
  if (complete.length) {
    traces.push({
      x: complete.map((trial) => trial.order),
      y: complete.map((trial) => trial.value),
      text: complete.map((trial) => `#${trial.number}`),
      mode: "markers",
      marker: { color: css("--muted"), size: complete.length > MANY ? 4 : 6, opacity: complete.length > MANY ? 0.25 : 0.55 },
      hovertemplate: "%{text}: %{y:.4f}<extra></extra>",
    });
  }
  if (store.best.length) {
    const [last] = store.best.slice(-1);
    const steps = [...store.best, [Math.max(ended, last[0]), last[1], last[2]]];
    traces.push({
      x: steps.map((step) => step[0]),
      y: steps.map((step) => step[1]),
      text: steps.map((step) => `#${step[2]}`),
      mode: "lines",
      line: { color: css("--accent"), width: 2.5, shape: "hv" },
      hovertemplate: "best so far %{y:.4f}, %{text}<extra></extra>",
    });
  }
  if (failed.length) {
    traces.push({
      x: failed.map((trial) => trial.order),
      y: failed.map(() => 0.03),
      text: failed.map((trial) => `#${trial.number} failed: ${trial.cause}`),
      yaxis: "y2",
      mode: "markers",
      marker: { color: css("--bad"), size: failed.length > MANY ? 4 : 8, symbol: "x-thin", line: { color: css("--bad"), width: failed.length > MANY ? 1 : 2 } },
      hovertemplate: "%{text}<extra></extra>",
    });
  }
  draw("history", traces, {
    xaxis: { title: { text: "trials ended" }, range: [0, total + 0.5], nticks: 8, dtick: total <= 12 ? 1 : undefined },
    yaxis: { title: { text: store.plan?.objective ?? "" }, nticks: 6 },
    yaxis2: { overlaying: "y", range: [0, 1], visible: false, fixedrange: true },
    margin: { l: 62, r: 20, t: 10, b: 38 },
  });
}

export function drawImportances(store) {
  const shown = store.importances.slice(0, 10).reverse();
  const traces = shown.length
    ? [
        {
          type: "bar",
          orientation: "h",
          x: shown.map((pair) => pair[1]),
          y: shown.map((pair) => pair[0]),
          text: shown.map((pair) => `${Math.round(100 * pair[1])} %`),
          textposition: "outside",
          cliponaxis: false,
          marker: { color: css("--accent"), opacity: 0.8 },
          hovertemplate: "%{y}: %{x:.1%}<extra></extra>",
        },
      ]
    : [];
  draw("mattered", traces, {
    xaxis: { visible: false, range: [0, Math.max(0.2, ...shown.map((pair) => pair[1]))] },
    yaxis: { ticksuffix: "  ", showgrid: false, tickfont: { size: 12, color: css("--text") } },
    margin: { l: 112, r: 44, t: 6, b: 6 },
    bargap: 0.45,
  });
}

const LINES = 240; // drawn at most: the best ones, and others of every rank
const BEST = 40;
const BINS = 6; // shades of lines, by rank
const BENT = 8; // a numeric axis that spans this many times its low end is logarithmic

export function drawTried(store) {
  const complete = store.latest.filter((trial) => trial.status === "complete").sort((one, other) => one.merit - other.merit);
  const axes = complete.length ? axesOf(complete) : [];
  const drawn = sampled(complete);
  document.getElementById("tried").style.minWidth = `${50 * axes.length}px`; // narrower screens scroll
  const traces = axes.length ? lines(drawn, axes) : [];
  draw("tried", traces, {
    xaxis: { visible: false, range: [-0.6, axes.length - 0.4] },
    yaxis: { visible: false, range: [-0.06, 1.04] },
    margin: { l: 24, r: 24, t: 44, b: 8 },
    shapes: axes.map((_, at) => ({ type: "line", x0: at, x1: at, y0: 0, y1: 1, line: { color: css("--low"), width: 1 } })),
    annotations: axes.flatMap(labels),
  });
}

function sampled(complete) {
  if (complete.length <= LINES) return complete;
  const rest = complete.length - BEST;
  const step = rest / (LINES - BEST);
  const spread = Array.from({ length: LINES - BEST }, (_, place) => complete[Math.floor(place * step)]);
  return [...spread, ...complete.slice(rest)];
}

function lines(complete, axes) {
  const faint = Math.min(1, 40 / complete.length); // many lines on one spot add up
  const steps = css("--low") && blend(css("--low"), css("--accent"), BINS);
  const bins = Array.from({ length: BINS }, () => []);
  complete.forEach((trial, rank) => bins[Math.floor((rank * BINS) / complete.length)].push(trial));
  const best = complete[complete.length - 1];
  return [...bins.map((trials, bin) => line(trials, axes, steps[bin], 1 + (bin / BINS) * faint, (0.55 + (0.35 * bin) / BINS) * Math.max(0.2, faint))), line([best], axes, css("--accent"), 3, 1)].filter(
    (trace) => trace.x.length,
  );
}

function line(trials, axes, color, width, opacity) {
  const trace = { x: [], y: [], text: [], mode: "lines", line: { color, width }, opacity, hoverinfo: "text" };
  for (const trial of trials) {
    axes.forEach((axis, at) => {
      const given = trial.params[axis.name];
      trace.x.push(at);
      trace.y.push(given === undefined ? null : axis.place(given));
      trace.text.push(`#${trial.number} ${value(trial.value)}, ${axis.name} ${given === undefined ? "–" : short(given)}`);
    });
    trace.x.push(null);
    trace.y.push(null);
    trace.text.push("");
  }
  return trace;
}

function labels(axis, at) {
  const label = (y, text, more = {}) => ({
    x: at,
    y,
    text,
    showarrow: false,
    font: { size: 11, color: css("--muted") },
    bgcolor: css("--card"),
    borderpad: 1,
    opacity: 0.9,
    ...more,
  });
  // Names on two levels, since neighbours may be long.
  const name = { yanchor: "bottom", yshift: at % 2 ? 27 : 11, bgcolor: "rgba(0,0,0,0)", opacity: 1, font: { size: 12, color: css("--text") } };
  const title = label(1, axis.name, name);
  return [title, ...axis.ticks.map((tick) => label(axis.place(tick), short(tick)))];
}

// Every parameter in which trials differ is an axis: its name, its ticks, and where a value stands on it, from 0 to 1. In
// the order in which the trials with most of them have them, so that none moves when a trial without some comes.
function axesOf(trials) {
  const fullest = [...trials].sort((one, other) => Object.keys(other.params).length - Object.keys(one.params).length);
  const names = [...new Set(fullest.flatMap((trial) => Object.keys(trial.params)))];
  const differing = names.filter((name) => new Set(trials.map((trial) => trial.params[name])).size > 1);
  return (differing.length ? differing : names).map((name) => axisOf(name, trials));
}

function axisOf(name, trials) {
  const known = [...new Set(trials.map((trial) => trial.params[name]).filter((one) => one !== undefined))];
  if (known.some((one) => typeof one !== "number")) {
    const sorted = known.sort((one, other) => String(one).localeCompare(String(other)));
    return { name, ticks: sorted, place: (one) => (sorted.length === 1 ? 0.5 : sorted.indexOf(one) / (sorted.length - 1)) };
  }
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const bent = low > 0 && high / low >= BENT ? Math.log : (one) => one;
  const place = (one) => (low === high ? 0.5 : (bent(one) - bent(low)) / (bent(high) - bent(low)));
  const few = known.length <= 6 && known.every(Number.isInteger);
  return { name, ticks: few ? known : [...new Set([low, high])], place };
}

function blend(from, to, steps) {
  const parts = (color) => [1, 3, 5].map((at) => Number.parseInt(color.slice(at, at + 2), 16));
  const [start, end] = [parts(from), parts(to)];
  return Array.from({ length: steps }, (_, step) => {
    const mixed = start.map((part, place) => Math.round(part + ((end[place] - part) * step) / (steps - 1)));
    return `rgb(${mixed.join(",")})`;
  });
}
