"""The command line's contract: exit codes, one line a fault, no traceback, no heavy imports where none are needed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from raymc.cli import main

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "ray", "mlflow", "transformers", "peft", "datasets", "pandas", "matplotlib")


@pytest.fixture
def spec(make_dataset, tmp_path):
    """A valid spec on a local dataset and the built-in backbone."""
    make_dataset("data", train=8, validation=4)
    path = tmp_path / "spec.yaml"
    path.write_text(
        "name: one\n"
        "model: {backbone: {builtin: grammar-bert}}\n"
        "task:\n"
        "  dataset: {path: data}\n"
        "  max_length: 32\n"
        "axes:\n"
        "  seeds.order: [1, 2, 3]\n"
    )
    return path


def faults(capsys) -> list[str]:
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()


def test_a_valid_spec_says_nothing(spec, capsys):
    assert main(["validate", str(spec)]) == 0
    assert faults(capsys) == []


def test_json_of_validate(spec, capsys):
    assert main(["validate", str(spec), "--json", "--set", "train.stpes=3"]) == 2
    answer = json.loads(capsys.readouterr().out)
    assert answer["valid"] is False
    assert answer["faults"][0]["path"] == "train.stpes"
    assert main(["validate", str(spec), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"valid": True, "faults": []}


@pytest.mark.parametrize(
    ("change", "line", "column", "path", "words"),
    [
        (("max_length: 32", "max_length: 33"), 5, 3, "task.max_length", "33 tokens are more than the 32"),
        (("order", "ordr"), 7, 3, "axes.seeds.ordr", "did you mean seeds.order?"),
        (("path: data", "path: dta"), 4, 13, "task.dataset.path", "no file or folder"),
        (("task:\n", "task:\n  text: body\n"), 4, 3, "task.text", "no column 'body' (it has text, label)"),
        (("task:\n", "task:\n  labels: [pos, other]\n"), 4, 3, "task.labels", "'neg', which is not among pos, other"),
        (("task:\n", "task:\n  train_split: trian\n"), 4, 3, "task.train_split", "it has test, train, validation"),
        (
            ("axes:", "connectivity: {splits: [validation, dev]}\naxes:"),
            6,
            37,
            "connectivity.splits.1",
            "no split 'dev'",
        ),
        (("builtin: grammar-bert", "builtin: grammar-brt"), 2, 29, "model.backbone.builtin", "grammar-bert"),
        (("{builtin: grammar-bert}", "./nothing"), 2, 9, "model.backbone", "no folder"),
        (("{builtin: grammar-bert}", "./data"), 2, 9, "model.backbone", "no checkpoint: it has no config.json"),
        (("{builtin: grammar-bert}", "package:not_there/model"), 2, 9, "model.backbone", "is not installed"),
        (("[1, 2, 3]", "[]"), 7, 16, "axes.seeds.order", "empty"),
        (
            ("axes:", "train: {batch_size: 1}\nresources: {trial: {workers: 2}}\naxes:"),
            6,
            9,
            "train.batch_size",
            "2 workers",
        ),
    ],
)
def test_faults_are_found_at_validate_with_their_place(spec, make_dataset, capsys, change, line, column, path, words):
    text = spec.read_text()
    assert change[0] in text
    (spec.parent / "data" / "test.jsonl").write_text('{"text": "a", "label": "pos"}\n')
    spec.write_text(text.replace(*change))
    assert main(["validate", str(spec)]) == 2
    first = faults(capsys)[0]
    assert first.startswith(f"{spec}:{line}:{column}: {path}: "), first
    assert words in first


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ('{"text": "a", "label": "x"}\n{"text": "b", "label": "x"}\n', "one label only: 'x'"),
        ('{"text": "a", "label": "x"}\n{"label": "y"}\n', "row 2 has no 'text'"),
        ("", "empty"),
        ('{"text": "a", "label": "x"\n', "line 1 is no JSON"),
    ],
)
def test_bad_rows_are_found_at_validate(spec, capsys, rows, words):
    (spec.parent / "data" / "train.jsonl").write_text(rows)
    assert main(["validate", str(spec)]) == 2
    lines = faults(capsys)
    assert len(lines) == 1
    assert words in lines[0]
    assert re.match(rf"{re.escape(str(spec))}:\d+:\d+: task\.", lines[0])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "resources.trial.workers=64"], "64 workers of 1 CPU can't be placed"),
        (["--set", "resources.evaluator.actors=64"], "64 actors of 1 CPU can't be placed"),
        (["--storage", "{spec}/store"], "can't be written"),
        (["--storage", "s3://bucket/x"], "only a local or shared folder"),
    ],
)
def test_what_can_never_run_is_refused_at_once(spec, capsys, arguments, words):
    arguments = [part.format(spec=spec) for part in arguments]
    if "--storage" not in arguments:
        arguments += ["--storage", str(spec.parent / "store"), "--set", "train.batch_size=64"]
    assert main(["run", str(spec), *arguments]) == 2
    lines = faults(capsys)
    assert len(lines) == 1
    assert words in lines[0]


def test_a_cluster_that_is_not_there(spec, tmp_path):
    done = subprocess.run(
        [*(sys.executable, "-m", "raymc.cli", "run", spec, "--storage", tmp_path / "s"), "--address", "127.0.0.1:9"],
        capture_output=True,
        text=True,
        timeout=120,
        env={"PATH": "/usr/bin:/bin", "RAY_gcs_rpc_server_connect_timeout_s": "1", "RAY_NUM_REDIS_GET_RETRIES": "1"},
    )
    assert done.returncode == 2, done.stderr
    assert "Ray 127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr


def test_show_of_what_was_never_run(spec, tmp_path, capsys):
    assert main(["show", "nothing", "--storage", str(tmp_path / "store")]) == 2
    assert "no finished run of sweep 'nothing'" in faults(capsys)[0]


def test_several_specs_and_a_file_that_is_not_there(spec, tmp_path, capsys):
    assert main(["validate", str(spec), str(tmp_path / "none.yaml")]) == 2
    assert faults(capsys) == [f"{tmp_path / 'none.yaml'}:1:1: spec: no such file"]


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["validate"], ["run", "x.yaml", "--nonsense"]])
def test_usage_errors_exit_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert capsys.readouterr().err


def test_the_schema_beside_the_sweeps_is_the_schema(capsys):
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((ROOT / "sweeps" / "sweep.schema.json").read_text())


@pytest.mark.parametrize("verb", ["validate {spec}", "plan {spec} --json", "schema", "--help"])
def test_light_verbs_load_nothing_heavy(spec, verb):
    code = (
        "import sys\nfrom raymc.cli import main\n"
        f"try: main({verb.format(spec=spec).split()!r})\nexcept SystemExit: pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr.strip() == "[]"


def test_importing_the_package_loads_nothing():
    code = (
        "import sys, raymc; print([n for n in sys.modules if n.split('.')[0] in ('pydantic', 'torch', 'ray', 'numpy')])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
