"""A sweep as a tracker shows it, made from the store alone, so that it can be made again at any time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raymc.report.values import VALUES
from raymc.specs.errors import CorruptArtefact
from raymc.specs.keys import key_of
from raymc.specs.model import Pretrained
from raymc.specs.naming import name_of
from raymc.specs.results import DIAGNOSTICS, METRICS
from raymc.specs.sweep import Point, SweepSpec
from raymc.store import layout
from raymc.store.store import Store
from raymc.sweep.check import backbones_of
from raymc.sweep.findings import analysis_tables, analysis_text, plane_figures
from raymc.sweep.headline import commands, headline
from raymc.sweep.report import page
from raymc.sweep.results import Sweep

if TYPE_CHECKING:
    import pandas as pd

    from raymc.tracking.mlflow import MlflowTracker
    from raymc.tracking.tracker import MinimumView, SweepView, Value

RECEIPT = "tracked.json"


def make_tracker(spec: SweepSpec, store: Store, tracking: str | None) -> MlflowTracker:
    """MLflow at the URI asked for, else as the spec says, else in sqlite under the storage. Raises StorageFault."""
    from raymc.store.identity import identity
    from raymc.tracking.mlflow import MlflowTracker

    uri, own = tracking or spec.tracking.uri, identity(store.objects)
    if uri:
        return MlflowTracker(uri, spec.tracking.experiment, own)
    return MlflowTracker.under(store.root, spec.tracking.experiment, own)


def minimum_view(
    spec: SweepSpec,
    store: Store,
    key: str,
    point: Point,
    metrics: Mapping[str, float],
    tags: Mapping[str, str] | None = None,
) -> MinimumView:
    """One finished minimum; `tags`: what is known beside its own. Raises CorruptArtefact for one that can't be read."""
    from raymc.tracking.tracker import DatasetView, MinimumView

    body = store.read_json(layout.MINIMA, key, layout.PROVENANCE)
    curve = _curve(store, layout.MINIMA, key)
    task = point.trial.task
    trajectory = point.trial.trajectory
    dataset = DatasetView(
        name=_dataset_name(task.dataset.model_dump(mode="json")),
        digest=str(body.get("rows_digest") or ""),
        uri=_dataset_uri(task.dataset.model_dump(mode="json")),
    )
    return MinimumView(
        key=key,
        name=name_of(point),
        params=flat(point.trial.model_dump(mode="json")),
        axes=point.values,
        metrics=dict(metrics),
        curve=curve,
        uri=store.where(layout.MINIMA, key),
        seconds=body["seconds"]["total"],
        tags={
            **(tags or {}),
            "device": body["device"],
            "workers": str(body["workers"]),
            **({"commit": body["commit"][:12]} if body["commit"] else {}),
            **({"trajectory": trajectory} if trajectory != key else {}),
            "versions": ", ".join(f"{name} {version}" for name, version in body["versions"].items()),
        },
        datasets=() if point.existing else (dataset,),
    )


def backbone_view(store: Store, key: str, backbone: Pretrained) -> MinimumView:
    """A backbone that raymc pre-trained. Raises CorruptArtefact where its folder can't be read."""
    from raymc.tracking.tracker import MinimumView

    body = store.read_json(layout.BACKBONES, key, "backbone.json")
    validation = body.get("validation") or {}
    snapshot = getattr(backbone, "snapshot", None)
    return MinimumView(
        key=key,
        name=f"pretraining seed={backbone.seed}" + (f" snapshot={snapshot}" if snapshot is not None else ""),
        params=flat(backbone.model_dump(mode="json")),
        axes={},
        metrics={name: float(validation[name]) for name in ("loss", "perplexity") if name in validation},
        curve=_curve(store, layout.BACKBONES, key),
        uri=store.where(layout.BACKBONES, key),
        seconds=body["seconds"]["total"],
        tags={"commit": body["commit"][:12]} if body["commit"] else {},
        kind="backbone",
    )


def _curve(store: Store, kind: str, key: str) -> list[dict[str, float]]:
    try:
        return [json.loads(line) for line in store.read(kind, key, layout.TRAINING_CURVE).splitlines()]
    except ValueError as error:
        raise CorruptArtefact(kind, key, f"{layout.TRAINING_CURVE} can't be read") from error


def sweep_view(sweep: Sweep, points: Mapping[str, Point]) -> SweepView:
    """The whole sweep: minima, matrices, tables, figures and the resolved spec."""
    from raymc.report.heatmap import matrix_figure, profiles_figure
    from raymc.tracking.tracker import MatrixView, MinimumView, SweepView

    spec, minima, barriers, profiles = sweep.spec, sweep.minima(), sweep.barriers(), sweep.profiles()
    reasons = {entry["key"]: entry["reason"] for entry in sweep.failures if entry["kind"] == "minimum"}
    views: list[MinimumView] = []
    rows = {row["key"]: row for _, row in minima.iterrows()}
    splits, weak = [rows_of.name for rows_of in spec.row_sets], sweep.weak()
    sections = sweep.analyze() if len(barriers) else []
    told = headline(sweep, sections)
    for key, point in points.items():
        if key in rows:
            found = told.metrics_of(key) | {
                f"{split}/{name}": float(rows[key][f"{split}_{name}"])
                for split in splits
                for name in ("loss", *METRICS[spec.model.kind], *DIAGNOSTICS)
                if rows[key][f"{split}_{name}"] == rows[key][f"{split}_{name}"]  # no NaN
            }
            views.append(minimum_view(spec, sweep.store, key, point, found, told.tags_of(key)))
        else:
            views.append(
                MinimumView(
                    key=key,
                    name=name_of(point),
                    params=flat(point.trial.model_dump(mode="json")),
                    axes=point.values,
                    metrics={},
                    curve=[],
                    uri="",
                    seconds=0.0,
                    status="failed",
                    reason=reasons.get(key, ""),
                )
            )
    names = {key: name_of(point) for key, point in points.items()}
    matrices, figures, metrics = [], {}, dict(told.metrics)
    for curve in spec.connectivity.curve_names:
        for split in splits:
            chosen = barriers[(barriers["curve"] == curve) & (barriers["split"] == split)]
            for value in ("barrier_entezari", "barrier_ainsworth", "barrier_frankle", "distance_l2", "cosine"):
                title, unit, definition = VALUES[value]
                name = f"{value}.{curve}.{split}"
                heading = f"{title}, {curve} path, {split} split"
                matrices.append(MatrixView(name, sweep.matrix(curve, split, value), heading, unit, definition))
            if len(chosen):
                title, unit, _ = VALUES["barrier_entezari"]
                heading = f"{spec.name}: {title}, {curve} path, {split} split"
                frame = sweep.matrix(curve, split)
                labels = [names[key] for key in frame.index]
                axis = _telling_axis(frame, points)
                groups = {key: str(points[key].values.get(axis)) for key in frame.index} if axis else None
                figures[f"matrix.{curve}.{split}.png"] = _later(
                    matrix_figure,
                    frame,
                    labels,
                    heading,
                    unit,
                    list(groups.values()) if groups else None,
                    weak=[key in weak for key in frame.index],
                )
                some = profiles[(profiles["curve"] == curve) & (profiles["split"] == split)]
                figures[f"profiles.{curve}.{split}.png"] = _later(
                    profiles_figure,
                    some,
                    f"{spec.name}: loss along the {curve} paths, {split} split",
                    groups=groups,
                    factor=axis or "group",
                )
    computed = sweep.precision
    if computed is not None and computed.drift is not None and computed.bound is not None:
        metrics |= {"precision_drift": computed.drift, "precision_bound": computed.bound}
    axes: dict[str, list[Any]] = {name: [] for name in spec.axis_names}
    for point in points.values():
        for name, value in point.values.items():
            if value not in axes[name]:
                axes[name].append(value)
    shared = flat(spec.model_dump(mode="json", exclude={"axes", "zip", "storage", "resources", "failure", "tracking"}))
    varied = tuple(spec.axis_names)
    return SweepView(
        name=spec.name,
        minima=views,
        weak=frozenset(weak),
        backbones=[
            backbone_view(sweep.store, key, backbone)
            for key, backbone in backbones_of(dict(points), set(points)).items()
            if sweep.store.has(layout.BACKBONES, key)
        ],
        description=spec.description,
        axes=axes,
        params={name: value for name, value in shared.items() if not name.startswith(varied) or not varied},
        metrics=metrics,
        tags={"precision": computed.told} if computed is not None else {},
        datasets=tuple(dict.fromkeys(one for view in views for one in view.datasets)),
        finding=told.finding,
        commands=commands(sweep),
        columns=told.columns(spec),
        pages={"report.html": lambda: page(sweep, sections)} if len(minima) else {},
        uri=sweep.store.where(layout.SWEEPS, spec.name),
        matrices=matrices,
        tables={
            "minima.json": minima,
            "summary.json": sweep.summary(),
            "barriers.json": barriers.assign(a=barriers["a"].map(names), b=barriers["b"].map(names)),
            "minima.parquet": minima,
            "barriers.parquet": barriers,
            "profiles.parquet": profiles,
            **analysis_tables(sweep, sections),
        },
        texts={"spec.json": spec.model_dump_json(indent=1), "analysis.json": analysis_text(sections)},
        figures=figures | plane_figures(sweep),
        status="failed" if sweep.failures else "finished",
        reason="; ".join(f"{entry['name']}: {entry['reason']}" for entry in sweep.failures[:5]),
    )


def receipt_path(store: Store, name: str) -> Path:
    return store.root / layout.SWEEPS / name / RECEIPT


def state_digest(sweep: Sweep, where: str) -> str:
    """What a complete view is made of: as long as it is the same in the same place, the tracker needs no look."""
    manifest = json.loads((sweep.store.root / layout.SWEEPS / sweep.name / layout.MANIFEST).read_text())
    manifest.pop("result.json", None)
    return key_of([2, where, sweep.spec.tracking.experiment, manifest, sweep.failures])


def flat(body: Mapping[str, Any], prefix: str = "") -> dict[str, Value]:
    """A nested mapping by dotted names; lists as JSON text, left-out values not at all."""
    result: dict[str, Value] = {}
    for name, value in body.items():
        if isinstance(value, dict):
            result |= flat(value, f"{prefix}{name}.")
        elif value is not None:
            result[prefix + name] = json.dumps(value) if isinstance(value, (list, tuple)) else value
    return result


def _telling_axis(frame: pd.DataFrame, points: Mapping[str, Point]) -> str | None:
    """The axis whose values part the matrix best: highest mean across its values, less that within; None for none."""
    import numpy as np

    heights = frame.to_numpy(dtype=float)
    known = ~np.isnan(heights)
    best: tuple[float, str] | None = None
    for axis in next(iter(points.values())).values:
        values = np.array([json.dumps(points[str(key)].values.get(axis), sort_keys=True) for key in frame.index])
        same = values[:, None] == values[None, :]
        within, across = heights[same & known], heights[~same & known]
        if len(within) and len(across):
            parted = float(across.mean() - within.mean())
            best = max(best or (0.0, ""), (parted, axis))
    return best[1] or None if best else None


def _later(function: Any, *arguments: Any, **options: Any) -> Any:
    return lambda: function(*arguments, **options)


def _dataset_name(body: Mapping[str, Any]) -> str:
    return Path(body["path"]).name if "path" in body else body.get("hub") or f"{body['builtin']}-{body['domain']}"


def _dataset_uri(body: Mapping[str, Any]) -> str:
    return body.get("path") or (f"hf://datasets/{body['hub']}" if "hub" in body else f"raymc://{body['builtin']}")
