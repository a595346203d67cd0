"""Whatever a spec says, `raymc validate` takes it, or tells its faults in located lines. RAYMC_FUZZ: how many."""

from __future__ import annotations

import copy
import io
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from raymc.cli import main

SWEEPS = Path(__file__).parents[2] / "sweeps"
SHIPPED = sorted(path for path in SWEEPS.rglob("*.yaml"))
EXAMPLES = int(os.environ.get("RAYMC_FUZZ", "80"))
SHARED = SWEEPS.parents[1] / "shared"  # the sweeps name it from where they lie
LOCATED = re.compile(r".+:[1-9]\d*:[1-9]\d*: \S.*: \S.*")

WORDS = """full lora
builtin path hub grammar linear bezier fit steps 1e-4 auto adaptive bf16 all within differ [] {} ~ null
yes 0x10 .inf -.nan 2026-11-21 !!python/object:os.system &a *a <<: package:json/x ../../.. /dev/null s3://b/p
seeds.order train model.backbone axes zip"""
words = st.sampled_from(WORDS.split())
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    words,
    st.just("x" * 300),
    st.just(10**400),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words | st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def places(node: Any, path: tuple = ()) -> list[tuple]:
    """All paths to something inside a document."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [found for key, inner in items for found in ((*path, key), *places(inner, (*path, key)))]


def at(node: Any, path: tuple) -> Any:
    for key in path:
        node = node[key]
    return node


@st.composite
def specs(draw: st.DrawFn) -> str:
    """A shipped sweep with something changed in its tree, or in its text."""
    text = re.sub(r"(\.\./)+shared", str(SHARED), draw(st.sampled_from(SHIPPED)).read_text())
    if draw(st.booleans()):
        document = YAML(typ="safe").load(text)
        for _ in range(draw(st.integers(1, 3))):
            there = places(document)
            if not there:
                break
            *parent, key = draw(st.sampled_from(there))
            home = at(document, tuple(parent))
            change = draw(st.sampled_from(["set", "set", "drop", "rename", "add", "copy"]))
            if change == "set":
                home[key] = draw(values)
            elif change == "drop":
                del home[key]
            elif change == "rename" and isinstance(home, dict):
                home[draw(words) if draw(st.booleans()) else f"{key}s"] = home.pop(key)
            elif change == "add" and isinstance(home, dict):
                home[draw(words | st.text(max_size=6))] = draw(values)
            elif change == "copy":  # a part of the spec, somewhere else
                home[key] = copy.deepcopy(at(document, draw(st.sampled_from(there))))
        out = io.StringIO()
        YAML(typ="safe").dump(document, out)
        return out.getvalue()
    lines = text.split("\n")
    for _ in range(draw(st.integers(1, 3))):
        number = draw(st.integers(0, len(lines) - 1))
        line = lines[number]
        start, end = sorted((draw(st.integers(0, len(line))), draw(st.integers(0, len(line)))))
        put = draw(
            st.sampled_from(["", " ", "\t", ":", ": ", "- ", "[", "]", "{", "}", "'", '"', "#", "&x ", "*x", "\0"])
        )
        lines[number] = line[:start] + (put if draw(st.booleans()) else draw(st.text(max_size=3))) + line[end:]
    return "\n".join(lines)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzzed") / "sweep.yaml"


@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
@given(text=specs())
def test_any_spec_is_taken_or_its_faults_are_located(text: str, file: Path, capfd: pytest.CaptureFixture[str]):
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    capfd.readouterr()
    code = main(["validate", str(file)])
    said = capfd.readouterr().err
    lines = said.splitlines()
    assert (code, bool(lines)) in ((0, False), (2, True)), said
    assert all(LOCATED.fullmatch(line) for line in lines), said
    assert "Traceback" not in said
