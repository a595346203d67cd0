"""Whether two minima have a space in which a path joins them, and which; told without reading a weight."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from raymc.specs.connectivity import Space
from raymc.specs.content import backbone_folder, read_config
from raymc.specs.errors import RaymcError
from raymc.specs.factors import numbers_of
from raymc.specs.keys import canonical
from raymc.specs.model import GrammarBackbone, ModelSpec
from raymc.specs.spaces import joining_space, spaces_of
from raymc.specs.sweep import Point
from raymc.specs.trial import TrialSpec

# Fields of a config in transformers that decide the shapes of a network's tensors.
_SIZES = (
    *("model_type", "vocab_size", "hidden_size", "num_hidden_layers", "intermediate_size"),
    *("d_model", "num_layers", "d_ff", "d_kv", "num_heads", "n_embd", "n_layer", "n_inner"),
    *("num_attention_heads", "num_key_value_heads", "embedding_size", "type_vocab_size"),
)


class Joints:
    """The spaces of a sweep's pairs, looked up by kind of minimum: thousands of minima are of few kinds."""

    def __init__(self, points: Sequence[Point], asked: Space):
        self._asked: Space = asked
        kinds: dict[str, int] = {}
        self._trials: list[TrialSpec] = []
        self._kinds: list[int] = []
        seen: dict[tuple[int, int | None], int] = {}  # points of a sweep share what they have alike
        for point in points:
            model, tuning = point.trial.model if point.existing else None, point.trial.tuning
            parts = (id(tuning), model and id(model))
            if parts not in seen:
                # LoRA's settings decide nothing but whether two share a space of factors, where that is asked for.
                body = {"method": "lora"} if tuning.method == "lora" and asked != "factors" else tuning.model_dump()
                text = canonical([body, model and model.model_dump(mode="json")])
                if text not in kinds:
                    kinds[text] = len(kinds)
                    self._trials.append(point.trial)
                seen[parts] = kinds[text]
            self._kinds.append(seen[parts])
        self._known: dict[tuple[int, ...], str | RaymcError] = {}

    def kind(self, i: int) -> int:
        """A number for all that decides in which spaces a minimum is a point."""
        return self._kinds[i]

    @property
    def kinds(self) -> list[int]:
        """Of all minima."""
        return self._kinds

    def known(self, i: int) -> bool:
        """Whether it can be told what a minimum is: one that exists may lie on a hub out of reach."""
        try:
            return bool(self.space(i))
        except RaymcError:
            return False

    def space(self, *minima: int) -> str:
        """Where one minimum is scored, or two are joined. Raises RaymcError where two can't be."""
        kinds = tuple(self._kinds[i] for i in minima)
        if kinds not in self._known:
            try:
                self._known[kinds] = self._space([self._trials[kind] for kind in kinds])
            except RaymcError as error:
                self._known[kinds] = error
        found = self._known[kinds]
        if isinstance(found, RaymcError):
            raise RaymcError(str(found))
        return found

    def _space(self, trials: list[TrialSpec]) -> str:
        if len(trials) == 2:
            return joining_space(trials[0], trials[1], self._asked)
        spaces = spaces_of(trials[0])
        return self._asked if self._asked in spaces else spaces[0]


class Bases:
    """The backbones that a sweep's minima start from, as far as they decide whether a path joins two."""

    def __init__(self, points: Sequence[Point]):
        shapes: dict[str, dict[str, Any] | None] = {}
        seen: dict[int, tuple[str, dict[str, Any] | None]] = {}  # points of a sweep share what they have alike
        self._known: list[tuple[TrialSpec, str | None, dict[str, Any] | None]] = []  # each one's base and shape
        for point in points:
            model = point.trial.model
            if id(model) not in seen:
                backbone = model.model_dump_json(include={"backbone", "revision"})
                if backbone not in shapes:
                    shapes[backbone] = shape_of(model)
                base = model.model_dump_json(include={"backbone", "revision", "perturbation"})
                seen[id(model)] = base, shapes[backbone]
            base, shape = seen[id(model)]
            self._known.append((point.trial, base if point.existing is None else None, shape))

    @cached_property
    def bases(self) -> list[int]:
        """A number for each minimum's backbone."""
        return numbers_of(base for _, base, _ in self._known)

    @cached_property
    def kinds(self) -> list[int]:
        """A number for all else that decides whether a path joins it in a space: its shape, and whether it is made."""
        texts: dict[int, str] = {}
        for _, _, shape in self._known:
            if id(shape) not in texts:
                texts[id(shape)] = json.dumps(shape, sort_keys=True)
        return numbers_of((base is None, texts[id(shape)]) for _, base, shape in self._known)

    def fault(self, i: int, j: int, space: str) -> str | None:
        """Why no path joins two minima in a space, where their backbones tell."""
        (trial, one, first), (partner, other, second) = (self._known[k] for k in (i, j))
        if space == "factors" and one and other and one != other:  # an existing folder names its base itself
            mergeable = all("delta_w" in spaces_of(some) for some in (trial, partner))
            instead = "connectivity.space: delta_w" if mergeable else "pairs: {within: model}"
            return f"factors are a point on one backbone, and theirs differ; use {instead}"
        if first is None or second is None or ("builtin" in first) != ("builtin" in second):
            return None
        for name, value in first.items():
            if name in second and second[name] != value:
                said = f" ({value} and {second[name]})" if isinstance(value, (str, int)) else ""
                return f"their backbones differ in {name}{said}, so no path joins their weights"
        return None


def shape_of(model: ModelSpec) -> dict[str, Any] | None:
    """What decides the shapes of a backbone's tensors, as far as it is known here; None where it isn't."""
    if isinstance(model.backbone, GrammarBackbone):
        return model.backbone.model_dump(include={"builtin", "hidden_size", "layers", "heads", "intermediate_size"})
    if not isinstance(model.backbone, str):
        made, body = model.backbone.architecture, model.backbone.model_dump(mode="json")
        tokenizer = body["tokenizer"] if isinstance(body["tokenizer"], str) else [body["tokenizer"], body["text"]]
        return {name: made[name] for name in _SIZES if name in made} | {"tokenizer": tokenizer} if made else None
    try:
        folder = backbone_folder(model)
    except RaymcError:  # no such package: said where backbones are looked at
        return None
    config = None if folder is None else read_config(folder)
    return None if config is None else {name: config[name] for name in _SIZES if name in config}
