"""A backbone that raymc pre-trains from text: which text, tokenizer, network, objective, and for how long."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from raymc.specs.base import (
    BelowOne,
    Count,
    Flag,
    Fraction,
    NonNegative,
    Positive,
    Seed,
    Spec,
    variant_of,
    within_steps,
)


class TextFiles(Spec):
    """Plain text on disk: one text a line; blank lines say nothing.

    Without a validation file the last twentieth of the training lines, rounded up, is the validation text instead.
    """

    path: str = Field(min_length=1, description="folder with train.txt and validation.txt; or one file (train)")
    splits: dict[Literal["train", "validation"], str] = Field(
        default={}, description="split name: file, where files are named otherwise"
    )


class HubText(Spec):
    """Text of a dataset of the Hugging Face hub: its split train, and validation (else as for files)."""

    hub: str = Field(min_length=1, description="the dataset's id")
    subset: str | None = Field(default=None, description="its configuration")
    revision: str | None = Field(default=None, description="branch, tag or commit; left out: the newest")
    column: str = Field(default="text", min_length=1, description="that holds the text")


Text = Annotated[
    Annotated[TextFiles, Tag("TextFiles")] | Annotated[HubText, Tag("HubText")],
    Discriminator(
        lambda value: variant_of(value, {"path": "TextFiles", "hub": "HubText"}, "TextFiles"),
        custom_error_type="variant",
        custom_error_message="needs one of path and hub",
    ),
]


class TrainedTokenizer(Spec):
    """A tokenizer trained on the training text; the same text and fields give the same tokenizer."""

    kind: Literal["wordpiece", "bpe", "unigram"] = Field(
        default="wordpiece", description="wordpiece: as BERT's; bpe: bytes, as GPT-2's; unigram: as T5's"
    )
    vocab_size: Annotated[int, Field(strict=True, ge=300)] = Field(
        default=8000, description="special tokens included (not span's sentinels); less where the text has no more"
    )
    lowercase: Flag = Field(default=True, description="whether text is lowercased first")


def _tokenizer_kind(value: Any) -> str:
    return "str" if isinstance(value, str) else "TrainedTokenizer"


Tokenizer = Annotated[
    Annotated[str, Field(min_length=1), Tag("str")] | Annotated[TrainedTokenizer, Tag("TrainedTokenizer")],
    Discriminator(_tokenizer_kind),
]


class TextBackbone(Spec):
    """A network pre-trained by raymc on text. Backbones that differ in `snapshot` alone are one run.

    Give `architecture` (a new network, initialized from `seed`), or `start` (a checkpoint to go on from, with its own
    tokenizer).
    """

    pretrain: Literal["masked", "span", "causal"] = Field(
        description="masked: BERT's (Devlin et al. 2019); span: T5's corruption of spans (Raffel et al. 2020); causal: "
        "the next token"
    )
    text: Text = Field(description="what it is pre-trained on")
    tokenizer: Tokenizer | None = Field(
        default=None,
        description="trained here, or a folder or hub id whose tokenizer is taken; left out: a wordpiece tokenizer "
        "trained here, or that of `start`",
    )
    architecture: dict[str, Any] = Field(
        default={},
        description="model_type (bert, roberta, t5, gpt2, llama, ...) and fields of its config in transformers; the "
        "vocabulary is the tokenizer's",
    )
    start: str | None = Field(default=None, min_length=1, description="folder or hub id of a checkpoint to go on from")
    seed: Seed = Field(default=1, description="initialization, order of the text and corruption, all of them")
    steps: Annotated[int, Field(strict=True, ge=0)] = Field(default=2000, description="updates of the run")
    snapshot: Annotated[int, Field(strict=True, ge=0)] | None = Field(
        default=None, description="the backbone is the state after this many updates (0: random); left out: the end"
    )
    batch_size: Count = Field(default=32, description="global: sequences per update over all workers")
    max_length: Annotated[int, Field(strict=True, ge=8)] = Field(default=128, description="tokens a sequence")
    learning_rate: Positive = Field(default=1e-3, description="its peak")
    schedule: Literal["linear", "cosine", "constant"] = Field(
        default="linear", description="of the rate, after warm-up"
    )
    warmup: Fraction = Field(default=0.06, description="share of the steps over which the rate rises from 0")
    weight_decay: NonNegative = Field(default=0.01, description="none on biases and norms")
    clip_norm: Positive | None = Field(default=1.0, description="of the gradient; null: none")
    dropout: BelowOne | None = Field(default=None, description="left out: as the architecture has it")
    corruption: Positive = Field(default=0.15, lt=1.0, description="share of tokens masked, or inside corrupted spans")
    span_length: Positive = Field(default=3.0, description="mean tokens of a corrupted span")
    validation_rows: Count = Field(default=200, description="sequences of the validation text for perplexity")

    _within = field_validator("snapshot")(within_steps)

    @model_validator(mode="after")
    def _one_origin(self) -> TextBackbone:
        if bool(self.architecture) == (self.start is not None):
            raise ValueError("give either architecture (a new network) or start (a checkpoint to go on from)")
        if self.architecture and not isinstance(self.architecture.get("model_type"), str):
            raise ValueError("architecture needs a model_type, such as bert")
        if self.start is not None and self.tokenizer is not None:
            raise ValueError("tokenizer: leave it out, a start goes on with its own")
        return self
