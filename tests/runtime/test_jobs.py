"""Which job a person means, and a stop over a cluster that is away for a moment."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from raymc.runtime import jobs as rooms
from raymc.runtime.jobs import Job, Jobs, named
from raymc.specs.errors import RaymcError, Unreachable


def job(id: str, base: str, sweep: str, attempt: int = 1) -> Job:
    return Job(id, "RUNNING", {"raymc": base, "sweep": sweep, "attempt": str(attempt)})


ONE, ONE_AGAIN = (
    job("raymc-one-aaaaaaaaaa", "raymc-one-aaaaaaaaaa", "one"),
    job("raymc-one-aaaaaaaaaa-2", "raymc-one-aaaaaaaaaa", "one", 2),
)
TWO = job("raymc-two-bbbbbbbbbb", "raymc-two-bbbbbbbbbb", "two")
TWO_CHANGED = job("raymc-two-cccccccccc", "raymc-two-cccccccccc", "two")
LONGER = job("raymc-one-more-dddddddddd", "raymc-one-more-dddddddddd", "one-more")
JOBS = [ONE, ONE_AGAIN, TWO, TWO_CHANGED, LONGER]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("one", ONE_AGAIN),  # the name, though the start of another's
        ("raymc-one-aaaaaaaaaa", ONE_AGAIN),  # of several attempts the last
        ("raymc-one-aaaaaaaaaa-2", ONE_AGAIN),
        ("raymc-one-aaaaaaaaaa-1", ONE),
        ("raymc-one-a", ONE_AGAIN),
        ("one-m", LONGER),
        ("two-b", TWO),
        ("raymc-two-c", TWO_CHANGED),
    ],
)
def test_a_job_is_found(text, meant):
    assert named(JOBS, text, "http://head") == meant


@pytest.mark.parametrize(("text", "words"), [("two", "more than one job"), ("o", "more than one"), ("x", "no job 'x'")])
def test_what_is_not_one_job_is_said(text, words):
    with pytest.raises(RaymcError, match=words):
        named(JOBS, text, "http://head")
    with pytest.raises(RaymcError, match="there: none"):
        named([], text, "http://head")


@pytest.fixture
def stopping(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Jobs]:
    """Jobs of a cluster that answers a stop, and then looks at the job, with these in turn; the last one stays."""
    monkeypatch.setattr(rooms, "_LOOK_AGAIN", 0.0)

    def made(asked: list[Any], seen: list[Any]) -> Jobs:
        def answer(found: list[Any]) -> Any:
            one = found.pop(0) if len(found) > 1 else found[0]
            if isinstance(one, Exception):
                raise one
            return one

        def details(id: str) -> Any:
            state = answer(seen)
            times = {"start_time": None, "end_time": None, "driver_exit_code": None}
            said = {"metadata": {"raymc": id}, "runtime_env": {}, "message": "", **times}
            return SimpleNamespace(submission_id=id, status=SimpleNamespace(value=state), **said)

        jobs = Jobs.__new__(Jobs)
        jobs.address = "http://head"
        jobs._client = SimpleNamespace(stop_job=lambda id: answer(asked), get_job_info=details)
        return jobs

    return made


def test_a_stop_bears_a_cluster_that_is_away_for_a_moment(stopping):
    said: list[str] = []
    away = ConnectionError("refused")
    job = stopping([away, away, True], ["RUNNING", away, "RUNNING", "STOPPED"]).stop("one", 60.0, said.append)
    assert job.state == "STOPPED"
    assert len(said) == 1
    assert said[0].endswith("trying again for 60 s")


def test_a_stop_ends_after_its_limit(stopping):
    with pytest.raises(Unreachable, match="no Ray head answers at http://head"):
        stopping([ConnectionError("refused")], ["RUNNING"]).stop("one", 0.01)
    with pytest.raises(RaymcError, match="one hasn't ended 0 s after"):
        stopping([True], ["RUNNING"]).stop("one", 0.01)
