"""`raymc bench`: what a matrix costs beside its bare forward passes, on this machine, with this model."""

from raymc.sweep.bench.figures import Asked, Figure, Report
from raymc.sweep.bench.measure import bench

__all__ = ["Asked", "Figure", "Report", "bench"]
