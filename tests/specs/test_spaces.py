"""In which space two minima are joined, and every reason why they aren't."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from raymc.specs.errors import RaymcError
from raymc.specs.spaces import MERGEABLE, SPACES, joining_space, spaces_of
from raymc.specs.trial import TrialSpec

FULL = {"method": "full"}
BITFIT = {"method": "bitfit"}
LORA = {"method": "lora"}
IA3 = {"method": "ia3"}
HOULSBY = {"method": "houlsby"}
PREFIX = {"method": "prefix"}
PROMPT = {"method": "prompt", "tokens": 5}
VERA = {"method": "peft", "type": "vera"}
TUNED = {"method": "peft", "type": "P_TUNING", "config": {"num_virtual_tokens": 3}}


def trial(tuning: dict[str, Any], backbone: Any = None) -> TrialSpec:
    model = {"backbone": {"builtin": "grammar-bert"} if backbone is None else str(backbone)}
    return TrialSpec.model_validate({"model": model, "task": {"dataset": {"builtin": "grammar"}}, "tuning": tuning})


@pytest.fixture
def existing(tmp_path: Path):
    """existing("LORA"): a trial of a PEFT folder of that type; existing(None): of a whole model's."""

    def make(kind: str | None) -> TrialSpec:
        folder = tmp_path / str(kind)
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text("{}")
        if kind is not None:
            (folder / "adapter_config.json").write_text(json.dumps({"peft_type": kind}))
        return trial({"method": "existing"}, folder)

    return make


@pytest.mark.parametrize(
    ("tuning", "spaces"),
    [
        (FULL, ("weights",)),
        (BITFIT, ("weights",)),
        (LORA, ("delta_w", "factors")),
        (IA3, ("factors", "delta_w")),
        (HOULSBY, ("factors",)),
        (PREFIX, ("factors",)),
        (PROMPT, ("factors",)),
        (VERA, ("factors", "delta_w")),
        ({"method": "peft", "type": "LoRA"}, ("delta_w", "factors")),
        (TUNED, ("factors",)),
    ],
)
def test_the_spaces_of_a_method(tuning, spaces: tuple[str, ...]):
    assert spaces_of(trial(tuning)) == spaces


@pytest.mark.parametrize(
    ("kind", "spaces"),
    [
        (None, ("weights",)),
        ("LORA", ("delta_w", "factors")),
        ("HOULSBY", ("factors",)),
        ("IA3", ("factors", "delta_w")),
        ("PREFIX_TUNING", ("factors",)),
    ],
)
def test_the_spaces_of_an_existing_minimum_are_those_of_its_folder(existing, kind, spaces: tuple[str, ...]):
    assert spaces_of(existing(kind)) == spaces


@pytest.mark.parametrize(
    ("one", "other", "asked", "space"),
    [
        (FULL, FULL, "auto", "weights"),
        (FULL, FULL, "factors", "weights"),  # they have the one space alone
        (FULL, BITFIT, "delta_w", "weights"),
        (LORA, LORA, "auto", "delta_w"),
        (LORA, LORA, "factors", "factors"),
        (LORA, {**LORA, "dropout": 0.1}, "factors", "factors"),
        (LORA, {**LORA, "rank": 2}, "auto", "delta_w"),
        (LORA, FULL, "auto", "delta_w"),
        (LORA, IA3, "auto", "delta_w"),
        (IA3, IA3, "auto", "factors"),
        (IA3, IA3, "delta_w", "delta_w"),
        (IA3, {**IA3, "targets": ["key"]}, "auto", "delta_w"),
        (IA3, BITFIT, "auto", "delta_w"),
        (VERA, FULL, "auto", "delta_w"),
        (HOULSBY, HOULSBY, "auto", "factors"),
        (HOULSBY, {**HOULSBY, "init_std": 0.08, "up_std": 0.0}, "auto", "factors"),
        (PREFIX, PREFIX, "factors", "factors"),
        (TUNED, TUNED, "auto", "factors"),
    ],
)
def test_the_space_of_a_pair(one, other, asked, space: str):
    assert joining_space(trial(one), trial(other), asked) == space
    assert joining_space(trial(other), trial(one), asked) == space


@pytest.mark.parametrize(
    ("one", "other", "asked", "said"),
    [
        (
            FULL,
            LORA,
            "factors",
            "a full minimum has no factors; use connectivity.space: delta_w, or pairs: {within: tuning}",
        ),
        (
            BITFIT,
            IA3,
            "factors",
            "a full minimum has no factors; use connectivity.space: delta_w, or pairs: {within: tuning}",
        ),
        (
            FULL,
            HOULSBY,
            "factors",
            "a full minimum has no factors, and houlsby can't be merged into the weights; use pairs: {within: tuning}",
        ),
        (
            LORA,
            {**LORA, "rank": 2},
            "factors",
            "factors of lora and lora (rank 2) have unlike shapes or scales; use connectivity.space: delta_w",
        ),
        (
            HOULSBY,
            {**HOULSBY, "bottleneck": 2},
            "factors",
            "factors of houlsby and houlsby (bottleneck 2) have unlike shapes or scales; use pairs: {within: tuning}",
        ),
        (
            HOULSBY,
            HOULSBY,
            "delta_w",
            "houlsby can't be merged into the weights, so it has no point in delta_w; use connectivity.space: factors",
        ),
        (
            PREFIX,
            LORA,
            "auto",
            "prefix can't be merged into the weights, so it has no point in delta_w; "
            "join it to its like: pairs: {within: tuning}",
        ),
        (
            FULL,
            PROMPT,
            "auto",
            "prompt (tokens 5) can't be merged into the weights, so it has no point in delta_w; "
            "join it to its like: pairs: {within: tuning}",
        ),
        (
            HOULSBY,
            {**HOULSBY, "bottleneck": 2},
            "auto",
            "houlsby can't be merged into the weights, so it has no point in delta_w; "
            "join it to its like: pairs: {within: tuning}",
        ),
    ],
)
def test_a_pair_that_no_space_holds_is_refused_with_what_to_do(one, other, asked, said: str):
    with pytest.raises(RaymcError) as caught:
        joining_space(trial(one), trial(other), asked)
    assert str(caught.value) == said


def test_an_existing_minimum_is_joined_to_a_trained_one_of_its_type(existing):
    assert joining_space(existing("HOULSBY"), trial(HOULSBY), "auto") == "factors"
    assert joining_space(existing("LORA"), trial(LORA), "factors") == "factors"
    assert joining_space(existing("LORA"), trial(LORA), "auto") == "delta_w"
    assert joining_space(existing(None), trial(LORA), "auto") == "delta_w"
    assert joining_space(existing(None), trial(FULL), "auto") == "weights"
    with pytest.raises(RaymcError, match=r"existing \(PREFIX_TUNING\) can't be merged"):
        joining_space(existing("PREFIX_TUNING"), trial(FULL), "auto")


def test_every_method_has_its_spaces():
    assert set(SPACES) == {"full", "bitfit", "lora", "ia3", "houlsby", "prefix", "prompt"}
    assert MERGEABLE.isdisjoint({"HOULSBY", "PREFIX_TUNING", "PROMPT_TUNING", "P_TUNING", "BEFT", "LILY", "SHADOW"})
