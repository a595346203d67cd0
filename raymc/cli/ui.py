"""`raymc ui`: MLflow's pages over what a storage tracks, on this machine."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import webbrowser
from pathlib import Path
from typing import Any

from raymc.specs.errors import RaymcError

PORT = 5000


def options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("sweep", nargs="?", metavar="NAME", help="open the page of this sweep")
    sub.add_argument("--storage", metavar="URI", help="folder of the store (default: ./raymc-store)")
    sub.add_argument("--tracking", metavar="URI", help="of MLflow (default: the sweep's, else sqlite in the store)")
    sub.add_argument("--port", type=_port, metavar="N", help=f"default: {PORT}, or another where that is taken")
    sub.add_argument(
        "--host", default="127.0.0.1", help="where it listens; beyond this machine only if told (default: %(default)s)"
    )
    sub.add_argument("--no-browser", action="store_true", help="only print the address")


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 2**16:
        raise argparse.ArgumentTypeError(f"a port from 1 to 65535, not {text!r}")
    return int(text)


def ui(given: argparse.Namespace) -> int:
    uri, artifacts, run = _place(given)
    if uri.startswith(("http://", "https://")):
        from raymc.specs.secrets import without_secrets

        address = run or without_secrets(uri)
        print(address)
        _open(address, given)
        return 0
    from raymc.tracking.server import free_port, page_of, serve

    port = free_port(given.host, PORT if given.port is None else given.port)
    if given.port is not None and port != given.port:
        raise RaymcError(f"raymc ui: port {given.port} is taken on {given.host}")
    if given.port is None and port != PORT:
        print(f"port {PORT} is taken: on {port}", file=sys.stderr)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with serve(uri, given.host, port, artifacts) as (address, process):
            page = page_of(address, given.sweep)
            print(page)
            print("Ctrl-C stops it", file=sys.stderr, flush=True)
            sys.stdout.flush()
            _open(page, given)
            code = process.wait()
            raise RaymcError(f"raymc ui: MLflow's server ended by itself (exit code {code})")
    except KeyboardInterrupt:
        return 0


def _place(given: argparse.Namespace) -> tuple[str, Path | None, str]:
    """The MLflow URI, where its new files go, and the sweep's address there, where one is known.

    Raises RaymcError for a storage that isn't there or that tracks nothing.
    """
    if given.tracking:
        return given.tracking, None, ""
    from raymc.store import layout
    from raymc.store.store import Store
    from raymc.sweep.check import DEFAULT_STORAGE

    asked = given.storage or DEFAULT_STORAGE
    if "://" not in str(asked) and not Path(asked).is_dir():
        raise RaymcError(f"raymc ui: no storage in {asked} (--storage says where it is)")
    root = Store(asked).root
    receipts = {path.parent.name: _shown(path) for path in sorted((root / layout.SWEEPS).glob("*/tracked.json"))}
    if given.sweep is not None:
        uri = receipts.get(given.sweep, {}).get("tracking", "")
        if uri.startswith(("http://", "https://")):
            return uri, None, receipts[given.sweep]["tracking_run"]
        if uri and not uri.startswith("sqlite:"):
            raise RaymcError(f"raymc ui: {given.sweep} is tracked in {uri}; give it with its password: --tracking URI")
        if uri:
            return uri, None, ""
    database = root / "mlflow.db"
    if database.is_file():
        return f"sqlite:///{database}", root / "mlartifacts", ""
    elsewhere = sorted({one["tracking"] for one in receipts.values() if "tracking" in one})
    if elsewhere:
        raise RaymcError(f"raymc ui: {root} is tracked elsewhere, in {', '.join(elsewhere)}: name it by --tracking URI")
    raise RaymcError(f"raymc ui: nothing is tracked yet in {root}; raymc run does")


def _shown(receipt: Path) -> dict[str, str]:
    try:
        return dict(json.loads(receipt.read_text())["shown"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _open(page: str, given: argparse.Namespace) -> None:
    """In a browser, where there is a display."""
    display = sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if display and not given.no_browser:
        webbrowser.open(page)


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt
