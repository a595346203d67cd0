"""A group of workers that train one model together: ranks, wrapping, and sums over the group."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class Group:
    """This process's place among the workers of one trial. One worker needs no process group."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"
    strategy: Literal["ddp", "fsdp"] = "ddp"

    def wrap(self, model: Any) -> Any:
        """The model as it trains on this worker: itself, under DistributedDataParallel, or fully sharded (FSDP2)."""
        model.to(self.device)
        if self.size == 1:
            return model
        if self.strategy == "ddp":
            ids = [torch.device(self.device)] if self.device.startswith("cuda") else None
            return torch.nn.parallel.DistributedDataParallel(model, device_ids=ids)
        from torch.distributed.fsdp import fully_shard

        for block in _blocks(model):
            fully_shard(block)
        return fully_shard(model)

    @contextlib.contextmanager
    def syncing(self, model: Any, last: bool) -> Iterator[None]:
        """Workers exchange gradients in the last of a batch's backward passes alone."""
        with model.no_sync() if self.size > 1 and not last else contextlib.nullcontext():
            yield

    def total(self, value: torch.Tensor) -> torch.Tensor:
        """The sum of a scalar tensor over all workers."""
        if self.size > 1:
            dist.all_reduce(value)
        return value

    def wait(self) -> None:
        if self.size > 1:
            dist.barrier()


def _blocks(model: Any) -> list[Any]:
    """The repeated blocks of a transformer: the entries of its module lists."""
    lists = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList)]
    return [block for blocks in lists for block in blocks if any(p.requires_grad for p in block.parameters())]
