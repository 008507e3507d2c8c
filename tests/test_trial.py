"""The wire form: what goes in comes out, and whatever breaks the schema is named."""

import json
import random
import string
from collections.abc import Callable, Mapping
from dataclasses import Field, fields, replace
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import samples
from seedpod.config import OptimizationConfig
from seedpod.errors import Cause, ContractMismatch, TrainingError
from seedpod.objectives import OBJECTIVES
from seedpod.search.space import Images, SearchSpace
from seedpod.search.space_file import SHIPPED, read_definition
from seedpod.search.values import Span, Values, rounded
from seedpod.trial import (
    LONGEST_URL,
    MOST_FOLDS,
    SCHEMA,
    KeepModel,
    ParamValue,
    Status,
    TrialProgress,
    TrialRequest,
    TrialResult,
    TrialSpec,
    WorkerReport,
    canonical_json,
    check_value,
    finite,
)

HUGE = 10**400  # a whole number that JSON can carry and no float can hold
NAN, INF = float("nan"), float("inf")
NO_VALUE: list[Any] = [NAN, INF, -INF, "0.98", None, True, False, [], {}, HUGE]
NO_NUMBER: list[Any] = ["1", None, True, [], {}, NAN, INF, HUGE, -1]
NO_COUNT: list[Any] = [*NO_NUMBER, 1.0, 2.5]
NO_TEXT: list[Any] = ["", None, 1, [], "x" * 201]
NO_PARAMS: list[Any] = [None, [], "x", {"a": None}, {"a": []}, {"a": NAN}, {"a": INF}, {"a": HUGE}]
NO_METRICS: list[Any] = [None, [], "x", {"a": "1"}, {"a": True}, {"a": NAN}, {"a": HUGE}]

SPEC_REFUSALS: Mapping[str, list[Any]] = {
    "number": NO_COUNT,
    "dataset": [*NO_TEXT, "../digits", "/etc/passwd", ".hidden", "a b"],
    "fingerprint": [*NO_TEXT, "0123456789ABCDEF", "0" * 15, "0" * 17],
    "params": [*NO_PARAMS, {"a": "x" * 201}, {"x" * 201: 1}, {str(n): n for n in range(101)}],
    "seed": [*NO_COUNT, 2**32],
    "split_seed": [*NO_COUNT, 2**32],
    "objectives": [None, [], "val_accuracy", ["colour"], [None], [[]], ["val_loss", "val_loss"]],
    "max_epochs": [*NO_COUNT, 0, 1001],
    "min_epochs": [*NO_COUNT, 0, 1001],
    "validation_split": [*NO_NUMBER, 0, 0.51, 1.5],
    "max_parameters": [*NO_COUNT, 0, 10**12 + 1],
    "max_seconds": [*NO_NUMBER, 7 * 24 * 3600 + 1],
    "cv_folds": [*NO_COUNT, 0, MOST_FOLDS + 1],
    "max_model_mb": NO_NUMBER,
    "min_accuracy": [*NO_NUMBER, 1.5],
    "min_accuracy_epochs": [*NO_COUNT, 0],
    "class_weights": [None, True, 1, "some", ["auto"]],
}
PROGRESS_REFUSALS: Mapping[str, list[Any]] = {
    "number": NO_COUNT,
    "sequence": NO_COUNT,
    "epoch": NO_COUNT,
    "max_epochs": [*NO_COUNT, 0],
    "value": [x for x in NO_VALUE if x is not None],
    "values": [None, 0.5, "x", {}, [0.5, "x"], [True], [float("nan")]],
    "metrics": NO_METRICS,
    "seconds": NO_NUMBER,
    "attempt": [*NO_COUNT, 0],
}
RESULT_REFUSALS: Mapping[str, list[Any]] = {
    "health": [
        0.5,
        "well",
        [],
        {},
        {**samples.HEALTH.to_plain(), "layers": [1]},
        {**samples.HEALTH.to_plain(), "a": 1},
    ],
    "number": NO_COUNT,
    "status": [None, "done", 1, [], {}, "COMPLETE"],
    "best_epoch": NO_COUNT,
    "epochs": NO_COUNT,
    "metrics": NO_METRICS,
    "history": [None, {}, "x", [1], [None], *([row] for row in NO_METRICS)],
    "parameters": NO_COUNT,
    "environment": NO_PARAMS,
    "seconds": NO_NUMBER,
    "backend": NO_TEXT,
    "cost": NO_NUMBER,
    "attempts": [*NO_COUNT, 0],
    "run": NO_PARAMS,
    "further": [None, {}, "x", *([x] for x in NO_VALUE)],
    "error": ["x", [], 1, {}, {"cause": "bad luck"}, {"cause": None}],
}
KINDS: list[tuple[Any, Mapping[str, list[Any]]]] = [
    (samples.SPEC, SPEC_REFUSALS),
    (samples.PROGRESS, PROGRESS_REFUSALS),
    (samples.RESULT, RESULT_REFUSALS),
]


def wire_fields(sample: Any) -> list[Field[Any]]:
    """Every field but those that a backend adds on this side of the wire."""
    here = {"backend", "worker"} if isinstance(sample, TrialProgress) else set()
    return [each for each in fields(sample) if each.name not in here]


REFUSALS = [
    pytest.param(sample, name, wrong, id=f"{type(sample).__name__}-{name}-{repr(wrong)[:12]}")
    for sample, refusals in KINDS
    for name, values in refusals.items()
    for wrong in values
]
EVERY_FIELD = [
    pytest.param(sample, each.name, id=f"{type(sample).__name__}-{each.name}")
    for sample, _ in KINDS
    for each in wire_fields(sample)
]
EVERY_KIND = pytest.mark.parametrize("sample", [sample for sample, _ in KINDS], ids=lambda x: type(x).__name__)


def through_json(data: object) -> Any:
    return json.loads(canonical_json(data))


@given(samples.specs)
def test_spec_comes_back(spec: TrialSpec) -> None:
    """A spec is the same, uid included, after the wire."""
    back = TrialSpec.from_wire(through_json(spec.to_wire()))
    assert back == spec
    assert back.uid == spec.uid


@given(samples.progresses)
def test_progress_comes_back(progress: TrialProgress) -> None:
    """A progress is the same after the wire."""
    assert TrialProgress.from_wire(through_json(progress.to_wire())) == progress


@given(samples.results)
def test_result_comes_back(result: TrialResult) -> None:
    """A result of any status is the same after the wire."""
    assert TrialResult.from_wire(through_json(result.to_wire())) == result


def test_read_only_mappings_are_sent_too() -> None:
    """Frozen views of dictionaries, which cannot be copied, go over the wire like dictionaries."""
    view = MappingProxyType({"a": 1.0})
    assert replace(samples.SPEC, params=view).to_wire()["params"] == {"a": 1.0}
    assert replace(samples.PROGRESS, metrics=view).to_wire()["metrics"] == {"a": 1.0}
    sent = replace(samples.RESULT, metrics=view, history=(view,), environment=view).to_wire()
    assert (sent["metrics"], sent["history"], sent["environment"]) == ({"a": 1.0}, [{"a": 1.0}], {"a": 1.0})


def test_tables_of_refusals_are_complete() -> None:
    """Every field of every message has a table of what it refuses; a result's value has tests of its own."""
    for sample, refusals in KINDS:
        assert {each.name for each in wire_fields(sample)} - set(refusals) <= {"value"}


@pytest.mark.parametrize(("sample", "name"), EVERY_FIELD)
def test_missing_field_is_named(sample: Any, name: str) -> None:
    """A message without one of its fields is refused by that field's name, but for those that may be left out."""
    wire = sample.to_wire()
    if name not in wire:
        assert type(sample).from_wire(wire) == sample
        return
    del wire[name]
    with pytest.raises(ContractMismatch, match=f"{name}' is missing"):
        type(sample).from_wire(wire)


@pytest.mark.parametrize(("sample", "name", "wrong"), REFUSALS)
def test_wrong_value_is_named(sample: Any, name: str, wrong: object) -> None:
    """A value of the wrong type or out of range is refused with field and range, and counts as a broken contract."""
    with pytest.raises(ContractMismatch, match=f"field '{name}' is .*; it must be") as caught:
        type(sample).from_wire({**sample.to_wire(), name: wrong})
    assert caught.value.cause is Cause.CONTRACT


@EVERY_KIND
def test_unknown_field_is_named(sample: Any) -> None:
    """A field that this side does not know is not dropped silently."""
    with pytest.raises(ContractMismatch, match="unknown field 'colour'"):
        type(sample).from_wire({**sample.to_wire(), "colour": "red"})


def test_every_objective_that_can_be_asked_for_can_be_trained() -> None:
    """What the setting offers is what a worker takes: a trial is not refused by the machine that is to train it."""
    (offered,) = (each.metadata["kind"] for each in fields(OptimizationConfig) if each.name == "optimize_for")
    assert tuple(option.name for option in offered.options if not option.awaits) == tuple(OBJECTIVES)


@EVERY_KIND
@pytest.mark.parametrize("schema", [None, 0, SCHEMA + 1, "1", []])
def test_other_schema_says_redeploy(sample: Any, schema: object) -> None:
    """A message of another version says which, and that the worker image wants redeploying."""
    with pytest.raises(ContractMismatch, match=r"schema .* Redeploy the worker image"):
        type(sample).from_wire({**sample.to_wire(), "schema": schema})


@EVERY_KIND
@pytest.mark.parametrize("data", [None, [], "text", 1])
def test_what_is_no_object_is_refused(sample: Any, data: object) -> None:
    """A message that is no JSON object is refused as such."""
    with pytest.raises(ContractMismatch, match="expected a JSON object"):
        type(sample).from_wire(data)


json_data = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(EVERY_FIELD), json_data)
def test_no_message_breaks_the_reader(param: Any, data: object) -> None:
    """Any JSON in any field is either read or refused, never an exception of another kind."""
    sample, name = param.values
    try:
        message = type(sample).from_wire({**sample.to_wire(), name: data})
    except (ContractMismatch, TrainingError):
        return
    canonical_json(message.to_wire())


@pytest.mark.parametrize("value", NO_VALUE, ids=lambda x: repr(x)[:12])
@pytest.mark.parametrize(
    "ask",
    [
        check_value,
        lambda value: replace(samples.RESULT, value=value),
        lambda value: TrialResult.from_wire({**samples.RESULT.to_wire(), "value": value}),
    ],
    ids=["check_value", "TrialResult", "from_wire"],
)
def test_no_such_thing_becomes_a_value(ask: Callable[[object], object], value: object) -> None:
    """NaN, infinity, text, null and truth values are never a complete trial's value."""
    with pytest.raises(TrainingError, match="must be a finite number") as caught:
        ask(value)
    assert caught.value.cause is Cause.BAD_VALUE


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.COMPLETE])
def test_only_a_complete_trial_has_a_value(status: Status) -> None:
    """A failed, pruned or cancelled trial that brings a value breaks the contract."""
    with pytest.raises(ContractMismatch, match=r"'value' is 0\.5; it must be null"):
        TrialResult.from_wire({**samples.failed(1).to_wire(), "status": status, "value": 0.5})


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-5, 5))
def test_finite_value_is_kept(value: float) -> None:
    """Every finite number may be a value, and comes back as a float."""
    assert check_value(value) == value
    assert isinstance(TrialResult.from_wire({**samples.RESULT.to_wire(), "value": value}).value, float)


@given(samples.specs)
def test_equal_specs_have_equal_uids(spec: TrialSpec) -> None:
    """The uid follows from the contents alone, not from the order of the parameters."""
    other = replace(spec, params=dict(reversed(list(spec.params.items()))))
    assert other == spec
    assert other.uid == spec.uid


def test_whole_seconds_and_shares_do_not_change_the_uid() -> None:
    """A limit written as 60 and one written as 60.0 are one spec."""
    assert replace(samples.SPEC, max_seconds=60).uid == samples.SPEC.uid
    assert replace(samples.SPEC, validation_split=0).uid == replace(samples.SPEC, validation_split=0.0).uid


CHANGES: dict[str, Any] = {
    "number": 4,
    "dataset": "mnist",
    "fingerprint": "ff",
    "params": {**samples.SPEC.params, "conv_blocks": 3},
    "seed": 46,
    "split_seed": 43,
    "objectives": ("val_loss",),
    "max_epochs": 5,
    "min_epochs": 2,
    "validation_split": 0.21,
    "max_parameters": 1001,
    "max_seconds": 0.0,
    "cv_folds": 5,
    "max_model_mb": 1.5,
    "min_accuracy": 0.5,
    "min_accuracy_epochs": 2,
    "class_weights": "auto",
}


@pytest.mark.parametrize("name", [each.name for each in fields(TrialSpec)])
def test_every_field_is_in_the_uid(name: str) -> None:
    """A spec that differs in any one field has another uid."""
    assert replace(samples.SPEC, **{name: CHANGES[name]}).uid != samples.SPEC.uid


def test_uid_is_what_it_was() -> None:
    """The uid of a given spec never changes between versions of one schema: resumed runs rely on it."""
    assert samples.SPEC.uid == "ac8764ee1567a96d"


def test_canonical_json_has_no_nan() -> None:
    """NaN and infinity, which are not JSON, are refused rather than written."""
    for value in (NAN, INF, -INF):
        with pytest.raises(ValueError, match="not JSON compliant"):
            canonical_json({"value": value})


def test_canonical_json_is_one_text() -> None:
    """Equal data give one text: sorted keys, no spaces."""
    assert canonical_json({"b": 1, "a": [True, None, "é"]}) == '{"a":[true,null,"\\u00e9"],"b":1}'


def test_metrics_that_are_not_finite_travel_as_null() -> None:
    """A loss that is NaN or infinite is sent and recorded as null."""
    assert finite({"loss": NAN, "val_loss": INF, "val_accuracy": 0.5, "x": None}) == {
        "loss": None,
        "val_loss": None,
        "val_accuracy": 0.5,
        "x": None,
    }
    wild = replace(samples.RESULT, metrics={"loss": NAN}, history=({"loss": INF},))
    assert TrialResult.from_wire(through_json(wild.to_wire())).metrics == {"loss": None}


@pytest.mark.parametrize("gpu", ["", "NVIDIA H100 80GB HBM3"])
def test_report_of_a_worker_comes_back(gpu: str) -> None:
    """A worker's report is read as it was sent; one of an image that did not tell its GPU yet is read too."""
    report = WorkerReport("1.0", 2, 1, {"digits": "f" * 16}, gpu)
    assert WorkerReport.from_wire(report.to_wire()) == report
    older = {name: value for name, value in report.to_wire().items() if name != "gpu"}
    assert WorkerReport.from_wire(older) == replace(report, gpu="")
    with pytest.raises(ContractMismatch, match="'gpu'"):
        WorkerReport.from_wire({**older, "gpu": 7})


def longest(values: Values) -> tuple[ParamValue, ...]:
    """Some values among which is one with the longest text."""
    if values.points is not None:
        return values.points
    assert isinstance(values, Span)
    return tuple(rounded(values.low + (values.high - values.low) * share) for share in (0, 0.1234567, 0.00123456, 1))


URL = "https://s3.example/bucket/" + "f" * 64 + ".tar?X-Amz-Signature=0"


@pytest.mark.parametrize("data", ["", URL, URL.replace("https://s3.example", "http://127.0.0.1:9000")])
def test_request_comes_back(data: str) -> None:
    """A request is read as it was sent, with or without the address of its data set."""
    request = TrialRequest(samples.SPEC, 2, 60.0, data)
    assert TrialRequest.from_wire(through_json(request.to_wire())) == request
    assert ("data" in request.to_wire()) is bool(data)


MODEL = f"https://s3.example/bucket/{'a' * 32}.keras?X-Amz-Signature=1"


@pytest.mark.parametrize("data", ["", URL])
def test_request_for_a_model_comes_back(data: str) -> None:
    """A request for the final model is read as it was sent."""
    request = TrialRequest(samples.SPEC, 1, 60.0, data, KeepModel(3, on_all=True, model=MODEL))
    assert TrialRequest.from_wire(through_json(request.to_wire())) == request


@pytest.mark.parametrize(
    ("keep", "named"),
    [
        (KeepModel(0, on_all=True, model=MODEL), "'epochs'"),
        (KeepModel(1, on_all=1, model=MODEL), "'on_all'"),  # type: ignore[arg-type]
        (KeepModel(1, on_all=True, model=URL), "'model'"),
        (KeepModel(1, on_all=True, model=""), "'model'"),
        (KeepModel(1, on_all=True, model=MODEL.replace("https:", "ftp:")), "'model'"),
    ],
)
def test_what_is_no_request_for_a_model_is_named(keep: KeepModel, named: str) -> None:
    """Each field of a request for the final model is refused by its name."""
    with pytest.raises(ContractMismatch, match=named):
        TrialRequest.from_wire(TrialRequest(samples.SPEC, 1, 60.0, URL, keep).to_wire())


@given(samples.specs)
def test_a_packed_spec_comes_back(spec: TrialSpec) -> None:
    """Whatever a spec holds, its request holds."""
    assert TrialRequest.from_wire(through_json(TrialRequest(spec, 1, 60.0).to_wire())).spec == spec


@pytest.mark.parametrize(
    "packed",
    [None, 7, {}, "", "no base 85 \u00e9", "0" * 40, TrialRequest(samples.SPEC, 1, 60.0).to_wire()["spec"][:-8]],
)
def test_what_is_no_packed_spec_is_named(packed: Any) -> None:
    """Anything else in a spec's place is refused by its name."""
    with pytest.raises(ContractMismatch, match="'spec'"):
        TrialRequest.from_wire({**TrialRequest(samples.SPEC, 1, 60.0).to_wire(), "spec": packed})


NO_ADDRESS: list[Any] = [
    None,
    7,
    ["x"],
    URL.replace("https:", "http:"),
    URL.replace("https:", "file:"),
    URL.replace("s3.example", "user:word@s3.example"),
    URL.replace("s3.example", "s3.example:99999"),
    URL.replace("s3.example", ""),
    URL.replace("f" * 64, "F" * 64),
    URL.replace(".tar", ".zip"),
    URL + "#x",
    URL + " ",
    URL + "\n",
    URL + "0" * LONGEST_URL,
]


@pytest.mark.parametrize("data", NO_ADDRESS)
def test_what_is_no_address_is_named_and_not_quoted(data: Any) -> None:
    """Any other address in a request is refused by the field's name, and a signature in it is not repeated."""
    with pytest.raises(ContractMismatch, match="'data'") as caught:
        TrialRequest.from_wire({**TrialRequest(samples.SPEC, 1, 60.0).to_wire(), "data": data})
    assert "Signature" not in str(caught.value)


@pytest.mark.parametrize("name", SHIPPED)
def test_largest_request_is_small(name: str) -> None:
    """The longest request that a search space of ours can make, with the longest address, is under 1 KB; so is the one
    for its final model, with two addresses of AWS.
    """
    config = OptimizationConfig(search_space=name)
    space = SearchSpace(read_definition(config), Images((224, 224, 3), 10**6, (1, 1000), mirrored=True))
    largest = space.walk(lambda _, values: max(longest(values), key=lambda value: len(canonical_json(value))))
    chance = random.Random(1)  # what is random does not pack
    spec = TrialSpec(
        number=98_765,
        dataset=f"{''.join(chance.choices(string.ascii_letters, k=60))}-{chance.randbytes(6).hex()}",
        fingerprint=chance.randbytes(8).hex(),
        params=largest,
        seed=3_987_654_321,
        split_seed=3_987_555_556,
        objectives=("val_accuracy", "inference_latency"),
        max_epochs=987,
        min_epochs=876,
        validation_split=1 / 7,
        max_parameters=987_654_321_098,
        max_seconds=config.max_training_time_minutes + 604_800.123456,
        cv_folds=MOST_FOLDS,
        max_model_mb=99.54321,
        min_accuracy=0.54321,
        min_accuracy_epochs=765,
        class_weights="auto",
    )
    url = URL + "".join(chance.choices(string.ascii_letters, k=LONGEST_URL - len(URL)))
    assert len(json.dumps(TrialRequest(spec, 1000, 604_800.123456, url).to_wire())) <= 1024
    where = f"https://{'x' * 60}.s3.eu-central-1.amazonaws.com/{'y' * 20}/"
    signed = (
        "?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAJ5XQ7NPLW2R4TUVZ%2F20261125%2Feu-central-1%2Fs3%2F"
        "aws4_request&X-Amz-Date=20261125T213456Z&X-Amz-Expires=604800&X-Amz-SignedHeaders=host&X-Amz-Signature="
    )
    url = f"{where}{chance.randbytes(32).hex()}.tar{signed}{chance.randbytes(32).hex()}"
    model = f"{where}{chance.randbytes(16).hex()}.keras{signed}{chance.randbytes(32).hex()}"
    final = TrialRequest(spec, 1000, 604_800.123456, url, KeepModel(987, on_all=False, model=model))
    assert len(json.dumps(final.to_wire())) <= 1024
