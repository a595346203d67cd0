"""How long a trial trains. Light, so that planning needs no torch."""

from __future__ import annotations

import math
from fractions import Fraction

from raymc.specs.trial import TrialSpec


def steps_of(trial: TrialSpec, rows: int) -> int:
    """Updates of a trial: as its spec says, or its epochs over so many rows, rounded up."""
    epochs = Fraction(repr(trial.train.epochs))  # the decimal that was written: 1.1 epochs of 10 updates are 11
    return trial.train.steps or math.ceil(epochs * rows / trial.train.batch_size)
