"""What each verb does; all return an exit code."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raymc.cli.printing import print_sweep, print_where
from raymc.specs.errors import SpecError

if TYPE_CHECKING:
    from raymc.sweep.results import Sweep

DONE, BAD_INPUT, PARTLY_FAILED, UNREACHABLE, INTERRUPTED = 0, 2, 3, 4, 130


def _load(path: str, overrides: Sequence[str]) -> tuple[Any, Any]:
    """A spec from a file, and a function that gives a fault its place in it."""
    from raymc.specs.load import fault_at, load_with_source

    spec, source = load_with_source(path, overrides)
    return spec, lambda where, message: fault_at(source, where, message)


def validate(options: argparse.Namespace) -> int:
    from raymc.sweep.check import check

    faults = []
    for path in options.spec:
        try:
            spec, locate = _load(path, options.set)
            check(spec, locate)
        except SpecError as error:
            faults += error.faults
    if options.json:
        print(json.dumps({"valid": not faults, "faults": [fault.as_dict() for fault in faults]}, indent=1))
    else:
        for fault in faults:
            print(fault, file=sys.stderr)
    return BAD_INPUT if faults else DONE


def plan(options: argparse.Namespace) -> int:
    from raymc.cli.printing import print_plan
    from raymc.sweep.check import check
    from raymc.sweep.estimate import Hardware
    from raymc.sweep.plan import plan as plan_sweep

    spec, locate = _load(options.spec, options.set)
    check(spec, locate)
    hardware = Hardware(options.workers, options.tflops)
    result = plan_sweep(spec, storage=options.storage, checked=True, locate=locate, hardware=hardware).as_dict()
    if options.json:
        print(json.dumps(result, indent=1))
        return DONE
    print_plan(result)
    return DONE


def simulate(options: argparse.Namespace) -> int:
    from dataclasses import replace

    from raymc.cli.printing import print_simulated
    from raymc.connectivity.missing import AllPairs
    from raymc.specs.errors import RaymcError
    from raymc.sweep.simulate import Costs, of_sweep
    from raymc.sweep.simulate import simulate as play

    missing, costs = None, Costs()
    if options.spec is not None:
        spec, _ = _load(options.spec, options.set)
        missing, costs = of_sweep(spec, options.storage)
    if options.minima is not None:
        missing = AllPairs(options.minima)
    if missing is None:
        raise RaymcError("raymc simulate: give a SPEC, or --minima N")
    given = {"pair": options.seconds_per_pair, "load": options.seconds_per_load, "cache": options.cache}
    given = {name: value for name, value in given.items() if value is not None}
    if given.get("cache", 2) < 2:
        raise RaymcError("raymc simulate: --cache is at least 2, as a pair has two endpoints")
    named = ", ".join({"pair": "seconds a pair", "load": "seconds a load", "cache": "cache"}[name] for name in given)
    basis = {"basis": f"given: {named}" + (f"; else {costs.basis}" if len(given) < 3 else "")} if given else {}
    found = play(
        missing,
        options.workers,
        replace(costs, **given, **basis),
        spread=options.spread,
        fail=options.fail,
        seed=options.seed,
        target=options.batch,
    )
    if options.json:
        print(json.dumps(found.as_dict(), indent=1))
    else:
        print_simulated(found)
    return DONE


def bench(options: argparse.Namespace) -> int:
    from raymc.report.progress import progress_for_stderr
    from raymc.specs.errors import RaymcError
    from raymc.sweep.bench import Asked
    from raymc.sweep.bench import bench as measure
    from raymc.sweep.bench.table import print_report

    if options.spec is None and options.set:
        raise RaymcError("raymc bench: --set overrides a field of a SPEC, and there is none")
    if options.points is not None and options.points < 3:
        raise RaymcError("raymc bench: --points is at least 3, as a path has two ends")
    spec, locate = (None, None) if options.spec is None else _load(options.spec, options.set)
    asked = Asked(options.pairs, options.actors, options.threads, options.points, options.training, options.quick)
    where = {"storage": options.storage} | ({} if locate is None else {"locate": locate, "name": options.spec})
    with progress_for_stderr() as progress:
        report = measure(spec, asked, progress=progress, **where)
    if options.json:
        print(json.dumps(report.as_dict(), indent=1))
    else:
        print_report(report)
    return DONE


def run(options: argparse.Namespace) -> int:
    from raymc.report.progress import progress_for_stderr
    from raymc.sweep.run import run as run_sweep

    spec, locate = _load(options.spec, options.set)
    with progress_for_stderr() as progress:
        sweep = run_sweep(
            spec,
            storage=options.storage,
            tracking=options.tracking,
            address=options.address,
            progress=progress,
            verbose=options.verbose,
            locate=locate,
        )
    for failure in sweep.failures:
        print(f"failed: {failure['kind']} {failure['name']}: {failure['reason']}", file=sys.stderr)
    if not options.json:
        print_sweep(sweep, None, None, "barrier_entezari")
        print_where(sweep, options.storage)
    else:
        print(json.dumps({**sweep.result, "failures": sweep.failures}))
    return PARTLY_FAILED if sweep.failures else DONE


def show(options: argparse.Namespace) -> int:
    from raymc.report.values import VALUES

    sweep = opened(options)
    name = sweep.name
    if options.json:
        from raymc.report.records import records

        frame = sweep.matrix(options.curve, options.split, options.value, options.floor)
        title, unit, definition = VALUES[options.value]
        floor = sweep.spec.connectivity.floor
        print(
            json.dumps(
                {
                    "name": name,
                    "curve": options.curve or sweep.spec.connectivity.curve_names[0],
                    "split": options.split or sweep.splits[0],
                    "space": sorted(set(sweep.barriers()["space"])),
                    "value": options.value,
                    "title": title,
                    "unit": unit,
                    "definition": definition,
                    "precision": sweep.result.get("precision"),
                    "floor": None if floor is None else floor.model_dump(mode="json"),
                    "minima": records(sweep.minima()),
                    "matrix": [[None if cell != cell else cell for cell in row] for row in frame.to_numpy().tolist()],
                    "summary": records(sweep.summary(options.by)),
                    "failures": sweep.failures,
                },
                indent=1,
            )
        )
        return DONE
    print_sweep(sweep, options.curve, options.split, options.value, options.floor, options.by)
    return DONE


def opened(options: argparse.Namespace) -> Sweep:
    """The sweep that a verb names, by its own name or its spec."""
    from raymc.sweep.results import open_sweep

    name, storage = options.sweep, options.storage
    if name.endswith((".yaml", ".yml")) or Path(name).is_file():
        spec, _ = _load(name, options.set)
        name, storage = spec.name, storage or spec.storage
    return open_sweep(name, storage=storage)


def analyze(options: argparse.Namespace) -> int:
    sweep = opened(options)
    sections = sweep.analyze(options.curve, options.split, options.value)
    if options.json:
        print(json.dumps({"name": sweep.name, "sections": [one.as_dict() for one in sections]}, indent=1))
        return DONE
    from raymc.report.sections import print_section

    for one in sections:
        print_section(one, sweep.names(), options.rows)
    return DONE


def export(options: argparse.Namespace) -> int:
    sweep = opened(options)
    given = {
        name: getattr(options, name)
        for name in ("minimum", "path", "soup", "t", "curve", "cluster", "threshold", "choose")
        if getattr(options, name) is not None
    }
    if options.merged:
        given["merged"] = True
    if options.member:
        given["members"] = options.member
    done = sweep.export(options.out, **given)
    if options.json:
        from raymc.report.records import records

        scores = records(done.table)
        print(json.dumps({"folder": str(done.folder), "provenance": done.provenance, "scores": scores}, indent=1))
        return DONE
    from raymc.report.sections import print_export

    print_export(done.table, done.provenance)
    print(f"written: {done.folder}")
    return DONE


def print_schema(options: argparse.Namespace) -> int:
    """The JSON Schema of a sweep, or the same as a page to read."""
    if options.markdown:
        from raymc.specs.reference import reference

        print(reference(schema()), end="")
    else:
        print(json.dumps(schema(), indent=1))
    return DONE


def schema() -> dict[str, Any]:
    """JSON Schema of a sweep (as it is written, before defaults)."""
    from raymc.specs.sweep import SweepSpec

    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **SweepSpec.model_json_schema()}
