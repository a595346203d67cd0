"""Factors: in which fields two trials differ, told by names that a sweep's author knows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from raymc.specs.trial import TrialSpec


def differing(one: TrialSpec, other: TrialSpec, names: Iterable[str] = ()) -> tuple[str, ...]:
    """Dotted names of the fields in which two trials' resolved configurations differ, sorted; () for equal ones.

    A difference inside one of `names` (a sweep's axes, say) goes by that name, the longest that fits; one between
    variants of a section (full tuning against LoRA) by the section's.
    """
    known = sorted(names, key=len, reverse=True)
    found: set[str] = set()
    for field in _differences(_resolved(one), _resolved(other), ""):
        found.add(next((name for name in known if inside(field, name)), field))
    return tuple(sorted(found))


def inside(field: str, factor: str) -> bool:
    """Whether a dotted field is a factor or lies in its section."""
    return field == factor or field.startswith(f"{factor}.")


def value_of(trial: TrialSpec, factor: str) -> Any:
    """A factor's value in a trial: a scalar, or a section as a mapping; None where the trial has no such field."""
    node: Any = _resolved(trial)
    for part in factor.split("."):
        if not isinstance(node, dict) or part not in node:
            return None
        node = node[part]
    return node


def _resolved(trial: TrialSpec) -> dict[str, Any]:
    body = trial.model_dump(mode="json")
    train = body["train"]
    if train["steps"] is not None:  # then epochs say nothing, and a snapshot at the end is the end
        train["epochs"] = None
        train["snapshot"] = train["snapshot"] or train["steps"]
    return body


_VARIANTS = {"model.backbone", "task.dataset", "tuning", "model.backbone.text", "model.backbone.tokenizer"}


def _differences(one: Any, other: Any, path: str) -> Iterable[str]:
    if one == other:
        return
    mappings = isinstance(one, dict) and isinstance(other, dict)
    if mappings and not (path in _VARIANTS and _variant(one) != _variant(other)):
        for name in sorted(one.keys() | other.keys()):
            inner = f"{path}.{name}" if path else name
            yield from _differences(one.get(name), other.get(name), inner)
    else:
        yield path


def _variant(body: dict[str, Any]) -> Any:
    """What kind of a section it is: by its method, or by the fields that it has."""
    return body.get("method") or frozenset(body)
