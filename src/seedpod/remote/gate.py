"""The policies around the client: every request of every thread passes here.

A call waits for its turn, is sent, and is judged: an infrastructure failure is tried again after a backoff, counts
against the breaker and halves the slots of its operation. What may be tried again is what certainly did no harm:
anything but a submission whose answer was lost.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeVar

from seedpod.clock import Clock
from seedpod.errors import BackendError, BreakerOpen, EndpointUnreachable, PerhapsSubmitted
from seedpod.guarded import Guarded
from seedpod.remote.breaker import BreakerRules
from seedpod.remote.client import EndpointClient
from seedpod.remote.counters import GateCounters
from seedpod.remote.policy import LIMITS, Backoff, Limit, Operation
from seedpod.remote.turnstile import Turnstile
from seedpod.remote.wire import EndpointHealth, JobStatus

T = TypeVar("T")

BACKOFF: Mapping[Operation, Backoff] = MappingProxyType(
    {
        Operation.CANCEL: Backoff(base=0.25, longest=5.0, total=20.0),
        Operation.RUN: Backoff(),
        Operation.STATUS: Backoff(),
        Operation.HEALTH: Backoff(base=0.25, longest=2.0, total=5.0),  # somebody waits for the answer
    }
)
_ALL = frozenset(Operation)


@dataclass(frozen=True, slots=True)
class GateRules:
    """All rules of a gate."""

    limits: Mapping[Operation, Limit] = field(default_factory=lambda: LIMITS)
    backoff: Mapping[Operation, Backoff] = field(default_factory=lambda: BACKOFF)
    breaker: BreakerRules = field(default_factory=BreakerRules)


class Gate:
    """Calls as ``EndpointClient`` has them, within the limits and with retries. Thread-safe; calls block their thread.

    Every call may raise, beside what the client's does: BreakerOpen where the endpoint has failed too often of late
    (not so ``cancel``, which is always tried: it saves money), and TrialCancelled once the gate is stopping.

    Args:
        client: Sends; closed with the gate. Its ``connections`` bound the requests at one time.
        clock: The policies' time.
        chance: Draws the backoffs' jitter; the gate's own from now on.
        rules: Limits, backoffs and the breaker's rules.
    """

    def __init__(
        self, client: EndpointClient, clock: Clock, chance: random.Random, rules: GateRules | None = None
    ) -> None:
        self._client = client
        self._clock = clock
        self._rules = rules or GateRules()
        self._chance = Guarded(chance)
        self._turnstile = Turnstile(self._rules.limits, client.connections, self._rules.breaker, clock)

    def run(self, job: Mapping[str, Any], *, execution_timeout: float, ttl: float) -> str:
        """See ``EndpointClient.run``. Tried again only where the job was certainly not accepted."""
        return self._call(Operation.RUN, lambda: self._client.run(job, execution_timeout=execution_timeout, ttl=ttl))

    def status(self, job_id: str) -> JobStatus:
        """See ``EndpointClient.status``."""
        return self._call(Operation.STATUS, lambda: self._client.status(job_id))

    def cancel(self, job_id: str) -> JobStatus:
        """See ``EndpointClient.cancel``. Goes through while the gate is stopping, until it is closed."""
        return self._call(Operation.CANCEL, lambda: self._client.cancel(job_id))

    def health(self) -> EndpointHealth:
        """See ``EndpointClient.health``."""
        return self._call(Operation.HEALTH, self._client.health)

    def pause(self, seconds: float) -> None:
        """Sleep, between two polls for instance; raises TrialCancelled as soon as the gate is stopping."""
        self._turnstile.pause(Operation.STATUS, seconds)

    def counters(self) -> GateCounters:
        """What has been done so far, and the breaker's state."""
        return self._turnstile.counters()

    def cancel_waiting(self) -> None:
        """Begin to stop: whoever waits gets TrialCancelled at once, and so does every later call but ``cancel``."""
        self._turnstile.shut(_ALL - {Operation.CANCEL})

    def close(self) -> None:
        """Stop everything, cancels too, and close the client. A request that is under way ends by itself."""
        self._turnstile.shut(_ALL)
        self._client.close()

    def _call(self, operation: Operation, send: Callable[[], T]) -> T:
        try:
            return self._tried(operation, send)
        except BackendError:
            self._turnstile.count(operation, "failed")
            raise

    def _tried(self, operation: Operation, send: Callable[[], T]) -> T:
        """Send until it works or may not be tried again."""
        began, tries = self._clock.now(), 0
        while True:
            try:
                return self._once(operation, send)
            except (PerhapsSubmitted, BreakerOpen):
                raise
            except EndpointUnreachable as error:
                failure = error
            tries += 1
            delay = self._delay(operation, tries, self._clock.now() - began, failure.retry_after)
            if delay is None:
                raise failure
            self._turnstile.pause(operation, delay)
            self._turnstile.count(operation, "retried")

    def _once(self, operation: Operation, send: Callable[[], T]) -> T:
        leave = self._turnstile.enter(operation)
        error: BaseException | None = None
        try:
            return send()
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._turnstile.leave(leave, error)

    def _delay(self, operation: Operation, tries: int, spent: float, asked: float | None) -> float | None:
        with self._chance.locked() as chance:
            return self._rules.backoff[operation].delay(tries, spent, chance, asked)
