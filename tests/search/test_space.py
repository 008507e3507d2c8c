"""Whatever a space suggests can be built and trained, whatever the images; and spaces say what is wrong with them."""

from pathlib import Path

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seedpod.config import load
from seedpod.errors import ConfigError
from seedpod.hyperparameters import HYPERPARAMETERS, is_read, known
from seedpod.search.proposals import Proposals
from seedpod.search.sampler import make_sampler
from seedpod.search.space import Images, Params, SearchSpace
from seedpod.search.space_file import SHIPPED, Definition, read_definition
from seedpod.training.network import read_course, read_network
from seedpod.trial import canonical_json

optuna.logging.set_verbosity(optuna.logging.ERROR)

DIGITS = Images((8, 8, 1), 1000, (1, 5))


def defined(*arguments: str) -> Definition:
    return read_definition(load(arguments, {}).config)


def space(*arguments: str, images: Images = DIGITS) -> SearchSpace:
    return SearchSpace(defined(*arguments), images)


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return f"search_space={path}"


def suggestions(of: SearchSpace, seed: int, count: int = 1) -> list[Params]:
    study = optuna.create_study(sampler=make_sampler("random", seed, 1, None))
    return [of.suggest(study.ask()) for _ in range(count)]


def complaint(*arguments: str, images: Images = DIGITS) -> str:
    with pytest.raises(ConfigError) as caught:
        space(*arguments, images=images)
    return str(caught.value)


SPACES = {name: defined(f"search_space={name}") for name in SHIPPED}
pictures = st.builds(
    Images,
    shape=st.tuples(st.integers(2, 64), st.integers(2, 64), st.sampled_from([1, 3]))
    | st.sampled_from([(8, 8, 1), (28, 28, 1), (32, 32, 3), (224, 224, 3), (5, 40, 1)]),
    train=st.integers(1, 300) | st.just(60_000),
    epochs=st.tuples(st.integers(1, 20), st.integers(0, 30)).map(lambda pair: (pair[0], pair[0] + pair[1])),
    mirrored=st.booleans(),
)


def is_sound(params: Params, images: Images) -> bool:
    """Whether a model of it can be built and trained on the images, and nothing of it is left over."""
    network, course = read_network(params, images.shape), read_course(params)
    low, high = images.epochs
    return (
        network.parameters(images.shape, 10) > 0
        and network.kernel_size <= images.side
        and course.batch_size <= images.train
        and low <= int(params["epochs"]) <= high
        and not (course.flip and not images.mirrored)
        and all(is_read(name, params) for name in params)
        and all(type(value) in {bool, int, float, str} for value in params.values())
    )


@given(st.sampled_from(SHIPPED), pictures, st.integers(0, 2**32 - 1))
def test_every_suggestion_can_be_built(name: str, images: Images, seed: int) -> None:
    """For any image from 2x2 to 224x224, square or not, and any number of images, every suggestion and the sensible
    choice fit, of each space that comes with seedpod.
    """
    found = SearchSpace(SPACES[name], images)
    for params in [found.sensible(), *suggestions(found, seed, 2)]:
        assert is_sound(params, images)


@given(st.sampled_from(SHIPPED), pictures)
def test_sensible_choice_lies_in_the_space(name: str, images: Images) -> None:
    """What trial 0 tries can be suggested: Optuna takes every value of it as it is."""
    found = SearchSpace(SPACES[name], images)
    study = optuna.create_study()
    study.enqueue_trial(found.sensible())
    assert found.suggest(study.ask()) == found.sensible()
    assert found.placed(found.sensible()) == (found.sensible(), [])


def test_suggestions_are_complete_from_what_the_study_knows() -> None:
    """Of what Optuna was asked alone, the whole configuration follows."""
    study = optuna.create_study(sampler=make_sampler("random", 3, 1, None))
    for name in SHIPPED:
        found = SearchSpace(SPACES[name], DIGITS)
        for _ in range(20):
            trial = study.ask()
            assert found.suggest(trial) == found.complete(trial.params)
        study = optuna.create_study(sampler=make_sampler("random", 3, 1, None))


def test_everything_is_searched_in_the_wide_space() -> None:
    """The wide space searches every hyperparameter but epochs, and suggests each of its words."""
    images = Images((64, 64, 3), 60_000, (1, 9), mirrored=True)
    found = suggestions(SearchSpace(SPACES["wide"], images), 1, 300)
    for each in HYPERPARAMETERS:
        name = f"{each.name}_0" if each.each else each.name
        values = {params[name] for params in found if name in params}
        assert len(values) > 1 or name == "epochs", name
        assert not hasattr(each.kind, "words") or values == set(each.kind.words), name


def test_depth_follows_from_the_smaller_side() -> None:
    """As many blocks are searched as the smaller side can be halved, and all depths occur."""
    for side, most in [(2, 1), (3, 1), (4, 2), (7, 2), (8, 3), (16, 4), (28, 4), (224, 5)]:
        for shape in ((side, side, 1), (side, 300, 1), (300, side, 3)):
            found = suggestions(SearchSpace(SPACES["wide"], Images(shape, 1000, (1, 2))), 1, 40)
            assert {params["conv_blocks"] for params in found} == set(range(1, most + 1))


def test_mirrors_are_only_where_labels_allow_them() -> None:
    """Images are mirrored where the data set's labels are as true in a mirror, or where the user says so."""
    assert {params["flip"] for params in suggestions(space(), 1, 20)} == {False}
    mirrored = Images((32, 32, 3), 1000, (1, 2), mirrored=True)
    assert {params["flip"] for params in suggestions(space(images=mirrored), 1, 20)} == {False, True}
    assert {params["flip"] for params in suggestions(space("fix.flip=true"), 1, 20)} == {True}


def test_changes_from_the_command_line() -> None:
    """Fixed values are fixed, replaced ranges are searched, on the scale that they had, and both go with a file."""
    found = suggestions(space("fix.dropout=0.3", "space.optimizer=adam,sgd", "space.learning_rate=1e-4..1e-2"), 1, 200)
    assert {params["dropout"] for params in found} == {0.3}
    assert {params["optimizer"] for params in found} == {"adam", "sgd"}
    rates = [float(params["learning_rate"]) for params in found]
    assert 1e-4 <= min(rates) < 2e-4
    assert 5e-3 < max(rates) <= 1e-2
    assert 0.4 < sum(rate < 1e-3 for rate in rates) / len(rates) < 0.6  # as before: logarithmic
    filters = {params["filters_1"] for params in suggestions(space("space.filters=4..16:4", "fix.filters_0=4"), 1, 99)}
    assert filters == {4, 8, 12, 16}


def test_conditions(tmp_path: Path) -> None:
    """Outside of its conditions a hyperparameter is sensible, and one that nothing reads is left out."""
    text = """
optimizer: [sgd, adam]
momentum: 0.5..0.6
kernel_size: [3, 5]
dropout: {values: 0.5..0.6, when: {kernel_size: 5, optimizer: [sgd, adamw]}, default: 0.55}
"""
    found = suggestions(space(written(tmp_path, text)), 1, 80)
    for params in found:
        assert ("momentum" in params) == (params["optimizer"] == "sgd")
        both = params["kernel_size"] == 5 and params["optimizer"] == "sgd"
        assert (0.5 <= float(params["dropout"]) <= 0.6) if both else params["dropout"] == 0.25
    assert len({(params["kernel_size"], params["optimizer"]) for params in found}) == 4


def test_defaults_are_what_trial_0_tries(tmp_path: Path) -> None:
    """A default is tried first; without one what is sensible, or the value of the space that is next to it."""
    text = (
        "optimizer: {values: [adam, sgd], default: sgd}\nfilters: 100..200:50\nfilters_1: [8, 24]\nconv_blocks: 2..3\n"
    )
    sensible = space(written(tmp_path, text)).sensible()
    assert sensible["optimizer"] == "sgd"
    assert (sensible["filters_0"], sensible["filters_1"]) == (100, 24)
    assert sensible["learning_rate"] == 0.05  # what is sensible for sgd


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kernelsize: 3", "mine.yaml:1: kernelsize: there is no such hyperparameter. Did you mean kernel_size?"),
        ("\nactivation: [relu, gelo]", "mine.yaml:2: activation: gelo is not taken; it must be one of relu"),
        ("activation: [relu, gelo]", "Did you mean gelu?"),
        ("activation: relu..gelu", "is a range; it must be one of relu"),
        ("dropout: 0.5..0.1", "0.5..0.1 ends before it begins"),
        ("dropout: 0..0.5:log", "0..0.5:log cannot be logarithmic: it must begin above 0"),
        ("dropout: 0..2", "2 is not taken; it must be a number from 0 to 0.95"),
        ("filters: 8..64:7.5", "behind the colon stands log, linear or a step"),
        ("filters: {low: 8}", "filters: low is not known here; write a value, a list, a range"),
        ("filters: {when: {optimizer: sgd}}", "filters: values is missing"),
        ("filters: {values: 8..16, default: 99}", "filters: default: 99 is none of its values, 8..16"),
        (
            "filters: {values: 8..16, when: {optimiser: sgd}}",
            "filters: when: optimiser: there is no such hyperparameter",
        ),
        ("filters: {values: 8..16, when: {filters: 8}}", "there is one for each layer; name one, such as filters_0"),
        ("filters: {values: 8..16, when: sgd}", "when: names other hyperparameters and their values"),
        ("dropout: {values: 0..0.5, when: {dropout: 0.1}}", "when: it cannot depend on itself"),
        (
            "dropout: {values: 0..0.5, when: {optimizer: sgd}}\noptimizer: {values: [sgd], when: {dropout: 0.1}}",
            "when: dropout and optimizer depend on each other in a circle",
        ),
        ("dropout: 0.1\ndropout: 0.2", "mine.yaml:2: dropout: is given twice, first in line 1"),
        ("dropout: [0.1, 0.1]", "names 0.1 more than once"),
        ("dropout: []", "a list holds one value or more"),
        ("dropout:", "the value is empty"),
        ("filters_9: 8", "filters_9: there is no such hyperparameter"),
        ("# nothing yet", "mine.yaml: is empty, so that there is nothing to search; write a line"),
        ("{}", "mine.yaml: is empty"),
        ("- dropout", "a search space is lines of the form"),
        ("dropout: [", "this is not valid YAML"),
        ("conv_blocks: 4..6", "conv_blocks: 4..6: images of 8x8 pixels can be halved 3 times; it must be from 1 to 3"),
        ("batch_size: 2048", "a trial trains on 1000 images"),
        ("epochs: 6..9", "min_epochs_per_trial=1 and max_epochs_per_trial=5 allow 1 to 5"),
    ],
)
def test_mistakes_in_a_file(tmp_path: Path, text: str, said: str) -> None:
    """Each mistake is told with file, line, the path of the key, what is allowed and the nearest name."""
    assert said in complaint(written(tmp_path, text))


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("search_space=wid", "search_space=wid: there is no such file"),
        ("fix.activatoin=relu", "fix.activatoin=relu: there is no such hyperparameter. Did you mean activation?"),
        ("fix.activation=relu,gelu", "takes one value; several are written space.activation=relu,gelu"),
        ("fix.conv_blocks=7", "fix.conv_blocks=7: 7: images of 8x8 pixels can be halved 3 times"),
        ("space.dropout=a..b", "a is not taken; it must be a number from 0 to 0.95"),
    ],
)
def test_mistakes_on_the_command_line(argument: str, said: str) -> None:
    """A change that is no use names itself and what is allowed."""
    assert said in complaint(argument)


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    """Every mistake has its line."""
    said = complaint(written(tmp_path, "dropout: 9\nkernels: 3\n"), "fix.pooling=min")
    assert len(said.splitlines()) == 3


def test_equal_content_gives_equal_terms(tmp_path: Path) -> None:
    """What decides a study is what a space says, not where it is written."""
    first = defined(written(tmp_path, "dropout: 0..0.5\n# a comment\noptimizer: [adam]\n")).terms
    (tmp_path / "other").mkdir()
    assert defined(written(tmp_path / "other", "optimizer: adam\ndropout:   0..0.5\n")).terms == first
    changed = defined(written(tmp_path, "dropout: 0..0.4\noptimizer: adam\n")).terms
    assert {name for name in first if first[name] != changed[name]} == {"space.dropout"}


def test_points_of_a_conditional_space(tmp_path: Path) -> None:
    """All configurations are found once, and conditions count: momentum for sgd alone, units for dense layers alone."""
    text = "optimizer: [adam, sgd]\nmomentum: [0.8, 0.9, 0.95]\ndense_layers: 0..2\ndense_units: [32, 64]\n"
    points = space(written(tmp_path, text)).points(1000)
    assert points is not None
    assert len(points) == len({canonical_json(point) for point in points}) == (1 + 3) * (1 + 2 + 4)
    assert space(written(tmp_path, text)).points(10) is None
    assert space(written(tmp_path, f"{text}dropout: 0..0.5\n")).points(1000) is None
    assert len(space(written(tmp_path, f"{text}dropout: 0..0.5\n")).points(1000, spread=5) or ()) == 28 * 5


@settings(max_examples=30)
@given(st.sampled_from(SHIPPED), st.integers(0, 2**32 - 1))
def test_large_networks_are_not_suggested(name: str, seed: int) -> None:
    """A network over max_parameters is not suggested where smaller ones are likely."""
    images = Images((64, 64, 3), 1000, (1, 2))
    found = SearchSpace(SPACES[name], images)

    def fits(params: Params) -> bool:
        return read_network(params, images.shape).parameters(images.shape, 10) <= 300_000

    study = optuna.create_study(sampler=make_sampler("random", seed, 1, None))
    proposals = Proposals(found, seed=seed, trials=3, fits=fits)
    for _ in range(3):
        trial = study.ask()
        assert fits(proposals.suggest(trial)) or trial.number == 0


def test_names_of_layers() -> None:
    """filters_7 is a hyperparameter; filters_8, filters_07 and kernel_size_0 are none."""
    assert known("filters_7") == known("filters")
    assert [known(name) for name in ("filters_8", "filters_07", "filters_", "kernel_size_0", "units")] == [None] * 5
