"""One migrated database for all tests: making MLflow's schema takes seconds, copying the file takes none."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """database(path): an empty MLflow database there; the schema is made once, by whichever test process is first."""
    from raymc.tracking.calls import quieten, settle
    from raymc.tracking.database import make_database

    base = tmp_path_factory.getbasetemp()
    home = base.parent if base.name.startswith("popen-") else base  # pytest-xdist gives each process a folder in it
    template = home / "mlflow-template" / "mlflow.db"
    settle()
    importlib.import_module("mlflow")
    quieten()
    make_database(template, str(template.parent / "unused"))

    def copy(path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(template.read_bytes())
        return path

    return copy
