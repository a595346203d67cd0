"""What a fine-tuning draws, told stream by stream: python streams.py RANK FOLDER, with FOLDER/trials.json.

Two workers run every trial together; then rank 0 runs each once more alone. FOLDER/RANK.json gets, for every trial, its
draws together and (rank 0) alone: see `draws`.
"""

from __future__ import annotations

import hashlib
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
from raymc.training.objectives import Classification
from raymc.training.parallel import Group

HEAD, NEW = ("classifier",), ("pooler", "lora_A")


def digest(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.detach().contiguous().numpy().tobytes()).hexdigest()[:16]


def draws(trial: TrialSpec, group: Group, store: Path) -> dict[str, Any]:
    """order: row numbers of this worker by step; masks: what each dropout let through, by step; head, init, backbone:
    digests of tensors before the first update; texts, labels: of this worker's rows by step."""
    seen: dict[str, Any] = {name: [] for name in ("order", "masks", "texts", "labels")}
    batch, loss = Classification.batch, Classification.loss
    hooks: list[Any] = []

    def watched_batch(self: Any, step: int, group: Group) -> Any:
        found = batch(self, step, group)
        seen["order"].append(self.rows(step)[group.rank :: group.size].tolist())
        seen["texts"].append(found[0]["input_ids"].tolist())
        seen["labels"].append(found[0]["labels"].tolist())
        seen["masks"].append([])
        return found

    def watched_loss(self: Any, model: Any, part: dict[str, torch.Tensor]) -> torch.Tensor:
        if not hooks:
            tensors = {name.removeprefix("module."): tensor for name, tensor in model.named_parameters()}
            for stream, names in (("head", HEAD), ("init", NEW)):
                seen[stream] = {n: digest(t) for n, t in tensors.items() if any(part in n for part in names)}
            rest = (n for n in tensors if n not in {*seen["head"], *seen["init"]})
            seen["backbone"] = {name: digest(tensors[name]) for name in rest}
            for module in model.modules():
                if isinstance(module, torch.nn.Dropout):
                    hooks.append(
                        module.register_forward_hook(lambda m, i, out: seen["masks"][-1].append(digest(out != 0)))
                    )
        return loss(self, model, part)

    Classification.batch, Classification.loss = watched_batch, watched_loss  # type: ignore[method-assign]
    try:
        finetune([trial], Store(store), group, checkpoint_every=0, log_every=1, report=lambda _: None)
    finally:
        Classification.batch, Classification.loss = batch, loss  # type: ignore[method-assign]
    return seen


def main(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    trials = {
        name: TrialSpec.model_validate(body) for name, body in json.loads((folder / "trials.json").read_text()).items()
    }
    found = {"together": {n: draws(t, Group(rank, 2), folder / "two") for n, t in trials.items()}}
    dist.barrier()
    dist.destroy_process_group()
    if rank == 0:
        found["alone"] = {n: draws(t, Group(), folder / "one") for n, t in trials.items()}
    (folder / f"{rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
