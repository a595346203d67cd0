"""What a decision on the precision says, what several say together, and for what it holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from raymc.specs.precision import Decision, SamplePoint, network_of, part_key, together
from raymc.specs.sweep import SweepSpec

GRAMMAR = {"builtin": "grammar-bert"}


def sweep(**sections: Any) -> SweepSpec:
    body = {"name": "one", "model": {"backbone": GRAMMAR}, "task": {"dataset": {"builtin": "grammar"}}}
    return SweepSpec.model_validate({**body, **sections})


def key(spec: SweepSpec, tolerance: float = 1e-3, space: str = "auto") -> str:
    (rows, *_), (point, *_) = spec.row_sets, spec.points
    return part_key(network_of(point.trial), rows.task, rows.split, space, tolerance)


def test_the_key_of_a_part_stays_what_it_is():
    assert key(sweep()) == "8d67f417a0d6c5ef53f4"


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"seeds": {"order": 3}, "train": {"steps": 9}},
        {"model": {"backbone": {**GRAMMAR, "seed": 5, "steps": 7, "domain": "kitchen"}}},
        {"model": {"backbone": GRAMMAR, "perturbation": {"scale": 0.1}}},
        {"connectivity": {"points": 5, "curves": ["bezier"], "precision": {"auto": {"tolerance": 1e-3}}}},
    ],
)
def test_what_a_sweep_grows_by_is_no_part_of_the_key(change):
    assert key(sweep(**change)) == key(sweep())


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"backbone": {**GRAMMAR, "hidden_size": 32}}},
        {"tuning": {"method": "lora"}},
        {"task": {"dataset": {"builtin": "grammar"}, "max_length": 16}},
        {"task": {"dataset": {"builtin": "grammar", "validation_rows": 9}}},
        {"connectivity": {"splits": ["test"]}},
    ],
)
def test_another_network_or_other_rows_are_another_part(change):
    assert key(sweep(**change)) != key(sweep())


def test_another_tolerance_or_space_is_another_part():
    assert len({key(sweep()), key(sweep(), tolerance=1e-4), key(sweep(), space="factors")}) == 3


def test_backbones_of_one_shape_are_one_network(tmp_path: Path):
    def network(name: str, **config: Any) -> str:
        folder = tmp_path / name
        folder.mkdir()
        sizes = {"model_type": "bert", "hidden_size": 16, "num_hidden_layers": 2, **config}
        (folder / "config.json").write_text(json.dumps(sizes))
        (folder / "model.safetensors").write_bytes(name.encode())
        spec = sweep(model={"backbone": str(folder)})
        return network_of(spec.points[0].trial)

    assert network("a") == network("b", _name_or_path="elsewhere") != network("c", num_hidden_layers=3)
    hub = [network_of(sweep(model={"backbone": "some/bert", "revision": r}).points[0].trial) for r in ("a", "b")]
    assert hub[0] == hub[1]


# What is said ---------------------------------------------------------------------------------------------------------


def measured(precision: str, drift: float, bound: float, **fields: Any) -> Decision:
    point = {"a": "a", "b": "b", "curve": "linear", "split": "test", "t": 0.5, "rows": 9}
    sample = SamplePoint.model_validate({**point, "fp32": 1.0, "bf16": 1.0 + drift, "error": 0.0, "accuracy": 0.01})
    body = {"precision": precision, "reason": precision, "tolerance": 1e-3, "drift": drift, "bound": bound}
    return Decision.model_validate({**body, "accuracy_drift": 0.01, "sample": (sample,), **fields})


def test_one_part_that_needs_fp32_decides_for_all():
    small = Decision(precision="fp32", reason="small", tolerance=1e-3)
    good, better = measured("bf16", 4e-4, 6e-4), measured("bf16", 1e-4, 2e-4)
    bad = measured("fp32", 2e-3, 3e-3)
    both = together([better, good])
    assert (both.precision, both.drift, both.bound, len(both.sample)) == ("bf16", 4e-4, 6e-4, 2)
    assert both.reason == "bf16"
    mixed = together([good, bad, better])
    assert (mixed.precision, mixed.drift, mixed.bound) == ("fp32", 2e-3, 3e-3)
    assert together([small, good]).precision == "fp32"
    assert together([small]) == small


def test_what_was_measured_of_the_content_holds_for_others():
    assert measured("bf16", 4e-4, 6e-4).of_content
    assert measured("fp32", 2e-3, 3e-3).of_content
    assert not measured("fp32", 1e-4, 2e-4).of_content  # slow on that machine
    assert not Decision(precision="fp32", reason="small", tolerance=1e-3).of_content


def test_what_is_told():
    fast = measured("bf16", 4e-4, 6e-4, seconds={"fp32": 3.0, "bf16": 1.5})
    assert fast.speed == 2.0
    assert fast.told == "bf16 (bf16)"
    assert fast.sample[0].drift == pytest.approx(4e-4)
    assert Decision.model_validate_json(fast.model_dump_json()) == fast
