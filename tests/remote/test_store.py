"""The store, on a real S3 server: each object is uploaded once, whatever is killed, and its keys show nowhere."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from runpod_rig import Lines
from seedpod.errors import ConfigError, EndpointRefused, EndpointUnreachable, TrialCancelled
from seedpod.remote.store import LONGEST_LIFE
from seedpod.trial import LONGEST_URL, object_of
from store_rig import BUCKET, KEYS, PART, UNCONFIGURED, Server, s3_server, store_at

pytestmark = pytest.mark.processes

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module", name="server")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@dataclass(frozen=True)
class Pattern:
    """Bytes that tell where they are from; killed, or stopped, when they are read from a certain part on."""

    letter: str
    size: int
    deadly: int = -1

    @property
    def name(self) -> str:
        return f"{self.letter * 64}.tar"

    def read(self, offset: int, count: int) -> bytes:
        if offset // PART == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return (b"%08d" % (offset // PART) * (count // 8 + 1))[: min(count, self.size - offset)]


def stored(server: Server, content: Pattern) -> bytes:
    (path,) = server.folder.rglob(content.name)
    return path.read_bytes()


def whole(content: Pattern) -> bytes:
    return b"".join(content.read(at, PART) for at in range(0, content.size, PART))


@pytest.mark.parametrize("size", [1000, 2 * PART + 1], ids=["small", "in parts"])
def test_an_object_is_uploaded_once(server: Server, size: int) -> None:
    """What is there, whole, is not sent again; what is sent arrives byte for byte."""
    content, lines = Pattern("a" if size == 1000 else "b", size), Lines()
    store = store_at(server.url)
    store.upload(content, lines)
    assert stored(server, content) == whole(content)
    sent = server.asked("PUT", content.name)
    store.upload(content, lines)
    assert server.asked("PUT", content.name) == sent
    assert lines.all() == [
        f"uploading the data set: {size / 1e6:,.1f} MB to s3://{BUCKET}/p",
        f"uploaded {size / 1e6:,.1f} MB to s3://{BUCKET}/p",
    ]


KILLED = """
from test_store import *
from store_rig import *
store_at(sys.argv[1]).upload(Pattern("c", 4 * PART + 1, deadly=2), print)
"""


def test_a_killed_upload_goes_on(server: Server) -> None:
    """After a kill in the third of five parts, the next upload sends the last three alone, and the object is whole."""
    path = os.pathsep.join([str(TESTS), str(TESTS / "remote")])
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, server.url],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    content, lines = Pattern("c", 4 * PART + 1), Lines()
    assert len(server.asked("PUT", content.name)) == 2
    store_at(server.url).upload(content, lines)
    assert len(server.asked("PUT", content.name)) == 5
    assert stored(server, content) == whole(content)
    assert lines.having("going on with an earlier upload, 50 % of which is there")


def test_a_stopped_upload_goes_on(server: Server) -> None:
    """A search that is stopped leaves its upload after the part that is on its way, and the next one goes on."""
    content, looks = Pattern("d", 3 * PART), iter([False, True])
    store = store_at(server.url)
    with pytest.raises(TrialCancelled):
        store.upload(content, lambda _: None, lambda: next(looks))
    store.upload(content, lambda _: None)
    assert len(server.asked("PUT", content.name)) == 3
    assert stored(server, content) == whole(content)


def test_an_object_of_another_size_is_sent_again(server: Server) -> None:
    """Half an object under the right name, as a careless copy leaves it, is not taken for it."""
    content = Pattern("e", 1000)
    (server.folder / BUCKET / "p").mkdir(exist_ok=True)
    (server.folder / BUCKET / "p" / content.name).write_bytes(b"half")
    store_at(server.url).upload(content, lambda _: None)
    assert stored(server, content) == whole(content)


def test_an_address_fits_into_a_request_and_has_no_secret(server: Server) -> None:
    """Workers take the address; it holds the public part of the key alone, and lasts no longer than signatures do."""
    url = store_at(server.url).url(Pattern("f", 1).name, 10 * LONGEST_LIFE)
    assert object_of(url) == Pattern("f", 1).name
    assert KEYS["AWS_SECRET_ACCESS_KEY"] not in url
    assert f"X-Amz-Expires={LONGEST_LIFE}" in url
    store_at(server.url).check()


def test_addresses_of_aws_name_their_region() -> None:
    """On AWS the bucket is in the host's name, with its region, so that nobody is sent elsewhere."""
    url = store_at("", bucket="some-bucket", AWS_DEFAULT_REGION="eu-central-1").url(f"{'0' * 64}.tar", 60)
    assert url.startswith(f"https://some-bucket.s3.eu-central-1.amazonaws.com/p/{'0' * 64}.tar?")


REFUSED = [
    ({"AWS_SECRET_ACCESS_KEY": "another"}, BUCKET, "refuses the keys"),
    ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, BUCKET, "there are no keys"),
    ({}, "elsewhere", "no such bucket"),
]


@pytest.mark.parametrize(("keys", "bucket", "said"), REFUSED, ids=["bad keys", "no keys", "no bucket"])
def test_what_is_refused_says_what_to_do(server: Server, keys: dict[str, str], bucket: str, said: str) -> None:
    """Bad keys, none and an unknown bucket are told apart, without a key in the message."""
    with pytest.raises(EndpointRefused, match=said) as caught:
        store_at(server.url, bucket=bucket, **keys).check()
    assert not [key for key in (*KEYS.values(), "another") if key in f"{caught.value} {caught.value.detail}"]


def test_temporary_keys_are_refused_by_their_length(server: Server) -> None:
    """A session token makes addresses too long for a request, and that is said before anything runs."""
    with pytest.raises(ConfigError, match="temporary"):
        store_at(server.url, AWS_SESSION_TOKEN="t" * LONGEST_URL).check()


def test_a_store_that_is_away_is_out_of_reach() -> None:
    """No answer is another matter than a refusal: it may be back."""
    store = store_at("http://127.0.0.1:1")
    with pytest.raises(EndpointUnreachable, match=r"cannot be reached \(EndpointConnectionError\)"):
        store.check()


def test_a_missing_extra_is_said() -> None:
    """Without boto3 the command to install it is named."""
    program = "import seedpod.remote.store as s\ntry: s.DataStore('s3://b/p')\nexcept s.ConfigError as e: print(e)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],
        env={**os.environ, "PYTHONPATH": str(TESTS.parent / "src"), **UNCONFIGURED},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "uv run --extra s3 optimizer.py" in done.stdout
