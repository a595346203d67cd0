"""raymc: mode connectivity of language models as a sweep service.

    spec = raymc.load_spec("sweeps/quickstart.yaml")
    sweep = raymc.run(spec)
    sweep.barriers()                                  # a data frame
    sweep.matrix(curve="linear", split="validation", value="barrier_entezari")

Names are loaded when first used, so that `import raymc` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raymc.specs.errors import RaymcError, SpecError
    from raymc.specs.load import load_spec
    from raymc.specs.sweep import SweepSpec
    from raymc.specs.trial import TrialSpec
    from raymc.sweep import Sweep, open_sweep, plan, run

__version__ = "0.1.0"
__all__ = ["RaymcError", "SpecError", "Sweep", "SweepSpec", "TrialSpec", "load_spec", "open_sweep", "plan", "run"]

_HOMES = {
    "RaymcError": "raymc.specs.errors",
    "SpecError": "raymc.specs.errors",
    "load_spec": "raymc.specs.load",
    "SweepSpec": "raymc.specs.sweep",
    "TrialSpec": "raymc.specs.trial",
    "Sweep": "raymc.sweep",
    "open_sweep": "raymc.sweep",
    "plan": "raymc.sweep",
    "run": "raymc.sweep",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        module = importlib.import_module(_HOMES[name])
        # `raymc.sweep` the module must not hide behind nothing: only the names above are taken from it
        return getattr(module, name)
    raise AttributeError(f"module 'raymc' has no attribute {name!r}")
