"""Records in batches: found by name, damage found by its hash, and alone."""

from __future__ import annotations

import multiprocessing
import random
from pathlib import Path
from typing import Any

import pytest

from raymc.specs.errors import CorruptArtefact
from raymc.store import batches, layout
from raymc.store.store import Store

KIND, GROUP = layout.PROFILES, "how"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "storage")
    store.prepare()
    return store


def body(number: int) -> dict[str, Any]:
    return {"loss": [0.1 * number, -0.0, 1e-320], "z": {"sha256": "x"}, "a": "line\nbreak é", "number": number}


def several(store: Store, count: int = 4) -> dict[str, dict[str, Any]]:
    bodies = {f"a-{number}": body(number) for number in range(count)}
    store.put_many(KIND, GROUP, bodies)
    return bodies


def files(store: Store) -> list[Path]:
    return sorted((store.root / KIND / GROUP).iterdir())


def afresh(store: Store) -> Store:
    return Store(store.root)


# Found -------------------------------------------------------------------------------------------------------------


def test_a_batch_is_one_file_and_gives_its_records_back_exactly(store: Store):
    bodies = several(store)
    assert len(files(store)) == 1
    for reader in (store, afresh(store)):
        assert reader.records(KIND, GROUP) == set(bodies)
        assert {name: repr(reader.get(KIND, GROUP, name)) for name in bodies} == {n: repr(b) for n, b in bodies.items()}
    with pytest.raises(KeyError, match="profiles/how/a-9"):
        store.get(KIND, GROUP, "a-9")
    assert list((store.root / layout.TEMPORARY).iterdir()) == []


def test_nothing_makes_no_file(store: Store):
    store.put_many(KIND, GROUP, {})
    assert store.records(KIND, GROUP) == set()
    assert not (store.root / KIND).exists()


def test_a_batch_that_can_t_be_written_exactly_isn_t_written(store: Store):
    with pytest.raises(ValueError, match="JSON"):
        store.put_many(KIND, GROUP, {"a-b": {"loss": 1.0}, "a-c": {"loss": float("nan")}})
    assert store.records(KIND, GROUP) == set()


def test_records_in_files_of_their_own_and_in_batches_are_alike(store: Store):
    store.put(KIND, GROUP, "a-0", {"number": -1})
    store.put(KIND, GROUP, "a-x", body(5))
    several(store)
    assert store.records(KIND, GROUP) == {"a-0", "a-1", "a-2", "a-3", "a-x"}
    assert store.get(KIND, GROUP, "a-0") == body(0)
    assert store.get(KIND, GROUP, "a-x") == body(5)
    store.put(KIND, GROUP, "a-1", {"number": -1})
    for reader in (store, afresh(store)):
        assert reader.get(KIND, GROUP, "a-1") == {"number": -1}


def test_what_another_writes_is_seen_and_the_last_wins(store: Store, monkeypatch: pytest.MonkeyPatch):
    other = afresh(store)
    several(store)
    for number in range(3):
        other.put_many(KIND, GROUP, {"a-0": {"number": number}, f"b-{number}": body(number)})
        assert store.get(KIND, GROUP, "a-0") == {"number": number}
        assert store.get(KIND, GROUP, f"b-{number}") == body(number)
    monkeypatch.setattr("time.time_ns", lambda: 1)  # the clock of a machine that is behind
    afresh(store).put_many(KIND, GROUP, {"a-0": body(9)})
    for reader in (store, other, afresh(store)):
        assert reader.get(KIND, GROUP, "a-0") == body(9)
        assert reader.records(KIND, GROUP) == {"a-0", "a-1", "a-2", "a-3", "b-0", "b-1", "b-2"}


def test_an_index_keeps_no_bodies_and_reads_each_list_once(store: Store, monkeypatch: pytest.MonkeyPatch):
    bodies = {f"a-{number}": {"loss": "x" * 100_000} for number in range(20)}
    store.put_many(KIND, GROUP, bodies)
    opened = []
    kept, load = batches.Index(store.root / KIND / GROUP), batches.Index._load
    monkeypatch.setattr(batches.Index, "_load", lambda self, file: (opened.append(file), load(self, file))[1])
    for _ in range(3):
        assert kept.refresh().names() == set(bodies)
    assert len(opened) == 1
    assert len(repr(vars(kept))) < 4_000


def write(uri: str, number: int, gate: Any) -> None:
    store = Store(uri)
    gate.wait()
    for round_ in range(20):
        store.put_many(KIND, GROUP, {f"a-{round_}-{i}": body(i) for i in (number, 2)})


def test_processes_that_write_a_group_at_once_are_all_heard(store: Store):
    context = multiprocessing.get_context("fork")
    gate = context.Barrier(2)
    writers = [context.Process(target=write, args=(store.uri, number, gate)) for number in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(timeout=60)
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert store.records(KIND, GROUP) == {f"a-{round_}-{i}" for round_ in range(20) for i in range(3)}
    assert all(store.get(KIND, GROUP, f"a-{round_}-{i}") == body(i) for round_ in range(20) for i in range(3))


# Damage ------------------------------------------------------------------------------------------------------------


def ask(store: Store, names: set[str]) -> tuple[dict[str, Any], list[CorruptArtefact]]:
    """(the bodies that are found, the faults, set aside), as a run asks for what it needs."""
    found, faults = {}, []
    for name in sorted(names):
        try:
            found[name] = store.get(KIND, GROUP, name)
        except CorruptArtefact as fault:
            faults.append(fault)
            store.set_aside(fault.kind, fault.key)
        except KeyError:
            pass
    return found, faults + store.mend(KIND)


def test_a_flipped_bit_anywhere_is_found_and_takes_one_record_at_most(store: Store):
    bodies = several(store)
    (file,) = files(store)
    whole, draw = file.read_bytes(), random.Random(3)
    start = whole.index(b"\n") + 1
    breaks = [at for at, byte in enumerate(whole) if byte == 10]
    for at in {*breaks, *range(12), *draw.sample(range(len(whole)), 120)}:
        for other in files(store):
            other.unlink()
        harmed = bytearray(whole)
        harmed[at] ^= draw.choice((1, 2, 4, 128))
        file.write_bytes(harmed)
        found, faults = ask(afresh(store), set(bodies))
        lost = bodies.keys() - found.keys()
        assert all(repr(found[name]) == repr(bodies[name]) for name in found)
        assert len(lost) <= (at >= start)
        assert len(faults) == (len(lost) if at >= start else 1)
        again, none = ask(afresh(store), set(bodies))  # the fault is out of the way
        assert (again.keys(), none) == (found.keys(), [])


def test_a_damaged_list_and_a_damaged_record_are_both_found(store: Store):
    bodies = several(store)
    (file,) = files(store)
    harmed = file.read_bytes().replace(b'"records"', b'"recordz"').replace(b'"number":2', b'"number":7')
    file.write_bytes(harmed)
    found, faults = ask(store := afresh(store), {*bodies, "a-9"})
    assert found.keys() == {"a-0", "a-1", "a-3"}
    assert [str(fault) for fault in faults] == [f"profiles/how/{file.name}: the list of its records can't be read"]
    assert not file.exists()  # set aside, and one with the whole records is in its place
    assert [path.read_bytes() for path in (store.root / layout.SET_ASIDE).iterdir()] == [harmed]
    assert (store.records(KIND, GROUP), len(files(store))) == (found.keys(), 1)


def test_the_whole_records_of_a_damaged_file_don_t_come_before_later_ones(store: Store):
    several(store)
    (file,) = files(store)
    store.put_many(KIND, GROUP, {"a-0": body(8)})
    file.write_bytes(file.read_bytes().replace(b'"records"', b'"recordz"'))
    reader = afresh(store)
    assert reader.get(KIND, GROUP, "a-0") == body(8)
    assert reader.get(KIND, GROUP, "a-1") == body(1)
    assert [fault.key for fault in reader.mend(KIND)] == [f"{GROUP}/{file.name}"]
    assert reader.mend(KIND) == []
    for one in (reader, afresh(store), store):  # `store` knew the old file
        assert one.get(KIND, GROUP, "a-0") == body(8)
        assert one.get(KIND, GROUP, "a-1") == body(1)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.6, 0.99])
def test_a_truncated_file_is_found(store: Store, share: float):
    bodies = several(store)
    (file,) = files(store)
    content = file.read_bytes()
    left = content[: int(share * len(content))]
    file.write_bytes(left)
    found, faults = ask(reader := afresh(store), set(bodies))
    assert all(found[name] == bodies[name] for name in found)
    assert faults
    assert len(found) == max(0, left.count(b"\n") - 1)  # the records that are whole
    reader.put_many(KIND, GROUP, {name: bodies[name] for name in bodies.keys() - found.keys()})
    assert ask(afresh(store), set(bodies)) == (bodies, [])


def test_what_is_set_aside_is_gone_for_all_and_kept_for_a_look(store: Store):
    bodies = several(store)
    other = afresh(store)
    assert other.get(KIND, GROUP, "a-1") == body(1)
    place = store.set_aside(KIND, f"{GROUP}/a-1.json")
    assert place is not None
    assert batches.read_record(place.read_bytes(), "a-1") == body(1)
    for reader in (store, other, afresh(store)):
        assert reader.records(KIND, GROUP) == bodies.keys() - {"a-1"}
        with pytest.raises(KeyError):
            reader.get(KIND, GROUP, "a-1")
    assert store.set_aside(KIND, f"{GROUP}/a-1.json") is None
    store.put(KIND, GROUP, "a-1", body(6))
    assert [reader.get(KIND, GROUP, "a-1") for reader in (store, other, afresh(store))] == [body(6)] * 3
