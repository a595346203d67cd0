"""A sweep as one page that needs no network, and as a figure for papers."""

from __future__ import annotations

import datetime
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raymc.specs.errors import CorruptArtefact, RaymcError
from raymc.specs.results import METRICS
from raymc.store import layout

if TYPE_CHECKING:
    from raymc.report.page.data import Tables
    from raymc.specs.sweep import SweepSpec
    from raymc.sweep.results import Sweep
    from raymc.sweep.section import Section

ANALYSED = 200  # minima: with more, a page has no analysis unless asked for, as that takes minutes
ROWS_READ = 60  # minima: the same where the rows of every path are read, as they are to compare curves and tasks
_READ = 1000  # minima whose provenance is read


def page(sweep: Sweep, sections: Sequence[Section] | None = None, analysis: bool | None = None) -> str:
    """The sweep's report as one HTML document: the matrix to explore, paths, tables, analysis, spec and provenance.

    It asks for nothing beyond itself, and runs in a sandboxed frame too (as MLflow shows HTML artifacts).

    `sections`: as `sweep.analyze()` gives them, where the caller has them already. `analysis`: whether they are made
    here where not; None: up to ANALYSED or ROWS_READ minima. Raises RaymcError where the sweep's tables can't be read.
    """
    import raymc
    from raymc.report.page.html import Content, document
    from raymc.report.page.tables import part_of
    from raymc.report.page.words import found_in

    if sections is None and (analysis or (analysis is None and len(sweep.minima()) <= _analysed(sweep.spec))):
        sections = sweep.analyze() if len(sweep.barriers()) else []
    tables, counts = _tables(sweep, sections or ())
    names = sweep.names()
    parts = [part_of(one, sweep.name, names) for one in sections or () if one.name != "barriers"]
    left = f"Not computed: with {len(names)} minima the analysis takes minutes. raymc report {sweep.name} --analysis"
    floor = sweep.spec.connectivity.floor
    bound = "at most" if floor is not None and floor.metric == "loss" else "at least"
    return document(
        Content(
            name=sweep.name,
            description=sweep.spec.description,
            tables=tables,
            lead=_lead(sweep, tables),
            found=found_in(tables.barriers, names, tables.places, counts),
            metrics=[*METRICS[sweep.spec.model.kind], "calibration_error"],
            parts=parts,
            no_analysis=f"{left} computes it." if sections is None else "" if parts else "There is nothing to analyze.",
            warnings=_warnings(sweep, tables),
            failures=[{key: str(one.get(key, "")) for key in ("kind", "name", "reason")} for one in sweep.failures],
            provenance=_provenance(sweep),
            floor=""
            if floor is None
            else f"{floor.metric} {bound} {floor.value:g} on {floor.split or 'the first split'}",
            per="example" if sweep.spec.model.kind == "classifier" else "target token",
            spec=json.dumps(sweep.spec.model_dump(mode="json"), indent=1, ensure_ascii=False),
            version=raymc.__version__,
            made=f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC",
        )
    )


def _analysed(spec: SweepSpec) -> int:
    """Up to how many minima a page has its analysis without being asked."""
    several = len(spec.connectivity.curve_names) > 1 or len({rows.task_name for rows in spec.row_sets}) > 1
    return ROWS_READ if several and spec.connectivity.rows else ANALYSED


def _tables(sweep: Sweep, sections: Sequence[Section]) -> tuple[Tables, dict[tuple[str, str], tuple[int, float]]]:
    """(the tables; how many clusters there are and p of one, by curve and row set)."""
    from raymc.report.page.data import Tables

    labels: dict[tuple[str, str], dict[str, int]] = {}
    counts: dict[tuple[str, str], tuple[int, float]] = {}
    for one in sections:
        if one.name == "clusters" and "labels" in one.figures and (one.curve, one.split) not in counts:
            labels[one.curve, one.split] = dict(one.figures["labels"])
            counts[one.curve, one.split] = one.figures["clusters"], one.figures["p_value"]
    spec = sweep.spec
    curves, splits = spec.connectivity.curve_names, sweep.splits
    found = Tables(sweep.minima(), sweep.barriers(), sweep.profiles(), curves, splits, list(spec.axis_names), labels)
    return found, counts


def _lead(sweep: Sweep, tables: Tables) -> str:
    """How much there is: `8 minima, 28 pairs, 2 curves, 26 points along each path.`"""
    pairs = len(tables.barriers[["a", "b"]].drop_duplicates())
    curves = len({curve for curve, _ in tables.places})
    counts = [
        _number(len(tables.minima), "minimum", "minima"),
        _number(pairs, "pair", "pairs"),
        *([_number(curves, "curve", "curves")] if curves > 1 else []),
    ]
    tail = "" if not pairs else f", {sweep.spec.connectivity.point_count} points along each path"
    return f"{', '.join(counts)}{tail}."


def _number(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"


def _warnings(sweep: Sweep, tables: Tables) -> list[str]:
    found = []
    if sweep.failures:
        kinds = Counter(str(one["kind"]) for one in sweep.failures)
        said = ", ".join(f"{count} of kind {kind}" for kind, count in kinds.items())
        found.append(f"This sweep is not complete: {said} failed; the reasons are below.")
    alone = len(tables.minima) - len(tables.shown)
    if tables.places and alone:
        said = "1 minimum is" if alone == 1 else f"{alone} minima are"
        found.append(f"{said} in no pair, and so not in the matrix.")
    bound = tables.barriers["bound"].max() if "bound" in tables.barriers and len(tables.barriers) else 0.0
    if bound > 0:
        found.append(
            f"Points are adaptive: the loss is within {bound:g} nats of a profile with all points evaluated, and "
            "intervals are wider by that."
        )
    return found


def _provenance(sweep: Sweep) -> list[tuple[str, str]]:
    """Name and text, of what the numbers come from."""
    result, minima = sweep.result, sweep.minima()
    found = [("storage", str(result.get("storage", "")))]
    if sweep.precision is not None:
        found.append(("computed in", sweep.precision.told))
    for what in ("minima", "curves", "pairs"):
        counts = result.get(what)
        if counts and counts.get("total"):
            said = f"{counts['total']:,} ({counts['computed']:,} computed by the last run, {counts['reused']:,} reused"
            found.append((what, f"{said}, {counts['failed']:,} failed)"))
    if "seconds" in result:
        found.append(("last run took", str(datetime.timedelta(seconds=round(float(result["seconds"]))))))
    devices: Counter[str] = Counter()
    versions: Counter[str] = Counter()
    unread = max(0, len(minima) - _READ)
    for key in minima["key"][:_READ]:
        try:
            body = sweep.store.read_json(layout.MINIMA, key, layout.PROVENANCE)
        except CorruptArtefact:  # the tables hold without it; how many is said
            unread += 1
            continue
        devices[str(body.get("device", "unknown"))] += 1
        software = ", ".join(f"{name} {version}" for name, version in dict(body.get("versions") or {}).items())
        versions[f"{software}; commit {body.get('commit') or 'unknown'}"] += 1
    found += [("trained on", f"{device} ({_number(count, 'minimum', 'minima')})") for device, count in devices.items()]
    found += [("software", f"{text} ({_number(count, 'minimum', 'minima')})") for text, count in versions.items()]
    if unread:
        found.append(("not read", f"provenance of {_number(unread, 'minimum', 'minima')}"))
    found.append(("SHA-256 of the tables", digest(sweep)))
    return [(name, text) for name, text in found if text]


def digest(sweep: Sweep) -> str:
    """Of the numbers in minima, barriers and profiles, wherever they lie (uri is left out)."""
    import hashlib

    import pandas as pd

    total = hashlib.sha256()
    for table in (sweep.minima().drop(columns="uri"), sweep.barriers(), sweep.profiles()):
        total.update(json.dumps([str(name) for name in table.columns]).encode())
        total.update(pd.util.hash_pandas_object(table, index=False).to_numpy().tobytes())
    return total.hexdigest()


def write(path: str | Path, content: str | bytes) -> dict[str, Any]:
    """Write a file whole; {path, bytes}. Raises RaymcError where it can't be written."""
    body = content.encode() if isinstance(content, str) else content
    target = Path(path)
    try:
        target.write_bytes(body)
    except OSError as error:
        raise RaymcError(f"{target} can't be written: {error.strerror}; name another file") from error
    return {"path": str(target), "bytes": len(body)}


FORMATS = (".png", ".pdf", ".svg")


def picture(
    sweep: Sweep, path: str | Path, curve: str | None = None, split: str | None = None, value: str = "barrier_entezari"
) -> dict[str, Any]:
    """Write a matrix as a figure for a paper, in the order of its clusters; {path, bytes}. Suffix: of FORMATS.

    `curve` and `split`: by default the spec's first. Raises RaymcError for another suffix, for what the sweep doesn't
    have, and where the file can't be written.
    """
    import io

    from raymc.report.clustermap import clustermap
    from raymc.report.page.data import FROM_LOWEST, TREES
    from raymc.report.trees import tree_of
    from raymc.report.values import VALUES

    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise RaymcError(f"a figure's name ends in {', '.join(FORMATS)}, not {suffix or 'nothing'}: {path}")
    curve, split = curve or sweep.spec.connectivity.curve_names[0], split or sweep.splits[0]
    matrix, minima = sweep.matrix(curve, split, value), sweep.minima()
    paired = [key for key in matrix.index if matrix.loc[key].notna().any()]
    if not paired:
        raise RaymcError(f"sweep {sweep.name} has no pair on the {curve} path and the {split} split, so no figure")
    matrix, minima = matrix.loc[paired, paired], minima[minima["key"].isin(paired)]
    tree = tree_of(sweep.matrix(curve, split, value if value in TREES else "barrier_entezari").loc[paired, paired])
    title, unit, _ = VALUES[value]
    figure = clustermap(
        matrix,
        [str(name) for name in minima["name"]],
        f"{sweep.name}: {curve} path, {split} split",
        title if unit in (title, "t") else f"{title} ({unit})",
        tree,
        [bool(one) for one in minima["below_floor"]],
        value in FROM_LOWEST,
        [int(i) + 1 for i in minima.index],
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format=suffix[1:], dpi=300, metadata={"Title": f"{sweep.name}: {title}"})
    return write(path, buffer.getvalue())
