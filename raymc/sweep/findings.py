"""What a sweep's analysis and planes look like in a tracker: tables, one text, and pictures."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from raymc.report.sections import OF_MINIMA
from raymc.sweep.section import Section

if TYPE_CHECKING:
    import pandas as pd

    from raymc.sweep.results import Sweep


def analysis_tables(sweep: Sweep, sections: Sequence[Section]) -> dict[str, pd.DataFrame]:
    """A table of each section that has one but the barriers, which have their own; minima by name."""
    names, found = sweep.names(), {}
    for section in sections:
        if section.table is None or not len(section.table) or section.name == "barriers":
            continue
        renamed = {
            column: section.table[column].map(lambda key: names.get(str(key), str(key)))
            for column in OF_MINIMA
            if column in section.table.columns
        }
        place = re.sub(r"[^A-Za-z0-9_.-]+", "-", ".".join((section.name, section.curve, section.split, section.space)))
        found[f"analysis/{place}.json"] = section.table.assign(**renamed)
    return found


def analysis_text(sections: Sequence[Section]) -> str:
    """All sections, each with its definition, curve, row set and space, as JSON."""
    return json.dumps([one.as_dict() for one in sections], indent=1)


def plane_figures(sweep: Sweep) -> dict[str, Callable[[], Any]]:
    """A picture of each plane on each of its row sets, drawn when asked for."""
    if not sweep.spec.connectivity.planes:
        return {}
    from raymc.report.plane import plane_figure

    planes, marks, names = sweep.planes(), sweep.plane_marks(), sweep.names()

    def later(plane: str, split: str) -> Callable[[], Any]:
        return lambda: plane_figure(planes, marks, plane, split, names)

    drawn = planes[["plane", "split"]].drop_duplicates().itertuples(index=False)
    return {f"{plane}.{split}.png": later(str(plane), str(split)) for plane, split in drawn}
