"""What a sweep found, in a sentence and a few numbers: the first that a tracker shows of it and of each minimum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from raymc.specs.results import METRICS
from raymc.specs.sweep import SweepSpec
from raymc.sweep.results import Sweep
from raymc.sweep.section import SIGNIFICANT, Section

VALUE = "barrier_entezari"


@dataclass(frozen=True)
class Headline:
    """Of the sweep's first curve and row set, pairs above the floor: `mean` (nats) and `cluster` are by minimum."""

    finding: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    mean: dict[str, float] = field(default_factory=dict)
    cluster: dict[str, int] = field(default_factory=dict)

    def metrics_of(self, key: str) -> dict[str, float]:
        return {"barrier_mean": self.mean[key]} if key in self.mean else {}

    def tags_of(self, key: str) -> dict[str, str]:
        return {"cluster": str(self.cluster[key])} if key in self.cluster else {}

    def columns(self, spec: SweepSpec) -> tuple[str, ...]:
        """What a table of the minima shows first: axes, then how good and how connected they are."""
        first = spec.row_sets[0].name
        scores = [f"metrics.{first}/loss", f"metrics.{first}/{METRICS[spec.model.kind][0]}"]
        axes = [f"params.{name}" for name in spec.axis_names]
        cluster = ["tags.cluster"] if self.cluster else []
        return (*axes, "metrics.barrier_mean", *cluster, *scores, "attributes.Models")


def headline(sweep: Sweep, sections: Sequence[Section]) -> Headline:
    """`sections`: as `sweep.analyze()` gives them."""
    barriers = sweep.barriers()
    if not len(barriers):
        return Headline(metrics={"minima": float(len(sweep.minima()))})
    curve, split = sweep.spec.connectivity.curve_names[0], sweep.splits[0]
    counted = barriers[~barriers["below_floor"]]
    first = counted[(counted["curve"] == curve) & (counted["split"] == split)]
    mean = {
        str(key): float(first[VALUE][(first["a"] == key) | (first["b"] == key)].mean())
        for key in sorted({*first["a"], *first["b"]})
    }
    metrics = {"minima": float(len(sweep.minima())), "pairs": float(len(first))}
    if len(first):
        metrics |= {"barrier_mean": float(first[VALUE].mean()), "barrier_max": float(first[VALUE].max())}
        metrics["pairs_with_barrier"] = float((first["p_holm"] < SIGNIFICANT).sum())
        metrics["frankle_mean"] = float(first["barrier_frankle"].mean())
    several = counted.groupby(["curve", "split"], sort=False)[VALUE].mean()
    if len(several) > 1:
        metrics |= {f"barrier_mean_of/{a}.{b}": float(x) for (a, b), x in several.items()}  # type: ignore[misc]
    clusters = _section(sections, "clusters", curve, split)
    labels: dict[str, int] = dict(clusters.figures.get("labels", {})) if clusters is not None else {}
    if labels:
        metrics["clusters"] = float(len(set(labels.values())))
    said = _finding(clusters, _section(sections, "factors", curve, split), f"{curve} path, {split}")
    return Headline(said, metrics, mean, labels)


def commands(sweep: Sweep) -> dict[str, str]:
    """What to type: to look further, and to compute the sweep again from the spec that lies beside."""
    where = f" --storage {sweep.store.uri}"
    return {
        "Look further": f"raymc analyze {sweep.name}{where}",
        "Again, from spec.json under Artifacts": f"raymc run spec.json{where}",
    }


def _section(sections: Sequence[Section], name: str, curve: str, split: str) -> Section | None:
    found = [one for one in sections if (one.name, one.curve, one.split) == (name, curve, split)]
    return found[0] if found else None


def _finding(clusters: Section | None, factors: Section | None, where: str) -> str:
    """Such as `2 clusters, parted by seed`, with the barrier within and between; nothing where nothing is known."""
    if clusters is None or not clusters.figures.get("labels"):
        return ""
    figures: dict[str, Any] = dict(clusters.figures)
    if figures["clusters"] == 1:
        return f"One cluster: mean barrier {_number(figures['within'])} nats ({where})."
    factor = _parting(factors)
    by = f", parted by {factor}" if factor else ""
    within, between, p = (figures[name] for name in ("within", "between", "p_value"))
    return (
        f"{figures['clusters']} clusters{by}: mean barrier {_number(within)} nats within, {_number(between)} between "
        f"(p = {_number(p)}; {where})."
    )


def _parting(factors: Section | None) -> str:
    """The factor with the largest effect on the barrier, among those that the test finds one of; else none."""
    table = None if factors is None else factors.table
    if table is None or not len(table):
        return ""
    sure = table[table["p_value"] < SIGNIFICANT]
    return str(sure.sort_values("effect", ascending=False)["factor"].iloc[0]) if len(sure) else ""


def _number(value: float) -> str:
    return f"{value:.3g}" if value == value else "–"
