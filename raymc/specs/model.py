"""Which network a minimum starts from: a hub id, a local folder, an installed package's folder, or built in."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, field_validator

from raymc.specs.base import BelowOne, Count, Flag, Fraction, Positive, Seed, Spec, Whole, variant_of
from raymc.specs.text import TextBackbone


class GrammarBackbone(Spec):
    """A small BERT that raymc pre-trains itself by masked language modelling on its built-in grammar.

    Two backbones that differ in `seed` alone share tokenizer, architecture and text, and differ in initialization,
    data order and masking. Needs no download.
    """

    builtin: Literal["grammar-bert"]
    seed: Seed = Field(default=1, description="initialization, order of the text and masking, all of them")
    steps: Whole = Field(default=1200, description="pre-training updates; 0: random")
    batch_size: Count = Field(default=32, description="sentences per update")
    learning_rate: Positive = Field(default=3e-3, description="its peak")
    warmup: Fraction = Field(default=0.1, description="share of the steps over which the rate rises from 0")
    rows: Count = Field(default=8000, description="lines of pre-training text")
    domain: str = Field(default="all", description="lexicon of the text; all: every line from one of its own draw")
    dropout: BelowOne = Field(default=0.0, description="while it is pre-trained")
    mask_probability: BelowOne = Field(default=0.3, description="share of the tokens that are masked")
    init_std: Positive = Field(
        default=0.08, description="of the weights at the start; 0.02 learns slowly at this width"
    )
    hidden_size: Count = Field(default=64, description="width")
    layers: Count = Field(default=2, description="blocks")
    heads: Count = Field(default=4, description="attention heads a block")
    intermediate_size: Count = Field(default=128, description="width of the feed-forward layers")


_BACKBONES = {"builtin": "GrammarBackbone", "pretrain": "TextBackbone"}
Backbone = Annotated[
    Annotated[str, Field(min_length=1), Tag("str")]
    | Annotated[GrammarBackbone, Tag("GrammarBackbone")]
    | Annotated[TextBackbone, Tag("TextBackbone")],
    Discriminator(
        lambda value: variant_of(value, _BACKBONES, "str"),
        custom_error_type="variant",
        custom_error_message="needs one of builtin and pretrain; a hub id or folder is text, not a mapping",
    ),
]

Pretrained = GrammarBackbone | TextBackbone  # backbones that raymc trains itself


class Perturbation(Spec):
    """Noise on every weight of the backbone: N(0, (scale x the tensor's root mean square)^2), a stream per tensor."""

    scale: Positive = Field(description="share of a tensor's root mean square")
    seed: Seed = Field(default=0, description="of the noise")


class ModelSpec(Spec):
    """The pre-trained start of every fine-tuning."""

    kind: Literal["classifier", "seq2seq", "causal"] = Field(
        default="classifier",
        description="classifier: a head over the labels; seq2seq: labels as text (T5); causal: label likelihood "
        "(GPT-2, Llama, Qwen)",
    )
    backbone: Backbone = Field(
        description="hub id, local folder (./ or / or ../), package:NAME/FOLDER of an installed package, "
        "{builtin: grammar-bert, ...}, or {pretrain: masked | span | causal, ...}"
    )
    revision: str | None = Field(default=None, description="hub revision: branch, tag or commit")
    head: Literal["new", "backbone"] = Field(
        default="new",
        description="new: a fresh classification head from seeds.head; backbone: the head that the backbone "
        "carries, matched by label name",
    )
    head_std: Positive | None = Field(
        default=None, description="standard deviation of a new head's weights; left out: as the architecture has it"
    )
    perturbation: Perturbation | None = Field(default=None, description="noise on the backbone before tuning")
    trust_remote_code: Flag = Field(default=False, description="run code that comes with a checkpoint")

    @field_validator("backbone")
    @classmethod
    def _heads_divide(cls, value: str | GrammarBackbone) -> str | GrammarBackbone:
        if isinstance(value, GrammarBackbone) and value.hidden_size % value.heads:
            raise ValueError(f"hidden_size {value.hidden_size} is not a multiple of heads {value.heads}")
        return value
