"""What a person can mend: errors that become one line each and exit code 2."""

from __future__ import annotations

from dataclasses import dataclass


class RaymcError(Exception):
    """Bad input or a place that can't be used; the message is one line that says where, what, and what instead."""


class Unreachable(RaymcError):
    """A cluster that doesn't answer, or refuses the token (exit code 4)."""


class CorruptArtefact(RaymcError):
    """A stored file whose content is not what was written (hash, size or form differs)."""

    def __init__(self, kind: str, key: str, reason: str):
        super().__init__(f"{kind}/{key}: {reason}")
        self.kind, self.key, self.reason = kind, key, reason

    def __reduce__(self):  # crosses process borders with its fields
        return (CorruptArtefact, (self.kind, self.key, self.reason))


class TrainingFault(RaymcError):
    """A fault of the trial itself (non-finite loss, a target module that isn't there): retrying can't help."""


class StorageFault(RaymcError):
    """The storage can't be written or reached: no pair or trial is at fault, a run stops and keeps what is finished."""


def first_line(error: object) -> str:
    """What an error says, its first line; its type where it says nothing."""
    return (_lines(error) or [type(error).__name__])[0]


def final_line(error: object) -> str:
    """As first_line, the last one."""
    return (_lines(error) or [type(error).__name__])[-1]


def _lines(error: object) -> list[str]:
    return str(error).strip().splitlines()


@dataclass(frozen=True)
class Fault:
    """One thing wrong in a spec. `line` and `column` count from 1; every text is one printable line."""

    path: str
    message: str
    file: str = "<spec>"
    line: int = 1
    column: int = 1

    def __post_init__(self) -> None:
        for name in ("path", "message", "file"):  # any of them may quote what a file holds
            text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in getattr(self, name))
            object.__setattr__(self, name, text)

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.path or 'spec'}: {self.message}"

    def as_dict(self) -> dict[str, str | int]:
        return {
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "path": self.path,
            "message": self.message,
        }


class SpecError(RaymcError):
    """All faults found in one spec, one line each."""

    def __init__(self, faults: list[Fault]):
        super().__init__("\n".join(map(str, faults)))
        self.faults = faults

    def __reduce__(self):
        return (SpecError, (self.faults,))
