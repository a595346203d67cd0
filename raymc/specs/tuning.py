"""How a minimum is reached and which parameters make its point in parameter space."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from raymc.specs.base import BelowOne, Count, Flag, Fraction, NonNegative, Positive, Seed, Spec, within_steps


class FullTuning(Spec):
    """Every parameter trains; the point is the whole state."""

    method: Literal["full"]


class LoraTuning(Spec):
    """Low-rank adaptation (Hu et al. 2021) through peft; the head trains too and is part of the point."""

    method: Literal["lora"]
    rank: Count = Field(default=8, description="of the two factors")
    alpha: Positive = Field(default=16.0, description="the update is scaled by alpha / rank")
    dropout: BelowOne = Field(default=0.0, description="on the input of the factors")
    targets: tuple[str, ...] = Field(default=(), description="module name endings; none: peft's choice for the model")
    rslora: Flag = Field(default=False, description="scale by alpha / sqrt(rank) (Kalajdzievski 2023)")


class HoulsbyTuning(Spec):
    """Bottleneck adapters after each attention and feed-forward output (Houlsby et al. 2019); the head trains too.

    h + up(activation(down(h))); the paper's setup is bottleneck 12, no biases, both matrices N(0, 0.02).
    """

    method: Literal["houlsby"]
    bottleneck: Count = Field(default=64, description="width of an adapter")
    activation: Literal["relu", "gelu", "silu", "tanh"] = Field(
        default="gelu", description="between an adapter's two matrices"
    )
    bias: Flag = Field(default=False, description="whether both matrices have one")
    init_std: Positive = Field(default=0.02, description="standard deviation of both matrices at the start")
    up_std: NonNegative | None = Field(default=None, description="of the up matrix, where it differs; 0: identity")
    targets: tuple[str, ...] = Field(default=(), description="module name endings; none: known for the architecture")


class PrefixTuning(Spec):
    """Trained keys and values before those of every layer (Li and Liang 2021) through peft."""

    method: Literal["prefix"]
    tokens: Count = Field(default=20, description="virtual tokens")


class PromptTuning(Spec):
    """Trained embeddings before the input's (Lester et al. 2021) through peft."""

    method: Literal["prompt"]
    tokens: Count = Field(default=20, description="virtual tokens")


class Ia3Tuning(Spec):
    """Trained scales of keys, values and feed-forward activations (Liu et al. 2022) through peft."""

    method: Literal["ia3"]
    targets: tuple[str, ...] = Field(default=(), description="module name endings; none: peft's choice for the model")
    feedforward: tuple[str, ...] = Field(default=(), description="those of `targets` that are feed-forward")

    @field_validator("feedforward")
    @classmethod
    def _among_targets(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        targets = info.data.get("targets", value)
        for name in value:
            if name not in targets:
                raise ValueError(f"{name} is not among targets" + ("" if targets else ", which must be given too"))
        return value


class BitfitTuning(Spec):
    """The biases alone train, and the head (Ben Zaken et al. 2022); saved as a whole Hugging Face folder."""

    method: Literal["bitfit"]


class PeftTuning(Spec):
    """Any other method of peft, by the name of its type; `config` goes to its config class as it is."""

    method: Literal["peft"]
    type: str = Field(min_length=1, description="peft type, such as VERA, LOHA or LN_TUNING")
    config: dict[str, Any] = Field(default={}, description="fields of its config class")


class ExistingTuning(Spec):
    """Nothing trains: `model.backbone` is the minimum itself, a Hugging Face or PEFT folder or hub id."""

    method: Literal["existing"]
    base: str | None = Field(
        default=None, min_length=1, description="of a PEFT folder: its backbone, where its config names another"
    )


Tuning = Annotated[
    FullTuning
    | LoraTuning
    | HoulsbyTuning
    | PrefixTuning
    | PromptTuning
    | Ia3Tuning
    | BitfitTuning
    | PeftTuning
    | ExistingTuning,
    Field(discriminator="method"),
]


class TrainSpec(Spec):
    """One fine-tuning run. The loss is the mean cross-entropy over the examples (text targets: tokens) of a batch."""

    steps: Count | None = Field(default=None, description="updates; leave out to count in epochs")
    epochs: Positive = Field(default=3.0, description="passes over the training rows, where steps is left out")
    snapshot: Count | None = Field(
        default=None,
        description="the minimum is the state after this many updates of the run; left out: at its end. Points that "
        "differ in it alone are one trajectory, trained once",
    )
    batch_size: Count = Field(default=32, description="global: rows per update over all workers")
    optimizer: Literal["adamw", "adafactor", "sgd"] = Field(
        default="adamw", description="adafactor: no relative steps, no scaling by the parameter (as for T5)"
    )
    learning_rate: Positive = Field(default=5e-5, description="its peak")
    schedule: Literal["linear", "cosine", "constant"] = Field(
        default="linear", description="of the rate, after warm-up"
    )
    warmup: Fraction = Field(default=0.06, description="share of the steps over which the rate rises from 0")
    weight_decay: NonNegative = Field(default=0.01, description="none on biases and norms")
    betas: tuple[BelowOne, BelowOne] = Field(default=(0.9, 0.999), description="of AdamW")
    momentum: BelowOne = Field(default=0.9, description="of SGD")
    clip_norm: Positive | None = Field(default=1.0, description="of the gradient; null: none")
    dropout: BelowOne | None = Field(
        default=None, description="every dropout of the model; left out: as the backbone's config says"
    )
    precision: Literal["fp32", "bf16"] = Field(default="fp32", description="of the forward pass; weights stay fp32")

    _within = field_validator("snapshot")(within_steps)


class Seeds(Spec):
    """Independent random streams: changing one leaves the others' draws as they are, bit for bit."""

    init: Seed = Field(default=0, description="new modules other than the head (adapters, factors, a missing pooler)")
    head: Seed = Field(default=0, description="a new classification head")
    order: Seed = Field(default=0, description="order of the training rows")
    dropout: Seed = Field(default=0, description="dropout masks, a stream per worker")
