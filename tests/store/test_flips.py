"""One flipped bit in any file that a sweep leaves in a storage is noticed when that file is read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raymc.specs.errors import CorruptArtefact
from raymc.store import layout
from raymc.store.rows import RowTable, read_rows, write_rows
from raymc.store.store import Store

KEY, GROUP = "0123456789abcdef0123", "abcdefabcdefabcdefab"
FOLDERS = {
    layout.MINIMA: KEY,
    layout.BACKBONES: KEY,
    layout.CURVES: KEY,
    layout.CHECKPOINTS: f"{KEY}/step-000000004",
}
RECORDS = (layout.EVALUATIONS, layout.PROFILES, layout.PLANES, layout.PRECISIONS, layout.CALIBRATIONS)
BODY = {"minimum": "a", "loss": 0.6931471805599453, "metrics": {"accuracy": 0.5}, "t": [0.0, 1.0], "label": "pos"}


def fill(store: Store) -> None:
    """Every kind of file that runs leave."""
    for kind, key in FOLDERS.items():
        with store.create(kind, key) as folder:
            (folder / "model.safetensors").write_bytes(np.arange(40, dtype=np.float32).tobytes())
            (folder / layout.PROVENANCE).write_text('{"value": [1, 2, 3]}')
            (folder / layout.TRAINING_CURVE).write_text('{"step": 1, "loss": 0.5}\n')
    for kind in RECORDS:
        store.put(kind, GROUP, "single", BODY)
        store.put_many(kind, GROUP, {"first": BODY, "second": {**BODY, "loss": 0.25}})
    store.put(layout.CHECKPOINTS, KEY, "micro-batch", {"rows": 8})
    write_rows(store, GROUP, "a-b", rows())
    _sweep(store)


def rows() -> RowTable:
    return RowTable(
        t=(0.0, 0.5, 1.0),
        row=np.arange(5, dtype=np.int32),
        gold=np.zeros(5, np.int16),
        terms=np.ones(5, np.int32),
        loss=np.linspace(0, 1, 15, dtype=np.float32).reshape(3, 5),
        predicted=np.zeros((3, 5), np.int16),
        probabilities=None,
        labels=("neg", "pos"),
    )


def _sweep(store: Store) -> None:
    import pandas as pd

    from raymc.specs.sweep import SweepSpec
    from raymc.sweep.results import write_sweep

    spec = SweepSpec.model_validate(
        {
            "name": "flips",
            "model": {"backbone": {"builtin": "grammar-bert"}},
            "task": {"dataset": {"builtin": "grammar"}},
            "connectivity": {"planes": [{"through": ["order=1", "order=2", "order=3"]}]},
            "axes": {"seeds.order": [1, 2, 3]},
        }
    )
    last = {"minima": "below_floor", "profiles": "agreement_a", "barriers": "p_holm", "planes": "x", "plane_marks": "x"}
    tables = {name: pd.DataFrame({"key": ["a", "b"], column: [0.5, 1.0]}) for name, column in last.items()}
    write_sweep(store, spec, tables, {"pairs": {"total": 3}}, [])


def read_all(store: Store) -> None:
    """As those who use these files read them. Raises CorruptArtefact."""
    from raymc.sweep.results import open_sweep

    for kind, key in FOLDERS.items():
        store.verify(kind, key, deep=True)
        for name in store.sizes(kind, key):
            store.read(kind, key, name)
    for kind in RECORDS:
        for name in ("single", "first", "second"):
            try:
                assert store.get(kind, GROUP, name)
            except KeyError:
                store.place(kind, GROUP, name)
        for fault in store.mend(kind):
            raise fault
    store.get(layout.CHECKPOINTS, KEY, "micro-batch")
    assert np.array_equal(read_rows(store, GROUP, "a-b", _rows_digest()).loss, rows().loss)
    sweep = open_sweep("flips", storage=store.uri)
    for table in ("minima", "profiles", "barriers", "planes", "plane_marks"):
        getattr(sweep, table)()


def _rows_digest() -> str:
    from raymc.store.rows import _packed

    return hashlib.sha256(_packed(rows())).hexdigest()


def flipped(content: bytes) -> Iterator[bytes]:
    """The content with one bit changed: in its first, a middle and its last byte; a last line break says nothing."""
    last = len(content.rstrip(b"\n")) - 1
    for place, bit in ((0, 1), (len(content) // 2, 4), (last, 2)):
        changed = bytearray(content)
        changed[place] ^= bit
        yield bytes(changed)


def kind_of(name: str) -> tuple[str, str]:
    return name.split("/")[0], Path(name).suffix


def one_of_each(names: list[str]) -> list[str]:
    return list({kind_of(name): name for name in names}.values())


def noticed(store: Store, name: str) -> None:
    try:
        read_all(store)
    except CorruptArtefact:
        return
    pytest.fail(f"not noticed in {name}")


WANTED = {
    *((kind, ending) for kind in FOLDERS for ending in (".json", ".jsonl", ".safetensors")),
    *((kind, ending) for kind in RECORDS for ending in (".json", ".jsonl")),
    (layout.ROWS, ".parquet"),
    *((layout.SWEEPS, ending) for ending in (".json", ".parquet")),
}


def test_in_any_file_of_a_folder(tmp_path: Path):
    store = Store(tmp_path / "storage")
    fill(store)
    read_all(Store(store.root))
    names = [str(path.relative_to(store.root)) for path in sorted(store.root.rglob("*")) if path.is_file()]
    assert {*map(kind_of, names)} == WANTED
    for name in names:
        content = (store.root / name).read_bytes()
        for changed in flipped(content):
            (store.root / name).write_bytes(changed)
            noticed(Store(store.root), name)
            _restore(store, name, content)
    read_all(Store(store.root))


def _restore(store: Store, name: str, content: bytes) -> None:
    """Undo what a look at a damaged batch did: it was set aside, its whole records put into another."""
    if name.endswith(".jsonl") and name.count("/") == 2:
        for path in (store.root / name).parent.glob("*.jsonl"):
            path.unlink()
    (store.root / name).write_bytes(content)


def test_in_any_object_of_a_storage(machine: Callable[[str], Store], tmp_path: Path):
    store = machine("writer")
    fill(store)
    read_all(machine("reader"))
    names = store.objects.list()
    assert {*map(kind_of, names)} - {(layout.MANIFESTS, ".json")} == WANTED
    for number, name in enumerate(one_of_each(names)):
        content = store.objects.get(name) or b""
        changed = list(flipped(content))[number % 3]
        store.objects.put(name, changed)
        noticed(machine(f"reader {number}"), name)
        for other in store.objects.list(str(Path(name).parent)):
            if other not in names:
                store.objects.delete(other)
        store.objects.put(name, content)
    read_all(machine("last"))


def test_in_any_file_of_a_mirror(machine: Callable[[str], Store]):
    """What is damaged on this machine alone is fetched anew; it is never used."""
    fill(machine("writer"))
    reader: Any = machine("reader")
    read_all(reader)
    paths = [path for path in sorted(reader.root.rglob("*")) if path.is_file() and ".locks" not in path.parts]
    names = one_of_each([str(path.relative_to(reader.root)) for path in paths])
    assert {*map(kind_of, names)} >= WANTED - {(layout.SWEEPS, ".json"), (layout.SWEEPS, ".parquet")}
    for number, name in enumerate(names):
        path = reader.root / name
        content = path.read_bytes()
        path.write_bytes(list(flipped(content))[number % 3])
        read_all(machine("reader"))
