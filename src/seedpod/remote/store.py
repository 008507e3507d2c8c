"""An S3-compatible store that data sets reach remote workers by; the only importer of boto3.

What is stored is named by its SHA-256. So it is uploaded once, whoever needs it next, and a killed upload goes on with
the parts that have arrived. Keys come from boto3's own chain (environment, ~/.aws) and leave this module in no message,
log or request: what workers get is an address that is signed for one object and some hours.
"""

import math
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from seedpod.errors import BackendError, ConfigError, EndpointRefused, EndpointUnreachable, TrialCancelled
from seedpod.extras import require
from seedpod.trial import LONGEST_URL, object_of

LONGEST_LIFE = 7 * 24 * 3600
"""Seconds that an address can be valid for, by its signature's own rules (SigV4)."""

_PART = 8 * 2**20  # bytes of a part of an upload; S3 takes 5 MiB or more
_MOST_PARTS = 9_000  # S3 takes 10 000
_TELL = 5.0  # seconds between lines on an upload
_TEMPORARY = 500  # HTTP statuses from here on say that it may go well another time
_ADDRESS = re.compile(r"s3://(?P<bucket>[a-zA-Z0-9][a-zA-Z0-9._-]{1,62})(?:/(?P<prefix>[A-Za-z0-9._/-]*))?")
_WHY: Mapping[str, str] = {
    "401": "it refuses the keys: look at AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ~/.aws/credentials",
    "403": "it refuses the keys, or they may not do this: look at AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
    "~/.aws/credentials, and at the rights of that key",
    "404": "there is no such bucket: make it, or look at data_store and data_store_endpoint",
    "NoSuchBucket": "there is no such bucket: make it, or look at data_store and data_store_endpoint",
    "301": "the bucket is in another region: set AWS_DEFAULT_REGION",
}


class _NotThereError(EndpointRefused):
    """There is no such object."""


class Content(Protocol):
    """What is uploaded."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def size(self) -> int: ...  # noqa: D102
    def read(self, offset: int, count: int) -> bytes: ...  # noqa: D102


class DataStore:
    """A place for objects in a bucket. Thread-safe, as boto3's clients are.

    Args:
        address: ``s3://bucket/prefix``.
        endpoint: Base address of the store's API; empty for AWS, or what boto3's own configuration says.
        part: Bytes of a part of an upload.

    Raises:
        ConfigError: boto3 is not installed, or the address cannot be one.
    """

    def __init__(self, address: str, endpoint: str = "", *, part: int = _PART) -> None:
        require("data_store", ("boto3",), ("s3",))
        found = _ADDRESS.fullmatch(address)
        if found is None:
            raise ConfigError(f"data_store={address}: it must be s3://BUCKET/PREFIX.")
        self.address = address.rstrip("/")
        self._bucket = found["bucket"]
        self._prefix = "".join(f"{name}/" for name in (found["prefix"] or "").split("/") if name)
        self._part = part
        self._client = _client(endpoint)

    def check(self) -> None:
        """Ask once, and sign once, so that what stands in the way is known now.

        Raises:
            ConfigError: Workers would not take its addresses.
            EndpointRefused: Bad or no keys, or no such bucket.
            EndpointUnreachable: No answer.
        """
        self._ask("head_bucket", Bucket=self._bucket)
        try:
            object_of(self.url(f"{'0' * 64}.tar", LONGEST_LIFE))
        except ValueError as error:
            raise ConfigError(
                f"data_store={self.address}: workers would not take its addresses: {error}. It takes https (http on "
                f"this machine), keys that are not temporary (their token alone is longer than {LONGEST_URL} "
                "characters), and a short bucket and prefix."
            ) from error

    def url(self, name: str, seconds: float, *, put: bool = False) -> str:
        """An address that gives the object to whoever has it, or takes it (``put``), for so long. Asks nobody."""
        from botocore.exceptions import BotoCoreError

        life = math.ceil(min(max(seconds, 1.0), LONGEST_LIFE))
        operation = "put_object" if put else "get_object"
        try:
            return str(self._client.generate_presigned_url(operation, Params=self._object(name), ExpiresIn=life))
        except BotoCoreError as error:
            raise self._trouble(error) from None

    def take(self, name: str, file: Path) -> None:
        """Write an object into a file; raises as ``upload`` does."""
        answer = self._ask("get_object", **self._object(name))
        try:
            with answer["Body"] as body, file.open("wb") as target:
                while chunk := body.read(2**20):
                    target.write(chunk)
        except _lost() as error:
            raise self._trouble(error) from None

    def remove(self, name: str) -> None:
        """Remove an object, if it is there."""
        self._ask("delete_object", **self._object(name))

    def has(self, name: str, size: int) -> bool:
        """Whether the object is there, and whole."""
        try:
            return bool(self._ask("head_object", **self._object(name))["ContentLength"] == size)
        except _NotThereError:
            return False

    def upload(
        self, content: Content, tell: Callable[[str], None], stopping: Callable[[], bool] = lambda: False
    ) -> None:
        """Bring an object there, unless it is; goes on with what an upload that was killed has left.

        Args:
            content: The object.
            tell: Gets a line now and then.
            stopping: Looked at between parts.

        Raises:
            EndpointRefused, EndpointUnreachable: As of ``check``; what has arrived is kept for the next try.
            TrialCancelled: It was to stop.
        """
        if self.has(content.name, content.size):
            return
        what = f"{content.size / 1e6:,.1f} MB to {self.address}"
        tell(f"uploading the data set: {what}")
        if content.size <= self._part:
            self._ask("put_object", **self._object(content.name), Body=content.read(0, content.size))
        else:
            self._upload_parts(content, tell, stopping)
        if not self.has(content.name, content.size):
            raise EndpointUnreachable(f"{self.address} has taken an upload and does not hold it; look at the store.")
        tell(f"uploaded {what}")

    def _upload_parts(self, content: Content, tell: Callable[[str], None], stopping: Callable[[], bool]) -> None:
        size = max(self._part, -(-content.size // _MOST_PARTS))
        upload, parts = self._left(content, size)
        if parts:
            tell(f"going on with an earlier upload, {100 * len(parts) * size / content.size:.0f} % of which is there")
        if not upload:
            upload = str(self._ask("create_multipart_upload", **self._object(content.name))["UploadId"])
        told = time.monotonic()
        for number in range(1, -(-content.size // size) + 1):
            if stopping():
                raise TrialCancelled("the search is stopping")
            if number not in parts:
                body = content.read((number - 1) * size, size)
                done = self._ask(
                    "upload_part", **self._object(content.name), UploadId=upload, PartNumber=number, Body=body
                )
                parts[number] = str(done["ETag"])
            if time.monotonic() - told > _TELL:
                told = time.monotonic()
                tell(f"uploading the data set: {min(100, 100 * number * size // content.size)} %")
        listed = {"Parts": [{"PartNumber": number, "ETag": tag} for number, tag in sorted(parts.items())]}
        with suppress(EndpointRefused):  # somebody else has completed it; whether it is there, is looked at next
            self._ask(
                "complete_multipart_upload", **self._object(content.name), UploadId=upload, MultipartUpload=listed
            )

    def _left(self, content: Content, size: int) -> tuple[str, dict[int, str]]:
        """The newest upload of this object that was begun and not ended, and its whole parts' tags by number.

        The object's name says what its parts hold. A store that lists no uploads has none.
        """
        key = self._object(content.name)["Key"]
        try:
            uploads = self._ask("list_multipart_uploads", Bucket=self._bucket, Prefix=key).get("Uploads", [])
            ours = sorted((each["Initiated"], each["UploadId"]) for each in uploads if each["Key"] == key)
            if not ours:
                return "", {}
            upload, parts, after = str(ours[-1][1]), dict[int, str](), 0
            while True:
                page = self._ask("list_parts", **self._object(content.name), UploadId=upload, PartNumberMarker=after)
                for each in page.get("Parts", []):
                    number = int(each["PartNumber"])
                    if each["Size"] == min(size, content.size - (number - 1) * size):
                        parts[number] = str(each["ETag"])
                after = page.get("NextPartNumberMarker", 0)
                if not page.get("IsTruncated"):
                    return upload, parts
        except EndpointRefused:
            return "", {}

    def _object(self, name: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": f"{self._prefix}{name}"}

    def _ask(self, operation: str, **arguments: Any) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return getattr(self._client, operation)(**arguments)
        except (BotoCoreError, ClientError) as error:
            # From None: a foreign exception may hold the request with its signature.
            raise self._trouble(error) from None

    def _trouble(self, error: Exception) -> BackendError:
        """What boto3 says went wrong, in our own words."""
        from botocore.exceptions import ClientError, NoCredentialsError, PartialCredentialsError

        where = f"data_store={self.address}"
        if isinstance(error, NoCredentialsError | PartialCredentialsError):
            return EndpointRefused(
                f"{where}: there are no keys for it: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
                "~/.aws/credentials."
            )
        if not isinstance(error, ClientError):
            return EndpointUnreachable(f"{where} cannot be reached ({type(error).__name__}); look at the network.")
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if error.operation_name == "HeadObject" and status == 404:
            return _NotThereError(f"{where}: the object is not there.")
        why = _WHY.get(code) or _WHY.get(str(status)) or f"it answers {code} to {error.operation_name}"
        kind = EndpointUnreachable if status >= _TEMPORARY or code == "SlowDown" else EndpointRefused
        return kind(f"{where}: {why}.", detail=f"{error.operation_name}: HTTP {status} {code}")


def _lost() -> tuple[type[Exception], ...]:
    """What boto3 raises where an answer is cut short."""
    from botocore.exceptions import BotoCoreError, HTTPClientError
    from urllib3.exceptions import HTTPError

    return BotoCoreError, HTTPClientError, HTTPError


def _client(endpoint: str) -> Any:
    """A client whose addresses hold their region and, for stores that are not AWS, no bucket in the host's name."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    session = boto3.session.Session()

    def made(style: str) -> Any:
        return session.client(
            "s3",
            endpoint_url=endpoint or None,
            region_name=session.region_name or "us-east-1",
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": style},
                connect_timeout=10,
                read_timeout=60,
                retries={"mode": "standard", "total_max_attempts": 4},
                # Newer checksums than stores other than AWS know.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    try:
        if endpoint:
            return made("path")
        client = made("virtual")
        aws = client.meta.endpoint_url.rstrip("/").endswith((".amazonaws.com", ".amazonaws.com.cn"))
        return client if aws else made("path")
    except (BotoCoreError, ValueError) as error:
        raise ConfigError(f"data_store: boto3 makes no client of its configuration: {error}") from error
