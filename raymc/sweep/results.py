"""A finished (or partly finished) sweep: its tables, matrices and what went wrong."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raymc.specs.errors import CorruptArtefact, RaymcError
from raymc.specs.sweep import SweepSpec
from raymc.store import layout
from raymc.store.store import Store

if TYPE_CHECKING:
    import pandas as pd

_ABBREVIATIONS = {"train.learning_rate": "lr", "train.batch_size": "batch"}  # names are columns of tables


class Sweep:
    """A sweep in a storage, as `raymc.run` leaves it and `raymc.open_sweep` finds it.

    `result`: the counts that `raymc run --json` prints. `failures`: what failed and why.
    """

    def __init__(
        self, name: str, store: Store, spec: SweepSpec, result: dict[str, Any], failures: list[dict[str, str]]
    ):
        self.name, self.store, self.spec, self.result, self.failures = name, store, spec, result, failures
        self._tables: dict[str, pd.DataFrame] = {}

    def minima(self) -> pd.DataFrame:
        """One row per minimum: key, uri, its value on each axis, SPLIT_loss (nats) and SPLIT_METRIC (fractions)."""
        return self._table("minima")

    def profiles(self) -> pd.DataFrame:
        """One row per point of a path: a, b, curve, split, space, t, loss (nats) and the metrics (fractions)."""
        return self._table("profiles")

    def barriers(self) -> pd.DataFrame:
        """One row per pair, curve and split: the barriers, t of the peak, distance and cosine."""
        return self._table("barriers")

    def matrix(
        self, curve: str | None = None, split: str | None = None, value: str = "barrier_entezari"
    ) -> pd.DataFrame:
        """A column of barriers() as a symmetric frame over the minima's keys; NaN on the diagonal.

        `curve` and `split`: by default the spec's first. Raises RaymcError for one that the sweep doesn't have.
        """
        from raymc.report.frames import VALUES, matrix

        curve, split = curve or self.spec.connectivity.curves[0], split or self.spec.connectivity.splits[0]
        for given, known, what in (
            (curve, self.spec.connectivity.curves, "curve"),
            (split, self.spec.connectivity.splits, "split"),
            (value, tuple(VALUES), "value"),
        ):
            if given not in known:
                raise RaymcError(f"sweep {self.name} has no {what} {given!r} (it has {', '.join(known)})")
        return matrix(self.barriers(), list(self.minima()["key"]), curve, split, value)

    def names(self) -> dict[str, str]:
        """Short names of the minima by key: their values on the axes."""
        frame = self.minima()
        return {
            row["key"]: point_name({axis: row[axis] for axis in self.spec.axis_names}) for _, row in frame.iterrows()
        }

    def _table(self, name: str) -> pd.DataFrame:
        import pandas as pd

        if name not in self._tables:
            content = _verified(self.store, self.name, f"{name}.parquet")
            self._tables[name] = pd.read_parquet(io.BytesIO(content))
        return self._tables[name].copy()


def point_name(values: Mapping[str, Any]) -> str:
    """A point's values in a few words: `lr=0.0003 order=2`."""
    short = {name: _ABBREVIATIONS.get(name, name.rsplit(".", 1)[-1]) for name in values}
    double = [name for name in short if list(short.values()).count(short[name]) > 1]
    parts = [f"{name if name in double else short[name]}={_short(value)}" for name, value in values.items()]
    return " ".join(parts) or "base"


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return ",".join(_short(part) for part in value.values())
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 40 else f"…{text[-39:]}"


def open_sweep(name: str, *, storage: str | None = None) -> Sweep:
    """A sweep that was run, by name. Raises RaymcError where the storage (./raymc-store) has none of that name."""
    from raymc.sweep.check import DEFAULT_STORAGE

    store = Store(storage or DEFAULT_STORAGE)
    home = store.root / layout.SWEEPS
    if not (home / name / layout.MANIFEST).is_file():
        known = sorted(path.parent.name for path in home.glob(f"*/{layout.MANIFEST}"))
        has = f"it has {', '.join(known)}" if known else "it has none"
        raise RaymcError(f"no finished run of sweep {name!r} in storage {store.root} ({has})")
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
    """Write a sweep's files, each atomically, their hashes last."""
    files = {f"{name}.parquet": _parquet(table) for name, table in tables.items()}
    files["spec.json"] = spec.model_dump_json(indent=1).encode()
    files["result.json"] = json.dumps({"result": result, "failures": failures}, indent=1).encode()
    home = store.root / layout.SWEEPS / spec.name
    for name, content in files.items():
        store.write_file(home / name, content)
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    store.write_file(home / layout.MANIFEST, json.dumps(hashes, indent=1).encode())
    return Sweep(spec.name, store, spec, result, failures)


def _parquet(table: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()


def _verified(store: Store, sweep: str, file: str) -> bytes:
    home: Path = store.root / layout.SWEEPS / sweep
    try:
        content = (home / file).read_bytes()
        hashes = json.loads((home / layout.MANIFEST).read_bytes())
        whole = hashes[file] == hashlib.sha256(content).hexdigest()
    except (OSError, ValueError, KeyError) as error:
        raise CorruptArtefact(layout.SWEEPS, sweep, f"{file} can't be read; `raymc run` makes it anew") from error
    if not whole:
        raise CorruptArtefact(layout.SWEEPS, sweep, f"{file} is not what was written; `raymc run` makes it anew")
    return content
