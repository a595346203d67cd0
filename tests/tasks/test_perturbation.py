"""Noise on backbones: how large, on what, from which stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from raymc.tasks import tuning
from raymc.tasks.backbones import load_model

LABELS = ("no", "yes")


@pytest.fixture
def load(trial, store) -> Callable[..., Any]:
    def go(folder: Any, scale: float | None = None, seed: int = 0, **sections: Any) -> Any:
        noise = {"perturbation": {"scale": scale, "seed": seed}} if scale else {}
        model = {**noise, **sections.pop("model", {})}
        return load_model(trial(folder, model=model, **sections), LABELS, store)

    return go


def differences(first: Any, second: Any) -> dict[str, torch.Tensor]:
    a, b = first.state_dict(), second.state_dict()
    assert a.keys() == b.keys()
    return {name: b[name] - a[name] for name in a if not torch.equal(a[name], b[name])}


def test_noise_has_the_asked_share_of_each_tensors_size(load, backbone):
    folder = backbone("mlm", hidden_size=64, vocab_size=400)
    plain, noisy = load(folder), load(folder, 0.1)
    state = plain.state_dict()
    found = differences(plain, noisy)
    for name, noise in found.items():
        size = state[name].square().mean().sqrt().item()
        count = noise.numel()
        assert noise.square().mean().sqrt().item() == pytest.approx(0.1 * size, rel=4 / (2 * count) ** 0.5)
        assert abs(noise.mean().item()) < 5 * 0.1 * size / count**0.5
    left = {name for name in state if name not in found}
    new = {"classifier.weight", "classifier.bias", "bert.pooler.dense.weight", "bert.pooler.dense.bias"}
    assert new <= left
    zero = {name for name, tensor in state.items() if not tensor.any()}
    assert left - new == zero - new  # biases of a BERT that was never trained
    for name, noise in differences(plain, load(folder, 0.3)).items():  # the same noise, larger
        assert torch.allclose(noise, 3 * found[name], rtol=1e-3, atol=1e-5)


def test_each_tensor_has_noise_of_its_own(load, backbone):
    plain = load(backbone("bert"))
    found = differences(plain, load(backbone("bert"), 0.1))
    names = [f"bert.encoder.layer.{i}.attention.self.{part}.weight" for i in (0, 1) for part in ("query", "key")]
    noises = [found[name] / plain.get_parameter(name).square().mean().sqrt() for name in names]
    for i, first in enumerate(noises):
        for second in noises[i + 1 :]:
            assert abs(torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1]) < 0.25


def test_the_seed_alone_decides(load, backbone):
    folder = backbone("mlm")
    first = load(folder, 0.1, 1)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert differences(first, load(folder, 0.1, 1)) == {}
    assert torch.equal(torch.get_rng_state(), before)
    other = differences(first, load(folder, 0.1, 2))
    assert not any("classifier" in name or "pooler" in name for name in other)
    noisy = {"head": 3, "init": 4, "order": 5, "dropout": 6}
    assert set(differences(first, load(folder, 0.1, 1, seeds=noisy))) == {
        "classifier.weight",
        "bert.pooler.dense.weight",
    }


def test_a_carried_head_has_noise_whatever_the_order_of_the_labels(trial, store, backbone):
    folder = backbone("classifier")
    models = [
        load_model(
            trial(folder, model={"head": "backbone", "perturbation": {"scale": 0.1}}, task={"labels": list(order)}),
            order,
            store,
        )
        for order in (("no", "maybe", "yes"), ("yes", "no", "maybe"))
    ]
    assert torch.equal(models[0].classifier.weight[[2, 0, 1]], models[1].classifier.weight)
    plain = load_model(trial(folder, model={"head": "backbone"}), ("no", "maybe", "yes"), store)
    assert not torch.equal(plain.classifier.weight, models[0].classifier.weight)


def test_tied_tensors_get_noise_once_and_stay_tied(load, text_backbone):
    folder = text_backbone("gpt2")
    plain, noisy = (load(folder, scale, model={"kind": "causal"}) for scale in (None, 0.1))
    assert noisy.lm_head.weight is noisy.transformer.wte.weight
    noise = (noisy.lm_head.weight - plain.lm_head.weight).detach()
    size = plain.lm_head.weight.square().mean().sqrt().item()
    assert noise.square().mean().sqrt().item() == pytest.approx(0.1 * size, rel=0.05)


def test_adapters_start_on_the_noisy_backbone(load, trial, backbone, ids):
    folder, sections = backbone("bert"), {"tuning": {"method": "lora", "rank": 2}}
    noise = {"perturbation": {"scale": 0.1, "seed": 1}}
    model = tuning.apply(load(folder, 0.1, 1, **sections), trial(folder, model=noise, **sections))
    with torch.no_grad():
        assert torch.equal(model.eval()(**ids).logits, load(folder, 0.1, 1).eval()(**ids).logits)
