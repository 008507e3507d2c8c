"""The exception tree is what its docstring draws, and every error knows its cause."""

import inspect
import re
from typing import Any

import pytest

from seedpod import errors
from seedpod.errors import BackendError, Cause, ContractMismatch, SeedpodError, TrainingError, TrialError, TrialStopped

TREE = {
    "SeedpodError": "Exception",
    "ConfigError": "SeedpodError",
    "DatasetError": "ConfigError",
    "FinalModelError": "SeedpodError",
    "TrialError": "SeedpodError",
    "TrainingError": "TrialError",
    "BackendError": "TrialError",
    "EndpointUnreachable": "BackendError",
    "EndpointBusy": "EndpointUnreachable",
    "BreakerOpen": "EndpointUnreachable",
    "PerhapsSubmitted": "EndpointUnreachable",
    "EndpointRefused": "BackendError",
    "RequestRefused": "BackendError",
    "JobGone": "BackendError",
    "JobFailed": "BackendError",
    "JobOverdue": "BackendError",
    "ContractMismatch": "BackendError",
    "TrialStopped": "SeedpodError",
    "TrialCancelled": "TrialStopped",
    "TrialSuperseded": "TrialStopped",
    "TrialPruned": "TrialStopped",
}
RETRYABLE = {
    "BackendError",
    "EndpointUnreachable",
    "EndpointBusy",
    "BreakerOpen",
    "PerhapsSubmitted",
    "JobGone",
    "JobFailed",
}
RAISED = {name: kind for name, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Exception)}
TRIAL_ERRORS = {name: kind for name, kind in RAISED.items() if issubclass(kind, TrialError)}


def drawn() -> dict[str, str]:
    """Child -> parent, as the module's docstring draws them; four characters an indent."""
    parents, found = ["Exception"], {}
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r" {4}([│├└─ ]*)([A-Z]\w+)(?: |$)", line)
        if match:
            depth = len(match[1]) // 4
            found[match[2]] = parents[depth]
            parents[depth + 1 :] = [match[2]]
    return found


def test_every_error_stands_where_the_tree_says() -> None:
    """Each error's base class is the one that this table, and the docstring's drawing, name."""
    assert {name: kind.__base__.__name__ for name, kind in RAISED.items() if kind.__base__} == TREE
    assert drawn() == TREE


@pytest.mark.parametrize("name", TRIAL_ERRORS)
def test_trial_errors_carry_what_a_record_needs(name: str) -> None:
    """An error that fails a trial has message, cause and detail, says whether a retry helps, and prints its message."""
    kind = TRIAL_ERRORS[name]
    error = kind("what happened", cause=Cause.DATA, detail="frames")
    assert (error.message, error.cause, error.detail, str(error)) == (
        "what happened",
        Cause.DATA,
        "frames",
        "what happened",
    )
    assert error.retryable == (name in RETRYABLE)


@pytest.mark.parametrize("name", [name for name, kind in TRIAL_ERRORS.items() if issubclass(kind, BackendError)])
def test_backend_errors_have_a_cause_of_their_own(name: str) -> None:
    """Errors of the way to the trainer count as endpoint trouble, a broken schema as a broken contract."""
    kind: Any = TRIAL_ERRORS[name]
    expected = Cause.CONTRACT if kind is ContractMismatch else Cause.ENDPOINT
    assert kind("no answer").cause is expected


def test_training_errors_must_name_their_cause() -> None:
    """A failure of the training cannot be raised without the group that it counts under."""
    with pytest.raises(TypeError, match="cause"):
        TrainingError("the loss became nan")  # type: ignore[call-arg]


def test_a_stop_is_no_failure() -> None:
    """A stopped trial is told apart from a failed one by its type alone."""
    assert not issubclass(TrialStopped, TrialError)
    assert issubclass(TrialStopped, SeedpodError)


def test_causes_are_plain_words() -> None:
    """Every cause is one word of lower case, its own name: it is written into records and read by people."""
    assert all(cause == cause.name.lower() for cause in Cause)
