"""Where the key comes from, and that no refusal quotes it."""

from pathlib import Path

import pytest

from runpod_rig import Lines
from seedpod.errors import ConfigError
from seedpod.keys import take_key, with_dotenv

KEY = "rpa_ABCDEFGHIJKLMNOP0123456789"


def revealed(words: list[str], environment: dict[str, str]) -> tuple[list[str], str | None, list[str]]:
    said = Lines()
    rest, key = take_key(words, environment, said)
    return rest, None if key is None else key.reveal(), said.all()


def test_no_key_is_no_mistake() -> None:
    """Where there is no key the command line is as it was, and nothing is said."""
    assert revealed(["trials=3"], {}) == (["trials=3"], None, [])
    assert revealed([], {"RUNPOD_API_KEY": "  "}) == ([], None, [])


def test_the_environment_gives_the_key() -> None:
    """RUNPOD_API_KEY is taken without blanks and without a word."""
    assert revealed(["trials=3"], {"RUNPOD_API_KEY": f" {KEY}\n"}) == (["trials=3"], KEY, [])


@pytest.mark.parametrize(
    "word",
    [
        f"runpod_api_key={KEY}",
        f"RUNPOD_API_KEY={KEY}",
        f"api_key='{KEY}'",
        f'runpod_api_key="{KEY}"',
        f"--runpod-api-key={KEY}",
        f" Runpod_Api_Key = {KEY} ",
    ],
)
def test_a_key_among_the_words_is_taken_out_with_a_warning(word: str) -> None:
    """However it is written, it wins over the environment, leaves the command line, and the warning hides it."""
    rest, key, said = revealed(["trials=3", word, "dataset=digits"], {"RUNPOD_API_KEY": "other"})
    assert (rest, key, len(said)) == (["trials=3", "dataset=digits"], KEY, 1)
    assert "list of processes" in said[0]
    assert "RUNPOD_API_KEY" in said[0]
    assert KEY not in said[0]


@pytest.mark.parametrize(
    "words",
    [
        [f"runpod_apikey={KEY}"],
        ["--runpod_api_key", KEY],
        [KEY],
        [f"runpod_service_endpoint={KEY}"],
        [f"runpod_service_endpoint=https://api.runpod.ai/v2/{KEY}"],
        [f"run_name={KEY}"],
        [f"api_key={KEY}", f"runpod_api_key={KEY}"],
        ["runpod_api_key="],
        [f"runpod_api_key={KEY} and more"],
    ],
)
def test_a_key_where_none_belongs_is_refused_unquoted(words: list[str]) -> None:
    """Under another name, twice, empty or not a key: one sentence that names the variable and not the key."""
    with pytest.raises(ConfigError, match="RUNPOD_API_KEY") as caught:
        revealed(words, {})
    assert KEY not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_dotenv_fills_what_the_environment_lacks(tmp_path: Path) -> None:
    """Key and endpoint come from .env where the environment has none, or an empty one; nothing else does."""
    (tmp_path / ".env").write_text(f'export RUNPOD_API_KEY="{KEY}"\nRUNPOD_ENDPOINT_ID=abc # mine\nSEEDPOD_TRIALS=9\n')
    assert with_dotenv({}, tmp_path) == {"RUNPOD_API_KEY": KEY, "RUNPOD_ENDPOINT_ID": "abc"}
    given = {"RUNPOD_API_KEY": "mine", "RUNPOD_ENDPOINT_ID": " ", "HOME": "/"}
    assert with_dotenv(given, tmp_path) == {**given, "RUNPOD_ENDPOINT_ID": "abc"}


def test_a_key_is_not_expanded(tmp_path: Path) -> None:
    """A dollar in a key is a dollar."""
    (tmp_path / ".env").write_text("RUNPOD_API_KEY=a${HOME}b\n")
    assert with_dotenv({"HOME": "/"}, tmp_path)["RUNPOD_API_KEY"] == "a${HOME}b"


def test_no_dotenv_is_no_mistake(tmp_path: Path) -> None:
    """Without the file, and with a folder of that name, the environment is as it was."""
    assert with_dotenv({"A": "b"}, tmp_path) == {"A": "b"}
    (tmp_path / ".env").mkdir()
    assert with_dotenv({"A": "b"}, tmp_path) == {"A": "b"}


def test_a_dotenv_that_is_no_text_is_named(tmp_path: Path) -> None:
    """Bytes that are no UTF-8 are refused with the file's path, and without what is in it."""
    (tmp_path / ".env").write_bytes(b"RUNPOD_API_KEY=rpa_\xff\xfe" + KEY.encode())
    with pytest.raises(
        ConfigError, match=r"\.env cannot be read as a list of NAME=value: it is no UTF-8 text"
    ) as caught:
        with_dotenv({}, tmp_path)
    assert KEY not in str(caught.value)
