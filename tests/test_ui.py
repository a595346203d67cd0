"""`raymc ui` where there is nothing to open: one line each. That it opens pages: tests/e2e/test_mlflow_pages.py."""

from __future__ import annotations

import json
import socket

import pytest

from raymc.cli import main
from raymc.tracking.server import free_port


def refused(capsys, *arguments: str) -> str:
    assert main(["ui", "--no-browser", *arguments]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.count("\n") == 1
    return err


@pytest.fixture
def receipt(tmp_path):
    def write(name: str, **shown: str) -> None:
        home = tmp_path / "sweeps" / name
        home.mkdir(parents=True)
        (home / "tracked.json").write_text(json.dumps({"digest": "x", "shown": shown}))

    return write


def test_no_storage_and_nothing_tracked(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert refused(capsys) == "raymc ui: no storage in raymc-store (--storage says where it is)\n"
    assert refused(capsys, "--storage", str(tmp_path)) == (
        f"raymc ui: nothing is tracked yet in {tmp_path}; raymc run does\n"
    )


def test_a_sweep_on_a_server_gives_its_address(tmp_path, receipt, capsys):
    receipt("far", tracking="http://mlflow:5000", tracking_run="http://mlflow:5000/#/experiments/1/runs/abc")
    assert main(["ui", "far", "--storage", str(tmp_path), "--no-browser"]) == 0
    assert capsys.readouterr().out == "http://mlflow:5000/#/experiments/1/runs/abc\n"
    assert main(["ui", "--tracking", "http://person:secret@mlflow:5000", "--no-browser"]) == 0
    assert capsys.readouterr().out == "http://mlflow:5000\n"
    assert "is tracked elsewhere, in http://mlflow:5000: name it by --tracking" in refused(
        capsys, "--storage", str(tmp_path)
    )


def test_a_database_with_a_password_is_to_be_named(tmp_path, receipt, capsys):
    receipt("base", tracking="postgresql://host/db", tracking_run="abc")
    assert "base is tracked in postgresql://host/db; give it with its password" in refused(
        capsys, "base", "--storage", str(tmp_path)
    )


@pytest.mark.parametrize("port", ["99999", "0", "-1", "x"])
def test_a_port_that_is_none(port, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["ui", "--port", port])
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"raymc ui: error: argument --port: a port from 1 to 65535, not {port!r}"
    )


def test_a_port_that_is_taken(tmp_path, capsys):
    (tmp_path / "mlflow.db").touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert free_port("127.0.0.1", port) != port
        said = refused(capsys, "--storage", str(tmp_path), "--port", str(port))
    assert said == f"raymc ui: port {port} is taken on 127.0.0.1\n"
