"""Interchangeable units of one network put into the order of another's by their weights.

Weight matching (Ainsworth et al. 2022, Git Re-Basin, section 3.2, Algorithm 1). That algorithm goes round the layers of
a network whose hidden layers all move, as each one's best order depends on its neighbours'. Here the residual stream
stays where it is, so a block (the heads of one attention, the neurons of one feed-forward layer) shares no permuted
dimension with another, and one linear assignment a block is the optimum itself, in a single round.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

Tensors = Mapping[str, torch.Tensor]
_TIE = 1e-6  # of the product of two units' norms: what rounding in float32 can decide, the order at hand decides


@dataclass(frozen=True)
class Axis:
    """Where a tensor holds units: its dimension `dim` reads as [parts, units, entries of one unit]."""

    name: str
    dim: int
    parts: int = 1


@dataclass(frozen=True)
class Symmetry:
    """`count` units that can stand in any order, the same one in all `axes`, while the network computes the same.

    With `inner`, each unit is a group of `within` smaller ones (query heads that share a key and a value), which move
    with their group and can stand in any order in it; the axes of `inner` hold count * within of them, group by group.
    """

    what: str
    count: int
    axes: tuple[Axis, ...]
    within: int = 1
    inner: tuple[Axis, ...] = ()


def aligned(symmetry: Symmetry, a: Tensors, b: Tensors) -> dict[str, torch.Tensor]:
    """The tensors of `symmetry` from b, with b's units in the order that brings them nearest to a's in L2.

    Nearest over all orders, exactly, up to rounding of the products in float32; never further than b as it stands.
    Units that tie stay where they are. Tensors are fp32 on the CPU.
    """
    outer, inner = _order(symmetry, a, b)
    moved = {axis.name: permuted(b[axis.name], axis, outer) for axis in symmetry.axes}
    moved |= {axis.name: permuted(b[axis.name], axis, inner) for axis in symmetry.inner}
    gain = sum(((moved[name] - b[name]).double() * a[name]).sum().item() for name in moved)
    return moved if gain > 0 else {name: b[name] for name in moved}  # a tie, or worse by rounding


def permuted(tensor: torch.Tensor, axis: Axis, order: torch.Tensor) -> torch.Tensor:
    """A copy of a tensor with its unit `order[i]` at place i; order: [units]."""
    size = _unit_size(tensor, axis, len(order))
    starts = torch.arange(axis.parts)[:, None, None] * len(order) + order[None, :, None]
    return tensor.index_select(axis.dim, (starts * size + torch.arange(size)).flatten())


def units(tensor: torch.Tensor, axis: Axis, count: int) -> torch.Tensor:
    """What a tensor holds of each unit: [count, entries]. Raises ValueError where the dimension doesn't divide."""
    size = _unit_size(tensor, axis, count)
    return tensor.movedim(axis.dim, 0).reshape(axis.parts, count, size, -1).transpose(0, 1).reshape(count, -1)


def assign(gain: np.ndarray) -> tuple[np.ndarray, float]:
    """The order that maximises sum_i gain[i, order[i]], exactly, and that sum; gain: [n, n]."""
    rows, order = linear_sum_assignment(gain, maximize=True)
    return order, float(gain[rows, order].sum())


def assign_groups(gain: np.ndarray, inner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The best order of n groups, and of the n * k units inside them, which stay with their group.

    gain: [n, n] of whole groups, inner: [n, k, n, k] of units. Exact: once it is known which group goes where, the
    orders inside the groups don't depend on each other, so each pair of groups brings its own best order along.
    """
    n, k = inner.shape[:2]
    best = {(g, h): assign(inner[g, :, h]) for g in range(n) for h in range(n)}
    total = gain + np.array([[best[g, h][1] for h in range(n)] for g in range(n)])
    outer, _ = assign(total)
    return outer, np.concatenate([h * k + best[g, h][0] for g, h in enumerate(outer.tolist())])


def _order(symmetry: Symmetry, a: Tensors, b: Tensors) -> tuple[torch.Tensor, torch.Tensor]:
    count, within = symmetry.count, symmetry.within
    gain, norms = _gains(symmetry.axes, count, a, b)
    if not symmetry.inner:
        outer, inner = assign(gain + _TIE * np.diag(norms))[0], np.arange(0)
    else:
        parts, scale = _gains(symmetry.inner, count * within, a, b)
        diagonal = np.diag(norms + scale.reshape(count, within).sum(1))
        stay = np.tile(np.eye(within), (count, count)) * np.sqrt(np.outer(scale, scale))
        shape = (count, within, count, within)
        outer, inner = assign_groups(gain + _TIE * diagonal, (parts + _TIE * stay).reshape(shape))
    return torch.from_numpy(outer), torch.from_numpy(inner)


def _gains(axes: tuple[Axis, ...], count: int, a: Tensors, b: Tensors) -> tuple[np.ndarray, np.ndarray]:
    """Inner products of a's units with b's over all tensors, [count, count], and |a_i| |b_i|, [count]; float64."""
    x, y = (torch.cat([units(side[axis.name], axis, count) for axis in axes], dim=1) for side in (a, b))
    return (x @ y.T).double().numpy(), (x.norm(dim=1).double() * y.norm(dim=1)).numpy()


def _unit_size(tensor: torch.Tensor, axis: Axis, count: int) -> int:
    size, rest = divmod(tensor.shape[axis.dim], axis.parts * count)
    if rest:
        raise ValueError(f"{axis.name}: {tensor.shape[axis.dim]} entries are not {axis.parts} x {count} units")
    return size
