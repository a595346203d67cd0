"""From a YAML file and overrides to a SweepSpec, or to all its faults with file, line and column."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from raymc.specs.errors import Fault, SpecError
from raymc.specs.sweep import PointError, SweepSpec
from raymc.specs.trial import TrialSpec
from raymc.specs.yaml import DataPath, Source, apply_override, read_yaml


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
        faults += [_fault(detail, source, SweepSpec) for detail in error.errors(include_url=False)]
    faults += list(_axis_name_faults(source))
    if spec is None or faults:
        raise SpecError(faults)
    try:
        _ = spec.points
    except PointError as error:
        raise SpecError(list(dict.fromkeys(_point_faults(error, source)))) from error
    return spec, source


def fault_at(source: Source, path: DataPath, message: str) -> Fault:
    """A fault at a field, wherever it was written (else at its nearest parent)."""
    dotted = ".".join(map(str, path))
    return Fault(dotted, message, *source.where(path, key=not isinstance(path[-1], int) if path else False))


def _fault(detail: Any, source: Source, root: type[BaseModel], prefix: DataPath = ()) -> Fault:
    path = prefix or _data_path(detail["loc"], source.data)
    kind, given = detail["type"], detail.get("input")
    if kind == "extra_forbidden":
        message = _unknown_key(root, detail["loc"], path[:-1])
    elif kind == "too_short":
        message = f"empty: it needs at least {detail['ctx']['min_length']}"
    elif kind == "missing":
        path = (*path, str(detail["loc"][-1])) if not path or path[-1] != detail["loc"][-1] else path
        message = "missing"
    elif kind in ("union_tag_invalid", "union_tag_not_found", "literal_error"):
        message = detail["msg"].replace("Input", "it", 1)
        expected = [part.strip(" '") for part in str((detail.get("ctx") or {}).get("expected_tags", "")).split(",")]
        if kind == "literal_error":
            expected = [part.strip(" '") for part in detail["ctx"]["expected"].replace(" or ", ",").split(",")]
        message = f"one of {', '.join(expected)}" if any(expected) else message
        if kind == "union_tag_not_found":
            message = f"missing {detail['ctx']['discriminator']}: {message}"
        else:
            tag = (detail.get("ctx") or {}).get("tag", given)
            message = f"{tag!r} is not {message}" + (_nearest(str(tag), expected, ()) if isinstance(tag, str) else "")
    else:
        message = detail["msg"].removeprefix("Value error, ").replace("Input should", "should", 1)
        if isinstance(given, (str, int, float, bool)) or given is None:
            message += f", not {given!r}"
    dotted = ".".join(map(str, path))
    at_key = kind in ("extra_forbidden", "missing")
    return Fault(dotted, message, *source.where(path, key=at_key))


def _point_faults(error: PointError, source: Source) -> Iterator[Fault]:
    """A point's faults at the axis values that they come from."""
    places = _axis_places(source)
    for detail in error.errors:
        dotted = ".".join(str(part) for part in detail["loc"])
        names = [name for name in error.values if _covers(name, [str(part) for part in detail["loc"]])]
        name = max(names, key=len, default=next(iter(error.values), ""))
        path = places.get(name, ())
        index = error.choice.get(name, 0)
        where = (*path, index) if (*path, index) in source.values else path
        local = _fault(detail, source, TrialSpec, prefix=where)
        said = f"{dotted}: {local.message}" if dotted != name else local.message
        if detail["type"] == "extra_forbidden":
            said = _unknown_key(TrialSpec, detail["loc"], name.split("."))
        yield Fault(f"axes.{name}", said, local.file, local.line, local.column)
    if not error.errors:
        name = next(iter(error.choice), "")
        path = places.get(name, ("axes",))
        value = (*path, error.choice.get(name, 0))
        where = source.where(value) if value in source.values and error.values else source.where(path, key=True)
        yield Fault(f"axes.{name}" if name else "axes", str(error), *where)


def _axis_places(source: Source) -> dict[str, DataPath]:
    axes = source.data.get("axes")
    places: dict[str, DataPath] = {name: ("axes", name) for name in axes} if isinstance(axes, dict) else {}
    for number, group in enumerate(source.data.get("zip") or []):
        if isinstance(group, dict):
            places |= {name: ("zip", number, name) for name in group}
    return places


def _axis_name_faults(source: Source) -> Iterator[Fault]:
    for name, path in _axis_places(source).items():
        if not _is_field(TrialSpec, name.split(".")):
            nearest = _nearest(name, list(_dotted_fields(TrialSpec)), ())
            yield Fault(f"axes.{name}", f"no field of a trial{nearest}", *source.where(path, key=True))


def _covers(name: str, loc: list[str]) -> bool:
    """Whether a dotted axis name leads to an error's place (which may hold a union's tag on the way)."""
    parts, rest = name.split("."), iter(loc)
    return all(part in rest for part in parts)


def _data_path(loc: Sequence[str | int], data: Any) -> DataPath:
    """An error's place without the tags of unions, which are no part of the data."""
    path: list[str | int] = []
    node: Any = data
    for part in loc:
        if (isinstance(node, dict) and part in node) or (isinstance(node, (list, tuple)) and isinstance(part, int)):
            path.append(part)
            node = node[part]
    return tuple(path)


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The spec classes inside an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Annotated, Union, types.UnionType, tuple, dict):
        return [model for part in get_args(annotation) for model in _models(part)]
    return []


def _unknown_key(root: type[BaseModel], loc: Sequence[str | int], parents: Sequence[str | int]) -> str:
    """Says what stands nearest to a key that doesn't exist, or which variant of a union has it."""
    models, variants = [root], [root]
    for part in loc[:-1]:
        fields = [model.model_fields[str(part)] for model in models if part in model.model_fields]
        if fields:
            models = variants = [inner for info in fields for inner in _models(info.annotation)]
        else:  # the tag of a union's variant
            models = [model for model in models if part in _tags(model)] or models
    word = str(loc[-1])
    having = [model for model in variants if word in model.model_fields]
    if having:
        tags = ", ".join(_tags(model)[-1] for model in having)
        return f"unknown key of {_tags(models[0])[-1]} (a field of {tags})"
    return "unknown key" + _nearest(word, [name for model in models for name in model.model_fields], parents)


def _tags(model: type[BaseModel]) -> list[str]:
    """The names that stand for a variant in an error's place: its class, or the value of its literal field."""
    literals = [get_args(info.annotation) for info in model.model_fields.values() if info.is_required()]
    return [model.__name__, *(value for values in literals for value in values if isinstance(value, str))]


def _is_field(root: type[BaseModel], parts: list[str]) -> bool:
    models = [root]
    for depth, part in enumerate(parts):
        having = [model for model in models if part in model.model_fields]
        if not having:
            return False
        models = [inner for model in having for inner in _models(model.model_fields[part].annotation)]
        if not models and depth < len(parts) - 1:
            return False
    return True


def _dotted_fields(root: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, info in root.model_fields.items():
        yield prefix + name
        for model in _models(info.annotation):
            yield from _dotted_fields(model, f"{prefix}{name}.")


def _nearest(word: str, known: Sequence[str], parents: Sequence[str | int]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if not close and word in {name.split(".")[-1] for name in known}:
        close = [name for name in known if name.split(".")[-1] == word][:1]
    return f" (did you mean {'.'.join([*map(str, parents), close[0]])}?)" if close else ""
