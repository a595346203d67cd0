"""Factors: in which fields trials differ, told by names that a sweep's author knows.

A factor is a dotted field of a trial, or a section with all inside it; it covers the differences that lie in it.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from raymc.specs.base import Spec
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
        sections = [_Section(name, [getattr(point.trial, name) for point in points]) for name in TrialSpec.model_fields]
        self.varying = [path for section in sections for path in section.varying]
        parts = [section.rows for section in sections]
        self._rows = [tuple(itertools.chain.from_iterable(row)) for row in zip(*parts, strict=True)]
        kinds: dict[str, int] = {}
        self._variants: list[Variants] = []
        self._kinds: list[int] = []
        known: dict[tuple[str, ...], int] = {}
        for texts in zip(*(section.kinds for section in sections), strict=True):
            if texts not in known:
                variants = {path: names for text in texts for path, names in json.loads(text).items()}
                text = json.dumps(variants)
                if text not in kinds:
                    kinds[text] = len(kinds)
                    self._variants.append({path: frozenset(names) for path, names in variants.items()})
                known[texts] = kinds[text]
            self._kinds.append(known[texts])
        self._fields: dict[tuple[Any, ...], tuple[str, ...]] = {}
        self._values: dict[str, list[int]] = {}

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

    @property
    def kinds(self) -> list[int]:
        """A number for each minimum's variants of sections."""
        return self._kinds

    @property
    def wholes(self) -> list[int]:
        """A number for all of each minimum's configuration."""
        return self._numbers(lambda path: True)

    def value(self, i: int, factor: str) -> int:
        """What stands for a factor's value in a minimum: equal for two minima where they have the same."""
        return self.values(factor)[i]

    def values(self, factor: str) -> list[int]:
        """A number for each minimum's value of a factor: the same for those with the same value."""
        if factor not in self._values:
            if factor == EXISTING:
                self._values[factor] = numbers_of(point.existing for point in self.points)
            else:
                unknown = factor.split(".")[0] in _UNKNOWN
                self._values[factor] = self._numbers(lambda path: inside(path, factor), unknown)
        return self._values[factor]

    def without(self, factor: str) -> list[int]:
        """A number for all of each minimum's configuration but a factor."""
        return self._numbers(lambda path: not inside(path, factor))

    def _numbers(self, chosen: Callable[[str], bool], unknown: bool = False) -> list[int]:
        """The same for those with the same values in some fields; `unknown`: none for those that exist already."""
        places = [place for place, path in enumerate(self.varying) if chosen(path)]
        return numbers_of(
            (EXISTING, i) if unknown and self.exists(i) else tuple(row[place] for place in places)
            for i, row in enumerate(self._rows)
        )

    def alone(self, factor: str) -> Differing:
        """What tells which pairs differ in a factor and in nothing else. Not for `existing`."""
        section = "tuning" if factor == _OF_METHOD else factor
        places = [place for place, path in enumerate(self.varying) if inside(path, section)]
        return Differing(
            without=self._numbers(lambda path: not inside(path, section)),
            fields=[[row[place] for place in places] for row in self._rows],
            plain=section == factor,
        )

    def pairs(self, factor: str) -> Iterator[tuple[int, int]]:
        """All pairs i < j that differ in a factor and in nothing else, each once, in no order."""
        ends = [i for i in range(len(self.points)) if self.exists(i)]
        if factor == EXISTING:
            rest = [i for i in range(len(self.points)) if not self.exists(i)]
            yield from itertools.combinations(ends, 2)
            yield from ((min(pair), max(pair)) for pair in itertools.product(ends, rest))
            return
        differing = self.alone(factor)
        groups: dict[int, dict[tuple[int, ...], list[int]]] = {}
        for i, (outer, value) in enumerate(zip(differing.without, differing.fields, strict=True)):
            if not self.exists(i):
                groups.setdefault(outer, {}).setdefault(tuple(value), []).append(i)
        for group in groups.values():
            for some, others in itertools.combinations(group.values(), 2):
                if self.covering(some[0], others[0], (factor,)):
                    yield from ((min(pair), max(pair)) for pair in itertools.product(some, others))


@dataclass(frozen=True)
class Differing:
    """Of each minimum: a number for all but the factor's section, and one for each varying field in the section.

    Two that are alike in the first and unlike in the second differ in nothing but the factor where they are of one kind
    of variants, if `plain`; else where `Configurations.covering` says so, by their kinds and differing fields alone.
    """

    without: list[int]
    fields: list[list[int]]
    plain: bool


class _Section:
    """One section of a sweep's trials, taken apart once for each value that it has."""

    def __init__(self, name: str, specs: Sequence[Spec]):
        texts: dict[str, int] = {}
        seen: dict[int, int] = {}  # points of a sweep share what they have alike
        bodies: list[dict[str, Any]] = []
        numbers: list[int] = []
        for spec in specs:
            if id(spec) not in seen:
                text = spec.model_dump_json()
                if text not in texts:
                    texts[text] = len(texts)
                    bodies.append(_resolved_section(name, spec))
                seen[id(spec)] = texts[text]
            numbers.append(seen[id(spec)])
        leaves = [dict(_leaves(body, name)) for body in bodies]
        known: dict[str, dict[str | None, int]] = {}  # field: number of each of its values
        for one in leaves:
            for path in one:
                known.setdefault(path, {})
        for path, values in known.items():
            for one in leaves:
                values.setdefault(one.get(path), len(values))
        self.varying = [path for path, values in known.items() if len(values) > 1]
        rows = [tuple(known[path][one.get(path)] for path in self.varying) for one in leaves]
        kinds = [json.dumps({p: sorted(names) for p, names in _variants({name: body}).items()}) for body in bodies]
        self.rows, self.kinds = [rows[number] for number in numbers], [kinds[number] for number in numbers]


def numbers_of(values: Iterable[Any]) -> list[int]:
    """Each value's number, by its first appearance."""
    numbers: dict[Any, int] = {}
    return [numbers.setdefault(value, len(numbers)) for value in values]


def _resolved(trial: TrialSpec) -> dict[str, Any]:
    """A trial as data, without what says nothing: as in its key."""
    return {name: _resolved_section(name, getattr(trial, name)) for name in TrialSpec.model_fields}


def _resolved_section(name: str, section: Spec) -> dict[str, Any]:
    body = section.model_dump(mode="json")
    if name == "train" and body["steps"] is not None:  # then epochs say nothing
        body["epochs"] = None
    run = body.get("backbone") if name == "model" else body
    if name not in ("train", "model") or not isinstance(run, dict) or run.get("snapshot") is None:
        return body
    if run["snapshot"] == run["steps"]:  # at the end is the end
        run["snapshot"] = None
    return body


def _leaves(node: Any, path: str) -> Iterator[tuple[str, str]]:
    """(dotted field, value as JSON) of all that is no mapping."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield from _leaves(value, f"{path}.{name}" if path else name)
    else:
        yield path, str(node) if type(node) is int else json.dumps(node, sort_keys=True)


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
