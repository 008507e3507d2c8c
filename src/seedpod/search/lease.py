"""Optimizers of a shared study tell each other that they live; the trials of one that does not are given back.

Each counts up in the study's storage every few seconds. Whoever sees a count stand still for the length of the lease,
by his own clock, takes its optimizer for dead: no two machines need to agree on the time. One that was only asleep
finds its trials taken when it wakes up, and what it brings for them is late.
"""

import logging
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from optuna.trial import FrozenTrial, TrialState

from seedpod.guarded import Guarded
from seedpod.search.asking import OWNER, SearchStudy, SharedStudy
from seedpod.search.attempts import void_reports

log = logging.getLogger(__name__)

BEAT = "seedpod:beat:"
"""What a user attribute of the study begins with that counts an optimizer's beats; its name follows."""


@dataclass(frozen=True, slots=True)
class LeaseRules:
    """When an optimizer is taken for dead. Seconds.

    Attributes:
        beat: Between two signs of life, and between two looks at the others'.
        lease: Without a sign of life, until its trials are given back.
    """

    beat: float = 10.0
    lease: float = 60.0


@dataclass(slots=True)
class Watch:
    """How long nothing has been heard of each. Pure: fed the time."""

    _heard: dict[str, tuple[object, float]] = field(default_factory=dict)

    def silence(self, counts: Mapping[str, object], now: float) -> dict[str, float]:
        """Seconds for which each one's count has stood still; those that are not named are forgotten."""
        before, self._heard = self._heard, {}
        for name, count in counts.items():
            known = before.get(name)
            self._heard[name] = known if known is not None and known[0] == count else (count, now)
        return {name: now - since for name, (_, since) in self._heard.items()}


class Lease:
    """Keeps this optimizer's sign of life and watches the others', in a thread of its own, from ``start`` to ``close``.

    Args:
        study: The shared study.
        rules: See LeaseRules.
    """

    def __init__(self, study: SharedStudy, rules: LeaseRules) -> None:
        self._study = study
        self._rules = rules
        self._beats = 0
        self._watch = Watch()
        self._over = Guarded([False])
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def start(self) -> None:
        """The first sign of life is in the storage when this returns."""
        self._beat()
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        with self._over.locked() as over:
            over[0] = True
        self._thread.join()

    def _keep(self) -> None:
        while not self._over.wait_for(lambda over: over[0] or None, self._rules.beat):
            try:
                self._beat()
                self._look()
            except Exception as error:  # noqa: BLE001 - the trials' threads find out, and say it, if it lasts
                log.debug("the lease could not be kept: %r", error)

    def _beat(self) -> None:
        self._beats += 1
        # The time is for people who look into the storage, and lets a second start under one name count on.
        self._study.set_user_attr(BEAT + self._study.owner, [time.time(), self._beats])

    def _look(self) -> None:
        counts = self._counts(self._study.open_of_others())
        silent = self._watch.silence(counts, time.monotonic())
        dead = {name: counts[name] for name, seconds in silent.items() if seconds > self._rules.lease}
        if not dead:
            return
        with self._study.alone():
            open_trials = self._study.open_of_others()
            now = self._counts(open_trials)
            lost = [trial for trial in open_trials if dead.get(_holder(trial), self) == now[_holder(trial)]]
            for trial in lost:
                void_reports(self._study._storage, trial)  # noqa: SLF001
                self._study._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)  # noqa: SLF001
        for trial in lost:
            log.warning(
                "trial %d runs again: nothing was heard of %s for %g s",
                trial.number,
                trial.user_attrs.get(OWNER) or "who had it",
                self._rules.lease,
            )

    def _counts(self, trials: Iterable[FrozenTrial]) -> dict[str, object]:
        beats = self._study._storage.get_study_user_attrs(self._study._study_id)  # noqa: SLF001
        return {name: beats.get(BEAT + name) for name in map(_holder, trials)}


@contextmanager
def keeping(study: SearchStudy, rules: LeaseRules | None) -> Iterator[None]:
    """Keep a shared study's lease over a ``with`` block; nothing, where the study is not shared."""
    if not isinstance(study, SharedStudy):
        yield
        return
    lease = Lease(study, rules or LeaseRules())
    lease.start()
    try:
        yield
    finally:
        lease.close()


def _holder(trial: FrozenTrial) -> str:
    """Who has a trial; one that is being taken in this moment stands for itself."""
    return trial.user_attrs.get(OWNER) or f"trial {trial.number}"
