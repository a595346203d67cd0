"""MLflow's sqlite file, made whole or not at all.

MLflow's own way of making one takes seconds, and leaves a file that nothing can use where it is interrupted or where
two processes begin at once.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import IO

LOCK_SECONDS = 120


def sqlite_path(uri: str) -> Path | None:
    """The file of a sqlite URI; None for another one."""
    return Path(uri.removeprefix("sqlite:///").split("?")[0]).absolute() if uri.startswith("sqlite:///") else None


def make_database(path: Path, artifacts: str) -> None:
    """Make MLflow's schema in `path` unless it is there; the file appears when it is whole, whoever else is at it.

    Raises OSError for a place that can't be written, or where another process takes longer than LOCK_SECONDS.
    """
    if _made(path):
        return
    if path.parent.exists() and not path.parent.is_dir():
        raise NotADirectoryError(f"{path.parent} is not a directory")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        _take(lock, path)
        if _made(path):
            return
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        for left in path.parent.glob(f"{path.name}.new-*"):  # of processes that died: the lock is ours
            left.unlink()
        new = path.with_name(f"{path.name}.new-{os.getpid()}")
        store = SqlAlchemyStore(f"sqlite:///{new}", artifacts)
        store.engine.dispose()
        new.replace(path)


def _made(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _take(lock: IO[str], path: Path) -> None:
    end = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > end:
                raise TimeoutError(f"another process has been making {path} for {LOCK_SECONDS} s") from None
            time.sleep(0.1)
