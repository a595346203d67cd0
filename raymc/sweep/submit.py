"""Sweeps on a cluster: submit, resume, stop, and how far they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raymc.specs.sweep import SweepSpec
from raymc.sweep.check import Locate, check, unlocated
from raymc.sweep.job_log import Seen, read_log
from raymc.sweep.submission import STOP_SECONDS, Submission, of_metadata, prepare

if TYPE_CHECKING:
    from raymc.runtime.jobs import Job, Jobs


@dataclass(frozen=True)
class Submitted:
    """What came of it. `action`: submitted; resumed, which had stopped or failed; attached, to what runs; finished."""

    action: str
    job: Job
    submission: Submission
    address: str

    def as_dict(self) -> dict[str, Any]:
        sent = self.submission
        return {
            "action": self.action,
            "address": self.address,
            **self.job.as_dict(),
            "bytes": sum(map(len, sent.files.values())),
            "files": len(sent.files),
            "places": sent.places,
            "environment": sorted(sent.environment),
            "needs": list(sent.needs),
        }


def submit(
    spec: SweepSpec,
    *,
    address: str | None = None,
    storage: str | None = None,
    tracking: str | None = None,
    env: Sequence[str] = (),
    with_code: bool = False,
    check_files: bool = True,
    written: object = None,
    locate: Locate = unlocated,
) -> Submitted:
    """Run a sweep on a Ray cluster through its Jobs API; the same sweep twice is one job.

    `address`: of the cluster's dashboard (else RAY_API_SERVER_ADDRESS, else http://127.0.0.1:8265). `storage`: a place
    that all its nodes reach. `env`: names of variables; of those that look like secrets only the name is sent.
    `with_code`: send this raymc, too. `check_files`: look at the data and models that the spec names; off where their
    paths are the cluster's. Raises RaymcError for bad input, Unreachable where the cluster doesn't answer.
    """
    from raymc.runtime.jobs import Jobs

    if check_files:
        check(spec, locate)
    sent = prepare(
        spec, storage=storage, tracking=tracking, env=env, with_code=with_code, written=written, locate=locate
    )
    jobs = Jobs(address)
    before = jobs.attempts(sent.id)
    if before and not before[-1].is_over:
        return Submitted("attached", before[-1], sent, jobs.address)
    if before and before[-1].state == "SUCCEEDED":
        return Submitted("finished", before[-1], sent, jobs.address)
    return _start(jobs, sent, before)


def resume(job: Job, jobs: Jobs) -> Submitted:
    """Run a job's sweep again, which goes on from what its storage has; one that runs is attached to."""
    sent = of_metadata(job.metadata, job.environment)
    before = jobs.attempts(job.base)
    if before and not before[-1].is_over:
        return Submitted("attached", before[-1], sent, jobs.address)
    return _start(jobs, sent, before)


def stop(job: Job, jobs: Jobs, say: Callable[[str], object] = lambda text: None) -> Job:
    """End a job cleanly: what it has finished is kept. One that is over is left as it is.

    `say`: told where the cluster is away meanwhile; it is asked again for as long as the job may take to end.
    """
    return job if job.is_over else jobs.stop(job.id, patience=STOP_SECONDS + 60.0, say=say)


def _start(jobs: Jobs, sent: Submission, before: Sequence[Job]) -> Submitted:
    number = before[-1].attempt + 1 if before else 1
    mine = jobs.submit(
        sent.attempt(number),
        sent.entrypoint,
        sent.files,
        {**sent.metadata, "attempt": str(number)},
        {**sent.environment, "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)},
    )
    action = ("resumed" if before else "submitted") if mine else "attached"
    return Submitted(action, jobs.get(sent.attempt(number)), sent, jobs.address)


def seen_of(job: Job, jobs: Jobs) -> Seen:
    """How far a job is, from what it has printed."""
    return read_log(jobs.log(job.id) if job.state != "PENDING" else "")
