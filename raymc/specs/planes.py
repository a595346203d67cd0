"""What is stored of a plane through three minima: the lines of its grid, and the curves as they lie over it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from raymc.specs.base import Spec
from raymc.specs.keys import PLANE_VERSION, key_of

Places = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]


class _OfPlane(Spec):
    a: str = Field(description="key of the minimum at (0, 0)")
    b: str = Field(description="of that at y = 0")
    c: str = Field(description="of that at y > 0")
    a_weights: str
    b_weights: str
    c_weights: str
    space: str = Field(description="weights, delta_w or factors")

    @property
    def through(self) -> tuple[str, str, str]:
        return self.a, self.b, self.c

    @property
    def weights(self) -> tuple[str, str, str]:
        """Digests of the three minima's weights."""
        return self.a_weights, self.b_weights, self.c_weights


class PlaneLine(_OfPlane):
    """One line of a plane's grid on one split: `x`, `loss` and each of `metrics` have the same length.

    x and y are in units of the parameters (L2); losses as in a Profile.
    """

    corners: Places = Field(description="where a, b and c lie")
    split: str
    head: str = Field(default="path", description="path: a point's own, a mixture of the three")
    rows: int
    tokens: int
    line: int = Field(ge=0, description="its number, from the lowest y")
    y: float
    x: tuple[float, ...]
    loss: tuple[float, ...]
    metrics: dict[str, tuple[float, ...]]
    seconds: float
    device: str


class PlaneTrace(_OfPlane):
    """A curve between two of a plane's minima as it lies over it: `t`, `x`, `y` and `off` have the same length."""

    start: str = Field(description="key of the minimum at t = 0")
    end: str = Field(description="of that at t = 1")
    curve: str
    fit: str = Field(default="", description="digest of the fitted curve's weights; empty: its ends alone decide it")
    t: tuple[float, ...]
    x: tuple[float, ...]
    y: tuple[float, ...]
    off: tuple[float, ...] = Field(description="distance from the plane, in units of the parameters (L2)")


def trace_key(space: str, curve: Mapping[str, Any], points: int) -> str:
    """Key of all traces made alike; one trace's is this key, the plane's three minima and the curve's two.

    `curve`: as in EvaluationSpec.profile_key.
    """
    content = {"space": space, "curve": dict(curve), "points": points}
    return key_of({"kind": "trace", "version": PLANE_VERSION, **content})
