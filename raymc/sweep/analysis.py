"""What a sweep's tables mean: sections that each name their definition, row set, curve and space."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from raymc.report.values import NEARER, PLACES, VALUES
from raymc.specs.errors import RaymcError
from raymc.sweep.along import compared, of_curve
from raymc.sweep.caveats import caveats
from raymc.sweep.ingredients import last_of_runs
from raymc.sweep.section import SIGNIFICANT, Place, Section, tried

if TYPE_CHECKING:
    import pandas as pd

    from raymc.sweep.results import Sweep


_OF_FACTORS = (
    *("factor", "pairs_same", "pairs_differ", "mean_same", "mean_differ", "effect", "p_value", "explained"),
    *("effect_given_distance", "p_given_distance"),
)


def analyze(
    sweep: Sweep, curve: str | None = None, split: str | None = None, value: str = "barrier_entezari"
) -> list[Section]:
    """All that can be said of a sweep's barriers: of one curve and row set, or (None) of each.

    `value`: the column of barriers() that clusters, the tree and the effects of factors are about. What can't be
    computed is a section whose note says why. Raises RaymcError for a curve, row set or value that there isn't.
    """
    if value in PLACES:
        raise RaymcError(f"analyze: {value} is a place on the path, seen from one end; take a barrier or a distance")
    curve_names, connectivity = sweep.spec.connectivity.curve_names, sweep.spec.connectivity
    curves, splits = [curve] if curve else list(curve_names), [split] if split else list(sweep.splits)
    for one in curves:
        for row_set in splits:
            sweep.require(one, row_set, value)
    found: list[Section] = []
    for one in curves:
        for row_set in splits:
            table = sweep.barriers()
            table = table[(table["curve"] == one) & (table["split"] == row_set)]
            for space, chosen in table.groupby("space", sort=False):
                found += _of_matrix(sweep, chosen, one, row_set, str(space), value)
        found += of_curve(sweep, one, splits)
    if len(curve_names) > 1 and curve is None and connectivity.rows:
        found += [section for row_set in splits for section in compared(sweep, row_set)]
    return found


def _of_matrix(sweep: Sweep, table: pd.DataFrame, curve: str, split: str, space: str, value: str) -> Iterator[Section]:
    """Of one matrix: a curve, a row set and a space."""
    import pandas as pd

    from raymc.analysis.clusters import find_clusters
    from raymc.analysis.factors import factor_effects
    from raymc.analysis.trees import minimax, spanning_tree

    title, unit, definition = VALUES[value]
    place = Place(curve, split, space)
    counted, weak = table[~table["below_floor"]], sweep.weak()
    yield _barriers(table, place, caveats(sweep.spec, curve, split))
    paired = {*counted["a"].unique(), *counted["b"].unique()}
    keys = [key for key in sweep.minima()["key"] if key in paired]
    if len(keys) < 3:
        return
    # snapshots of one run are no independent minima: of each run the last stands for it
    own = last_of_runs(sweep.connections.points, keys)
    left = [f"of snapshots of one run the last alone: without {len(keys) - len(own)}"] if len(own) < len(keys) else []

    def clusters() -> Section:
        if value in NEARER:
            raise RaymcError(f"clusters: more of {value} is nearer, not farther; take a barrier or a distance")
        if len(own) < 3:
            raise RaymcError(f"clusters: {len(own)} runs; it takes three or more")
        found = find_clusters(_matrix(sweep, counted, own, value))
        names = sweep.names()
        members = [
            {"cluster": rank, "minima": len(some), "members": ", ".join(names[key] for key in some)}
            for rank in range(1, found.count + 1)
            for some in [[key for key in own if found.labels[key] == rank]]
        ]
        figures = {"clusters": found.count, "p_value": found.p_value, "within": found.within, "between": found.between}
        figures |= {"statistic": found.statistic, "labels": dict(found.labels)}
        notes = (
            found.note,
            f"p_value: of one cluster against more; within, between: mean {title} ({unit}) of pairs inside clusters "
            "and across; statistic: the best cut's correlation with it",
            *([f"without {len(weak)} minima below the floor"] if weak else []),
            *left,
        )
        return Section(
            "clusters",
            f"Clusters by {title} ({unit})",
            definition,
            place,
            table=pd.DataFrame(members),
            figures=figures,
            notes=notes,
        )

    def tree() -> Section:
        passes = _matrix(sweep, counted, keys, "saddle")
        found, least = spanning_tree(passes), minimax(passes)
        better = least.to_numpy() < passes.to_numpy() - 1e-12  # never of a pair without a value
        figures = {"highest_pass": float(found["value"].max()), "pairs_better_over_others": int(better.sum()) // 2}
        said = (
            f"value: {VALUES['saddle'][2]}; minimum spanning tree, whose largest edge on the way between two minima is "
            "their pass\nhighest_pass: the largest; pairs_better_over_others: whose pass is lower than their own path's"
        )
        return Section("tree", "Saddles (nats): spanning tree", said, place, table=found, figures=figures)

    def factors() -> Section:
        minima = sweep.minima().set_index("key")
        axes = minima.loc[own, list(sweep.spec.axis_names)].astype(object)
        apart = counted[counted["a"].isin(own) & counted["b"].isin(own)]
        distance = None if value == "distance_l2" else "distance_l2"
        found = factor_effects(apart, axes.where(axes.notna(), None), value, distance)
        attributes = {str(name): one for name, one in found.attrs.items()}
        dropped = attributes.pop("dropped")
        notes = (
            f"effect: {unit} that a pair's {title} is higher by if its ends differ in the factor, the others held "
            "(multiple regression on distance matrices, Lichstein 2007); p_value: minima permuted, double "
            "semi-partialling (Dekker et al. 2007); in brackets: the effects that this test doesn't reject at 5 %; "
            "explained: by how much R^2 drops without the factor; effect given distance: at equal L2 distance",
            *(f"{name}: {why}" for name, why in dropped.items()),
            *(f"{name}: {note}" for name, note in zip(found["factor"], found["note"], strict=True) if note),
            *left,
        )
        found.attrs = {}
        return Section(
            "factors",
            f"Which factor matters: {title} ({unit})",
            definition,
            place,
            table=found,
            figures=attributes,
            notes=notes,
            shown=_OF_FACTORS,
        )

    for name, heading, make in (
        ("clusters", "Clusters", clusters),
        ("tree", "Spanning tree", tree),
        ("factors", "Which factor matters", factors),
    ):
        yield tried(name, heading, definition, place, make)


def _barriers(table: pd.DataFrame, place: Place, also: tuple[str, ...]) -> Section:
    names = ("barrier_entezari", "barrier_frankle", "barrier_ainsworth", "convexity_gap")
    bounds = [column for name in names for column in (name, f"{name}_low", f"{name}_high")]
    rest = ["p_holm", "t_peak", "saddle", "loss_integral", "better", "agreement_ends", "jensen_shannon_ends"]
    sizes = ["distance_l2", "length"]
    columns = ["a", "b", "differs", *bounds, *rest, *sizes, "below_floor"]
    told = "\n".join(f"{name}: {VALUES[name][2]} ({VALUES[name][1]})" for name in (*names, *rest, *sizes))
    notes = (
        "in brackets (low, high): 95 % interval over evaluation rows, paired bootstrap",
        "pairs: whose ends are above the floor (left_out: the others, below_floor); of these, significant: p_holm < "
        f"{SIGNIFICANT}; barrier_mean, barrier_max: barrier_entezari (nats)",
        *also,
    )
    counted = table[~table["below_floor"]]
    figures = {
        "pairs": len(counted),
        "left_out": len(table) - len(counted),
        "significant": int((counted["p_holm"] < SIGNIFICANT).sum()),
        "barrier_mean": float(counted["barrier_entezari"].mean()),
        "barrier_max": float(counted["barrier_entezari"].max()),
    }
    ordered = table.sort_values("barrier_entezari", ascending=False, kind="stable", ignore_index=True)
    shown = ("a", "b", "differs", *names[:2], "convexity_gap", "p_holm", "t_peak", "saddle", "better", "agreement_ends")
    shown += ("below_floor",) if len(counted) < len(table) else ()
    return Section("barriers", "Barriers", told, place, ordered[columns], figures, notes, shown)


def _matrix(sweep: Sweep, table: pd.DataFrame, keys: list[str], value: str) -> pd.DataFrame:
    from raymc.report.frames import matrix

    return matrix(table, keys, str(table["curve"].iloc[0]), str(table["split"].iloc[0]), value)
