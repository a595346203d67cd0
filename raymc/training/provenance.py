"""What a stored artefact says of the software that made it."""

from __future__ import annotations

import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from raymc.specs.trial import TrialSpec


def of_minimum(trial: TrialSpec, labels: tuple[str, ...], **measured: Any) -> dict[str, Any]:
    """What minimum.json says: the trial that made it, what was measured on the way, and the software."""
    return {
        "key": trial.key,
        "trajectory": trial.trajectory,
        "content": trial.content,
        "trial": trial.model_dump(mode="json"),
        "labels": list(labels),
        **measured,
        "versions": versions(),
        "commit": commit_of_raymc(),
    }


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    names = ("raymc", "torch", "transformers", "peft", "tokenizers", "ray", "numpy")
    return {name: version(name) for name in names}


def commit_of_raymc() -> str | None:
    """The commit that raymc runs from, with `-dirty` where files differ; None where it isn't a git checkout."""
    home = Path(__file__).parent
    try:
        run = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],
            cwd=home,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return run.stdout.strip() or None if run.returncode == 0 else None
