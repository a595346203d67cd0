"""Fitted curves: known optima of small functions, and tiny transformers between real minima."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from raymc.specs.curves import FitSpec
from raymc.specs.errors import RaymcError, TrainingFault
from raymc.specs.fitting import Fitting
from raymc.specs.trial import TrialSpec
from raymc.store import layout
from raymc.store.store import Store
from raymc.tasks.bends import build_curve, read_bends
from raymc.tasks.points import PointModel
from raymc.tasks.rows import read_rows
from raymc.tasks.scoring import make_scorer
from raymc.tasks.tokens import Tokens, gather, tokenize
from raymc.training.curve_fit import fit_curve
from raymc.training.curve_model import curve_module
from raymc.training.curve_steps import draws, fit
from raymc.training.finetune import finetune
from raymc.training.microbatch import by_length
from raymc.training.objectives import Order
from raymc.training.parallel import Group

ALONE = Group()
WORDS = ("the", "a", "cat", "dog", "bird", "is", "was", "very", "good", "great", "fine", "bad", "awful", "poor", "pos")


def quietly(point: Any) -> None:
    pass


# Small functions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("how", ["uniform", "stratified"])
def test_draws_of_t(how: Any, count: int):
    spec = FitSpec(draws=count, t=how, seed=3)
    found = np.array([draws(spec, step) for step in range(400)])
    assert found.shape == (400, count)
    assert np.array_equal(found[7], draws(spec, 7))
    assert len(np.unique(found)) == found.size
    assert not np.array_equal(found[7], draws(FitSpec(draws=count, t=how, seed=4), 7))
    part = np.arange(count) if how == "stratified" else np.zeros(count)
    inside = found * count - part if how == "stratified" else found
    assert inside.min() >= 0
    assert inside.max() < 1
    # the mean of a uniform variable is known to 5 standard errors
    assert np.abs(inside.mean(0) - 0.5).max() < 5 * math.sqrt(1 / 12 / 400)


def by_formula(kind: str, t: float, a: torch.Tensor, b: torch.Tensor, bends: list[torch.Tensor]) -> torch.Tensor:
    """phi(t) from the formulas of Garipov et al. 2018."""
    if kind == "bezier":
        n = len(bends) + 1
        terms = [math.comb(n, i) * (1 - t) ** (n - i) * t**i * p for i, p in enumerate([a, *bends, b])]
        return torch.stack(terms).sum(0)
    chain, place = [a, *bends, b], t * (len(bends) + 1)
    i = int(place)
    return (i + 1 - place) * chain[i] + (place - i) * chain[i + 1]


@pytest.mark.parametrize(("kind", "count"), [("bezier", 1), ("bezier", 3), ("polygonal", 1), ("polygonal", 3)])
def test_bends_get_the_gradient_of_the_formula(landscapes, kind: str, count: int):
    ground = landscapes.ground({"x": 1, "y": 1}, [-1.0, 0.5], [1.0, 0.1], landscapes.two_wells)
    module = curve_module(landscapes.kinds(kind, {}, bends=count), ground.point, ground.a, ground.b)
    torch.manual_seed(0)
    module.matrix.normal_()
    bends = [row.double().clone().requires_grad_() for row in module.matrix]
    for t in (0.2, 0.6, 0.9):  # their gradients add up
        module.t = t
        loss = landscapes.two_wells(module())
        expected = landscapes.two_wells(by_formula(kind, t, ground.a.double(), ground.b.double(), bends))
        assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
        loss.backward()
        expected.backward()
    module.complete()
    for ours, theirs in zip(module.bends, bends, strict=True):
        found: Any = torch.cat([parameter.grad for parameter in ours])
        assert found.tolist() == pytest.approx(theirs.grad.tolist(), rel=1e-4, abs=1e-6)


def test_gates_get_the_gradient_of_the_formula(landscapes):
    ground = landscapes.ground(
        {"x": 2, "y": 1, "z": 3}, [1.0, 2, 3, 4, 5, 6], [3.0, 1, 0, 2, 8, 6], torch.sum, (0, 1, 0)
    )
    module = curve_module(landscapes.kinds("gates", {}), ground.point, ground.a, ground.b, ground.groups)
    weights = torch.tensor([0.3, -1.2])
    module.state.copy_(weights)
    w = weights.double().requires_grad_()
    a, b = ground.a.double(), ground.b.double()
    factors = torch.arange(1.0, 7.0)
    for t in (0.3, 0.8):
        module.t = t
        (module() ** 2 * factors).sum().backward()
        shares = torch.sigmoid(w)[[0, 0, 1, 0, 0, 0]]
        (by_formula("polygonal", t, a, b, [(1 - shares) * a + shares * b]) ** 2 * factors).sum().backward()
    assert module.gates.grad.tolist() == pytest.approx(w.grad.tolist(), rel=1e-5)
    assert list(dict(module.named_parameters())) == ["gates"]


def test_a_graph_of_another_t_is_refused(landscapes):
    ground = landscapes.ground({"x": 2}, [0.0, 0], [1.0, 1], torch.sum)
    module = curve_module(landscapes.kinds("bezier", {}), ground.point, ground.a, ground.b)
    ground.point.model.forward = lambda: ground.point.model.x**2  # keeps x itself for its gradient
    first = module().sum()
    module.t = 0.9
    module()
    with pytest.raises(RuntimeError, match="inplace"):
        first.backward()


def test_a_bezier_curve_finds_the_pass(landscapes):
    """Every path between the wells goes over PASS; the straight one goes over a ridge 14 times as high."""
    ground = landscapes.ground({"x": 1, "y": 1}, [-1.0, 0.0], [1.0, 0.0], landscapes.two_wells)
    settings = {"steps": 120, "learning_rate": 0.06, "schedule": "cosine", "draws": 4, "t": "stratified"}
    how = landscapes.kinds("bezier", settings)
    start = curve_module(how, ground.point, ground.a, ground.b).curve
    assert landscapes.highest(start, landscapes.two_wells) == pytest.approx(landscapes.STRAIGHT, rel=1e-3)
    found = fit(how, ground, ALONE, None, 10, quietly)
    curve = build_curve(how, ground.a, ground.b, list(found.bends), found.at)
    assert landscapes.highest(curve, landscapes.two_wells) == pytest.approx(landscapes.PASS, abs=1e-2)
    assert ground.a.tolist() == [-1, 0]
    assert ground.b.tolist() == [1, 0]


def test_gates_find_a_separable_optimum(landscapes):
    """On (x - c)^2 between 0 and 1, the mean over the chain 0, s, 1 is least at s = 3c/2 - 1/4."""
    centre = torch.tensor([0.3, 0.3, 0.7, 0.5])
    ground = landscapes.ground(
        {"x": 2, "y": 1, "z": 1}, [0.0] * 4, [1.0] * 4, lambda x: 10 * ((x - centre) ** 2).sum(), (0, 1, 2)
    )
    settings = {"steps": 100, "learning_rate": 0.1, "schedule": "cosine", "warmup": 0.0}
    settings |= {"draws": 6, "t": "stratified"}
    found = fit(landscapes.kinds("gates", settings), ground, ALONE, None, 10, quietly)
    assert torch.sigmoid(found.gates).tolist() == pytest.approx([0.2, 0.8, 0.5], abs=0.01)
    assert found.bends[0].tolist() == pytest.approx([0.2, 0.2, 0.8, 0.5], abs=0.01)
    assert found.at == (0.5,)


def test_the_first_of_the_lowest_states_is_kept(landscapes):
    """A step that only climbs: the straight path stays the best, and is what is given."""
    ground = landscapes.ground({"x": 1}, [0.0], [1.0], lambda x: (x[0] - 0.5) ** 2, chosen=True)
    how = landscapes.kinds("bezier", {"steps": 4, "learning_rate": 5.0, "select": "x", "select_every": 1})
    found = fit(how, ground, ALONE, None, 1, quietly)
    assert found.step == 0
    assert found.bends.tolist() == [[0.5]]
    assert [step for step, _ in found.looks] == [0, 1, 2, 3, 4]
    assert found.looks[0][1] == pytest.approx([0.0625, 0, 0.0625])
    flat = landscapes.ground({"x": 1}, [0.0], [1.0], lambda x: 0 * x[0], chosen=True)
    assert fit(how, flat, ALONE, None, 1, quietly).step == 0  # of equals the first


# Tiny transformers ---------------------------------------------------------------------------------------------------


class Stopped(Exception):
    pass


FIT = {"steps": 6, "batch_size": 8, "learning_rate": 1e-2, "select": "validation", "select_every": 2}


@pytest.fixture
def fitting(minima, tmp_path: Path) -> Callable[..., tuple[Store, Fitting]]:
    """fitting("bezier", "full", "weights", task={...}, **fit): a copy of the store, and what to fit."""

    def make(curve: Any = "bezier", method: str = "full", space: str = "weights", task: Any = None, **settings: Any):
        master, trials = minima(method)
        root = tmp_path / f"{method}-store"
        if not root.exists():
            shutil.copytree(master.root, root)
        how = {"curve": curve} if isinstance(curve, str) else curve
        task = trials[0].task.model_copy(update=task or {})
        body = {"a": trials[0].key, "b": trials[1].key, "space": space, "task": task, "kind": "classifier"}
        return Store(root), Fitting.model_validate({**body, "curve": {**how, "fit": {**FIT, **settings}}})

    return make


def run(fitting: Fitting, store: Store, stop: int | None = None, every: int = 1) -> list[int]:
    """Fit, or be stopped in the report of step `stop`; the steps that were reported."""
    seen: list[int] = []

    def report(point: dict[str, float]) -> None:
        seen.append(int(point["step"]))
        if point["step"] == stop:
            raise Stopped

    options: dict[str, Any] = {"checkpoint_every": every, "log_every": 1, "report": report}
    if stop is None:
        fit_curve(fitting, store, ALONE, **options)
    else:
        with pytest.raises(Stopped):
            fit_curve(fitting, store, ALONE, **options)
    return seen


def body(fitting: Fitting, store: Store) -> dict[str, Any]:
    return store.read_json(layout.CURVES, fitting.key, layout.CURVE)


def weights(fitting: Fitting, store: Store) -> dict[str, torch.Tensor]:
    return load_file(store.folder(layout.CURVES, fitting.key) / "curve.safetensors")


def opened(fitting: Fitting, store: Store, minima: Any, method: str = "full") -> tuple[PointModel, torch.Tensor, Any]:
    trials = minima(method)[1]
    folders = [store.folder(layout.MINIMA, one.key) for one in trials]
    point = PointModel(folders[0], trials[0], ("neg", "pos"), fitting.space, store)
    return point, *(point.read(folder, one, ("neg", "pos")) for folder, one in zip(folders, trials, strict=True))


def rows_of(fitting: Fitting, store: Store, split: str) -> Tokens:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(store.folder(layout.MINIMA, fitting.a))
    return tokenize(tokenizer, read_rows(fitting.task, split), ("neg", "pos"), fitting.task, "classifier")


def test_a_fitted_curve_is_lower_and_its_ends_stay(fitting, minima):
    store, spec = fitting(steps=30, draws=2, select=None)
    before = [store.verify(layout.MINIMA, key, deep=True) for key in (spec.a, spec.b)]
    assert run(spec, store, every=0) == list(range(1, 31))
    assert [store.verify(layout.MINIMA, key, deep=True) for key in (spec.a, spec.b)] == before
    point, a, b = opened(spec, store, minima)
    bends, at = read_bends(point, store.folder(layout.CURVES, spec.key))
    assert at is None
    assert len(bends) == 1
    scorer = make_scorer("classifier", rows_of(spec, store, "train"), 4096)
    losses = {}
    for name, curve in (("linear", torch.lerp(a, b, 0.5)), ("bezier", None)):
        if curve is None:
            build_curve(spec.curve, a, b, bends).point(0.5, point.flat)
        else:
            point.flat.copy_(curve)
        losses[name] = scorer(point.model).loss
    assert losses["bezier"] < 0.7 * losses["linear"]
    said = body(spec, store)
    assert said["a_weights"] == store.weights_digest(layout.MINIMA, spec.a)
    assert (said["chosen_step"], said["steps"], said["at"], said["looks"], said["gates"]) == (30, 30, None, [], None)
    assert set(weights(spec, store)) == {f"1:{name}" for name in point.names}
    assert not store.folder(layout.CHECKPOINTS, spec.key).exists()
    assert run(spec, store) == []  # it is there


@pytest.mark.parametrize(
    ("curve", "method", "space"),
    [
        ("bezier", "full", "weights"),
        ("gates", "full", "weights"),
        ({"curve": "polygonal", "bends": 2}, "lora", "factors"),
    ],
)
def test_stopped_and_begun_again_it_ends_the_same(fitting, tmp_path: Path, curve: Any, method: str, space: str):
    store, spec = fitting(curve, method, space, draws=2, select_every=1)
    shutil.copytree(store.root, tmp_path / "whole")
    whole = Store(tmp_path / "whole")
    run(spec, whole, every=0)
    expected, said = weights(spec, whole), body(spec, whole)
    assert run(spec, store, 2) == [1, 2]
    assert run(spec, store, 5, every=2) == [2, 3, 4, 5]  # with its history of looks
    assert not store.has(layout.CURVES, spec.key)
    assert run(spec, store) == [5, 6]
    found = weights(spec, store)
    assert found.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())
    known = ("looks", "chosen_step", "at", "gates", "rows_digest", "labels")
    assert {name: body(spec, store)[name] for name in known} == {name: said[name] for name in known}
    training = [Path(s.folder(layout.CURVES, spec.key) / "training.jsonl").read_text() for s in (store, whole)]
    assert training[0] == training[1]
    assert [look["step"] for look in said["looks"]] == list(range(7))
    assert said["chosen_step"] == min(said["looks"], key=lambda look: look["mean"])["step"]


def test_the_chosen_state_has_the_loss_that_is_told(fitting, minima):
    store, spec = fitting(learning_rate=0.05, select_at=[0.3, 0.6])
    run(spec, store, every=0)
    said = body(spec, store)
    point, a, b = opened(spec, store, minima)
    bends, at = read_bends(point, store.folder(layout.CURVES, spec.key))
    curve = build_curve(spec.curve, a, b, bends, at)
    scorer = make_scorer("classifier", rows_of(spec, store, "validation"), 4096)
    found = []
    for t in (0.3, 0.6):
        curve.point(t, point.flat)
        found.append(scorer(point.model).loss)
    chosen = next(look for look in said["looks"] if look["step"] == said["chosen_step"])
    assert found == pytest.approx(chosen["loss"], rel=1e-6)
    assert said["chosen_step"] > 0


@pytest.mark.parametrize("dropout", [False, True])
def test_the_first_step_is_that_of_the_first_rows_at_the_first_t(fitting, minima, dropout: bool):
    """Without dropout: the loss that the model gives in evaluation, and the gradient by the formula; with it, others.

    The rows are so many that they are cut by length.
    """
    store, spec = fitting(steps=1, draws=3, batch_size=20, dropout=dropout, select=None, seed=5)
    run(spec, store, every=0)
    said = json.loads((store.folder(layout.CURVES, spec.key) / "training.jsonl").read_text())
    point, a, b = opened(spec, store, minima)
    tokens = rows_of(spec, store, "train")
    batch = gather(tokens, Order(len(tokens), 20, 5).rows(0))
    assert len(by_length(batch)) == 2
    labels, losses, gradient = batch.pop("labels"), [], torch.zeros_like(a)
    for t in draws(spec.fit, 0):
        point.flat.copy_((1 - t) * a + t * b)
        loss = torch.nn.functional.cross_entropy(point.model(**batch).logits, labels)
        for found, view in zip(
            torch.autograd.grad(loss, [dict(point.model.named_parameters())[name] for name in point.names]),
            point.views(gradient).values(),
            strict=True,
        ):
            view.add_(found, alpha=2 * t * (1 - t) / 3)
        losses.append(loss.item())
    same = [
        said["loss"] == pytest.approx(np.mean(losses), rel=1e-5),
        said["grad_norm"] == pytest.approx(gradient.norm().item(), rel=1e-4),
    ]
    assert same == [not dropout] * 2


def test_gates_are_told_by_their_groups(fitting):
    store, spec = fitting({"curve": "gates", "groups": "sublayer"}, learning_rate=0.5, steps=2, select=None)
    run(spec, store, every=0)
    gates, said = weights(spec, store), body(spec, store)["gates"]
    assert set(said) >= {"embeddings", "head", "bert.encoder.layer.0.attention", "bert.encoder.layer.1.feedforward"}
    assert list(said.values()) == pytest.approx(torch.sigmoid(gates["gates"]).tolist(), rel=1e-6)
    assert len({round(value, 3) for value in said.values()}) > 2
    assert body(spec, store)["at"] == [0.5]


def test_labels_are_put_into_the_tasks_order(fitting, minima):
    store, spec = fitting(steps=2, select=None, task={"labels": ("pos", "neg")})
    run(spec, store, every=0)
    assert body(spec, store)["labels"] == ["pos", "neg"]
    point, a, b = opened(spec, store, minima)
    folder = store.folder(layout.CURVES, spec.key)
    (ours,), _ = read_bends(point, folder)
    (theirs,), _ = read_bends(point, folder, ("neg", "pos"))
    there, here = point.views(ours), point.views(theirs)
    for name in point.names:
        flipped = there[name].flip(0) if name.startswith("classifier.") else there[name]
        assert torch.equal(here[name], flipped)
    middle = point.views(torch.lerp(a, b, 0.5))["classifier.weight"]
    assert (here["classifier.weight"] - middle).abs().max() < 0.05  # two updates of 0.01 away


def test_merged_weights_of_lora_are_a_space_too(fitting, minima):
    store, spec = fitting("bezier", "lora", "delta_w", steps=2)
    run(spec, store, every=0)
    names = [name.removeprefix("1:") for name in weights(spec, store)]
    assert any("encoder" in name for name in names)
    assert not any("lora" in name for name in names)


def test_what_is_wrong_is_said(fitting, tmp_path: Path):
    store, spec = fitting(learning_rate=1e30, select=None)
    with pytest.raises(TrainingFault, match="not finite"):
        run(spec, store, every=0)
    store, spec = fitting(learning_rate=1e30)
    with pytest.raises(TrainingFault, match="not finite"):
        run(spec, store, every=0)
    assert not store.keys(layout.CURVES)
    store, spec = fitting(task={"rename": {"pos": "neutral"}})
    with pytest.raises(RaymcError, match=f"fit.task: {spec.a} has labels neg, pos, the task neg, neutral"):
        run(spec, store)
    store, spec = fitting()
    tokenizer = store.folder(layout.MINIMA, spec.b) / "tokenizer.json"
    manifest = tokenizer.with_name(layout.MANIFEST)
    tokenizer.write_text(tokenizer.read_text().replace("awful", "lousy"))
    with pytest.raises(RaymcError, match="SHA-256 differs"):
        run(spec, store)
    kept = [path for path in tokenizer.parent.iterdir() if path != manifest]
    with store.create("again", spec.b) as folder:
        for path in kept:
            shutil.copy(path, folder)
    shutil.rmtree(tokenizer.parent)
    store.folder("again", spec.b).rename(tokenizer.parent)
    with pytest.raises(RaymcError, match="different tokenizers"):
        run(spec, store)


def test_a_curve_between_other_weights_is_fitted_again(fitting):
    store, spec = fitting(steps=1, select=None)
    run(spec, store, every=0)
    assert run(spec, store) == []
    folder = store.folder(layout.MINIMA, spec.b)
    with store.create("again", spec.b) as copy:
        shutil.copytree(folder, copy, dirs_exist_ok=True)
        (copy / layout.MANIFEST).unlink()
        tensors = load_file(folder / "model.safetensors")
        tensors["classifier.bias"] += 1.0
        save_file(tensors, copy / "model.safetensors", {"format": "pt"})
    shutil.rmtree(folder)
    store.folder("again", spec.b).rename(folder)
    assert run(spec, store) == [1]
    assert body(spec, store)["b_weights"] == store.weights_digest(layout.MINIMA, spec.b)


# Text to text --------------------------------------------------------------------------------------------------------


def test_a_curve_between_seq2seq_minima(dataset: Path, tmp_path: Path):
    words = ["<pad>", "</s>", "<unk>", *WORDS, "neg"]
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    start = tmp_path / "t5"
    PreTrainedTokenizerFast(
        tokenizer_object=inner, model_input_names=["input_ids", "attention_mask"], **names
    ).save_pretrained(start)
    torch.manual_seed(0)
    T5ForConditionalGeneration(
        T5Config(
            vocab_size=len(words), d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, decoder_start_token_id=0
        )
    ).save_pretrained(start)
    store, trials = Store(tmp_path / "store"), []
    for seed in (1, 2):
        trials.append(
            {
                "model": {"backbone": str(start), "kind": "seq2seq"},
                "task": {"dataset": {"path": str(dataset)}, "max_length": 12},
                "train": {"steps": 4, "batch_size": 8, "learning_rate": 2e-2},
                "seeds": {"order": seed},
            }
        )
    specs = sorted((TrialSpec.model_validate(one) for one in trials), key=lambda one: one.key)
    for one in specs:
        finetune([one], store, ALONE, checkpoint_every=0, log_every=4, report=quietly)
    spec = Fitting.model_validate(
        {
            "a": specs[0].key,
            "b": specs[1].key,
            "space": "weights",
            "curve": {
                "curve": "bezier",
                "fit": {"steps": 4, "batch_size": 8, "learning_rate": 2e-2, "select": "train"},
            },
            "task": specs[0].task,
            "kind": "seq2seq",
        }
    )
    run(spec, store, every=0)
    looks = body(spec, store)["looks"]
    assert [look["step"] for look in looks] == [0, 4]
    assert looks[1]["mean"] < looks[0]["mean"]
    found = weights(spec, store)
    assert "1:shared.weight" in found  # the embeddings come once
    assert not any(name.endswith("embed_tokens.weight") for name in found)
