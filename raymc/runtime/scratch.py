"""Scratch folders of a run that each machine makes for itself, and their end."""

from __future__ import annotations

import contextlib
import shutil
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raymc.store.store import Store

_PATIENCE = 10.0  # seconds that machines are given; what they don't remove is in the way of nobody


def clear(folder: str, store: Store, elsewhere: bool = True) -> None:
    """Remove a folder that `store.scratch` named, for this run alone: of object storage on all machines of the cluster.

    A machine that is away, or doesn't answer soon, keeps its own; so do all others without `elsewhere`.
    """
    shutil.rmtree(folder, ignore_errors=True)
    if not elsewhere or store.mirror is None or not ray.is_initialized():
        return
    with contextlib.suppress(RayError, ConnectionError, TimeoutError):
        here = ray.get_runtime_context().get_node_id()
        others = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["NodeID"] != here]
        remove: Any = ray.remote(_remove)
        calls = [
            remove.options(
                num_cpus=0, max_retries=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
            ).remote(folder)
            for node in others
        ]
        if calls:
            for call in ray.wait(calls, num_returns=len(calls), timeout=_PATIENCE)[1]:
                ray.cancel(call)  # it would wait for its machine for as long as the run lasts


def _remove(folder: str) -> None:
    shutil.rmtree(folder, ignore_errors=True)
