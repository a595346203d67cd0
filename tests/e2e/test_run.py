"""The main job on a real local Ray: run, run again, grow, show, damage."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import raymc as library
from raymc.store.store import Store


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_sweep_from_yaml_to_matrix(raymc, spec, tmp_path):
    storage = tmp_path / "store"
    first = raymc("run", spec, "--storage", storage, "--json", all_cpus=True)
    assert first.code == 0, first.err
    assert first.json["minima"] == {"total": 4, "computed": 4, "reused": 0, "failed": 0}
    assert first.json["pairs"] == {"total": 6, "computed": 6, "reused": 0, "failed": 0}
    assert {"name", "storage", "seconds"} <= set(first.json)
    assert "Traceback" not in first.err

    home = storage / "sweeps" / "tiny"
    minima, profiles, barriers = (pd.read_parquet(home / f"{n}.parquet") for n in ("minima", "profiles", "barriers"))
    assert list(minima.columns) == [
        *("key", "uri", "name", "trajectory", "model.backbone.seed", "seeds.order"),
        *(
            "validation_loss",
            "validation_accuracy",
            "validation_f1_macro",
            "validation_calibration_error",
            "test_loss",
            "test_accuracy",
            "test_f1_macro",
            "test_calibration_error",
        ),
        "below_floor",
    ]
    assert {"a", "b", "curve", "split", "t", "loss", "accuracy", "f1_macro"} <= set(profiles.columns)
    assert len(profiles) == 6 * 2 * 5
    assert (profiles["a"] < profiles["b"]).all()
    ends = minima.set_index("key")
    for row in profiles[profiles["t"] == 0.0].itertuples():
        assert row.loss == ends.loc[row.a, f"{row.split}_loss"]
    for row in profiles[profiles["t"] == 1.0].itertuples():
        assert row.loss == ends.loc[row.b, f"{row.split}_loss"]
    one = barriers.iloc[0]
    path = profiles[(profiles["a"] == one.a) & (profiles["b"] == one.b) & (profiles["split"] == one.split)]
    chord = (1 - path["t"]) * path["loss"].iloc[0] + path["t"] * path["loss"].iloc[-1]
    assert one.barrier_entezari == pytest.approx(max(0.0, float((path["loss"] - chord).max())), abs=1e-12)

    # Each endpoint was evaluated once per split, and no process of ours is left behind in the store.
    store, groups = Store(storage), list((storage / "evaluations").glob("*"))
    assert [len(store.records("evaluations", group.name)) for group in groups] == [4, 4]
    assert not list((storage / ".tmp").iterdir())
    assert not list((storage / "checkpoints").glob("*"))

    # Again: nothing is computed, Ray isn't started, and the answer comes at once.
    again = raymc("run", spec, "--storage", storage, "--json")
    assert again.code == 0, again.err
    assert again.json["minima"] == {"total": 4, "computed": 0, "reused": 4, "failed": 0}
    assert again.json["pairs"] == {"total": 6, "computed": 0, "reused": 6, "failed": 0}
    assert again.json["seconds"] < 3

    # A value more on an axis: only what is new.
    before = (home / "profiles.parquet").read_bytes()
    plan = raymc("plan", spec, "--storage", storage, "--set", "axes.seeds.order=[1,2,3]", "--json")
    assert json.loads(plan.out)["minima"] == {"total": 6, "done": 4}
    assert json.loads(plan.out)["pairs"] == {"total": 15, "done": 6}
    assert json.loads(plan.out)["forward_passes"] == 2 * (2 + 9 * 3)
    grown = raymc("run", spec, "--storage", storage, "--set", "axes.seeds.order=[1,2,3]", "--json")
    assert grown.code == 0, grown.err
    assert grown.json["minima"] == {"total": 6, "computed": 2, "reused": 4, "failed": 0}
    assert grown.json["pairs"] == {"total": 15, "computed": 9, "reused": 6, "failed": 0}

    # From Python.
    sweep = library.open_sweep("tiny", storage=str(storage))
    matrix = sweep.matrix(curve="linear", split="test", value="barrier_ainsworth")
    assert matrix.shape == (6, 6)
    assert np.allclose(matrix, matrix.T, equal_nan=True)
    assert np.isnan(np.diag(matrix)).all()

    # Damage: in a minimum's weights, a profile and a table. Each is found, set aside and made anew, the same.
    back = raymc("run", spec, "--storage", storage, "--json")
    assert (home / "profiles.parquet").read_bytes() == before
    key = minima["key"][0]
    flip(storage / "minima" / key / "model.safetensors")
    flip(next((storage / "profiles").glob("*/*")))
    flip(home / "barriers.parquet")
    with pytest.raises(library.RaymcError, match=r"barriers\.parquet"):
        library.open_sweep("tiny", storage=str(storage)).barriers()
    mended = raymc("run", spec, "--storage", storage, "--json")
    assert mended.code == 0, mended.err
    assert mended.json["minima"]["computed"] == 1
    assert "set aside" in mended.err
    assert key in mended.err
    assert (home / "profiles.parquet").read_bytes() == before
    assert list((storage / "set-aside").iterdir())
    assert back.code == 0


def test_lora_in_merged_weights_with_a_trial_that_cannot_work(raymc, spec, pretrained):
    """What fails is reported and the rest is kept. Without tracking."""
    lora = ["tuning={method: lora, rank: 2}", "axes={train.learning_rate: [1e-3, 1e30], tuning.rank: [2, 3]}"]
    arguments = [part for one in (*lora, "tracking.enabled=false") for part in ("--set", one)]
    done = raymc("run", spec, "--storage", pretrained, "--json", *arguments)
    assert done.code == 3, done.err
    assert done.json["minima"] == {"total": 4, "computed": 2, "reused": 0, "failed": 2}
    assert done.json["pairs"] == {"total": 6, "computed": 1, "reused": 0, "failed": 5}
    assert "lr=1e+30" in done.err
    assert "not finite" in done.err
    assert not (pretrained / "mlflow.db").exists()

    # From Python, where what works is finished: no Ray is started.
    lora[1] = "axes={tuning.rank: [2, 3]}"
    whole = library.load_spec(spec, [*lora, "train.learning_rate=1e-3", "tracking.enabled=false"])
    sweep = library.run(whole, storage=str(pretrained))
    assert sweep.result["pairs"] == {"total": 1, "computed": 0, "reused": 1, "failed": 0}
    assert sweep.profiles()["t"].tolist() == [0.0, 0.25, 0.5, 0.75, 1.0] * 2
    assert set(sweep.barriers()["space"]) == {"delta_w"}
    # Ranks differ: their factors can't be joined, which is said before anything runs.
    factors = [part for one in (*lora, "connectivity.space=factors") for part in ("--set", one)]
    done = raymc("run", spec, "--storage", pretrained, "--json", *factors)
    assert done.code == 2, done.err
    assert "unlike shapes or scales" in done.err
