"""Which pairs of a sweep's minima are joined, and in what the two of a pair differ."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import PurePath
from typing import Any

import numpy as np

from raymc.connectivity.pairset import AnyOf, Differ, PairSet
from raymc.specs.connectivity import PairSelection
from raymc.specs.errors import RaymcError
from raymc.specs.factors import EXISTING, Configurations, numbers_of, value_of
from raymc.specs.fields import nearest
from raymc.specs.naming import name_of
from raymc.specs.sweep import Point, SweepSpec

_SHOWN = 3  # minima named where an end fits several


class Selection:
    """The pairs that a sweep's `connectivity.pairs` selects among its points. Minima go by their index.

    All that is given must hold of a pair. Snapshots of one run are joined only where `same_trajectory` says so, also
    where all pairs are taken.
    """

    def __init__(self, spec: SweepSpec, points: Sequence[Point]):
        asked = spec.connectivity.pairs
        self.asked = PairSelection() if isinstance(asked, str) else asked
        self.points, self.axis_names = points, spec.axis_names

    @cached_property
    def configurations(self) -> Configurations:
        return Configurations(self.points)

    @cached_property
    def names(self) -> list[str]:
        return [name_of(point) for point in self.points]

    @cached_property
    def trajectories(self) -> list[int]:
        """A number for each minimum's run: the same for its snapshots. Looks at no file."""
        without = self.configurations.without("train.snapshot")
        return numbers_of((point.existing, rest) for point, rest in zip(self.points, without, strict=True))

    def same_trajectory(self, i: int, j: int) -> bool:
        return self.trajectories[i] == self.trajectories[j]

    def differs(self, i: int, j: int) -> str:
        """In what two minima differ: the factor of `differ` that covers it all, else the axes (or fields), by name.

        `existing` where one of them is a minimum that exists already.
        """
        known = self.configurations
        factor = known.covering(i, j, self.asked.differ)
        return factor or ", ".join(known.differs(i, j, [*self.axis_names, *self.asked.differ]))

    def pairs(self) -> PairSet:
        """The selected pairs i < j, in order. Raises RaymcError for an end that isn't there."""
        return self._selected

    def before_trajectories(self) -> PairSet:
        """As `pairs`, those of one trajectory too."""
        return self._before

    @cached_property
    def _selected(self) -> PairSet:
        if self.asked.same_trajectory:
            return self._before
        return replace(self._before, unlike=(*self._before.unlike, np.array(self.trajectories)))

    @cached_property
    def _before(self) -> PairSet:
        asked, known = self.asked, self.configurations
        listed, differ = None, ()
        if asked.only:
            ends = {(self.end(one), self.end(other)) for one, other in asked.only}
            chosen = {(min(pair), max(pair)) for pair in ends if len({*pair}) > 1}
            kept = [pair for pair in chosen if not asked.differ or known.covering(*pair, asked.differ)]
            listed = np.array(sorted(i * len(self.points) + j for i, j in kept), dtype=np.int64)
        elif asked.differ:
            differ = tuple(self._differ(factor) for factor in dict.fromkeys(asked.differ))
        return PairSet(
            len(self.points),
            listed,
            differ,
            alike=tuple(np.array(known.values(factor)) for factor in asked.within),
            unlike=tuple(np.array(known.values(factor)) for factor in asked.across),
        )

    def _differ(self, factor: str) -> Differ | AnyOf:
        known, count = self.configurations, len(self.points)
        exist = np.array([known.exists(i) for i in range(count)])
        if factor == EXISTING:
            return AnyOf(exist)
        alone = known.alone(factor)
        return Differ(
            np.where(exist, count + np.arange(count), alone.without),  # what they were trained with isn't known
            self._wholes,
            np.array(known.kinds),
            alone.plain,
            np.array(alone.fields, dtype=np.int64).reshape(count, -1),
            lambda i, j: known.covering(i, j, (factor,)) is not None,
        )

    @cached_property
    def _wholes(self) -> np.ndarray:
        return np.array(self.configurations.wholes)

    # Ends ---------------------------------------------------------------------------------------------------------

    def end(self, asked: str | Mapping[str, Any]) -> int:
        """The one minimum that an end of `only` names. Raises RaymcError for none, and for several."""
        if isinstance(asked, str):
            found = [i for i, name in enumerate(self.names) if name == asked]
            if not found and re.fullmatch(r"[0-9a-f]{6,}", asked):
                found = [i for i, point in enumerate(self.points) if point.trial.key.startswith(asked)]
            shown, hint = repr(asked), nearest(asked, self.names)
        else:
            found = [i for i in range(len(self.points)) if all(self._has(i, *item) for item in asked.items())]
            shown, hint = _shown(asked), self._hint(asked)
        if not found:
            raise RaymcError(f"no minimum is {shown}{hint}")
        if len(found) > 1:
            some = ", ".join(f"{self.names[i]} ({self.points[i].trial.key[:8]})" for i in found[:_SHOWN])
            more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
            raise RaymcError(f"{len(found)} minima are {shown}: {some}{more}; name one by its key")
        return found[0]

    def _has(self, i: int, factor: str, value: Any) -> bool:
        point = self.points[i]
        if factor == EXISTING or point.existing is not None:
            return factor == EXISTING and value == point.existing
        return _matches(value, point.values.get(factor)) or _matches(value, value_of(point.trial, factor))

    def _hint(self, asked: Mapping[str, Any]) -> str:
        """What the first factor that fits no minimum has instead."""
        for factor, value in asked.items():
            if any(self._has(i, factor, value) for i in range(len(self.points))):
                continue
            if factor == EXISTING:
                present = [point.existing for point in self.points]
            else:
                present = [value_of(point.trial, factor) for point in self.points if point.existing is None]
            known = list(dict.fromkeys(_shown(one) for one in present if one is not None))
            if not known:
                return f": no minimum has {factor}{nearest(factor, self.axis_names)}"
            return f": {factor} is {', '.join(known[:_SHOWN])}{', ...' if len(known) > _SHOWN else ''}"
        return ": no minimum has them all"


def _matches(asked: Any, present: Any) -> bool:
    """Whether a value is as asked for; of a section, the fields that are named. Paths may leave out their folders."""
    if isinstance(asked, dict):
        return isinstance(present, dict) and all(
            name in present and _matches(value, present[name]) for name, value in asked.items()
        )
    if isinstance(asked, bool) or isinstance(present, bool):
        return asked is present
    if isinstance(asked, str) and isinstance(present, str) and present.startswith("/") and asked:
        parts = [part for part in PurePath(asked).parts if part not in (".", "..")]
        return asked == present or (bool(parts) and list(PurePath(present).parts[-len(parts) :]) == parts)
    if isinstance(asked, (list, tuple)) and isinstance(present, (list, tuple)):
        return list(asked) == list(present)
    return asked == present


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_shown(one)}" for name, one in value.items()) + "}"
    return str(value)
