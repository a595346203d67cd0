"""One of two workers that see different things of a shared folder: python disagreement.py RANK FOLDER.

FOLDER/trial.json is a TrialSpec. What each worker met goes to FOLDER/RANK.json.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import torch.distributed as dist

from raymc.specs.errors import RaymcError, StorageFault
from raymc.specs.trial import TrialSpec
from raymc.store.store import Store
from raymc.training.checkpoint import Checkpoints
from raymc.training.finetune import finetune
from raymc.training.parallel import Group


def said(action: Callable[[], Any]) -> str:
    try:
        action()
    except RaymcError as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def full() -> None:
    raise RaymcError("a bad disk")


def broken(rank: int) -> None:
    """What the first meets too is less: another machine's storage ends the run."""
    raise StorageFault("Read-only file system") if rank else RaymcError("a bad file")


class Ahead(Store):
    """A store on a node that believes everything to be there."""

    def has(self, kind: str, key: str) -> bool:
        return True


class Behind(Checkpoints):
    """Checkpoints on a node that hasn't heard of any."""

    def _steps(self) -> list[int]:
        return []


def main(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    timeout = timedelta(seconds=60)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2, timeout=timeout)
    group, found = Group(rank, 2), {}
    found["agreed"] = group.agreed({"rank": rank})
    found["first"] = said(lambda: group.first(full))
    found["together"] = said(lambda: group.together(lambda: full() if rank == 1 else 0))
    socket.gethostname = lambda: f"node{rank}"
    found["storage"] = said(lambda: group.together(lambda: broken(rank)))

    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    store = Store(folder / "store")
    Checkpoints(store, "one", 1).save(model, optimizer, 3, [], group)
    found["resumed"] = (Behind if rank else Checkpoints)(store, "one", 1).restore(model, optimizer, group, 9)[0]

    trial = TrialSpec.model_validate_json((folder / "trial.json").read_text())
    seen = Ahead(folder / "store") if rank else store
    finetune([trial], seen, group, checkpoint_every=0, log_every=1, report=lambda _: None)
    found["stored"] = store.has("minima", trial.key)
    (folder / f"{rank}.json").write_text(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
