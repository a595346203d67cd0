"""How pairs of minima are joined and where along the path they are scored."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator

from raymc.specs.base import Flag, NonNegative, Number, Spec
from raymc.specs.curves import NAME, LinearCurve, NamedCurve, Space
from raymc.specs.exactness import AdaptivePoints, Auto, Points, Precision
from raymc.specs.task import TaskSpec

Head = Literal["auto", "path", "own"]
EndName = Annotated[
    Annotated[str, Field(min_length=1), Tag("name")] | Annotated[dict[str, Any], Field(min_length=1), Tag("values")],
    Discriminator(lambda value: "values" if isinstance(value, dict) else "name"),
]


def _once(value: tuple[str, ...] | None) -> tuple[str, ...] | None:
    if value is not None and len(set(value)) != len(value):
        raise ValueError("names the same one twice")
    return value


def _names(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


class PairSelection(Spec):
    """Which pairs of minima are joined: those of which all that is given holds.

    A factor is a dotted field of a trial, or a section with all inside it.
    """

    differ: tuple[str, ...] = Field(
        default=(), description="pairs whose trials differ in exactly one of these factors and in nothing else"
    )
    within: tuple[str, ...] = Field(default=(), description="both ends have the same value of each of these factors")
    across: tuple[str, ...] = Field(default=(), description="the ends differ in each of these factors")
    only: tuple[tuple[EndName, EndName], ...] = Field(
        default=(), description="just these pairs: each end by name, key, or a mapping of factors to values"
    )
    same_trajectory: Flag = Field(default=False, description="pairs of snapshots of one run too")

    @model_validator(mode="before")
    @classmethod
    def _one_or_several(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {
            name: _names(value) if name in ("differ", "within", "across") else value for name, value in data.items()
        }


Pairs = Annotated[
    Annotated[Literal["all"], Tag("all")] | Annotated[PairSelection, Tag("PairSelection")],
    Discriminator(lambda value: "all" if isinstance(value, str) else "PairSelection"),
]


class ScoredTask(TaskSpec):
    """A task that endpoints and paths are scored on; its splits are row sets of their own, called TASK.SPLIT."""

    splits: tuple[str, ...] | None = Field(default=None, min_length=1, description="left out: connectivity.splits")
    head: Head = Field(
        default="auto",
        description="of classifiers. path: the interpolated head (both ends have this task's labels); own: the head of "
        "the end that was tuned on this task's labels, fixed along the path; auto: path where both ends have it",
    )

    @field_validator("splits")
    @classmethod
    def _splits_once(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return _once(value)


class Floor(Spec):
    """The quality that an endpoint needs to count in conclusions."""

    metric: str = Field(default="accuracy", description="loss (at most `value`), or a metric (at least `value`)")
    value: Number = Field(description="the least that counts (of the loss: the most)")
    split: str | None = Field(default=None, description="row set; left out: the first")

    @field_validator("value")
    @classmethod
    def _a_fraction(cls, value: float, info: ValidationInfo) -> float:
        if info.data.get("metric", "loss") != "loss" and value > 1:
            raise ValueError(f"{value:g} is above 1: metrics are fractions, 80 % is 0.8")
        return value


class PlaneSpec(Spec):
    """The loss on the plane through three minima, on a grid (Garipov et al. 2018, appendix A.1)."""

    through: tuple[EndName, EndName, EndName] = Field(description="three minima, as in pairs.only; the first is (0, 0)")
    name: Annotated[str, Field(pattern=NAME)] | None = Field(
        default=None, description="left out: plane-1, plane-2, ..."
    )
    points: Annotated[int, Field(strict=True, ge=2, le=201)] = Field(default=11, description="along each side")
    margin: NonNegative = Field(default=0.25, description="beyond the three, as a share of their extent on each side")
    splits: tuple[str, ...] | None = Field(default=None, min_length=1, description="row sets; left out: the first")

    @field_validator("splits")
    @classmethod
    def _splits_once(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return _once(value)


class ConnectivitySpec(Spec):
    curves: tuple[NamedCurve, ...] = Field(
        default=(LinearCurve(curve="linear"),), min_length=1, description="kinds of path, by name or with settings"
    )
    points: Points = Field(
        default=AdaptivePoints(),
        description="evenly spaced values of t in [0, 1], both ends counted (the paper: 24 plus the ends), each "
        "evaluated; or adaptive: as few of them as an error bound allows",
    )
    splits: tuple[str, ...] = Field(
        default=("validation",), min_length=1, description="splits of the task that ends and paths are scored on"
    )
    tasks: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")], ScoredTask] = Field(
        default={}, description="tasks to score on, by name; left out: the sweep's own task"
    )
    pairs: Pairs = Field(default="all", description="all, or a selection")
    floor: Floor | None = Field(default=None, description="weaker endpoints are shown, but count in no conclusion")
    space: Space = Field(
        default="auto",
        description="of parameter-efficient minima: delta_w (merged weights; free of the gauge of LoRA's A and B) or "
        "factors (what the method trains); auto: delta_w for LoRA, factors for the rest. Full minima have one space",
    )
    planes: tuple[PlaneSpec, ...] = Field(default=(), description="planes through three minima, each a grid of losses")
    rows: Flag = Field(
        default=True,
        description="keep every row's loss and prediction at every point of a path, for intervals at any "
        "level and for knowledge along the path",
    )
    precision: Precision = Field(
        default="auto",
        description="of the forward pass; interpolation, logits, loss and sums stay fp32 or wider. auto: fp32 for "
        "small work, else bf16 where it is faster and its measured drift is small; what was chosen is recorded",
    )

    @field_validator("splits")
    @classmethod
    def _listed_once(cls, value: tuple[str, ...]) -> tuple[str, ...] | None:
        return _once(value)

    @field_validator("curves")
    @classmethod
    def _told_apart(cls, value: tuple[NamedCurve, ...]) -> tuple[NamedCurve, ...]:
        titles = [one.title for one in value]
        for i, title in enumerate(titles):
            if title in titles[:i]:
                raise ValueError(f"two are called {title}: give one of them another name")
        return value

    @field_validator("planes")
    @classmethod
    def _named(cls, value: tuple[PlaneSpec, ...]) -> tuple[PlaneSpec, ...]:
        titles = [one.name or f"plane-{number}" for number, one in enumerate(value, 1)]
        for i, title in enumerate(titles):
            if title in titles[:i]:
                raise ValueError(f"two are called {title}: give one of them another name")
        return tuple(one.model_copy(update={"name": title}) for one, title in zip(value, titles, strict=True))

    def curve(self, title: str) -> NamedCurve:
        """A curve by its name in tables. Raises KeyError."""
        return next((one for one in self.curves if one.title == title), None) or _missing(title)

    @property
    def point_count(self) -> int:
        """How many evenly spaced values of t a profile has."""
        return self.points if isinstance(self.points, int) else self.points.adaptive.points

    @property
    def tolerance(self) -> float | None:
        """Of adaptive profiles, in nats; None where every point is evaluated."""
        return None if isinstance(self.points, int) else self.points.adaptive.tolerance

    @property
    def drift_tolerance(self) -> float | None:
        """Of an automatic choice of the precision, in nats; None where the spec names it."""
        if isinstance(self.precision, Auto):
            return self.precision.auto.tolerance
        return Auto().auto.tolerance if self.precision == "auto" else None

    @property
    def curve_names(self) -> tuple[str, ...]:
        """What tables call the curves, in order."""
        return tuple(one.title for one in self.curves)


def _missing(title: str) -> Any:
    raise KeyError(title)
