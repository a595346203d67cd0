"""The best state of a fit by a held-out split: it is part of the checkpoints, so a kill changes no choice."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch


class Choice(torch.nn.Module):
    """Looks at a fit's state: the step and the losses of each, and the state of the lowest mean; of equals the first.

    `looks`: how many there will be, at most; `at`: how many losses each has.
    """

    state: torch.Tensor
    table: torch.Tensor

    def __init__(self, state: torch.Tensor, looks: int, at: int):
        super().__init__()
        self.register_buffer("state", torch.zeros_like(state))
        self.register_buffer("table", torch.full((looks, 1 + at), math.nan, dtype=torch.float64))

    @property
    def history(self) -> list[tuple[int, list[float]]]:
        """(step, losses) of each look so far."""
        return [(int(row[0]), row[1:]) for row in self.table.tolist() if not math.isnan(row[0])]

    @property
    def best(self) -> tuple[float, int] | None:
        """(mean loss, step) of the chosen state; None before the first look."""
        return min(((mean(losses), step) for step, losses in self.history), default=None)

    @torch.no_grad()
    def look(self, step: int, losses: Sequence[float], state: torch.Tensor) -> None:
        """Note a look, and keep the state where it is the best so far. Looks come in the order of their steps."""
        best = self.best
        self.table[len(self.history)] = torch.tensor([step, *losses], dtype=torch.float64)
        if best is None or mean(losses) < best[0]:
            self.state.copy_(state)


def mean(losses: Sequence[float]) -> float:
    return math.fsum(losses) / len(losses)
