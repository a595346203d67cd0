"""Tokenizers trained on a pre-training text: the same text and settings give the same one in every process.

The trainers of `tokenizers` visit words in the order of a randomly seeded hash. Byte-level BPE doesn't depend on it;
wordpiece does by the ids of its initial "##" characters, and unigram by its scores: both are set here.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from raymc.specs.errors import RaymcError
from raymc.specs.text import TrainedTokenizer
from raymc.tasks import unigram

SENTINELS = 100
"""How many <extra_id_N> a trained tokenizer for span corruption has, on top of its vocabulary, as T5's."""

_ALPHABET = 1000  # characters of a wordpiece or unigram vocabulary: the most frequent ones
_LONGEST = 16  # characters of a unigram piece


def sentinel(number: int) -> str:
    return f"<extra_id_{number}>"


def sentinels(tokenizer: Any) -> list[int]:
    """Ids of <extra_id_0>, <extra_id_1> and so on, as many as a tokenizer has in a row."""
    vocabulary, found = tokenizer.get_vocab(), []
    while (number := vocabulary.get(sentinel(len(found)))) is not None:
        found.append(number)
    return found


def train_tokenizer(
    texts: Sequence[str], spec: TrainedTokenizer, objective: str, *, max_length: int
) -> PreTrainedTokenizerFast:
    """A tokenizer with the special tokens of an objective (masked, span, causal), which come first in its vocabulary.

    It encodes a text as [CLS] text [SEP] (masked; <s> text </s> where it isn't wordpiece), text </s> (span), or text
    (causal). Raises RaymcError where the text can't fill a vocabulary.
    """
    names = _special_tokens(spec.kind, objective)
    special = list(dict.fromkeys(names.values()))
    size = spec.vocab_size - len(special)
    pieces = {"wordpiece": _wordpiece, "bpe": _bpe, "unigram": _unigram}[spec.kind]
    tokenizer = pieces(texts, spec.lowercase, special, size)
    _set(tokenizer, post_processor=_ends(tokenizer, names, objective, spec.kind))
    extra = [sentinel(number) for number in range(SENTINELS)] if objective == "span" else []
    bert = objective == "masked" and spec.kind == "wordpiece"
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=max_length,
        model_input_names=["input_ids", *(["token_type_ids"] if bert else []), "attention_mask"],
        padding_side="right",
        clean_up_tokenization_spaces=False,
        extra_special_tokens=extra,
        **names,
    )


def _special_tokens(kind: str, objective: str) -> dict[str, str]:
    if objective == "masked" and kind == "wordpiece":
        names = ("pad", "unk", "cls", "sep", "mask")
        return {f"{name}_token": f"[{name.upper()}]" for name in names}
    if objective == "masked":
        ends = {"cls_token": "<s>", "sep_token": "</s>", "bos_token": "<s>", "eos_token": "</s>"}
        return {"pad_token": "<pad>", "unk_token": "<unk>", **ends, "mask_token": "<mask>"}
    if objective == "span":
        return {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    end = "<|endoftext|>"
    return {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": end, "eos_token": end}


def _wordpiece(texts: Sequence[str], lowercase: bool, special: list[str], size: int) -> Tokenizer:
    """As BERT's (Devlin et al. 2019)."""

    def empty(vocabulary: dict[str, int] | None = None) -> Tokenizer:
        tokenizer = Tokenizer(models.WordPiece(vocabulary or {}, unk_token="[UNK]" if "[UNK]" in special else "<unk>"))
        _set(
            tokenizer,
            normalizer=normalizers.BertNormalizer(lowercase=lowercase),
            pre_tokenizer=pre_tokenizers.BertPreTokenizer(),
            decoder=decoders.WordPiece(),
        )
        return tokenizer

    trainee = empty()
    words = _words(trainee, texts)
    alphabet = _alphabet(words, special)
    inner = {character for word in words for character in word[1:]}
    first = [*special, *alphabet, *(f"##{character}" for character in alphabet if character in inner)]
    if len(first) > size + len(special):
        raise RaymcError(f"tokenizer.vocab_size: the text's characters alone are {len(first)} tokens")
    trainer = trainers.WordPieceTrainer(
        vocab_size=size + len(special),
        special_tokens=first,  # these get their ids in the order given
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    trainee.train_from_iterator(texts, trainer)
    return empty(trainee.get_vocab())


def _bpe(texts: Sequence[str], lowercase: bool, special: list[str], size: int) -> Tokenizer:
    """Over bytes, as GPT-2's (Radford et al. 2019)."""
    tokenizer = Tokenizer(models.BPE())
    if lowercase:
        _set(tokenizer, normalizer=normalizers.Lowercase())
    _set(tokenizer, pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=False), decoder=decoders.ByteLevel())
    trainer = trainers.BpeTrainer(
        vocab_size=size + len(special),
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _unigram(texts: Sequence[str], lowercase: bool, special: list[str], size: int) -> Tokenizer:
    """As SentencePiece's, which T5 uses (Kudo 2018)."""

    def empty(vocabulary: list[tuple[str, float]]) -> Tokenizer:
        tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=special.index("<unk>") if vocabulary else None))
        steps = [normalizers.NFKC(), *([normalizers.Lowercase()] if lowercase else [])]
        _set(
            tokenizer,
            normalizer=normalizers.Sequence(steps),
            pre_tokenizer=pre_tokenizers.Metaspace(),
            decoder=decoders.Metaspace(),
        )
        return tokenizer

    trainee = empty([])
    words = _words(trainee, texts)
    alphabet = set(_alphabet(words, special))
    kept = Counter({word: count for word, count in words.items() if alphabet.issuperset(word)})
    if len(alphabet) > size:
        raise RaymcError(f"tokenizer.vocab_size: the text's characters alone are {len(alphabet) + len(special)} tokens")
    trainer = trainers.UnigramTrainer(
        vocab_size=size + len(special),
        special_tokens=special,
        unk_token="<unk>",
        max_piece_length=_LONGEST,
        initial_alphabet=sorted(alphabet),
        show_progress=False,
    )
    trainee.train_from_iterator(texts, trainer)
    found = {piece for piece, _ in json.loads(trainee.to_str())["model"]["vocab"]} - set(special)
    pieces = {piece for piece in found if alphabet.issuperset(piece)} | alphabet
    scored = unigram.scores(pieces, kept)
    return empty([(token, 0.0) for token in special] + list(scored.items()))


def _words(tokenizer: Tokenizer, texts: Iterable[str]) -> Counter[str]:
    """What the pre-tokenizer makes of the texts, counted."""
    normalizer, pre = tokenizer.normalizer, tokenizer.pre_tokenizer
    words: Counter[str] = Counter()
    for text in texts:
        words.update(word for word, _ in pre.pre_tokenize_str(normalizer.normalize_str(text)))
    return words


def _alphabet(words: Counter[str], special: list[str]) -> list[str]:
    """The most frequent characters of words, in the order of their code points."""
    characters: Counter[str] = Counter()
    for word, count in words.items():
        for character in word:
            characters[character] += count
    ranked = sorted(characters, key=lambda character: (-characters[character], character))
    return sorted(ranked[:_ALPHABET])


def _ends(tokenizer: Tokenizer, names: dict[str, str], objective: str, kind: str) -> Any:
    ids = {token: number for token in names.values() if (number := tokenizer.token_to_id(token)) is not None}
    if objective == "masked":
        cls, sep = names["cls_token"], names["sep_token"]
        single, pair = f"{cls}:0 $A:0 {sep}:0", f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1"
        if kind != "wordpiece":  # as RoBERTa's
            pair = f"{cls}:0 $A:0 {sep}:0 {sep}:0 $B:0 {sep}:0"
        tokens = [cls, sep]
    elif objective == "span":
        end = names["eos_token"]
        single, pair, tokens = f"$A {end}", f"$A {end} $B {end}", [end]
    else:
        single, pair, tokens = "$A", "$A $B", []
    return processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=[(token, ids[token]) for token in tokens]
    )


def _set(tokenizer: Any, **parts: Any) -> None:
    for name, part in parts.items():
        setattr(tokenizer, name, part)
