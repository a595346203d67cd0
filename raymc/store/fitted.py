"""Between which weights a stored curve was fitted, and which its two minima have now: other ones make it stale."""

from __future__ import annotations

from raymc.store import layout
from raymc.store.store import Store


def ends_fitted(store: Store, curve: str) -> tuple[str, str]:
    """Digests of the weights that a curve, by its key, was fitted between. Raises CorruptArtefact."""
    body = store.read_json(layout.CURVES, curve, layout.CURVE)
    return body["a_weights"], body["b_weights"]


def ends_now(store: Store, a: str, b: str) -> tuple[str, str]:
    """Digests of the weights that two minima, by their keys, have. Raises CorruptArtefact."""
    return store.weights_digest(layout.MINIMA, a), store.weights_digest(layout.MINIMA, b)
