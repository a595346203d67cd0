from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from raymc.specs.errors import RaymcError
from raymc.specs.text import TrainedTokenizer
from raymc.tasks import grammar
from raymc.tasks.text_tokenizers import SENTINELS, sentinels, train_tokenizer

TEXTS = [*grammar.corpus(300), "Ünïcode and 漢字 (rare)", "  two  spaces, <unk> and <pad>"]
KINDS = ("wordpiece", "bpe", "unigram")
CODE = """
import sys
from raymc.specs.text import TrainedTokenizer
from raymc.tasks.text_tokenizers import train_tokenizer
texts = open(sys.argv[1], encoding="utf-8").read().splitlines()
for kind in ("wordpiece", "bpe", "unigram"):
    for objective in ("masked", "span"):
        spec = TrainedTokenizer(kind=kind, vocab_size=500)
        train_tokenizer(texts, spec, objective, max_length=32).save_pretrained(f"{sys.argv[2]}/{kind}-{objective}")
"""


def make(kind: str, objective: str = "masked", **fields: Any) -> Any:
    return train_tokenizer(TEXTS, TrainedTokenizer(kind=kind, vocab_size=400, **fields), objective, max_length=32)  # type: ignore[arg-type]


def test_another_process_trains_the_same_files(tmp_path: Path):
    (tmp_path / "text").write_text("\n".join(TEXTS), encoding="utf-8")
    for seed in ("1", "2"):
        (tmp_path / seed).mkdir()
        environment = {**os.environ, "PYTHONHASHSEED": seed, "TOKENIZERS_PARALLELISM": ("true", "false")[int(seed) - 1]}
        command = [sys.executable, "-c", CODE, str(tmp_path / "text"), str(tmp_path / seed)]
        subprocess.run(command, check=True, env=environment, cwd=Path(__file__).parents[2])
    files = sorted(path.relative_to(tmp_path / "1") for path in (tmp_path / "1").rglob("*.json"))
    assert len(files) == 12
    for file in files:
        assert (tmp_path / "1" / file).read_bytes() == (tmp_path / "2" / file).read_bytes(), file


@pytest.mark.parametrize("objective", ["masked", "span", "causal"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_tokenizer_comes_back(kind: str, objective: str, tmp_path: Path):
    tokenizer = make(kind, objective)
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert dict(again(TEXTS[:50], TEXTS[50:100])) == dict(tokenizer(TEXTS[:50], TEXTS[50:100]))
    assert again.get_vocab() == tokenizer.get_vocab()
    assert again.special_tokens_map == tokenizer.special_tokens_map
    assert (again.model_max_length, again.padding_side) == (32, "right")


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_and_ends_of_a_text(kind: str):
    masked, span, causal = (make(kind, objective) for objective in ("masked", "span", "causal"))
    text, pair = "the kind baker", "a rude king"
    plain = [one(text, add_special_tokens=False)["input_ids"] for one in (masked, span, causal)]
    other = [one(pair, add_special_tokens=False)["input_ids"] for one in (masked, span, causal)]
    cls, sep = masked.cls_token_id, masked.sep_token_id
    assert masked(text)["input_ids"] == [cls, *plain[0], sep]
    between = [sep] if kind == "wordpiece" else [sep, sep]  # as BERT and as RoBERTa
    assert masked(text, pair)["input_ids"] == [cls, *plain[0], *between, *other[0], sep]
    assert ("token_type_ids" in masked(text)) == (kind == "wordpiece")
    end = span.eos_token_id
    assert span(text, pair)["input_ids"] == [*plain[1], end, *other[1], end]
    assert causal(text)["input_ids"] == plain[2]
    assert causal.eos_token_id not in plain[2]
    assert masked.mask_token_id is not None
    for one in (masked, span, causal):
        assert one.pad_token_id == 0
        assert one.pad_token_id != one.eos_token_id


@pytest.mark.parametrize("kind", KINDS)
def test_sizes_and_sentinels(kind: str):
    masked, span, causal = (make(kind, objective) for objective in ("masked", "span", "causal"))
    full = 275 if kind == "unigram" else 400  # so little text has no more pieces
    assert (len(masked), len(span), len(causal)) == (full, full - 2 * (kind == "unigram") + SENTINELS, len(span) - 100)
    assert span.convert_ids_to_tokens(sentinels(span)) == [f"<extra_id_{i}>" for i in range(SENTINELS)]
    assert sentinels(make(kind)) == []
    assert span("<extra_id_3>", add_special_tokens=False)["input_ids"] == [sentinels(span)[3]]


@pytest.mark.parametrize("kind", KINDS)
def test_text_is_known_and_case_kept_where_asked(kind: str):
    lower, cased = make(kind), make(kind, lowercase=False)
    assert all(lower.unk_token_id not in ids for ids in lower(TEXTS[:300])["input_ids"])
    assert lower("The KIND Baker")["input_ids"] == lower("the kind baker")["input_ids"]
    assert cased("The kind")["input_ids"] != cased("the kind")["input_ids"]
    decoded = lower.decode(lower("The kind baker greets, kindly.")["input_ids"], skip_special_tokens=True)
    assert decoded.strip().replace(" ,", ",").replace(" .", ".") == "the kind baker greets, kindly."


def test_bytes_leave_nothing_unknown():
    tokenizer = make("bpe")
    ids = tokenizer("ὁμηρος 🙂", add_special_tokens=False)["input_ids"]
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids) == "ὁμηρος 🙂"


@pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
def test_more_characters_than_the_vocabulary_has_room_for(kind: str):
    texts = ["".join(chr(0x4E00 + 40 * i + j) for j in range(40)) for i in range(20)]
    with pytest.raises(RaymcError, match=r"tokenizer\.vocab_size: the text's characters alone are 8\d\d tokens"):
        train_tokenizer(texts, TrainedTokenizer(kind=kind, vocab_size=300), "masked", max_length=32)


def test_real_text(shared_data: Path):
    texts = [line for line in (shared_data / "wikitext2" / "validation.txt").read_text().splitlines() if line.strip()]
    longest: dict[str, float] = {}
    for kind in KINDS:
        tokenizer = train_tokenizer(texts, TrainedTokenizer(kind=kind, vocab_size=2000), "causal", max_length=32)
        assert len(tokenizer) == 2000
        words = sum(len(text.split()) for text in texts)
        longest[kind] = sum(map(len, tokenizer(texts)["input_ids"])) / words
    assert all(1.0 < rate < 2.0 for rate in longest.values()), longest
