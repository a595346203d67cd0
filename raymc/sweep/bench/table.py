"""A report for a terminal."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from raymc.sweep.bench.figures import Report


def print_report(report: Report) -> None:
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 160)
    about, machine = report.about, report.about["machine"]
    sets = ", ".join(f"{split}: {one['rows']} rows, {one['tokens']} tokens" for split, one in about["row_sets"].items())
    flags = f" ({', '.join(machine['cpu_flags'])})" if machine["cpu_flags"] else ""
    threads = f"{machine['threads']} thread{'s' if machine['threads'] != 1 else ''}"
    lines = [
        f"machine  {machine['device']}{flags}, {machine['cpus']} CPUs, {threads}, torch {machine['torch']}",
        f"model    {about['model']}: {about['weights'] / 1e6:.3g} M weights, {about['interpolated'] / 1e6:.3g} M of "
        f"them interpolated in the space of {about['space']}",
        f"work     sweep {about['sweep']}, {about['pairs_measured']} of the pairs of {about['minima']} minima, "
        f"{about['curve']} path; {sets}",
    ]
    lines += [f"{name:<8} {how}" for name, how in about["chosen"].items()]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    table = Table()
    for name, justify in (("figure", "left"), ("value", "right"), ("unit", "left"), ("how", "left")):
        table.add_column(name, justify=justify, no_wrap=name != "how")  # type: ignore[arg-type]
    for figure in report.figures:
        table.add_row(figure.name, _number(figure.value), figure.unit, escape(figure.how))
    console.print(table)
    for note in report.notes:
        console.print(note, markup=False, highlight=False, soft_wrap=True)


def _number(value: float) -> str:
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:.0f}"
    return f"{value:.3f}" if abs(value) >= 0.1 else f"{value:.2g}"
