"""The kinds of path that join two minima, and how those that are fitted are fitted."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from raymc.specs.base import Count, Flag, Fraction, NonNegative, Positive, Seed, Spec

Space = Literal["auto", "delta_w", "factors"]
Modules = Literal["attention", "feedforward", "embeddings", "norms", "head"]
NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
_SETS = {"moves", "layers", "permute"}  # fields whose order says nothing


class FitSpec(Spec):
    """How a curve is fitted: cross-entropy of training rows at random t, as in Garipov et al. 2018, section 3.

    The ends stay as they are; what the curve has beside them trains.
    """

    steps: Count = Field(default=300, description="updates (of autoneb: in each cycle)")
    batch_size: Count = Field(default=32, description="global: rows per update")
    optimizer: Literal["adamw", "adafactor", "sgd"] = Field(default="adamw", description="of the bends")
    learning_rate: Positive | None = Field(default=None, description="left out: 1e-4, of gates 0.05")
    schedule: Literal["linear", "cosine", "constant"] = Field(
        default="linear",
        description="a rate that stays high leaves noise in the bends, which a flat path then pays for",
    )
    warmup: Fraction = Field(default=0.1, description="share of the steps over which the rate rises from 0")
    weight_decay: NonNegative = Field(default=0.0, description="none on biases and norms")
    clip_norm: Positive | None = Field(default=1.0, description="of the gradient; null: none")
    t: Literal["uniform", "stratified"] = Field(
        default="uniform", description="draws of t in an update: independent, or one from each of as many equal parts"
    )
    draws: Count = Field(default=1, description="values of t in each update, all on the same rows")
    dropout: Flag = Field(default=True, description="whether dropout is on while the curve is fitted")
    seed: Seed = Field(default=0, description="of the rows' order, t and dropout")
    task: str | None = Field(
        default=None, description="task of connectivity.tasks whose training rows are used; left out: the sweep's own"
    )
    select: str | None = Field(
        default=None,
        description="split on which the best state is chosen (loss at `select_at`); left out: the last. Figures on "
        "that split are optimistic, and marked so: report another",
    )
    select_every: Count = Field(default=50, description="updates between two looks at that split")
    select_at: tuple[Annotated[float, Field(strict=True, gt=0.0, lt=1.0)], ...] = Field(
        default=(0.25, 0.5, 0.75), min_length=1, description="values of t at which they are taken"
    )


class _Curve(Spec):
    name: Annotated[str, Field(pattern=NAME)] | None = Field(
        default=None, description="how tables call it; left out: made of what it is"
    )
    space: Space | None = Field(default=None, description="where it runs; left out: connectivity.space")

    @property
    def title(self) -> str:
        """The name in tables."""
        return self.name or "-".join([*self._parts(), *([self.space] if self.space not in (None, "auto") else [])])

    def _parts(self) -> list[str]:
        return [str(getattr(self, "curve"))]  # noqa: B009 - of the variants

    @property
    def fitted(self) -> FitSpec | None:
        """How it is fitted; None for a curve that its ends alone decide."""
        return getattr(self, "fit", None)

    @property
    def learning_rate(self) -> float:
        """Of the fit."""
        asked = self.fitted.learning_rate if self.fitted is not None else None
        return asked or (0.05 if getattr(self, "curve") == "gates" else 1e-4)  # noqa: B009 - of the variants

    @property
    def content(self) -> dict[str, Any]:
        """What a key hashes of it, but for the space and the task; a plain linear path is just its name."""
        body = self.model_dump(mode="json", exclude_defaults=True, exclude={"name", "space", "fit"})
        for name in _SETS & body.keys():
            body[name] = sorted(set(body[name]))
            if body[name] == sorted(type(self).model_fields[name].default):
                del body[name]
        if self.fitted is not None:
            body["fit"] = self.fitted.model_dump(mode="json", exclude_defaults=True, exclude={"task"})
        return body


class _Partial(_Curve):
    moves: tuple[Modules, ...] = Field(
        default=(), description="kinds of modules that move; the rest stays as at `rest`. None given: all move"
    )
    layers: tuple[Annotated[int, Field(strict=True, ge=0)], ...] = Field(
        default=(), description="numbers of the blocks that move, from 0; none given: all"
    )
    rest: Literal["a", "b"] = Field(default="a", description="the end (a < b by key) whose values the rest keeps")

    def _parts(self) -> list[str]:
        layers = ["layers", *map(str, self.layers)] if self.layers else []
        rest = ["rest_b"] if self.rest == "b" else []
        return [*super()._parts(), *self.moves, *layers, *rest]

    @property
    def partial(self) -> bool:
        """Whether only a part of the weights moves: then one end of the path is no minimum of the sweep."""
        return bool(self.moves or self.layers)


class LinearCurve(_Partial):
    """phi(t) = (1 - t) a + t b."""

    curve: Literal["linear"]


class SphericalCurve(_Partial):
    """phi(t) = (sin((1 - t) w) a + sin(t w) b) / sin w, w the angle between a and b (slerp; Shoemake 1985)."""

    curve: Literal["spherical"]


class AlignedCurve(_Curve):
    """Linear to that permutation of b's heads and neurons which lies nearest to a (Ainsworth et al. 2022)."""

    curve: Literal["aligned"]
    permute: tuple[Literal["heads", "neurons"], ...] = Field(
        default=("heads", "neurons"),
        min_length=1,
        description="what may be permuted: attention heads, neurons of feed-forward layers",
    )


class _Bent(_Curve):
    bends: Count = Field(default=1, description="trained points between the ends")
    fit: FitSpec = Field(default=FitSpec(), description="how the bends are trained")

    def _parts(self) -> list[str]:
        return [*super()._parts(), *([str(self.bends)] if self.bends > 1 else [])]


class BezierCurve(_Bent):
    """phi(t) = sum_i C(n+1, i) (1-t)^(n+1-i) t^i p_i, p_0 = a, p_(n+1) = b, bends between (Garipov et al. 2018)."""

    curve: Literal["bezier"]


class PolygonalCurve(_Bent):
    """Straight pieces from a over the bends to b (Garipov et al. 2018, eq. 4)."""

    curve: Literal["polygonal"]


class GatesCurve(_Curve):
    """A polygonal chain whose one bend mixes the ends group by group: (1 - s(w_g)) a_g + s(w_g) b_g, w_g = 0 at first.

    Only the gates w train (Qin et al. 2022, released scripts).
    """

    curve: Literal["gates"]
    groups: Literal["block", "sublayer", "tensor"] = Field(
        default="block", description="what shares a gate: a block, a sublayer or a tensor"
    )
    fit: FitSpec = Field(default=FitSpec(), description="how the gates are trained")

    def _parts(self) -> list[str]:
        return [*super()._parts(), *([self.groups] if self.groups != "block" else [])]


class AutoNebCurve(_Curve):
    """A chain of pivots relaxed by the nudged elastic band, pivots added where it is high (Draxler et al. 2018)."""

    curve: Literal["autoneb"]
    pivots: Count = Field(default=1, description="between the ends, at first")
    cycles: Count = Field(default=3, description="of relaxing and inserting; none is inserted after the last")
    insert: Annotated[int, Field(strict=True, ge=0)] = Field(default=2, description="pivots at most, after each cycle")
    threshold: Positive = Field(
        default=0.1,
        description="a pivot is added where the loss stands higher over its segment's chord than this share "
        "of the chain's height",
    )
    fit: FitSpec = Field(default=FitSpec(), description="how each cycle relaxes the chain")


CurveSpec = Annotated[
    LinearCurve | SphericalCurve | AlignedCurve | BezierCurve | PolygonalCurve | GatesCurve | AutoNebCurve,
    Field(discriminator="curve"),
]
CurveKind = Literal["linear", "spherical", "aligned", "bezier", "polygonal", "gates", "autoneb"]


def _by_name(value: Any) -> Any:
    return {"curve": value} if isinstance(value, str) else value


NamedCurve = Annotated[CurveSpec, BeforeValidator(_by_name, json_schema_input_type=CurveKind | CurveSpec)]


def exact_ends(curve: NamedCurve) -> tuple[bool, bool]:
    """Whether phi(0) is a and phi(1) is b, bit for bit: not where a part of the weights stays, or b is permuted."""
    if isinstance(curve, AlignedCurve):
        return True, False
    if isinstance(curve, _Partial) and curve.partial:
        return curve.rest == "a", curve.rest == "b"
    return True, True
