// The tables, their rows updated in place so that a selection or a focus stays.

import { NONE, dollars, duration, plural, short, value, whole as count } from "./format.js";

const STEP = 100; // ended trials shown at first, and more by each click

export function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.textContent = text;
  return made;
}

// A cell that says its column's name itself where a phone has no room for the table's head.
function named(name, className, text) {
  const made = element("td", className, text);
  made.dataset.name = name;
  return made;
}

function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export class RunningTable {
  constructor(table, colourOf) {
    this.body = table.tBodies[0];
    this.rows = new Map();
    this.colourOf = colourOf;
  }

  show(rows) {
    const numbers = new Set(rows.map((row) => row.number));
    for (const [number, row] of this.rows) {
      if (!numbers.has(number)) {
        row.line.remove();
        this.rows.delete(number);
      }
    }
    rows.forEach((facts, place) => {
      const row = this.rows.get(facts.number) ?? this.make(facts.number);
      if (this.body.children[place] !== row.line) this.body.insertBefore(row.line, this.body.children[place] ?? null);
      const again = facts.attempt % 100 > 1 ? `, try ${facts.attempt % 100}` : "";
      put(row.where, `${facts.backend}${facts.worker ? ` ${facts.worker.slice(-8)}` : ""}${again}`);
      put(row.epochs, `${facts.epoch}/${facts.max_epochs}`);
      row.done.style.width = `${(100 * facts.epoch) / Math.max(1, facts.max_epochs)}%`;
      put(row.value, value(facts.value));
      put(row.age, duration(facts.age));
      put(row.left, duration(facts.remaining));
    });
  }

  make(number) {
    const line = element("tr");
    const name = element("td", "n");
    const key = element("span", "key");
    key.style.background = this.colourOf(number);
    name.append(key, `#${number}`);
    const epoch = element("td");
    const box = element("div", "epoch");
    const bar = element("div", "bar");
    const row = {
      line,
      key,
      where: element("td"),
      done: element("i"),
      epochs: element("span"),
      value: element("td", "n"),
      age: element("td", "n"),
      left: element("td", "n"),
    };
    bar.append(row.done);
    box.append(bar, row.epochs);
    epoch.append(box);
    line.append(name, row.where, epoch, row.value, row.age, row.left);
    this.rows.set(number, row);
    return row;
  }

  recolour() {
    for (const [number, row] of this.rows) row.key.style.background = this.colourOf(number);
  }
}

export class TrialsTable {
  constructor(table, more) {
    this.table = table;
    this.body = table.tBodies[0];
    this.more = more;
    this.limit = STEP;
    this.filter = "all";
    this.order = "latest";
    this.made = new Map(); // order -> row, since an ended trial changes no more
    more.addEventListener("click", () => {
      this.limit += STEP;
      this.show(this.trials, this.best);
    });
  }

  choose(name, choice) {
    this[name] = choice;
    this.limit = STEP;
    this.show(this.trials ?? [], this.best);
  }

  clear() {
    this.made.clear();
    this.limit = STEP;
  }

  // How many match, and whether any is shown.
  show(trials, best) {
    this.trials = trials;
    this.best = best;
    const matching = trials.filter((trial) => this.filter === "all" || trial.status === this.filter).reverse();
    if (this.order === "best") matching.sort((one, other) => (other.merit ?? -Infinity) - (one.merit ?? -Infinity) || 0);
    const shown = matching.slice(0, this.limit);
    const rows = shown.map((trial) => this.row(trial));
    shown.forEach((trial, place) => rows[place].classList.toggle("best", trial.number === best));
    this.body.replaceChildren(...rows);
    const kept = new Set(shown.map((trial) => trial.order));
    for (const order of this.made.keys()) if (!kept.has(order)) this.made.delete(order);
    this.more.hidden = matching.length <= this.limit;
    this.more.textContent = `Show ${Math.min(STEP, matching.length - shown.length)} more of ${count(matching.length - shown.length)}`;
    const paid = trials.some((trial) => trial.cost > 0);
    for (const cell of this.table.querySelectorAll(".cost")) cell.hidden = !paid;
    for (const name of ["health", "memory"]) {
      const told = trials.some((trial) => trial[name] !== null);
      for (const cell of this.table.querySelectorAll(`.${name}`)) cell.hidden = !told;
    }
    return matching.length;
  }

  row(trial) {
    const known = this.made.get(trial.order);
    if (known) return known;
    const line = element("tr");
    const complete = trial.status === "complete";
    const place = `${trial.backend}${trial.worker ? ` ${trial.worker.slice(-8)}` : ""}`;
    const again = trial.attempts > 1 ? `, ${plural(trial.attempts, "try", "tries")}` : "";
    const why = element("td", "why");
    const head = element("summary");
    if (trial.cause) head.append(element("b", "", trial.cause.replaceAll("_", " ")), ` ${trial.message}`);
    else head.append(trial.summary);
    const whole = element("details");
    whole.append(head, element("p", "", Object.entries(trial.params).map(([name, one]) => `${name}\u00a0${short(one)}`).join(", ")));
    why.append(whole);
    line.append(
      element("td", "n", `#${trial.number}`),
      element("td", `n value ${trial.status}`, complete ? value(trial.value) : trial.status),
      named("health", "n health", trial.health === null ? NONE : trial.health.toFixed(2)),
      named("epochs", "n", `${trial.epochs}/${trial.max_epochs}`),
      named("time", "n", duration(trial.seconds)),
      named("memory", "n memory", trial.memory === null ? NONE : `${count(trial.memory)}\u00a0MB`),
      element("td", "where", place + again),
      element("td", "n cost", trial.cost ? dollars(trial.cost) : NONE),
      why,
    );
    this.made.set(trial.order, line);
    return line;
  }
}
