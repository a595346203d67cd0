"""What runs on one storage leave to each other: each computes what no other is at, then waits for the rest."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from raymc.store import layout
from raymc.sweep.state import State

Runs = dict[str, list[str]]  # by the key of a run of training: the artefacts that are missing of it


def share(state: State, kind: str, lacking: Callable[[], Runs], compute: Callable[[Runs], bool]) -> None:
    """Compute what is lacking and no other run is at; wait for what others are at, and try what failed with them.

    `lacking`: what the store lacks now and didn't fail in this run. `compute`: makes some of it; true ends it all.
    Nothing is tried twice here. While this run waits it has no claim, and nothing of Ray but the connection.
    """
    tried: set[str] = set()

    def wanted() -> Runs:
        return {run: keys for run, keys in lacking().items() if run not in tried}

    while not state.stop.is_set() and (runs := wanted()):
        with state.claims.take(kind, ("",), runs) as taken:
            mine = {run: keys for run, keys in wanted().items() if run in taken.keys}  # others may have been faster
            tried |= mine.keys()
            if mine and compute(mine):
                return
        others = runs.keys() - taken.keys
        if not others:
            return

        def over(others: set[str] = others) -> bool:
            return others.isdisjoint(lacking())

        count = sum(len(runs[run]) for run in others)
        state.claims.wait(taken.held, kind, count, over, state.stop)


@contextlib.contextmanager
def alone(state: State) -> Iterator[None]:
    """A block that one run of a sweep at a time is in: its tables are several files, and its view has one place.

    Where the run is asked to stop, it isn't waited for.
    """
    while True:
        with state.claims.take(layout.SWEEPS, ("",), [state.spec.name]) as taken:
            if not taken.held or state.stop.is_set():
                yield
                return
        state.claims.wait(taken.held, f"the tables of {state.spec.name}", stop=state.stop)
