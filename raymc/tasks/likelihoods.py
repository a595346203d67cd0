"""Log-likelihoods of every label's text for every row, in as few passes as the texts share beginnings."""

from __future__ import annotations

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
        self._causal, self._count = kind == "causal", len(tokens.choices)
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

    @torch.inference_mode()
    def __call__(self, model: Any) -> tuple[np.ndarray, np.ndarray]:
        """(rows x labels) float64: natural log-likelihood of the label's target, in `order`; and bool: whether it is
        what greedy decoding gives, token by token. Logits' softmax is taken in fp32."""
        found, greedy = [], []
        for index, batch in enumerate(self._batches):
            logits = self._causal_logits(model, index, batch) if self._causal else self._decoder_logits(model, batch[0])
            rows = len(batch[0]["input_ids"])
            device = batch[0]["input_ids"].device
            likelihoods = torch.zeros(rows, self._count, dtype=torch.float64, device=device)
            hits = torch.zeros(rows, self._count, dtype=torch.bool, device=device)
            for run, part in zip(self._runs, logits, strict=True):
                part = part.float()
                normal, best = part.logsumexp(-1).double(), part.argmax(-1)
                for label, choice in run.choices.items():
                    scores = part[:, : len(choice)].gather(-1, choice.expand(rows, -1)[..., None])[..., 0]
                    likelihoods[:, label] = (scores.double() - normal[:, : len(choice)]).sum(1)
                    hits[:, label] = (best[:, : len(choice)] == choice).all(1)
            found.append(likelihoods)
            greedy.append(hits)
        return torch.cat(found).cpu().numpy(), torch.cat(greedy).cpu().numpy()

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
        rows, device = len(inputs["input_ids"]), inputs["input_ids"].device
        if not _has_virtual_tokens(model):  # these come in where the wrapper calls the whole model
            encoded = model.get_encoder()(**inputs, return_dict=True)
            inputs = {"encoder_outputs": encoded, "attention_mask": inputs["attention_mask"]}
        for run in self._runs:
            labels = torch.tensor([run.target], device=device)
            shifted = model.prepare_decoder_input_ids_from_labels(labels=labels).expand(rows, -1)
            yield model(**inputs, decoder_input_ids=shifted, use_cache=False).logits[:, -len(run.target) :]


def _runs(choices: tuple[Choice, ...], device: torch.device | str) -> list[_Run]:
    """Passes such that each choice's tokens but the last are the start of what one of them is fed."""
    runs: list[_Run] = []
    for label in sorted(range(len(choices)), key=lambda label: -len(choices[label])):
        choice = choices[label]
        start = choice[:-1]
        run = next((run for run in runs if run.target[:-1][: len(start)] == start), None)
        if run is None:
            run = _Run(choice, {})
            runs.append(run)
        run.choices[label] = torch.tensor(choice, device=device)
    return runs


def _has_virtual_tokens(model: Any) -> bool:
    return bool(getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False))


def _windows(model: Any) -> bool:
    """Whether the model can leave out the logits of early places, which for a large vocabulary are most of memory."""
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    return "logits_to_keep" in inspect.signature(plain.forward).parameters
