"""Pre-training by masked language modelling: the tokenizer, the model and the batches. The loop is elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import TypedDict

import torch
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordLevel
from tokenizers.trainers import WordLevelTrainer
from torch import Tensor
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerBase, PreTrainedTokenizerFast

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")  # ids 0 to 4
IGNORED = -100
"""The label of a position that isn't predicted: what torch's cross-entropy ignores."""


class MaskedBatch(TypedDict):
    """int64 tensors of shape (batch size, longest row of the batch)."""

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor  # the token to predict, or IGNORED


def train_tokenizer(texts: Iterable[str], *, model_max_length: int = 32) -> PreTrainedTokenizerFast:
    """A lower-casing word-level tokenizer of every word in texts, most frequent first, ties in alphabetical order.

    Encodes as [CLS] text [SEP], a pair as [CLS] a [SEP] b [SEP]; `model_max_length` counts these too, in tokens.
    """
    tokenizer = Tokenizer(WordLevel(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # pyright: ignore[reportAttributeAccessIssue]
    trainer = WordLevelTrainer(vocab_size=1 << 20, special_tokens=list(SPECIAL_TOKENS), show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    ends = (("[SEP]", SPECIAL_TOKENS.index("[SEP]")), ("[CLS]", SPECIAL_TOKENS.index("[CLS]")))
    tokenizer.post_processor = processors.BertProcessing(*ends)  # pyright: ignore[reportAttributeAccessIssue]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=model_max_length,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        padding_side="right",
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def build_model(
    tokenizer: PreTrainedTokenizerBase,
    *,
    hidden_size: int,
    layers: int,
    heads: int,
    intermediate_size: int,
    seed: int,
    dropout: float,
    init_std: float = 0.02,
) -> BertForMaskedLM:
    """A BERT with random weights decided by `seed` alone; torch's global random state stays as it was.

    `dropout` applies to hidden states and attention, `init_std` to all weight matrices and embeddings: a model as
    narrow as 64 learns much faster from 0.08 than from BERT's 0.02. The model has as many positions as
    `tokenizer.model_max_length` and no pooler: a pooler is a new module of fine-tuning, like the head, and gets the
    head's seed there.
    """
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=intermediate_size,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        max_position_embeddings=tokenizer.model_max_length,
        type_vocab_size=2,
        initializer_range=init_std,
        pad_token_id=_id_of(tokenizer, "[PAD]"),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BertForMaskedLM(config)


class MaskedBatches:
    """Batches for masked language modelling; `batch(step)` is a pure function of the arguments and the step.

    Every epoch visits the rows in an order of its own, leaving out the rows that don't fill a last batch. Tokens are
    masked as `masked` says, none of the special ones.
    """

    def __init__(
        self,
        token_ids: Sequence[Sequence[int]],
        *,
        batch_size: int,
        seed: int,
        tokenizer: PreTrainedTokenizerBase,
        mask_probability: float = 0.15,
    ) -> None:
        """`token_ids` are the encoded rows, [CLS] and [SEP] included, without padding."""
        if not 0 < batch_size <= len(token_ids):
            raise ValueError(f"batch_size must be in [1, {len(token_ids)}] (the rows), not {batch_size}")
        if not 0.0 < mask_probability <= 1.0:
            raise ValueError(f"mask_probability must be in (0, 1], not {mask_probability}")
        self.steps_per_epoch = len(token_ids) // batch_size
        self._batch_size = batch_size
        self._seed = seed
        self._mask_probability = mask_probability
        self._mask_id = _id_of(tokenizer, "[MASK]")
        self._vocabulary = len(tokenizer)
        self._special = torch.tensor(sorted(tokenizer.all_special_ids))
        self._words = torch.tensor(sorted(set(range(len(tokenizer))) - set(tokenizer.all_special_ids)))
        self._lengths = torch.tensor([len(row) for row in token_ids])
        longest = int(self._lengths.max())
        self._rows = torch.full((len(token_ids), longest), _id_of(tokenizer, "[PAD]"))
        for number, row in enumerate(token_ids):
            self._rows[number, : len(row)] = torch.tensor(row)
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.int64)

    def batch(self, step: int) -> MaskedBatch:
        """The batch of a step, counted from 0."""
        chosen = self._rows_of(step)
        lengths = self._lengths[chosen]
        tokens = self._rows[chosen, : int(lengths.max())]
        attention_mask = (torch.arange(tokens.shape[1]) < lengths[:, None]).long()

        generator = _generator(self._seed, "mask", step)
        shown, labels = masked(
            tokens, generator, self._mask_probability, special=self._special, words=self._words, mask_id=self._mask_id
        )
        return {"input_ids": shown, "attention_mask": attention_mask, "labels": labels}

    def _rows_of(self, step: int) -> Tensor:
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._order = torch.randperm(len(self._rows), generator=_generator(self._seed, "order", epoch))
            self._epoch = epoch
        return self._order[place * self._batch_size : (place + 1) * self._batch_size]


def masked(
    tokens: Tensor, generator: torch.Generator, probability: float, *, special: Tensor, words: Tensor, mask_id: int
) -> tuple[Tensor, Tensor]:
    """What the model is shown of `tokens` (rows x width), and its labels, of the same shape.

    Each token but those of `special` is chosen with `probability`, at least one a row; of the chosen, 80 % become
    `mask_id`, 10 % one of `words`, 10 % stay (Devlin et al. 2019).
    """
    score = torch.rand(tokens.shape, generator=generator)
    score.masked_fill_(torch.isin(tokens, special), 2.0)  # never below a probability
    picked = (score < probability) | ((score == score.amin(1, keepdim=True)) & (score < 2.0))
    fate = torch.rand(tokens.shape, generator=generator)
    random_words = words[torch.randint(len(words), tokens.shape, generator=generator)]
    shown = torch.where(fate < 0.8, mask_id, torch.where(fate < 0.9, random_words, tokens))
    return torch.where(picked, shown, tokens), torch.where(picked, tokens, IGNORED)


def _generator(seed: int, stream: str, number: int) -> torch.Generator:
    digest = blake2b(f"mlm/{seed}/{stream}/{number}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)


def _id_of(tokenizer: PreTrainedTokenizerBase, token: str) -> int:
    found = tokenizer.get_vocab().get(token)
    if found is None:
        raise ValueError(f"the tokenizer has no {token} token")
    return found
