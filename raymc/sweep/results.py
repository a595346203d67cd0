"""A finished (or partly finished) sweep: its tables, matrices and what went wrong."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raymc.specs.errors import CorruptArtefact, RaymcError
from raymc.specs.precision import Decision
from raymc.specs.results import METRICS
from raymc.specs.sweep import SweepSpec
from raymc.store import layout
from raymc.store.store import Store

if TYPE_CHECKING:
    import pandas as pd

    from raymc.connectivity.pairs import Connections
    from raymc.sweep.exported import Exported
    from raymc.sweep.section import Section

_LAST = {"minima": "below_floor", "profiles": "agreement_a", "barriers": "p_holm"}  # columns that early versions lack
_COMING = "coming"  # in the hashes while tables are written: what they will be
_WRITING_SECONDS = 3.0  # how long a reader waits for a run that is writing tables
_LOOK_SECONDS = 0.2


class Sweep:
    """A sweep in a storage, as `raymc.run` leaves it and `raymc.open_sweep` finds it.

    `result`: the counts that `raymc run --json` prints. `failures`: what failed and why.
    """

    def __init__(
        self, name: str, store: Store, spec: SweepSpec, result: dict[str, Any], failures: list[dict[str, str]]
    ):
        self.name, self.store, self.spec, self.result, self.failures = name, store, spec, result, failures
        self._tables: dict[str, pd.DataFrame] = {}

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the row sets, in order: splits, of several tasks as TASK.SPLIT."""
        return tuple(rows.name for rows in self.spec.row_sets)

    @property
    def precision(self) -> Decision | None:
        """What its last run computed in, and why; None of one by an early version."""
        body = self.result.get("precision")
        return None if body is None else Decision.model_validate(body)

    def minima(self) -> pd.DataFrame:
        """One row per minimum: key, uri, name, trajectory, its value on each axis, its scores, below_floor.

        The scores are SPLIT_loss (nats) and SPLIT_METRIC (fractions) for each row set, NaN where it has other labels.
        """
        return self._table("minima")

    def profiles(self) -> pd.DataFrame:
        """One row per point of a path: a, b, curve, split, space, head, t, loss (nats), the metrics (fractions)."""
        return self._table("profiles")

    def barriers(self) -> pd.DataFrame:
        """One row per pair, curve and row set: what it is, in what its ends differ, the barriers and distances."""
        return self._table("barriers")

    def summary(self, by: Sequence[str] = ()) -> pd.DataFrame:
        """Conclusions: the barriers per curve, row set, space and difference; pairs below the floor only counted.

        `by`: axes whose values part the rows too. Raises RaymcError for one that the sweep doesn't have.
        """
        from raymc.report.frames import summary_frame

        minima = self.minima().set_index("key")
        for axis in by:
            if axis not in self.spec.axis_names:
                known = ", ".join(self.spec.axis_names) or "none"
                raise RaymcError(f"sweep {self.name} has no axis {axis!r} (it has {known})")
        metric = METRICS[self.spec.model.kind][0]
        return summary_frame(self.barriers(), self.profiles(), metric, {axis: dict(minima[axis]) for axis in by})

    def matrix(
        self,
        curve: str | None = None,
        split: str | None = None,
        value: str = "barrier_entezari",
        floor: bool = False,
    ) -> pd.DataFrame:
        """A column of barriers() as a symmetric frame over the minima's keys; NaN on the diagonal and for no pair.

        `curve` and `split`: by default the spec's first. `floor`: NaN too where an end is below the floor. Raises
        RaymcError for one that the sweep doesn't have.
        """
        from raymc.report.frames import matrix

        curve, split = curve or self.spec.connectivity.curve_names[0], split or self.splits[0]
        self.require(curve, split, value)
        return matrix(self.barriers(), list(self.minima()["key"]), curve, split, value, floor)

    def require(self, curve: str, split: str, value: str = "barrier_entezari") -> None:
        """Raises RaymcError for a curve, a row set or a column of barriers() that the sweep doesn't have."""
        from raymc.report.values import VALUES

        for given, known, what in (
            (curve, self.spec.connectivity.curve_names, "curve"),
            (split, self.splits, "split"),
            (value, tuple(VALUES), "value"),
        ):
            if given not in known:
                raise RaymcError(f"sweep {self.name} has no {what} {given!r} (it has {', '.join(known)})")

    def planes(self) -> pd.DataFrame:
        """One row per point of a grid: plane, split, space, x, y (parameters), loss (nats), metrics (fractions).

        Raises RaymcError where the spec has no planes.
        """
        return self._of_planes("planes")

    def plane_marks(self) -> pd.DataFrame:
        """Where the minima and curves of each plane lie on it: plane, what, key, a, b, t, x, y, off (parameters)."""
        return self._of_planes("plane_marks")

    def _of_planes(self, name: str) -> pd.DataFrame:
        if not self.spec.connectivity.planes:
            raise RaymcError(f"sweep {self.name} has no planes (connectivity.planes)")
        return self._table(name)

    # What they mean -----------------------------------------------------------------------------------------------

    @cached_property
    def connections(self) -> Connections:
        """The sweep's endpoints and pairs against its store."""
        from raymc.connectivity.pairs import Connections
        from raymc.sweep.check import trials_by_key
        from raymc.tasks.rows import labels_of

        return Connections(self.spec, self.store, trials_by_key(self.spec), labels_of)

    def analyze(
        self, curve: str | None = None, split: str | None = None, value: str = "barrier_entezari"
    ) -> list[Section]:
        """Barriers with intervals, clusters, spanning tree, effects of factors, best points, crossings, knowledge.

        Of one curve and row set, or of each. Each section names its definition, row set, curve and space; see
        raymc.sweep.analysis. Raises RaymcError for a curve, row set or value that there isn't.
        """
        from raymc.sweep.analysis import analyze

        return analyze(self, curve, split, value)

    def intervals(self, level: float = 0.95, curve: str | None = None, split: str | None = None) -> pd.DataFrame:
        """Intervals of the barriers at any level, a row per pair of a curve and row set (by default the first ones).

        Raises RaymcError for a curve or row set that there isn't, a level outside (0, 1), and rows that aren't kept.
        """
        from raymc.sweep.intervals import intervals

        curve, split = curve or self.spec.connectivity.curve_names[0], split or self.splits[0]
        self.require(curve, split)
        return intervals(self, level, curve, split)

    def tensor(self, over: Sequence[str], value: str = "barrier_entezari") -> pd.DataFrame:
        """N x N x (values of the axes `over`): index curve, split, the axes, a, b; `.to_xarray()` gives it dense.

        See raymc.analysis.tensors. Raises RaymcError for an axis or column that isn't there.
        """
        from raymc.analysis.tensors import tensor

        return tensor(self.barriers(), self.minima(), over, value)

    def export(self, out: str | Path, **what: Any) -> Exported:
        """Write a minimum, a point of a path or a soup as a Hugging Face folder; see raymc.sweep.export.export."""
        from raymc.sweep.export import export

        return export(self, out, **what)

    def names(self) -> dict[str, str]:
        """Short names of the minima by key: their values on the axes, or the names that the spec gives them."""
        frame = self.minima()
        return dict(zip(frame["key"], frame["name"], strict=True))

    def weak(self) -> set[str]:
        """Keys of the minima below the floor."""
        frame = self.minima()
        return set(frame["key"][frame["below_floor"]])

    def _table(self, name: str) -> pd.DataFrame:
        import pandas as pd

        if name not in self._tables:
            content = _verified(self.store, self.name, f"{name}.parquet")
            table = pd.read_parquet(io.BytesIO(content))
            if name in _LAST and _LAST[name] not in table.columns:
                raise RaymcError(f"sweep {self.name} was written by an older raymc; `raymc run` makes its tables anew")
            self._tables[name] = table
        return self._tables[name].copy()


def open_sweep(name: str, *, storage: str | None = None) -> Sweep:
    """A sweep that was run, by name. Raises RaymcError where the storage (./raymc-store) has none of that name."""
    from raymc.sweep.check import DEFAULT_STORAGE

    store = Store(storage or DEFAULT_STORAGE)
    store.reached()
    if not store.has(layout.SWEEPS, name):
        known = sorted(store.keys(layout.SWEEPS))
        has = f"it has {', '.join(known)}" if known else "it has none"
        raise RaymcError(f"no finished run of sweep {name!r} in storage {store.uri} ({has})")
    spec = SweepSpec.model_validate_json(_verified(store, name, "spec.json"))
    state = json.loads(_verified(store, name, "result.json"))
    return Sweep(name, store, spec, state["result"], state["failures"])


def write_sweep(
    store: Store,
    spec: SweepSpec,
    tables: Mapping[str, pd.DataFrame],
    result: dict[str, Any],
    failures: list[dict[str, str]],
) -> Sweep:
    """Write a sweep's files, each atomically, their hashes last; before, what they will be, beside what they were."""
    files = {f"{name}.parquet": _parquet(table) for name, table in tables.items()}
    files["spec.json"] = spec.model_dump_json(indent=1).encode()
    files["result.json"] = json.dumps({"result": result, "failures": failures}, indent=1).encode()
    home = store.root / layout.SWEEPS / spec.name
    hashes: dict[str, Any] = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    with contextlib.suppress(OSError, ValueError):  # of none yet, or a damaged one, nothing is kept
        before = json.loads(store.read_file(home / layout.MANIFEST))
        store.write_file(home / layout.MANIFEST, json.dumps({**before, _COMING: hashes}, indent=1).encode())
    for name, content in files.items():
        store.write_file(home / name, content)
    store.write_file(home / layout.MANIFEST, json.dumps(hashes, indent=1).encode())
    return Sweep(spec.name, store, spec, result, failures)


def _parquet(table: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()


def _verified(store: Store, sweep: str, file: str) -> bytes:
    """A sweep's file as its hashes say. Where a run is writing the tables at this moment, its end is waited for."""
    home: Path = store.root / layout.SWEEPS / sweep
    until, again = time.monotonic() + _WRITING_SECONDS, True
    while True:
        try:
            content = store.read_file(home / file)
            hashes = json.loads(store.read_file(home / layout.MANIFEST))
            digest = hashlib.sha256(content).hexdigest()
            if hashes.get(file) == digest:
                return content
            coming = hashes.get(_COMING, {}).get(file) == digest
        except (OSError, ValueError, AttributeError) as error:
            raise CorruptArtefact(layout.SWEEPS, sweep, f"{file} can't be read; `raymc run` makes it anew") from error
        if coming and time.monotonic() < until:
            time.sleep(_LOOK_SECONDS)
        elif coming:
            raise RaymcError(
                f"sweep {sweep}: a run is writing its tables, or was cut off while it did; try again in a moment, or "
                "let `raymc run` or `raymc resume` finish them"
            )
        elif again:  # they were finished between the two looks
            again = False
        else:
            raise CorruptArtefact(layout.SWEEPS, sweep, f"{file} is not what was written; `raymc run` makes it anew")
