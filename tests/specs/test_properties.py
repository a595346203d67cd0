"""Whatever is written in a spec, loading it gives a spec or located faults, and a spec survives being written."""

from __future__ import annotations

import copy
import io
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from raymc.specs.errors import SpecError
from raymc.specs.load import load_spec
from raymc.specs.sweep import SweepSpec
from raymc.specs.yaml import read_yaml

SPECS: list[dict[str, Any]] = [
    {
        "name": "grammar",
        "model": {"backbone": {"builtin": "grammar-bert", "steps": 20}, "head": "new"},
        "task": {"dataset": {"builtin": "grammar", "train_rows": 100}, "labels": ["friendly", "hostile"]},
        "tuning": {"method": "lora", "rank": 4, "targets": ["query", "value"]},
        "train": {"steps": 10, "learning_rate": 1e-3, "betas": [0.9, 0.99], "clip_norm": None},
        "axes": {"seeds.order": [0, 1], "tuning.rank": {"low": 1, "high": 3, "step": 1}},
        "zip": [{"seeds.init": [0, 1], "train.weight_decay": {"sample": "uniform", "low": 0, "high": 1, "count": 2}}],
        "connectivity": {"points": 5, "splits": ["validation", "test"]},
        "resources": {"trial": {"gpus": "auto"}, "evaluator": {"cache": "2GiB", "actors": 2}},
        "failure": {"trial_retries": 1},
        "tracking": {"enabled": False},
    },
    {
        "name": "files",
        "model": {"backbone": "./backbone", "revision": "main"},
        "task": {"dataset": {"path": "./rows", "splits": {"train": "a.csv"}}, "text_pair": "b"},
        "axes": {
            "tuning": [{"method": "full"}, {"method": "lora", "rank": 2}],
            "task.dataset": [{"hub": "a/b"}, {"path": "c"}],
        },
        "storage": "./store",
    },
]  # fmt: skip

WORDS = st.sampled_from(
    ["", "x", "rank", "method", "lora", "steps", "seeds.order", "tuning", "tuning.rank", "hub", "path", "sample", "low"]
)
NAMES = WORDS | st.text(max_size=5)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 70)
    | st.sampled_from([2**32, 10**400, -(2**63), 1e308, 1e-320])
    | st.floats()
    | NAMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=4,
)


@st.composite
def mutants(draw: st.DrawFn) -> dict[str, Any]:
    """A valid spec's data with up to three parts removed, renamed, replaced, added or put a level deeper."""
    data = copy.deepcopy(draw(st.sampled_from(SPECS)))
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(list(places(data))))
        node = data
        for part in path[:-1]:
            node = node[part]
        last = path[-1]
        act = draw(st.sampled_from(["delete", "rename", "replace", "nest", "list", "quote", "copy"]))
        if act == "delete":
            del node[last]
        elif act == "rename" and isinstance(node, dict):
            node[draw(NAMES)] = node.pop(last)
        elif act == "nest":
            node[last] = {draw(NAMES): node[last]}
        elif act == "list":
            node[last] = [node[last]] * draw(st.integers(0, 2))
        elif act == "quote":
            node[last] = str(node[last])
        elif act == "copy":
            node[last] = copy.deepcopy(data[draw(st.sampled_from(list(data)))])
        else:
            node[last] = draw(VALUES)
        if not data:
            break
    return data


def places(node: Any, path: tuple[Any, ...] = ()) -> Any:
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield (*path, key)
        yield from places(value, (*path, key))


def as_yaml(data: Any) -> str:
    text = io.StringIO()
    writer = YAML(typ="safe")
    writer.default_flow_style = None
    writer.dump(data, text)
    return text.getvalue()


def loads_or_says_why(text: str, *overrides: str) -> SweepSpec | None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sweep.yaml"
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        try:
            return load_spec(path, overrides)
        except SpecError as error:
            said = error
    lines = text.count("\n") + text.count("\r") + 1
    assert said.faults
    for fault in said.faults:
        assert fault.file in (str(path), "--set")
        assert 1 <= fault.line <= (len(overrides) if fault.file == "--set" else lines)
        assert fault.column >= 1
        assert fault.message.strip()
        assert (fault.message + fault.path).isprintable()
    assert len(str(said).splitlines()) == len(said.faults)
    return None


@pytest.mark.parametrize("data", SPECS, ids=lambda data: data["name"])
def test_the_specs_that_are_varied_are_valid(data: dict[str, Any]):
    assert loads_or_says_why(as_yaml(data)) is not None


@settings(max_examples=150)
@given(mutants())
def test_a_varied_spec_loads_or_says_why(data: dict[str, Any]):
    loads_or_says_why(as_yaml(data))


@settings(max_examples=75)
@given(st.sampled_from(SPECS), st.lists(st.tuples(WORDS, VALUES), min_size=1, max_size=2), st.data())
def test_an_overridden_spec_loads_or_says_why(spec: dict[str, Any], given_: list[Any], data: st.DataObject):
    names = [".".join(map(str, path)) for path in places(spec)]
    overrides = [f"{data.draw(st.sampled_from([name, *names]))}={as_flow(value)}" for name, value in given_]
    loads_or_says_why(as_yaml(spec), *overrides)


def as_flow(value: Any) -> str:
    text = io.StringIO()
    writer = YAML(typ="safe")
    writer.default_flow_style = True
    writer.dump(value, text)
    return text.getvalue().removesuffix("\n").removesuffix("...").strip()


@settings(max_examples=100)
@given(st.text(st.sampled_from(" \n\t-:?,[]{}#&*!|>'\"%@`~<=.0x1eab\x00\ud800é"), max_size=20), st.integers(0, 400))
@example("&x [*x]", 0)
@example("!!pairs [b: 3]", 0)
@example("%YAML 1.1\n---\n", 0)
@example("\ufeff", 0)
def test_a_spoiled_file_loads_or_says_why(text: str, at: int):
    whole = as_yaml(SPECS[0])
    loads_or_says_why(whole[:at] + text + whole[at:])


def test_data_and_text_are_the_same(tmp_path: Path):
    for data in SPECS:
        (tmp_path / "sweep.yaml").write_text(as_yaml(data))
        assert read_yaml(tmp_path / "sweep.yaml").data == data


# Round trips -------------------------------------------------------------------------------------------------------

FRACTION = st.floats(0, 0.99)


@st.composite
def sweeps(draw: st.DrawFn) -> dict[str, Any]:
    tuning = st.just({"method": "full"}) | st.fixed_dictionaries(
        {"method": st.just("lora"), "rank": st.integers(1, 64)},
        optional={"alpha": st.floats(1e-3, 1e3), "rslora": st.booleans(), "targets": st.lists(st.text(min_size=1))},
    )
    train = st.fixed_dictionaries(
        {},
        optional={
            "steps": st.none() | st.integers(1, 10**6),
            "learning_rate": st.floats(1e-300, 1),
            "betas": st.tuples(FRACTION, FRACTION).map(list),
            "clip_norm": st.none() | st.floats(1e-3, 10),
            "warmup": FRACTION,
        },
    )
    seed = st.integers(0, 2**32 - 1)
    axes = st.fixed_dictionaries(
        {},
        optional={
            "seeds.order": st.lists(seed, min_size=1, max_size=3, unique=True),
            "seeds.init": st.builds(
                lambda low, n: {"low": low, "high": low + n, "step": 1}, st.integers(0, 9), st.integers(0, 2)
            ),
            "train.weight_decay": st.fixed_dictionaries(
                {
                    "sample": st.just("uniform"),
                    "low": st.just(0),
                    "high": st.just(1),
                    "count": st.integers(1, 3),
                    "seed": seed,
                }
            ),
            "tuning": st.just([{"method": "full"}, {"method": "lora", "rank": 2}]),
        },
    )
    return {
        "name": "x",
        "model": {"backbone": {"builtin": "grammar-bert", "seed": draw(seed)}},
        "task": {"dataset": {"builtin": "grammar", "label_noise": draw(FRACTION)}, "text": draw(st.text())},
        "tuning": draw(tuning),
        "train": draw(train),
        "axes": draw(axes),
        "zip": draw(st.sampled_from([[], [{"seeds.head": [1, 2], "seeds.dropout": [3, 4]}]])),
        "resources": {"evaluator": {"cache": draw(st.sampled_from(["1.5GiB", 10**9]))}},
    }  # fmt: skip


@given(sweeps())
def test_a_sweep_survives_being_written(data: dict[str, Any]):
    spec = SweepSpec.model_validate(data)
    again = SweepSpec.model_validate(spec.model_dump(mode="json"))
    assert again == spec
    assert SweepSpec.model_validate_json(spec.model_dump_json()) == spec
    assert [point.trial.key for point in again.points] == [point.trial.key for point in spec.points]
    assert [point.values for point in again.points] == [point.values for point in spec.points]
    assert len({point.trial.key for point in spec.points}) == len(spec.points)
