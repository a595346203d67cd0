"""What a machine is, and how fast it multiplies matrices."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Any

import torch

from raymc.connectivity.precision import device_name, native
from raymc.specs.exactness import Computed

_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "sve", "bf16")
_SECONDS = 0.3  # of products that the rate is taken over
_WIDTH = {"cpu": 1024, "cuda": 8192}


def machine(device: str) -> dict[str, Any]:
    """For the head of a report."""
    found: dict[str, Any] = {
        "device": device_name(device),
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "cpu_flags": _flags(),
        "bf16_native": native(device),
        "load_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }
    if device.startswith("cuda"):
        found["cuda"] = torch.version.cuda
    return found


def _flags() -> list[str]:
    """Of the processor, those that matrix products are faster with; none where the system doesn't tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
    words = next((line.split() for line in lines if line.lower().startswith(("flags", "features"))), [])
    return [name for name in _FLAGS if name in words]


def matrix_rate(device: str, precision: Computed) -> float:
    """Floating-point operations a second of the fastest of several products of two large square matrices."""
    width = _WIDTH[torch.device(device).type]
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(width, width, device=device, dtype=kind) for _ in range(2))
    best, began = float("inf"), time.perf_counter()
    while time.perf_counter() - began < _SECONDS or best == float("inf"):
        _wait(device)
        started = time.perf_counter()
        torch.mm(a, b)
        _wait(device)
        best = min(best, time.perf_counter() - started)
    return 2.0 * width**3 / best


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def operations(call: Any) -> float:
    """Floating-point operations of the matrix products of a call, padding counted, as torch counts them."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        call()
    return float(counter.get_total_flops())


def peak_memory(device: str) -> int:
    """Bytes that this process has held at most: on a GPU of tensors there, else of its main memory."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated()
    from raymc.runtime.together import most_held

    return most_held()
