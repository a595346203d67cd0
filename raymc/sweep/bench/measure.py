"""The benchmark from its first to its last measurement."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from statistics import mean, median

import torch

from raymc.connectivity.precision import device_name
from raymc.connectivity.tiles import fewest_loads
from raymc.specs.errors import RaymcError
from raymc.specs.progress import Progress, Silent
from raymc.specs.sweep import SweepSpec
from raymc.sweep.bench.beside import beside
from raymc.sweep.bench.exactness import Against, against, decided, rounded
from raymc.sweep.bench.exhaustive import Compared, Exhaustive, task_of
from raymc.sweep.bench.figures import Asked, Report, count_of
from raymc.sweep.bench.machine import machine, peak_memory
from raymc.sweep.bench.overhead import trained
from raymc.sweep.bench.place import Place, hold
from raymc.sweep.bench.scaling import counts_of, scaled
from raymc.sweep.bench.source import builtin, train_builtin
from raymc.sweep.bench.writing import written
from raymc.sweep.calibration import Calibration
from raymc.sweep.calibration import write as write_calibration
from raymc.sweep.check import Locate, check, open_store, trials_by_key, unlocated
from raymc.tasks import backbones

_TOLERANCE = 1e-3  # nats, of adaptive profiles of a sweep that has none
_FEWEST = 4  # interior points of a profile that stands for a longer one


def bench(
    spec: SweepSpec | None,
    asked: Asked | None = None,
    *,
    storage: str | None = None,
    progress: Progress | None = None,
    locate: Locate = unlocated,
    name: str = "SPEC",
) -> Report:
    """Measure on this machine with a sweep's finished minima (None: with a built-in model's, trained just now).

    The storage's results stay as they are; a calibration for plans is written there. `name`: the spec's, for messages.
    Raises RaymcError where there is nothing to measure.
    """
    asked = asked or Asked()
    with tempfile.TemporaryDirectory(prefix="raymc-bench-") as home:
        return _Bench(spec, asked, storage, progress or Silent(), locate, name, Path(home)).go()


class _Bench:
    def __init__(
        self,
        spec: SweepSpec | None,
        asked: Asked,
        storage: str | None,
        progress: Progress,
        locate: Locate,
        name: str,
        home: Path,
    ):
        self.spec, self.asked, self.progress, self.home = spec or builtin(), asked, progress, home
        backbones.quiet()
        check(self.spec, locate)
        self.points = trials_by_key(self.spec, locate)
        wanted = self.spec.resources.evaluator
        self.device = "cuda" if torch.cuda.is_available() and wanted.gpus != 0 else "cpu"
        self.threads = asked.threads or max(1, int(wanted.cpus))
        if spec is None:
            storage = storage or str(home / "builtin")
        self.store = open_store(self.spec, storage, write=spec is None)
        self.made_here, self.named = spec is None, name
        self.report = Report()

    def go(self) -> Report:
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            if self.made_here:
                self.progress.say("a built-in model is trained, as no sweep was named")
                train_builtin(self.spec, self.store)
            self._measure()
            if self.asked.training:
                self._training()
        finally:
            torch.set_num_threads(before)
        return self.report

    def _measure(self) -> None:
        asked, spec, report = self.asked, self.spec, self.report
        pairs = asked.pairs or (1 if asked.quick else 2)
        place = self.place = Place(spec, self.points, self.store, self.home / "pairs", pairs, self.device, self.named)
        points = asked.points or spec.connectivity.point_count
        self.tasks = [
            task_of(task, _shorter(points) if asked.quick else points) for task in place.tasks(3, None, "fp32")
        ]
        report.about = {"machine": machine(self.device), **place.about(self.tasks[0])}
        load, cpus = report.about["machine"]["load_before"], report.about["machine"]["cpus"]
        if load is not None and load > cpus / 2:
            report.notes.append(f"the machine was busy (load {load:g} on {cpus} CPUs): ratios of wall time say little")
        self.progress.say("exhaustive profiles beside bare forward passes")
        compared, one = beside(report, place, self.tasks[0], asked.rounds)
        if self.device != "cpu":  # what it is for
            (task, *_) = place.tasks(points, None, "bf16")
            beside(report, place, task_of(task, self.tasks[0].points), asked.rounds)
        whole = [(self.tasks[0], min(compared.evaluator, key=lambda taken: taken.wall), compared.profiles)]
        for task in self.tasks[1:]:
            ends = place.ends(one.evaluator, task)
            hold(one.evaluator, task)
            taken, profiles = one.clock.of(lambda task=task, ends=ends: place.score(one.evaluator, task, ends))
            whole.append((task, taken, profiles))
        self.progress.say("adaptive profiles, and bfloat16")
        tolerance = spec.connectivity.tolerance or _TOLERANCE
        adaptive = against(place, one.evaluator, place.tasks(points, tolerance, "fp32"), whole)
        self._against("adaptive", adaptive, f"at {tolerance:g} nats, fp32")
        found = rounded(place, one.evaluator, self.tasks[0], asked.quick)
        report.raw["bf16"] = found.as_dict()
        said = f"{len(found.off)} passes of each, in turn"
        report.add("bf16 speed", found.faster("wall"), "x", f"fp32 seconds / bf16 seconds a pass; {said}")
        report.add("bf16 drift", found.drift, "nats", "largest |loss - that in fp32| of them, all rows")
        own, precision, reason = adaptive, *decided(place, found)
        if precision != "fp32" or spec.connectivity.tolerance is None or points != spec.connectivity.point_count:
            own_tasks = place.tasks(spec.connectivity.point_count, spec.connectivity.tolerance, precision)
            own = against(place, one.evaluator, own_tasks, whole)
        self._against("own settings", own, f"as the sweep has it: {_how(spec)}, {precision} ({reason})")
        stages = self._stages(one, compared)
        report.about["chosen"] = dict(one.evaluator.running.chosen)
        self._memory_and_scaling(one, compared)
        self._calibrate(compared, stages, own, precision)

    # Parts ----------------------------------------------------------------------------------------------------------

    def _against(self, name: str, found: Against, how: str) -> None:
        report = self.report
        report.raw[name.replace(" ", "_")] = found.as_dict()
        over = count_of(len(found.seconds), "pair")
        report.add(f"{name} passes", mean(found.passes), "a path", f"interior, a row set, the mean; {over}; {how}")
        report.add(f"{name} speed", found.faster, "x", f"exhaustive fp32 seconds / its seconds, whole pairs; {over}")
        report.add(
            f"{name} difference", max(found.off), "nats", f"largest |loss - exhaustive fp32| at {found.shared} points"
        )
        if name == "adaptive":
            report.add("adaptive within bound", found.held, "", "share of profiles whose bound held at those points")

    def _stages(self, one: Exhaustive, compared: Compared) -> dict[str, float]:
        self.progress.say("stage by stage, and what is written")
        report, place = self.report, self.place
        found = one.stages(compared.profiles)
        by = "wall" if self.device != "cpu" else "cpu"
        summed = sum(getattr(found[name], by) for name in ("interpolate", "forward", "reduce", "write"))
        whole = median(getattr(taken, by) for taken in compared.evaluator)
        stages = {name: taken.wall for name, taken in found.items()}
        shown = written(place, self.home / "written", self.tasks[0], compared.profiles)
        total, points = place.known.total_pairs(), self.tasks[0].points - 2
        resources = place.spec.resources.evaluator
        room = max(2, int(resources.cache // report.about["endpoint_bytes"]))
        loads = fewest_loads(total, len(self.points), room) / max(1, total)
        kept = "rows and records" if place.spec.connectivity.rows else "records"
        pair = {
            "load": (stages["load"] * loads, f"{stages['load']:.2g} s an endpoint, {loads:.2g} a pair in this sweep"),
            "interpolate": (stages["interpolate"], f"{stages['interpolate'] / points:.2g} s a point"),
            "forward": (stages["forward"], f"{stages['forward'] / points:.2g} s a point"),
            "reduce": (stages["reduce"], "losses, metrics, bootstrap"),
            "write": (shown.write / shown.pairs, f"{kept} of {count_of(shown.pairs, 'pair')}"),
        }
        spent = sum(seconds for seconds, _ in pair.values())
        report.raw["stages"] = {
            "seconds_per_pair": {name: seconds for name, (seconds, _) in pair.items()},
            "loads_per_pair": loads,
            "once": {name: asdict(taken) for name, taken in found.items()},
            "written": asdict(shown),
        }
        for name, (seconds, how) in pair.items():
            report.add(f"stage {name}", seconds, "s a pair", f"{100 * seconds / spent:.1f} %; {how}")
        share = shown.log / (shown.log + spent * shown.pairs)
        how = f"one sync with MLflow, {shown.pairs} pairs; {100 * share:.1f} % beside their other stages on one worker"
        report.add("stage log", shown.log, "s a run", how)
        clocked = "processor time" if by == "cpu" else "wall time"
        report.add("stages of a pair", summed / whole, "", f"interpolate to write / a pair as it is scored, {clocked}")
        return stages

    def _memory_and_scaling(self, one: Exhaustive, compared: Compared) -> None:
        report, place = self.report, self.place
        counts = counts_of(self.asked.actors)
        if max(counts) == 1:
            report.raw["peak_bytes"] = peak_memory(self.device)
            how = "this process, with the model of the bare passes beside the evaluator's"
            report.add("peak memory", report.raw["peak_bytes"] / 2**20, "MiB", how)
            report.notes.append("scaling isn't measured with one actor")
            return
        self.progress.say(f"{max(counts)} actors")
        ends = [place.ends(one.evaluator, task) for task in self.tasks]
        seconds = median(taken.wall for taken in compared.evaluator) / (compared.passes // len(self.tasks[0].splits))
        found = scaled(place, self.tasks, ends, counts, seconds, min(2, self.asked.rounds))
        report.raw["scaling"] = found.as_dict()
        for count in counts[1:]:
            how = f"passes a second of {count} actors at once / of one, one thread each; {found.passes} passes each"
            report.add(f"{count} actors over 1", found.over_one(count), "x", how)
        report.add("peak memory", max(found.found.peak) / 2**20, "MiB", "an actor's, exhaustive fp32")

    def _calibrate(self, compared: Compared, stages: dict[str, float], own: Against, precision: str) -> None:
        """For plans and simulations of this sweep: fp32 in whole profiles, and the sweep's own settings last."""
        if self.made_here:
            return
        tokens = mean(profile.tokens for profile in compared.profiles)
        splits = len(self.tasks[0].splits)
        inside, each = mean(own.inside) / splits, mean(own.passes)
        found = Calibration(
            device=device_name(self.device),
            model=str(self.report.about["model"]),
            kind=self.place.kind,
            precision=precision,
            tokens_per_second=tokens * each / max(inside, 1e-9),
            seconds_per_load=stages["load"],
            bytes_per_endpoint=self.report.about["endpoint_bytes"],
            passes_per_path=each,
            seconds_per_pair_overhead=max(0.0, mean(taken.wall for taken in own.seconds) - mean(own.inside)),
            threads=self.threads,
        )
        self.report.raw["calibration"] = asdict(found)
        try:
            write_calibration(self.store, self.spec, found)
        except RaymcError as error:
            self.report.notes.append(f"no calibration is kept for plans: {error}")

    def _training(self) -> None:
        self.progress.say("training, in a sweep and bare")
        found = trained(self.spec, self.points, self.store, self.home / "training", self.asked.quick, self.progress)
        self.report.raw["training"] = found.as_dict()
        of = f"{found.trials} trials on {found.processes} processes"
        self.report.add("training", found.sweep / found.bare.loops, "x", f"stage of the minima / bare loops; {of}")
        both = (found.start + found.sweep) / (found.bare.start + found.bare.loops)
        self.report.add(
            "training with starts", both, "x", "likewise, with Ray's start / with the processes' and imports"
        )


def _shorter(points: int) -> int:
    """The fewest points that are among `points` evenly spaced ones, with enough of them inside."""
    return next(each + 1 for each in range(_FEWEST, points) if (points - 1) % each == 0) if points > _FEWEST else points


def _how(spec: SweepSpec) -> str:
    tolerance = spec.connectivity.tolerance
    points = f"{spec.connectivity.point_count} points"
    return f"{points}, adaptive at {tolerance:g}" if tolerance else points
