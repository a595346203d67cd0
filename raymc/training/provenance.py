"""What a stored artefact says of the software that made it."""

from __future__ import annotations

import subprocess
from importlib.metadata import version
from pathlib import Path


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
