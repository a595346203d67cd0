"""Tables of rows come back bit for bit, small, and only as they were written."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from raymc.specs.errors import CorruptArtefact, RaymcError
from raymc.store import layout
from raymc.store.rows import RowTable, has_rows, read_rows, write_rows
from raymc.store.store import Store

GROUP, NAME = "0123456789abcdef0123", "aaaa-bbbb"
COLUMNS = ("row", "gold", "terms", "loss", "predicted", "probabilities")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("storage"))
    store.prepare()
    return store


def file_of(group: str, name: str, digest: str, store: Store) -> Path:
    return store.root / layout.ROWS / group / f"{name}-{digest[:12]}.parquet"


def drawn(points: int, rows: int, labels: int = 2, seed: int = 0) -> RowTable:
    """A smooth bump on each row's loss along the path; probabilities where it is an endpoint."""
    rng, t = np.random.default_rng(seed), np.linspace(0, 1, points)
    loss = rng.exponential(0.4, rows) + np.outer(4 * t * (1 - t), rng.normal(0, 0.5, rows) ** 2)
    return RowTable(
        t=tuple(t.tolist()) if points > 1 else (0.0,),
        row=np.arange(rows, dtype=np.int32),
        gold=rng.integers(0, labels, rows).astype(np.int16),
        terms=np.ones(rows, np.int32),
        loss=loss.astype(np.float32),
        predicted=(loss > 0.7).astype(np.int16),
        probabilities=rng.dirichlet(np.ones(labels), rows).astype(np.float32) if points == 1 else None,
        labels=tuple(f"label {i}" for i in range(labels)),
    )


def assert_equal(one: RowTable, other: RowTable) -> None:
    assert one.t == other.t
    assert one.labels == other.labels
    for name in COLUMNS:
        a, b = getattr(one, name), getattr(other, name)
        if a is None or b is None:
            assert a is b, name
            continue
        assert (a.dtype, a.shape) == (b.dtype, b.shape), name
        assert a.tobytes() == b.tobytes(), name  # bit for bit: NaN and -0.0 too


@st.composite
def tables(draw: st.DrawFn) -> RowTable:
    points, rows, labels = draw(st.integers(1, 5)), draw(st.integers(0, 8)), draw(st.integers(0, 4))

    def column(kind: Any, shape: tuple[int, ...]) -> np.ndarray:
        return draw(arrays.arrays(kind, shape))

    numbers = draw(st.lists(st.integers(0, 2**31 - 1), min_size=rows, max_size=rows, unique=True))
    fraction = st.floats(0, 1)
    return RowTable(
        t=tuple(draw(st.lists(fraction, min_size=points, max_size=points))),
        row=np.array(sorted(numbers), np.int32),
        gold=column(np.int16, (rows,)),
        terms=column(np.int32, (rows,)),
        loss=column(np.float32, (points, rows)),
        predicted=column(np.int16, (points, rows)),
        probabilities=column(np.float32, (rows, labels)) if draw(st.booleans()) else None,
        labels=tuple(draw(st.lists(st.text(), min_size=labels, max_size=labels))),
    )


@given(tables())
@settings(max_examples=40)
def test_what_is_written_comes_back_bit_for_bit(store: Store, table: RowTable):
    digest = write_rows(store, GROUP, NAME, table)
    assert_equal(read_rows(store, GROUP, NAME, digest), table)


def test_it_lies_where_the_layout_says_and_its_hash_is_the_files(store: Store):
    digest = write_rows(store, "group", "a-b", drawn(3, 10))
    assert not has_rows(store, "group", "a-b", "0" * 64)
    path = file_of("group", "a-b", digest, store)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
    assert has_rows(store, "group", "a-b", digest)
    assert not has_rows(store, "group", "a-c", digest)
    assert list((store.root / layout.TEMPORARY).iterdir()) == []
    assert write_rows(store, "group", "again", drawn(3, 10)) == digest  # the same table is the same file


def test_other_tools_read_the_file(store: Store):
    table = drawn(3, 10)
    frame = pd.read_parquet(file_of(GROUP, NAME, write_rows(store, GROUP, NAME, table), store))
    assert frame["row"].tolist() == list(range(10))
    assert np.array_equal(np.stack(frame["loss"].tolist()), table.loss.T)


def test_a_path_of_26_points_on_872_rows_takes_less_than_its_losses_do(store: Store):
    table = drawn(26, 872)
    path = file_of(GROUP, NAME, write_rows(store, GROUP, NAME, table), store)
    assert path.stat().st_size < table.loss.nbytes


def test_what_comes_back_may_be_written_to(store: Store):
    found = read_rows(store, GROUP, "end", write_rows(store, GROUP, "end", drawn(1, 4)))
    for name in COLUMNS:
        getattr(found, name)[...] = 0


def test_a_missing_file_is_said_to_be(store: Store):
    with pytest.raises(CorruptArtefact, match=rf"rows/{GROUP}/none-000000000000.parquet: it is missing") as caught:
        read_rows(store, GROUP, "none", "0" * 64)
    assert (caught.value.kind, caught.value.key) == (layout.ROWS, f"{GROUP}/none-000000000000.parquet")
    assert isinstance(caught.value, RaymcError)


def test_a_slow_repeat_leaves_what_a_record_names(store: Store):
    """Two compute one pair, a bit apart; the record is of the first."""
    table = drawn(3, 10)
    fast = write_rows(store, "twice", "a-b", table)
    slow = write_rows(store, "twice", "a-b", dataclasses.replace(table, loss=np.nextafter(table.loss, np.float32(9))))
    assert fast != slow
    assert_equal(read_rows(store, "twice", "a-b", fast), table)


def test_a_file_of_an_early_version_without_a_hash_in_its_name_is_read(store: Store):
    table = drawn(3, 10)
    digest = write_rows(store, "early", "a-b", table)
    old = store.root / layout.ROWS / "early" / "a-b.parquet"
    file_of("early", "a-b", digest, store).rename(old)
    assert has_rows(store, "early", "a-b", digest)
    assert_equal(read_rows(store, "early", "a-b", digest), table)
    old.write_bytes(b"")
    with pytest.raises(CorruptArtefact, match=r"rows/early/a-b.parquet: .*SHA-256 differs") as caught:
        read_rows(store, "early", "a-b", digest)
    assert store.is_damaged(caught.value)
    store.set_aside(caught.value.kind, caught.value.key)
    assert not has_rows(store, "early", "a-b", digest)


def test_a_file_of_an_early_version_is_not_taken_for_another_record_s(store: Store):
    table = drawn(3, 10)
    own = write_rows(store, "both", "a-b", table)
    other = write_rows(store, "both", "a-b", dataclasses.replace(table, gold=1 - table.gold))
    file_of("both", "a-b", other, store).rename(store.root / layout.ROWS / "both" / "a-b.parquet")
    assert has_rows(store, "both", "a-b", own)
    file_of("both", "a-b", own, store).unlink()
    assert not has_rows(store, "both", "a-b", own)
    assert has_rows(store, "both", "a-b", other)


def test_rows_that_another_run_wrote_again_are_no_longer_damaged(store: Store):
    table = drawn(3, 10)
    path = file_of("again", "a-b", write_rows(store, "again", "a-b", table), store)
    fault = CorruptArtefact(layout.ROWS, f"again/{path.name}", "")
    assert not store.is_damaged(fault)
    path.write_bytes(b"")
    assert store.is_damaged(fault)
    path.unlink()
    assert store.is_damaged(fault)
    write_rows(store, "again", "a-b", table)
    assert not store.is_damaged(fault)


def test_a_changed_byte_a_cut_file_and_another_table_are_noticed(store: Store):
    digest = write_rows(store, GROUP, NAME, drawn(3, 10))
    path = file_of(GROUP, NAME, digest, store)
    whole = path.read_bytes()
    changed = bytearray(whole)
    changed[len(whole) // 2] ^= 1
    for content in (bytes(changed), whole[:-9], b""):
        path.write_bytes(content)
        with pytest.raises(CorruptArtefact, match="SHA-256 differs"):
            read_rows(store, GROUP, NAME, digest)
    file_of(GROUP, NAME, write_rows(store, GROUP, NAME, drawn(3, 10, seed=1)), store).replace(path)
    with pytest.raises(CorruptArtefact, match="SHA-256 differs"):
        read_rows(store, GROUP, NAME, digest)


def test_a_file_of_another_form_with_the_right_hash_is_refused(store: Store, tmp_path: Path):
    path = store.root / layout.ROWS / GROUP / "other.parquet"  # an early version's name
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame({"row": [1]}).to_parquet(tmp_path / "frame.parquet")
    for content in ((tmp_path / "frame.parquet").read_bytes(), b"no Parquet at all"):
        path.write_bytes(content)
        with pytest.raises(CorruptArtefact, match="it can't be read"):
            read_rows(store, GROUP, "other", hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"loss": np.zeros((3, 10))}, "loss is float64"),
        ({"predicted": np.zeros((10, 3), np.int16)}, "predicted is int16"),
        ({"gold": np.zeros(9, np.int16)}, "gold is"),
        ({"probabilities": np.zeros((10, 3), np.float32)}, "probabilities is"),
        ({"row": np.arange(10, dtype=np.int32)[::-1]}, "don't ascend"),
        ({"t": (), "loss": np.zeros((0, 10), np.float32), "predicted": np.zeros((0, 10), np.int16)}, "one point"),
    ],
)
def test_columns_that_do_not_fit_are_a_programming_error(change: dict[str, Any], said: str):
    with pytest.raises(ValueError, match=said):
        dataclasses.replace(drawn(3, 10), **change)
