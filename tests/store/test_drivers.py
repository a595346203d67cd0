"""Heartbeats: who is taken for dead and when, and what becomes of one that lives."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from raymc.specs.errors import StorageFault
from raymc.store.claims import Claims
from raymc.store.drivers import LEASE_SECONDS, Heart, Others, Process, lease_seconds, this_process
from raymc.store.objects import Objects

ELSEWHERE = Process("elsewhere", "another machine", 7, "1")


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    return Objects(tmp_path)


def files(objects: Objects) -> list[str]:
    return [name.removeprefix("claims/") for name in objects.list("claims")]


TAKES = """
import sys, time
from raymc.store.claims import Claims
from raymc.store.objects import Objects
with Claims(Objects(sys.argv[1])).take("minima", [""], ["a"]):
    print("taken", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("waited_for", [True, False])
def test_a_run_that_was_killed_here_is_dead_at_once(objects, tmp_path, waited_for):
    claims = Claims(objects)
    with subprocess.Popen([sys.executable, "-c", TAKES, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "taken\n"
        with claims.take("minima", [""], ["a"]) as taken:
            assert not taken.keys
            assert str(process.pid) in str(taken.held[0].process)
        process.send_signal(signal.SIGKILL)
        if waited_for:
            process.wait()
        else:  # a zombie, once its threads are gone
            while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
                pass
        with claims.take("minima", [""], ["a"]) as taken:
            assert taken.keys == {"a"}
    claims.close()
    assert files(objects) == ["log/000000000003.floor"]


def test_a_reused_process_number_is_another_process():
    here = this_process()
    assert not here.gone
    assert replace(here, started="1").gone
    assert not replace(here, pid=2**22 + 1, machine="another").gone


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_run_elsewhere_is_dead_once_its_counter_stands_still_for_a_lease(objects):
    clock = Clock()
    one, other = Claims(objects, process=ELSEWHERE), Claims(objects, clock=clock)
    with one.take("minima", [""], ["a"]):
        clock.now = 1e6  # the first look says nothing
        assert other.look().claims
        for _ in range(8):  # looks with the heart beating
            clock.now += LEASE_SECONDS / 5
            one._heart.beat()
            assert other.look().claims
        clock.now += 1000 * LEASE_SECONDS  # asleep: its own absence counts for little
        assert other.look().claims
        for _ in range(3):
            clock.now += LEASE_SECONDS / 4
            assert other.look().claims
        clock.now += LEASE_SECONDS / 4
        assert not other.look().claims
        with other.take("minima", [""], ["a"]) as taken:
            assert taken.keys == {"a"}


@pytest.mark.parametrize(("theirs", "ours", "after"), [(600.0, 60.0, 600.0), (60.0, 600.0, 600.0), (None, 60.0, 60.0)])
def test_of_two_leases_the_longer_counts(objects, theirs: float | None, ours: float, after: float):
    """A run with the longer one beats more seldom; `None`: one of an early version, that doesn't say."""
    heart = Heart(objects, theirs or 60.0, print, ELSEWHERE)
    heart.beat()
    if theirs is None:
        name = f"claims/drivers/{heart.id}.json"
        body = json.loads(objects.get(name) or b"")
        del body["lease"]
        objects.put(name, json.dumps(body).encode())
    clock = Clock()
    others = Others(objects, ours, clock)
    while others.living([heart.id]):
        clock.now += 1.5
    assert after < clock.now < after + 3


def test_a_run_that_was_taken_for_dead_goes_on_and_says_so_once(objects):
    said: list[str] = []
    clock = Clock()
    one, other = Claims(objects, said.append, process=ELSEWHERE), Claims(objects, clock=clock)
    with one.take("minima", [""], ["a"]) as taken:
        while other.look().claims:
            clock.now += LEASE_SECONDS / 4
        one._heart.beat()
        assert taken.keys == {"a"}
        assert not other.look().claims  # what it had claimed stays lost
    for _ in range(2):
        with one.take("minima", [""], ["a"]):
            assert [claim.keys for claim in other.look().claims] == [{"a"}]
    one.close()
    other.close()
    assert len(said) == 1
    assert said[0].startswith("this run was taken for dead")


def test_heartbeats_go_on_after_an_outage(objects, monkeypatch):
    monkeypatch.setenv("RAYMC_LEASE", "0.03")
    claims = Claims(objects)
    put, beats, away = objects.put, Counter(), threading.Event()

    def flaky(name: str, content: bytes) -> None:
        beats[away.is_set()] += 1
        if away.is_set():
            if beats[True] > 2:
                away.clear()
            raise StorageFault("away")
        put(name, content)

    with claims.take("minima", [""], ["a"]):
        monkeypatch.setattr(objects, "put", flaky)
        away.set()
        while beats[False] < 3:
            pass
    assert beats[True] == 3


@pytest.mark.parametrize("text", ["soon", "0", "-1", "inf", "nan"])
def test_a_lease_that_is_no_time(monkeypatch, text):
    monkeypatch.setenv("RAYMC_LEASE", text)
    with pytest.raises(StorageFault, match="RAYMC_LEASE"):
        lease_seconds()


def test_heartbeats_of_the_dead_and_of_long_ago_are_taken_away(objects):
    body = {"process": ELSEWHERE.__dict__, "counter": 3}
    gone = {"process": replace(this_process(), started="1").__dict__, "counter": 3}
    for name, content in {"a.json": body, "b.json": gone, "c.json": body, "c.dead": {}, "d.json": {}}.items():
        objects.put(f"claims/drivers/{name}", json.dumps(content).encode())
    Others(objects, LEASE_SECONDS).forget()
    assert files(objects) == ["drivers/a.json"]


def test_a_heart_waits_for_a_silent_storage_no_longer_than_its_lease_allows(monkeypatch):
    monkeypatch.setenv("RAYMC_LEASE", "30")
    claims = Claims(Objects("s3://bucket/prefix"))
    assert claims._heart._objects._silence == 5  # several tries in a lease
    assert claims.objects._silence == 60
    assert claims._heart._objects._away is claims.objects._away  # one outage is said once
