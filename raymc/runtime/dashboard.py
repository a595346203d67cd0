"""How a cluster's dashboard is reached, where the Jobs API is: its URL, the token, and what goes wrong, in a line.

Sole importer of ray.job_submission.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterator
from typing import Any

from raymc.specs.errors import RaymcError, Unreachable, final_line, first_line
from raymc.specs.secrets import without_secrets

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
_ANSWER = 30.0  # seconds for one answer over HTTP


def url_of(address: str | None) -> str:
    """The dashboard's URL: as given, else RAY_API_SERVER_ADDRESS, else RAY_ADDRESS where it is one, else this machine.

    Raises RaymcError for one that isn't http.
    """
    if address is None:
        address = os.environ.get("RAY_API_SERVER_ADDRESS")
    if address is None and re.match(r"https?://", os.environ.get("RAY_ADDRESS", "")):
        address = os.environ["RAY_ADDRESS"]
    address = address or DEFAULT_ADDRESS
    if "://" not in address and ":" in address:
        address = f"http://{address}"
    if not re.match(r"https?://[^/]", address):
        raise RaymcError(
            f"--address {without_secrets(address)}: the URL of a Ray dashboard is needed, such as {DEFAULT_ADDRESS}"
        )
    return address.rstrip("/")


def connected(address: str) -> Any:
    from ray.job_submission import JobSubmissionClient

    for name in ("ray.dashboard.modules", "ray._private.runtime_env.packaging"):
        logging.getLogger(name).setLevel(logging.WARNING)  # what is sent is said by raymc
    for name in ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"):  # they set their own
        logging.getLogger(name).setLevel(logging.WARNING)

    class Client(JobSubmissionClient):
        def _do_request(self, *arguments: Any, **options: Any) -> Any:  # it waits for ever by itself
            return super()._do_request(*arguments, **{"timeout": _ANSWER, **options})

    kept = {name: os.environ.pop(name, None) for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")}
    try:  # these would win over the address that was asked for
        return Client(address)
    finally:
        os.environ.update({name: value for name, value in kept.items() if value is not None})


@contextlib.contextmanager
def reaching(address: str) -> Iterator[None]:
    """What goes wrong on the way to the cluster, as one line, without what is secret in its address."""
    try:
        yield
    except Exception as error:
        said = _said(without_secrets(address), error)
        if said is None:
            raise
        raise type(said)(without_secrets(str(said))) from error


def _said(address: str, error: Exception) -> RaymcError | None:
    """None: it isn't one of the way there."""
    import aiohttp
    import requests
    from ray.exceptions import AuthenticationError

    if isinstance(error, AuthenticationError):
        return Unreachable(f"{address}: {_refusal(str(error))}")
    if isinstance(error, aiohttp.WSServerHandshakeError):
        return Unreachable(f"{address} answers with {error.status} {error.message}")
    away = (requests.ConnectionError, requests.Timeout, aiohttp.ClientError, ConnectionError, TimeoutError)
    if isinstance(error, away):
        return Unreachable(
            f"no Ray head answers at {address}: is it running, and is its dashboard's port open to here?"
        )
    if isinstance(error, requests.RequestException):
        return Unreachable(f"{address} is no Ray dashboard: {first_line(error)}")
    if not isinstance(error, (RuntimeError, KeyError, ValueError)):
        return None
    status = re.search(r"status code (\d+)", str(error))
    if status is None or "Version check" in str(error):
        return Unreachable(f"{address} is no Ray dashboard: {first_line(error)}")
    if status[1] == "404":
        return RaymcError(f"{address}: {first_line(error)}")
    return Unreachable(f"{address} answers with an error: {final_line(error)}")


def _refusal(message: str) -> str:
    if "Authentication required" in message:
        return (
            "the cluster wants a token, and none was sent: RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH=FILE "
            "(or RAY_AUTH_TOKEN) in the environment"
        )
    if "Authentication failed" in message:
        return "the cluster refuses the token: it is not the one that its nodes were started with"
    return f"no token to send: {first_line(message).partition('. ')[0]} (RAY_AUTH_TOKEN_PATH=FILE, or RAY_AUTH_TOKEN)"
