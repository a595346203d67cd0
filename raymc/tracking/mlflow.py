"""Sweeps in MLflow: one parent run a sweep, one nested run a minimum, found by tags and made right in place.

MLflow can't change a param, remove a metric or delete a file. Where that would be needed, a run is made anew and the
old one moves to MLflow's trash, from where it can be restored; tags that people set move along.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from raymc.tracking import records
from raymc.tracking.artifacts import artifact_names, write_artifacts
from raymc.tracking.calls import calling, is_web, quieten, reach, settle, shown
from raymc.tracking.database import make_database, sqlite_path
from raymc.tracking.experiment import experiment_id
from raymc.tracking.models import models_of, put_model
from raymc.tracking.notes import running_note
from raymc.tracking.records import COMPLETE, CURVE, KIND, MINIMUM, STORAGE, SWEEP, Record
from raymc.tracking.runs import beyond_repair, is_right, oldest, quoted, reachable_files, source
from raymc.tracking.table import SHARED, TRAINING_MODE, table_key, table_state
from raymc.tracking.tracker import MinimumView, SweepView, SystemSample, TrackingError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PARENT = "mlflow.parentRunId"
NOTE = "mlflow.note.content"
TABLES = "mlflow.loggedArtifacts"


class MlflowTracker:
    """Shows sweeps in one MLflow experiment. Its methods raise TrackingError, and never wait long for a dead server."""

    def __init__(self, uri: str, experiment: str, storage: str, artifact_root: str | Path | None = None):
        """`storage`: the identity of the storage whose sweeps these are; others may show theirs in the same place.

        `artifact_root`: where a new experiment keeps its files; left out: beside a sqlite file, else as the server
        decides.
        """
        self.uri, self.experiment, self._storage = uri, experiment, storage
        self._database = sqlite_path(uri)
        if artifact_root is None and self._database is not None:
            artifact_root = self._database.parent / "mlartifacts"
        self._artifact_root = artifact_root.absolute().as_uri() if isinstance(artifact_root, Path) else artifact_root
        self._mlflow: MlflowClient | None = None
        self._experiment_id = ""
        self._parents: dict[str, str] = {}  # of sweeps that are shown live: name to run id
        self._open: set[str] = set()  # runs that this tracker opened and hasn't finished
        self.beats = 0

    @classmethod
    def under(cls, folder: str | Path, experiment: str, storage: str) -> MlflowTracker:
        """The default place of a storage folder: mlflow.db and mlartifacts/ inside it."""
        root = Path(folder).absolute()
        return cls(f"sqlite:///{root / 'mlflow.db'}", experiment, storage, root / "mlartifacts")

    @property
    def where(self) -> str:
        """What a person opens or types to look."""
        return shown(self.uri) if is_web(self.uri) else f"mlflow ui --backend-store-uri {shown(self.uri)}"

    # The protocol ------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Reach the place, make its schema where it is a new database, find or make the experiment."""
        settle()
        with calling(self.uri):
            reach(self.uri)
            from mlflow import MlflowClient

            quieten()
            if self._database is not None:
                make_database(self._database, str(self._artifact_root))
            self._mlflow = self._mlflow or MlflowClient(self.uri)
            self._experiment_id = experiment_id(self._mlflow, self.experiment, self._artifact_root, shown(self.uri))

    def minimum(self, sweep: str, view: MinimumView) -> None:
        with self._under(sweep) as parent:
            record = records.minimum_record(view, sweep, self._storage)
            self._put(record, self._find(record.identity), parent=parent)

    def system(self, sweep: str, sample: SystemSample) -> None:
        with self._under(sweep) as parent:
            from mlflow.entities import Metric

            some = [Metric(f"system/{name}", x, sample.at, sample.step) for name, x in sample.values.items()]
            self._client.log_batch(parent, some)

    @contextlib.contextmanager
    def _under(self, sweep: str) -> Iterator[str]:
        """Calls of one kind, once the server is reached; the id of the sweep's run, opened where it isn't yet."""
        if self._mlflow is None:
            self.prepare()
        with calling(self.uri):
            reach(self.uri)
            if sweep not in self._parents:
                self._parents[sweep] = self._open_parent(sweep)
            yield self._parents[sweep]

    def sync(self, view: SweepView) -> str:
        self.prepare()
        with calling(self.uri):
            parents, minima = self._runs_of(view.name)
            record = records.sweep_record(view, self._storage)
            parent = oldest(parents)
            right = parent is not None and is_right(parent, record)
            if parent is None or not right:
                stray = set() if parent is None else self._files(parent.info.run_id) - artifact_names(view)
                parent = self._renew(parent, record, anew=bool(stray))
            self._trash(parents, keep=parent)
            for minimum in (*view.minima, *view.backbones):
                child = records.minimum_record(minimum, view.name, self._storage)
                self._put(child, minima.pop(minimum.key, []), parent.info.run_id)
            for left in minima.values():
                self._trash(left)
            if not right:
                self._fill(parent, records.placed(record, self._page(parent)))
                self._put_artifacts(parent, view)
                self._put_table(view)
                self._finish(parent, record)
            self._parents.pop(view.name, None)
            return self._address(parent)

    def close(self) -> None:
        """Mark runs that were opened and never finished as killed; another run of the sweep may have finished them."""
        if not self._open:
            return
        with calling(self.uri):
            reach(self.uri)
            for run_id in sorted(self._open):
                info = self._client.get_run(run_id).info
                if info.status == "RUNNING" and info.lifecycle_stage == "active":
                    self._client.set_terminated(run_id, "KILLED")
                self._open.discard(run_id)
            self._parents.clear()

    # Runs --------------------------------------------------------------------------------------------------------

    @property
    def _client(self) -> MlflowClient:
        assert self._mlflow is not None
        return self._mlflow

    def _open_parent(self, sweep: str) -> str:
        identity = records.sweep_identity(sweep, self._storage)
        found = oldest(self._find(identity))
        if found is None:
            tags = {**identity, **source(), NOTE: running_note()}
            found = self._client.create_run(self._experiment_id, tags=tags, run_name=sweep)
        elif found.info.status != "RUNNING":
            self._client.update_run(found.info.run_id, status="RUNNING")
        self._open.add(found.info.run_id)
        return found.info.run_id

    def _put(self, record: Record, found: Sequence[Run], parent: str) -> None:
        """Make one minimum's run complete and right."""
        self.beats += 1
        run = oldest(found)
        if run is None or not is_right(run, record):
            run = self._renew(run, record, parent)
            self._fill(run, record)
            self._finish(run, record)
        elif run.data.tags.get(PARENT) != parent:
            self._client.set_tag(run.info.run_id, PARENT, parent)
        self._trash(found, keep=run)

    def _renew(self, run: Run | None, record: Record, parent: str | None = None, anew: bool = False) -> Run:
        """The run to fill: the one found, where it can still become right; else a new one with its tags."""
        if run is not None and not anew and not beyond_repair(run, record):
            self._open.add(run.info.run_id)
            if record.points and CURVE not in run.data.tags:
                self._client.set_tag(run.info.run_id, CURVE, record.curve_digest)
            if parent is not None and run.data.tags.get(PARENT) != parent:
                self._client.set_tag(run.info.run_id, PARENT, parent)
            if run.info.run_name != record.name:
                self._client.update_run(run.info.run_id, name=record.name)
            return run
        tags = {**record.identity, **source()}
        if record.points:
            tags[CURVE] = record.curve_digest
        if parent is not None:
            tags[PARENT] = parent
        if run is not None:
            tags |= {name: v for name, v in run.data.tags.items() if not name.startswith(records.OWN_TAGS)}
        start = None if record.seconds is None else round((time.time() - record.seconds) * 1000)
        new = self._client.create_run(self._experiment_id, start_time=start, tags=tags, run_name=record.name)
        self._open.add(new.info.run_id)
        if run is not None:
            self._trash([run])
        return new

    def _fill(self, run: Run, record: Record) -> None:
        """Send what the run lacks. Curve points carry times derived from the run's start, so sending twice is once."""
        from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

        run_id, begin = run.info.run_id, run.info.start_time
        now = max(round(time.time() * 1000), begin)
        held, tagged = run.data.metrics, run.data.tags
        points = [Metric(p.name, p.value, begin + p.offset, p.step) for p in record.points]
        model = None
        if record.model and self._takes_files(run):
            model = put_model(self._client, self._experiment_id, run_id, record)
        finals = [
            Metric(k, v, now, record.step_of(k), model_id=model, run_id=run_id)
            for k, v in record.metrics.items()
            if held.get(k) != v
        ]
        params = [Param(name, value) for name, value in record.params.items() if name not in run.data.params]
        tags = [RunTag(name, value) for name, value in record.tags.items() if tagged.get(name) != value]
        for metrics, some_params, some_tags in records.batches(points + finals, params, tags):
            self._client.log_batch(run_id, metrics, some_params, some_tags, synchronous=True)
            self.beats += 1
        for name in tagged:
            ours = name.startswith("raymc.") and name not in (*record.identity, COMPLETE, CURVE)
            if ours and name not in record.tags:
                self._client.delete_tag(run_id, name)
        if record.datasets:
            inputs = [
                DatasetInput(
                    Dataset(data.name[:500], data.digest[:36], "local", json.dumps({"uri": shown(data.uri)})),
                    [InputTag("mlflow.data.context", data.context)],
                )
                for data in record.datasets
            ]
            self._client.log_inputs(run_id, inputs)

    def _finish(self, run: Run, record: Record) -> None:
        """The last two marks of a run: how it ended, and that it holds all of its view."""
        run_id = run.info.run_id
        end = None if record.seconds is None else run.info.start_time + round(record.seconds * 1000)
        if run.info.status != record.status or run.info.end_time is None:
            self._client.set_terminated(run_id, record.status, end_time=end)
        self._client.set_tag(run_id, COMPLETE, record.digest)
        self._open.discard(run_id)

    def _put_artifacts(self, run: Run, view: SweepView) -> None:
        if not self._takes_files(run):
            raise TrackingError(
                f"MLflow at {shown(self.uri)}: experiment {self.experiment!r} keeps files in {run.info.artifact_uri}, "
                "a folder of the server's; serve it with --artifacts-destination, or name another tracking.experiment"
            )
        with tempfile.TemporaryDirectory(prefix="raymc-tracking-") as folder:
            tables = write_artifacts(view, Path(folder))
            self.beats += 1
            for entry in sorted(Path(folder).iterdir()):
                self._client.log_artifact(run.info.run_id, str(entry))
                self.beats += 1
        self._client.set_tag(run.info.run_id, TABLES, tables)

    def _takes_files(self, run: Run) -> bool:
        return not is_web(self.uri) or reachable_files(str(run.info.artifact_uri))

    def _files(self, run_id: str, folder: str | None = None) -> set[str]:
        found: set[str] = set()
        for entry in self._client.list_artifacts(run_id, folder):
            found |= self._files(run_id, entry.path) if entry.is_dir else {entry.path}
        return found

    # Finding -----------------------------------------------------------------------------------------------------

    def _find(self, identity: dict[str, str]) -> list[Run]:
        query = " and ".join(f"tags.`{name}` = {quoted(value)}" for name, value in identity.items())
        found, token = [], None
        while True:
            page = self._client.search_runs([self._experiment_id], query, max_results=1000, page_token=token)
            found += page
            token = page.token
            if not token:
                return found

    def _runs_of(self, sweep: str) -> tuple[list[Run], dict[str, list[Run]]]:
        """A sweep's parent runs and, by key, the runs of its minima; more than one where creation was cut off."""
        parents: list[Run] = []
        minima: dict[str, list[Run]] = {}
        for run in self._find({SWEEP: sweep, STORAGE: self._storage}):
            if run.data.tags.get(KIND) == "sweep":
                parents.append(run)
            elif MINIMUM in run.data.tags:
                minima.setdefault(run.data.tags[MINIMUM], []).append(run)
        return parents, minima

    def _trash(self, runs: Sequence[Run], keep: Run | None = None) -> None:
        for run in runs:
            if (keep is None or run.info.run_id != keep.info.run_id) and run.info.lifecycle_stage == "active":
                if run.data.tags.get(KIND) != "sweep":
                    for model in models_of(self._client, self._experiment_id, run.info.run_id):
                        self._client.delete_logged_model(model)
                self._client.delete_run(run.info.run_id)
                self._open.discard(run.info.run_id)
                run.info._lifecycle_stage = "deleted"

    def _address(self, run: Run) -> str:
        if not is_web(self.uri):
            return run.info.run_id
        return f"{shown(self.uri).rstrip('/')}/{self._page(run)}{TRAINING_MODE}"

    def _page(self, run: Run) -> str:
        return f"#/experiments/{self._experiment_id}/runs/{run.info.run_id}"

    def _put_table(self, view: SweepView) -> None:
        """A table of the sweep's minima with the columns that tell most, as a view that a link opens."""
        state = json.dumps(table_state(view.name, self._storage, view.columns))
        key = table_key(view.name, self._storage)
        self._client.set_experiment_tag(self._experiment_id, f"{SHARED}{key}", state)
