"""The store: whole or not at all, checked when read, safe among processes."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raymc.specs.errors import CorruptArtefact, RaymcError
from raymc.store import layout
from raymc.store import store as store_module
from raymc.store.store import Store

KEY = "0123456789abcdef0123"
WEIGHTS = bytes(range(256)) * 40


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "storage")
    store.prepare()
    return store


def fill(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    (folder / "tokenizer").mkdir(exist_ok=True)
    (folder / "tokenizer/vocab.txt").write_text("[UNK]\n")
    (folder / "empty").write_text("")
    (folder / layout.PROVENANCE).write_text('{"steps": 3}')


def make(store: Store, kind: str = layout.MINIMA, key: str = KEY) -> Path:
    with store.create(kind, key) as folder:
        fill(folder)
    return store.folder(kind, key)


def nothing_is_left(store: Store) -> bool:
    return list((store.root / layout.TEMPORARY).iterdir()) == []


# Whole or not at all -----------------------------------------------------------------------------------------------


def test_an_artefact_is_visible_when_its_block_has_ended(store: Store):
    with store.create(layout.MINIMA, KEY) as folder:
        fill(folder)
        assert folder.is_relative_to(store.root)  # one file system: the last step is a rename
        assert not store.has(layout.MINIMA, KEY)
        assert store.keys(layout.MINIMA) == set()
    assert store.has(layout.MINIMA, KEY)
    assert store.keys(layout.MINIMA) == {KEY}
    final = store.folder(layout.MINIMA, KEY)
    assert (final / "model.safetensors").read_bytes() == WEIGHTS
    assert (final / "tokenizer/vocab.txt").read_text() == "[UNK]\n"
    assert store.verify(layout.MINIMA, KEY) == store.verify(layout.MINIMA, KEY, deep=True)
    assert nothing_is_left(store)


def test_the_manifest_names_every_file(store: Store):
    manifest = json.loads((make(store) / layout.MANIFEST).read_text())
    assert {name: entry["bytes"] for name, entry in manifest["files"].items()} == {
        "empty": 0,
        "minimum.json": 12,
        "model.safetensors": len(WEIGHTS),
        "tokenizer/vocab.txt": 6,
    }
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert manifest["files"]["empty"]["sha256"] == empty


def test_a_key_may_have_parts(store: Store):
    make(store, layout.CHECKPOINTS, f"{KEY}/step-000000100")
    assert store.verify(layout.CHECKPOINTS, f"{KEY}/step-000000100")
    aside = store.set_aside(layout.CHECKPOINTS, f"{KEY}/step-000000100")
    assert aside is not None
    assert aside.parent == store.root / layout.SET_ASIDE
    assert nothing_is_left(store)


def test_a_digest_is_of_the_content_alone(store: Store):
    make(store)
    make(store, key="same")
    for key, name in (("other", "empty"), ("heavier", "model.safetensors")):
        with store.create(layout.MINIMA, key) as folder:
            fill(folder)
            (folder / name).write_text("changed")
    keys = (KEY, "same", "other", "heavier")
    digests = [store.verify(layout.MINIMA, key) for key in keys]
    assert [digest == digests[0] for digest in digests] == [True, True, False, False]
    weights = [store.weights_digest(layout.MINIMA, key) for key in keys]
    assert [digest == weights[0] for digest in weights] == [True, True, True, False]


@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt(), OSError("the trial's own")])
def test_a_block_that_fails_leaves_nothing(store: Store, error: BaseException):
    def write() -> None:
        with store.create(layout.MINIMA, KEY) as folder:
            fill(folder)
            raise error

    with pytest.raises(type(error)) as caught:
        write()
    assert caught.value is error  # the cause as it was
    assert not store.folder(layout.MINIMA, KEY).exists()
    assert nothing_is_left(store)
    make(store)  # and the next try finds the place free


WRITER = """
import sys, time
from raymc.store.store import Store
with Store(sys.argv[1]).create("minima", sys.argv[2]) as folder:
    (folder / "model.safetensors").write_bytes(b"half")
    print("written", flush=True)
    time.sleep(600)
"""


def test_a_killed_writer_leaves_nothing_visible(store: Store):
    with subprocess.Popen([sys.executable, "-c", WRITER, store.uri, KEY], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "written\n"
        writer.send_signal(signal.SIGKILL)
        assert writer.wait() == -signal.SIGKILL
    assert not store.has(layout.MINIMA, KEY)
    assert store.keys(layout.MINIMA) == set()
    assert not store.folder(layout.MINIMA, KEY).exists()
    make(store)
    assert store.verify(layout.MINIMA, KEY, deep=True)


def test_a_folder_without_its_manifest_is_nobody_s_work(store: Store):
    (store.folder(layout.MINIMA, KEY)).mkdir(parents=True)
    (store.folder(layout.MINIMA, KEY) / "model.safetensors").write_bytes(b"half")
    assert not store.has(layout.MINIMA, KEY)
    make(store)
    assert store.verify(layout.MINIMA, KEY, deep=True)
    (aside,) = (store.root / layout.SET_ASIDE).iterdir()
    assert (aside / "model.safetensors").read_bytes() == b"half"


def test_the_first_of_two_stays(store: Store):
    first = make(store)
    inode = first.stat().st_ino
    with store.create(layout.MINIMA, KEY) as folder:
        (folder / "model.safetensors").write_bytes(b"second")
    assert store.folder(layout.MINIMA, KEY).stat().st_ino == inode
    assert (first / "model.safetensors").read_bytes() == WEIGHTS
    assert store.verify(layout.MINIMA, KEY, deep=True)
    assert nothing_is_left(store)


def race(uri: str, number: int, gate: Any, results: Any) -> None:
    store = Store(uri)
    gate.wait()
    try:
        for round_ in range(10):
            with store.create(layout.MINIMA, f"key{round_}") as folder:
                (folder / "who").write_text(str(number))
            store.put(layout.PROFILES, "group", f"a-{round_}", {"loss": [0.1, 0.2]})
        results.put(None)
    except BaseException as error:  # noqa: BLE001 - told to the test
        results.put(repr(error))


def test_processes_that_make_the_same_at_once_all_succeed(store: Store):
    context = multiprocessing.get_context("spawn")
    gate, results = context.Barrier(2), context.Queue()
    writers = [context.Process(target=race, args=(store.uri, number, gate, results)) for number in range(2)]
    for writer in writers:
        writer.start()
    assert [results.get(timeout=60) for _ in writers] == [None, None]
    for writer in writers:
        writer.join(timeout=60)
    for round_ in range(10):
        assert store.verify(layout.MINIMA, f"key{round_}", deep=True)
        assert (store.folder(layout.MINIMA, f"key{round_}") / "who").read_text() in ("0", "1")
        assert store.get(layout.PROFILES, "group", f"a-{round_}") == {"loss": [0.1, 0.2]}
    assert nothing_is_left(store)


# Checked when read -------------------------------------------------------------------------------------------------


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def behind_its_time(path: Path) -> None:
    stat = path.stat()
    flip(path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def moved_in(path: Path) -> None:
    """A file of the same size and time put in its place."""
    other, stat = path.with_name("other"), path.stat()
    other.write_bytes(b"x" * stat.st_size)
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (flip, "model.safetensors is not what was written (SHA-256 differs)"),
        (behind_its_time, "model.safetensors is not what was written (SHA-256 differs)"),
        (moved_in, "model.safetensors is not what was written (SHA-256 differs)"),
        (lambda path: os.truncate(path, 100), f"model.safetensors has 100 bytes, not {len(WEIGHTS)}"),
        (lambda path: path.write_bytes(b""), f"model.safetensors has 0 bytes, not {len(WEIGHTS)}"),
        (lambda path: path.unlink(), "model.safetensors is missing"),
    ],
    ids=["flipped", "flipped behind its time", "replaced", "truncated", "emptied", "removed"],
)
@pytest.mark.parametrize("deep", [False, True])
def test_harm_is_found(store: Store, harm: Callable[[Path], Any], reason: str, deep: bool):
    harm(make(store) / "model.safetensors")
    assert store.has(layout.MINIMA, KEY)  # a look isn't a check
    with pytest.raises(CorruptArtefact) as caught:
        store.verify(layout.MINIMA, KEY, deep=deep)
    assert str(caught.value) == f"minima/{KEY}: {reason}"
    assert (caught.value.kind, caught.value.key, caught.value.reason) == (layout.MINIMA, KEY, reason)


@pytest.mark.parametrize("moved", [False, True])
def test_a_file_that_can_t_be_read_any_more_is_damage(store: Store, monkeypatch: pytest.MonkeyPatch, moved: bool):
    """A disk that gives no more, and another run that sets the folder aside in the midst of a check."""
    folder, hashed = make(store), store_module._sha256

    def gone(path: Path) -> str:
        if not moved:
            raise OSError(errno.EIO, "Input/output error")
        folder.rename(folder.with_name("elsewhere"))
        return hashed(path)

    monkeypatch.setattr(store_module, "_sha256", gone)
    with pytest.raises(CorruptArtefact, match="can't be read") as caught:
        store.verify(layout.MINIMA, KEY, deep=True)
    assert store.is_damaged(caught.value)


def test_files_that_did_not_change_are_not_hashed_again(store: Store, monkeypatch: pytest.MonkeyPatch):
    folder = make(store)
    later = time.time_ns() + 10**9
    os.utime(folder / layout.MANIFEST, ns=(later, later))
    hashed: list[Path] = []
    monkeypatch.setattr("raymc.store.store._sha256", hashed.append)
    store.verify(layout.MINIMA, KEY)
    assert hashed == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "can't be read"),
        ("{", "can't be read"),
        ("[]", "can't be read"),
        ("{}", "can't be read"),
        ("\x00\x00", "can't be read"),
        ('{"files": {}, "digest": "0"}', "is not what was written"),
        ('{"files": [], "digest": null}', "is not what was written"),
    ],
)
def test_a_harmed_manifest_is_found(store: Store, text: str, reason: str):
    (make(store) / layout.MANIFEST).write_text(text)
    checks = [store.verify, store.weights_digest, lambda kind, key: store.read_json(kind, key, layout.PROVENANCE)]
    for check in checks:
        with pytest.raises(CorruptArtefact, match=rf"minima/{KEY}: MANIFEST\.json {reason}"):
            check(layout.MINIMA, KEY)


def test_a_manifest_made_to_fit_harmed_files_is_found(store: Store):
    folder = make(store)
    manifest = json.loads((folder / layout.MANIFEST).read_text())
    manifest["files"]["model.safetensors"]["bytes"] = 3
    (folder / layout.MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(CorruptArtefact, match="is not what was written"):
        store.verify(layout.MINIMA, KEY)


def test_a_json_file_of_a_folder_is_checked(store: Store):
    path = make(store) / layout.PROVENANCE
    assert store.read_json(layout.MINIMA, KEY, layout.PROVENANCE) == {"steps": 3}
    path.write_text('{"steps": 4}')
    with pytest.raises(CorruptArtefact, match=r"minimum\.json is not what was written"):
        store.read_json(layout.MINIMA, KEY, layout.PROVENANCE)
    path.unlink()
    for name, reason in ((layout.PROVENANCE, "can't be read"), ("empty", "can't be read"), ("gone", "can't be read")):
        with pytest.raises(CorruptArtefact, match=f"{name} {reason}"):
            store.read_json(layout.MINIMA, KEY, name)


def test_what_is_not_there_can_t_be_verified(store: Store):
    with pytest.raises(CorruptArtefact, match=r"MANIFEST\.json can't be read"):
        store.verify(layout.MINIMA, KEY)


def test_what_is_set_aside_makes_room_and_is_kept(store: Store):
    flip(make(store) / "model.safetensors")
    aside = store.set_aside(layout.MINIMA, KEY)
    assert aside is not None
    assert aside.parent == store.root / layout.SET_ASIDE
    assert (aside / layout.MANIFEST).is_file()
    assert not store.has(layout.MINIMA, KEY)
    make(store)
    assert store.verify(layout.MINIMA, KEY, deep=True)
    assert store.set_aside(layout.MINIMA, "gone") is None
    again = store.set_aside(layout.MINIMA, KEY)
    assert again not in (None, aside)


def test_what_another_run_made_anew_is_no_longer_damaged(store: Store):
    """Two runs find one fault; the second hears of it late."""
    flip(make(store) / "model.safetensors")
    store.put(layout.PROFILES, "how", "a-b", {"loss": 1.0})
    flip(store.root / layout.PROFILES / "how/a-b.json")
    faults = [CorruptArtefact(layout.MINIMA, KEY, ""), CorruptArtefact(layout.PROFILES, "how/a-b.json", "")]
    assert [store.is_damaged(fault) for fault in faults] == [True, True]
    for fault in faults:
        store.set_aside(fault.kind, fault.key)
    make(store)
    store.put(layout.PROFILES, "how", "a-b", {"loss": 1.0})
    assert [store.is_damaged(fault) for fault in faults] == [False, False]


def test_a_record_s_fault_says_what_to_set_aside(store: Store):
    store.put(layout.PROFILES, "how", "a-b", {"loss": 1.0})
    (store.root / layout.PROFILES / "how/a-b.json").write_text("{}")
    with pytest.raises(CorruptArtefact) as caught:
        store.get(layout.PROFILES, "how", "a-b")
    fault = pickle.loads(pickle.dumps(caught.value))  # as it comes from an actor
    assert str(fault) == "profiles/how/a-b.json: it can't be read"
    assert store.set_aside(fault.kind, fault.key) is not None
    assert store.records(layout.PROFILES, "how") == set()
    with pytest.raises(KeyError):
        store.get(layout.PROFILES, "how", "a-b")


# Records -----------------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text(max_size=8), JSON, max_size=4))
def test_records_come_back_exactly(store: Store, body: dict[str, Any]):
    store.put(layout.EVALUATIONS, "how", KEY, body)
    found = store.get(layout.EVALUATIONS, "how", KEY)
    assert found == body
    assert repr(found) == repr(body)  # -0.0 and 0.0, 1 and 1.0 and True differ too, and so does the order of keys
    assert store.records(layout.EVALUATIONS, "how") == {KEY}


def test_the_last_record_of_a_name_wins(store: Store):
    for loss in (1.0, 0.1 + 0.2):
        store.put(layout.PROFILES, "how", "a-b", {"loss": loss})
    store.put(layout.PROFILES, "how", "a-c", {})
    assert store.get(layout.PROFILES, "how", "a-b") == {"loss": 0.1 + 0.2}
    assert store.records(layout.PROFILES, "how") == {"a-b", "a-c"}
    assert nothing_is_left(store)


def test_there_is_no_record(store: Store):
    with pytest.raises(KeyError, match="profiles/how/a-b"):
        store.get(layout.PROFILES, "how", "a-b")
    assert store.records(layout.PROFILES, "how") == set()


def test_a_record_that_can_t_be_written_exactly_leaves_the_old_one(store: Store):
    store.put(layout.PROFILES, "how", "a-b", {"loss": 1.0})
    with pytest.raises(ValueError, match="JSON"):
        store.put(layout.PROFILES, "how", "a-b", {"loss": float("nan")})
    assert store.get(layout.PROFILES, "how", "a-b") == {"loss": 1.0}
    assert nothing_is_left(store)


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda text: text.replace("0.25", "0.26"), "it is not what was written (SHA-256 differs)"),
        (lambda text: text.replace("sha256", "sha257"), "it can't be read"),
        (lambda text: text[:-5], "it can't be read"),
        (lambda text: "", "it can't be read"),
        (lambda text: "[1]", "it can't be read"),
        (lambda text: text.replace("0.25", "NaN"), "it can't be read"),
        (lambda text: text.replace("loss", "\ufffe"), "it is not what was written (SHA-256 differs)"),
    ],
)
def test_a_harmed_record_is_found(store: Store, harm: Callable[[str], str], reason: str):
    store.put(layout.EVALUATIONS, "how", KEY, {"loss": 0.25})
    path = store.root / layout.EVALUATIONS / "how" / f"{KEY}.json"
    path.write_text(harm(path.read_text()), encoding="utf-8")
    with pytest.raises(CorruptArtefact) as caught:
        store.get(layout.EVALUATIONS, "how", KEY)
    assert str(caught.value) == f"evaluations/how/{KEY}.json: {reason}"


def test_a_file_is_written_whole(store: Store):
    path = store.root / layout.SWEEPS / "quick/spec.json"
    store.write_file(path, b"one")
    store.write_file(path, b"two")
    assert path.read_bytes() == b"two"
    assert nothing_is_left(store)


# Places ------------------------------------------------------------------------------------------------------------


def test_a_storage_that_can_t_be_written_is_said_in_one_line(tmp_path: Path):
    (tmp_path / "file").write_text("")
    store = Store(tmp_path / "file" / "storage")

    def create() -> None:
        with store.create(layout.MINIMA, KEY):
            raise AssertionError("the work must not begin")

    for act in (store.prepare, create, lambda: store.put(layout.PROFILES, "how", "a-b", {})):
        with pytest.raises(RaymcError) as caught:
            act()
        assert str(caught.value) == f"storage {tmp_path}/file/storage can't be written: Not a directory"


def test_a_kind_that_can_t_be_written_is_said_when_the_work_is_done(store: Store):
    (store.root / layout.MINIMA).write_text("a file where a folder has to be")
    with pytest.raises(RaymcError, match=r"^storage \S+ can't be written: File exists$"):
        make(store)
    assert nothing_is_left(store)


@pytest.mark.parametrize(
    ("uri", "what"),
    [
        ("hdfs://host/x", "a folder, or one of s3://, gs://; not hdfs://"),
        ("s3://", "no bucket is named"),
        ("gs:///", "no"),
    ],
)
def test_a_storage_of_another_kind_is_refused(uri: str, what: str):
    with pytest.raises(RaymcError, match=f"^storage {uri}: {what}"):
        Store(uri)


def test_a_password_in_a_uri_is_refused_and_not_said():
    with pytest.raises(RaymcError, match="belong in the environment") as caught:
        Store("s3://key:secret@bucket/x")
    assert "secret" not in str(caught.value)


def test_the_spellings_of_a_folder_are_one_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    spellings = ["store", "./store", "~/store", f"file://{tmp_path}/store", tmp_path / "x/../store"]
    assert {Store(spelling).uri for spelling in spellings} == {str(tmp_path / "store")}


def test_an_empty_storage_has_nothing(tmp_path: Path):
    store = Store(tmp_path / "storage")
    assert store.keys(layout.MINIMA) == set()
    assert not store.has(layout.MINIMA, KEY)
    assert not store.root.exists()  # looking makes nothing
    store.prepare()
    store.prepare()
    assert nothing_is_left(store)


def test_what_killed_processes_left_is_taken_away_after_a_week(store: Store):
    week_ago = time.time() - 8 * 24 * 3600
    for name in ("old", "used"):
        (store.scratch(name) / "inner").mkdir(parents=True)
    for path in sorted((store.root / ".tmp").rglob("*"), reverse=True):
        if path.name == "inner" and path.parent.name.startswith("used"):
            continue
        os.utime(path, (week_ago, week_ago))
    store.prepare()
    assert {path.name.partition("-")[0] for path in (store.root / ".tmp").iterdir()} == {"used"}


def test_runs_that_start_at_the_same_time(store: Store):
    """Each sees others' files in the temporary folder come and go."""
    with ThreadPoolExecutor(4) as several:
        list(several.map(lambda _: store.prepare(), range(100)))
