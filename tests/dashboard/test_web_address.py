"""Port and token of a run: kept for its next start, for nobody else to read or to plant."""

import json
import socket
from contextlib import closing
from pathlib import Path

import pytest

from seedpod.dashboard.web.address import KEPT, bind, bind_asked, settle
from seedpod.errors import ConfigError


def settled(folder: Path, asked: socket.socket | None = None) -> tuple[int, str]:
    bound, token = settle(folder, asked)
    with closing(bound):
        return int(bound.getsockname()[1]), token


def test_next_start_has_the_same_address(tmp_path: Path) -> None:
    """Port and token are those of the run's first start; another run has others."""
    first = settled(tmp_path)
    assert settled(tmp_path) == first
    other = tmp_path / "other"
    other.mkdir()
    assert settled(other)[1] != first[1]
    assert len(first[1]) >= 40


def test_kept_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    """The file has mode 0600 and is written whole: nothing else is left beside it."""
    port, token = settled(tmp_path)
    file = tmp_path / KEPT
    assert file.stat().st_mode & 0o777 == 0o600
    assert json.loads(file.read_text("utf-8")) == {"port": port, "token": token}
    assert list(tmp_path.iterdir()) == [file]


def test_taken_port_gets_another_one_and_another_token(tmp_path: Path) -> None:
    """Where another program has the port by now, the page moves, and the token that it may have heard is void."""
    port, token = settled(tmp_path)
    with closing(bind(port)):
        other_port, other_token = settled(tmp_path)
    assert other_port != port
    assert other_token != token
    assert settled(tmp_path) == (other_port, other_token)


def test_port_that_was_asked_for(tmp_path: Path) -> None:
    """A port that the user gives is the one, also where the run had another; it may be left and taken again at once."""
    settled(tmp_path)
    with closing(bind(0)) as free:
        port = int(free.getsockname()[1])
    first = settled(tmp_path, bind_asked(port))
    assert first[0] == port
    assert settled(tmp_path, bind_asked(port)) == first


def test_taken_port_that_was_asked_for() -> None:
    """A port in use is refused before anything runs, by name and with what to do."""
    with closing(bind(0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"^web_port={port}: .*Choose another port"):
            bind_asked(port)


@pytest.mark.parametrize(
    "planted",
    [
        "",
        "{",
        "[]",
        "null",
        '{"port": 0, "token": "%s"}' % ("x" * 43),
        '{"port": "80", "token": "%s"}' % ("x" * 43),
        '{"port": 70000, "token": "%s"}' % ("x" * 43),
        '{"port": 40000, "token": "short"}',
        '{"port": 40000, "token": 5}',
        '{"port": 40000}',
        '{"port": 40000, "token": "%s", "more": 1}' % ("x" * 43),
    ],
)
def test_odd_file_counts_as_none(tmp_path: Path, planted: str) -> None:
    """What is no kept address is replaced by one."""
    file = tmp_path / KEPT
    file.write_text(planted, "utf-8")
    file.chmod(0o600)
    _, token = settled(tmp_path)
    assert len(token) >= 40


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o606])
def test_file_that_others_could_read_or_write_is_not_trusted(tmp_path: Path, mode: int) -> None:
    """A token that another user may know is made anew, and the file closed."""
    _, token = settled(tmp_path)
    (tmp_path / KEPT).chmod(mode)
    assert settled(tmp_path)[1] != token
    assert (tmp_path / KEPT).stat().st_mode & 0o777 == 0o600


def test_link_is_not_followed(tmp_path: Path) -> None:
    """A link in the file's place is replaced, and what it leads to stays as it was."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text('{"port": 40000, "token": "%s"}' % ("x" * 43), "utf-8")
    elsewhere.chmod(0o600)
    (tmp_path / KEPT).symlink_to(elsewhere)
    assert settled(tmp_path)[1] != "x" * 43
    assert "x" * 43 in elsewhere.read_text("utf-8")
    assert not (tmp_path / KEPT).is_symlink()
