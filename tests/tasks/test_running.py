"""Ways to run a pass: several points at once, compiled, or plain where that fails. All give what a plain one gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raymc.landscape.curves import Linear
from raymc.tasks import tuning
from raymc.tasks.backbones import load_model, load_tokenizer
from raymc.tasks.points import PointModel
from raymc.tasks.rows import Rows
from raymc.tasks.running import AT_ONCE, Running
from raymc.tasks.scoring import make_scorer
from raymc.tasks.tokens import tokenize

# peft asks transformers for something that transformers is about to rename
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

LABELS = ("no", "maybe", "yes")
LORA = {"method": "lora", "rank": 2, "alpha": 6.0}
CASES = {
    "lora": ("bert", LORA),
    "houlsby": ("bert", {"method": "houlsby", "bottleneck": 4}),
    "prompt": ("bert", {"method": "prompt", "tokens": 3}),
    "gpt2": ("gpt2", LORA),
    "t5": ("t5", LORA),
    "full": ("bert", {"method": "full"}),
}
KINDS = {"bert": "classifier", "gpt2": "causal", "t5": "seq2seq"}
T = (0.2, 0.4, 0.6, 0.9)


class Work:
    """A model, a path between two random points of it, and a row set."""

    def __init__(self, model: PointModel, scorer: Any):
        self.model, self.scorer = model, scorer
        torch.manual_seed(1)
        step = torch.zeros_like(model.flat)
        for view in model.views(step).values():
            view.normal_(std=0.3)
        self.curve = Linear(model.flat.clone(), model.flat + step)

    def plain(self, t: float) -> Any:
        self.curve.point(t, self.model.flat)
        self.model.refresh()
        return self.scorer.by_row(self.model.model)


@pytest.fixture
def work(backbone, text_backbone, trial, store, tmp_path: Path) -> Callable[..., Work]:
    def make(case: str, precision: str = "fp32") -> Work:
        name, how = CASES[case]
        kind = KINDS[name]
        folder = backbone(name) if kind == "classifier" else text_backbone(name)
        more: dict[str, Any] = {"model": {"kind": kind}} if kind != "classifier" else {}
        targets = {"targets": {"no": "bad", "maybe": "very good", "yes": "good bird"}} if more else {}
        spec = trial(folder, tuning=how, task={"max_length": 20, **targets}, **more)
        tuned = tuning.apply(load_model(spec, LABELS, store), spec)
        tuning.save(tuned, spec, tmp_path / "minimum", tuned.state_dict())
        model = PointModel(tmp_path / "minimum", spec, LABELS, "weights" if case == "full" else "factors", store)
        model.to("cpu", precision)
        stream = np.random.default_rng(0)
        words = ["the", "cat", "dog", "is", "very", "good", "bad"]
        texts = [" ".join(stream.choice(words, stream.integers(1, 8))) for _ in range(11)]
        rows = Rows(texts, None, list(stream.choice(LABELS, 11)))
        tokens = tokenize(load_tokenizer(str(folder)), rows, LABELS, spec.task, kind)
        return Work(model, make_scorer(kind, tokens, 40))

    return make


@pytest.mark.parametrize(("precision", "near"), [("fp32", 1e-6), ("bf16", 0.1)])
@pytest.mark.parametrize("case", [case for case in CASES if case != "full"])
def test_several_points_at_once_are_the_points_one_by_one(work, case: str, precision: str, near: float):
    one = work(case, precision)
    for t in (T, T[:2]):
        passes = Running(stack="on").several(one.model, one.scorer, one.curve.point, t)
        assert passes is not None
        assert len(passes) == len(t)
        for at, steps in zip(t, passes, strict=True):
            found, expected = one.scorer.collect(steps), one.plain(at)
            assert found.total().loss == pytest.approx(expected.total().loss, rel=near)
            np.testing.assert_allclose(found.loss, expected.loss, rtol=10 * near)
            np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=10 * near)
    assert one.plain(0.2).loss.sum() != one.plain(0.9).loss.sum()


def test_points_are_taken_at_once_only_where_that_was_asked_for_or_is_faster(work, monkeypatch):
    one, whole = work("lora"), work("full")
    assert Running(stack="auto").several(one.model, one.scorer, one.curve.point, T) is None  # on a CPU
    on = Running(stack="on")
    assert on.several(whole.model, whole.scorer, whole.curve.point, T) is None  # nothing is shared
    assert on.several(one.model, one.scorer, one.curve.point, T[:1]) is None
    for clock, expected in (((0.0, 1.0, 1.0, 9.0), True), ((0.0, 9.0, 9.0, 10.0), False)):
        chosen, ticks = Running(), iter(clock)
        chosen._stack = "auto"  # as on a GPU
        monkeypatch.setattr("raymc.tasks.running.time.perf_counter", lambda ticks=ticks: next(ticks))
        assert len(T) == AT_ONCE
        assert (chosen.several(one.model, one.scorer, one.curve.point, T) is not None) == expected
        assert chosen.chosen["stack"].startswith("on: 4 points took" if expected else "off: 4 points took")
        assert (chosen.several(one.model, one.scorer, one.curve.point, T[:2]) is not None) == expected


def test_a_compiled_model_is_made_once_and_follows_its_weights(work, monkeypatch):
    """torch.compile takes half a minute itself, so it is asked here, and the model it is given is run as it is."""
    compiled: list[Any] = []
    monkeypatch.setattr("torch.compile", lambda model, **_: compiled.append(model) or model)
    one = work("full")
    running = Running(compile="on")
    for t in (0.2, 0.9):
        expected = one.plain(t).loss
        found = one.scorer.collect(running.launch(one.model, one.scorer)).loss
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert compiled == [one.model.model]
    assert running.chosen == {"compile": "torch.compile, as the spec says"}


def test_what_fails_to_compile_runs_as_it_is_and_says_why(work, monkeypatch):
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no compiler here\nat all")

    monkeypatch.setattr("torch.compile", broken)
    one, running = work("full"), Running(compile="on")
    for t in (0.2, 0.9):
        expected = one.plain(t).loss
        assert np.array_equal(one.scorer.collect(running.launch(one.model, one.scorer)).loss, expected)
    assert running.chosen["compile"].startswith("off, since it failed: no compiler here")


def test_a_compiled_model_that_computes_something_else_is_left(work, monkeypatch):
    def wrong(model: Any, **_: Any) -> Any:
        def call(**inputs: Any) -> Any:
            out = model(**inputs)
            out.logits = out.logits + torch.arange(3)
            return out

        return call

    monkeypatch.setattr("torch.compile", wrong)
    one, running = work("full"), Running(compile="on")
    expected = one.plain(0.5).loss
    assert np.array_equal(one.scorer.collect(running.launch(one.model, one.scorer)).loss, expected)
    assert "losses differ" in running.chosen["compile"]


def test_on_a_cpu_nothing_is_tried(work):
    one, running = work("full"), Running()
    expected = one.plain(0.5).loss
    for _ in range(8):
        assert np.array_equal(one.scorer.collect(running.launch(one.model, one.scorer)).loss, expected)
    assert (running.chosen, running.waits) == ({}, True)
