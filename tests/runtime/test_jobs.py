"""Which job a person means."""

from __future__ import annotations

import pytest

from raymc.runtime.jobs import Job, named
from raymc.specs.errors import RaymcError


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
