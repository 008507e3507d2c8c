"""A search at a glance: what every view of it shows, computed from a snapshot of the board.

estimate.py     how much longer it takes, and what it will have trained by then
aggregated.py   AggregatedProgress and ConcurrentProgressAggregator
feed.py         hands the newest one to a callback, in a thread of its own
"""

from seedpod.progress.aggregated import AggregatedProgress, ConcurrentProgressAggregator, TrialRow
from seedpod.progress.feed import ProgressCallback, ProgressFeed
from seedpod.trial import TrialProgress

__all__ = [
    "AggregatedProgress",
    "ConcurrentProgressAggregator",
    "ProgressCallback",
    "ProgressFeed",
    "TrialProgress",
    "TrialRow",
]
