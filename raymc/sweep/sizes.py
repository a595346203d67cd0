"""How large a sweep's networks and data are, as far as files and specs tell. No tensor is read."""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path
from typing import Any

from raymc.specs.content import backbone_folder
from raymc.specs.model import GrammarBackbone, ModelSpec, Pretrained
from raymc.specs.task import HubDataset, TaskSpec
from raymc.specs.text import TextBackbone
from raymc.store.store import Store

_GRAMMAR_TOKENS = 12  # a line of the built-in grammar, on the mean
_SIZES = (  # how configs call width, depth and the feed-forward's width
    ("hidden_size", "d_model", "n_embd", "dim"),
    ("num_hidden_layers", "num_layers", "n_layer", "n_layers"),
    ("intermediate_size", "d_ff", "n_inner", "hidden_dim"),
)
_TOKENS_PER_WORD = 1.35  # of a WordPiece vocabulary on English text
_EMBEDDINGS = ("embed", "wte", "wpe", "shared")  # parts of their names


def rows_and_tokens(task: TaskSpec, split: str) -> tuple[int, float] | None:
    """(rows, mean tokens a row) of a split, from the words of its first thousand rows; None where it's on the hub."""
    return _counted(task.model_dump_json(), split)


@functools.cache
def _counted(task_json: str, split: str) -> tuple[int, float] | None:
    from raymc.tasks.rows import read_rows

    task = TaskSpec.model_validate_json(task_json)
    if isinstance(task.dataset, HubDataset):
        return None
    rows = read_rows(task, split)
    pairs = rows.text_pair[:1000] if rows.text_pair else [""] * 1000
    words = [len(f"{a} {b}".split()) for a, b in zip(rows.text[:1000], pairs, strict=False)]
    return len(rows), sum(min(task.max_length, 2 + _TOKENS_PER_WORD * count) for count in words) / len(words)


def weights_of(model: ModelSpec) -> float | None:
    """Weights that take part in matrix products: all but embeddings; None where the backbone is on the hub."""
    made = made_weights(model.backbone)
    if made is not None or not isinstance(model.backbone, str):
        return made
    folder = backbone_folder(model)
    if folder is None:
        return None
    shapes = _shapes(folder).items()
    return float(sum(math.prod(shape) for name, shape in shapes if not any(word in name for word in _EMBEDDINGS)))


def made_weights(backbone: str | Pretrained) -> float | None:
    """As `weights_of`, of a backbone that raymc pre-trains; None for others, and where it can't be told."""
    if isinstance(backbone, TextBackbone):
        fields = backbone.architecture
        width, depth, inner = (
            next((fields[name] for name in names if isinstance(fields.get(name), int)), None) for names in _SIZES
        )
        if width is None or depth is None:
            return None
        blocks = 2 if backbone.pretrain == "span" else 1  # an encoder and a decoder
        return float(blocks * depth * (4 * width**2 + 2 * width * (inner or 4 * width)))
    if isinstance(backbone, GrammarBackbone):
        hidden = backbone.hidden_size
        return backbone.layers * (4.0 * hidden**2 + 2 * hidden * backbone.intermediate_size)
    return None


def tokens_of(backbone: Pretrained) -> int:
    """Tokens of a row that a backbone is pre-trained on."""
    return backbone.max_length if isinstance(backbone, TextBackbone) else _GRAMMAR_TOKENS


def backbone_bytes(model: ModelSpec) -> int | None:
    """What a whole minimum takes in fp32 (of a backbone that raymc pre-trains: its matrices); None where on the hub."""
    if not isinstance(model.backbone, str):
        made = made_weights(model.backbone)
        return None if made is None else int(4 * made)
    folder = backbone_folder(model)
    return None if folder is None else 4 * sum(math.prod(shape) for shape in _shapes(folder).values())


def stored_bytes(store: Store, kind: str, key: str) -> int:
    """Of the weights (*.safetensors) of a folder in the store."""
    return sum(size for name, size in store.sizes(kind, key).items() if name.endswith(".safetensors"))


def _shapes(folder: Path) -> dict[str, Any]:
    """The shapes of a folder's tensors by name, from the headers of its files."""
    found: dict[str, Any] = {}
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        found |= {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}
    return found
