"""What a worker is asked to score: one endpoint, or one path."""

from __future__ import annotations

from dataclasses import dataclass, field

from raymc.connectivity.heads import Choice
from raymc.specs.curves import LinearCurve, NamedCurve, exact_ends
from raymc.specs.exactness import Computed


@dataclass(frozen=True)
class EndpointTask:
    """Score one minimum on row sets, by name: those whose labels it has."""

    key: str
    space: str
    splits: tuple[str, ...]
    records: tuple[str, ...] = ()  # group of each row set's record, and of its file of rows
    keep_rows: bool = False
    precision: Computed = "fp32"

    @property
    def groups(self) -> tuple[str, ...]:
        """Of each row set, where the file of its rows goes; empty: none is kept."""
        return self.records if self.keep_rows else ()


@dataclass(frozen=True)
class PairTask:
    """Score one path on row sets, by name. a < b.

    `curve`: its name in tables; `how`: what it is. `heads`, one a row set: path (interpolated), or the end (a or b)
    whose head is fixed along the path; the other end is scored with that head then.
    """

    a: str
    b: str
    space: str
    curve: str
    splits: tuple[str, ...]
    heads: tuple[Choice, ...]
    how: NamedCurve = field(default_factory=lambda: LinearCurve(curve="linear"))
    fit: str = ""  # key of the fitted curve in the store
    records: tuple[str, ...] = ()  # group of each row set's record, and of its file of rows
    keep_rows: bool = False
    end_groups: tuple[tuple[str, str], ...] = ()  # of each row set, where those of the ends' evaluations lie
    points: int = 26  # evenly spaced values of t
    tolerance: float | None = None  # nats, of an adaptive profile; None: every point is evaluated
    precision: Computed = "fp32"

    @property
    def groups(self) -> tuple[str, ...]:
        """Of each row set, where the file of its rows goes; empty: none is kept."""
        return self.records if self.keep_rows else ()

    @property
    def known(self) -> tuple[tuple[bool, bool], ...]:
        """Of each row set: whether the path's ends are a and b as they are, so that their evaluations are its ends."""
        return tuple(known_ends(self.how, head) for head in self.heads)


def known_ends(how: NamedCurve, head: Choice) -> tuple[bool, bool]:
    """Whether a path starts at a and ends at b as they are: not with the other end's head, nor where a part stays."""
    first, last = exact_ends(how)
    return first and head != "b", last and head != "a"
