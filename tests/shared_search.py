"""A search without Keras as a program: ``python shared_search.py key=value …``; prints each trial that it runs."""

import os
import sys
import time

from seedpod.config import load
from seedpod.optimizer import ModelOptimizer
from seedpod.search.lease import LeaseRules
from seedpod.trial import Report, TrialResult, TrialSpec
from thread_backend import ThreadBackend, stand_in


def train(spec: TrialSpec, report: Report, check: object) -> TrialResult:
    print(f"runs {spec.number}", flush=True)
    time.sleep(float(os.environ.get("STAND_IN_SECONDS", "0.05")))
    return stand_in(spec, report, check)  # type: ignore[arg-type]


if __name__ == "__main__":
    config = load(sys.argv[1:], {}).config
    host = os.environ.get("STAND_IN_HOST", "")
    named = {"owner": f"{host}:{os.getpid()}", "lease": LeaseRules(beat=0.3, lease=3.0)} if host else {}
    summary = ModelOptimizer(
        config,
        make_backend=lambda *, workers, cache_dir, jobs: ThreadBackend(train, workers),  # noqa: ARG005
        **named,  # type: ignore[arg-type]
    ).run()
    print(f"ended {summary.outcome} {summary.trials['complete']}", flush=True)
