"""YAML 1.2 with the line and column of every key and value, and overrides in the same form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import ConstructorError, RoundTripConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.reader import ReaderError
from ruamel.yaml.scalarbool import ScalarBoolean

from raymc.specs.errors import Fault, SpecError

Where = tuple[str, int, int]  # file, line, column; from 1
DataPath = tuple[str | int, ...]


@dataclass
class Source:
    """Plain data and where each part of it was written."""

    data: dict[str, Any]
    keys: dict[DataPath, Where] = field(default_factory=dict)
    values: dict[DataPath, Where] = field(default_factory=dict)

    def where(self, path: DataPath, key: bool = False) -> Where:
        """The place of a value (or of its key); of the nearest parent where the path was not written."""
        for table in (self.keys, self.values) if key else (self.values,):
            if path in table:
                return table[path]
        return self.where(path[:-1], key=True) if path else ("<spec>", 1, 1)

    def axes(self) -> dict[str, DataPath]:
        """Every axis by name, and its place in the data, whatever else is wrong with it."""
        axes, groups = self.data.get("axes"), self.data.get("zip")
        found: dict[str, DataPath] = {name: ("axes", name) for name in axes} if isinstance(axes, Mapping) else {}
        for number, group in enumerate(groups if isinstance(groups, list) else []):
            if isinstance(group, Mapping):
                found |= {name: ("zip", number, name) for name in group}
        return found


def dotted(path: Sequence[str | int]) -> str:
    return ".".join(map(str, path))


def read_yaml(path: str | Path) -> Source:
    """Raises SpecError where the file can't be read, isn't YAML, or isn't a mapping."""
    name = str(path)
    try:
        content = Path(path).read_bytes()
        text = content.decode()
    except FileNotFoundError:
        raise SpecError([Fault("", "no such file", name)]) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise SpecError([Fault("", f"not UTF-8: {error.reason}", name, line)]) from error
    except (OSError, ValueError) as error:
        raise SpecError([Fault("", f"can't be read: {getattr(error, 'strerror', None) or error}", name)]) from error
    source = Source({}, values={(): (name, 1, 1)})
    data = _parse(text, name, source)
    if not isinstance(data, dict):
        raise SpecError([Fault("", "a sweep is a mapping with name, model, task, ...", name)])
    source.data = data
    return source


def apply_override(source: Source, text: str, number: int) -> None:
    """Set one `a.b=value` (value in YAML) in the data. Raises SpecError where it has no such form.

    Its places are file `--set`, the override's number as line, and the column in its text.
    """
    name, sign, value_text = text.partition("=")
    parts = name.split(".", {"axes": 1, "zip": 2}.get(name.partition(".")[0], -1))  # an axis has a dotted name

    def fault(message: str) -> SpecError:
        return SpecError([Fault(name if name and sign else text, message, "--set", number)])

    if not sign or not all(parts):
        raise fault("an override reads dotted.field=value")
    value, places = _parse_value(value_text, name, number)
    for axis, place in source.axes().items():
        if name == axis or name.startswith(f"{axis}."):
            raise fault(f"{axis} is an axis of the sweep; set {dotted(place)}=[...] instead")

    node: Any = source.data
    root: list[str | int] = []
    for depth, part in enumerate(parts, 1):
        step = _step(node, part)
        if step is None:
            if isinstance(node, (dict, list)):
                raise fault(f"nothing can be set in {dotted(root)}: it has no {part}")
            raise fault(f"{dotted(root)} is {node!r}, which has no fields")
        root.append(step)
        if depth == len(parts):
            node[step] = value
        else:
            node = node.setdefault(step, {}) if isinstance(node, dict) else node[step]
    _move_places(source, tuple(root), places, ("--set", number, 1), ("--set", number, len(name) + 2))


def _step(node: Any, part: str) -> str | int | None:
    """A part of an override's name as key or index of a node; None where the node has no such thing."""
    if isinstance(node, list):
        return int(part) if part.isdecimal() and int(part) < len(node) else None
    return part if isinstance(node, dict) else None


def _move_places(source: Source, root: DataPath, places: Source, key: Where, value: Where) -> None:
    """Note that what is now at `root` was written in an override, and so were parents that weren't written before."""
    for table in (source.keys, source.values):
        for path in [path for path in table if path[: len(root)] == root]:
            del table[path]
    source.keys |= {(*root, *path): where for path, where in places.keys.items()}
    source.values |= {(*root, *path): where for path, where in places.values.items()}
    for depth in range(1, len(root) + 1):
        source.keys.setdefault(root[:depth], key)
        source.values.setdefault(root[:depth], value)


def _parse_value(text: str, name: str, number: int) -> tuple[Any, Source]:
    """An override's value and its places, by column in the whole override."""

    def moved(where: Where) -> Where:
        _, line, column = where
        return "--set", number, column + len(name) + 1 if line == 1 else column

    places = Source({})
    try:
        value = _parse(text, "--set", places)
    except SpecError as error:
        file, line, column = moved((error.faults[0].file, error.faults[0].line, error.faults[0].column))
        raise SpecError([replace(error.faults[0], path=name, file=file, line=line, column=column)]) from error
    for table in (places.keys, places.values):
        table.update({path: moved(where) for path, where in table.items()})
    return value, places


class _Constructor(RoundTripConstructor):
    """Ruamel's, with a place for values that can't be made (a date with month 13, `!!int x`)."""

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError) as error:
            kind = str(node.tag).rpartition(":")[2]
            raise ConstructorError(None, None, f"this can't be read as {kind}", node.start_mark) from error


def _parse(text: str, name: str, source: Source) -> Any:
    loader = YAML(typ="rt")
    loader.Constructor = _Constructor
    loader.composer.warn_double_anchors = False  # a reused anchor is fine in YAML 1.2
    try:
        return _plain(loader.load(text), (), name, source)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        message = error.problem or error.context or "not valid YAML"
    except ReaderError as error:
        line, column = text.count("\n", 0, error.position) + 1, 1
        message = (
            f"character #x{ord(text[error.position]):04x} is not allowed" if text[error.position :] else str(error)
        )
    except (YAMLError, RecursionError) as error:
        line, column = 1, 1
        message = "nested too deeply" if isinstance(error, RecursionError) else str(error)
    raise SpecError([Fault("", f"not valid YAML: {message.strip().splitlines()[0]}", name, line, column)])


def _plain(node: Any, path: DataPath, name: str, source: Source) -> Any:
    """Ruamel's tree as plain Python data, noting places on the way."""
    places = getattr(getattr(node, "lc", None), "data", None) or {}  # without keys that an anchor merged in
    if isinstance(node, dict):
        result: dict[str, Any] = {}
        for key, value in node.items():
            child = (*path, str(key))
            if key in places:
                key_line, key_column, line, column = places[key]
                source.keys[child] = (name, key_line + 1, key_column + 1)
                if value is None and line != key_line:  # nothing is written: ruamel has what comes next
                    line, column = key_line, key_column
                source.values[child] = (name, line + 1, column + 1)
            result[str(key)] = _plain(value, child, name, source)
        return result
    if isinstance(node, list):
        for index in range(len(node)):
            if index in places:
                line, column = places[index][:2]
                source.values[(*path, index)] = (name, line + 1, column + 1)
        return [_plain(item, (*path, index), name, source) for index, item in enumerate(node)]
    if isinstance(node, ScalarBoolean):  # one with an anchor
        return bool(node)
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return node if node is None else str(node)
