"""From a YAML file and overrides to a SweepSpec, or to all its faults with file, line and column."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from raymc.specs.errors import Fault, SpecError
from raymc.specs.fields import dotted_fields, is_field, models_in, nearest
from raymc.specs.sweep import PointError, SweepSpec
from raymc.specs.trial import TrialSpec
from raymc.specs.yaml import DataPath, Source, apply_override, dotted, read_yaml


def load_spec(path: str | Path, overrides: Sequence[str] = ()) -> SweepSpec:
    """Read a sweep's YAML; `overrides` are `dotted.field=value` texts, values in YAML.

    Raises SpecError with one Fault per fault found. Relative paths in the file are taken from its own folder.
    """
    return load_with_source(path, overrides)[0]


def load_with_source(path: str | Path, overrides: Sequence[str] = ()) -> tuple[SweepSpec, Source]:
    """As load_spec, with the places of all fields, for faults that are found later."""
    source = read_yaml(path)
    faults: list[Fault] = []
    for number, text in enumerate(overrides, 1):
        try:
            apply_override(source, text, number)
        except SpecError as error:
            faults += error.faults
    context = {"folder": Path(path).parent, "points_later": True}
    spec = None
    try:
        spec = SweepSpec.model_validate(source.data, context=context)
    except ValidationError as error:
        faults += [_fault(detail, source) for detail in error.errors(include_url=False) if not _follows(detail)]
    faults += list(_axis_name_faults(source))
    if spec is None or faults:
        raise SpecError(faults)
    try:
        _ = spec.points
    except PointError as error:
        found = {
            (fault.file, fault.line, fault.column): fault for fault in reversed(list(_point_faults(error, source)))
        }
        raise SpecError(list(reversed(found.values()))) from error  # one for a value, the first
    return spec, source


def fault_at(source: Source, path: DataPath, message: str) -> Fault:
    """A fault at a field, wherever it was written (else at its nearest parent)."""
    return Fault(dotted(path), message, *source.where(path, key=not isinstance(path[-1], int) if path else False))


def _fault(detail: Any, source: Source) -> Fault:
    path, message, at_key = _described(detail, SweepSpec, source.data)
    return Fault(dotted(path), message, *source.where(path, key=at_key))


def _follows(detail: Any) -> bool:
    """Whether it only follows from other faults: a list whose items are all wrong counts as empty."""
    return detail["type"] == "too_short" and bool(detail.get("input"))


def _described(detail: Any, root: type[BaseModel], data: Any) -> tuple[DataPath, str, bool]:
    """One of pydantic's errors: where in the data, what is wrong, and whether the key is (or else the value)."""
    loc, kind, given, context = detail["loc"], detail["type"], detail.get("input"), detail.get("ctx") or {}
    path = _data_path(loc, data)
    if kind == "extra_forbidden":
        return path, _unknown_key(root, loc, path[:-1]), True
    if kind == "missing":
        return (*_data_path(loc[:-1], data), loc[-1]), "missing", True
    if kind in ("union_tag_invalid", "union_tag_not_found"):  # of a variant that a field of its own names
        field = context["discriminator"].strip("'")
        known = [name for model in _reached(root, loc)[1] for name in _tags(model)[1:]]
        if kind == "union_tag_not_found":
            return (*path, field), f"missing: one of {', '.join(known)}", True
        return (*path, field), _not_one_of(given[field], known), False
    if kind == "literal_error":
        return path, _not_one_of(given, re.findall(r"'([^']*)'", context["expected"])), False
    if kind == "too_short":
        return path, f"empty: it needs at least {context['min_length']}", False
    if kind == "string_pattern_mismatch":
        signs = "-, _ and ." if "." in context["pattern"] else "- and _"
        message = f"should be letters, digits, {signs}, the first a letter or digit, not {_shown(given)}"
        return path, message, False
    if kind == "string_too_short":
        return path, "empty: it needs a name", False
    if kind == "too_long":
        return path, f"it takes at most {context['max_length']}, not {context['actual_length']}", False
    message = detail["msg"].removeprefix("Value error, ").replace("Input should", "should", 1)
    if kind in _KINDS:
        message = f"should be {_KINDS[kind]}"
    if kind != "value_error" and (isinstance(given, (str, int, float)) or given is None):
        message += f", not {_shown(given)}"
    if kind == "string_type" and isinstance(given, (int, float)):
        message += f"; in quotes it is: {json.dumps(str(given))}"
    return path, message, False


_KINDS = {
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "dict_type": "a mapping",
    "tuple_type": "a list",
    "string_type": "text",
}


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def _not_one_of(given: Any, known: Sequence[str]) -> str:
    if len(known) == 1:
        return f"should be {known[0]}, not {_shown(given)}"
    near = nearest(given, known, ()) if isinstance(given, str) else ""
    return f"{_shown(given)} is not one of {', '.join(known)}{near}"


def _point_faults(error: PointError, source: Source) -> Iterator[Fault]:
    """A point's faults at the axis values that they come from."""
    places = source.axes()
    for detail in error.errors:
        path, message, at_key = _described(detail, TrialSpec, error.data)
        name = max(error.values, key=lambda name: _shared(name, path))  # the axis nearest to the fault
        inside = path[name.count(".") + 1 :] if _shared(name, path) == name.count(".") + 1 else ()
        said = message if inside == () and dotted(path) == name else f"{dotted(path)}: {message}"
        where = source.where((*places[name], error.choice[name], *inside), key=at_key and bool(inside))
        yield Fault(dotted(places[name]), said, *where)
    if not error.errors:
        name, index = next(iter(error.choice.items()), ("", 0))
        path = places.get(name, ("axes",))
        where = source.where((*path, index)) if error.values else source.where(path, key=True)
        yield Fault(dotted(path), str(error), *where)


def _shared(name: str, path: DataPath) -> int:
    """How many of an axis's parts, from the first, lead towards a place in the trial."""
    pairs = zip(name.split("."), path, strict=False)
    return len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)))


def _axis_name_faults(source: Source) -> Iterator[Fault]:
    for name, path in source.axes().items():
        if not is_field(TrialSpec, name.split(".")):
            near = nearest(name, list(dotted_fields(TrialSpec)), ())
            yield Fault(dotted(path), f"no field of a trial{near}", *source.where(path, key=True))


def _data_path(loc: Sequence[str | int], data: Any) -> DataPath:
    """An error's place without the tags of unions, which are no part of the data."""
    path: list[str | int] = []
    node: Any = data
    for part in loc:
        items = node if isinstance(node, (list, tuple)) else ()
        children: dict[Any, Any] = node if isinstance(node, dict) else dict(enumerate(items))
        if part in children:
            path.append(part)
            node = children[part]
    return tuple(path)


def _unknown_key(root: type[BaseModel], loc: Sequence[str | int], parents: Sequence[str | int]) -> str:
    """Says what stands nearest to a key that doesn't exist, or which variant of a union has it."""
    models, variants = _reached(root, loc[:-1])
    word = str(loc[-1])
    having = [model for model in variants if word in model.model_fields]
    if having:
        return f"unknown key beside {_marked(models[0])} (it goes with {', '.join(map(_marked, having))})"
    known = [name for model in models for name in model.model_fields]
    return "unknown key" + (nearest(word, known, parents) or f" (there are {', '.join(known)})")


def _reached(root: type[BaseModel], loc: Sequence[str | int]) -> tuple[list[type[BaseModel]], list[type[BaseModel]]]:
    """The spec classes at an error's place, and all variants of the union that they are taken from."""
    models, variants = [root], [root]
    for part in loc:
        fields = [model.model_fields[str(part)] for model in models if part in model.model_fields]
        if fields:
            models = variants = [inner for info in fields for inner in models_in(info.annotation)]
        else:  # the tag of a union's variant
            models = [model for model in models if part in _tags(model)] or models
    return models, variants


def _marked(model: type[BaseModel]) -> str:
    """What a user tells a variant by: its first field that must be there, with its one value if it has but one."""
    name, info = next((item for item in model.model_fields.items() if item[1].is_required()), (model.__name__, None))
    values = get_args(info.annotation) if info is not None else ()
    return f"{name}: {values[0]}" if len(values) == 1 and isinstance(values[0], str) else name


def _tags(model: type[BaseModel]) -> list[str]:
    """The names that stand for a variant in an error's place: its class, or the one value of its literal field."""
    literals = [get_args(info.annotation) for info in model.model_fields.values() if info.is_required()]
    return [model.__name__, *(values[0] for values in literals if len(values) == 1 and isinstance(values[0], str))]
