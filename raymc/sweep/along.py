"""What a sweep's paths say over several row sets, and against the paths of another curve."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from raymc.connectivity.kept import path_rows
from raymc.report.values import VALUES
from raymc.specs.errors import CorruptArtefact, RaymcError
from raymc.specs.results import METRICS
from raymc.sweep.caveats import caveats
from raymc.sweep.knowledge import knowledge_of
from raymc.sweep.section import SIGNIFICANT, Place, Section, tried

if TYPE_CHECKING:
    import pandas as pd

    from raymc.sweep.results import Sweep


def of_curve(sweep: Sweep, curve: str, splits: list[str]) -> Iterator[Section]:
    """Of one curve over several row sets: best points, crossings of tasks, knowledge."""
    from raymc.analysis.best import best_points
    from raymc.analysis.crossings import crossings

    profiles = sweep.profiles()
    profiles = profiles[profiles["curve"] == curve]
    metric = METRICS[sweep.spec.model.kind][0]
    spaces = ", ".join(sorted(profiles["space"].unique()))
    apart = ["space"] if "," in spaces else []  # a column of its own where pairs differ in it
    groups: dict[str, list[str]] = {}
    weak = sweep.weak()
    for rows in sweep.spec.row_sets:
        groups.setdefault(rows.task_name, []).append(rows.name)
    for names in groups.values():
        for report in names[1:]:
            if report in splits:
                place = Place(curve, f"chosen on {names[0]}, reported on {report}", spaces)
                said = (
                    f"t: the point of lowest mean cross-entropy (loss, nats) on {names[0]}, chosen: that loss; loss, "
                    f"{metric} (fraction): there on {report}; gain: over the end that is better on {names[0]} "
                    "(better_end), positive is better"
                )
                columns = ["a", "b", *apart, "t", "better_end", "chosen", "loss", "loss_gain", metric, f"{metric}_gain"]

                def best(
                    one: str = names[0],
                    other: str = report,
                    place: Place = place,
                    said: str = said,
                    columns: Any = columns,
                ) -> Section:
                    found = best_points(profiles[~profiles["a"].isin(weak) & ~profiles["b"].isin(weak)], one, other)
                    notes = caveats(sweep.spec, curve, other)
                    return Section("best", "Best points of the paths", said, place, table=found[columns], notes=notes)

                yield tried("best", "Best points of the paths", said, place, best)
    pairs = _task_pairs(sweep)
    if pairs:
        place = Place(curve, "the two tasks' own", spaces)
        said = (
            f"t_cross: where both tasks' {metric} (metric), scaled to 0..1 by its ends, is equal; t_half: where one's "
            "is half, all from a at t = 0; source: the task of a, target: of b, each on a row set of its own (split; "
            "head: whose is used)"
        )

        def crossed() -> Section:
            found = crossings(profiles, pairs, metric)
            found = found.drop(columns=["curve", *({"space"} - {*apart})])
            return Section("crossings", "Where one task gives way to the other", said, place, table=found)

        yield tried("crossings", "Where one task gives way to the other", said, place, crossed)
    if sweep.spec.connectivity.rows:
        yield from _knowledge(sweep, curve, spaces)


def _knowledge(sweep: Sweep, curve: str, spaces: str) -> Iterator[Section]:
    try:
        found = knowledge_of(sweep.connections, curve, sweep.weak())
    except RaymcError as error:
        place = Place(curve, "training rows", spaces)
        yield Section("knowledge", "Knowledge along the path", "", place, notes=(f"not computed: {error}",))
        return
    for one in found:
        place = Place(curve, f"{one.source} to {one.target}", one.space)
        said = (
            f"F_k: rows of {one.source} right at point k - 1, wrong at k; M_k: rows of {one.target} wrong at k - 1 "
            "and right at k (Qin et al. 2022); confidence, variability: mean and standard deviation of the gold "
            f"label's probability over {one.snapshots} snapshots of training (Swayamdipta et al. 2020)"
        )
        sizes = (
            "rows: in the set, mean over the pairs; total: their sum; pairs: whose set isn't empty; se: standard errors"
        )
        trend = (
            "first, last: of the first and last set that isn't empty; of_means: rank correlation of k with the sets' "
            "means, of_rows: with the single rows, mean over the pairs; p_value: of none (of one pair alone)"
        )
        yield Section("knowledge", "Knowledge forgotten and learned", f"{said}\n{sizes}", place, table=one.table)
        yield Section("knowledge_trends", "Which rows go, and come, first", f"{said}\n{trend}", place, table=one.trends)


def compared(sweep: Sweep, split: str) -> Iterator[Section]:
    """Each further curve against the first, pair by pair on the same rows."""
    first, *others = sweep.spec.connectivity.curve_names
    for other in others:
        table, lacking = _differences(sweep, split, first, other)
        if not len(table) and not lacking:
            continue
        said = (
            f"Entezari barrier (nats), {VALUES['barrier_entezari'][2]}; difference: {other} less {first}, 95 % "
            f"interval on the same resampled rows; p_difference: of none (two-sided, Holm over these pairs); ratio: "
            f"{other} / {first}"
        )
        title, curves = f"{other} against {first}", f"{first}, {other}"
        if not len(table):
            barriers = sweep.barriers()
            spaces = sorted(set(barriers["space"][barriers["curve"].isin([first, other])]))
            why = f"not computed: rows of both are there for none of {len(lacking)} pairs; `raymc run` makes them"
            yield Section("compared", title, said, Place(curves, split, ", ".join(spaces)), notes=(why,))
            continue
        real = table[table[f"p_holm_{first}"] < SIGNIFICANT]
        figures: dict[str, Any] = {"pairs": len(table), f"significant_{first}": len(real)}
        figures |= {
            "ratio_median": float(real["ratio"].median()) if len(real) else math.nan,
            "ratio_max": float(real["ratio"].max()) if len(real) else math.nan,
        }
        notes = (
            f"ratio_median, ratio_max: of the pairs whose {first} barrier is significant (p_holm_{first} < "
            f"{SIGNIFICANT}: p_holm of the {first} path, {VALUES['p_holm'][2]})",
            *([f"without {len(lacking)} pairs whose rows aren't there on both curves"] if lacking else []),
            *(note for curve in (first, other) for note in caveats(sweep.spec, curve, split)),
        )
        space = ", ".join(sorted(set(table["space"])))
        if "," not in space:
            table = table.drop(columns="space")
        yield Section("compared", title, said, Place(curves, split, space), table, figures, notes)


def _differences(sweep: Sweep, split: str, first: str, other: str) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """(a row per pair that has both curves, pairs left out as the rows of one aren't there)."""
    import numpy as np
    import pandas as pd

    from raymc.landscape.bootstrap import difference
    from raymc.landscape.multiple import holm

    connections, rows, chance, lacking = sweep.connections, [], [], []
    table = sweep.barriers()
    table = table[(table["split"] == split) & ~table["below_floor"]].set_index(["a", "b", "curve"])
    paths, columns = table.index.tolist(), ("barrier_entezari", "p_holm", "space")
    heights, chances, spaces = (dict(zip(paths, table[name].tolist(), strict=True)) for name in columns)
    for a, b in dict.fromkeys((a, b) for a, b, _ in paths):
        if (a, b, first) not in heights or (a, b, other) not in heights:
            continue
        if not {a, b} <= connections.points.keys():  # the files that they were made of have changed since
            lacking.append((a, b))
            continue
        try:
            one, another = (path_rows(connections, a, b, curve, split) for curve in (first, other))
        except CorruptArtefact:  # which the next run makes anew
            one = another = None
        if one is None or another is None:
            lacking.append((a, b))
            continue
        height = [heights[a, b, curve] for curve in (first, other)]
        between = difference(one.t, another.loss.astype(np.float64), one.loss.astype(np.float64), one.terms)
        low, high = between.interval
        chance.append(between.p_value)
        rows.append(
            {
                "a": a,
                "b": b,
                "space": ", ".join(sorted({spaces[a, b, curve] for curve in (first, other)})),
                first: height[0],
                other: height[1],
                "ratio": height[1] / height[0] if height[0] else math.nan,
                "difference": height[1] - height[0],
                "low": low,
                "high": high,
                f"p_holm_{first}": chances[a, b, first],
            }
        )
    table = pd.DataFrame(rows)
    return table.assign(p_difference=holm(chance)) if rows else table, lacking


def _task_pairs(sweep: Sweep) -> dict[tuple[str, str], tuple[str, str]]:
    """By pair of ends tuned on different data, that of the task listed first as the source: the row sets of both.

    Of the same split if any.
    """
    sets, found = sweep.spec.row_sets, {}
    points = sweep.connections.points
    table = sweep.barriers()
    for a, b in dict.fromkeys(zip(table["a"], table["b"], strict=True)):
        if a not in points or b not in points or points[a].existing or points[b].existing:
            continue
        own = [[rows for rows in sets if rows.task.dataset == points[key].trial.task.dataset] for key in (a, b)]
        if own[0] and own[1] and own[0] != own[1]:
            shared = [(x, y) for x in own[0] for y in own[1] if x.split == y.split] or [(own[0][0], own[1][0])]
            seen = [points[key].trial.task.train_split for key in (a, b)]
            unseen = [both for both in shared if both[0].split != seen[0] and both[1].split != seen[1]]
            one, other = (unseen or shared)[0]  # rows that neither was trained on, where there are any
            names = [rows.name for rows in sets]
            if names.index(one.name) < names.index(other.name):  # all pairs of two tasks lead the same way
                found[a, b] = (one.name, other.name)
            else:
                found[b, a] = (other.name, one.name)
    return found
