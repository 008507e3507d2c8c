"""How complaints about settings are worded: what, where, what to do next."""

import re
from collections.abc import Iterable
from difflib import get_close_matches

_PASSWORD = re.compile(r"(\w+://[^/@:]*):[^/@]*@")
LONGEST = 200
"""Characters of a user's own text that a complaint repeats: most paths in full."""


class Refused(Exception):
    """A value that a setting does not take; the message is the part of the complaint that says why."""


def shown(text: object) -> str:
    """A user's text on one line: control characters escaped, a password in an address and the end of a long one cut."""
    line = _PASSWORD.sub(r"\1:...@", str(text))
    if not line.isprintable():
        line = line.encode("unicode_escape", "backslashreplace").decode("ascii")
    return line if len(line) <= LONGEST else line[: LONGEST - 3] + "..."


def complaint(what: object, where: str, why: str) -> str:
    """One line: ``what (where): why``."""
    return f"{located(what, where)}: {why}"


def located(what: object, where: str) -> str:
    """``what (where)``; ``what`` alone where the value comes from code."""
    return f"{shown(what)} ({where})" if where else shown(what)


def nearest(text: str, known: Iterable[str]) -> str | None:
    """The known word that ``text`` is most like, or the only one that it is a part of: seed is random_seed."""
    by_case = {word.casefold(): word for word in known}
    typed = text.strip().casefold().replace("-", "_")
    close = get_close_matches(typed, by_case, n=8)
    found = sorted(close, key=lambda word: _slips(typed, word))  # of equally near ones, difflib's order
    if not found:
        holders = [word for word in by_case if f"_{typed}_" in f"_{word}_"]
        found = holders if len(holders) == 1 else []
    return by_case[found[0]] if found else None


def _slips(typed: str, word: str) -> int:
    """Characters replaced, left out, put in, or swapped with their neighbour (optimal string alignment distance)."""
    before: list[int] = []
    row = list(range(len(word) + 1))
    for i, a in enumerate(typed, 1):
        before, last, row = row, before, [i]
        for j, b in enumerate(word, 1):
            row.append(min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b)))
            if i > 1 and j > 1 and a == word[j - 2] and b == typed[i - 2]:
                row[j] = min(row[j], last[j - 2] + 1)
    return row[-1]


def did_you_mean(text: str, known: Iterable[str], *, otherwise: str = "") -> str:
    """A sentence to append, with its leading space; ``otherwise`` where nothing is close."""
    word = nearest(text, known)
    if word is not None:
        return f" Did you mean {word}?"
    return f" {otherwise}" if otherwise else ""


def joined(words: Iterable[str], last: str = "or") -> str:
    """``a, b or c``."""
    *head, tail = words
    return f"{', '.join(head)} {last} {tail}" if head else tail
