"""Files are whole at any moment: under readers, kills, full disks and closed folders."""

import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from seedpod.results.files import write_atomic

MANY = 200_000  # characters: several writes to the system


def text_of(letter: str) -> str:
    return letter * MANY + "\n"


def is_whole(text: str) -> bool:
    return len(text) == MANY + 1 and text == text_of(text[0])


def test_writes_what_it_is_given(tmp_path: Path) -> None:
    """The file holds the text as UTF-8 with its own line ends, readable by everybody, and nothing else is left."""
    path = tmp_path / "a.txt"
    write_atomic(path, "ä\n→\r\n")
    assert path.read_bytes() == "ä\n→\r\n".encode()
    assert path.stat().st_mode & 0o777 == 0o644
    write_atomic(path, "")
    assert path.read_bytes() == b""
    assert list(tmp_path.iterdir()) == [path]


def test_readers_see_whole_files_only(tmp_path: Path) -> None:
    """A reader in a loop sees one of the texts that were written, and never a part."""
    path = tmp_path / "a.txt"
    write_atomic(path, text_of("a"))
    done = threading.Event()

    def rewrite() -> None:
        for turn in range(40):
            write_atomic(path, text_of("abcdefgh"[turn % 8]))
        done.set()

    writer = threading.Thread(target=rewrite)
    writer.start()
    seen = set()
    while not done.is_set():
        text = path.read_text(encoding="utf-8")
        assert is_whole(text)
        seen.add(text[0])
    writer.join()
    assert len(seen) > 1


def test_writers_side_by_side_do_not_mix(tmp_path: Path) -> None:
    """Several writers of one file leave one of their texts, whole."""
    path = tmp_path / "a.txt"
    writers = [threading.Thread(target=write_atomic, args=(path, text_of(letter))) for letter in "abcdef"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert is_whole(path.read_text(encoding="utf-8"))
    assert list(tmp_path.iterdir()) == [path]


def program(path: Path, body: str) -> list[str]:
    head = f"""
        import resource, sys
        from pathlib import Path
        from seedpod.results.files import write_atomic
        path = Path({str(path)!r})
    """
    return [sys.executable, "-c", textwrap.dedent(head) + textwrap.dedent(body)]


def test_killed_writer_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    """A writer killed at any moment leaves a whole file, and at most one hidden temporary file beside it."""
    path = tmp_path / "a.txt"
    write_atomic(path, text_of("a"))
    moments = random.Random(1)
    body = f"""
        print("ready", flush=True)
        while True:
            for letter in "bcdefgh":
                write_atomic(path, letter * {MANY} + "\\n")
    """
    for kills in range(1, 9):
        with subprocess.Popen(program(path, body), stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
            time.sleep(moments.uniform(0, 0.03))
            writer.send_signal(signal.SIGKILL)
        assert is_whole(path.read_text(encoding="utf-8"))
        beside = [each for each in tmp_path.iterdir() if each != path]
        assert len(beside) <= kills
        assert all(each.name.startswith(".a.txt.") for each in beside)


def test_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    """Where the text does not fit, the old file stays as it was and nothing half-written is left."""
    path = tmp_path / "a.txt"
    write_atomic(path, "old")
    body = f"""
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        try:
            write_atomic(path, "x" * {MANY})
        except OSError as error:
            print(error.strerror)
    """
    done = subprocess.run(program(path, body), capture_output=True, text=True, check=True)
    assert done.stdout == "File too large\n"
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_missing_folder_is_an_os_error(tmp_path: Path) -> None:
    """A folder that is not there is said so, and is not made."""
    with pytest.raises(FileNotFoundError):
        write_atomic(tmp_path / "missing" / "a.txt", "x")
    assert list(tmp_path.iterdir()) == []


def test_folder_in_the_way_is_an_os_error(tmp_path: Path) -> None:
    """Where the path is a folder, the error comes out and no temporary file stays."""
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_atomic(tmp_path / "a.txt", "x")
    assert [each.name for each in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_unwritable_folder_leaves_the_old_file(tmp_path: Path) -> None:
    """In a folder that cannot be written the old file stays as it was."""
    path = tmp_path / "a.txt"
    write_atomic(path, "old")
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PermissionError):
            write_atomic(path, "new")
    finally:
        tmp_path.chmod(0o700)
    assert path.read_text(encoding="utf-8") == "old"
