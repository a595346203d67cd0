"""One of several workers that pre-train together: python pretrain_workers.py RANK SIZE FOLDER, with FOLDER/jobs.json.

A job: {"backbones": [...], "strategy": "ddp" or "fsdp", "store": path}.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import torch.distributed as dist

from raymc.specs.text import TextBackbone
from raymc.store.store import Store
from raymc.training.parallel import Group
from raymc.training.pretrain import pretrain


def main(rank: int, size: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=size)
    for job in json.loads((folder / "jobs.json").read_text()):
        pretrain(
            [TextBackbone.model_validate(one) for one in job["backbones"]],
            Store(job["store"]),
            Group(rank, size, "cpu", job["strategy"]),
            checkpoint_every=2,
            log_every=2,
            report=lambda _: None,
        )
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
