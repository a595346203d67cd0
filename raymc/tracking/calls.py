"""MLflow as a guest: imported late, kept quiet, reached within a bounded time, its many errors turned into one."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sqlite3
import threading
import warnings
from collections.abc import Iterator
from urllib.parse import urlsplit

from raymc.specs.secrets import without_secrets
from raymc.tracking.database import sqlite_path
from raymc.tracking.tracker import Away, TrackingError

PROBE_SECONDS = 5  # tried twice: a connection kept from an earlier call may be stale
# Read by MLflow at each call; a person's own settings stay.
_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
}
_FOREIGN = {
    "mlflow",
    "alembic",
    "requests",
    "urllib3",
    "sqlalchemy",
    "botocore",
    "boto3",
    "google",
    "azure",
    "databricks",
    "psycopg2",
    "psycopg",
}
_NOISY = ("mlflow", "alembic", "urllib3.connectionpool", "sqlalchemy.pool")
_TOLD = (
    *("Connection refused", "Connection reset by peer", "Remote end closed connection", "No route to host"),
    *("Network is unreachable", "Name or service not known", "Temporary failure in name resolution"),
)
_PASSING = re.compile(  # of texts: MLflow wraps what went wrong in errors of its own
    r"(?i)connection (refused|reset|aborted|timed out|to server .* failed)|closed (the )?connection"
    r"|network is unreachable|no route to host"
    r"|temporary failure in name|timed out|timeout|max retries|too many connections|database is locked"
    r"|is (starting up|shutting down)|administrator command|server answers 5\d\d|error code 5\d\d"
    r"|temporarily.unavailable"
)
_LASTING = re.compile(r"(?i)authentication failed|does not exist|certificate|schema")
_here = threading.local()


def settle() -> None:
    """Set what MLflow reads from the environment, before it is imported."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)


def quieten() -> None:
    """After MLflow's import: its loggers say nothing while `calling`, and a warning that is its own isn't shown."""
    for name in _NOISY:
        logger = logging.getLogger(name)
        for place in (logger, *logger.handlers):
            if _quiet not in place.filters:
                place.addFilter(_quiet)
    warnings.filterwarnings("ignore", message="The ``noload`` loader strategy is deprecated")


def is_web(uri: str) -> bool:
    return uri.startswith(("http://", "https://"))


def shown(uri: str) -> str:
    """A URI without the name and password in it."""
    return without_secrets(uri)


def reach(uri: str) -> None:
    """See within seconds that a server answers or a sqlite file can be written. Raises what `calling` catches.

    MLflow itself would retry an unusable database for minutes.
    """
    if is_web(uri):
        from mlflow.utils.credentials import get_default_host_creds
        from mlflow.utils.rest_utils import http_request

        seconds = PROBE_SECONDS
        if os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] != _SETTINGS["MLFLOW_HTTP_REQUEST_TIMEOUT"]:
            seconds = int(os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"])
        creds = get_default_host_creds(uri)
        answer = http_request(creds, "/health", "GET", timeout=seconds, max_retries=1, raise_on_status=False)
        if answer is not None and answer.status_code >= 500:
            raise ConnectionError(f"the server answers {answer.status_code}")
    elif (path := sqlite_path(uri)) is not None and path.exists():
        with contextlib.closing(sqlite3.connect(path, timeout=PROBE_SECONDS, isolation_level=None)) as database:
            database.execute("PRAGMA schema_version").fetchone()
            database.execute("BEGIN IMMEDIATE")
            database.execute("ROLLBACK")
    elif path is None and re.match(r"(postgresql|mysql|mssql)\b", uri):
        import sqlalchemy

        engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.NullPool)
        engine.connect().close()


@contextlib.contextmanager
def calling(uri: str) -> Iterator[None]:
    """Around calls to MLflow: its loggers stay silent in this thread, errors of the place become TrackingError."""
    _here.silent = True
    try:
        yield
    except Exception as error:
        home = type(error).__module__.split(".")[0]
        if not isinstance(error, (OSError, ImportError, sqlite3.Error)) and home not in _FOREIGN:
            raise
        line = f"MLflow at {shown(uri)}: {_line(error, _password(uri))}"
        raise (Away if _passes(error) else TrackingError)(line) from error
    finally:
        _here.silent = False


def _passes(error: BaseException) -> bool:
    """Whether what went wrong may be right again by itself: a server or database that is away."""
    if isinstance(error, (ConnectionError, TimeoutError)):
        return True
    text = " ".join(str(error).split())
    return bool(_PASSING.search(text)) and not _LASTING.search(text)


def _password(uri: str) -> str:
    try:
        return urlsplit(uri).password or ""
    except ValueError:
        return ""


def _line(error: BaseException, password: str = "") -> str:
    """One line that says what is wrong, out of a text that may be long and nested."""
    text = shown(" ".join(str(error).split()))
    text = text.replace(password, "…") if len(password) > 3 else text
    if "timed out" in text or "timeout" in text:
        return "no answer in time (MLFLOW_HTTP_REQUEST_TIMEOUT sets how many seconds it may take)"
    for told in _TOLD:
        if told in text:
            return told.lower()
    if "No module named 'psycopg'" in text:
        return "psycopg isn't installed: name the driver that is, as in postgresql+psycopg2:// (raymc[postgres] has it)"
    if "out-of-date database schema" in text:
        return "its database is of another MLflow version: run `mlflow db upgrade` on it"
    inner = re.search(r"\((?:sqlite3|psycopg2?|pymysql)\.\w+\) ([^\[]+)", text)
    text = (inner[1] if inner else text).strip() or type(error).__name__
    return text if len(text) <= 300 else text[:299] + "…"


class _Quiet(logging.Filter):
    """Drops records of threads that are inside `calling`."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not getattr(_here, "silent", False) or record.levelno >= logging.CRITICAL


_quiet = _Quiet()
