"""What a submitted job runs first, on the cluster: it looks at what it was sent, and `raymc run` takes its place.

Sent as a file beside the spec; standard library only, as raymc may be missing there.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path


def fault(folder: Path) -> str | None:
    """What is wrong here, in a line."""
    sent = json.loads((folder / "job.json").read_text())
    missing = [name for name in sent["needs"] if name not in os.environ]
    if missing:
        return (
            f"{', '.join(missing)}: not in the environment of the cluster's nodes; secrets aren't sent with a job: "
            "they must be there (or in files that cluster/head.sh and worker.sh read) before Ray starts on them"
        )
    if importlib.util.find_spec("raymc") is None:
        return (
            f"raymc isn't installed for {sys.executable}, the cluster's `python`: install it on all nodes, or "
            "`raymc submit --with-code` where its dependencies are there"
        )
    import raymc

    if raymc.__version__ != sent["version"]:
        sys.stdout.write(f"submitted from raymc {sent['version']}, run by the cluster's {raymc.__version__}\n")
    return None


if __name__ == "__main__":
    here = Path.cwd()
    if said := fault(here):
        sys.stderr.write(f"{said}\n")
        sys.exit(2)
    sys.stdout.flush()
    if (here / "raymc").is_dir():
        os.environ["PYTHONPATH"] = os.pathsep.join((str(here), *filter(None, [os.environ.get("PYTHONPATH")])))
    os.chdir("/")  # Ray may remove the job's folder before the run's end, where two of its nodes share a disk
    os.execv(sys.executable, [sys.executable, "-m", "raymc.cli", "run", str(here / "spec.json")])
