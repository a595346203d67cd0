"""Workers that see different things, of which one fails: none does what the others don't, and none waits for ever."""

from __future__ import annotations

import json
from pathlib import Path


def test_workers_do_what_the_first_sees(trial, two_run, tmp_path: Path):
    (tmp_path / "trial.json").write_text(trial().model_dump_json())
    two_run("disagreement.py", tmp_path)
    for rank in range(2):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        assert found == {
            "agreed": {"rank": 0},
            "first": "RaymcError: a bad disk",
            "together": "RaymcError: a bad disk",
            "storage": "StorageFault: machine node1: Read-only file system",
            "resumed": 3,
            "stored": True,
        }
