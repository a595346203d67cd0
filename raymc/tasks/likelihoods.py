"""Log-likelihoods of every label's text for every row, in as few passes as the texts share beginnings."""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from raymc.tasks.tokens import Tokens, budget_batches, gather, gather_with

Choice = tuple[int, ...]


@dataclass(frozen=True)
class _Run:
    """One pass of the model, fed `target[:-1]` after the prompt: it predicts all of `choices`, by index of label."""

    target: Choice
    ids: torch.Tensor  # the target's, 1 x tokens
    choices: dict[int, torch.Tensor]


class Likelihoods:
    """A split's prompts made ready on a device. `order`: row numbers as the results come; `tokens`: real ones a call.

    `rows`: the row numbers that are scored, each once; None: all.
    Padding is on the right and masked, so a position is what it would be without padding: a causal model can't look
    at what follows, and an encoder is told what is padding.
    """

    def __init__(
        self,
        kind: str,
        tokens: Tokens,
        token_budget: int,
        device: torch.device | str,
        rows: np.ndarray | None = None,
    ):
        self._causal = kind == "causal"
        self._runs = _runs(tokens.choices, device)
        longest = max(len(run.target) - 1 for run in self._runs)
        batches = budget_batches(tokens, token_budget, longest if self._causal else 0, rows)
        self.order = np.concatenate(batches)
        prompts, count = int(tokens.lengths[self.order].sum()), len(self.order)
        if self._causal:
            self.tokens = sum(prompts + count * (len(run.target) - 1) for run in self._runs)
            self._lengths = [torch.from_numpy(tokens.lengths[batch]).to(device) for batch in batches]
            self._shortest = [int(tokens.lengths[batch].min()) for batch in batches]
            self._batches = [
                [gather_with(tokens, batch, [run.target[:-1]] * len(batch), device) for run in self._runs]
                for batch in batches
            ]
        else:
            self.tokens = prompts + count * sum(len(run.target) for run in self._runs)
            self._batches = [[gather(tokens, batch, device)] for batch in batches]
        for part in (part for parts in self._batches for part in parts):
            del part["labels"]

    @property
    def count(self) -> int:
        """Batches of a pass."""
        return len(self._batches)

    @torch.inference_mode()
    def step(self, model: Any, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Of one batch, (rows x labels): natural log-likelihood of the label's target, float64, and bool: whether it is
        what greedy decoding gives, token by token. Logits' softmax is taken in fp32. Left on the device."""
        batch = self._batches[index]
        logits = self._causal_logits(model, index, batch) if self._causal else self._decoder_logits(model, batch[0])
        rows, found, greedy = len(batch[0]["input_ids"]), {}, {}
        for run, part in zip(self._runs, logits, strict=True):
            part = part.float()
            normal, best = part.logsumexp(-1).double(), part.argmax(-1)
            for label, choice in run.choices.items():
                scores = part[:, : len(choice)].gather(-1, choice.expand(rows, -1)[..., None])[..., 0]
                found[label] = (scores.double() - normal[:, : len(choice)]).sum(1)
                greedy[label] = (best[:, : len(choice)] == choice).all(1)
        labels = range(len(found))
        return torch.stack([found[n] for n in labels], 1), torch.stack([greedy[n] for n in labels], 1)

    def _causal_logits(self, model: Any, index: int, batch: list[dict[str, torch.Tensor]]) -> Any:
        """Per run: logits of the places that predict its target, rows x tokens x vocabulary."""
        lengths, first = self._lengths[index], self._shortest[index] - 1
        for run, inputs in zip(self._runs, batch, strict=True):
            width = inputs["input_ids"].shape[1]
            window = {"logits_to_keep": width - first} if _windows(model) else {}
            logits = model(**inputs, **window, use_cache=False).logits[:, first - width :]
            places = (lengths - 1 - first)[:, None] + torch.arange(len(run.target), device=lengths.device)
            yield logits[torch.arange(len(lengths), device=lengths.device)[:, None], places]

    def _decoder_logits(self, model: Any, inputs: dict[str, torch.Tensor]) -> Any:
        """Per run: logits of its target's tokens, rows x tokens x vocabulary; the encoder runs once where it can."""
        rows = len(inputs["input_ids"])
        if not _has_virtual_tokens(model):  # these come in where the wrapper calls the whole model
            encoded = model.get_encoder()(**inputs, return_dict=True)
            inputs = {"encoder_outputs": encoded, "attention_mask": inputs["attention_mask"]}
        for run in self._runs:
            shifted = model.prepare_decoder_input_ids_from_labels(labels=run.ids).expand(rows, -1)
            yield model(**inputs, decoder_input_ids=shifted, use_cache=False).logits[:, -len(run.target) :]


def _runs(choices: tuple[Choice, ...], device: torch.device | str) -> list[_Run]:
    """Passes such that each choice's tokens but the last are the start of what one of them is fed."""
    runs: list[_Run] = []
    for label in sorted(range(len(choices)), key=lambda label: -len(choices[label])):
        choice = choices[label]
        start = choice[:-1]
        run = next((run for run in runs if run.target[:-1][: len(start)] == start), None)
        if run is None:
            run = _Run(choice, torch.tensor([choice], device=device), {})
            runs.append(run)
        run.choices[label] = torch.tensor(choice, device=device)
    return runs


def _has_virtual_tokens(model: Any) -> bool:
    return bool(getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False))


def _windows(model: Any) -> bool:
    """Whether the model can leave out the logits of early places, which for a large vocabulary are most of memory."""
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    return _takes_window(type(plain))


@functools.lru_cache(maxsize=8)
def _takes_window(model: type) -> bool:
    return "logits_to_keep" in inspect.signature(model.forward).parameters
