"""What a reader of a curve's figures should know: ends that are no minima, and a choice made on the same rows."""

from __future__ import annotations

from raymc.connectivity.records import chosen_here
from raymc.specs.curves import AlignedCurve, LinearCurve, SphericalCurve
from raymc.specs.sweep import SweepSpec


def caveats(spec: SweepSpec, curve: str, split: str) -> tuple[str, ...]:
    """A line each, of a curve on a row set, both by name. Raises KeyError for one that there isn't."""
    how = spec.connectivity.curve(curve)
    found = []
    if isinstance(how, AlignedCurve):
        found.append(f"{curve}: at t = 1 b has its {' and '.join(how.permute)} in another order: the same function")
    if isinstance(how, (LinearCurve, SphericalCurve)) and how.partial:
        moves = " and ".join([*how.moves, *([f"block {', '.join(map(str, how.layers))}"] if how.layers else [])])
        kept, t = (how.rest, 1) if how.rest == "a" else (how.rest, 0)
        found.append(f"{curve}: only {moves} moves, the rest stays as in {kept}: the end at t = {t} is no minimum")
    rows = next(one for one in spec.row_sets if one.name == split)
    if chosen_here(spec, how, rows):
        found.append(f"{curve}: chosen on the rows of {split}, so its figures there are optimistic")
    return tuple(found)
