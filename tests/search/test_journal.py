"""The journal: Optuna's own form, with fewer writes and less memory."""

import errno
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from command_rig import eventually
from seedpod.errors import SeedpodError
from seedpod.search.journal import RunJournal
from seedpod.search.storage import open_storage
from seedpod.search.study import optimize
from studies import half_suggest, proposed, run, study_of, table, value_of


def test_plain_optuna_reads_what_is_written_at_once(tmp_path: Path) -> None:
    """Hyperparameters that were written together are, for Optuna, those that were proposed, and so is each end."""
    known = {}

    def objective(trial: optuna.Trial) -> float:
        known[trial.number] = proposed(trial)
        return value_of(known[trial.number])

    run(study_of(tmp_path / "j"), objective, trials=12, jobs=4)
    plain = optuna.load_study(study_name="s", storage=JournalStorage(JournalFileBackend(str(tmp_path / "j"))))
    assert len(plain.trials) == 12
    for trial in plain.trials:
        assert trial.params
        assert trial.params.items() <= known[trial.number].items()
        assert trial.value == value_of(known[trial.number])


def test_distributions_are_shared(tmp_path: Path) -> None:
    """Trials with the same hyperparameters have one set of distributions, not each its own; but for the first one."""
    run(study_of(tmp_path / "j"), lambda trial: trial.suggest_float("x", 0, 1) + trial.suggest_int("n", 1, 3), trials=6)
    trials = open_storage("", tmp_path / "j").get_all_trials(0, deepcopy=False)
    assert len({id(trial.distributions) for trial in trials[1:]}) == 1
    assert len({tuple(trial.params.items()) for trial in trials}) == 6


def test_a_trial_that_goes_on_changes_no_other(tmp_path: Path) -> None:
    """A trial that was killed half suggested, and is suggested to its end, leaves what other trials have as it was."""
    first = study_of(tmp_path / "j")
    half_suggest(first.ask())
    half_suggest(first.ask())
    again = study_of(tmp_path / "j")
    storage = again._storage
    for trial_id in (0, 1):
        storage.set_trial_state_values(trial_id, optuna.trial.TrialState.WAITING)
    before = [len(row[1]) for row in table(again)]
    again.take_stock()
    trial = again.ask()
    proposed(trial)
    after = [len(row[1]) for row in table(again)]
    assert trial.number == 0
    assert after[0] > before[0] == before[1] == after[1]
    assert [len(known.distributions) for known in storage.get_all_trials(0, deepcopy=False)] == after


def test_a_trial_that_goes_on_leaves_the_distributions_that_it_shared(tmp_path: Path) -> None:
    """Of trials that were killed half suggested and have one set of distributions, the one that goes on has its own."""
    first = study_of(tmp_path / "j")
    for _ in range(3):
        half_suggest(first.ask())
    again = study_of(tmp_path / "j")
    storage = again._storage
    for trial_id in range(3):
        storage.set_trial_state_values(trial_id, optuna.trial.TrialState.WAITING)
    again.take_stock()
    again.ask()
    before = storage.get_all_trials(0, deepcopy=False)
    assert before[1].distributions is before[2].distributions
    proposed(again.ask())
    after = storage.get_all_trials(0, deepcopy=False)
    assert len(after[1].distributions) > len(before[1].params)
    assert len(after[2].distributions) == len(after[2].params) == len(before[2].params)


class Disk:
    """A disk that counts what is to be settled on it, can be slow, and can fail, which it says once."""

    def __init__(self) -> None:
        self.synced = 0
        self.failing = 0
        self.asked, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()

    def sync(self, _descriptor: int) -> None:
        self.asked.set()
        self.go_on.wait(20)
        self.synced += 1
        if self.failing:
            self.failing -= 1
            raise OSError(errno.EIO, "Input/output error")


def test_what_may_not_be_lost_is_on_the_disk(tmp_path: Path) -> None:
    """A trial's hyperparameters, together or one by one, and its end wait for the disk; what it reports does not."""
    disk = Disk()
    study = study_of(RunJournal(tmp_path / "j", disk.sync))
    made = disk.synced
    trial = study.ask()
    assert disk.synced == made
    proposed(trial)
    assert disk.synced == made + 1
    trial.report(0.5, 1)
    assert disk.synced == made + 1
    study.tell(trial, 0.5)
    assert disk.synced == made + 2
    half_suggest(study.ask())  # three, one by one
    assert disk.synced == made + 5


def test_a_search_says_that_its_last_trials_end_is_not_on_the_disk(tmp_path: Path) -> None:
    """A disk that fails under the very last end of a search is told of, though Optuna's pool loses what it raises."""
    disk = Disk()
    told: list[BaseException] = []

    def objective(trial: optuna.Trial) -> float:
        value = trial.suggest_float("x", 0, 1)
        if trial.number == 2:
            disk.failing = 1
        return value

    study = study_of(RunJournal(tmp_path / "j", disk.sync))
    optimize(study, objective, trials=3, jobs=2, timeout=None, stopping=lambda: bool(told), failed=told.append)
    assert any("Input/output error" in str(error) for error in told)


def test_whoever_waits_beside_a_failure_of_the_disk_hears_of_it(tmp_path: Path) -> None:
    """The disk tells of a failure once; the thread whose turn comes next is not told that its lines are there."""
    disk = Disk()
    journal = RunJournal(tmp_path / "j", disk.sync)
    study = study_of(journal)
    trials = [study.ask() for _ in range(2)]
    disk.failing = 1
    disk.asked.clear()
    disk.go_on.clear()
    with ThreadPoolExecutor(2) as threads:
        ends = [threads.submit(study.tell, trials[0], 0.5)]
        assert disk.asked.wait(20)
        ends.append(threads.submit(study.tell, trials[1], 0.5))
        assert eventually(lambda: (tmp_path / "j").read_bytes().count(b'"state":1') == 2)
        disk.go_on.set()
        for end in ends:
            with pytest.raises(SeedpodError, match="Input/output error"):
                end.result(20)
    with pytest.raises(SeedpodError, match="Input/output error"):
        study.ask()
    assert len(study.trials) == 2  # what is known can be read


def test_a_line_that_was_half_written_is_read_when_it_is_whole(tmp_path: Path) -> None:
    """Whatever another writer has got to, no half of a line is read, and none is lost."""
    study = study_of(tmp_path / "j")
    study.ask()
    whole = (tmp_path / "j").read_bytes()
    other = tmp_path / "other"
    other.write_bytes(whole[:-10])
    storage = RunJournal(other)
    assert storage.get_all_trials(0) == []
    with other.open("ab") as file:
        file.write(whole[-10:])
    assert len(storage.get_all_trials(0)) == 1


def test_a_journal_that_is_gone_is_named(tmp_path: Path) -> None:
    """A file that cannot be read any more is no bug: the message has its name."""
    study = study_of(tmp_path / "j")
    (tmp_path / "j").unlink()
    with pytest.raises(SeedpodError, match=r"cannot read .*/j"):
        study.get_trials()


def test_a_late_line_of_another_writer_changes_no_later_trial(tmp_path: Path) -> None:
    """Ranges that somebody else writes for a trial that has ended are nobody's: the next trial has its own."""
    study = study_of(tmp_path / "j")
    trial = study.ask()
    trial.suggest_float("x", 0, 1)
    study.tell(trial, 0.5)
    line = next(line for line in (tmp_path / "j").read_text().splitlines() if '"param_name":"x"' in line)
    with (tmp_path / "j").open("a") as file:
        file.write(line.replace("1.0", "10.0") + "\n")
    plain = optuna.load_study(study_name="s", storage=JournalStorage(JournalFileBackend(str(tmp_path / "j"))))
    again = study_of(tmp_path / "j")
    assert again.trials[0].distributions == plain.trials[0].distributions
    later = again.ask()
    later.suggest_float("x", 0, 10)
    assert again.trials[1].distributions["x"] == FloatDistribution(0, 10)
