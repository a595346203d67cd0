"""`raymc report`: a sweep as one page, and as a figure."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable

from raymc.cli.verbs import DONE, opened


def add(verb: Callable[..., argparse.ArgumentParser], named: Callable[[argparse.ArgumentParser], None]) -> None:
    """The verb's options. `verb`, `named`: as in raymc.cli.parser."""
    sub = verb("report", report, "one self-contained page to explore and to send, and a figure for papers")
    named(sub)
    sub.add_argument("-o", "--out", metavar="FILE.html", help="the page (default: NAME.html, unless --png is given)")
    sub.add_argument("--png", metavar="FILE", help="the matrix in the order of its clusters: .png, .pdf or .svg")
    sub.add_argument("--curve", help="of --png; default: the sweep's first")
    sub.add_argument("--split", help="of --png; default: the sweep's first")
    sub.add_argument(
        "--value", default="barrier_entezari", help="of --png: a column of barriers (default: %(default)s)"
    )
    sub.add_argument(
        "--analysis",
        action=argparse.BooleanOptionalAction,
        help="with clusters, effects of factors and the like (default: up to 200 minima, 60 with several curves or "
        "tasks, as more take minutes)",
    )
    sub.add_argument("--json", action="store_true", help="what was written as JSON")


def report(options: argparse.Namespace) -> int:
    from raymc.sweep.report import page, picture, write

    sweep = opened(options)
    written = []
    if options.png:
        written.append({"what": "figure", **picture(sweep, options.png, options.curve, options.split, options.value)})
    if options.out or not options.png:
        target = options.out or f"{sweep.name}.html"
        written.append({"what": "page", **write(target, page(sweep, analysis=options.analysis))})
    if options.json:
        print(json.dumps({"name": sweep.name, "written": written}))
        return DONE
    for one in written:
        print(f"{one['what']:6}  {one['path']}  ({one['bytes'] / 1e6:.1f} MB)")
    return DONE
