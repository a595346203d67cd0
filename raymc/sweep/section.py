"""One question about a sweep and its answer, with all that its numbers mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from raymc.specs.errors import RaymcError

if TYPE_CHECKING:
    import pandas as pd

SIGNIFICANT = 0.05  # p_holm below which a barrier counts as above 0


class Place(NamedTuple):
    """What numbers are of: a curve (or several), a row set (or how several come in), and the space of the path."""

    curve: str
    split: str
    space: str


@dataclass(frozen=True)
class Section:
    """One question and its answer.

    `definition`: of its numbers, a line each. `table`: with keys of minima; `figures`: single numbers by name.
    """

    name: str
    title: str
    definition: str
    place: Place
    table: pd.DataFrame | None = None
    figures: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()  # columns of the table that fit a terminal; none given: all

    @property
    def curve(self) -> str:
        return self.place.curve

    @property
    def split(self) -> str:
        return self.place.split

    @property
    def space(self) -> str:
        return self.place.space

    def as_dict(self) -> dict[str, Any]:
        """For JSON: NaN is null."""
        from raymc.report.records import plain, records

        rows = None if self.table is None else records(self.table)
        figures = {name: plain(x) for name, x in self.figures.items()}
        of = ("name", "title", "definition", "curve", "split", "space")
        said = {one: getattr(self, one) for one in of}
        return {**said, "figures": figures, "notes": list(self.notes), "table": rows}


def tried(name: str, title: str, definition: str, place: Place, make: Callable[[], Section]) -> Section:
    """A section, or why there is none."""
    try:
        return make()
    except RaymcError as error:
        return Section(name, title, definition, place, notes=(f"not computed: {error}",))
