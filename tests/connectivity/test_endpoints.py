"""Endpoints within a bound in bytes: what is held, what is read ahead, and that it changes no result."""

from __future__ import annotations

import itertools
import shutil
import sys
from typing import Any

import pytest
import torch

from raymc.connectivity.endpoints import Endpoints, Wanted
from raymc.connectivity.work import EndpointTask, PairTask
from raymc.specs.errors import CorruptArtefact
from raymc.store.mirror import Mirror
from raymc.store.objects import Objects
from raymc.store.store import Store
from raymc.tasks.minima import Minima
from raymc.tasks.points import PointModel

LABELS = ("neg", "pos")


@pytest.fixture
def model(master, keys, trials) -> PointModel:
    key = keys["full"][0]
    return PointModel(master[0].folder("minima", key), trials[key], LABELS, "weights", master[0])


def holder(store: Any, **options: Any) -> Endpoints:
    return Endpoints(store, Minima(store, {}), "cpu", **options)


def pairs(keys: list[str]) -> list[PairTask]:
    return [
        PairTask(a, b, "weights", "linear", ("test",), ("path",), points=3) for a, b in itertools.combinations(keys, 2)
    ]


def arrived(endpoints: Endpoints) -> None:
    for future, _ in list(endpoints._coming.values()):
        future.exception()


@pytest.mark.parametrize(
    ("near", "far", "loads"), [(None, 1, 5), (None, 2, 5), (None, 3, 3), (2, 0, 5), (2, 1, 3), (3, 0, 3)]
)
def test_the_bound_says_how_many_are_read_again(master, keys, model, near: int | None, far: int, loads: int):
    """a b c a b: in vectors; two tiers hold each once."""
    bounds = {"cache_bytes": far * model.nbytes, "near_bytes": None if near is None else near * model.nbytes}
    endpoints = holder(master[0], **bounds)
    expected = {}
    for key in (*keys["full"], *keys["full"][:2]):
        found = endpoints.take(model, Wanted("one", key, LABELS))
        assert torch.equal(expected.setdefault(key, found.vector.clone()), found.vector)
        assert found.weights == master[0].weights_digest("minima", key)
        assert endpoints.bytes <= max(2, far + (near or 0)) * model.nbytes
    assert endpoints.loads == loads
    assert endpoints.fits(model) == max(2, far if near is None else near) + (far if near is not None else 0)


def test_what_comes_next_is_read_ahead_within_the_bound(master, keys, model):
    a, b, c = (Wanted("one", key, LABELS) for key in keys["full"])
    small, large = holder(master[0], cache_bytes=2 * model.nbytes), holder(master[0], cache_bytes=3 * model.nbytes)
    for endpoints, count in ((small, 2), (large, 3)):
        for one in (a, b):
            endpoints.take(model, one)
        endpoints.ahead(model, [a, c, b, c])
        arrived(endpoints)
        assert (endpoints.loads, endpoints.bytes) == (count, count * model.nbytes)
        assert torch.equal(endpoints.take(model, c).vector, holder(master[0], cache_bytes=1).take(model, c).vector)
        assert endpoints.loads == 3


def test_what_is_needed_last_goes_first(master, keys, model):
    """After a b, c: a is needed again soon, b isn't; by age alone a would go."""
    a, b, c = (Wanted("one", key, LABELS) for key in keys["full"])
    for known, loads in (([], 4), ([c, a, c], 3)):
        endpoints = holder(master[0], cache_bytes=2 * model.nbytes)
        for one in (a, b):
            endpoints.take(model, one)
        endpoints.begin()
        endpoints.ahead(model, known)
        endpoints._recent.clear()  # as between two paths of which neither needs both
        for one in (c, a):
            endpoints.take(model, one)
        assert endpoints.loads == loads


def test_a_weights_file_is_opened_once_a_load(master, keys, model):
    opened: list[str] = []
    watching = True

    def watch(event: str, args: Any) -> None:
        if watching and event == "open" and str(args[0]).endswith("model.safetensors"):
            opened.append(str(args[0]))

    sys.addaudithook(watch)
    try:
        endpoints = holder(master[0], cache_bytes=1 << 30)
        endpoints.made(keys["full"][1])
        endpoints.take(model, Wanted("one", keys["full"][1], LABELS))
        endpoints.take(model, Wanted("one", keys["full"][1], LABELS))
    finally:
        watching = False
    assert len(opened) == 1


def test_reading_ahead_changes_no_result(master, keys, evaluator):
    plain, ahead = evaluator(master[0]), evaluator(master[0])
    tasks = pairs(keys["full"])
    ahead.expect(tasks)
    for task in tasks:
        (one,), (other,) = plain.pair(task, {}), ahead.pair(task, {})
        assert one.model_copy(update={"seconds": 0.0}) == other.model_copy(update={"seconds": 0.0})
        arrived(ahead.endpoints)
        assert ahead.loads == 3
    assert not ahead.endpoints._coming


@pytest.mark.parametrize("ahead", [False, True])
def test_a_machine_s_own_damage_is_fetched_anew_from_object_storage(master, keys, model, tmp_path, ahead: bool):
    key = keys["full"][0]
    store = Store(tmp_path / "machine")
    store.objects = Objects(tmp_path / "bucket")
    store.mirror = Mirror(store.root, store.objects)
    with store.create("minima", key) as folder:
        shutil.copytree(master[0].folder("minima", key), folder, dirs_exist_ok=True)
        (folder / "MANIFEST.json").unlink()
    path = store.folder("minima", key) / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    endpoints = holder(store, cache_bytes=2 * model.nbytes)
    endpoints.ahead(model, [Wanted("one", key, LABELS)] if ahead else [])
    found = endpoints.take(model, Wanted("one", key, LABELS))
    assert torch.equal(found.vector, holder(master[0], cache_bytes=1).take(model, Wanted("one", key, LABELS)).vector)


def test_damage_that_is_read_ahead_is_told_by_the_task_that_needs_it(store, keys, evaluator):
    c = keys["full"][2]
    path = store.folder("minima", c) / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-9] ^= 4
    path.write_bytes(bytes(content))
    found = evaluator(store)
    task, *rest = pairs(keys["full"])
    found.expect([task, EndpointTask(c, "weights", ("test",)), *rest])
    found.pair(task, {})
    arrived(found.endpoints)
    found.pair(task, {})
    for one in rest:
        with pytest.raises(CorruptArtefact, match="SHA-256 differs") as caught:
            found.pair(one, {})
        assert caught.value.key == c
