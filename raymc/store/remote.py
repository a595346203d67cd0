"""How a storage is opened with what the environment says, and what its errors mean, in a line."""

from __future__ import annotations

import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

_STATUS = re.compile(r"status code: (\d{3})|error response: (\d{3})|status: (\d{3})")


def opened_folder(uri: str) -> Any:
    from obstore.store import LocalStore

    return LocalStore(Path(uri.removeprefix("file://")), mkdir=True)  # creates by a hard link to a whole file


def opened(uri: str, silence: float, transfer: float) -> Any:
    """The store of a remote URI, with the credentials that the environment names.

    Limits in seconds: of an answer that doesn't begin or go on, which counts from the start of what is sent, and of one
    transfer as a whole (of a file in parts: of a part).
    """
    from obstore.store import from_url

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    options: dict[str, Any] = {
        "retry_config": {"max_retries": 0, "retry_timeout": timedelta(seconds=60)},  # `_reached` tries again
        "client_options": {
            "timeout": timedelta(seconds=transfer),
            "read_timeout": timedelta(seconds=silence),
            "connect_timeout": timedelta(seconds=5),
            "allow_http": endpoint.startswith("http://"),
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


def passes(text: str) -> bool:
    """Whether an error is one that passes: nothing answered, or a server that is busy or broken."""
    if "169.254." in text or "metadata.google.internal" in text or "NoSuchBucket" in text:
        return False
    status = _status(text)
    if status in (501, 507) or "StorageFull" in text:
        return False
    return status >= 500 or status in (408, 429) if status else "HTTP error" in text or "HttpError" in text


def _status(text: str) -> int:
    found = _STATUS.search(text)
    return int(next(filter(None, found.groups()))) if found else 0


def in_a_line(text: str, uri: str) -> str:
    """One line that says what is wrong, out of a text that may be long and nested."""
    scheme, _, rest = uri.partition("://")
    bucket, status = rest.split("/")[0], _status(text)
    names = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" if scheme == "s3" else "GOOGLE_APPLICATION_CREDENTIALS"
    if "No space left" in text or "ENOSPC" in text or "StorageFull" in text or status == 507:
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
