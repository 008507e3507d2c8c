"""The key does not show."""

import copy
import json
import logging
import pickle
from dataclasses import asdict, dataclass

import pytest
from rig import KEY

from seedpod.errors import ConfigError
from seedpod.remote.secret import MASK, Secret


@dataclass
class Holder:
    key: Secret


def test_it_shows_in_no_text() -> None:
    """Neither repr, str, format nor a data class that holds it shows the key."""
    secret = Secret(KEY)
    texts = [
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret!r:>80}",
        "{} {!r}".format(secret, secret),  # noqa: UP032
        repr(Holder(secret)),
    ]
    assert not [text for text in texts if KEY in text]
    assert secret.reveal() == KEY


def test_it_shows_in_no_copy(caplog: pytest.LogCaptureFixture) -> None:
    """Copies stay secrets; pickle and JSON refuse, without quoting it; a log shows the mask."""
    secret = Secret(KEY)
    assert copy.copy(secret) is copy.deepcopy(secret) is asdict(Holder(secret))["key"] is secret
    for write in (pickle.dumps, json.dumps):
        with pytest.raises(TypeError) as caught:
            write(secret)
        assert KEY not in str(caught.value)
    logging.getLogger("t").warning("key %s", secret)
    assert MASK in caplog.text
    assert KEY not in caplog.text


def test_it_is_taken_out_of_foreign_texts() -> None:
    """Redacting masks the key as it is and as it stands in a URL."""
    assert Secret("a+b/c").redact("k=a+b/c&k=a%2Bb%2Fc.") == f"k={MASK}&k={MASK}."


@pytest.mark.parametrize("key", ["", " \n", "two words", "line\nbreak", "schlüssel", "nul\0"])
def test_what_is_no_key_is_refused(key: str) -> None:
    """A key that cannot stand in a header is a setting that is wrong; the message names it and does not quote it."""
    with pytest.raises(ConfigError, match="RUNPOD_API_KEY") as caught:
        Secret(key)
    assert not key.strip() or key not in str(caught.value)


def test_blanks_around_it_are_dropped() -> None:
    """A key that was copied with its line end works."""
    assert Secret(f" {KEY}\n").reveal() == KEY
