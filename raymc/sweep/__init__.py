"""Layer 5: check, plan, run and open sweeps."""

from raymc.sweep.plan import Plan, plan
from raymc.sweep.results import Sweep, open_sweep
from raymc.sweep.run import Interrupted, run

__all__ = ["Interrupted", "Plan", "Sweep", "open_sweep", "plan", "run"]
