"""Named contents in a folder or in object storage: made once, whole or not at all, waited for while it is away."""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from raymc.specs.errors import StorageFault

Result = TypeVar("Result")

REMOTE = ("s3", "gs")  # schemes of object storage
WAIT_SECONDS = 300.0  # how long an outage may last; RAYMC_STORAGE_WAIT sets it
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0  # seconds between tries
_SAID_FIRST, _SAID_EVERY = 3.0, 60.0  # seconds of an outage after which it is said, and said again
_ONE_OUTAGE = 60.0  # failures further apart, in seconds, are two outages
_STATUS = re.compile(r"status code: (\d{3})|error response: (\d{3})|status: (\d{3})")
_LOG = logging.getLogger("raymc.store")


@dataclass(frozen=True)
class Entry:
    """One object of a listing. `changed` is by the storage's clock."""

    name: str
    size: int  # bytes
    changed: datetime  # UTC
    tag: str | None  # changes with the content


class Objects:
    """The objects under one URI: a folder, s3://bucket/prefix or gs://bucket/prefix. Safe for any number of threads.

    All methods raise StorageFault where the storage can't be used, after waiting for one that can't be reached.
    """

    def __init__(self, uri: str | Path):
        self.uri = str(uri)
        self._scheme = self.uri.split("://")[0] if "://" in self.uri else ""
        self._lock = threading.Lock()
        self._made: Any = None
        self._away = _Away()

    def create(self, name: str, content: bytes) -> bool:
        """Make an object that isn't there yet; False where the name is taken. Of several at once one succeeds.

        With content that no other writer has, the answer is right even where a first try's answer was lost.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError

        tries = 0

        def make() -> bool:
            nonlocal tries
            tries += 1
            try:
                obstore.put(self._store, name, content, mode="create", use_multipart=False)
            except AlreadyExistsError:
                return tries > 1 and self._read(name) == content
            return True

        return self._reached(make)

    def put(self, name: str, content: bytes) -> None:
        """Write an object, whole or not at all; it takes the place of an earlier one."""
        import obstore

        self._reached(lambda: obstore.put(self._store, name, content))

    def get(self, name: str) -> bytes | None:
        """The content, None where there is no such object."""
        return self._reached(lambda: self._read(name))

    def list(self, prefix: str = "") -> list[str]:
        """Names of all objects in a folder and below, sorted. `prefix` is whole parts of a path: "claims/abc"."""
        return [entry.name for entry in self.entries(prefix)]

    def entries(self, prefix: str = "") -> list[Entry]:
        """As list, with what the storage says of each."""
        import obstore

        def look() -> list[Entry]:
            found = [one for batch in obstore.list(self._store, prefix or None, chunk_size=1000) for one in batch]
            return sorted(
                (Entry(one["path"], one["size"], one["last_modified"], one["e_tag"]) for one in found),
                key=lambda entry: entry.name,
            )

        return self._reached(look)

    def folders(self, prefix: str = "") -> list[str]:
        """Last parts of the names of the folders right below a folder, sorted; of all their objects nothing is read."""
        import obstore

        def look() -> list[str]:
            return sorted(
                path.rsplit("/", 1)[-1]
                for path in obstore.list_with_delimiter(self._store, prefix or None)["common_prefixes"]
            )

        return self._reached(look)

    def has(self, name: str) -> bool:
        import obstore

        def look() -> bool:
            try:
                obstore.head(self._store, name)
            except FileNotFoundError:
                return False
            return True

        return self._reached(look)

    def delete(self, name: str) -> None:
        """Remove an object; nothing happens where there is none."""
        import obstore

        def remove() -> None:
            try:
                obstore.delete(self._store, name)
            except FileNotFoundError as error:
                _raise_for_bucket(error)

        self._reached(remove)

    def reached(self, seconds: float) -> None:
        """See that the storage can be used, in so many seconds. Raises StorageFault."""
        import obstore

        self._reached(lambda: next(iter(obstore.list(self._store, chunk_size=1)), None), seconds)

    # ------------------------------------------------------------------------------------------------------------

    def _read(self, name: str) -> bytes | None:
        import obstore

        try:
            return bytes(obstore.get(self._store, name).bytes())
        except FileNotFoundError as error:
            _raise_for_bucket(error)
            return None

    @property
    def _store(self) -> Any:
        with self._lock:
            if self._made is None:
                self._made = _opened(self.uri) if self._scheme in REMOTE else _folder(self.uri)
            return self._made

    def _reached(self, call: Callable[[], Result], limit: float | None = None) -> Result:
        """A call's result, tried again for as long as the storage is away and the limit, in seconds, allows."""
        from obstore.exceptions import BaseError

        pause = _FIRST_PAUSE
        while True:
            try:
                result = call()
            except (BaseError, OSError) as error:
                text = str(error)
                if self._scheme not in REMOTE or not _passes(text):
                    raise StorageFault(f"storage {self.uri}: {_line(text, self.uri)}") from error
                if not self._away.wait(self.uri, pause, text, wait_seconds() if limit is None else limit):
                    waited = self._away.seconds
                    raise StorageFault(
                        f"storage {self.uri} can't be reached ({_line(text, self.uri)}; waited {waited:.0f} s); "
                        "everything finished is kept, the same command goes on"
                    ) from error
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                self._away.over(self.uri)
                return result

    def __reduce__(self):  # to other processes as its URI
        return (Objects, (self.uri,))


class _Away:
    """One outage, shared by all threads: the limit counts from its first failure."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since = self._latest = self._said = 0.0
        self._open = False

    @property
    def seconds(self) -> float:
        return self._latest - self._since

    def wait(self, uri: str, pause: float, text: str, limit: float) -> bool:
        """Sleep before another try; False, at once, where the limit is used up."""
        with self._lock:
            now = time.monotonic()
            if not self._open or now - self._latest > _ONE_OUTAGE:
                self._open, self._since, self._said = True, now, 0.0
            self._latest = now
            gone, left = now - self._since, limit - (now - self._since)
            if left > 0 and gone >= _SAID_FIRST and now - self._said >= _SAID_EVERY:
                self._said = now
                _LOG.warning("storage %s can't be reached (%s); tried for %.0f s more", uri, _line(text, uri), left)
        if left <= 0:
            return False
        time.sleep(min(pause, left))
        return True

    def over(self, uri: str) -> None:
        if self._open:
            with self._lock:
                if self._said:
                    _LOG.warning("storage %s is back after %.0f s", uri, time.monotonic() - self._since)
                self._open, self._said = False, 0.0


def wait_seconds() -> float:
    """How long an outage may last. Raises StorageFault for a setting that isn't a number."""
    text = os.environ.get("RAYMC_STORAGE_WAIT", "")
    try:
        return float(text) if text else WAIT_SECONDS
    except ValueError:
        raise StorageFault(f"RAYMC_STORAGE_WAIT is {text!r}, not a number of seconds") from None


def _folder(uri: str) -> Any:
    from obstore.store import LocalStore

    return LocalStore(Path(uri.removeprefix("file://")), mkdir=True)  # creates by a hard link to a whole file


def _opened(uri: str) -> Any:
    """The store of a remote URI, with the credentials that the environment names."""
    from obstore.store import from_url

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    options: dict[str, Any] = {
        "retry_config": {"max_retries": 0, "retry_timeout": timedelta(seconds=60)},  # `_reached` tries again
        "client_options": {
            "timeout": timedelta(minutes=10),  # of one transfer
            "connect_timeout": timedelta(seconds=5),
            "allow_http": endpoint.startswith("http://") or bool(os.environ.get("STORAGE_EMULATOR_HOST")),
        },
    }
    if uri.startswith("s3://"):
        if endpoint:
            options["endpoint"] = endpoint
        if not os.environ.get("AWS_ACCESS_KEY_ID") and (provider := _profile()):
            options["credential_provider"] = provider
    return from_url(uri, **options)


def _profile() -> Any:
    """Credentials out of ~/.aws and the like, where boto3 is there to read them."""
    try:
        from obstore.auth.boto3 import Boto3CredentialProvider

        return Boto3CredentialProvider()
    except (ImportError, ValueError):  # ValueError: boto3 finds none; the machine's own role is asked for then
        return None


def _passes(text: str) -> bool:
    """Whether an error is one that passes: nothing answered, or a server that is busy or broken."""
    if "169.254." in text or "metadata.google.internal" in text or "NoSuchBucket" in text:
        return False
    status = _status(text)
    return status >= 500 or status in (408, 429) if status else "HTTP error" in text or "HttpError" in text


def _status(text: str) -> int:
    found = _STATUS.search(text)
    return int(next(filter(None, found.groups()))) if found else 0


def _raise_for_bucket(error: FileNotFoundError) -> None:
    """Of what isn't found: re-raise where it is the bucket itself."""
    if "NoSuchBucket" in str(error) or "bucket does not exist" in str(error):
        raise error


def _line(text: str, uri: str) -> str:
    """One line that says what is wrong, out of a text that may be long and nested."""
    scheme, _, rest = uri.partition("://")
    bucket, status = rest.split("/")[0], _status(text)
    names = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" if scheme == "s3" else "GOOGLE_APPLICATION_CREDENTIALS"
    if "No space left" in text or "ENOSPC" in text:
        return "No space left on device"
    if "169.254." in text or "metadata.google.internal" in text:
        return f"no credentials are set ({names})"
    if "NoSuchBucket" in text or "bucket does not exist" in text:
        return f"there is no bucket {bucket!r}"
    if "dns error" in text:
        host = re.search(r"https?://([^/\s:]+)", text)
        return f"no such host{' ' + host[1] if host else ''}"
    if "onnection refused" in text:
        return "connection refused"
    if "kind: Timeout" in text or "timed out" in text:
        return "no answer in time"
    if status in (401, 403):
        code = re.search(r"<Code>(\w+)</Code>", text)
        return f"access is refused ({status}{' ' + code[1] if code else ''}); look at {names}"
    if status:
        return f"the server answers {status}"
    line = " ".join(text.split("Debug source")[0].split())
    return line if len(line) <= 300 else line[:299] + "…"
