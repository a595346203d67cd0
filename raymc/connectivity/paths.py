"""The path that joins two minima: a curve between their points, as its kind says."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from raymc.connectivity.work import PairTask
from raymc.landscape.curves import Curve
from raymc.specs.curves import AlignedCurve, LinearCurve, SphericalCurve
from raymc.specs.errors import CorruptArtefact, RaymcError
from raymc.store import layout
from raymc.store.fitted import ends_fitted
from raymc.store.store import Store
from raymc.tasks.alignment import align
from raymc.tasks.bends import build_curve, read_bends
from raymc.tasks.groups import moves
from raymc.tasks.points import PointModel


@dataclass(frozen=True)
class Path:
    """A curve with its own ends. `fit`: digest of the fitted curve's weights; `chosen_on`: see results.Profile."""

    curve: Curve
    fit: str = ""
    chosen_on: str = ""


def path_of(
    task: PairTask,
    model: PointModel,
    a: torch.Tensor,
    b: torch.Tensor,
    weights: tuple[str, str],
    store: Store,
    labels: tuple[str, ...] = (),
) -> Path:
    """The path between the flat vectors a and b of a pair (in the layout of `model`, on its device).

    `weights`: the digests of a and b; `labels`: the order of their heads' rows. Raises RaymcError where the kind of
    path doesn't fit the model, CorruptArtefact where a fitted curve isn't what was written or was fitted between other
    weights.
    """
    how = task.how
    if how.fitted is not None:
        fit = _verified(task, weights, store)
        bends, at = read_bends(model, store.folder(layout.CURVES, task.fit), labels)
        return Path(build_curve(how, a, b, [bend.to(a.device) for bend in bends], at), fit, how.fitted.select or "")
    if isinstance(how, AlignedCurve):
        return Path(build_curve(how, a, align(model, a.cpu(), b.cpu(), how.permute).to(a.device)))
    if isinstance(how, (LinearCurve, SphericalCurve)) and how.partial:
        kept, moved = (a, b) if how.rest == "a" else (b, a)
        other = kept.clone()
        ours, theirs = model.views(other), model.views(moved)
        for name, goes in zip(model.names, moves(model.names, how.moves, how.layers), strict=True):
            if goes:
                ours[name].copy_(theirs[name])
        a, b = (kept, other) if how.rest == "a" else (other, kept)
    return Path(build_curve(how, a, b))


def _verified(task: PairTask, weights: tuple[str, str], store: Store) -> str:
    """The digest of the fitted curve between these weights."""
    if not store.has(layout.CURVES, task.fit):
        raise RaymcError(f"its {task.curve} curve isn't fitted")
    store.verify(layout.CURVES, task.fit, deep=True)
    if ends_fitted(store, task.fit) != weights:
        raise CorruptArtefact(layout.CURVES, task.fit, "it was fitted between other weights than the minima have now")
    return store.weights_digest(layout.CURVES, task.fit)
