"""The MLflow tracker against a real sqlite MLflow and a real server."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from concurrent import futures
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType

from raymc.tracking import background, calls, records
from raymc.tracking.background import BackgroundTracker
from raymc.tracking.mlflow import MlflowTracker
from raymc.tracking.models import model_name
from raymc.tracking.tracker import (
    Away,
    DatasetView,
    MatrixView,
    MinimumView,
    SweepView,
    SystemSample,
    TrackingError,
)

NAN = float("nan")
OURS = "0" * 12  # the identity of the storage whose sweeps are shown


class Picture:
    """Stands for a figure."""

    def savefig(self, fname, **kwargs):
        Path(fname).write_bytes(b"picture")


def minimum(i: int, **changes) -> MinimumView:
    view = MinimumView(
        key=f"{i:020x}",
        name=f"order={i}",
        params={"train.learning_rate": 0.0003, "train.steps": 20, "seeds.order": i, "tuning.bias": True, "gone": None},
        axes={"seeds.order": i},
        metrics={"validation/loss": 0.4 + i / 100, "validation/accuracy": 0.8, "validation/odd": NAN},
        curve=[{"step": 10, "loss": 0.7, "learning_rate": 3e-4}, {"step": 20, "loss": 0.5, "learning_rate": 0.0}],
        uri=f"/store/minima/{i:020x}",
        seconds=12.5,
        datasets=(DatasetView("sst2", "0123", "/data/sst2"),),
    )
    return replace(view, **changes)


def sweep(name: str = "alpha", count: int = 2, **changes) -> SweepView:
    minima = changes.pop("minima", [minimum(i) for i in range(count)])
    keys = [view.key for view in minima]
    height = {(a, b): NAN if a == b else 0.1 * (keys.index(a) + keys.index(b)) for a in keys for b in keys}
    matrix = pd.DataFrame([[height[a, b] for b in keys] for a in keys], index=keys, columns=keys)
    view = SweepView(
        name=name,
        minima=minima,
        description="Does the data order matter?",
        axes={"seeds.order": list(range(len(keys)))},
        params={"train.learning_rate": 0.0003, "train.steps": 20},
        metrics={"validation/barrier_entezari_mean": 0.1 * len(keys), "minima": float(len(keys))},
        uri=f"/store/sweeps/{name}",
        matrices=[MatrixView("barrier.validation", matrix, "Entezari barrier", "nats", "max over t of the excess")],
        tables={"barriers.json": pd.DataFrame({"train.learning_rate": [0.1], "b": [2]})},
        texts={"spec.json": "{}"},
        figures={"heatmap.png": Picture},
        pages={"report.html": lambda: "<p>report</p>"},
        columns=("params.seeds.order", "metrics.validation/loss"),
    )
    return replace(view, **changes)


@pytest.fixture(scope="module")
def storage(tmp_path_factory, database) -> Path:
    """A storage with a blank in its name; each test has an experiment of its own in its database."""
    root = tmp_path_factory.mktemp("a storage")
    database(root / "mlflow.db")
    return root


@pytest.fixture
def tracker(storage, request):
    with contextlib.closing(MlflowTracker.under(storage, request.node.name, OURS)) as tracker:
        yield tracker


def runs(tracker: MlflowTracker, view: int = ViewType.ACTIVE_ONLY):
    """The sweep runs and, by key, the minima's runs of a tracker's experiment."""
    client = MlflowClient(tracker.uri)
    experiment = client.get_experiment_by_name(tracker.experiment)
    found = client.search_runs([experiment.experiment_id], run_view_type=view)
    parents = [run for run in found if run.data.tags["raymc.kind"] == "sweep"]
    minima = [run for run in found if run.data.tags["raymc.kind"] == "minimum"]
    assert len({(run.data.tags["raymc.sweep"], run.data.tags["raymc.minimum"]) for run in minima}) == len(minima)
    several = len({run.data.tags["raymc.sweep"] for run in minima}) > 1
    return parents, {
        (run.data.tags["raymc.sweep"] if several else "") + run.data.tags["raymc.minimum"]: run for run in minima
    }


def check(tracker: MlflowTracker, view: SweepView) -> None:
    """All that a synced view of `sweep()` should show, and no point of a curve twice."""
    client = MlflowClient(tracker.uri)
    [parent], minima = runs(tracker)
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["raymc.complete"] == view.digest
    assert parent.data.metrics == pytest.approx(dict(view.metrics))
    assert parent.data.params == {"train.learning_rate": "0.0003", "train.steps": "20"}
    assert set(minima) == {one.key for one in view.minima}
    for one in view.minima:
        run = minima[one.key]
        assert run.info.status == "FINISHED"
        assert run.info.end_time - run.info.start_time == 12500
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.metrics["train/loss"] == 0.5
        history = client.get_metric_history(run.info.run_id, "train/loss")
        assert [(point.step, point.value) for point in history] == [(10, 0.7), (20, 0.5)]
        assert len(client.get_metric_history(run.info.run_id, "validation/loss")) == 1
        assert len(run.inputs.dataset_inputs) == 1
        [model] = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run.info.run_id}'")
        assert [output.model_id for output in run.outputs.model_outputs] == [model.model_id]
        assert model.status == "READY"
        assert model.tags["raymc.uri"] == one.uri
        assert {metric.key: metric.value for metric in model.metrics or []} == {
            name: value for name, value in one.metrics.items() if value == value
        }
    files = {"spec.json", "barriers.json", "heatmap.png", "matrices", "report.html"}
    assert {entry.path for entry in client.list_artifacts(parent.info.run_id)} == files


def test_sync_shows_the_whole_sweep(tracker, storage):
    view = sweep()
    run_id = tracker.sync(view)
    check(tracker, view)
    [parent], minima = runs(tracker)
    assert parent.info.run_id == run_id
    assert parent.info.run_name == "alpha"
    assert parent.info.artifact_uri.startswith((storage / "mlartifacts").as_uri())
    note = parent.data.tags["mlflow.note.content"]
    links, headline = note.splitlines()[:2]  # what MLflow shows of a folded description
    assert links.startswith("[Report](")
    assert headline == "**2 minima, 1 pair.** Entezari barrier: mean 0.1, from 0.1 to 0.1 nats."
    assert "| 2: order=1" in note
    assert parent.data.tags["raymc.axis.seeds.order"] == "0, 1"
    assert [entry["path"] for entry in json.loads(parent.data.tags["mlflow.loggedArtifacts"])] == [
        "matrices/barrier.validation.json",
        "barriers.json",
    ]
    run = minima[minimum(1).key]
    assert run.info.run_name == "order=1"
    assert run.data.params == {
        "train.learning_rate": "0.0003",
        "train.steps": "20",
        "seeds.order": "1",
        "tuning.bias": "true",
    }
    assert set(run.data.metrics) == {"validation/loss", "validation/accuracy", "train/loss", "train/learning_rate"}
    assert run.data.tags["raymc.uri"] == minimum(1).uri
    folder = storage / "mlartifacts" / run_id / "artifacts"
    table = json.loads((folder / "matrices/barrier.validation.json").read_text())
    assert table == {
        "columns": ["minimum", "1", "2"],
        "data": [["1: order=0", "–", 0.1], ["2: order=1", 0.1, "–"]],
    }
    assert json.loads((folder / "barriers.json").read_text())["columns"] == ["train/learning_rate", "b"]
    kept = pd.read_csv(folder / "matrices/barrier.validation.csv", index_col="key", dtype={"key": str})
    pd.testing.assert_frame_equal(kept, view.matrices[0].values, check_names=False)


def test_a_second_sync_changes_nothing_and_draws_nothing(tracker, storage):
    address = tracker.sync(sweep())
    before = runs(tracker)

    def never():
        raise AssertionError("drawn again")

    again = MlflowTracker.under(storage, tracker.experiment, OURS)
    assert again.sync(sweep(figures={"heatmap.png": never})) == address
    after = runs(tracker)
    assert [run.to_dictionary() for run in before[0]] == [run.to_dictionary() for run in after[0]]
    assert {key: run.to_dictionary() for key, run in before[1].items()} == {
        key: run.to_dictionary() for key, run in after[1].items()
    }


def test_links_of_a_description_lead_to_its_own_run(tracker):
    run_id = tracker.sync(sweep())
    client = MlflowClient(tracker.uri)
    run = client.get_run(run_id)
    page = f"#/experiments/{run.info.experiment_id}/runs"
    note = run.data.tags["mlflow.note.content"]
    assert f"[Report]({page}/{run_id}/artifacts/report.html?" in note
    [link] = re.findall(r"\[Minima as a table\]\((\S+?)\?\S*viewStateShareKey=(\S+)\)", note)
    assert link[0] == page
    assert "EXPERIMENT" not in note
    tags = client.get_experiment(run.info.experiment_id).tags
    state = json.loads(tags[f"mlflow.sharedViewState.{link[1]}"])
    assert state["selectedColumns"] == ["params.`seeds.order`", "metrics.`validation/loss`"]
    found = client.search_runs([run.info.experiment_id], state["searchFilter"])
    assert {one.info.run_name for one in found} == {"order=0", "order=1"}


def test_the_models_of_minima_that_left_go_with_them(tracker):
    tracker.sync(sweep(count=3))
    client, [parent] = MlflowClient(tracker.uri), runs(tracker)[0]
    names = [model.name for model in client.search_logged_models([parent.info.experiment_id])]
    assert sorted(names) == ["alpha order=0", "alpha order=1", "alpha order=2"]
    tracker.sync(sweep())
    names = [model.name for model in client.search_logged_models([parent.info.experiment_id])]
    assert sorted(names) == ["alpha order=0", "alpha order=1"]


def test_a_mean_barrier_that_changes_is_right_in_the_run_and_in_its_model(tracker):
    first, second = ([minimum(i, metrics={"barrier_mean": height}) for i in range(2)] for height in (0.5, 0.7))
    tracker.sync(sweep(minima=first))
    tracker.sync(sweep(minima=second))
    run = runs(tracker)[1][minimum(0).key]
    assert run.data.metrics["barrier_mean"] == 0.7
    [model] = MlflowClient(tracker.uri).search_logged_models(
        [run.info.experiment_id], f"source_run_id = '{run.info.run_id}'"
    )
    assert max(model.metrics, key=lambda metric: metric.timestamp).value == 0.7


@pytest.mark.parametrize(
    ("name", "told"),
    [("learning_rate=0.001 order=1", "alpha learning_rate=0,001 order=1"), ('a/b: "c"', "alpha a-b- -c-")],
)
def test_names_of_models_are_acceptable(name, told):
    assert model_name(records.minimum_record(minimum(0, name=name), "alpha", OURS)) == told


def test_minima_show_while_the_sweep_runs(tracker):
    tracker.minimum("alpha", minimum(0))
    [parent], minima = runs(tracker)
    assert parent.info.status == "RUNNING"
    assert "running" in parent.data.tags["mlflow.note.content"]
    assert minima[minimum(0).key].info.status == "FINISHED"
    tracker.minimum("alpha", minimum(0))
    assert tracker.sync(sweep()) == parent.info.run_id
    check(tracker, sweep())


class Killed(BaseException):
    pass


class Mortal:
    """A client that dies right after its n-th call that changes something, counted from 0."""

    def __init__(self, client, left: int):
        self.client, self.left = client, left

    def __getattr__(self, name):
        function = getattr(self.client, name)
        return function if name.startswith(("get_", "search_", "list_")) else partial(self.change, function)

    def change(self, function, *arguments, **named):
        self.left -= 1
        result = function(*arguments, **named)
        if self.left < 0:
            raise Killed
        return result


def test_killed_after_any_call_the_next_sync_repairs_all(storage):
    for fatal in range(100):
        tracker = MlflowTracker.under(storage, f"killed after {fatal}", OURS)
        tracker.prepare()
        tracker._mlflow = Mortal(tracker._mlflow, fatal)
        try:
            tracker.minimum("alpha", minimum(0))
            tracker.sync(sweep())
        except Killed:
            MlflowTracker.under(storage, tracker.experiment, OURS).sync(sweep())
            check(tracker, sweep())
        else:
            break
    assert 15 < fatal < 99


def test_runs_made_twice_become_one(tracker):
    tracker.prepare()
    client, experiment = tracker._mlflow, tracker._experiment_id
    for _ in range(2):
        parent = client.create_run(experiment, tags=records.sweep_identity("alpha", OURS)).info.run_id
        tags = {**records.minimum_identity("alpha", OURS, minimum(0).key), "mlflow.parentRunId": parent}
        client.create_run(experiment, tags=tags, start_time=int(time.time() * 1000) - 12500)
    tracker.sync(sweep())
    check(tracker, sweep())


def test_a_sweep_that_grows_keeps_its_run(tracker):
    address = tracker.sync(sweep())
    assert tracker.sync(sweep(count=3)) == address
    check(tracker, sweep(count=3))
    [parent], _ = runs(tracker)
    assert parent.data.tags["raymc.axis.seeds.order"] == "0, 1, 2"


def test_what_mlflow_cannot_change_is_made_anew_and_the_old_run_can_be_restored(tracker):
    old = tracker.sync(sweep())
    MlflowClient(tracker.uri).set_tag(old, "mine", "a person's")
    new = tracker.sync(sweep(params={"train.steps": 40}))
    assert new != old
    [parent], minima = runs(tracker)
    assert parent.data.params == {"train.steps": "40"}
    assert parent.data.tags["mine"] == "a person's"
    assert {run.data.tags["mlflow.parentRunId"] for run in minima.values()} == {new}
    assert old in {run.info.run_id for run in runs(tracker, ViewType.DELETED_ONLY)[0]}


@pytest.mark.parametrize(
    "change",
    [
        {"metrics": {"another": 1.0}},
        {"tables": {}},
        {"figures": {}},
        {"texts": {"resolved.json": "{}"}, "pages": {}},
    ],
)
def test_what_a_view_has_no_more_goes(tracker, change):
    tracker.sync(sweep())
    view = sweep(**change)
    tracker.sync(view)
    [parent], _ = runs(tracker)
    assert set(parent.data.metrics) == set(view.metrics)
    names = {entry.path for entry in MlflowClient(tracker.uri).list_artifacts(parent.info.run_id)}
    assert names == {*view.tables, *view.texts, *view.figures, *view.pages, "matrices"}


def test_a_minimum_that_left_goes_and_a_curve_that_changed_is_whole(tracker):
    tracker.sync(sweep(count=3))
    other = minimum(1, curve=[{"step": 10, "loss": 0.9}, {"step": 20, "loss": float("inf")}])
    tracker.sync(sweep(minima=[minimum(0), other]))
    _, minima = runs(tracker)
    assert set(minima) == {minimum(0).key, other.key}
    history = MlflowClient(tracker.uri).get_metric_history(minima[other.key].info.run_id, "train/loss")
    assert [point.value for point in history] == [0.9]


def test_a_failed_minimum_says_why_and_may_finish_later(tracker):
    failed = minimum(1, status="failed", reason="the loss is not finite", metrics={}, curve=[])
    tracker.sync(sweep(minima=[minimum(0), failed], status="failed", reason="1 of 2 minima failed"))
    [parent], minima = runs(tracker)
    assert parent.info.status == minima[failed.key].info.status == "FAILED"
    assert minima[failed.key].data.tags["raymc.reason"] == "the loss is not finite"
    assert "**Failed.** the loss is not finite" in minima[failed.key].data.tags["mlflow.note.content"]
    tracker.sync(sweep())
    check(tracker, sweep())
    [parent], minima = runs(tracker)
    assert "raymc.reason" not in parent.data.tags
    assert "raymc.reason" not in minima[failed.key].data.tags


def test_two_sweeps_share_a_minimum(tracker):
    tracker.sync(sweep("alpha"))
    tracker.sync(sweep("beta", count=3))
    tracker.sync(sweep("alpha"))
    client = MlflowClient(tracker.uri)
    found = client.search_runs([tracker._experiment_id])
    assert Counter(run.data.tags["raymc.sweep"] for run in found) == {"alpha": 3, "beta": 4}


def test_sweeps_of_one_name_on_two_storages_keep_their_runs(storage):
    """Two people show a sweep of the same name in one experiment, before and while theirs runs."""
    alice, bob = (MlflowTracker.under(storage, "shared", whose) for whose in ("a" * 12, "b" * 12))
    one, other = sweep(count=3), sweep(uri="/bob/sweeps/alpha")
    kept = {alice.sync(one): "/store/sweeps/alpha"}
    bob.minimum("alpha", minimum(0))
    kept[bob.sync(other)] = "/bob/sweeps/alpha"
    assert alice.sync(one) in kept
    client = MlflowClient(alice.uri)
    found = client.search_runs([alice._experiment_id])
    assert {run.info.run_id: run.data.tags["raymc.uri"] for run in found if run.info.run_id in kept} == kept
    assert Counter(run.data.tags["raymc.storage"] for run in found) == {"a" * 12: 4, "b" * 12: 3}
    for run_id in kept:  # each page links a table of its own
        link = client.get_run(run_id).data.tags["mlflow.note.content"].split("viewStateShareKey=")[1].split(")")[0]
        state = client.get_experiment(alice._experiment_id).tags[f"mlflow.sharedViewState.{link}"]
        rows = client.search_runs([alice._experiment_id], json.loads(state)["searchFilter"])
        assert {row.data.tags["mlflow.parentRunId"] for row in rows} == {run_id}


def test_more_than_a_batch_holds(tracker):
    params = {f"p{i}": "x" * 700 if i == 0 else i for i in range(120)}
    curve = [{"step": step, "loss": 1 / step} for step in range(1, 2501)]
    big = minimum(0, params=params, curve=curve, tags={f"tag{i}": "y" for i in range(110)})
    tracker.sync(sweep(minima=[big, minimum(1)]))
    run = runs(tracker)[1][big.key]
    assert len(run.data.params) == 120
    assert len(run.data.params["p0"]) == records.PARAM_LENGTH
    assert len([name for name in run.data.tags if name.startswith("tag")]) == 110
    history = MlflowClient(tracker.uri).get_metric_history(run.info.run_id, "train/loss")
    assert [point.step for point in history] == list(range(1, 2501))


def test_batches_lose_nothing_and_keep_the_limits():
    sent = list(records.batches(list(range(2500)), list(range(120)), list(range(205))))
    for i, count in enumerate((2500, 120, 205)):
        assert [one for batch in sent for one in batch[i]] == list(range(count))
    assert all(len(m) <= 1000 and len(p) <= 100 and len(t) <= 100 for m, p, t in sent)
    assert all(len(m) + len(p) + len(t) <= 1000 for m, p, t in sent)


@pytest.mark.parametrize(
    ("name", "accepted"),
    [("a.b/c-d e:f_1", "a.b/c-d e:f_1"), ("f1@5 (%)", "f1_5 ___"), ("../x", "x"), ("a//b", "a/b"), ("", "_")],
)
def test_names_are_made_acceptable(name, accepted):
    assert records.accepted(name) == accepted


def test_names_and_texts_out_of_the_ordinary(tracker):
    odd = minimum(0, name="order='0' \"x\" | ü", params={"a[b]": "", "ü": "ö"}, metrics={"f1@5 (%)": 1.0})
    view = sweep("it's", minima=[odd, minimum(1)], description="a | b\n\n* c")
    assert tracker.sync(view) == tracker.sync(view)
    run = runs(tracker)[1][odd.key]
    assert run.data.params == {"a_b_": "", "ü": "ö"}
    assert run.data.metrics["f1_5 ___"] == 1.0


def test_passwords_reach_no_page(tracker, storage):
    uri = "s3://person:hunter2@bucket/store"
    odd = minimum(0, uri=uri, params={"place": uri}, tags={"t": uri}, datasets=(DatasetView("d", "1", uri),))
    run_id = tracker.sync(sweep(minima=[odd, minimum(1)], uri=uri, texts={"spec.json": json.dumps({"storage": uri})}))
    client = MlflowClient(tracker.uri)
    [parent], minima = runs(tracker)
    models = client.search_logged_models([parent.info.experiment_id])
    told = [str(one.to_dictionary()) for one in (parent, *minima.values(), *models)]
    told.append((storage / "mlartifacts" / run_id / "artifacts" / "spec.json").read_text())
    assert "s3://bucket/store" in told[-1]
    assert not [text for text in told if "hunter2" in text]


def test_what_another_run_of_the_sweep_finished_stays_finished(storage):
    tracker, other = (MlflowTracker.under(storage, "two at once", OURS) for _ in range(2))
    tracker.minimum("alpha", minimum(0))
    other.minimum("alpha", minimum(1))
    other.sync(sweep())
    tracker.close()
    check(tracker, sweep())


def test_closing_before_a_sync_leaves_no_run_open(storage):
    tracker = MlflowTracker.under(storage, "closed early", OURS)
    tracker.minimum("alpha", minimum(0))
    tracker.close()
    tracker.close()
    assert runs(tracker)[0][0].info.status == "KILLED"
    again = MlflowTracker.under(storage, "closed early", OURS)
    again.minimum("alpha", minimum(1))
    assert runs(tracker)[0][0].info.status == "RUNNING"
    again.sync(sweep())
    check(tracker, sweep())


def test_a_deleted_experiment_is_told(tracker):
    tracker.sync(sweep())
    MlflowClient(tracker.uri).delete_experiment(tracker._experiment_id)
    with pytest.raises(TrackingError, match=r"experiment 'test_a_deleted.*' was deleted: restore it"):
        tracker.sync(sweep())


def refuses(uri: str, match: str, within: float = 10.0) -> None:
    tracker = MlflowTracker(uri, "raymc", OURS)
    for call in (tracker.prepare, lambda: tracker.minimum("alpha", minimum(0)), lambda: tracker.sync(sweep())):
        begin = time.monotonic()
        with pytest.raises(TrackingError, match=match) as error:
            call()
        assert time.monotonic() - begin < within
        assert "\n" not in str(error.value)


def test_places_that_cannot_be_used(tmp_path, capfd):
    (tmp_path / "file").write_text("no database, and long enough to be taken for one" * 30)
    refuses(f"sqlite:///{tmp_path}/file", "file is not a database")
    refuses(f"sqlite:///{tmp_path}/file/mlflow.db", "[Nn]ot a directory")
    refuses("nonsense://somewhere", "nonsense")
    assert capfd.readouterr() == ("", "")


def test_a_server_that_is_down_or_silent(monkeypatch, capfd):
    monkeypatch.setattr(calls, "PROBE_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        refuses(f"http://person:secret@127.0.0.1:{port}", f"^MLflow at http://127.0.0.1:{port}: no answer in time", 5)
    refuses(f"http://127.0.0.1:{port}", "connection refused", 5)
    assert capfd.readouterr() == ("", "")


def test_two_processes_make_one_database_and_say_nothing(tmp_path):
    (tmp_path / "mlflow.db.new-1").write_text("left by a process that died")
    program = (
        f"from raymc.tracking.mlflow import MlflowTracker; MlflowTracker.under({str(tmp_path)!r}, 'x', '').prepare()"
    )
    command = [sys.executable, "-W", "error", "-c", program]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for _ in range(2)]
    assert [process.communicate(timeout=120)[0] for process in both] == [b"", b""]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db", "mlflow.db.lock"]


@contextlib.contextmanager
def serving(root: Path, port: int):
    """A real server on loopback; killed at the end."""
    arguments = ["--backend-store-uri", f"sqlite:///{root}/served.db", "--artifacts-destination", f"{root}/served"]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    log = (root / "server.log").open("ab")
    process = subprocess.Popen(
        [*command, *arguments], env={**os.environ, **quiet}, stdout=log, stderr=log, start_new_session=True
    )
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            assert process.poll() is None, (root / "server.log").read_text()
            time.sleep(0.1)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        log.close()


def test_a_server_that_dies_and_comes_back(tmp_path, database, monkeypatch):
    """Killed in mid-run and started again: what was asked for meanwhile arrives, once."""
    monkeypatch.setattr(background, "LONGEST_PAUSE", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    database(tmp_path / "served.db")
    uri, told = f"http://person:secret@127.0.0.1:{port}", []
    tracker, other = MlflowTracker(uri, "served", OURS), MlflowTracker(uri, "served", OURS)
    live = BackgroundTracker(other, told.append, patience=60)
    with serving(tmp_path, port):
        tracker.minimum("alpha", minimum(0))
        live.system("beta", SystemSample({"cpu_utilization_percentage": 50.0}, 1000, 0))
        live.minimum("beta", minimum(0))
        wait_for(lambda: len(runs(tracker)[1]) == 2)
    begin = time.monotonic()
    gone = r"connection (refused|reset|aborted)|end closed connection"
    with pytest.raises(Away, match=gone):
        tracker.minimum("alpha", minimum(1))
    with pytest.raises(Away, match=gone):
        tracker.sync(sweep())
    assert time.monotonic() - begin < 10
    live.minimum("beta", minimum(1))
    live.system("beta", SystemSample({"cpu_utilization_percentage": 60.0}, 2000, 1))
    wait_for(lambda: bool(told))
    with futures.ThreadPoolExecutor(1) as pool:
        synced = pool.submit(live.sync, sweep("beta"))
        wait_for(lambda: any("waiting for it" in line for line in told))
        assert not synced.done()
        with serving(tmp_path, port):
            synced.result(60)
            live.close()
            address = tracker.sync(sweep())
            beta = MlflowTracker(uri, "served", OURS)
            assert tracker.sync(sweep()) == address
            assert beta.sync(sweep("beta")) == synced.result()
            client = MlflowClient(f"http://127.0.0.1:{port}")
            parents, minima = runs(tracker)
            assert sorted(run.info.run_name for run in parents) == ["alpha", "beta"]
            assert len(minima) == 4
            [second] = [run for run in parents if run.info.run_name == "beta"]
            for key, run in minima.items():
                history = client.get_metric_history(run.info.run_id, "train/loss")
                assert [(point.step, point.value) for point in history] == [(10, 0.7), (20, 0.5)], key
                assert len(client.get_metric_history(run.info.run_id, "validation/loss")) == 1
            samples = client.get_metric_history(second.info.run_id, "system/cpu_utilization_percentage")
            assert [(point.step, point.value) for point in samples] == [(0, 50.0), (1, 60.0)]
            client.create_experiment("elsewhere", artifact_location="file:///no/such/folder")
            with pytest.raises(TrackingError, match="a folder of the server's"):
                MlflowTracker(uri, "elsewhere", OURS).sync(sweep())
            assert not Path("/no/such/folder").exists()  # nor was it made here
    assert told[-1].startswith("MLflow answers again, after ")
    [parent] = [run for run in parents if run.info.run_name == "alpha"]
    page = f"runs/{parent.info.run_id}?workflowType=machine_learning"
    assert address == f"http://127.0.0.1:{port}/#/experiments/{parent.info.experiment_id}/{page}"
    assert "secret" not in " ".join(
        [*told, address, *(str(run.to_dictionary()) for run in [*parents, *minima.values()])]
    )


def wait_for(condition, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
