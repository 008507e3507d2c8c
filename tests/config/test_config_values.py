"""Values: text as people type it, ranges, rules among settings, and settings that are not built yet."""

import dataclasses
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedpod.config import OptimizationConfig, Setting, load, settings
from seedpod.config.kinds import Choice, Option
from seedpod.config.wording import Refused
from seedpod.errors import ConfigError

EVERY = pytest.mark.parametrize("setting", settings(), ids=lambda setting: setting.name)


def named(name: str) -> Setting:
    return next(setting for setting in settings() if setting.name == name)


def one(argument: str) -> Any:
    """The value of the one setting that a command line gives."""
    return getattr(load([argument], {}).config, argument.split("=", maxsplit=1)[0])


@EVERY
def test_default_is_valid(setting: Setting) -> None:
    """Every default is a value that its own setting takes, typed or in code."""
    setting.check(setting.default)
    text = setting.kind.show(setting.default).strip("'")
    assert setting.parse(text) == setting.default


@EVERY
def test_every_setting_describes_itself(setting: Setting) -> None:
    """Every setting has a group, a line of help and a sentence on the values that it takes."""
    assert setting.group
    assert setting.help
    assert "\n" not in setting.help
    assert setting.kind.wanted


@given(st.integers(0, 2**32 - 1 - 100_000))
def test_whole_numbers_in_every_spelling(number: int) -> None:
    """Zeros in front, underscores, a sign and an integral exponent all spell the same whole number."""
    spellings = [f"{number}", f"00{number}", f"{number:_}", f"+{number}", f"{number}.0", f"{number}e0", f"'{number}'"]
    assert {one(f"random_seed={text}") for text in spellings} == {number}


@given(st.floats(0.01, 0.5))
def test_fractions_in_every_spelling(number: float) -> None:
    """Plain, scientific and upper-case spellings of a fraction are equal to the last bit."""
    spellings = [repr(number), f"{number:.17e}", f"{number:.17E}", f" {number!r} ", f'"{number!r}"']
    assert {one(f"validation_split={text}") for text in spellings} == {number}


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e3", 1000), ("1_000", 1000), ("08", 8), ("2.0", 2), ("1E2", 100), (" 7 ", 7)],
)
def test_whole_number_examples(text: str, value: int) -> None:
    """Spellings that people use for whole numbers are read as such."""
    assert one(f"trials={text}") == value


@pytest.mark.parametrize(
    "text",
    ["20.5", "nan", "inf", "1e999", "0x10", "1__0", "_1", "1 0", "five", "٣", "1e-3", "9" * 5000, "--5", "5;"],
)
def test_not_whole_numbers(text: str) -> None:
    """What is not a whole number is refused with the range."""
    with pytest.raises(ConfigError, match="must be a whole number of trials from 1 to 100,000"):
        load([f"trials={text}"], {})


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999", "0,2", "20%", "0.009", "0.51", "."])
def test_not_fractions(text: str) -> None:
    """NaN, infinity, decimal commas and shares out of range are refused with the range."""
    with pytest.raises(ConfigError, match=r"must be a number from 0\.01 to 0\.5"):
        load([f"validation_split={text}"], {})


@pytest.mark.parametrize("text", ["yes", "true", "on", "1", "YES", "True", "oN"])
def test_yes(text: str) -> None:
    """Every spelling of yes is true."""
    assert named("concurrent").parse(text) is True


@pytest.mark.parametrize("text", ["no", "false", "off", "0", "NO", "False", "oFF"])
def test_no(text: str) -> None:
    """Every spelling of no is false."""
    assert named("use_runpod_service").parse(text) is False


@pytest.mark.parametrize(
    "text", ["relu,gelu", "[relu, gelu]", "[relu,gelu]", "ReLU, GELU", "['relu', \"gelu\"]", "'relu,gelu'"]
)
def test_lists(text: str) -> None:
    """A list is typed with commas, and with or without brackets and quotes; its order is kept."""
    assert one(f"activation={text}") == ("relu", "gelu")


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("activation=relu", ("relu",)),
        ("activation=[]", ()),
        ("sampler=RANDOM", "random"),
        ("dataset=MNIST", "mnist"),
        ("local_workers=Auto", "auto"),
        ("local_workers=3", 3),
        ("run_name=''", ""),
        ("results_dir=a=b=c", "a=b=c"),
        ("results_dir=' spaced '", " spaced "),
        ('cache_dir="~/x"', "~/x"),
        ("timeout_hours=1.5", 1.5),
        ("timeout_hours=1e-05", 1e-05),
        ("timeout_hours=.5", 0.5),
    ],
)
def test_examples(argument: str, value: object) -> None:
    """Other things that people type mean what they look like."""
    assert one(argument) == value


def test_npz_file_is_a_dataset(tmp_path: Path) -> None:
    """A path to an existing .npz file is a data set; one to nothing is refused with the path."""
    path = tmp_path / "own.npz"
    path.touch()
    assert one(f"dataset={path}") == str(path)
    with pytest.raises(ConfigError, match=r"absent\.npz \(command line\): there is no such file"):
        load([f"dataset={tmp_path / 'absent.npz'}"], {})


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"trials": 0}, ["trials=0", "from 1 to 100,000"]),
        ({"trials": True}, ["trials=True", "whole number"]),
        ({"trials": "5"}, ["trials='5'", "whole number"]),
        ({"validation_split": float("nan")}, ["validation_split=nan", "0.01 to 0.5"]),
        ({"concurrent": 1}, ["concurrent=1", "true or false"]),
        ({"activation": ["relu"]}, ["activation=", "tuple"]),
        ({"activation": ("relu", "relu")}, ["relu more than once"]),
        ({"activation": ("rleu",)}, ["'rleu'", "Did you mean relu?"]),
        ({"dataset": "minst"}, ["Did you mean mnist?"]),
        ({"dataset": None}, ["a folder of class folders"]),
        ({"dataset": "~" + "x" * 400 + "/a.npz"}, ["home folder"]),
        ({"dataset": "x" * 400 + ".npz"}, ["no such file"]),
        ({"run_name": ".hidden"}, ["not starting with a dot"]),
        ({"run_name": "-x"}, ["not starting with a dot or a dash"]),
        ({"run_name": "a/b"}, ["letters, digits"]),
        ({"run_name": "a\n"}, ["letters, digits"]),
        ({"run_name": "x" * 101}, ["100"]),
        ({"results_dir": ""}, ["a folder's path"]),
        ({"results_dir": "a\0b"}, ["a folder's path"]),
        ({"results_dir": "~joe/x"}, ["~joe", "in full"]),
        ({"random_seed": 2**32 - 100_000}, ["4,294,867,295"]),
        ({"local_workers": "many"}, ["auto or a whole number"]),
        ({"min_epochs_per_trial": 14}, ["min_epochs_per_trial=14", "max_epochs_per_trial=10", "lower the first"]),
    ],
)
def test_code_is_checked_like_text(values: dict[str, Any], words: list[str]) -> None:
    """A config made in code refuses what the command line refuses, in one line that names the setting."""
    with pytest.raises(ConfigError) as caught:
        OptimizationConfig(**values)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert len(message.splitlines()) == 1


def test_awaiting_setting_takes_its_default_alone() -> None:
    """A setting of later work refuses any other value with the reason, and takes it once ``awaits`` is removed."""
    opened = named("trials")
    awaiting = dataclasses.replace(opened, awaits="later work")
    assert awaiting.parse("20") == 20
    with pytest.raises(Refused, match="does not have trials yet; it awaits later work"):
        awaiting.parse("21")
    assert opened.parse("21") == 21


def test_nothing_awaits() -> None:
    """Every setting that there is can be used."""
    assert [setting.name for setting in settings() if setting.awaits] == []


@pytest.mark.parametrize(
    "address",
    [
        "sqlite:///study.db",
        "sqlite:////abs/study.db",
        "postgresql://me@host:5432/db",
        "postgres://host/db",
        "grpc://host:13000",
    ],
)
def test_storages(address: str) -> None:
    """SQLite, PostgreSQL and Optuna's proxy can be named."""
    assert one(f"storage={address}") == address


@pytest.mark.parametrize("address", ["redis://host", "study.db", "sqlite://", "grpc://host", "mysql://host/db"])
def test_other_storages_are_refused(address: str) -> None:
    """What is no storage that is tested is refused with those that are."""
    with pytest.raises(ConfigError, match="sqlite:///FILE"):
        load([f"storage={address}"], {})


def test_password_is_refused_and_not_shown() -> None:
    """A password in an address would be saved with the settings: it is refused, with the place where it belongs."""
    with pytest.raises(ConfigError, match="PGPASSWORD") as caught:
        load([], {"SEEDPOD_STORAGE": "postgresql://me:s3cret@host/db"})
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "workers"),
    [
        (["local_workers=9"], "local_workers=9"),
        (["local_workers=3", "search_lag=2"], "local_workers=3"),
        (
            ["use_runpod_service=true", "runpod_service_endpoint=local", "concurrent_workers=9", "local_workers=1"],
            "concurrent_workers=9",
        ),
    ],
)
def test_more_workers_than_lag(arguments: list[str], workers: str) -> None:
    """More trials at once than a trial may lag behind is refused, with both ways out; each of them is taken."""
    with pytest.raises(ConfigError, match=rf"^{workers} .*is more than search_lag=.*reproducible=false"):
        load(arguments, {})
    rest = [argument for argument in arguments if not argument.startswith("search_lag")]
    load([*rest, "search_lag=auto"], {})
    load([*arguments, "reproducible=false"], {})


def test_awaiting_options() -> None:
    """A word that can be chosen only later is refused with that reason."""
    kind = Choice((Option("now"), Option("later", awaits="later work")))
    kind.check("now")
    with pytest.raises(Refused, match="does not have later yet; it awaits later work"):
        kind.check("later")


@pytest.mark.parametrize("names", ["val_loss", "model_size", "val_accuracy,macro_f1"])
def test_health_goes_with_one_share(names: str) -> None:
    """mode=health takes one objective from 0 to 1 alone, and says which those are."""
    with pytest.raises(
        ConfigError, match=f"^mode=health .*optimize_for={names} .*val_accuracy, macro_f1, balanced_acc"
    ):
        load(["mode=health", f"optimize_for={names}"], {})
    for name in ("val_accuracy", "macro_f1", "balanced_accuracy"):
        assert load(["mode=health", f"optimize_for={name}"], {}).config.weight_of_health == 0.3
    assert load(["health_weight=0.5"], {}).config.weight_of_health == 0.0


@EVERY
@given(text=st.text())
def test_any_text_is_a_value_or_refused(setting: Setting, text: str) -> None:
    """No text makes a setting fail in any other way than by refusing it."""
    with suppress(Refused):
        setting.check(setting.parse(text))


@pytest.mark.parametrize(
    ("text", "value", "megabytes"),
    [
        ("8GB", "8GB", 8000),
        ("512 mb", "512MB", 512),
        ("1.5gib", "1.5GiB", 1610.612736),
        ("2TB", "2TB", 2_000_000),
        ("AUTO", "auto", None),
    ],
)
def test_memory_in_every_spelling(text: str, value: str, megabytes: float | None) -> None:
    """An amount of memory has its unit, in any case, and is kept in one spelling."""
    config = load([f"memory_limit={text}"], {}).config
    assert (config.memory_limit, config.memory_limit_mb) == (value, megabytes)


@pytest.mark.parametrize("text", ["8", "50MB", "0GB", "-1GB", "GB", "8GBs", "1e3GB", "much", "8,5GB"])
def test_no_memory(text: str) -> None:
    """A number without a unit, too little, and anything else is refused with what is taken."""
    with pytest.raises(ConfigError, match=r"memory_limit.* must be auto, or 100MB or more, such as 8GB"):
        load([f"memory_limit={text}"], {})


@pytest.mark.parametrize(
    ("text", "value"), [("5%", 0.05), ("0.05", 0.05), ("100 %", 1.0), ("0", 0.0), ("5e-2", 0.05), (" 12.5% ", 0.125)]
)
def test_shares_with_and_without_percent(text: str, value: float) -> None:
    """A share is a number from 0 to 1 or a percentage."""
    assert one(f"max_bad_files={text}") == value


@pytest.mark.parametrize("text", ["101%", "1.5", "%", "five", "-1%", "5%%", "nan"])
def test_not_shares(text: str) -> None:
    """What is no share is refused with examples."""
    with pytest.raises(ConfigError, match=r"must be a share from 0 to 1, such as 0\.05 or 5%"):
        load([f"max_bad_files={text}"], {})


@pytest.mark.parametrize(
    ("text", "pixels"), [("auto", None), ("64", (64, 64)), ("64x48", (64, 48)), ("64X64", (64, 64)), (" 9 ", (9, 9))]
)
def test_image_sizes(text: str, pixels: tuple[int, int] | None) -> None:
    """One side, or height x width; equal sides are one way to say one thing."""
    config = load([f"image_size={text}"], {}).config
    assert config.reading.image_size == pixels
    assert "x" not in config.image_size or pixels != (64, 64)


@pytest.mark.parametrize("text", ["0", "1", "64x", "x64", "64x48x3", "64,48", "-64", "5000", "64.5", "6²", "9" * 50])
def test_not_image_sizes(text: str) -> None:
    """What is no size is refused with examples."""
    with pytest.raises(ConfigError, match="a side such as 64, or height x width such as 64x48"):
        load([f"image_size={text}"], {})


def test_a_folder_may_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is there needs no ./ before it; a known name means the known data set all the same."""
    monkeypatch.chdir(tmp_path)
    for name in ("my photos", "digits"):
        (tmp_path / name).mkdir()
    for text in ("my photos", "./my photos", ".", str(tmp_path), "./digits"):
        assert one(f"dataset={text}") == text
    assert one("dataset=digits") == "digits"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mnits", "Did you mean mnist"),
        ("./nowhere", "there is no such file or folder"),
        ("nowhere/", "there is no such file or folder"),
        ("nowhere.csv", "there is no such file or folder"),
        ("http://example.org/x.zip", "must be https: anybody"),
        ("ftp://example.org/x.zip", "it must be https://HOST/FILE.zip"),
        ("https://example.org/x.tar.gz", "is the address of a .gz; it must be that of a .zip"),
        ("https://example.org", "it must be https://HOST/FILE.zip"),
        ("https://me:secret@example.org/x.zip", "holds a password"),
    ],
)
def test_data_sets_that_are_none(text: str, words: str) -> None:
    """What is neither a name, nor there, nor an address that can be trusted is refused before anything runs."""
    with pytest.raises(ConfigError, match=words):
        load([f"dataset={text}"], {})


def test_an_address_is_taken() -> None:
    """An https address needs no network to be a valid setting."""
    address = "https://example.org/data/pets.zip?version=2"
    assert one(f"dataset={address}") == address


def test_a_known_name_read_otherwise_needs_a_way_to_the_workers() -> None:
    """Workers have a data set by its name as it comes: with max_samples it is another one, which a store brings."""
    remote = ["dataset=mnist", "use_runpod_service=true", "runpod_service_endpoint=abc"]
    assert load(remote, {}).config.dataset == "mnist"
    with pytest.raises(ConfigError, match=r"max_samples=1000.*workers do not have these images. Set data_store="):
        load([*remote, "max_samples=1000"], {})
    assert load([*remote, "max_samples=1000", "data_store=s3://bucket/p"], {}).config.own_images
    assert not load([*remote, "data_store=s3://bucket/p"], {}).config.own_images


def test_images_of_ones_own_are_what_the_workers_lack(tmp_path: Path) -> None:
    """Of a folder it is the folder that is named, however it is read."""
    remote = [f"dataset={tmp_path}", "use_runpod_service=true", "runpod_service_endpoint=abc"]
    for reading in ([], ["image_size=28x28"]):
        with pytest.raises(ConfigError, match=rf"dataset={tmp_path}.*workers do not have these images"):
            load([*remote, *reading], {})
