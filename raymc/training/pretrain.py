"""Pre-train a built-in backbone by masked language modelling and put it into the store."""

from __future__ import annotations

import json
import time
from typing import Any

import torch
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

from raymc.specs.content import backbone_key
from raymc.specs.errors import RaymcError
from raymc.specs.model import GrammarBackbone
from raymc.specs.task import GRAMMAR_POSITIONS
from raymc.store import layout
from raymc.store.store import Store
from raymc.tasks import backbones, grammar, mlm
from raymc.training.checkpoint import Checkpoints
from raymc.training.provenance import commit_of_raymc, versions
from raymc.training.loop import Recipe, Report, train
from raymc.training.parallel import Group

_TOKENIZER_ROWS = 4000  # of text: every word of the grammar occurs in them


class MaskedLanguageModelling:
    """Cross-entropy of the masked tokens (Devlin et al. 2019)."""

    def __init__(self, batches: mlm.MaskedBatches):
        self._batches = batches

    def batch(self, step: int, group: Group) -> tuple[dict[str, torch.Tensor], int]:
        whole: dict[str, torch.Tensor] = dict(self._batches.batch(step))  # type: ignore[arg-type]
        terms = int((whole["labels"] != mlm.IGNORED).sum())
        return {name: tensor[group.rank :: group.size].to(group.device) for name, tensor in whole.items()}, terms

    def loss(self, model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
        logits = model(**inputs).logits.float()
        return torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), batch["labels"].flatten(), ignore_index=mlm.IGNORED, reduction="sum"
        )


def pretrain(
    backbone: GrammarBackbone, store: Store, group: Group, *, checkpoint_every: int, log_every: int, report: Report
) -> None:
    """Pre-train to the end and store the folder (BertForMaskedLM and tokenizer) under its key.

    Initialization, order of the text and masking come from `backbone.seed`. Raises RaymcError for a domain that the
    grammar doesn't have, TrainingFault where the loss isn't finite.
    """
    backbones.quiet()
    started = time.perf_counter()
    key = backbone_key(backbone)
    try:
        texts = grammar.corpus(backbone.rows, domain=backbone.domain)
    except ValueError as error:
        raise RaymcError(f"model.backbone: {error}") from error
    # One tokenizer for all built-in backbones, whatever their own text: else no path could join them.
    tokenizer = mlm.train_tokenizer(grammar.corpus(_TOKENIZER_ROWS), model_max_length=GRAMMAR_POSITIONS)
    model = mlm.build_model(
        tokenizer,
        hidden_size=backbone.hidden_size,
        layers=backbone.layers,
        heads=backbone.heads,
        intermediate_size=backbone.intermediate_size,
        seed=backbones.derived_seed("pretraining", backbone.seed, "init"),
        dropout=backbone.dropout,
        init_std=backbone.init_std,
    )
    seed = backbones.derived_seed("pretraining", backbone.seed, "batches")
    batches = mlm.MaskedBatches(
        tokenizer(texts)["input_ids"],  # type: ignore[arg-type]
        batch_size=backbone.batch_size,
        seed=seed,
        tokenizer=tokenizer,
        mask_probability=backbone.mask_probability,
    )
    recipe = Recipe(
        steps=backbone.steps,
        learning_rate=backbone.learning_rate,
        warmup=backbone.warmup,
        dropout_seed=seed,
        log_every=log_every,
    )
    checkpoints = Checkpoints(store, key, checkpoint_every)
    wrapped, curve = train(
        model,
        MaskedLanguageModelling(batches),
        recipe,
        group,
        checkpoints,
        lambda point: report({**point, "steps": recipe.steps}),
    )
    state = get_model_state_dict(wrapped, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    if group.rank == 0:
        provenance = {
            "key": key,
            "backbone": backbone.model_dump(mode="json"),
            "seconds": {"total": time.perf_counter() - started},
            "versions": versions(),
            "commit": commit_of_raymc(),
        }
        with store.create(layout.BACKBONES, key) as folder:
            model.save_pretrained(folder, state_dict=state)
            tokenizer.save_pretrained(folder)
            (folder / layout.TRAINING_CURVE).write_text("".join(json.dumps(point) + "\n" for point in curve))
            (folder / "backbone.json").write_text(json.dumps(provenance, indent=1))
        checkpoints.clear()
    group.wait()
