"""Every mistake that people make is answered by one line: what, where, what to do next. Nothing is ignored silently."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from string import ascii_lowercase

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from seedpod.config import load, settings
from seedpod.errors import ConfigError

KEYS = ["config", *(setting.name for setting in settings())]


def complaints(arguments: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(arguments, environment or {})
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("trals=5", "trals=... (command line): there is no setting 'trals'. Did you mean trials?"),
        ("seed=5", "seed=... (command line): there is no setting 'seed'. Did you mean random_seed?"),
        ("Trials=5", "Trials=... (command line): there is no setting 'Trials'. Did you mean trials?"),
        ("max-parameters=5", "Did you mean max_parameters?"),
        ("zzz=5", "zzz=... (command line): there is no setting 'zzz'. `python optimizer.py help` lists the settings."),
        ("=5", "=... (command line): there is no key before the =."),
        ("trials=5 trials=50", "trials=50 (command line): trials is given twice, first as trials=5; keep one."),
        ("trials=5 trials=5", "trials=5 (command line): trials is given twice"),
        ("config=/dev/null config=b.yaml", "config is given twice, first as config=/dev/null"),
        ("--trials 5", "--trials 5 (command line): write trials=5"),
        ("--trials=5", "--trials=5 (command line): write trials=5"),
        ("-trials 5", "-trials 5 (command line): write trials=5"),
        ("--trails 5", "--trails 5 (command line): write trials=5"),
        ("--max-parameters 5", "write max_parameters=5"),
        ("--trials", "--trials (command line): write trials=VALUE"),
        ("--concurrent", "--concurrent (command line): write concurrent=true"),
        ("--concurrent trials=5", "--concurrent (command line): write concurrent=true"),
        ("--zzz 5", "--zzz (command line): settings are written key=value, without dashes."),
        ("--help", "--help (command line): write help: `python optimizer.py help`."),
        ("-h", "-h (command line): write help: `python optimizer.py help`."),
        ("mnist", "mnist (command line): settings are written key=value; did you mean dataset=mnist?"),
        ("my/own.npz", "did you mean dataset=my/own.npz?"),
        ("configs/x.yaml", "did you mean config=configs/x.yaml?"),
        ("random", "did you mean sampler=random?"),
        ("trials", "trials (command line): settings are written key=value; did you mean trials=VALUE?"),
        ("help", "help (command line): help is a command and comes first: `python optimizer.py help`."),
        ("hlep", "did you mean `python optimizer.py help`?"),
        ("xyzzy", "xyzzy (command line): settings are written key=value, such as trials=5."),
        ("trials=", "trials= (command line): the value is empty."),
        ("config=", "config= (command line): the value is empty."),
        ("trials=''", "trials= (command line): must be a whole number"),
        ("trials=0", "trials=0 (command line): must be a whole number of trials from 1 to 100,000."),
        ("trials=100001", "trials=100001 (command line): must be a whole number of trials from 1 to 100,000."),
        ("trials=many", "trials=many (command line): must be a whole number of trials from 1 to 100,000."),
        ("dataset=minst", "dataset=minst (command line): must be digits, mnist,"),
        ("dataset=minst", "Did you mean mnist?"),
        ("dataset=fashion-mnist", "Did you mean fashion_mnist?"),
        (
            "sampler=tep",
            "sampler=tep (command line): must be tpe, random, gp, cmaes, grid, nsga2 or qmc. Did you mean tpe?",
        ),
        ("concurrent=yse", "concurrent=yse (command line): must be true or false. Did you mean yes?"),
        ("local_workers=outo", "Did you mean auto?"),
        ("activation=relu,gelo", "'gelo' is not known; it must be one or more of relu, leaky_relu, swish and gelu"),
        ("activation=relu,,gelu", "'' is not known"),
        ("activation=[relu", "has one bracket without the other"),
        ("activation=relu,relu", "names relu more than once; keep one."),
        ("use_runpod_service=true", "use_runpod_service=true (command line): needs an endpoint"),
        (
            "min_epochs_per_trial=30",
            "=30 (command line): is more than max_epochs_per_trial=10 (default); lower the first or raise the second.",
        ),
        ("config=absent.yaml", "config=absent.yaml (command line): there is no such file."),
        ("config=/", "config=/ (command line): the file cannot be read:"),
        ("config=~nobody-by-this-name/x", "this is not a path."),
    ],
)
def test_command_line(typed: str, line: str) -> None:
    """Each mistake on the command line gets exactly one line, with the nearest valid spelling."""
    (only,) = complaints(typed.split())
    assert line in only


@pytest.mark.parametrize(
    ("variable", "text", "line"),
    [
        (
            "SEEDPOD_TRAILS",
            "5",
            "SEEDPOD_TRAILS=... (environment): there is no setting for this variable. Did you mean",
        ),
        ("SEEDPOD_", "5", "there is no setting for this variable."),
        ("SEEDPOD_trials", "5", "Did you mean SEEDPOD_TRIALS?"),
        ("SEEDPOD_TRIALS", " ", "SEEDPOD_TRIALS=... (environment): the value is empty. Unset it to have the default."),
        ("SEEDPOD_TRIALS", "0", "trials=0 (environment SEEDPOD_TRIALS): must be a whole number"),
    ],
)
def test_environment(variable: str, text: str, line: str) -> None:
    """Each mistake in the environment gets exactly one line that names the variable."""
    (only,) = complaints(environment={variable: text, "HOME": "/root"})
    assert line in only


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("# first\ntrals: 5\n", "trals: ... (FILE:2): there is no setting 'trals'. Did you mean trials?"),
        ("config: x.yaml\n", "config: ... (FILE:1): there is no setting 'config'."),
        ("<<: {trials: 5}\n", "FILE:1: settings are not nested"),
        (
            "trials: 5\nmode: simple\ntrials: 6\n",
            "trials: 6 (FILE:3): trials is given twice, first at FILE:1; keep one.",
        ),
        ("trials: {a: 1}\n", "FILE:1: settings are not nested; write each as one `key: value`."),
        ("activation: [[relu]]\n", "FILE:1: a list may hold plain values only."),
        ("trials: [5]\n", "trials=[5] (FILE:1): takes one value, not a list;"),
        ("? [a]\n: 5\n", "FILE:1: a key must be one word"),
        ("trials:\n", "FILE:1: the value is empty. Remove the line"),
        ("trials: ~\n", "FILE:1: the value is empty."),
        ("run_name: null\n", "FILE:1: the value is empty."),
        ("trials: ''\n", "trials= (FILE:1): must be a whole number"),
        ("trials: !!int 5\n", "FILE:1: the tag tag:yaml.org,2002:int is not read"),
        ("\n\ntrials: 0\n", "trials=0 (FILE:3): must be a whole number of trials from 1 to 100,000."),
        ("trials: 5\nmode simple\n", "FILE:2: this is not valid YAML:"),
        ("trials: 5\n\tmode: simple\n", "FILE:2: this is not valid YAML:"),
        ("trials: 5\n---\ntrials: 6\n", "FILE:2: this is not valid YAML:"),
        ("- trials\n", "FILE:1: the file must hold lines of the form `key: value`"),
        ("trials=5\n", "FILE:1: the file must hold lines of the form `key: value`"),
        ("\ntrials: \x01\n", "FILE:2: the file holds a character that YAML does not allow."),
        ('run_name: "\\UFFFFFFFF"\n', "FILE:1: this is not valid YAML:"),
        ("activation: &a [*a]\n", "FILE:1: a list may hold plain values only."),
        ("a: " + "[" * 5000 + "\n", "FILE:1: this is not valid YAML:"),
        (
            "min_epochs_per_trial: 11\n",
            "min_epochs_per_trial=11 (FILE:1): is more than max_epochs_per_trial=10 (default)",
        ),
    ],
)
def test_file(text: str, line: str, tmp_path: Path) -> None:
    """Each mistake in a file gets exactly one line with the file and the line number."""
    path = tmp_path / "x.yaml"
    path.write_text(text)
    (only,) = complaints([f"config={path}"])
    assert line.replace("FILE", str(path)) in only


def test_file_that_is_not_text(tmp_path: Path) -> None:
    """A file in another encoding is refused with the line of its first bad byte."""
    path = tmp_path / "x.yaml"
    path.write_bytes(b"trials: 5\nrun_name: \xff\n")
    assert complaints([f"config={path}"]) == [f"{path}:2: the file is not UTF-8 text."]


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    """Mistakes of all layers are reported together, one a line, also those in values that a later layer overrides."""
    path = tmp_path / "x.yaml"
    path.write_text("trials: 0\nnope: 1\n")
    lines = complaints([f"config={path}", "trials=5", "word", "sampler=x"], {"SEEDPOD_TRIALS": "-1", "SEEDPOD_X": "1"})
    assert len(lines) == 6  # nope, trials: 0, SEEDPOD_X, SEEDPOD_TRIALS, word, sampler


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["runpod_api_key=s3cret"], {}),
        (["--api-key", "s3cret"], {}),
        (["--api-key=s3cret"], {}),
        ([], {"SEEDPOD_API_KEY": "s3cret"}),
    ],
)
def test_values_of_unknown_keys_stay_private(arguments: list[str], environment: dict[str, str]) -> None:
    """A password given under a name that is not a setting is not repeated."""
    assert "s3cret" not in "\n".join(complaints(arguments, environment))


def test_control_characters_are_escaped() -> None:
    """A complaint is one line of printable, bounded text, whatever was typed."""
    (line,) = complaints([f"sampler=\x1b[31m\n{'x' * 500}"])
    assert line.isprintable()
    assert len(line) < 300


@st.composite
def typos(draw: st.DrawFn) -> tuple[str, str]:
    """A key, and the same with one character left out, put in, replaced or swapped with the next."""
    key = draw(st.sampled_from(KEYS))
    at = draw(st.integers(0, len(key) - 1))
    letter = draw(st.sampled_from(ascii_lowercase + "_"))
    swapped = key[:at] + key[at + 1 : at + 2] + key[at] + key[at + 2 :]
    changed = [key[:at] + key[at + 1 :], key[:at] + letter + key[at:], key[:at] + letter + key[at + 1 :], swapped]
    return key, draw(st.sampled_from(changed))


def neighbours(word: str) -> set[str]:
    """All words that one replaced, left-out, put-in or swapped character makes of ``word``."""
    letters = ascii_lowercase + "_"
    heads = [(word[:i], word[i:]) for i in range(len(word) + 1)]
    return (
        {a + b[1:] for a, b in heads}
        | {a + c + b for a, b in heads for c in letters}
        | {a + c + b[1:] for a, b in heads for c in letters}
        | {a + b[1:2] + b[:1] + b[2:] for a, b in heads}
    )


@given(typos())
def test_typos_of_keys(pair: tuple[str, str]) -> None:
    """A key with one wrong character is refused, and the right key is suggested where only one is that near."""
    key, typo = pair
    assume(typo not in KEYS)
    (line,) = complaints([f"{typo}=5"])
    assert "there is no setting" in line
    if len(neighbours(typo) & set(KEYS)) <= 1:
        assert f"Did you mean {key}?" in line
