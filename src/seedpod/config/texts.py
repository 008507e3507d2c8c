"""The kinds of setting that hold free text: names and paths. Always one printable line."""
# ruff: noqa: D102  # the overriding methods mean what Kind says

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seedpod.config.kinds import Kind
from seedpod.config.wording import Refused, did_you_mean, joined, shown

_STORAGE = re.compile(r"sqlite:///.+|postgres(ql)?://[^/]*/.+|grpc://[^:/]+:\d{1,5}")
_TRACKING = re.compile(r"https?://[^/\s]+(/\S*)?")
_BUCKET = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{2,62}")
_PREFIX = re.compile(r"[A-Za-z0-9._/-]*")
_SECURE = re.compile(r"https://[^/\s]+/?|http://(127\.0\.0\.1|localhost|\[::1\])(:\d{1,5})?/?")
_PASSWORD = re.compile(r"\w+://[^/@]*:[^/@]*@")
_ADDRESS = re.compile(r"https://[^/\s]+/\S+|http://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?/\S+")
_OTHER_FILE = re.compile(  # what is surely neither a zip nor an .npz; of others only the content tells
    r"\.(7z|avif|bmp|bz2|csv|gif|gz|html?|jpe?g|json|parquet|pdf|png|rar|tar|tgz|tiff?|txt|webp|xlsx?|xz)$"
)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SUFFIXES = (".npz", ".zip", ".csv", ".parquet")
_FILES = ", ".join(_SUFFIXES)
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_PLAIN_YAML = re.compile(r"(?!(?:y|n|yes|no|on|off|true|false|null)$)[a-z][a-z0-9_./-]*", re.IGNORECASE | re.ASCII)
_LONGEST = 1000  # characters of a path or an address


class _Line(Kind):
    """One line of printable text."""

    __slots__ = ()

    def show(self, value: Any) -> str:
        # Only quotes keep an empty text, white space at the ends, or quotes of the text's own.
        bare = value and value == value.strip() and value[0] not in "'\""
        return str(value) if bare else f"'{value}'"

    def to_yaml(self, value: Any) -> str:
        # Printable text needs no escape between single quotes but for the quote itself.
        return str(value) if _PLAIN_YAML.fullmatch(value) else "'" + str(value).replace("'", "''") + "'"


@dataclass(frozen=True, slots=True)
class Text(_Line):
    """Any text, also the empty one."""

    @property
    def wanted(self) -> str:
        return f"one line of up to {_LONGEST:,} printable characters"

    def check(self, value: object) -> None:
        if not _is_line(value):
            raise self._refuse()


@dataclass(frozen=True, slots=True)
class RunName(_Line):
    """A folder's name that is safe on every file system and in every shell; empty where none is wished."""

    @property
    def wanted(self) -> str:
        return "up to 100 letters, digits, dots, dashes and underscores, not starting with a dot or a dash"

    def check(self, value: object) -> None:
        if value != "" and not (isinstance(value, str) and _FILE_NAME.fullmatch(value)):
            raise self._refuse()


@dataclass(frozen=True, slots=True)
class Folder(_Line):
    """A folder's path; ``~/`` is the home folder and is expanded where the path is used."""

    @property
    def wanted(self) -> str:
        return "a folder's path"

    def check(self, value: object) -> None:
        if not value or not _is_line(value):
            raise self._refuse()
        _check_home(str(value))


@dataclass(frozen=True, slots=True)
class StorageUrl(_Line):
    """The address of an Optuna storage; empty for the run's own journal. Without a password, for settings are saved."""

    @property
    def wanted(self) -> str:
        return "empty, sqlite:///FILE, postgresql://USER@HOST/DATABASE or grpc://HOST:PORT"

    def check(self, value: object) -> None:
        if value == "":
            return
        if not isinstance(value, str) or not _is_line(value) or not _STORAGE.fullmatch(value):
            raise self._refuse()
        if _PASSWORD.match(value):
            raise Refused("holds a password, and settings are saved. Give it by PGPASSWORD or in ~/.pgpass instead.")


@dataclass(frozen=True, slots=True)
class TrackingUri(_Line):
    """Where an MLflow server is; empty for none. Without a password, for settings are saved."""

    @property
    def wanted(self) -> str:
        return "empty, or http(s)://HOST:PORT"

    def check(self, value: object) -> None:
        if value == "":
            return
        if not isinstance(value, str) or not _is_line(value) or not _TRACKING.fullmatch(value):
            raise self._refuse()
        if _PASSWORD.match(value):
            raise Refused(
                "holds a password, and settings are saved. Give it by MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD instead."
            )


@dataclass(frozen=True, slots=True)
class StoreUrl(_Line):
    """A place in an S3-compatible store; empty for none. Keys are boto3's business."""

    @property
    def wanted(self) -> str:
        return "empty, or s3://BUCKET/PREFIX"

    def check(self, value: object) -> None:
        if value == "":
            return
        if not isinstance(value, str) or not _is_line(value) or not value.startswith("s3://"):
            raise self._refuse()
        bucket, _, prefix = value.removeprefix("s3://").partition("/")
        if not _BUCKET.fullmatch(bucket):
            raise Refused(
                f"{shown(bucket)!r} is no bucket's name: that has 3 to 63 letters, digits, dots, dashes and "
                f"underscores, and begins with a letter or digit."
            )
        if not _PREFIX.fullmatch(prefix):
            raise Refused("its PREFIX must be letters, digits, dots, dashes, underscores and slashes.")


@dataclass(frozen=True, slots=True)
class StoreEndpoint(_Line):
    """The address of a store's API; empty for AWS, or what boto3 is configured to."""

    @property
    def wanted(self) -> str:
        return "empty, or https://HOST"

    def check(self, value: object) -> None:
        if value == "":
            return
        if not isinstance(value, str) or not _is_line(value) or not _SECURE.fullmatch(value) or "@" in value:
            raise self._refuse()


@dataclass(frozen=True, slots=True)
class Sha256(_Line):
    """A SHA-256 in hexadecimal digits; empty for none."""

    @property
    def wanted(self) -> str:
        return "empty, or 64 hexadecimal digits"

    def _parse(self, text: str) -> str:
        return text.strip().casefold()

    def check(self, value: object) -> None:
        if value != "" and not (isinstance(value, str) and _SHA256.fullmatch(value)):
            raise self._refuse()


@dataclass(frozen=True, slots=True)
class DatasetName(_Line):
    """The name of a data set that seedpod knows, in any case, the path of a user's own, or an address."""

    names: tuple[str, ...]

    @property
    def wanted(self) -> str:
        return joined((*self.names, "a folder of class folders", f"a file ({_FILES})", "an https address of one"))

    def _parse(self, text: str) -> str:
        word = text.strip().casefold()
        return word if word in self.names else text

    def check(self, value: object) -> None:
        if value in self.names:
            return
        if not value or not _is_line(value):
            raise self._refuse()
        text = str(value)
        if "://" in text:
            _check_address(text)
        elif not text.casefold().endswith(_SUFFIXES) and not _is_path(text):
            raise self._refuse(did_you_mean(text, self.names))
        _check_home(text)


def _is_path(text: str) -> bool:
    """Whether a word that might be a misspelt name is meant as a path: it looks like one, or is there."""
    return "/" in text or text in {".", "..", "~"} or is_folder(text)


def is_folder(path: str) -> bool:
    """Whether there is a folder at a path."""
    try:
        return Path(path).expanduser().is_dir()
    except (OSError, RuntimeError, ValueError):  # name too long, no permission, no home folder, NUL
        return False


def _check_address(address: str) -> None:
    scheme, _, rest = address.partition("://")
    if scheme.casefold() == "http" and not _ADDRESS.fullmatch(address) and _ADDRESS.fullmatch(f"https://{rest}"):
        raise Refused("must be https: anybody between could change what http brings.")
    if not _ADDRESS.fullmatch(address):
        raise Refused("is no address of a file; it must be https://HOST/FILE.zip.")
    found = _OTHER_FILE.search(address.partition("?")[0].partition("#")[0].casefold())
    if found:
        raise Refused(f"is the address of a {found[0]}; it must be that of a .zip, or of an .npz.")
    if _PASSWORD.match(address):
        raise Refused("holds a password, and settings are saved. Download the file, and give its path.")


def _is_line(value: object) -> bool:
    return isinstance(value, str) and len(value) <= _LONGEST and value.isprintable()


def _check_home(path: str) -> None:
    head = path.split("/", 1)[0]
    if head.startswith("~") and head != "~":
        raise Refused(f"{shown(head)} is not expanded; write that home folder out in full.")
