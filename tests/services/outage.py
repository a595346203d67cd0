"""The same sweep on a folder, and on an S3 server with MLflow on PostgreSQL, all stopped for a while in mid-run.

    python tests/services/outage.py FOLDER [--seconds 60] [SPEC.yaml]

The servers are stopped when the first minimum is whole, and started again. Prints what each run came to, whether the
profiles are equal, value for value, and what was computed more than once. Exit code 1 where they differ.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import postgres
import s3

SPEC = """\
name: outage
model:
  backbone:
    {builtin: grammar-bert, steps: 20, batch_size: 16, rows: 400, hidden_size: 16, heads: 2, intermediate_size: 32}
task:
  dataset: {builtin: grammar, train_rows: 200, validation_rows: 60, test_rows: 60}
  max_length: 32
train: {steps: 40, batch_size: 16, learning_rate: 1e-3, dropout: 0.1}
axes:
  model.backbone.seed: [1, 2]
  seeds.order: [1, 2]
connectivity: {points: 5, splits: [validation, test]}
failure: {checkpoint_every: 10}
tracking: {log_every: 2}
"""
BUCKET, URI = "sweeps", "s3://sweeps/group"


def start(spec: Path, environment: dict[str, str], *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "raymc.cli", "run", str(spec), "--json", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment})


def result(process: subprocess.Popen[str], what: str) -> dict[str, Any]:
    out, _ = process.communicate()
    body = json.loads(out.strip().splitlines()[-1])
    said = {name: body[name] for name in ("minima", "pairs", "seconds", "stages", "failures")}
    print(f"{what}: exit {process.returncode}: {json.dumps(said)}", flush=True)
    return body


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("spec", type=Path, nargs="?")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the servers are away")
    asked = parser.parse_args()
    folder = asked.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    spec = asked.spec or folder / "outage.yaml"
    if asked.spec is None:
        spec.write_text(SPEC)
    # The sweep on a folder, undisturbed.
    local = result(start(spec, {}, "--storage", str(folder / "folder")), "folder")

    server = s3.S3().start()
    server.make_bucket(BUCKET)
    os.environ.update(server.environment)
    with contextlib.ExitStack() as stack:
        stack.callback(server.stop)
        database = stack.enter_context(postgres.postgres(folder / "postgres"))
        address = stack.enter_context(postgres.mlflow(database.uri, folder, postgres.free_port()))
        options = ("--storage", URI, "--tracking", address)
        return compare(spec, folder, server, database, options, local["name"], asked.seconds)


def compare(
    spec: Path, folder: Path, server: s3.S3, database: Any, options: tuple[str, ...], name: str, seconds: float
) -> int:
    import pandas as pd

    from raymc.store import layout
    from raymc.store.objects import Objects

    objects = Objects(URI)
    process = start(spec, {"RAYMC_CACHE": str(folder / "first")}, *options)
    while not (first := objects.list(f"{layout.MANIFESTS}/{layout.MINIMA}")) and process.poll() is None:
        time.sleep(0.1)
    server.stop()
    database.stop()
    print(f"the servers are stopped; {len(first)} minima are whole", flush=True)
    time.sleep(seconds)
    assert process.poll() is None, "the run ended while the servers were away"
    database.start()
    server.start()
    print(f"the servers are there again, after {seconds:g} s", flush=True)
    result(process, "S3 and PostgreSQL")
    result(start(spec, {"RAYMC_CACHE": str(folder / "second")}, *options), "again, on another machine")

    there = pd.read_parquet(folder / "folder" / layout.SWEEPS / name / "profiles.parquet")
    remote = pd.read_parquet(io.BytesIO(objects.get(f"{layout.SWEEPS}/{name}/profiles.parquet") or b""))
    same = there.equals(remote)
    kinds = (layout.MINIMA, layout.BACKBONES, layout.CHECKPOINTS, layout.SET_ASIDE)
    print(f"profiles: {len(there)} rows, equal: {same}")
    print("objects:", {kind: len(objects.folders(kind)) for kind in kinds})
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
