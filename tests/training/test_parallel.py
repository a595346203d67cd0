"""Workers that see different things, of which one fails: none does what the others don't, and none waits for ever."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_workers_do_what_the_first_sees(trial, tmp_path: Path):
    (tmp_path / "trial.json").write_text(trial().model_dump_json())
    script = Path(__file__).with_name("disagreement.py")
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", str(script), str(rank), str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    said = [process.communicate(timeout=200)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(said)[-4000:]
    for rank in range(2):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        assert found == {
            "agreed": {"rank": 0},
            "first": "storage is full",
            "together": "storage is full",
            "resumed": 3,
            "stored": True,
        }
