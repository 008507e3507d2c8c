"""benchmarks/run.py: one command, one table, a file to compare with."""

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "benchmarks" / "results" / "readme.json"


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks" / "run.py"), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_list_names_every_benchmark_with_what_it_measures() -> None:
    """Each file that finds rows is in the list, with a line on what it measures."""
    lines = run("--list").stdout.splitlines()
    files = (ROOT / "benchmarks").glob("*.py")
    assert {line.split()[0] for line in lines} == {p.stem for p in files if "-> Found:" in p.read_text("utf-8")}
    assert all(len(line.split()) > 4 for line in lines)


def test_a_benchmark_runs_alone_and_is_kept(tmp_path: Path) -> None:
    """One benchmark by its name gives its rows and a file without names of this machine or its folders."""
    done = run("help", "--quick", "--json", tmp_path / "kept.json")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "kept.json").read_text("utf-8")
    kept = json.loads(text)
    [row] = kept["rows"]
    assert (row["name"], row["unit"], len(row["ours"]), len(row["theirs"])) == ("help", "s", 3, 3)
    assert set(kept) == {"schema", "made", "command", "seconds", "load", "machine", "rows", "notes"}
    assert kept["command"] == "python benchmarks/run.py help --quick"
    assert {"processor", "cores", "memory_gb", "python", "packages"} <= set(kept["machine"])
    assert socket.gethostname() not in text
    assert str(ROOT) not in text
    assert str(tmp_path) not in text
    assert "| python optimizer.py help |" in done.stdout


def test_what_became_worse_than_its_spread_is_named(tmp_path: Path) -> None:
    """A row beyond its spread and 5 % is named with exit code 1; one within them, a better or another one is not."""
    now, before = tmp_path / "now.json", tmp_path / "before.json"
    rows = {
        "fallen": ([1.0, 1.0], [0.8, 0.8]),
        "within its spread": ([1.0, 0.7], [0.9, 0.6]),
        "within 5 %": ([1.0], [0.96]),
        "better": ([1.0], [2.0]),
    }
    now.write_text(json.dumps(_kept({name: after for name, (_, after) in rows.items()} | {"new": [0.1]})))
    before.write_text(json.dumps(_kept({name: earlier for name, (earlier, _) in rows.items()})))
    compared = run("--show", now, "--against", before)
    assert compared.returncode == 1
    worse = [line for line in compared.stdout.splitlines() if line.startswith("worse:")]
    assert worse == ["worse: fallen: 0.800 of a floor, and 1.000 before"]
    same = run("--show", before, "--against", before)
    assert (same.returncode, same.stdout.splitlines()[-1]) == (0, "nothing became worse")


def test_what_is_no_run_or_no_benchmark_is_refused(tmp_path: Path) -> None:
    """A file of another kind and a name that is no benchmark's end the command before anything runs."""
    (tmp_path / "other.json").write_text('{"schema": 0}')
    refused = run("help", "--against", tmp_path / "other.json")
    assert refused.returncode == 1
    assert "other.json is no kept run: its schema is 0" in refused.stderr
    unknown = run("halp")
    assert unknown.returncode == 2
    assert "there is no benchmark halp" in unknown.stderr


def test_readme_shows_the_run_that_is_kept() -> None:
    """README's results are what the committed run renders as."""
    readme = (ROOT / "README.md").read_text("utf-8")
    section = readme.split("<!-- results: benchmarks/run.py --readme -->")[1].split("<!-- /results -->")[0]
    assert section.strip() == run("--show", KEPT).stdout.strip()


def _kept(ratios: dict[str, list[float]]) -> dict[str, Any]:
    """A kept run with these rows: more of ours is better, the floor is 1."""
    kept: dict[str, Any] = json.loads(KEPT.read_bytes())
    kept["rows"] = [
        {
            "name": name,
            "what": name,
            "unit": "s",
            "ours": found,
            "against": "a floor",
            "theirs": [1.0] * len(found),
            "more_is_better": True,
            "target": None,
        }
        for name, found in ratios.items()
    ]
    return kept
