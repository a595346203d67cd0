"""Judging runs that MLflow holds: which one counts, whether it is right, whether it still can become so."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from raymc.tracking.records import COMPLETE, CURVE, Record

if TYPE_CHECKING:
    from mlflow.entities import Run


def oldest(runs: Sequence[Run]) -> Run | None:
    return min(runs, key=lambda run: (run.info.start_time, run.info.run_id), default=None)


def is_right(run: Run, record: Record) -> bool:
    return run.data.tags.get(COMPLETE) == record.digest and run.info.status == record.status


def beyond_repair(run: Run, record: Record) -> bool:
    """Whether the run holds a param, metric or curve that isn't the record's."""
    held = run.data
    curve = CURVE in held.tags and held.tags[CURVE] != record.curve_digest
    params = any(record.params.get(name) != value for name, value in held.params.items())
    metrics = any(name not in record.metric_names and not name.startswith("system/") for name in held.metrics)
    return curve or params or metrics


def reachable_files(artifact_uri: str) -> bool:
    """Whether a run's files can go where a server wants them: not where that is a folder that isn't here."""
    place = urlsplit(artifact_uri)
    return place.scheme not in ("", "file") or Path(unquote(place.path)).parents[1].is_dir()


def quoted(text: str) -> str:
    return f'"{text}"' if "'" in text else f"'{text}'"


def source() -> dict[str, str]:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in some containers
        user = "unknown"
    return {"mlflow.user": user, "mlflow.source.name": "raymc", "mlflow.source.type": "LOCAL"}
