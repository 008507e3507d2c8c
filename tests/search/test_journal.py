"""The journal: Optuna's own form, with fewer writes and less memory."""

from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from seedpod.search.storage import open_storage
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
