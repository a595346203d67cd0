"""How a minimum is called wherever people read of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raymc.specs.sweep import Point

_ABBREVIATIONS = {"train.learning_rate": "lr", "train.batch_size": "batch"}  # names are columns of tables


def name_of(point: Point) -> str:
    """A minimum's name: the one that the spec gives it, where it exists already; else its values on telling axes."""
    return point.existing or point_name({name: point.values[name] for name in point.telling or point.values})


def point_name(values: Mapping[str, Any]) -> str:
    """A point's values in a few words: `lr=0.0003 order=2`."""
    short = {name: _ABBREVIATIONS.get(name, name.rsplit(".", 1)[-1]) for name in values}
    double = [name for name in short if list(short.values()).count(short[name]) > 1]
    parts = [f"{name if name in double else short[name]}={_short(value)}" for name, value in values.items()]
    return " ".join(parts) or "base"


def _short(value: Any) -> str:
    if isinstance(value, Mapping):  # lists and what is left out say little of a section
        parts = [part for part in value.values() if part is not None and not isinstance(part, (list, tuple))]
        return ",".join(_short(part.rsplit("/", 1)[-1] if isinstance(part, str) else part) for part in parts)
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 40 else f"…{text[-39:]}"
