"""``dashboard=web`` from the command line."""

import json
import re
import signal
import stat
import threading
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from command_rig import QUICK, WITHOUT_KERAS, eventually, run, start
from seedpod.dashboard.web.address import KEPT, bind
from web_rig import get, watching

pytestmark = pytest.mark.processes

ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+/\?token=\S+")


def test_taken_port_stops_before_anything_runs(tmp_path: Path) -> None:
    """A port in use is a mistake in the settings: exit code 2, one line, and no folder."""
    with closing(bind(0)) as taken:
        port = taken.getsockname()[1]
        done = run("dashboard=web", f"web_port={port}", "trials=1", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        f"web_port={port}: cannot serve the page there (Address already in use). Choose another port, or leave "
        f"web_port out for a free one.\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_port_without_page_is_said_to_be_unused(tmp_path: Path) -> None:
    """web_port alone does nothing, and says so; no address is printed."""
    remote = ("use_runpod_service=true", "runpod_service_endpoint=abc", "runpod_service_fallback_local=false")
    done = run("web_port=8000", *remote, cwd=tmp_path)  # without a key it ends soon
    assert done.returncode == 3
    assert "web_port: for dashboard=web alone." in done.stdout
    assert not ADDRESS.search(done.stdout)


def test_page_and_metrics_of_a_search(tmp_path: Path, digits_cache: Path) -> None:
    """Beside the lines of a pipe there are page and metrics; Ctrl-C is told to who watches, and ends in time."""
    words = ("dashboard=web", "run_name=r", "trials=50", f"cache_dir={digits_cache}", *QUICK)
    process = start(*words, cwd=tmp_path, program=WITHOUT_KERAS, STAND_IN_SECONDS="2")
    assert process.stdout is not None
    with process, process.stdout as lines:
        url = next(found.group() for line in lines if (found := ADDRESS.search(line)))
        token = url.rpartition("=")[2]
        kept = tmp_path / "results" / "r" / KEPT
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        assert json.loads(kept.read_text("utf-8"))["token"] == token
        rest: list[str] = []
        reader = threading.Thread(target=lambda: rest.extend(lines))
        reader.start()
        with watching(url) as stream:
            assert any(message.get("ended") for message in stream)
            assert eventually(lambda: _trials_by_state(url)["completed"] >= 1, 10)  # told a moment after the trial
            assert sum(_trials_by_state(url).values()) == 50
            process.send_signal(signal.SIGINT)
            assert [message for message in stream if "over" in message][-1]["over"]["outcome"] == "interrupted"
        assert eventually(lambda: process.poll() is not None, 10)
        reader.join()
    assert process.returncode == 130
    text = "".join(rest)
    assert "best so far" in text
    assert "\x1b" not in text
    files = [path for path in (tmp_path / "results").rglob("*") if path.is_file()]
    assert [path.name for path in files if token in path.read_text("utf-8", "replace")] == [KEPT]


def _trials_by_state(url: str) -> dict[str, float]:
    families = {family.name: family for family in text_string_to_metric_families(get(url, "/metrics").body)}
    return {sample.labels["state"]: sample.value for sample in families["seedpod_trials"].samples}
