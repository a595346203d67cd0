"""What a run's tracker does where it can't be made, or where what it showed is gone."""

from __future__ import annotations

from pathlib import Path

from raymc.specs.progress import Silent
from raymc.specs.sweep import SweepSpec
from raymc.store.identity import FILE
from raymc.store.store import Store
from raymc.sweep.results import Sweep, write_sweep
from raymc.sweep.tracking import Tracking

SPEC = SweepSpec.model_validate(
    {
        "name": "some",
        "model": {"backbone": {"builtin": "grammar-bert"}},
        "task": {"dataset": {"builtin": "grammar"}, "max_length": 16},
        "train": {"steps": 10},
        "axes": {"seeds.order": [0, 1]},
    }
)


class Told(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        self.lines.append(message)


def test_a_tracker_that_cannot_be_made_is_told_once_and_in_no_ones_way(tmp_path: Path):
    (tmp_path / FILE).write_text("{")
    told = Told()
    tracking = Tracking(SPEC, Store(tmp_path), None, told)
    tracking.watch()
    point = SPEC.points[0]
    tracking.minimum(point.trial.key, point)
    tracking.close()
    [line] = told.lines
    assert "storage.json can't be read" in line
    assert "results are in the store" in line


def test_what_was_shown_in_a_file_that_is_gone_is_shown_again(tmp_path: Path, monkeypatch):
    """As on another machine, where storage is remote and MLflow's file lay beside the first one's mirror."""
    shown: list[str] = []

    class Shower:
        def sync(self, view: object) -> str:
            shown.append("once more")
            return "run"

        def close(self) -> None: ...

    def opened(self: Tracking) -> Shower:
        self._uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
        return Shower()

    monkeypatch.setattr(Tracking, "open", opened)
    monkeypatch.setattr("raymc.sweep.view.sweep_view", lambda *_: None)
    store = Store(tmp_path)
    sweep: Sweep = write_sweep(store, SPEC, {}, {}, [])
    (tmp_path / "mlflow.db").write_text("")
    for _ in range(2):
        Tracking(SPEC, store, None, Silent()).sync(sweep, {})
    assert len(shown) == 1  # a receipt says that all is there
    (tmp_path / "mlflow.db").unlink()
    Tracking(SPEC, store, None, Silent()).sync(sweep, {})
    assert len(shown) == 2
