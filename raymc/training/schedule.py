"""How long a trial trains. Light, so that planning needs no torch."""

from __future__ import annotations

import math

from raymc.specs.trial import TrialSpec


def steps_of(trial: TrialSpec, rows: int) -> int:
    """Updates of a trial: as its spec says, or its epochs over so many rows, rounded up."""
    return trial.train.steps or max(1, math.ceil(trial.train.epochs * rows / trial.train.batch_size))
