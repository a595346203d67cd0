"""The real Evaluator along tiles: as few loads as counted, and the same bits in any order, batch and cache."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from raymc.connectivity.missing import AllPairs
from raymc.connectivity.scheduler import Scheduler
from raymc.connectivity.tiles import Cache, Listed, Order, arrange, fewest_loads
from raymc.connectivity.work import PairTask
from raymc.specs.results import Profile
from raymc.store.store import Store

MINIMA, LABELS = 20, ("neg", "pos")


@pytest.fixture(scope="module")
def many(master, keys, tmp_path_factory) -> tuple[Store, list[str]]:
    """Twenty full minima: three that were trained, and others near them."""
    store = Store(tmp_path_factory.mktemp("many"))
    for key in keys["full"]:
        shutil.copytree(master[0].folder("minima", key), store.folder("minima", key))
    random = torch.Generator().manual_seed(0)
    for number in range(MINIMA - len(keys["full"])):
        source = store.folder("minima", keys["full"][number % 3])
        with store.create("minima", f"{number:020x}") as folder:
            shutil.copytree(source, folder, dirs_exist_ok=True)
            (folder / "MANIFEST.json").unlink()
            path = folder / "model.safetensors"
            weights = load_file(path)
            noise = {name: 0.02 * torch.randn(one.shape, generator=random) for name, one in weights.items()}
            save_file({name: one + noise[name] for name, one in weights.items()}, path, {"format": "pt"})
    return store, sorted(path.name for path in (store.root / "minima").iterdir())


def tasks_of(pairs: np.ndarray | list[list[int]], names: list[str], points: int) -> list[PairTask]:
    return [
        PairTask(names[i], names[j], "weights", "linear", ("test",), ("path",), points=points)
        for i, j in np.asarray(pairs).tolist()
    ]


def walk(
    order: Order, workers: int, names: list[str], points: int
) -> Iterator[tuple[int, list[PairTask], list[PairTask]]]:
    """(worker, the tasks of a batch, those that go along) as a pool would hand them out; a pair takes a second."""
    scheduler, now = Scheduler(order, workers, target=7.0), 0.0
    while scheduler.left:
        for worker in range(workers):
            batch = scheduler.next(worker, now)
            if batch is not None:
                yield worker, tasks_of(batch.pairs, names, points), tasks_of(batch.coming, names, points)
                now += len(batch)
                scheduler.done(worker, now)


def run(evaluators: list, order: Order, names: list[str], points: int) -> dict[tuple[str, str], Profile]:
    found = {}
    for worker, tasks, coming in walk(order, len(evaluators), names, points):
        evaluators[worker].expect([*tasks, *coming])
        for task in tasks:
            (found[task.a, task.b],) = evaluators[worker].pair(task, {})
    return found


def bits(profile: Profile) -> dict:
    return profile.model_dump(exclude={"seconds"})


@pytest.mark.parametrize("room", [5, 14])
def test_twenty_minima_take_few_loads_in_fact(many, evaluator, room: int):
    store, names = many
    _, model = evaluator(store).opened(names[0], "weights", LABELS)
    found = evaluator(store, cache_bytes=room * model.nbytes)
    assert found.fits(model) == room
    order = arrange(AllPairs(MINIMA), room)
    profiles = run([found], order, names, 2)
    assert len(profiles) == 190
    least = fewest_loads(190, MINIMA, room)
    assert least <= found.loads <= 1.2 * least
    assert Cache(room).loads(order.pairs(0, 190)) == found.loads


def test_order_batches_cache_and_number_of_workers_change_no_bit(many, evaluator):
    store, names = many
    names = names[:8]
    order = arrange(AllPairs(8), 8)
    whole = evaluator(store)
    expected = {(task.a, task.b): bits(whole.pair(task, {})[0]) for task in tasks_of(order.pairs(0, 28), names, 4)}
    shuffled = Listed(np.random.default_rng(1).permutation(order.pairs(0, 28)), 3)
    for some, workers, cache in ((arrange(AllPairs(8), 3, 3), 3, 1), (shuffled, 1, 200_000)):
        found = run([evaluator(store, cache_bytes=cache) for _ in range(workers)], some, names, 4)
        assert {pair: bits(profile) for pair, profile in found.items()} == expected
