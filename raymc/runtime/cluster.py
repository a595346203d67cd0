"""The Ray cluster a sweep runs on: found or started, quiet, and what it can place."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from raymc.runtime.head import answers, watched
from raymc.specs.errors import RaymcError, Unreachable, first_line
from raymc.specs.secrets import without_secrets

_ANSWER = 20.0  # seconds for a head's first answer
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_task_oom_retries": "2",  # of a task that the memory monitor kills; Ray's own default is for ever
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # the sweep has its own, which keeps finished work and stops cleanly
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_MAX_PENDING_TRIALS_PG": "16",  # asked for ahead: an autoscaler sees them, other sweeps still get their turn
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}


GROWS_TO = "RAYMC_GROWS_TO"  # in the head's environment, where a cluster has an autoscaler


@dataclass(frozen=True)
class Shape:
    """What one process of a group asks for."""

    cpus: float
    gpus: float

    def bundle(self) -> dict[str, float]:
        return {"CPU": self.cpus, **({"GPU": self.gpus} if self.gpus else {})}

    def __str__(self) -> str:
        return f"{self.cpus:g} CPU" + (f" and {self.gpus:g} GPU" if self.gpus else "")


@dataclass(frozen=True)
class Cluster:
    """The nodes' CPUs and GPUs."""

    nodes: tuple[tuple[float, float], ...]

    @property
    def has_gpus(self) -> bool:
        return any(gpus > 0 for _, gpus in self.nodes)

    def fits(self, shape: Shape) -> int:
        """How many processes of a shape can run at the same time, each within one node."""
        count = 0
        for cpus, gpus in self.nodes:
            by_gpu = int((gpus + 1e-9) / shape.gpus) if shape.gpus else 10**9
            count += min(int((cpus + 1e-9) / shape.cpus), by_gpu)
        return count

    def require(self, shape: Shape, count: int, path: str, what: str) -> int:
        """How many groups of `count` such processes fit at once. Raises Unplaceable where none does."""
        fits = self.fits(shape)
        if fits < count:
            cpus, gpus = (sum(column) for column in zip(*self.nodes, strict=True)) if self.nodes else (0.0, 0.0)
            raise Unplaceable(
                path,
                f"{count} {what} of {shape} can't be placed: the cluster has {cpus:g} CPU and {gpus:g} GPU "
                f"on {len(self.nodes)} node{'s' if len(self.nodes) != 1 else ''}, room for {fits}",
            )
        return fits // count


class Unplaceable(RaymcError):
    """A request that the cluster can never grant, by the dotted field of the spec that asks for it."""

    def __init__(self, path: str, message: str):
        super().__init__(f"{path}: {message}")
        self.path, self.message = path, message


def this_machine() -> Cluster:
    """The cluster that a local run starts, as far as is known before Ray runs (its GPUs are not looked for)."""
    return Cluster(((float(os.cpu_count() or 1), 0.0),))


def starts_here(address: str | None) -> bool:
    """Whether `connect` would start a Ray of its own on this machine."""
    ray = sys.modules.get("ray")
    joined = ray is not None and ray.is_initialized()
    return not (address or os.environ.get("RAY_ADDRESS") or joined)


def alive() -> Cluster:
    """The nodes that the joined cluster has now, and those that its autoscaler may add: see `to_come`."""
    import ray

    resources = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    nodes = [(node.get("CPU", 0.0), node.get("GPU", 0.0)) for node in resources]
    return Cluster((*nodes, *to_come(nodes, os.environ.get(GROWS_TO, ""))))


def to_come(nodes: Sequence[tuple[float, float]], grows_to: str) -> list[tuple[float, float]]:
    """Nodes, as (CPUs, GPUs), that aren't there yet. Ray tells nobody how far its autoscaler may go, so people do.

    `grows_to`: groups of nodes with their greatest number, such as `8x4CPU+1GPU` or `8x4CPU+1GPU,2x16CPU`. Raises
    RaymcError for other text.
    """
    found: list[tuple[float, float]] = []
    for group in filter(None, (part.strip() for part in grows_to.split(","))):
        match = re.fullmatch(r"(\d+) ?x ?(\d+(?:\.\d+)?) ?CPU(?: ?\+ ?(\d+) ?GPU)?", group)
        if match is None:
            raise RaymcError(f"{GROWS_TO}: {group!r} is no group of nodes, such as 8x4CPU+1GPU")
        node = float(match[2]), float(match[3] or 0)
        found += [node] * max(0, int(match[1]) - list(nodes).count(node))
    return found


@contextlib.contextmanager
def connect(address: str | None, verbose: bool, say: Callable[[str], None] | None = None) -> Iterator[Cluster]:
    """Join the cluster at `address`, or a Ray that this process is joined to already, or start one here.

    One that is started here listens on the loopback interface alone, and is stopped at the end. Raises Unreachable
    where the address doesn't answer or wants another token (RAY_AUTH_MODE, RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH).
    While the block runs, the process is ended where the head is away for too long: see raymc.runtime.head.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    import ray
    from ray.exceptions import RayError

    address = address or os.environ.get("RAY_ADDRESS")
    joined = ray.is_initialized()
    if not joined:
        level = logging.INFO if verbose else logging.ERROR
        options: dict[str, object] = (
            {"address": address} if address else {"address": "local", "include_dashboard": False}
        )
        if address and "://" not in address:
            _knock(address)
        try:
            with warnings.catch_warnings(), contextlib.nullcontext() if address else _on_loopback():
                warnings.simplefilter("ignore")
                ray.init(
                    logging_level=level,
                    log_to_driver=verbose,
                    configure_logging=True,
                    **options,  # type: ignore[arg-type]
                )
        except (ConnectionError, RuntimeError, ValueError, OSError, RayError) as error:
            raise _unreachable(address, error) from error
    if not verbose:
        for name in ("ray", "ray.tune", "ray.train", "ray.data"):
            logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with _off_stdout(verbose), watched(ray.get_runtime_context().gcs_address, say or (lambda text: None)):
            yield alive()
    finally:
        if not joined:
            ray.shutdown()


@contextlib.contextmanager
def _on_loopback() -> Iterator[None]:
    """Ray that starts meanwhile binds 127.0.0.1, as it does where it knows no clusters; on Linux it would bind all."""
    from ray._private import ray_constants

    name, known = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR, ray_constants.ENABLE_RAY_CLUSTER
    before = os.environ.get(name)
    os.environ[name], ray_constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = known
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


@contextlib.contextmanager
def _off_stdout(verbose: bool) -> Iterator[None]:
    """Ray prints what raylets say to stdout, pages of it where one dies, even with `log_to_driver=False`."""
    from ray._private import worker

    module: Any = worker
    known = module.print_to_stdstream

    def printed(data: dict[str, Any], ignore_prefix: bool) -> None:
        if verbose:
            known({**data, "is_err": True}, ignore_prefix)

    module.print_to_stdstream = printed
    try:
        yield
    finally:
        module.print_to_stdstream = known


def _knock(address: str) -> None:
    """See that a head answers and takes the token: `ray.init` says of either after 20 s that it failed to connect."""
    import grpc
    from ray._private import gcs_utils, services
    from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc
    from ray.exceptions import RayError

    try:
        head = services.canonicalize_bootstrap_address(address)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise _unreachable(address, error) from error
    if head is None:
        raise Unreachable(f"Ray {address}: there is none on this machine")
    if not answers(head):
        raise Unreachable(f"Ray {address}: nothing answers there")
    service: Any = gcs_service_pb2_grpc
    messages: Any = gcs_service_pb2
    try:
        channel: Any = gcs_utils.create_gcs_channel(head)
        with channel:
            service.NodeInfoGcsServiceStub(channel).GetClusterId(messages.GetClusterIdRequest(), timeout=_ANSWER)
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.UNAUTHENTICATED:  # type: ignore[attr-defined]
            raise _unreachable(address, error) from error
        raise Unreachable(f"Ray {address}: what answers there is no Ray that can be joined") from error
    except RayError as error:
        raise _unreachable(address, error) from error


def _unreachable(address: str | None, error: Exception) -> RaymcError:
    """One line for a person."""
    reason = without_secrets(first_line(error))
    address = None if address is None else without_secrets(address)
    if address is None:
        return RaymcError(f"Ray on this machine: {reason}")
    text = f"{type(error).__name__}: {error}".lower()
    if any(sign in text for sign in ("token", "unauthenticated", "authentication")):
        what = "it refuses the token"
        if os.environ.get("RAY_AUTH_MODE") != "token":
            what = "it wants a token, and RAY_AUTH_MODE=token isn't set"
        elif "no authentication token" in text:
            what = "RAY_AUTH_MODE=token is set, and there is no token"
        return Unreachable(f"Ray {address}: {what} (RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH with its file)")
    return Unreachable(f"Ray {address}: {reason}")
