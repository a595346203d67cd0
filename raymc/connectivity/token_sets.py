"""The row sets of a sweep as token ids, once per tokenizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from raymc.specs.sweep import SweepSpec
from raymc.specs.trial import TrialSpec
from raymc.store import layout
from raymc.store.store import Store
from raymc.tasks import backbones
from raymc.tasks.rows import check_labels, label_names, read_rows
from raymc.tasks.tokens import Tokens, tokenize


@dataclass(frozen=True)
class TokenSets:
    """The row sets of a sweep as token ids, once per tokenizer.

    `tokens`: by the tokenizer's digest and the row set's name. `labels`: by the row set's name, in the order of the
    logits (of the choices). `trials`: of minima that stand on a backbone outside their folder, by key, as this sweep
    has them: the backbone may have moved since they were trained.
    """

    kind: str
    tokens: Mapping[str, Mapping[str, Tokens]]
    labels: Mapping[str, tuple[str, ...]]
    trials: Mapping[str, TrialSpec] = field(default_factory=dict)


def token_sets(
    spec: SweepSpec, storage: str, minima: Sequence[str], trials: Mapping[str, TrialSpec] | None = None
) -> TokenSets:
    """The sweep's row sets for every tokenizer that these minima of the storage have. `trials`: as in TokenSets.

    Raises RaymcError where rows can't be read or have a label that the training rows don't have.
    """
    backbones.quiet()
    store = Store(storage)
    by_file = {store.file_digest(layout.MINIMA, key, "tokenizer.json") or key: key for key in minima}
    folders = {backbones.tokenizer_digest(store.folder(layout.MINIMA, key)): key for key in by_file.values()}
    tokens: dict[str, dict[str, Tokens]] = {digest: {} for digest in folders}
    labels = {}
    for rows_of in spec.row_sets:
        task = rows_of.task
        labels[rows_of.name] = label_names(task, read_rows(task, task.train_split))
        rows = read_rows(task, rows_of.split)
        check_labels(rows, labels[rows_of.name], rows_of.name)
        for digest, key in folders.items():
            folder = str(store.folder(layout.MINIMA, key))
            tokenizer = backbones.load_tokenizer(folder, None, spec.model.trust_remote_code)
            tokens[digest][rows_of.name] = tokenize(tokenizer, rows, labels[rows_of.name], task, spec.model.kind)
    return TokenSets(spec.model.kind, tokens, labels, trials or {})
