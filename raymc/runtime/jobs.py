"""Ray's Jobs API: the jobs of raymc on a cluster, over HTTP. Sole importer of ray.job_submission."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raymc.specs.errors import RaymcError, Unreachable

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
PATIENCE = 300.0  # seconds that a cluster may be away before following a log or a stop gives up
_ANSWER = 30.0  # seconds for one answer over HTTP
_STARTING = 45.0  # seconds in which a head that has just started may still refuse jobs
_SILENCE = 60.0  # seconds without a line after which the connection is made anew
_ENDED = ("SUCCEEDED", "FAILED", "STOPPED")


@dataclass(frozen=True)
class Job:
    """One attempt at a sweep. `state`: PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED. Times: seconds since 1970."""

    id: str
    state: str
    metadata: dict[str, str]
    environment: dict[str, str] = field(repr=False, default_factory=dict)
    started: float | None = None
    ended: float | None = None
    exit_code: int | None = None
    message: str = ""

    @property
    def base(self) -> str:
        """The id of the first attempt."""
        return self.metadata["raymc"]

    @property
    def name(self) -> str:
        return self.metadata.get("sweep", "")

    @property
    def attempt(self) -> int:
        return int(self.metadata.get("attempt", "1"))

    @property
    def is_over(self) -> bool:
        return self.state in _ENDED

    def as_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "sweep": self.name,
            "attempt": self.attempt,
            "state": self.state,
            "started": self.started,
            "ended": self.ended,
            "exit_code": self.exit_code,
            "storage": self.metadata.get("storage"),
            "version": self.metadata.get("version"),
        }


class Jobs:
    """The jobs of one cluster. All methods raise Unreachable where it doesn't answer or refuses the token."""

    def __init__(self, address: str | None = None):
        self.address = url_of(address)
        with self._reaching():
            self._client = _client(self.address)

    def all(self) -> list[Job]:
        """raymc's jobs, the oldest first."""
        with self._reaching():
            found = self._client.list_jobs()
        jobs = [_job(one) for one in found if one.submission_id and "raymc" in (one.metadata or {})]
        return sorted(jobs, key=lambda job: (job.started or 0.0, job.attempt))

    def attempts(self, base: str) -> list[Job]:
        return sorted((job for job in self.all() if job.base == base), key=lambda job: job.attempt)

    def find(self, text: str) -> Job:
        """By id, by the sweep's name, or by the start of an id; of several attempts the last (`ID-1` is the first).

        Raises RaymcError where there is none, or more than one sweep.
        """
        jobs = self.all()
        for matches in (
            [job for job in jobs if text in (job.id, f"{job.base}-{job.attempt}") and text != job.base],
            [job for job in jobs if job.base == text],
            [job for job in jobs if job.name == text],
            [job for job in jobs if job.id.startswith(text) or job.id.startswith(f"raymc-{text}")],
        ):
            bases = list(dict.fromkeys(job.base for job in matches))
            if len(bases) > 1:
                raise RaymcError(f"{text!r} is more than one job: {', '.join(bases)}")
            if matches:
                return max(matches, key=lambda job: job.attempt)
        has = ", ".join(dict.fromkeys(job.base for job in jobs)) or "none"
        raise RaymcError(f"no job {text!r} on {self.address} (raymc's jobs there: {has})")

    def get(self, id: str) -> Job:
        with self._reaching():
            return _job(self._client.get_job_info(id))

    def submit(
        self,
        id: str,
        entrypoint: str,
        files: Mapping[str, bytes],
        metadata: Mapping[str, str],
        environment: Mapping[str, str],
    ) -> bool:
        """Start a job in a folder of these files; False where there is one of that id (another was quicker)."""
        with tempfile.TemporaryDirectory(prefix="raymc-submit-") as folder:
            for name, content in files.items():
                path = Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            limit = time.monotonic() + _STARTING
            while True:
                try:
                    with self._reaching():
                        self._client.submit_job(
                            submission_id=id,
                            entrypoint=entrypoint,
                            runtime_env={"working_dir": folder, "env_vars": dict(environment)},
                            metadata=dict(metadata),
                        )
                    break
                except Unreachable as error:
                    if any(job.id == id for job in self.all()):  # Ray says no more than 500 of an id that is taken
                        return False
                    if "No available agent" not in str(error) or time.monotonic() > limit:
                        raise
        return True

    def log(self, id: str) -> str:
        """All that a job has printed."""
        with self._reaching():
            return self._client.get_job_logs(id)

    def stop(self, id: str, patience: float) -> Job:
        """Ask a job to end and wait until it has. Raises RaymcError where it hasn't after `patience` seconds."""
        with self._reaching():
            self._client.stop_job(id)
        limit = time.monotonic() + patience
        while not (job := self.get(id)).is_over:
            if time.monotonic() > limit:
                raise RaymcError(f"{id} hasn't ended {patience:.0f} s after it was asked to")
            time.sleep(0.5)
        return job

    def follow(self, id: str, write: Callable[[str], object], patience: float = PATIENCE) -> Job:
        """Write a job's log as it grows, until the job has ended.

        A connection that drops is made anew, and nothing is written twice. Raises Unreachable where the cluster stays
        away for `patience` seconds.
        """
        seen, lost_at, pause = 0, None, 1.0

        def take(text: str) -> None:
            nonlocal seen, lost_at, pause
            seen += len(text)
            lost_at, pause = None, 1.0
            write(text)

        while True:
            try:
                with self._reaching():
                    asyncio.run(self._tail(id, seen, take))
                job = self.get(id)
                if job.is_over:
                    take(self.log(id)[seen:])
                    return job
                lost_at = None
            except Unreachable:
                lost_at = lost_at or time.monotonic()
                if time.monotonic() - lost_at >= patience:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, 10.0)

    async def _tail(self, id: str, seen: int, take: Callable[[str], object]) -> None:
        """Give on what comes after the first `seen` characters, until the stream ends or falls silent."""
        stream = self._client.tail_job_logs(id)
        async with contextlib.aclosing(stream):  # type: ignore[type-var] - an async generator, declared as an iterator
            skip = seen
            while True:
                try:
                    text = await asyncio.wait_for(anext(stream), _SILENCE)
                except (StopAsyncIteration, TimeoutError):
                    return
                fresh = text[skip:]
                skip = max(0, skip - len(text))
                if fresh:
                    take(fresh)

    @contextlib.contextmanager
    def _reaching(self) -> Iterator[None]:
        """What goes wrong on the way to the cluster, as one line."""
        import aiohttp
        import requests
        from ray.exceptions import AuthenticationError

        try:
            yield
        except AuthenticationError as error:
            raise Unreachable(f"{self.address}: {_refusal(str(error))}") from error
        except aiohttp.WSServerHandshakeError as error:
            raise Unreachable(f"{self.address} answers with {error.status} {error.message}") from error
        except (
            requests.exceptions.ConnectionError,
            requests.exceptions.Timeout,
            OSError,
            aiohttp.ClientError,
        ) as error:
            if isinstance(error, requests.exceptions.RequestException) and not isinstance(
                error, (requests.exceptions.ConnectionError, requests.exceptions.Timeout)
            ):
                raise Unreachable(f"{self.address} is no Ray dashboard: {_line(error)}") from error
            raise Unreachable(
                f"no Ray head answers at {self.address}: is it running, and is its dashboard's port open to here?"
            ) from error
        except (RuntimeError, KeyError, ValueError) as error:
            status = re.search(r"status code (\d+)", str(error))
            if status is None or "Version check" in str(error):
                raise Unreachable(f"{self.address} is no Ray dashboard: {_line(error)}") from error
            if status[1] == "404":
                raise RaymcError(f"{self.address}: {_line(error)}") from error
            raise Unreachable(f"{self.address} answers with an error: {_last_line(error)}") from error


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
        raise RaymcError(f"--address {address}: the URL of a Ray dashboard is needed, such as {DEFAULT_ADDRESS}")
    return address.rstrip("/")


def _client(address: str) -> Any:
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


def _job(details: Any) -> Job:
    environment = (details.runtime_env or {}).get("env_vars") or {}
    return Job(
        id=details.submission_id,
        state=str(details.status.value),
        metadata=dict(details.metadata or {}),
        environment=dict(environment),
        started=details.start_time / 1000 if details.start_time else None,
        ended=details.end_time / 1000 if details.end_time else None,
        exit_code=details.driver_exit_code,
        message=_line(details.message or ""),
    )


def _refusal(message: str) -> str:
    if "Authentication required" in message:
        return (
            "the cluster wants a token, and none was sent: RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH=FILE "
            "(or RAY_AUTH_TOKEN) in the environment"
        )
    if "Authentication failed" in message:
        return "the cluster refuses the token: it is not the one that its nodes were started with"
    return f"no token to send: {_line(message).partition('. ')[0]} (RAY_AUTH_TOKEN_PATH=FILE, or RAY_AUTH_TOKEN)"


def _line(error: object) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _last_line(error: object) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
