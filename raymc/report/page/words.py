"""What was found, in words and a small table: the first that a reader sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from raymc.report.sections import cell

SIGNIFICANT = 0.05
RESOLUTION = 1e-3  # p: about the smallest that the bootstrap of a profile can give


@dataclass(frozen=True)
class Found:
    """Of one curve on one row set; barriers are Entezari's, in nats, of the pairs that count.

    `connected`: pairs whose barrier isn't above 0 by the sweep's test (p_holm of 0.05 or more). `adjusted`: whether p
    is Holm's; not where there are so many pairs that the smallest p of a bootstrap, times them, can't get below 0.05.
    `clusters`: None where none were looked for; `p_value`: of one cluster against more, None where it wasn't tested.
    """

    curve: str
    split: str
    pairs: int
    left_out: int
    connected: int
    adjusted: bool
    mean: float
    largest: float
    interval: tuple[float, float] | None
    between: tuple[str, str]
    clusters: int | None = None
    p_value: float | None = None


def found_in(
    barriers: pd.DataFrame,
    names: Mapping[str, str],
    places: Sequence[tuple[str, str]],
    clusters: Mapping[tuple[str, str], tuple[int, float]],
) -> list[Found]:
    """Of each place that has pairs which count. `clusters`: (how many, p), by place."""
    result = []
    for place in places:
        table = barriers[(barriers["curve"] == place[0]) & (barriers["split"] == place[1])]
        counted = table[~table["below_floor"] & table["barrier_entezari"].notna()]
        if not len(counted):
            continue
        top = counted.sort_values("barrier_entezari", kind="stable").iloc[-1]
        low, high = top.get("barrier_entezari_low"), top.get("barrier_entezari_high")
        adjusted = not (counted["p_value"].min() <= RESOLUTION and counted["p_holm"].min() >= SIGNIFICANT)
        count, p_value = clusters.get(place, (None, None))
        result.append(
            Found(
                *place,
                pairs=len(counted),
                left_out=len(table) - len(counted),
                connected=len(counted) - int((counted["p_holm" if adjusted else "p_value"] < SIGNIFICANT).sum()),
                adjusted=adjusted,
                mean=float(counted["barrier_entezari"].mean()),
                largest=float(top["barrier_entezari"]),
                interval=None if low is None or high is None or low != low else (float(low), float(high)),
                between=(names[top["a"]], names[top["b"]]),
                clusters=count,
                p_value=None if p_value is None or p_value != p_value else float(p_value),
            )
        )
    return result


def sentence(one: Found) -> str:
    """One place in two or three sentences."""
    several = one.pairs != 1
    said = f"On the {one.curve} path ({one.split} split), {_share(one.connected, one.pairs)} connected"
    said += (
        ": the barrier is not above 0 (p, adjusted by Holm, of 0.05 or more)."
        if one.adjusted
        else (
            f": the barrier is not above 0 (p of 0.05 or more, of each pair by itself: adjusted for {one.pairs:,} "
            "pairs, the bootstrap's smallest p can't get below that)."
        )
    )
    if one.largest > 0:
        inside = f" (95 % interval {cell(one.interval[0])} to {cell(one.interval[1])})" if one.interval else ""
        said += f" The {'largest ' if several else ''}Entezari barrier is {cell(one.largest)} nats{inside}, between "
        said += f"{one.between[0]} and {one.between[1]}."
    else:
        said += " No path is above the chord between its ends at all."
    if one.clusters is not None:
        tested = f" (p of one: {p_text(one.p_value)})" if one.p_value is not None else " (too few to test)"
        said += f" The minima form {one.clusters} {'cluster' if one.clusters == 1 else 'clusters'}{tested}."
    if one.left_out:
        said += f" {one.left_out} further pairs have an end below the floor and don't count."
    return said


def p_text(value: float) -> str:
    """A p-value with two digits, from below a thousandth on as that."""
    return "<\u00a00.001" if value < 1e-3 else f"{value:.2g}"


def _share(count: int, total: int) -> str:
    if total == 1:
        return f"the one pair is {'' if count else 'not '}".rstrip()
    if count == total:
        return f"all {total:,} pairs are"
    if not count:
        return f"none of the {total:,} pairs is"
    return f"{count:,} of {total:,} pairs {'is' if count == 1 else 'are'}"
