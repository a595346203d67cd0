"""Objects of a folder and of a real S3-protocol server: made once, waited for, and errors that say what to mend."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from raymc.specs.errors import StorageFault
from raymc.store.objects import Objects
from raymc.store.store import Store


@pytest.fixture(params=["folder", "s3"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    return Objects(tmp_path / "storage" if request.param == "folder" else request.getfixturevalue("uri"))


def test_what_is_put_is_found(objects: Objects):
    assert objects.list("claims") == []
    assert objects.get("claims/a") is None
    objects.put("claims/a", b"one")
    objects.put("claims/a", b"two")
    objects.put("claims/deep/b c=1", b"")
    objects.put("claimsmore", b"no part of the folder")
    assert objects.get("claims/a") == b"two"
    assert objects.list("claims") == ["claims/a", "claims/deep/b c=1"]
    assert objects.folders("claims") == ["deep"]
    assert [entry.size for entry in objects.entries("claims")] == [3, 0]
    assert abs(objects.entries("claims")[0].changed.timestamp() - time.time()) < 60
    assert objects.has("claims/a")
    assert not objects.has("claims")
    objects.move("claims/a", "gone/a")
    objects.move("claims/a", "gone/b")  # there is none: nothing happens
    objects.delete("claims/deep/b c=1")
    objects.delete("claims/deep/b c=1")
    assert objects.list("claims") == []
    assert objects.list() == ["claimsmore", "gone/a"]


def test_files_go_up_and_down_with_their_hashes(objects: Objects, tmp_path: Path):
    import hashlib

    content = bytes(range(256)) * 50_000  # more than one chunk
    (tmp_path / "up").write_bytes(content)
    objects.upload("a/b", tmp_path / "up")
    assert objects.download("a/b", tmp_path / "down") == hashlib.sha256(content).hexdigest()
    assert (tmp_path / "down").read_bytes() == content
    assert objects.download("a/c", tmp_path / "none") == ""


def test_of_many_at_once_one_makes_an_object(objects: Objects):
    made: list[tuple[int, int]] = []

    def work(worker: int) -> None:
        made.extend((number, worker) for number in range(10) if objects.create(f"claims/{number}", b"%d" % worker))

    workers = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for thread in workers:
        thread.start()
    for thread in workers:
        thread.join()
    assert sorted(number for number, _ in made) == list(range(10))
    assert all(objects.get(f"claims/{number}") == b"%d" % worker for number, worker in made)


def test_objects_go_to_other_processes_by_their_uri(objects: Objects):
    objects.put("a", b"1")
    assert pickle.loads(pickle.dumps(objects)).get("a") == b"1"


def test_a_lost_answer_to_a_creation_isn_t_taken_for_another_s(uri: str, monkeypatch: pytest.MonkeyPatch):
    import obstore
    from obstore.exceptions import GenericError

    put, lost = obstore.put, [True]

    def losing(*arguments, **options):
        found = put(*arguments, **options)
        if lost.pop() if lost else False:
            raise GenericError("HTTP error: connection closed before message completed")
        return found

    monkeypatch.setattr(obstore, "put", losing)
    objects = Objects(uri)
    assert objects.create("claims/a", b"mine")
    assert not objects.create("claims/a", b"other")


def test_an_outage_is_waited_for(s3, uri: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("raymc.store.outage._SAID_FIRST", 0.3)
    objects = Objects(uri)
    objects.put("a", b"before")
    s3.stop()
    back = threading.Timer(1.0, s3.start)
    back.start()
    try:
        began = time.monotonic()
        objects.put("a", b"after")
        assert time.monotonic() - began >= 0.9
    finally:
        back.join()
    assert objects.get("a") == b"after"
    said = [record.getMessage() for record in caplog.records if record.name == "raymc.store"]
    assert said[0].startswith(f"storage {uri} can't be reached (connection refused); tried for 2")
    assert said[-1].startswith(f"storage {uri} is back after ")


def test_an_outage_is_waited_for_as_long_as_is_said(uri: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RAYMC_STORAGE_WAIT", "0.5")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    objects, began = Objects(uri), time.monotonic()
    for act in (lambda: objects.get("a"), lambda: objects.create("a", b""), lambda: objects.list()):
        with pytest.raises(StorageFault) as caught:
            act()
        assert str(caught.value) == (
            f"storage {uri} can't be reached (connection refused; waited 1 s); "
            "everything finished is kept, the same command goes on"
        ).replace("waited 1 s", f"waited {objects._away.seconds:.0f} s")
    assert time.monotonic() - began < 1.5  # one limit for one outage, not for each call


def test_each_obstacle_is_said_in_one_line(uri: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RAYMC_STORAGE_WAIT", "0.1")
    with pytest.raises(StorageFault, match=r"^storage s3://nowhere/x: there is no bucket 'nowhere'$"):
        Objects("s3://nowhere/x").put("a", b"")
    with pytest.raises(StorageFault, match=r"there is no bucket 'nowhere'"):
        Objects("s3://nowhere/x").reached(1)
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", "http://no-such-host.invalid")
        with pytest.raises(StorageFault, match=r"\(no such host no-such-host\.invalid; waited 0 s\)"):
            Objects(uri).reached(0.1)
    with monkeypatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.delenv(name)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
        with pytest.raises(StorageFault, match="no credentials are set"):
            Objects(uri).reached(0.1)


def test_a_full_disk_is_said(uri: str):
    objects = Objects(uri)
    objects.put("a", b"x" * 2**16)
    with pytest.raises(StorageFault, match="No space left on device"):
        objects.download("a", Path("/dev/full"))


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[str], int]], str]]:
    """answering(status): a server that answers each method with what `status` says of it; 0: never. Its URI."""
    servers: list[ThreadingHTTPServer] = []
    over = threading.Event()

    def go(status: Callable[[str], int]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                self.rfile.read(int(self.headers.get("content-length", 0)))
                found = status(self.command)
                if not found:
                    over.wait()
                    return
                self.send_response(found)
                self.send_header("ETag", '"x"')
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_DELETE = do_POST = do_HEAD = do_PUT

            def log_message(self, *arguments: object) -> None: ...

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True, kwargs={"poll_interval": 0.01}).start()
        address = f"http://127.0.0.1:{servers[-1].server_port}"
        for name, value in {
            "ENDPOINT_URL": address,
            "ACCESS_KEY_ID": "a",
            "SECRET_ACCESS_KEY": "b",
            "REGION": "r",
        }.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        return "s3://bucket/prefix"

    yield go
    over.set()
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_call_that_fails_alone_gives_up_though_others_get_through(answering, monkeypatch: pytest.MonkeyPatch):
    """One object's fault, while the heart beats on the same storage."""
    monkeypatch.setenv("RAYMC_STORAGE_WAIT", "0.5")
    objects, rest = Objects(answering(lambda method: 500 if method == "GET" else 200)), threading.Event()

    def beat() -> None:
        while not rest.wait(0.05):
            objects.put("heart", b"1")

    heart = threading.Thread(target=beat)
    heart.start()
    began = time.monotonic()
    try:
        with pytest.raises(StorageFault, match=r"can't be reached \(the server answers 500; waited [012] s\)"):
            objects.get("a")
    finally:
        rest.set()
        heart.join()
    assert 0.4 < time.monotonic() - began < 2.5


def test_a_server_that_never_answers_is_given_up(answering, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RAYMC_STORAGE_WAIT", "0.05")
    objects, began = Objects(answering(lambda method: 0), silence=0.1), time.monotonic()
    for act in (lambda: objects.get("a"), lambda: objects.put("a", b"1"), lambda: objects.list()):
        with pytest.raises(StorageFault, match=r"no answer in time; waited"):
            act()
    assert time.monotonic() - began < 4
    quick = Objects(objects.uri).quick(0.1)
    assert quick._silence == 2  # a busy server takes its time
    assert quick._away is not objects._away


def test_a_slow_upload_isn_t_taken_for_silence(answering):
    """`silence` would cut what takes longer to be sent; files and large contents have a limit of their own."""
    slept: list[str] = []

    def slow(method: str) -> int:
        slept.append(method)
        time.sleep(0.3)
        return 200

    Objects(answering(slow), silence=0.1).put("a", b"x" * 2**20)
    assert slept == ["PUT"]


def test_a_full_server_is_said_at_once(answering):
    with pytest.raises(StorageFault, match=r"^storage s3://bucket/prefix: No space left on device$"):
        Objects(answering(lambda method: 507)).put("a", b"1")


def test_a_server_without_conditional_writes_is_refused(answering, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RAYMC_CACHE", str(tmp_path))
    store = Store(answering(lambda method: 200))
    gone: list[str] = []
    monkeypatch.setattr(store, "reached", lambda: None)
    monkeypatch.setattr(store.objects, "delete", gone.append)
    with pytest.raises(StorageFault, match=r"the server ignores If-None-Match.* use one with conditional writes"):
        store.prepare()
    assert len(gone) == 1
