"""Every tuning method on every kind of model: trained, saved, reopened bit for bit, and joined; or refused in a line.

CELLS is the table: what isn't 'ok' is the message.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors import safe_open

from raymc.landscape.curves import Linear
from raymc.specs.errors import RaymcError
from raymc.specs.methods import method_fault
from raymc.specs.spaces import spaces_of
from raymc.specs.trial import TrialSpec
from raymc.store.store import Store
from raymc.tasks import tuning
from raymc.tasks.backbones import load_model
from raymc.tasks.points import PointModel

# peft asks transformers for something that transformers is about to rename
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

LABELS = ("no", "maybe", "yes")
METHODS: dict[str, dict[str, Any]] = {
    "full": {"method": "full"},
    "lora": {"method": "lora", "rank": 2},
    "houlsby": {"method": "houlsby", "bottleneck": 3},
    "prefix": {"method": "prefix", "tokens": 4},
    "prompt": {"method": "prompt", "tokens": 4},
    "ia3": {"method": "ia3"},
    "bitfit": {"method": "bitfit"},
    "peft: ADALORA": {"method": "peft", "type": "ADALORA", "config": {"total_step": 8, "init_r": 2}},
    "peft: VERA": {"method": "peft", "type": "vera", "config": {"r": 4}},
    "peft: P_TUNING": {"method": "peft", "type": "P_TUNING", "config": {"num_virtual_tokens": 4}},
    "peft: PREFIX_TUNING": {
        "method": "peft",
        "type": "PREFIX_TUNING",
        "config": {"num_virtual_tokens": 4, "prefix_projection": True, "encoder_hidden_size": 8},
    },
}
MODELS = {
    "classifier: bert": "mlm",  # without a pooler, which is new then
    "classifier: gpt2": "gpt2",
    "classifier: t5": "t5",
    "seq2seq: t5": "t5",
    "causal: gpt2": "gpt2",
    "causal: llama": "llama",
    "causal: qwen2": "qwen2",
}
_NO_BIAS = "bitfit doesn't fit {}: it has no biases; use ia3 or lora"
_NO_TOKENS = (
    "{} doesn't fit a classifier on t5: peft puts no tokens before an encoder-decoder that classifies; "
    "use kind: seq2seq, or ia3, lora or houlsby"
)
_LAST_TOKEN = (
    "{} doesn't fit a classifier on gpt2: it is read at the last token, which padding hides behind embeddings; "
    "use prefix, or kind: causal"
)
REFUSED = {
    ("bitfit", "classifier: t5"): _NO_BIAS.format("t5"),
    ("bitfit", "seq2seq: t5"): _NO_BIAS.format("t5"),
    ("bitfit", "causal: llama"): _NO_BIAS.format("llama"),
    ("prefix", "classifier: t5"): _NO_TOKENS.format("prefix"),
    ("prompt", "classifier: t5"): _NO_TOKENS.format("prompt"),
    ("peft: P_TUNING", "classifier: t5"): _NO_TOKENS.format("peft"),
    ("peft: PREFIX_TUNING", "classifier: t5"): _NO_TOKENS.format("peft"),
    ("prompt", "classifier: gpt2"): _LAST_TOKEN.format("prompt"),
    ("peft: P_TUNING", "classifier: gpt2"): _LAST_TOKEN.format("peft"),
}
CELLS = {(method, model): REFUSED.get((method, model), "ok") for method in METHODS for model in MODELS}


@pytest.fixture
def cell(trial, backbone, text_backbone):
    """cell(method, model, seed): its trial."""

    def make(method: str, model: str, seed: int) -> TrialSpec:
        kind = model.split(":")[0]
        folder = backbone("mlm") if MODELS[model] == "mlm" else text_backbone(MODELS[model])
        seeds = {"init": seed, "head": seed}
        return trial(folder, model={"kind": kind}, tuning=METHODS[method], seeds=seeds)

    return make


def rows(kind: str, width: int = 7) -> dict[str, torch.Tensor]:
    """Three rows of unlike length, which end with T5's end of text, padded on the right to `width`."""
    texts = [[5, 6, 7, 8, 9, 10, 1], [11, 12, 1], [30, 31, 32, 33, 3, 1]]
    batch = {
        "input_ids": torch.tensor([row + [0] * (width - len(row)) for row in texts]),
        "attention_mask": torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in texts]),
    }
    if kind == "seq2seq":
        batch["decoder_input_ids"] = torch.tensor([[0, 5, 6], [0, 7, 8], [0, 9, 10]])
    return batch


def logits(model: Any, kind: str, width: int = 7, **options: Any) -> torch.Tensor:
    """What is read of them: all of a classifier's and a decoder's, and those of the causal model's shortest row."""
    with torch.inference_mode():
        found = model(**rows(kind, width), **options).logits
    return found[:, -width:][:, :3] if kind == "causal" else found


def train(model: Any, kind: str, goal: int) -> None:
    """Two steps of descent towards one label (token)."""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=0.02)
    for _ in range(2):
        model(**rows(kind)).logits.log_softmax(-1)[..., goal].mean().neg().backward()
        assert all(p.grad is None for p in model.parameters() if not p.requires_grad)
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize(("method", "model"), [cell for cell in CELLS if CELLS[cell] == "ok"])
def test_a_cell_reloads_bit_for_bit_and_is_joined_from_end_to_end(cell, store: Store, tmp_path, method, model):
    kind, ends = model.split(":")[0], []
    for seed in (1, 2):
        trial = cell(method, model, seed)
        assert method_fault(trial) is None
        state = torch.get_rng_state()
        tuned = tuning.apply(load_model(trial, LABELS, store), trial)
        assert torch.equal(torch.get_rng_state(), state)
        untrained = {name: p.detach().clone() for name, p in tuned.named_parameters() if not p.requires_grad}
        start = logits(tuned.eval(), kind)
        train(tuned, kind, seed)
        assert all(torch.equal(p, untrained[name]) for name, p in tuned.named_parameters() if name in untrained)
        folder = tmp_path / str(seed)
        folder.mkdir()
        tuning.save(tuned, trial, folder, {name: t.clone() for name, t in tuned.state_dict().items()})
        outputs = logits(tuned, kind)
        assert not torch.equal(outputs, start)
        ends.append((trial, folder, outputs))
        check_folder(trial, folder)
    assert not torch.equal(ends[0][2], ends[1][2])
    for space in spaces_of(ends[0][0]):
        check_path(ends, space, kind, store)


def check_folder(trial: TrialSpec, folder: Path) -> None:
    files = {path.name for path in folder.iterdir()}
    assert not [name for name in files if name.endswith((".bin", ".pt", ".pkl"))]
    form = tuning.METHODS[trial.tuning.method].folder
    assert ("adapter_config.json" in files) == (form in ("peft", "houlsby"))
    if form != "whole":
        config = json.loads((folder / "adapter_config.json").read_text())
        assert config["base_model_name_or_path"] == trial.model.backbone
        with safe_open(folder / "adapter_model.safetensors", "pt") as file:
            heads = [name for name in file.keys() if any(f"{h}." in name for h in ("classifier", "score"))]  # noqa: SIM118
        assert (trial.model.kind == "classifier") == bool(heads) or "t5" in config["base_model_name_or_path"]


def check_path(ends: list[tuple[TrialSpec, Path, torch.Tensor]], space: str, kind: str, store: Store) -> None:
    trial, folder, _ = ends[0]
    point = PointModel(folder, trial, LABELS, space, store)
    vectors = [point.read(folder, trial, LABELS) for trial, folder, _ in ends]
    assert torch.equal(point.flat, vectors[0])
    curve = Linear(*vectors)
    expected = [outputs for _, _, outputs in ends]
    if space == "delta_w":  # the merged weights' outputs: those of the factors but for rounding
        expected = [logits(merged(trial, folder, store), kind) for trial, folder, _ in ends]
        for found, (_, _, outputs) in zip(expected, ends, strict=True):
            assert torch.allclose(found, outputs, rtol=1e-4, atol=float(1e-5 * outputs.abs().max()))
    for t in (0.0, 1.0, 0.0):
        curve.point(t, point.flat)
        point.refresh()
        assert torch.equal(logits(point.model, kind), expected[int(t)])
    curve.point(0.5, point.flat)
    middle = logits(point.model, kind)
    wider = logits(point.model, kind, 10)
    assert torch.allclose(wider, middle, rtol=1e-4, atol=float(1e-5 * middle.abs().max()))  # padding changes nothing
    if kind != "classifier":
        assert torch.equal(logits(point.model, kind, use_cache=False), middle)  # as it is scored


def merged(trial: TrialSpec, folder: Path, store: Store) -> Any:
    """As peft itself merges it, in place."""
    model: Any = PeftModel.from_pretrained(load_model(trial, LABELS, store), str(folder))
    model.merge_adapter()
    return model.eval()


@pytest.mark.parametrize(("method", "model"), [cell for cell in CELLS if CELLS[cell] != "ok"])
def test_a_cell_is_refused_from_its_spec_and_where_its_config_is_not_at_hand(cell, store: Store, method, model):
    trial = cell(method, model, 1)
    assert method_fault(trial) == CELLS[method, model]
    with pytest.raises(RaymcError) as caught:
        tuning.apply(load_model(trial, LABELS, store), trial)
    assert str(caught.value) == f"tuning.method: {CELLS[method, model]}"


def test_every_method_is_a_row_of_the_table():
    assert {METHODS[name]["method"] for name, _ in CELLS} == set(tuning.METHODS) - {"existing"}
    assert len(CELLS) == len(METHODS) * len(MODELS)
