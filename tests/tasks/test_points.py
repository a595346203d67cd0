"""A minimum as a vector: the same outputs bit for bit, and paths against weights that were mixed by hand."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForSequenceClassification
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, T5Config, T5ForSequenceClassification

from raymc.specs.errors import RaymcError
from raymc.specs.trial import TrialSpec
from raymc.store.store import Store
from raymc.tasks import likeness, points, tuning
from raymc.tasks.backbones import load_model
from raymc.tasks.points import PointModel

# peft asks transformers for something that transformers is about to rename
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

LABELS = ("no", "maybe", "yes")
FULL = {"method": "full"}
LORA = {"method": "lora", "rank": 2, "alpha": 6.0}
SPACES = [(FULL, "weights"), (LORA, "delta_w"), (LORA, "factors")]
State = dict[str, torch.Tensor]


@dataclass
class Minimum:
    folder: Path
    trial: TrialSpec


@pytest.fixture
def minimum(tmp_path: Path, backbone, trial, store) -> Callable[..., Minimum]:
    """minimum(tuning, seed=1, kind="bert", labels=LABELS, **config): a saved one whose trained weights are random."""

    def make(
        how: dict[str, Any],
        seed: int = 1,
        kind: str = "bert",
        labels: tuple[str, ...] = LABELS,
        backbone_seed: int = 0,
        **config: Any,
    ) -> Minimum:
        seeds = {"head": seed, "init": seed}
        spec = trial(backbone(kind, backbone_seed, **config), tuning=how, seeds=seeds)
        model = tuning.apply(load_model(spec, labels, store), spec)
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.3 * torch.randn_like(parameter))
        folder = tmp_path / f"minimum-{len(list(tmp_path.iterdir()))}"
        tuning.save(model, spec, folder, model.state_dict())
        return Minimum(folder, spec)

    return make


def opened(minimum: Minimum, space: str, store: Store) -> PointModel:
    return PointModel(minimum.folder, minimum.trial, LABELS, space, store)


def read(model: PointModel, minimum: Minimum) -> torch.Tensor:
    return model.read(minimum.folder, minimum.trial, LABELS)


def plain(minimum: Minimum, space: str) -> Any:
    """The minimum as transformers or peft loads it."""
    if minimum.trial.tuning.method == "full":
        return AutoModelForSequenceClassification.from_pretrained(minimum.folder).eval()
    model: Any = AutoPeftModelForSequenceClassification.from_pretrained(str(minimum.folder), num_labels=len(LABELS))
    return (model.merge_and_unload() if space == "delta_w" else model).eval()


def logits(model: Any, inputs: State) -> torch.Tensor:
    with torch.inference_mode():
        return model(**inputs).logits


def close(one: torch.Tensor, other: torch.Tensor) -> bool:
    """To the rounding of weights in float32: the logits here are of size 1 to 10."""
    return torch.allclose(one, other, rtol=2e-6, atol=5e-6)


def refused(action: Callable[[], Any]) -> str:
    with pytest.raises(RaymcError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# One point -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bert", "mlm", "gpt2"])
@pytest.mark.parametrize(("how", "space"), SPACES)
def test_a_points_outputs_are_the_saved_models_bit_for_bit(minimum, store, ids, how, space: str, kind: str):
    """Of the minimum that was opened, of another that is copied into its buffer, and of the first again."""
    first, second = minimum(how, 1, kind), minimum(how, 2, kind)
    expected = [logits(plain(m, space), ids) for m in (first, second)]
    assert not torch.equal(*expected)
    model = opened(first, space, store)
    assert torch.equal(logits(model.model, ids), expected[0])
    for which in (1, 0, 1):
        model.flat.copy_(read(model, (first, second)[which]))
        model.refresh()
        assert torch.equal(logits(model.model, ids), expected[which])


@pytest.mark.parametrize(("how", "space"), SPACES)
def test_the_buffer_starts_as_the_minimum_that_was_opened(minimum, store, how, space: str):
    first = minimum(how, 1)
    model = opened(first, space, store)
    assert torch.equal(model.flat, read(model, first))
    assert model.nbytes == model.flat.numel() * 4


@pytest.mark.parametrize(("how", "space"), SPACES)
def test_the_models_weights_are_views_of_the_buffer_on_lines_of_64_bytes(minimum, store, how, space: str):
    """With bfloat16 the head's are of the fp32 buffer itself, the rest of the rounded one."""
    model = opened(minimum(how), space, store)
    for precision in ("fp32", "bf16"):
        model.to("cpu", precision)
        tensors = points._interpolated(model.model, space)
        assert set(tensors) == set(model.names)
        heads = {name: tensors.pop(name) for name in model.head_names}
        for buffer, some in ((model._compute, tensors), (model.flat, heads)):
            start, end = buffer.data_ptr(), buffer.data_ptr() + buffer.numel() * buffer.element_size()
            places = sorted((t.data_ptr(), t.data_ptr() + t.numel() * t.element_size()) for t in some.values())
            assert all(at % 64 == 0 for at, _ in places)
            assert places[0][0] >= start
            assert places[-1][1] <= end
            assert all(last <= following for (_, last), (following, _) in itertools.pairwise(places))
            assert {t.dtype for t in some.values()} == {buffer.dtype}
        model.flat.fill_(0.5)
        model.refresh()
        assert all((t == 0.5).all() for t in (*tensors.values(), *heads.values()))


def test_what_is_interpolated(minimum, store):
    full, lora = minimum(FULL), minimum(LORA)
    states = {space: opened(m, space, store) for m, space in ((full, "weights"), (lora, "delta_w"), (lora, "factors"))}
    assert set(states["weights"].names) == set(load_file(full.folder / "model.safetensors"))
    assert states["delta_w"].names == states["weights"].names
    adapter = load_file(lora.folder / "adapter_model.safetensors")
    short = {
        name.replace(".default", "").replace(".modules_to_save", ""): shape
        for name, shape in zip(states["factors"].names, states["factors"].shapes, strict=True)
    }
    assert short == {name: tuple(tensor.shape) for name, tensor in adapter.items()}


def test_bfloat16_computes_with_rounded_weights_and_keeps_the_point_and_the_logits_wide(minimum, store, ids):
    first = minimum(FULL)
    model = opened(first, "weights", store)
    point = model.flat.clone()
    model.to("cpu", "bf16")
    assert model.flat.dtype == torch.float32
    assert torch.equal(model.flat, point)
    body, head = plain(first, "weights").bert.to(torch.bfloat16), plain(first, "weights").classifier

    def expected(scale: float = 1.0) -> torch.Tensor:
        with torch.inference_mode():
            return torch.nn.functional.linear(body(**ids).pooler_output.float(), scale * head.weight, scale * head.bias)

    assert logits(model.model, ids).dtype == torch.float32
    assert torch.equal(logits(model.model, ids), expected())
    model.flat.mul_(0.5)
    assert torch.equal(logits(model.model, ids), expected(0.5))  # the rest only once it is refreshed
    model.refresh()
    assert not torch.equal(logits(model.model, ids), expected(0.5))


# Paths ---------------------------------------------------------------------------------------------------------------


def walk(model: PointModel, first: Minimum, second: Minimum, t: float) -> None:
    torch.lerp(read(model, first), read(model, second), t, out=model.flat)
    model.refresh()


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
@pytest.mark.parametrize("t", [0.2, 0.5, 0.9])
def test_a_path_of_full_minima_is_a_mix_of_their_state_dicts(minimum, store, ids, t: float, kind: str):
    first, second = minimum(FULL, 1, kind), minimum(FULL, 2, kind)
    model = opened(first, "weights", store)
    walk(model, first, second, t)
    oracle = plain(first, "weights")
    a, b = oracle.state_dict(), plain(second, "weights").state_dict()
    oracle.load_state_dict({name: (1 - t) * a[name] + t * b[name] for name in a})
    assert close(logits(model.model, ids), logits(oracle, ids))


def merged(lora: Minimum) -> State:
    """W0 + (alpha / rank) B A of every target, and the head (and pooler) as trained; written from the file's names."""
    adapter = load_file(lora.folder / "adapter_model.safetensors")
    base = AutoModelForSequenceClassification.from_pretrained(lora.trial.model.backbone, num_labels=len(LABELS))
    state = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    for name, tensor in adapter.items():
        name = name.removeprefix("base_model.model.")
        if name.endswith(".lora_A.weight"):
            target = name.removesuffix(".lora_A.weight")
            b = adapter[f"base_model.model.{target}.lora_B.weight"]
            state[f"{target}.weight"] += (lora.trial.tuning.alpha / tensor.shape[0]) * (b @ tensor)
        elif not name.endswith(".lora_B.weight"):
            state[name] = tensor
    return state


@pytest.mark.parametrize("kind", ["bert", "mlm"])
@pytest.mark.parametrize("t", [0.0, 0.3, 0.5, 1.0])
def test_a_path_in_delta_w_is_a_mix_of_merged_weights(minimum, store, ids, t: float, kind: str):
    first, second = minimum(LORA, 1, kind), minimum({**LORA, "rank": 3}, 2, kind)  # ranks may differ
    model = opened(first, "delta_w", store)
    walk(model, first, second, t)
    a, b = merged(first), merged(second)
    oracle = AutoModelForSequenceClassification.from_pretrained(first.trial.model.backbone, num_labels=3).eval()
    oracle.load_state_dict({name: (1 - t) * a[name] + t * b[name] for name in a})
    assert close(logits(model.model, ids), logits(oracle, ids))


@pytest.mark.parametrize("t", [0.3, 0.5])
def test_a_path_of_factors_mixes_a_and_b_themselves(minimum, store, ids, t: float):
    first, second = minimum(LORA, 1), minimum(LORA, 2)
    model = opened(first, "factors", store)
    walk(model, first, second, t)
    a, b = (load_file(m.folder / "adapter_model.safetensors") for m in (first, second))
    mixed = Minimum(first.folder.with_name("mixed"), first.trial)
    mixed.folder.mkdir()
    (mixed.folder / "adapter_config.json").write_bytes((first.folder / "adapter_config.json").read_bytes())
    save_file({name: (1 - t) * a[name] + t * b[name] for name in a}, mixed.folder / "adapter_model.safetensors")
    assert close(logits(model.model, ids), logits(plain(mixed, "factors"), ids))


def test_factors_and_delta_w_agree_at_the_ends_and_differ_between(minimum, store, ids):
    first, second = minimum(LORA, 1), minimum(LORA, 2)
    by_space = {space: opened(first, space, store) for space in ("delta_w", "factors")}
    gaps = {}
    for t in (0.0, 0.5, 1.0):
        for model in by_space.values():
            walk(model, first, second, t)
        one, other = (logits(model.model, ids) for model in by_space.values())
        gaps[t] = (one - other).abs().max().item()
    assert gaps[0.0] < 1e-5
    assert gaps[1.0] < 1e-5
    assert gaps[0.5] > 0.01


def test_a_full_and_a_lora_minimum_are_joined_by_their_weights(minimum, store, ids):
    full, lora = minimum(FULL, 1), minimum(LORA, 2)
    for first, second in ((full, lora), (lora, full)):
        model = opened(first, "delta_w", store)
        walk(model, first, second, 0.25)
        oracle = plain(full, "weights")
        a, b = (load_file(m.folder / "model.safetensors") if m is full else merged(m) for m in (first, second))
        oracle.load_state_dict({name: 0.75 * a[name] + 0.25 * b[name] for name in a})
        assert close(logits(model.model, ids), logits(oracle, ids))


# Tied tensors, buffers -----------------------------------------------------------------------------------------------


def test_tied_embeddings_come_once_and_stay_tied(tmp_path: Path, trial, store, ids):
    sizes = {"vocab_size": 50, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2, "num_labels": 3}
    config = T5Config(**sizes, eos_token_id=3, decoder_start_token_id=0)
    minima = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        folder = tmp_path / str(seed)
        T5ForSequenceClassification(config).save_pretrained(folder)
        minima.append(Minimum(folder, trial(folder)))
    first, second = minima
    model = opened(first, "weights", store)
    tied = [name for name in model.names if "shared" in name or "embed_tokens" in name]
    assert len(tied) == 1
    assert model.flat.numel() < sum(t.numel() for t in model.model.state_dict().values())
    walk(model, first, second, 0.3)
    inner = model.model.transformer
    for part in (inner.shared, inner.encoder.embed_tokens, inner.decoder.embed_tokens):
        assert part.weight.data_ptr() == inner.shared.weight.data_ptr()
    oracle = plain(first, "weights")
    a, b = oracle.state_dict(), plain(second, "weights").state_dict()
    mixed = {name: (0.7 * a[name] + 0.3 * b[name]).clone() for name in a}
    oracle.load_state_dict(mixed)
    assert close(logits(model.model, ids), logits(oracle, ids))
    model.flat.copy_(read(model, second))
    assert torch.equal(logits(model.model, ids), logits(plain(second, "weights"), ids))


class Odd(torch.nn.Module):
    """Every kind of tensor that a module can hold."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(2, 2)
        self.second = torch.nn.Linear(2, 2, bias=False)
        self.second.weight = self.first.weight
        self.frozen = torch.nn.Parameter(torch.ones(3), requires_grad=False)
        self.register_buffer("mean", torch.ones(2))
        self.register_buffer("count", torch.tensor([7]))
        self.register_buffer("derived", torch.ones(2), persistent=False)


def test_which_tensors_make_a_point():
    model = Odd()
    assert set(points._interpolated(model, "weights")) == {"first.weight", "first.bias", "frozen", "mean"}
    assert set(points._interpolated(model, "factors")) == {"first.weight", "first.bias"}


@pytest.mark.parametrize(("how", "space"), SPACES)
def test_integer_buffers_stay_as_they_are(minimum, store, how, space: str):
    first, second = minimum(how, 1), minimum(how, 2)
    model = opened(first, space, store)

    def integers() -> State:
        return {n: b.clone() for n, b in model.model.named_buffers() if not b.is_floating_point()}

    before = integers()
    assert before
    walk(model, first, second, 0.5)
    model.to("cpu", "bf16")
    assert all(torch.equal(tensor, before[name]) for name, tensor in integers().items())
    assert integers().keys() == before.keys()


# Heads ---------------------------------------------------------------------------------------------------------------

HOULSBY = {"method": "houlsby", "bottleneck": 3}
ALL = [*SPACES, ({"method": "bitfit"}, "weights"), (HOULSBY, "factors"), ({"method": "prompt", "tokens": 3}, "factors")]


@pytest.mark.parametrize("kind", ["mlm", "roberta"])
@pytest.mark.parametrize(("how", "space"), ALL)
def test_a_lent_head_replaces_one_of_other_labels(minimum, store, how, space: str, kind: str):
    """All else is the second's own, as a model opened for it alone has it."""
    first, second = minimum(how, 1, kind), minimum(how, 2, kind, labels=("a", "b"))
    model = opened(first, space, store)
    assert model.head_names
    lent = read(model, first)
    assert "shapes differ" in refused(lambda: model.read(second.folder, second.trial, ("a", "b")))
    vector = model.read(second.folder, second.trial, ("a", "b"), head_from=lent)
    own = PointModel(second.folder, second.trial, ("a", "b"), space, store)
    assert own.names == model.names
    parts = [
        dict(zip(model.names, m._views(v), strict=True)) for m, v in ((model, vector), (model, lent), (own, own.flat))
    ]
    for name, tensor in parts[0].items():
        assert torch.equal(tensor, parts[1 if name in model.head_names else 2][name])
    stripped = {name.split("classifier.")[1].removeprefix("modules_to_save.default.") for name in model.head_names}
    dense = {"dense.weight", "dense.bias", "out_proj.weight", "out_proj.bias"}
    assert stripped == ({"weight", "bias"} if kind == "mlm" else dense)


@pytest.mark.parametrize("kind", ["mlm", "roberta"])
@pytest.mark.parametrize(("how", "space"), ALL)
def test_labels_are_put_into_another_order_by_name(minimum, store, ids, how, space: str, kind: str):
    first = minimum(how, 1, kind)
    model = opened(first, space, store)
    before = logits(model.model, ids)
    model.flat.copy_(model.read(first.folder, first.trial, LABELS, order=("yes", "no", "maybe")))
    assert torch.equal(logits(model.model, ids), before[:, [2, 0, 1]])
    assert torch.equal(model.read(first.folder, first.trial, LABELS, order=LABELS), read(model, first))
    message = refused(lambda: model.read(first.folder, first.trial, LABELS, order=("yes", "no", "perhaps")))
    assert message == f"{first.folder.name} has labels no, maybe, yes, not yes, no, perhaps"


@pytest.mark.parametrize("how", [LORA, HOULSBY, {"method": "prefix", "tokens": 3}, {"method": "ia3"}])
def test_an_adapter_on_a_shared_base_is_read_from_its_file_as_from_its_model(minimum, store, monkeypatch, how):
    first, second = minimum(how, 1), minimum(how, 2)
    model = opened(first, "factors", store)
    model.to("cpu", "bf16")
    through_the_model = PointModel(first.folder, first.trial, LABELS, "factors", store)
    through_the_model._files = {}
    expected = read(through_the_model, second)

    def never(*_: Any) -> Any:
        raise AssertionError("the base is loaded again")

    monkeypatch.setattr(points, "reopen", never)
    assert torch.equal(read(model, second), expected)


# What can't be joined ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hidden_size": 32}, "architectures differ: hidden_size is 32 in NAME, 16 in the other end"),
        ({"num_hidden_layers": 1}, "architectures differ: num_hidden_layers is 1 in NAME, 2 in the other end"),
        ({"num_attention_heads": 4}, "architectures differ: num_attention_heads is 4 in NAME, 2 in the other end"),
        ({"hidden_act": "relu"}, "architectures differ: hidden_act is 'relu' in NAME, 'gelu' in the other end"),
        ({"layer_norm_eps": 1e-5}, "architectures differ: layer_norm_eps is 1e-05 in NAME, 1e-12 in the other end"),
        ({"kind": "gpt2"}, "architectures differ: "),
        ({"labels": ("a", "b")}, "shapes differ: classifier.bias is (2,) in NAME, (3,) in the other end"),
    ],
)
@pytest.mark.parametrize("how", [FULL, LORA])
def test_unlike_networks_are_refused(minimum, store, how, change: dict[str, Any], said: str):
    """With other heads, activations or epsilons the tensors have the same shapes, and mean something else."""
    first, second = minimum(how), minimum(how, 2, **change)
    space = "weights" if how is FULL else "delta_w"
    model = opened(first, space, store)
    labels = change.get("labels", LABELS)
    message = refused(lambda: model.read(second.folder, second.trial, labels))
    assert message.startswith(said.replace("NAME", second.folder.name))


def test_entries_of_a_config_that_change_no_output_are_no_hindrance(minimum, store):
    first = minimum(FULL)
    for change in ({"hidden_dropout_prob": 0.3}, {"initializer_range": 0.1}, {"classifier_dropout": 0.2}):
        second = minimum(FULL, 2, **change)
        assert read(opened(first, "weights", store), second).numel()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"how": {**LORA, "alpha": 4.0}}, "lora_alpha than the other end (4.0, not 6.0)"),
        ({"how": {**LORA, "rslora": True}}, "use_rslora than the other end (True, not False)"),
        ({"how": LORA, "backbone_seed": 1}, "base than the other end"),
    ],
)
def test_factors_on_another_base_or_scale_are_refused(minimum, store, change: dict[str, Any], what: str):
    """The shapes agree, yet at t = 1 such a path wouldn't be the second minimum."""
    first, second = minimum(LORA, 1), minimum(**change, seed=2)
    for precision in ("fp32", "bf16"):
        model = opened(first, "factors", store)
        model.to("cpu", precision)
        message = refused(lambda model=model: read(model, second))
        assert message.startswith(f"{second.folder.name} has another {what}, so their factors can't be interpolated")
        assert message.endswith("use connectivity.space: delta_w")
        read(model, minimum(LORA, 3))
    delta = opened(first, "delta_w", store)
    assert read(delta, second).numel() == delta.flat.numel()


def test_factors_of_another_rank_or_target_are_refused(minimum, store):
    first = minimum(LORA, 1)
    model = opened(first, "factors", store)
    said = {
        "has another r than the other end (3, not 2)": {**LORA, "rank": 3},
        "shapes differ: base_model.model.bert": {**LORA, "targets": ["key"]},
    }
    for message, other in said.items():
        assert message in refused(lambda other=other: read(model, minimum(other, 2)))


def test_weights_that_are_not_float32_are_refused(minimum, store):
    first, second = minimum(FULL, 1), minimum(FULL, 2)
    path = second.folder / "model.safetensors"
    save_file({name: t.bfloat16() for name, t in load_file(path).items()}, path, metadata={"format": "pt"})
    message = refused(lambda: read(opened(first, "weights", store), second))
    assert "is torch.bfloat16; points are interpolated in float32" in message


@pytest.mark.parametrize("how", [FULL, LORA])
@pytest.mark.parametrize("name", ["config", "weights"])
def test_a_folder_that_cannot_be_read_is_refused(minimum, store, how, name: str):
    """The store's hashes find damage first; this is what a folder from elsewhere meets."""
    space = "weights" if how is FULL else "delta_w"
    first, second = minimum(how, 1), minimum(how, 2)
    files = {
        "config": ("config.json", "adapter_config.json"),
        "weights": ("model.safetensors", "adapter_model.safetensors"),
    }
    path = second.folder / files[name][how is LORA]
    path.write_bytes(path.read_bytes()[:40])
    assert "can be read" in refused(lambda: opened(second, space, store))
    assert "can be read" in refused(lambda: read(opened(first, space, store), second))


def test_a_config_without_a_model_type_is_no_checkpoint(minimum, tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps({"hidden_size": 3}))
    assert "is no checkpoint that can be read" in refused(lambda: likeness.architecture_of(tmp_path))
    known = likeness.architecture_of(minimum(FULL).folder)
    assert known["model_type"] == "bert"
    assert not {"hidden_dropout_prob", "id2label", "dtype", "transformers_version", "initializer_range"} & known.keys()
