"""Names of raymc itself, and sweeps built in Python."""

from __future__ import annotations

import subprocess
import sys

import pytest

import raymc


def test_all_names_are_there():
    assert all(getattr(raymc, name).__name__ == name for name in raymc.__all__)
    assert set(raymc.__all__) < set(dir(raymc))
    with pytest.raises(AttributeError, match="no attribute 'nonesuch'"):
        raymc.nonesuch  # type: ignore[attr-defined]  # noqa: B018


def test_importing_raymc_imports_nothing_heavy():
    heavy = "torch pandas ray mlflow pydantic"
    code = f"import sys, raymc; print([name for name in '{heavy}'.split() if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def sweep(**fields: object) -> raymc.SweepSpec:
    model = raymc.ModelSpec(backbone=raymc.GrammarBackbone(builtin="grammar-bert"))
    task = raymc.TaskSpec(dataset=raymc.GrammarDataset(builtin="grammar"), max_length=32)
    return raymc.SweepSpec.model_validate({"name": "one", "model": model, "task": task, **fields})


def test_specs_as_values_of_an_axis_are_as_in_a_file():
    lora, full = {"method": "lora", "rank": 4}, {"method": "full"}
    made = sweep(axes={"tuning": [raymc.LoraTuning(method="lora", rank=4), raymc.FullTuning(method="full")]})
    written = sweep(axes={"tuning": [lora, full]})
    assert [point.values for point in made.points] == [{"tuning": lora}, {"tuning": full}]
    assert [point.trial.key for point in made.points] == [point.trial.key for point in written.points]


def test_curves_and_planes_as_values_are_as_in_a_file():
    made = raymc.ConnectivitySpec(
        curves=(
            raymc.LinearCurve(curve="linear", moves=("attention",)),
            raymc.BezierCurve(curve="bezier", bends=2, fit=raymc.FitSpec(steps=5)),
        ),
        planes=(raymc.PlaneSpec(through=("x", "y", "z")),),
    )
    curves = [{"curve": "linear", "moves": ["attention"]}, {"curve": "bezier", "bends": 2, "fit": {"steps": 5}}]
    written = {"curves": curves, "planes": [{"through": ["x", "y", "z"]}]}
    assert sweep(connectivity=made).connectivity == sweep(connectivity=written).connectivity == made
    kinds = {raymc.SphericalCurve, raymc.AlignedCurve, raymc.PolygonalCurve, raymc.GatesCurve, raymc.AutoNebCurve}
    named = raymc.ConnectivitySpec.model_validate({"curves": ["spherical", "aligned", "polygonal", "gates", "autoneb"]})
    assert {type(one) for one in named.curves} == kinds


def test_a_changed_copy_has_points_and_keys_of_its_own():
    two = sweep(axes={"seeds.order": [1, 2]})
    assert len(two.points) == 2
    assert len(two.model_copy(update={"axes": {"seeds.order": (1, 2, 3)}}).points) == 3
    trial = two.points[0].trial
    assert trial.model_copy(update={"seeds": raymc.Seeds(order=9)}).key != trial.key
