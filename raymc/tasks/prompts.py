"""Rows and labels as text for a seq2seq or causal model, and that text as token ids. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence
from string import Formatter
from typing import Any

from raymc.specs.errors import RaymcError
from raymc.specs.task import TaskSpec
from raymc.tasks.columns import Rows

COLUMNS = ("text", "text_pair")
Part = tuple[str, str | None]  # words of the prompt's own, and the column that follows them


def prompt_fault(task: TaskSpec) -> str | None:
    """What is wrong with `task.prompt`, in one line; None where it can be filled in."""
    try:
        parts = _parts(task)
    except ValueError as error:
        return str(error)
    used = [column for _, column in parts if column]
    if not used:
        return "it has neither {text} nor {text_pair}, so all rows would be the same"
    if "text_pair" in used and task.text_pair is None:
        return "it has {text_pair}, and the task has no text_pair"
    return None


def target_fault(task: TaskSpec, labels: Sequence[str] | None) -> str | None:
    """What is wrong with `task.targets`, in one line. `labels`: the label names, where they are known."""
    for label in task.targets:
        if labels is not None and label not in labels:
            return f"no label {label!r} (labels: {', '.join(labels)})"
    texts: dict[str, str] = {}
    for label in labels if labels is not None else task.targets:
        text = task.targets.get(label, label).strip()
        if not text:
            return f"the text of label {label!r} is empty"
        if text in texts:
            return f"labels {texts[text]!r} and {label!r} have the same text {text!r}"
        texts[text] = label
    return None


def segments(task: TaskSpec, text: str, text_pair: str | None) -> list[tuple[str, bool]]:
    """A row's prompt in pieces, in order; each with whether it is of the data (else: of the prompt itself)."""
    values = {"text": text, "text_pair": text_pair or ""}
    pieces: list[tuple[str, bool]] = []
    for words, column in _parts(task):
        pieces += [(words, False)] if words else []
        pieces += [(values[column], True)] if column else []
    return pieces


def prompt_texts(task: TaskSpec, rows: Rows) -> list[str]:
    """Every row's prompt. Raises RaymcError where the prompt can't be filled in."""
    fault = prompt_fault(task)
    if fault:
        raise RaymcError(f"task.prompt: {fault}")
    pairs = rows.text_pair if rows.text_pair is not None else [None] * len(rows)
    return ["".join(piece for piece, _ in segments(task, *row)) for row in zip(rows.text, pairs, strict=True)]


def choices(tokenizer: Any, labels: Sequence[str], task: TaskSpec, kind: str) -> tuple[tuple[int, ...], ...]:
    """Token ids of each label's target, in label order.

    seq2seq: as the tokenizer encodes a target, with its special tokens, and its end-of-text token last (without one,
    its separator). causal: what follows a prompt and one space, and the end-of-text token where there is one. Raises
    RaymcError where a target is empty, two are alike, or one begins another, so that likelihoods say nothing.
    """
    fault = target_fault(task, labels)
    if fault:
        raise RaymcError(f"task.targets: {fault}")
    texts = [task.targets.get(label, label).strip() for label in labels]
    end = tokenizer.eos_token_id
    if kind == "seq2seq":
        end = tokenizer.sep_token_id if end is None else end
        if end is None:
            raise RaymcError("model.backbone: its tokenizer has no end-of-text token, which a seq2seq target ends with")
        found = [list(ids) for ids in tokenizer(text_target=texts, truncation=False, padding=False)["input_ids"]]
    else:
        found = [_after_space(tokenizer, text) for text in texts]
    if end is not None:
        found = [ids if ids[-1:] == [end] else [*ids, end] for ids in found]
    for i, ids in enumerate(found):
        for j, other in enumerate(found):
            if i != j and (not ids or other[: len(ids)] == ids):
                how = "has the same tokens as" if ids == other else "begins"
                raise RaymcError(f"task.targets: the target {texts[i]!r} {how} the target {texts[j]!r}")
    return tuple(map(tuple, found))


def prompt_ids(tokenizer: Any, rows: Rows, task: TaskSpec, kind: str, room: int) -> list[list[int]]:
    """Token ids of every row's prompt, at most `room` each.

    With the special tokens that the tokenizer puts around a text, but (causal) none that ends it: a target goes on
    from here. A causal prompt's trailing spaces are dropped, for a target brings its own. Of a prompt that is too
    long, the data are cut at their end, the longer of two texts first (as transformers' longest_first), never the
    prompt's own words. Raises RaymcError where these alone are too long.
    """
    texts = prompt_texts(task, rows)
    if kind == "causal":
        texts = [text.rstrip(" ") for text in texts]
    encoded = [list(ids) for ids in tokenizer(texts, truncation=False, padding=False)["input_ids"]]
    ends = {tokenizer.eos_token_id, tokenizer.sep_token_id} - {None} if kind == "causal" else set()
    kept = [_unended(ids, ends) for ids in encoded]
    for row, ids in enumerate(kept):
        if len(ids) > room:
            pair = None if rows.text_pair is None else rows.text_pair[row]
            gone = _surplus(tokenizer, segments(task, rows.text[row], pair), texts[row], len(ids) - room)
            kept[row] = [token for place, token in enumerate(ids) if place not in gone]
    return [ids or [blank(tokenizer)] for ids in kept]


def blank(tokenizer: Any) -> int:
    """The token that stands for an empty text where the tokenizer makes none of it: a model needs one at least."""
    known = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    return next((token for token in known if token is not None), 0)


def _parts(task: TaskSpec) -> list[Part]:
    """The prompt as it is filled in. Raises ValueError, in words for a user, where it can't be."""
    if task.prompt is None:
        return [("", "text"), ("\n", "text_pair")] if task.text_pair else [("", "text")]
    try:
        found = list(Formatter().parse(task.prompt))
    except ValueError as error:
        raise ValueError(f"{error}; a brace that stands for itself is written twice") from error
    for _, name, form, conversion in found:
        if name is not None and (name not in COLUMNS or form or conversion):
            shown = name + (f"!{conversion}" if conversion else "") + (f":{form}" if form else "")
            raise ValueError(f"{{{shown}}} is neither {{text}} nor {{text_pair}}; a brace is written twice")
    return [(words, name) for words, name, _, _ in found]


def _after_space(tokenizer: Any, text: str) -> list[int]:
    """Tokens of a text that goes on after a word and a space; a tokenizer may mark the start of a text otherwise."""
    word, whole = (
        tokenizer(part, add_special_tokens=False, truncation=False, padding=False)["input_ids"]
        for part in ("a", f"a {text}")
    )
    if whole[: len(word)] == word:
        return list(whole[len(word) :])
    return list(tokenizer(f" {text}", add_special_tokens=False, truncation=False, padding=False)["input_ids"])


def _unended(ids: list[int], ends: set[int]) -> list[int]:
    while ids and ids[-1] in ends:
        ids = ids[:-1]
    return ids


def _surplus(tokenizer: Any, pieces: list[tuple[str, bool]], text: str, count: int) -> set[int]:
    """Places of the `count` tokens of a prompt that are cut, all of them tokens of the data."""
    if not tokenizer.is_fast:
        raise RaymcError("model.backbone: its tokenizer tells no places of tokens, so long prompts can't be cut")
    spans = tokenizer(text, truncation=False, padding=False, return_offsets_mapping=True)["offset_mapping"]
    fields: list[list[int]] = []
    start = 0
    for piece, data in pieces:
        end = start + len(piece)
        if data:
            fields.append([i for i, (a, b) in enumerate(spans) if start <= a < b <= end])
        start = end
    gone: set[int] = set()
    for _ in range(count):
        longest = max(fields, key=len)
        if not longest:
            raise RaymcError("task.prompt: its own words are longer than task.max_length leaves room for")
        gone.add(longest.pop())
    return gone
