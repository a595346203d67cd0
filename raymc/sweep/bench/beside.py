"""How close the evaluator comes to bare forward passes, in a report."""

from __future__ import annotations

from dataclasses import asdict
from statistics import median

from raymc.connectivity.work import PairTask
from raymc.sweep.bench.clock import ratio
from raymc.sweep.bench.exhaustive import Compared, Exhaustive
from raymc.sweep.bench.figures import Report, count_of
from raymc.sweep.bench.machine import matrix_rate, operations
from raymc.sweep.bench.place import Place

_GIGA = 1e9


def beside(report: Report, place: Place, task: PairTask, rounds: int) -> tuple[Compared, Exhaustive]:
    """Compare an exhaustive path with bare passes in its precision. The figures of fp32 have no prefix."""
    prefix = "" if task.precision == "fp32" else f"{task.precision} "
    one = Exhaustive(place, task)
    done = operations(one.once)
    compared = one.compare(rounds)
    bare = median(taken.wall for taken in compared.bare) / (task.points - 2)
    tokens = sum(profile.tokens for profile in compared.profiles)
    rate = matrix_rate(place.device, task.precision)
    report.raw[f"{prefix}exhaustive".replace(" ", "_")] = {
        "bare": [asdict(taken) for taken in compared.bare],
        "evaluator": [asdict(taken) for taken in compared.evaluator],
        "inside_passes": compared.inside,
        "passes": compared.passes,
        "tokens_per_point": tokens,
        "operations_per_point": done,
        "matrix_rate": rate,
    }
    of = f"{count_of(len(compared.bare), 'round')} of {compared.passes} passes, in turn"
    report.add(f"{prefix}bare pass", bare, "s", f"all row sets, {task.precision}, fixed weights; {of}")
    report.add(f"{prefix}bare tokens", tokens / bare, "/s", "real tokens, no padding")
    if done:
        how = "matrix products of a bare pass, padding too, as torch counts them"
        report.add(f"{prefix}bare rate", done / bare / _GIGA, "GFLOP/s", how)
        how = f"a large square product, {task.precision}, the fastest of many"
        report.add(f"{prefix}matrix rate", rate / _GIGA, "GFLOP/s", how)
        report.add(f"{prefix}share of rate", done / bare / rate, "", "of the matrix rate, that bare passes reach")
    said = f"bare seconds / evaluator's, endpoints held; {of}"
    report.add(f"{prefix}efficiency", ratio(compared.bare, compared.evaluator), "", said)
    if place.device == "cpu":
        by_cpu = ratio(compared.bare, compared.evaluator, "cpu")
        how = "likewise, by processor time: others' load counts less"
        report.add(f"{prefix}efficiency, processor", by_cpu, "", how)
    inside = median(taken.wall / own for taken, own in zip(compared.bare, compared.inside, strict=True))
    report.add(f"{prefix}efficiency of passes", inside, "", "bare seconds / the evaluator's in passes alone")
    return compared, one
