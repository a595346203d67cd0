"""What one trial does in its process: pre-training, fine-tuning or a curve's fit, alone or with other workers."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from raymc.runtime.cluster import Shape
from raymc.runtime.losses import halted
from raymc.specs.errors import RaymcError
from raymc.specs.model import Pretrained
from raymc.specs.trial import TrialSpec
from raymc.store import layout
from raymc.store.store import Store

FAILED = "raymc_failed"
HALTED = "raymc_halted"  # no other trial can do any better
GIVEN_UP = "raymc_given_up"
_WAIT_FOR_ROOM = 24 * 3600  # seconds that a group of workers may wait for room; Ray Train's own minute fails trials
_REPORT_SECONDS = 0.5  # between reports of a trial's progress; its own record of the curve has every point
_SHARED = 0.95  # of a GPU's memory, where several processes share it
_BACKBONE: TypeAdapter[Pretrained] = TypeAdapter(Pretrained)


@dataclass(frozen=True)
class Trial:
    """One run, which yields one artefact or, with snapshots, several of a trajectory.

    `kind`: minima, backbones or curves. `key`: of the run. `keys`, `bodies`: each artefact's key, and the JSON of its
    TrialSpec, backbone or Fitting.
    """

    kind: str
    key: str
    name: str
    keys: tuple[str, ...]
    bodies: tuple[dict[str, Any], ...]

    def done(self, store: Store) -> bool:
        return all(store.has(self.kind, key) for key in self.keys)


@dataclass(frozen=True)
class Settings:
    """What is the same for all trials of a sweep."""

    storage: str
    workers: int
    cpus: float
    gpus: float
    strategy: str
    retries: int
    checkpoint_every: int
    log_every: int
    scratch: str
    micro_batch: int | Literal["auto"] | None = "auto"
    tokens: str | None = None  # a folder in which trials share token ids


def tune_trial(config: dict[str, Any]) -> None:
    """The function that Ray Tune runs. A fault that no retry can mend is reported, not raised."""
    from ray import tune

    trial, settings = Trial(**config["trial"]), Settings(**config["settings"])
    if GIVEN_UP in config:
        tune.report({FAILED: config[GIVEN_UP]})
        return
    if settings.workers > 1:
        _with_train(trial, settings)
        return
    _guarded(trial, settings, _now_and_then(tune.report))


def _now_and_then(report: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    """Points of a training curve are passed on at most every so often, and the last: the training waits for each."""
    last = -math.inf

    def told(point: dict[str, Any]) -> None:
        nonlocal last
        now = time.monotonic()
        if "step" not in point or point["step"] == point.get("steps") or now - last >= _REPORT_SECONDS:
            report(point)
            last = time.monotonic()

    return told


def _guarded(trial: Trial, settings: Settings, report: Callable[[dict[str, Any]], None]) -> None:
    try:
        with _told(settings, report):
            _train(trial, settings, report)
    finally:
        _give_back_memory()


@contextlib.contextmanager
def _told(settings: Settings, report: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    """Faults that no other try can mend are reported, and those of the storage, for all trials.

    Of several workers all report the same or none, which is so of a RaymcError: any other exception is raised there.
    """
    try:
        yield
    except RaymcError as error:
        stop = halted(error, settings.storage)
        report({FAILED: str(stop or error), HALTED: stop is not None})
    except Exception as error:
        stop = halted(error, settings.storage)
        if stop is None or settings.workers > 1:
            raise
        report({FAILED: str(stop), HALTED: True})


def _give_back_memory() -> None:
    """Return freed memory to the system: batches of many widths leave it in pieces, and the process is used again."""
    from raymc.training.memory import release

    release()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's alone
    if trim is not None:
        trim(0)


def _train(
    trial: Trial, settings: Settings, report: Callable[[dict[str, Any]], None], rank: int = 0, size: int = 1
) -> None:
    import torch

    from raymc.training.parallel import Group

    torch.set_num_threads(max(1, int(settings.cpus)))
    device = "cpu"
    if settings.gpus and size > 1:
        from ray.train.torch import get_device

        device = str(get_device())
    elif settings.gpus:
        device = "cuda"
    if device.startswith("cuda") and settings.gpus < 1:
        # Those who share a GPU each keep to their part; the rest is for what CUDA itself takes a process.
        torch.cuda.set_per_process_memory_fraction(_SHARED * settings.gpus, device if ":" in device else None)
    group = Group(rank, size, device, "fsdp" if settings.strategy == "fsdp" else "ddp")
    store = Store(settings.storage)
    options: dict[str, Any] = {
        "checkpoint_every": settings.checkpoint_every,
        "log_every": settings.log_every,
        "report": report,
        "micro_batch": settings.micro_batch,
    }
    shared = Path(settings.tokens) if settings.tokens else None
    if trial.kind == layout.BACKBONES:
        from raymc.training.pretrain import pretrain

        pretrain([_BACKBONE.validate_python(body) for body in trial.bodies], store, group, **options)
        return
    if trial.kind == layout.CURVES:
        from raymc.specs.fitting import Fitting
        from raymc.training.curve_fit import fit_curve

        for body in trial.bodies:
            fit_curve(Fitting.model_validate(body), store, group, **options, tokens=shared)
        return
    trials = [TrialSpec.model_validate(body) for body in trial.bodies]
    if trials[0].tuning.method == "existing":
        from raymc.training.existing import take

        if rank == 0:
            take(trials[0], store)
        return
    from raymc.training.finetune import finetune

    finetune(trials, store, group, **options, tokens=shared)


def _with_train(trial: Trial, settings: Settings) -> None:
    """Several workers: a TorchTrainer inside the Tune trial; its workers form one process group.

    What ends it is told to the search, which counts and begins it again.
    """
    os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = str(_WAIT_FOR_ROOM)
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.train.v2.api.config import FailureConfig
    from ray.tune.integration.ray_train import TuneReportCallback

    trainer = TorchTrainer(
        _train_worker,
        train_loop_config={"trial": asdict(trial), "settings": asdict(settings)},
        torch_config=TorchConfig(backend="nccl" if settings.gpus else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=settings.workers,
            use_gpu=bool(settings.gpus),
            resources_per_worker=Shape(settings.cpus, settings.gpus).bundle(),
        ),
        run_config=ray.train.RunConfig(
            name=f"{trial.key}-{os.getpid()}",
            storage_path=settings.scratch,
            failure_config=FailureConfig(max_failures=0, controller_failure_limit=0, max_preemption_failures=0),
            callbacks=[TuneReportCallback()],
        ),
    )
    trainer.fit()


def _train_worker(config: dict[str, Any]) -> None:
    import ray.train

    trial, settings = Trial(**config["trial"]), Settings(**config["settings"])
    context = ray.train.get_context()

    def report(point: dict[str, Any]) -> None:
        ray.train.report(point)

    with _told(settings, report):
        _train(trial, settings, report, context.get_world_rank(), context.get_world_size())
