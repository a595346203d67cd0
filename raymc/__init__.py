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
    from raymc.specs.axes import RangeAxis, SampleAxis
    from raymc.specs.connectivity import ConnectivitySpec, Floor, PairSelection, PlaneSpec, ScoredTask
    from raymc.specs.curves import (
        AlignedCurve,
        AutoNebCurve,
        BezierCurve,
        FitSpec,
        GatesCurve,
        LinearCurve,
        PolygonalCurve,
        SphericalCurve,
    )
    from raymc.specs.errors import RaymcError, SpecError
    from raymc.specs.existing import ExistingMinimum
    from raymc.specs.load import load_spec
    from raymc.specs.model import GrammarBackbone, ModelSpec, Perturbation
    from raymc.specs.resources import EvaluatorResources, Failure, Resources, Tracking, TrialResources
    from raymc.specs.sweep import SweepSpec
    from raymc.specs.task import GrammarDataset, HubDataset, LocalDataset, Subset, TaskSpec
    from raymc.specs.text import HubText, TextBackbone, TextFiles, TrainedTokenizer
    from raymc.specs.trial import TrialSpec
    from raymc.specs.tuning import (
        BitfitTuning,
        FullTuning,
        HoulsbyTuning,
        Ia3Tuning,
        LoraTuning,
        PeftTuning,
        PrefixTuning,
        PromptTuning,
        Seeds,
        TrainSpec,
    )
    from raymc.sweep import Sweep, open_sweep, plan, run
    from raymc.sweep.submit import submit

__version__ = "0.1.0"
__all__ = [
    "AlignedCurve",
    "AutoNebCurve",
    "BezierCurve",
    "BitfitTuning",
    "ConnectivitySpec",
    "EvaluatorResources",
    "ExistingMinimum",
    "Failure",
    "FitSpec",
    "Floor",
    "FullTuning",
    "GatesCurve",
    "GrammarBackbone",
    "GrammarDataset",
    "HoulsbyTuning",
    "HubDataset",
    "HubText",
    "Ia3Tuning",
    "LinearCurve",
    "LocalDataset",
    "LoraTuning",
    "ModelSpec",
    "PairSelection",
    "PeftTuning",
    "Perturbation",
    "PlaneSpec",
    "PolygonalCurve",
    "PrefixTuning",
    "PromptTuning",
    "RangeAxis",
    "RaymcError",
    "Resources",
    "SampleAxis",
    "ScoredTask",
    "Seeds",
    "SpecError",
    "SphericalCurve",
    "Subset",
    "Sweep",
    "SweepSpec",
    "TaskSpec",
    "TextBackbone",
    "TextFiles",
    "Tracking",
    "TrainSpec",
    "TrainedTokenizer",
    "TrialResources",
    "TrialSpec",
    "load_spec",
    "open_sweep",
    "plan",
    "run",
    "submit",
]

_HOMES = {
    "raymc.specs.axes": (
        "RangeAxis",
        "SampleAxis",
    ),
    "raymc.specs.connectivity": (
        "ConnectivitySpec",
        "Floor",
        "PairSelection",
        "PlaneSpec",
        "ScoredTask",
    ),
    "raymc.specs.curves": (
        "AlignedCurve",
        "AutoNebCurve",
        "BezierCurve",
        "FitSpec",
        "GatesCurve",
        "LinearCurve",
        "PolygonalCurve",
        "SphericalCurve",
    ),
    "raymc.specs.errors": (
        "RaymcError",
        "SpecError",
    ),
    "raymc.specs.existing": ("ExistingMinimum",),
    "raymc.specs.load": ("load_spec",),
    "raymc.specs.model": (
        "GrammarBackbone",
        "ModelSpec",
        "Perturbation",
    ),
    "raymc.specs.resources": (
        "EvaluatorResources",
        "Failure",
        "Resources",
        "Tracking",
        "TrialResources",
    ),
    "raymc.specs.sweep": ("SweepSpec",),
    "raymc.specs.task": (
        "GrammarDataset",
        "HubDataset",
        "LocalDataset",
        "Subset",
        "TaskSpec",
    ),
    "raymc.specs.text": (
        "HubText",
        "TextBackbone",
        "TextFiles",
        "TrainedTokenizer",
    ),
    "raymc.specs.trial": ("TrialSpec",),
    "raymc.specs.tuning": (
        "BitfitTuning",
        "FullTuning",
        "HoulsbyTuning",
        "Ia3Tuning",
        "LoraTuning",
        "PeftTuning",
        "PrefixTuning",
        "PromptTuning",
        "Seeds",
        "TrainSpec",
    ),
    "raymc.sweep": (
        "Sweep",
        "open_sweep",
        "plan",
        "run",
    ),
    "raymc.sweep.submit": ("submit",),
}


def __getattr__(name: str) -> object:
    home = next((module for module, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module 'raymc' has no attribute {name!r}")
    # `raymc.sweep` the module must not hide behind nothing: only the names above are taken from it
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
