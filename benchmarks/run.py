"""Measure seedpod beside its peers and its floors: one command, one table.

    python benchmarks/run.py [NAME ...] [--quick] [--json FILE] [--against FILE]
    python benchmarks/run.py --list
    python benchmarks/run.py --show FILE [--against FILE]     # a kept run, without measuring anything
    python benchmarks/run.py --readme FILE                    # writes README's section of results from a kept run

Without names all benchmarks run. Each row is a ratio of two measures of the same run: how many times as good as a peer,
or which share of what a floor allows; 1 is as good, more is better. The range is that of the repeats. Peers come from
the extra ``bench``; one that is not installed is named under the table. A run is kept in ``benchmarks/results``, where
git does not look; ``--against`` compares with a kept run, and ends with exit code 1 where a row became worse by more
than its spread.
"""

import argparse
import ast
import importlib
import json
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from apart import briefly  # noqa: E402 - found beside this file, wherever it is called from
from machine import load, machine, sentence  # noqa: E402
from rows import Note, Row, as_json, rows_of, table, worse  # noqa: E402

ROOT = HERE.parent
BEGIN, END = "<!-- results: benchmarks/run.py --readme -->", "<!-- /results -->"
BENCHMARKS = (
    "help",
    "startup",
    "per_trial",
    "local_efficiency",
    "many_trials",
    "suggestion",
    "remote_efficiency",
    "throughput",
    "training_speed",
    "fresh_process",
    "latency",
    "progress",
    "dashboard_overhead",
    "lag",
    "refill",
    "shared_pages",
    "epochs_saved",
    "same_study",
    "search_quality",
)
LONG = ("lag", "refill", "shared_pages", "epochs_saved", "same_study", "search_quality")
"""Those that ``--quick`` leaves out where no name is given, so that all others together take under five minutes."""


def main(words: Sequence[str] | None = None) -> int:
    """Run what was asked for; the exit code."""
    options = _parsed(words)
    if options.list:
        for name in BENCHMARKS:
            print(f"{name:20}{describe(name)}")
        return 0
    if options.readme:
        _write_readme(_read(options.readme))
        return 0
    before = _read(options.against) if options.against else None
    if options.show:
        kept = _read(options.show)
    else:
        path = options.json or HERE / "results" / f"{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
        kept = _run(options.names, path, quick=options.quick)
        print(f"kept in {path}", file=sys.stderr)
    print("\n".join(rendered(kept)))
    return 0 if before is None else _compare(kept, before)


def describe(name: str) -> str:
    """The first line of what a benchmark says of itself, without importing it."""
    text = ast.get_docstring(ast.parse((HERE / f"{name}.py").read_text(encoding="utf-8"))) or ""
    return text.splitlines()[0]


def rendered(kept: dict[str, Any]) -> list[str]:
    """A kept run as text: what it was measured with, the table, and what has no row."""
    measured = f"Measured on {kept['made']} by `{kept['command']}`, with a load of {kept['load']:g} before it:"
    lines = [f"{measured} {sentence(kept['machine'])}.", "", *table(rows_of(kept))]
    if kept["notes"]:
        lines += ["", *(f"- No row of {note['name']}: {note['why']}" for note in kept["notes"])]
    return lines


def _parsed(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="benchmarks to run; all where none is named")
    parser.add_argument("--list", action="store_true", help="name the benchmarks and what each measures")
    parser.add_argument("--quick", action="store_true", help="smaller sizes, fewer repeats: under five minutes in all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to keep the run")
    parser.add_argument("--against", type=Path, metavar="FILE", help="compare with a kept run")
    parser.add_argument("--show", type=Path, metavar="FILE", help="show a kept run")
    parser.add_argument("--readme", type=Path, metavar="FILE", help="write README's results from a kept run")
    options = parser.parse_args(words)
    unknown = [name for name in options.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"there is no benchmark {', '.join(unknown)}; --list names those that there are")
    return options


def _run(names: Sequence[str], path: Path, *, quick: bool) -> dict[str, Any]:
    """Run and keep, after each benchmark what is known so far."""
    about = {
        "made": f"{datetime.now(UTC):%Y-%m-%d}",
        "command": " ".join(["python benchmarks/run.py", *names, *(["--quick"] if quick else [])]),
        "load": load(),
        "machine": machine(),
    }
    rows: list[Row] = []
    notes: list[Note] = []
    began = time.monotonic()
    chosen = names or [name for name in BENCHMARKS if not (quick and name in LONG)]
    if quick and not names:
        notes += [Note(name, "it takes long: name it, or leave --quick away") for name in LONG]
    kept: dict[str, Any] = {}
    for name in chosen:
        since = time.monotonic()
        print(f"{name}: {describe(name)}", file=sys.stderr, flush=True)
        try:
            for each in importlib.import_module(name).rows(quick):
                (rows if isinstance(each, Row) else notes).append(each)
                print(f"  {each.name}: {_briefly(each)}", file=sys.stderr, flush=True)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - one that fails takes no other's rows with it
            notes.append(Note(name, briefly(error)))
            print(f"  {error}", file=sys.stderr, flush=True)
        print(f"  {time.monotonic() - since:.0f} s", file=sys.stderr, flush=True)
        kept = as_json(rows, notes, {**about, "seconds": round(time.monotonic() - began)})
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return kept


def _briefly(found: Row | Note) -> str:
    return found.why if isinstance(found, Note) else f"{found.ratio:.3f} of {found.against}"


def _read(path: Path) -> dict[str, Any]:
    try:
        kept: dict[str, Any] = json.loads(path.read_bytes())
        rows_of(kept)
    except (OSError, ValueError) as error:
        sys.exit(f"{path} is no kept run: {error}")
    return kept


def _compare(kept: dict[str, Any], before: dict[str, Any]) -> int:
    """Say what became worse; the exit code."""
    if kept["machine"] != before["machine"]:
        print(f"\nthe earlier run was measured with: {sentence(before['machine'])}")
    lines = worse(rows_of(kept), rows_of(before))
    print("\n".join(["", *(f"worse: {line}" for line in lines)]) if lines else "\nnothing became worse")
    return int(bool(lines))


def _write_readme(kept: dict[str, Any]) -> None:
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    section = [f"{head}{BEGIN}", "", *rendered(kept), "", f"{END}{tail}"]
    readme.write_text("\n".join(section), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
