// Puts the page together: messages into the store, the store onto the page, each part only when it has changed.

import { dollars, duration, plural, value, whole } from "./format.js";
import { colourOf, drawCurves, drawHistory, drawImportances, drawTried, onTheme } from "./plots.js";
import { Store } from "./store.js";
import { listen } from "./stream.js";
import { RunningTable, TrialsTable, element } from "./tables.js";

const SLOW = 1500; // milliseconds between two drawings of the costliest plot
const OUTCOMES = {
  done: "Done",
  exhausted: "The search space is exhausted: done",
  timeout: "Stopped at timeout_hours",
  max_cost: "Stopped by max_cost",
  interrupted: "Interrupted",
  endpoint: "Stopped: the endpoint cannot be used",
  error: "Stopped by an error",
  bug: "Stopped by a bug of seedpod",
};
const WHOLE = ["done", "exhausted", "timeout", "max_cost"]; // ends after which a final model and a report are made
const LEAST = 8; // complete trials from which on it is told what mattered
const SURE = 30; // and below which that is but a hint

const at = (id) => document.getElementById(id);
const say = (id, text) => {
  if (at(id).textContent !== text) at(id).textContent = text;
};
const store = new Store();
const running = new RunningTable(at("running"), colourOf);
const trials = new TrialsTable(at("trials"), at("more"));
const dirty = new Set();
let away = false;
let waiting = false;
let triedAt = -Infinity;

function changed(names) {
  names.forEach((name) => dirty.add(name));
  if (waiting || !dirty.size) return;
  waiting = true;
  // No animation frame: a page in the background keeps its title and its figures.
  setTimeout(() => {
    waiting = false;
    const due = new Set(dirty);
    dirty.clear();
    show(due);
  }, 30);
}

function show(due) {
  const has = (...names) => names.some((name) => due.has(name));
  showStatus();
  if (!store.plan) return;
  if (has("plan")) showPlan();
  if (has("plan", "now", "over")) showFigures();
  if (has("plan", "now", "ended", "best")) showTrials(has("plan", "ended", "best"));
  if (has("plan", "points", "curves", "best")) {
    drawCurves(store);
    say("curves-sub", store.curves.size || !store.bestCurve ? "of running trials" : "of the best trial");
  }
  if (has("plan", "ended", "best")) drawHistory(store);
  if (has("plan", "importances")) drawImportances(store);
  if (has("plan", "now", "importances", "over")) showMattered();
  if (has("plan", "over")) showNext();
  if (has("plan", "ended")) showTried();
}

function showMattered() {
  const complete = store.now?.completed ?? 0;
  const known = store.importances.length > 0;
  const hint = complete < SURE ? ": a hint" : "";
  say("mattered-sub", known ? `share in the value, from ${whole(complete)} complete trials${hint}` : "share in the value");
  if (known) return;
  const few = store.over ? complete < LEAST : store.plan.trials < LEAST;
  const has = store.over ? `${plural(complete, "trial is", "trials are")} complete` : `this search has ${plural(store.plan.trials, "trial")}`;
  const empty = store.over && !few ? "Not known: the trials do not differ enough." : "Known after eight complete trials.";
  say("mattered-empty", few ? `Known from eight complete trials on; ${has}.` : empty);
}

function showNext() {
  const { folder, model, report } = store.plan;
  const ran = store.over && WHOLE.includes(store.over.outcome);
  const files = [model && store.best.length ? "the final model (model.keras)" : "", report ? "the report (report.html)" : ""].filter(Boolean);
  at("next").hidden = !ran || !files.length;
  say("next", `The search is over, and this page ends with it. Now made, in ${folder}: ${files.join(" and ")}. The terminal says when.`);
}

function showTried() {
  const since = performance.now() - triedAt;
  if (since < SLOW) {
    setTimeout(() => changed(["ended"]), SLOW - since);
    return;
  }
  triedAt = performance.now();
  drawTried(store);
}

function showStatus() {
  let [kind, text] = ["running", "Running"];
  if (store.over) [kind, text] = [["done", "exhausted"].includes(store.over.outcome) ? "done" : "bad", `${OUTCOMES[store.over.outcome] ?? `Stopped: ${store.over.outcome}`} after ${duration(store.over.seconds)}`];
  else if (away) [kind, text] = ["away", "No connection: the optimizer is not running. This page goes on by itself when it is back."];
  at("status").dataset.kind = kind;
  say("status", text);
  document.body.classList.toggle("stale", away && !store.over);
}

function showPlan() {
  const { run, dataset, sampler, seed, workers } = store.plan;
  say("run", run);
  say("about", `${dataset}, sampler ${sampler}, seed ${seed}, ${workers === 1 ? "1 trial" : `${workers} trials`} at a time`);
  say("objective", store.plan.objective);
  trials.clear();
}

function showFigures() {
  const now = store.now;
  if (!now) return;
  const ended = now.completed + now.pruned + now.failed + now.cancelled;
  say("ended", whole(ended));
  say("total", whole(now.total));
  document.title = `${ended}/${now.total}${now.best_value === null ? "" : ` · ${value(now.best_value)}`} · ${store.plan.run}`;
  showBar(now);
  say("best", value(now.best_value));
  say("best-note", now.best_trial === null ? "No trial is complete yet" : `Trial #${now.best_trial}: ${now.best_params}`);
  showTime(now);
  showCost(now.costs);
  running.show(now.rows);
  at("running").hidden = now.rows.length === 0;
  at("running-empty").hidden = now.rows.length > 0;
  say("running-empty", store.over ? "The search has ended." : "No trial is running.");
  say("running-sub", now.running > now.rows.length ? `the first ${now.rows.length} of ${whole(now.running)}` : "");
  showWorkers(now);
}

function showBar(now) {
  const parts = { complete: now.completed, pruned: now.pruned + now.cancelled, failed: now.failed, running: now.running };
  const bar = at("bar");
  for (const [name, count] of Object.entries(parts)) {
    const part = bar.querySelector(`.${name}`) ?? bar.appendChild(element("i", name));
    part.style.width = `${(100 * count) / Math.max(1, now.total)}%`;
  }
  const words = { running: now.running, queued: now.queued, failed: now.failed, pruned: now.pruned, cancelled: now.cancelled };
  const text = Object.entries(words)
    .filter(([, count]) => count)
    .map(([name, count]) => `${whole(count)} ${name}`)
    .join(", ");
  say("counts", text || "All complete");
  bar.setAttribute("aria-label", `${now.completed} complete, ${text}`);
}

function showTime(now) {
  if (store.over || (!now.queued && !now.running)) {
    say("time-title", "Took");
    say("left", duration(store.over?.seconds ?? now.elapsed));
    say("time-note", "The search has ended");
    return;
  }
  say("time-title", "Time left");
  const known = now.remaining !== null;
  say("left", known ? `≈ ${duration(now.remaining)}` : "–");
  const [low, high] = [now.remaining_low, now.remaining_high].map(duration);
  const range = known ? (low === high ? "" : `${low} to ${high}; `) : "Not known yet; ";
  say("time-note", `${range}${duration(now.elapsed)} gone`);
}

function showCost(costs) {
  if (costs.per_second === null) {
    say("cost", "–");
    say("cost-note", "Not known yet: no worker has told its GPU; gpu= tells it");
    return;
  }
  if (!costs.per_second && !costs.spent) {
    say("cost", "0 USD");
    say("cost-note", "Trials on this machine cost nothing");
    return;
  }
  say("cost", `${dollars(costs.spent + costs.running)} USD`);
  const parts = [];
  if (costs.projected !== null && !store.over) parts.push(`about ${dollars(costs.projected)} at the end`);
  if (costs.limit !== null) parts.push(`limit ${costs.limit}`);
  if (costs.unpriced) parts.push(`without ${plural(costs.unpriced, "trial")} of unknown price`);
  if (costs.starts || costs.idle) parts.push(`besides up to ${dollars(costs.starts)} for starts, ${dollars(costs.idle)} idle`);
  say("cost-note", parts.join(", "));
}

function showWorkers(now) {
  const view = now.endpoint;
  const busy = new Set(now.rows.filter((row) => row.worker).map((row) => row.worker)).size;
  say("workers-sub", view ? "RunPod endpoint" : "this machine");
  const facts = [
    ["Trials at once", `${whole(now.running)} of ${whole(store.plan.workers)}`],
    ["Trials queued", whole(now.queued)],
    ["Epochs a second", now.epochs_per_second ? now.epochs_per_second.toPrecision(2) : "–"],
  ];
  if (view) {
    facts[0] = ["Jobs in flight", `${whole(view.in_flight)}${view.allowed ? ` of ${whole(view.allowed)}` : ""}`];
    facts.pop();
    if (busy) facts.push(["Workers that report", whole(busy)]);
    const states = Object.entries(view.workers ?? {}).filter(([name, count]) => count && name !== "ready"); // those are the idle ones
    if (view.workers === null) facts.push(["Health", "does not answer", "bad"]);
    else facts.push(["Workers", states.map(([name, count]) => `${count} ${name === "initializing" ? "starting" : name}`).join(", ") || "none"]);
    if (view.queue !== null) facts.push(["Endpoint's queue", plural(view.queue, "job")]);
    facts.push(["Breaker", view.breaker.replace("_", "-"), view.breaker === "closed" ? "" : "bad"]);
    facts.push(["Requests", whole(view.requests.sent)]);
    for (const name of ["retried", "throttled", "refused", "failed"]) {
      if (view.requests[name]) facts.push([`  ${name}`, whole(view.requests[name])]);
    }
  }
  if (store.over) facts.shift(); // the endpoint was last looked at before the end
  at("workers").replaceChildren(...facts.flatMap(([name, text, kind]) => [element("dt", "", name), element("dd", kind ?? "", text)]));
}

function showTrials(whenEnded) {
  if (whenEnded) {
    const count = trials.show(store.latest, store.now?.best_trial);
    at("trials").hidden = count === 0;
    at("trials-empty").hidden = count > 0;
    say("trials-empty", store.trials.size ? "None of that kind." : "No trial has ended yet.");
  }
  const all = store.latest.length ? store.latest[store.latest.length - 1].order : 0;
  say("ended-sub", all > store.trials.size ? `the latest ${whole(store.trials.size)} of ${whole(all)}; all are in ${store.plan.folder}` : "");
}

for (const button of document.querySelectorAll("[data-filter], [data-order]")) {
  button.addEventListener("click", () => {
    const name = "filter" in button.dataset ? "filter" : "order";
    for (const other of button.parentElement.children) other.setAttribute("aria-pressed", String(other === button));
    trials.choose(name, button.dataset[name]);
    changed(["ended"]);
  });
}

onTheme(() => {
  running.recolour();
  triedAt = -Infinity;
  changed(["plan"]);
});

listen(
  (message) => {
    away = false;
    changed(store.take(message));
  },
  () => {
    away = true;
    changed(["away"]);
  },
);
