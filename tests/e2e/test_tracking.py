"""MLflow is a view: down, it loses nothing; back, the next run completes it, without a run too many."""

from __future__ import annotations

from pathlib import Path

import pytest

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow", "ignore:::sqlalchemy", "ignore:::alembic")

BACKBONES = 1
SMALL = ["--set", "axes={seeds.order: [1, 2]}", "--json"]


def runs(storage: Path):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{storage / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("raymc")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    parents = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in found if "mlflow.parentRunId" in run.data.tags]
    assert [run.data.tags["raymc.kind"] for run in children].count("backbone") == BACKBONES
    return client, parents, [run for run in children if run.data.tags["raymc.kind"] == "minimum"]


def test_a_dead_server_loses_nothing_and_the_next_run_completes_the_view(raymc, spec, tmp_path, monkeypatch):
    storage = tmp_path / "store"
    monkeypatch.setenv("RAYMC_TRACKING_WAIT", "1")
    spec.write_text(spec.read_text().replace("tracking: {", "tracking: {uri: 'http://person:hunter2@127.0.0.1:9', "))
    done = raymc("run", spec, "--storage", storage, *SMALL)
    assert done.code == 0, done.err
    assert "tracking: MLflow at http://127.0.0.1:9: connection refused; the sweep goes on" in done.err
    assert "for 1 s now; results are in the store, and the same command completes the view" in done.err
    assert "connection refused" in done.json["tracking_trouble"]
    written = [path for path in storage.rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()]
    assert not written
    assert "hunter2" not in done.out + done.err
    assert done.json["pairs"] == {"total": 1, "computed": 1, "reused": 0, "failed": 0}
    assert "tracking: " in done.err
    assert "Traceback" not in done.err
    assert "tracking" not in done.json

    here = ["--tracking", f"sqlite:///{storage / 'mlflow.db'}"]
    done = raymc("run", spec, "--storage", storage, *here, *SMALL)
    assert done.code == 0, done.err
    assert done.json["pairs"]["reused"] == 1
    client, parents, children = runs(storage)
    assert len(parents) == 1
    assert len(children) == 2
    assert {run.info.status for run in [*parents, *children]} == {"FINISHED"}
    parent = parents[0]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    files = {item.path for item in client.list_artifacts(parent.info.run_id)}
    flat = {
        path for item in files for path in [item, *(p.path for p in client.list_artifacts(parent.info.run_id, item))]
    }
    assert any(path.endswith(".png") and "matrix" in path for path in flat), flat
    assert any(path.endswith("spec.json") for path in flat), flat
    curve = client.get_metric_history(children[0].info.run_id, "train/loss")
    assert len(curve) >= 6
    assert children[0].data.params["train.learning_rate"] == "0.001"
    assert 0.0 <= children[0].data.metrics["validation/accuracy"] <= 1.0
