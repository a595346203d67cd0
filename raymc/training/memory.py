"""How many rows go through a model at a time: as asked for, or as many as are found to fit the memory."""

from __future__ import annotations

import contextlib
import gc
import re
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import torch

from raymc.specs.errors import CorruptArtefact, TrainingFault, first_line
from raymc.specs.keys import key_of
from raymc.store import layout
from raymc.training.checkpoint import Checkpoints

T = TypeVar("T")
Setting = int | Literal["auto"] | None
_NAME = "micro-batch"  # beside a run's checkpoints: a resumed run cuts its batches as before
_SIGNS = ("out of memory", "can't allocate memory", "cannot allocate memory", "ALLOC_FAILED")
_found: dict[str, int] = {}  # what this process found, by what decides how much memory a row takes


class MicroBatch:
    """The most rows of a pass of one run, `rows`; None: of any number."""

    def __init__(self, setting: Setting, what: Any = None, checkpoints: Checkpoints | None = None):
        """`what`, of JSON values: runs that are alike in it take as much memory a row."""
        self._auto, self._what, self._checkpoints = setting == "auto", key_of(what), checkpoints
        self.rows: int | None = self._known() if setting == "auto" else setting

    def fitted(self, attempt: Callable[[int | None], T], again: Callable[[], None], alone: bool) -> T:
        """What `attempt` gives of the most rows of a pass, which are halved for as long as it runs out of memory.

        `again` undoes what an attempt has left. An attempt raises Exhausted where memory runs out. Raises
        TrainingFault where one row doesn't fit, or fewer rows weren't allowed. With other workers (not `alone`), who
        wait for this one, the fault of the memory itself is raised: they all begin again, with what was found.
        """
        while True:
            try:
                return attempt(self.rows)
            except Exhausted as error:
                fault = self._halve(error)
                if not alone:
                    raise error.fault from None
            if fault is not None:  # no longer a part of what was caught, which holds on to its memory
                raise fault
            again()
            release()

    def _halve(self, error: Exhausted) -> TrainingFault | None:
        if not self._auto:
            return TrainingFault(f"{error}; resources.trial.micro_batch: auto takes fewer rows at a time")
        if error.rows <= 1:
            return TrainingFault(f"{error}, and none can be smaller")
        self.rows = error.rows // 2
        _found[self._what] = min(self.rows, _found.get(self._what, self.rows))
        if self._checkpoints is not None:
            self._checkpoints.store.put(layout.CHECKPOINTS, self._checkpoints.key, _NAME, {"rows": self.rows})
        return None

    def _known(self) -> int | None:
        known = [_found[self._what]] if self._what in _found else []
        if self._checkpoints is not None:
            with contextlib.suppress(KeyError, CorruptArtefact):
                kept = self._checkpoints.store.get(layout.CHECKPOINTS, self._checkpoints.key, _NAME)
                known.append(int(kept["rows"]))
        return min(known, default=None)


class Exhausted(Exception):
    """Memory ran out in a pass over so many rows. `fault`: what torch said, without the frames that hold memory."""

    def __init__(self, rows: int, fault: BaseException):
        super().__init__(f"a pass over {rows} row{'s' if rows != 1 else ''} doesn't fit the memory ({shortage(fault)})")
        self.rows, self.fault = rows, fault.with_traceback(None)


def is_exhaustion(error: BaseException) -> bool:
    """Whether an error says that there is no memory left, on a GPU or of the machine."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


def shortage(error: BaseException) -> str:
    """What there was no room for, in a few words, by an error for which `is_exhaustion` holds."""
    wanted = re.search(r"tried to allocate [\d.]+ \w+", str(error), re.IGNORECASE)
    return wanted[0].lower() if wanted else first_line(error)


def release() -> None:
    """Give freed memory back to the device, which other processes may share."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
