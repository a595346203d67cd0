"""Houlsby adapters: what they compute, where they go, how they start, and their folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from raymc.specs.errors import RaymcError
from raymc.specs.tuning import HoulsbyTuning
from raymc.tasks import folders, houlsby, tuning
from raymc.tasks.backbones import load_model

LABELS = ("no", "maybe", "yes")


@pytest.fixture
def tuned(trial, store) -> Callable[..., Any]:
    """tuned(folder, kind, seed=0, **fields): a model with adapters, and its trial."""

    def make(folder: Path, kind: str = "classifier", seed: int = 0, **fields: Any) -> Any:
        spec = {"method": "houlsby", "bottleneck": 3, **fields}
        one = trial(folder, model={"kind": kind}, tuning=spec, seeds={"init": seed})
        return tuning.apply(load_model(one, LABELS, store), one).eval(), one

    return make


def adapters(model: Any) -> dict[str, houlsby.Houlsby]:
    return {name: part for name, part in model.named_modules() if isinstance(part, houlsby.Houlsby)}


@pytest.mark.parametrize(("name", "function"), [("relu", torch.relu), ("tanh", torch.tanh), ("silu", None)])
def test_it_adds_what_its_bottleneck_lets_through(name: str, function: Any):
    adapter = houlsby.Houlsby(4, 2, name, bias=True)
    adapter.draw(0.5, 0.5, 1)
    with torch.no_grad():
        adapter.down.bias.fill_(0.3)
    hidden = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    down, up = adapter.down.weight.double(), adapter.up.weight.double()
    inner = hidden.double() @ down.T + 0.3
    inner = inner * inner.sigmoid() if function is None else function(inner)
    assert torch.allclose(adapter(hidden).double(), hidden + inner @ up.T, atol=1e-6)


def test_both_matrices_start_as_said_and_a_wider_start_is_the_same_draw_scaled(tuned, backbone):
    folder = backbone("bert", hidden_size=64, intermediate_size=64)
    plain, wide = (tuned(folder, bottleneck=48, init_std=std)[0] for std in (0.02, 0.08))
    for name, adapter in adapters(plain).items():
        for part in (adapter.down, adapter.up):
            assert part.weight.std().item() == pytest.approx(0.02, rel=0.1)
            assert abs(part.weight.mean().item()) < 0.002
            assert part.bias is None
        assert torch.allclose(adapters(wide)[name].down.weight, 4 * adapter.down.weight, rtol=1e-6)
    weights = [part.weight.flatten() for adapter in adapters(plain).values() for part in (adapter.down, adapter.up)]
    assert len({weight[0].item() for weight in weights}) == len(weights)  # a stream each


def test_an_up_matrix_of_zeros_leaves_the_model_as_it_was(tuned, trial, backbone, store, ids):
    model, one = tuned(backbone("bert"), up_std=0.0)
    with torch.inference_mode():
        assert torch.equal(model(**ids).logits, load_model(one, LABELS, store).eval()(**ids).logits)
        other = tuned(backbone("bert"))[0]
        assert not torch.equal(model(**ids).logits, other(**ids).logits)
    for name, adapter in adapters(model).items():
        assert torch.equal(adapter.down.weight, adapters(other)[name].down.weight)


def test_the_init_seed_alone_decides_the_start(tuned, backbone):
    first, again, other = (adapters(tuned(backbone("bert"), seed=seed)[0]) for seed in (1, 1, 2))
    for name, adapter in first.items():
        assert torch.equal(adapter.up.weight, again[name].up.weight)
        assert not torch.equal(adapter.up.weight, other[name].up.weight)


@pytest.mark.parametrize(
    ("kind", "arch", "places"),
    [
        ("classifier", "bert", ["attention.output.dense", "output.dense"]),
        ("classifier", "roberta", ["attention.output.dense", "output.dense"]),
        ("causal", "gpt2", ["attn.c_proj", "mlp.c_proj"]),
        ("causal", "llama", ["self_attn.o_proj", "mlp.down_proj"]),
        ("causal", "qwen3", ["self_attn.o_proj", "mlp.down_proj"]),
    ],
)
def test_one_follows_each_attention_and_feed_forward_of_every_layer(
    tuned, backbone, text_backbone, kind: str, arch: str, places: list[str]
):
    folder = backbone(arch) if kind == "classifier" else text_backbone(arch)
    model, _ = tuned(folder, kind)
    names = [name.removesuffix(".houlsby") for name in adapters(model)]
    assert len(names) == 4
    for layer in (0, 1):
        for place in places:
            assert sum(name.endswith(f".{layer}.{place}") for name in names) == 1
    trained = {name.split(".houlsby.")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert {name for name in trained if not name.startswith("classifier.")} == set(names)


def test_in_t5_they_follow_cross_attention_too_and_base_names_stay(tuned, text_backbone, store):
    model, one = tuned(text_backbone("t5"), "seq2seq")
    names = list(adapters(model))
    ends = ["SelfAttention.o", "EncDecAttention.o", "DenseReluDense.wo"]
    assert [sum(name.endswith(f"{end}.houlsby") for name in names) for end in ends] == [4, 2, 4]
    base = set(load_model(one, LABELS, store).state_dict())
    assert {name for name in model.state_dict() if ".houlsby." not in name} == base


def test_targets_are_taken_by_the_ends_of_names(tuned, backbone):
    model, _ = tuned(backbone("bert"), targets=["0.attention.self.query", "intermediate.dense"])
    widths = {name: adapter.down.in_features for name, adapter in adapters(model).items()}
    layer = "bert.encoder.layer"
    assert widths == {
        f"{layer}.0.attention.self.query.houlsby": 16,
        f"{layer}.0.intermediate.dense.houlsby": 32,
        f"{layer}.1.intermediate.dense.houlsby": 32,
    }


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        (["nonesuch"], "tuning.targets: the model has no module named nonesuch"),
        (["output.dense", "nonesuch"], "tuning.targets: the model has no module named nonesuch"),
        (["word_embeddings"], "tuning.targets: bert.embeddings.word_embeddings is no linear projection"),
        (["LayerNorm"], "tuning.targets: bert.embeddings.LayerNorm is no linear projection"),
    ],
)
def test_targets_that_do_not_fit_are_refused(tuned, backbone, targets: list[str], said: str):
    with pytest.raises(RaymcError) as caught:
        tuned(backbone("bert"), targets=targets)
    assert str(caught.value) == said


def test_an_architecture_that_is_not_known_needs_targets(tuned, backbone, monkeypatch):
    monkeypatch.delitem(houlsby.TARGETS, "bert")
    with pytest.raises(RaymcError) as caught:
        tuned(backbone("bert"))
    said = "tuning.targets: where adapters go in a 'bert' isn't known; name the ends of its output projections"
    assert str(caught.value) == said
    assert len(adapters(tuned(backbone("bert"), targets=["output.dense"])[0])) == 4


def test_its_folder_holds_what_trained_alone(tuned, backbone, store, tmp_path: Path, ids):
    model, one = tuned(backbone("mlm"), bias=True, activation="tanh")
    tuning.save(model, one, tmp_path, model.state_dict())
    assert {path.name for path in tmp_path.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    assert json.loads((tmp_path / "adapter_config.json").read_text()) == {
        "peft_type": "HOULSBY",
        "base_model_name_or_path": str(backbone("mlm")),
        "revision": None,
        "bottleneck": 3,
        "activation": "tanh",
        "bias": True,
        "target_modules": ["attention.output.dense", "output.dense"],
        "modules_to_save": ["bert.pooler.dense", "classifier"],
    }
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert set(load_file(tmp_path / "adapter_model.safetensors")) == trained
    assert {"classifier.weight", "bert.pooler.dense.bias"} < trained
    reopened = folders.reopen(tmp_path, one, LABELS, store)
    assert {name for name, p in reopened.named_parameters() if p.requires_grad} == trained
    with torch.inference_mode():
        assert torch.equal(reopened(**ids).logits, model(**ids).logits)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"bottleneck": 4}, "houlsby.down.weight is (3, 16) where the model has (4, 16)"),
        ({"bias": True}, "houlsby.down.bias is absent where the model has (3,)"),
        ({"modules_to_save": []}, "classifier.bias is (3,) where the model has absent"),
        ({"activation": "step"}, "activation 'step' is none of relu, gelu, silu, tanh"),
        ({"peft_type": None}, "names no peft_type"),
        ({"bottleneck": "wide"}, "is no checkpoint that can be read"),
    ],
)
def test_a_folder_whose_config_and_tensors_disagree_is_refused(tuned, backbone, store, tmp_path, change, said: str):
    model, one = tuned(backbone("bert"))
    tuning.save(model, one, tmp_path, model.state_dict())
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(RaymcError) as caught:
        folders.reopen(tmp_path, one, LABELS, store)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_tensor_or_an_entry_is_refused(tuned, backbone, store, tmp_path):
    model, one = tuned(backbone("bert"))
    tuning.save(model, one, tmp_path, model.state_dict())
    path = tmp_path / "adapter_model.safetensors"
    tensors = load_file(path)
    save_file({name: tensor for name, tensor in tensors.items() if name != "classifier.bias"}, path)
    with pytest.raises(RaymcError, match=r"classifier.bias is absent where the model has \(3,\)"):
        folders.reopen(tmp_path, one, LABELS, store)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps({"peft_type": "HOULSBY"}))
    with pytest.raises(RaymcError, match=r"adapter_config\.json lacks 'bottleneck'"):
        folders.reopen(tmp_path, one, LABELS, store)


def test_gradients_reach_both_matrices_through_the_hook(tuned, backbone, ids):
    model, _ = tuned(backbone("bert"))
    model(**ids).logits.sum().backward()
    for adapter in adapters(model).values():
        assert adapter.down.weight.grad is not None
        assert adapter.up.weight.grad is not None
        assert adapter.up.weight.grad.abs().sum() > 0


def test_the_papers_setup_is_a_spec():
    spec = HoulsbyTuning(method="houlsby", bottleneck=12)
    assert (spec.bias, spec.init_std, spec.up_std) == (False, 0.02, None)
