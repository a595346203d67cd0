"""The jobs of raymc on a cluster, through Ray's Jobs API."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raymc.runtime.dashboard import connected, reaching, url_of
from raymc.specs.errors import RaymcError, Unreachable, first_line
from raymc.specs.secrets import without_secrets

PATIENCE = 300.0  # seconds that a cluster may be away before following a log or a stop gives up
_STARTING = 45.0  # seconds in which a head that has just started may still refuse jobs
_SILENCE = 60.0  # seconds without a line after which the connection is made anew
_LOOK_AGAIN = 0.5  # seconds between looks at a job that is to end
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
    """The jobs of one cluster. All methods raise Unreachable where it doesn't answer or refuses the token.

    `address`: of its dashboard, without a name and password in it.
    """

    def __init__(self, address: str | None = None):
        url = url_of(address)
        self.address = without_secrets(url)
        with reaching(self.address):
            self._client = connected(url)

    def all(self) -> list[Job]:
        """raymc's jobs, the oldest first."""
        with reaching(self.address):
            found = self._client.list_jobs()
        jobs = [_job(one) for one in found if one.submission_id and "raymc" in (one.metadata or {})]
        return sorted(jobs, key=lambda job: (job.started or 0.0, job.attempt))

    def attempts(self, base: str) -> list[Job]:
        return sorted((job for job in self.all() if job.base == base), key=lambda job: job.attempt)

    def find(self, text: str) -> Job:
        """See `named`."""
        return named(self.all(), text, self.address)

    def get(self, id: str) -> Job:
        with reaching(self.address):
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
                    with reaching(self.address):
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
        with reaching(self.address):
            return self._client.get_job_logs(id)

    def stop(self, id: str, patience: float, say: Callable[[str], object] = lambda text: None) -> Job:
        """Ask a job to end and wait until it has; `say` where the cluster is away meanwhile.

        Raises RaymcError where it hasn't ended after `patience` seconds, Unreachable where the cluster is away then.
        """
        limit, asked, told = time.monotonic() + patience, False, False
        while True:
            try:
                if not asked:
                    with reaching(self.address):
                        self._client.stop_job(id)
                    asked = True
                job = self.get(id)
            except Unreachable as error:
                if time.monotonic() > limit:
                    raise
                if not told:
                    told = True
                    say(f"{error}; trying again for {patience:.0f} s")
            else:
                if job.is_over:
                    return job
                if time.monotonic() > limit:
                    raise RaymcError(f"{id} hasn't ended {patience:.0f} s after it was asked to")
            time.sleep(_LOOK_AGAIN)

    def follow(
        self, id: str, write: Callable[[str], object], say: Callable[[str], object], patience: float = PATIENCE
    ) -> Job:
        """Write a job's log as it grows, until the job has ended; `say` where the cluster is away.

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
                with reaching(self.address):
                    asyncio.run(self._tail(id, seen, take))
                job = self.get(id)
                if job.is_over:
                    take(self.log(id)[seen:])
                    return job
                lost_at = None
            except Unreachable as error:
                if lost_at is None:
                    lost_at = time.monotonic()
                    say(f"{error}; trying again for {patience:.0f} s")
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


def named(jobs: Sequence[Job], text: str, address: str) -> Job:
    """The job of an id, of a sweep's name, or of the start of an id; of several attempts the last (`ID-1`: the first).

    Raises RaymcError where there is none, or more than one sweep.
    """
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
    raise RaymcError(f"no job {text!r} on {address} (raymc's jobs there: {has})")


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
        message=first_line(details.message or ""),
    )
