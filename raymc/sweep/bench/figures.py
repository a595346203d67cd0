"""What a benchmark is asked for, and what it finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Asked:
    """None: as the sweep has it, or as the machine allows. `points`: of an exhaustive profile."""

    pairs: int | None = None
    actors: int | None = None
    threads: int | None = None
    points: int | None = None
    training: bool = False
    quick: bool = False

    @property
    def rounds(self) -> int:
        """How often things that are compared take their turns, at most."""
        return 1 if self.quick else 3


@dataclass(frozen=True)
class Figure:
    """One line of the table. `how`: what was measured, over what."""

    name: str
    value: float
    unit: str
    how: str


@dataclass
class Report:
    """`about`: the machine and the work. `raw`: all that was measured, by part, in seconds where nothing else is said.

    `notes`: what wasn't measured, and why.
    """

    about: dict[str, Any] = field(default_factory=dict)
    figures: list[Figure] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, name: str, value: float, unit: str, how: str) -> None:
        self.figures.append(Figure(name, float(value), unit, how))

    def value(self, name: str) -> float:
        """Raises KeyError where there is no figure of that name."""
        found: Mapping[str, float] = {figure.name: figure.value for figure in self.figures}
        return found[name]

    def as_dict(self) -> dict[str, Any]:
        figures = [asdict(figure) for figure in self.figures]
        return {"about": self.about, "figures": figures, "notes": self.notes, "raw": self.raw}


def count_of(number: int, noun: str) -> str:
    """`1 pair`, `2 pairs`."""
    return f"{number} {noun}" + ("s" if number != 1 else "")
