"""What is known of the minima of a store: the trial that made each, its labels and its tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from raymc.specs.trial import TrialSpec
from raymc.store import layout
from raymc.store.store import Store
from raymc.tasks.backbones import tokenizer_digest


@dataclass(frozen=True)
class Made:
    """The trial that makes a minimum, the labels of its own head in their order, and its tokenizer's digest."""

    trial: TrialSpec
    labels: tuple[str, ...]
    tokenizer: str


class Minima:
    """`trials`: of minima that stand on a backbone outside their folder, by key, as this sweep has them."""

    def __init__(self, store: Store, trials: Mapping[str, TrialSpec]):
        self._store, self._trials = store, trials
        self._digests: dict[str, str] = {}  # of tokenizers, by their file's hash: they take a while to parse

    def made(self, key: str) -> Made:
        """Raises CorruptArtefact where its folder isn't what was written, as far as it is read here."""
        body = self._store.read_json(layout.MINIMA, key, layout.PROVENANCE)
        trial = self._trials.get(key) or TrialSpec.model_validate(body["trial"])
        return Made(trial, tuple(body["labels"]), self._tokenizer(key))

    def _tokenizer(self, key: str) -> str:
        known = self._store.file_digest(layout.MINIMA, key, "tokenizer.json") or key
        if known not in self._digests:
            self._digests[known] = tokenizer_digest(self._store.folder(layout.MINIMA, key))
        return self._digests[known]
