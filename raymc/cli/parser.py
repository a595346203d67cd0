"""The verbs of the command line and their options."""

from __future__ import annotations

import argparse
from typing import Any

from raymc.cli import jobs, report, ui, verbs


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(
        prog="raymc",
        description="Mode connectivity of language models: one YAML in, a connectivity matrix out.",
        epilog="exit codes: 0 done, 2 bad input, 3 partly failed, 4 no cluster or no right token, 130 interrupted",
    )
    root.add_argument("--version", action="version", version=f"raymc {version()}")
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def verb(name: str, function: Any, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(verb=function)
        return sub

    def overrides(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--set", action="append", default=[], metavar="K=V", help="override a field: train.steps=50")

    def storage(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "--storage",
            metavar="URI",
            help="folder of the store, s3://... or gs://... (default: the spec's, else ./raymc-store)",
        )

    def named(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("sweep", metavar="NAME|SPEC")
        overrides(sub)
        storage(sub)

    sub = verb("validate", verbs.validate, "check specs: one line per fault, with file, line and column")
    sub.add_argument("spec", nargs="+", metavar="SPEC")
    overrides(sub)
    sub.add_argument("--json", action="store_true", help="faults as JSON on stdout")

    sub = verb("plan", verbs.plan, "what a sweep would compute and about what it costs; nothing is run")
    sub.add_argument("spec", metavar="SPEC")
    overrides(sub)
    storage(sub)
    sub.add_argument(
        "--workers", type=_count, metavar="W", help="to estimate for (default: the spec's, else this machine's)"
    )
    sub.add_argument(
        "--tflops",
        type=_rate,
        metavar="T",
        help="10^12 operations a second that forward passes reach on one worker (default: measured, else assumed)",
    )
    sub.add_argument("--json", action="store_true", help="the plan and the resolved spec as JSON")

    sub = verb("simulate", verbs.simulate, "the real scheduler against workers that only pass time; nothing is run")
    sub.add_argument("spec", nargs="?", metavar="SPEC", help="may be left out where --minima is given")
    overrides(sub)
    storage(sub)
    sub.add_argument("--workers", type=_count, required=True, metavar="W")
    sub.add_argument("--minima", type=_count, metavar="N", help="all pairs of so many, instead of the spec's")
    sub.add_argument("--seconds-per-pair", type=_seconds, metavar="S", help="default: of finished pairs, else assumed")
    sub.add_argument("--seconds-per-load", type=_seconds, metavar="L", help="to read an endpoint (default: assumed)")
    sub.add_argument("--cache", type=_count, metavar="ENDPOINTS", help="that a worker has room for, at least 2")
    sub.add_argument(
        "--spread",
        type=_seconds,
        default=0.1,
        metavar="SD",
        help="of the logarithm of the workers' speeds (default: %(default)s)",
    )
    sub.add_argument(
        "--fail",
        type=_share,
        default=0.01,
        metavar="SHARE",
        help="of the workers die at some time (default: %(default)s)",
    )
    sub.add_argument(
        "--batch", type=_seconds, default=5.0, metavar="SECONDS", help="that a batch aims at (default: %(default)s)"
    )
    sub.add_argument("--seed", type=int, default=0, help="of speeds and failures (default: %(default)s)")
    sub.add_argument("--json", action="store_true", help="the figures as JSON")

    sub = verb("bench", verbs.bench, "what a matrix costs beside its bare forward passes, on this machine and model")
    sub.add_argument(
        "spec", nargs="?", metavar="SPEC", help="whose finished minima are joined (default: a built-in model's)"
    )
    overrides(sub)
    storage(sub)
    sub.add_argument("--pairs", type=_count, metavar="N", help="to measure (default: 2; with --quick 1)")
    sub.add_argument("--actors", type=_count, metavar="K", help="at once, at most (default: processors, 4 at most)")
    sub.add_argument("--threads", type=_count, metavar="T", help="of torch (default: the spec's CPUs an evaluator)")
    sub.add_argument("--points", type=_count, metavar="P", help="of an exhaustive profile (default: the spec's)")
    sub.add_argument("--training", action="store_true", help="the sweep's training beside its bare loops, too")
    sub.add_argument("--quick", action="store_true", help="one round, few points")
    sub.add_argument("--json", action="store_true", help="all that was measured as JSON")

    sub = verb("run", verbs.run, "train missing minima, evaluate missing pairs, write the matrix")
    sub.add_argument("spec", metavar="SPEC")
    overrides(sub)
    storage(sub)
    sub.add_argument(
        "--tracking", metavar="URI", help="MLflow tracking URI (default: the spec's, else sqlite in the store)"
    )
    sub.add_argument("--address", metavar="RAY", help="Ray cluster to join (default: one started here)")
    sub.add_argument("--json", action="store_true", help="counts as a JSON object on the last line of stdout")
    sub.add_argument("-v", "--verbose", action="store_true", help="show what Ray and the libraries print")

    jobs.add_verbs(verb, overrides)

    sub = verb("show", verbs.show, "the connectivity matrix of a sweep that was run")
    named(sub)
    sub.add_argument("--curve", help="default: the sweep's first")
    sub.add_argument("--split", help="default: the sweep's first")
    sub.add_argument("--value", default="barrier_entezari", help="a column of barriers.parquet (default: %(default)s)")
    sub.add_argument("--by", action="append", default=[], metavar="AXIS", help="part the summary by an axis's values")
    sub.add_argument("--floor", action="store_true", help="no values where an end is below the spec's floor")
    sub.add_argument("--json", action="store_true", help="minima, matrix, its definition and the summary as JSON")

    sub = verb("analyze", verbs.analyze, "what the matrix means: intervals, clusters, factors, best points, knowledge")
    named(sub)
    sub.add_argument("--curve", help="default: each of the sweep's")
    sub.add_argument("--split", help="default: each of the sweep's")
    sub.add_argument(
        "--value", default="barrier_entezari", help="what clusters and effects are about (default: %(default)s)"
    )
    sub.add_argument("--rows", type=_count, default=20, metavar="N", help="lines of a table at most (default: 20)")
    sub.add_argument("--json", action="store_true", help="all sections, whole, as JSON")

    report.add(verb, named)

    sub = verb("export", verbs.export, "a minimum, a point of a path or a soup as a Hugging Face folder")
    named(sub)
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

    ui.options(verb("ui", ui.ui, "open MLflow's pages of what a storage tracks, on this machine"))
    sub = verb("schema", verbs.print_schema, "the JSON Schema of a sweep, for editors")
    sub.add_argument("--markdown", action="store_true", help="a page to read, with every field and its default")
    return root


def version() -> str:
    import raymc

    return raymc.__version__


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number above 0, not {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"a number from 0 on, not {text!r}")
    return value


def _rate(text: str) -> float:
    value = _seconds(text)
    if not value:
        raise argparse.ArgumentTypeError(f"a number above 0, not {text!r}")
    return value


def _share(text: str) -> float:
    value = _seconds(text)
    if value > 1.0:
        raise argparse.ArgumentTypeError(f"a share from 0 to 1, not {text!r}")
    return value
