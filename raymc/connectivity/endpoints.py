"""Endpoints of paths as flat vectors: each read once and hashed as it is read, kept within a bound in bytes."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch

from raymc.specs.errors import CorruptArtefact, RaymcError
from raymc.store import layout
from raymc.store.store import Store
from raymc.tasks.minima import Made, Minima
from raymc.tasks.points import PointModel

_WEIGHTS = ".safetensors"
_LEAST = 2  # vectors that are held whatever the bound: those of the path in hand
_SHARE = 4  # of a GPU's free memory, one part in so many is for endpoints where no bound is given


@dataclass(frozen=True)
class Wanted:
    """An endpoint as a path needs it: a minimum in the layout of a model, the head's rows in the order of `labels`.

    `lender`: the minimum whose head it has, empty: its own.
    """

    layout: str
    key: str
    labels: tuple[str, ...] = ()
    lender: str = ""


@dataclass(frozen=True)
class Endpoint:
    """A flat fp32 vector, and the digest of the weights it was read from."""

    vector: torch.Tensor
    weights: str


class _Tier:
    """Endpoints in one memory. `bound`: bytes."""

    def __init__(self, bound: int, pinned: bool = False):
        self.bound, self.held = bound, OrderedDict[Wanted, Endpoint]()
        self._pinned = pinned

    def cost(self, nbytes: int) -> int:
        """Bytes that a vector takes: torch rounds page-locked memory up to a power of two."""
        return 1 << (nbytes - 1).bit_length() if self._pinned else nbytes

    @property
    def bytes(self) -> int:
        return sum(self.cost(one.vector.nbytes) for one in self.held.values())


class Endpoints:
    """What one evaluator holds of the minima it joins.

    On the CPU `cache_bytes` bounds all that is held, what is being read ahead included; two vectors are always held,
    those of the path in hand. On a GPU vectors lie there up to `near_bytes` (None: a quarter of what is free at first
    use), and those that have to go there wait in page-locked memory, up to `cache_bytes`. `loads`: vectors read.

    Where it is told what comes next (`ahead`), that is read by a thread while the path in hand is computed, and what is
    needed last goes first; else what was used longest ago.
    """

    def __init__(self, store: Store, minima: Minima, device: str, cache_bytes: int, near_bytes: int | None = None):
        self._store, self._minima, self._device = store, minima, device
        self._two = near_bytes is not None or torch.device(device).type != "cpu"
        if near_bytes is None:
            near_bytes = -1 if self._two else cache_bytes  # -1: not known yet
        self._near = _Tier(near_bytes)
        self._far = _Tier(cache_bytes, pinned=torch.device(device).type == "cuda")
        self._coming: dict[Wanted, tuple[Future[Endpoint | None], int]] = {}
        self._recent: deque[Wanted] = deque(maxlen=_LEAST)
        self._next: dict[Wanted, int] = {}  # when each is needed, as far as is known
        self._fresh: dict[str, Made] = {}  # whose hashes were checked for the task in hand
        self._reader: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self.loads = 0

    def begin(self) -> None:
        """A new task is in hand: what it reads is checked by its hashes again, unless it is held."""
        self._fresh.clear()

    def made(self, key: str) -> Made:
        """What made a minimum. Its small files are checked by their hashes, unless one of its vectors is held.

        Raises CorruptArtefact. Its weights are checked where they are read.
        """
        if key not in self._fresh:
            if not any(key == one.key for one in self.held):
                self._store.verify(layout.MINIMA, key, deep=True, but=_WEIGHTS)
            self._fresh[key] = self._minima.made(key)
        return self._fresh[key]

    def whole(self, key: str) -> None:
        """Check all of a minimum's files, its weights too: others are about to read them. Raises CorruptArtefact."""
        self._store.verify(layout.MINIMA, key, deep=True)

    @property
    def held(self) -> list[Wanted]:
        return [*self._near.held, *self._far.held]

    @property
    def bytes(self) -> int:
        """Held now, and being read."""
        return self._near.bytes + self._far.bytes + self._coming_bytes()

    def fits(self, model: PointModel) -> int:
        """How many endpoints of a model are held at once."""
        near = self._near_bound() // model.nbytes
        far = self._far.bound // self._far.cost(model.nbytes) if self._two else 0
        return max(_LEAST, near) + far

    def take(self, model: PointModel, wanted: Wanted) -> Endpoint:
        """An endpoint on the device: held, read ahead, or read now with its hashes checked.

        The lender's own vector is held where one is named. Raises RaymcError where the minimum doesn't fit the model or
        the labels, CorruptArtefact where it is damaged.
        """
        weights = self._store.weights_digest(layout.MINIMA, wanted.key)
        held = self._near.held.get(wanted) or self._far.held.get(wanted)
        if held is not None and held.weights != weights:  # of a minimum that was damaged and trained again
            held = None
            self._near.held.pop(wanted, None)
            self._far.held.pop(wanted, None)
        self._recent.append(wanted)
        if wanted in self._near.held:
            self._near.held.move_to_end(wanted)
            return self._near.held[wanted]
        if held is None:
            held = self._arrived(wanted, weights)
        if held is None:
            # on a GPU it passes through the host
            self._room(self._far if self._two else self._near, model.nbytes)
            held = self._load(model, wanted, weights, straight=False)
            assert held is not None
        self._far.held.pop(wanted, None)
        self._room(self._near, model.nbytes)
        found = self._near.held[wanted] = Endpoint(held.vector.to(self._device, non_blocking=True), weights)
        return found

    def ahead(self, model: PointModel, wanted: Sequence[Wanted]) -> None:
        """What is needed next, in order (of this model's layout): read by a thread, as far as the bound has room.

        An endpoint that can't be read is reported when it is taken.
        """
        self._next = {}
        for index, one in enumerate(wanted):
            self._next.setdefault(one, index)
        for one in [one for one in self._coming if one not in self._next]:
            self._drop(one)
        tier = self._far if self._two else self._near
        cost = tier.cost(model.nbytes)
        # One in hand that is needed later than a victim goes first, once it is free: else the victim is read twice.
        latest = max((self._next.get(one, math.inf) for one in self._recent if one in tier.held), default=0)
        for one, index in self._next.items():
            if one in self._coming or one in self._near.held or one in self._far.held or one.lender:
                continue
            used = tier.bytes + self._coming_bytes()
            for victim in self._victims(tier):
                if used + cost <= tier.bound or self._next.get(victim, math.inf) < max(index, latest):
                    break
                used -= tier.cost(tier.held.pop(victim).vector.nbytes)
            if used + cost > tier.bound:
                return
            if self._reader is None:
                self._reader = ThreadPoolExecutor(1, thread_name_prefix="endpoints")
            self._coming[one] = (self._reader.submit(self._load, model, one, "", True), cost)

    def forget(self, layout: str) -> None:
        """Drop what is of a layout that no model in hand has."""
        for one in [one for one in self._coming if one.layout == layout]:
            self._drop(one)
        for tier in (self._near, self._far):
            for one in [one for one in tier.held if one.layout == layout]:
                del tier.held[one]

    def _load(self, model: PointModel, wanted: Wanted, weights: str, straight: bool) -> Endpoint | None:
        """`straight`: from another thread, or None where it can't be done there."""
        if straight:
            self._store.verify(layout.MINIMA, wanted.key, deep=True, but=_WEIGHTS)
            weights, made = self._store.weights_digest(layout.MINIMA, wanted.key), self._minima.made(wanted.key)
        else:
            made = self.made(wanted.key)
        order = None if wanted.lender else wanted.labels or None
        if order and set(made.labels) != set(order):
            raise RaymcError(f"{wanted.key} has labels {', '.join(made.labels)}, the task {', '.join(wanted.labels)}")
        folder, checks = self._store.folder(layout.MINIMA, wanted.key), _Checks(self._store, wanted.key)
        head = None
        if wanted.lender:
            head = self.take(model, Wanted(wanted.layout, wanted.lender, wanted.labels)).vector.cpu()
            self._recent.append(wanted)
        pinned = self._two and torch.device(self._device).type == "cuda"

        def read() -> torch.Tensor | None:
            vector = model.read_straight(folder, made.trial, made.labels, head, order, checks, pinned)
            if vector is None and not straight:
                vector = model.read(folder, made.trial, made.labels, head, order, checks)
            return vector

        try:
            vector = read()
        except CorruptArtefact as fault:
            self._store.mend_copy(fault)
            vector = read()
        if vector is None:
            return None
        with self._lock:
            self.loads += 1
        return Endpoint(vector, weights)

    def _arrived(self, wanted: Wanted, weights: str) -> Endpoint | None:
        """What was read ahead, once it is there. Raises what went wrong."""
        coming, _ = self._coming.pop(wanted, (None, 0))
        found = coming.result() if coming is not None else None
        return found if found is not None and found.weights == weights else None

    def _room(self, tier: _Tier, nbytes: int) -> None:
        """Make room for one more vector: out goes what isn't of the path in hand, the one needed last first."""
        landing, cost = tier is (self._far if self._two else self._near), tier.cost(nbytes)
        bound = self._near_bound() if tier is self._near else tier.bound
        for victim in self._victims(tier):
            if tier.bytes + (self._coming_bytes() if landing else 0) + cost <= bound:
                return
            gone = tier.held.pop(victim)
            if tier is self._near and self._two and self._far.cost(nbytes) <= self._far.bound:
                self._room(self._far, nbytes)
                self._far.held[victim] = Endpoint(self._to_host(gone.vector), gone.weights)
        while landing and self._coming and tier.bytes + self._coming_bytes() + cost > bound:
            self._drop(max(self._coming, key=lambda one: self._next.get(one, math.inf)))

    def _victims(self, tier: _Tier) -> Iterable[Wanted]:
        free = [one for one in tier.held if one not in self._recent]  # longest unused first
        return sorted(free, key=lambda one: -self._next.get(one, math.inf))

    def _drop(self, wanted: Wanted) -> None:
        """Of what is being read. What went wrong there is no matter any more."""
        future, _ = self._coming.pop(wanted)
        if not future.cancel():
            future.exception()  # its memory is held until it ends

    def _coming_bytes(self) -> int:
        return sum(cost for _, cost in self._coming.values())

    def _near_bound(self) -> int:
        if self._near.bound < 0:
            self._near.bound = torch.cuda.mem_get_info(self._device)[0] // _SHARE
        return self._near.bound

    def _to_host(self, vector: torch.Tensor) -> torch.Tensor:
        host = torch.empty(vector.shape, dtype=vector.dtype, pin_memory=vector.is_cuda)
        return host.copy_(vector, non_blocking=True)  # a later copy back is queued behind it


@dataclass(frozen=True)
class _Checks:
    """See tasks.points.Checks."""

    store: Store
    key: str

    def file(self, name: str, sha256: str) -> None:
        if self.store.file_digest(layout.MINIMA, self.key, name) != sha256:
            raise CorruptArtefact(layout.MINIMA, self.key, f"{name} is not what was written (SHA-256 differs)")

    def whole(self) -> None:
        self.store.check_copy(layout.MINIMA, self.key)
