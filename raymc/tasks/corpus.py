"""Text for pre-training: read line by line, tokenized once, and packed into rows of equal length. Needs no torch."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from raymc.specs.content import hub_commit, text_files
from raymc.specs.errors import RaymcError, first_line
from raymc.specs.text import HubText, Text

HELD_OUT = 0.05  # of the training lines, where there is no validation text
_AT_ONCE = 1000  # lines


@dataclass(frozen=True)
class Corpus:
    """Texts in the order of their file; `held_out` where `validation` is the end of the training text."""

    train: list[str]
    validation: list[str]
    held_out: bool


def read_corpus(text: Text) -> Corpus:
    """The lines of both splits that aren't blank, as they are. Raises RaymcError where there are none.

    Without a validation split, the last twentieth of the training lines (rounded up) is the validation text.
    """
    if isinstance(text, HubText):
        splits = _read_hub(text)
    else:
        splits = {split: _read_file(path) for split, path in text_files(text).items()}
    train, validation = splits["train"], splits.get("validation")
    if validation:
        return Corpus(train, validation, False)
    if len(train) < 2:
        raise RaymcError("the text is one line, which leaves none for validation")
    last = math.ceil(HELD_OUT * len(train))
    return Corpus(train[:-last], train[-last:], True)


def _read_file(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            lines = [line.rstrip("\n") for line in file if not line.isspace()]
    except (OSError, UnicodeDecodeError) as error:
        raise RaymcError(f"{path}: can't be read as UTF-8 text: {error}") from error
    if not lines:
        raise RaymcError(f"{path}: no text")
    return lines


def _read_hub(text: HubText) -> dict[str, list[str]]:
    import datasets

    commit = hub_commit(text.hub, text.revision, "dataset")
    try:
        loaded: Any = datasets.load_dataset(text.hub, text.subset, revision=commit)
    except (ValueError, OSError, KeyError) as error:
        reason = first_line(error)
        raise RaymcError(f"dataset {text.hub}: {reason}") from error
    if "train" not in loaded:
        raise RaymcError(f"dataset {text.hub}: no split 'train' (it has {', '.join(map(str, loaded))})")
    splits = {}
    for split in ("train", "validation"):
        if split not in loaded:
            continue
        if text.column not in loaded[split].column_names:
            known = ", ".join(loaded[split].column_names)
            raise RaymcError(f"dataset {text.hub}: no column {text.column!r} in its split {split} (it has {known})")
        values = loaded[split][text.column]
        lines = [line for value in values if isinstance(value, str) for line in value.split("\n") if line.strip()]
        if not lines:
            raise RaymcError(f"dataset {text.hub}: no text in column {text.column!r} of its split {split}")
        splits[split] = lines
    return splits


def token_stream(tokenizer: Any, texts: Iterable[str], separator: int | None) -> np.ndarray:
    """The ids of all texts one after another, int32; `separator` after each text, where it isn't None."""
    ids = array("i")
    for some in _batched(texts, _AT_ONCE):
        for row in tokenizer(some, add_special_tokens=False, verbose=False)["input_ids"]:
            ids.extend(row)
            if separator is not None:
                ids.append(separator)
    return np.frombuffer(ids, dtype=np.intc).astype(np.int32)


def pack(stream: np.ndarray, length: int, before: Sequence[int] = (), after: Sequence[int] = ()) -> np.ndarray:
    """The stream cut into rows of `length` ids, each between `before` and `after`; rows x length, int64.

    What is left at the end of the stream is dropped, unless it is all: then it is the one, shorter, row. Raises
    RaymcError where the stream has fewer than two ids.
    """
    if len(stream) < 2:
        raise RaymcError(f"text: {len(stream)} tokens in all are no text to train or validate on")
    inner = min(length - len(before) - len(after), len(stream))
    rows = len(stream) // inner
    body = stream[: rows * inner].reshape(rows, inner).astype(np.int64)
    ends = [np.tile(np.array(ids, dtype=np.int64), (rows, 1)) for ids in (before, after)]
    return np.concatenate([ends[0], body, ends[1]], axis=1)


def _batched(items: Iterable[str], size: int) -> Iterator[list[str]]:
    iterator = iter(items)
    while some := list(islice(iterator, size)):
        yield some
