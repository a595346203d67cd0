import re
from typing import Any

from raymc.specs.reference import reference
from raymc.specs.sweep import SweepSpec

SCHEMA = SweepSpec.model_json_schema()


def test_every_field_says_what_it_is():
    models = {"Sweep": SCHEMA, **SCHEMA["$defs"]}
    bare = [
        f"{name}.{field}"
        for name, model in models.items()
        for field, what in model["properties"].items()
        if "description" not in what and "const" not in what
    ]
    assert bare == []


def test_every_field_has_a_line_and_every_link_a_place():
    text = reference(SCHEMA)
    sections: dict[str, str] = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", text, re.M | re.S))
    assert set(sections) == {"Sweep", *SCHEMA["$defs"]}
    for name, model in {"Sweep": SCHEMA, **SCHEMA["$defs"]}.items():
        assert re.findall(r"^\| `(\w+)` \|", sections[name], re.M) == list(model["properties"]), name
    assert set(re.findall(r"\]\(#(\w+)\)", text)) <= {name.lower() for name in sections}
    assert all(line.count(" | ") == 3 for line in text.splitlines() if line.startswith("| `"))


def test_bounds_defaults_and_choices_in_words():
    schema: dict[str, Any] = {
        "$defs": {"B": {"properties": {"k": {"const": "b"}}, "required": ["k"]}},
        "properties": {
            "n": {"type": "integer", "minimum": 0, "exclusiveMaximum": 4294967296, "default": 3, "description": "a|b"},
            "b": {"anyOf": [{"$ref": "#/$defs/B"}, {"type": "null"}], "default": None},
            "l": {"type": "array", "items": {"enum": ["x", "y"]}, "default": []},
        },
    }
    lines = reference(schema).splitlines()
    assert "| `n` | whole number from 0 below 4294967296 | `3` | a\\|b |" in lines
    assert "| `b` | [B](#b) or null | `null` |  |" in lines
    assert "| `l` | list of `x`, `y` | `[]` |  |" in lines
    assert "| `k` | `b` |  |  |" in lines
