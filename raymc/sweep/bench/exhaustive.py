"""Exhaustive profiles in fp32 beside bare forward passes, in turn; and where the time goes, stage by stage."""

from __future__ import annotations

from dataclasses import dataclass, replace

from raymc.connectivity.evaluator import Evaluator
from raymc.connectivity.passes import Passes
from raymc.connectivity.records import keep
from raymc.connectivity.traces import Seen, Trace, seen
from raymc.connectivity.work import PairTask
from raymc.landscape.grid import even_points
from raymc.specs.results import Profile
from raymc.store.rows import write_rows
from raymc.sweep.bench.bare import Pass, bare_pass, outermost, plain_model
from raymc.sweep.bench.clock import Clock, Seconds, Stages
from raymc.sweep.bench.place import Ends, Place, lender_of

_LONG = 20.0  # seconds of one side of a comparison, beyond which it isn't repeated
_REPLAYED = 8  # interior points that are taken apart, at most


@dataclass(frozen=True)
class Compared:
    """Seconds of each round. `inside`: of the evaluator's, what its passes took by its own count.

    `passes`: of each round and side, over all row sets of the path. `profiles`: the last round's.
    """

    bare: list[Seconds]
    evaluator: list[Seconds]
    inside: list[float]
    passes: int
    profiles: list[Profile]


class Exhaustive:
    """One pair. `task`: exhaustive, in fp32."""

    def __init__(self, place: Place, task: PairTask):
        self.place, self.task, self.clock = place, task, Clock(place.device)
        self.evaluator: Evaluator = place.evaluator()
        self.ends: Ends = place.ends(self.evaluator, task)
        budget = place.spec.resources.evaluator.token_budget
        self.bare: list[Pass] = []
        for key in dict.fromkeys(lender_of(task, split) or task.a for split in task.splits):
            model = plain_model(place.store, key, place.made(key), task.space, place.device, "fp32")
            self.bare += [
                bare_pass(model, place.kind, place.tokens(key, split), budget, place.device)
                for split in task.splits
                if (lender_of(task, split) or task.a) == key
            ]

    def once(self) -> None:
        """One bare pass over each row set."""
        for one in self.bare:
            one()

    def compare(self, rounds: int) -> Compared:
        """Half of the bare passes, the evaluator's profile, the other half; and so on."""
        place, task, inner = self.place, self.task, self.task.points - 2
        place.score(self.evaluator, task_of(task, 3), self.ends)  # the endpoints are held now, and all is warm
        self.once()
        bare: list[Seconds] = []
        ours: list[Seconds] = []
        inside: list[float] = []
        profiles: list[Profile] = []
        while len(bare) < rounds:
            before, _ = self.clock.of(lambda: self._times(inner // 2))
            taken, profiles = self.clock.of(lambda: place.score(self.evaluator, task, self.ends))
            after, _ = self.clock.of(lambda: self._times(inner - inner // 2))
            bare.append(before + after)
            ours.append(taken)
            inside.append(sum(profile.seconds for profile in profiles))
            if taken.wall > _LONG:
                break
        return Compared(bare, ours, inside, inner * len(task.splits), profiles)

    def _times(self, count: int) -> None:
        for _ in range(count):
            self.once()

    def stages(self, profiles: list[Profile]) -> dict[str, float]:
        """Seconds by stage: load (an endpoint), interpolate and forward (a point); reduce and write (a pair).

        A path is gone along as an evaluator does it, what it does being timed piece by piece; `open`: what comes before
        the first one of its kind. With reduce: of the passes, losses and metrics; of the profile, bootstrap and all.
        `profiles`: the pair's, to be written.
        """
        place, task, fresh, clocked = self.place, self.task, self.place.evaluator(), Stages(self.clock)
        inner = even_points(task.points)[1:-1]
        some = inner[:: -(-len(inner) // _REPLAYED)]
        for head in dict.fromkeys(lender_of(task, split) for split in task.splits):
            splits = [split for split in task.splits if lender_of(task, split) == head]
            labels = fresh.labels(splits[0])
            with clocked.stage("open"):
                layout, model = fresh.opened(head or task.a, task.space, labels)
            fresh.begin()
            with clocked.stage("load"):
                for key in (task.a, task.b):
                    fresh.vector(layout, model, key, labels)
            model, path, _ = fresh.path(task, head, labels)
            scorers = {split: fresh.scorer(head or task.a, split) for split in splits}
            passes = Passes(model, path.curve, scorers)
            ends = [passes.at(t) for t in (0.0, 1.0)]
            points: list[dict[str, Seen]] = []
            with outermost(model.model, lambda *_: self._begin(), lambda: self._end(clocked)):
                for t in some:
                    with clocked.stage("interpolate"):
                        path.curve.point(t, model.flat)
                        model.refresh()
                    with clocked.stage("pass"):
                        points.append({split: seen(one.by_row(model.model)) for split, one in scorers.items()})
            for split in splits:
                every = [ends[0][split], *self._spread([point[split] for point in points], len(inner)), ends[1][split]]
                with clocked.stage("profile"):
                    trace = Trace(even_points(task.points), fresh.labels(split), every)
                    _ = trace.loss(), trace.metrics(), trace.uncertainty()
                if task.groups:
                    with clocked.stage("rows"):
                        number = task.splits.index(split)
                        write_rows(place.store, task.groups[number], f"{task.a}-{task.b}", trace.table())
        found, part = clocked.seconds, len(inner) / len(some)
        forward = found.get("forward", 0.0)
        return {
            "open": found["open"],
            "load": found["load"] / 2,
            "interpolate": found["interpolate"] * part,
            "forward": forward * part,
            "reduce": (found["pass"] - forward) * part + found["profile"],
            "write": found.get("rows", 0.0) + self._records(profiles),
            "points": float(len(inner)),
        }

    def _begin(self) -> None:
        self._began = self.clock.now().wall

    def _end(self, clocked: Stages) -> None:
        clocked.seconds["forward"] = clocked.seconds.get("forward", 0.0) + self.clock.now().wall - self._began

    def _spread(self, points: list[Seen], count: int) -> list[Seen]:
        """As many as a profile has: what takes time is how many, not which."""
        return [points[i * len(points) // count] for i in range(count)]

    def _records(self, profiles: list[Profile]) -> float:
        seconds, _ = self.clock.of(lambda: keep(self.place.store, [(self.task, profiles)]))
        return seconds.wall


def task_of(task: PairTask, points: int) -> PairTask:
    """The same path, exhaustive at so many points."""
    return replace(task, points=points, tolerance=None)
