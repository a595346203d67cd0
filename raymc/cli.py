"""The command line: thin verbs over the Python API."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raymc.specs.errors import RaymcError, SpecError

if TYPE_CHECKING:
    from raymc.sweep.results import Sweep

DONE, BAD_INPUT, PARTLY_FAILED, INTERRUPTED = 0, 2, 3, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code. Bad input is one line on stderr, never a traceback."""
    options = _parser().parse_args(arguments)
    try:
        return options.verb(options)
    except RaymcError as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("interrupted; finished work is in the store, and the same command goes on from there", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="raymc",
        description="Mode connectivity of language models: one YAML in, a connectivity matrix out.",
        epilog="exit codes: 0 done, 2 bad input, 3 partly failed, 130 interrupted",
    )
    parser.add_argument("--version", action="version", version=f"raymc {_version()}")
    verbs = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def verb(name: str, function: Any, text: str) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=text, description=text)
        sub.set_defaults(verb=function)
        return sub

    def overrides(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--set", action="append", default=[], metavar="K=V", help="override a field: train.steps=50")

    def storage(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "--storage", metavar="URI", help="folder of the store (default: the spec's, else ./raymc-store)"
        )

    sub = verb("validate", _validate, "check specs: one line per fault, with file, line and column")
    sub.add_argument("spec", nargs="+", metavar="SPEC")
    overrides(sub)
    sub.add_argument("--json", action="store_true", help="faults as JSON on stdout")

    sub = verb("plan", _plan, "what a sweep would compute and about what it costs; nothing is run")
    sub.add_argument("spec", metavar="SPEC")
    overrides(sub)
    storage(sub)
    sub.add_argument("--json", action="store_true", help="the plan and the resolved spec as JSON")

    sub = verb("run", _run, "train missing minima, evaluate missing pairs, write the matrix")
    sub.add_argument("spec", metavar="SPEC")
    overrides(sub)
    storage(sub)
    sub.add_argument(
        "--tracking", metavar="URI", help="MLflow tracking URI (default: the spec's, else sqlite in the store)"
    )
    sub.add_argument("--address", metavar="RAY", help="Ray cluster to join (default: one started here)")
    sub.add_argument("--json", action="store_true", help="counts as a JSON object on the last line of stdout")
    sub.add_argument("-v", "--verbose", action="store_true", help="show what Ray and the libraries print")

    sub = verb("show", _show, "the connectivity matrix of a sweep that was run")
    sub.add_argument("sweep", metavar="NAME|SPEC")
    overrides(sub)
    storage(sub)
    sub.add_argument("--curve", help="default: the sweep's first")
    sub.add_argument("--split", help="default: the sweep's first")
    sub.add_argument("--value", default="barrier_entezari", help="a column of barriers.parquet (default: %(default)s)")
    sub.add_argument("--by", action="append", default=[], metavar="AXIS", help="part the summary by an axis's values")
    sub.add_argument("--floor", action="store_true", help="no values where an end is below the spec's floor")
    sub.add_argument("--json", action="store_true", help="minima, matrix, its definition and the summary as JSON")

    sub = verb("analyze", _analyze, "what the matrix means: intervals, clusters, factors, best points, knowledge")
    sub.add_argument("sweep", metavar="NAME|SPEC")
    overrides(sub)
    storage(sub)
    sub.add_argument("--curve", help="default: each of the sweep's")
    sub.add_argument("--split", help="default: each of the sweep's")
    sub.add_argument(
        "--value", default="barrier_entezari", help="what clusters and effects are about (default: %(default)s)"
    )
    sub.add_argument("--rows", type=_count, default=20, metavar="N", help="lines of a table at most (default: 20)")
    sub.add_argument("--json", action="store_true", help="all sections, whole, as JSON")

    sub = verb("export", _export, "a minimum, a point of a path or a soup as a Hugging Face folder, with its scores")
    sub.add_argument("sweep", metavar="NAME|SPEC")
    overrides(sub)
    storage(sub)
    what = sub.add_mutually_exclusive_group(required=True)
    what.add_argument("--minimum", metavar="KEY", help="by key, the start of it, or name")
    what.add_argument("--path", nargs=2, metavar=("A", "B"), help="a point of the path from A to B")
    what.add_argument("--soup", metavar="RECIPE", help="mean of minima: uniform, greedy or cluster")
    sub.add_argument("--t", metavar="T", help="of --path: from 0 (A) to 1 (B), or best: chosen on --choose")
    sub.add_argument("--curve", help="of --path; default: the sweep's first")
    sub.add_argument(
        "--member", action="append", metavar="KEY", help="of --soup: an ingredient; default: all that count"
    )
    sub.add_argument("--cluster", metavar="C", help="of --soup: its number, or a minimum in it")
    sub.add_argument(
        "--threshold", type=float, metavar="NATS", help="of --soup: the highest linear barrier in a cluster"
    )
    sub.add_argument("--merged", action="store_true", help="of --minimum: the whole model, adapters merged")
    sub.add_argument("--choose", metavar="SPLIT", help="row set to choose on; default: the sweep's first")
    sub.add_argument("-o", "--out", required=True, metavar="DIR", help="a folder that isn't there yet")
    sub.add_argument("--json", action="store_true", help="provenance and scores as JSON")

    verb("schema", _schema, "the JSON Schema of a sweep, for editors")
    return parser


def _version() -> str:
    import raymc

    return raymc.__version__


def _load(path: str, overrides: Sequence[str]) -> tuple[Any, Any]:
    """A spec from a file, and a function that gives a fault its place in it."""
    from raymc.specs.load import fault_at, load_with_source

    spec, source = load_with_source(path, overrides)
    return spec, lambda where, message: fault_at(source, where, message)


def _validate(options: argparse.Namespace) -> int:
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


def _plan(options: argparse.Namespace) -> int:
    from raymc.sweep.check import check
    from raymc.sweep.plan import plan

    spec, locate = _load(options.spec, options.set)
    check(spec, locate)
    result = plan(spec, storage=options.storage, checked=True, locate=locate).as_dict()
    if options.json:
        print(json.dumps(result, indent=1))
        return DONE
    minima, pairs, estimate = result["minima"], result["pairs"], result["estimate"]
    print(f"sweep    {spec.name}  (storage {result['storage']})")
    if result["backbones"]["total"]:
        print(f"backbones{result['backbones']['total']:6d}   {result['backbones']['done']} in the store")
    print(f"minima   {minima['total']:6d}   {minima['done']} in the store")
    if result["curves"]["total"]:
        print(f"curves   {result['curves']['total']:6d}   {result['curves']['done']} fitted in the store")
    print(f"pairs    {pairs['total']:6d}   {pairs['done']} in the store")
    print(f"passes   {result['forward_passes']:6d}   of {result['forward_passes_total']} over a split, still to do")
    if estimate["seconds"] is None:
        print(f"cost     {estimate['basis']}")
    else:
        flops = estimate["train_flops"] + estimate["evaluate_flops"]
        print(
            f"cost     about {_time(estimate['seconds'])}, {flops:.2g} floating-point operations ({estimate['basis']})"
        )
    return DONE


def _run(options: argparse.Namespace) -> int:
    from raymc.report.progress import progress_for_stderr
    from raymc.sweep.run import run

    spec, locate = _load(options.spec, options.set)
    with progress_for_stderr() as progress:
        sweep = run(
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
        _print_sweep(sweep, None, None, "barrier_entezari")
        _print_where(sweep, options.storage)
    else:
        print(json.dumps({**sweep.result, "failures": sweep.failures}))
    return PARTLY_FAILED if sweep.failures else DONE


def _show(options: argparse.Namespace) -> int:
    from raymc.report.values import VALUES

    sweep = _opened(options)
    name = sweep.name
    if options.json:
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
                    "floor": None if floor is None else floor.model_dump(mode="json"),
                    "minima": json.loads(sweep.minima().to_json(orient="records", double_precision=15)),
                    "matrix": [[None if cell != cell else cell for cell in row] for row in frame.to_numpy().tolist()],
                    "summary": json.loads(sweep.summary(options.by).to_json(orient="records", double_precision=15)),
                    "failures": sweep.failures,
                },
                indent=1,
            )
        )
        return DONE
    _print_sweep(sweep, options.curve, options.split, options.value, options.floor, options.by)
    return DONE


def _opened(options: argparse.Namespace) -> Sweep:
    """The sweep that a verb names, by its own name or its spec."""
    from raymc.sweep.results import open_sweep

    name, storage = options.sweep, options.storage
    if name.endswith((".yaml", ".yml")) or Path(name).is_file():
        spec, _ = _load(name, options.set)
        name, storage = spec.name, storage or spec.storage
    return open_sweep(name, storage=storage)


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number above 0, not {text!r}")
    return int(text)


def _analyze(options: argparse.Namespace) -> int:
    sweep = _opened(options)
    sections = sweep.analyze(options.curve, options.split, options.value)
    if options.json:
        print(json.dumps({"name": sweep.name, "sections": [one.as_dict() for one in sections]}, indent=1))
        return DONE
    from raymc.report.sections import print_section

    for one in sections:
        print_section(one, sweep.names(), options.rows)
    return DONE


def _export(options: argparse.Namespace) -> int:
    sweep = _opened(options)
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
        scores = json.loads(done.table.to_json(orient="records", double_precision=15))
        print(json.dumps({"folder": str(done.folder), "provenance": done.provenance, "scores": scores}, indent=1))
        return DONE
    from raymc.report.sections import print_export

    print_export(done.table, done.provenance)
    print(f"written: {done.folder}")
    return DONE


def _schema(options: argparse.Namespace) -> int:
    print(json.dumps(schema(), indent=1))
    return DONE


def schema() -> dict[str, Any]:
    """JSON Schema of a sweep (as it is written, before defaults)."""
    from raymc.specs.sweep import SweepSpec

    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **SweepSpec.model_json_schema()}


def _print_sweep(
    sweep: Sweep, curve: str | None, split: str | None, value: str, floor: bool = False, by: Sequence[str] = ()
) -> None:
    from raymc.report.text import print_matrix, print_minima, print_summary
    from raymc.report.values import VALUES
    from raymc.specs.results import METRICS

    curve, split = curve or sweep.spec.connectivity.curve_names[0], split or sweep.splits[0]
    frame = sweep.matrix(curve, split, value, floor)
    title, unit, definition = VALUES[value]
    names, weak = sweep.names(), sweep.weak()
    print_minima(sweep.minima(), names, sweep.splits, weak, _floor(sweep))
    barriers = sweep.barriers()
    chosen = barriers[(barriers["curve"] == curve) & (barriers["split"] == split)]
    spaces = ", ".join(sorted(set(chosen["space"]))) or "-"
    points = sweep.spec.connectivity.points
    heading = f"{title} ({unit}): {curve} path in the space of {spaces}, {points} points, {split} split\n{definition}"
    print_matrix(frame, names, heading, weak=weak)
    if len(barriers):
        print_summary(sweep.summary(by), by, METRICS[sweep.spec.model.kind][0].replace("_", " "))
    for failure in sweep.failures:
        print(f"failed: {failure['kind']} {failure['name']}: {failure['reason']}")


def _floor(sweep: Sweep) -> str:
    """The floor in words: `accuracy at least 0.8 on validation`."""
    floor = sweep.spec.connectivity.floor
    if floor is None:
        return ""
    bound = "at most" if floor.metric == "loss" else "at least"
    return f"{floor.metric} {bound} {floor.value:g} on {floor.split or 'the first split'}"


def _print_where(sweep: Sweep, storage: str | None) -> None:
    result = sweep.result
    counts = "; ".join(
        f"{what}: {c['total']} ({c['computed']} computed, {c['reused']} reused, {c['failed']} failed)"
        for what, c in ((what, result[what]) for what in ("minima", "curves", "pairs"))
        if c["total"] or what != "curves"
    )
    print(f"{counts}; {_time(result['seconds'])}")
    print(f"tables:  {sweep.store.root / 'sweeps' / sweep.name}")
    print(f"again:   raymc show {sweep.name}" + (f" --storage {storage}" if storage else ""))
    uri = result.get("tracking", "")
    if uri.startswith("sqlite:"):
        beside = Path(sys.executable).parent / "mlflow"
        program = "mlflow" if shutil.which("mlflow") else str(beside)
        print(f"MLflow:  {program} ui --backend-store-uri {uri}   then http://127.0.0.1:5000")
    elif uri:
        print(f"MLflow:  {result['tracking_run']}")


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


if __name__ == "__main__":
    sys.exit(main())
