"""What a model said of every evaluation row, kept column by column: STORAGE/rows/GROUP/NAME-HASH.parquet.

One row of the file is one evaluation row; what it has at every point of a path is a list of fixed size, so that the
nearly equal neighbours along a path lie side by side and pack well. A file's name holds the first digits of its
SHA-256: a pair that is computed twice at once, a bit apart, leaves two files, and a record's own stays.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from raymc.specs.errors import CorruptArtefact
from raymc.store import layout

if TYPE_CHECKING:
    import pyarrow as pa

    from raymc.store.store import Store

_META = b"raymc"
_FORMAT = 1


@dataclass(frozen=True, eq=False)
class RowTable:
    """P points of a path (1: an endpoint by itself), R rows of a split, C labels."""

    t: tuple[float, ...]  # the points, P of them; (0.0,) for an endpoint by itself
    row: np.ndarray  # int32 (R,), row numbers in the split, ascending
    gold: np.ndarray  # int16 (R,), index of the gold label
    terms: np.ndarray  # int32 (R,), terms of the row's loss (1; text targets: tokens)
    loss: np.ndarray  # float32 (P, R), cross-entropy summed over the terms, nats
    predicted: np.ndarray  # int16 (P, R), index of the label that is given
    probabilities: np.ndarray | None  # float32 (R, C), of the labels; of endpoints alone
    labels: tuple[str, ...]  # label names in index order

    def __post_init__(self) -> None:
        """Raises ValueError where a column has another type or shape than is said above."""
        points, rows = len(self.t), len(self.row)
        wanted: dict[str, tuple[type, tuple[int, ...]]] = {
            "row": (np.int32, (rows,)),
            "gold": (np.int16, (rows,)),
            "terms": (np.int32, (rows,)),
            "loss": (np.float32, (points, rows)),
            "predicted": (np.int16, (points, rows)),
            "probabilities": (np.float32, (rows, len(self.labels))),
        }
        for name, (kind, shape) in wanted.items():
            column = getattr(self, name)
            if name == "probabilities" and column is None:
                continue
            if column.dtype != kind or column.shape != shape:
                raise ValueError(f"{name} is {column.dtype} {column.shape}, not {np.dtype(kind)} {shape}")
        if not self.t:
            raise ValueError("a table of rows has at least one point")
        if np.any(np.diff(self.row) <= 0):
            raise ValueError("row numbers don't ascend")


def write_rows(store: Store, group: str, name: str, table: RowTable) -> str:
    """Write a table to STORAGE/rows/GROUP/NAME-HASH.parquet, atomically; the file's SHA-256.

    Raises RaymcError where it can't be written.
    """
    with store.timed():
        data = _packed(table)
        digest = hashlib.sha256(data).hexdigest()
        store.write_file(store.root / layout.ROWS / group / layout.rows_file(name, digest), data)
    return digest


def _packed(table: RowTable) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {
        "row": pa.array(table.row),
        "gold": pa.array(table.gold),
        "terms": pa.array(table.terms),
        "loss": _listed(table.loss.T),
        "predicted": _listed(table.predicted.T),
    }
    spread = ["loss.list.element"]
    if table.probabilities is not None and table.labels:
        columns["probabilities"] = _listed(table.probabilities)
        spread.append("probabilities.list.element")
    meta = {
        "format": _FORMAT,
        "t": table.t,
        "labels": table.labels,
        "probabilities": table.probabilities is not None,
    }
    content = pa.table(columns).replace_schema_metadata({_META: json.dumps(meta).encode()})
    options: dict[str, Any] = {
        "compression": "zstd",
        "use_dictionary": ["gold", "terms", "predicted.list.element"],
        "use_byte_stream_split": spread,  # floats of one size share their upper bytes
        "write_statistics": False,
    }
    sink = pa.BufferOutputStream()
    pq.write_table(content, sink, **options)
    return sink.getvalue().to_pybytes()


def read_rows(store: Store, group: str, name: str, sha256: str) -> RowTable:
    """Read a table. Raises CorruptArtefact where it is missing or isn't the one with this SHA-256."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file, data = _found(store, group, name, sha256)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise CorruptArtefact(layout.ROWS, file, "it is not what was written (SHA-256 differs)")
    try:
        content = pq.read_table(pa.BufferReader(data), use_threads=False)
        return _table(content)
    except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise CorruptArtefact(layout.ROWS, file, "it can't be read") from error


def has_rows(store: Store, group: str, name: str, sha256: str) -> bool:
    """Whether there is such a file; it is checked when it is read. One of an early version may be another's: here."""
    own, early = _names(name, sha256)
    if store.has_group_file(layout.ROWS, group, own):
        return True
    with contextlib.suppress(OSError):
        if store.has_group_file(layout.ROWS, group, early):
            content = store.read_group_file(layout.ROWS, group, early, sha256)
            return hashlib.sha256(content).hexdigest() == sha256
    return False


def _names(name: str, sha256: str) -> tuple[str, str]:
    """Of a file, and as an early version named it."""
    return layout.rows_file(name, sha256), f"{name}.parquet"


def _found(store: Store, group: str, name: str, sha256: str) -> tuple[str, bytes]:
    """(GROUP/FILE, its content). Raises CorruptArtefact."""
    for file in _names(name, sha256):
        try:
            return f"{group}/{file}", store.read_group_file(layout.ROWS, group, file, sha256)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise CorruptArtefact(layout.ROWS, f"{group}/{file}", "it can't be read") from error
    raise CorruptArtefact(layout.ROWS, f"{group}/{_names(name, sha256)[0]}", "it is missing")


def _table(content: pa.Table) -> RowTable:
    meta = json.loads((content.schema.metadata or {})[_META])
    if meta["format"] != _FORMAT:
        raise ValueError(f"format {meta['format']}")
    labels, rows = tuple(meta["labels"]), content.num_rows
    probabilities = None
    if meta["probabilities"]:
        probabilities = _matrix(content, "probabilities") if labels else np.zeros((rows, 0), np.float32)
    return RowTable(
        t=tuple(meta["t"]),
        row=_vector(content, "row"),
        gold=_vector(content, "gold"),
        terms=_vector(content, "terms"),
        loss=np.ascontiguousarray(_matrix(content, "loss").T),
        predicted=np.ascontiguousarray(_matrix(content, "predicted").T),
        probabilities=probabilities,
        labels=labels,
    )


def _listed(matrix: np.ndarray) -> Any:
    """(R, K) as a column of R lists of K."""
    import pyarrow as pa

    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(matrix).reshape(-1)), matrix.shape[1])


def _vector(content: pa.Table, name: str) -> np.ndarray:
    return np.array(content.column(name).combine_chunks().to_numpy(zero_copy_only=False))


def _matrix(content: pa.Table, name: str) -> np.ndarray:
    """The reverse of `_listed`: (R, K), a copy that may be written to."""
    column = content.column(name)
    values = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.array(values).reshape(content.num_rows, column.type.list_size)
