"""What is wrong with a backbone to pre-train from text, as far as a look at its files and its architecture tells."""

from __future__ import annotations

import json
from collections.abc import Iterator

from raymc.specs.content import backbone_fault, backbone_folder, is_folder, positions, text_files
from raymc.specs.errors import RaymcError
from raymc.specs.model import ModelSpec
from raymc.specs.text import TextBackbone, TextFiles


def text_faults(backbone: TextBackbone) -> Iterator[tuple[str, str]]:
    """(field of the backbone, what is wrong). Nothing is fetched from the hub; an architecture needs transformers."""
    if isinstance(backbone.text, TextFiles):
        yield from _file_faults(backbone.text)
    default = TextBackbone.model_fields
    if backbone.pretrain == "causal" and backbone.corruption != default["corruption"].default:
        yield "corruption", "pretrain: causal predicts every token and corrupts none"
    if backbone.pretrain != "span" and backbone.span_length != default["span_length"].default:
        yield "span_length", f"pretrain: {backbone.pretrain} has no spans"
    if isinstance(backbone.tokenizer, str) and (fault := _tokenizer_fault(backbone.tokenizer)):
        yield "tokenizer", fault
    if backbone.start is not None:
        yield from _start_faults(backbone, ModelSpec(backbone=backbone.start))
        return
    from raymc.tasks.networks import architecture_faults

    yield from architecture_faults(backbone)


def _start_faults(backbone: TextBackbone, start: ModelSpec) -> Iterator[tuple[str, str]]:
    if fault := backbone_fault(start):
        yield "start", fault
        return
    folder = backbone_folder(start)
    if folder is None:
        return
    from raymc.tasks.networks import misfit

    kind = json.loads((folder / "config.json").read_bytes()).get("model_type")
    if fault := misfit(str(kind), backbone.pretrain):
        yield "start", fault
    limit = positions(start)
    if limit is not None and backbone.max_length > limit:
        yield "max_length", f"{backbone.max_length} is more than the {limit} positions of {folder}"
    if fault := _tokenizer_fault(str(start.backbone)):
        yield "start", fault


def _file_faults(text: TextFiles) -> Iterator[tuple[str, str]]:
    try:
        for path in text_files(text).values():
            with path.open("rb") as file:
                if all(line.isspace() for line in file):
                    yield "text.path", f"{path} holds no text"
    except (RaymcError, OSError) as error:
        yield "text.path", str(error)


def _tokenizer_fault(name: str) -> str | None:
    try:
        folder = backbone_folder(ModelSpec(backbone=name))
    except RaymcError as error:
        return str(error)
    if folder is None:
        return backbone_fault(ModelSpec(backbone=name))
    if not is_folder(folder):
        return f"no folder {folder}"
    known = ("tokenizer", "vocab", "spiece", "sentencepiece")
    if not any(path.name.startswith(known) for path in folder.iterdir()):
        return f"{folder} holds no tokenizer (tokenizer.json)"
    return None
