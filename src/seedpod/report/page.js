// Draws each figure when it comes near the screen, in the page's own colours, and anew when those change.
"use strict";
const figures = JSON.parse(document.getElementById("figures").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");
const now = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// Optuna paints values from white to dark blue: on a dark page those are drawn as on a light one, and turned over.
const SHADED = ["slices", "parallel"];
const LIGHT = { "--ink": "#1b2330", "--line": "#e2e6ec", "--muted": "#9aa5b4", "--card": "#ffffff" };
let colour = now;

// Plotly knows no CSS variables: "var(--good)" becomes what that is now.
const painted = (value) => {
  if (typeof value === "string") {
    const match = value.match(/^var\((--\w+)\)$/);
    return match ? colour(match[1]) : value;
  }
  if (Array.isArray(value)) return value.length && typeof value[0] === "object" ? value.map(painted) : value;
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, painted(inner)]));
  }
  return value;
};

const themed = (figure, width) => {
  const { data, layout } = painted(figure);
  const narrow = width < 560;
  const result = {
    ...layout,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: colour("--ink"), family: "system-ui, sans-serif", size: narrow ? 11 : 13 },
    colorway: ["--c1", "--c2", "--c3", "--c4", "--c5", "--c6"].map(colour),
    margin: { l: narrow ? 48 : 64, r: 16, t: 24, b: 48, ...(layout.margin || {}) },
    legend: { ...(layout.legend || {}), orientation: "h", y: 1.02, yanchor: "bottom", x: 0, ...(narrow ? { font: { size: 10 } } : {}) },
    hoverlabel: { bgcolor: colour("--card"), bordercolor: colour("--line"), font: { color: colour("--ink") } },
  };
  if (layout.annotations) {
    result.annotations = layout.annotations.map((note) => ({ ...note, font: { ...note.font, color: colour("--ink") } }));
  }
  if (layout.shapes) {
    result.shapes = layout.shapes.map((shape) => ({ ...shape, line: { ...shape.line, color: colour("--muted") } }));
  }
  delete result.template;
  delete result.title;
  for (const key of Object.keys(layout).filter((name) => /^[xy]axis\d*$/.test(name)).concat(["xaxis", "yaxis"])) {
    result[key] = {
      ...(layout[key] || {}),
      title: { standoff: 14, ...((layout[key] || {}).title || {}), font: { size: narrow ? 11 : 13 } },
      gridcolor: colour("--line"),
      zerolinecolor: colour("--line"),
      linecolor: colour("--line"),
      automargin: true,
    };
  }
  return { data, layout: result };
};

const draw = (element) => {
  const figure = figures[element.dataset.figure];
  const room = element.parentElement.clientWidth;
  // Many small plots beside each other, or many axes, keep a width that can be read, and scroll.
  const panels = Object.keys(figure.layout).filter((name) => /^xaxis\d*$/.test(name)).length;
  const axes = element.dataset.figure === "parallel" ? (figure.layout.xaxis.ticktext || []).length : 0;
  const width = Math.max(room, panels > 1 ? panels * 190 : 0, axes * 130);
  element.style.width = `${width}px`;
  const turned = dark.matches && SHADED.includes(element.dataset.figure);
  element.style.filter = turned ? "invert(0.92) hue-rotate(180deg)" : "";
  colour = turned ? (name) => LIGHT[name] || now(name) : now;
  const { data, layout } = themed(figure, width);
  const height = figure.layout.height || (panels > 1 ? 340 : 400);
  element.style.minHeight = `${height}px`;
  Plotly.react(element, data, { ...layout, width, height }, { displaylogo: false, displayModeBar: false });
  element.dataset.drawn = "yes";
};

const seen = new IntersectionObserver(
  (entries) => entries.filter((e) => e.isIntersecting).forEach((e) => (seen.unobserve(e.target), draw(e.target))),
  { rootMargin: "600px" },
);
const charts = [...document.querySelectorAll(".chart")];
charts.forEach((element) => seen.observe(element));
const again = () => charts.filter((element) => element.dataset.drawn).forEach(draw);
dark.addEventListener("change", again);
let room = innerWidth;
let waiting = 0;
addEventListener("resize", () => {
  if (innerWidth === room) return; // a phone's address bar comes and goes
  room = innerWidth;
  clearTimeout(waiting);
  waiting = setTimeout(again, 150);
});
addEventListener("beforeprint", () => charts.forEach(draw));
