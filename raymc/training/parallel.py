"""A group of workers that train one model together: ranks, wrapping, and sums over the group."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

import torch
import torch.distributed as dist

from raymc.specs.errors import RaymcError, StorageFault

T = TypeVar("T")


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
        """Workers exchange gradients in the last of a batch's backward passes alone; shards of them in each."""
        with model.no_sync() if self.size > 1 and self.strategy == "ddp" and not last else contextlib.nullcontext():
            yield

    def least(self, value: int) -> int:
        """The least of the workers' values."""
        if self.size == 1:
            return value
        box = torch.tensor(value, device=self.device)
        dist.all_reduce(box, dist.ReduceOp.MIN)
        return int(box)

    def total(self, value: torch.Tensor) -> torch.Tensor:
        """The sum of a scalar tensor over all workers."""
        if self.size > 1:
            dist.all_reduce(value)
        return value

    def wait(self) -> None:
        if self.size > 1:
            dist.barrier()

    def agreed(self, value: T) -> T:
        """The first worker's value, on all workers: for a while each may see another state of a shared folder."""
        box = [value]
        if self.size > 1:
            device = torch.device(self.device) if self.device.startswith("cuda") else None
            dist.broadcast_object_list(box, 0, device=device)
        return box[0]

    def first(self, act: Callable[[], None]) -> None:
        """Let the first worker do something, and the others wait. Its RaymcError is raised on all: none waits on."""
        fault: RaymcError | None = None
        if self.rank == 0:
            try:
                act()
            except RaymcError as error:
                fault = error
        said = self.agreed(None if fault is None else str(fault))
        if said is not None:
            raise fault or RaymcError(said)

    def together(self, act: Callable[[], T]) -> T:
        """Let every worker do something on its own machine; a RaymcError of one is raised on all: none waits on.

        A StorageFault of one, which names that machine then, is raised on all before any other fault.
        """
        if self.size == 1:
            return act()
        fault: RaymcError | None = None
        try:
            result = act()
        except StorageFault as error:
            fault, result = StorageFault(f"machine {socket.gethostname()}: {error}"), None
        except RaymcError as error:
            fault, result = error, None
        told: list[tuple[bool, str] | None] = [None] * self.size
        dist.all_gather_object(told, None if fault is None else (isinstance(fault, StorageFault), str(fault)))
        faults = [one for one in told if one is not None]
        if faults:
            storage, said = max(faults, key=lambda one: one[0])  # the first of those
            raise StorageFault(said) if storage else fault or RaymcError(said)
        return cast(T, result)


def _blocks(model: Any) -> list[Any]:
    """The repeated blocks of a transformer: the entries of its module lists."""
    lists = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList)]
    return [block for blocks in lists for block in blocks if any(p.requires_grad for p in block.parameters())]
