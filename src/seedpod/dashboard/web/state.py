"""What the page may show, bounded whatever the number of trials, and what of it one browser has not been told."""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from seedpod.board import FinishedTrial, Snapshot
from seedpod.dashboard.web.facts import (
    Facts,
    curve_facts,
    importance_facts,
    plan_facts,
    progress_facts,
    rounded,
    summary_facts,
    trial_facts,
)
from seedpod.events import Plan, Summary
from seedpod.guarded import Guarded
from seedpod.progress import AggregatedProgress
from seedpod.trial import Status

KEPT = 1000
"""Ended trials that the page shows: the latest ones. The others are in the run's folder."""
CURVES = 32
"""Running trials whose learning curves the page shows: the earliest ones."""
STEPS = 500
"""Points of the curve of the best value so far."""


@dataclass(frozen=True, slots=True)
class Told:
    """What one browser knows. Of what only grows, the count; of the rest, the thing itself.

    Attributes:
        plan: Whether it knows the plan.
        ended: How many ended trials.
        curves: Attempt and points of each learning curve, by the trial's number.
        steps: How many new bests.
        now: The progress.
        importances: What mattered.
        over: The summary.
    """

    plan: bool = False
    ended: int = 0
    curves: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    steps: int = 0
    now: AggregatedProgress | None = None
    importances: Mapping[str, float] | None = None
    over: Summary | None = None


@dataclass(slots=True)
class _Curve:
    attempt: int
    seen: int  # version of the newest snapshot that had it
    points: list[tuple[int, float | None]] = field(default_factory=list)


@dataclass(slots=True)
class _State:
    now: AggregatedProgress | None = None
    now_facts: Facts | None = None
    importances: Mapping[str, float] | None = None
    over: Summary | None = None
    ended: int = 0
    rows: deque[Facts] = field(default_factory=lambda: deque(maxlen=KEPT))
    curves: dict[int, _Curve] = field(default_factory=dict)
    best: list[tuple[int, float, int]] = field(default_factory=list)  # (order, value, number) of each new best
    steps: int = 0
    best_curve: Facts | None = None

    def take_in(self, trial: FinishedTrial, *, row: bool = True) -> None:
        self.ended += 1
        if row:
            self.rows.append(trial_facts(trial, self.ended))
        value = trial.result.value
        if trial.result.status is not Status.COMPLETE or value is None:
            return
        if not self.best or trial.spec.goals[0].better(value, self.best[-1][1]):
            self.best.append((self.ended, value, trial.spec.number))
            self.steps += 1
            self.best_curve = curve_facts(trial)
            if len(self.best) > STEPS:
                self.best = self.best[::-2][::-1]  # the newest stays


class PageState:
    """Thread-safe. What it holds and what a message holds has an upper end that no number of trials passes.

    Args:
        plan: What the search is about to do.
        earlier: Trials that an earlier run of it has finished.
    """

    def __init__(self, plan: Plan, earlier: Iterable[FinishedTrial] = ()) -> None:
        self.plan = plan
        self._plan_facts = plan_facts(plan)
        state = _State()
        ordered = sorted(earlier, key=lambda trial: trial.ended_at)
        for place, trial in enumerate(ordered, KEPT - len(ordered)):
            state.take_in(trial, row=place >= 0)
        self._guarded = Guarded(state)

    def progressed(self, snapshot: Snapshot) -> None:
        """Running trials have gone on."""
        with self._guarded.locked() as state:
            for trial in snapshot.running:
                told = trial.progress
                if told is None:
                    continue
                curve = state.curves.get(told.number)
                if curve is None or curve.attempt < told.attempt:
                    curve = state.curves[told.number] = _Curve(told.attempt, snapshot.version)
                curve.seen = max(curve.seen, snapshot.version)
                if curve.attempt == told.attempt and (not curve.points or curve.points[-1][0] < told.epoch):
                    curve.points.append((told.epoch, rounded(told.value)))

    def finished(self, trial: FinishedTrial) -> None:
        """A trial has ended."""
        with self._guarded.locked() as state:
            state.curves.pop(trial.spec.number, None)
            state.take_in(trial)

    def updated(self, progress: AggregatedProgress) -> None:
        """The search at a glance has changed."""
        facts = progress_facts(progress)
        running = {row.number for row in progress.rows}
        with self._guarded.locked() as state:
            state.now, state.now_facts = progress, facts
            # What another trial's thread told of a trial may have come after its end.
            over = [n for n, curve in state.curves.items() if n not in running and curve.seen <= progress.version]
            for number in over:
                del state.curves[number]

    def weighed(self, importances: Mapping[str, float]) -> None:
        """What mattered is known anew."""
        with self._guarded.locked() as state:
            if state.over is None:
                state.importances = importances

    def over(self, summary: Summary) -> None:
        """The search has ended."""
        with self._guarded.locked() as state:
            state.over = summary
            state.importances = summary.importances
            state.curves.clear()

    @property
    def ended(self) -> int:
        """Trials that have ended."""
        with self._guarded.locked() as state:
            return state.ended

    @property
    def latest(self) -> tuple[AggregatedProgress | None, Summary | None]:
        """Progress and summary, as far as they are known."""
        with self._guarded.locked() as state:
            return state.now, state.over

    def news(self, told: Told) -> tuple[Facts, Told]:
        """What a browser that knows ``told`` does not know yet, empty where that is nothing; and what it knows then.

        For one that knows nothing that is all that there is.
        """
        news: Facts = {} if told.plan else {"plan": self._plan_facts}
        with self._guarded.locked() as state:
            if told.now is not state.now:
                news["now"] = state.now_facts
            if told.ended < state.ended:
                news["ended"] = list(state.rows)[-min(state.ended - told.ended, len(state.rows)) :]
            shown = sorted(state.curves)[:CURVES]
            points = _new_points(state, shown, told)
            if points:
                news["points"] = points
            if set(shown) != set(told.curves):
                news["curves"] = shown
            if told.steps != state.steps:
                news["best"] = [[order, rounded(value), number] for order, value, number in state.best]
                news["best_curve"] = state.best_curve
            if told.importances is not state.importances and state.importances is not None:
                news["importances"] = importance_facts(state.importances)
            if told.over is not state.over and state.over is not None:
                news["over"] = summary_facts(state.over)
            curves = {number: (state.curves[number].attempt, len(state.curves[number].points)) for number in shown}
            return news, Told(True, state.ended, curves, state.steps, state.now, state.importances, state.over)


def _new_points(state: _State, shown: list[int], told: Told) -> Facts:
    """Of each curve that is shown, the points that are not known, and before how many others they come not."""
    found: Facts = {}
    for number in shown:
        curve = state.curves[number]
        attempt, known = told.curves.get(number, (0, 0))
        known = known if attempt == curve.attempt else 0
        if known < len(curve.points):
            found[str(number)] = {"from": known, "points": [list(point) for point in curve.points[known:]]}
    return found
