"""The yardstick: nothing but forward passes over a row set, on a plain model whose weights never change.

Of a classifier: the rows, tokenized once, are sorted by length and cut into batches as long as rows x longest row stays
within the token budget; those batches go through the model as transformers opens it, logits are dropped. Of a text
model: the calls that scoring makes of the model (prompts and labels' texts), recorded once and made again; nothing is
done with what they give. Nothing is compiled, no weight is written, nothing leaves the device.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from raymc.specs.exactness import Computed
from raymc.store import layout
from raymc.store.store import Store
from raymc.tasks.adapters import merge
from raymc.tasks.folders import is_whole, reopen
from raymc.tasks.minima import Made
from raymc.tasks.scoring import make_scorer
from raymc.tasks.tokens import Tokens

Pass = Callable[[], None]


def plain_model(store: Store, key: str, made: Made, space: str, device: str, precision: Computed) -> Any:
    """A minimum as a model in evaluation mode, in the shape in which paths of `space` compute."""
    folder = store.folder(layout.MINIMA, key)
    model = reopen(folder, made.trial, made.labels, store)
    if space == "delta_w" and not is_whole(folder):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = merge(model, folder)
    return model.eval().to(device, torch.bfloat16 if precision == "bf16" else torch.float32)


def bare_pass(model: Any, kind: str, tokens: Tokens, token_budget: int, device: str) -> Pass:
    """One pass over a row set, made ready."""
    if kind == "classifier":
        ready = list(_batches(tokens, token_budget, device))
        return lambda: _through([(model, (), batch) for batch in ready])
    calls = _recorded(model, lambda: make_scorer(kind, tokens, token_budget, device).by_row(model))
    return lambda: _through(calls)


def padded_tokens(tokens: Tokens, token_budget: int) -> int:
    """Of one pass over a classifier's rows."""
    return sum(batch["input_ids"].numel() for batch in _batches(tokens, token_budget, "cpu"))


@torch.inference_mode()
def _through(calls: list[tuple[Any, Any, Any]]) -> None:
    for module, arguments, options in calls:
        module(*arguments, **options)


def _batches(tokens: Tokens, token_budget: int, device: str) -> Any:
    lengths = tokens.lengths
    order = np.argsort(lengths, kind="stable")
    start = 0
    while start < len(order):
        end = start + 1
        while end < len(order) and lengths[order[end]] * (end + 1 - start) <= token_budget:
            end += 1
        rows, width = order[start:end], int(lengths[order[end - 1]])
        batch = {
            "input_ids": torch.full((len(rows), width), tokens.pad_id),
            "attention_mask": torch.zeros((len(rows), width), dtype=torch.long),
        }
        if tokens.types is not None:
            batch["token_type_ids"] = torch.zeros((len(rows), width), dtype=torch.long)
        for place, row in enumerate(rows):
            part = slice(tokens.offsets[row], tokens.offsets[row + 1])
            batch["input_ids"][place, : lengths[row]] = torch.from_numpy(tokens.ids[part].astype(np.int64))
            batch["attention_mask"][place, : lengths[row]] = 1
            if tokens.types is not None:
                batch["token_type_ids"][place, : lengths[row]] = torch.from_numpy(tokens.types[part].astype(np.int64))
        yield {name: tensor.to(device) for name, tensor in batch.items()}
        start = end


def _recorded(model: Any, scored: Callable[[], Any]) -> list[tuple[Any, Any, Any]]:
    """What scoring calls, with which arguments."""
    calls: list[tuple[Any, Any, Any]] = []
    with outermost(model, lambda *call: calls.append(call), lambda: None):
        scored()
    return calls


@contextlib.contextmanager
def outermost(model: Any, before: Callable[..., None], after: Callable[[], None]) -> Iterator[None]:
    """`before(module, arguments, options)` and `after()` around each call of a model, or of its encoder by itself."""
    depth = 0

    def enter(module: Any, arguments: Any, options: Any) -> None:
        nonlocal depth
        if not depth:
            before(module, arguments, options)
        depth += 1

    def leave(*_: Any) -> None:
        nonlocal depth
        depth -= 1
        if not depth:
            after()

    parts = [model, model.get_encoder()] if getattr(model.config, "is_encoder_decoder", False) else [model]
    hooks = [part.register_forward_pre_hook(enter, with_kwargs=True) for part in parts]
    hooks += [part.register_forward_hook(leave) for part in parts]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
