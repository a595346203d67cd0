"""Every sweep that ships is valid and names the schema; every command that the README shows can be parsed."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from raymc.cli import main, parser
from raymc.specs import content
from raymc.specs.content import backbone_folder
from raymc.specs.load import load_spec
from raymc.specs.sweep import SweepSpec
from raymc.specs.task import HubDataset
from raymc.specs.text import HubText, TextBackbone

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "sweeps"
SWEEPS = sorted(FOLDER.rglob("*.yaml"))


def label(path: Path) -> str:
    return path.relative_to(FOLDER).with_suffix("").as_posix()


def on_the_hub(spec: SweepSpec) -> bool:
    tasks = [*(point.trial.task for point in spec.points), *(rows.task for rows in spec.row_sets)]
    models = [point.trial.model for point in spec.points]
    return (
        any(isinstance(task.dataset, HubDataset) for task in tasks)
        or any(
            isinstance(model.backbone, TextBackbone) and isinstance(model.backbone.text, HubText) for model in models
        )
        or any(isinstance(model.backbone, str) and backbone_folder(model) is None for model in models)
    )


@pytest.mark.parametrize("path", SWEEPS, ids=label)
def test_it_reads_and_names_the_schema(path):
    spec = load_spec(path)
    assert spec.name == label(path).replace("/", "-")  # paper and small may share a storage
    assert spec.points
    assert spec.description
    first = path.read_text().splitlines()[0]
    schema = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)
    assert schema, f"{path.name}: the first line should name the schema for editors"
    assert json.loads((path.parent / schema[1]).read_text())["title"] == "SweepSpec"


def test_the_schema_is_the_present_one(capsys):
    assert main(["schema"]) == 0
    assert (FOLDER / "sweep.schema.json").read_text() == capsys.readouterr().out, (
        "raymc schema > sweeps/sweep.schema.json"
    )


def test_the_reference_is_the_code_s(capsys: pytest.CaptureFixture[str]):
    assert main(["schema", "--markdown"]) == 0
    assert (FOLDER / "REFERENCE.md").read_text() == capsys.readouterr().out, (
        "raymc schema --markdown > sweeps/REFERENCE.md"
    )


@pytest.mark.parametrize("path", SWEEPS, ids=label)
def test_it_validates_and_can_be_planned(path, request, tmp_path, monkeypatch, capsys):
    spec = load_spec(path)
    if on_the_hub(spec):  # as if the hub had answered with a commit; nothing of it is fetched for a plan
        monkeypatch.setattr(content, "hub_commit", lambda repo, revision, kind: "0" * 40)
    else:
        request.getfixturevalue("shared_data")
    assert main(["validate", str(path)]) == 0, capsys.readouterr().err
    assert main(["plan", str(path), "--json", "--storage", str(tmp_path / "store")]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["minima"]["done"] == plan["pairs"]["done"] == 0
    assert plan["pairs"]["total"] > 0
    assert plan["estimate"]["basis"]


def test_the_table_names_every_sweep_of_the_paper():
    text = (FOLDER / "README.md").read_text()
    linked = set(re.findall(r"\]\(((?:paper|small)/[^)]+\.yaml)\)", text))
    assert linked == {f"{label(path)}.yaml" for path in SWEEPS if path.parent != FOLDER}


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
    options = parser().parse_args(words[start + 1 :])
    path = getattr(options, "spec", None)
    if isinstance(path, str) and path.startswith("sweeps/"):
        assert (ROOT / path).is_file()


def test_python_of_the_readme_runs_as_far_as_names_go():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        compile(block, "README.md", "exec")
