"""The tables of a sweep's planes, assembled from the records that the store holds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from raymc.connectivity.planes import Grid, Planes

if TYPE_CHECKING:
    import pandas as pd

MINIMUM = "minimum"  # in the column `what`; a curve has its own name there


def planes_frame(planes: Planes, metrics: Sequence[str]) -> pd.DataFrame:
    """plane, split, space, x, y (parameters), loss (nats), one column per metric (fractions): a row per point.

    x rises first, then y; lines that aren't there yet are left out. Raises CorruptArtefact.
    """
    import pandas as pd

    columns: dict[str, list[Any]] = {n: [] for n in ("plane", "split", "space", "x", "y", "loss", *metrics)}
    for grid in planes.grids:
        for split in grid.splits:
            for line in planes.lines(grid, split):
                count = len(line.x)
                for name, value in (("plane", grid.name), ("split", split), ("space", line.space), ("y", line.y)):
                    columns[name] += [value] * count
                columns["x"] += line.x
                columns["loss"] += line.loss
                for name in metrics:
                    columns[name] += line.metrics.get(name, (math.nan,) * count)
    return pd.DataFrame(columns)


def marks_frame(planes: Planes) -> pd.DataFrame:
    """plane, what (minimum, or a curve), key (of a minimum), a, b (a curve's ends), t, x, y, off (parameters).

    x and y are of the foot on the plane, `off` is the distance from it. The minima of a plane come first, in the order
    of the spec, with no t; then its curves, a row per t. A plane without a line has no minima here. Raises
    CorruptArtefact.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for grid in planes.grids:
        for key, (x, y) in zip(grid.through, _corners(planes, grid), strict=False):
            of_minimum = {"what": MINIMUM, "key": key, "a": "", "b": "", "t": math.nan}
            rows.append({"plane": grid.name, **of_minimum, "x": x, "y": y, "off": 0.0})
        for trace in planes.traces(grid):
            of_curve = {"plane": grid.name, "what": trace.curve, "key": "", "a": trace.start, "b": trace.end}
            for t, x, y, off in zip(trace.t, trace.x, trace.y, trace.off, strict=True):
                rows.append({**of_curve, "t": t, "x": x, "y": y, "off": off})
    numbers = dict.fromkeys(("t", "x", "y", "off"), float)
    return pd.DataFrame(rows, columns=["plane", "what", "key", "a", "b", *numbers]).astype(numbers)


def _corners(planes: Planes, grid: Grid) -> Sequence[tuple[float, float]]:
    for split in grid.splits:
        for line in planes.lines(grid, split)[:1]:
            return line.corners
    return ()
