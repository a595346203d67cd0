"""One of several workers that fine-tune together: python workers.py RANK SIZE FOLDER, with FOLDER/jobs.json.

A job: {"trial": {...}, "strategy": "ddp" or "fsdp", "store": path, "stop": step or null, "micro_batch": rows or
null}. With `stop`, the job is first
interrupted in the report of that step, on every worker, and then begun again.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import torch.distributed as dist

from raymc.specs.trial import TrialSpec
from raymc.store.store import Store
from raymc.training.finetune import finetune
from raymc.training.parallel import Group


class Stopped(Exception):
    pass


def work(job: dict[str, Any], rank: int, size: int) -> None:
    def report(point: dict[str, float]) -> None:
        if point["step"] == job["stop"]:
            raise Stopped

    trial, group = TrialSpec.model_validate(job["trial"]), Group(rank, size, "cpu", job["strategy"])
    for attempt in range(2 if job["stop"] else 1):
        try:
            finetune(
                [trial],
                Store(job["store"]),
                group,
                checkpoint_every=1,
                log_every=1,
                report=report if attempt == 0 else lambda _: None,
                micro_batch=job["micro_batch"],
            )
        except Stopped:
            continue


def shard(group: Group) -> list[Any]:
    """What of an 8 x 4 matrix lies on this worker, and as what."""
    weight: Any = next(iter(group.wrap(torch.nn.Sequential(torch.nn.Linear(4, 8))).parameters()))
    local = weight.to_local() if hasattr(weight, "to_local") else weight
    return [list(local.shape), type(weight).__name__]


def main(rank: int, size: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=size)
    for job in json.loads((folder / "jobs.json").read_text()):
        work(job, rank, size)
    shards = {strategy: shard(Group(rank, size, "cpu", strategy)) for strategy in ("ddp", "fsdp")}
    (folder / f"shards-{rank}.json").write_text(json.dumps(shards))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
