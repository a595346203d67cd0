"""How busy the driver's machine is while a sweep runs, by MLflow's own monitors: processors, memory, GPUs."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

from raymc.tracking.tracker import SystemSample

FIRST, EVERY = 2.0, 10.0  # seconds to the first sample, and between samples


class SystemWatch:
    """Samples on a thread of its own until `stop`; what can't be measured here is left out."""

    def __init__(self, put: Callable[[SystemSample], None], first: float = FIRST, every: float = EVERY):
        self._put, self._first, self._every = put, first, every
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="raymc-system", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()

    def _watch(self) -> None:
        if self._stopped.wait(self._first):
            return
        monitors = _monitors()
        step = 0
        while True:
            values: dict[str, float] = {}
            for monitor in monitors:
                monitor.collect_metrics()
                values |= monitor.aggregate_metrics()
                monitor.clear_metrics()
            self._put(SystemSample(values, round(time.time() * 1000), step))
            step += 1
            if self._stopped.wait(self._every):
                return


def _monitors() -> list[Any]:
    from raymc.tracking.calls import quieten, settle

    settle()
    try:
        from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
        from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    except ImportError:  # psutil isn't there
        return []
    quieten()
    found: list[Any] = [CPUMonitor()]
    with contextlib.suppress(ImportError, RuntimeError):  # no nvidia-ml-py, or no such GPU
        found.append(GPUMonitor())
    found[0].collect_metrics()  # the first look at processors has nothing to compare with
    found[0].clear_metrics()
    return found
