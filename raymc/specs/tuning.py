"""How a minimum is reached and which parameters make its point in parameter space."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from raymc.specs.base import BelowOne, Count, Flag, Fraction, NonNegative, Positive, Seed, Spec


class FullTuning(Spec):
    """Every parameter trains; the point is the whole state."""

    method: Literal["full"]


class LoraTuning(Spec):
    """Low-rank adaptation (Hu et al. 2021) through peft; the head trains too and is part of the point."""

    method: Literal["lora"]
    rank: Count = 8
    alpha: Positive = 16.0
    dropout: BelowOne = 0.0
    targets: tuple[str, ...] = Field(default=(), description="module name endings; none: peft's choice for the model")
    rslora: Flag = Field(default=False, description="scale by alpha / sqrt(rank) (Kalajdzievski 2023)")


Tuning = Annotated[FullTuning | LoraTuning, Field(discriminator="method")]


class TrainSpec(Spec):
    """One fine-tuning run. AdamW; the loss is the mean cross-entropy over the examples of a global batch."""

    steps: Count | None = Field(default=None, description="updates; leave out to count in epochs")
    epochs: Positive = Field(default=3.0, description="passes over the training rows, where steps is left out")
    batch_size: Count = Field(default=32, description="global: rows per update over all workers")
    learning_rate: Positive = 5e-5
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup: Fraction = Field(default=0.06, description="share of the steps over which the rate rises from 0")
    weight_decay: NonNegative = Field(default=0.01, description="none on biases and norms")
    betas: tuple[BelowOne, BelowOne] = (0.9, 0.999)
    clip_norm: Positive | None = 1.0
    dropout: BelowOne | None = Field(
        default=None, description="every dropout of the model; left out: as the backbone's config says"
    )
    precision: Literal["fp32", "bf16"] = Field(default="fp32", description="of the forward pass; weights stay fp32")


class Seeds(Spec):
    """Independent random streams: changing one leaves the others' draws as they are, bit for bit."""

    init: Seed = Field(default=0, description="new modules other than the head (LoRA factors, a missing pooler)")
    head: Seed = Field(default=0, description="a new classification head")
    order: Seed = Field(default=0, description="order of the training rows")
    dropout: Seed = Field(default=0, description="dropout masks, a stream per worker")
