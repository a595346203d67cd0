"""Two runs on one storage at once: what they share is computed once, and neither needs the other to live."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from raymc.store import layout
from raymc.store.objects import Objects

COMMON = ["--json", "--set", "tracking.enabled=false", "--set", "axes.model.backbone.seed=[1]"]
COMMON += ["--set", "train.steps=200", "--set", "connectivity.splits=[validation]"]
SWEEPS = {"left": [1, 2, 3], "right": [2, 3, 4]}


@pytest.fixture(scope="module")
def lone(raymc, tiny, tmp_path_factory, _pretrained, copied) -> Path:
    """The storage of one run, by itself, of what the two sweeps share."""
    storage = copied(_pretrained, tmp_path_factory.mktemp("lone"), layout.BACKBONES)
    done = raymc("run", tiny, "--storage", storage, *COMMON, "--set", "axes.seeds.order=[2, 3]")
    assert done.code == 0, done.err
    return storage


@pytest.fixture
def begin(start, tiny) -> Iterator[Callable[..., Any]]:
    """begin(name, storage): a run of one of the sweeps, on a Ray of its own."""
    processes = []

    def go(name: str, storage: Path) -> Any:
        sweep = ["--set", f"name={name}", "--set", f"axes.seeds.order={SWEEPS[name]}"]
        processes.append(start("run", tiny, "--storage", storage, *COMMON, *sweep, all_cpus=False))
        return processes[-1]

    yield go
    for process in processes:
        process.kill()
        process.communicate()


def same_profiles(storage: Path, name: str, lone: Path) -> None:
    """The profiles that both have are, to the last bit, those of the run by itself."""
    ends = ["a", "b"]
    found, alone = (
        pd.read_parquet(at / "sweeps" / sweep / "profiles.parquet") for at, sweep in ((storage, name), (lone, "tiny"))
    )
    assert len(found[ends].drop_duplicates()) == 3
    shared = found.merge(alone[ends].drop_duplicates(), on=ends)
    pd.testing.assert_frame_equal(shared, alone, check_exact=True)


def written(storage: Path, kind: str) -> Counter[str]:
    """How often a record of each name was written."""
    found: Counter[str] = Counter()
    for file in (storage / kind).glob("*/*.jsonl"):
        with file.open() as lines:
            found.update(name for name, _ in json.loads(lines.readline())["records"])
    return found


def test_two_sweeps_that_overlap(begin, lone, tmp_path):
    storage = tmp_path / "store"
    processes = {name: begin(name, storage) for name in SWEEPS}
    said = {name: process.communicate(timeout=300) for name, process in processes.items()}
    assert [process.returncode for process in processes.values()] == [0, 0], said
    results = [json.loads(out.strip().splitlines()[-1]) for out, _ in said.values()]
    assert any("waiting for" in err and "another run" in err for _, err in said.values()), said

    for result in results:
        assert result["minima"]["total"] == result["minima"]["computed"] + result["minima"]["reused"] == 3
        assert result["pairs"]["total"] == result["pairs"]["computed"] + result["pairs"]["reused"] == 3
    assert sum(result["minima"]["computed"] for result in results) == 4
    assert sum(result["pairs"]["computed"] for result in results) == 5  # the sweeps share one of 3 and 3
    for kind, count in ((layout.EVALUATIONS, 4), (layout.PROFILES, 5)):
        names = written(storage, kind)
        assert len(names) == count
        assert set(names.values()) == {1}
    for name in SWEEPS:
        same_profiles(storage, name, lone)
    assert [Path(name).suffix for name in Objects(storage).list("claims")] == [".floor"]  # nothing else is left
