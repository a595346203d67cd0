"""YAML 1.2 with the line and column of every key and value, and overrides in the same form."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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


def read_yaml(path: str | Path) -> Source:
    """Raises SpecError where the file can't be read, isn't YAML, or isn't a mapping."""
    name = str(path)
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SpecError([Fault("", "no such file", name)]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError([Fault("", f"can't be read: {getattr(error, 'strerror', None) or error}", name)]) from error
    source = Source({}, values={(): (name, 1, 1)})
    data = _parse(text, name, source)
    if not isinstance(data, dict):
        raise SpecError([Fault("", "a sweep is a mapping with name, model, task, ...", name)])
    source.data = data
    return source


def apply_override(source: Source, text: str, number: int) -> None:
    """Set one `a.b=value` (value in YAML) in the data. Raises SpecError where it has no such form."""
    name, sign, value_text = text.partition("=")
    parts = name.split(".", 1) if name.startswith("axes.") else name.split(".")
    if not sign or not all(parts):
        raise SpecError([Fault(text, "an override reads dotted.field=value", "--set", number)])
    inner = Source({})
    value = _parse(value_text, "--set", inner)
    if ".".join(parts) in (source.data.get("axes") or {}):
        message = f"it is an axis of the sweep; set axes.{name}=[...] instead"
        raise SpecError([Fault(name, message, "--set", number)])
    node: Any = source.data
    for depth, part in enumerate(parts[:-1]):
        if isinstance(node, list) and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
            continue
        if not isinstance(node, dict) or not isinstance(node.get(part, {}), (dict, list)):
            above = ".".join(parts[: depth + (isinstance(node, dict))])
            raise SpecError(
                [Fault(name, f"{above} is not a mapping, so nothing can be set inside it", "--set", number)]
            )
        node = node.setdefault(part, {})
    if isinstance(node, list):
        raise SpecError([Fault(name, "set the whole list", "--set", number)])
    node[parts[-1]] = value
    root = tuple(parts)
    for table in (source.keys, source.values):
        for path in [path for path in table if path[: len(root)] == root]:
            del table[path]
    for depth in range(1, len(root) + 1):
        source.keys.setdefault(root[:depth], ("--set", number, 1))
        source.values.setdefault(root[:depth], ("--set", number, 1))


def _parse(text: str, name: str, source: Source) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    loader = YAML(typ="rt")
    try:
        tree = loader.load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        message = (error.problem or error.context or "not valid YAML").strip().splitlines()[0]
        raise SpecError([Fault("", f"not valid YAML: {message}", name, line, column)]) from error
    except (YAMLError, ValueError) as error:
        raise SpecError([Fault("", f"not valid YAML: {str(error).splitlines()[0]}", name)]) from error
    return _plain(tree, (), name, source)


def _plain(node: Any, path: DataPath, name: str, source: Source) -> Any:
    """Ruamel's tree as plain Python data, noting places on the way."""
    if isinstance(node, dict):
        result: dict[str, Any] = {}
        for key, value in node.items():
            child = (*path, str(key))
            lc = getattr(node, "lc", None)
            if lc is not None and lc.data and key in lc.data:  # absent for keys merged in from an anchor
                line, column = lc.key(key)
                source.keys[child] = (name, line + 1, column + 1)
                line, column = lc.value(key)
                source.values[child] = (name, line + 1, column + 1)
            result[str(key)] = _plain(value, child, name, source)
        return result
    if isinstance(node, list):
        items = []
        for index, value in enumerate(node):
            child = (*path, index)
            if node.lc.data and index in node.lc.data:  # type: ignore[attr-defined]
                line, column = node.lc.item(index)  # type: ignore[attr-defined]
                source.values[child] = (name, line + 1, column + 1)
            items.append(_plain(value, child, name, source))
        return items
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return node if node is None else str(node)
