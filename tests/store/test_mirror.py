"""Object storage by way of each machine's mirror, against a real S3-protocol server on loopback."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raymc.specs.errors import CorruptArtefact, RaymcError, StorageFault
from raymc.store import layout
from raymc.store.store import Store

KEY, KIND = "0123456789abcdef0123", layout.MINIMA
Machine = Callable[[str], Store]


def make(store: Store, key: str = KEY, kind: str = KIND, text: str = "weights") -> None:
    with store.create(kind, key) as folder:
        (folder / "model.safetensors").write_text(text)
        (folder / "config.json").write_text('{"a": 1}')
        (folder / "tokens").mkdir()
        (folder / "tokens" / "vocab.txt").write_text("a b c")


def damage(store: Store, name: str) -> None:
    content = bytearray(store.objects.get(name) or b"")
    content[len(content) // 2] ^= 4
    store.objects.put(name, bytes(content))


def one_object(store: Store, ending: str) -> str:
    (found,) = [name for name in store.objects.list() if name.endswith(ending)]
    return found


def test_a_folder_made_on_one_machine_is_read_on_another(machine: Machine):
    here = machine("a")
    here.prepare()
    make(here)
    there = machine("b")
    assert there.keys(KIND) == {KEY}
    assert there.has(KIND, KEY)
    assert not there.has(KIND, "0" * 20)
    assert there.weights_digest(KIND, KEY) == here.weights_digest(KIND, KEY)
    assert there.read_json(KIND, KEY, "config.json") == {"a": 1}
    assert there.sizes(KIND, KEY)["model.safetensors"] == 7
    assert not there.is_here(KIND, KEY)  # its weights were not needed so far
    folder = there.folder(KIND, KEY)
    assert folder != here.folder(KIND, KEY)
    assert (folder / "tokens" / "vocab.txt").read_text() == "a b c"
    assert there.verify(KIND, KEY, deep=True) == here.verify(KIND, KEY, deep=True)
    assert there.where(KIND, KEY) == here.where(KIND, KEY)
    assert there.objects.get(there.where(KIND, KEY).removeprefix(there.uri + "/") + "/config.json") == b'{"a": 1}'
    assert not list((there.root / layout.TEMPORARY).iterdir())


def test_what_is_mirrored_isn_t_fetched_twice(machine: Machine, monkeypatch: pytest.MonkeyPatch):
    make(machine("a"))
    machine("b").folder(KIND, KEY)
    again = machine("b")
    fetched: list[str] = []
    monkeypatch.setattr(type(again.objects), "download", lambda self, name, path: fetched.append(name))
    assert (again.folder(KIND, KEY) / "config.json").is_file()
    assert fetched == []


def test_several_processes_of_a_machine_fetch_a_folder_once(machine: Machine, monkeypatch: pytest.MonkeyPatch):
    make(machine("a"))
    several = [machine("b") for _ in range(4)]
    inner, fetched = type(several[0].objects).download, []

    def counted(self: Any, name: str, path: Path) -> str:
        fetched.append(name)
        return inner(self, name, path)

    monkeypatch.setattr(type(several[0].objects), "download", counted)
    threads = [threading.Thread(target=store.folder, args=(KIND, KEY)) for store in several]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(fetched) == 3
    assert (several[0].folder(KIND, KEY) / "config.json").is_file()


def test_a_writer_killed_before_the_manifest_leaves_nothing_that_is_seen(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
):
    class Killed(BaseException):
        pass

    def die(*arguments: Any) -> bool:
        raise Killed

    here = machine("a")
    with monkeypatch.context() as patch:
        patch.setattr(here.objects, "create", die)
        with pytest.raises(Killed):
            make(here)
    assert len(here.objects.list(KIND)) == 3  # its files are there
    for store in (machine("a"), machine("b")):
        assert not store.has(KIND, KEY)
        assert store.keys(KIND) == set()
        assert not store.folder(KIND, KEY).exists()
        with pytest.raises(CorruptArtefact):
            store.verify(KIND, KEY)
    make(machine("b"))
    assert machine("a").verify(KIND, KEY, deep=True)


def test_of_two_writers_of_a_key_the_first_to_finish_stays_whole(machine: Machine):
    first, second = machine("a"), machine("b")
    with second.create(KIND, KEY) as folder:
        (folder / "model.safetensors").write_text("another")
        make(first)
    assert first.folder(KIND, KEY).joinpath("model.safetensors").read_text() == "weights"
    assert second.folder(KIND, KEY).joinpath("model.safetensors").read_text() == "weights"
    assert second.verify(KIND, KEY, deep=True) == first.verify(KIND, KEY, deep=True)
    assert len(first.objects.list(KIND)) == 3  # the second's files are gone


def test_records_go_from_machine_to_machine(machine: Machine):
    here, there = machine("a"), machine("b")
    assert there.records(layout.PROFILES, "how") == set()
    here.put_many(layout.PROFILES, "how", {"a-b": {"loss": 1.5}, "a-c": {"loss": 2.0}})
    here.put(layout.PROFILES, "how", "b-c", {"loss": 3.0})
    there.again()
    assert there.get(layout.PROFILES, "how", "a-c") == {"loss": 2.0}
    assert there.get(layout.PROFILES, "how", "b-c") == {"loss": 3.0}
    assert there.records(layout.PROFILES, "how") == {"a-b", "a-c", "b-c"}
    there.put(layout.PROFILES, "how", "a-b", {"loss": 7.0})
    here.again()
    assert here.get(layout.PROFILES, "how", "a-b") == {"loss": 7.0}
    with pytest.raises(KeyError):
        here.get(layout.PROFILES, "how", "x-y")


def test_many_lacking_records_are_looked_for_once(machine: Machine, monkeypatch: pytest.MonkeyPatch):
    store = machine("a")
    store.put_many(layout.PROFILES, "how", {"a-b": {"loss": 1.5}})
    inner, asked = type(store.objects).entries, []

    def counted(self: Any, prefix: str = "") -> Any:
        asked.append(prefix)
        return inner(self, prefix)

    monkeypatch.setattr(type(store.objects), "entries", counted)
    fresh = machine("b")
    assert all(fresh.place(layout.PROFILES, "how", f"x-{number}") is None for number in range(500))
    assert fresh.place(layout.PROFILES, "how", "a-b") is not None
    assert not any(fresh.has_group_file(layout.ROWS, "how", f"{number}.parquet") for number in range(500))
    assert asked == [f"{layout.PROFILES}/how", f"{layout.ROWS}/how"]


def test_a_record_set_aside_on_one_machine_is_gone_on_the_other(machine: Machine):
    here, there = machine("a"), machine("b")
    here.put_many(layout.PROFILES, "how", {"a-b": {"loss": 1.5}, "a-c": {"loss": 2.0}})
    here.put(layout.EVALUATIONS, "how", "a", {"loss": 3.0})
    assert there.get(layout.EVALUATIONS, "how", "a") == {"loss": 3.0}
    assert there.get(layout.PROFILES, "how", "a-b") == {"loss": 1.5}
    for kind, key in ((layout.PROFILES, "how/a-b.json"), (layout.EVALUATIONS, "how/a.json")):
        place = here.set_aside(kind, key)
        assert place is not None
        assert place.is_file()
    there.again()
    assert there.records(layout.PROFILES, "how") == {"a-c"}
    assert there.records(layout.EVALUATIONS, "how") == set()
    with pytest.raises(KeyError):
        there.get(layout.EVALUATIONS, "how", "a")


def test_a_mirror_s_damaged_folder_is_fetched_anew(machine: Machine):
    make(machine("a"))
    there = machine("b")
    damaged = there.folder(KIND, KEY) / "model.safetensors"
    damaged.write_text("weighty")
    with pytest.raises(CorruptArtefact):
        there.check_copy(KIND, KEY)
    assert there.verify(KIND, KEY, deep=True) == machine("a").verify(KIND, KEY, deep=True)
    assert damaged.read_text() == "weights"
    (there.folder(KIND, KEY) / layout.MANIFEST).unlink()
    assert machine("b").verify(KIND, KEY)
    assert there.objects.list(layout.SET_ASIDE) == []


def test_a_machine_s_damage_is_judged_by_what_the_storage_has(machine: Machine):
    """An actor on one machine finds a fault, the driver on another decides what becomes of it."""
    make(machine("a"))
    fault, driver = CorruptArtefact(KIND, KEY, "model.safetensors is not what was written"), machine("driver")
    assert not driver.is_damaged(fault)
    (driver.folder(KIND, KEY) / "model.safetensors").write_text("weighty")  # its own copy says nothing either
    assert not driver.is_damaged(fault)
    assert (driver.folder(KIND, KEY) / "model.safetensors").read_text() == "weights"
    damage(driver, one_object(driver, "model.safetensors"))
    assert driver.is_damaged(fault)  # its own copy is still whole
    driver.objects.delete(one_object(driver, f"{KEY}.json"))
    assert driver.is_damaged(fault)


def test_what_is_made_anew_during_a_look_is_not_damaged(machine: Machine, monkeypatch: pytest.MonkeyPatch):
    here, there = machine("a"), machine("b")
    make(here)
    damage(here, one_object(here, "model.safetensors"))
    inner = type(there.objects).download

    def slow(self: Any, name: str, path: Path) -> str:
        if name.endswith("model.safetensors") and not here.objects.list(layout.SET_ASIDE):
            here.set_aside(KIND, KEY)
            make(here)
        return inner(self, name, path)

    monkeypatch.setattr(type(there.objects), "download", slow)
    assert not there.is_damaged(CorruptArtefact(KIND, KEY, "damaged"))
    assert there.verify(KIND, KEY, deep=True)


def test_another_attempt_on_its_way_up_is_not_set_aside(machine: Machine):
    store = machine("a")
    make(store)
    store.objects.put(f"{KIND}/{KEY}/another/model.safetensors", b"half")
    store.set_aside(KIND, KEY)
    assert store.objects.list(KIND) == [f"{KIND}/{KEY}/another/model.safetensors"]


def test_a_mirror_s_damaged_records_are_fetched_anew(machine: Machine):
    here, there = machine("a"), machine("b")
    here.put_many(layout.PROFILES, "how", {"a-b": {"loss": 1.5}})
    here.put(layout.PROFILES, "how", "a-c", {"loss": 1.5})
    assert there.records(layout.PROFILES, "how") == {"a-b", "a-c"}
    for path in (there.root / layout.PROFILES / "how").iterdir():
        path.write_bytes(path.read_bytes().replace(b"1.5", b"2.5"))
    assert there.get(layout.PROFILES, "how", "a-b") == {"loss": 1.5}
    assert there.get(layout.PROFILES, "how", "a-c") == {"loss": 1.5}


def test_what_is_damaged_in_the_storage_is_set_aside_there(machine: Machine):
    make(machine("a"))
    there = machine("b")
    damage(there, one_object(there, "model.safetensors"))
    with pytest.raises(CorruptArtefact, match=r"model.safetensors is not what was written \(SHA-256 differs\)"):
        there.folder(KIND, KEY)
    there.set_aside(KIND, KEY)
    for store in (there, machine("c")):
        assert not store.has(KIND, KEY)
        assert store.keys(KIND) == set()
    assert len(there.objects.list(layout.SET_ASIDE)) == 4
    assert there.objects.list(KIND) == []
    make(there)
    assert machine("c").verify(KIND, KEY, deep=True)


def test_a_whole_folder_can_be_set_aside(machine: Machine):
    """As a curve between weights that are no longer those of its minima."""
    make(machine("a"))
    there = machine("b")
    there.folder(KIND, KEY)
    there.set_aside(KIND, KEY)
    assert not machine("c").has(KIND, KEY)


def test_a_mirror_follows_a_folder_that_was_made_anew(machine: Machine):
    here, there = machine("a"), machine("b")
    make(here)
    there.folder(KIND, KEY)
    here.set_aside(KIND, KEY)
    make(here, text="others!")
    assert there.keys(KIND) == {KEY}
    assert (there.folder(KIND, KEY) / "model.safetensors").read_text() == "others!"
    assert machine("b").weights_digest(KIND, KEY) == here.weights_digest(KIND, KEY)


def test_a_mirror_s_folder_that_another_machine_set_aside_is_used_no_more(machine: Machine):
    here, there = machine("a"), machine("b")
    make(here)
    there.folder(KIND, KEY)
    here.set_aside(KIND, KEY)
    again = machine("b")
    assert again.is_here(KIND, KEY)
    with pytest.raises(CorruptArtefact):
        again.verify(KIND, KEY)
    assert not again.folder(KIND, KEY).exists()


def test_records_of_one_size_written_in_one_second_aren_t_mixed_up(machine: Machine):
    here, there = machine("a"), machine("b")
    for loss in (1.0, 2.0, 3.0):
        here.put(layout.PRECISIONS, "how", "one", {"loss": loss})
        there.again()
        assert there.get(layout.PRECISIONS, "how", "one") == {"loss": loss}


def test_checkpoints_are_found_and_discarded_from_any_machine(machine: Machine):
    here, there = machine("a"), machine("b")
    for step in ("step-1", "step-2"):
        make(here, f"run/{step}", layout.CHECKPOINTS)
    make(here, "runner/step-7", layout.CHECKPOINTS)
    assert there.below(layout.CHECKPOINTS, "run") == ["step-1", "step-2"]
    assert there.below(layout.CHECKPOINTS, "runs") == []
    there.discard(layout.CHECKPOINTS, "run/step-1")
    assert machine("a").below(layout.CHECKPOINTS, "run") == ["step-2"]
    there.discard(layout.CHECKPOINTS, "run")
    there.discard(layout.CHECKPOINTS, "run")
    assert there.below(layout.CHECKPOINTS, "run") == []
    assert machine("c").verify(layout.CHECKPOINTS, "runner/step-7", deep=True)
    assert len(there.objects.list(layout.CHECKPOINTS)) == 3


def test_files_left_by_killed_writers_go_when_the_key_is_finished(machine: Machine, monkeypatch: pytest.MonkeyPatch):
    from datetime import timedelta

    store = machine("a")
    store.objects.put(f"{KIND}/{KEY}/killed/model.safetensors", b"half")
    make(store)
    assert len(store.objects.list(KIND)) == 4  # it may be another writer at work
    store.set_aside(KIND, KEY)
    store.objects.put(f"{KIND}/{KEY}/killed/model.safetensors", b"half")
    monkeypatch.setattr("raymc.store.mirror._LEFT", timedelta(seconds=-1))
    make(store)
    assert len(store.objects.list(KIND)) == 3


def test_a_storage_is_tried_before_a_run(machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    machine("a").prepare()
    assert machine("a").objects.list() == []
    with pytest.raises(RaymcError, match=r"^storage s3://nobucket/x: there is no bucket 'nobucket'$"):
        Store("s3://nobucket/x").prepare()
    (tmp_path / "file").write_text("")
    with pytest.raises(RaymcError, match="can't be written: Not a directory"):
        machine("file").prepare()


def test_a_folder_whose_upload_meets_an_outage_is_finished_afterwards(machine: Machine, s3: Any):
    store = machine("a")
    s3.stop()
    back = threading.Timer(0.7, s3.start)
    back.start()
    try:
        make(store)
    finally:
        back.join()
    assert machine("b").verify(KIND, KEY, deep=True)


def test_an_outage_without_end_leaves_nothing_half_made(machine: Machine, s3: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RAYMC_STORAGE_WAIT", "0.3")
    store = machine("a")
    store.put(layout.PROFILES, "how", "a-b", {"loss": 1.0})
    s3.stop()
    try:
        with pytest.raises(StorageFault, match="everything finished is kept"):
            make(store)
        with pytest.raises(StorageFault):
            store.put(layout.PROFILES, "how", "a-c", {"loss": 1.0})
    finally:
        s3.start()
    assert not list((store.root / layout.TEMPORARY).iterdir())
    assert machine("a").keys(KIND) == set()
    assert machine("a").records(layout.PROFILES, "how") == {"a-b"}
