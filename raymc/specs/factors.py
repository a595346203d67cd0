"""Factors: in which fields trials differ, told by names that a sweep's author knows.

A factor is a dotted field of a trial, or a section with all inside it; it covers the differences that lie in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations, product
from typing import Any

from raymc.specs.sweep import Point
from raymc.specs.trial import TrialSpec

EXISTING = "existing"  # the factor in which a minimum that exists already differs from every other
_UNKNOWN = ("train", "seeds")  # sections that say nothing of how an existing minimum was made
_OF_METHOD = "tuning.method"
# Sections whose fields depend on the variant. Two variants differ in the section as a whole; two tuning methods in
# `tuning.method` (which covers the fields that one of them lacks) and in the fields that both have.
_VARIANTS = ("model.backbone", "model.backbone.text", "model.backbone.tokenizer", "task.dataset", "tuning")

Variants = dict[str, frozenset[str]]  # section: the names of its variant's fields; of tuning, with `=` and its method


def differing(one: TrialSpec, other: TrialSpec, names: Iterable[str] = ()) -> tuple[str, ...]:
    """Dotted names of the fields in which two trials' resolved configurations differ, sorted; () for equal ones.

    A difference inside one of `names` (a sweep's axes, say) goes by that name, the longest that fits; one between
    variants of a section (full tuning against LoRA) by the section's.
    """
    first, second = _resolved(one), _resolved(other)
    leaves, others = dict(_leaves(first, "")), dict(_leaves(second, ""))
    fields = [path for path in {**leaves, **others} if leaves.get(path) != others.get(path)]
    return _named(_told(fields, _variants(first), _variants(second)), names)


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


class Configurations:
    """The resolved configurations of a sweep's minima, taken apart once, so that many pairs are told apart quickly.

    Minima go by their index. What an existing minimum was trained with isn't known: it differs from every other
    minimum in the factor `existing`, in `train` and in `seeds`, and no other factor tells it from another alone.
    """

    def __init__(self, points: Sequence[Point]):
        self.points = points
        bodies = [_resolved(point.trial) for point in points]
        leaves = [dict(_leaves(body, "")) for body in bodies]
        known: dict[str, dict[str | None, int]] = {}  # field: number of each of its values
        for one in leaves:
            for path in one:
                known.setdefault(path, {})
        for path, numbers in known.items():
            for one in leaves:
                numbers.setdefault(one.get(path), len(numbers))
        self.varying = [path for path, numbers in known.items() if len(numbers) > 1]
        self._rows = [tuple(known[path][one.get(path)] for path in self.varying) for one in leaves]
        kinds: dict[str, int] = {}
        self._variants: list[Variants] = []
        self._kinds: list[int] = []
        for body in bodies:
            variants = _variants(body)
            text = json.dumps({path: sorted(names) for path, names in variants.items()})
            if text not in kinds:
                kinds[text] = len(kinds)
                self._variants.append(variants)
            self._kinds.append(kinds[text])
        self._fields: dict[tuple[Any, ...], tuple[str, ...]] = {}

    def fields(self, i: int, j: int) -> tuple[str, ...]:
        """As `differing` without names, but for methods, which differ in `tuning.method`."""
        pairs = zip(self.varying, self._rows[i], self._rows[j], strict=True)
        known = (self._kinds[i], self._kinds[j], *(path for path, x, y in pairs if x != y))
        if known not in self._fields:
            kinds = self._variants[self._kinds[i]], self._variants[self._kinds[j]]
            self._fields[known] = _told(known[2:], *kinds)
        return self._fields[known]

    def exists(self, i: int) -> bool:
        return self.points[i].existing is not None

    def differs(self, i: int, j: int, names: Iterable[str] = ()) -> tuple[str, ...]:
        """As `differing`; ("existing",) where one of the two is an existing minimum."""
        return (EXISTING,) if self.exists(i) or self.exists(j) else _named(self.fields(i, j), names)

    def covering(self, i: int, j: int, factors: Iterable[str]) -> str | None:
        """The narrowest of the factors that covers all differences between two minima; None where none does."""
        if self.exists(i) or self.exists(j):
            return EXISTING if EXISTING in factors else None
        fields = self.fields(i, j)
        found = [factor for factor in factors if fields and all(inside(field, factor) for field in fields)]
        return max(found, key=len, default=None)

    def value(self, i: int, factor: str) -> tuple[Any, ...]:
        """What stands for a factor's value in a minimum: equal for two minima where they have the same."""
        if factor == EXISTING:
            return (self.points[i].existing,)
        if self.exists(i) and factor.split(".")[0] in _UNKNOWN:
            return (EXISTING, i)
        return tuple(x for path, x in zip(self.varying, self._rows[i], strict=True) if inside(path, factor))

    def without(self, i: int, factor: str) -> tuple[int, ...]:
        """What stands for all of a minimum's configuration but a factor."""
        return tuple(x for path, x in zip(self.varying, self._rows[i], strict=True) if not inside(path, factor))

    def pairs(self, factor: str) -> Iterator[tuple[int, int]]:
        """All pairs i < j that differ in a factor and in nothing else, each once, in no order."""
        if factor == EXISTING:
            yield from ((i, j) for i, j in combinations(range(len(self.points)), 2) if self.exists(i) or self.exists(j))
            return
        section = "tuning" if factor == _OF_METHOD else factor
        within = [inside(path, section) for path in self.varying]
        groups: dict[tuple[int, ...], dict[tuple[int, ...], list[int]]] = {}
        for i, row in enumerate(self._rows):
            if not self.exists(i):
                outer = tuple(x for x, inner in zip(row, within, strict=True) if not inner)
                value = tuple(x for x, inner in zip(row, within, strict=True) if inner)
                groups.setdefault(outer, {}).setdefault(value, []).append(i)
        for group in groups.values():
            for some, others in combinations(group.values(), 2):
                if self.covering(some[0], others[0], (factor,)):
                    yield from ((min(pair), max(pair)) for pair in product(some, others))


def _resolved(trial: TrialSpec) -> dict[str, Any]:
    """A trial as data, without what says nothing: as in its key."""
    body = trial.model_dump(mode="json")
    train, backbone = body["train"], body["model"]["backbone"]
    if train["steps"] is not None:  # then epochs say nothing
        train["epochs"] = None
    for run in (train, backbone):
        if isinstance(run, dict) and run.get("snapshot") is not None and run["snapshot"] == run["steps"]:
            run["snapshot"] = None  # at the end is the end
    return body


def _leaves(node: Any, path: str) -> Iterator[tuple[str, str]]:
    """(dotted field, value as JSON) of all that is no mapping."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield from _leaves(value, f"{path}.{name}" if path else name)
    else:
        yield path, json.dumps(node, sort_keys=True)


def _variants(body: dict[str, Any]) -> Variants:
    found: Variants = {}
    for section in _VARIANTS:
        node: Any = body
        for part in section.split("."):
            node = node.get(part) if isinstance(node, dict) else None
        if isinstance(node, dict):
            found[section] = frozenset(node) | ({f"={node['method']}"} if section == "tuning" else frozenset())
    return found


def _told(fields: Sequence[str], one: Variants, other: Variants) -> tuple[str, ...]:
    """Fields in which two trials differ, where variants of a section differ by the section's name."""
    found = set(fields)
    for section in _VARIANTS:
        if section not in one or section not in other or one[section] == other[section]:
            continue
        inner = {field for field in found if inside(field, section)}
        if section == "tuning":
            both = one[section] & other[section]
            found -= {field for field in inner if field.split(".")[1] not in both}
        elif inner:
            found = (found - inner) | {section}
    return tuple(sorted(f for f in found if not any(f != other and inside(f, other) for other in found)))


def _named(fields: Iterable[str], names: Iterable[str]) -> tuple[str, ...]:
    known = sorted(names, key=len, reverse=True)
    found = {field: next((name for name in known if inside(field, name)), field) for field in fields}
    if found.get(_OF_METHOD) == _OF_METHOD and _OF_METHOD not in known:  # nobody's name for it
        found = {
            field: "tuning" if field == name and inside(field, "tuning") else name for field, name in found.items()
        }
    return tuple(sorted(set(found.values())))
