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
        (["--storage", "ftp://bucket/x"], "a folder, or one of s3://, gs://"),
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
        env={
            "PATH": "/usr/bin:/bin",
            "RAY_gcs_rpc_server_connect_timeout_s": "1",
            "RAY_py_gcs_connect_timeout_s": "1",  # of each try
            "RAY_NUM_REDIS_GET_RETRIES": "1",
        },
    )
    assert done.returncode == 4, done.stderr
    assert "Ray 127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr


def test_show_of_what_was_never_run(spec, tmp_path, capsys):
    assert main(["show", "nothing", "--storage", str(tmp_path / "store")]) == 2
    assert "no finished run of sweep 'nothing'" in faults(capsys)[0]


@pytest.fixture
def shown(tmp_path):
    """A storage with the sweep `three`: pairs 0-1 and 0-2 are selected, and minimum 2 is below the floor."""
    from raymc.report.frames import MinimumRow, PairNote, barriers_frame, minima_frame, profiles_frame
    from raymc.specs.results import Evaluation, Profile
    from raymc.specs.sweep import SweepSpec
    from raymc.store.store import Store
    from raymc.sweep.results import write_sweep

    numbers = {"rows": 4, "tokens": 9, "seconds": 0.1, "device": "cpu"}
    shared = {f"{name}_{end}": (0.25,) * 3 for name in ("agreement", "jensen_shannon") for end in "ab"}
    spec = SweepSpec.model_validate(
        {
            "name": "three",
            "model": {"backbone": {"builtin": "grammar-bert"}},
            "task": {"dataset": {"builtin": "grammar"}},
            "axes": {"seeds.order": [1, 2, 3]},
            "connectivity": {"points": 3, "rows": False, "floor": {"value": 0.6}},
        }
    )
    keys = [f"{i:020x}" for i in range(3)]
    minima = [
        MinimumRow(key, f"/s/{key}", f"order={i + 1}", key, {"seeds.order": i + 1}, below_floor=i == 2)
        for i, key in enumerate(keys)
    ]
    evaluations = {
        (key, "validation"): Evaluation(
            minimum=key,
            weights="w",
            split="validation",
            loss=1.0,
            metrics={"accuracy": 0.75 - i / 8},
            row_file="f",
            **numbers,
        )
        for i, key in enumerate(keys)
    }
    profiles = [
        Profile(
            a=keys[0],
            b=keys[i],
            a_weights="w",
            b_weights="w",
            curve="linear",
            space="weights",
            split="validation",
            t=(0.0, 0.5, 1.0),
            loss=(1.0, 1.0 + i, 1.0),
            metrics={"accuracy": (0.75, 0.5, 0.75), **shared},
            length=(0.0, 1.0, 2.0),
            intervals={"barrier_entezari": (0.5, 1.5)},
            p_value=0.02,
            distance_l2=2.0,
            cosine=0.5,
            **numbers,
        )
        for i in (1, 2)
    ]
    tables = {
        "minima": minima_frame(minima, spec.axis_names, evaluations, ["validation"], ["accuracy"]),
        "profiles": profiles_frame(profiles, ["accuracy", *shared]),
        "barriers": barriers_frame(profiles, lambda a, b: PairNote("seeds.order", below_floor=b == keys[2])),
    }
    store = Store(tmp_path / "store")
    store.prepare()
    write_sweep(store, spec, tables, {"minima": {}, "pairs": {}}, [])
    return store.uri


def test_show_prints_the_matrix_then_the_conclusions(shown, capsys):
    assert main(["show", "three", "--storage", shown]) == 0
    out = capsys.readouterr().out
    assert "* below the floor (accuracy at least 0.6 on the first split): shown, but in no conclusion" in out
    assert "· no value: 1 of 3 pairs are not selected or not there" in out
    assert out.count("order=3 *") == 2
    assert "2.0000" in out
    assert out.index("Entezari barrier (nats): linear path") < out.index("Barriers by difference")
    row = next(line for line in out.splitlines() if "seeds.order" in line)
    assert [cell.strip() for cell in row.strip("│ ").split("│")] == [
        *("seeds.order", "1", "1", "1", "1", "1", "1", "0.25", "2", "0.75", "0.5", "0.5")
    ]
    assert main(["show", "three", "--storage", shown, "--by", "seeds.order"]) == 0
    assert "│ 1 | 2" in capsys.readouterr().out
    assert main(["show", "three", "--storage", shown, "--by", "seeds.oder"]) == 2
    out, err = capsys.readouterr()
    assert "has no axis 'seeds.oder' (it has seeds.order)" in err
    assert not out
    assert main(["show", "three", "--storage", shown, "--floor"]) == 0
    out = capsys.readouterr().out
    assert "2.0000" not in out
    assert "· no value: 2 of 3 pairs" in out


def test_show_names_what_every_number_is(shown, capsys):
    """Its definition, split, curve and space: of the minima, of the matrix, and of the conclusions."""
    from raymc.report.values import VALUES

    for value in ("barrier_entezari", "convexity_gap", "p_holm"):
        assert main(["show", "three", "--storage", shown, "--value", value]) == 0
        out = capsys.readouterr().out
        minima, rest = out.split(f"{VALUES[value][0]} ({VALUES[value][1]}): ")
        matrix, conclusions = rest.split("Barriers by difference: ")
        assert "mean cross-entropy (loss, nats) and metrics (fractions) on every row of the split" in minima
        assert "validation loss" in minima
        lines = [line.strip() for line in matrix.splitlines()]
        assert lines[:2] == ["linear path in the space of weights, 3 points, validation split", VALUES[value][2]]
        assert conclusions.startswith("linear path, space of weights, validation split\n")
        for name in ("barrier_entezari", "barrier_frankle", "distance_l2"):
            assert VALUES[name][2] in conclusions


def test_analyze_prints_sections_that_say_what_they_are(shown, capsys):
    assert main(["analyze", "three", "--storage", shown]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Barriers: linear path, space of weights, validation split\n")
    assert "max over t of L(t) - ((1 - t) L(0) + t L(1))" in out
    assert "95 % interval over evaluation rows" in out
    assert "1.0000 [0.5000," in out
    assert "order=1" in out
    assert main(["analyze", "three", "--storage", shown, "--rows", "1"]) == 0
    assert "the first 1 of 2 lines; --rows 2 or --json has all" in capsys.readouterr().out
    assert main(["analyze", "three", "--storage", shown, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["name"] == "three"
    (section,) = answer["sections"]
    assert (section["curve"], section["split"], section["space"]) == ("linear", "validation", "weights")
    names = ("barrier_entezari", "barrier_entezari_low", "barrier_entezari_high", "p_holm")
    found = [[row[name] for name in names] for row in section["table"]]
    assert found == [[2.0, 0.5, 1.5, 0.02], [1.0, 0.5, 1.5, 0.02]]  # one is below the floor, so each is adjusted alone
    assert [row["below_floor"] for row in section["table"]] == [True, False]
    assert section["table"][0]["barrier_frankle_low"] is None
    assert section["figures"]["pairs"] == section["figures"]["left_out"] == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--curve", "bezier"], "sweep three has no curve 'bezier' (it has linear)"),
        (["--split", "test"], "sweep three has no split 'test' (it has validation)"),
        (["--value", "hight"], "sweep three has no value 'hight' (it has barrier_entezari, "),
    ],
)
def test_analyze_of_what_a_sweep_does_not_have(shown, capsys, arguments, words):
    assert main(["analyze", "three", "--storage", shown, *arguments]) == 2
    (line,) = faults(capsys)
    assert line.startswith(words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--minimum", "order=1", "--t", "0.5"], "t doesn't go with minimum"),
        (["--path", "order=1", "order=2", "--member", "order=3"], "members doesn't go with path"),
        (["--soup", "uniform", "--merged"], "merged doesn't go with soup"),
        (["--soup", "uniform", "--choose", "test"], "no row set 'test' (it has validation)"),
    ],
)
def test_export_of_what_can_t_be_made(shown, tmp_path, capsys, arguments, words):
    out = tmp_path / "out"
    assert main(["export", "three", "--storage", shown, *arguments, "-o", str(out)]) == 2
    (line,) = faults(capsys)
    assert words in line
    assert not out.exists()


def test_show_as_json(shown, capsys):
    assert main(["show", "three", "--storage", shown, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["split"] == "validation"
    assert answer["matrix"] == [[None, 1.0, 2.0], [1.0, None, None], [2.0, None, None]]
    assert [one["below_floor"] for one in answer["minima"]] == [False, False, True]
    assert [one["name"] for one in answer["minima"]] == ["order=1", "order=2", "order=3"]
    (summary,) = answer["summary"]
    assert summary["differs"] == "seeds.order"
    assert (summary["pairs"], summary["left_out"], summary["barrier_mean"]) == (1, 1, 1.0)
    assert answer["floor"] == {"metric": "accuracy", "value": 0.6, "split": None}
    assert main(["show", "three", "--storage", shown, "--json", "--floor"]) == 0
    assert json.loads(capsys.readouterr().out)["matrix"] == [[None, 1.0, None], [1.0, None, None], [None, None, None]]


def test_show_of_what_a_sweep_does_not_have(shown, capsys):
    assert main(["show", "three", "--storage", shown, "--split", "test"]) == 2
    assert faults(capsys) == ["sweep three has no split 'test' (it has validation)"]
    assert main(["show", "three", "--storage", shown, "--value", "hight"]) == 2
    assert "it has barrier_entezari" in faults(capsys)[0]


def test_show_of_tables_of_an_older_version(shown, capsys):
    import hashlib

    import pandas as pd

    home = Path(shown) / "sweeps" / "three"
    table = pd.read_parquet(home / "minima.parquet").drop(columns=["name", "trajectory", "below_floor"])
    table.to_parquet(home / "minima.parquet", index=False)
    hashes = json.loads((home / "MANIFEST.json").read_text())
    hashes["minima.parquet"] = hashlib.sha256((home / "minima.parquet").read_bytes()).hexdigest()
    (home / "MANIFEST.json").write_text(json.dumps(hashes))
    assert main(["show", "three", "--storage", shown]) == 2
    assert faults(capsys) == ["sweep three was written by an older raymc; `raymc run` makes its tables anew"]


def test_pairs_are_checked_at_validate_with_their_place(spec, capsys):
    spec.write_text(
        spec.read_text() + "connectivity:\n  pairs: {differ: seeds.init}\n  floor: {value: 1, metric: f1}\n"
    )
    assert main(["validate", str(spec)]) == 2
    lines = sorted(faults(capsys))
    assert lines[0].startswith(f"{spec}:10:21: connectivity.floor.metric: no metric 'f1' (there are loss, accuracy, ")
    assert lines[1].startswith(
        f"{spec}:9:11: connectivity.pairs.differ.0: no pair: all minima have the same seeds.init"
    )


def test_several_specs_and_a_file_that_is_not_there(spec, tmp_path, capsys):
    assert main(["validate", str(spec), str(tmp_path / "none.yaml")]) == 2
    assert faults(capsys) == [f"{tmp_path / 'none.yaml'}:1:1: spec: no such file"]


BOTH = ["export", "x", "--minimum", "a", "--soup", "uniform", "-o", "out"]


@pytest.mark.parametrize(
    "arguments",
    [[], ["nonsense"], ["validate"], ["run", "x.yaml", "--nonsense"], ["export", "x", "-o", "out"], BOTH, BOTH[:4]]
    + [["analyze", "x", "--rows", rows] for rows in ("0", "all")],
)
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
