"""Every sweep that ships is valid and names the schema; every command that the README shows can be parsed."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from raymc.cli import _parser, main
from raymc.specs.load import load_spec

ROOT = Path(__file__).parents[1]
SWEEPS = sorted((ROOT / "sweeps").rglob("*.yaml"))


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.name)
def test_it_reads_and_names_the_schema(path):
    spec = load_spec(path)
    assert spec.name == path.stem
    assert spec.points
    first = path.read_text().splitlines()[0]
    schema = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)
    assert schema, f"{path.name}: the first line should name the schema for editors"
    assert json.loads((path.parent / schema[1]).read_text())["title"] == "SweepSpec"


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.name)
def test_it_validates_and_can_be_planned(path, shared_data, tmp_path, capsys):
    assert main(["validate", str(path)]) == 0, capsys.readouterr().err
    assert main(["plan", str(path), "--json", "--storage", str(tmp_path / "store")]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["minima"]["done"] == plan["pairs"]["done"] == 0
    assert plan["estimate"]["basis"]


def commands() -> list[str]:
    text = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```(?:sh|bash|console)\n(.*?)```", text, re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.strip().removeprefix("$ ") for line in lines if "raymc " in line and not line.strip().startswith("#")]


@pytest.mark.parametrize("command", commands())
def test_commands_of_the_readme_parse(command):
    words = shlex.split(command, comments=True)
    start = next((i for i, word in enumerate(words) if word.rsplit("/", 1)[-1] == "raymc"), None)
    if start is None:
        pytest.skip("not a call of raymc")
    options = _parser().parse_args(words[start + 1 :])
    for path in [getattr(options, "spec", [])] if isinstance(getattr(options, "spec", None), str) else []:
        if path.startswith("sweeps/"):
            assert (ROOT / path).is_file()


def test_python_of_the_readme_runs_as_far_as_names_go():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        compile(block, "README.md", "exec")
