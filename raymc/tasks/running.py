"""How batches go through a model: as it is, compiled, recorded for the GPU, or at several points at once."""

from __future__ import annotations

import contextlib
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from raymc.specs.errors import first_line
from raymc.tasks.points import PointModel
from raymc.tasks.scoring import Parts, Scorer, TextScorer

RowScorer = Scorer | TextScorer
Switch = Literal["auto", "on", "off"]
Write = Callable[[float, torch.Tensor], None]  # a curve's point at t into a flat vector

AT_ONCE = 4  # points of one base in a forward pass, where that is faster
_SETTLED = 6  # passes of a row set through a model before it is worth trying how they go faster
_FAILURES = (
    RuntimeError,
    TypeError,
    ValueError,
    AttributeError,
    KeyError,
    ImportError,
    OSError,
)  # of torch's compilers
_ALIKE = 1e-4  # nats a row that a faster way may differ by before it is taken for broken


class Running:
    """Runs passes in the way that a short measurement on the device found to be the fastest, or that was asked for.

    `compile`: on: torch.compile; off: batches go through the model as it is. auto, the default, is off on a CPU, and on
    a GPU records each batch as a CUDA graph where replaying it is faster. `stack`: whether several points go through
    the model at once where only adapters differ (space factors); auto: on a GPU, where it is faster. A way that fails
    or gives other losses is left, and `chosen` says so: by what was decided, in words, for the record.
    """

    def __init__(self, device: str = "cpu", compile: Switch = "auto", stack: Switch = "auto"):
        self._gpu = torch.device(device).type == "cuda"
        self._compile: Switch = ("auto" if self._gpu else "off") if compile == "auto" else compile
        self._stack: Switch = ("auto" if self._gpu else "off") if stack == "auto" else stack
        self._known: weakref.WeakKeyDictionary[PointModel, _Known] = weakref.WeakKeyDictionary()
        self.chosen: dict[str, str] = {}

    @property
    def waits(self) -> bool:
        """Whether a pass is done when it has been launched."""
        return not self._gpu

    def launch(self, model: PointModel, scorer: RowScorer) -> list[Parts]:
        """A pass at the point that the model is at: what `scorer.collect` makes rows of. Not waited for on a GPU."""
        known = self._of(model)
        if self._compile == "on" and known.compiled is not False:
            return self._compiled(known, model, scorer)
        if self._compile == "auto":
            count = known.passes[scorer] = known.passes.get(scorer, 0) + 1
            if count == _SETTLED:
                self._record(known, model, scorer)
            if (graphs := known.graphs.get(scorer)) is not None:
                return graphs.replay()
        return _plain(model.model, scorer)

    def several(
        self, model: PointModel, scorer: RowScorer, write: Write, t: Sequence[float]
    ) -> list[list[Parts]] | None:
        """Passes at some t, AT_ONCE at most, through the model at once; None where they are to be made one by one."""
        if self._stack == "off" or model.space != "factors" or len(t) < 2 or len(t) > AT_ONCE:
            return None
        known = self._of(model)
        if known.stacks is None and self._stack == "auto" and len(t) == AT_ONCE:
            known.stacks = self._try_stack(known, model, scorer, write, t)
        if known.stacks is False or (known.stacks is None and self._stack == "auto"):
            return None
        return known.stack(model).passes(scorer, write, t)

    def _of(self, model: PointModel) -> _Known:
        if model not in self._known:
            self._known[model] = _Known()
        return self._known[model]

    def _compiled(self, known: _Known, model: PointModel, scorer: RowScorer) -> list[Parts]:
        try:
            if known.compiled is None:
                torch._dynamo.config.cache_size_limit = max(64, torch._dynamo.config.cache_size_limit)
                known.compiled = torch.compile(model.model, dynamic=True)
                found = _plain(known.compiled, scorer)
                gap = _gap(found, _plain(model.model, scorer))
                if gap > _ALIKE:
                    raise RuntimeError(f"losses differ by {gap:.1e} nats")
                self.chosen["compile"] = "torch.compile, as the spec says"
                return found
            return _plain(known.compiled, scorer)
        except _FAILURES as error:
            known.compiled = False
            self.chosen["compile"] = f"off, since it failed: {first_line(error)}"
            return _plain(model.model, scorer)

    def _record(self, known: _Known, model: PointModel, scorer: RowScorer) -> None:
        try:
            plain, first = self._timed(lambda: _plain(model.model, scorer))
            graphs = _Graphs(model.model, scorer)
            graphs.replay()
            fast, second = self._timed(graphs.replay)
            gap = _gap(first, second)
        except RuntimeError as error:
            self.chosen["compile"] = f"off, since CUDA graphs failed: {first_line(error)}"
            return
        if faster := gap <= _ALIKE and fast < plain:
            known.graphs[scorer] = graphs
        self.chosen["compile"] = (
            f"{'CUDA graphs' if faster else 'off'}: a pass took {1e3 * plain:.1f} ms, {1e3 * fast:.1f} ms replayed"
            + (f", but losses differ by {gap:.1e} nats" if gap > _ALIKE else "")
        )

    def _try_stack(self, known: _Known, model: PointModel, scorer: RowScorer, write: Write, t: Sequence[float]) -> bool:
        """Which is faster at these t. The model is left at the last one."""

        def single() -> list[list[Parts]]:
            found = []
            for one in t:
                write(one, model.flat)
                model.refresh()
                found.append(self.launch(model, scorer))
            return found

        try:
            known.stack(model).passes(scorer, write, t)
            together, first = self._timed(lambda: known.stack(model).passes(scorer, write, t))
            alone, second = self._timed(single)
            gap = max(_gap(one, other) for one, other in zip(first, second, strict=True))
        except _FAILURES as error:
            self.chosen["stack"] = f"off, since it failed: {first_line(error)}"
            return False
        faster = together < alone and gap <= _ALIKE
        self.chosen["stack"] = (
            f"{'on' if faster else 'off'}: {len(t)} points took {1e3 * alone:.1f} ms one by one, "
            f"{1e3 * together:.1f} ms at once" + (f", but losses differ by {gap:.1e} nats" if gap > _ALIKE else "")
        )
        return faster

    def _timed(self, run: Callable[[], Any]) -> tuple[float, Any]:
        if self._gpu:
            torch.cuda.synchronize()
        began = time.perf_counter()
        found = run()
        if self._gpu:
            torch.cuda.synchronize()
        return time.perf_counter() - began, found


class _Known:
    """What is known of passes through one model."""

    def __init__(self) -> None:
        self.compiled: Any = None  # not tried yet; False: it failed
        self.passes: weakref.WeakKeyDictionary[RowScorer, int] = weakref.WeakKeyDictionary()
        self.graphs: weakref.WeakKeyDictionary[RowScorer, _Graphs] = weakref.WeakKeyDictionary()
        self.stacks: bool | None = None
        self._stack: _Stack | None = None

    def stack(self, model: PointModel) -> _Stack:
        if self._stack is None:
            self._stack = _Stack(model)
        return self._stack


class _Graphs:
    """The batches of a row set, each recorded once and replayed with the weights that lie in the same place."""

    def __init__(self, model: Any, scorer: RowScorer):
        side, pool = torch.cuda.Stream(), torch.cuda.graph_pool_handle()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            _plain(model, scorer)
        torch.cuda.current_stream().wait_stream(side)
        self._recorded: list[tuple[Any, Parts]] = []
        for index in range(scorer.count):
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=pool):
                parts = scorer.step(model, index)
            self._recorded.append((graph, parts))

    def replay(self) -> list[Parts]:
        found = []
        for graph, parts in self._recorded:
            graph.replay()
            found.append(tuple(part.clone() for part in parts))  # the next replay writes to the same place
        return found


class _Stack:
    """Several points as one: the tensors that make them side by side, the base shared."""

    def __init__(self, model: PointModel):
        self._model, self._step = weakref.proxy(model), _Step(model.model)
        self._flat = model.flat.new_zeros(AT_ONCE, model.flat.numel())

    def passes(self, scorer: RowScorer, write: Write, t: Sequence[float]) -> list[list[Parts]]:
        for row, one in zip(self._flat, t, strict=False):
            write(one, row)
        tensors = {f"model.{name}": tensor for name, tensor in self._model.stacked(self._flat[: len(t)]).items()}
        found: list[list[Parts]] = [[] for _ in t]
        # fused attention for CPUs knows no vmap
        kernels = contextlib.nullcontext() if self._flat.is_cuda else sdpa_kernel(SDPBackend.MATH)
        with torch.inference_mode(), kernels:
            for index in range(scorer.count):
                at = vmap(lambda one, index=index: functional_call(self._step, one, (scorer, index)))(tensors)
                for number, passes in enumerate(found):
                    passes.append(tuple(part[number] for part in at))
        return found


class _Step(nn.Module):
    """A scorer's step as a module, so that a model's tensors can be put in its place by name."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model
        self.training = False

    def forward(self, scorer: RowScorer, index: int) -> Parts:
        return scorer.step(self.model, index)


def _plain(model: Any, scorer: RowScorer) -> list[Parts]:
    return [scorer.step(model, index) for index in range(scorer.count)]


def _gap(one: list[Parts], other: list[Parts]) -> float:
    """The largest difference of what is first in the parts: losses, or log-likelihoods, of rows."""
    pairs = zip(one, other, strict=True)
    return max(float((x[0].double() - y[0].double()).abs().max()) for x, y in pairs)
