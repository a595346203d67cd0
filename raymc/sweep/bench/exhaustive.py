"""Exhaustive profiles beside bare forward passes, in turn; and where the time goes, stage by stage."""

from __future__ import annotations

from dataclasses import dataclass, replace

from raymc.connectivity.evaluator import Evaluator
from raymc.connectivity.records import keep
from raymc.connectivity.traces import Seen, Trace, seen
from raymc.connectivity.work import PairTask
from raymc.landscape.grid import even_points
from raymc.specs.results import Profile
from raymc.store.rows import write_rows
from raymc.sweep.bench.bare import Pass, bare_pass, plain_model
from raymc.sweep.bench.clock import Clock, Seconds, Stages
from raymc.sweep.bench.place import Ends, Place, hold, lender_of

_LONG = 20.0  # seconds of one side of a comparison, beyond which it isn't repeated
_SETTLED = 12  # points
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
    """One pair. `task`: exhaustive, in its precision."""

    def __init__(self, place: Place, task: PairTask):
        self.place, self.task, self.clock = place, task, Clock(place.device)
        self.evaluator: Evaluator = place.evaluator()
        self.ends: Ends = place.ends(self.evaluator, task)
        budget = self.evaluator.token_budget
        self.bare: list[Pass] = []
        for key in dict.fromkeys(lender_of(task, split) or task.a for split in task.splits):
            model = plain_model(place.store, key, place.made(key), task.space, place.device, task.precision)
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
        """Half of the bare passes, the evaluator's profile, the other half; and so on. A bare pass was made before."""
        place, task, inner = self.place, self.task, self.task.points - 2
        hold(self.evaluator, task)  # warm by its ends' passes
        if self.place.device != "cpu":  # there it takes some more until it is settled how passes are made
            self.evaluator.pair(task_of(task, _SETTLED), self.ends)
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

    def stages(self, profiles: list[Profile]) -> dict[str, Seconds]:
        """Seconds by stage: load (an endpoint), interpolate, forward, reduce and write (a pair).

        A path is gone along as an evaluator does it, what it does being timed piece by piece; `open`: what comes before
        the first one of its kind. In forward are the rows' losses, in reduce all that is made of them: metrics, and the
        profile with its bootstrap. `profiles`: the pair's, to be written.
        """
        place, task, fresh, stages = self.place, self.task, self.place.evaluator(), Stages(self.clock)
        inner = even_points(task.points)[1:-1]
        some = inner[:: -(-len(inner) // _REPLAYED)]
        for head in dict.fromkeys(lender_of(task, split) for split in task.splits):
            splits = [split for split in task.splits if lender_of(task, split) == head]
            labels = fresh.labels(splits[0])
            with stages.stage("open"):
                layout, _ = fresh.opened(head or task.a, task.space, labels, task.precision)
            fresh.begin()
            with stages.stage("load"):
                for key in (task.a, task.b):
                    fresh.vector(
                        layout, fresh.opened(head or task.a, task.space, labels, task.precision)[1], key, labels
                    )
            model, path, _ = self.evaluator.path(task, head, labels)
            scorers = {split: self.evaluator.scorer(head or task.a, split) for split in splits}
            points: list[dict[str, Seen]] = []
            for t in some:
                with stages.stage("interpolate"):
                    path.curve.point(t, model.flat)
                    model.refresh()
                with stages.stage("forward"):
                    passes = {split: self.evaluator.running.launch(model, one) for split, one in scorers.items()}
                with stages.stage("metrics"):
                    points.append({split: seen(one.collect(passes[split])) for split, one in scorers.items()})
            for split in splits:
                # what takes time is how many points there are, not which
                every = [points[i * len(points) // task.points][split] for i in range(task.points)]
                with stages.stage("profile"):
                    trace = Trace(even_points(task.points), place.sets.labels[split], every)
                    _ = trace.loss(), trace.metrics(), trace.uncertainty()
                if task.groups:
                    with stages.stage("write"):
                        group = task.groups[task.splits.index(split)]
                        write_rows(place.store, group, f"{task.a}-{task.b}-again", trace.table())
        with stages.stage("write"):
            keep(place.store, [(task, profiles)])
        part = len(inner) / len(some)
        return {
            "open": stages["open"],
            "load": stages["load"] * 0.5,
            "interpolate": stages["interpolate"] * part,
            "forward": stages["forward"] * part,
            "reduce": stages["metrics"] * part + stages["profile"],
            "write": stages["write"],
        }


def task_of(task: PairTask, points: int) -> PairTask:
    """The same path, exhaustive at so many points."""
    return replace(task, points=points, tolerance=None)
