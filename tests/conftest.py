"""What all tests share."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Before anything loads numpy or torch, and for all processes that tests start. Several test processes share the cores:
# threads of a small product only wait for each other there, at four times the CPU.
os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile(
    "raymc",
    deadline=None,
    database=None,
    max_examples=60,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],  # on a busy machine
)
settings.load_profile("raymc")

SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The datasets that lie beside the repository, for tests on real text."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the datasets in {SHARED}, which is not there")
    return SHARED


@pytest.fixture(scope="session")
def on_one_thread() -> Iterator[None]:
    """torch on one thread, and the libraries quiet."""
    import torch

    from raymc.tasks import backbones

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    backbones.quiet()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[..., Path]:
    """make_dataset("name", train=8, validation=4) writes a folder of JSONL splits of so many rows with two labels."""

    def make(name: str = "dataset", **rows: int) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        for split, count in (rows or {"train": 8, "validation": 4, "test": 4}).items():
            lines = (
                json.dumps(
                    {"text": f"{split} sentence {i} is {('good', 'bad')[i % 2]}", "label": ("pos", "neg")[i % 2]}
                )
                for i in range(count)
            )
            (folder / f"{split}.jsonl").write_text("".join(f"{line}\n" for line in lines))
        return folder

    return make
