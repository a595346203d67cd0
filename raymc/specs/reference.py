"""The reference of a sweep's fields as Markdown, made from the JSON Schema, so that it can't differ from the code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

_LONG = 60  # letters of a default that is shown
_HEAD = """# Every field of a sweep

Made by `raymc schema --markdown`; a test holds it against the code. A field without a default must be given. Axes name
a field by its dots: `train.learning_rate`. The JSON Schema for editors is [sweep.schema.json](sweep.schema.json).
"""


def reference(schema: dict[str, Any]) -> str:
    """Markdown with a table for the sweep and for each mapping inside it, in the order in which they are met."""
    known: dict[str, Any] = schema["$defs"]
    order: list[str] = []

    def meet(node: Any) -> None:
        for name in _references(node):
            if name not in order:
                order.append(name)
                meet(known[name])

    meet(schema["properties"])
    parts = [_HEAD, *_section("Sweep", schema)]
    for name in order:
        parts += _section(name, known[name])
    return "\n".join(parts).rstrip() + "\n"


def _section(name: str, model: dict[str, Any]) -> Iterator[str]:
    yield f"## {name}\n"
    if text := model.get("description"):
        yield f"{_escaped(text)}\n"
    fields = model.get("properties", {})
    if not fields:
        return
    required = model.get("required", ())
    yield "| field | takes | default | |"
    yield "|---|---|---|---|"
    for field, what in fields.items():
        default = "" if field in required else _default(what.get("default"))
        cells = (f"`{field}`", _type(what), default, _escaped(what.get("description", "")))
        yield "| " + " | ".join(cells) + " |"
    yield ""


def _default(value: Any) -> str:
    text = json.dumps(value).replace("|", "\\|")
    return f"`{text}`" if len(text) <= _LONG else "its defaults" if isinstance(value, dict) else "as linked"


def _type(what: dict[str, Any]) -> str:
    """What a field takes, in words; mappings as links to their tables."""
    if "$ref" in what:
        name = _referred(what)
        return f"[{name}](#{name.lower()})"
    for several in ("anyOf", "oneOf", "allOf"):
        if several in what:
            return " or ".join(dict.fromkeys(map(_type, what[several])))
    if "const" in what:
        return f"`{what['const']}`"
    if "enum" in what:
        return ", ".join(f"`{value}`" for value in what["enum"])
    kind = what.get("type")
    if kind == "array":
        if "prefixItems" in what:
            return "list of " + ", ".join(map(_type, what["prefixItems"]))
        return f"list of {_type(what['items'])}" if what.get("items") else "list"
    if kind == "object":
        inner = what.get("additionalProperties")
        return f"mapping to {_type(inner)}" if isinstance(inner, dict) and inner else "mapping"
    words = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true, false", "null": "null"}
    bounds = {"minimum": "from {}", "exclusiveMinimum": "above {}", "maximum": "to {}", "exclusiveMaximum": "below {}"}
    said = [form.format(f"{what[name]:.10g}") for name, form in bounds.items() if name in what]
    return " ".join([words.get(kind or "", "anything"), *said])


def _references(node: Any) -> Iterator[str]:
    """Names of the mappings that a piece of a schema refers to, in order."""
    if isinstance(node, dict):
        if "$ref" in node:
            yield _referred(node)
        for key, value in node.items():
            if key not in ("$ref", "discriminator"):
                yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def _referred(node: dict[str, Any]) -> str:
    return node["$ref"].rsplit("/", 1)[-1]


def _escaped(text: str) -> str:
    return re.sub(r"([|<>])", r"\\\1", " ".join(text.split()))
