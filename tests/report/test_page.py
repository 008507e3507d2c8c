"""The report of real searches, read as files and in a browser without a network."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import samples
from browser import Browser, needs_chromium
from samples import SPEC
from seedpod.board import FinishedTrial
from seedpod.config import OptimizationConfig, to_yaml
from seedpod.errors import Cause, TrainingError, TrialPruned
from seedpod.health import COMPONENTS, Health
from seedpod.reading import called
from seedpod.report.charts import busy_share, history, lanes, pauses
from seedpod.report.facts import gather
from seedpod.report.make import write_report
from seedpod.report.page import Charts, Repeat, render
from seedpod.report.reworded import reworded
from seedpod.results.run_folder import RunFolder
from seedpod.training.own.found import Found, LeftOut
from seedpod.trial import Report, Status, TrialResult, TrialSpec
from thread_backend import searched_here, stand_in

PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)
TEST = {
    "images": 4,
    "right": 3,
    "accuracy": 0.75,
    "accuracy_low": 0.3006,
    "accuracy_high": 0.9544,
    "confidence": 0.95,
    "loss": 0.5,
    "macro_f1": 0.73,
    "balanced_accuracy": 0.75,
    "classes": [
        {"name": "<cat>", "images": 2, "precision": 1.0, "recall": 0.5, "f1": 0.6667},
        {"name": "dog", "images": 2, "precision": 0.6667, "recall": 1.0, "f1": 0.8},
    ],
    "confusion": [[1, 1], [0, 2]],
    "worst": [
        {
            "image": 1,
            "is": "<cat>",
            "taken_for": "dog",
            "probability": 0.9,
            "picture": PIXEL,
        }
    ],
}
FINAL = {
    "schema": 1,
    "mode": "retrain",
    "trial": 3,
    "epochs": 2,
    "train_images": 40,
    "test": TEST,
    "times": {"began_at": "2026-11-25T12:00:00.000+00:00", "seconds": 1.5, "training_seconds": 1.0},
}


def mixed(spec: TrialSpec, report: Report, check: Callable[[], None]) -> TrialResult:
    """Some trials are pruned after an epoch or two, one by a limit, some fail."""
    if spec.number == 4:
        return stand_in(replace(spec, params={**spec.params, "do": "hopeless"}), report, check)
    if spec.number % 7 == 5:
        raise TrainingError("the loss became <nan> & more", cause=Cause.DIVERGED)
    told = []

    def watched(progress: object) -> None:
        report(progress)  # type: ignore[arg-type]
        told.append(progress)
        if spec.number % 4 == 2 and len(told) == 2:
            raise TrialPruned("enough")

    return stand_in(spec, watched, check)


@pytest.fixture(scope="module", name="searched")
def run_folder(tmp_path_factory: pytest.TempPathFactory, digits_cache: Path) -> tuple[RunFolder, OptimizationConfig]:
    place = tmp_path_factory.mktemp("searched")
    # The trials prune themselves.
    given = {"trials": 16, "max_epochs_per_trial": 6, "sampler": "random", "pruner": "none"}
    config = searched_here(place, digits_cache, train=mixed, **given)
    return RunFolder(place / "r"), config


@pytest.fixture(name="page")
def written_page(searched: tuple[RunFolder, OptimizationConfig], tmp_path: Path) -> Path:
    shutil.copytree(searched[0].path, tmp_path / "r")
    folder = RunFolder(tmp_path / "r")
    (folder.path / "final.json").write_text(json.dumps(FINAL), "utf-8")
    return write_report(folder, searched[1], print)


def unsaid(line: str) -> None:
    raise AssertionError(line)


def test_page_tells_the_outcome_first(page: Path) -> None:
    """Test accuracy with its interval, what was chosen, failures by cause, epochs saved, and the commands to go on."""
    text = re.sub(r"<script.*?</script>", "", page.read_text("utf-8"), flags=re.DOTALL)
    order = [
        "0.7500",
        "The best hyperparameters",
        "Final model",
        "Failures",
        "optimizer.py predict run=r ",
        "The same search once",
    ]
    assert sorted(order, key=text.index) == order
    assert "0.3006 to 0.9544 with 95 % confidence" in text
    assert "diverged" in text
    assert "pruning" in text
    assert "python optimizer.py dataset=digits trials=16 sampler=random pruner=none max_epochs_per_trial=6" in text


def test_page_tells_the_health(tmp_path: Path) -> None:
    """The best trial's health is told by component and layer, with advice, and a search by both has its own best."""
    folder = RunFolder.create(tmp_path, "r", to_yaml(OptimizationConfig(mode="health", health_weight=0.9)))
    ill = Health(dict.fromkeys(COMPONENTS, 0.1), samples.HEALTH.layers)
    for number, value, health in ((0, 0.9, ill), (1, 0.8, samples.HEALTH)):
        result = replace(samples.complete(number, value), health=health)
        folder.write_trial(FinishedTrial(samples.spec(number), result, 1.0, 2.0))
    facts = gather(folder)
    assert facts.best is not None
    assert facts.best.spec.number == 1
    page = render(facts, Charts({}, ""), Repeat("", "", ""))
    assert "Of trial 1, the best: 0.93 of 1. 32 of 64 units of conv_1 never fire" in page
    assert "<td>conv_1</td><td>64</td><td>32</td><td>4</td><td>0.1</td><td>0.001</td>" in page
    assert "<td>not finite</td>" in page


def test_own_images_are_called_by_their_folder(tmp_path: Path) -> None:
    """The page says ``photos``, whatever digits tell its content; names without such digits stay."""
    folder = RunFolder.create(tmp_path, "r", to_yaml(OptimizationConfig()))
    spec = replace(samples.spec(0), dataset="photos-9d6263def6a3")
    folder.write_trial(FinishedTrial(spec, samples.complete(0, 0.9), 1.0, 2.0))
    assert "A search on photos that" in render(gather(folder), Charts({}, ""), Repeat("", "", ""))
    assert called("fashion_mnist") == "fashion_mnist"


def test_page_lists_the_files_that_were_left_out(tmp_path: Path) -> None:
    """Each with its reason, whatever is in its name; of very many the first, and where the rest is."""
    folder = RunFolder.create(tmp_path, "r", to_yaml(OptimizationConfig()))
    bad = tuple(LeftOut(f"<b>{i}.jpg", "it is empty") for i in range(250))
    folder.write_left_out(Found(900, bad, (LeftOut("a.jpg", "it is a copy of b.jpg"),)))
    page = render(gather(folder), Charts({}, ""), Repeat("", "", ""))
    assert "Of the images, 250 unusable and 1 copies of others; 51 that are not shown here are in bad_files.csv" in page
    assert "<td>&lt;b&gt;199.jpg</td><td>it is empty</td>" in page
    assert "&lt;b&gt;200.jpg" not in page


def test_page_is_self_contained(page: Path) -> None:
    """The page names nothing that a browser would fetch, and what trials have said is text and no markup."""
    text = page.read_text("utf-8")
    markup = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    assert re.findall(r"(?:src|href)=\"(?!data:)", markup) == []
    assert "<nan>" not in markup
    assert "<cat>" not in markup


def test_stopped_trials_keep_their_curves(searched: tuple[RunFolder, OptimizationConfig]) -> None:
    """What a pruned trial has learned until then is on the page, and the epochs that it did not need are counted."""
    facts = gather(searched[0])
    pruned = [t for t in facts.trials if t.result.status is Status.PRUNED and t.result.error is None]
    assert pruned
    assert all(len(facts.curves[trial.spec.number]) == 2 for trial in pruned)
    assert all(facts.saved(trial) == trial.spec.max_epochs - 2 for trial in pruned)
    assert all(facts.saved(replace(trial, spec=replace(trial.spec, cv_folds=3))) > 6 for trial in pruned)


def test_what_a_limit_pruned_is_told_apart(page: Path) -> None:
    """Trials that a limit has ended have a section of their own, and are no savings of the pruner."""
    text = re.sub(r"<script.*?</script>", "", page.read_text("utf-8"), flags=re.DOTALL)
    limits = text.partition("Pruned by a limit")[2].partition("</section>")[0]
    cells = re.findall(r"<td[^>]*>(.*?)</td>", limits)
    assert cells == ["hopeless", "1", "#4", "it will not get better"]
    saved = text.partition("Epochs saved")[2].partition("</section>")[0]
    rows = re.findall(r"<td[^>]*>(.*?)</td>", saved)
    assert rows[:2] == ["pruning", "4"]  # 2, 6, 10 and 14
    assert rows[4:6] == ["a limit", "1"]


@pytest.mark.parametrize("objective", ["val_accuracy", "val_loss"])
def test_values_far_from_all_others_do_not_flatten_the_charts(
    searched: tuple[RunFolder, OptimizationConfig], objective: str
) -> None:
    """The axis ends before values that are far worse than the others, never before good ones, and says how many."""
    facts = gather(searched[0])
    rising = objective == "val_accuracy"
    values = [0.97 + n / 1000 for n in range(14)] + [0.1, 0.9999]
    trials = [
        replace(
            trial,
            spec=replace(trial.spec, number=number, objectives=(objective,)),
            result=replace(samples.complete(number, value if rising else 1 - value), history=()),
        )
        for number, (trial, value) in enumerate(zip(facts.trials, values, strict=True))
    ]
    figure = history(replace(facts, trials=trials, best=None, curves={}))
    assert figure is not None
    low, high = figure["layout"]["yaxis"]["range"]
    good, bad = (0.9999, 0.1) if rising else (0.0001, 0.9)
    assert low < good < high
    assert low < (0.97 if rising else 0.03) < high
    assert not low < bad < high
    (note,) = figure["layout"]["annotations"]
    assert note["text"] == f"1 of 16 lie {'below' if rising else 'above'}; a double click shows all"
    figure = history(replace(facts, trials=[*trials[:14], trials[15]], best=None, curves={}))
    assert figure is not None
    assert "range" not in figure["layout"]["yaxis"]


def test_history_has_the_pruned_trials(searched: tuple[RunFolder, OptimizationConfig]) -> None:
    """Pruned trials stand with their last value beside the complete ones, and the best so far never falls."""
    facts = gather(searched[0])
    figure = history(facts)
    assert figure is not None
    traces = {trace["name"]: trace for trace in figure["data"]}
    assert set(traces) == {"complete", "pruned", "best so far"}
    pruned = [t.spec.number for t in facts.trials if t.result.status is Status.PRUNED]
    assert traces["pruned"]["x"] == pruned
    assert traces["pruned"]["y"] == [facts.curves[number][-1][facts.objective] for number in pruned]
    assert traces["best so far"]["y"] == sorted(traces["best so far"]["y"])
    assert traces["best so far"]["y"][-1] == max(traces["complete"]["y"])


def test_figures_of_optuna_speak_as_the_page() -> None:
    """Choices lose Python's quotes and titles their capitals; names with a quote inside, and numbers, stay."""
    figure = {"x": ["'relu'", "it's"], "y": [1.5, None], "title": {"text": "Hyperparameter"}, "name": "Trial"}
    assert reworded(figure) == {"x": ["relu", "it's"], "y": [1.5, None], "title": {"text": ""}, "name": "trial"}


@pytest.mark.parametrize("missing", ["study.journal", "summary.json", "events.jsonl", "trials"])
def test_unfinished_or_damaged_runs_have_a_page(
    searched: tuple[RunFolder, OptimizationConfig], tmp_path: Path, missing: str
) -> None:
    """Whatever is missing, the page tells of the rest, and the run's own files are not touched."""
    shutil.copytree(searched[0].path, tmp_path / "r")
    path = tmp_path / "r" / missing
    if path.is_dir():
        shutil.rmtree(path)
        path.mkdir()
    else:
        path.unlink()
    before = {p: p.read_bytes() for p in (tmp_path / "r").rglob("*") if p.is_file()}
    said: list[str] = []
    page = write_report(RunFolder(tmp_path / "r"), searched[1], said.append)
    assert "Repeat it" in page.read_text("utf-8")
    assert len(said) == (missing == "study.journal")
    page.unlink()
    assert {p: p.read_bytes() for p in (tmp_path / "r").rglob("*") if p.is_file()} == before


def test_charts_as_files(searched: tuple[RunFolder, OptimizationConfig], tmp_path: Path) -> None:
    """``report=png`` adds Optuna's plots and the report's own as PNG files."""
    shutil.copytree(searched[0].path, tmp_path / "r")
    (tmp_path / "r" / "final.json").write_text(json.dumps(FINAL), "utf-8")
    config = OptimizationConfig(report="png", trials=16)
    write_report(RunFolder(tmp_path / "r"), config, unsaid)
    names = {path.name for path in (tmp_path / "r" / "charts").iterdir()}
    drawn = {"confusion", "curves", "history", "importances", "parallel", "slices", "timeline"}
    assert names == {f"{name}.png" for name in drawn}
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in (tmp_path / "r" / "charts").iterdir())


@pytest.fixture(scope="module", name="browser")
def browser_without_a_network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        browser.call(
            "Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0
        )
        yield browser


@needs_chromium
@pytest.mark.processes
@pytest.mark.parametrize(("width", "height"), [(1400, 900), (375, 740)])
def test_browser_without_a_network(page: Path, browser: Browser, width: int, height: int) -> None:
    """On a wide screen and a phone, light and dark: every chart is drawn, nothing is fetched, nothing complains, and no
    page is wider than its screen.
    """
    browser.requested.clear()
    browser.size(width, height, phone=width < 500)
    browser.open(page.as_uri())
    browser.until(f"document.readyState === 'complete' && typeof Plotly === 'object' && location == '{page.as_uri()}'")
    charts = browser.run("[...document.querySelectorAll('.chart')].map((chart) => chart.dataset.figure)")
    assert charts == ["history", "curves", "best_curve", "importances", "slices", "parallel", "timeline"]
    for scheme in ("light", "dark"):
        browser.scheme(scheme)
        for i in range(len(charts)):
            browser.run(f"document.querySelectorAll('.chart')[{i}].scrollIntoView()")
            browser.until(f"document.querySelectorAll('.chart')[{i}].dataset.drawn")
        assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.errors == []
    assert page.as_uri() in browser.requested
    assert [url for url in browser.requested if not url.startswith(("file:", "data:", "blob:"))] == []


def trial(number: int, start: float, end: float, worker: str = "") -> FinishedTrial:
    result = TrialResult.ended(number, Status.CANCELLED, run={"worker": worker} if worker else {})
    return FinishedTrial(SPEC, result, start, end)


def test_lanes_are_as_many_as_ran_at_once() -> None:
    """A worker has a lane for each trial that it ran at once, and what is free takes the next."""
    trials = [trial(0, 0, 10, "a"), trial(1, 0, 4, "a"), trial(2, 5, 9, "a"), trial(3, 1, 2, "b")]
    assert [bar.lane for bar in lanes(trials)] == ["a 1", "a 2", "b 1", "a 2"]
    assert busy_share(trials) == pytest.approx((10 + 4 + 4 + 1) / 30)


def test_pauses_are_no_idle_time() -> None:
    """The night between two runs of a search is not held against its workers."""
    trials = [trial(0, 0, 100), trial(1, 100, 200), trial(2, 40_000, 40_100)]
    assert pauses(trials) == [39_800]
    assert busy_share(trials) == pytest.approx(1.0)
