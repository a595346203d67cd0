"""Random kills over a sweep: python tests/chaos/chaos.py --kills 30 --seed 0 --minutes 30

Drivers, Tune trials, Ray Train workers, pool actors, raylets and the MLflow server are killed (SIGKILL) one after the
other, and what is needed is started again. Two sweeps are run in turn on new storages until there were enough kills:
`alone`, whose trials have one worker, and `two`, with two. Each must end as the undisturbed one did: see verdict.py.
Exit code 0: all did, 1: something differs, 2: out of time (the same command goes on, from what --folder keeps). Only
processes that this started are killed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from place import Place, running
from verdict import differences

SWEEPS = {
    "alone": ("model.backbone.seed: [1, 2]\n  seeds.order: [1, 2, 3]", 1),
    "two": ("seeds.order: [11, 12]", 2),
}
SPEC = """\
name: NAME
model:
  backbone:
    {builtin: grammar-bert, steps: 20, batch_size: 16, rows: 400, hidden_size: 16, heads: 2, intermediate_size: 32}
task:
  dataset: {builtin: grammar, train_rows: 200, validation_rows: 300, test_rows: 60}
  max_length: 32
train: {steps: 300, batch_size: 16, learning_rate: 1e-3, dropout: 0.0}
axes:
  AXES
connectivity: {points: 51, splits: [validation]}
failure: {checkpoint_every: 20, trial_retries: 1000, pair_retries: 1000}
resources: {trial: {workers: WORKERS}}
tracking: {log_every: 10}
"""
KINDS = {
    "Tune trial": r"^ray::.*(ImplicitFunc|tune_trial)",
    "Train worker": r"^ray::.*RayTrainWorker",
    "pool actor": r"^ray::EvaluatorActor",
}
MOST = {"training": 6, "evaluation": 4}  # kills of a round: it is to come to its end too
PATIENCE = 240.0  # seconds without anything to kill but the driver, after which something hangs


class Chaos:
    def __init__(self, folder: Path, seed: int, kills: int, minutes: float):
        self.folder, self.wanted, self.until = folder, kills, time.monotonic() + 60 * minutes
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / "state.json"
        known = json.loads(self._file.read_text()) if self._file.is_file() else {}
        self.kills: list[list[str]] = known.get("kills", [])  # [round, kind, phase]
        self.done: list[str] = known.get("done", [])  # rounds that ended
        self.wrong: list[str] = known.get("wrong", [])
        self.runs: int = known.get("runs", 0)
        self.random = random.Random(f"{seed}-{len(self.kills)}")

    def keep(self) -> None:
        state = {"kills": self.kills, "done": self.done, "wrong": self.wrong, "runs": self.runs}
        self._file.write_text(json.dumps(state, indent=1))

    def go(self) -> int:
        with Place(self.folder) as place:
            for sweep in SWEEPS:
                if f"undisturbed-{sweep}" not in self.done:
                    self.finish(place, "undisturbed", sweep)
            number = 0
            while len(self.kills) < self.wanted or any(one not in self.done for one, *_ in self.kills):
                sweep = list(SWEEPS)[number % 2]
                name = f"round{number}"
                number += 1
                if f"{name}-{sweep}" in self.done:
                    continue
                self.disturb(place, name, sweep)
                self.finish(place, name, sweep)
                found = differences(self.folder, place.tracking, name, sweep, exact=SWEEPS[sweep][1] == 1)
                self.wrong += [f"{name} ({sweep}): {one}" for one in found]
                self.keep()
        self.table()
        return 1 if self.wrong else 0

    def start(self, place: Place, name: str, sweep: str) -> subprocess.Popen[str]:
        spec = self.folder / f"{sweep}.yaml"
        axes, workers = SWEEPS[sweep]
        spec.write_text(SPEC.replace("NAME", sweep).replace("AXES", axes).replace("WORKERS", str(workers)))
        self.runs += 1
        log = (self.folder / f"{name}-{sweep}.log").open("a")
        where = ["--storage", str(self.folder / name), "--address", place.address, "--tracking", place.tracking]
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "raymc.cli", "run", str(spec), *where),
                *("--set", f"tracking.experiment={name}-{sweep}", "--json"),
            ],
            stdout=log,
            stderr=log,
            text=True,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        )

    def finish(self, place: Place, name: str, sweep: str) -> None:
        """Run to the end, undisturbed; the tracker is brought up to date then too."""
        place.mend()
        process = self.start(place, name, sweep)
        self.wait(process)
        if process.returncode:
            self.wrong.append(f"{name} ({sweep}): the last run ended with {process.returncode}")
        self.done.append(f"{name}-{sweep}")
        self.keep()

    def wait(self, process: subprocess.Popen[str]) -> None:
        try:
            process.wait(max(1.0, self.until - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.out_of_time(process)

    def out_of_time(self, process: subprocess.Popen[str]) -> None:
        process.kill()
        process.wait()
        self.keep()
        self.table()
        sys.exit(2)

    def disturb(self, place: Place, name: str, sweep: str) -> None:
        """Kill until the sweep is complete, or there were enough kills."""
        process = self.start(place, name, sweep)
        while len(self.kills) < self.wanted:
            kind, phase = self.moment(process, name, sweep)
            if kind is None:
                if process.returncode == 0:
                    return
                print(f"{name} {sweep}: a run ended with {process.returncode}, and is run again", flush=True)
                process = self.start(place, name, sweep)
                continue
            if kind == "driver":
                process.kill()
                process.wait()
            elif kind == "raylet":
                place.lose_machine(self.random)
            elif kind == "MLflow server":
                place.lose_server()
            else:
                with contextlib.suppress(Exception):  # it has just ended by itself
                    self.random.choice(running(KINDS[kind])).kill()
            self.kills.append([f"{name}-{sweep}", kind, phase])
            self.keep()
            print(f"kill {len(self.kills)}: {kind} ({name} {sweep}, {phase})", flush=True)
            time.sleep(self.random.uniform(0, 2))
            place.mend()
            if kind == "driver":
                process = self.start(place, name, sweep)
        process.kill()
        process.wait()

    def moment(self, process: subprocess.Popen[str], name: str, sweep: str) -> tuple[str | None, str]:
        """(What to kill now, the phase), a random while after something computes; None where the run ended."""
        since = time.monotonic()
        delay: float | None = None
        group = SWEEPS[sweep][1] > 1 and self.random.random() < 0.7  # wait for the workers, not only for their driver
        while process.poll() is None:
            if time.monotonic() > self.until:
                self.out_of_time(process)
            computing = [kind for kind, pattern in KINDS.items() if running(pattern)]
            phase = "evaluation" if "pool actor" in computing else "training"
            done = sum(one == f"{name}-{sweep}" and had == phase for one, _, had in self.kills)
            if group and computing == ["Tune trial"]:
                computing = []
            if computing and done >= MOST[phase]:
                since, delay = time.monotonic(), None
            elif computing and delay is None:
                delay = time.monotonic() + self.random.uniform(0, 6)
            if computing and delay is not None and time.monotonic() > delay:
                kinds = list(dict.fromkeys([*computing, "driver", "raylet", "MLflow server"]))
                counts = Counter(kind for _, kind, _ in self.kills)
                weights = [3.0 ** -(counts[kind] - min(counts[one] for one in kinds)) for kind in kinds]
                return self.random.choices(kinds, weights)[0], phase
            if time.monotonic() - since > PATIENCE:
                self.wrong.append(f"{name} ({sweep}): nothing computed for {PATIENCE:g} s")
                return "driver", phase
            time.sleep(0.2)
        return None, ""

    def table(self) -> None:
        counts = Counter(kind for _, kind, _ in self.kills)
        rounds = list(dict.fromkeys(one for one, *_ in self.kills))
        width = max(len(one) for one in ["rounds", *rounds])
        kinds = ["driver", *KINDS, "raylet", "MLflow server"]
        print("\n" + " " * width, *(f"{kind:>14}" for kind in kinds))
        for one in rounds:
            own = Counter(kind for name, kind, _ in self.kills if name == one)
            print(f"{one:{width}}", *(f"{own[kind]:14}" for kind in kinds), "" if one in self.done else "  (not ended)")
        print(f"{'all':{width}}", *(f"{counts[kind]:14}" for kind in kinds))
        for one in self.wrong:
            print(f"DIFFERS {one}")
        print(
            f"{len(self.kills)} kills, {self.runs} runs: {'WRONG' if self.wrong else 'nothing wrong, lost or doubled'}"
        )


@contextlib.contextmanager
def arguments() -> Iterator[argparse.Namespace]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/raymc-chaos"))
    yield parser.parse_args()


if __name__ == "__main__":
    with arguments() as options:
        sys.exit(Chaos(options.folder.resolve(), options.seed, options.kills, options.minutes).go())
