"""What ended a process of Ray, and how often that may happen to a piece of work before it is given up.

A fault of the work itself (RaymcError: a loss that isn't finite, memory that one row doesn't fit, a full disk) is never
tried again. A process that died or failed counts as a try. A node that was lost doesn't: spot machines go as they come.
Work that is on a node that dies LOSSES times in a row without getting any further is taken for the cause, and given up.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from raymc.specs.errors import StorageFault

LOSSES = 5
"""Nodes that a piece of work may lose in a row without getting any further."""

Cause = Literal["node", "memory", "process", "error"]

_NODE = (
    "its node has died",
    "node was terminated",
    "NodeDiedError",
    "node was preempted",
    "is on a node that is being preempted",
    "The actor is unavailable",
    "is temporarily unavailable",
    "PreemptionError",
)
_MEMORY = ("running low on memory",)
_BEGINNING = "worker actors failed to initialize"
_INSIDE = ("error raised in its creation task",)
_PROCESS = ("worker process has died", "ActorDiedError", "WorkerCrashedError", "died unexpectedly")
_GONE = ("ObjectLostError", "ObjectReconstructionFailed", "ObjectFetchTimedOut", "OwnerDiedError", "object is lost")
_KEPT = "; what is finished is kept, and the same command goes on from there once there is room"
_FULL = ("No space left on device", "StorageFull", "Disk quota exceeded")


@dataclass(frozen=True)
class Loss:
    """`reason`: one line for a person."""

    cause: Cause
    reason: str


def loss_of(error: BaseException | str) -> Loss:
    """Why a call on Ray gave nothing, from the exceptions (or their text): a node's loss counts before what follows."""
    text = error if isinstance(error, str) else "\n".join(f"{type(one).__name__}: {one}" for one in _chain(error))
    if any(sign in text for sign in _NODE):
        return Loss("node", "its node was lost")
    if _BEGINNING in text:  # Ray Train doesn't say what ended them
        return Loss("node", "its workers were lost as they began")
    if any(sign in text for sign in _MEMORY):
        return Loss("memory", "its worker was killed as its machine ran low on memory")
    if any(sign in text for sign in _PROCESS) and not any(sign in text for sign in _INSIDE):
        return Loss("process", "its worker died")
    return Loss("error", last_line(text) or "its worker died")


def objects_lost(error: BaseException) -> bool:
    """Whether a value that Ray kept went with a node."""
    return any(sign in f"{type(one).__name__}: {one}" for one in _chain(error) for sign in _GONE)


def disk_full(error: BaseException, storage: str) -> StorageFault | None:
    """What to tell a person where an error says that there is no room left to write, or no storage to reach."""
    for one in _chain(error):
        if isinstance(one, StorageFault):
            full = any(sign in str(one) for sign in _FULL) and "is kept" not in str(one)
            return StorageFault(f"{one}{_KEPT}") if full else one
        code = one.errno if isinstance(one, OSError) else None
        if code in (errno.ENOSPC, errno.EDQUOT) or any(sign in str(one) for sign in _FULL):
            where = getattr(one, "filename", None) or storage
            return StorageFault(f"storage {storage}: no space left on device (writing {where}){_KEPT}")
    return None


def halted(error: BaseException, storage: str) -> StorageFault | None:
    """As `disk_full`, with the name of the machine: others may have room, or a way there.

    It is the one that this process runs on, unless the fault names another (see Group.together).
    """
    found = disk_full(error, storage)
    if found is None:
        return None
    where = "" if str(found).startswith("machine ") else f"machine {socket.gethostname()}: "
    kept = "" if "is kept" in str(found) else "; what is finished is kept"
    return StorageFault(f"{where}{found}{kept}")


def last_line(text: str) -> str:
    """The exception itself, of the text of a traceback."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    named = [
        line for line in lines if ("Error" in line or "Exception" in line) and not line.startswith(("File", "at "))
    ]
    return (named or lines or [""])[-1][:300]


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and what it came from, each once."""
    seen: list[BaseException] = []
    todo: list[BaseException | None] = [error]
    while todo:
        one = todo.pop()
        if one is not None and not any(one is other for other in seen):
            seen.append(one)
            yield one
            todo += [one.__cause__, getattr(one, "cause", None)]


@dataclass
class Tries:
    """Of one piece of work. `furthest`: how far it ever got, in any unit that rises."""

    retries: int
    tries: int = 0
    losses: int = 0
    furthest: float = 0.0

    def reached(self, place: float) -> None:
        """It got to a place; one further than ever before makes good for the nodes lost so far."""
        if place > self.furthest:
            self.furthest, self.losses = place, 0

    def again(self, loss: Loss) -> str | None:
        """None: it is to be tried again. Else why it is given up."""
        if loss.cause == "node":
            self.losses += 1
            if self.losses > LOSSES:
                return f"{loss.reason} {self.losses} times without getting any further"
            return None
        self.tries += 1
        if self.tries > self.retries:
            return f"{loss.reason} ({self.tries} {'try' if self.tries == 1 else 'tries'})"
        return None
