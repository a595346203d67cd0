"""A sweep as one page that needs no network, and as a figure for papers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raymc.sweep.results import Sweep


def page(sweep: Sweep) -> str:
    """The sweep's report as one HTML document: the matrix to explore, paths, tables, analysis, spec and provenance.

    It asks for nothing beyond itself, and runs in a sandboxed frame too (as MLflow shows HTML artifacts).
    """
    raise NotImplementedError  # the page follows; this is its interface
