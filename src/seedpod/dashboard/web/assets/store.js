// What the page knows of the search: the server's messages put together. A message with a plan begins anew.

const KEPT = 1000; // ended trials; the server keeps as many

export class Store {
  constructor() {
    this.clear(null);
  }

  clear(plan) {
    this.plan = plan;
    this.now = null;
    this.trials = new Map(); // order -> trial that has ended, oldest first
    this.curves = new Map(); // number -> [[epoch, value], ...]
    this.shown = []; // numbers of the running trials that have a curve
    this.best = []; // [order, value, number] of each new best
    this.bestCurve = null;
    this.importances = [];
    this.over = null;
  }

  // Takes a message in; the names of what has changed.
  take(message) {
    const changed = new Set(Object.keys(message));
    if ("plan" in message) this.clear(message.plan);
    if (message.now) this.now = message.now;
    for (const trial of message.ended ?? []) this.trials.set(trial.order, trial);
    for (const order of this.trials.keys()) {
      if (this.trials.size <= KEPT) break;
      this.trials.delete(order);
    }
    for (const [number, news] of Object.entries(message.points ?? {})) {
      const known = this.curves.get(Number(number)) ?? [];
      this.curves.set(Number(number), [...known.slice(0, news.from), ...news.points]);
    }
    if (message.curves) {
      this.shown = message.curves;
      for (const number of this.curves.keys()) if (!this.shown.includes(number)) this.curves.delete(number);
    }
    if (message.best) [this.best, this.bestCurve] = [message.best, message.best_curve];
    if (message.importances) this.importances = message.importances;
    if (message.over) this.over = message.over;
    return changed;
  }

  get latest() {
    return [...this.trials.values()];
  }
}
