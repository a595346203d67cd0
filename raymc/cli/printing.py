"""A sweep for a terminal: its tables, and where they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raymc.sweep.results import Sweep
    from raymc.sweep.simulate import Simulated


def print_sweep(
    sweep: Sweep, curve: str | None, split: str | None, value: str, floor: bool = False, by: Sequence[str] = ()
) -> None:
    from raymc.report.text import print_matrix, print_minima, print_summary
    from raymc.report.values import VALUES
    from raymc.specs.results import METRICS

    curve, split = curve or sweep.spec.connectivity.curve_names[0], split or sweep.splits[0]
    frame, summary = sweep.matrix(curve, split, value, floor), sweep.summary(by)  # faults before anything is printed
    title, unit, definition = VALUES[value]
    names, weak = sweep.names(), sweep.weak()
    print_minima(sweep.minima(), names, sweep.splits, weak, _floor(sweep))
    barriers = sweep.barriers()
    chosen = barriers[(barriers["curve"] == curve) & (barriers["split"] == split)]
    spaces = ", ".join(sorted(set(chosen["space"]))) or "-"
    points = sweep.spec.connectivity.point_count
    heading = f"{title} ({unit}): {curve} path in the space of {spaces}, {points} points, {split} split\n{definition}"
    heading += f"\ncomputed in {sweep.precision.told}" if sweep.precision is not None else ""
    print_matrix(frame, names, heading, weak=weak)
    if len(barriers):
        print_summary(summary, by, METRICS[sweep.spec.model.kind][0].replace("_", " "))
    for failure in sweep.failures:
        print(f"failed: {failure['kind']} {failure['name']}: {failure['reason']}")


def _floor(sweep: Sweep) -> str:
    """The floor in words: `accuracy at least 0.8 on validation`."""
    floor = sweep.spec.connectivity.floor
    if floor is None:
        return ""
    bound = "at most" if floor.metric == "loss" else "at least"
    return f"{floor.metric} {bound} {floor.value:g} on {floor.split or 'the first split'}"


def print_where(sweep: Sweep, storage: str | None) -> None:
    result = sweep.result
    counts = "; ".join(
        f"{what}: {c['total']} ({c['computed']} computed, {c['reused']} reused, {c['failed']} failed)"
        for what, c in ((what, result[what]) for what in ("minima", "curves", "pairs"))
        if c["total"] or what != "curves"
    )
    print(f"{counts}; {duration(result['seconds'])}")
    print(f"tables:  {sweep.store.where('sweeps', sweep.name)}")
    storage = storage or sweep.spec.storage
    print(f"again:   raymc show {sweep.name}" + (f" --storage {storage}" if storage else ""))
    uri = result.get("tracking", "")
    if uri.startswith("sqlite:"):
        print(f"MLflow:  raymc ui {sweep.name}" + (f" --storage {storage}" if storage else ""))
    elif uri:
        print(f"MLflow:  {result['tracking_run']}")


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def print_simulated(found: Simulated) -> None:
    costs = found.costs
    print(f"matrix     {found.pairs} pairs of {found.minima} minima")
    print(f"workers    {found.workers}, of which {found.failed_workers} die; each has room for {costs.cache} endpoints")
    print(f"costs      {costs.pair:g} s a pair, {costs.load:g} s a load ({costs.basis})")
    print(f"makespan   {duration(found.makespan)}; {duration(found.ideal)} if work were spread evenly and nobody died")
    print(f"idle       {100 * found.idle_share:.2f} % of the workers' time; {100 * found.lost_share:.2f} % was lost")
    print(f"loads      {found.loads}, {found.loads / max(1, found.fewest_loads):.3f} of the bound {found.fewest_loads}")
    print(f"batches    {found.batches}; {found.stolen} spans split, {found.repeated} batches repeated")
    mean, most = found.scheduler_ms_mean, found.scheduler_ms_max
    print(f"scheduler  {mean:.3f} ms a batch, {most:.2f} ms the longest call (CPU time)")
    print(f"memory     {found.peak_memory / 2**20:.0f} MiB at most, of this process")


def print_plan(result: dict[str, Any]) -> None:
    """A plan as `Plan.as_dict` gives it."""
    minima, pairs, estimate = result["minima"], result["pairs"], result["estimate"]
    print(f"sweep    {result['name']}  (storage {result['storage']})")
    if result["backbones"]["total"]:
        print(f"backbones{result['backbones']['total']:6d}   {result['backbones']['done']} in the store")
    print(f"minima   {minima['total']:6d}   {minima['done']} in the store")
    if result["curves"]["total"]:
        print(f"curves   {result['curves']['total']:6d}   {result['curves']['done']} fitted in the store")
    print(f"pairs    {pairs['total']:6d}   {pairs['done']} in the store")
    print(f"passes   {result['forward_passes']:6d}   of {result['forward_passes_total']} over a split, still to do")
    print(f"         {estimate['passes_per_path']:6.3g}   a path between its ends: {estimate['passes_basis']}")
    print(f"computed in {result['precision']['told']}")
    if estimate["loads"]:
        size = estimate["bytes_loaded"]
        said = "unknown bytes" if size is None else amount(size)
        print(f"loads    {estimate['loads']:6d}   endpoints, {said} ({estimate['loads_basis']})")
    if estimate["seconds"] is None:
        print(f"cost     {estimate['basis']}")
        return
    flops = estimate["train_flops"] + estimate["evaluate_flops"]
    about = f"about {duration(estimate['seconds'])}, {flops:.2g} floating-point operations"
    print(f"cost     {about} ({estimate['basis']})")
    workers = "1 worker" if estimate["workers"] == 1 else f"{estimate['workers']} workers"
    wall = duration(estimate["seconds"])
    print(f"hours    {estimate['hours']:6.3g}   {estimate['hours_of']}-hours; {wall} of wall time on {workers}")


def amount(size: float) -> str:
    """Bytes in words: `1.5 GB`."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} PB"
