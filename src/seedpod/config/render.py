"""The settings as text: ``help``, ``config``, the file in a run's folder, and README's table."""

from collections.abc import Sequence
from textwrap import wrap

from seedpod.config.command_line import COMMANDS, WHERE
from seedpod.config.kinds import Choice
from seedpod.config.layers import LoadedConfig
from seedpod.config.setting import Setting
from seedpod.config.settings import ALIASES, OptimizationConfig, settings
from seedpod.config.wording import complaint, did_you_mean, shown
from seedpod.errors import ConfigError

EXIT_CODES = {
    0: "done",
    1: "no trial succeeded, a picture could not be read (predict), or a bug",
    2: "a mistake in the settings; nothing has run",
    3: "the endpoint cannot be used",
    4: "the search is done and saved, but its final model could not be made",
    130: "interrupted by Ctrl-C; results are saved",
    143: "interrupted by SIGTERM; results are saved",
}
EXAMPLES = {
    "python optimizer.py": "20 trials on the digits that come with scikit-learn",
    "python optimizer.py dataset=mnist trials=5 local_workers=auto": "5 trials on MNIST, several at once",
    "python optimizer.py predict run=RUN images/*.png": "what the run's final model sees in pictures",
}
_INTRODUCTION = """\
Searches the hyperparameters of an image classifier.

Usage: python optimizer.py [COMMAND] [config=FILE.yaml | resume=RUN] [key=value ...]

A key=value wins over the environment (SEEDPOD_TRIALS for trials), which wins over the file.
resume=RUN goes on with a run under the settings that it had."""
_NARROWEST = 60
_FILE_KEYS = {
    "config=FILE.yaml": "settings from a file, one `key: value` a line",
    "resume=RUN": "go on with a run, a folder of results/, under the settings that it had",
    "run=RUN": "the run that report, final, evaluate or predict works on",
}


def help_text(width: int) -> str:
    """What ``python optimizer.py help`` prints, in lines of at most ``width`` (60 or more) characters."""
    width = max(width, _NARROWEST)
    parts = ["\n".join(line for text in _INTRODUCTION.split("\n") for line in wrap(text, width) or [""])]
    parts.append(_section("Commands", {"(none)": "run a search", **COMMANDS}, width))
    for group in _groups():
        rows = {f"{s.name}={s.kind.show(s.default)}": _sentence(s) for s in settings() if s.group == group}
        parts.append(_section(group, rows, width))
    parts.append(_section("Exit codes", {str(code): text for code, text in EXIT_CODES.items()}, width))
    parts.append("Examples\n" + "\n".join(f"  {line}" for line in EXAMPLES))
    return "\n\n".join(parts) + "\n"


def help_on(words: Sequence[str], width: int) -> str:
    """What ``python optimizer.py help WORD...`` prints: of each word its setting, or its command.

    Raises:
        ConfigError: A word is neither.
    """
    width = max(width, _NARROWEST)
    known, others = {setting.name: setting for setting in settings()}, {**COMMANDS, **_FILE_KEYS}
    sections = []
    for word in words:
        key = word.partition("=")[0].strip()
        found = known.get(ALIASES.get(key, key))
        if found is not None:
            sections.append(
                _section(found.group, {f"{found.name}={found.kind.show(found.default)}": _sentence(found)}, width)
            )
        elif key in {name.partition("=")[0] for name in others}:
            rows = {name: text for name, text in others.items() if name.partition("=")[0] == key}
            sections.append(_section("Usage", rows, width))
        else:
            hint = did_you_mean(key, [*known, *COMMANDS, "resume"])
            why = f"is neither a setting nor a command.{hint} `python optimizer.py help` lists all."
            raise ConfigError(complaint(f"help {shown(word)}", WHERE, why))
    return "\n\n".join(sections) + "\n"


def origins_text(loaded: LoadedConfig) -> str:
    """What ``python optimizer.py config`` prints: a valid config file, each line with where its value came from."""
    lines = to_yaml(loaded.config).splitlines()
    width = max(map(len, lines))
    origins = (loaded.origins[setting.name] for setting in settings())
    return "".join(f"{line:<{width}}  # {origin}\n" for line, origin in zip(lines, origins, strict=True))


def to_yaml(config: OptimizationConfig) -> str:
    """The whole config as a file that ``config=FILE.yaml`` reads back as an equal one. Equal configs, equal bytes."""
    return "".join(f"{s.name}: {s.kind.to_yaml(getattr(config, s.name))}\n" for s in settings())


def markdown_table() -> str:
    """README's table of settings."""
    lines = ["| Setting | Default | Meaning |", "|---|---|---|"]
    for group in _groups():
        lines.append(f"| **{group}** | | |")
        for s in settings():
            if s.group == group:
                meaning = _sentence(s).replace("|", "\\|")
                lines.append(f"| `{s.name}` | `{s.kind.show(s.default)}` | {meaning} |")
    return "\n".join(lines) + "\n"


def _groups() -> list[str]:
    return list(dict.fromkeys(setting.group for setting in settings()))


def _sentence(setting: Setting) -> str:
    """Help, values with their unit, and what is not built yet."""
    text = f"{setting.help[0].upper()}{setting.help[1:]} ({setting.kind.wanted})."
    if setting.awaits:
        text += f" Not yet: awaits {setting.awaits}."
    elif isinstance(setting.kind, Choice):
        later = [option.name for option in setting.kind.options if option.awaits]
        text += f" Not yet: {', '.join(later)}." if later else ""
    return text


def _section(title: str, rows: dict[str, str], width: int) -> str:
    """A heading over two aligned columns; the right one starts on its own line where the page is narrow."""
    left = max(map(len, rows)) + 4
    stacked = width - left < _NARROWEST / 2
    lines = [title]
    for head, text in rows.items():
        indent = 6 if stacked else left
        body = wrap(text, width - indent, break_on_hyphens=False)
        if stacked:
            lines.append(f"  {head}")
        else:
            lines.append(f"  {head}".ljust(left) + body.pop(0))
        lines += [" " * indent + line for line in body]
    return "\n".join(lines)
