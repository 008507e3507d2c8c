"""``key=value`` arguments, and what people type instead."""

from collections.abc import Sequence

from seedpod.config.kinds import Assignments, Choice, Truth, unquoted
from seedpod.config.settings import ALIASES, DATASETS, settings
from seedpod.config.wording import complaint, did_you_mean, nearest, shown

WHERE = "command line"
COMMANDS = {
    "help": "show this text",
    "config": "show what a search would run with, and where each value is from",
    "doctor": "check key, endpoint, workers, image and data set before a remote search",
    "report": "write report.html of a run, also while it is searched: run=RUN",
    "final": "train the final model of a run, or export it: run=RUN",
    "evaluate": "measure a run's final model on the test images again: run=RUN",
    "predict": "print class and probability for pictures: run=RUN FILE...",
    "endpoint": "serve a RunPod endpoint on this machine until stopped: workers=N, port=N",
}
CONFIG = "config"
RESUME = "resume"
SEE_HELP = "`python optimizer.py help` lists the settings."


def read_arguments(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The values by key, unquoted but not parsed, and a complaint for each argument that is not ``key=value``.

    ``config`` and ``resume`` are among the keys where they were given. Unknown keys are complained about here and
    left out.
    """
    given: dict[str, str] = {}
    complaints: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument.startswith("-"):
            value = rest.pop(0) if _takes_next(argument, rest) else ""
            complaints.append(_about_flag(argument, value))
        elif "=" not in argument:
            complaints.append(complaint(argument, WHERE, _about_word(argument)))
        else:
            why = _take(argument, given)
            if why:
                complaints.append(complaint(_without_secret(argument), WHERE, why))
    return given, complaints


def _take(argument: str, given: dict[str, str]) -> str:
    """Add one ``key=value`` to ``given``, or say why not."""
    key, text = (part.strip() for part in argument.split("=", 1))
    key = ALIASES.get(key, key)
    known = _keys()
    stem, _, name = key.partition(".")
    if name and stem in _assigned():
        return _assign(stem, name, text, given)
    if key not in known:
        hint = did_you_mean(key, known, otherwise=SEE_HELP)
        return f"there is no setting {shown(key)!r}.{hint}" if key else f"there is no key before the =.{hint}"
    if not text:
        return f"the value is empty. Leave {key} out to have its default, or write {key}=VALUE without a space."
    if key in given:
        return f"{key} is given twice, first as {key}={shown(given[key])}; keep one."
    given[key] = unquoted(text)
    return ""


def _assign(key: str, name: str, text: str, given: dict[str, str]) -> str:
    """Add one ``key.name=text`` to those of its key, or say why not."""
    before = given.get(key, "")
    if f";{name}=" in f";{before}":
        return f"{key}.{name} is given twice; keep one."
    if not text:
        return f"the value is empty. Leave {key}.{name} out, or write {key}.{name}=VALUE without a space."
    given[key] = f"{before};{name}={unquoted(text)}".lstrip(";")
    return ""


def _assigned() -> list[str]:
    return [setting.name for setting in settings() if isinstance(setting.kind, Assignments)]


def _without_secret(argument: str) -> str:
    """The argument; without its value where the key is unknown, for it may be a password under a wrong name."""
    key = argument.split("=", 1)[0]
    name = key.strip().partition(".")[0]
    return argument if ALIASES.get(name, name) in _keys() else f"{key}=..."


def _takes_next(flag: str, rest: Sequence[str]) -> bool:
    """Whether the word after ``flag`` is meant as its value, as in ``--trials 5``."""
    return "=" not in flag and flag not in {"-h", "--help"} and bool(rest) and not _starts_anew(rest[0])


def _starts_anew(argument: str) -> bool:
    return argument.startswith("--") or argument.split("=", 1)[0].strip() in _keys()


def _about_flag(flag: str, value: str) -> str:
    name, _, attached = flag.partition("=")
    if flag in {"-h", "--help"}:
        return complaint(flag, WHERE, "write help: `python optimizer.py help`.")
    key = nearest(name.lstrip("-"), _keys())
    if key is None:
        # Without the value, which may be a password.
        return complaint(name, WHERE, f"settings are written key=value, without dashes. {SEE_HELP}")
    default = "true" if any(s.name == key and isinstance(s.kind, Truth) for s in settings()) else "VALUE"
    typed = f"{flag} {value}" if value else flag
    return complaint(typed, WHERE, f"write {key}={shown(attached or value or default)}")


def _about_word(word: str) -> str:
    if word in COMMANDS:
        return f"{word} is a command and comes first: `python optimizer.py {word}`."
    setting = _setting_of(word)
    if setting is not None:
        return f"settings are written key=value; did you mean {setting}={shown(word)}?"
    meant = nearest(word, [*_keys(), *COMMANDS])
    if meant is None:
        return f"settings are written key=value, such as trials=5. {SEE_HELP}"
    how = f"`python optimizer.py {meant}`" if meant in COMMANDS and meant != CONFIG else f"{meant}=VALUE"
    return f"settings are written key=value; did you mean {how}?"


def _setting_of(word: str) -> str | None:
    """The setting that a bare word looks like a value of."""
    if word in DATASETS or word.endswith(".npz"):
        return "dataset"
    if word.endswith((".yaml", ".yml")):
        return CONFIG
    choices = {option.name: s.name for s in settings() if isinstance(s.kind, Choice) for option in s.kind.options}
    return choices.get(word)


def _keys() -> list[str]:
    return [CONFIG, RESUME, *(setting.name for setting in settings())]
